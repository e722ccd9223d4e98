//! How much to push at once, and the bisection of a push that the remote rejects as a whole.

use crate::error::{Code, Error, Result};
use crate::event::verdict::TOO_LARGE;
use crate::event::{EventId, Op};
use crate::protocol::{Outgoing, Push};
use crate::store::{FkDeferral, PushLimit, are_bound};
use crate::sync::machine::io::PushSize;

/// The least byte limit that is tried. Below it, an event travels alone whatever its size.
const MIN_BYTES: usize = 1 << 10;

/// A remote that finds less than this too large, in bytes, has a limit that nobody intended: a
/// person must raise it, and no change is given up for it. The limits of proxies begin at a
/// megabyte.
const LARGE_BYTES: usize = 256 << 10;

/// An image without values.
const NOTHING: &str = "{}";

/// The decision after a push failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Push again: less, or more of what hangs together, or in another order.
    Again,
    /// These are to blame: record them as rejected.
    Refuse(Vec<EventId>),
    /// Not even recording the rejection goes through, or the remote takes next to nothing.
    Unpushable,
}

/// The limits of the next push, and the bisection, which finds the event that makes a push fail:
/// the culprit.
///
/// * Outside of a search the limits are those of a request. Each push that goes through doubles
///   them, up to the greatest there are. Events that hang together may be larger, and travel in
///   parts.
/// * The remote takes the events in their order and stops at the first that it cannot take. So the
///   search is for the shortest push that is rejected: of more than `above` events, and at most
///   `failing`. A shorter one goes through and is done with.
/// * Events that hang together, as a cause and the consequences of its foreign keys, go together
///   and are recorded as rejected together: a consequence loses if its cause lost.
/// * An event may wait for a later one, for a foreign key's sake, and that one may be behind the
///   push. It defers its foreign keys in the search too, or the remote would judge it without the
///   one that it waits for. A push that parts the two fails for its foreign keys although all
///   its events were taken: it has no culprit, and `above` is raised to it.
/// * A push that has all that its events wait for, and fails for its foreign keys, defers one that
///   stays broken: the later event is rejected. The push goes once more with the later events moved
///   to the front, so that each event is judged by what is there; only events that wait in a cycle
///   defer. If that fails too, the push goes with nothing deferred, and is halved.
///
/// So the search ends: each try has a smaller gap between `above` and `failing`, or defers less, or
/// records one event more as rejected, or goes through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bisection {
    /// The most that a request carries when all is well.
    most: PushSize,
    /// The most that a request carries now.
    request: PushSize,
    /// The most events of the next push in a search, if they do not hang together.
    events: usize,
    /// The bytes of the push that the search began with.
    bytes: usize,
    deferral: FkDeferral,
    /// A push of so many events has no culprit, and fails for its foreign keys.
    above: usize,
    /// The number in the outbox of the last of them: none up to it is a culprit, though fewer may
    /// be left of them.
    cleared: i64,
    /// A push of so many events has a culprit; `usize::MAX` if none is known to have one.
    failing: usize,
    /// The large events of the next push go without old values, which they do not fit with.
    slim: bool,
    bisecting: bool,
}

/// The events of a push with a higher number in the outbox than this.
fn behind(push: &Push, cleared: i64) -> Vec<&Outgoing> {
    push.events.iter().filter(|event| event.n > cleared).collect()
}

/// Takes the values out of events that are recorded as too large. They stay in their writer's
/// conflict inbox.
fn strip(push: &mut Push) {
    let large = |event: &&mut Outgoing| event.refuse.as_deref() == Some(TOO_LARGE);
    for event in push.events.iter_mut().filter(large) {
        for image in [&mut event.before, &mut event.after].into_iter().flatten() {
            *image = NOTHING.to_owned();
        }
        event.image = None;
        event.plain = true;
    }
}

/// Refuses to push an event without the images that its op asks for. In the remote log it would
/// stop every replica, since none could read it.
///
/// # Errors
///
/// `Corrupt`, naming the event.
pub(super) fn check(push: &Push) -> Result<()> {
    let lacks = |event: &&Outgoing| match event.op {
        Op::Insert => event.after.is_none(),
        Op::Update => event.before.is_none() || event.after.is_none(),
        Op::Delete => event.before.is_none() || event.after.is_some(),
    };
    match push.events.iter().find(lacks) {
        None => Ok(()),
        Some(event) => Err(Error::new(
            Code::OutboxDamaged,
            format!("event {} of table `{}` lacks its values in the outbox", event.id, event.table),
        )
        .with_hint("the outbox was written by another version of driftless: update this program")),
    }
}

impl Bisection {
    /// The limits when all is well.
    pub(super) fn new(most: PushSize) -> Self {
        Bisection {
            most,
            request: most,
            events: most.events,
            bytes: 0,
            deferral: FkDeferral::All,
            above: 0,
            cleared: 0,
            failing: usize::MAX,
            slim: false,
            bisecting: false,
        }
    }

    /// Whether they are the limits when all is well.
    pub(super) fn are_full(&self) -> bool {
        *self == Bisection::new(self.most)
    }

