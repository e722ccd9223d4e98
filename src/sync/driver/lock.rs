//! An advisory lock: one replicator for each file, by any name of the file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::error::{Code, Error, Result};
use crate::store::FileId;

/// The most bytes of a process id in the lock's file. A 32-bit number has ten digits.
const LONGEST_PID: u64 = 16;

/// How many times the lock is tried again because its file was removed meanwhile.
const ATTEMPTS: u32 = 16;

/// The right to replicate a database file, held until it is dropped or the process ends.
///
/// It is a lock of the operating system, so a killed process leaves none behind. It is on files of
/// its own. A lock on the database itself would disturb SQLite's locks, and the process would lose
/// those when it closes any handle of the database.
///
/// * One file is beside the database. Its name comes from the canonical path, so all spellings of
///   the path and all symbolic links lead to it.
/// * On Unix a second file, in a folder of this user, is named by device and inode. All hard links
///   lead to the same one, and a file that replaced another one leads to its own. If that folder
///   cannot be made, only the first file is used.
///
/// The first file stays, unless [`Lock::discard`] removes it while it holds the lock. The second
/// one is removed with the lock. Another process may have opened a file before it was removed, and
/// would then lock a file that no other process can find. So each process that gets a lock checks
/// that the name still leads to its file.
#[derive(Debug)]
pub struct Lock {
    beside: Held,
    by_file: Option<ByFile>,
    /// The database that it is for.
    database: Option<FileId>,
}

/// One locked file.
#[derive(Debug)]
struct Held {
    /// The open file. Closing it releases the lock.
    file: File,
    path: PathBuf,
    /// Whether the file was made for this lock.
    is_new: bool,
}

/// The locked file that is named by device and inode. It is removed with the lock.
#[derive(Debug)]
struct ByFile(Held);

impl Drop for ByFile {
    fn drop(&mut self) {
        self.0.take_away();
    }
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
            Error::new(Code::LockFailed, format!("`{}` cannot be locked: {source}", path.display()))
                .with_source(source)
        };
        let file = FileId::at(database).ok();
        let Some(beside) = hold(&path, database).map_err(failed)? else { return Ok(None) };
        let by_file = match file
            .and_then(|file| file_lock_path(file, true))
            .map(|path| hold(&path, database))
        {
            Some(Ok(Some(held))) => Some(ByFile(held)),
            Some(Ok(None)) => {
                // Another replicator works on the file by another name.
                beside.discard();
                return Ok(None);
            }
            Some(Err(error)) => {
                tracing::debug!("the file is locked by its name alone: {error}");
                None
            }
            None => None,
        };
        Ok(Some(Lock { beside, by_file, database: file }))
    }

    /// Whether the lock is for the file that is at `database` now.
    pub(crate) fn is_of(&self, database: &Path) -> bool {
        self.database.is_some() && FileId::at(database).ok() == self.database
    }

    /// Releases the lock, and removes its file if the file was made for this lock. It is for a
    /// caller that took the lock and then did nothing. If an open file cannot be removed safely, it
    /// stays.
    pub fn discard(self) {
        self.beside.discard();
    }

    /// Releases the lock, and removes its file beside the database at `database`, which is not a
    /// replica any more.
    pub(in crate::sync) fn remove_file(self, database: &Path) {
        if let Err(error) = std::fs::remove_file(lock_path(database)) {
            tracing::warn!("the lock's file stays: {error}");
        }
    }

    /// The replicator that has the lock of the database at `database`, if one has it. No file is
    /// made. A process that asks for the lock at the same moment may be refused, and must try
    /// again.
    pub fn holder(database: &Path) -> Option<Holder> {
        let by_file = || file_lock_path(FileId::at(database).ok()?, false);
        holder_of(&lock_path(database)).or_else(|| holder_of(&by_file()?))
    }

    /// Records when the remote last answered correctly, in ms since 1970, for other processes that
    /// show the status. It is stored as the time of the lock's file. A write to the database would
    /// wake every process that watches it.
    pub fn note_success(&self, at_ms: i64) {
        let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(at_ms).unwrap_or(0));
        // The second file must look new as well: the system removes old temporary files.
        let by_file = self.by_file.as_ref().map(|by_file| &by_file.0.file);
        for file in [Some(&self.beside.file), by_file].into_iter().flatten() {
            if let Err(error) = file.set_modified(at) {
                tracing::debug!("the time of the last success cannot be noted: {error}");
            }
        }
    }

    /// When the remote last answered a replicator of the database at `database` correctly, in ms
    /// since 1970, if that is known.
    pub fn last_success(database: &Path) -> Option<i64> {
        let at = std::fs::metadata(lock_path(database)).and_then(|file| file.modified()).ok()?;
        let ms = i64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()?;
        (ms > 0).then_some(ms)
    }
}

