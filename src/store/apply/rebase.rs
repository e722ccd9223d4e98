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

use rusqlite::{CachedStatement, Connection};

use super::decode::{Decoded, Predecoded};
use super::step::{HeldRows, Integrated, Start, Step, Stop, Strategy};
use crate::error::Result;
use crate::event::frame::Hash;
use crate::event::page::Line;
use crate::event::value::ValueRef;
use crate::event::{Change, EventId, Image, Op, Origin, RowKey, Seq};
use crate::store::Store;
use crate::store::local::ways::Ways;
use crate::store::rows::refusal::{is_refusal, is_unique_violation, shorten};
use crate::store::rows::writer::Writer;
use crate::store::schema::install::forget_before_images;

/// How far ahead of the remote's clock an event's id may be for this replica's ids to follow it, in
/// ms: ten years. Clocks are a year ahead, but what is a century ahead is made up: it would be
/// everybody's time, and nothing that is pending would ever be seen to wait.
const MAX_AHEAD_MS: i64 = 10 * 365 * 24 * 3_600_000;

/// One attempt at a page.
pub(in crate::store) struct Rebase<'s, 'p> {
    pub(in crate::store) store: &'s Store,
    pub(in crate::store) db: &'s Connection,
    pub(in crate::store) writer: Writer<'s>,
    /// Appends to the local log.
    log: Option<CachedStatement<'s>>,
    pub(in crate::store) lines: &'s [Line<'p>],
    /// What was decoded of them before the transaction.
    predecoded: Option<&'s Predecoded<'p>>,
    pub(in crate::store) strategy: Strategy,
    pub(in crate::store) more: bool,
    pub(in crate::store) start: Start,
    pub(in crate::store) rows: Vec<AffectedRow>,
    pub(in crate::store) of_line: Vec<u32>,
    pub(in crate::store) chain: Hash,
    pub(in crate::store) key: Vec<ValueRef<'p>>,
    /// Whether anything is in quarantine, so that later events may have to follow.
    pub(in crate::store) any_waiting: bool,
    pub(in crate::store) settled: Vec<i64>,
    pub(in crate::store) lost: Vec<Lost>,
    /// The events are in the log already, and come out of quarantine.
    pub(in crate::store) again: bool,
    /// What the events up to here did is in the rows already: they only settle the outbox.
    pub(in crate::store) adopted: Seq,
    /// Base rows that were held in quarantine.
    pub(in crate::store) held: HeldRows,
    /// All pending events come off, not only those of the page's tables.
    pub(in crate::store) everything: bool,
    /// Where the rows went to which local rows refer.
    pub(in crate::store) ways: Ways,
    pub(in crate::store) done: Integrated,
}

/// What an attempt leaves when it has come through.
pub(in crate::store) struct Finished {
    pub(in crate::store) done: Integrated,
    /// The settled outbox numbers.
    pub(in crate::store) settled: Vec<i64>,
    /// Settled, and kept as the newest number.
    pub(in crate::store) kept: Option<i64>,
}

