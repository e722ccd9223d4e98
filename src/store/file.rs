//! Whether the file is still the one that a store has read and written.
//!
//! Two things can happen to a file under a running replicator. Its *content* can be replaced by
//! SQLite's own means (`.restore`, the backup API): the file is the same, and everything that the
//! process remembers of it is wrong. Or its *path* can lead elsewhere: the file was deleted, moved,
//! or another one was put in its place.
//!
//! For the first, a store remembers a state: what only the replicator writes, and the
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

use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::Store;
use super::connection::BUSY_TIMEOUT;
use super::file_state::{FileId, FileState};
use crate::error::{Code, Error, Result};

/// The error for a write on top of a state that is not known.
fn restored() -> Error {
    let message = "the local database was restored to another state while it was open";
    Error::new(Code::FileRestored, message)
}

impl Store {
    /// Remembers the file's state. From now on this store writes only on top of what it knows.
    pub fn remember(&mut self) -> Result<()> {
        self.file.remember(self.db.unchecked_transaction()?)
    }

    /// The outbox is read in this transaction, and what is read may be kept beyond it. A file that
    /// is not the one that is known is left to the next write, or look, to find out.
    pub(super) fn remember_outbox(&self, tx: &Transaction<'_>) -> Result<()> {
        self.file.note_outbox(tx)
    }

    /// Begins a transaction of the replicator's own, with the write lock.
    ///
    /// # Errors
    ///
    /// `Storage` when the file's state is not the one that is remembered, or the database fails.
    pub(super) fn begin_write(&self) -> Result<Transaction<'_>> {
        let tx = Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate)?;
        if self.file.is_known(&tx)? { Ok(tx) } else { Err(restored()) }
    }

    /// Commits it, and remembers the state that it leaves.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails. Then nothing has changed.
    pub(super) fn commit_write(&self, tx: Transaction<'_>) -> Result<()> {
        self.file.commit(tx)
    }

    /// Whether the last attempt to write found a state that is not known, or none.
    pub(crate) fn is_stale(&self) -> bool {
        self.file.is_stale()
    }

    /// The file's id, as it was when it was opened.
    pub(crate) fn file(&self) -> Option<FileId> {
        self.file.id()
    }

    /// Whether the path still leads to the file that is open. It costs a look at the folder.
    pub(crate) fn has_its_path(&self) -> bool {
        self.file.has_its_path()
    }

    /// What became of the file.
    pub(crate) fn file_state(&self) -> Result<FileState> {
        match self.file.elsewhere() {
            Some(elsewhere) => Ok(elsewhere),
            None => self.file.content(&self.db, self.data_version()?),
        }
    }

    /// Lets go of the file. If it has `moved`, so that its path leads elsewhere, the id of its
    /// write-ahead log is given where that may have something in it.
    ///
    /// The log goes by the path's name, so a new file at the path would find it, and SQLite would
    /// apply it to that file. So it is written back into its own file and emptied first, unless
    /// somebody has committed since the path was last right: that may have been to the new file.
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
