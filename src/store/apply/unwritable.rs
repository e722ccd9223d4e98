//! Rows of replicated tables that cannot be written here.
//!
//! An index, a CHECK, a generated column or a trigger of such a table needs a collation or a
//! function that only the application has. The remote's events for its rows wait in quarantine, by
//! name, and all other tables continue.
//!
//! The application itself continues to write to the table, and its events are pushed. If one loses,
//! it cannot be undone on its row now. So the row image under it waits with the other events,
//! before its first event, and is written when the table can be.

use super::rebase::Rebase;
use super::step::Step;
use crate::error::Result;
use crate::event::{Image, Op, Seq};
use crate::store::rows::row::{borrow, known_key, overlay};

impl Rebase<'_, '_> {
    /// Works out what is underneath the pending events of a row that cannot be written.
    pub(super) fn look_underneath(&mut self, at: usize) -> Step {
        let row = &self.rows()[at];
        let Some(table) = row.unwritable().filter(|_| !row.is_unchanged()) else { return Ok(()) };
        let key = row.key().clone();
        let Some(values) = known_key(self.task().table(table), &key.0) else { return Ok(()) };
        let current = self.row(table, &values)?;
        let base = self.underneath(at, table, current.as_ref())?;
        self.rows_mut().row_mut(at).is_above(base);
        Ok(())
    }

    /// Handles an own event that has lost on a row that cannot be written.
    pub(super) fn hold_lost(&mut self, at: usize, row: usize, n: i64) -> Step {
        let affected = &self.rows()[row];
        if affected.unwritable().is_none() || affected.has_aside(n) {
            return Ok(());
        }
        let line = &self.task().lines()[at];
        if !self.quarantine().has_row(&line.table, line.key)? {
            let table = &line.table;
            let reason = format!("table `{table}` cannot be written here: the row is to be undone");
            self.quarantine_line(at, &reason)?;
        }
        self.hold_row(row, false)
    }

    /// Quarantines the base row, before the first waiting event of the row, unless it is held
    /// already. `aside` is whether the event was off its row before.
    pub(super) fn hold_row(&mut self, row: usize, aside: bool) -> Step {
        let affected = &self.rows()[row];
        let Some(&line) = affected.lines().first() else { return Ok(()) };
        if affected.unwritable().is_none() || aside {
            return Ok(());
        }
        // A missing row is an image without columns.
        self.quarantine().hold_base(&self.task().lines()[line], affected.base())
    }

    /// The remote's image of a row that cannot be written, with its waiting events.
    pub(in crate::store) fn remote_row(&self, row: usize) -> Result<Option<Image>> {
        let (affected, task) = (&self.rows()[row], self.task());
        let Some(table) = affected.unwritable() else { return Ok(None) };
        let line = &task.lines()[affected.lines()[0]];
        let sql = "SELECT seq, img FROM driftless_quarantine WHERE tbl = ?1 AND pk = ?2
                   ORDER BY seq";
        let mut statement = task.db().prepare_cached(sql)?;
        let mut rows = statement.query((&line.table, line.key))?;
        let mut image = affected.base().cloned();
        while let Some(waiting) = rows.next()? {
            if let Some(held) = waiting.get::<_, Option<String>>(1)? {
                image = Some(Image::parse(held.as_bytes())?).filter(|held| !held.0.is_empty());
            }
            let event = task.store().settled(Seq(waiting.get(0)?))?;
            let Some(event) = event.filter(|event| event.verdict.is_applied()) else { continue };
            let after = event.after.unwrap_or_default();
            match event.op {
                Op::Delete => image = None,
                Op::Update if image.is_none() => {}
                _ => overlay(task.table(table), image.get_or_insert_default(), &borrow(&after)),
            }
        }
        Ok(image)
    }
}