impl<'s, 'p> Rebase<'s, 'p> {
    pub(in crate::store) fn new(
        store: &'s Store,
        lines: &'s [Line<'p>],
        strategy: Strategy,
        more: bool,
        start: Start,
    ) -> Result<Self> {
        let db = &store.db;
        let any = "SELECT EXISTS (SELECT 1 FROM driftless_quarantine)";
        let any_waiting = db.prepare_cached(any)?.query_row([], |row| row.get(0))?;
        Ok(Rebase {
            store,
            db,
            writer: Writer::new(db, &store.tables, &store.guard)
                .keeping_values_before(&store.dependents)?,
            log: None,
            lines,
            predecoded: None,
            strategy,
            more,
            start,
            rows: Vec::new(),
            of_line: Vec::new(),
            chain: start.chain,
            key: Vec::new(),
            any_waiting,
            settled: Vec::new(),
            lost: Vec::new(),
            again: false,
            adopted: Seq(0),
            held: HeldRows::new(),
            everything: false,
            ways: Ways::default(),
            done: Integrated { pulled: lines.len(), ..Integrated::default() },
        })
    }

    /// What was decoded before the transaction.
    pub(super) fn predecoded(&self) -> Option<&'s Predecoded<'p>> {
        self.predecoded
    }

    /// With what was decoded before the transaction.
    pub(in crate::store) fn with_predecoded(self, predecoded: &'s Predecoded<'p>) -> Self {
        Rebase { predecoded: Some(predecoded), ..self }
    }

    /// For events that are in the log already: they are not sealed again. `held` has come out of
    /// quarantine with them, which is for the fold alone.
    pub(in crate::store) fn again(self, held: HeldRows) -> Self {
        assert!(held.is_empty() || self.strategy == Strategy::Folded, "others read rows in place");
        Rebase { again: true, held, ..self }
    }

    /// For events of which those up to `adopted` are in the rows already.
    pub(in crate::store) fn adopted(self, adopted: Seq) -> Self {
        Rebase { adopted, ..self }
    }

    /// For a rebase of all rows that have pending events.
    pub(in crate::store) fn of_everything(self) -> Self {
        Rebase { everything: true, ..self }
    }

    /// The outbox numbers of the pending events of tables that `takes` names by their places,
    /// rising.
    pub(in crate::store) fn numbers(&self, takes: impl Fn(usize) -> bool) -> Vec<i64> {
        let of_table = |row: &&Touched| row.table.is_some_and(&takes);
        let rows = self.rows.iter().filter(of_table);
        let mut numbers: Vec<_> =
            rows.flat_map(|row| row.pending.iter().map(|(n, ..)| *n)).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Appends the event to the local log.
    pub(super) fn append(&mut self, line: &Line<'p>, event: &Decoded<'_, 'p>, own: bool) -> Step {
        let sql = "INSERT INTO driftless_log (seq, id, own, header, vals, hash)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let statement = match &mut self.log {
            Some(statement) => statement,
            none => none.insert(self.db.prepare_cached(sql)?),
        };
        statement.raw_bind_parameter(1, line.seq.0)?;
        statement.raw_bind_parameter(2, line.id.0.to_bytes().as_slice())?;
        statement.raw_bind_parameter(3, own)?;
        let (header, values, hash) = event.frame();
        statement.raw_bind_parameter(4, header)?;
        statement.raw_bind_parameter(5, values)?;
        statement.raw_bind_parameter(6, hash.as_slice())?;
        statement.raw_execute()?;
        self.chain = hash;
        Ok(())
    }

    /// Turns the outcome of a write into a reason to stop, if it is one.
    pub(in crate::store) fn check(&self, written: rusqlite::Result<usize>) -> Step<usize> {
        written.map_err(|error| match () {
            () if self.db.is_autocommit() => Stop::RolledBack,
            () if is_unique_violation(&error) => Stop::UniqueViolation,
            () if is_refusal(&error) => Stop::Refused,
            () => Stop::Failed(error.into()),
        })
    }

    pub(in crate::store) fn changed(&mut self, at: usize, table: usize) {
        let line = &self.lines[at];
        let name = &self.store.tables[table].table.name;
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
        let affected = &self.rows[row];
        let Some(table) = affected.table.filter(|_| affected.winners.is_empty()) else { return };
        let table = self.store.tables[table].table.name.clone();
        let op = match own {
            Op::Insert => Op::Delete,
            Op::Update => Op::Update,
            Op::Delete => Op::Insert,
        };
        let (key, origin) = (affected.key.clone(), Origin::Replica(self.store.id));
        self.done.changes.push(Change { table, key, op, origin });
    }

    pub(in crate::store) fn is_waiting(&self, line: &Line<'_>) -> Step<bool> {
        let mut statement = self.db.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM driftless_quarantine WHERE tbl = ?1 AND pk = ?2
             AND seq < ?3)",
        )?;
        Ok(statement.query_row((&line.table, line.key, line.seq.0), |row| row.get(0))?)
    }

    pub(in crate::store) fn quarantine(&mut self, at: usize, reason: &str) -> Step {
        self.quarantine_as(at, reason, None)
    }

    /// The same with the line as it came, where there is no frame of it.
    pub(super) fn quarantine_as(&mut self, at: usize, reason: &str, bytes: Option<&[u8]>) -> Step {
        let line = &self.lines[at];
        let mut statement = self.db.prepare_cached(
            "INSERT INTO driftless_quarantine (seq, tbl, pk, reason, line)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (seq) DO UPDATE SET reason = excluded.reason, line = excluded.line",
        )?;
        statement.execute((line.seq.0, &line.table, line.key, reason, bytes))?;
        let table = shorten(&line.table);
        tracing::warn!(seq = line.seq.0, table = ?table, reason, "into quarantine");
        self.any_waiting = true;
        self.done.quarantined += 1;
        Ok(())
    }

    /// Brings the state up to date.
    pub(in crate::store) fn finish(mut self, cursor: Seq, sent: Option<i64>) -> Step<Finished> {
        let ahead =
            |line: &&Line<'_>| line.id.ms() <= line.received_at.saturating_add(MAX_AHEAD_MS);
        let clock = self.lines.iter().filter(ahead).map(|line| line.id.ms()).max().unwrap_or(0);
        let mut statement = self.db.prepare_cached(
            "UPDATE driftless_state SET replaying = 0, cursor = ?1, chain = ?2,
             clock = max(clock, ?3, (SELECT coalesce(max(ms), 0) FROM
             (SELECT ms FROM driftless_outbox ORDER BY n DESC LIMIT 1))), sent = max(sent, ?4)",
        )?;
        statement.execute((cursor.0, self.chain.as_slice(), clock, sent.unwrap_or(0)))?;
        forget_before_images(self.db)?;
        let newest = self.start.newest;
        let mut kept = self.settled.contains(&newest).then_some(newest);
        for &n in self.store.pending.borrow().kept() {
            if n == newest {
                kept = Some(n);
            } else {
                let sql = "DELETE FROM driftless_outbox WHERE n = ?1 AND settled";
                self.db.prepare_cached(sql)?.execute([n])?;
            }
        }
        self.done.cursor = cursor;
        Ok(Finished { done: self.done, settled: self.settled, kept })
    }
}

