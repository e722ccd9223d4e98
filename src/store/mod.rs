//! The local database.

mod definitions;
mod stub;
use crate::error::{Error, Kind};
pub use definitions::{Definition, application_connection, define, definitions};
pub use rusqlite::Connection;
pub use stub::*;

impl From<rusqlite::Error> for Error {
    fn from(source: rusqlite::Error) -> Self {
        Error::new(Kind::Storage, format!("the local database failed: {source}"))
            .with_source(source)
    }
}
