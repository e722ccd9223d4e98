//! One transaction of a comparison: what each row should be, and the resulting events.

use rusqlite::{Connection, ErrorCode};

use super::found::{Missing, Recaptured, Remote};
use super::returned::note;
use crate::catalog::{Column, Table};
use crate::error::Result;
use crate::event::json::read_names;
use crate::event::value::Value;
use crate::event::{Change, EventId, Image, Op, Origin, RowKey, Seq};
use crate::protocol::compare::behind::AtCursor;
use crate::store::Store;
use crate::store::outbox::pending::{PendingEvent, known_columns, load, row_hash};
use crate::store::rows::row::{borrow, known_key, overlay, value};
use crate::store::rows::writer::Writer;

/// A column that both sides have.
struct Shared<'a> {
    here: &'a Column,
    there: &'a Column,
    /// For a column that was not compared before: the values that it has without a write, here and
    /// there.
    arrived: Option<(Value, Value)>,
}

impl Shared<'_> {
    /// Whether storing either value in the other's column gives the other.
    fn same(&self, here: &Value, there: &Value) -> bool {
        here == there
            || self.here.affinity.convert(there.clone()) == *here
            || self.there.affinity.convert(here.clone()) == *there
    }
}

/// One transaction of a comparison.
pub(super) struct Comparison<'a> {
    store: &'a Store,
    tx: &'a Connection,
    at: usize,
    remote: Remote<'a>,
    columns: Vec<Shared<'a>>,
    writer: Writer<'a>,
    cursor: Seq,
    sent: i64,
    now_ms: i64,
    done: Recaptured,
}

/// The expected row, with the facts about it.
struct Row {
    expected: Option<Image>,
    here: Option<Image>,
    events: Vec<PendingEvent>,
    /// The first pending event that does not fit the row, and the row before it.
    misfit: Option<(usize, Option<Image>)>,
}

impl<'a> Comparison<'a> {
    /// For the table at `at`.
    pub(super) fn of(
        store: &'a Store,
        tx: &'a Connection,
        at: usize,
        remote: Remote<'a>,
        now_ms: i64,
    ) -> Result<Comparison<'a>> {
        let table = &store.tables[at].table;
        let sql = "SELECT t.compared, s.sent, s.cursor FROM driftless_tables AS t
                   JOIN driftless_state AS s WHERE t.name = ?1";
        let (compared, sent, cursor): (String, i64, i64) =
            tx.query_row(sql, [&table.name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let cursor = Seq(cursor);
        let compared = read_names(&compared);
        let mut columns = Vec::new();
        for here in &table.columns {
            let Some(there) = remote.table().column(&here.name) else { continue };
            let is_known = compared.is_empty()
                || compared.iter().any(|name| name.eq_ignore_ascii_case(&here.name));
            let arrived = match is_known {
                true => None,
                false => Some((default_of(tx, here)?, default_of(tx, there)?)),
            };
            columns.push(Shared { here, there, arrived });
        }
        let writer = Writer::new(tx, &store.tables, &store.guard);
        let done = Recaptured::default();
        Ok(Comparison { store, tx, at, remote, columns, writer, cursor, sent, now_ms, done })
    }

    /// The transaction.
    pub(super) fn tx(&self) -> &'a Connection {
        self.tx
    }

    /// The result so far.
    pub(super) fn done(self) -> Recaptured {
        self.done
    }

