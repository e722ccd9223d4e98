//! The size of the next push, and the bisection of a push that the remote rejects.

use crate::error::{Code, Error, Result};
use crate::event::verdict::TOO_LARGE;
use crate::event::{EventId, Op};
use crate::protocol::{Outgoing, Push};
use crate::store::{FkDeferral, PushLimit, are_bound};
use crate::sync::machine::io::PushSize;

/// The least byte limit that is tried. Below it, an event is sent alone whatever its size.
const MIN_BYTES: usize = 1 << 10;

/// The least request, in bytes, that a remote must accept. A remote that rejects a smaller one as
/// too large has a limit that nobody intended. A person must raise it, and no event is given up for
/// it. The limits of proxies begin at a megabyte.
const LARGE_BYTES: usize = 256 << 10;

/// An image without values.
const NOTHING: &str = "{}";

/// The decision after a push failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Push again: less, or more of the events that depend on each other, or in another order.
    Again,
    /// These events failed the push: record them as rejected.
    Refuse(Vec<EventId>),
    /// Not even recording the rejection is accepted, or the remote accepts next to nothing.
    Unpushable,
}

/// The limits of the next push, and the bisection. A bisection finds the event that makes a push
/// fail, the culprit.
///
/// * Outside of a bisection the limits are those of a request. Each accepted push doubles them, up
///   to the greatest ones. Events that depend on each other may exceed them, and are sent in parts.
/// * The remote judges the events in order and stops at the first one that fails. So the bisection
///   looks for the shortest push that is rejected. It has more than `above` events, and at most
///   `failing`. A shorter push is accepted, and its events are done.
/// * Events that depend on each other, like a cause and the consequences of its foreign keys, are
///   sent together and recorded as rejected together: a consequence loses if its cause lost.
/// * An event may wait for a later one because of a foreign key, and the later one may be after the
///   push. It defers its foreign keys in a bisection too, because the remote would otherwise judge
///   it without the later one. A push that separates the two fails for its foreign keys although
///   all its events were accepted. It has no culprit, and `above` is raised to its length.
/// * A push may have all events that its events wait for, and still fail for its foreign keys. Then
///   the later event is rejected itself. The push is sent once more with the later events first, so
///   that each event is judged when it arrives; only events that wait in a cycle defer. If that
///   fails too, nothing is deferred, and the push is halved.
///
/// So a bisection ends: each attempt reduces the gap between `above` and `failing`, or defers less,
/// or records one more event as rejected, or is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bisection {
    /// The greatest size of a request.
    most: PushSize,
    /// The present size of a request.
    request: PushSize,
    /// The most events of the next push in a bisection, if they do not depend on each other.
    events: usize,
    /// The bytes of the push with which the bisection began.
    bytes: usize,
    deferral: FkDeferral,
    /// A push of this many events has no culprit, and fails for its foreign keys.
    above: usize,
    /// The outbox number of the last of them. No event up to it is a culprit, although fewer of
    /// them may be left.
    cleared: i64,
    /// A push of this many events has a culprit; `usize::MAX` if no such push is known.
    failing: usize,
    /// Whether the large events of the next push are sent without old values, with which they do
    /// not fit.
    slim: bool,
    bisecting: bool,
}

/// The events of a push with an outbox number above `cleared`.
fn behind(push: &Push, cleared: i64) -> Vec<&Outgoing> {
    push.events.iter().filter(|event| event.n > cleared).collect()
}

/// Removes the values of events that are recorded as too large. Their writer's conflict inbox keeps
/// them.
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

/// Refuses to push an event that lacks an image which its op needs. In the remote log it would stop
/// every replica, because none could read it.
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
    /// The greatest limits.
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

    /// Whether they are the greatest ones.
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

    /// Whether a bisection is running.
    pub(super) fn is_bisecting(&self) -> bool {
        self.bisecting
    }

    /// A push was rejected: begins to bisect its events.
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

    /// A push was accepted.
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

    /// Begins the bisection again, from a push of this many events.
    fn begin(&mut self, events: usize, deferral: FkDeferral) {
        self.events = events;
        self.deferral = deferral;
        (self.above, self.cleared) = (0, 0);
        self.failing = usize::MAX;
    }

    /// The remote rejected `push` because of its content, with this code.
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
            // The shortest push that is complete by itself, if no culprit is in it.
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

    /// One of the events of `push` is the culprit. It comes after those that are known not to be
    /// one.
    fn has_culprit(&mut self, push: &Push) -> Decision {
        let len = push.events.len();
        let suspects = behind(push, self.cleared);
        if suspects.is_empty() {
            // The events before them were settled meanwhile.
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
            // The events before them wait for later ones, and are sent with them.
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

    /// A request with these events, or its answer, was too large.
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
