//! The health of the machine: its state, its troubles, and when the remote last answered.
//!
//! No other file writes these. Every method is an event that the machine has met. So this file has
//! all rules about which event ends which trouble.

use std::cell::RefCell;

use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::sync::status::{Facts, FirstSyncProgress, Known, Status, SyncState};

/// The health of one machine.
///
/// * A trouble of requests hides one of pushes, and that one hides a notice.
/// * A success ends a trouble of requests. Only a push that went through ends one of pushes.
pub(super) struct Health {
    state: SyncState,
    /// Why the last request failed, or the local database did.
    trouble: Option<Error>,
    /// Why nothing is pushed although requests go through.
    push_trouble: Option<Error>,
    /// A trouble that holds nothing back.
    notice: Option<Error>,
    reachable: Option<bool>,
    /// ms since 1970.
    last_success: Option<i64>,
    bound_ms: u64,
    /// What was last read of the file. It is shown while the file cannot be read.
    facts: RefCell<Option<Facts>>,
}

impl Health {
    /// Nothing has happened yet.
    pub(super) fn new(store: &Store, bound_ms: u64) -> Self {
        Health {
            state: SyncState::Starting,
            trouble: None,
            push_trouble: None,
            notice: None,
            reachable: None,
            last_success: None,
            bound_ms,
            facts: RefCell::new(Facts::of(store).ok()),
        }
    }

    /// Takes over what a machine knew that worked on an earlier state of the file.
    pub(super) fn take_over(&mut self, former: Health) {
        (self.reachable, self.last_success) = (former.reachable, former.last_success);
        self.notice = former.notice;
    }

    /// The requests go elsewhere from now on: nothing is known of the remote.
    pub(super) fn starting_over(&mut self) {
        self.reachable = None;
        self.state = SyncState::Starting;
        self.push_trouble = None;
        self.trouble = None;
    }

    pub(super) fn stopped(&mut self) {
        self.state = SyncState::Stopped;
    }

    /// A first sync has begun, at a person's word or because there was none.
    pub(super) fn first_sync_begun(&mut self) {
        self.trouble = None;
        self.push_trouble = None;
        self.state = SyncState::FirstSync;
    }

    /// A first sync reads rows.
    pub(super) fn first_sync_goes_on(&mut self) {
        self.state = SyncState::FirstSync;
    }

    /// The remote answered. Whether it is the right one is not known.
    pub(super) fn answered(&mut self) {
        self.reachable = Some(true);
        self.trouble = None;
    }

    /// The right remote answered as it should.
    pub(super) fn succeeded(&mut self, wall_ms: i64) {
        self.answered();
        self.last_success = Some(wall_ms);
    }

    /// The remote answered, but the page of an earlier answer is still not there.
    pub(super) fn reached(&mut self) {
        self.reachable = Some(true);
    }

    /// Nothing keeps pushes back any more.
    pub(super) fn pushes_flow(&mut self) {
        self.push_trouble = None;
    }

    /// The local database failed.
    pub(super) fn failed_locally(&mut self, error: Error) {
        self.state = SyncState::Trouble;
        self.trouble = Some(error);
    }

    /// A request failed, and is tried again.
    pub(super) fn request_failed(&mut self, error: Error) {
        let away = error.kind() == Kind::Unavailable;
        self.reachable = Some(!away);
        self.state = if away { SyncState::Offline } else { SyncState::Trouble };
        self.trouble = Some(error);
    }

    /// The remote answered something that only a person can change.
    pub(super) fn refused(&mut self, error: Error, state: SyncState) {
        self.state = state;
        self.reachable = Some(true);
        self.trouble = Some(error);
    }

    /// Nothing is pushed until a person has changed something.
    pub(super) fn pushes_held(&mut self, error: Error) {
        let refused = error.kind() == Kind::Refused;
        self.pushes_slowed(error);
        self.state = if refused { SyncState::Refused } else { SyncState::Trouble };
    }

