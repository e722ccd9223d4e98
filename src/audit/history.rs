//! The versions of a row, and who set each of its columns last.

use std::collections::{HashMap, HashSet};

use super::delta::{get, overlay, underlay};
use crate::catalog::Table;
use crate::error::Result;
use crate::event::frame::Glance;
use crate::event::value::Value;
use crate::event::{Event, Image, Op, Origin, RowKey, Seq};
use crate::store::{Entry, LogReader, Pending};

/// The newest key changes of a row that are followed back.
const MOST_KEYS: usize = 100;

/// All that the log has of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Its table.
    pub table: String,
    /// Its key.
    pub key: RowKey,
    /// Its events in their order, with those under the keys that it had before.
    pub versions: Vec<Version>,
    /// Whether the row is older than this replica's log.
    pub is_older: bool,
    /// Damaged frames: they may be of this row.
    pub unreadable: Vec<Seq>,
}

/// An event of a row, and the row behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The event. Of a key change it is the insert under the new key.
    pub entry: Entry,
    /// Whether it has changed the row: it has not lost, and is not set aside.
    pub is_effective: bool,
    /// The columns that it changed, or wanted to change.
    pub changes: Vec<ColumnChange>,
    /// The row behind it, as far as it is known; `None` if it is gone. Of an event without effect
    /// the row as it was.
    pub row: Option<Image>,
    /// The key that the row had before, if the event changed it.
    pub moved_from: Option<RowKey>,
    /// The key that the row has got, if the event is the delete of a key change.
    pub moved_to: Option<RowKey>,
}

/// A column that an event changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnChange {
    /// Its name, as the event has it.
    pub column: String,
    /// The old value, where there is one and it is known.
    pub old: Option<Value>,
    /// The new value; `None` if the row is gone.
    pub new: Option<Value>,
}

/// Who set a column last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blamed {
    /// The column.
    pub column: String,
    /// Its value now.
    pub value: Value,
    /// The event; `None` if the value is older than this replica's log.
    pub entry: Option<Entry>,
}

/// The changes of an event by itself.
fn changes(op: Op, before: Option<&Image>, after: Option<&Image>) -> Vec<ColumnChange> {
    let empty = Image::default();
    let (before, after) = (before.unwrap_or(&empty), after.unwrap_or(&empty));
    let image = if op == Op::Delete { before } else { after };
    let change = |(column, _): &(String, Value)| ColumnChange {
        column: column.clone(),
        old: get(before, column).cloned(),
        new: get(after, column).cloned(),
    };
    image.0.iter().map(change).collect()
}

/// The changes of a row that got another key: what differs but for that.
fn moved(before: &Image, after: &Image) -> Vec<ColumnChange> {
    let mut all = changes(Op::Update, Some(before), Some(after));
    all.retain(|change| change.old != change.new);
    all
}

/// Whether two events that follow each other are a key change that the remote made: theirs do not
/// name each other.
fn is_unnamed_change(table: &Table, delete: &Event, insert: &Event) -> bool {
    let is_webs = |event: &Event| event.origin == Origin::Web || event.cause.is_some();
    let (Some(before), Some(after)) = (&delete.before, &insert.after) else { return false };
    let columns = table.columns.iter().enumerate().filter(|(at, _)| !table.is_key(*at));
    delete.op == Op::Delete
        && insert.op == Op::Insert
        && delete.verdict.is_applied()
        && delete.seq.0 + 1 == insert.seq.0
        && (delete.pair, insert.pair) == (None, None)
        && is_webs(delete)
        && (delete.origin, delete.cause, delete.unit) == (insert.origin, insert.cause, insert.unit)
        && delete.table.eq_ignore_ascii_case(&insert.table)
        && columns.map(|(_, column)| &column.name).all(|name| get(before, name) == get(after, name))
}

