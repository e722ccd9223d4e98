//! **driftless** keeps a desktop application's local SQLite database and a Turso (libSQL) database
//! in step, in both directions, by an event log.

pub mod capture;
pub mod error;
pub mod event;
pub mod frame;
pub mod hub;
mod json;
pub mod page;
pub mod remote;
pub mod store;
pub mod value;
pub mod verdict;

pub use error::{Error, Kind, Result};
