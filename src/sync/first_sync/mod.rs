//! The first sync with a remote: two databases that have never met are joined.

pub(in crate::sync) mod compare;
pub(in crate::sync) mod drift;
pub(in crate::sync) mod install;
pub(in crate::sync) mod kept_tables;
pub(in crate::sync) mod names;
pub(in crate::sync) mod plan;
pub(in crate::sync) mod remote_schema;
pub(in crate::sync) mod report;
pub(in crate::sync) mod run;
pub(in crate::sync) mod table_reader;
