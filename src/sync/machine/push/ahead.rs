//! The next push, which is read and put in order while a push is in flight.
//!
//! Reading the outbox and putting the events in order takes a third of a push's time. The remote
//! needs the rest. A push that was read ahead is used only if it is what would be read now: the
//! outbox was sent up to where it begins, the limits are the same, and neither side has other
//! definitions.

use std::sync::Arc;

use crate::error::Result;
use crate::protocol::Push;
use crate::protocol::remote_tables::RemoteTables;
use crate::store::{OutboxState, PushLimit, Store};

/// A push in the order in which it is sent.
pub(super) struct Ready {
    push: Push,
    runs: usize,
}

impl Ready {
    /// A push whose events make so many runs.
    pub(super) fn new(push: Push, runs: usize) -> Ready {
        Ready { push, runs }
    }

    /// How many events it has, and how many runs they make.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.push.events.len(), self.runs)
    }

    pub(super) fn into_push(self) -> Push {
        self.push
    }
}

/// A push that was read ahead.
pub(super) struct Ahead {
    ready: Ready,
    /// The state of the outbox for which it was read: the state after the previous push is
    /// accepted.
    state: OutboxState,
    limit: PushLimit,
    tables: Arc<RemoteTables>,
}

impl Ahead {
    /// The push after the one that ends with the outbox number `last_n`. `None` if it is short,
    /// because there may be more events when it is due.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub(super) fn of(
        ready: Ready,
        store: &Store,
        tables: &Arc<RemoteTables>,
        limit: PushLimit,
        last_n: i64,
    ) -> Result<Option<Ahead>> {
        let push = &ready.push;
        if push.events.len() < limit.events / 2 && push.bytes < limit.bytes / 2 {
            return Ok(None);
        }
        let state = OutboxState { sent: last_n, ..store.outbox_state()? };
        Ok(Some(Ahead { ready, state, limit, tables: Arc::clone(tables) }))
    }

    /// The push, if it is the next one.
    pub(super) fn take(
        self,
        store: &Store,
        tables: &Arc<RemoteTables>,
        limit: PushLimit,
    ) -> Result<Option<Ready>> {
        let fits = self.limit == limit
            && Arc::ptr_eq(&self.tables, tables)
            && store.outbox_state()? == self.state;
        Ok(fits.then_some(self.ready))
    }
}
