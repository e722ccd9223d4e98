//! The conflict inbox: local events that lost, with the winner beside them.
//!
//! An own event that comes back superseded or rejected is listed, unless it is *moot*: what it
//! wanted is so already (both deleted, both wrote the same). A key change is a pair of events and
//! is listed once, as its delete. [`Store::restore`] writes the lost values again with ordinary SQL
//! on a connection of its own, so that capture makes a new event of it, on today's base.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::Store;
use super::guard::Guard;
use super::integrate::Step;
use super::log::Entry;
use super::materialize::{Writer, borrow, is_refusal, known_key};
use super::open::connect;
use super::rebase::{Rebase, overlay};
use crate::error::{Error, Result};
use crate::event::{Event, EventId, Image, Op, RowKey, Seq};
use crate::page::Line;
use crate::value::Value;
use crate::verdict::{TOO_LARGE, Verdict};

/// How a local event lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConflictKind {
    /// Another writer changed the row first.
    Conflict,
    /// Two rows were inserted with one key: two different things.
    Collision,
    /// It broke a constraint.
    Rejected,
}

impl ConflictKind {
    /// The word for it, in the command and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            ConflictKind::Conflict => "conflict",
            ConflictKind::Collision => "collision",
            ConflictKind::Rejected => "rejected",
        }
    }
}

/// What has been done about a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConflictState {
    /// Nothing yet.
    Open,
    /// Its values were written again.
    Restored,
    /// A person took it off the list.
    Dismissed,
}

impl ConflictState {
    /// The word for it, in the command and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            ConflictState::Open => "open",
            ConflictState::Restored => "restored",
            ConflictState::Dismissed => "dismissed",
        }
    }
}

/// A local event that lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The event, with the remote's verdict. Of a key change, the delete.
    pub event: Event,
    /// Of a key change, the insert.
    pub insert: Option<Event>,
    /// How it lost.
    pub kind: ConflictKind,
    /// The event that won, where there is one and it is known here.
    pub winner: Option<Event>,
    /// The row as the remote had it when the loss was learnt; `None` if it was gone.
    pub theirs: Option<Image>,
    /// What has been done about it.
    pub state: ConflictState,
    /// When this replica learnt of it: ms since 1970.
    pub noticed_ms: i64,
    /// Of a former remote: the number of the identity that ended with it
    /// ([`Former`](super::Former)). The seqs of its events are of that remote's log.
    pub former: Option<i64>,
}

/// The key under which a lost insert is to be brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewKey {
    /// A number that no row has: for a table whose key is one INTEGER PRIMARY KEY.
    Fresh,
    /// These values, in the order of the table's key.
    Values(Vec<Value>),
}

/// An own event of a page that lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    /// Its line.
    pub(super) line: usize,
    /// Its row in the rebase.
    pub(super) row: usize,
    /// The event that won, where it is known.
    pub(super) winner: Option<Seq>,
}

/// What is to be listed of a lost event, or of both halves of a key change.
struct Loss {
    seq: Seq,
    id: EventId,
    kind: ConflictKind,
    winner: Option<Seq>,
    theirs: Option<Image>,
}

/// Lists the lost events of a page that are not moot. The page is applied, and no pending event is
/// on top of the rows in question.
pub(super) fn notice(rebase: &mut Rebase<'_, '_>, lost: &[Lost], now_ms: i64) -> Step {
    for one in lost {
        let line = &rebase.lines[one.line];
        let other = |op| {
            lost.iter().find(|other| {
                let other = &rebase.lines[other.line];
                line.pair == Some(other.id) && line.op != op && other.op == op
            })
        };
        let loss = match (line.op, line.pair) {
            (Op::Delete, Some(_)) => match other(Op::Insert) {
                Some(insert) => weigh(rebase, one, Some(insert))?,
                // Its second half is in a later page, and the change is listed with that.
                None => continue,
            },
            // The delete of a pair stands for both.
            (Op::Insert, Some(_)) if other(Op::Delete).is_some() => continue,
            (Op::Insert, Some(delete)) => weigh_late(rebase, one, delete)?,
            _ => weigh(rebase, one, None)?,
        };
        let Some(loss) = loss else { continue };
        // A remote may say of two inserts that they are the other half of one delete.
        let mut statement = rebase.db.prepare_cached(
            "INSERT INTO driftless_conflicts (seq, id, kind, winner, theirs, noticed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (seq) DO NOTHING",
        )?;
        statement.execute((
            loss.seq.0,
            loss.id.0.to_bytes().as_slice(),
            loss.kind.as_str(),
            loss.winner.map(|winner| winner.0),
            loss.theirs.as_ref().map(Image::to_json),
            now_ms,
        ))?;
        rebase.done.conflicts += 1;
    }
    Ok(())
}

