//! The events of an outbox, and what they do to a row.

use crate::event::value::Value;
use crate::event::{Image, Op, RowKey};

/// A table, in lower case, and a key.
pub type RowId = (String, RowKey);

/// An event of the outbox.
#[derive(Clone, Debug)]
pub struct ChainStep {
    /// Its number.
    pub n: i64,
    /// Its table.
    pub table: String,
    /// Its row.
    pub key: RowKey,
    /// What it does.
    pub op: Op,
    /// The old values.
    pub before: Option<Image>,
    /// The new values.
    pub after: Option<Image>,
    /// 1: the delete of a key change. 2: its insert, directly after the delete.
    pub pair: Option<i64>,
}

impl ChainStep {
    /// The row that it changes.
    pub fn row(&self) -> RowId {
        (self.table.to_ascii_lowercase(), self.key.clone())
    }
}

/// Moves `len` events, from `from` on, to the lower number `to`. The events between are shifted up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The first one's number.
    pub from: i64,
    /// One event, or the two of a key change.
    pub len: i64,
    /// Its new number.
    pub to: i64,
}

impl Move {
    /// The number of the event `n` after the move.
    pub fn renumber(&self, n: i64) -> i64 {
        if (self.from..self.from + self.len).contains(&n) {
            n - self.from + self.to
        } else if (self.to..self.from).contains(&n) {
            n + self.len
        } else {
            n
        }
    }
}

/// The smallest unit that moves: an event, or both halves of a key change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    /// Its place in the steps.
    at: usize,
    /// 1 or 2.
    len: usize,
}

impl Event {
    /// Its place in the steps.
    pub(super) fn at(self) -> usize {
        self.at
    }

    /// How many steps it is: 1, or 2 for a key change.
    pub(super) fn len(self) -> usize {
        self.len
    }

    pub(super) fn all(steps: &[ChainStep]) -> Vec<Event> {
        let mut events = Vec::new();
        let mut at = 0;
        while at < steps.len() {
            let is_half = |next: &ChainStep| next.pair == Some(2) && next.n == steps[at].n + 1;
            let pair = steps[at].pair == Some(1) && steps.get(at + 1).is_some_and(is_half);
            let len = if pair { 2 } else { 1 };
            events.push(Event { at, len });
            at += len;
        }
        events
    }
}

/// An event, and the events that it caused.
#[derive(Clone, Debug)]
pub(super) struct Cause(Event, Vec<Event>);

impl Cause {
    pub(super) fn new(event: Event, caused: Vec<Event>) -> Cause {
        Cause(event, caused)
    }

    pub(super) fn event(&self) -> Event {
        self.0
    }

    pub(super) fn caused(&self) -> &[Event] {
        &self.1
    }
}

/// The knowledge of a row at one point.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    Unknown,
    Absent,
    /// It is there, with these values in the known columns.
    Row(Image),
}

impl State {
    /// Whether the event may have left the row like this.
    pub(super) fn is_left_by(&self, step: &ChainStep) -> bool {
        match (self, step.op) {
            (State::Unknown, _) => true,
            (State::Absent, op) => op == Op::Delete,
            (State::Row(_), Op::Delete) => false,
            (State::Row(known), Op::Insert | Op::Update) => {
                let mut after = step.after.iter().flat_map(|image| &image.0);
                after.all(|(name, value)| known.get(name).is_none_or(|known| is_same(known, value)))
            }
        }
    }

    /// The row as the event found it.
    pub(super) fn before(&self, step: &ChainStep) -> State {
        let before = step.before.clone().unwrap_or_default();
        match (step.op, self) {
            (Op::Insert, _) => State::Absent,
            (Op::Update, State::Row(known)) => {
                let mut known = known.clone();
                known.overlay(&before);
                State::Row(known)
            }
            (Op::Update | Op::Delete, _) => State::Row(before),
        }
    }
}

/// Whether two values are the same in a table, which has no −0.0 in a REAL column.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Real(a), Value::Real(b)) => a == b,
        _ => a == b,
    }
}
