//! The push half of the machine: the events to push next, and the decision about a failed push.
//!
//! [`Pusher`] takes from the outbox as many events as fit into a request, or splits events that
//! depend on each other into parts ([`staging`]). While a push is in flight, the next one is read
//! ([`ahead`]). After a rejection it bisects the push to find the event that fails it ([`bisect`]).

mod ahead;
mod bisect;
pub(in crate::sync::machine) mod staging;

use std::sync::Arc;

use ulid::Ulid;

use crate::error::{Code, Error, Kind, Result};
use crate::event::EventId;
use crate::protocol::push::arrange;
use crate::protocol::remote_tables::RemoteTables;
use crate::protocol::{Outgoing, Push};
use crate::store::{PushLimit, Store};
use crate::sync::machine::io::{PushSize, Staged};
use ahead::{Ahead, Ready};
use bisect::{Bisection, Decision, check};
use staging::{Stage, Staging};

/// The events to push next.
pub(super) enum Load {
    /// Nothing.
    Nothing,
    /// Events that cannot be sent.
    Unpushable(Error),
    /// This.
    Push(PreparedPush),
}

/// A push, the id of its first unit, and the part that a request carries if it is larger than one.
pub(super) struct PreparedPush {
    push: Arc<Push>,
    unit: Ulid,
    stage: Option<Stage>,
    /// Whether it was just taken from the outbox.
    is_oversized: bool,
}

/// The decision about a part that was not stored.
pub(super) enum PartRejection {
    /// Send it again.
    Again,
    /// The remote is another one.
    OtherRemote,
    /// Hold pushes.
    Hold(Error),
}

/// The decision about a failed push.
pub(super) enum PushFailure {
    /// Send it again: less of it, or in another form.
    Again,
    /// Record these events as rejected, for this reason.
    Refuse(Vec<EventId>, String),
    /// Hold pushes.
    Hold(Error),
}

/// The push half of one machine.
/// * A staged push is sent before anything else is read from the outbox. It is dropped when this
///   replicator changes the outbox.
///   this replicator forgets it.
pub(super) struct Pusher {
    bisection: Bisection,
    staging: Option<Staging>,
    /// The next push, if it was read while another one is in flight.
    ahead: Option<Ahead>,
    /// The last outbox number of the push in flight, if the push after it should be read.
    reads_behind: Option<i64>,
    /// Whether the outbox may have something to push.
    unsent: bool,
    /// Whether the next exchange only reads, because the remote must be checked first.
    probe_first: bool,
    /// Whether the push and the page are sent as separate requests.
    split: bool,
    /// The most events of the next push, if the last one made too many runs otherwise.
    few_events: Option<usize>,
}

/// The most runs of a push whose events do not all depend on one another. Each run is some ten
/// statements, which a libSQL server compiles anew: 1.1 ms each on loopback, so that these take
/// less than three seconds of the five after which it ends a transaction for another writer.
const MAX_RUNS: usize = 2_500;

impl PreparedPush {
    pub(super) fn into_parts(self) -> (Arc<Push>, Ulid, Option<Stage>) {
        (self.push, self.unit, self.stage)
    }

    /// The warning about a push that is so large that the remote may not accept it in one
    /// transaction. It is shown before the push is tried.
    pub(super) fn oversized(&self) -> Option<Error> {
        if !self.is_oversized {
            return None;
        }
        let (events, tables) = (self.push.events.len(), self.push.named_tables());
        let message = format!(
            "{events} changes of {tables} depend on each other by foreign keys, and the remote \
             may not accept them in one transaction"
        );
        let hint = "they are pushed anyway, and none is rejected for their number; later changes \
            wait for them, and pulls continue";
        Some(Error::new(Code::TransactionTooLarge, message).with_hint(hint))
    }
}

impl Pusher {
    /// All events may be unsent. `most` is the greatest size of a push in one request.
    pub(super) fn new(most: PushSize) -> Self {
        Pusher {
            bisection: Bisection::new(most),
            staging: None,
            ahead: None,
            reads_behind: None,
            unsent: true,
            probe_first: false,
            split: false,
            few_events: None,
        }
    }

    /// Sets whether the outbox has something to push.
    pub(super) fn note_unsent(&mut self, unsent: bool) {
        self.unsent = unsent;
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.unsent
    }

    /// Makes the next request only read.
    pub(super) fn probe(&mut self) {
        self.probe_first = true;
    }

    /// Nothing must be read before the next push.
    pub(super) fn end_probe(&mut self) {
        self.probe_first = false;
    }

    pub(super) fn wants_probe(&self) -> bool {
        self.probe_first
    }

    /// Whether the push and the page are sent as separate requests.
    pub(super) fn is_split(&self) -> bool {
        self.split
    }

