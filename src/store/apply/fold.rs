//! The writes of a folded page: each of its rows is written once, with its final image.
//!
//! The remote had all these rows at the same time, so they are first written together
//! ([`Rebase::place_together`]). If a row is refused then, the reason is a constraint that only
//! this database has, and its events wait in quarantine. Such a constraint can also refuse two
//! other kinds of rows:
//!
//! * A row that the page does not affect, after its pending events were undone. It stays as it is,
//!   with its pending events.
//! * A base row whose pending events have lost. They had hidden it from the constraint, and another
//!   row has its value now. No event of the page has that row, and the log need not have all of it,
//!   so the row itself waits in quarantine ([`Rebase::hold_base_row`]).

use super::affected::AffectedRow;
use super::rebase::Rebase;
use super::step::{Step, Task};
use crate::event::Image;
use crate::store::rows::refusal::{is_refusal, is_uncompiled, is_unique_violation, shorten};
use crate::store::rows::row::{borrow, known_key};
use crate::store::rows::writer::Writer;

/// How often the unaffected rows are written again, with more of them as they were. Few rows hide
/// behind one another, and each round costs as much as writing all of them.
const MAX_ROUNDS: usize = 8;

impl Rebase<'_, '_> {
    /// Writes the folded rows.
    pub(in crate::store) fn place_folded(&mut self) -> Step {
        let db = self.task().db();
        self.place_untouched()?;
        let before = self.quarantine().content();
        db.execute_batch("SAVEPOINT driftless_fold")?;
        if !self.place_together()? {
            db.execute_batch("ROLLBACK TO driftless_fold")?;
            self.quarantine_mut().back_to(before);
            self.place_singly()?;
        }
        self.hold_homeless()?;
        Ok(db.execute_batch("RELEASE driftless_fold")?)
    }

    /// Writes unaffected rows first, because they held their values before the page.
    fn place_untouched(&mut self) -> Step {
        let db = self.task().db();
        db.execute_batch("SAVEPOINT driftless_fold")?;
        let mut round = 1;
        while !self.place_apart()? {
            db.execute_batch("ROLLBACK TO driftless_fold")?;
            round += 1;
            if round == MAX_ROUNDS {
                let untouched = self.rows_mut().iter_mut().filter(|row| !row.is_of_page());
                untouched.for_each(AffectedRow::leave_unchanged);
            }
        }
        Ok(db.execute_batch("RELEASE driftless_fold")?)
    }

    /// Writes these rows without their pending events. Rows for which that is impossible are
    /// written as they were, with their pending events, as if these had never been undone. False if
    /// a row of the second kind would have had to be written first.
    fn place_apart(&mut self) -> Step<bool> {
        let task = self.task();
        let (writer, rows) = self.writer_and_rows();
        let untouched = rows.iter_mut().filter(|row| !row.is_of_page());
        let (unchanged, rows): (Vec<_>, Vec<_>) = untouched.partition(|row| row.is_unchanged());
        for row in unchanged {
            // They existed together before, so they can exist together again.
            if let (Some(table), Some(current)) = (row.table(), row.current()) {
                task.check(writer.upsert(table, &row.key().0, &borrow(current)))?;
            }
        }
        let mut apart = true;
        for row in rows {
            if !try_image(task, writer, row, AffectedRow::image)? {
                row.leave_unchanged();
                apart &= try_image(task, writer, row, AffectedRow::current)?;
            }
        }
        Ok(apart)
    }

    /// Writes a row as it was underneath before the page. False if a constraint refuses it.
    fn place_base(&mut self, at: usize) -> Step<bool> {
        let task = self.task();
        let (writer, rows) = self.writer_and_rows();
        try_image(task, writer, &rows[at], AffectedRow::base)
    }

