//! How much to push at once, and what to do with a push that the remote rejects as a whole.

use crate::event::EventId;
use crate::remote::statements::{MAX_EVENTS, MAX_PUSH_BYTES};
use crate::store::{Push, PushLimit};

/// The least byte limit that is tried; below it, an event travels alone whatever it weighs.
const MIN_BYTES: usize = 1 << 10;

/// What to do after a push did not go through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Push again: less, or without hints.
    Again,
    /// These are to blame: record them as rejected.
    Refuse(Vec<EventId>),
    /// Not even recording the rejection goes through, or the event is too large to travel at all.
    Stuck,
}

/// The limits of the next push.
///
/// * In health they are the greatest ones.
/// * After a rejection they close in on the culprit: first the hints about foreign keys go, then
///   the batch is halved until the culprit stands alone. Each push that goes through doubles them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PushLimits {
    events: usize,
    bytes: usize,
    without_hints: bool,
    searching: bool,
}

impl Default for PushLimits {
    fn default() -> Self {
        PushLimits {
            events: MAX_EVENTS,
            bytes: MAX_PUSH_BYTES,
            without_hints: false,
            searching: false,
        }
    }
}

/// Whether a push cannot be split: one event, or the two halves of a key change.
fn is_alone(push: &Push) -> bool {
    match push.events.as_slice() {
        [_] => true,
        [one, other] => other.pair == Some(one.id) || one.pair == Some(other.id),
        _ => false,
    }
}

impl PushLimits {
    /// The limits for [`Store::outgoing`](crate::store::Store::outgoing).
    pub(super) fn limit(&self) -> PushLimit {
        PushLimit { events: self.events, bytes: self.bytes }
    }

    /// Whether a culprit is being looked for.
    pub(super) fn is_searching(&self) -> bool {
        self.searching
    }

    /// A push was rejected: from now on one of its events is looked for.
    pub(super) fn suspect(&mut self, push: &Push) {
        self.searching = true;
        self.events = push.events.len();
    }

    /// Takes the hints off if they are under suspicion.
    pub(super) fn prepare(&self, push: &mut Push) {
        if self.without_hints {
            push.events.iter_mut().for_each(|event| event.late = false);
        }
    }

    /// A push went through.
    pub(super) fn accepted(&mut self) {
        self.events = (self.events * 2).min(MAX_EVENTS);
        self.bytes = (self.bytes * 2).min(MAX_PUSH_BYTES);
        self.without_hints = false;
        self.searching = self.events < MAX_EVENTS || self.bytes < MAX_PUSH_BYTES;
    }

    /// The remote rejected `push` for what is in it.
    pub(super) fn rejected(&mut self, push: &Push) -> Step {
        if !self.without_hints && push.events.iter().any(|event| event.late) {
            // The same events once more, and none that came since.
            self.without_hints = true;
            self.events = push.events.len();
            return Step::Again;
        }
        if !is_alone(push) {
            self.events = push.events.len().div_ceil(2);
            return Step::Again;
        }
        if push.events.iter().any(|event| event.refuse.is_some()) {
            return Step::Stuck;
        }
        Step::Refuse(push.events.iter().map(|event| event.id).collect())
    }

    /// The request, or its answer, was too large.
    pub(super) fn too_large(&mut self, push: &Push) -> Step {
        if is_alone(push) {
            // Recorded as rejected it would be as large; without its values, they would be lost.
            return Step::Stuck;
        }
        self.bytes = (self.bytes / 2).max(MIN_BYTES);
        self.events = push.events.len().div_ceil(2);
        Step::Again
    }
}
