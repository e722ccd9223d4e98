//! The identity with which the machine pushes, and the source of ids.
//!
//! If a push is refused because another file has pushed with the same identity, this file becomes
//! another replica: it reads the log to its end, takes a new identity, and pushes with that. A
//! request that only pulls ignores a later incarnation, because a copy that only reads does no
//! harm.

use std::sync::Arc;

use ulid::Ulid;

use crate::error::Result;
use crate::event::ReplicaId;
use crate::event::clock::Clock;
use crate::protocol::incarnation::{Incarnations, MAX_ISSUED, Standing};
use crate::protocol::remote_tables::RemoteTables;
use crate::protocol::statements::{Reply, Sender};
use crate::store::State;
use crate::store::Store;
use crate::sync::machine::io::RequestId;
use crate::sync::machine::request::ExchangeRequest;

/// The identity of one machine.
pub(super) struct Identity {
    /// The replica, and the epoch of the remote that it belongs to; `None` before the first sync.
    known: Option<(ReplicaId, String)>,
    /// The push that was refused because another file uses this identity.
    renewing: Option<RequestId>,
    clock: Clock,
    /// For incarnations and identities: two copies of a file must not draw the same ones.
    seed: fastrand::Rng,
    /// For everything else.
    random: fastrand::Rng,
}

impl Identity {
    /// The identity of a file. `seed` is another number at each start.
    pub(super) fn of(state: &State, seed: u64, random: fastrand::Rng) -> Self {
        let known = state.epoch.clone().map(|epoch| (state.replica, epoch));
        let seed = fastrand::Rng::with_seed(seed);
        Identity { known, renewing: None, clock: Clock::default(), seed, random }
    }

    /// Continues with the clock and the random numbers of a machine that worked on an earlier state
    /// of the file, so that no id is issued twice.
    pub(super) fn take_over(&mut self, former: Identity) {
        (self.clock, self.seed, self.random) = (former.clock, former.seed, former.random);
    }

    /// The file has another identity, or belongs to another remote.
    pub(super) fn is_now(&mut self, state: State) {
        self.known = state.epoch.map(|epoch| (state.replica, epoch));
    }

    /// The replica and its remote's epoch, if its first sync is done.
    pub(super) fn known(&self) -> Option<(ReplicaId, String)> {
        self.known.clone()
    }

    pub(super) fn epoch(&self) -> Option<&str> {
        self.known.as_ref().map(|(_, epoch)| epoch.as_str())
    }

    /// A new id for a replica or a remote.
    pub(super) fn issue(&mut self, epoch_ms: u64) -> Ulid {
        self.clock.stamp(epoch_ms, self.seed.u128(..))
    }

    /// A new id for a unit of a push.
    pub(super) fn issue_unit(&mut self, epoch_ms: u64) -> Ulid {
        self.clock.stamp(epoch_ms, self.random.u128(..))
    }

    /// The sender of a push to these tables, with an incarnation that is issued and stored for it.
    pub(super) fn sender(
        &mut self,
        store: &mut Store,
        replica: ReplicaId,
        epoch: String,
        tables: Arc<RemoteTables>,
    ) -> Result<Sender> {
        let incarnations = store.issue_incarnation(self.seed.u128(..))?;
        Ok(Sender { replica, epoch, cursor: store.state()?.cursor(), incarnations, tables })
    }

    /// Records the remote's incarnation. Returns false if the push was refused because of it: then
    /// the file needs a new identity.
    pub(super) fn note_incarnation(
        &mut self,
        store: &mut Store,
        id: RequestId,
        request: &ExchangeRequest,
        incarnations: &Incarnations,
        reply: &Reply,
    ) -> Result<bool> {
        let found = reply.meta.as_ref().and_then(|meta| meta.incarnation.as_deref());
        match request.push() {
            Some(push) if reply.incarnation_is_there => {
                let incarnation = request.incarnation().expect("a push has an incarnation");
                store.confirm_incarnation(incarnation, reply.pushed.then_some(push.last_n))?;
                Ok(true)
            }
            Some(_) if incarnations.compare(found) == Standing::Behind => {
                tracing::warn!(
                    replica = %store.id(),
                    "another file has pushed under this replica's name: this one was copied or \
                     restored, and takes a new one"
                );
                self.renewing = Some(id);
                Ok(false)
            }
            Some(_) => Ok(true),
            None => {
                if incarnations.issued.len() >= MAX_ISSUED
                    && incarnations.compare(found) != Standing::Behind
                {
                    store.see_incarnation(found)?;
                }
                Ok(true)
            }
        }
    }

    /// Whether the log must be read to its end before a new identity is taken.
    pub(super) fn is_renewing(&self) -> bool {
        self.renewing.is_some()
    }

    /// Whether that needs another request than `last_read`, the last one that brought a page.
    pub(super) fn wants_read(&self, last_read: RequestId) -> bool {
        self.renewing.is_some_and(|refused| last_read < refused)
    }

    /// There is no reason for a new identity any more.
    pub(super) fn keep(&mut self) {
        self.renewing = None;
    }

    /// Takes a new identity, and stores it.
    pub(super) fn renew(&mut self, store: &mut Store, epoch_ms: u64, wall_ms: i64) -> Result<()> {
        let replica = ReplicaId(self.issue(epoch_ms));
        let former = store.id();
        store.take_identity(replica, wall_ms)?;
        tracing::warn!(%former, %replica, "this file is another replica from now on");
        if let Some((current, _)) = &mut self.known {
            *current = replica;
        }
        self.renewing = None;
        Ok(())
    }
}

/// Whether so many pushes had no answer that a request that only reads must come first.
pub(super) fn must_probe(store: &Store) -> Result<bool> {
    Ok(store.incarnations()?.issued.len() >= MAX_ISSUED)
}
