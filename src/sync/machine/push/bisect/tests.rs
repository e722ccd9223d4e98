//! The bisection, and events that do not fit.

use std::collections::{BTreeMap, BTreeSet};

use ulid::Ulid;

use super::*;
use crate::event::RowKey;
use crate::protocol::statements::{MAX_EVENTS, MAX_PUSH_BYTES};

/// The code of a rejection by a trigger.
const NO: Code = Code::Rejected;

fn event(n: i64) -> Outgoing {
    let (id, key) = (EventId(Ulid::from_parts(1, n as u128)), RowKey(format!("[{n}]")));
    Outgoing::new(n, id, "t".to_owned(), key, Op::Update)
}

/// The greatest limits.
fn full() -> Bisection {
    Bisection::new(PushSize::default())
}

/// The events from `first` on, as many as the limits allow.
fn next(limits: &Bisection, first: i64, last: i64) -> Push {
    let end = last.min(first + limits.limit().events as i64 - 1);
    let events: Vec<_> = (first..=end).map(event).collect();
    let self_contained = events.len();
    let bytes = events.iter().map(Outgoing::weight).sum();
    Push { last_n: end, events, units: Vec::new(), self_contained, bytes, tables: Vec::new() }
}

#[test]
fn the_culprit_is_found_and_no_other() {
    for culprit in 1..=37 {
        let mut limits = full();
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
            } else if let Decision::Refuse(ids) = limits.rejected(&push, NO) {
                refused.extend(ids);
            }
        }
        assert_eq!(refused, [event(culprit).id]);
    }
}

#[test]
fn an_event_without_its_values_stays_here() {
    let mut push = next(&full(), 1, 2);
    for event in &mut push.events {
        (event.before, event.after) = (Some("{}".to_owned()), Some("{}".to_owned()));
    }
    assert!(check(&push).is_ok());
    push.events[1].after = None;
    assert_eq!(check(&push).unwrap_err().code(), Code::OutboxDamaged);
}

#[test]
fn a_pair_stays_together() {
    let limits = full();
    let mut pair = next(&limits, 1, 2);
    assert_eq!(limits.clone().rejected(&pair, NO), Decision::Again);
    pair.events[0].pair = Some(pair.events[1].id);
    pair.events[1].pair = Some(pair.events[0].id);
    assert_eq!(
        limits.clone().rejected(&pair, NO),
        Decision::Refuse(vec![pair.events[0].id, pair.events[1].id])
    );
    pair.events[0].refuse = Some("no".to_owned());
    assert_eq!(limits.clone().rejected(&pair, NO), Decision::Unpushable);
}

/// The remote's answer to a push: the first culprit in it fails it, and otherwise an event that
/// waits for one that is missing.
fn answer(
    push: &Push,
    culprits: &BTreeMap<i64, Option<Code>>,
    links: &[(i64, i64)],
    refused: &BTreeSet<i64>,
) -> Option<Code> {
    let taken = |n: i64| !refused.contains(&n);
    let found = push
        .events
        .iter()
        .find(|event| taken(event.n) && culprits.get(&event.n).is_some_and(Option::is_some));
    if let Some(event) = found {
        return culprits[&event.n];
    }
    let there = |n: i64| push.events.iter().any(|event| event.n == n) && taken(n);
    // Some events have no name: they lose, and are not there although nothing fails.
    let comes = |n: i64| there(n) && !culprits.contains_key(&n);
    let dangles = push
        .events
        .iter()
        .filter(|event| event.defer_fk && taken(event.n))
        .any(|event| links.iter().any(|&(child, parent)| child == event.n && !comes(parent)));
    dangles.then_some(FOREIGN)
}

