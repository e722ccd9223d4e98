//! The status that a replicator publishes for other processes.
//!
//! A replicator knows more than its database has: its problems, whether the remote answers, the
//! progress of a first sync. It writes that into a file beside the database,
//! `gym.db-driftless-status`. So `driftless status`, and a replicator that waits for the lock, show
//! the same.
//!
//! The file is valid while the process that wrote it has the lock, and for 20 s after it was
//! written. A working replicator writes it every few seconds.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::store::Store;
use crate::sync::driver::clock::Time;
use crate::sync::driver::lock::{Holder, Lock, give_mode};
use crate::sync::machine::io::Now;
use crate::sync::status::{Known, SyncState, stopped};

/// The least time between two writes of values that change with each page, in ms: as often as
/// `driftless run --json` prints a line.
const WRITE_MS: u64 = 250;
/// How often it is written again without a change, in ms.
const HEARTBEAT_MS: u64 = 5_000;
/// The age from which on it is not valid, in ms. A long transaction of the replicator delays the
/// heartbeat.
const STALE_MS: i64 = 20_000;
/// The most bytes of the file. A problem has some hundred.
const LONGEST: u64 = 64 * 1024;
/// How many times it is read: it may be written at the same moment.
const READS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(2);

/// The content of the file. A line with its hash comes before it.
#[derive(Serialize, Deserialize)]
struct Content {
    process: u32,
    at_ms: i64,
    known: Known,
}

/// The file of the replicator of this process, which has the lock.
pub(crate) struct StatusFile {
    path: PathBuf,
    database: PathBuf,
    known: Option<Known>,
    is_written: bool,
    written_at: u64,
}

impl StatusFile {
    /// The status file of the replicator of the database at `database`. Nothing is written yet.
    pub(crate) fn beside(database: &Path) -> StatusFile {
        let (path, database) = (path(database), database.to_owned());
        StatusFile { path, database, known: None, is_written: false, written_at: 0 }
    }

    /// Publishes these facts. They are written at once, unless only the end of the remote's log or
    /// the time of the last success has changed.
    pub(crate) fn publish(&mut self, known: Known, now: Now) {
        let is_new = self.known.as_ref() != Some(&known);
        let at_once = self.known.as_ref().is_none_or(|former| former.differs_from(&known));
        if is_new {
            (self.known, self.is_written) = (Some(known), false);
        }
        if at_once { self.write(now) } else { self.keep_alive(now) }
    }

    /// Writes facts that were not written yet. It also writes every few seconds, as a sign of life.
    pub(crate) fn keep_alive(&mut self, now: Now) {
        let passed = now.steady_ms.saturating_sub(self.written_at);
        if passed >= if self.is_written { HEARTBEAT_MS } else { WRITE_MS } {
            self.write(now);
        }
    }

    fn write(&mut self, now: Now) {
        let Some(known) = self.known.clone() else { return };
        (self.is_written, self.written_at) = (true, now.steady_ms);
        let content = Content { process: std::process::id(), at_ms: now.wall_ms, known };
        let written = || -> std::io::Result<()> {
            let is_new = !self.path.exists();
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(false).open(&self.path)?;
            if is_new {
                give_mode(&file, &self.database);
            }
            let json = serde_json::to_string(&content)?;
            let text = format!("{}\n{json}\n", blake3::hash(json.as_bytes()).to_hex());
            file.write_all(text.as_bytes())?;
            file.set_len(text.len() as u64)
        };
        if let Err(error) = written() {
            tracing::debug!("the status cannot be told to other processes: {error}");
        }
    }