/// An own event of a page that lost.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Lost {
    /// Its line.
    pub(in crate::store) line: usize,
    /// The event that won, where it is known.
    pub(in crate::store) winner: Option<Seq>,
    /// The outbox number at which its transaction ends, or a later one: see [`Store::ends`].
    pub(in crate::store) ends: i64,
}

/// No row: what stands in [`Rebase::of_line`] for an event whose row needs no thought.
pub(in crate::store) const NONE: u32 = u32::MAX;

/// A row that needs thought.
#[derive(Debug)]
pub(in crate::store) struct AffectedRow {
    /// Its table, if that is replicated and can be written here.
    pub(in crate::store) table: Option<usize>,
    /// Its table, if that is replicated and cannot be written here.
    pub(in crate::store) unwritable: Option<usize>,
    pub(in crate::store) key: RowKey,
    /// Its pending events: number, id, and whether it is set aside.
    pub(in crate::store) pending: Vec<(i64, EventId, bool)>,
    /// Its events in the page.
    pub(in crate::store) lines: Vec<usize>,
    /// Nothing is to be written.
    pub(in crate::store) unchanged: bool,
    /// What is underneath its pending events; in the fold, with the page's events so far.
    pub(in crate::store) image: Option<Image>,
    /// What was underneath before the page.
    pub(in crate::store) base: Option<Image>,
    /// The row as it stood, with its pending events; only where all of them come off.
    pub(in crate::store) current: Option<Image>,
    /// Applied events of other writers in the page so far.
    pub(in crate::store) winners: Vec<usize>,
}

impl AffectedRow {
    pub(super) fn new(
        table: Option<usize>,
        key: RowKey,
        pending: Vec<(i64, EventId, bool)>,
    ) -> Self {
        AffectedRow {
            table,
            unwritable: None,
            key,
            pending,
            lines: Vec::new(),
            unchanged: false,
            image: None,
            base: None,
            current: None,
            winners: Vec::new(),
        }
    }
}
