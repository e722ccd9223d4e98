//! Runs an attempt at a page: see [`rebase`](super::rebase).

use super::admission::{Admitted, MALFORMED};
use super::decode::{Decoded, Predecoded, decode};
use super::rebase::{Lost, Rebase};
use super::step::Step;
use crate::catalog::Table;
use crate::event::conflict::Claim;
use crate::event::page::Line;
use crate::event::verdict::TOO_LARGE;
use crate::event::{Column, Columns, Op, Origin};
use crate::store::conflicts::record::{record_lost, settle_moot};
use crate::store::outbox::pending::{PendingEvent, load};
use crate::store::rows::refusal::{is_uncompiled, shorten};

impl<'s, 'p> Rebase<'s, 'p> {
    /// Runs the attempt. What was decoded before the transaction is used where it fits.
    pub(in crate::store) fn run(
        &mut self,
        predecoded: Option<&Predecoded<'_, 'p>>,
        now_ms: i64,
    ) -> Step {
        self.group()?;
        self.undo_pending()?;
        let (lines, sealed) = (self.task().lines(), !self.task().is_again());
        decode(lines, self.chain(), sealed, predecoded, |at, event| match event {
            Ok(event) => self.apply(at, &event),
            // It is not a valid event, at least for this version. It must not hold up the others.
            Err(reason) => {
                let (line, reason) = (&lines[at], format!("{MALFORMED}{reason}"));
                self.quarantine_mut().put(line, &reason, Some(line.bytes))
            }
        })?;
        if self.task().is_folded() {
            self.place_folded()?;
        }
        let lost = self.take_lost();
        record_lost(self, &lost, now_ms)?;
        settle_moot(self)?;
        self.reapply()?;
        self.carry_out_actions()
    }

