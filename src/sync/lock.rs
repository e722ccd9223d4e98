//! One replicator a file: an advisory lock beside the database.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use fs4::{FileExt, TryLockError};

use crate::error::{Error, Result};

/// The most bytes of a process's number in the lock's file: 32 bits have ten digits.
const LONGEST_PID: u64 = 16;

/// How often the lock is tried anew because its file was taken away.
const ATTEMPTS: u32 = 16;

/// The right to replicate a database file, held until it is dropped or the process ends.
///
/// The lock is the operating system's, on a file of its own that stays: so a process that is killed
/// leaves no lock behind, and SQLite's own locks are not in the way.
///
/// Only [`Lock::discard`] takes the file away, while it has the lock. Somebody may have opened that
/// very file before, and would then lock a file that nobody else can find. So whoever gets a lock
/// looks whether its file is still the one that has the name.
#[derive(Debug)]
pub struct Lock {
    /// Closing it lets the lock go.
    file: File,
    /// The file's name, if it was made for this lock.
    made: Option<PathBuf>,
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
        for _ in 0..ATTEMPTS {
            let opened = open(&path, database).map_err(failed)?;
            match attempt(&path, opened).map_err(failed)? {
                Attempt::Got(lock) => return Ok(Some(lock)),
                Attempt::Busy => return Ok(None),
                Attempt::Gone => {}
            }
        }
        // Others come and go meanwhile.
        Ok(None)
    }

    /// Lets the lock go, and takes its file away if it was made for it: what it was wanted for came
    /// to nothing. Where a file that is open cannot be taken away safely it stays.
    pub fn discard(self) {
        #[cfg(unix)]
        if let Some(Err(error)) = self.made.as_deref().map(std::fs::remove_file) {
            tracing::debug!("the lock's file cannot be taken away: {error}");
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

/// Opens the lock's file, and says whether it was made.
fn open(path: &Path, database: &Path) -> std::io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.write(true);
    match options.clone().create_new(true).open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => {
            let file = made?;
            give_mode(&file, database);
            return Ok((file, true));
        }
    }
    // It may be taken away in between.
    let file = options.create(true).truncate(false).open(path)?;
    Ok((file, false))
}

/// Gives the lock's file the mode of the database, as SQLite does with the files beside it: who may
/// not read the database must not lock it either, and who may write it must be able to.
#[cfg(unix)]
pub(super) fn give_mode(file: &File, database: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let given = std::fs::metadata(database).and_then(|database| {
        let mode = database.permissions().mode() & 0o666;
        file.set_permissions(std::fs::Permissions::from_mode(mode))
    });
    if let Err(error) = given {
        tracing::debug!("the lock's file keeps its mode: {error}");
    }
}

#[cfg(not(unix))]
pub(super) fn give_mode(_: &File, _: &Path) {}

/// What came of an attempt to lock a file.
enum Attempt {
    Got(Lock),
    /// Somebody else has it.
    Busy,
    /// It was taken away meanwhile.
    Gone,
}

fn attempt(path: &Path, (file, is_new): (File, bool)) -> std::io::Result<Attempt> {
    match FileExt::try_lock(&file) {
        Ok(()) if !has_name(&file, path) => Ok(Attempt::Gone),
        Ok(()) => {
            let lock = Lock { file, made: is_new.then(|| path.to_owned()) };
            lock.sign(is_new);
            Ok(Attempt::Got(lock))
        }
        Err(TryLockError::WouldBlock) => Ok(Attempt::Busy),
        Err(TryLockError::Error(source)) => Err(source),
    }
}

/// Whether this is the file that has the name now.
#[cfg(unix)]
fn has_name(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |found: std::fs::Metadata| (found.dev(), found.ino());
    let (mine, named) = (file.metadata().map(identity), std::fs::metadata(path).map(identity));
    matches!((mine, named), (Ok(mine), Ok(named)) if mine == named)
}

/// Whether this is the file that has the name now: elsewhere none is taken away.
#[cfg(not(unix))]
fn has_name(_: &File, _: &Path) -> bool {
    true
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

    #[cfg(unix)]
    #[test]
    fn a_lock_that_is_discarded_leaves_nothing_and_nobody_has_a_file_without_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("a.db");
        let path = lock_path(&database);
        Lock::take(&database).unwrap().unwrap().discard();
        assert!(!path.exists());
        // Somebody has opened the file, and waits a little too long.
        let first = Lock::take(&database).unwrap().unwrap();
        let late = || open(&path, &database).unwrap();
        let (before, beside) = (late(), late());
        first.discard();
        assert!(matches!(attempt(&path, before).unwrap(), Attempt::Gone), "none has the name");
        let second = Lock::take(&database).unwrap().unwrap();
        assert!(matches!(attempt(&path, beside).unwrap(), Attempt::Gone), "another one has it");
        assert!(matches!(attempt(&path, late()).unwrap(), Attempt::Busy));
        drop(second);
        // What was there before stays.
        Lock::take(&database).unwrap().unwrap().discard();
        assert!(path.exists());
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
