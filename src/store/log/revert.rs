//! Takes settled changes back, by SQL on a connection of its own, so that capture makes new events
//! of that. Nothing is taken out of the log.
//!
//! The newest event is taken back first. What others have changed since stays:
//!
//! * of an update, a column is set to its old value where it still has the event's new one;
//! * an inserted row is deleted if it is still as the event left it, and no other row refers to it;
//! * a deleted row is inserted again if no row has its key;
//! * a key change is taken back as one update.
//!
//! What cannot be taken back is told, with the reason, and the rest goes on. A foreign key may
//! refuse a row until another one is back: such an event is tried again as long as others get on.
//!
//! Triggers of the application run, but what they write to replicated tables is left out, as in
//! [`restore`](crate::store::conflicts::restore): what they wrote then is an event of its own.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, TransactionBehavior, params_from_iter};

use crate::catalog::{Table, ident};
use crate::error::{Error, Result};
use crate::event::value::{Value, ValueRef};
use crate::event::{Event, EventId, Image, Op, RowKey, Seq};
use crate::store::Store;
use crate::store::connection::connect;
use crate::store::rows::refusal::{is_refusal, message};
use crate::store::rows::row::{Row, borrow, known_key};
use crate::store::rows::trigger_guard::{Guard, leave_out_writes};
use crate::store::rows::writer::Writer;

/// What became of events that were to be taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Reverted {
    /// What was taken back, the newest first. They are new events now, to be pushed.
    pub reverted: Vec<RevertedEvent>,
    /// What was not, or not all of it.
    pub kept: Vec<KeptEvent>,
    /// How many were taken back already: the rows are as they were before these.
    pub already: u64,
}

/// An event that was taken back.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RevertedEvent {
    /// Its place in the log.
    pub seq: Seq,
    /// Its id.
    pub id: EventId,
    /// Its table.
    pub table: String,
    /// Its row.
    #[serde(flatten, serialize_with = "crate::event::readable::key")]
    pub key: RowKey,
    /// What it did.
    pub op: Op,
    /// The columns that have their old values again; empty if the row came back or went.
    pub columns: Vec<String>,
}

/// An event of which something was not taken back.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct KeptEvent {
    /// Its place in the log.
    pub seq: Seq,
    /// Its id.
    pub id: EventId,
    /// Its table.
    pub table: String,
    /// Its row.
    #[serde(flatten, serialize_with = "crate::event::readable::key")]
    pub key: RowKey,
    /// What it did.
    pub op: Op,
    /// The columns that stay as they are; empty if that is all of the event.
    pub columns: Vec<String>,
    /// Why, in a sentence.
    pub reason: String,
}

impl Store {
    /// Takes settled events back, in one transaction. They come in the order of the log; of a key
    /// change both events. With `dry_run` nothing changes, and the answer is what would.
    ///
    /// # Errors
    ///
    /// `Usage` when a trigger of the application rolls the transaction back or a foreign key
    /// refuses its end; `Storage` when the database fails. Then nothing has changed.
    pub fn revert(&mut self, events: &[Event], dry_run: bool) -> Result<Reverted> {
        let mut db = connect(self.path(), false)?;
        self.on_connect().run(&db)?;
        db.pragma_update(None, "foreign_keys", true)?;
        loop {
            self.check_triggers()?;
            leave_out_writes(&mut db, &self.tables)?;
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if self.current_schema_version()? != self.schema_version {
                continue;
            }
            let guard = Guard::default();
            let done = Reversion {
                store: self,
                db: &tx,
                writer: Writer::new(&tx, &self.tables, &guard),
                done: Reverted::default(),
            }
            .run(events)?;
            if dry_run {
                tx.rollback()?;
            } else if let Err(error) = tx.commit() {
                if !is_refusal(&error) {
                    return Err(error.into());
                }
                let why = message(&error);
                return Err(Error::usage(format!("nothing was taken back: {why}"))
                    .with_hint("take back fewer events at a time"));
            }
            return Ok(done);
        }
    }
}

/// What became of one event.
enum Tried {
    /// These columns have their old values again.
    Done(Vec<String>),
    /// The row is as it was before the event.
    Already,
    /// It stays, for this reason; a foreign key's may go.
    Kept { reason: String, may_go: bool },
}

