//! The local database: integrating pages, conflicts, quarantine, the first sync.

mod history;
mod inbox;
mod integrate;
mod older;
mod outbox;
mod waiting;
mod world;
