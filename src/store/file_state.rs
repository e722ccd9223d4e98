//! A file's identity, and the state of its content that a store remembers.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::connection::is_replica;
use crate::error::Result;

/// The identity of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    /// The device, or 0 if the system does not tell it.
    device: u64,
    /// The inode, or 0 if the system does not tell it.
    inode: u64,
}

impl FileId {
    /// A name that no other file has at the same time, in hexadecimal.
    pub(crate) fn name(self) -> String {
        format!("{:x}-{:x}", self.device, self.inode)
    }

    /// The file at `path`, through symbolic links. The file is not opened, because closing a
    /// descriptor of a database drops all locks of the process on it.
    pub(crate) fn at(path: &Path) -> std::io::Result<FileId> {
        let found = std::fs::metadata(path)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            Ok(FileId { device: found.dev(), inode: found.ino() })
        }
        #[cfg(not(unix))]
        {
            let _ = found;
            Ok(FileId { device: 0, inode: 0 })
        }
    }
}

/// The remembered state of a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    cursor: i64,
    sent: i64,
    chain: Vec<u8>,
    settings: Option<String>,
    /// The number, the time and the random part of the newest outbox row that was read.
    newest: Option<OutboxId>,
}

/// The number, the time and the random part of an outbox row.
type OutboxId = (i64, i64, i64);

/// The file that a store has open, and what the store remembers of it: see [`file`](super::file).
pub(super) struct OpenFile {
    path: PathBuf,
    /// The file, if the system tells it.
    id: Option<FileId>,
    /// The content on top of which the replicator writes, after it was remembered.
    known: RefCell<Option<Known>>,
    /// Whether the last attempt to write found unknown content.
    stale: Cell<bool>,
    /// Its write-ahead log, and `PRAGMA data_version`, when the path was last seen to be right.
    log: Cell<Option<FileId>>,
    version: Cell<i64>,
}

impl OpenFile {
    /// The file at `path`, which is open. Nothing is remembered yet.
    pub(super) fn at(path: &Path) -> OpenFile {
        OpenFile {
            path: path.to_owned(),
            id: FileId::at(path).ok(),
            known: RefCell::new(None),
            stale: Cell::new(false),
            log: Cell::new(None),
            version: Cell::new(-1),
        }
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its id, as it was when it was opened.
    pub(super) fn id(&self) -> Option<FileId> {
        self.id
    }

    /// Remembers the content, and ends the transaction that has read it.
    pub(super) fn remember(&self, tx: Transaction<'_>) -> Result<()> {
        let now = known(&tx)?;
        tx.commit()?;
        *self.known.borrow_mut() = Some(now);
        Ok(())
    }

    /// Records that the outbox is read in this transaction: remembers its newest row, if the
    /// content is the remembered one.
    pub(super) fn note_outbox(&self, tx: &Transaction<'_>) -> Result<()> {
        let mut known = self.known.borrow_mut();
        if let Some(known) = known.as_mut()
            && known.is(tx)?
        {
            known.note_outbox(tx)?;
        }
        Ok(())
    }

    /// Whether the content is the remembered one, or nothing is remembered.
    pub(super) fn is_known(&self, db: &Connection) -> Result<bool> {
        let is_known = self.known.borrow().as_ref().map_or(Ok(true), |known| known.is(db));
        self.stale.set(!matches!(is_known, Ok(true)));
        is_known
    }

    /// Commits a write, and remembers the content after it, if anything is remembered.
    pub(super) fn commit(&self, tx: Transaction<'_>) -> Result<()> {
        let remembers = self.known.borrow().is_some();
        let now = if remembers { Some(known(&tx)?) } else { None };
        tx.commit()?;
        *self.known.borrow_mut() = now;
        Ok(())
    }

    /// Whether the last attempt to write found unknown content, or no content.
    pub(super) fn is_stale(&self) -> bool {
        self.stale.get()
    }

    /// Whether the path still leads to the file. It reads the folder.
    pub(super) fn has_its_path(&self) -> bool {
        self.id.is_none() || FileId::at(&self.path).ok() == self.id
    }

    /// The file that the path leads to, if it is another one.
    pub(super) fn elsewhere(&self) -> Option<FileState> {
        let there = || FileId::at(&self.path).is_ok();
        match self.has_its_path() {
            true => None,
            false => Some(if there() { FileState::Replaced } else { FileState::Gone }),
        }
    }

    /// Compares the content with the remembered one. `version` is the present `PRAGMA
    /// data_version`.
    pub(super) fn content(&self, db: &Connection, version: i64) -> Result<FileState> {
        self.log.set(FileId::at(&log_path(&self.path)).ok());
        self.version.set(version);
        let Some(known) = self.known.borrow().clone() else { return Ok(FileState::Same) };
        match known.is(db) {
            Ok(true) => Ok(FileState::Same),
            Ok(false) => Ok(FileState::Restored),
            Err(_) if is_replica(db).is_ok_and(|is| !is) => Ok(FileState::Restored),
            Err(error) => Err(error),
        }
    }

    /// Whether nobody has committed since the path was last seen to be right.
    pub(super) fn is_unchanged(&self, version: i64) -> bool {
        version == self.version.get()
    }

    /// Forgets the content. Returns the write-ahead log from when the path was last seen to be
    /// right.
    pub(super) fn forget(&self) -> Option<FileId> {
        *self.known.borrow_mut() = None;
        self.log.get()
    }
}

/// The change of the file since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileState {
    /// It is the same.
    Same,
    /// Its content was replaced.
    Restored,
    /// Its path leads to no file.
    Gone,
    /// Its path leads to another file.
    Replaced,
}

