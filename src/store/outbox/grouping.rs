//! Arranges a stretch of the outbox for the remote: a pure function.
//!
//! * The halves of a key change name each other; each carries the other's key, and the
//!   delete the new image.
//! * SQLite carries out a foreign key's actions before the parent's own AFTER triggers, so in the
//!   outbox a consequence stands before its cause. The remote is told of it after, with the cause's
//!   id.
//! * A foreign key that a later event of the push satisfies (a deferred constraint, several rows in
//!   one statement) is not to be judged when the event arrives: the event defers it.

use std::collections::{HashMap, HashSet};

use super::fk_order::{defer_fk, suppliers_first, values};
use super::row::{FkDeferral, OutboxRow};
use crate::catalog::{ForeignKey, Table};
use crate::error::Result;
use crate::event::{EventId, Image, Op};
use crate::protocol::Outgoing;

/// The rows as the remote is to judge them.
pub(in crate::store) fn arrange(
    tables: &[&Table],
    mut rows: Vec<OutboxRow>,
    deferral: FkDeferral,
) -> Result<Vec<Outgoing>> {
    join_halves(&mut rows);
    let mut events = after_their_causes(tables, rows)?;
    if deferral != FkDeferral::All {
        events = suppliers_first(tables, events)?;
    }
    defer_fk(tables, &mut events)?;
    if deferral == FkDeferral::Never {
        events.iter_mut().for_each(|event| event.late = false);
    }
    Ok(events)
}

/// Where a stretch of the outbox can be parted, and what its events are when it is whole.
pub(in crate::store) struct Seams {
    /// How many events stand in front of each seam, rising: places where no deferred foreign key,
    /// no consequence and no key change has one end in each part. The last one is behind all.
    at: Vec<usize>,
    /// The same where a deferred foreign key may.
    firm: Vec<usize>,
    late: HashSet<EventId>,
    /// Consequences whose causes are in the stretch.
    via: HashSet<EventId>,
}

/// The places between events behind which none reaches: `reach` has for each event the furthest
/// that it hangs together with.
fn places(reach: &[usize]) -> Vec<usize> {
    let mut furthest = 0;
    let ends = reach.iter().enumerate().filter_map(|(here, &reach)| {
        furthest = furthest.max(reach);
        (furthest <= here).then_some(here + 1)
    });
    ends.collect()
}

/// For each place in the outbox, whose numbers are `numbers`, the furthest that must go where its
/// event goes: the other half of a key change, or a consequence's cause.
fn bonds(numbers: &[i64], events: &[Outgoing]) -> Vec<usize> {
    let by_id: HashMap<_, _> = events.iter().map(|event| (event.id, event.n)).collect();
    let mut reach: Vec<usize> = (0..numbers.len()).collect();
    for event in events {
        for id in [event.via, event.pair].into_iter().flatten() {
            let Some(&other) = by_id.get(&id) else { continue };
            bind(numbers, &mut reach, event.n, other);
        }
    }
    reach
}

/// Notes that two events, by their numbers, hang together.
fn bind(numbers: &[i64], reach: &mut [usize], one: i64, other: i64) {
    let place = |n: i64| numbers.partition_point(|&number| number < n);
    let (first, last) = (place(one.min(other)), place(one.max(other)));
    reach[first] = reach[first].max(last);
}

/// Whether the events of a push with a higher number in the outbox than `above` hang together, so
/// that none can go without the others: there is one, or a key change, or a cause with its
/// consequences and what stands between them.
pub(crate) fn are_bound(events: &[Outgoing], above: i64) -> bool {
    let mut numbers: Vec<i64> = events.iter().map(|event| event.n).collect();
    numbers.sort_unstable();
    let cleared = numbers.partition_point(|&n| n <= above);
    let ends = places(&bonds(&numbers, events));
    !ends.iter().any(|&end| end > cleared && end < numbers.len())
}

impl Seams {
    pub(in crate::store) fn of(tables: &[&Table], rows: Vec<OutboxRow>) -> Result<Seams> {
        let numbers: Vec<i64> = rows.iter().map(|row| row.event.n).collect();
        let mut events = {
            let mut rows = rows;
            join_halves(&mut rows);
            after_their_causes(tables, rows)?
        };
        let waits = defer_fk(tables, &mut events)?;
        let mut reach = bonds(&numbers, &events);
        let firm = places(&reach);
        for (event, supplier) in events.iter().zip(&waits) {
            if let Some(supplier) = supplier {
                bind(&numbers, &mut reach, event.n, events[*supplier].n);
            }
        }
        let ids = |is: fn(&&Outgoing) -> bool| events.iter().filter(is).map(|event| event.id);
        let late = ids(|event| event.late).collect();
        let via = ids(|event| event.via.is_some()).collect();
        Ok(Seams { at: places(&reach), firm, late, via })
    }

    /// The last seam that has more than `above` events in front of it, and at most `most`; if there
    /// is none, the last such place where only deferred foreign keys are parted.
    pub(in crate::store) fn up_to(&self, above: usize, most: usize) -> Option<usize> {
        let last = |places: &[usize]| {
            let at = places.partition_point(|&place| place <= most);
            at.checked_sub(1).map(|at| places[at]).filter(|&place| place > above)
        };
        last(&self.at).or_else(|| last(&self.firm))
    }

    /// The first seam with at least `least` events in front of it.
    pub(in crate::store) fn from(&self, least: usize) -> usize {
        self.at.get(self.at.partition_point(|&seam| seam < least)).copied().unwrap_or(least)
    }

    /// The first place with at least `least` events in front of it where only deferred
    /// foreign keys are parted.
    pub(in crate::store) fn firm_from(&self, least: usize) -> Option<usize> {
        self.firm.get(self.firm.partition_point(|&place| place < least)).copied()
    }

    /// Whether an event waits for what may be behind the push: for a foreign key's sake, or, if it
    /// has been parted from its cause, for that.
    pub(in crate::store) fn defers_fk(&self, event: &Outgoing) -> bool {
        self.late.contains(&event.id) || (event.via.is_none() && self.via.contains(&event.id))
    }
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
pub(in crate::store) struct Deletes<'t> {
    by_key: HashMap<(String, String), usize>,
    /// Parent and columns of the foreign keys that refer to no primary key.
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

    /// Notes the delete at a place. Places are given from the last to the first.
    pub(in crate::store) fn note(&mut self, at: usize, event: &Outgoing) -> Result<()> {
        self.by_key.insert((event.table.to_ascii_lowercase(), event.key.0.clone()), at);
        for (number, (parent, columns)) in self.references.iter().enumerate() {
            if !parent.eq_ignore_ascii_case(&event.table) {
                continue;
            }
            let Some(before) = &event.before else { continue };
            let mut before = Image::parse(before.as_bytes())?;
            before.0.extend_from_slice(&event.made[0].0);
            if let Some(values) = values(&before, columns.iter().copied()) {
                self.by_values.insert((number, values), at);
            }
        }
        Ok(())
    }

    /// The place of the next delete of a parent that a consequence names.
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
