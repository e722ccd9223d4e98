//! The right to replicate a file, and the status for other processes while this one has it.

use std::path::{Path, PathBuf};

use crate::sync::driver::lock::Lock;
use crate::sync::driver::status_file::StatusFile;
use crate::sync::machine::io::Now;
use crate::sync::status::Known;

/// The claim of one driver on its file.
#[derive(Default)]
pub(super) struct Claim {
    /// The file whose lock this driver takes; `None` if the caller holds it.
    database: Option<PathBuf>,
    lock: Option<Lock>,
    /// The status for other processes, while this one has the lock.
    status_file: Option<StatusFile>,
}

impl Claim {
    /// This driver should take the lock of the file at `database`.
    pub(super) fn want(&mut self, database: &Path) {
        self.database = Some(database.to_owned());
    }

    /// The lock was taken, or will not be taken.
    pub(super) fn take(&mut self, database: &Path, lock: Option<Lock>) {
        self.status_file = lock.as_ref().map(|_| StatusFile::beside(database));
        self.lock = lock;
    }

    /// The file whose lock must be taken, because the lock is not for the present file.
    pub(super) fn outdated(&self) -> Option<PathBuf> {
        let current = |database: &PathBuf| self.lock.as_ref().is_some_and(|l| l.is_of(database));
        self.database.clone().filter(|database| !current(database))
    }

    pub(super) fn has_lock(&self) -> bool {
        self.lock.is_some()
    }

    /// Releases the lock.
    pub(super) fn release(&mut self) {
        self.lock = None;
        self.silence();
    }

    /// Removes the status for other processes.
    pub(super) fn silence(&mut self) {
        if let Some(status_file) = self.status_file.take() {
            status_file.remove();
        }
    }

    /// Publishes the known facts for other processes.
    pub(super) fn publish(&mut self, known: Known, now: Now) {
        if let Some(status_file) = &mut self.status_file {
            status_file.publish(known, now);
        }
    }

    /// Records when the remote last answered correctly, in ms since 1970.
    pub(super) fn note_success(&self, success: Option<i64>) {
        if let (Some(lock), Some(success)) = (&self.lock, success) {
            lock.note_success(success);
        }
    }

    /// Shows other processes from time to time that this one is working.
    pub(super) fn keep_alive(&mut self, now: Now) {
        if let Some(status_file) = &mut self.status_file {
            status_file.keep_alive(now);
        }
    }
}
