//! What a replicator says of itself to other processes.
//!
//! A replicator knows more than its file says: its troubles, whether the remote answers, how far a
//! first sync is. It writes that into a file beside the database, `gym.db-driftless-status`, so
//! that `driftless status` and a replicator that stands by say the same as the one that works.
//!
//! The file counts only while the lock's holder is the process that has written it, and only for a
//! while: a replicator that works writes it anew every few seconds.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::store::Store;
use crate::sync::driver::lock::{Holder, Lock, give_mode};
use crate::sync::machine::io::Now;
use crate::sync::status::{Known, SyncState, Trouble, remembered_success, stopped};

/// The least time between two writes of what changes with each page, in ms: as often as
/// `driftless run --json` prints a line.
const PACE_MS: u64 = 250;
/// How often it is written anew although nothing has changed, in ms.
const HEARTBEAT_MS: u64 = 5_000;
/// How old it may be, in ms. A long transaction of the replicator's delays the heartbeat.
const STALE_MS: i64 = 20_000;
/// The most bytes of the file. A trouble has some hundred.
const LONGEST: u64 = 64 * 1024;
/// How often it is read, and the time in between: it may be written in this very moment.
const READS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(2);

/// What stands in the file, behind a line with its hash.
#[derive(Serialize, Deserialize)]
struct Spoken {
    process: u32,
    at_ms: i64,
    known: Known,
}

/// The file of the replicator of this process, which has the lock.
pub(crate) struct Word {
    path: PathBuf,
    database: PathBuf,
    known: Option<Known>,
    is_said: bool,
    said_at: u64,
}

impl Word {
    /// The word of a replicator of the database at `database`. Nothing is written yet.
    pub(crate) fn beside(database: &Path) -> Word {
        let (path, database) = (path(database), database.to_owned());
        Word { path, database, known: None, is_said: false, said_at: 0 }
    }

    /// Says this from now on: at once, unless only the remote's end or the time of the last success
    /// is another one.
    pub(crate) fn say(&mut self, known: Known, now: Now) {
        let steady = |known: &Known| Known { head: 0, last_success: None, ..known.clone() };
        let is_new = self.known.as_ref() != Some(&known);
        let at_once = self.known.as_ref().map(steady) != Some(steady(&known));
        if is_new {
            (self.known, self.is_said) = (Some(known), false);
        }
        if at_once { self.write(now) } else { self.speak(now) }
    }

    /// Writes what was not written yet, and shows now and then that somebody is at work.
    pub(crate) fn speak(&mut self, now: Now) {
        let passed = now.steady_ms.saturating_sub(self.said_at);
        if passed >= if self.is_said { HEARTBEAT_MS } else { PACE_MS } {
            self.write(now);
        }
    }

    fn write(&mut self, now: Now) {
        let Some(known) = self.known.clone() else { return };
        (self.is_said, self.said_at) = (true, now.steady_ms);
        let spoken = Spoken { process: std::process::id(), at_ms: now.wall_ms, known };
        let written = || -> std::io::Result<()> {
            let is_new = !self.path.exists();
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(false).open(&self.path)?;
            if is_new {
                give_mode(&file, &self.database);
            }
            let json = serde_json::to_string(&spoken)?;
            let text = format!("{}\n{json}\n", blake3::hash(json.as_bytes()).to_hex());
            file.write_all(text.as_bytes())?;
            file.set_len(text.len() as u64)
        };
        if let Err(error) = written() {
            tracing::debug!("the status cannot be told to other processes: {error}");
        }
    }

