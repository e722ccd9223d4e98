//! The local database: integrating pages, conflicts, quarantine, the first sync.

pub(crate) mod history;
mod inbox;
mod integrate;
mod older;
mod outbox;
mod waiting;
pub(crate) mod world;
