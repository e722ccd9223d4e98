//! The local database.

use crate::error::{Error, Kind};

impl From<rusqlite::Error> for Error {
    fn from(source: rusqlite::Error) -> Self {
        Error::new(Kind::Storage, format!("the local database failed: {source}"))
            .with_source(source)
    }
}