/// The values that only a replicator writes. `staged` counts the writes of a first sync.
const KNOWN: &str = "SELECT cursor, sent, chain,
    (SELECT group_concat(name || ' ' || coalesce(value, ''), char(10)) FROM driftless_settings
     WHERE name IN ('adopted', 'confirmed', 'epoch', 'marks', 'replica', 'staged'))
    FROM driftless_state";

/// The outbox's newest row.
const NEWEST: &str =
    "SELECT n, ms, coalesce(tail, 0) FROM driftless_outbox ORDER BY n DESC LIMIT 1";

/// Whether an outbox row still exists.
const STILL: &str = "SELECT EXISTS (SELECT 1 FROM driftless_outbox
                    WHERE n = ?1 AND ms = ?2 AND coalesce(tail, 0) = ?3)";

/// Counts a write of a first sync.
const COUNT_STAGED: &str = "INSERT INTO driftless_settings (name, value) VALUES ('staged', 1)
    ON CONFLICT (name) DO UPDATE SET value = value + 1";

/// The outbox's newest row.
fn newest(db: &Connection) -> Result<Option<OutboxId>> {
    let mut statement = db.prepare_cached(NEWEST)?;
    let found = statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    Ok(found.optional()?)
}

fn known(db: &Connection) -> Result<Known> {
    let newest = newest(db)?;
    let mut statement = db.prepare_cached(KNOWN)?;
    Ok(statement.query_row([], |row| {
        Ok(Known {
            cursor: row.get(0)?,
            sent: row.get(1)?,
            chain: row.get(2)?,
            settings: row.get(3)?,
            newest,
        })
    })?)
}

impl Known {
    /// Records that `db` reads the outbox now: its newest row is known from now on.
    fn note_outbox(&mut self, db: &Connection) -> Result<()> {
        self.newest = newest(db)?;
        Ok(())
    }

    /// Whether the database is as it was, apart from rows that applications have appended to the
    /// outbox.
    fn is(&self, db: &Connection) -> Result<bool> {
        let now = known(db)?;
        let same = Known { newest: self.newest, ..now.clone() } == *self;
        let Some((n, ms, tail)) = self.newest.filter(|newest| Some(*newest) != now.newest) else {
            return Ok(same);
        };
        let still: bool = db.prepare_cached(STILL)?.query_row((n, ms, tail), |row| row.get(0))?;
        Ok(same && still)
    }
}

/// Counts a write of a first sync, which changes no other remembered value.
pub(super) fn count_staged(db: &Connection) -> Result<()> {
    db.prepare_cached(COUNT_STAGED)?.execute([])?;
    Ok(())
}

/// The path of the write-ahead log: `gym.db-wal` for `gym.db`.
fn log_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

/// Whether the write-ahead log of `database` is the file `former` and has content.
pub(crate) fn has_log_of(database: &Path, former: FileId) -> bool {
    let path = log_path(database);
    FileId::at(&path).is_ok_and(|found| found == former)
        && std::fs::metadata(&path).is_ok_and(|log| log.len() > 0)
}
