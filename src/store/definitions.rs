//! Definitions of a local database, read and made before there is a [`Store`](super::Store).

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::open::{must_be_file, naming};
use crate::error::Result;

/// How long to wait for another process's lock.
const BUSY: Duration = Duration::from_secs(5);

/// A row of `sqlite_schema`: kind, name, table and SQL.
pub type Definition = (String, String, String, Option<String>);

/// Reads every definition of the database at `path`, in the order they were made. A file that does
/// not exist has none.
///
/// # Errors
///
/// `Storage` when the file cannot be read, or is no database.
pub fn definitions(path: &Path) -> Result<Vec<Definition>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    must_be_file(path)?;
    let read = || -> Result<Vec<Definition>> {
        // The journal stays what it is: whoever only looks changes nothing in the file.
        let db = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid";
        let mut statement = db.prepare(sql)?;
        let rows = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    };
    read().map_err(|error| naming(path, error))
}

/// An ordinary connection for an application: WAL, foreign keys on, a busy timeout of 5 s.
/// `on_commit` is called at every commit, in the moment before it takes effect; it must be quick.
///
/// # Errors
///
/// `Storage` when the file cannot be opened.
pub fn application_connection(
    path: &Path,
    on_commit: impl Fn() + Send + 'static,
) -> Result<Connection> {
    must_be_file(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let open = || -> Result<Connection> {
        let db = open(path, flags)?;
        db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        db.pragma_update(None, "foreign_keys", true)?;
        Ok(db)
    };
    let mut db = open().map_err(|error| naming(path, error))?;
    db.commit_hook(Some(move || {
        on_commit();
        // False lets the commit happen.
        false
    }))?;
    Ok(db)
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    Ok(db)
}
