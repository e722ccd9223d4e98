//! What the tests of synchronising stand on: a remote in memory, and a desk with a machine.

pub(crate) mod application;
pub(crate) mod desk;
pub(crate) mod engine;
pub(crate) mod golden;
pub(crate) mod local_remote;
pub(crate) use crate::sim::statement;
