//! Applies a page of the remote log to the tables, in one transaction.
//!
//! `rebase` is the core: it takes the pending events off the rows that a page concerns, applies
//! the page (`attempt`), and puts the pending events that have not lost back on top (`reapply`).
//! `page` begins with the quickest way to write and goes on to a slower one if a constraint is in
//! the way (`step`). `admission` decides whether an event can be of its table at all.

pub(super) mod admission;
pub(super) mod affected;
pub(super) mod attempt;
pub(super) mod decode;
pub(super) mod fold;
pub(super) mod page;
pub(super) mod reapply;
pub(super) mod rebase;
pub(super) mod reconcile;
pub(super) mod step;
pub(super) mod unwritable;