/// The push that a store returns for the limits: events from `sent` on, with the links as deferred
/// foreign keys.
fn given(
    limits: &Bisection,
    sent: i64,
    last: i64,
    links: &[(i64, i64)],
    refused: &BTreeSet<i64>,
) -> Push {
    let limit = limits.limit();
    let mut push = next(limits, sent + 1, last);
    let end = push.last_n;
    let holds = |&&(child, parent): &&(i64, i64)| {
        child > sent && !refused.contains(&child) && !refused.contains(&parent)
    };
    let mut self_contained = end;
    for &(child, parent) in links.iter().filter(holds) {
        let event = push.events.iter_mut().find(|event| event.n == child);
        let event = event.filter(|_| limit.deferral == FkDeferral::All && child < parent);
        event.into_iter().for_each(|event| event.defer_fk = true);
    }
    loop {
        let over = links.iter().filter(holds).filter(|(child, parent)| {
            child.min(parent) <= &self_contained && child.max(parent) > &self_contained
        });
        match over.map(|(child, parent)| *child.max(parent)).max() {
            Some(further) => self_contained = further,
            None => break,
        }
    }
    push.self_contained = (self_contained - sent) as usize;
    for event in &mut push.events {
        event.refuse = refused.contains(&event.n).then(|| "no".to_owned());
    }
    push
}

/// With any links and any culprits, the bisection ends and rejects the culprits. It rejects no
/// other event unless a culprit fails for a foreign key.
#[test]
fn a_bisection_with_deferrals_ends_and_finds_the_culprits_alone() {
    for seed in 0..3_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let last = random.i64(1..40);
        let mut links = Vec::new();
        for _ in 0..random.usize(0..12) {
            let pair = (random.i64(1..=last), random.i64(1..=last));
            links.extend((pair.0 != pair.1).then_some(pair));
        }
        let other = if seed % 3 == 0 { FOREIGN } else { NO };
        let codes = [Some(NO), Some(other), None];
        let culprits: BTreeMap<_, _> = (0..random.usize(0..5))
            .map(|_| (random.i64(1..=last), codes[random.usize(0..3)]))
            .collect();
        let mut limits = full();
        let (mut sent, mut pushes, mut refused) = (0, 0, BTreeSet::new());
        limits.suspect(&given(&limits, 0, last, &links, &refused));
        while sent < last {
            pushes += 1;
            assert!(pushes < 500, "seed {seed}: {links:?} {culprits:?} {limits:?}");
            let push = given(&limits, sent, last, &links, &refused);
            match answer(&push, &culprits, &links, &refused) {
                None => {
                    sent = push.last_n;
                    limits.accepted();
                }
                Some(code) => match limits.rejected(&push, code) {
                    Decision::Again => {}
                    Decision::Refuse(ids) => {
                        let of = |id| push.events.iter().find(|event| event.id == id);
                        refused.extend(ids.into_iter().map(|id| of(id).unwrap().n));
                    }
                    Decision::Unpushable => panic!("seed {seed}: stuck"),
                },
            }
        }
        let named = culprits.iter().filter(|(_, code)| code.is_some());
        let named: BTreeSet<_> = named.map(|(&n, _)| n).collect();
        assert_eq!(refused, named, "seed {seed}: {links:?} {culprits:?}");
    }
}

/// If a remote accepts only few events at once, the requests become smaller, without a bisection.
#[test]
fn a_request_shrinks_until_it_fits_and_grows_again() {
    for fits in 1..30 {
        let mut limits = full();
        let (mut sent, mut requests) = (0, 0);
        while sent < 30 {
            requests += 1;
            assert!(requests < 200, "{fits}: {limits:?}");
            assert!(!limits.is_bisecting());
            let push = next(&limits, sent + 1, 30);
            if push.events.len() > fits {
                assert_eq!(limits.too_large(&push.events), Decision::Again);
            } else {
                sent = push.last_n;
                limits.accepted();
            }
        }
    }
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
        let mut push = next(&full(), 1, 1);
        push.events[0] = Outgoing { op, before, after, ..event(1) };
        assert_eq!(check(&push).is_ok(), is, "{:?}", push.events[0]);
    }
}

