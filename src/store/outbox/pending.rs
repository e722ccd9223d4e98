//! Pending events: rows of the outbox whose verdict this replica does not know yet.
//!
//! A page asks of each of its events: has this row pending events, and is this event one of them?
//! The outbox has no index for that, since an index would make every captured write dearer. So
//! [`Pending`] keeps, in memory, the numbers of the pending events of each row, under a hash of the
//! row; what stands in the outbox is read by number, and compared, when it is needed. It is brought
//! up to date by reading the outbox from the last number seen.

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

/// The id of an outbox row. An application that replaces `random()` may leave no tail.
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

/// The numbers of a row's pending events: mostly there is one.
#[derive(Clone, Debug)]
enum Numbers {
    One(i64),
    Many(Vec<i64>),
}

/// Which rows have pending events.
///
/// * Every unsettled outbox row up to `seen` is in `by_number`, unless another replicator works on
///   this file; then the cursor has moved, and everything is read anew.
/// * `by_row` has the same numbers, rising.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Pending {
    seen: i64,
    cursor: Option<Seq>,
    by_number: BTreeMap<i64, u64>,
    by_row: HashMap<u64, Numbers>,
    /// Settled rows that stayed for their number's sake.
    kept: Vec<i64>,
    /// The highest number that was in the outbox when its events were last put in their order.
    in_order: i64,
    /// Rows that have got further events since.
    again: HashSet<u64>,
    /// Those that wait although pushes go.
    held: Held,
}

impl Pending {
    /// Reads what is new in the outbox. `cursor` is the state's, in the same transaction.
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

    /// New events of rows that have several new ones, which may stand in another order than theirs.
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

    /// All events that nobody has put in their order.
    pub(in crate::store) fn new_events(&self) -> Vec<i64> {
        let range = (Bound::Excluded(self.in_order), Bound::Unbounded);
        self.by_number.range(range).map(|(&n, _)| n).collect()
    }

    /// All that has been read is in its order.
    pub(in crate::store) fn examined(&mut self) {
        self.in_order = self.seen;
        self.again.clear();
    }

    /// All up to `n` is in its order.
    pub(in crate::store) fn examined_to(&mut self, n: i64) {
        self.in_order = n;
    }

    /// The highest number that has been read.
    pub(in crate::store) fn newest(&self) -> i64 {
        self.seen
    }

    /// Whether all up to `n` is in its order.
    pub(in crate::store) fn is_in_order(&self, n: i64) -> bool {
        self.in_order >= n
    }

    /// Those that wait although pushes go.
    pub(in crate::store) fn held(&self) -> &Held {
        &self.held
    }

    /// The same, to bring it up to date.
    pub(in crate::store) fn held_mut(&mut self) -> &mut Held {
        &mut self.held
    }

    /// Whether this event is pending.
    pub(in crate::store) fn has(&self, n: i64) -> bool {
        self.by_number.contains_key(&n)
    }

    /// Forgets everything: the outbox has changed in an unusual way.
    pub(in crate::store) fn forget(&mut self) {
        *self = Pending::default();
    }

    pub(in crate::store) fn kept(&self) -> &[i64] {
        &self.kept
    }

    /// A page of this store's own has settled these events, and has kept the row of one of them.
    pub(in crate::store) fn settle(&mut self, settled: &[i64], kept: Option<i64>, cursor: Seq) {
        settled.iter().for_each(|&n| self.remove(n));
        self.kept = kept.into_iter().collect();
        self.advance(cursor);
    }

    /// The cursor moves, and the outbox stays.
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

    /// The numbers of pending events that may be of the row with this hash, rising.
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

    /// All numbers, rising.
    pub(in crate::store) fn numbers(&self) -> impl Iterator<Item = i64> + '_ {
        self.by_number.keys().copied()
    }

    /// How many are above `n`.
    pub(in crate::store) fn above(&self, n: i64) -> usize {
        self.by_number.range((Bound::Excluded(n), Bound::Unbounded)).count()
    }
}

