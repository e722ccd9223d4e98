//! The outbox for the pusher: where transactions end, which events are next, and which are judged.

use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Transaction};

use super::boundaries::Boundaries;
use super::grouping::{CutPoints, judging_order};
use super::row::{FkDeferral, OutboxRow};
use super::spans::Spans;
use super::stretch::{Stretch, named, too_much};
use crate::capture::BEFORE_IMAGES;
use crate::error::{Code, Error, Result};
use crate::event::{EventId, Seq};
use crate::protocol::{Outgoing, Push};
use crate::store::Store;
use crate::store::connection::BUSY_TIMEOUT;

/// The fewest events of a unit, unless its range has fewer. A puller integrates about as many in
/// two milliseconds, and a push has at most ten units.
const UNIT_EVENTS: usize = 500;

/// The number of stored before-images above which they are removed. An upsert leaves one for each
/// row that it found. A row that is deleted removes its own, which costs time.
const MANY: i64 = 1_000;

/// The most bytes that are read after the end of a shortened push: as many as a full push has.
const LOOKAHEAD_BYTES: usize = 2 << 20;

/// The most events of a transaction that is pushed whole although no foreign key requires it, and
/// of a group that is pushed without a notice in the status. libSQL server ends a write transaction
/// after 5 s if another writer waits.
pub const GROUP_EVENTS: usize = 30_000;

/// The most bytes of such a transaction or group.
pub const GROUP_BYTES: usize = 24 << 20;

/// The most events of a group that is pushed at all: a push is in memory as a whole.
const MOST_EVENTS: usize = 500_000;

/// The most bytes of such a group.
const MOST_BYTES: usize = 256 << 20;

/// A group with more events than this is sent with parents first, as far as possible. While a
/// foreign key is violated, SQLite searches the children of each new row, and without an index it
/// reads all of them. Also, other replicas may integrate such a group in parts, and then see the
/// parents first.
const PARENTS_FIRST: usize = 1_000;

/// The size of one push, and its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushLimit {
    /// The number of events, at least 1. A push has more if they depend on each other.
    pub events: usize,
    /// The bytes of their keys and images. One event may be larger, and so may events that depend
    /// on each other.
    pub bytes: usize,
    /// If it is not 0, the push has more events than this if there are more, at any boundary and of
    /// any size. It is less than `events`.
    pub above: usize,
    /// 0 unless a bisection is running. It is the least number of events that are examined for
    /// dependencies. The push ends between two events that do not depend on each other, if there is
    /// such a place.
    pub lookahead: usize,
    /// Which of them defer their foreign keys.
    pub deferral: FkDeferral,
    /// Whether a transaction of up to [`GROUP_EVENTS`] events and [`GROUP_BYTES`] bytes goes whole
    /// although its events do not depend on one another.
    pub keeps_transactions: bool,
}

impl PushLimit {
    /// This number of events and bytes, without a bisection.
    pub const fn of(events: usize, bytes: usize) -> PushLimit {
        let deferral = FkDeferral::All;
        PushLimit { events, bytes, above: 0, lookahead: 0, deferral, keeps_transactions: true }
    }
}

/// The state on which the next push depends, apart from the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxState {
    /// The highest number that is sent.
    pub sent: i64,
    /// `PRAGMA schema_version`.
    pub schema_version: i64,
}

