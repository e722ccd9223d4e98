//! Commands that migrate or check a replica, or end its replication.

pub(in crate::cli) mod migrate;
pub(in crate::cli) mod remove;
pub(in crate::cli) mod verify;