/// The delete under the former key, if `insert` is the second half of a key change.
fn former(log: &LogReader<'_>, table: &Table, insert: &Event) -> Result<Option<Event>> {
    if insert.op != Op::Insert || !insert.verdict.is_applied() {
        return Ok(None);
    }
    let delete = match insert.pair {
        Some(id) => log.named_before(id, insert.seq)?,
        None => log.before(insert.seq)?.filter(|one| is_unnamed_change(table, one, insert)),
    };
    Ok(delete.filter(|one| one.op == Op::Delete && one.table.eq_ignore_ascii_case(&insert.table)))
}

/// The insert under the new key, if `delete` is the first half of a key change.
fn latter(log: &LogReader<'_>, table: &Table, delete: &Event) -> Result<Option<Event>> {
    if delete.op != Op::Delete || !delete.verdict.is_applied() {
        return Ok(None);
    }
    // The halves may have consequences between them.
    const BETWEEN: i64 = 100;
    let within = Seq(delete.seq.0 + if delete.pair.is_some() { BETWEEN } else { 1 });
    let mut found = None;
    let mut wanted = |_, glance: &Glance<'_>| delete.pair.is_none_or(|pair| pair == glance.id);
    log.settled(delete.seq, within, &mut wanted, &mut |event| {
        if delete.pair.is_some() || is_unnamed_change(table, delete, &event) {
            found = Some(event);
        }
        Ok(())
    })?;
    Ok(found)
}

/// The settled events of a row, with those under its former keys, in the order of the log. The
/// delete under a former key is left out, and given beside its insert.
struct Collected {
    events: Vec<(Event, Option<Event>)>,
    unreadable: Vec<Seq>,
}

fn collect(log: &LogReader<'_>, table: &Table, key: &RowKey) -> Result<Collected> {
    let mut all = Collected { events: Vec::new(), unreadable: Vec::new() };
    let (mut key, mut until) = (key.clone(), Seq(i64::MAX));
    for turn in 0..MOST_KEYS {
        let found = log.of_row(&table.name, &key, Seq(0), until)?;
        if turn == 0 {
            all.unreadable = found.unreadable;
        }
        let mut next = None;
        let mut here = Vec::new();
        for event in found.events {
            let before = former(log, table, &event)?;
            if let Some(delete) = &before {
                next = Some((delete.key.clone(), Seq(delete.seq.0 - 1)));
            }
            // Under a former key the row begins with its last insert: before that the key was
            // another row's.
            if turn > 0 && event.op == Op::Insert && event.verdict.is_applied() {
                here.clear();
                if before.is_none() {
                    next = None;
                }
            }
            here.push((event, before));
        }
        here.append(&mut all.events);
        all.events = here;
        match next {
            Some(earlier) => (key, until) = earlier,
            None => break,
        }
    }
    all.events.sort_by_key(|(event, _)| event.seq);
    Ok(all)
}

/// The versions of a row of `table`.
///
/// # Errors
///
/// `Corrupt` when the values of one of its events are damaged.
pub(crate) fn history(log: &LogReader<'_>, table: &Table, key: &RowKey) -> Result<History> {
    let collected = collect(log, table, key)?;
    let mut versions = Vec::new();
    for (event, before) in collected.events {
        let moved_to = latter(log, table, &event)?.map(|insert| insert.key);
        let changes = match (&before, &event.after) {
            (Some(Event { before: Some(old), .. }), Some(new)) => moved(old, new),
            _ => changes(event.op, event.before.as_ref(), event.after.as_ref()),
        };
        let is_effective = event.verdict.is_applied();
        let moved_from = before.map(|delete| delete.key);
        let entry = Entry::Settled(event);
        versions.push(Version { entry, is_effective, changes, row: None, moved_from, moved_to });
    }
    log.pending(&mut |pending| {
        if pending.event.key == *key && pending.event.table.eq_ignore_ascii_case(&table.name) {
            versions.push(of_pending(pending));
        }
        Ok(())
    })?;
    let now = log.row(table, key)?;
    let is_older = is_older(&versions, now.is_some());
    fill(&mut versions, now);
    let (table, unreadable) = (table.name.clone(), collected.unreadable);
    Ok(History { table, key: key.clone(), versions, is_older, unreadable })
}

