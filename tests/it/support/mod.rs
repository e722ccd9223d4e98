//! What the tests stand on: a remote in memory, a desk with a machine, and what both are driven with.

pub(crate) mod application;
pub(crate) mod blocking;
pub(crate) mod desk;
pub(crate) mod engine;
pub(crate) mod golden;
pub(crate) mod inbox;
pub(crate) mod local_remote;
pub(crate) mod members;
pub(crate) mod remote_schema;
pub(crate) mod seeds;
pub(crate) mod tools;
pub(crate) use crate::sim::statement;
