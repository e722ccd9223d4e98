//! Whether the file is still the one that a store has read and written.
//!
//! Two things can happen to a file under a running replicator. Its *content* can be replaced by
//! SQLite's own means (`.restore`, the backup API): the file is the same, and everything that the
//! process remembers of it is wrong. Or its *path* can lead elsewhere: the file was deleted, moved,
//! or another one was put in its place.
//!
//! For the first, a store remembers a [`Known`] state: what only the replicator writes, and the
//! newest row of the outbox, which stays as long as no newer one is there. It compares that with
//! the file before each of its own writes, when it has the write lock ([`Store::begin_write`]), and
//! takes it anew in the same transaction ([`Store::commit_write`]). So nothing is written on top of
//! a state that the process does not know. What a store reads of the outbox it may keep for longer
//! than one write: a push in parts, which rows have pending events. So the newest row is also taken
//! anew with each reading ([`Store::remember_outbox`]), and a file that lacks what was read is
//! another state. For the second, it compares device and inode.
//!
//! # Caveats
//!
//! * Only a store that was told to ([`Store::remember`]) compares. The commands that read, and
//!   those that write what is a person's to decide (conflicts, quarantine, actor), do not.
//! * Where there is no inode (Windows), only a path that leads to no file is noticed. There a file
//!   that SQLite has open can be neither deleted nor renamed.
//! * Bytes that are copied over an open database (`cp backup.db live.db`) are not a restore by
//!   SQLite's means: no program that has the file open can know of them, SQLite itself included.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::Store;
use super::connection::{BUSY_TIMEOUT, is_replica};
use crate::error::{Code, Error, Result};

/// Which file a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    /// The device, or 0 where a system does not tell.
    pub(crate) device: u64,
    /// The inode, or 0 where a system does not tell.
    pub(crate) inode: u64,
}

impl FileId {
    /// The file at `path`. Symbolic links are followed. The file is not opened: to close a database
    /// takes a process's locks on it away.
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

/// What a store remembers of its file: see the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    cursor: i64,
    sent: i64,
    chain: Vec<u8>,
    settings: Option<String>,
    /// The number, the time and the random part of the newest row of the outbox that was read.
    newest: Option<OutboxId>,
}

/// The number, the time and the random part of an outbox row.
type OutboxId = (i64, i64, i64);

/// What became of the file since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileState {
    /// It is the same.
    Same,
    /// Its content is another one.
    Restored,
    /// Its path leads to no file.
    Gone,
    /// Its path leads to another file.
    Replaced,
}

/// What only a replicator writes. `staged` counts the writes of a first sync.
const KNOWN: &str = "SELECT cursor, sent, chain,
    (SELECT group_concat(name || ' ' || coalesce(value, ''), char(10)) FROM driftless_settings
     WHERE name IN ('adopted', 'confirmed', 'epoch', 'marks', 'replica', 'staged'))
    FROM driftless_state";
/// The outbox's newest row.
const NEWEST: &str =
    "SELECT n, ms, coalesce(tail, 0) FROM driftless_outbox ORDER BY n DESC LIMIT 1";
/// Whether an outbox row is still there.
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
    /// Whether the database is as it was, but for what applications have appended to the outbox.
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

/// Counts a write of a first sync, which changes nothing else that a store remembers.
pub(super) fn count_staged(db: &Connection) -> Result<()> {
    db.prepare_cached(COUNT_STAGED)?.execute([])?;
    Ok(())
}

/// The error for a write on top of a state that is not known.
fn restored() -> Error {
    let message = "the local database was restored to another state while it was open";
    Error::new(Code::FileRestored, message)
}

