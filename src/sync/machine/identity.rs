//! What the machine does about who it is, and about which remote it speaks to.
//!
//! Every answer says which database the remote is, which event it has at this replica's place in
//! the log, and which of its marks ([`identity`](crate::identity)). A remote that is another one,
//! or that was rolled back, is left alone until a person decides: nothing is pushed, and nothing
//! that came in that answer is integrated. A push that was refused because another file has pushed
//! under the same name makes this file another replica: it reads the log to its end, takes a new
//! identity, and pushes under that. A request that only pulls leaves a later mark alone: a copy
//! that only reads does no harm.

use crate::error::{Code, Error, Result};
use crate::event::{ReplicaId, Seq};
use crate::identity::{MAX_DRAWN, Marks, Place, Standing};
use crate::remote::statements::{Asker, Meta, Reply, SCHEMA_VERSION, Sender};
use crate::sync::first_sync::preview::plan_of;
use crate::sync::first_sync::run::Init;
use crate::sync::machine::Machine;
use crate::sync::machine::error_policy::{other_remote, schema_version};
use crate::sync::machine::io::{RequestId, Ticket};
use crate::sync::machine::request::Asked;
use crate::sync::status::SyncState;

/// Why a remote is not spoken to any further, and the state that this is shown as.
pub(crate) type Refusal = (Error, SyncState);

/// Whether the remote is the one that a replica belongs to, with the log that it knows.
pub(crate) fn examine(
    epoch: Option<&str>,
    place: Place,
    marks: &Marks,
    meta: Option<&Meta>,
) -> Result<(), Refusal> {
    let Some(meta) = meta.filter(|meta| Some(meta.epoch.as_str()) == epoch) else {
        let found = meta.map(|meta| meta.epoch.as_str());
        return Err((other_remote(found), SyncState::OtherRemote));
    };
    if meta.version != SCHEMA_VERSION {
        return Err((schema_version(meta.version), SyncState::Refused));
    }
    let Place { seq, .. } = place;
    if meta.oldest.0 > seq.0.saturating_add(1) {
        let message = format!(
            "the remote keeps its log from event {} on, and this replica stands at {seq}",
            meta.oldest
        );
        let error = Error::new(Code::RemoteLogCompacted, message)
            .with_hint("this replica was away for too long: initialise a new one");
        return Err((error, SyncState::Refused));
    }
    if !place.is_in(meta.oldest, meta.there.as_deref()) {
        return Err((rolled_back(seq, meta.there.is_some()), SyncState::RolledBack));
    }
    if marks.compare(meta.mark.as_deref()) == Standing::Ahead {
        return Err((forgotten(), SyncState::RolledBack));
    }
    Ok(())
}

/// What to do about a log that is not the one that was read.
pub(in crate::sync) fn acceptable_hint() -> &'static str {
    "nothing is lost: what is pending stays; go on with the remote as it is by `driftless remote \
     accept`"
}

/// What to do about a remote that was rolled back.
const ROLLED_BACK: &str = "nothing was pushed or pulled; if it was restored from a backup on \
    purpose, go on with it by `driftless remote accept`";

/// The error for a remote whose log is not the one that was read up to `seq`.
fn rolled_back(seq: Seq, another: bool) -> Error {
    let message = if another {
        format!("the remote was rolled back: its event {seq} is another one than was read here")
    } else {
        format!("the remote was rolled back: it has no event {seq} any more")
    };
    Error::new(Code::RemoteRolledBack, message).with_hint(ROLLED_BACK)
}

/// The error for a remote that has lost what this replica pushed.
fn forgotten() -> Error {
    let message = "the remote was rolled back: it does not know this replica's last push any more";
    Error::new(Code::RemoteRolledBack, message).with_hint(ROLLED_BACK)
}

impl Machine {
    /// Who asks.
    pub(in crate::sync) fn asker(&self, replica: ReplicaId) -> Asker {
        Asker { replica, place: self.pages.place() }
    }

    /// Who pushes, with a mark that is drawn for this push and stored.
    pub(in crate::sync) fn sender(&mut self, replica: ReplicaId, epoch: String) -> Result<Sender> {
        let marks = self.store.draw_mark(self.dice.u128(..))?;
        Ok(Sender { replica, epoch, cursor: self.store.state()?.cursor, marks })
    }

    /// Whether so many pushes have had no answer that a look comes first.
    pub(in crate::sync) fn must_look(&self) -> Result<bool> {
        Ok(self.store.marks()?.drawn.len() >= MAX_DRAWN)
    }

    /// Takes note of the mark that the remote has. False if the push was refused for it.
    pub(in crate::sync) fn take_mark(
        &mut self,
        id: RequestId,
        asked: &Asked,
        marks: &Marks,
        reply: &Reply,
    ) -> Result<bool> {
        let found = reply.meta.as_ref().and_then(|meta| meta.mark.as_deref());
        match &asked.push {
            Some((push, _, sender)) if reply.marked => {
                let mark = *sender.marks.drawn.last().expect("a push has a mark");
                self.store.confirm_mark(mark, reply.pushed.then_some(push.last_n))?;
                Ok(true)
            }
            Some(_) if marks.compare(found) == Standing::Behind => {
                tracing::warn!(
                    replica = %self.store.id(),
                    "another file has pushed under this replica's name: this one was copied or \
                     restored, and takes a new one"
                );
                self.renewing = Some(id);
                Ok(false)
            }
            Some(_) => Ok(true),
            None => {
                if marks.drawn.len() >= MAX_DRAWN && marks.compare(found) != Standing::Behind {
                    self.store.see_mark(found)?;
                }
                Ok(true)
            }
        }
    }

