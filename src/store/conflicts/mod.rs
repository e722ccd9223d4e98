//! The conflict inbox: the local events that lost.
//!
//! `record` enters an event when its verdict comes, `inbox` lists the entries, and `restore` writes
//! lost values again, as new events. `selection` chooses entries, and finds those of one transaction.

pub(super) mod entry;
pub(super) mod inbox;
pub(super) mod record;
pub(super) mod refusal;
pub(super) mod restore;
pub(super) mod rewrite;
pub(super) mod selection;
