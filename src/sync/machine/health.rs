//! The health of the machine: its state, its problems, and when the remote last answered.
//!
//! No other file writes these. Each method is an event of the machine. So this file has all rules
//! about which event ends which problem.

use std::cell::RefCell;

use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::sync::status::{Facts, FirstSyncProgress, Known, Status, SyncState};

/// The health of one machine.
///
/// * A problem of requests hides one of pushes, and that one hides a notice.
/// * A success ends a problem of requests. Only an accepted push ends a problem of pushes.
pub(super) struct Health {
    state: SyncState,
    /// Why the last request or the local database failed.
    trouble: Option<Error>,
    /// Why nothing is pushed although requests succeed.
    push_trouble: Option<Error>,
    /// A problem that holds nothing back.
    notice: Option<Error>,
    reachable: Option<bool>,
    /// ms since 1970.
    last_success: Option<i64>,
    bound_ms: u64,
    /// The facts that were last read from the file. They are shown while the file cannot be read.
    facts: RefCell<Option<Facts>>,
}

impl Health {
    /// Before the first event.
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

    /// Takes over the knowledge of a machine that worked on an earlier state of the file.
    pub(super) fn take_over(&mut self, former: Health) {
        (self.reachable, self.last_success) = (former.reachable, former.last_success);
        self.notice = former.notice;
    }

    /// The requests go to another remote from now on, about which nothing is known.
    pub(super) fn starting_over(&mut self) {
        self.reachable = None;
        self.state = SyncState::Starting;
        self.push_trouble = None;
        self.trouble = None;
    }

    pub(super) fn stopped(&mut self) {
        self.state = SyncState::Stopped;
    }

    /// A first sync has begun, because a person asked for it or because there was none.
    pub(super) fn first_sync_begun(&mut self) {
        self.trouble = None;
        self.push_trouble = None;
        self.state = SyncState::FirstSync;
    }

    /// A first sync reads rows.
    pub(super) fn first_sync_goes_on(&mut self) {
        self.state = SyncState::FirstSync;
    }

    /// The remote answered. It is not known yet whether it is the right one.
    pub(super) fn answered(&mut self) {
        self.reachable = Some(true);
        self.trouble = None;
    }

    /// The right remote answered correctly.
    pub(super) fn succeeded(&mut self, wall_ms: i64) {
        self.answered();
        self.last_success = Some(wall_ms);
    }

    /// The remote answered, but the page of an earlier answer is still missing.
    pub(super) fn reached(&mut self) {
        self.reachable = Some(true);
    }

    /// Nothing holds pushes back any more.
    pub(super) fn pushes_flow(&mut self) {
        self.push_trouble = None;
    }

    /// The local database failed.
    pub(super) fn failed_locally(&mut self, error: Error) {
        self.state = SyncState::Trouble;
        self.trouble = Some(error);
    }

    /// A request failed, and will be tried again.
    pub(super) fn request_failed(&mut self, error: Error) {
        let away = error.kind() == Kind::Unavailable;
        self.reachable = Some(!away);
        self.state = if away { SyncState::Offline } else { SyncState::Trouble };
        self.trouble = Some(error);
    }

    /// The remote answered with a problem that only a person can fix.
    pub(super) fn refused(&mut self, error: Error, state: SyncState) {
        self.state = state;
        self.reachable = Some(true);
        self.trouble = Some(error);
    }

    /// Nothing is pushed until a person has fixed a problem.
    pub(super) fn pushes_held(&mut self, error: Error) {
        let refused = error.kind() == Kind::Refused;
        self.pushes_slowed(error);
        self.state = if refused { SyncState::Refused } else { SyncState::Trouble };
    }

    /// The remote lacks an object that every push needs.
    pub(super) fn remote_lacks(&mut self, error: Error) {
        self.answered();
        self.pushes_slowed(error);
    }

    /// Shows a notice about pushes, which does not depend on their success.
    pub(super) fn pushes_slowed(&mut self, error: Error) {
        self.state = SyncState::Trouble;
        self.push_trouble = Some(error);
    }

    /// The machine has closed its file.
    pub(super) fn file_lost(&mut self, error: Error) {
        self.reachable = None;
        self.state = SyncState::Trouble;
        self.push_trouble = None;
        self.trouble = Some(error);
    }

    /// The file is still not usable. Returns whether the reason has changed.
    pub(super) fn still_lost(&mut self, error: Error) -> bool {
        let known = self.trouble.as_ref().map(Error::message) == Some(error.message());
        if !known {
            tracing::warn!(kind = ?error.kind(), "{error}");
            self.trouble = Some(error);
        }
        !known
    }

    /// Sets the problem that is shown although requests succeed; `None` if there is none. Returns
    /// whether it has changed.
    pub(super) fn note(&mut self, notice: Option<Error>) -> bool {
        let said = |error: &Option<Error>| error.as_ref().map(|error| error.message().to_owned());
        let news = said(&self.notice) != said(&notice);
        self.notice = notice;
        news
    }

    /// Remembers a success from before this process, so that the silence is measured from there.
    pub(super) fn remember(&mut self, success: Option<i64>) {
        self.last_success = self.last_success.max(success);
    }

    /// The machine has nothing more to do for now. `busy` is whether something is in progress, and
    /// `first_sync` whether that is a first sync. Returns whether the state has changed.
    pub(super) fn rest(&mut self, first_sync: bool, busy: bool) -> bool {
        let former = self.state;
        let held = self.trouble.is_none() && self.push_trouble.is_some();
        if held && self.state == SyncState::Offline && self.reachable == Some(true) {
            // The remote is back, but pushes still wait.
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

    /// The problem of pushes, for a caller that waits.
    pub(super) fn push_trouble(&self) -> Option<Error> {
        self.push_trouble.clone()
    }

    /// The problem of requests or of the file, for a caller that waits.
    pub(super) fn trouble(&self) -> Option<Error> {
        self.trouble.clone()
    }

    /// The facts that this process knows and the file does not have. `head` is the newest seq of
    /// the remote's log.
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

    /// The status, from the known facts and the file. A lost file is shown as it was.
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