    /// Removes the file: the replicator ends.
    pub(crate) fn remove(self) {
        // It may not exist.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What a replicator publishes that waits for another program before its start. It has the
/// replicator's lock meanwhile, so it is seen to be there.
pub(crate) struct Announcement {
    file: StatusFile,
    lock: Lock,
    time: Time,
}

impl Announcement {
    /// Publishes these facts for the database at `database`, whose `lock` this process has.
    pub(crate) fn new(lock: Lock, database: &Path, known: Known) -> Announcement {
        let file = StatusFile::beside(database);
        let mut announcement = Announcement { file, lock, time: Time::start() };
        announcement.file.publish(known, announcement.time.now());
        announcement
    }

    /// Publishes them again from time to time, as a sign of life.
    pub(crate) fn keep_alive(&mut self) {
        self.file.keep_alive(self.time.now());
    }

    /// The wait is over. The replicator takes the lock itself, and publishes its own facts.
    pub(crate) fn end(self) {
        self.file.remove();
        drop(self.lock);
    }
}

/// The status file of `gym.db` is `gym.db-driftless-status`. A symbolic link leads to the one of
/// its target.
pub(in crate::sync) fn path(database: &Path) -> PathBuf {
    let file = std::fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
    let mut name = file.into_os_string();
    name.push("-driftless-status");
    PathBuf::from(name)
}

/// The status that the lock's holder has published, if it is valid.
pub(crate) fn read_status(database: &Path, holder: Holder, now_ms: i64) -> Option<Known> {
    let path = path(database);
    for _ in 0..READS {
        if let Some(content) = read(&path) {
            let its = holder.process.is_none_or(|process| process == content.process);
            let fresh = now_ms.abs_diff(content.at_ms) <= STALE_MS.unsigned_abs();
            let known = (its && fresh).then_some(content.known)?;
            // A success is recorded there at once.
            return Some(known.with_success(Lock::last_success(database)));
        }
        if !path.exists() {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
    None
}

fn read(path: &Path) -> Option<Content> {
    let mut text = String::new();
    File::open(path).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
    let (hash, rest) = text.split_once('\n')?;
    // The end of an earlier, longer text may follow.
    let json = rest.lines().next()?;
    (blake3::hash(json.as_bytes()).to_hex().as_str() == hash)
        .then(|| serde_json::from_str(json).ok())?
}

/// When the remote last answered a replicator of this file correctly, in ms since 1970. A
/// replicator records its successes, and the newest event of the log came with one too.
pub(crate) fn remembered_success(store: &Store, database: &Path) -> Result<Option<i64>> {
    let state = store.state()?;
    let received = store.settled(state.cursor())?.map(|event| event.received_at);
    // Before the first sync there was no success.
    let noted = Lock::last_success(database).filter(|_| state.epoch.is_some());
    Ok(received.max(noted))
}

/// The facts of a replica that another process replicates: as that process publishes them, or else
/// as far as the database has them.
pub(crate) fn known_by(
    store: &Store,
    database: &Path,
    holder: Option<Holder>,
    now_ms: i64,
    bound_ms: u64,
) -> Result<Known> {
    if let Some(known) = holder.and_then(|holder| read_status(database, holder, now_ms)) {
        return Ok(known);
    }
    let state = store.state()?;
    let pending = state.oldest_pending_ms.map(|made| now_ms.saturating_sub(made) / 1_000);
    let waiting_s = pending.and_then(|seconds| u64::try_from(seconds).ok());
    let trouble = waiting_s.and_then(|seconds| stopped(seconds, true, bound_ms));
    Ok(Known::new(SyncState::Standby, bound_ms)
        .with_process(holder.and_then(|holder| holder.process))
        .with_remote(None, state.cursor().0)
        .with_success(remembered_success(store, database)?)
        .with_unwritable(store.unwritable())
        .with_trouble(trouble.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Code, Error};

    fn known(state: SyncState, table: &str) -> Known {
        let trouble = Error::new(Code::RemoteTableMissing, table);
        Known::new(state, 60_000)
            .with_process(Some(std::process::id()))
            .with_remote(Some(true), 7)
            .with_success(Some(1))
            .with_trouble(Some(&trouble))
    }

    fn at(ms: u64) -> Now {
        Now { steady_ms: ms, wall_ms: 1_000_000 + ms as i64 }
    }

    #[test]
    fn f71_the_last_word_is_heard_while_its_speaker_is_at_work() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("a.db");
        let (mine, now) = (Holder { process: Some(std::process::id()) }, |ms| at(ms).wall_ms);
        let mut word = StatusFile::beside(&database);
        assert_eq!(read_status(&database, mine, now(0)), None);
        let (long, short) =
            (known(SyncState::Trouble, &"x".repeat(900)), known(SyncState::InStep, ""));
        word.publish(long.clone(), at(0));
        assert_eq!(read_status(&database, mine, now(0)), Some(long), "the first one at once");
        word.publish(short.clone(), at(1));
        assert_eq!(read_status(&database, mine, now(1)), Some(short.clone()), "and another state");
        let further = short.clone().with_remote(Some(true), 8);
        word.publish(further.clone(), at(WRITE_MS));
        assert_eq!(
            read_status(&database, mine, now(WRITE_MS)),
            Some(short),
            "counts not too often"
        );
        word.keep_alive(at(WRITE_MS + 1));
        assert_eq!(
            read_status(&database, mine, now(WRITE_MS)),
            Some(further.clone()),
            "but the last one"
        );
        let short = further;
        let other = Holder { process: Some(std::process::id() + 1) };
        assert_eq!(read_status(&database, other, now(WRITE_MS)), None, "another has the lock");
        let later = WRITE_MS + STALE_MS as u64 + 2;
        assert_eq!(read_status(&database, mine, now(later)), None, "it is silent");
        word.keep_alive(at(later));
        assert_eq!(
            read_status(&database, mine, now(later)),
            Some(short),
            "it is at work all the same"
        );
        let file = path(&database);
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, &text[..text.len() - 9]).unwrap();
        assert_eq!(read_status(&database, mine, now(later)), None, "half of it is nothing");
        word.remove();
        assert!(!file.exists());
    }
}
