//! Checks that the file is still the one that a store has read and written.
//!
//! Two things can happen to a file while a replicator runs. Its *content* can be replaced by
//! SQLite's own means (`.restore`, the backup API). The file stays the same, but everything that
//! the process remembers of it is wrong. Or its *path* can lead elsewhere: the file was deleted or
//! moved, or another one was put in its place.
//!
//! To notice the first, a store remembers a state: the values that only the replicator writes, and
//! the newest row of the outbox, which stays until there is a newer one. The store compares this
//! state with the file before each of its own writes, while it has the write lock
//! ([`Store::begin_write`]). It records the new state in the same transaction
//! ([`Store::commit_write`]). So nothing is written on top of a state that the process does not
//! know. A store may keep data from the outbox for longer than one write: a push in parts, or which
//! rows have pending events. So each reading of the outbox records its newest row too
//! ([`Store::remember_outbox`]), and a file without that row is in another state. To notice the
//! second, the store compares device and inode.
//!
//! # Caveats
//!
//! * A store compares only after [`Store::remember`]. The commands that read, and those that write
//!   a person's decision (conflicts, quarantine, actor), do not compare.
//! * Where there is no inode (Windows), only a path without a file is noticed. There a file that
//!   SQLite has open can be neither deleted nor renamed.
//! * Copying bytes over an open database (`cp backup.db live.db`) is not a restore by SQLite's
//!   means. No program that has the file open can notice it, and neither can SQLite.
//!   SQLite's means: no program that has the file open can know of them, SQLite itself included.

use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::Store;
use super::connection::BUSY_TIMEOUT;
use super::file_state::{FileId, FileState};
use crate::error::{Code, Error, Result};

/// The error for a write on top of an unknown state.
fn restored() -> Error {
    let message = "the local database was restored to another state while it was open";
    Error::new(Code::FileRestored, message)
}

impl Store {
    /// Remembers the file's state. From now on this store writes only on top of a state that it
    /// knows.
    pub fn remember(&mut self) -> Result<()> {
        self.file.remember(self.db.unchecked_transaction()?)
    }

    /// Records that the outbox is read in this transaction, and that the result may be kept for
    /// longer. If the file is in an unknown state, the next write or check finds that out.
    pub(super) fn remember_outbox(&self, tx: &Transaction<'_>) -> Result<()> {
        self.file.note_outbox(tx)
    }

    /// Begins a transaction of the replicator's own, with the write lock.
    ///
    /// # Errors
    ///
    /// `Storage` when the file is not in the remembered state, or the database fails.
    pub(super) fn begin_write(&self) -> Result<Transaction<'_>> {
        let tx = Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate)?;
        if self.file.is_known(&tx)? { Ok(tx) } else { Err(restored()) }
    }

    /// Commits the transaction, and remembers the state after it.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails. Then nothing has changed.
    pub(super) fn commit_write(&self, tx: Transaction<'_>) -> Result<()> {
        self.file.commit(tx)
    }

    /// Whether the last attempt to write found an unknown state, or no state.
    pub(crate) fn is_stale(&self) -> bool {
        self.file.is_stale()
    }

    /// The file's id when it was opened.
    pub(crate) fn file(&self) -> Option<FileId> {
        self.file.id()
    }

    /// Whether the path still leads to the open file. It reads the folder.
    pub(crate) fn has_its_path(&self) -> bool {
        self.file.has_its_path()
    }

    /// Whether the file was restored, moved or replaced since the last look.
    pub(crate) fn file_state(&self) -> Result<FileState> {
        match self.file.elsewhere() {
            Some(elsewhere) => Ok(elsewhere),
            None => self.file.content(&self.db, self.data_version()?),
        }
    }

    /// Closes the file. If it was `moved`, so that its path leads elsewhere, it may return the id
    /// of its write-ahead log, if that may have content.
    ///
    /// SQLite finds the log by the path's name. So SQLite would apply it to a new file at that
    /// path. To prevent this, the log is first written back into its own file and emptied. This is
    /// not done if somebody has committed since the path was last right, because that commit may
    /// have been to the new file.
    pub(crate) fn detach(&mut self, moved: bool) -> Option<FileId> {
        let quiet = moved && self.data_version().is_ok_and(|now| self.file.is_unchanged(now));
        let emptied = quiet && self.empty_log().unwrap_or(false);
        if let Ok(nothing) = Connection::open_in_memory() {
            self.db = nothing;
        }
        self.file.forget().filter(|_| moved && !emptied)
    }

    fn empty_log(&self) -> Result<bool> {
        self.db.busy_timeout(Duration::ZERO)?;
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy: i64 = self.db.query_row(sql, [], |row| row.get(0))?;
        self.db.busy_timeout(BUSY_TIMEOUT)?;
        Ok(busy == 0)
    }
}
