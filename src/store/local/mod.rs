//! Tables that are not replicated and refer to tables that are.
//!
//! The replicator writes with foreign keys turned off, so SQLite does not carry out their actions.
//! `dependents` reads the foreign keys. `departures` finds the parents that a page deletes or
//! moves, from the deletes and key changes of the page (`ways`) and of earlier pages (`past`).
//! `actions` carries out the declared actions. Rows for which that is impossible are counted
//! (`dangling`).

pub(super) mod actions;
pub(super) mod dangling;
pub(super) mod departures;
pub(super) mod dependents;
mod past;
pub(super) mod ways;