#[test]
fn limits_close_in_and_open_again() {
    let mut limits = full();
    assert!(!limits.is_bisecting());
    limits.suspect(&next(&limits, 1, 12));
    assert_eq!((limits.is_bisecting(), limits.limit().events), (true, 12));
    assert_eq!(limits.rejected(&next(&limits, 1, 12), NO), Decision::Again);
    assert_eq!(limits.limit().events, 6, "nothing was deferred");
    limits.accepted();
    assert_eq!((limits.is_bisecting(), limits.limit().events), (true, 12));
    (0..20).for_each(|_| limits.accepted());
    assert_eq!(limits, full());
    // The size of a request is independent of that.
    assert_eq!(limits.too_large(&next(&limits, 1, MAX_EVENTS as i64).events), Decision::Again);
    assert_eq!(limits.of_request().events, MAX_EVENTS / 2);
    assert!(!limits.is_bisecting());
    limits.suspect(&next(&full(), 1, 12));
    for _ in 0..20 {
        limits.too_large(&next(&full(), 1, 12).events);
    }
    assert_eq!(
        limits.of_request(),
        PushSize { events: 6, bytes: MIN_BYTES, ..PushSize::default() }
    );
    assert_eq!(limits.limit().events, 12, "the search goes on as it was, in smaller requests");
    (0..20).for_each(|_| limits.accepted());
    assert_eq!(limits, full());
}

#[test]
fn what_travels_nowhere_goes_without_its_old_values_and_then_not_at_all() {
    let of = |weight: usize| {
        let mut push = next(&full(), 1, 1);
        let event = &mut push.events[0];
        let rest = weight - event.key.0.len() - 10 - 20;
        event.before = Some("b".repeat(10));
        event.after = Some("a".repeat(20));
        event.image = Some("i".repeat(rest));
        push
    };
    let mut limits = full();
    let stuck = limits.too_large(&of(LARGE_BYTES - 1).events);
    assert_eq!(stuck, Decision::Unpushable, "it is the remote's fault");
    let mut push = of(LARGE_BYTES);
    assert_eq!(limits.too_large(&push.events), Decision::Again);
    limits.prepare(&mut push);
    assert_eq!(push.events[0].before.as_deref(), Some(NOTHING));
    assert_eq!(push.events[0].after.as_ref().map(String::len), Some(20), "what it changed");
    let refuse = Decision::Refuse(vec![push.events[0].id]);
    assert_eq!(limits.too_large(&of(LARGE_BYTES).events), refuse, "slim already");
    // Without old values there is nothing to remove.
    for before in [None, Some(NOTHING.to_owned())] {
        let mut push = of(LARGE_BYTES + 10);
        push.events[0].before = before;
        assert_eq!(full().too_large(&push.events), refuse);
    }
    // An event that is recorded as too large keeps its values here. Other rejected events send
    // theirs.
    let mut push = of(LARGE_BYTES);
    push.events[0].refuse = Some("no".to_owned());
    full().prepare(&mut push);
    assert_eq!(push.events[0].weight(), LARGE_BYTES);
    push.events[0].refuse = Some(TOO_LARGE.to_owned());
    full().prepare(&mut push);
    let event = &push.events[0];
    let images = (event.before.as_deref(), event.after.as_deref(), event.image.as_deref());
    assert_eq!(images, (Some(NOTHING), Some(NOTHING), None));
}

/// A push of the events 1 to `len`, of which the first waits for an event after the push.
fn waiting(len: i64, self_contained: usize) -> Push {
    let mut push = next(&full(), 1, len);
    push.events[0].defer_fk = true;
    Push { self_contained, ..push }
}

/// A database whose foreign keys refuse a push.
const FOREIGN: Code = Code::ForeignKeyFailed;

#[test]
fn a_bisection_looks_behind_the_end_of_its_push() {
    let mut limits = full();
    assert_eq!(limits.limit().lookahead, 0);
    limits.suspect(&next(&limits, 1, 12));
    assert_eq!(limits.limit().lookahead, MAX_EVENTS);
    let large = Push { bytes: 3 * MAX_PUSH_BYTES, ..next(&limits, 1, 12) };
    limits.suspect(&large);
    assert_eq!(limits.limit().bytes, large.bytes, "the same events again");
    let events = (1..=3 * MAX_EVENTS as i64).map(event).collect();
    limits.suspect(&Push { events, ..large });
    assert_eq!((limits.limit().events, limits.limit().lookahead), (3 * MAX_EVENTS, 3 * MAX_EVENTS));
}

