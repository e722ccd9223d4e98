//! Pending events: rows of the outbox without a known verdict.
//!
//! For each event of a page, the store asks: has this row pending events, and is this event one of
//! them? The outbox has no index for that, because an index would make every captured write slower.
//! So [`Pending`] keeps in memory the numbers of each row's pending events, under a hash of the
//! row. The events themselves are read by number, and compared, when they are needed. It is updated
//! by reading the outbox from the last number on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hasher};
use std::ops::Bound;

use rusqlite::Connection;

use super::reader::{COLUMNS, Layouts, ROW, Reader};
use crate::error::Result;
use crate::event::conflict::Claim;
use crate::event::value::Value;
use crate::event::{Columns, EventId, Image, Op, RowKey, Seq};
use crate::store::rows::row::borrow;
use crate::store::waiting::held::Held;

/// The id of an outbox row. If an application replaces `random()`, there may be no tail.
pub(in crate::store) fn event_id(ms: i64, n: i64, tail: Option<i64>) -> EventId {
    EventId::of_outbox(ms, n, tail.unwrap_or(0))
}

/// The hash of a row.
pub(in crate::store) fn row_hash(table: &str, key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    for byte in table.bytes() {
        hasher.write_u8(byte.to_ascii_lowercase());
    }
    hasher.write_u8(0xff);
    hasher.write(key.as_bytes());
    hasher.finish()
}

/// The numbers of a row's pending events. Usually there is one.
#[derive(Clone, Debug)]
enum Numbers {
    One(i64),
    Many(Vec<i64>),
}

/// The rows that have pending events.
///
/// * Every unsettled outbox row up to `seen` is in `by_number`, unless another replicator works on
///   this file. Then the cursor has moved, and everything is read again.
/// * `by_row` has the same numbers, in rising order.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Pending {
    seen: i64,
    cursor: Option<Seq>,
    by_number: BTreeMap<i64, u64>,
    by_row: HashMap<u64, Numbers>,
    /// Settled rows that are kept for their number.
    kept: Vec<i64>,
    /// The highest number in the outbox when its events were last put in order.
    in_order: i64,
    /// Rows that have new events since then.
    again: HashSet<u64>,
    /// The events that are held back while later ones are pushed.
    held: Held,
}

impl Pending {
    /// Reads the new rows of the outbox. `cursor` is from the state row in the same transaction.
    pub(in crate::store) fn refresh(
        &mut self,
        db: &Connection,
        layouts: &Layouts,
        cursor: Seq,
    ) -> Result<()> {
        if self.cursor != Some(cursor) {
            *self = Pending { cursor: Some(cursor), ..Pending::default() };
        }
        let sql = format!("SELECT {ROW}, settled FROM driftless_outbox WHERE n > ?1 ORDER BY n");
        let mut statement = db.prepare_cached(&sql)?;
        let mut rows = statement.query([self.seen])?;
        let mut reader = Reader::of_keys(db, layouts);
        while let Some(row) = rows.next()? {
            let n = row.get(0)?;
            self.seen = n;
            if row.get(5)? {
                self.kept.push(n);
                continue;
            }
            let hash = reader.row(row, 0, row_hash)?;
            self.by_number.insert(n, hash);
            let again = &mut self.again;
            self.by_row
                .entry(hash)
                .and_modify(|numbers| {
                    again.insert(hash);
                    match numbers {
                        Numbers::One(first) => *numbers = Numbers::Many(vec![*first, n]),
                        Numbers::Many(numbers) => numbers.push(n),
                    }
                })
                .or_insert(Numbers::One(n));
        }
        Ok(())
    }

    /// The new events of rows that have several new ones. They may be out of order.
    pub(in crate::store) fn unexamined(&self) -> Vec<i64> {
        let mut found = Vec::new();
        for &hash in &self.again {
            let numbers = self.of_row(hash);
            let new = &numbers[numbers.partition_point(|&n| n <= self.in_order)..];
            if new.len() > 1 {
                found.extend_from_slice(new);
            }
        }
        found
    }

    /// All events whose order was not checked.
    pub(in crate::store) fn new_events(&self) -> Vec<i64> {
        let range = (Bound::Excluded(self.in_order), Bound::Unbounded);
        self.by_number.range(range).map(|(&n, _)| n).collect()
    }

    /// Records that all events that were read are in order.
    pub(in crate::store) fn examined(&mut self) {
        self.in_order = self.seen;
        self.again.clear();
    }

    /// Records that all events up to `n` are in order.
    pub(in crate::store) fn examined_to(&mut self, n: i64) {
        self.in_order = n;
    }

    /// The highest number that was read.
    pub(in crate::store) fn newest(&self) -> i64 {
        self.seen
    }

    /// Whether all events up to `n` are in order.
    pub(in crate::store) fn is_in_order(&self, n: i64) -> bool {
        self.in_order >= n
    }

    /// The events that are held back while later ones are pushed.
    pub(in crate::store) fn held(&self) -> &Held {
        &self.held
    }