    /// The remote lacks something that every push needs.
    pub(super) fn remote_lacks(&mut self, error: Error) {
        self.answered();
        self.pushes_slowed(error);
    }

    /// Something about pushes is to be said, whatever happens to them.
    pub(super) fn pushes_slowed(&mut self, error: Error) {
        self.state = SyncState::Trouble;
        self.push_trouble = Some(error);
    }

    /// The machine has let go of its file.
    pub(super) fn file_lost(&mut self, error: Error) {
        self.reachable = None;
        self.state = SyncState::Trouble;
        self.push_trouble = None;
        self.trouble = Some(error);
    }

    /// The file is still not usable. Gives whether the reason is another one than before.
    pub(super) fn still_lost(&mut self, error: Error) -> bool {
        let known = self.trouble.as_ref().map(Error::message) == Some(error.message());
        if !known {
            tracing::warn!(kind = ?error.kind(), "{error}");
            self.trouble = Some(error);
        }
        !known
    }

    /// Notes what is wrong although requests go through; `None` if nothing is. Gives whether that
    /// is news.
    pub(super) fn note(&mut self, notice: Option<Error>) -> bool {
        let said = |error: &Option<Error>| error.as_ref().map(|error| error.message().to_owned());
        let news = said(&self.notice) != said(&notice);
        self.notice = notice;
        news
    }

    /// Remembers a success from before this process began, so that silence is counted from there.
    pub(super) fn remember(&mut self, success: Option<i64>) {
        self.last_success = self.last_success.max(success);
    }

    /// The machine has done what it could for now. `busy` says that something is under way, and
    /// `first_sync` that this is a first sync. Gives whether the state is another one.
    pub(super) fn rest(&mut self, first_sync: bool, busy: bool) -> bool {
        let former = self.state;
        let held = self.trouble.is_none() && self.push_trouble.is_some();
        if held && self.state == SyncState::Offline && self.reachable == Some(true) {
            // The remote is back, and pushes still wait.
            self.state = SyncState::Trouble;
        }
        let well = self.trouble.is_none() && self.push_trouble.is_none();
        if well && self.reachable == Some(true) && !first_sync {
            self.state = if busy { SyncState::Syncing } else { SyncState::InStep };
        }
        self.state != former
    }

    /// Whether the remote is refused until a person accepts it.
    pub(super) fn awaits_acceptance(&self) -> bool {
        matches!(self.state, SyncState::OtherRemote | SyncState::RolledBack)
    }

    pub(super) fn has_push_trouble(&self) -> bool {
        self.push_trouble.is_some()
    }

    /// The trouble of pushes, for somebody who waits.
    pub(super) fn push_trouble(&self) -> Option<Error> {
        self.push_trouble.clone()
    }

    /// The trouble of requests or of the file, for somebody who waits.
    pub(super) fn trouble(&self) -> Option<Error> {
        self.trouble.clone()
    }

    /// What this process knows and the file does not say. `head` is the newest seq of the remote's
    /// log.
    pub(super) fn known(
        &self,
        store: &Store,
        first_sync: Option<FirstSyncProgress>,
        head: i64,
    ) -> Known {
        let trouble = self.trouble.as_ref().or(self.push_trouble.as_ref()).or(self.notice.as_ref());
        Known::new(self.state, self.bound_ms)
            .with_first_sync(first_sync)
            .with_remote(self.reachable, head)
            .with_success(self.last_success)
            .with_unwritable(store.unwritable())
            .with_trouble(trouble)
    }

    /// The status by what is known, and by the file. A file that is lost is shown as it was.
    pub(super) fn status(
        &self,
        store: &Store,
        is_lost: bool,
        known: Known,
        wall_ms: i64,
    ) -> Result<Status> {
        if !is_lost {
            *self.facts.borrow_mut() = Some(Facts::of(store)?);
        }
        let facts = self.facts.borrow().clone();
        let facts = facts.unwrap_or_else(|| Facts::unknown(store.id()));
        Ok(Status::by(facts, known, wall_ms))
    }
}