/// Whether a row under one of the keys was there in front of its first event.
fn is_older(versions: &[Version], is_there: bool) -> bool {
    let mut seen = HashSet::new();
    let mut effective = versions.iter().filter(|version| version.is_effective);
    let older = effective
        .any(|version| seen.insert(version.entry.row().1) && version.entry.op() != Op::Insert);
    older || seen.is_empty() && is_there
}

fn of_pending(pending: Pending) -> Version {
    let event = &pending.event;
    let changes = changes(event.op, pending.under.as_ref(), event.after.as_ref());
    Version {
        is_effective: !event.aside,
        changes,
        entry: pending.into_entry(),
        row: None,
        moved_from: None,
        moved_to: None,
    }
}

/// Works out the row behind each version: forwards from what each event says, and backwards from
/// the row `now` that stands at the key. Rows under other keys are told apart: two of them may have
/// lived at the same time.
fn fill(versions: &mut [Version], now: Option<Image>) {
    let mut rows: HashMap<RowKey, Image> = HashMap::new();
    for version in versions.iter_mut() {
        let key = version.entry.row().1.clone();
        if version.is_effective {
            let (before, after) = version.entry.images();
            let known = rows.remove(&key);
            let row = match version.entry.op() {
                Op::Insert => Some(after.cloned().unwrap_or_default()),
                Op::Delete => None,
                Op::Update => {
                    let mut image = known.or_else(|| before.cloned()).unwrap_or_default();
                    overlay(&mut image, after.unwrap_or(&Image::default()));
                    Some(image)
                }
            };
            rows.extend(row.map(|row| (key.clone(), row)));
        }
        version.row = rows.get(&key).cloned();
    }
    let last = versions.last().map(|version| version.entry.row().1.clone());
    let mut behind: HashMap<RowKey, Image> = last.zip(now).into_iter().collect();
    for version in versions.iter_mut().rev() {
        let key = version.entry.row().1.clone();
        let known = behind.get(&key);
        match (&mut version.row, known) {
            (Some(row), Some(known)) => underlay(row, known),
            (row @ None, Some(_)) if !version.is_effective => *row = known.cloned(),
            _ => {}
        }
        if !version.is_effective {
            continue;
        }
        let (before, _) = version.entry.images();
        let earlier = match version.entry.op() {
            Op::Insert => None,
            Op::Delete => before.cloned(),
            Op::Update => version.row.clone().map(|mut row| {
                overlay(&mut row, before.unwrap_or(&Image::default()));
                row
            }),
        };
        behind.remove(&key);
        behind.extend(earlier.map(|row| (key, row)));
        if let (Some(from), Some(mut row)) = (&version.moved_from, version.row.clone()) {
            let old = |change: &ColumnChange| Some((change.column.clone(), change.old.clone()?));
            overlay(&mut row, &Image(version.changes.iter().filter_map(old).collect()));
            behind.insert(from.clone(), row);
        }
    }
}

/// The versions of the row that stands at the key now, since it came, the newest first.
fn life(history: &History) -> Vec<&Version> {
    let mut key = &history.key;
    let mut life = Vec::new();
    for version in history.versions.iter().rev().filter(|version| version.is_effective) {
        if version.entry.row().1 != key {
            continue;
        }
        match version.entry.op() {
            Op::Delete => break,
            Op::Update => life.push(version),
            Op::Insert => {
                life.push(version);
                match &version.moved_from {
                    Some(from) => key = from,
                    None => break,
                }
            }
        }
    }
    life
}

/// Who set each column of a row last. `now` is the row as it stands.
pub(crate) fn blame(history: &History, table: &Table, now: &Image) -> Vec<Blamed> {
    let life = life(history);
    let blamed = |column: &str| {
        let set = |version: &&&Version| {
            version.changes.iter().any(|change| change.column.eq_ignore_ascii_case(column))
        };
        let entry = life.iter().find(set).map(|version| version.entry.clone());
        let value = get(now, column).cloned().unwrap_or(Value::Null);
        Blamed { column: column.to_owned(), value, entry }
    };
    table.column_names().map(blamed).collect()
}
