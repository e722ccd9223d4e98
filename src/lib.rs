//! **driftless** keeps a desktop application's local SQLite database and a Turso (libSQL) database
//! in step, in both directions, by an event log.

pub mod error;
pub mod remote;
pub mod value;

pub use error::{Error, Kind, Result};
