//! A push that is larger than a request, and its parts that are on the remote.
//!
//! Events that depend on each other must reach the remote in one transaction. If a request cannot
//! carry all of them, the parts are sent first, each in a request that may be repeated. A last
//! request makes them take effect ([`PushPart`]). The parts stay in memory until the remote has
//! answered that one.

use std::sync::Arc;

use ulid::Ulid;

use crate::event::ReplicaId;
use crate::protocol::statements::{PushPart, PushPayload};
use crate::protocol::{Outgoing, Push};
use crate::sync::machine::io::{PushSize, Staged};

/// A push that is sent in parts.
pub(super) struct Staging {
    push: Arc<Push>,
    payload: Arc<PushPayload>,
    token: Ulid,
    /// The number of parts that are on the remote.
    done: usize,
    /// Whether the remote lacks the table for them.
    create: bool,
}

/// The part of it that a request carries.
#[derive(Clone)]
pub(in crate::sync::machine) struct Stage {
    payload: Arc<PushPayload>,
    token: Ulid,
    /// The part; `None` for the request that makes all of them take effect.
    part: Option<usize>,
    create: bool,
}

impl Staging {
    /// Begins to send `push` in parts of at most this size.
    pub(super) fn new(push: Push, token: Ulid, size: PushSize) -> Staging {
        let payload = Arc::new(PushPayload::pack(&push.events, size.events, size.bytes));
        Staging { push: Arc::new(push), payload, token, done: 0, create: false }
    }

    /// The number of parts that are on the remote.
    pub(super) fn progress(&self) -> Staged {
        let (events, parts) = (self.push.events.len(), self.payload.parts());
        Staged { events, done: self.done, parts }
    }

    /// The push, for its last request.
    pub(super) fn push(&self) -> (Arc<Push>, Ulid) {
        (Arc::clone(&self.push), self.token)
    }

    /// The next request.
    pub(super) fn next(&self) -> Stage {
        let part = (self.done < self.payload.parts()).then_some(self.done);
        Stage { payload: Arc::clone(&self.payload), token: self.token, part, create: self.create }
    }

    /// The request with this stage has arrived: the next part is the one after it.
    pub(super) fn arrived(&mut self, stage: &Stage) {
        if self.token == stage.token && stage.part == Some(self.done) {
            self.done += 1;
            self.create = false;
        }
    }

    /// The remote lacks the table for parts: the next request creates it. Returns false if the last
    /// one did already.
    pub(super) fn create_table(&mut self) -> bool {
        !std::mem::replace(&mut self.create, true)
    }

    /// The events of a part, if it is a part of this push.
    pub(super) fn events_of(&self, stage: &Stage) -> Vec<Outgoing> {
        let part = stage.part.filter(|_| self.token == stage.token);
        let range = part.map(|part| stage.payload.range(part));
        range.map(|range| self.push.events[range].to_vec()).unwrap_or_default()
    }
}

impl Stage {
    /// Whether the request carries only a part, which takes no effect yet.
    pub(in crate::sync::machine) fn is_part(&self) -> bool {
        self.part.is_some()
    }

    /// The whole push, for the request that makes it take effect.
    pub(in crate::sync::machine) fn whole(&self) -> Option<&PushPayload> {
        self.part.is_none().then_some(&*self.payload)
    }

    /// The part that is sent.
    pub(in crate::sync::machine) fn part<'a>(
        &'a self,
        replica: ReplicaId,
        epoch: &'a str,
    ) -> Option<PushPart<'a>> {
        let &Stage { ref payload, token, part, create } = self;
        part.map(|part| PushPart { payload, part, token, replica, epoch, create })
    }
}