    /// Begins the first contact with a remote that was refused.
    pub(in crate::sync) fn accept_remote(&mut self, ticket: Ticket) {
        let refused = matches!(self.state, SyncState::OtherRemote | SyncState::RolledBack);
        if refused {
            match self.store.state() {
                Ok(state) => {
                    let now_ms = u64::try_from(self.now.wall_ms).unwrap_or(0);
                    let replica = ReplicaId(self.clock.stamp(now_ms, self.dice.u128(..)));
                    let epoch = self.clock.stamp(now_ms, self.dice.u128(..));
                    let plan = plan_of(&self.store, state.url.clone(), replica, epoch);
                    tracing::warn!(former = %state.replica, %replica, "the remote is accepted");
                    self.init = Some(Init::accepting(plan, replica, state.url));
                    self.flight = None;
                    self.renewing = None;
                    self.trouble = None;
                    self.push_trouble = None;
                    self.trust_definitions();
                    self.state = SyncState::FirstSync;
                    self.changed();
                }
                Err(error) => self.local_trouble(error),
            }
        }
        self.sync_now(ticket);
    }

    /// Whether the log is still to be read to its end before a new identity is taken.
    pub(in crate::sync) fn is_renewing(&self) -> bool {
        self.renewing.is_some()
    }

    /// Whether that takes another request.
    pub(in crate::sync) fn wants_look(&self) -> bool {
        self.renewing.is_some_and(|refused| self.last_look < refused)
    }

    /// Takes a new identity, if one is to be taken and the log is read to its end.
    pub(in crate::sync) fn renew(&mut self) {
        let caught_up = self.is_renewing()
            && !self.wants_look()
            && self.flight.is_none()
            && self.pages.front().is_none()
            && !self.pages.more();
        if !caught_up || self.now.steady_ms < self.retry_at {
            return;
        }
        let now_ms = u64::try_from(self.now.wall_ms).unwrap_or(0);
        let replica = ReplicaId(self.clock.stamp(now_ms, self.dice.u128(..)));
        let former = self.store.id();
        if let Err(error) = self.store.take_identity(replica, self.now.wall_ms) {
            return self.local_trouble(error);
        }
        tracing::warn!(%former, %replica, "this file is another replica from now on");
        if let Some((current, _)) = &mut self.identity {
            *current = replica;
        }
        self.renewing = None;
        self.staging = None;
        self.look_at_outbox();
        self.changed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventId;
    use crate::identity::Mark;

    #[test]
    fn a_remote_is_spoken_to_if_it_is_ours_and_has_forgotten_nothing() {
        let id = EventId(ulid::Ulid(7));
        let place = Place { seq: Seq(5), id: Some(id) };
        let confirmed = Mark { count: 3, chance: 1 };
        let marks = Marks { confirmed: Some(confirmed), drawn: Vec::new() };
        let well = Meta {
            epoch: "e".to_owned(),
            version: SCHEMA_VERSION,
            oldest: Seq(1),
            there: Some(id.to_string()),
            mark: Some(confirmed.to_string()),
        };
        let state = |meta: Meta| {
            examine(Some("e"), place, &marks, Some(&meta)).err().map(|(_, state)| state)
        };
        assert_eq!(state(well.clone()), None);
        for epoch in [None, Some("f")] {
            let (_, state) = examine(epoch, place, &marks, Some(&well)).unwrap_err();
            assert_eq!(state, SyncState::OtherRemote);
        }
        let (error, other) = examine(Some("e"), place, &marks, None).unwrap_err();
        assert_eq!(other, SyncState::OtherRemote);
        assert_eq!(error.code(), Code::OtherRemote, "{error}");
        let version = SCHEMA_VERSION + 1;
        assert_eq!(state(Meta { version, ..well.clone() }), Some(SyncState::Refused));
        // The log may begin right behind the place, and no later.
        let kept_from = |oldest| Meta { oldest: Seq(oldest), there: None, ..well.clone() };
        assert_eq!(state(kept_from(6)), None);
        assert_eq!(state(kept_from(7)), Some(SyncState::Refused));
        // The event at the place is gone, or is another one; or our last push is.
        let other = Some(EventId(ulid::Ulid(8)).to_string());
        let message = |there: Option<String>| {
            let meta = Meta { there, ..well.clone() };
            let (error, state) = examine(Some("e"), place, &marks, Some(&meta)).unwrap_err();
            assert_eq!(state, SyncState::RolledBack);
            error.message().to_owned()
        };
        assert!(message(None).contains("has no event 5"));
        assert!(message(other).contains("its event 5 is another one"));
        assert_eq!(state(Meta { mark: None, ..well.clone() }), Some(SyncState::RolledBack));
        let copy = Some(Mark { count: 4, chance: 2 }.to_string());
        assert_eq!(state(Meta { mark: copy, ..well }), None, "a copy is told apart by its push");
    }
}
