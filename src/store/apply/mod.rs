//! Applies a page of the remote log to the tables, in one transaction.
//!
//! `rebase` is the core: it takes the pending events off the rows that a page concerns, applies
//! the page, and puts the pending events that have not lost back on top. `page` begins with the
//! quickest way to write and goes on to a slower one if a constraint is in the way. `row_writer`
//! has the statements, and `trigger_guard` keeps the application's triggers from writing to
//! replicated rows.

pub(super) mod affected;
pub(super) mod decode;
pub(super) mod fold;
pub(super) mod page;
pub(super) mod reapply;
pub(super) mod rebase;
pub(super) mod reconcile;
pub(super) mod row_writer;
pub(super) mod trigger_guard;
pub(super) mod unwritable;