/// The outbox's newest number, and the highest number that was sent.
fn ends(db: &Connection) -> Result<(i64, i64)> {
    let mut statement = db.prepare_cached(
        "SELECT (SELECT coalesce(max(n), 0) FROM driftless_outbox), sent FROM driftless_state",
    )?;
    Ok(statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

impl Store {
    /// Keeps the next ids above the newest one if the machine's clock has gone back: the triggers
    /// use only `clock`.
    fn watch_clock(&mut self) -> Result<()> {
        let sql = "SELECT coalesce(max(ms), 0) FROM \
                   (SELECT ms FROM driftless_outbox ORDER BY n DESC LIMIT 1)";
        let newest: i64 = self.db.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        if newest < self.outbox.newest_ms {
            let sql = "UPDATE driftless_state SET clock = max(clock, ?1)";
            self.db.prepare_cached(sql)?.execute([self.outbox.newest_ms])?;
        }
        self.outbox.newest_ms = self.outbox.newest_ms.max(newest);
        Ok(())
    }

    /// Removes the before-images when there are many. None is needed after its transaction. If
    /// another program is writing, this is left to the next call.
    fn sweep_before_images(&self) -> Result<()> {
        let mut many = false;
        for before_images in BEFORE_IMAGES {
            let sql = format!("SELECT EXISTS (SELECT 1 FROM {before_images} LIMIT 1 OFFSET ?1)");
            let found: bool = self.db.prepare_cached(&sql)?.query_row([MANY], |row| row.get(0))?;
            many |= found;
        }
        if !many {
            return Ok(());
        }
        self.db.busy_timeout(Duration::ZERO)?;
        let sweep =
            |before_images| self.db.execute(&format!("DELETE FROM {before_images}"), []).map(drop);
        let swept = BEFORE_IMAGES.into_iter().try_for_each(sweep);
        self.db.busy_timeout(BUSY_TIMEOUT)?;
        match swept {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(()),
            swept => Ok(swept?),
        }
    }

    /// Records the outbox's end as a boundary: a reader sees a whole number of transactions, so a
    /// push may end here. Returns whether there are unsent events.
    pub fn note_boundary(&mut self) -> Result<bool> {
        let tx = self.db.unchecked_transaction()?;
        let (newest, sent) = ends(&tx)?;
        self.remember_outbox(&tx)?;
        tx.commit()?;
        self.outbox.boundaries.note(newest);
        self.watch_clock()?;
        self.sweep_before_images()?;
        if newest <= sent {
            return Ok(false);
        }
        // The newest row may be settled, and kept only for its number.
        self.moves_any(sent, newest)
    }

    /// The next unsent events behind the number `last_n`, as if all up to it were sent, in the
    /// order for the remote; `None` if there are none.
    ///
    /// They end at a boundary that [`Store::note_boundary`] has recorded. If no boundary is known
    /// within the limit, they end at a cut point, where no two events that depend on each other are
    /// separated. Then the push may be longer than the limit ([`Push::is_oversized`]). A
    /// transaction between two known boundaries is pushed whole up to [`GROUP_EVENTS`] events and
    /// [`GROUP_BYTES`] bytes.
    ///
    /// # Errors
    ///
    /// `TooLarge`, naming the tables, when more events depend on each other than fit into memory.
    /// `Storage` when the database fails, `Corrupt` when an event in the outbox is damaged.
    pub fn outgoing_behind(&mut self, last_n: i64, limit: PushLimit) -> Result<Option<Push>> {
        let (mut rows, mut taken) = self.stretch(last_n, limit)?;
        if rows.is_empty() {
            return Ok(None);
        }
        // The definitions are checked after the events were read, so they have every column of the
        // events.
        let version = self.schema_version;
        self.check_triggers()?;
        if !self.suspects.is_empty() {
            // Writes that capture has missed come first.
            return Ok(None);
        }
        if self.schema_version != version {
            (rows, taken) = self.stretch(last_n, limit)?;
        }
        let tables: Vec<_> = self.tables.iter().map(|replicated| &replicated.table).collect();
        let (mut self_contained, mut cuts) = (rows.len(), None);
        if taken < rows.len() {
            let found = CutPoints::of(&tables, rows.clone())?;
            let end = end(&rows, taken, limit, &self.outbox.boundaries.lock(), &found);
            self_contained = up_to(&rows, found.from(end));
            rows.truncate(up_to(&rows, end));
            cuts = Some(found).filter(|_| limit.deferral == FkDeferral::All);
        }
        let last_n = rows.last().expect("one is taken at the least").n();
        let bytes = rows.iter().map(OutboxRow::size).sum();
        let deferral = match limit.deferral {
            FkDeferral::All if rows.len() > PARENTS_FIRST => FkDeferral::CyclesOnly,
            deferral => deferral,
        };
        let mut events = judging_order(&tables, rows, deferral)?;
        if let Some(cuts) = cuts {
            events.iter_mut().for_each(|event| event.defer_fk |= cuts.defers_fk(event));
        }
        let mut tables = self.columns();
        tables.retain(|(table, _)| events.iter().any(|event| event.table == *table));
        let units = units(&events, &self.outbox.boundaries.lock());
        Ok(Some(Push { events, units, last_n, self_contained, bytes, tables }))
    }

    /// Reads the events of a push. If they may end within a transaction, it also reads the events
    /// that depend on them, and in a bisection the events up to the lookahead. Returns how many of
    /// the events fit.
    fn stretch(&mut self, last_n: i64, limit: PushLimit) -> Result<(Vec<OutboxRow>, usize)> {
        let (tx, newest, sent) = self.in_order()?;
        let sent = sent.max(last_n);
        self.remember_outbox(&tx)?;
        // All rows that are visible at one moment end at a boundary.
        self.outbox.boundaries.note(newest);
        let searching = limit.lookahead > 0;
        self.refresh_held(&tx, newest)?;
        let pending = self.outbox.pending();
        let mut read = Stretch::new(&tx, self.outbox.layouts(), pending.held(), sent);
        let mut taken = None;
        let more = read.on(newest, |rows, size| {
            let heavy = size > limit.bytes && limit.above == 0;
            let full = rows.len() > limit.events.max(1) || (heavy && rows.len() > 1);
            if full && taken.is_none() {
                taken = Some(rows.len() - 1);
            }
            let far = rows.len() > limit.lookahead || size > limit.bytes.max(LOOKAHEAD_BYTES);
            full && (!searching || far)
        })?;
        let Some(taken) = taken else {
            let rows = read.into_rows();
            let all = rows.len();
            return Ok((rows, all));
        };
        if !searching {
            read.back_to(taken);
        } else if !more {
            return Ok((read.into_rows(), taken));
        }
        let (first, last) = read.ends();
        let boundaries = self.outbox.boundaries.lock();
        if !searching && let Some(end) = boundaries.up_to(last).filter(|&end| end >= first) {
            let within = up_to(read.rows(), end);
            read.back_to(within);
            return Ok((read.into_rows(), within));
        }
        let known = boundaries.up_to(first - 1).is_some();
        let end = boundaries.from(last).unwrap_or(newest);
        drop(boundaries);
        let find = |range| {
            let tables: Vec<_> = self.tables.iter().map(|known| &known.table).collect();
            Spans::read(&tx, self.outbox.layouts(), &tables, range)
        };
        let cut =
            self.outbox.spans.of(self.schema_version, first..=end, find, |spans| {
                match spans.cut_up_to(last) {
                    cut if cut >= first && !searching => cut,
                    _ => spans.cut_from(last),
                }
            })?;
        if known && !searching && limit.keeps_transactions {
            let more =
                read.on(end, |rows, size| rows.len() > GROUP_EVENTS || size > GROUP_BYTES)?;
            if !more {
                let rows = read.into_rows();
                let all = rows.len();
                return Ok((rows, all));
            }
        }
        if read.on(cut, |rows, size| rows.len() > MOST_EVENTS || size > MOST_BYTES)? {
            return Err(too_much(read.rows()));
        }
        let within = up_to(read.rows(), cut);
        read.back_to(within);
        let rows = read.into_rows();
        Ok(if searching { (rows, taken) } else { (rows, within) })
    }

    /// A transaction in which the outbox's events are in order, with the outbox's ends.
    fn in_order(&self) -> Result<(Transaction<'_>, i64, i64)> {
        loop {
            self.straighten()?;
            let tx = self.db.unchecked_transaction()?;
            let (newest, sent) = ends(&tx)?;
            if self.outbox.pending().is_in_order(newest) {
                return Ok((tx, newest, sent));
            }
        }
    }

    /// What the next push depends on, beside the events.
    pub fn outbox_state(&self) -> Result<OutboxState> {
        let (_, sent) = ends(&self.db)?;
        Ok(OutboxState { sent, schema_version: self.current_schema_version()? })
    }

    /// Whether there is a pending event above `from` and up to `to` that is not held back.
    fn moves_any(&self, from: i64, to: i64) -> Result<bool> {
        self.refresh_held(&self.db, to)?;
        let pending = self.outbox.pending();
        let sql = "SELECT n FROM driftless_outbox WHERE n > ?1 AND n <= ?2 AND NOT settled";
        let mut statement = self.db.prepare_cached(sql)?;
        let mut numbers = statement.query([from, to])?;
        while let Some(row) = numbers.next()? {
            if !pending.held().has(row.get(0)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The outbox's newest number.
    pub fn newest(&self) -> Result<i64> {
        Ok(ends(&self.db)?.0)
    }

    /// The cursor, and whether every event up to the outbox number `up_to` has its verdict or is
    /// held back.
    pub fn settled_up_to(&self, up_to: i64) -> Result<(Seq, bool)> {
        let tx = self.db.unchecked_transaction()?;
        let settled = !self.moves_any(0, up_to)?;
        let sql = "SELECT cursor FROM driftless_state";
        let cursor = Seq(tx.prepare_cached(sql)?.query_row([], |row| row.get(0))?);
        Ok((cursor, settled))
    }

    /// The next unsent events.
    ///
    /// # Errors
    ///
    /// As [`Store::outgoing_behind`].
    #[cfg(feature = "internals")]
    pub fn outgoing(&mut self, limit: PushLimit) -> Result<Option<Push>> {
        self.outgoing_behind(0, limit)
    }

    /// Records that the remote has given its verdict for all outbox rows up to `up_to`.
    #[cfg(feature = "internals")]
    pub fn sent(&mut self, up_to: i64) -> Result<()> {
        let tx = self.begin_write()?;
        note_sent(&tx, up_to)?;
        self.commit_write(tx)?;
        self.outbox.boundaries.forget(up_to);
        Ok(())
    }

    /// Marks these events, each of which makes a push fail, to be pushed as rejected for `reason`.
    ///
    /// # Errors
    ///
    /// `Usage` when one of them is not pending here. `Storage` when the database fails.
    pub fn refuse(&mut self, ids: &[EventId], reason: &str) -> Result<()> {
        let tx = self.begin_write()?;
        for &id in ids {
            let changed = tx
                .prepare_cached(
                    "UPDATE driftless_outbox SET refuse = ?4
                     WHERE n = ?1 AND ms = ?2 AND coalesce(tail, 0) & ?5 = ?3 AND NOT settled",
                )?
                .execute((id.outbox_number(), id.ms(), id.tail(), reason, EventId::TAIL_MASK))?;
            if changed == 0 {
                return Err(Error::new(
                    Code::NoSuchEvent,
                    format!("event {id} is not pending here"),
                ));
            }
        }
        self.commit_write(tx)
    }

    /// Lets events that were marked as rejected be tried again.
    pub fn forget_refusals(&mut self) -> Result<()> {
        let any = "SELECT EXISTS (SELECT 1 FROM driftless_outbox \
                   WHERE refuse IS NOT NULL AND NOT settled)";
        if self.db.query_row(any, [], |row| row.get(0))? {
            let tx = self.begin_write()?;
            tx.execute("UPDATE driftless_outbox SET refuse = NULL WHERE NOT settled", [])?;
            self.commit_write(tx)?;
        }
        Ok(())
    }

    /// Sets the actor of all events from now on, by any program.
    pub fn set_actor(&mut self, actor: Option<&str>) -> Result<()> {
        // If the actor is the same already, no lock is taken.
        let sql = "UPDATE driftless_state SET actor = ?1 WHERE actor IS NOT ?1";
        let same = "SELECT actor IS ?1 FROM driftless_state";
        if !self.db.query_row(same, [actor], |row| row.get(0))? {
            self.db.execute(sql, [actor])?;
        }
        Ok(())
    }
}

impl Push {
    /// Whether the push is larger than [`GROUP_EVENTS`] or [`GROUP_BYTES`], above which the status
    /// has a notice. All its events depend on each other.
    pub fn is_oversized(&self) -> bool {
        self.events.len() > GROUP_EVENTS || self.bytes > GROUP_BYTES
    }

    /// The tables of a push, as a message names them.
    pub fn named_tables(&self) -> String {
        let tables: Vec<_> = self.tables.iter().map(|(table, _)| table.as_str()).collect();
        named(&tables)
    }
}

/// The end of a push of up to `most` events, and of more than `limit.above`, in a bisection. It is
/// a boundary or, if there is none, a place that separates no two dependent events, except perhaps
/// by a deferred foreign key. If more than `most` events depend on each other, all of them are
/// pushed. A consequence that was sent without its cause would stay when the cause is rejected.
fn end(
    rows: &[OutboxRow],
    most: usize,
    limit: PushLimit,
    boundaries: &Boundaries,
    cuts: &CutPoints,
) -> i64 {
    let most = rows[most - 1].n();
    let known = boundaries.up_to(most).filter(|&end| limit.above == 0 && end >= rows[0].n());
    let least = rows[limit.above.min(rows.len() - 1)].n();
    known.unwrap_or_else(|| cuts.up_to(least, most))
}

/// The number of events up to the number `n`.
fn up_to(rows: &[OutboxRow], n: i64) -> usize {
    rows.partition_point(|row| row.n() <= n)
}

/// The ends of units: where a boundary separates all events before it from all after it. A
/// consequence comes after its cause, so not every boundary does.
fn units(events: &[Outgoing], boundaries: &Boundaries) -> Vec<usize> {
    let mut least = vec![i64::MAX; events.len() + 1];
    for (at, event) in events.iter().enumerate().rev() {
        least[at] = least[at + 1].min(event.n);
    }
    let (mut units, mut begin, mut greatest) = (Vec::new(), 0, 0);
    for (at, event) in events.iter().enumerate() {
        let parts = || boundaries.from(greatest).is_some_and(|end| end < least[at]);
        if at >= begin + UNIT_EVENTS && parts() {
            units.push(at);
            begin = at;
        }
        greatest = greatest.max(event.n);
    }
    units
}

/// Notes that the remote has given its verdict for all outbox rows up to `up_to`.
pub(in crate::store) fn note_sent(db: &Connection, up_to: i64) -> Result<()> {
    let sql = "UPDATE driftless_state SET sent = max(sent, ?1)";
    db.prepare_cached(sql)?.execute([up_to])?;
    Ok(())
}