/// A lost event, with the insert of a key change whose delete it is; `None` if it is moot.
fn weigh(rebase: &mut Rebase<'_, '_>, one: &Lost, insert: Option<&Lost>) -> Result<Option<Loss>> {
    let line = &rebase.lines[one.line];
    let theirs = current(rebase, one.row)?;
    let mut moot = match line.op {
        Op::Delete => theirs.is_none(),
        _ => holds(theirs.as_ref(), values(line))?,
    };
    if let Some(insert) = insert {
        let there = current(rebase, insert.row)?;
        moot = moot && holds(there.as_ref(), values(&rebase.lines[insert.line]))?;
    }
    if moot {
        return Ok(None);
    }
    let won_by_insert = match one.winner {
        Some(winner) => inserted(rebase, winner)?,
        None => true,
    };
    let exists = line.verdict.reason() == Some("exists");
    let collides = line.op == Op::Insert && theirs.is_some() && won_by_insert;
    let kind = match &line.verdict {
        Verdict::Superseded(_) if collides => ConflictKind::Collision,
        Verdict::Rejected(_) if exists && line.op == Op::Insert => ConflictKind::Collision,
        Verdict::Rejected(_) => ConflictKind::Rejected,
        _ => ConflictKind::Conflict,
    };
    let winner = one.winner.or(insert.and_then(|insert| insert.winner));
    Ok(Some(Loss { seq: line.seq, id: line.id, kind, winner, theirs }))
}

/// The insert of a key change whose delete came in an earlier page; `None` if the change is moot.
fn weigh_late(rebase: &mut Rebase<'_, '_>, one: &Lost, delete: EventId) -> Result<Option<Loss>> {
    let Some(delete) = rebase.store.own_event(delete)? else { return weigh(rebase, one, None) };
    let table = rebase.rows[one.row].table;
    let definition = table.map(|table| &rebase.store.tables[table].table);
    let theirs = match definition.and_then(|table| known_key(table, &delete.key.0)) {
        Some(values) => {
            rebase.writer.row(table.expect("it has a definition"), &values)?.map(|row| row.image)
        }
        None => None,
    };
    let there = current(rebase, one.row)?;
    if theirs.is_none() && holds(there.as_ref(), values(&rebase.lines[one.line]))? {
        return Ok(None);
    }
    let kind = match &delete.verdict {
        Verdict::Rejected(_) => ConflictKind::Rejected,
        _ => ConflictKind::Conflict,
    };
    Ok(Some(Loss { seq: delete.seq, id: delete.id, kind, winner: one.winner, theirs }))
}

/// The new values of a line, if it came with them.
fn values<'l>(line: &Line<'l>) -> Option<&'l [u8]> {
    line.after.filter(|_| line.verdict.reason() != Some(TOO_LARGE))
}

fn current(rebase: &mut Rebase<'_, '_>, row: usize) -> Result<Option<Image>> {
    let touched = &rebase.rows[row];
    let Some(table) = touched.table else { return Ok(None) };
    let key = touched.key.clone();
    let Some(values) = known_key(&rebase.store.tables[table].table, &key.0) else {
        return Ok(None);
    };
    Ok(rebase.writer.row(table, &values)?.map(|row| row.image))
}

fn holds(theirs: Option<&Image>, after: Option<&[u8]>) -> Result<bool> {
    match (theirs, after) {
        (Some(theirs), Some(after)) => Ok(theirs.holds(&Image::parse(after)?)),
        _ => Ok(false),
    }
}

fn inserted(rebase: &Rebase<'_, '_>, winner: Seq) -> Result<bool> {
    if let Some(line) = rebase.lines.iter().find(|line| line.seq == winner) {
        return Ok(line.op == Op::Insert);
    }
    Ok(rebase.store.settled(winner)?.is_some_and(|event| event.op == Op::Insert))
}