    /// The same, for an update.
    pub(in crate::store) fn held_mut(&mut self) -> &mut Held {
        &mut self.held
    }

    /// Whether this event is pending.
    pub(in crate::store) fn has(&self, n: i64) -> bool {
        self.by_number.contains_key(&n)
    }

    /// Clears everything, because the outbox has changed in an unusual way.
    pub(in crate::store) fn forget(&mut self) {
        *self = Pending::default();
    }

    pub(in crate::store) fn kept(&self) -> &[i64] {
        &self.kept
    }

    /// Removes events that a page of this store has settled. The row `kept` stays in the outbox.
    pub(in crate::store) fn settle(&mut self, settled: &[i64], kept: Option<i64>, cursor: Seq) {
        settled.iter().for_each(|&n| self.remove(n));
        self.kept = kept.into_iter().collect();
        self.advance(cursor);
    }

    /// The cursor has moved, and the outbox has not changed.
    pub(in crate::store) fn advance(&mut self, cursor: Seq) {
        self.cursor = Some(cursor);
    }

    fn remove(&mut self, n: i64) {
        let Some(hash) = self.by_number.remove(&n) else { return };
        let Some(numbers) = self.by_row.get_mut(&hash) else { return };
        if let Numbers::Many(many) = numbers {
            many.retain(|&other| other != n);
            if let [last] = many[..] {
                *numbers = Numbers::One(last);
            }
        } else {
            self.by_row.remove(&hash);
        }
    }

    /// The numbers of pending events that may be of the row with this hash, in rising order.
    pub(in crate::store) fn of_row(&self, hash: u64) -> &[i64] {
        match self.by_row.get(&hash) {
            None => &[],
            Some(Numbers::One(n)) => std::slice::from_ref(n),
            Some(Numbers::Many(numbers)) => numbers,
        }
    }

    pub(in crate::store) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    pub(in crate::store) fn len(&self) -> usize {
        self.by_number.len()
    }

    /// All numbers, in rising order.
    pub(in crate::store) fn numbers(&self) -> impl Iterator<Item = i64> + '_ {
        self.by_number.keys().copied()
    }

    /// The number of pending events above `n`.
    pub(in crate::store) fn above(&self, n: i64) -> usize {
        self.by_number.range((Bound::Excluded(n), Bound::Unbounded)).count()
    }
}

/// A pending event, with the data that a page needs.
#[derive(Clone, Debug)]
pub(in crate::store) struct PendingEvent {
    n: i64,
    id: EventId,
    table: String,
    key: RowKey,
    op: Op,
    after: Option<Vec<u8>>,
    /// The image under it, as far as the event has it: `coalesce(undo, before)`.
    under: Option<Vec<u8>>,
    base: Seq,
    aside: bool,
    winner: Option<Seq>,
    /// 1: the delete of a key change, 2: its insert.
    key_change_half: Option<i64>,
    /// Whether a trigger captured it. Otherwise a first sync made it.
    captured: bool,
    /// For an update that a foreign key made within its own table: the row that is referred to.
    parent: Option<RowKey>,
}

/// Reads the pending event `n`; `None` if it is settled.
pub(in crate::store) fn load(
    db: &Connection,
    layouts: &Layouts,
    n: i64,
) -> Result<Option<PendingEvent>> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT {COLUMNS}, ms, tail, undo, aside, winner, base, pair, via
         FROM driftless_outbox WHERE n = ?1 AND NOT settled",
    ))?;
    let mut rows = statement.query([n])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let mut read = layouts.read(db, row, 0, Some(15))?;
    let ((before, after), parent, op) = (read.take_images(), read.take_parent(), read.op());
    let (table, key) = read.into_row();
    let undo: Option<String> = row.get(10)?;
    let is_within = |(parent, key): &(String, RowKey)| {
        op == Op::Update && parent.eq_ignore_ascii_case(&table) && key.0.starts_with('[')
    };
    let parent = parent.filter(is_within).map(|(_, key)| key);
    Ok(Some(PendingEvent {
        n,
        id: event_id(row.get(8)?, n, row.get(9)?),
        table,
        key,
        op,
        after,
        under: undo.map(String::into_bytes).or(before),
        base: Seq(row.get(13)?),
        aside: row.get(11)?,
        winner: row.get::<_, Option<i64>>(12)?.map(Seq),
        key_change_half: row.get(14)?,
        captured: row.get::<_, Option<i64>>(2)?.is_some(),
        parent,
    }))
}

impl PendingEvent {
    /// Its number, its id, and whether it is set aside.
    pub(in crate::store) fn brief(&self) -> (i64, EventId, bool) {
        (self.n, self.id, self.aside)
    }

    pub(in crate::store) fn table(&self) -> &str {
        &self.table
    }

    pub(in crate::store) fn key(&self) -> &RowKey {
        &self.key
    }

    /// Whether it is an event of this row, and not of another one with the same hash.
    pub(in crate::store) fn is_of(&self, table: &str, key: &str) -> bool {
        self.key.0 == key && self.table.eq_ignore_ascii_case(table)
    }

    pub(in crate::store) fn op(&self) -> Op {
        self.op
    }

