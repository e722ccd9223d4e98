//! Sees the ends of transactions while the store's thread is busy.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::boundaries::Shared;
use crate::error::Result;
use crate::store::Store;
use crate::store::connection::BUSY_TIMEOUT;

/// The page cache of a watch, in KiB: it reads the last page of one table.
const CACHE_KIB: i64 = 64;

/// Records the ends of transactions for a [`Store`] whose thread is busy.
///
/// It opens the database at its first look, and never writes.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    boundaries: Shared,
    db: Option<Connection>,
    version: i64,
}

impl Watch {
    /// If anybody has committed since the last look, records the outbox's end.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails. The next look opens it again.
    pub fn look(&mut self) -> Result<bool> {
        let looked = self.try_look();
        if looked.is_err() {
            self.db = None;
        }
        looked
    }

    fn try_look(&mut self) -> Result<bool> {
        let db = match &mut self.db {
            Some(db) => db,
            none => none.insert(connect(&self.path)?),
        };
        let version: i64 =
            db.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if version == self.version {
            return Ok(false);
        }
        self.version = version;
        let sql = "SELECT max(n) FROM driftless_outbox";
        if let Some(newest) = db.prepare_cached(sql)?.query_row([], |row| row.get(0))? {
            self.boundaries.note(newest);
        }
        Ok(true)
    }
}

fn connect(path: &Path) -> Result<Connection> {
    // Only a connection that may write can read a write-ahead log that nobody else has open.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.pragma_update(None, "query_only", true)?;
    db.pragma_update(None, "cache_size", -CACHE_KIB)?;
    Ok(db)
}

impl Store {
    /// A watch for another thread, valid while this store is open.
    pub fn watch(&self) -> Watch {
        let (path, boundaries) = (self.path().to_owned(), self.outbox.boundaries.clone());
        Watch { path, boundaries, db: None, version: -1 }
    }
}
