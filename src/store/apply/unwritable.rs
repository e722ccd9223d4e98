//! Rows of tables that are replicated and cannot be written here.
//!
//! An index, a CHECK, a generated column or a trigger of such a table needs a collation or a
//! function that only the application has. What the remote says of its rows waits in quarantine,
//! by name, and all other tables go on.
//!
//! The application itself goes on writing to the table, and its events are pushed. One that loses
//! cannot be taken off its row now. So the row as it is underneath waits with the others, in front
//! of its first event, and is written when the table can be.

use super::rebase::Rebase;
use super::step::Step;
use crate::error::Result;
use crate::event::page::Line;
use crate::event::{Image, Op, Seq};
use crate::store::rows::row::{borrow, known_key, overlay};

impl Rebase<'_, '_> {
    pub(in crate::store) fn is_writable(&self, table: usize) -> bool {
        self.store.tables[table].unwritable.is_none()
    }

    /// Works out what is underneath the pending events of a row that cannot be written.
    pub(in crate::store) fn look_underneath(&mut self, at: usize) -> Step {
        let row = &self.rows[at];
        let Some(table) = row.unwritable.filter(|_| !row.unchanged) else { return Ok(()) };
        let Some(key) = known_key(&self.store.tables[table].table, &row.key.0) else {
            return Ok(());
        };
        let current = self.writer.row(table, &key)?;
        self.rows[at].base = self.underneath(at, table, current.as_ref())?;
        Ok(())
    }

    /// An own event has lost that is on a row which cannot be written.
    pub(in crate::store) fn hold_lost(&mut self, line: usize, row: usize, n: i64) -> Step {
        let affected = &self.rows[row];
        let aside = affected.pending.iter().any(|(other, _, aside)| *other == n && *aside);
        if affected.unwritable.is_none() || aside {
            return Ok(());
        }
        if !self.is_row_waiting(&self.lines[line])? {
            let table = &self.lines[line].table;
            let reason = format!("table `{table}` cannot be written here: the row is to be undone");
            self.quarantine(line, &reason)?;
        }
        self.hold_row(row, false)
    }

    /// Lets a row wait as it is underneath, in front of its first event that waits. It does so
    /// already if its base row is held. `aside` says that its event was off it before.
    pub(in crate::store) fn hold_row(&mut self, row: usize, aside: bool) -> Step {
        let affected = &self.rows[row];
        let Some(&line) = affected.lines.first() else { return Ok(()) };
        if affected.unwritable.is_none() || aside {
            return Ok(());
        }
        // No row at all is one without columns.
        let base = affected.base.as_ref().map_or_else(|| "{}".to_owned(), Image::to_json);
        let line = &self.lines[line];
        let sql = "UPDATE driftless_quarantine SET img = ?3 WHERE seq =
                   (SELECT min(seq) FROM driftless_quarantine WHERE tbl = ?1 AND pk = ?2
                    AND (line IS NOT NULL OR seq IN (SELECT seq FROM driftless_log)))
                   AND NOT EXISTS (SELECT 1 FROM driftless_quarantine
                                   WHERE tbl = ?1 AND pk = ?2 AND img IS NOT NULL)";
        self.db.prepare_cached(sql)?.execute((&line.table, line.key, base))?;
        Ok(())
    }

    /// A row that cannot be written as the remote has it: with what waits of it.
    pub(in crate::store) fn remote_row(&self, row: usize) -> Result<Option<Image>> {
        let affected = &self.rows[row];
        let Some(table) = affected.unwritable else { return Ok(None) };
        let definition = &self.store.tables[table].table;
        let line = &self.lines[affected.lines[0]];
        let sql = "SELECT seq, img FROM driftless_quarantine WHERE tbl = ?1 AND pk = ?2
                   ORDER BY seq";
        let mut statement = self.db.prepare_cached(sql)?;
        let mut rows = statement.query((&line.table, line.key))?;
        let mut image = affected.base.clone();
        while let Some(waiting) = rows.next()? {
            if let Some(whole) = waiting.get::<_, Option<String>>(1)? {
                image = Some(Image::parse(whole.as_bytes())?).filter(|whole| !whole.0.is_empty());
            }
            let event = self.store.settled(Seq(waiting.get(0)?))?;
            let Some(event) = event.filter(|event| event.verdict.is_applied()) else { continue };
            let after = event.after.unwrap_or_default();
            match event.op {
                Op::Delete => image = None,
                Op::Update if image.is_none() => {}
                _ => overlay(definition, image.get_or_insert_default(), &borrow(&after)),
            }
        }
        Ok(image)
    }

    fn is_row_waiting(&self, line: &Line<'_>) -> Step<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM driftless_quarantine WHERE tbl = ?1 AND pk = ?2)";
        Ok(self.db.prepare_cached(sql)?.query_row((&line.table, line.key), |row| row.get(0))?)
    }
}
