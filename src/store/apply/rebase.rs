//! One attempt at a page: the rows that it touches are rebased.
//!
//! The invariant is that **a row is the fold of the remote log up to the cursor, with this
//! replica's pending events of that row, those that have not lost, on top in their order**. So
//! [`Rebase::run`]
//!
//! 1. finds the rows of the page that have pending events; one whose events in the page are exactly
//!    its first pending ones, all applied, and for which nothing waits in quarantine, is
//!    *unchanged* and is not written at all;
//! 2. takes the pending events off the other rows: works out in memory what is underneath;
//! 3. applies the page in the order of the log, and settles the outbox with it;
//! 4. puts the remaining pending events back on top, oldest first, or sets one aside.
//!
//! Undoing event by event through SQL would pass through states that never existed, which a UNIQUE
//! index notices.

use rusqlite::CachedStatement;

use super::admission::{Admitted, admit};
use super::affected::AffectedRows;
use super::decode::Decoded;
use super::step::{HeldRows, Integrated, Step, Task};
use crate::error::Result;
use crate::event::frame::Hash;
use crate::event::page::Line;
use crate::event::value::ValueRef;
use crate::event::verdict::Verdict;
use crate::event::{Change, Column, Op, Origin, RowKey, Seq};
use crate::store::local::ways::Ways;
use crate::store::log::row_index;
use crate::store::outbox::pending::Pending;
use crate::store::quarantine::rows::QuarantineRows;
use crate::store::rows::row::Row;
use crate::store::rows::writer::Writer;
use crate::store::schema::install::forget_before_images;

/// How far ahead of the remote's clock an event's id may be for this replica's ids to follow it, in
/// ms: ten years. Clocks are a year ahead, but what is a century ahead is made up: it would be
/// everybody's time, and nothing that is pending would ever be seen to wait.
const MAX_AHEAD_MS: i64 = 10 * 365 * 24 * 3_600_000;

/// One attempt at a page.
///
/// Each state has one owner: `rows` what is underneath the pending events, `quarantine` what waits,
/// `log` the chain, `ways` where rows went. The files that have the steps of an attempt reach them
/// by their methods.
pub(in crate::store) struct Rebase<'s, 'p> {
    task: Task<'s, 'p>,
    writer: Writer<'s>,
    log: LogEnd<'s>,
    rows: AffectedRows,
    quarantine: QuarantineRows<'s>,
    /// The outbox numbers of own events with a verdict.
    settled: Vec<i64>,
    /// Own events of the page that lost.
    lost: Vec<Lost>,
    /// Where the rows went to which local rows refer.
    ways: Ways,
    /// The key of the event that is written.
    key: Vec<ValueRef<'p>>,
    done: Integrated,
}

/// The end of the local log.
struct LogEnd<'s> {
    append: Option<CachedStatement<'s>>,
    /// The head of the chain.
    chain: Hash,
}

/// What an attempt leaves when it has come through.
pub(in crate::store) struct Finished {
    done: Integrated,
    settled: Vec<i64>,
    /// Settled, and kept as the newest number.
    kept: Option<i64>,
}

impl Finished {
    /// Whether the event with this outbox number has its verdict.
    pub(in crate::store) fn has_settled(&self, n: i64) -> bool {
        self.settled.contains(&n)
    }

    /// The attempt is committed: its events are no longer pending.
    pub(in crate::store) fn settle(self, pending: &mut Pending, cursor: Seq) -> Integrated {
        pending.settle(&self.settled, self.kept, cursor);
        self.done
    }
}

impl<'s, 'p> Rebase<'s, 'p> {
    pub(in crate::store) fn new(task: Task<'s, 'p>) -> Result<Self> {
        let (store, db) = (task.store(), task.db());
        let writer = Writer::new(db, &store.tables, &store.guard);
        Ok(Rebase {
            task,
            writer: writer.keeping_values_before(&store.dependents)?,
            log: LogEnd { append: None, chain: task.start().chain() },
            rows: AffectedRows::default(),
            quarantine: QuarantineRows::of(db)?,
            settled: Vec::new(),
            lost: Vec::new(),
            ways: Ways::default(),
            key: Vec::new(),
            done: Integrated { pulled: task.lines().len(), ..Integrated::default() },
        })
    }

