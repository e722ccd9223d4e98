//! Arranges a stretch of the outbox for the remote: a pure function.
//!
//! * The halves of a key change name each other; each carries the other's key, and the
//!   delete the new image.
//! * SQLite carries out a foreign key's actions before the parent's own AFTER triggers, so in the
//!   outbox a consequence stands before its cause. The remote is told of it after, with the cause's
//!   id.
//! * A foreign key that a later event of the push satisfies (a deferred constraint, several rows in
//!   one statement) is not to be judged when the event arrives: a *late* hint says so.

use std::collections::{HashMap, HashSet};

use super::outbox::{OutboxRow, Outgoing};
use crate::capture::{ForeignKey, Table};
use crate::error::Result;
use crate::event::{Image, Op};
use crate::value::Value;

/// The rows as the remote is to judge them.
pub(super) fn arrange(tables: &[&Table], mut rows: Vec<OutboxRow>) -> Result<Vec<Outgoing>> {
    join_halves(&mut rows);
    let mut events = after_their_causes(tables, rows)?;
    hint(tables, &mut events)?;
    Ok(events)
}

fn join_halves(rows: &mut [OutboxRow]) {
    for at in 1..rows.len() {
        let (head, tail) = rows.split_at_mut(at);
        let (delete, insert) = (head.last_mut().expect("at is at least 1"), &mut tail[0]);
        if delete.half != Some(1) || insert.half != Some(2) {
            continue;
        }
        delete.event.pair = Some(insert.event.id);
        insert.event.pair = Some(delete.event.id);
        delete.event.other = Some(insert.event.key.clone());
        delete.event.image.clone_from(&insert.event.after);
        insert.event.other = Some(delete.event.key.clone());
        // They share one verdict.
        let refuse = delete.event.refuse.take().or_else(|| insert.event.refuse.take());
        (delete.event.refuse, insert.event.refuse) = (refuse.clone(), refuse);
        let plain = delete.event.plain && insert.event.plain;
        (delete.event.plain, insert.event.plain) = (plain, plain);
    }
}

/// Deletes that come later in the push, by what a consequence may name them: the row's key, or the
/// values of other columns that foreign keys refer to.
struct Deletes<'t> {
    by_key: HashMap<(String, String), usize>,
    /// Parent and columns of the foreign keys that refer to no primary key.
    references: Vec<(&'t str, Vec<&'t String>)>,
    by_values: HashMap<(usize, Vec<Vec<u8>>), usize>,
}

impl<'t> Deletes<'t> {
    fn new(tables: &[&'t Table]) -> Self {
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

    fn note(&mut self, at: usize, event: &Outgoing) -> Result<()> {
        self.by_key.insert((event.table.to_ascii_lowercase(), event.key.0.clone()), at);
        for (number, (parent, columns)) in self.references.iter().enumerate() {
            if !parent.eq_ignore_ascii_case(&event.table) {
                continue;
            }
            let Some(before) = &event.before else { continue };
            let before = Image::parse(before.as_bytes())?;
            if let Some(values) = values(&before, columns.iter().copied()) {
                self.by_values.insert((number, values), at);
            }
        }
        Ok(())
    }

    fn find(&self, table: &str, named: &str) -> Result<Option<usize>> {
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

/// Moves each consequence behind its cause, which is the next delete of the parent that it names;
/// of a key change, behind the insert. A half of a key change is no consequence.
fn after_their_causes(tables: &[&Table], rows: Vec<OutboxRow>) -> Result<Vec<Outgoing>> {
    let mut deletes = Deletes::new(tables);
    let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); rows.len()];
    let mut held = vec![false; rows.len()];
    let mut events: Vec<Option<Outgoing>> = Vec::with_capacity(rows.len());
    let parents: Vec<_> = rows.iter().map(|row| row.parent.clone()).collect();
    events.extend(rows.into_iter().map(|row| Some(row.event)));
    for at in (0..events.len()).rev() {
        let event = events[at].as_ref().expect("none has been emitted");
        let (op, paired) = (event.op, event.pair.is_some());
        if let Some((table, key)) = &parents[at]
            && !paired
            && let Some(cause) = deletes.find(table, &key.0)?
        {
            let delete = events[cause].as_ref().expect("none has been emitted");
            let id = delete.id;
            let behind = if delete.pair.is_some() { cause + 1 } else { cause };
            events[at].as_mut().expect("none has been emitted").via = Some(id);
            waiting[behind].push(at);
            held[at] = true;
        }
        if op == Op::Delete {
            deletes.note(at, events[at].as_ref().expect("none has been emitted"))?;
        }
    }
    let mut arranged = Vec::with_capacity(events.len());
    let mut stack = Vec::new();
    for first in (0..events.len()).filter(|&at| !held[at]) {
        stack.push(first);
        while let Some(at) = stack.pop() {
            arranged.extend(events[at].take());
            // They were collected from the last to the first, which is the order of a stack.
            stack.extend(&waiting[at]);
        }
    }
    Ok(arranged)
}

/// A value as foreign keys may compare it, whatever the columns' collations and types: too much
/// alike does no harm.
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
fn values<'a>(image: &Image, columns: impl Iterator<Item = &'a String>) -> Option<Vec<Vec<u8>>> {
    columns
        .map(|column| {
            let found = image.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(column));
            found.and_then(|(_, value)| loosely(value))
        })
        .collect()
}

