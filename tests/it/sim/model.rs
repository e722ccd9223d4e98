//! What the tables should be, from the committed mutations and the order of their arrival alone.
//!
//! The model has the rules of the design in words of its own. It knows no SQL, no page, no outbox,
//! no undo: it is given events in the order in which they reached the remote, and says of each what
//! its verdict must be. Two things it cannot know. Whether a later event of the same push supplies
//! what a foreign key misses: so a missing parent only *may* be a reason, and instead no push may
//! leave an orphan behind. And what triggers and CHECKs of the remote refuse, which it is told.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use driftless::event::value::Value;
use driftless::event::{Event, EventId, Op, Origin};

use super::rows::{Past, Row, Rows, key_of, row};
use super::shape::{Shape, Table};

/// What the verdict on an arrival must be.
#[derive(Debug, PartialEq)]
pub(crate) enum Ruling {
    /// It is lost, for this reason.
    Lost(&'static str),
    /// It is applied, unless one of these stands against it or the remote's triggers do.
    Open(Vec<&'static str>),
}

#[derive(Clone)]
struct Claim {
    seq: i64,
    origin: Origin,
    op: Op,
    columns: Vec<String>,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Model {
    shape: Arc<Shape>,
    pub(crate) rows: Rows,
    pub(crate) past: Past,
    claims: HashMap<(String, String), Vec<Claim>>,
    applied: HashMap<EventId, bool>,
}

fn equal(a: &Value, b: &Value, nocase: bool) -> bool {
    match (a, b) {
        (Value::Null, _) => false,
        (Value::Integer(a), Value::Real(b)) | (Value::Real(b), Value::Integer(a)) => {
            *a as f64 == *b
        }
        (Value::Text(a), Value::Text(b)) if nocase => a.eq_ignore_ascii_case(b),
        (a, b) => a == b,
    }
}

impl Model {
    /// Tables that hold these rows before anything has happened.
    pub(crate) fn new(shape: Arc<Shape>, rows: Rows) -> Self {
        let past = Past::new(&rows);
        Model { shape, rows, past, claims: HashMap::new(), applied: HashMap::new() }
    }

    fn defeated(&self, place: &(String, String), event: &Event) -> bool {
        let columns = self.shape.columns_rule && event.op == Op::Update;
        let apart = |claim: &Claim| {
            let mine = event.after.as_ref();
            columns
                && claim.op == Op::Update
                && !claim.columns.iter().any(|name| mine.is_some_and(|row| row.get(name).is_some()))
        };
        self.claims.get(place).is_some_and(|claims| {
            claims.iter().any(|claim| {
                claim.seq > event.base.0 && claim.origin != event.origin && !apart(claim)
            })
        })
    }

    /// The verdict that an event of a replica must get, arriving now. `other` is the other half of
    /// a key change.
    pub(crate) fn judge(&self, event: &Event, other: Option<&Event>) -> Ruling {
        let Some(table) = self.shape.table(&event.table) else { return Ruling::Lost("table") };
        let place = (event.table.clone(), event.key.0.clone());
        let stands = |id: &EventId| self.applied.get(id) == Some(&true);
        if event.via.as_ref().is_some_and(|cause| !stands(cause)) {
            return Ruling::Lost("via");
        }
        let moves = event.op == Op::Delete && other.is_some();
        if event.op == Op::Insert && other.is_some() {
            let done = event.pair.as_ref().is_some_and(stands);
            return if done { Ruling::Open(Vec::new()) } else { Ruling::Lost("pair") };
        }
        let to = other.map(|other| (event.table.clone(), other.key.0.clone()));
        if self.defeated(&place, event) || to.as_ref().is_some_and(|to| self.defeated(to, event)) {
            return Ruling::Lost("conflict");
        }
        let there = self.rows.get(&place);
        match event.op {
            Op::Insert if there.is_some() => return Ruling::Lost("exists"),
            Op::Update if there.is_none() => return Ruling::Lost("missing"),
            Op::Delete if there.is_none() && event.via.is_none() => return Ruling::Lost("missing"),
            _ => {}
        }
        if to.as_ref().is_some_and(|to| self.rows.contains_key(to)) {
            return Ruling::Lost("exists");
        }
        let brought =
            if moves { other.and_then(|other| other.after.as_ref()) } else { event.after.as_ref() };
        let mut coming = there.cloned().unwrap_or_default();
        coming.extend(brought.map(row).unwrap_or_default());
        let brings = |name: &String| brought.is_some_and(|image| image.get(name).is_some());
        let writes = event.op != Op::Delete || moves;
        if writes && self.is_taken(table, &place, &coming, &brings) {
            return Ruling::Lost("unique");
        }
        let mut against = Vec::new();
        if writes && self.lacks_parent(table, &coming, &brings) {
            against.push("foreign");
        }
        if event.op != Op::Insert
            && self.has_children(table, &place, event.op == Op::Delete && !moves)
        {
            against.push("children");
        }
        Ruling::Open(against)
    }

    fn is_taken(
        &self,
        table: &Table,
        place: &(String, String),
        coming: &Row,
        brings: &dyn Fn(&String) -> bool,
    ) -> bool {
        table.uniques.iter().filter(|unique| unique.columns.iter().any(brings)).any(|unique| {
            self.rows.iter().any(|(other, row)| {
                let same = |name: &String| equal(&row[name], &coming[name], unique.nocase);
                other.0 == table.name && other != place && unique.columns.iter().all(same)
            })
        })
    }

    /// Whether a column of a row, one that is brought, names a parent that is not there.
    fn lacks_parent(&self, table: &Table, row: &Row, brings: &dyn Fn(&String) -> bool) -> bool {
        table.foreign.iter().filter(|foreign| brings(&foreign.column)).any(|foreign| {
            let parent = self.shape.table(&foreign.parent).expect("a parent is a table");
            let named = Row::from([(parent.key[0].clone(), row[&foreign.column].clone())]);
            let place = (parent.name.clone(), key_of(parent, &named));
            let own = parent.name == table.name && place.1 == key_of(table, row);
            row[&foreign.column] != Value::Null && !own && !self.rows.contains_key(&place)
        })
    }

    fn has_children(&self, parent: &Table, place: &(String, String), goes: bool) -> bool {
        self.rows.iter().any(|(child, row)| {
            let Some(table) = self.shape.table(&child.0) else { return false };
            table.foreign.iter().any(|foreign| {
                let named = Row::from([(parent.key[0].clone(), row[&foreign.column].clone())]);
                foreign.parent == parent.name
                    && child != place
                    && if goes { foreign.keeps } else { foreign.keeps_key }
                    && key_of(parent, &named) == place.1
            })
        })
    }

    /// The rows whose parent is not there.
    pub(crate) fn orphans(&self) -> BTreeSet<(String, String)> {
        let is_orphan = |(place, row): &(&(String, String), &Row)| {
            let table = self.shape.table(&place.0);
            table.is_some_and(|table| self.lacks_parent(table, row, &|_| true))
        };
        self.rows.iter().filter(is_orphan).map(|(place, _)| place.clone()).collect()
    }

    /// An event is in the log, with its verdict.
    pub(crate) fn take(&mut self, event: &Event) {
        let done = event.verdict.is_applied();
        self.applied.insert(event.id, done);
        if !done {
            return;
        }
        let place = (event.table.clone(), event.key.0.clone());
        let image = event.after.as_ref().map(row).unwrap_or_default();
        let columns = image.keys().cloned().collect();
        let claim = Claim { seq: event.seq.0, origin: event.origin, op: event.op, columns };
        self.claims.entry(place.clone()).or_default().push(claim);
        match (event.op, self.rows.get_mut(&place)) {
            (Op::Insert, _) => drop(self.rows.insert(place.clone(), image)),
            (Op::Update, Some(row)) => row.extend(image),
            (Op::Update, None) => return,
            (Op::Delete, _) => drop(self.rows.remove(&place)),
        }
        self.past.note(event.seq.0, &place, self.rows.get(&place));
    }
}
