//! Foreign keys that a later event of the same push satisfies: which events wait for which, and an
//! order in which fewer wait.
//!
//! An event that waits defers its foreign keys: the push's statements do not judge them, and the
//! database checks them at the end of the push. If the later event is rejected itself, the whole
//! push fails. [`topological_order`] is for that case: an event after all events that it needs can
//! be judged when it arrives.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::catalog::{ForeignKey, Table};
use crate::error::Result;
use crate::event::value::Value;
use crate::event::{Image, Op};
use crate::protocol::Outgoing;

/// How often the events are reordered. A moved event may leave an event behind that waits for it.
const ROUNDS: usize = 8;

/// A value in a form for comparing foreign keys, for any collation and type. Different values may
/// have the same form, which does no harm.
fn loosely(value: &Value) -> Option<Vec<u8>> {
    let mut text = match value {
        Value::Null => return None,
        Value::Integer(integer) => integer.to_string().into_bytes(),
        Value::Real(real) if real.trunc() == *real && real.abs() < 1e15 => {
            (*real as i64).to_string().into_bytes()
        }
        Value::Real(real) => real.to_string().into_bytes(),
        Value::Text(bytes) | Value::Blob(bytes) => bytes.to_ascii_lowercase(),
    };
    while text.last() == Some(&b' ') {
        text.pop();
    }
    Some(text)
}

/// The values of columns in an image; `None` if one is missing or NULL.
pub(in crate::store) fn values<'a>(
    image: &Image,
    columns: impl Iterator<Item = &'a String>,
) -> Option<Vec<Vec<u8>>> {
    columns
        .map(|column| {
            let found = image.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(column));
            found.and_then(|(_, value)| loosely(value))
        })
        .collect()
}

/// The rows that later events of the outbox supply or remove. For each foreign key: the next event
/// that inserts a parent, the last event that removes a child from it, and the next event that
/// changes or deletes a row. Values are kept as hashes, because an outbox may have a million of
/// them.
pub(in crate::store) struct Later<'t> {
    /// The foreign keys, each with its number and the table that has it.
    keys: Vec<(usize, &'t str, &'t ForeignKey)>,
    parents: HashMap<(usize, u64), usize>,
    freed: HashMap<(usize, u64), usize>,
    rows: HashMap<(usize, u64), usize>,
}

/// A hash of 64 bits. Different values may share one, which does no harm.
pub(in crate::store) fn hashed(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The foreign keys of the tables with their numbers and the tables that have them.
pub(in crate::store) fn numbered<'t>(
    tables: &[&'t Table],
) -> Vec<(usize, &'t str, &'t ForeignKey)> {
    let of = |table: &&'t Table| {
        let table: &'t Table = table;
        table.foreign_keys.iter().map(|key| (table.name.as_str(), key))
    };
    let keys = tables.iter().flat_map(of).enumerate();
    keys.map(|(number, (child, key))| (number, child, key)).collect()
}

/// The images of an event, with the values of generated columns that foreign keys lead from or to.
fn images(event: &Outgoing) -> Result<[Image; 2]> {
    let image = |json: &Option<String>, made: &Image| -> Result<Image> {
        let image = json.as_deref().map(|json| Image::parse(json.as_bytes())).transpose()?;
        let mut image = image.unwrap_or_default();
        image.0.extend_from_slice(&made.0);
        Ok(image)
    };
    let [before, after] = &event.made;
    Ok([image(&event.before, before)?, image(&event.after, after)?])
}

