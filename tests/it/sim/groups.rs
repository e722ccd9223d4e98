//! What hangs together, and pushes and pulls in parts.
//!
//! A world has a limit of its own for the events and bytes of a push. So what hangs together is
//! often larger than a push: it travels in parts, which take effect in one transaction. It has
//! another for the pages of a pull, and for what is integrated in one transaction.

use driftless::event::{Event, Op};
use driftless::remote::Batch;
use driftless::sync::{PullSize, PushSize};
use fastrand::Rng;

use super::world::{Checked, World};

/// How many worlds have a limit of their own for pushes.
const LIMITED: f64 = 0.6;
/// How many worlds push every push in the order that makes long runs.
const ARRANGED: f64 = 0.5;
/// The same for pulls.
const PULLS_LIMITED: f64 = 0.5;

/// What a world's replicas push and pull at once.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) push: PushSize,
    pub(super) pull: PullSize,
}

/// The limit of a world's pushes. It has a random number of its own, so that the histories of all
/// seeds stay what they were before there was a limit.
pub(super) fn push_of(seed: u64) -> PushSize {
    let mut random = Rng::with_seed(seed ^ 0x9A27);
    let mut full = PushSize::default();
    if Rng::with_seed(seed ^ 0x9A29).f64() < ARRANGED {
        full.runs = 0;
    }
    if random.f64() >= LIMITED {
        return full;
    }
    let events = [1, 1, 2, 3, 5, 8, full.events][random.usize(..7)];
    let bytes = [1 << 10, 2 << 10, full.bytes, full.bytes][random.usize(..4)];
    PushSize { events, bytes, ..full }
}

/// The limit of a world's pulls, with a random number of its own too.
pub(super) fn pull_of(seed: u64) -> PullSize {
    let mut random = Rng::with_seed(seed ^ 0x9A28);
    let echoes = [1, 1, 1, usize::MAX][Rng::with_seed(seed ^ 0x9A30).usize(..4)];
    let lean = [0, 1, usize::MAX][Rng::with_seed(seed ^ 0x9A31).usize(..3)];
    let full = PullSize { echoes, lean, ..PullSize::default() };
    if random.f64() >= PULLS_LIMITED {
        return full;
    }
    PullSize {
        events: [1, 2, 3, 5, 8, full.events][random.usize(..6)],
        bytes: [1 << 10, full.bytes, full.bytes][random.usize(..3)],
        unit_events: [1, 2, 4, 8, full.unit_events, full.unit_events][random.usize(..6)],
        unit_bytes: [1 << 10, full.unit_bytes, full.unit_bytes][random.usize(..3)],
        ..full
    }
}

/// What a request carries of a push in parts.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Carries {
    /// Nothing of one.
    #[default]
    Nothing,
    /// A part, which takes no effect yet.
    Part,
    /// The end: all parts are to take effect.
    Whole,
}

impl Carries {
    pub(super) fn of(batch: &Batch) -> Carries {
        let texts = batch.statements.iter().map(|statement| statement.sql.as_str());
        let has = |begin: &str| texts.clone().find(|sql| sql.starts_with(begin));
        match has("INSERT INTO driftless_inbox") {
            Some(sql) if sql.contains("driftless_staged") => Carries::Whole,
            _ if has("INSERT INTO driftless_staged").is_some() => Carries::Part,
            _ => Carries::Nothing,
        }
    }
}

impl World {
    /// Looks at what arrived from `first` on, in one transaction: what hangs together came together.
    pub(super) fn check_whole(&mut self, first: i64) -> Checked {
        let places = &self.places;
        let came = |id| places.get(id).is_some_and(|&seq| seq >= first);
        let arrived: Vec<&Event> =
            self.log.range(first..).map(|(_, event)| event).filter(|e| e.cause.is_none()).collect();
        for event in &arrived {
            for (other, what) in [(&event.pair, "its other half"), (&event.via, "its cause")] {
                if other.as_ref().is_some_and(|other| !came(other)) {
                    return Err(format!("event {} arrived without {what}", event.seq));
                }
            }
        }
        let made = |event: &Event| self.ledger.get(&event.id).and_then(|known| known.made);
        let is_parted = arrived.iter().filter_map(|event| made(event)).any(|transaction| {
            let mut before = self.log.range(..first).map(|(_, event)| event);
            before.any(|event| made(event) == Some(transaction))
        });
        let mut seen = Vec::new();
        if is_parted {
            seen.push("a transaction in more than one push");
        }
        if self.carries == Carries::Whole {
            seen.push("a push in parts");
            let any = |which: &dyn Fn(&Event) -> bool| arrived.iter().any(|event| which(event));
            let refers = |child: &Event, parent: &Event| {
                self.refers((&child.table, ""), child.after.as_ref(), parent, false)
            };
            let later = |event: &Event, which: &dyn Fn(&Event) -> bool| {
                arrived.iter().any(|other| other.seq > event.seq && which(other))
            };
            if any(&|event| event.pair.is_some()) {
                seen.push("a key change in parts");
            }
            if any(&|event| event.via.is_some()) {
                seen.push("a cascade in parts");
            }
            if any(&|event| later(event, &|parent| refers(event, parent))) {
                seen.push("a child ahead of its parent in parts");
            }
            if any(&|one| later(one, &|two| refers(one, two) && refers(two, one))) {
                seen.push("a circle in parts");
            }
            if any(&|event| event.op == Op::Delete && !event.verdict.is_applied()) {
                seen.push("a delete that lost in parts");
            }
        }
        seen.into_iter().for_each(|what| self.seen.note(what));
        Ok(())
    }

    /// What a replica has integrated from `last` on ends where a transaction of another writer
    /// ends, unless that is larger than what is integrated at once.
    pub(super) fn check_units(&mut self, last: i64, cursor: i64) -> Checked {
        let PullSize { events, unit_events, unit_bytes, .. } = self.sizes.pull;
        let unit = |seq: i64| self.log.get(&seq).and_then(|event| event.unit);
        let Some(here) = unit(cursor) else { return Ok(()) };
        let of_unit = |event: &Event| event.unit == Some(here);
        let came = self.log.range(last + 1..=cursor).filter(|(_, event)| of_unit(event)).count();
        let all = self.log.values().filter(|event| of_unit(event)).count();
        if unit(cursor + 1) == Some(here) {
            if all <= unit_events && unit_bytes == PullSize::default().unit_bytes {
                return Err(format!("it ends at {cursor}, within a transaction of {all} events"));
            }
            self.seen.note("a transaction integrated in parts");
        } else if came == all && all > events {
            self.seen.note("a transaction put together from pages");
        }
        Ok(())
    }
}