impl Held {
    /// Removes the file, before the lock is released.
    fn take_away(&self) {
        #[cfg(unix)]
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!("the lock's file cannot be taken away: {error}");
        }
    }

    fn discard(self) {
        if self.is_new {
            self.take_away();
        }
    }

    /// Writes this process's id into the file. The file's time is kept, because it is the time of
    /// the last success.
    fn sign(&self) {
        let signed = || {
            let modified = match self.is_new {
                // A new file's time would mean that the remote has just answered.
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
}

/// Locks the file at `path`, which is made if it does not exist; `None` if another process has it.
fn hold(path: &Path, database: &Path) -> std::io::Result<Option<Held>> {
    for _ in 0..ATTEMPTS {
        let (file, is_new) = open(path, database)?;
        match attempt(path, file, is_new)? {
            Attempt::Got(held) => return Ok(Some(held)),
            Attempt::Busy => return Ok(None),
            Attempt::Gone => {}
        }
    }
    // Other processes keep taking and releasing it.
    Ok(None)
}

/// The process that has the lock on the file at `path`, if one has it.
fn holder_of(path: &Path) -> Option<Holder> {
    let file = File::open(path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        // A system that cannot tell shows it when the lock is taken.
        Ok(()) | Err(TryLockError::Error(_)) => return None,
    }
    let mut text = String::new();
    // If a lock keeps readers out too, the process id stays unknown.
    let _ = (&file).take(LONGEST_PID).read_to_string(&mut text);
    Some(Holder { process: text.trim().parse().ok() })
}

/// The process that has a [`Lock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id, if it is known.
    pub process: Option<u32>,
}

/// Opens the lock's file. Returns whether it was made.
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
    // It may be removed meanwhile.
    let file = options.create(true).truncate(false).open(path)?;
    Ok((file, false))
}