    /// Writes each row's final image. False if a row can neither become what it should be nor stay
    /// what it was, because another row has its value.
    fn place_together(&mut self) -> Step<bool> {
        for at in 0..self.rows().len() {
            if !self.place(at)? && !self.place_base(at)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The same if a constraint of this database alone refuses it. First each row that stays is
    /// written as it was, if possible. Then each row gets its final image, if possible.
    fn place_singly(&mut self) -> Step {
        let mut absent = Vec::new();
        for at in 0..self.rows().len() {
            let row = &self.rows()[at];
            if row.is_of_page() && row.image().is_some() && !self.place_base(at)? {
                absent.push(at);
            }
        }
        for at in 0..self.rows().len() {
            if !self.place(at)? && absent.contains(&at) {
                self.hold_base_row(at)?;
            }
        }
        Ok(())
    }

    /// Writes the final image of a row of the page. False if it is refused; then its events wait.
    fn place(&mut self, at: usize) -> Step<bool> {
        let (writer, rows) = self.writer_and_rows();
        let row = &rows[at];
        let (Some(table), Some(image)) = (row.table(), row.image()) else { return Ok(true) };
        if !row.is_of_page() {
            return Ok(true);
        }
        let Err(error) = writer.upsert(table, &row.key().0, &borrow(image)) else {
            return Ok(true);
        };
        let error = self.bear(error)?;
        self.leave_out(at, &self.reason(table, &error))?;
        Ok(false)
    }

    /// Returns the error if the refused row's events may wait. Otherwise the page is tried with
    /// another strategy.
    fn bear(&self, error: rusqlite::Error) -> Step<rusqlite::Error> {
        let task = self.task();
        let bearable = (is_refusal(&error) || is_uncompiled(&error))
            && !task.db().is_autocommit()
            && !(is_unique_violation(&error) && task.has_more());
        if bearable {
            return Ok(error);
        }
        Err(task.check(Err(error)).expect_err("what failed is a reason to stop"))
    }

    fn reason(&self, table: usize, error: &rusqlite::Error) -> String {
        let name = &self.task().table(table).name;
        format!("table `{name}` refuses the row here: {}", constraint(error))
    }

    /// Quarantines the events of a row that a constraint of this database refuses.
    fn leave_out(&mut self, at: usize, reason: &str) -> Step {
        let lines = self.task().lines();
        for line in self.rows()[at].lines().to_vec() {
            if lines[line].verdict.is_applied() && !self.quarantine().has(lines[line].seq)? {
                self.quarantine_line(line, reason)?;
            }
        }
        Ok(())
    }

    /// Quarantines the base row of a row of the page, because not even that can be written. It
    /// comes before all waiting events of the row, and is written first.
    fn hold_base_row(&mut self, at: usize) -> Step {
        let row = &self.rows()[at];
        let (first, base) = (row.lines()[0], row.base().map(Image::to_json));
        let line = &self.task().lines()[first];
        if !self.quarantine().has(line.seq)? {
            let table = shorten(&line.table);
            let reason = format!("table `{table}` refuses the base row here");
            self.quarantine_line(first, &reason)?;
        }
        let base = base.expect("only a row that there was is refused");
        let kept = self.quarantine().hold_in_front(line, &base)?;
        assert!(kept, "its first event waits");
        Ok(())
    }

    /// A held base row stays in quarantine if its table is not replicated here now.
    fn hold_homeless(&mut self) -> Step {
        let task = self.task();
        for (seq, image) in self.quarantine_mut().take_all_held() {
            let found = task.lines().binary_search_by_key(&seq, |line| line.seq);
            let at = found.expect("it has come out of quarantine with the page");
            let line = &task.lines()[at];
            let table = task.store().table_index(&line.table);
            let table = table.filter(|&table| task.is_writable(table));
            if table.is_some_and(|at| known_key(task.table(at), line.key).is_some()) {
                // The row exists. Its waiting events are on top.
                continue;
            }
            if !self.quarantine().has(line.seq)? {
                let table = shorten(&line.table);
                let reason = format!("table `{table}` has no place for the row here");
                self.quarantine_line(at, &reason)?;
            }
            self.quarantine().hold_in_front(line, &image.to_json())?;
        }
        Ok(())
    }
}

/// Writes one of a row's images, if there is one. False if a constraint refuses it.
fn try_image(
    task: Task<'_, '_>,
    writer: &mut Writer<'_>,
    row: &AffectedRow,
    image: fn(&AffectedRow) -> Option<&Image>,
) -> Step<bool> {
    let (Some(table), Some(image)) = (row.table(), image(row)) else { return Ok(true) };
    let written = writer.upsert(table, &row.key().0, &borrow(image));
    if written.as_ref().is_err_and(is_refusal) && !task.db().is_autocommit() {
        return Ok(false);
    }
    task.check(written)?;
    Ok(true)
}

/// SQLite's message about a refused write. It names tables and columns, and no values.
fn constraint(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => shorten(message).to_owned(),
        other => other.to_string(),
    }
}
