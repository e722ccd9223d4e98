//! The status of a replica whose replicator is another process, or none.

use super::Replica;
use crate::error::{Error, Result};
use crate::remote::Remote;
use crate::store::State;
use crate::sync::{
    Announcement, HEALTH_BOUND_MS, Known, Lock, RemoteFacts, Status, SyncState, ask, now_ms,
    read_status, remembered_success, stopped,
};

/// The outcome of asking the remote.
pub(crate) enum Contact {
    /// It was not asked.
    Unasked,
    /// It cannot be asked: the token or the URL is not valid.
    Unable(Error),
    /// It did not answer, or refused.
    Failed(Error, SyncState),
    /// It has answered.
    Answered(RemoteFacts),
}

impl Replica<'_> {
    /// The status: what a running replicator of the file has published, or else what the file says.
    pub fn status(&self) -> Result<Status> {
        self.status_with(|_| Contact::Unasked)
    }

    /// The same. Without a running replicator, `contact` asks the remote.
    pub(crate) fn status_with(&self, contact: impl FnOnce(&State) -> Contact) -> Result<Status> {
        let published =
            Lock::holder(self.path()).and_then(|holder| read_status(self.path(), holder, now_ms()));
        let known = match published {
            Some(known) => known,
            None => self.known_from(contact)?,
        };
        Status::of(&self.store, known, now_ms())
    }

    /// The status while a replicator waits for another program, because of `error`. It is
    /// published, unless another replicator has the lock.
    pub(crate) fn announce_waiting(&self, error: &Error) -> Result<(Status, Option<Announcement>)> {
        let lock = Lock::take(self.path())?;
        let known = self.known_from(|_| Contact::Unasked)?;
        let known = known.in_state(SyncState::Starting).with_trouble(Some(error));
        let status = Status::of(&self.store, known.clone(), now_ms())?;
        Ok((status, lock.map(|lock| Announcement::new(lock, self.path(), known))))
    }

    /// When the remote last answered as it should: ms since 1970.
    pub(crate) fn last_success(&self) -> Result<Option<i64>> {
        remembered_success(&self.store, self.path())
    }

    /// Asks the remote for its facts. An error comes with the state that is shown.
    pub(crate) async fn ask(
        &self,
        remote: &dyn Remote,
        state: &State,
    ) -> Result<RemoteFacts, (Error, SyncState)> {
        ask(remote, &self.store, state).await
    }

    /// What is known without a running replicator: from the remote, if it is asked, and from the
    /// file.
    fn known_from(&self, contact: impl FnOnce(&State) -> Contact) -> Result<Known> {
        let state = self.store.state()?;
        let contact = contact(&state);
        let now = now_ms();
        let holder = Lock::holder(self.path());
        let (reached, remote, failed, trouble) = match contact {
            Contact::Unasked => (None, None, None, None),
            Contact::Unable(error) => (None, None, None, Some(error)),
            Contact::Failed(error, state) => {
                (Some(state != SyncState::Offline), None, Some(state), Some(error))
            }
            Contact::Answered(mut remote) => {
                let held = remote.take_held();
                (Some(true), Some(remote), held.as_ref().map(|_| SyncState::Trouble), held)
            }
        };
        let head = remote.as_ref().map_or(state.cursor().0, RemoteFacts::head);
        let last_success = match remote {
            Some(_) => Some(now),
            None => self.last_success()?,
        };
        let sync_state = match failed {
            Some(state) => state,
            None if holder.is_none() => SyncState::Stopped,
            None if head > state.cursor().0 || state.pending > 0 => SyncState::Syncing,
            None => SyncState::InStep,
        };
        let age = |made: i64| u64::try_from(now.saturating_sub(made) / 1_000).unwrap_or(0);
        let there = remote.and_then(|remote| remote.waiting_s());
        let waiting_s = state.oldest_pending_ms.map(age).max(there);
        let trouble = trouble.or_else(|| stopped(waiting_s?, holder.is_some(), HEALTH_BOUND_MS));
        Ok(Known::new(sync_state, HEALTH_BOUND_MS)
            .with_process(holder.and_then(|holder| holder.process))
            .with_remote(reached, head)
            .with_success(last_success)
            .with_unwritable(self.store.unwritable())
            .with_waiting(there)
            .with_trouble(trouble.as_ref()))
    }
}