    pub(in crate::store) fn is_aside(&self) -> bool {
        self.aside
    }

    /// The event because of which it was set aside, if there is one.
    pub(in crate::store) fn winner(&self) -> Option<Seq> {
        self.winner
    }

    /// Whether a trigger captured it. Otherwise a first sync made it.
    pub(in crate::store) fn is_captured(&self) -> bool {
        self.captured
    }

    /// For an update that a foreign key made within its own table: the row that is referred to.
    pub(in crate::store) fn parent(&self) -> Option<&RowKey> {
        self.parent.as_ref()
    }

    /// Whether it is a part of a key change.
    pub(in crate::store) fn is_key_change_half(&self) -> bool {
        self.key_change_half.is_some()
    }

    /// Whether it is the delete of a key change.
    pub(in crate::store) fn is_old_key(&self) -> bool {
        self.key_change_half == Some(1)
    }

    /// Whether it is the insert of a key change.
    pub(in crate::store) fn is_new_key(&self) -> bool {
        self.key_change_half == Some(2) && self.op == Op::Insert
    }

    /// The input of the conflict rule: its claim, and the seq that its writer had seen.
    pub(in crate::store) fn claim(&self) -> (Claim<'_>, Seq) {
        (Claim { op: self.op, after: self.after.as_deref() }, self.base)
    }

    /// Records that it is off its row, because of `winner` if that is known.
    pub(in crate::store) fn set_aside(&self, db: &Connection, winner: Option<Seq>) -> Result<()> {
        let sql = "UPDATE driftless_outbox SET aside = 1, winner = coalesce(winner, ?2)
                   WHERE n = ?1";
        db.prepare_cached(sql)?.execute((self.n, winner.map(|winner| winner.0)))?;
        Ok(())
    }

    /// Records that it is on its row, and the image under it, if that is not recorded yet.
    pub(in crate::store) fn set_on(&self, db: &Connection, under: Option<&Image>) -> Result<()> {
        let known = under.map_or(Ok(true), |under| self.is_over(under))?;
        if self.aside || !known {
            let sql = "UPDATE driftless_outbox SET undo = coalesce(?2, undo), aside = 0
                       WHERE n = ?1";
            db.prepare_cached(sql)?.execute((self.n, under.map(Image::to_json)))?;
        }
        Ok(())
    }

    /// Stores its values in the conflict inbox, because the log does not have them.
    pub(in crate::store) fn keep_values(&self, db: &Connection) -> Result<()> {
        let json = |image: &Option<Vec<u8>>| -> Result<Option<String>> {
            Ok(image.as_deref().map(Image::parse).transpose()?.map(|image| image.to_json()))
        };
        let mut statement = db.prepare_cached(
            "INSERT INTO driftless_kept (id, before, after) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO NOTHING",
        )?;
        let id = self.id.0.to_bytes();
        statement.execute((id.as_slice(), json(&self.under)?, json(&self.after)?))?;
        Ok(())
    }

    /// Removes the event's effect from an image of its row.
    pub(in crate::store) fn undo(&self, image: Option<Image>) -> Result<Option<Image>> {
        let under = || self.under.as_deref().map(Image::parse).transpose();
        Ok(match self.op {
            Op::Insert => None,
            Op::Delete => under()?,
            Op::Update => match (image, under()?) {
                (Some(mut image), Some(under)) => {
                    let after = self.after()?;
                    // A column that is gone from the table is ignored.
                    for (name, value) in under.0 {
                        let same =
                            |(mine, _): &&mut (String, Value)| mine.eq_ignore_ascii_case(&name);
                        let Some((_, mine)) = image.0.iter_mut().find(same) else { continue };
                        // A foreign key's action on a row with its new key comes before the key
                        // change in the outbox. The row with the former key does not have its
                        // effect.
                        if after.get(&name).is_none_or(|after| alike(mine, after)) {
                            *mine = value;
                        }
                    }
                    Some(image)
                }
                (image, _) => image,
            },
        })
    }

    /// Its new values.
    pub(in crate::store) fn after(&self) -> Result<Image> {
        self.after.as_deref().map_or(Ok(Image::default()), Image::parse)
    }

    /// Whether `under` is the image under it, as far as the event has it.
    fn is_over(&self, under: &Image) -> Result<bool> {
        let known = self.under.as_deref().map(Image::parse).transpose()?;
        Ok(known.is_some_and(|known| known.0.len() == under.0.len() && known.holds(under)))
    }
}

/// Whether a row's value is an event's value. An event cannot distinguish −0.0 from 0.0.
fn alike(row: &Value, event: &Value) -> bool {
    match (row, event) {
        (Value::Real(row), Value::Real(event)) => row == event,
        (row, event) => row == event,
    }
}

/// The columns of `image` that the definition has.
pub(in crate::store) fn known_columns<'a>(
    table: &crate::catalog::Table,
    image: &'a Image,
) -> Columns<'a> {
    let mut columns = borrow(image);
    columns.retain(|(name, _)| table.column(name).is_some());
    columns
}