impl Store {
    /// The conflict inbox, in the order of the log: what is open, or `all`.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails, `Corrupt` when an event's frame is damaged.
    pub fn conflicts(&self, all: bool) -> Result<Vec<Conflict>> {
        let sql = "SELECT former, seq, 0 AS age FROM driftless_old_conflicts
             WHERE ?1 OR state = 'open'
             UNION ALL SELECT NULL, seq, 1 FROM driftless_conflicts WHERE ?1 OR state = 'open'
             ORDER BY age, former, seq";
        let mut statement = self.db.prepare_cached(sql)?;
        let places = statement
            .query_map([all], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<Vec<(Option<i64>, i64)>>>()?;
        places.into_iter().map(|(former, seq)| self.conflict_at(former, Seq(seq))).collect()
    }

    /// The conflict of one event; either event of a key change will do.
    ///
    /// # Errors
    ///
    /// `Usage` when the event is not in the inbox; and as for [`Store::conflicts`].
    pub fn conflict(&self, id: EventId) -> Result<Conflict> {
        let mut wanted = vec![id];
        if let Some(Entry::Settled(event)) = self.event(id)? {
            wanted.extend(event.pair);
        }
        for id in wanted {
            let sql = "SELECT NULL, seq FROM driftless_conflicts WHERE id = ?1
                 UNION ALL SELECT former, seq FROM driftless_old_conflicts WHERE id = ?1";
            let mut statement = self.db.prepare_cached(sql)?;
            let mut rows = statement.query([id.0.to_bytes().as_slice()])?;
            if let Some(row) = rows.next()? {
                return self.conflict_at(row.get(0)?, Seq(row.get(1)?));
            }
        }
        Err(Error::usage(format!("event {id} is not in the conflict inbox"))
            .with_hint("`driftless conflicts` lists what is"))
    }

    fn conflict_at(&self, former: Option<i64>, seq: Seq) -> Result<Conflict> {
        let sql = match former {
            None => {
                "SELECT kind, winner, theirs, state, noticed FROM driftless_conflicts
                 WHERE ?1 IS NULL AND seq = ?2"
            }
            Some(_) => {
                "SELECT kind, winner, theirs, state, noticed FROM driftless_old_conflicts
                 WHERE former = ?1 AND seq = ?2"
            }
        };
        let mut statement = self.db.prepare_cached(sql)?;
        let (kind, winner, theirs, state, noticed_ms) =
            statement.query_row((former, seq.0), |row| {
                let (kind, state): (String, String) = (row.get(0)?, row.get(3)?);
                let (winner, theirs): (Option<i64>, Option<String>) = (row.get(1)?, row.get(2)?);
                Ok((kind, winner, theirs, state, row.get(4)?))
            })?;
        let event = self
            .settled_in(former, seq)?
            .ok_or_else(|| Error::corrupt(format!("event {seq} lost, but is not in the log")))?;
        let insert = match event.pair {
            Some(pair) if event.op == Op::Delete => match self.event(pair)? {
                Some(Entry::Settled(insert)) => Some(insert),
                _ => None,
            },
            _ => None,
        };
        let (event, insert) =
            (self.with_values(event)?, insert.map(|event| self.with_values(event)).transpose()?);
        let winner = match winner {
            Some(winner) => self.settled_in(former, Seq(winner))?,
            None => None,
        };
        Ok(Conflict {
            event,
            insert,
            kind: match kind.as_str() {
                "collision" => ConflictKind::Collision,
                "rejected" => ConflictKind::Rejected,
                _ => ConflictKind::Conflict,
            },
            winner,
            theirs: theirs.map(|json| Image::parse(json.as_bytes())).transpose()?,
            state: match state.as_str() {
                "restored" => ConflictState::Restored,
                "dismissed" => ConflictState::Dismissed,
                _ => ConflictState::Open,
            },
            noticed_ms,
            former,
        })
    }

    /// An own event with the values that it could not travel with, if it is such a one.
    fn with_values(&self, mut event: Event) -> Result<Event> {
        if event.verdict.reason() != Some(TOO_LARGE) {
            return Ok(event);
        }
        let sql = "SELECT before, after FROM driftless_kept WHERE id = ?1";
        let mut statement = self.db.prepare_cached(sql)?;
        let mut rows = statement.query([event.id.0.to_bytes().as_slice()])?;
        if let Some(row) = rows.next()? {
            for (index, image) in [&mut event.before, &mut event.after].into_iter().enumerate() {
                let json = row.get_ref(index)?.as_bytes_or_null().map_err(rusqlite::Error::from)?;
                *image = json.map(Image::parse).transpose()?;
            }
        }
        Ok(event)
    }

    /// Takes a conflict off the list; the log keeps its event.
    ///
    /// # Errors
    ///
    /// As for [`Store::conflict`].
    pub fn dismiss(&mut self, id: EventId) -> Result<()> {
        let conflict = self.conflict(id)?;
        close(&self.db, &conflict, ConflictState::Dismissed)
    }

    /// Writes a lost event's values again, by ordinary SQL in one transaction, so that it is
    /// captured as a new event. A lost insert may be brought back under a new key.
    ///
    /// # Errors
    ///
    /// `Usage`, naming the table and the row, when there is no such conflict, its table is not
    /// replicated any more, a constraint or a trigger refuses the values, the row is gone and its
    /// other columns are not known, or the new key is of no use. Then nothing has changed.
    pub fn restore(&mut self, id: EventId, new_key: Option<NewKey>) -> Result<()> {
        self.check_triggers()?;
        let conflict = self.conflict(id)?;
        let table = self.table_index(&conflict.event.table).ok_or_else(|| {
            Error::usage(format!("table `{}` is not replicated here", conflict.event.table))
        })?;
        let mut db = connect(&self.path, false)?;
        db.pragma_update(None, "foreign_keys", true)?;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let guard = Guard::default();
        let mut restore =
            Restore { store: self, table, writer: Writer::new(&tx, &self.tables, &guard) };
        restore.run(&tx, &conflict, new_key)?;
        drop(restore);
        close(&tx, &conflict, ConflictState::Restored)?;
        tx.commit().map_err(|error| refused(&conflict.event, error))
    }
}

/// One restoration under way.
struct Restore<'s> {
    store: &'s Store,
    table: usize,
    writer: Writer<'s>,
}

