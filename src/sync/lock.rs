//! One replicator a file: an advisory lock beside the database.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use fs4::{FileExt, TryLockError};

use crate::error::{Error, Result};

/// The right to replicate a database file, held until it is dropped or the process ends.
///
/// The lock is the operating system's, on a file of its own that stays: so a process that is killed
/// leaves no lock behind, and SQLite's own locks are not in the way.
#[derive(Debug)]
pub struct Lock {
    /// Closing it lets the lock go.
    _file: File,
}

impl Lock {
    /// Takes the lock of the database at `database`; `None` if another replicator has it.
    ///
    /// # Errors
    ///
    /// `Storage` when the lock's file cannot be made or locked.
    pub fn take(database: &Path) -> Result<Option<Lock>> {
        let path = lock_path(database);
        let failed = |source: std::io::Error| {
            Error::storage(format!("`{}` cannot be locked: {source}", path.display()))
                .with_hint("the folder of the database must be writable")
                .with_source(source)
        };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match FileExt::try_lock(&file) {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

/// `gym.db` has `gym.db-driftless-lock`, beside SQLite's `gym.db-wal`.
fn lock_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-driftless-lock");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("a.db");
        let first = Lock::take(&database).unwrap();
        assert!(first.is_some());
        assert!(Lock::take(&database).unwrap().is_none());
        drop(first);
        assert!(Lock::take(&database).unwrap().is_some());
    }
}
