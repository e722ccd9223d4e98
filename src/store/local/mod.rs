//! Tables that are not replicated and refer to tables that are.
//!
//! The replicator writes with foreign keys off, so SQLite does not carry out their actions.
//! `dependents` reads the foreign keys, `departures` notes the parent keys that a page takes away,
//! and `actions` carries out what the keys declare. What cannot be done is counted (`dangling`).

pub(super) mod actions;
pub(super) mod dangling;
pub(super) mod departures;
pub(super) mod dependents;
pub(super) mod ways;
