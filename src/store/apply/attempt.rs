//! Runs an attempt at a page: see [`rebase`](super::rebase).

use super::admission::{Admitted, MALFORMED, admit};
use super::decode::{Decoded, decode};
use super::rebase::{Lost, NONE, Rebase};
use super::step::{Step, Strategy};
use crate::catalog::Table;
use crate::event::conflict::Claim;
use crate::event::page::Line;
use crate::event::verdict::{TOO_LARGE, Verdict};
use crate::event::{Column, Columns, EventId, Op, Origin};
use crate::store::conflicts::record::{record_lost, settle_moot};
use crate::store::outbox::pending::{PendingEvent, load};
use crate::store::rows::refusal::{is_uncompiled, shorten};
use crate::store::rows::row::overlay;

impl<'s, 'p> Rebase<'s, 'p> {
    pub(in crate::store) fn run(&mut self, now_ms: i64) -> Step {
        self.group()?;
        self.undo_pending()?;
        let (lines, predecoded, chain, sealed) =
            (self.lines, self.predecoded(), self.chain, !self.again);
        decode(lines, chain, sealed, predecoded, |at, event| match event {
            Ok(event) => self.apply(at, &event),
            // It is no event, to this version at least, and must not keep the others from coming.
            Err(reason) => {
                let bytes = lines[at].bytes;
                self.quarantine_as(at, &format!("{MALFORMED}{reason}"), Some(bytes))
            }
        })?;
        if self.strategy == Strategy::Folded {
            self.place_folded()?;
        }
        let lost = std::mem::take(&mut self.lost);
        record_lost(self, &lost, now_ms)?;
        settle_moot(self)?;
        self.reapply()?;
        self.carry_out_actions()
    }

    /// Step 3: one event of the page.
    fn apply(&mut self, at: usize, event: &Decoded<'_, 'p>) -> Step {
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
        let there = line.seq <= self.adopted || row.is_some_and(|row| self.rows[row].unchanged);
        if applied && !there {
            self.take(at, row, event.after())?;
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

    /// Writes an applied event, or puts it into quarantine. One of a table that is not replicated
    /// here is in the log alone.
    fn take(&mut self, at: usize, row: Option<usize>, after: &[Column<'p>]) -> Step {
        let line = &self.lines[at];
        let Some(table) = self.store.table_index(&line.table) else {
            // When the table joins, its rows are read from the remote.
            if !self.store.is_registered(&line.table)? {
                return Ok(());
            }
            let table = shorten(&line.table);
            return self.quarantine(at, &format!("table `{table}` is not replicated here"));
        };
        let waiting = self.any_waiting && self.is_waiting(line)?;
        if waiting && line.op == Op::Update {
            return self.quarantine(at, "an earlier event of this row waits");
        }
        if let Some(reason) = &self.store.tables[table].unwritable {
            return self.quarantine(at, reason);
        }
        let definition = &self.store.tables[table].table;
        let admitted = match admit(definition, line, after, &mut self.key) {
            Ok(admitted) => admitted,
            Err(reason) => {
                self.follow_waiting(at, row, table);
                return self.quarantine(at, &reason);
            }
        };
        let known = (admitted == Admitted::KnownColumns).then(|| known_only(definition, after));
        let after = known.as_deref().unwrap_or(after);
        if waiting {
            self.release(line)?;
        }
        let missing = || format!("table `{}` has no such row here", definition.name);
        if self.strategy == Strategy::Folded {
            let place = row.expect("the fold has every row of the page");
            let row_of_page = &mut self.rows[place];
            match (line.op, &mut row_of_page.image) {
                (Op::Delete, image) => *image = None,
                (Op::Update, None) => return self.quarantine(at, &missing()),
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
            self.follow_waiting(at, row, table);
            return self.quarantine(at, &reason);
        }
        if self.check(written)? == 0 && line.op == Op::Update {
            return self.quarantine(at, &missing());
        }
        self.changed(at, table);
        self.follow(at, row, table);
        Ok(())
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

    /// Takes an own event out of the outbox: the remote's verdict is here.
    fn settle(&mut self, at: usize, row: usize, n: i64) -> Step {
        let line = &self.lines[at];
        match &line.verdict {
            Verdict::Applied => self.done.settled_applied += 1,
            Verdict::Superseded(_) => self.done.settled_superseded += 1,
            Verdict::Rejected(_) => self.done.settled_rejected += 1,
        }
        if !line.verdict.is_applied() {
            let is_on_row = |&(other, _, aside): &(i64, EventId, bool)| other == n && !aside;
            if self.rows[row].pending.iter().any(is_on_row) {
                self.note_undone(row, line.op);
            }
            self.turn_back(at, row, n)?;
            self.hold_lost(at, row, n)?;
            let event = load(self.db, &self.store.layouts, n)?;
            if let (Some(event), Some(TOO_LARGE)) = (&event, line.verdict.reason()) {
                event.keep_values(self.db)?;
            }
            // Those of a first sync are of no transaction of the application's.
            let ends = match event.as_ref().is_some_and(PendingEvent::is_captured) {
                true => self.store.ends(n, self.start.newest)?,
                false => n,
            };
            let known = event.and_then(|event| event.winner());
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

    /// Whether an event is what one of this file's own events did on the remote, or, out of
    /// quarantine, such an event itself: it defeats nothing.
    fn is_consequence(&self, line: &Line<'_>) -> Step<bool> {
        let mine = line.cause.filter(|_| line.origin == Origin::Replica(self.store.id));
        let Some(cause) = mine.or(self.again.then_some(line.id)) else { return Ok(false) };
        let sql = "SELECT EXISTS (SELECT 1 FROM driftless_log WHERE id = ?1 AND own)";
        let mut statement = self.db.prepare_cached(sql)?;
        Ok(statement.query_row([cause.0.to_bytes().as_slice()], |row| row.get(0))?)
    }
}

/// The columns that the table has here. The log keeps the others; when one comes, its values are
/// read from the remote: see `recapture`.
fn known_only<'p>(definition: &Table, after: &[Column<'p>]) -> Columns<'p> {
    let is_here = |(name, _): &&Column<'p>| definition.column(name).is_some();
    after.iter().filter(is_here).cloned().collect()
}
