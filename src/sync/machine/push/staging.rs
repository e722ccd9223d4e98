//! A push that is larger than a request: which of its parts are on the remote.
//!
//! What hangs together reaches the remote in one transaction. Where a request cannot carry all of
//! it, the parts go first, each in a request that may be repeated, and a last request makes them
//! take effect ([`PushPart`]). The parts stay in memory until the remote has answered that.

use std::sync::Arc;

use ulid::Ulid;

use crate::error::{Code, Error, Kind, Result};
use crate::event::ReplicaId;
use crate::remote::statements::{Parcel, PushPart};
use crate::store::{Outgoing, Push};
use crate::sync::machine::Machine;
use crate::sync::machine::error_policy::other_remote;
use crate::sync::machine::push::bisect::check;
use crate::sync::status::SyncState;

/// A push on its way in parts.
pub(in crate::sync) struct Staging {
    push: Arc<Push>,
    parcel: Arc<Parcel>,
    token: Ulid,
    /// How many of the parts are on the remote.
    done: usize,
    /// The remote lacks the table for them.
    create: bool,
}

/// How far a push is that travels in parts: nothing of it has taken effect yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The events of the push. They hang together.
    pub events: usize,
    /// The parts that are on the remote.
    pub done: usize,
    /// All parts.
    pub parts: usize,
}

/// What a request carries of it.
#[derive(Clone)]
pub(in crate::sync) struct Stage {
    parcel: Arc<Parcel>,
    token: Ulid,
    /// The part, or none where all of them are to take effect.
    part: Option<usize>,
    create: bool,
}

/// What is to be pushed: the push, its unit, and what a request carries of it if it is larger than
/// one.
pub(in crate::sync) type Load = (Arc<Push>, Ulid, Option<Stage>);

impl Staging {
    /// Begins to send `push` in parts of at most so many events and bytes of events.
    pub(in crate::sync) fn new(push: Push, token: Ulid, of_request: (usize, usize)) -> Staging {
        let parcel = Arc::new(Parcel::pack(&push.events, of_request));
        Staging { push: Arc::new(push), parcel, token, done: 0, create: false }
    }

    /// How many of the parts are on the remote.
    fn progress(&self) -> Staged {
        let (events, parts) = (self.push.events.len(), self.parcel.parts());
        Staged { events, done: self.done, parts }
    }

    /// The push, as its last request names it.
    pub(in crate::sync) fn push(&self) -> (Arc<Push>, Ulid) {
        (Arc::clone(&self.push), self.token)
    }

    /// What goes next.
    pub(in crate::sync) fn next(&self) -> Stage {
        let part = (self.done < self.parcel.parts()).then_some(self.done);
        Stage { parcel: Arc::clone(&self.parcel), token: self.token, part, create: self.create }
    }
}

impl Stage {
    /// Whether only a part is sent, and nothing takes effect yet.
    pub(in crate::sync) fn is_part(&self) -> bool {
        self.part.is_some()
    }

    /// All of it, where it is to take effect.
    pub(in crate::sync) fn whole(&self) -> Option<&Parcel> {
        self.part.is_none().then_some(&*self.parcel)
    }

    /// The part that is sent.
    pub(in crate::sync) fn part<'a>(
        &'a self,
        replica: ReplicaId,
        epoch: &'a str,
    ) -> Option<PushPart<'a>> {
        let &Stage { ref parcel, token, part, create } = self;
        part.map(|part| PushPart { parcel, part, token, replica, epoch, create })
    }
}

impl Machine {
    /// What is to be pushed next: the push and its unit, and, if it is larger than a request, what
    /// goes of it.
    pub(in crate::sync) fn load(&mut self) -> Result<Option<Load>> {
        if self.staging.is_none() {
            let mut push = match self.store.outgoing(self.limits.limit()) {
                Ok(Some(push)) => push,
                Ok(None) => {
                    self.unsent = false;
                    return Ok(None);
                }
                Err(error) if error.kind() == Kind::TooLarge => {
                    self.hold_push(error);
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            check(&push)?;
            self.say_oversized(&push);
            self.limits.prepare(&mut push);
            let now_ms = u64::try_from(self.now.wall_ms).unwrap_or(0);
            let unit = self.clock.stamp(now_ms, self.random.u128(..));
            let (events, bytes) = self.limits.of_request();
            if push.events.len() == 1 || (push.events.len() <= events && push.bytes <= bytes) {
                return Ok(Some((Arc::new(push), unit, None)));
            }
            self.staging = Some(Staging::new(push, unit, (events, bytes)));
        }
        Ok(self.staging.as_ref().map(|staging| {
            let (push, unit) = staging.push();
            (push, unit, Some(staging.next()))
        }))
    }

    /// How far a push is that travels in parts, if one does.
    pub(in crate::sync) fn staged(&self) -> Option<Staged> {
        self.staging.as_ref().map(Staging::progress)
    }

    /// Notes in the file when a large transaction begins to arrive in parts, and when it is there.
    pub(in crate::sync) fn note_parts(&mut self) {
        let in_parts = self.pages.in_parts();
        if std::mem::replace(&mut self.in_parts, in_parts) != in_parts
            && let Err(error) = self.store.set_in_parts(in_parts)
        {
            self.local_trouble(error);
        }
    }

    /// A part has arrived.
    pub(in crate::sync) fn part_arrived(&mut self, stage: &Stage) {
        let Some(staging) = &mut self.staging else { return };
        if staging.token == stage.token && stage.part == Some(staging.done) {
            staging.done += 1;
            staging.create = false;
        }
    }

    /// A part did not arrive, because it was too large or the remote refused to keep it.
    pub(in crate::sync) fn part_rejected(&mut self, error: Error) {
        if let Some(staging) = &mut self.staging
            && !staging.create
            && error.code() == Code::StagedTableMissing
        {
            staging.create = true;
            return;
        }
        self.staging = None;
        if matches!(error.code(), Code::OwnTableMissing | Code::StagedTableMissing) {
            return self.refused(other_remote(None), SyncState::OtherRemote);
        }
        self.hold_push(error);
    }

    /// The events of a part, if it is still to be sent.
    pub(in crate::sync) fn events_of(&self, stage: &Stage) -> Vec<Outgoing> {
        let staging = self.staging.as_ref().filter(|staging| staging.token == stage.token);
        let range = stage.part.map(|part| stage.parcel.range(part));
        let events = staging.zip(range).map(|(staging, range)| staging.push.events[range].to_vec());
        events.unwrap_or_default()
    }
}
