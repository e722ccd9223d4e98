//! The right to replicate a file, and what is told to other processes while this one has it.

use std::path::{Path, PathBuf};

use crate::sync::driver::lock::Lock;
use crate::sync::driver::status_file::StatusFile;
use crate::sync::machine::io::Now;
use crate::sync::status::Known;

/// The claim of one driver on its file.
#[derive(Default)]
pub(super) struct Claim {
    /// The file whose lock is taken here; `None` where the caller has it.
    database: Option<PathBuf>,
    lock: Option<Lock>,
    /// What other processes are told, while this one has the lock.
    status_file: Option<StatusFile>,
}

impl Claim {
    /// This driver is to have the lock of the file at `database`.
    pub(super) fn want(&mut self, database: &Path) {
        self.database = Some(database.to_owned());
    }

    /// The lock was taken, or will not be.
    pub(super) fn take(&mut self, database: &Path, lock: Option<Lock>) {
        self.status_file = lock.as_ref().map(|_| StatusFile::beside(database));
        self.lock = lock;
    }

    /// The file whose lock is to be taken, where the lock is not for the file that is there now.
    pub(super) fn outdated(&self) -> Option<PathBuf> {
        let current = |database: &PathBuf| self.lock.as_ref().is_some_and(|l| l.is_of(database));
        self.database.clone().filter(|database| !current(database))
    }

    pub(super) fn has_lock(&self) -> bool {
        self.lock.is_some()
    }

    /// Lets go of the lock.
    pub(super) fn release(&mut self) {
        self.lock = None;
        self.silence();
    }

    /// Other processes are told nothing any more.
    pub(super) fn silence(&mut self) {
        if let Some(status_file) = self.status_file.take() {
            status_file.remove();
        }
    }

    /// Tells other processes what is known from now on.
    pub(super) fn publish(&mut self, known: Known, now: Now) {
        if let Some(status_file) = &mut self.status_file {
            status_file.publish(known, now);
        }
    }

    /// Notes when the remote last answered as it should, in ms since 1970.
    pub(super) fn note_success(&self, success: Option<i64>) {
        if let (Some(lock), Some(success)) = (&self.lock, success) {
            lock.note_success(success);
        }
    }

    /// Shows other processes now and then that this one is at work.
    pub(super) fn keep_alive(&mut self, now: Now) {
        if let Some(status_file) = &mut self.status_file {
            status_file.keep_alive(now);
        }
    }
}
