//! How much to push at once, and what to do with a push that the remote rejects as a whole.

use crate::error::{Error, Result};
use crate::event::{EventId, Op};
use crate::remote::statements::{MAX_EVENTS, MAX_PUSH_BYTES};
use crate::store::{Outgoing, Push, PushLimit};
use crate::verdict::TOO_LARGE;

/// The least byte limit that is tried; below it, an event travels alone whatever it weighs.
const MIN_BYTES: usize = 1 << 10;

/// A remote that finds less than this too large, in bytes, has a limit that nobody meant: a person
/// must raise it, and no change is given up for it. Proxies begin at a megabyte.
const LARGE_BYTES: usize = 256 << 10;

/// An image without values.
const NOTHING: &str = "{}";

/// What to do after a push did not go through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Push again: less, or without hints.
    Again,
    /// These are to blame: record them as rejected.
    Refuse(Vec<EventId>),
    /// Not even recording the rejection goes through, or the remote takes next to nothing.
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
    /// The next push goes without old values, which it does not fit with.
    slim: bool,
    searching: bool,
}

impl Default for PushLimits {
    fn default() -> Self {
        PushLimits {
            events: MAX_EVENTS,
            bytes: MAX_PUSH_BYTES,
            without_hints: false,
            slim: false,
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

/// The bytes of the events' keys and images.
fn weight(push: &Push) -> usize {
    let of = |event: &Outgoing| {
        let images = [&event.before, &event.after, &event.image];
        event.key.0.len() + images.into_iter().flatten().map(String::len).sum::<usize>()
    };
    push.events.iter().map(of).sum()
}

/// Takes the values out of events that are recorded as too large: they stay with their writer.
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
        Some(event) => Err(Error::corrupt(format!(
            "event {} of table `{}` lacks its values in the outbox",
            event.id, event.table
        ))
        .with_hint("the outbox was written by another version of driftless: update this program")),
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

    /// Takes off what is under suspicion, and what is known not to travel.
    pub(super) fn prepare(&self, push: &mut Push) {
        strip(push);
        if self.slim {
            let before = push.events.iter_mut().filter_map(|event| event.before.as_mut());
            before.for_each(|before| NOTHING.clone_into(before));
        }
        if self.without_hints {
            push.events.iter_mut().for_each(|event| event.late = false);
        }
    }

    /// A push went through.
    pub(super) fn accepted(&mut self) {
        self.events = (self.events * 2).min(MAX_EVENTS);
        self.bytes = (self.bytes * 2).min(MAX_PUSH_BYTES);
        self.without_hints = false;
        self.slim = false;
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
            if weight(push) < LARGE_BYTES {
                return Step::Stuck;
            }
            let old = |event: &Outgoing| event.before.as_deref().is_some_and(|old| old != NOTHING);
            if !self.slim && push.events.iter().any(old) {
                // What it changed is enough for the others. A row with a photo can be deleted so.
                self.slim = true;
                return Step::Again;
            }
            return Step::Refuse(push.events.iter().map(|event| event.id).collect());
        }
        self.bytes = (self.bytes / 2).max(MIN_BYTES);
        self.events = push.events.len().div_ceil(2);
        Step::Again
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;
    use crate::event::{RowKey, Seq};

    fn event(n: i64) -> Outgoing {
        Outgoing {
            n,
            id: EventId(Ulid::from_parts(1, n as u128)),
            actor: None,
            table: "t".to_owned(),
            key: RowKey(format!("[{n}]")),
            op: Op::Update,
            before: None,
            after: None,
            base: Seq(0),
            pair: None,
            via: None,
            other: None,
            image: None,
            late: false,
            refuse: None,
            plain: true,
        }
    }

    /// The events from `first` on, as many as the limits take.
    fn next(limits: &PushLimits, first: i64, last: i64) -> Push {
        let end = last.min(first + limits.limit().events as i64 - 1);
        let events: Vec<_> = (first..=end).map(event).collect();
        Push { last_n: end, events, units: Vec::new(), tables: Vec::new() }
    }

    #[test]
    fn the_culprit_is_found_and_no_other() {
        for culprit in 1..=37 {
            let mut limits = PushLimits::default();
            let (mut sent, mut pushes, mut refused) = (0, 0, Vec::new());
            limits.suspect(&next(&limits, 1, 37));
            while sent < 37 {
                pushes += 1;
                assert!(pushes < 40, "culprit {culprit}");
                let push = next(&limits, sent + 1, 37);
                let has = push.events.iter().any(|event| event.n == culprit);
                if !has || !refused.is_empty() {
                    sent = push.last_n;
                    limits.accepted();
                } else if let Step::Refuse(ids) = limits.rejected(&push) {
                    refused.extend(ids);
                }
            }
            assert_eq!(refused, [event(culprit).id]);
        }
    }

    #[test]
    fn an_event_without_its_values_stays_here() {
        let mut push = next(&PushLimits::default(), 1, 2);
        for event in &mut push.events {
            (event.before, event.after) = (Some("{}".to_owned()), Some("{}".to_owned()));
        }
        assert!(check(&push).is_ok());
        push.events[1].after = None;
        let error = check(&push).unwrap_err();
        assert!(error.message().contains(&push.events[1].id.to_string()));
    }

    #[test]
    fn the_hints_go_first_and_a_pair_stays_together() {
        let mut limits = PushLimits::default();
        let mut push = next(&limits, 1, 4);
        push.events[1].late = true;
        assert_eq!(limits.rejected(&push), Step::Again);
        limits.prepare(&mut push);
        assert!(!push.events[1].late);
        assert_eq!(limits.limit().events, 4, "the same once more");
        assert_eq!(limits.rejected(&push), Step::Again);
        assert_eq!(limits.limit().events, 2);
        let mut pair = next(&limits, 1, 2);
        assert_eq!(limits.clone().rejected(&pair), Step::Again);
        pair.events[0].pair = Some(pair.events[1].id);
        pair.events[1].pair = Some(pair.events[0].id);
        assert_eq!(
            limits.rejected(&pair),
            Step::Refuse(vec![pair.events[0].id, pair.events[1].id])
        );
        pair.events[0].refuse = Some("no".to_owned());
        assert_eq!(limits.rejected(&pair), Step::Stuck);
    }

    #[test]
    fn each_op_asks_for_its_images() {
        let some = || Some(NOTHING.to_owned());
        for (op, before, after, is) in [
            (Op::Insert, None, some(), true),
            (Op::Insert, some(), None, false),
            (Op::Update, some(), some(), true),
            (Op::Update, None, some(), false),
            (Op::Update, some(), None, false),
            (Op::Delete, some(), None, true),
            (Op::Delete, None, None, false),
            (Op::Delete, some(), some(), false),
        ] {
            let mut push = next(&PushLimits::default(), 1, 1);
            push.events[0] = Outgoing { op, before, after, ..event(1) };
            assert_eq!(check(&push).is_ok(), is, "{:?}", push.events[0]);
        }
    }

    #[test]
    fn limits_close_in_and_open_again() {
        let mut limits = PushLimits::default();
        assert!(!limits.is_searching());
        limits.suspect(&next(&limits, 1, 12));
        assert_eq!((limits.is_searching(), limits.limit().events), (true, 12));
        assert_eq!(limits.rejected(&next(&limits, 1, 12)), Step::Again);
        assert_eq!(limits.limit().events, 6, "there were no hints to take off first");
        limits.accepted();
        assert_eq!((limits.is_searching(), limits.limit().events), (true, 12));
        (0..20).for_each(|_| limits.accepted());
        assert_eq!(limits, PushLimits::default());
        // The bytes alone keep the search going, and so do the events.
        assert_eq!(limits.too_large(&next(&limits, 1, MAX_EVENTS as i64)), Step::Again);
        assert_eq!(limits.limit(), PushLimit { events: MAX_EVENTS / 2, bytes: MAX_PUSH_BYTES / 2 });
        limits.bytes = MAX_PUSH_BYTES / 4;
        limits.accepted();
        assert_eq!(limits.limit(), PushLimit { events: MAX_EVENTS, bytes: MAX_PUSH_BYTES / 2 });
        assert!(limits.is_searching(), "for the bytes");
        limits.accepted();
        assert!(!limits.is_searching());
        limits.events = MAX_EVENTS / 4;
        limits.accepted();
        assert!(limits.is_searching(), "for the events");
        for _ in 0..20 {
            limits.too_large(&next(&PushLimits::default(), 1, 12));
        }
        assert_eq!(limits.limit(), PushLimit { events: 6, bytes: MIN_BYTES });
    }

    #[test]
    fn half_a_pair_names_the_other_half() {
        for half in [0, 1] {
            let limits = PushLimits::default();
            let mut pair = next(&limits, 1, 2);
            pair.events[half].pair = Some(pair.events[1 - half].id);
            assert!(is_alone(&pair));
        }
    }

    #[test]
    fn what_travels_nowhere_goes_without_its_old_values_and_then_not_at_all() {
        let of = |weight: usize| {
            let mut push = next(&PushLimits::default(), 1, 1);
            let event = &mut push.events[0];
            let rest = weight - event.key.0.len() - 10 - 20;
            event.before = Some("b".repeat(10));
            event.after = Some("a".repeat(20));
            event.image = Some("i".repeat(rest));
            push
        };
        let mut limits = PushLimits::default();
        assert_eq!(limits.too_large(&of(LARGE_BYTES - 1)), Step::Stuck, "it is the remote's fault");
        let mut push = of(LARGE_BYTES);
        assert_eq!(limits.too_large(&push), Step::Again);
        limits.prepare(&mut push);
        assert_eq!(push.events[0].before.as_deref(), Some(NOTHING));
        assert_eq!(push.events[0].after.as_ref().map(String::len), Some(20), "what it changed");
        let refuse = Step::Refuse(vec![push.events[0].id]);
        assert_eq!(limits.too_large(&of(LARGE_BYTES)), refuse, "slim already");
        // Without old values there is nothing to take off.
        for before in [None, Some(NOTHING.to_owned())] {
            let mut push = of(LARGE_BYTES + 10);
            push.events[0].before = before;
            assert_eq!(PushLimits::default().too_large(&push), refuse);
        }
        // What is recorded as too large keeps its values here, and other refusals send theirs.
        let mut push = of(LARGE_BYTES);
        push.events[0].refuse = Some("no".to_owned());
        PushLimits::default().prepare(&mut push);
        assert_eq!(weight(&push), LARGE_BYTES);
        push.events[0].refuse = Some(TOO_LARGE.to_owned());
        PushLimits::default().prepare(&mut push);
        let event = &push.events[0];
        let images = (event.before.as_deref(), event.after.as_deref(), event.image.as_deref());
        assert_eq!(images, (Some(NOTHING), Some(NOTHING), None));
    }
}