/// Gives the lock's file the mode of the database, as SQLite does with the files beside it: a user
/// who may not read the database must not be able to lock it, and a user who may write to it must
/// be.
#[cfg(unix)]
pub(in crate::sync) fn give_mode(file: &File, database: &Path) {
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
pub(in crate::sync) fn give_mode(_: &File, _: &Path) {}

/// The result of an attempt to lock a file.
enum Attempt {
    Got(Held),
    /// Another process has it.
    Busy,
    /// It was removed meanwhile.
    Gone,
}

fn attempt(path: &Path, file: File, is_new: bool) -> std::io::Result<Attempt> {
    match file.try_lock() {
        Ok(()) if !has_name(&file, path) => Ok(Attempt::Gone),
        Ok(()) => {
            let held = Held { file, path: path.to_owned(), is_new };
            held.sign();
            Ok(Attempt::Got(held))
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

/// The same. On other systems no file is removed.
#[cfg(not(unix))]
fn has_name(_: &File, _: &Path) -> bool {
    true
}

/// The lock of `gym.db` is `gym.db-driftless-lock`, by any path that leads to the database.
fn lock_path(database: &Path) -> PathBuf {
    let mut name = canonical(database).into_os_string();
    name.push("-driftless-lock");
    PathBuf::from(name)
}

/// The path without symbolic links. If the file does not exist yet, only those of its folder are
/// resolved.
fn canonical(database: &Path) -> PathBuf {
    let in_folder = || {
        let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).canonicalize().ok()?;
        Some(folder.join(database.file_name()?))
    };
    database.canonicalize().ok().or_else(in_folder).unwrap_or_else(|| database.to_owned())
}

/// The lock's file by device and inode, in a folder to which only this user can write. If `make`,
/// the folder is made. `None` if there is no such folder.
#[cfg(unix)]
fn file_lock_path(file: FileId, make: bool) -> Option<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let user = rustix::process::getuid().as_raw();
    let folder = std::env::temp_dir().join(format!("driftless-{user}"));
    if make
        && let Err(error) = std::fs::DirBuilder::new().mode(0o700).create(&folder)
        && error.kind() != ErrorKind::AlreadyExists
    {
        tracing::debug!("there is no folder for locks: {error}");
        return None;
    }
    let found = std::fs::symlink_metadata(&folder).ok()?;
    let is_ours = found.is_dir() && found.uid() == user && found.mode() & 0o022 == 0;
    is_ours.then(|| folder.join(file.name()))
}

/// On other systems files are locked only by their names.
#[cfg(not(unix))]
fn file_lock_path(_: FileId, _: bool) -> Option<PathBuf> {
    None
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
    fn f56_it_belongs_to_the_file_and_not_to_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let database = path("a.db");
        std::fs::write(&database, "x").unwrap();
        std::fs::create_dir(path("inner")).unwrap();
        std::os::unix::fs::symlink(&database, path("link.db")).unwrap();
        std::fs::hard_link(&database, path("inner/hard.db")).unwrap();
        let names = ["a.db", "link.db", "inner/hard.db", "inner/../a.db"];
        for held in names {
            let lock = Lock::take(&path(held)).unwrap().unwrap();
            for name in names {
                assert!(Lock::take(&path(name)).unwrap().is_none(), "{held} and {name}");
                assert!(Lock::holder(&path(name)).is_some(), "{held} and {name}");
                assert!(lock.is_of(&path(name)));
            }
            assert!(Lock::take(&path("other.db")).unwrap().is_some());
        }
        // A file that replaces it is another one.
        let lock = Lock::take(&database).unwrap().unwrap();
        std::fs::write(path("new.db"), "y").unwrap();
        std::fs::rename(path("new.db"), &database).unwrap();
        assert!(!lock.is_of(&database) && lock.is_of(&path("inner/hard.db")));
        let by_file = file_lock_path(FileId::at(&path("inner/hard.db")).unwrap(), false).unwrap();
        assert!(by_file.exists());
        drop(lock);
        assert!(!by_file.exists(), "nothing of it is left");
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_that_is_discarded_leaves_nothing_and_nobody_has_a_file_without_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("a.db");
        let path = lock_path(&database);
        Lock::take(&database).unwrap().unwrap().discard();
        assert!(!path.exists());
        // Another process has opened the file, and waits too long.
        let first = Lock::take(&database).unwrap().unwrap();
        let late = || open(&path, &database).unwrap();
        let attempt = |(file, is_new)| attempt(&path, file, is_new).unwrap();
        let (before, beside) = (late(), late());
        first.discard();
        assert!(matches!(attempt(before), Attempt::Gone), "none has the name");
        let second = Lock::take(&database).unwrap().unwrap();
        assert!(matches!(attempt(beside), Attempt::Gone), "another one has it");
        assert!(matches!(attempt(late()), Attempt::Busy));
        drop(second);
        // An existing file stays.
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
        // On other systems a lock keeps readers out.
        assert!(process == Some(std::process::id()) || cfg!(not(unix)));
        drop(lock);
        assert_eq!(Lock::holder(&database), None);
    }
}
