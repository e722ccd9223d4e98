//! Questions to the log.

pub(in crate::cli) mod diff;
pub(in crate::cli) mod history;
pub(in crate::cli) mod past;
pub(in crate::cli) mod revert;
