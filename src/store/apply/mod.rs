//! Applies a page of the remote log to the tables, in one transaction.
//!
//! `rebase` is the core: it undoes the pending events of the rows that a page affects (`affected`),
//! applies the page (`attempt`), and puts the pending events that have not lost back on top
//! (`reapply`). `page` begins with the fastest strategy, and tries a slower one if a constraint
//! refuses the page (`step`). `fold` is the slowest. `admission` checks whether an event is valid
//! for its table. `reconcile` applies own events that a page left out.

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
