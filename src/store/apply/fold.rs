//! The writes of a page that is folded: each of its rows once, with its final image.
//!
//! The remote had all these rows together, so the first way is to write them so
//! ([`Rebase::place_together`]). What refuses a row then is a constraint that this database alone
//! has, and its events wait in quarantine. Two more rows can be refused by such a constraint:
//!
//! * one that the page does not touch, once its pending events are off: then it stays as it is,
//!   with them on it;
//! * one as it was underneath its pending events, when they have lost: they had hidden it from
//!   the constraint, and another row has its value by now. No event of the page brings that row,
//!   and the log need not have it whole, so it waits in quarantine itself
//!   ([`Rebase::hold_base_row`]).

use super::rebase::{AffectedRow, Rebase};
use super::step::Step;
use crate::event::Image;
use crate::store::quarantine::hold_in_front;
use crate::store::rows::refusal::{is_refusal, is_uncompiled, is_unique_violation, shorten};
use crate::store::rows::row::{borrow, known_key};

/// How often the rows that a page does not touch are written anew, with more of them as they were:
/// rows that hide one behind the other are few, and each time costs as much as all of them.
const MAX_ROUNDS: usize = 8;

impl Rebase<'_, '_> {
    /// The fold's writes.
    pub(in crate::store) fn place_folded(&mut self) -> Step {
        self.place_untouched()?;
        let before = (self.done.quarantined, self.any_waiting);
        self.db.execute_batch("SAVEPOINT driftless_fold")?;
        if !self.place_together()? {
            self.db.execute_batch("ROLLBACK TO driftless_fold")?;
            (self.done.quarantined, self.any_waiting) = before;
            self.place_singly()?;
        }
        self.hold_homeless()?;
        Ok(self.db.execute_batch("RELEASE driftless_fold")?)
    }

    /// Rows that the page does not touch go first, since they held their values before it.
    fn place_untouched(&mut self) -> Step {
        let mut rows = std::mem::take(&mut self.rows);
        self.db.execute_batch("SAVEPOINT driftless_fold")?;
        let mut round = 1;
        while !self.place_apart(rows.iter_mut().filter(|row| row.lines.is_empty()))? {
            self.db.execute_batch("ROLLBACK TO driftless_fold")?;
            round += 1;
            if round == MAX_ROUNDS {
                let untouched = rows.iter_mut().filter(|row| row.lines.is_empty());
                untouched.for_each(|row| row.unchanged = true);
            }
        }
        self.rows = rows;
        Ok(self.db.execute_batch("RELEASE driftless_fold")?)
    }

