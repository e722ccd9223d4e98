//! Reorders a push's events so that they make long runs.
//!
//! An application that writes an order and its lines, again and again, alternates between tables.
//! In the order of the outbox, its events make runs of one or two. The order of events that cannot
//! influence one another is free, so similar events are put together. An event that is alone in its
//! run (see [`split`](super::split)) may have consequences anywhere, so no event moves past it.
//!
//! Between two such events, these keep their order: events of one row; events that claim one UNIQUE
//! value; a child and its parent's insert or delete; a consequence and its cause.

use std::collections::HashMap;

use super::judged::Judged;
use super::split::runs_of;
use super::words::Kind;
use crate::event::{EventId, Image};
use crate::protocol::remote_tables::{RemoteTable, RemoteTables};
use crate::protocol::{Outgoing, Push};

/// A push with this number of runs or fewer is not reordered.
pub const FEW_RUNS: usize = 32;

/// Reorders the events of a push if they make more than `few` runs, and fewer in the new order.
/// Then all of them are one unit: a puller cannot integrate a reordered push in parts.
pub fn arrange(push: &mut Push, tables: &RemoteTables, few: usize) -> usize {
    let judged: Vec<_> = push.events.iter().map(|event| Judged::of(event, tables)).collect();
    let before = runs_of(&judged, tables).len();
    if before <= few || !tables.tables.iter().all(|there| refers_by_keys(there, tables)) {
        return before;
    }
    let (order, after) = order(&judged, tables);
    if after >= before {
        return before;
    }
    let mut events: Vec<_> = std::mem::take(&mut push.events).into_iter().map(Some).collect();
    push.events = order.into_iter().filter_map(|at| events[at].take()).collect();
    push.units = Vec::new();
    after
}

/// Whether every foreign key of a table leads to the key of its parent.
fn refers_by_keys(child: &RemoteTable, tables: &RemoteTables) -> bool {
    child.table.foreign_keys.iter().all(|key| {
        let there = |there: &&RemoteTable| there.table.name.eq_ignore_ascii_case(&key.parent);
        let Some(parent) = tables.tables.iter().find(there) else { return true };
        let parent = &parent.table;
        key.columns.len() == parent.key.len()
            && parent.key_columns().all(|column| {
                key.columns.iter().any(|(_, to)| to.eq_ignore_ascii_case(&column.name))
            })
    })
}

/// The events' places in the new order, and the number of runs.
fn order(events: &[Judged<'_>], tables: &RemoteTables) -> (Vec<usize>, usize) {
    let mut stretch = Stretch::default();
    let mut places = Vec::with_capacity(events.len());
    for (at, judged) in events.iter().enumerate() {
        places.push((stretch.place(judged, tables), at));
    }
    places.sort_unstable();
    (places.into_iter().map(|(_, at)| at).collect(), stretch.runs)
}

/// The property that all events of a run share: the table, the kind and the columns.
type Shape = (String, Kind, Vec<usize>);

/// The runs since the last event that no other may move past.
#[derive(Default)]
struct Stretch {
    /// The number of all runs, with those before this stretch.
    runs: usize,
    /// The first run of the stretch.
    first: usize,
    /// The runs of each shape, rising.
    shapes: HashMap<Shape, Vec<usize>>,
    /// The last run that wrote each row or claimed each value, and the last run that referred to
    /// each row.
    written: HashMap<String, usize>,
    referred: HashMap<String, usize>,
    /// The run of each event. A consequence comes after its cause.
    events: HashMap<EventId, usize>,
}

impl Stretch {
    /// The run of an event.
    fn place(&mut self, judged: &Judged<'_>, tables: &RemoteTables) -> usize {
        if judged.is_alone(tables) || judged.table().is_none() {
            self.first = self.runs + 1;
            self.runs += 1;
            (self.shapes, self.written, self.referred) = Default::default();
            return self.runs - 1;
        }
        let (claims, references) = (claims(judged), references(judged, tables));
        let mut earliest = self.first;
        for claim in &claims {
            let after = self.written.get(claim).into_iter().chain(self.referred.get(claim));
            earliest = after.fold(earliest, |earliest, &run| earliest.max(run + 1));
        }
        for row in &references {
            // A parent of the same table may be in the same run.
            let after = self.written.get(row).copied();
            earliest = after.map_or(earliest, |run| earliest.max(run));
        }
        let cause = judged.event().via.and_then(|cause| self.events.get(&cause));
        earliest = cause.map_or(earliest, |&run| earliest.max(run + 1));
        let shape = (judged.event().table.clone(), judged.kind(), judged.columns().to_vec());
        let known = self.shapes.entry(shape).or_default();
        let at = known.partition_point(|&run| run < earliest);
        let run = known.get(at).copied().unwrap_or_else(|| {
            self.runs += 1;
            known.push(self.runs - 1);
            self.runs - 1
        });
        self.events.insert(judged.event().id, run);
        let last = |known: &mut usize| *known = (*known).max(run);
        for claim in claims {
            self.written.entry(claim).and_modify(last).or_insert(run);
        }
        for row in references {
            self.referred.entry(row).and_modify(last).or_insert(run);
        }
        run
    }
}

/// The row that an event writes, and the UNIQUE values that it takes or frees.
fn claims(judged: &Judged<'_>) -> Vec<String> {
    let mut claims = judged.claims();
    if judged.kind() == Kind::Delete {
        claims.extend(judged.with_image(old(judged.event())).unique_claims());
    }
    claims
}

/// The rows that an event refers to, before it and after it.
fn references(judged: &Judged<'_>, tables: &RemoteTables) -> Vec<String> {
    let mut rows = judged.parents(tables);
    rows.extend(judged.with_image(old(judged.event())).parents(tables));
    rows
}

fn old(event: &Outgoing) -> Image {
    let json = event.before.as_ref();
    json.and_then(|json| Image::parse(json.as_bytes()).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Table;
    use crate::event::{Op, RowKey};

    fn delete(n: i64, table: &str, via: Option<i64>) -> Outgoing {
        let id = |n: i64| EventId(ulid::Ulid(n as u128));
        let key = RowKey(format!("[{n}]"));
        let event = Outgoing::new(n, id(n), table.to_owned(), key, Op::Delete);
        Outgoing { before: Some("{}".to_owned()), via: via.map(id), ..event }
    }

    /// The remote need not have the foreign key whose action a replica has carried out.
    #[test]
    fn a_consequence_stays_behind_its_cause() {
        let db = rusqlite::Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE p (id INTEGER PRIMARY KEY)").unwrap();
        db.execute_batch("CREATE TABLE c (id INTEGER PRIMARY KEY)").unwrap();
        let table = |name| RemoteTable {
            table: Table::read(&db, name).unwrap(),
            rule: Default::default(),
            triggered: Vec::new(),
        };
        let tables = ["p", "c"].map(table).into();
        let tables = RemoteTables { tables, ..RemoteTables::default() };
        let events = [delete(1, "c", None), delete(2, "p", None), delete(3, "c", Some(2))];
        let judged: Vec<_> = events.iter().map(|event| Judged::of(event, &tables)).collect();
        assert_eq!(order(&judged, &tables), (vec![0, 1, 2], 3));
    }
}