    fn table(&self) -> &'a Table {
        &self.store.tables[self.at].table
    }

    /// The expected row and the present one; `None` if the expected row is unknown.
    fn look(&mut self, key: &RowKey, there: Option<Image>) -> Result<Option<Row>> {
        let table = self.table();
        let Some(values) = known_key(table, &key.0) else {
            self.done.unknown += 1;
            return Ok(None);
        };
        if self.waits(key)? {
            self.done.unknown += 1;
            return Ok(None);
        }
        let here = self.writer.row(self.at, &values)?.map(|row| row.into_image());
        let events = self.events(key)?;
        let AtCursor::Row(mut expected) = self.remote.behind().at_cursor(&table.name, key, there)
        else {
            self.done.unknown += 1;
            return Ok(None);
        };
        let mut misfit = None;
        for (place, event) in events.iter().enumerate() {
            let fits = expected.is_none() == (event.op() == Op::Insert);
            if !fits && misfit.is_none() {
                misfit = Some((place, expected.clone()));
            }
            expected = match event.op() {
                Op::Insert => Some(event.after()?),
                Op::Delete => None,
                Op::Update => match expected {
                    Some(mut image) => {
                        let after = event.after()?;
                        overlay(table, &mut image, &borrow(&after));
                        Some(image)
                    }
                    None => None,
                },
            };
        }
        Ok(Some(Row { expected, here, events, misfit }))
    }

    /// Whether an event of the row is in quarantine.
    fn waits(&self, key: &RowKey) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM driftless_quarantine WHERE tbl = ?1 AND pk = ?2)";
        let mut statement = self.tx.prepare_cached(sql)?;
        Ok(statement.query_row([&self.table().name, &key.0], |row| row.get(0))?)
    }

    /// The pending events that are on a row, in their order.
    fn events(&self, key: &RowKey) -> Result<Vec<PendingEvent>> {
        let name = &self.table().name;
        let numbers = self.store.outbox.pending().of_row(row_hash(name, &key.0)).to_vec();
        let mut events = Vec::with_capacity(numbers.len());
        for n in numbers {
            let event = load(self.tx, self.store.outbox.layouts(), n)?;
            events.extend(event.filter(|event| event.is_of(name, &key.0) && !event.is_aside()));
        }
        Ok(events)
    }

    /// Compares a row, which the remote has as `there`.
    pub(super) fn row(&mut self, key: &RowKey, there: Option<Image>) -> Result<()> {
        let Some(row) = self.look(key, there.clone())? else { return Ok(()) };
        if let Some((place, before)) = &row.misfit
            && self.mend(key, &row, *place, before.as_ref())?
        {
            // The next step compares the present row with the expected one.
            self.store.outbox.pending_mut().forget();
            self.refresh()?;
            return self.row(key, there);
        }
        match (row.expected, row.here) {
            (None, None) => Ok(()),
            (None, Some(here)) => self.append(key, &Found::insert(&here)),
            (Some(_), None) => {
                let sql = "INSERT INTO temp.driftless_missing VALUES (?1, ?2)";
                let image = there.map(|image| image.to_json());
                self.tx.prepare_cached(sql)?.execute((&key.0, image))?;
                Ok(())
            }
            (Some(expected), Some(here)) => self.both(key, &expected, &here, &row.events),
        }
    }

    /// Compares a row that is expected here and exists.
    fn both(
        &mut self,
        key: &RowKey,
        expected: &Image,
        here: &Image,
        events: &[PendingEvent],
    ) -> Result<()> {
        let (mut before, mut after) = (Image::default(), Image::default());
        let (mut filled, mut clash) = (Image::default(), false);
        for column in &self.columns {
            let name = &column.here.name;
            let mine = here.get(name).cloned().unwrap_or_default();
            let theirs = match (expected.get(name), &column.arrived) {
                (Some(value), _) => value.clone(),
                (None, Some((_, default))) => default.clone(),
                (None, None) => default_of(self.tx, column.there)?,
            };
            if column.same(&mine, &theirs) {
                continue;
            }
            let mut named = false;
            for event in events {
                named |= event.after()?.get(name).is_some();
            }
            match &column.arrived {
                Some((default, _)) if mine == *default => {
                    filled.0.push((name.clone(), theirs));
                }
                Some((_, default)) if !named && theirs != *default => {
                    filled.0.push((name.clone(), theirs));
                    clash = true;
                }
                _ => {
                    before.0.push((name.clone(), theirs));
                    after.0.push((name.clone(), mine));
                }
            }
        }
        if !after.0.is_empty() {
            self.append(key, &Found::update(&before, &after))?;
        }
        if clash {
            self.append(key, &Found { is_lost: true, ..Found::insert(here) })?;
        }
        if filled.0.is_empty() {
            return Ok(());
        }
        let values = known_key(self.table(), &key.0).expect("it was read");
        match self.writer.update(self.at, &values, &borrow(&filled)) {
            Ok(_) => {
                self.done.filled += 1;
                self.changed(key, Op::Update);
                Ok(())
            }
            Err(error) if is_constraint(&error) => {
                tracing::warn!(
                    table = self.table().name,
                    "a new column refuses the remote's value"
                );
                self.done.unknown += 1;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Handles a row that is expected here and did not exist.
    pub(super) fn missing_row(
        &mut self,
        key: &RowKey,
        there: Option<Image>,
        fate: Missing,
    ) -> Result<()> {
        let Some(row) = self.look(key, there)? else { return Ok(()) };
        // It may exist now. Then its insert was captured.
        let (Some(expected), None) = (row.expected, row.here) else { return Ok(()) };
        if fate == Missing::Deleted {
            return self.append(key, &Found::delete(&expected));
        }
        let columns = known_columns(self.table(), &expected);
        match self.writer.upsert(self.at, &key.0, &columns) {
            Ok(_) => {
                note(self.tx, &self.table().name, key, self.now_ms)?;
                self.done.returned += 1;
                self.changed(key, Op::Insert);
                Ok(())
            }
            Err(error) if is_constraint(&error) => {
                tracing::warn!(table = self.table().name, "a missing row cannot come back");
                self.done.unknown += 1;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Records that a row got the remote's values. Their writer is not known.
    fn changed(&mut self, key: &RowKey, op: Op) {
        let (table, key) = (self.table().name.clone(), key.clone());
        self.done.changes.push(Change { table, key, op, origin: Origin::Web });
    }

    /// Repairs the pending event at `place`, which does not fit the row `before` it. Returns
    /// whether it did: an event that may have been sent is left unchanged.
    fn mend(
        &mut self,
        key: &RowKey,
        row: &Row,
        place: usize,
        before: Option<&Image>,
    ) -> Result<bool> {
        let event = &row.events[place];
        let (n, ..) = event.brief();
        if n <= self.sent || event.is_key_change_half() {
            return Ok(false);
        }
        let (op, before, after) = match (event.op(), before) {
            (Op::Update, None) => {
                let mut image = row.here.clone();
                for later in row.events[place + 1..].iter().rev() {
                    image = later.undo(image)?;
                }
                let Some(image) = image else { return Ok(false) };
                (Op::Insert, None, image)
            }
            (Op::Insert, Some(there)) => {
                let (mut before, mut after) = (Image::default(), Image::default());
                for (name, value) in event.after()?.0 {
                    let Some(old) = there.get(&name).filter(|old| **old != value) else { continue };
                    before.0.push((name.clone(), old.clone()));
                    after.0.push((name, value));
                }
                if after.0.is_empty() {
                    // The row is unchanged: an update of nothing.
                    let name = self.table().key_columns().next().map(|column| &column.name);
                    let key = name.and_then(|name| Some((name.clone(), there.get(name)?.clone())));
                    before.0.extend(key.clone());
                    after.0.extend(key);
                }
                (Op::Update, Some(before), after)
            }
            _ => return Ok(false),
        };
        let sql = "UPDATE driftless_outbox SET layout = NULL, tbl = ?2, pk = ?3, op = ?4,
                   before = ?5, after = ?6, changes = NULL, undo = NULL WHERE n = ?1";
        let before = before.map(|image| image.to_json());
        let row = (n, &self.table().name, &key.0, op as u8, before, after.to_json());
        self.tx.prepare_cached(sql)?.execute(row)?;
        self.done.found += 1;
        Ok(true)
    }

    /// Reads the pending events again.
    fn refresh(&self) -> Result<()> {
        let mut pending = self.store.outbox.pending_mut();
        pending.refresh(self.tx, self.store.outbox.layouts(), self.cursor)
    }

    /// Appends an event.
    fn append(&mut self, key: &RowKey, found: &Found<'_>) -> Result<()> {
        let mut statement = self.tx.prepare_cached(
            "INSERT INTO driftless_outbox (ms, tail, tbl, pk, op, before, after, base, aside)
             SELECT max(clock, ?1), random() & ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
             FROM driftless_state",
        )?;
        let json = |image: Option<&Image>| image.map(Image::to_json);
        let base = if found.is_lost { Seq(0) } else { self.cursor };
        let (mask, table) = (EventId::TAIL_MASK, &self.table().name);
        let (before, after) = (json(found.before), json(found.after));
        let (op, aside) = (found.op as u8, found.is_lost);
        let row = (self.now_ms, mask, table, &key.0, op, before, after, base.0, aside);
        statement.execute(row)?;
        self.done.found += 1;
        Ok(())
    }
}

/// A write that capture missed.
struct Found<'i> {
    op: Op,
    before: Option<&'i Image>,
    after: Option<&'i Image>,
    /// Whether it has lost in any case. It is set aside, and has base 0.
    is_lost: bool,
}

impl<'i> Found<'i> {
    fn insert(after: &'i Image) -> Self {
        Found { op: Op::Insert, before: None, after: Some(after), is_lost: false }
    }

    fn update(before: &'i Image, after: &'i Image) -> Self {
        Found { op: Op::Update, before: Some(before), after: Some(after), is_lost: false }
    }

    fn delete(before: &'i Image) -> Self {
        Found { op: Op::Delete, before: Some(before), after: None, is_lost: false }
    }
}

/// The value of a column in a row that was inserted without it.
fn default_of(db: &Connection, column: &Column) -> Result<Value> {
    let Some(default) = &column.default else { return Ok(Value::Null) };
    // If a default needs something that only the application has, it is unknown, and no value
    // equals it.
    let sql = format!("SELECT {default}");
    match db.query_row(&sql, [], |row| Ok(value(row.get_ref(0)?))) {
        Ok(value) => Ok(column.affinity.convert(value)),
        Err(error) => {
            tracing::debug!(column = column.name, "a default cannot be read: {error}");
            Ok(Value::Null)
        }
    }
}

fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}