impl Store {
    /// Remembers the file's state. From now on this store writes only on top of what it knows.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn remember(&mut self) -> Result<()> {
        let tx = self.db.unchecked_transaction()?;
        let now = known(&tx)?;
        tx.commit()?;
        *self.known.borrow_mut() = Some(now);
        Ok(())
    }

    /// The outbox is read in this transaction, and what is read may be kept beyond it. A file that
    /// is not the one that is known is left to the next write, or look, to find out.
    pub(super) fn remember_outbox(&self, tx: &Transaction<'_>) -> Result<()> {
        let mut known = self.known.borrow_mut();
        if let Some(known) = known.as_mut()
            && known.is(tx)?
        {
            known.newest = newest(tx)?;
        }
        Ok(())
    }

    /// Begins a transaction of the replicator's own, with the write lock.
    ///
    /// # Errors
    ///
    /// `Storage` when the file's state is not the one that is remembered, or the database fails.
    pub(super) fn begin_write(&self) -> Result<Transaction<'_>> {
        let tx = Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate)?;
        let is_known = self.known.borrow().as_ref().map_or(Ok(true), |known| known.is(&tx));
        self.stale.set(!matches!(is_known, Ok(true)));
        if is_known? { Ok(tx) } else { Err(restored()) }
    }

    /// Commits it, and remembers the state that it leaves.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails. Then nothing has changed.
    pub(super) fn commit_write(&self, tx: Transaction<'_>) -> Result<()> {
        let remembers = self.known.borrow().is_some();
        let now = if remembers { Some(known(&tx)?) } else { None };
        tx.commit()?;
        *self.known.borrow_mut() = now;
        Ok(())
    }

    /// Whether the last attempt to write found a state that is not known, or none.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale.get()
    }

    /// The file's id, as it was when it was opened.
    pub(crate) fn file(&self) -> Option<FileId> {
        self.file
    }

    /// Whether the path still leads to the file that is open. It costs a look at the folder.
    pub(crate) fn has_its_path(&self) -> bool {
        self.file.is_none() || FileId::at(&self.path).ok() == self.file
    }

    /// What became of the file.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub(crate) fn file_state(&self) -> Result<FileState> {
        if !self.has_its_path() {
            let there = FileId::at(&self.path).is_ok();
            return Ok(if there { FileState::Replaced } else { FileState::Gone });
        }
        self.log_file.set(FileId::at(&self.log_path()).ok());
        self.version.set(self.data_version()?);
        let Some(known) = self.known.borrow().clone() else { return Ok(FileState::Same) };
        match known.is(&self.db) {
            Ok(true) => Ok(FileState::Same),
            Ok(false) => Ok(FileState::Restored),
            Err(_) if is_replica(&self.db).is_ok_and(|is| !is) => Ok(FileState::Restored),
            Err(error) => Err(error),
        }
    }

    /// Lets go of the file. If it has `moved`, so that its path leads elsewhere, the id of its
    /// write-ahead log is given where that may have something in it.
    ///
    /// The log goes by the path's name, so a new file at the path would find it, and SQLite would
    /// apply it to that file. So it is written back into its own file and emptied first, unless
    /// somebody has committed since the path was last right: that may have been to the new file.
    pub(crate) fn detach(&mut self, moved: bool) -> Option<FileId> {
        let quiet = moved && self.data_version().is_ok_and(|version| version == self.version.get());
        let emptied = quiet && self.empty_log().unwrap_or(false);
        if let Ok(nothing) = Connection::open_in_memory() {
            self.db = nothing;
        }
        *self.known.borrow_mut() = None;
        self.log_file.get().filter(|_| moved && !emptied)
    }

    fn empty_log(&self) -> Result<bool> {
        self.db.busy_timeout(Duration::ZERO)?;
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy: i64 = self.db.query_row(sql, [], |row| row.get(0))?;
        self.db.busy_timeout(BUSY_TIMEOUT)?;
        Ok(busy == 0)
    }

    /// The write-ahead log's path.
    fn log_path(&self) -> PathBuf {
        log_path(&self.path)
    }
}

/// `gym.db` has `gym.db-wal`.
fn log_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

/// Whether the write-ahead log beside `database` is this file, and has something in it.
pub(crate) fn has_log_of(database: &Path, former: FileId) -> bool {
    let path = log_path(database);
    FileId::at(&path).is_ok_and(|found| found == former)
        && std::fs::metadata(&path).is_ok_and(|log| log.len() > 0)
}