    /// The limits for [`Store::outgoing_behind`](crate::store::Store::outgoing_behind).
    pub(super) fn limit(&self) -> PushLimit {
        if !self.bisecting {
            return PushLimit::of(self.request.events, self.request.bytes);
        }
        PushLimit {
            events: self.events,
            bytes: self.bytes.max(self.request.bytes),
            above: self.above,
            lookahead: self.events.max(self.most.events),
            deferral: self.deferral,
            keeps_transactions: false,
        }
    }

    /// The most events and bytes of events in a request. One event may be larger.
    pub(super) fn of_request(&self) -> PushSize {
        self.request
    }

    /// Whether a culprit is searched.
    pub(super) fn is_bisecting(&self) -> bool {
        self.bisecting
    }

    /// A push was rejected: from now on the culprit among its events is searched.
    pub(super) fn suspect(&mut self, push: &Push) {
        self.bisecting = true;
        self.events = push.events.len();
        self.bytes = push.bytes;
    }

    /// Removes the values that are known not to fit into a request.
    pub(super) fn prepare(&self, push: &mut Push) {
        strip(push);
        if self.slim {
            let large = push.events.iter_mut().filter(|event| event.weight() >= LARGE_BYTES);
            let before = large.filter_map(|event| event.before.as_mut());
            before.for_each(|before| NOTHING.clone_into(before));
        }
    }

    /// A push went through.
    pub(super) fn accepted(&mut self) {
        self.request.events = (self.request.events * 2).min(self.most.events);
        self.request.bytes = (self.request.bytes * 2).min(self.most.bytes);
        self.begin((self.events * 2).min(self.most.events), FkDeferral::All);
        self.slim = false;
        self.bisecting &= self.events < self.most.events;
        if !self.bisecting {
            (self.events, self.bytes) = (self.most.events, 0);
        }
    }

    /// Begins the search anew, from a push of so many events.
    fn begin(&mut self, events: usize, deferral: FkDeferral) {
        self.events = events;
        self.deferral = deferral;
        (self.above, self.cleared) = (0, 0);
        self.failing = usize::MAX;
    }

    /// The remote rejected `push` for its content, with this code.
    pub(super) fn rejected(&mut self, push: &Push, code: Code) -> Decision {
        let len = push.events.len();
        if !self.bisecting {
            self.suspect(push);
        }
        let deferred = push.events.iter().any(|event| event.defer_fk);
        let foreign = code == Code::ForeignKeyFailed;
        match self.deferral {
            FkDeferral::All if deferred && foreign => self.parted(push),
            FkDeferral::CyclesOnly if deferred && foreign => {
                self.begin(len, FkDeferral::Never);
                Decision::Again
            }
            _ => self.has_culprit(push),
        }
    }

    /// A push failed for its foreign keys. Some of its events wait for a later event, which may be
    /// after the push, or may never come.
    fn parted(&mut self, push: &Push) -> Decision {
        let len = push.events.len();
        let gap = self.failing.saturating_sub(len);
        let most = match push.self_contained {
            // The least that goes through by itself, if there is no culprit in it.
            events if events > len && events < self.failing => events,
            events if events > len => len + gap.div_ceil(2),
            _ => len,
        };
        if len < most {
            (self.above, self.cleared) = (len, push.last_n);
            self.events = most;
        } else {
            self.begin(len, FkDeferral::CyclesOnly);
        }
        Decision::Again
    }

    /// One of the events of `push` is the culprit, behind those that are known to be none.
    fn has_culprit(&mut self, push: &Push) -> Decision {
        let len = push.events.len();
        let suspects = behind(push, self.cleared);
        if suspects.is_empty() {
            // The events in front have been settled meanwhile.
            self.begin(len, self.deferral);
            return Decision::Again;
        }
        if !are_bound(&push.events, self.cleared) {
            (self.failing, self.above) = (len, len - suspects.len());
            self.events = self.above + suspects.len() / 2;
            return Decision::Again;
        }
        if suspects.iter().all(|event| event.refuse.is_none()) {
            let ids = suspects.iter().map(|event| event.id).collect();
            // The events in front wait for later ones, and go together with them.
            let events = if suspects.len() < len { len.max(self.most.events) } else { len };
            self.begin(events, self.deferral);
            return Decision::Refuse(ids);
        }
        if suspects.len() == len {
            return Decision::Unpushable;
        }
        self.begin(len, FkDeferral::CyclesOnly);
        Decision::Again
    }

    /// A request that carried these events, or its answer, was too large.
    pub(super) fn too_large(&mut self, events: &[Outgoing]) -> Decision {
        let weight: usize = events.iter().map(Outgoing::weight).sum();
        let [event] = events else {
            self.request.events = events.len().div_ceil(2);
            self.request.bytes = (self.request.bytes.min(weight) / 2).max(MIN_BYTES);
            return Decision::Again;
        };
        if weight < LARGE_BYTES {
            return Decision::Unpushable;
        }
        if !self.slim && event.before.as_deref().is_some_and(|old| old != NOTHING) {
            // Other replicas need only the new values. So a row with a photo can be deleted.
            self.slim = true;
            return Decision::Again;
        }
        Decision::Refuse(vec![event.id])
    }
}

#[cfg(test)]
mod tests;