    /// Step 3: applies one event of the page.
    fn apply(&mut self, at: usize, event: &Decoded<'_, 'p>) -> Step {
        let task = self.task();
        let line = &task.lines()[at];
        let row = self.rows().of_line(at);
        let own = row.and_then(|row| self.rows()[row].number_of(line.id));
        if !task.is_again() {
            self.append(line, event, own.is_some())?;
        }
        let applied = line.verdict.is_applied();
        // The row has the event's effect already: a first sync has adopted it, or the row's pending
        // events are exactly its events in the page.
        let is_unchanged = row.is_some_and(|row| self.rows()[row].is_unchanged());
        if applied && !task.has_adopted(line) && !is_unchanged {
            self.take(at, row, event.after())?;
        }
        match (own, row) {
            (Some(n), Some(row)) => self.settle(at, row, n)?,
            (None, Some(row)) if applied && !self.is_consequence(line)? => {
                self.rows_mut().row_mut(row).add_winner(at);
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes an applied event, or quarantines it.
    fn take(&mut self, at: usize, row: Option<usize>, after: &[Column<'p>]) -> Step {
        let task = self.task();
        let line = &task.lines()[at];
        let Some(table) = task.store().table_index(&line.table) else {
            // When the table joins, its rows are read from the remote.
            if !task.store().is_registered(&line.table)? {
                return Ok(());
            }
            let table = shorten(&line.table);
            return self.quarantine_line(at, &format!("table `{table}` is not replicated here"));
        };
        let waiting = self.quarantine().has_earlier(line)?;
        // An update needs the row as the waiting event would leave it. An insert and a delete do
        // not.
        if waiting && line.op == Op::Update {
            return self.quarantine_line(at, "an earlier event of this row waits");
        }
        if let Some(reason) = &task.store().tables[table].unwritable {
            return self.quarantine_line(at, reason);
        }
        let admitted = match self.admit(table, line, after) {
            Ok(admitted) => admitted,
            Err(reason) => {
                self.follow_waiting(at, row, table);
                return self.quarantine_line(at, &reason);
            }
        };
        let definition = task.table(table);
        let known = (admitted == Admitted::KnownColumns).then(|| known_only(definition, after));
        let after = known.as_deref().unwrap_or(after);
        if waiting {
            let first = task.lines().first().map_or(line.seq, |first| first.seq);
            self.quarantine_mut().release(line, first)?;
        }
        let is_there = if task.is_folded() {
            let row = row.expect("the fold has every row of the page");
            self.rows_mut().row_mut(row).fold(definition, line.op, after)
        } else {
            let written = self.write(table, line, after);
            if let Err(error) = &written
                && is_uncompiled(error)
            {
                let name = &definition.name;
                let reason = format!("table `{name}` cannot be written here: {error}");
                self.follow_waiting(at, row, table);
                return self.quarantine_line(at, &reason);
            }
            self.check(written)? > 0 || line.op != Op::Update
        };
        if !is_there {
            let reason = format!("table `{}` has no such row here", definition.name);
            return self.quarantine_line(at, &reason);
        }
        self.changed(at, table);
        self.follow(at, row, table);
        Ok(())
    }

    /// Takes an own event out of the outbox: the remote's verdict is here.
    fn settle(&mut self, at: usize, row: usize, n: i64) -> Step {
        let task = self.task();
        let line = &task.lines()[at];
        if !line.verdict.is_applied() {
            self.lose_own(at, row, n)?;
        }
        if n == task.start().newest() {
            let sql = "INSERT OR REPLACE INTO driftless_outbox (n, ms, tail, op, base, settled) \
                       SELECT n, ms, tail, op, base, 1 FROM driftless_outbox WHERE n = ?1";
            task.db().prepare_cached(sql)?.execute([n])?;
        } else {
            let sql = "DELETE FROM driftless_outbox WHERE n = ?1";
            task.db().prepare_cached(sql)?.execute([n])?;
        }
        self.settle_own(row, n, &line.verdict);
        Ok(())
    }

    /// An own event lost: it is off its row, and is to be listed.
    fn lose_own(&mut self, at: usize, row: usize, n: i64) -> Step {
        let task = self.task();
        let (line, store) = (&task.lines()[at], task.store());
        if self.rows()[row].has_on_top(n) {
            self.note_undone(row, line.op);
        }
        self.turn_back(at, row, n)?;
        self.hold_lost(at, row, n)?;
        let event = load(task.db(), store.outbox.layouts(), n)?;
        if let (Some(event), Some(TOO_LARGE)) = (&event, line.verdict.reason()) {
            event.keep_values(task.db())?;
        }
        // Those of a first sync are of no transaction of the application's.
        let ends = match event.as_ref().is_some_and(PendingEvent::is_captured) {
            true => store.ends(n, task.start().newest())?,
            false => n,
        };
        let known = event.and_then(|event| event.winner());
        let claim = Claim { op: line.op, after: line.after };
        let winner = known.or_else(|| self.winner(row, claim, line.base));
        self.lose(Lost::new(at, winner, ends));
        Ok(())
    }

    /// Whether an event is the consequence of one of this file's own events on the remote or, out
    /// of quarantine, such an event itself. It defeats nothing.
    fn is_consequence(&self, line: &Line<'_>) -> Step<bool> {
        let task = self.task();
        let mine = line.cause.filter(|_| line.origin == Origin::Replica(task.store().id));
        let Some(cause) = mine.or(task.is_again().then_some(line.id)) else { return Ok(false) };
        let sql = "SELECT EXISTS (SELECT 1 FROM driftless_log WHERE id = ?1 AND own)";
        let mut statement = task.db().prepare_cached(sql)?;
        Ok(statement.query_row([cause.0.to_bytes().as_slice()], |row| row.get(0))?)
    }
}

/// The columns that the table has here. The log keeps the others. When a column is added, its
/// values are read from the remote: see `recapture`.
fn known_only<'p>(definition: &Table, after: &[Column<'p>]) -> Columns<'p> {
    let is_here = |(name, _): &&Column<'p>| definition.column(name).is_some();
    after.iter().filter(is_here).cloned().collect()
}
