//! A file's identity, and what a store remembers of its content.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};

use crate::error::Result;

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

pub(super) fn known(db: &Connection) -> Result<Known> {
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
    /// The outbox is read by `db` now: its newest row is known from now on.
    pub(super) fn note_outbox(&mut self, db: &Connection) -> Result<()> {
        self.newest = newest(db)?;
        Ok(())
    }

    /// Whether the database is as it was, but for what applications have appended to the outbox.
    pub(super) fn is(&self, db: &Connection) -> Result<bool> {
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

/// `gym.db` has `gym.db-wal`.
pub(super) fn log_path(database: &Path) -> PathBuf {
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