impl Restore<'_> {
    fn run(
        &mut self,
        tx: &Transaction<'_>,
        lost: &Conflict,
        new_key: Option<NewKey>,
    ) -> Result<()> {
        let event = &lost.event;
        if new_key.is_some() && event.op != Op::Insert {
            return Err(Error::usage(format!(
                "event {} is no insert, so it has no new key",
                event.id
            ))
            .with_hint("restore it without a new key"));
        }
        let after = event.after.clone().unwrap_or_default();
        match (event.op, &lost.insert) {
            (Op::Insert, _) => match new_key {
                None => self.put(event, &after),
                Some(new_key) => {
                    let renamed = self.with_key(tx, event, after, new_key)?;
                    self.put(event, &renamed)
                }
            },
            (Op::Update, _) => self.change(event, &after, lost.winner.as_ref()),
            (Op::Delete, Some(insert)) => {
                let image = insert.after.clone().unwrap_or_default();
                match self.is_there(&event.key)? {
                    true => self.change(event, &image, None),
                    false => self.put(event, &image),
                }
            }
            (Op::Delete, None) => {
                let key = self.key(event, &event.key)?;
                let written = self.writer.delete(self.table, &key);
                written.map(|_| ()).map_err(|error| refused(event, error))
            }
        }
    }

    fn key<'k>(&self, event: &Event, key: &'k RowKey) -> Result<Vec<crate::value::ValueRef<'k>>> {
        known_key(&self.store.tables[self.table].table, &key.0).ok_or_else(|| {
            Error::usage(format!("the key of table `{}` has another form now", event.table))
        })
    }

    fn is_there(&mut self, key: &RowKey) -> Result<bool> {
        match known_key(&self.store.tables[self.table].table, &key.0) {
            Some(values) => Ok(self.writer.row(self.table, &values)?.is_some()),
            None => Ok(false),
        }
    }

    fn check_columns(&self, event: &Event, image: &Image) -> Result<()> {
        let table = &self.store.tables[self.table].table;
        match image.0.iter().find(|(name, _)| table.column(name).is_none()) {
            None => Ok(()),
            Some((name, _)) => Err(Error::usage(format!(
                "table `{}` has no column `{name}` any more, which event {} wrote",
                table.name, event.id
            ))),
        }
    }

    /// Writes a whole row, over the one that is there if there is one.
    fn put(&mut self, event: &Event, image: &Image) -> Result<()> {
        self.check_columns(event, image)?;
        let written = self.writer.upsert(self.table, &event.key.0, &borrow(image));
        written.map(|_| ()).map_err(|error| refused(event, error))
    }

    /// Changes columns of a row, which is made again if the winner's delete tells what it was.
    fn change(&mut self, event: &Event, after: &Image, winner: Option<&Event>) -> Result<()> {
        self.check_columns(event, after)?;
        if self.is_there(&event.key)? {
            let key = self.key(event, &event.key)?;
            let written = self.writer.update(self.table, &key, &borrow(after));
            return written.map(|_| ()).map_err(|error| refused(event, error));
        }
        let whole = winner.filter(|winner| winner.op == Op::Delete && winner.key == event.key);
        let Some(mut image) = whole.and_then(|winner| winner.before.clone()) else {
            return Err(Error::usage(format!(
                "row {} of table `{}` is gone, and event {} changed only some of its columns",
                event.key, event.table, event.id
            ))
            .with_hint("insert the row again by hand, or `driftless conflicts dismiss` it"));
        };
        overlay(&self.store.tables[self.table].table, &mut image, &borrow(after));
        self.put(event, &image)
    }

    /// The row under a new key, which no row has.
    fn with_key(
        &mut self,
        tx: &Transaction<'_>,
        event: &Event,
        mut image: Image,
        new_key: NewKey,
    ) -> Result<Image> {
        let table = &self.store.tables[self.table].table;
        let values = match new_key {
            NewKey::Values(values) => values,
            NewKey::Fresh if table.rowid_key => {
                let column = table.key_columns().next().expect("a key has a column");
                let sql = format!(
                    "SELECT coalesce(max({}), 0) FROM main.{}",
                    crate::capture::ident(&column.name),
                    crate::capture::ident(&table.name)
                );
                let newest: i64 = tx.query_row(&sql, [], |row| row.get(0))?;
                vec![Value::Integer(newest.checked_add(1).ok_or_else(|| {
                    Error::usage(format!("table `{}` has no number left", table.name))
                })?)]
            }
            NewKey::Fresh => {
                let message = format!("the key of table `{}` is no number that grows", table.name);
                return Err(Error::usage(message).with_hint("say which key the row is to have"));
            }
        };
        if values.len() != table.key.len() {
            let message =
                format!("the key of table `{}` has {} part(s)", table.name, table.key.len());
            return Err(Error::usage(message).with_hint("give one value for each"));
        }
        let refs: Vec<_> = values.iter().map(Into::into).collect();
        if self.writer.row(self.table, &refs)?.is_some() {
            let message = format!("table `{}` has a row with that key already", table.name);
            return Err(Error::usage(message).with_hint("choose another key"));
        }
        for (column, value) in table.key_columns().zip(values) {
            match image.0.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(&column.name)) {
                Some((_, old)) => *old = value,
                None => image.0.push((column.name.clone(), value)),
            }
        }
        self.check_columns(event, &image)?;
        Ok(image)
    }
}

/// Writes down what was done about a conflict.
fn close(db: &Connection, conflict: &Conflict, state: ConflictState) -> Result<()> {
    let (seq, state) = (conflict.event.seq.0, state.as_str());
    match conflict.former {
        None => {
            let sql = "UPDATE driftless_conflicts SET state = ?2 WHERE seq = ?1";
            db.execute(sql, (seq, state))?
        }
        Some(former) => {
            let sql =
                "UPDATE driftless_old_conflicts SET state = ?3 WHERE former = ?1 AND seq = ?2";
            db.execute(sql, (former, seq, state))?
        }
    };
    Ok(())
}

/// Why a restoration was refused.
fn refused(event: &Event, error: rusqlite::Error) -> Error {
    if !is_refusal(&error) {
        return error.into();
    }
    let message = match &error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    };
    Error::usage(format!(
        "event {} cannot be restored to row {} of table `{}`: {message}",
        event.id, event.key, event.table
    ))
    .with_hint("make room for it first, or `driftless conflicts dismiss` it")
    .with_source(error)
}
