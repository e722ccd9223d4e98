//! Puts events in the order of their writes, if triggers of the application caused another order:
//! see [`untangle`].
//!
//! This is done in the outbox itself, before anything else reads the events, because a number is
//! the place in the order and the high bits of an id. The store examines only new events, and of
//! these only rows that have several. The search starts from the row as it is in the table, so no
//! page may be integrated between the write and this check: integration stops until all events are
//! in order. After a restart, events whose base is the cursor are known to be in order.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::pending::{Pending, load};
use super::reader::{COLUMNS, Reader};
use crate::capture::{ChainStep, Move, RowId, Uniques, untangle};
use crate::error::Result;
use crate::event::{Image, Op, Seq};
use crate::store::Store;
use crate::store::apply::step::{Step, Stop};
use crate::store::rows::row::{Row, known_key};
use crate::store::rows::trigger_guard::Guard;
use crate::store::rows::writer::Writer;

impl Store {
    /// Puts the new events of the outbox in order. It takes the write lock only if an event must
    /// move.
    pub(in crate::store) fn straighten(&self) -> Result<()> {
        let tx = self.db.unchecked_transaction()?;
        let moves = self.moves(&tx)?;
        tx.commit()?;
        if moves.is_empty() {
            self.outbox.pending_mut().examined();
            return Ok(());
        }
        let tx = Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate)?;
        let moves = self.moves(&tx)?;
        for &made in &moves {
            renumber(&tx, made)?;
        }
        if let Some(first) = moves.iter().map(|made| made.to).min() {
            raise_times(&tx, first)?;
        }
        tx.commit()?;
        tracing::debug!(moves = moves.len(), "events of triggers are put in their order");
        self.outbox.spans.forget();
        let mut pending = self.outbox.pending_mut();
        let newest = pending.newest();
        pending.forget();
        pending.examined_to(newest);
        Ok(())
    }

    /// Updates the index of pending events, in a transaction with the write lock. Stops if there
    /// are events whose order was not checked.
    pub(in crate::store) fn refresh_pending(&self, tx: &Connection, cursor: Seq) -> Step {
        let mut pending = self.outbox.pending_mut();
        pending.refresh(tx, self.outbox.layouts(), cursor)?;
        if pending.unexamined().is_empty() { Ok(()) } else { Err(Stop::SchemaChanged) }
    }

    /// Reads the new events, and finds the moves that they need. Rows with one event are read only
    /// if another row's events are out of order: they may share a UNIQUE index with that row.
    fn moves(&self, db: &Connection) -> Result<Vec<Move>> {
        let moves = self.moves_of(db, Pending::unexamined)?;
        if moves.is_empty() { Ok(moves) } else { self.moves_of(db, Pending::new_events) }
    }

    fn moves_of(&self, db: &Connection, events: fn(&Pending) -> Vec<i64>) -> Result<Vec<Move>> {
        let sql = "SELECT cursor, sent FROM driftless_state";
        let (cursor, sent): (i64, i64) =
            db.prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut pending = self.outbox.pending_mut();
        pending.refresh(db, self.outbox.layouts(), Seq(cursor))?;
        let mut numbers: Vec<_> = events(&pending).into_iter().filter(|&n| n > sent).collect();
        numbers.sort_unstable();
        let mut links: BTreeMap<i64, ChainStep> = BTreeMap::new();
        let mut in_order = 0;
        let mut reader = Reader::of_values(db, self.outbox.layouts());
        for n in numbers {
            let Some(Read { link, moved }) = read(db, &mut reader, n, cursor)? else { continue };
            if moved {
                // All events were in order when a page was integrated. Without this event, or with
                // the row as it is now, the events before it fit no order.
                in_order = n;
                links.clear();
                continue;
            }
            let other = link.pair.map(|half| if half == 1 { n + 1 } else { n - 1 });
            if links.insert(n, link).is_some() {
                continue;
            }
            if let Some(other) = other.filter(|&other| other > in_order)
                && !links.contains_key(&other)
                && let Some(Read { link, .. }) = read(db, &mut reader, other, cursor)?
            {
                links.insert(other, link);
            }
        }
        self.leave_out_consequences(db, &mut links)?;
        if links.is_empty() {
            return Ok(Vec::new());
        }
        let steps: Vec<ChainStep> = links.into_values().collect();
        let now = self.rows_of(db, &steps)?;
        let uniques = Uniques::of(self.tables.iter().map(|replicated| &replicated.table));
        Ok(untangle(&steps, &now, &uniques))
    }

    /// Leaves out the consequence of a foreign key on a row that refers to itself and changes its
    /// key. Such an event has the new key and comes before the key change. The key change's insert
    /// has its effect, so it is not a link of either row's chain.
    fn leave_out_consequences(
        &self,
        db: &Connection,
        links: &mut BTreeMap<i64, ChainStep>,
    ) -> Result<()> {
        let mut around = Vec::new();
        for (&n, link) in links.iter().filter(|(_, link)| link.op == Op::Update) {
            let event = load(db, self.outbox.layouts(), n)?;
            let Some(parent) = event.and_then(|event| event.parent().cloned()) else { continue };
            let changes = |(delete, insert): (&ChainStep, &ChainStep)| {
                (delete.pair, insert.pair) == (Some(1), Some(2))
                    && insert.row() == link.row()
                    && delete.key == parent
            };
            let mut later = links.range(n + 1..).map(|(_, link)| link);
            let mut former = later.next();
            let found = later.any(|insert| {
                former.replace(insert).is_some_and(|delete| changes((delete, insert)))
            });
            if found && parent != link.key {
                around.push(n);
            }
        }
        around.iter().for_each(|n| _ = links.remove(n));
        Ok(())
    }

    /// The rows of some events, as they are in their tables.
    fn rows_of(
        &self,
        db: &Connection,
        steps: &[ChainStep],
    ) -> Result<HashMap<RowId, Option<Image>>> {
        let guard = Guard::default();
        let mut writer = Writer::new(db, &self.tables, &guard);
        let mut rows = HashMap::new();
        for step in steps {
            let id = step.row();
            if rows.contains_key(&id) {
                continue;
            }
            let Some(table) = self.table_index(&step.table) else { continue };
            let Some(key) = known_key(&self.tables[table].table, &step.key.0) else { continue };
            let row = writer.row(table, &key)?;
            rows.insert(id, row.map(Row::into_image));
        }
        Ok(rows)
    }
}

