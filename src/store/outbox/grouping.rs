//! Puts a range of the outbox into the order in which the remote judges it. A pure function.
//!
//! * The two halves of a key change name each other. Each carries the other's key, and the delete
//!   carries the new image.
//! * SQLite carries out a foreign key's actions before the parent's own AFTER triggers, so a
//!   consequence comes before its cause in the outbox. It is moved after its cause, and carries the
//!   cause's id.
//! * A foreign key may be satisfied by a later event of the push (a deferred constraint, several
//!   rows in one statement). Then the event defers it: it is not judged when the event arrives.

use std::collections::{HashMap, HashSet};

use super::fk_order::{Deletes, defer_fk, topological_order};
use super::row::{FkDeferral, OutboxRow};
use super::spans::Spans;
use crate::catalog::Table;
use crate::error::Result;
use crate::event::EventId;
use crate::protocol::Outgoing;

/// The rows as the remote is to judge them.
pub(in crate::store) fn judging_order(
    tables: &[&Table],
    mut rows: Vec<OutboxRow>,
    deferral: FkDeferral,
) -> Result<Vec<Outgoing>> {
    join_key_changes(&mut rows);
    let mut events = after_their_causes(tables, rows)?;
    if deferral != FkDeferral::All {
        events = topological_order(tables, events)?;
    }
    defer_fk(tables, &mut events)?;
    if deferral == FkDeferral::Never {
        events.iter_mut().for_each(|event| event.defer_fk = false);
    }
    Ok(events)
}

/// The places where a range of the outbox can be cut, and data about its events.
pub(in crate::store) struct CutPoints {
    /// The spans that a push should not cut: deferred foreign keys, consequences and key changes.
    all: Spans,
    /// The spans that a push must not cut: the same, without deferred foreign keys.
    firm: Spans,
    deferred: HashSet<EventId>,
    /// The consequences whose causes are in the range.
    via: HashSet<EventId>,
}

/// The dependency span of two events, by their numbers.
fn span(one: i64, other: i64) -> (i64, i64) {
    (one.min(other), one.max(other))
}

/// The spans between the halves of a key change, and between a consequence and its cause.
fn dependency_spans(events: &[Outgoing]) -> Vec<(i64, i64)> {
    let by_id: HashMap<_, _> = events.iter().map(|event| (event.id, event.n)).collect();
    let of_event = |event: &Outgoing, id: Option<EventId>| Some(span(event.n, *by_id.get(&id?)?));
    let spans =
        events.iter().flat_map(|event| [of_event(event, event.via), of_event(event, event.pair)]);
    spans.flatten().collect()
}

/// Whether the events of a push with outbox numbers above `above` depend on each other so that none
/// can be sent without the others. This is true of a single event, of a key change, and of a cause
/// with its consequences and the events between them.
pub(crate) fn are_bound(events: &[Outgoing], above: i64) -> bool {
    let spans = Spans::merged(dependency_spans(events));
    let last = events.iter().map(|event| event.n).max();
    let mut cuts = events.iter().map(|event| event.n).filter(|&n| spans.cut_from(n) == n);
    !cuts.any(|n| n > above && Some(n) < last)
}

impl CutPoints {
    pub(in crate::store) fn of(tables: &[&Table], mut rows: Vec<OutboxRow>) -> Result<CutPoints> {
        join_key_changes(&mut rows);
        let mut events = after_their_causes(tables, rows)?;
        let waits = defer_fk(tables, &mut events)?;
        let mut spans = dependency_spans(&events);
        let firm = Spans::merged(spans.clone());
        let dependencies = waits.into_iter().map(|dependency| Some(events[dependency?].n));
        let waiting = events.iter().zip(dependencies);
        spans.extend(waiting.filter_map(|(event, dependency)| Some(span(event.n, dependency?))));
        let ids = |is: fn(&&Outgoing) -> bool| events.iter().filter(is).map(|event| event.id);
        let deferred = ids(|event| event.defer_fk).collect();
        let via = ids(|event| event.via.is_some()).collect();
        Ok(CutPoints { all: Spans::merged(spans), firm, deferred, via })
    }

    /// The last cut point from the event `least` up to the event `most`. If there is none, a place
    /// that cuts only deferred foreign keys: the last one before `most`, or else the first one
    /// after it.
    pub(in crate::store) fn up_to(&self, least: i64, most: i64) -> i64 {
        let last = |spans: &Spans| Some(spans.cut_up_to(most)).filter(|&cut| cut >= least);
        last(&self.all).or_else(|| last(&self.firm)).unwrap_or_else(|| self.firm.cut_from(most))
    }

    /// The first cut point from the event `n` on.
    pub(in crate::store) fn from(&self, n: i64) -> i64 {
        self.all.cut_from(n)
    }

    /// Whether an event waits for an event that may come after the push: for its foreign keys or,
    /// if it was separated from its cause, for the cause.
    pub(in crate::store) fn defers_fk(&self, event: &Outgoing) -> bool {
        self.deferred.contains(&event.id) || (event.via.is_none() && self.via.contains(&event.id))
    }
}

fn join_key_changes(rows: &mut [OutboxRow]) {
    for at in 1..rows.len() {
        let (head, tail) = rows.split_at_mut(at);
        let (delete, insert) = (head.last_mut().expect("at is at least 1"), &mut tail[0]);
        OutboxRow::join_key_change(delete, insert);
    }
}

/// Moves each consequence after its cause, which is the next delete of the parent that it names;
/// after the insert, if the cause is a key change. There is no cause if the parent is inserted
/// again in between. A half of a key change is not a consequence.
fn after_their_causes(tables: &[&Table], rows: Vec<OutboxRow>) -> Result<Vec<Outgoing>> {
    let mut deletes = Deletes::new(tables);
    let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); rows.len()];
    let mut held = vec![false; rows.len()];
    let mut events: Vec<Option<Outgoing>> = Vec::with_capacity(rows.len());
    let parents: Vec<_> = rows.iter().map(|row| row.parent().cloned()).collect();
    events.extend(rows.into_iter().map(|row| Some(row.into_event())));
    for at in (0..events.len()).rev() {
        let event = events[at].as_ref().expect("none has been emitted");
        let paired = event.pair.is_some();
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
        deletes.pass(at, events[at].as_ref().expect("none has been emitted"))?;
    }
    let mut ordered = Vec::with_capacity(events.len());
    let mut stack = Vec::new();
    for first in (0..events.len()).filter(|&at| !held[at]) {
        stack.push(first);
        while let Some(at) = stack.pop() {
            ordered.extend(events[at].take());
            // They were collected from the last to the first, which is the order of a stack.
            stack.extend(&waiting[at]);
        }
    }
    Ok(ordered)
}
