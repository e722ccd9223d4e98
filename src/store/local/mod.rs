//! Foreign keys of local-only tables, and what they refer to.

pub(super) mod actions;
pub(super) mod dangling;
pub(super) mod departures;
pub(super) mod dependents;
