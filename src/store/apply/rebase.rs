//! One attempt at a page: the rows that it touches are rebased.
//!
//! The invariant is that **a row is the fold of the remote log up to the cursor, with this
//! replica's pending events of that row, those that have not lost, on top in their order**. So
//! [`Rebase::run`]
//!
//! 1. finds the rows of the page that have pending events; one whose events in the page are exactly
//!    its first pending ones, all applied, and for which nothing waits in quarantine, is *quiet*
//!    and is not written at all;
//! 2. takes the pending events off the other rows: works out in memory what is underneath;
//! 3. applies the page in the order of the log, and settles the outbox with it;
//! 4. puts the remaining pending events back on top, oldest first, or sets one aside.
//!
//! Undoing event by event through SQL would pass through states that never existed, which a UNIQUE
//! index notices.

use rusqlite::{CachedStatement, Connection};

use super::affected::{NONE, Touched};
use super::decode::{Ahead, Unpacked, unpack};
use super::page::{Integrated, Pass, Start, Step, Stop};
use super::row_writer::{Writer, is_refusal, is_taken};
use crate::catalog::Table;
use crate::error::Result;
use crate::event::conflict::Claim;
use crate::event::frame::Hash;
use crate::event::page::Line;
use crate::event::value::ValueRef;
use crate::event::verdict::{TOO_LARGE, Verdict};
use crate::event::{Column, Image, Op, Origin, RowKey, Seq};
use crate::store::Store;
use crate::store::conflicts::record::{Lost, notice, settle_moot};
use crate::store::local::departures::Ways;
use crate::store::outbox::pending::{PendingEvent, load, time};
use crate::store::quarantine::{MALFORMED, Whole};
use crate::store::schema::forget_notes;

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
    /// What was unpacked of them before the transaction.
    ahead: Option<&'s Ahead<'p>>,
    pub(in crate::store) pass: Pass,
    pub(in crate::store) more: bool,
    pub(in crate::store) start: Start,
    pub(in crate::store) rows: Vec<Touched>,
    pub(in crate::store) of_line: Vec<u32>,
    pub(in crate::store) chain: Hash,
    pub(in crate::store) key: Vec<ValueRef<'p>>,
    /// Whether anything is in quarantine, so that later events may have to follow.
    pub(in crate::store) quarantine: bool,
    pub(in crate::store) settled: Vec<i64>,
    pub(in crate::store) lost: Vec<Lost>,
    /// The events are in the log already, and come out of quarantine.
    pub(in crate::store) again: bool,
    /// What the events up to here did is in the rows already: they only settle the outbox.
    pub(in crate::store) adopted: Seq,
    /// Rows that are not here at all, by the first of their events that waited.
    pub(in crate::store) whole: Whole,
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
        pass: Pass,
        more: bool,
        start: Start,
    ) -> Result<Self> {
        let db = &store.db;
        let any = "SELECT EXISTS (SELECT 1 FROM driftless_quarantine)";
        let quarantine = db.prepare_cached(any)?.query_row([], |row| row.get(0))?;
        Ok(Rebase {
            store,
            db,
            writer: Writer::new(db, &store.tables, &store.guard).noting(&store.dependents)?,
            log: None,
            lines,
            ahead: None,
            pass,
            more,
            start,
            rows: Vec::new(),
            of_line: Vec::new(),
            chain: start.chain,
            key: Vec::new(),
            quarantine,
            settled: Vec::new(),
            lost: Vec::new(),
            again: false,
            adopted: Seq(0),
            whole: Whole::new(),
            everything: false,
            ways: Ways::default(),
            done: Integrated { pulled: lines.len(), ..Integrated::default() },
        })
    }

    /// With what was unpacked before the transaction.
    pub(in crate::store) fn unpacked(self, ahead: &'s Ahead<'p>) -> Self {
        Rebase { ahead: Some(ahead), ..self }
    }

    /// For events that are in the log already: they are not sealed again. `whole` has come out of
    /// quarantine with them, which is for the fold alone.
    pub(in crate::store) fn again(self, whole: Whole) -> Self {
        assert!(whole.is_empty() || self.pass == Pass::Fold, "the other passes read rows in place");
        Rebase { again: true, whole, ..self }
    }

    /// For events of which those up to `adopted` are in the rows already.
    pub(in crate::store) fn adopted(self, adopted: Seq) -> Self {
        Rebase { adopted, ..self }
    }

    /// For a rebase of all rows that have pending events.
    pub(in crate::store) fn of_everything(self) -> Self {
        Rebase { everything: true, ..self }
    }

    pub(in crate::store) fn run(&mut self, now_ms: i64) -> Step {
        self.group()?;
        self.take_off()?;
        let (lines, ahead, chain, sealed) = (self.lines, self.ahead, self.chain, !self.again);
        unpack(lines, chain, sealed, ahead, |at, event| match event {
            Ok(event) => self.apply(at, &event),
            // It is no event, to this version at least, and must not keep the others from coming.
            Err(reason) => {
                let bytes = lines[at].bytes;
                self.put_away_as(at, &format!("{MALFORMED}{reason}"), Some(bytes))
            }
        })?;
        if self.pass == Pass::Fold {
            self.place_folded()?;
        }
        let lost = std::mem::take(&mut self.lost);
        notice(self, &lost, now_ms)?;
        settle_moot(self)?;
        self.put_back()?;
        self.carry_out_actions()
    }

    /// Turns the outcome of a write into a reason to stop, if it is one.
    pub(in crate::store) fn check(&self, written: rusqlite::Result<usize>) -> Step<usize> {
        written.map_err(|error| match () {
            () if self.db.is_autocommit() => Stop::RolledBack,
            () if is_taken(&error) => Stop::Taken,
            () if is_refusal(&error) => Stop::Refused,
            () => Stop::Failed(error.into()),
        })
    }

    /// Step 3: one event of the page.
    fn apply(&mut self, at: usize, event: &Unpacked<'_, 'p>) -> Step {
        let lines = self.lines;
        let line = &lines[at];
        let row = self.of_line.get(at).copied().filter(|&row| row != NONE).map(|row| row as usize);
        let own = row.and_then(|row| {
            self.rows[row].pending.iter().find(|(_, id, _)| *id == line.id).map(|(n, ..)| *n)
        });
        if !self.again {
            self.append(line, event, own.is_some())?;
        }
        let applied = line.verdict.is_applied();
        let there = line.seq <= self.adopted || row.is_some_and(|row| self.rows[row].quiet);
        if applied && !there {
            self.take(at, row, event.after)?;
        }
        match (own, row) {
            (Some(n), Some(row)) => self.settle(at, row, n)?,
            (None, Some(row)) if applied && !self.is_consequence(line)? => {
                self.rows[row].winners.push(at);
            }
            _ => {}
        }
        Ok(())
    }

    /// Appends the event to the local log.
    fn append(&mut self, line: &Line<'p>, event: &Unpacked<'_, 'p>, own: bool) -> Step {
        let sql = "INSERT INTO driftless_log (seq, id, own, header, vals, hash)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let statement = match &mut self.log {
            Some(statement) => statement,
            none => none.insert(self.db.prepare_cached(sql)?),
        };
        statement.raw_bind_parameter(1, line.seq.0)?;
        statement.raw_bind_parameter(2, line.id.0.to_bytes().as_slice())?;
        statement.raw_bind_parameter(3, own)?;
        statement.raw_bind_parameter(4, event.header)?;
        statement.raw_bind_parameter(5, event.values)?;
        statement.raw_bind_parameter(6, event.hash.as_slice())?;
        statement.raw_execute()?;
        self.chain = event.hash;
        Ok(())
    }

    /// Writes an applied event, or puts it into quarantine.
    fn take(&mut self, at: usize, row: Option<usize>, after: &[Column<'p>]) -> Step {
        let line = &self.lines[at];
        let Some(table) = self.store.table_index(&line.table) else {
            let table = shorten(&line.table);
            return self.put_away(at, &format!("table `{table}` is not replicated here"));
        };
        let waiting = self.quarantine && self.is_waiting(line)?;
        if waiting && line.op == Op::Update {
            return self.put_away(at, "an earlier event of this row waits");
        }
        if let Some(reason) = &self.store.tables[table].unwritable {
            return self.put_away(at, reason);
        }
        let definition = &self.store.tables[table].table;
        if let Err(reason) = crate::store::quarantine::admit(definition, line, after, &mut self.key)
        {
            return self.put_away(at, &reason);
        }
        if waiting {
            self.release(line)?;
        }
        let missing = || format!("table `{}` has no such row here", definition.name);
        if self.pass == Pass::Fold {
            let place = row.expect("the fold has every row of the page");
            let row_of_page = &mut self.rows[place];
            match (line.op, &mut row_of_page.image) {
                (Op::Delete, image) => *image = None,
                (Op::Update, None) => return self.put_away(at, &missing()),
                (Op::Update, Some(image)) => overlay(definition, image, after),
                (Op::Insert, image) => {
                    let mut whole = image.take().unwrap_or_default();
                    overlay(definition, &mut whole, after);
                    *image = Some(whole);
                }
            }
            self.changed(at, table);
            self.follow(at, row, table);
            return Ok(());
        }
        let written = match line.op {
            Op::Insert => self.writer.upsert(table, line.key, after),
            Op::Update => self.writer.update(table, &self.key, after),
            Op::Delete => self.writer.delete(table, &self.key),
        };
        if let Err(error) = &written
            && is_uncompiled(error)
        {
            let reason = format!("table `{}` cannot be written here: {error}", definition.name);
            return self.put_away(at, &reason);
        }
        if self.check(written)? == 0 && line.op == Op::Update {
            return self.put_away(at, &missing());
        }
        self.changed(at, table);
        self.follow(at, row, table);
        Ok(())
    }

    pub(in crate::store) fn changed(&mut self, at: usize, table: usize) {
        let key = self.lines[at].key;
        if self.done.changes.last().is_some_and(|(_, last)| last.0 == key) {
            return;
        }
        let table = self.store.tables[table].table.name.clone();
        self.done.changes.push((table, RowKey(key.to_owned())));
    }

    pub(in crate::store) fn is_waiting(&self, line: &Line<'_>) -> Step<bool> {
        let mut statement = self.db.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM driftless_quarantine WHERE tbl = ?1 AND pk = ?2
             AND seq < ?3)",
        )?;
        Ok(statement.query_row((&line.table, line.key, line.seq.0), |row| row.get(0))?)
    }

    /// An insert has the whole row and a delete none of it: what waited before is of no more use.
    /// (A trigger on the remote that is newer than capture is logged before the insert that fired
    /// it, so an update may come before its row.)
    fn release(&mut self, line: &Line<'_>) -> Step {
        let sql = "DELETE FROM driftless_quarantine WHERE tbl = ?1 AND pk = ?2 \
                   AND seq >= ?3 AND seq < ?4";
        let mut delete = self.db.prepare_cached(sql)?;
        let first = self.lines.first().map_or(line.seq.0, |first| first.seq.0);
        delete.execute((&line.table, line.key, i64::MIN, first))?;
        // What this page itself had put there waits no longer.
        self.done.quarantined -= delete.execute((&line.table, line.key, first, line.seq.0))?;
        Ok(())
    }

    pub(in crate::store) fn put_away(&mut self, at: usize, reason: &str) -> Step {
        self.put_away_as(at, reason, None)
    }

    /// The same with the line as it came, where there is no frame of it.
    fn put_away_as(&mut self, at: usize, reason: &str, bytes: Option<&[u8]>) -> Step {
        let line = &self.lines[at];
        let mut statement = self.db.prepare_cached(
            "INSERT INTO driftless_quarantine (seq, tbl, pk, reason, line)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (seq) DO UPDATE SET reason = excluded.reason, line = excluded.line",
        )?;
        statement.execute((line.seq.0, &line.table, line.key, reason, bytes))?;
        let table = shorten(&line.table);
        tracing::warn!(seq = line.seq.0, table = ?table, reason, "into quarantine");
        self.quarantine = true;
        self.done.quarantined += 1;
        Ok(())
    }

    /// Takes an own event out of the outbox: the remote's verdict is here.
    fn settle(&mut self, at: usize, row: usize, n: i64) -> Step {
        let line = &self.lines[at];
        match &line.verdict {
            Verdict::Applied => self.done.settled_applied += 1,
            Verdict::Superseded(_) => self.done.settled_superseded += 1,
            Verdict::Rejected(_) => self.done.settled_rejected += 1,
        }
        if !line.verdict.is_applied() {
            self.turn_back(at, row, n)?;
            self.hold_lost(at, row, n)?;
            let event = load(self.db, &self.store.layouts, n)?;
            if let (Some(event), Some(TOO_LARGE)) = (&event, line.verdict.reason()) {
                self.keep(event)?;
            }
            // Those of a first sync are of no transaction of the application's.
            let ends = match event.as_ref().is_some_and(|event| event.captured) {
                true => self.store.ends(n, self.start.newest)?,
                false => n,
            };
            let known = event.and_then(|event| event.winner);
            let claim = Claim { op: line.op, after: line.after };
            let winner = known.or_else(|| self.winner(row, claim, line.base));
            self.lost.push(Lost { line: at, winner, ends });
        }
        if n == self.start.newest {
            let sql = "INSERT OR REPLACE INTO driftless_outbox (n, ms, tail, op, base, settled) \
                       SELECT n, ms, tail, op, base, 1 FROM driftless_outbox WHERE n = ?1";
            self.db.prepare_cached(sql)?.execute([n])?;
        } else {
            let sql = "DELETE FROM driftless_outbox WHERE n = ?1";
            self.db.prepare_cached(sql)?.execute([n])?;
        }
        self.rows[row].pending.retain(|(other, ..)| *other != n);
        self.settled.push(n);
        Ok(())
    }

    /// Keeps the values of an event that the log has without them.
    fn keep(&self, event: &PendingEvent) -> Step {
        let json = |image: &Option<Vec<u8>>| -> Result<Option<String>> {
            Ok(image.as_deref().map(Image::parse).transpose()?.map(|image| image.to_json()))
        };
        let mut statement = self.db.prepare_cached(
            "INSERT INTO driftless_kept (id, before, after) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO NOTHING",
        )?;
        let id = event.id.0.to_bytes();
        statement.execute((id.as_slice(), json(&event.under)?, json(&event.after)?))?;
        Ok(())
    }

    /// Whether an event is what one of this file's own events did on the remote, or, out of
    /// quarantine, such an event itself: it defeats nothing.
    fn is_consequence(&self, line: &Line<'_>) -> Step<bool> {
        let mine = line.cause.filter(|_| line.origin == Origin::Replica(self.store.id));
        let Some(cause) = mine.or(self.again.then_some(line.id)) else { return Ok(false) };
        let sql = "SELECT EXISTS (SELECT 1 FROM driftless_log WHERE id = ?1 AND own)";
        let mut statement = self.db.prepare_cached(sql)?;
        Ok(statement.query_row([cause.0.to_bytes().as_slice()], |row| row.get(0))?)
    }

    /// Brings the state up to date.
    pub(in crate::store) fn finish(mut self, cursor: Seq, sent: Option<i64>) -> Step<Finished> {
        let ahead =
            |line: &&Line<'_>| time(line.id) <= line.received_at.saturating_add(MAX_AHEAD_MS);
        let clock = self.lines.iter().filter(ahead).map(|line| time(line.id)).max().unwrap_or(0);
        let mut statement = self.db.prepare_cached(
            "UPDATE driftless_state SET replaying = 0, cursor = ?1, chain = ?2,
             clock = max(clock, ?3, (SELECT coalesce(max(ms), 0) FROM
             (SELECT ms FROM driftless_outbox ORDER BY n DESC LIMIT 1))), sent = max(sent, ?4)",
        )?;
        statement.execute((cursor.0, self.chain.as_slice(), clock, sent.unwrap_or(0)))?;
        forget_notes(self.db)?;
        let newest = self.start.newest;
        let mut kept = self.settled.contains(&newest).then_some(newest);
        for &n in &self.store.pending.borrow().kept {
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

/// Sets the columns of `image` to an event's values.
pub(in crate::store) fn overlay(definition: &Table, image: &mut Image, values: &[Column<'_>]) {
    for (name, value) in values {
        let value = value.clone().into_value();
        match image.0.iter_mut().find(|(mine, _)| mine.eq_ignore_ascii_case(name)) {
            Some((_, mine)) => *mine = value,
            None => {
                let name = definition.column(name).map_or(&**name, |column| &column.name);
                image.0.push((name.to_owned(), value));
            }
        }
    }
}

/// Whether a statement could not even be made: a trigger of the application calls a function that
/// this program does not have, or writes a table that is gone; or an index has a collation that it
/// does not have, for which SQLite has an extended code of its own.
pub(in crate::store) fn is_uncompiled(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqlInputError { .. })
        || error.sqlite_error().is_some_and(|error| error.extended_code & 0xff == 1)
}

/// The longest piece of a remote's text in a reason, in bytes.
const MAX_NAME: usize = 200;

pub(in crate::store) fn shorten(text: &str) -> &str {
    let end = (0..=MAX_NAME.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}
