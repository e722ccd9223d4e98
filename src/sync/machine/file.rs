//! Watches the database file, which may be restored, replaced or removed while the machine runs.
//!
//! A process remembers much of its file: how far it has read the log, what it has requested, what
//! it has pushed with which incarnation, and which rows have pending events. If the file's content
//! is replaced, all of this is wrong ([`store`](crate::store)). So the machine checks the file
//! before each input. If the file is in another state, the machine starts again like a new process
//! on the file: with a new [`Store`], and nothing of the old one. The answer to an earlier request
//! is dropped. Everything else is as after a restore between two runs: a push is refused for its
//! incarnation, and the file takes a new identity ([`identity`](super::identity)).
//!
//! If the file is gone, or is not a replica of the same remote any more, the machine closes it and
//! shows that as its problem. It looks for the file from time to time, and continues when the path
//! leads to such a file again.
//!
//! # Caveats
//!
//! Between two checks the application may write to a file without capture: one that was restored
//! from before `driftless init`. The machine does not turn such a file into a replica; a person
//! must do that.

use crate::error::{Code, Error, Kind, Result};
use crate::store::{FileId, FileState, Store, has_log_of};
use crate::sync::first_sync::plan::Plan;
use crate::sync::remote_check::no_first_sync;

/// How often to look for a missing file, in ms.
const GONE_RETRY_MS: u64 = 250;
/// How often to look for a usable file if the present one is not usable, in ms.
const USELESS_RETRY_MS: u64 = 1_000;

/// A file, and its write-ahead log.
type FileAndLog = (FileId, FileId);

/// The file that the machine has closed.
struct Lost {
    /// When to look again, in steady ms.
    retry_at: u64,
    /// The former file, if its write-ahead log may still exist.
    former: Option<FileAndLog>,
}

/// The result of a check of the file.
pub(super) enum FileCheck {
    /// It is the known file in the known state.
    Same,
    /// It is in another state, and this is its new store.
    Anew(Box<Store>),
    /// It is in another state, and not usable.
    Useless(Error),
    /// Its path leads to no file.
    Gone(Error),
    /// Its path leads to another file.
    Replaced(Error),
    /// The check failed.
    Failed(Error),
}

/// The file of one machine.
#[derive(Default)]
pub(super) struct DatabaseFile {
    lost: Option<Lost>,
}

impl DatabaseFile {
    /// Whether the machine has closed it.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// When to look for it again, in steady ms.
    pub(super) fn retry_at(&self) -> Option<u64> {
        self.lost.as_ref().map(|lost| lost.retry_at)
    }

    /// Checks the file of the store `working`.
    pub(super) fn look(&self, working: &Store, belongs: &Belonging<'_>) -> FileCheck {
        match working.file_state() {
            Ok(FileState::Same) => FileCheck::Same,
            Ok(FileState::Restored) => {
                tracing::warn!("the database is not in its last known state: it is read again");
                match belongs.open(None) {
                    Ok(store) => FileCheck::Anew(Box::new(store)),
                    Err(error) => FileCheck::Useless(error),
                }
            }
            Ok(FileState::Replaced) => FileCheck::Replaced(gone(belongs.store)),
            Ok(FileState::Gone) => FileCheck::Gone(gone(belongs.store)),
            Err(error) => FileCheck::Failed(error),
        }
    }

    /// Closes the file; `moved` if its path leads elsewhere. Returns when to look for it again.
    pub(super) fn let_go(&mut self, store: &mut Store, moved: bool, steady_ms: u64) -> u64 {
        let file = store.file().filter(|_| moved);
        let log = store.detach(moved);
        let retry_at = steady_ms + GONE_RETRY_MS;
        self.lost = Some(Lost { retry_at, former: file.zip(log) });
        retry_at
    }

