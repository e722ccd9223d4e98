//! Opens a replica's database, and classifies SQLite's errors.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use crate::error::{Code, Error, Result};

/// How long to wait for a lock of another program.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The page cache, in KiB: enough for the inner pages of a few large tables and their indexes.
const CACHE_KIB: i64 = 16 << 10;
/// The number of prepared statements that are kept between transactions: a few for each table and
/// each common set of columns.
const CACHED_STATEMENTS: usize = 256;
/// SQLite's `SQLITE_IOERR_SHMSIZE`.
const IOERR_SHMSIZE: i32 = 10 | 19 << 8;
/// The version of `schema/replica` that this program writes.
pub(super) const VERSION: i64 = 4;

/// The setting that says that the first sync is done.
pub(super) const ADOPTED: &str = "adopted";

impl From<rusqlite::Error> for Error {
    fn from(source: rusqlite::Error) -> Self {
        let (code, message) = match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
                Code::DatabaseLocked,
                "the local database was locked by another program for more than 5 s".to_owned(),
            ),
            Some(ErrorCode::DatabaseCorrupt) => {
                (Code::DatabaseDamaged, "the local database is damaged".to_owned())
            }
            Some(ErrorCode::NotADatabase) => {
                (Code::NotADatabase, "the local file is not a SQLite database".to_owned())
            }
            Some(ErrorCode::ReadOnly) => {
                (Code::DatabaseReadOnly, "the local database is read-only".to_owned())
            }
            _ if is_full(&source) => {
                (Code::DiskFull, "the disk of the local database is full".to_owned())
            }
            Some(ErrorCode::SystemIoFailure) => {
                (Code::DiskFailed, format!("the disk of the local database failed: {source}"))
            }
            Some(ErrorCode::CannotOpen) => {
                (Code::CannotOpen, "the local database cannot be opened".to_owned())
            }
            _ => (Code::DatabaseFailed, format!("the local database failed: {source}")),
        };
        Error::new(code, message).with_source(source)
    }
}

/// A callback for each connection to the replica's file, before the connection is used. In it an
/// application registers the functions and collations that its indexes, CHECKs, generated columns
/// and triggers need.
#[derive(Clone, Default)]
pub struct OnConnect(Option<Arc<Register>>);

type Register = dyn Fn(&Connection) -> Result<()> + Send + Sync;

impl OnConnect {
    /// Calls `register` with each connection.
    pub fn new(register: impl Fn(&Connection) -> Result<()> + Send + Sync + 'static) -> Self {
        OnConnect(Some(Arc::new(register)))
    }

    /// Whether there is anything to register.
    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// Calls it with `db`.
    pub(crate) fn run(&self, db: &Connection) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), |register| register(db))
    }
}

impl fmt::Debug for OnConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "OnConnect(..)" } else { "OnConnect" })
    }
}

/// Whether there is no space: for a write, or for the file that connections share.
fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || error.sqlite_error().is_some_and(|error| error.extended_code == IOERR_SHMSIZE)
}

/// Refuses a folder. SQLite only says that it cannot open it.
pub(super) fn must_be_file(path: &Path) -> Result<()> {
    if path.is_dir() {
        let message = format!("{} is a folder, not a database", path.display());
        return Err(Error::new(Code::IsFolder, message));
    }
    Ok(())
}

/// Opens the file, and checks that it is a database that can be written.
pub(super) fn connect(path: &Path, create: bool) -> Result<Connection> {
    must_be_file(path)?;
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if create {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    } else if !path.exists() {
        return Err(Error::new(Code::NoSuchFile, format!("there is no file {}", path.display()))
            .with_hint("check the path; `driftless init` makes a database a replica"));
    }
    let open = || -> Result<Connection> {
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        db.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
        if db.is_readonly("main")? {
            let message = "the local database is read-only";
            return Err(Error::new(Code::DatabaseReadOnly, message));
        }
        db.pragma_update(None, "foreign_keys", false)?;
        db.pragma_update(None, "recursive_triggers", false)?;
        db.pragma_update(None, "synchronous", "NORMAL")?;
        db.pragma_update(None, "cache_size", -CACHE_KIB)?;
        db.pragma_update(None, "temp_store", "MEMORY")?;
        Ok(db)
    };
    open().map_err(|error| error.of_file(path))
}

/// Whether the database has our state.
pub(super) fn is_replica(db: &Connection) -> Result<bool> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'driftless_state'";
    let found: i64 = db.query_row(sql, [], |row| row.get(0))?;
    Ok(found > 0 && setting(db, "replica")?.is_some())
}

/// The version of `schema/replica` in the database.
pub(super) fn version(db: &Connection) -> Result<i64> {
    Ok(setting(db, "version")?.and_then(|version| version.parse().ok()).unwrap_or(VERSION))
}

/// Refuses a database that a newer driftless has written.
pub(super) fn check_version(db: &Connection, path: &Path) -> Result<()> {
    let version = version(db)?;
    if version > VERSION {
        let message = format!(
            "{} was written by a newer driftless (schema {version}, this one knows {VERSION})",
            path.display()
        );
        return Err(Error::new(Code::DatabaseNewer, message));
    }
    Ok(())
}

/// The text of a setting.
pub(super) fn setting(db: &Connection, name: &str) -> Result<Option<String>> {
    let sql = "SELECT value FROM driftless_settings WHERE name = ?1";
    let mut statement = db.prepare_cached(sql)?;
    Ok(statement.query_row([name], |row| row.get::<_, Option<String>>(0)).optional()?.flatten())
}

/// Writes a setting; `None` removes it.
pub(super) fn set_setting(db: &Connection, name: &str, value: Option<&str>) -> Result<()> {
    match value {
        Some(value) => db.execute(
            "INSERT INTO driftless_settings (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            [name, value],
        )?,
        None => db.execute("DELETE FROM driftless_settings WHERE name = ?1", [name])?,
    };
    Ok(())
}
