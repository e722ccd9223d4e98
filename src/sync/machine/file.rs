//! What the machine does when its file is restored, replaced, or gone.
//!
//! A process remembers much of its file: how far it has read the log, what it has asked for, what
//! it has pushed under which mark, which rows have pending events. When the file's content is
//! replaced under it ([`store`](crate::store)), all of that is wrong. So the machine looks before
//! each input, and where the file is another state it begins anew, exactly as a process that is
//! started on the file: a new [`Store`], and nothing of the old one. An answer to what was asked
//! before finds nobody. What follows is what follows a restore between two runs: a push is refused
//! for its mark, and the file takes a new identity ([`identity`](super::identity)).
//!
//! Where the file is gone, or is no replica of the same remote any more, the machine lets go of it
//! and says so. It looks for it again, and goes on when the path has such a file.
//!
//! # Caveats
//!
//! Between two looks the application may write to a file without capture: one that was restored
//! from before `driftless init`. Such a file is not made into a replica here; a person does that.

use crate::error::{Code, Error, Kind, Result};
use crate::store::{FileId, FileState, Store, has_log_of};
use crate::sync::first_sync::run::Init;
use crate::sync::machine::Machine;
use crate::sync::machine::error_policy::no_first_sync;
use crate::sync::machine::io::{Effect, Input};
use crate::sync::machine::waiters::Waiter;
use crate::sync::status::{Changes, SyncState};

/// How often to look for a file that is gone, in ms.
const GONE_RETRY_MS: u64 = 250;
/// The same for a file that is there, and of no use.
const USELESS_RETRY_MS: u64 = 1_000;

/// The file that the machine has let go of.
pub(in crate::sync) struct Lost {
    /// When to look again, in steady ms.
    retry_at: u64,
    /// The file that the path led to, and its write-ahead log, if that may still lie about.
    former: Option<(FileId, FileId)>,
}

/// The error for a path that leads to no file.
fn gone(store: &Store) -> Error {
    let path = store.path().display();
    let message = format!("{path} is gone: it was deleted or moved, or its medium was taken away");
    Error::new(Code::FileGone, message)
        .with_hint("put it back, or a copy of it: replication goes on by itself then")
}

