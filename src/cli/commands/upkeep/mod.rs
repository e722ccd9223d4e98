//! Commands that check a replica, and that take it out of service.

pub(in crate::cli) mod remove;
pub(in crate::cli) mod verify;