    /// Takes the file away: nobody is at work any more.
    pub(crate) fn end(self) {
        // It was never made, perhaps.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// `gym.db` has `gym.db-driftless-status`; of a symbolic link it is the file's that it leads to.
fn path(database: &Path) -> PathBuf {
    let file = std::fs::canonicalize(database).unwrap_or_else(|_| database.to_owned());
    let mut name = file.into_os_string();
    name.push("-driftless-status");
    PathBuf::from(name)
}

/// What the lock's holder says, if it has said something a short while ago.
pub(crate) fn heard(database: &Path, holder: Holder, now_ms: i64) -> Option<Known> {
    let path = path(database);
    for _ in 0..READS {
        if let Some(spoken) = read(&path) {
            let its = holder.process.is_none_or(|process| process == spoken.process);
            let fresh = now_ms.abs_diff(spoken.at_ms) <= STALE_MS.unsigned_abs();
            let mut known = (its && fresh).then_some(spoken.known)?;
            // That is noted at once.
            known.last_success = known.last_success.max(Lock::last_success(database));
            return Some(known);
        }
        if !path.exists() {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
    None
}

fn read(path: &Path) -> Option<Spoken> {
    let mut text = String::new();
    File::open(path).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
    let (hash, rest) = text.split_once('\n')?;
    // What an earlier, longer text has left stands behind it.
    let json = rest.lines().next()?;
    (blake3::hash(json.as_bytes()).to_hex().as_str() == hash)
        .then(|| serde_json::from_str(json).ok())?
}

/// What is known of a replica that another process replicates: what that one says, or else what it
/// has noted.
///
/// # Errors
///
/// `Storage` when the store cannot be read.
pub(crate) fn known_by(
    store: &Store,
    database: &Path,
    holder: Option<Holder>,
    now_ms: i64,
    bound_ms: u64,
) -> Result<Known> {
    if let Some(known) = holder.and_then(|holder| heard(database, holder, now_ms)) {
        return Ok(known);
    }
    let state = store.state()?;
    let pending = state.oldest_pending_ms.map(|made| now_ms.saturating_sub(made) / 1_000);
    let waiting_s = pending.and_then(|seconds| u64::try_from(seconds).ok());
    let trouble = waiting_s.and_then(|seconds| stopped(seconds, true, bound_ms));
    let known = Known {
        state: SyncState::Standby,
        first_sync: None,
        process: holder.and_then(|holder| holder.process),
        told: Trouble::default(),
        reachable: None,
        head: state.cursor.0,
        last_success: remembered_success(store, database)?,
        unwritable: store.unwritable(),
        waiting_s: None,
        bound_ms,
    };
    Ok(known.with_trouble(trouble.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Code, Error};

    fn known(state: SyncState, table: &str) -> Known {
        Known {
            state,
            first_sync: None,
            process: Some(std::process::id()),
            told: Trouble::default(),
            reachable: Some(true),
            head: 7,
            last_success: Some(1),
            unwritable: Vec::new(),
            waiting_s: None,
            bound_ms: 60_000,
        }
        .with_trouble(Some(&Error::new(Code::RemoteTableMissing, table)))
    }

    fn at(ms: u64) -> Now {
        Now { steady_ms: ms, wall_ms: 1_000_000 + ms as i64 }
    }

    #[test]
    fn f71_the_last_word_is_heard_while_its_speaker_is_at_work() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("a.db");
        let (mine, now) = (Holder { process: Some(std::process::id()) }, |ms| at(ms).wall_ms);
        let mut word = Word::beside(&database);
        assert_eq!(heard(&database, mine, now(0)), None);
        let (long, short) =
            (known(SyncState::Trouble, &"x".repeat(900)), known(SyncState::InStep, ""));
        word.say(long.clone(), at(0));
        assert_eq!(heard(&database, mine, now(0)), Some(long), "the first one at once");
        word.say(short.clone(), at(1));
        assert_eq!(heard(&database, mine, now(1)), Some(short.clone()), "and another state");
        let further = Known { head: 8, ..short.clone() };
        word.say(further.clone(), at(PACE_MS));
        assert_eq!(heard(&database, mine, now(PACE_MS)), Some(short), "counts not too often");
        word.speak(at(PACE_MS + 1));
        assert_eq!(heard(&database, mine, now(PACE_MS)), Some(further.clone()), "but the last one");
        let short = further;
        let other = Holder { process: Some(std::process::id() + 1) };
        assert_eq!(heard(&database, other, now(PACE_MS)), None, "another has the lock");
        let later = PACE_MS + STALE_MS as u64 + 2;
        assert_eq!(heard(&database, mine, now(later)), None, "it is silent");
        word.speak(at(later));
        assert_eq!(heard(&database, mine, now(later)), Some(short), "it is at work all the same");
        let file = path(&database);
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, &text[..text.len() - 9]).unwrap();
        assert_eq!(heard(&database, mine, now(later)), None, "half of it is nothing");
        word.end();
        assert!(!file.exists());
    }
}
