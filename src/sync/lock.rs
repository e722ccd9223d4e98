//! One replicator a file: an advisory lock beside the database.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use fs4::{FileExt, TryLockError};

use crate::error::{Error, Result};

/// The most bytes of a process's number in the lock's file: 32 bits have ten digits.
const LONGEST_PID: u64 = 16;

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
        let is_new = !path.exists();
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match FileExt::try_lock(&file) {
            Ok(()) => {
                let lock = Lock { file };
                lock.sign(is_new);
                Ok(Some(lock))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// The replicator that has the lock of the database at `database`, if one has it. Nothing is
    /// made. Whoever wants the lock in this very moment does not get it, and must try again.
    pub fn holder(database: &Path) -> Option<Holder> {
        let file = File::open(lock_path(database)).ok()?;
        match FileExt::try_lock_shared(&file) {
            Err(TryLockError::WouldBlock) => {}
            // A system that cannot tell is asked for the lock itself, where it is needed.
            Ok(()) | Err(TryLockError::Error(_)) => return None,
        }
        let mut text = String::new();
        // Where a lock keeps readers out too, the number stays unknown.
        let _ = (&file).take(LONGEST_PID).read_to_string(&mut text);
        Some(Holder { process: text.trim().parse().ok() })
    }

    /// Writes this process's number into the file, whose time goes on to say what it said.
    fn sign(&self, is_new: bool) {
        let signed = || {
            let modified = match is_new {
                // A new file's time would say that the remote had answered now.
                true => UNIX_EPOCH,
                false => self.file.metadata()?.modified()?,
            };
            self.file.set_len(0)?;
            (&self.file).write_all(std::process::id().to_string().as_bytes())?;
            self.file.set_modified(modified)
        };
        if let Err(error) = signed() {
            tracing::debug!("the lock's file cannot be signed: {error}");
        }
    }

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
        let ms = i64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()?;
        (ms > 0).then_some(ms)
    }
}

/// Who has a [`Lock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process's number, as far as it is known.
    pub process: Option<u32>,
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
        assert_eq!(Lock::last_success(&database), None, "a new file tells of no success");
        first.as_ref().unwrap().note_success(1_700_000_000_123);
        assert_eq!(Lock::last_success(&database), Some(1_700_000_000_123));
        drop(first);
        assert!(Lock::take(&database).unwrap().is_some());
        assert_eq!(Lock::last_success(&database), Some(1_700_000_000_123), "signing leaves it");
    }

    #[test]
    fn its_holder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("a.db");
        assert_eq!(Lock::holder(&database), None);
        assert!(!lock_path(&database).exists(), "who asks makes no file");
        let lock = Lock::take(&database).unwrap();
        let process = Lock::holder(&database).unwrap().process;
        // Elsewhere a lock keeps readers out.
        assert!(process == Some(std::process::id()) || cfg!(not(unix)));
        drop(lock);
        assert_eq!(Lock::holder(&database), None);
    }
}
