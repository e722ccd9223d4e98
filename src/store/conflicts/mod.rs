//! The conflict inbox: the local events that lost.
//!
//! `record` enters an event when its verdict comes, `inbox` lists the entries, and `restore` writes
//! lost values again, as new events. `selection` chooses entries, and groups them by transaction.

pub(super) mod entry;
pub(super) mod inbox;
pub(super) mod record;
pub(super) mod refusal;
pub(super) mod restore;
pub(super) mod rewrite;
pub(super) mod selection;