    /// Sends the push and the page as separate requests, until pushes have their greatest size
    /// again.
    pub(super) fn split(&mut self) {
        self.split = true;
    }

    /// An exchange succeeded.
    pub(super) fn join_if_full(&mut self) {
        self.split &= !self.bisection.are_full();
    }

    /// The staged push is no longer valid.
    pub(super) fn forget_staged(&mut self) {
        self.staging = None;
    }

    /// The events to push next, in the order that suits the remote's tables. `issue` makes the id
    /// of its first unit.
    ///
    /// # Errors
    ///
    /// `Storage` when the outbox cannot be read; `Corrupt` when an event lacks its values.
    pub(super) fn load(
        &mut self,
        store: &mut Store,
        tables: &Arc<RemoteTables>,
        issue: impl FnOnce() -> Ulid,
    ) -> Result<Load> {
        let mut is_oversized = false;
        self.reads_behind = None;
        if self.staging.is_none() {
            let limit = self.limit();
            let ahead = match self.ahead.take() {
                Some(ahead) => ahead.take(store, tables, limit)?,
                None => None,
            };
            let ready = match ahead {
                Some(ready) => ready,
                None => match self.read(store, tables, 0) {
                    Ok(Some(ready)) => ready,
                    Ok(None) => {
                        self.unsent = false;
                        return Ok(Load::Nothing);
                    }
                    Err(error) if error.kind() == Kind::TooLarge => {
                        return Ok(Load::Unpushable(error));
                    }
                    Err(error) => return Err(error),
                },
            };
            let (_, runs) = ready.counts();
            let push = ready.into_push();
            is_oversized = push.is_oversized() || runs > MAX_RUNS;
            let unit = issue();
            let size = self.bisection.of_request();
            let fits = push.events.len() <= size.events && push.bytes <= size.bytes;
            if fits || push.events.len() == 1 {
                let more = store.newest()? > push.last_n;
                self.reads_behind =
                    Some(push.last_n).filter(|_| more && !self.bisection.is_bisecting());
                let push = Arc::new(push);
                return Ok(Load::Push(PreparedPush { push, unit, stage: None, is_oversized }));
            }
            self.staging = Some(Staging::new(push, unit, size));
        }
        let staging = self.staging.as_ref().expect("it was staged just now, or before");
        let ((push, unit), stage) = (staging.push(), Some(staging.next()));
        Ok(Load::Push(PreparedPush { push, unit, stage, is_oversized }))
    }

    /// The limits of the next push.
    fn limit(&self) -> PushLimit {
        let limit = self.bisection.limit();
        match self.few_events {
            Some(events) if !self.bisection.is_bisecting() => few(limit, events),
            _ => limit,
        }
    }

    /// The push behind the outbox number `last_n`, as it is sent. One that makes too many runs is
    /// read again with fewer events. If they all depend on one another, it stays as it is.
    fn read(
        &mut self,
        store: &mut Store,
        tables: &RemoteTables,
        last_n: i64,
    ) -> Result<Option<Ready>> {
        let mut limit = self.limit();
        loop {
            let Some(push) = store.outgoing_behind(last_n, limit)? else { return Ok(None) };
            let ready = self.ready(push, tables)?;
            let (events, runs) = ready.counts();
            if runs <= MAX_RUNS || self.bisection.is_bisecting() {
                // Fewer events than were asked for are the last ones, or end where a group does.
                self.few_events = self.few_events.filter(|_| runs > MAX_RUNS / 4);
                return Ok(Some(ready));
            }
            let events = (events * MAX_RUNS / runs).max(1);
            if !limit.keeps_transactions && limit.events <= events {
                return Ok(Some(ready));
            }
            self.few_events = Some(events);
            limit = few(limit, events);
        }
    }

    /// A push in the form in which it is sent.
    fn ready(&self, mut push: Push, tables: &RemoteTables) -> Result<Ready> {
        check(&push)?;
        self.bisection.prepare(&mut push);
        let runs = arrange(&mut push, tables, self.bisection.of_request().runs);
        Ok(Ready::new(push, runs))
    }

    /// Whether the next push may be read while one is in flight.
    pub(super) fn may_read_ahead(&self) -> bool {
        self.reads_behind.is_some()
    }

    /// Reads the next push while one is in flight. An error is reported when it is due.
    pub(super) fn read_ahead(&mut self, store: &mut Store, tables: Option<Arc<RemoteTables>>) {
        let Some((last_n, tables)) = self.reads_behind.take().zip(tables) else { return };
        let Ok(Some(ready)) = self.read(store, &tables, last_n) else { return };
        self.ahead = Ahead::of(ready, store, &tables, self.limit(), last_n).unwrap_or_default();
    }

    /// The progress of a push that is sent in parts, if there is one.
    pub(super) fn staged(&self) -> Option<Staged> {
        self.staging.as_ref().map(Staging::progress)
    }