    /// Looks for the file again.
    ///
    /// # Errors
    ///
    /// The reason why it cannot be used.
    pub(super) fn search(&mut self, belongs: &Belonging<'_>, steady_ms: u64) -> Result<Store> {
        let former = self.lost.as_ref().and_then(|lost| lost.former);
        let found = belongs.open(former);
        if found.is_err() {
            let is_gone = FileId::at(belongs.store.path()).is_err();
            let wait = if is_gone { GONE_RETRY_MS } else { USELESS_RETRY_MS };
            if let Some(lost) = &mut self.lost {
                lost.retry_at = steady_ms + wait;
            }
        }
        found
    }
}

/// Describes the file with which a machine can continue.
pub(super) struct Belonging<'a> {
    store: &'a Store,
    plan: Option<&'a Plan>,
    /// The epoch of the remote that the replica belongs to; `None` before the first sync.
    epoch: Option<&'a str>,
}

impl<'a> Belonging<'a> {
    /// A file at the path of `store`, with this plan and this remote.
    pub(super) fn new(store: &'a Store, plan: Option<&'a Plan>, epoch: Option<&'a str>) -> Self {
        Belonging { store, plan, epoch }
    }

    /// Opens the file that is at the path now, if the machine can continue with it. `former` is the
    /// file that was there before.
    fn open(&self, former: Option<FileAndLog>) -> Result<Store> {
        let path = self.store.path();
        let Ok(there) = FileId::at(path) else { return Err(gone(self.store)) };
        if former.is_some_and(|(file, log)| file != there && has_log_of(path, log)) {
            return Err(strange_log(self.store));
        }
        let store = Store::open_with(path, self.store.on_connect())
            .map_err(|error| no_replica(self.store, &error))?;
        if store.file() != Some(there) {
            return Err(gone(self.store));
        }
        let state = store.state()?;
        let same = match (self.epoch, &state.epoch) {
            (Some(known), Some(epoch)) => epoch == known,
            // Its first sync is not done, so its URL identifies the remote.
            (Some(_), None) => self.plan.is_none_or(|plan| plan.url == state.url),
            (None, _) => true,
        };
        if !same {
            return Err(other_file(self.store, &state.url));
        }
        if self.plan.is_none() && !store.is_adopted()? {
            return Err(no_first_sync());
        }
        Ok(store)
    }
}

/// The error for a path that leads to no file.
fn gone(store: &Store) -> Error {
    let path = store.path().display();
    let message = format!("{path} is gone: it was deleted or moved, or its medium was taken away");
    Error::new(Code::FileGone, message)
        .with_hint("put it back, or a copy of it: then replication continues")
}

/// The error for a write-ahead log that does not belong to the file beside it.
fn strange_log(store: &Store) -> Error {
    let path = store.path().display();
    let message = format!(
        "{path} was replaced while the write-ahead log of the former file is still beside it"
    );
    Error::new(Code::StrayWal, message).with_hint(format!(
        "SQLite would apply that log to the new file: end all programs that have it open, remove \
         {path}-wal and {path}-shm, and put the new file there again"
    ))
}

/// The error for a file that belongs elsewhere.
fn other_file(store: &Store, url: &str) -> Error {
    let path = store.path().display();
    let message = format!("{path} is another database now: a replica of another remote, {url}");
    Error::new(Code::FileReplaced, message).with_hint(
        "nothing of it was pushed: put the file back that was there, or end this replicator \
         and start one for the new file",
    )
}

/// The error for a file without driftless's tables.
fn no_replica(store: &Store, error: &Error) -> Error {
    let path = store.path().display();
    if error.kind() != Kind::Usage {
        return error.clone();
    }
    let message = format!(
        "{path} is not a replica any more: it was restored or replaced by a file from before \
         `driftless init`"
    );
    Error::new(Code::FileReplaced, message).with_hint(
        "writes to it are not replicated: put back a copy that is a replica; or end this \
         replicator, run `driftless init` on the file, and start it again",
    )
}