/// A captured event.
struct Read {
    link: ChainStep,
    /// Whether the row may have been changed by a page since then.
    moved: bool,
}

/// Reads a captured event; `None` if none has this number.
fn read(db: &Connection, reader: &mut Reader<'_>, n: i64, cursor: i64) -> Result<Option<Read>> {
    let sql = format!(
        "SELECT {COLUMNS}, pair, base <> ?2 OR aside OR undo IS NOT NULL FROM driftless_outbox \
         WHERE n = ?1 AND layout IS NOT NULL AND NOT settled"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query([n, cursor])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let mut read = reader.read(row, 0, None)?;
    let ((before, after), op) = (read.take_images(), read.op());
    let (table, key) = read.into_row();
    let image = |json: Option<Vec<u8>>| json.as_deref().map(Image::parse).transpose();
    let (before, after) = (image(before)?, image(after)?);
    let link = ChainStep { n, table, key, op, before, after, pair: row.get(8)? };
    Ok(Some(Read { link, moved: row.get(9)? }))
}

/// Moves events in the outbox. They get negative numbers first, because numbers are unique.
fn renumber(db: &Connection, made: Move) -> Result<()> {
    let Move { from, len, to } = made;
    let give_way = "UPDATE driftless_outbox SET n = -(n + ?3) WHERE n >= ?1 AND n < ?2";
    db.prepare_cached(give_way)?.execute([to, from, len])?;
    let go = "UPDATE driftless_outbox SET n = n - ?3 WHERE n >= ?1 AND n < ?1 + ?2";
    db.prepare_cached(go)?.execute([from, len, from - to])?;
    let back = "UPDATE driftless_outbox SET n = -n WHERE n < 0";
    db.prepare_cached(back)?.execute([])?;
    Ok(())
}

/// Raises times so that an id is never below the id of an event with a lower number.
fn raise_times(db: &Connection, first: i64) -> Result<()> {
    let mut statement =
        db.prepare_cached("SELECT n, ms FROM driftless_outbox WHERE n >= ?1 ORDER BY n")?;
    let mut rows = statement.query([first])?;
    let (mut latest, mut raised) = (i64::MIN, Vec::new());
    while let Some(row) = rows.next()? {
        let (n, ms): (i64, i64) = (row.get(0)?, row.get(1)?);
        if ms < latest {
            raised.push((n, latest));
        }
        latest = latest.max(ms);
    }
    for event in raised {
        db.prepare_cached("UPDATE driftless_outbox SET ms = ?2 WHERE n = ?1")?.execute(event)?;
    }
    Ok(())
}