/// A pending event, as a page needs it.
#[derive(Clone, Debug)]
pub(in crate::store) struct PendingEvent {
    n: i64,
    id: EventId,
    table: String,
    key: RowKey,
    op: Op,
    after: Option<Vec<u8>>,
    /// What is underneath it, as far as it knows: `coalesce(undo, before)`.
    under: Option<Vec<u8>>,
    base: Seq,
    aside: bool,
    winner: Option<Seq>,
    /// 1: the delete of a key change, 2: its insert.
    key_change_half: Option<i64>,
    /// Whether a trigger captured it, or a first sync made it.
    captured: bool,
    /// Of an update that a foreign key made within its own table: the row that is referred to.
    parent: Option<RowKey>,
}

/// Reads the pending event `n`; `None` if it has been settled.
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

    /// Whether it is of this row, and of no other with the same hash.
    pub(in crate::store) fn is_of(&self, table: &str, key: &str) -> bool {
        self.key.0 == key && self.table.eq_ignore_ascii_case(table)
    }

    pub(in crate::store) fn op(&self) -> Op {
        self.op
    }

    pub(in crate::store) fn is_aside(&self) -> bool {
        self.aside
    }

    /// The event for which it was set aside, where there is one.
    pub(in crate::store) fn winner(&self) -> Option<Seq> {
        self.winner
    }

    /// Whether a trigger captured it. Otherwise a first sync made it.
    pub(in crate::store) fn is_captured(&self) -> bool {
        self.captured
    }

    /// Of an update that a foreign key made within its own table: the row that is referred to.
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

    /// What the conflict rule looks at: its claim, and what its writer had seen.
    pub(in crate::store) fn claim(&self) -> (Claim<'_>, Seq) {
        (Claim { op: self.op, after: self.after.as_deref() }, self.base)
    }

    /// Notes that it is off its row, for `winner`, if that is known.
    pub(in crate::store) fn set_aside(&self, db: &Connection, winner: Option<Seq>) -> Result<()> {
        let sql = "UPDATE driftless_outbox SET aside = 1, winner = coalesce(winner, ?2)
                   WHERE n = ?1";
        db.prepare_cached(sql)?.execute((self.n, winner.map(|winner| winner.0)))?;
        Ok(())
    }

    /// Notes that it is on its row, and what is underneath, if that is not known yet.
    pub(in crate::store) fn set_on(&self, db: &Connection, under: Option<&Image>) -> Result<()> {
        let known = under.map_or(Ok(true), |under| self.is_over(under))?;
        if self.aside || !known {
            let sql = "UPDATE driftless_outbox SET undo = coalesce(?2, undo), aside = 0
                       WHERE n = ?1";
            db.prepare_cached(sql)?.execute((self.n, under.map(Image::to_json)))?;
        }
        Ok(())
    }

    /// Keeps its values, which the log does not have.
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

    /// Takes the event off an image of its row.
    pub(in crate::store) fn undo(&self, image: Option<Image>) -> Result<Option<Image>> {
        let under = || self.under.as_deref().map(Image::parse).transpose();
        Ok(match self.op {
            Op::Insert => None,
            Op::Delete => under()?,
            Op::Update => match (image, under()?) {
                (Some(mut image), Some(under)) => {
                    let after = self.after()?;
                    // A column that is gone from the table is of no interest any more.
                    for (name, value) in under.0 {
                        let same =
                            |(mine, _): &&mut (String, Value)| mine.eq_ignore_ascii_case(&name);
                        let Some((_, mine)) = image.0.iter_mut().find(same) else { continue };
                        // What an action of a foreign key did to a row under its new key stands in
                        // front of the key change. On the row that had the key before, it is not.
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

    /// Whether what it knows to be underneath it is `under`.
    fn is_over(&self, under: &Image) -> Result<bool> {
        let known = self.under.as_deref().map(Image::parse).transpose()?;
        Ok(known.is_some_and(|known| known.0.len() == under.0.len() && known.holds(under)))
    }
}

/// Whether a row's value is that of an event, which cannot tell −0.0 from 0.0.
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