struct Reversion<'s> {
    store: &'s Store,
    db: &'s Connection,
    writer: Writer<'s>,
    done: Reverted,
}

impl Reversion<'_> {
    fn run(mut self, events: &[Event]) -> Result<Reverted> {
        let deletes: HashMap<EventId, &Event> = events
            .iter()
            .filter(|event| event.op == Op::Delete && event.pair.is_some())
            .map(|event| (event.id, event))
            .collect();
        let pair = |event: &Event| event.pair.and_then(|id| deletes.get(&id)).copied();
        let inserts: HashSet<EventId> = events
            .iter()
            .filter(|event| event.op == Op::Insert)
            .filter_map(|event| pair(event).map(|delete| delete.id))
            .collect();
        let mut left: Vec<&Event> = events
            .iter()
            .rev()
            .filter(|event| event.verdict.is_applied() && !inserts.contains(&event.id))
            .collect();
        loop {
            let (before, mut kept, mut again) = (left.len(), Vec::new(), Vec::new());
            for event in left {
                let tried = self.try_one(event, pair(event))?;
                match tried {
                    Tried::Already => self.done.already += 1,
                    Tried::Done(columns) => self.done.reverted.push(reverted(event, columns)),
                    Tried::Kept { reason, may_go: true } => {
                        kept.push(kept_event(event, Vec::new(), reason));
                        again.push(event);
                    }
                    Tried::Kept { reason, .. } => {
                        self.done.kept.push(kept_event(event, Vec::new(), reason));
                    }
                }
            }
            if again.is_empty() || again.len() == before {
                self.done.kept.extend(kept);
                return Ok(self.done);
            }
            left = again;
        }
    }

    fn try_one(&mut self, event: &Event, pair: Option<&Event>) -> Result<Tried> {
        self.db.execute_batch("SAVEPOINT driftless_one")?;
        let told = self.done.kept.len();
        let tried = self.one(event, pair);
        if self.db.is_autocommit() {
            let message = format!(
                "a trigger of the application rolled back when event {} of row {} of table `{}` \
                 was taken back; nothing was taken back",
                event.seq, event.key, event.table
            );
            return Err(Error::usage(message).with_hint("change the trigger, or leave the event"));
        }
        if matches!(tried, Ok(Tried::Kept { .. }) | Err(_)) {
            self.done.kept.truncate(told);
            self.db.execute_batch("ROLLBACK TO driftless_one")?;
        }
        self.db.execute_batch("RELEASE driftless_one")?;
        tried
    }

    fn one(&mut self, event: &Event, pair: Option<&Event>) -> Result<Tried> {
        let kept = |reason: &str| Ok(Tried::Kept { reason: reason.to_owned(), may_go: false });
        let Some(at) = self.store.table_index(&event.table) else {
            return kept("the table is not replicated here");
        };
        let table = &self.store.tables[at].table;
        let Some(key) = known_key(table, &event.key.0) else {
            return kept("the key of the table has another form now");
        };
        let row = self.writer.row(at, &key)?.map(Row::into_image);
        match (event.op, pair, row) {
            (Op::Insert, Some(delete), Some(row)) => self.move_back(at, event, delete, &row),
            (Op::Insert, None, Some(row)) => self.delete(at, event, &row),
            (Op::Insert, None, None) => Ok(Tried::Already),
            (Op::Insert, _, None) => kept("the row is gone"),
            (Op::Update, _, Some(row)) => {
                let (before, after) = (event.before.as_ref(), event.after.as_ref());
                self.set_back(at, event, before, after, &row)
            }
            (Op::Update, _, None) => kept("the row is gone"),
            (Op::Delete, _, Some(row)) => match &event.before {
                Some(image) if holds(table, &row, image) => Ok(Tried::Already),
                _ => kept("another row with this key is there"),
            },
            (Op::Delete, _, None) => match &event.before {
                Some(image) if !image.0.is_empty() => self.insert(at, event, image),
                _ => kept("the log does not have the row's values"),
            },
        }
    }

    /// Sets the columns that are still as an event left them to what they were before it.
    fn set_back(
        &mut self,
        at: usize,
        event: &Event,
        before: Option<&Image>,
        after: Option<&Image>,
        row: &Image,
    ) -> Result<Tried> {
        let table = &self.store.tables[at].table;
        let (mut back, mut changed, mut unknown) = (Image::default(), Vec::new(), Vec::new());
        for (name, new) in after.map(|image| image.0.as_slice()).unwrap_or_default() {
            let old = before.and_then(|image| get(image, name));
            if table.column(name).is_none() {
                unknown.push(name.clone());
            } else if old.is_some() && get(row, name) == old {
                continue;
            } else if get(row, name) != Some(new) {
                changed.push(name.clone());
            } else if let Some(old) = old {
                back.0.push((name.clone(), old.clone()));
            } else {
                unknown.push(name.clone());
            }
        }
        let all = |columns: &[String]| match back.0.is_empty() {
            true => Vec::new(),
            false => columns.to_vec(),
        };
        let mut told = Vec::new();
        if !changed.is_empty() {
            told.push(kept_event(event, all(&changed), "it was changed again since".to_owned()));
        }
        if !unknown.is_empty() {
            let reason = "the log does not have the old value, or the column is gone".to_owned();
            told.push(kept_event(event, all(&unknown), reason));
        }
        if back.0.is_empty() && !told.is_empty() {
            let reason = told.swap_remove(0).reason;
            return Ok(Tried::Kept { reason, may_go: false });
        }
        if back.0.is_empty() {
            return Ok(Tried::Already);
        }
        let key = known_key(table, &event.key.0).expect("it was read by this key");
        let written = self.writer.update(at, &key, &borrow(&back));
        let columns = back.0.iter().map(|(name, _)| name.clone()).collect();
        self.outcome(written, columns, told)
    }

    /// Gives a row its former key again, and the other values that the key change has changed.
    fn move_back(
        &mut self,
        at: usize,
        insert: &Event,
        delete: &Event,
        row: &Image,
    ) -> Result<Tried> {
        let table = &self.store.tables[at].table;
        let taken = match known_key(table, &delete.key.0) {
            Some(old) if delete.key != insert.key => self.writer.row(at, &old)?.is_some(),
            _ => false,
        };
        if taken {
            let reason = format!("another row has the former key {} now", delete.key);
            return Ok(Tried::Kept { reason, may_go: true });
        }
        let (before, mut after) = (delete.before.as_ref(), insert.after.clone());
        if let (Some(before), Some(after)) = (before, &mut after) {
            after.0.retain(|(name, value)| get(before, name) != Some(value));
        }
        self.set_back(at, insert, before, after.as_ref(), row)
    }

    /// Deletes a row that is as its insert left it, if no other refers to it.
    fn delete(&mut self, at: usize, event: &Event, row: &Image) -> Result<Tried> {
        let table = &self.store.tables[at].table;
        let after = event.after.clone().unwrap_or_default();
        let changed = after
            .0
            .iter()
            .find(|(name, value)| table.column(name).is_some() && get(row, name) != Some(value));
        if let Some((column, _)) = changed {
            let reason = format!("`{column}` was changed since, so the row stays");
            return Ok(Tried::Kept { reason, may_go: false });
        }
        if let Some(child) = child(self.db, table, row)? {
            let reason = format!("rows of table `{child}` refer to it");
            return Ok(Tried::Kept { reason, may_go: true });
        }
        let key = known_key(table, &event.key.0).expect("it was read by this key");
        let written = self.writer.delete(at, &key);
        self.outcome(written, Vec::new(), Vec::new())
    }

    /// Inserts a deleted row again.
    fn insert(&mut self, at: usize, event: &Event, image: &Image) -> Result<Tried> {
        let table = &self.store.tables[at].table;
        let known = |(name, _): &&(String, Value)| table.column(name).is_some();
        let image = Image(image.0.iter().filter(known).cloned().collect());
        let written = self.writer.upsert(at, &event.key.0, &borrow(&image));
        self.outcome(written, Vec::new(), Vec::new())
    }

    fn outcome(
        &mut self,
        written: rusqlite::Result<usize>,
        columns: Vec<String>,
        told: Vec<KeptEvent>,
    ) -> Result<Tried> {
        match written {
            Ok(_) => {
                self.done.kept.extend(told);
                Ok(Tried::Done(columns))
            }
            Err(error) if is_refusal(&error) => {
                Ok(Tried::Kept { reason: message(&error), may_go: true })
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether a row has the values of an image, as far as the table has the columns.
fn holds(table: &Table, row: &Image, image: &Image) -> bool {
    let mut known = image.0.iter().filter(|(name, _)| table.column(name).is_some());
    known.all(|(name, value)| get(row, name) == Some(value))
}

fn get<'i>(image: &'i Image, name: &str) -> Option<&'i Value> {
    image.0.iter().find(|(mine, _)| mine.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn reverted(event: &Event, columns: Vec<String>) -> RevertedEvent {
    let (table, key) = (event.table.clone(), event.key.clone());
    RevertedEvent { seq: event.seq, id: event.id, table, key, op: event.op, columns }
}

fn kept_event(event: &Event, columns: Vec<String>, reason: String) -> KeptEvent {
    let (table, key) = (event.table.clone(), event.key.clone());
    KeptEvent { seq: event.seq, id: event.id, table, key, op: event.op, columns, reason }
}

/// A foreign key that leads to a table.
struct Reference {
    /// The table that has it.
    child: String,
    /// Its number there.
    number: i64,
    /// Its columns, and those that they lead to, by their names in events.
    columns: Vec<(String, String)>,
}

/// The foreign keys of all tables that lead to this one.
fn references(db: &Connection, table: &Table) -> Result<Vec<Reference>> {
    let sql = "SELECT s.name, f.id, f.\"from\", coalesce(f.\"to\", ''), f.seq
               FROM main.sqlite_schema AS s, pragma_foreign_key_list(s.name, 'main') AS f
               WHERE s.type = 'table' AND f.\"table\" = ?1 COLLATE NOCASE
               ORDER BY s.name, f.id, f.seq";
    let mut keys: Vec<Reference> = Vec::new();
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([&table.name])?;
    while let Some(found) = rows.next()? {
        let (child, number): (String, i64) = (found.get(0)?, found.get(1)?);
        let (from, to): (String, String) = (found.get(2)?, found.get(3)?);
        let part = found.get::<_, i64>(4)? as usize;
        // Without names of columns it leads to the key.
        let to = match to.as_str() {
            "" => table.key.get(part).map(|&at| table.columns[at].name.clone()).unwrap_or_default(),
            _ => {
                let found =
                    table.columns.iter().find(|column| column.present.eq_ignore_ascii_case(&to));
                found.map_or(to, |column| column.name.clone())
            }
        };
        match keys.last_mut() {
            Some(last) if last.child == child && last.number == number => {
                last.columns.push((from, to));
            }
            _ => keys.push(Reference { child, number, columns: vec![(from, to)] }),
        }
    }
    Ok(keys)
}

/// A table with a row that refers to this one by a foreign key; the row itself does not count.
fn child(db: &Connection, table: &Table, row: &Image) -> Result<Option<String>> {
    for Reference { child: name, columns, .. } in references(db, table)? {
        let values: Option<Vec<&Value>> =
            columns.iter().map(|(_, to)| get(row, to).filter(|v| **v != Value::Null)).collect();
        let Some(values) = values else { continue };
        let equal =
            |(at, (from, _)): (usize, &(String, String))| format!("{} = ?{}", ident(from), at + 1);
        let mut conditions: Vec<_> = columns.iter().enumerate().map(equal).collect();
        let mut args: Vec<ValueRef<'_>> = values.into_iter().map(ValueRef::from).collect();
        if name.eq_ignore_ascii_case(&table.name) {
            let own: Vec<_> = table
                .key_columns()
                .enumerate()
                .map(|(at, column)| {
                    format!("{} IS ?{}", ident(&column.present), args.len() + at + 1)
                })
                .collect();
            conditions.push(format!("NOT ({})", own.join(" AND ")));
            let own = table.key_columns().map(|column| get(row, &column.name));
            args.extend(own.map(|value| value.map_or(ValueRef::Null, ValueRef::from)));
        }
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM main.{} WHERE {})",
            ident(&name),
            conditions.join(" AND ")
        );
        let exists: bool =
            db.prepare_cached(&sql)?.query_row(params_from_iter(args), |row| row.get(0))?;
        if exists {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