    /// The remote accepted a push.
    pub(super) fn accepted(&mut self, push: &Push) {
        for event in push.events.iter().filter(|event| event.refuse.is_some()) {
            tracing::warn!(table = event.table, key = %event.key, event = %event.id,
                "recorded as rejected");
        }
        self.bisection.accepted();
        self.staging = None;
    }

    /// The remote stored a part of a staged push.
    pub(super) fn part_arrived(&mut self, stage: &Stage) {
        if let Some(staging) = &mut self.staging {
            staging.arrived(stage);
        }
    }

    /// The remote did not store a part of a staged push.
    pub(super) fn part_rejected(&mut self, error: Error) -> PartRejection {
        if let Some(staging) = &mut self.staging
            && error.code() == Code::StagedTableMissing
            && staging.create_table()
        {
            return PartRejection::Again;
        }
        self.staging = None;
        if matches!(error.code(), Code::OwnTableMissing | Code::StagedTableMissing) {
            return PartRejection::OtherRemote;
        }
        PartRejection::Hold(error)
    }

    /// The remote rejected a push as a whole. The push is bisected, but only on a remote in good
    /// order: first a request that only reads is sent.
    pub(super) fn rejected(&mut self, push: &Push, error: Error) -> PushFailure {
        tracing::info!(events = push.events.len(), "a push was rejected: bisecting it");
        (self.staging, self.ahead) = (None, None);
        if !self.bisection.is_bisecting() && !self.probe_first {
            self.probe_first = true;
            self.bisection.suspect(push);
            return PushFailure::Again;
        }
        let decision = self.bisection.rejected(push, error.code());
        Self::failure(decision, &push.events, error.message().to_owned(), error)
    }

    /// A request with a push and a page, or its answer, was too large. It is not known which of the
    /// two was, so they are sent separately from now on, the page first.
    pub(super) fn separate(&mut self, push: &Push) {
        self.split = true;
        self.probe_first = true;
        self.bisection.suspect(push);
    }

    /// A request was too large with these events.
    pub(super) fn too_large(&mut self, events: &[Outgoing], error: Error) -> PushFailure {
        let decision = self.bisection.too_large(events);
        Self::failure(decision, events, crate::event::verdict::TOO_LARGE.to_owned(), error)
    }

    /// A request of a staged push, or its answer, was too large. The last request has no events, so
    /// if it also requests a page (`paged`), the page was too large.
    pub(super) fn staged_too_large(
        &mut self,
        stage: &Stage,
        paged: bool,
        error: Error,
    ) -> PushFailure {
        if paged {
            self.split = true;
            return PushFailure::Again;
        }
        let Some(staging) = self.staging.take() else { return PushFailure::Again };
        let events = staging.events_of(stage);
        if events.is_empty() {
            return PushFailure::Hold(takes_nothing(staging.push().0.as_ref(), error));
        }
        self.too_large(&events, error)
    }

    fn failure(
        decision: Decision,
        events: &[Outgoing],
        reason: String,
        error: Error,
    ) -> PushFailure {
        match decision {
            Decision::Again => PushFailure::Again,
            Decision::Refuse(ids) => PushFailure::Refuse(ids, reason),
            Decision::Unpushable => PushFailure::Hold(unpushable(events, error)),
        }
    }
}

/// The error for an event that can be neither pushed nor recorded as rejected.
fn unpushable(events: &[Outgoing], error: Error) -> Error {
    let event = events.first().expect("a push has events");
    let Outgoing { table, key, id, .. } = event;
    tracing::error!(table, %key, event = %id, "it can neither be pushed nor be recorded");
    let message = format!("event {id} of table `{table}` does not reach the remote: {error}");
    let code = match error.kind() {
        Kind::TooLarge => Code::EventTooLarge,
        _ => Code::EventUnpushable,
    };
    let unpushable = Error::new(code, message).with_source(error);
    match code {
        Code::EventTooLarge => {
            unpushable.with_hint("raise the remote's limit on the size of a request")
        }
        _ => unpushable,
    }
}

/// The limits with fewer events. Transactions may be separated.
fn few(limit: PushLimit, events: usize) -> PushLimit {
    PushLimit { events: limit.events.min(events), keeps_transactions: false, ..limit }
}

/// The error for a remote that refuses the last request of a staged push as too large. That
/// request has the statements and no events.
fn takes_nothing(push: &Push, error: Error) -> Error {
    let (events, tables) = (push.events.len(), push.named_tables());
    let message = format!(
        "the remote does not accept the request that applies {events} changes of {tables}, \
         which depend on one another: {error}"
    );
    Error::new(Code::RequestTooLarge, message)
        .with_hint("raise the remote's limit on the size of a request")
        .with_source(error)
}