impl<'t> Later<'t> {
    pub(in crate::store) fn new(tables: &[&'t Table]) -> Self {
        let (parents, freed, rows) = Default::default();
        Later { keys: numbered(tables), parents, freed, rows }
    }

    /// Whether a foreign key refers from a table or to it.
    pub(in crate::store) fn is_related(&self, table: &str) -> bool {
        self.keys.iter().any(|(_, child, key)| {
            child.eq_ignore_ascii_case(table) || key.parent.eq_ignore_ascii_case(table)
        })
    }

    /// Records what an event supplies to the events before it. Returns the last event after it
    /// that it waits for. Events are given from the last to the first.
    pub(in crate::store) fn pass(&mut self, at: usize, event: &Outgoing) -> Result<Option<usize>> {
        let [before, after] = images(event)?;
        let waits = (0..self.keys.len()).map(|key| self.pass_key(key, at, event, &before, &after));
        Ok(waits.max().flatten())
    }

    /// The same for one foreign key.
    fn pass_key(
        &mut self,
        key: usize,
        at: usize,
        event: &Outgoing,
        before: &Image,
        after: &Image,
    ) -> Option<usize> {
        let (number, child, key) = self.keys[key];
        let mut waits = None;
        let children = || key.columns.iter().map(|(child, _)| child);
        let parents = || key.columns.iter().map(|(_, parent)| parent);
        if child.eq_ignore_ascii_case(&event.table) {
            let row = (number, hashed(&event.key.0));
            if let Some(wanted) = values(after, children()).map(hashed) {
                let row = self.rows.get(&row);
                waits = waits.max(self.parents.get(&(number, wanted)).or(row).copied());
            }
            if let Some(freed) = values(before, children()).map(hashed) {
                self.freed.entry((number, freed)).or_insert(at);
            }
            let changes = children().any(|column| after.0.iter().any(|(name, _)| name == column));
            if event.op == Op::Delete || changes {
                self.rows.insert(row, at);
            }
        }
        if key.parent.eq_ignore_ascii_case(&event.table) {
            if let Some(gone) = values(before, parents()).map(hashed) {
                let gone = (number, gone);
                waits = waits.max(self.freed.get(&gone).copied());
                waits = waits.max(self.parents.get(&gone).copied());
            }
            if let Some(coming) = values(after, parents()).map(hashed) {
                // An earlier event that deletes the parent waits for this one, but for none of the
                // parent's children that are deleted after the parent exists again.
                self.freed.remove(&(number, coming));
                self.parents.insert((number, coming), at);
            }
        }
        waits
    }
}

/// The later deletes of a push, by the names that a consequence may use: the row's key, or the
/// values of other columns that foreign keys refer to. A delete of a row that is inserted again
/// before it is not the cause: the row was already gone when the consequence's trigger ran.
pub(in crate::store) struct Deletes<'t> {
    by_key: HashMap<(String, String), usize>,
    /// The parent and the columns of each foreign key that does not refer to a primary key.
    references: Vec<(&'t str, Vec<&'t String>)>,
    by_values: HashMap<(usize, Vec<Vec<u8>>), usize>,
}

