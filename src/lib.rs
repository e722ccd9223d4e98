//! **driftless** keeps a desktop application's local SQLite database and a Turso (libSQL) database
//! in step, in both directions, by an event log.

pub mod error;
pub mod value;
mod json;
pub mod event;
pub mod verdict;
pub mod frame;
pub mod capture;
pub mod remote;

pub use error::{Error, Kind, Result};
