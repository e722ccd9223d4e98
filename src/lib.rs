//! **driftless** keeps a desktop application's local SQLite database and a Turso (libSQL) database
//! in step, in both directions, by an event log.

pub mod backoff;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod error;
pub mod event;
pub mod frame;
pub mod hub;
mod json;
pub mod page;
pub mod remote;
mod replicator;
pub mod store;
pub mod sync;
pub mod value;
pub mod verdict;

pub use error::{Error, Kind, Result};
pub use replicator::{Builder, Replicator, Subscription};
pub use sync::{Changes, Health, Status, Summary, SyncState};
