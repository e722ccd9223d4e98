//! Applying a page of remote events to the local tables, in one transaction.

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