#[test]
fn a_push_that_parts_what_waits_grows_to_what_it_waits_for() {
    // Length, self-contained part, failing length: the next length, and none if the push is sent
    // with the later events first.
    for (len, self_contained, failing, most) in [
        (10, 17, usize::MAX, Some(17)),
        (10, 17, 18, Some(17)),
        (10, 17, 17, Some(14)),
        (10, 40, 17, Some(14)),
        (10, 40, 11, Some(11)),
        (10, 10, usize::MAX, None),
        (10, 10, 17, None),
    ] {
        let mut limits = Bisection { failing, ..full() };
        limits.suspect(&waiting(len, self_contained));
        assert_eq!(limits.rejected(&waiting(len, self_contained), FOREIGN), Decision::Again);
        let case = format!("{len} {self_contained} {failing}: {limits:?}");
        let (events, deferral, above, cleared) = match most {
            Some(most) => (most, FkDeferral::All, len as usize, len),
            None => (len as usize, FkDeferral::CyclesOnly, 0, 0),
        };
        assert_eq!((limits.events, limits.deferral), (events, deferral), "{case}");
        assert_eq!((limits.above, limits.cleared), (above, cleared), "{case}");
        assert_eq!(limits.failing, most.map_or(usize::MAX, |_| failing), "{case}");
    }
}

#[test]
fn what_waits_in_a_cycle_defers_nothing_if_it_fails_for_a_foreign_key() {
    let moved = Bisection { deferral: FkDeferral::CyclesOnly, ..full() };
    for (push, code, gone) in [
        (waiting(10, 10), FOREIGN, true),
        (waiting(10, 10), NO, false),
        (next(&moved, 1, 10), FOREIGN, false),
    ] {
        let mut limits = moved.clone();
        assert_eq!(limits.rejected(&push, code), Decision::Again);
        let (events, deferral) =
            if gone { (10, FkDeferral::Never) } else { (5, FkDeferral::CyclesOnly) };
        assert_eq!((limits.events, limits.deferral), (events, deferral), "{code}");
    }
}

#[test]
fn what_waits_is_grown_for_or_moved_for_a_foreign_keys_sake_alone() {
    for (push, code) in [(waiting(10, 20), NO), (next(&full(), 1, 10), FOREIGN)] {
        let mut limits = full();
        assert_eq!(limits.rejected(&push, code), Decision::Again);
        assert_eq!(
            (limits.events, limits.deferral, limits.failing),
            (5, FkDeferral::All, 10),
            "{code}"
        );
    }
}

#[test]
fn a_culprit_behind_what_waits_lets_that_go_with_what_it_waits_for() {
    for (cleared, events) in [(0, 1), (9, MAX_EVENTS)] {
        let mut limits = Bisection { above: cleared as usize, cleared, ..full() };
        let push = next(&full(), 1, cleared + 1);
        assert_eq!(limits.rejected(&push, NO), Decision::Refuse(vec![event(cleared + 1).id]));
        assert_eq!((limits.events, limits.above, limits.cleared), (events, 0, 0));
    }
}

#[test]
fn what_a_cause_took_along_is_refused_with_it() {
    let push = |first: i64| {
        let mut push = next(&full(), first, 5);
        // The second and the third are consequences of the fifth. The fourth is between them.
        for consequence in push.events.iter_mut().filter(|event| [2, 3].contains(&event.n)) {
            consequence.via = Some(event(5).id);
        }
        push
    };
    let mut limits = full();
    assert_eq!(limits.rejected(&push(1), NO), Decision::Again, "the first may go alone");
    let mut limits = full();
    let together = [2, 3, 4, 5].map(|n| event(n).id).to_vec();
    assert_eq!(limits.rejected(&push(2), NO), Decision::Refuse(together));
}