    /// Writes these rows as they are underneath, and those that cannot be so as they were, with
    /// their pending events, which have never left them: these are unchanged. False if one that is
    /// unchanged now would have had to go first.
    fn place_apart<'r>(&mut self, rows: impl Iterator<Item = &'r mut AffectedRow>) -> Step<bool> {
        let (unchanged, rows): (Vec<_>, Vec<_>) = rows.partition(|row| row.unchanged);
        for row in unchanged {
            // Together they were here before, so together they can be.
            if let (Some(table), Some(current)) = (row.table, &row.current) {
                let written = self.writer.upsert(table, &row.key.0, &borrow(current));
                self.check(written)?;
            }
        }
        let mut apart = true;
        for row in rows {
            if !self.try_image(row.table, &row.key.0, row.image.as_ref())? {
                row.unchanged = true;
                apart &= self.try_image(row.table, &row.key.0, row.current.as_ref())?;
            }
        }
        Ok(apart)
    }

    /// Writes a row, if there is one. False if a constraint refuses it.
    fn try_image(&mut self, table: Option<usize>, key: &str, image: Option<&Image>) -> Step<bool> {
        let (Some(table), Some(image)) = (table, image) else { return Ok(true) };
        let written = self.writer.upsert(table, key, &borrow(image));
        if written.as_ref().is_err_and(is_refusal) && !self.db.is_autocommit() {
            return Ok(false);
        }
        self.check(written)?;
        Ok(true)
    }

    /// Writes each row as it is to be. False if a row can neither become what it is to be nor stay
    /// what it was, because another one has what it held.
    fn place_together(&mut self) -> Step<bool> {
        for at in 0..self.rows.len() {
            if !self.place(at)? {
                let row = &self.rows[at];
                let (table, key, base) = (row.table, row.key.clone(), row.base.clone());
                if !self.try_image(table, &key.0, base.as_ref())? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The same where a constraint that this database alone has is in the way: first the rows that
    /// stay are what they were, if they can, and then each becomes what it is to be, if it can.
    fn place_singly(&mut self) -> Step {
        let mut absent = Vec::new();
        for at in 0..self.rows.len() {
            let row = &self.rows[at];
            let (table, key, base) = (row.table, row.key.clone(), row.base.clone());
            if !row.lines.is_empty()
                && row.image.is_some()
                && !self.try_image(table, &key.0, base.as_ref())?
            {
                absent.push(at);
            }
        }
        for at in 0..self.rows.len() {
            if !self.place(at)? && absent.contains(&at) {
                self.hold_base_row(at)?;
            }
        }
        Ok(())
    }

    /// Writes a row of the page as it is to be. False if it is refused; then its events wait.
    fn place(&mut self, at: usize) -> Step<bool> {
        let row = &self.rows[at];
        let (Some(table), Some(image)) = (row.table, &row.image) else { return Ok(true) };
        if row.lines.is_empty() {
            return Ok(true);
        }
        let Err(error) = self.writer.upsert(table, &row.key.0, &borrow(image)) else {
            return Ok(true);
        };
        let error = self.bear(error)?;
        self.leave_out(at, &self.reason(table, &error))?;
        Ok(false)
    }

    /// Gives the error back if the refused row's events may wait; else the page is to be tried in
    /// another way.
    fn bear(&self, error: rusqlite::Error) -> Step<rusqlite::Error> {
        let bearable = (is_refusal(&error) || is_uncompiled(&error))
            && !self.db.is_autocommit()
            && !(is_unique_violation(&error) && self.more);
        if bearable {
            return Ok(error);
        }
        Err(self.check(Err(error)).expect_err("what failed is a reason to stop"))
    }

    fn reason(&self, table: usize, error: &rusqlite::Error) -> String {
        let name = &self.store.tables[table].table.name;
        format!("table `{name}` refuses the row here: {}", constraint(error))
    }

    /// A constraint that this database alone has refuses a row: its events wait.
    fn leave_out(&mut self, at: usize, reason: &str) -> Step {
        for line in self.rows[at].lines.clone() {
            if self.lines[line].verdict.is_applied() && !self.waits(line)? {
                self.quarantine(line, reason)?;
            }
        }
        Ok(())
    }

    fn waits(&self, line: usize) -> Step<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM driftless_quarantine WHERE seq = ?1)";
        let seq = self.lines[line].seq.0;
        Ok(self.db.prepare_cached(sql)?.query_row([seq], |row| row.get(0))?)
    }

    /// A row of the page cannot even be what it was underneath its pending events: that waits, too,
    /// in front of whatever of the row waits, and is written before it.
    fn hold_base_row(&mut self, at: usize) -> Step {
        let row = &self.rows[at];
        let (first, base) = (row.lines[0], row.base.as_ref().map(Image::to_json));
        if !self.waits(first)? {
            let table = shorten(&self.lines[first].table);
            let reason = format!("table `{table}` refuses the row underneath here");
            self.quarantine(first, &reason)?;
        }
        let line = &self.lines[first];
        let base = base.expect("only a row that there was is refused");
        let kept = hold_in_front(self.db, &line.table, line.key, &base)?;
        assert!(kept, "its first event waits");
        Ok(())
    }

    /// A base row that was held goes on waiting if its table is not replicated here now.
    fn hold_homeless(&mut self) -> Step {
        let mut rows: Vec<_> = self.held.drain().collect();
        rows.sort_unstable_by_key(|(seq, _)| std::cmp::Reverse(*seq));
        for (seq, image) in rows {
            let found = self.lines.binary_search_by_key(&seq, |line| line.seq);
            let at = found.expect("it has come out of quarantine with the page");
            let line = &self.lines[at];
            let table = self.store.table_index(&line.table);
            let table = table.filter(|&table| self.is_writable(table));
            if table.is_some_and(|at| known_key(&self.store.tables[at].table, line.key).is_some()) {
                // The row is here: what waits of it is on top.
                continue;
            }
            if !self.waits(at)? {
                let table = shorten(&line.table);
                self.quarantine(at, &format!("table `{table}` has no place for the row here"))?;
            }
            hold_in_front(self.db, &line.table, line.key, &image.to_json())?;
        }
        Ok(())
    }
}

/// What SQLite says of a refused write; it names tables and columns, and no values.
fn constraint(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => shorten(message).to_owned(),
        other => other.to_string(),
    }
}
