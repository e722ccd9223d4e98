//! One replicator a file: an advisory lock beside the database.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use fs4::{FileExt, TryLockError};

use crate::error::{Error, Result};

/// The right to replicate a database file, held until it is dropped or the process ends.
///
/// The lock is the operating system's, on a file of its own that stays: so a process that is killed
/// leaves no lock behind, and SQLite's own locks are not in the way.
#[derive(Debug)]
pub struct Lock {
    /// Closing it lets the lock go.
    file: File,
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
            Ok(()) => Ok(Some(Lock { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

impl Lock {
    /// Notes when the remote last answered as it should, in ms since 1970, for whoever asks how the
    /// replica is: as the time of the lock's file. A write to the database would wake everybody who
    /// watches it.
    pub fn note_success(&self, at_ms: i64) {
        let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(at_ms).unwrap_or(0));
        if let Err(error) = self.file.set_modified(at) {
            tracing::debug!("the time of the last success cannot be noted: {error}");
        }
    }

    /// When the remote last answered a replicator of the database at `database` as it should, in ms
    /// since 1970, as far as it is known.
    pub fn last_success(database: &Path) -> Option<i64> {
        let at = std::fs::metadata(lock_path(database)).and_then(|file| file.modified()).ok()?;
        i64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
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
        first.as_ref().unwrap().note_success(1_700_000_000_123);
        assert_eq!(Lock::last_success(&database), Some(1_700_000_000_123));
        drop(first);
        assert!(Lock::take(&database).unwrap().is_some());
    }
}