impl<'t> Deletes<'t> {
    pub(in crate::store) fn new(tables: &[&'t Table]) -> Self {
        let keys = tables.iter().flat_map(|table| &table.foreign_keys);
        let is_key = |key: &ForeignKey| {
            tables.iter().any(|table| {
                table.name.eq_ignore_ascii_case(&key.parent)
                    && table.key.len() == key.columns.len()
                    && table.key_columns().all(|column| {
                        key.columns.iter().any(|(_, to)| to.eq_ignore_ascii_case(&column.name))
                    })
            })
        };
        let references = keys
            .filter(|key| !is_key(key))
            .map(|key| (key.parent.as_str(), key.columns.iter().map(|(_, to)| to).collect()))
            .collect();
        Deletes { by_key: HashMap::new(), references, by_values: HashMap::new() }
    }

    /// Adds the event at a place. Places are passed from the last to the first.
    pub(in crate::store) fn pass(&mut self, at: usize, event: &Outgoing) -> Result<()> {
        let row = (event.table.to_ascii_lowercase(), event.key.0.clone());
        let is_delete = event.op == Op::Delete;
        match is_delete {
            true => self.by_key.insert(row, at),
            false => self.by_key.remove(&row),
        };
        let is_parent =
            |(parent, _): &(&str, Vec<&String>)| parent.eq_ignore_ascii_case(&event.table);
        if !self.references.iter().any(is_parent) {
            return Ok(());
        }
        let [before, after] = images(event)?;
        let image = if is_delete { before } else { after };
        for (number, reference) in self.references.iter().enumerate().filter(|(_, r)| is_parent(r))
        {
            if let Some(values) = values(&image, reference.1.iter().copied()) {
                match is_delete {
                    true => self.by_values.insert((number, values), at),
                    false => self.by_values.remove(&(number, values)),
                };
            }
        }
        Ok(())
    }

    /// The place of the next delete of the parent that a consequence names.
    pub(in crate::store) fn find(&self, table: &str, named: &str) -> Result<Option<usize>> {
        if named.starts_with('[') {
            let place = (table.to_ascii_lowercase(), named.to_owned());
            return Ok(self.by_key.get(&place).copied());
        }
        let named = Image::parse(named.as_bytes())?;
        for (number, (parent, columns)) in self.references.iter().enumerate() {
            if !parent.eq_ignore_ascii_case(table) || columns.len() != named.0.len() {
                continue;
            }
            let Some(values) = values(&named, columns.iter().copied()) else { continue };
            if let Some(&at) = self.by_values.get(&(number, values)) {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }
}

/// Marks events that defer their foreign keys, from the last event to the first. Returns for each
/// event the event that it waits for; of several, the last one. An event that is recorded as
/// rejected waits for nothing and supplies nothing.
pub(in crate::store) fn defer_fk(
    tables: &[&Table],
    events: &mut [Outgoing],
) -> Result<Vec<Option<usize>>> {
    let mut later = Later::new(tables);
    let mut waits: Vec<Option<usize>> = vec![None; events.len()];
    for at in (0..events.len()).rev() {
        let event = &events[at];
        if event.refuse.is_none() && later.is_related(&event.table) {
            waits[at] = later.pass(at, event)?;
        }
        // A key change is judged with its delete, for the row of its insert.
        let next = events.get(at + 1);
        if next.is_some_and(|next| next.op == Op::Insert && event.pair == Some(next.id)) {
            waits[at] = waits[at].max(waits[at + 1]);
        }
    }
    for (event, waits) in events.iter_mut().zip(&waits) {
        event.defer_fk = waits.is_some();
    }
    Ok(waits)
}

/// The events in an order in which as few as possible wait for a later one. Events of one row keep
/// their order, and a consequence stays after its cause. Events that wait in a cycle still wait.
pub(in crate::store) fn topological_order(
    tables: &[&Table],
    mut events: Vec<Outgoing>,
) -> Result<Vec<Outgoing>> {
    for _ in 0..ROUNDS {
        let waits = defer_fk(tables, &mut events)?;
        if waits.iter().all(Option::is_none) {
            break;
        }
        let order = DependencyGraph::of(&events, &waits).sorted();
        if order.is_sorted() {
            break;
        }
        let mut taken: Vec<_> = events.into_iter().map(Some).collect();
        events = order.into_iter().filter_map(|at| taken[at].take()).collect();
    }
    Ok(events)
}

/// The graph of which event must come after which. Both halves of a key change are one node, with
/// the number of the first half.
struct DependencyGraph {
    /// The node of each event.
    stands_for: Vec<usize>,
    behind: Vec<Vec<usize>>,
    /// The number of nodes that must come before each.
    before: Vec<usize>,
}

impl DependencyGraph {
    fn of(events: &[Outgoing], waits: &[Option<usize>]) -> DependencyGraph {
        let is_half = |at: usize| at > 0 && events[at].pair == Some(events[at - 1].id);
        let stands_for = (0..events.len()).map(|at| if is_half(at) { at - 1 } else { at });
        let mut graph = DependencyGraph {
            stands_for: stands_for.collect(),
            behind: vec![Vec::new(); events.len()],
            before: vec![0; events.len()],
        };
        let mut rows: HashMap<(String, &str), usize> = HashMap::new();
        let mut ids = HashMap::new();
        for (at, event) in events.iter().enumerate() {
            ids.insert(event.id, at);
            let row = (event.table.to_ascii_lowercase(), event.key.0.as_str());
            if let Some(former) = rows.insert(row, at) {
                graph.add(former, at);
            }
            if let Some(&cause) = event.via.and_then(|via| ids.get(&via)) {
                graph.add(cause, at);
            }
            if let Some(dependency) = waits[at] {
                graph.add(dependency, at);
            }
        }
        graph
    }

    fn add(&mut self, first: usize, then: usize) {
        let (first, then) = (self.stands_for[first], self.stands_for[then]);
        if first != then {
            self.behind[first].push(then);
            self.before[then] += 1;
        }
    }

    /// The events' numbers in topological order. Events in a cycle keep their present order.
    fn sorted(mut self) -> Vec<usize> {
        let stands = |graph: &DependencyGraph, at: &usize| graph.stands_for[*at] == *at;
        let mut free: BinaryHeap<_> = (0..self.before.len())
            .filter(|at| stands(&self, at) && self.before[*at] == 0)
            .map(Reverse)
            .collect();
        let mut done = vec![false; self.before.len()];
        let mut sorted = Vec::with_capacity(done.len());
        let mut first = 0;
        while sorted.len() < done.len() {
            while done[first] || !stands(&self, &first) {
                first += 1;
            }
            // In a cycle no node is free. The first one is taken.
            let at = free.pop().map_or(first, |Reverse(at)| at);
            if std::mem::replace(&mut done[at], true) {
                continue;
            }
            let half = (at + 1 < done.len() && self.stands_for[at + 1] == at).then_some(at + 1);
            sorted.extend([at].into_iter().chain(half));
            for then in std::mem::take(&mut self.behind[at]) {
                self.before[then] -= 1;
                if self.before[then] == 0 && !done[then] {
                    free.push(Reverse(then));
                }
            }
        }
        sorted
    }
}

#[cfg(test)]
mod tests;
