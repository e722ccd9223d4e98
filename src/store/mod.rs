//! The local database.

mod definitions;
use crate::error::{Error, Kind};
pub use definitions::{Definition, application_connection, definitions};
pub use rusqlite::Connection;

impl From<rusqlite::Error> for Error {
    fn from(source: rusqlite::Error) -> Self {
        Error::new(Kind::Storage, format!("the local database failed: {source}"))
            .with_source(source)
    }
}