    /// With base rows that have come out of quarantine with the events. They are for the fold
    /// alone.
    pub(in crate::store) fn holding(self, held: HeldRows) -> Self {
        assert!(held.is_empty() || self.task.is_folded(), "others read rows in place");
        Rebase { quarantine: self.quarantine.holding(held), ..self }
    }

    /// What the attempt has to do.
    pub(in crate::store) fn task(&self) -> Task<'s, 'p> {
        self.task
    }

    /// The rows that need thought.
    pub(in crate::store) fn rows(&self) -> &AffectedRows {
        &self.rows
    }

    pub(in crate::store) fn rows_mut(&mut self) -> &mut AffectedRows {
        &mut self.rows
    }

    pub(in crate::store) fn writer(&self) -> &Writer<'s> {
        &self.writer
    }

    pub(in crate::store) fn writer_mut(&mut self) -> &mut Writer<'s> {
        &mut self.writer
    }

    /// The writer, and the rows that it is to write.
    pub(super) fn writer_and_rows(&mut self) -> (&mut Writer<'s>, &mut AffectedRows) {
        (&mut self.writer, &mut self.rows)
    }

    pub(in crate::store) fn quarantine(&self) -> &QuarantineRows<'s> {
        &self.quarantine
    }

    pub(super) fn quarantine_mut(&mut self) -> &mut QuarantineRows<'s> {
        &mut self.quarantine
    }

    /// Where the rows went to which local rows refer.
    pub(in crate::store) fn ways_mut(&mut self) -> &mut Ways {
        &mut self.ways
    }

    /// The head of the chain, up to the events so far.
    pub(super) fn chain(&self) -> Hash {
        self.log.chain
    }

    /// Step 1: the rows that need thought.
    pub(in crate::store) fn group(&mut self) -> Step {
        self.rows = AffectedRows::find(self.task, &self.quarantine)?;
        Ok(())
    }

    /// Appends the event to the local log.
    pub(super) fn append(&mut self, line: &Line<'p>, event: &Decoded<'_, 'p>, own: bool) -> Step {
        let sql = "INSERT INTO driftless_log (seq, id, own, header, vals, hash)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let statement = match &mut self.log.append {
            Some(statement) => statement,
            none => none.insert(self.task.db().prepare_cached(sql)?),
        };
        statement.raw_bind_parameter(1, line.seq.0)?;
        statement.raw_bind_parameter(2, line.id.0.to_bytes().as_slice())?;
        statement.raw_bind_parameter(3, own)?;
        let (header, values, hash) = event.frame();
        statement.raw_bind_parameter(4, header)?;
        statement.raw_bind_parameter(5, values)?;
        statement.raw_bind_parameter(6, hash.as_slice())?;
        statement.raw_execute()?;
        self.log.chain = hash;
        Ok(())
    }

    /// Whether an event can be written into a table. [`Rebase::write`] may follow.
    pub(super) fn admit(
        &mut self,
        table: usize,
        line: &Line<'p>,
        after: &[Column<'p>],
    ) -> std::result::Result<Admitted, String> {
        admit(self.task.table(table), line, after, &mut self.key)
    }

    /// Writes the event that was admitted last, with these new values.
    pub(super) fn write(
        &mut self,
        table: usize,
        line: &Line<'p>,
        after: &[Column<'p>],
    ) -> rusqlite::Result<usize> {
        match line.op {
            Op::Insert => self.writer.upsert(table, line.key, after),
            Op::Update => self.writer.update(table, &self.key, after),
            Op::Delete => self.writer.delete(table, &self.key),
        }
    }

    /// Turns the outcome of a write into a reason to stop, if it is one.
    pub(in crate::store) fn check(&self, written: rusqlite::Result<usize>) -> Step<usize> {
        self.task.check(written)
    }

    /// A row as it stands in its table.
    pub(in crate::store) fn row(
        &mut self,
        table: usize,
        key: &[ValueRef<'_>],
    ) -> Result<Option<Row>> {
        self.writer.row(table, key)
    }

    /// The row of a line is another one.
    pub(in crate::store) fn changed(&mut self, at: usize, table: usize) {
        let line = &self.task.lines()[at];
        let name = &self.task.table(table).name;
        if let Some(last) = self.done.changes.last_mut()
            && last.key.0 == line.key
            && last.table == *name
        {
            (last.op, last.origin) = (line.op, line.origin);
            return;
        }
        let (table, key) = (name.clone(), RowKey(line.key.to_owned()));
        self.done.changes.push(Change { table, key, op: line.op, origin: line.origin });
    }

    /// Notes that an own event is off its row. If another writer's event of the page has written
    /// the row, that one is noted already.
    pub(super) fn note_undone(&mut self, row: usize, own: Op) {
        let row = &self.rows[row];
        let Some(table) = row.table().filter(|_| row.winners().is_empty()) else { return };
        let table = self.task.table(table).name.clone();
        let op = match own {
            Op::Insert => Op::Delete,
            Op::Update => Op::Update,
            Op::Delete => Op::Insert,
        };
        let (key, origin) = (row.key().clone(), Origin::Replica(self.task.store().id));
        self.done.changes.push(Change { table, key, op, origin });
    }

    /// Lets the event of a line wait.
    pub(in crate::store) fn quarantine_line(&mut self, at: usize, reason: &str) -> Step {
        self.quarantine.put(&self.task.lines()[at], reason, None)
    }

    /// The own event of a line has its verdict.
    pub(super) fn settle_own(&mut self, row: usize, n: i64, verdict: &Verdict) {
        match verdict {
            Verdict::Applied => self.done.settled_applied += 1,
            Verdict::Superseded(_) => self.done.settled_superseded += 1,
            Verdict::Rejected(_) => self.done.settled_rejected += 1,
        }
        self.rows.row_mut(row).settle(n);
        self.settled.push(n);
    }

    /// An own event of the page lost.
    pub(super) fn lose(&mut self, lost: Lost) {
        self.lost.push(lost);
    }

    pub(super) fn take_lost(&mut self) -> Vec<Lost> {
        std::mem::take(&mut self.lost)
    }

    /// A pending event is off its row, for it has probably lost.
    pub(super) fn count_set_aside(&mut self) {
        self.done.set_aside += 1;
    }

    /// An own event is new in the conflict inbox.
    pub(in crate::store) fn count_conflict(&mut self) {
        self.done.conflicts += 1;
    }

    /// A conflict was open, and the page has brought its effect.
    pub(in crate::store) fn count_moot(&mut self) {
        self.done.moot += 1;
    }

    /// Brings the state up to date.
    pub(in crate::store) fn finish(mut self, cursor: Seq, sent: Option<i64>) -> Step<Finished> {
        let (db, store) = (self.task.db(), self.task.store());
        let ahead =
            |line: &&Line<'_>| line.id.ms() <= line.received_at.saturating_add(MAX_AHEAD_MS);
        let lines = self.task.lines().iter();
        let clock = lines.filter(ahead).map(|line| line.id.ms()).max().unwrap_or(0);
        let mut statement = db.prepare_cached(
            "UPDATE driftless_state SET replaying = 0, cursor = ?1, chain = ?2,
             clock = max(clock, ?3, (SELECT coalesce(max(ms), 0) FROM
             (SELECT ms FROM driftless_outbox ORDER BY n DESC LIMIT 1))), sent = max(sent, ?4)",
        )?;
        statement.execute((cursor.0, self.log.chain.as_slice(), clock, sent.unwrap_or(0)))?;
        forget_before_images(db)?;
        row_index::follow(db, self.task.lines().len())?;
        let newest = self.task.start().newest();
        let mut kept = self.settled.contains(&newest).then_some(newest);
        for &n in store.outbox.pending().kept() {
            if n == newest {
                kept = Some(n);
            } else {
                let sql = "DELETE FROM driftless_outbox WHERE n = ?1 AND settled";
                db.prepare_cached(sql)?.execute([n])?;
            }
        }
        (self.done.cursor, self.done.quarantined) = (cursor, self.quarantine.added());
        Ok(Finished { done: self.done, settled: self.settled, kept })
    }
}

/// An own event of a page that lost.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Lost {
    line: usize,
    winner: Option<Seq>,
    ends: i64,
}

impl Lost {
    pub(super) fn new(line: usize, winner: Option<Seq>, ends: i64) -> Lost {
        Lost { line, winner, ends }
    }

    /// Its line.
    pub(in crate::store) fn line(&self) -> usize {
        self.line
    }

    /// The event that won, where it is known.
    pub(in crate::store) fn winner(&self) -> Option<Seq> {
        self.winner
    }

    /// The outbox number at which its transaction ends, or a later one: see [`Store::ends`].
    ///
    /// [`Store::ends`]: crate::store::Store::ends
    pub(in crate::store) fn ends(&self) -> i64 {
        self.ends
    }
}