/// What events later in the push supply: for each foreign key, parents that come, children that go,
/// and rows that change or go themselves.
#[derive(Default)]
struct Later {
    parents: HashSet<(usize, Vec<Vec<u8>>)>,
    freed: HashSet<(usize, Vec<Vec<u8>>)>,
    rows: HashSet<(usize, String)>,
}

/// Sets the late hints, from the last event to the first.
fn hint(tables: &[&Table], events: &mut [Outgoing]) -> Result<()> {
    let keys: Vec<(&str, &ForeignKey)> = tables
        .iter()
        .flat_map(|table| table.foreign_keys.iter().map(|key| (table.name.as_str(), key)))
        .collect();
    let mut later = Later::default();
    let mut late_half = None;
    for event in events.iter_mut().rev() {
        // A key change is judged with its delete, for the row that its insert brings.
        event.late |=
            late_half.is_some_and(|half| event.op == Op::Delete && event.pair == Some(half));
        let related = |(child, key): &(&str, &ForeignKey)| {
            child.eq_ignore_ascii_case(&event.table)
                || key.parent.eq_ignore_ascii_case(&event.table)
        };
        if !keys.iter().any(related) {
            continue;
        }
        let image = |json: &Option<String>| -> Result<Image> {
            Ok(json
                .as_deref()
                .map(|json| Image::parse(json.as_bytes()))
                .transpose()?
                .unwrap_or_default())
        };
        let (before, after) = (image(&event.before)?, image(&event.after)?);
        for (at, &(child, key)) in keys.iter().enumerate() {
            let children = || key.columns.iter().map(|(child, _)| child);
            let parents = || key.columns.iter().map(|(_, parent)| parent);
            if child.eq_ignore_ascii_case(&event.table) {
                if let Some(wanted) = values(&after, children()) {
                    let same_row = (at, event.key.0.clone());
                    event.late |=
                        later.parents.contains(&(at, wanted)) || later.rows.contains(&same_row);
                }
                if let Some(freed) = values(&before, children()) {
                    later.freed.insert((at, freed));
                }
                let changes =
                    children().any(|column| after.0.iter().any(|(name, _)| name == column));
                if event.op == Op::Delete || changes {
                    later.rows.insert((at, event.key.0.clone()));
                }
            }
            if key.parent.eq_ignore_ascii_case(&event.table) {
                if let Some(gone) = values(&before, parents()) {
                    event.late |= later.freed.contains(&(at, gone.clone()))
                        || later.parents.contains(&(at, gone));
                }
                if let Some(coming) = values(&after, parents()) {
                    later.parents.insert((at, coming));
                }
            }
        }
        late_half = (event.op == Op::Insert && event.late).then_some(event.id);
    }
    Ok(())
}