/// The error for a write-ahead log that does not belong to the file beside it.
fn strange_log(store: &Store) -> Error {
    let path = store.path().display();
    let message = format!(
        "{path} was replaced while the write-ahead log of the former file is still beside it"
    );
    Error::new(Code::StrayWal, message).with_hint(format!(
        "SQLite would apply that log to the new file: end all programs that have it open, remove \
         {path}-wal and {path}-shm, and put the new file in its place once more"
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

/// The error for a file that has nothing of ours.
fn no_replica(store: &Store, error: &Error) -> Error {
    let path = store.path().display();
    if error.kind() != Kind::Usage {
        return error.clone();
    }
    let message = format!(
        "{path} is no replica any more: it was restored or replaced by a file from before \
         `driftless init`"
    );
    Error::new(Code::FileReplaced, message).with_hint(
        "what is written to it is not replicated: put a copy back that is a replica; or end \
         this replicator, run `driftless init` on the file, and start it again",
    )
}

impl Machine {
    /// After an input was taken. `first_sync` says that a first sync was under way, which writes
    /// through a store of its own.
    pub(in crate::sync) fn written(&mut self, first_sync: bool) {
        if self.store.is_stale() {
            // It was restored between the look and the lock.
            self.knows_file(&Input::Timer);
        } else if first_sync && let Err(error) = self.store.remember() {
            self.local_trouble(error);
        }
    }

    /// The store, unless the machine has let go of its file.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub(crate) fn usable_store(&mut self) -> Result<&mut Store> {
        match self.trouble.as_ref().filter(|_| self.lost.is_some()) {
            Some(error) => Err(error.clone()),
            None => Ok(&mut self.store),
        }
    }

    /// Whether the file's path leads elsewhere, and the machine does not know yet.
    pub(crate) fn must_look_for_file(&self) -> bool {
        self.lost.is_none() && !self.store.has_its_path()
    }

    /// Whether the file is the one that is known. If it is not, what is to be done is done, and the
    /// input is of no use any more: it was meant for another state.
    pub(in crate::sync) fn knows_file(&mut self, input: &Input) -> bool {
        if self.lost.is_some() {
            self.while_lost(input);
            return false;
        }
        // A first sync works with a store of its own.
        let store = self.init.as_ref().and_then(Init::store).unwrap_or(&self.store);
        match store.file_state() {
            Ok(FileState::Same) => return true,
            Ok(FileState::Restored) => {
                tracing::warn!(
                    "the database is in another state than it was left: it is read anew"
                );
                match self.candidate(None) {
                    Ok(store) => self.begin_anew(store),
                    Err(error) => self.lose(error, false),
                }
            }
            Ok(state) => {
                self.lose(gone(&self.store), true);
                if state == FileState::Replaced {
                    self.search();
                }
            }
            Err(error) => {
                self.local_trouble(error);
                return true;
            }
        }
        self.keep_waiting(input);
        false
    }

    /// An input comes while there is no file.
    fn while_lost(&mut self, input: &Input) {
        if let (Input::Reconfigured { url }, Some(plan)) = (input, &mut self.plan) {
            plan.url.clone_from(url);
        }
        let due = self.lost.as_ref().is_some_and(|lost| lost.retry_at <= self.now.steady_ms);
        if due || matches!(input, Input::SyncNow(_) | Input::AcceptRemote(_)) {
            self.search();
        }
        self.keep_waiting(input);
        if let Some(lost) = &self.lost {
            self.effects.push_back(Effect::Wait(lost.retry_at));
        }
    }

    /// Somebody asks for a sync in the moment in which the file is another one.
    fn keep_waiting(&mut self, input: &Input) {
        let (Input::SyncNow(ticket) | Input::AcceptRemote(ticket)) = input else { return };
        match self.trouble.clone().filter(|_| self.lost.is_some()) {
            Some(error) => self.effects.push_back(Effect::Settled(*ticket, Err(error))),
            None => self.wait_for(*ticket),
        }
    }

    /// The store of the file that is at the path now, if it can be gone on with. `former` is the
    /// file that was there before, and its write-ahead log.
    fn candidate(&self, former: Option<(FileId, FileId)>) -> Result<Store> {
        let path = self.store.path();
        let Ok(there) = FileId::at(path) else { return Err(gone(&self.store)) };
        if former.is_some_and(|(file, log)| file != there && has_log_of(path, log)) {
            return Err(strange_log(&self.store));
        }
        let store = Store::open_with(path, self.store.on_connect())
            .map_err(|error| no_replica(&self.store, &error))?;
        if store.file() != Some(there) {
            return Err(gone(&self.store));
        }
        let state = store.state()?;
        let same = match (&self.identity, &state.epoch) {
            (Some((_, known)), Some(epoch)) => epoch == known,
            // Its first sync is not done; then its URL says which remote is meant.
            (Some(_), None) => self.plan.as_ref().is_none_or(|plan| plan.url == state.url),
            (None, _) => true,
        };
        if !same {
            return Err(other_file(&self.store, &state.url));
        }
        if self.plan.is_none() && !store.is_adopted()? {
            return Err(no_first_sync());
        }
        Ok(store)
    }

    /// Begins anew on a store, as a process that is started on its file.
    fn begin_anew(&mut self, store: Store) {
        let fresh = match Machine::new(store, self.plan.clone(), self.config) {
            Ok(fresh) => fresh,
            Err(error) => return self.lose(error, false),
        };
        let former = std::mem::replace(self, fresh);
        (self.now, self.clock) = (former.now, former.clock);
        (self.random, self.dice) = (former.random, former.dice);
        (self.last_request, self.totals) = (former.last_request, former.totals);
        (self.reachable, self.last_success) = (former.reachable, former.last_success);
        (self.notice, self.waiters) = (former.notice, former.waiters);
        self.waiters.iter_mut().for_each(Waiter::begin_anew);
        self.effects = former.effects;
        self.effects.push_back(Effect::Notify(Changes::missed()));
        self.effects.push_back(Effect::Reopened);
        self.changed();
    }

    /// Lets go of the file, and says why; `moved` if its path leads elsewhere.
    fn lose(&mut self, error: Error, moved: bool) {
        tracing::warn!(kind = ?error.kind(), "{error}");
        let file = self.store.file().filter(|_| moved);
        let log = self.store.detach(moved);
        self.flight = None;
        self.renewing = None;
        self.init = None;
        self.reachable = None;
        self.state = SyncState::Trouble;
        self.push_trouble = None;
        self.dismiss_waiters(&error);
        self.trouble = Some(error);
        let retry_at = self.now.steady_ms + GONE_RETRY_MS;
        self.lost = Some(Lost { retry_at, former: file.zip(log) });
        self.effects.push_back(Effect::Lost);
        self.effects.push_back(Effect::Wait(retry_at));
        self.changed();
    }

    /// Looks for the file again.
    fn search(&mut self) {
        let former = self.lost.as_ref().and_then(|lost| lost.former);
        match self.candidate(former) {
            Ok(store) => {
                tracing::info!("the database is there again: it is gone on with");
                self.begin_anew(store);
            }
            Err(error) => {
                let is_gone = FileId::at(self.store.path()).is_err();
                let wait = if is_gone { GONE_RETRY_MS } else { USELESS_RETRY_MS };
                if let Some(lost) = &mut self.lost {
                    lost.retry_at = self.now.steady_ms + wait;
                }
                let said = self.trouble.as_ref().map(Error::message) == Some(error.message());
                if !said {
                    tracing::warn!(kind = ?error.kind(), "{error}");
                    self.trouble = Some(error);
                    self.changed();
                }
            }
        }
    }
}
