//! The table of the quarantine, as an attempt at a page reads and fills it.

use rusqlite::Connection;

use crate::error::Result;
use crate::event::page::Line;
use crate::event::{Image, Seq};
use crate::store::apply::step::{HeldRows, Step};
use crate::store::rows::refusal::shorten;

/// The quarantine during an attempt.
///
/// * As long as `any` is false the table is empty, and nothing is looked for in it.
pub(in crate::store) struct QuarantineRows<'s> {
    db: &'s Connection,
    any: bool,
    /// Base rows that have come out of quarantine with the events of the attempt.
    held: HeldRows,
    /// The events that the attempt has put in.
    added: usize,
}

/// The content at some moment of an attempt, for [`QuarantineRows::back_to`].
#[derive(Clone, Copy)]
pub(in crate::store) struct Content {
    any: bool,
    added: usize,
}

impl<'s> QuarantineRows<'s> {
    pub(in crate::store) fn of(db: &'s Connection) -> Result<Self> {
        let any = "SELECT EXISTS (SELECT 1 FROM driftless_quarantine)";
        let any = db.prepare_cached(any)?.query_row([], |row| row.get(0))?;
        Ok(QuarantineRows { db, any, held: HeldRows::new(), added: 0 })
    }

    /// With base rows that have come out of quarantine.
    pub(in crate::store) fn holding(self, held: HeldRows) -> Self {
        QuarantineRows { held, ..self }
    }

    /// How many events the attempt has put in.
    pub(in crate::store) fn added(&self) -> usize {
        self.added
    }

    /// The content now.
    pub(in crate::store) fn content(&self) -> Content {
        Content { any: self.any, added: self.added }
    }

    /// The table was rolled back to this content.
    pub(in crate::store) fn back_to(&mut self, content: Content) {
        (self.any, self.added) = (content.any, content.added);
    }

    /// Whether an earlier event of the line's row waits, so that this one may have to follow.
    pub(in crate::store) fn has_earlier(&self, line: &Line<'_>) -> Step<bool> {
        if !self.any {
            return Ok(false);
        }
        let mut statement = self.db.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM driftless_quarantine WHERE tbl = ?1 AND pk = ?2
             AND seq < ?3)",
        )?;
        Ok(statement.query_row((&line.table, line.key, line.seq.0), |row| row.get(0))?)
    }

    /// Whether any event of this row waits.
    pub(in crate::store) fn has_row(&self, table: &str, key: &str) -> Step<bool> {
        if !self.any {
            return Ok(false);
        }
        let sql = "SELECT EXISTS (SELECT 1 FROM driftless_quarantine WHERE tbl = ?1 AND pk = ?2)";
        Ok(self.db.prepare_cached(sql)?.query_row((table, key), |row| row.get(0))?)
    }

    /// Whether this event waits.
    pub(in crate::store) fn has(&self, seq: Seq) -> Step<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM driftless_quarantine WHERE seq = ?1)";
        Ok(self.db.prepare_cached(sql)?.query_row([seq.0], |row| row.get(0))?)
    }

    /// Lets an event wait; with the line as it came, where there is no frame of it.
    pub(in crate::store) fn put(
        &mut self,
        line: &Line<'_>,
        reason: &str,
        bytes: Option<&[u8]>,
    ) -> Step {
        let mut statement = self.db.prepare_cached(
            "INSERT INTO driftless_quarantine (seq, tbl, pk, reason, line)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (seq) DO UPDATE SET reason = excluded.reason, line = excluded.line",
        )?;
        statement.execute((line.seq.0, &line.table, line.key, reason, bytes))?;
        let table = shorten(&line.table);
        tracing::warn!(seq = line.seq.0, table = ?table, reason, "into quarantine");
        self.any = true;
        self.added += 1;
        Ok(())
    }

    /// Releases the events of the line's row in front of it: it has the whole row or none of it.
    /// The events of the attempt are those from `first` on.
    pub(in crate::store) fn release(&mut self, line: &Line<'_>, first: Seq) -> Step {
        let sql = "DELETE FROM driftless_quarantine WHERE tbl = ?1 AND pk = ?2 \
                   AND seq >= ?3 AND seq < ?4";
        let mut delete = self.db.prepare_cached(sql)?;
        delete.execute((&line.table, line.key, i64::MIN, first.0))?;
        // What this page itself had put there waits no longer.
        self.added -= delete.execute((&line.table, line.key, first.0, line.seq.0))?;
        Ok(())
    }

    /// Holds a row as it is underneath its pending events, in front of its first event that waits,
    /// unless a base row is held already. No row at all is one without columns.
    pub(in crate::store) fn hold_base(&self, line: &Line<'_>, base: Option<&Image>) -> Step {
        let base = base.map_or_else(|| "{}".to_owned(), Image::to_json);
        let sql = "UPDATE driftless_quarantine SET img = ?3 WHERE seq =
                   (SELECT min(seq) FROM driftless_quarantine WHERE tbl = ?1 AND pk = ?2
                    AND (line IS NOT NULL OR seq IN (SELECT seq FROM driftless_log)))
                   AND NOT EXISTS (SELECT 1 FROM driftless_quarantine
                                   WHERE tbl = ?1 AND pk = ?2 AND img IS NOT NULL)";
        self.db.prepare_cached(sql)?.execute((&line.table, line.key, base))?;
        Ok(())
    }

    /// Holds a base row with the first of its events here that a retry looks at. False if there is
    /// none.
    pub(in crate::store) fn hold_in_front(&self, line: &Line<'_>, image: &str) -> Result<bool> {
        hold_in_front(self.db, &line.table, line.key, image)
    }

    /// Takes the base row that was held with the first of these events that has one.
    pub(in crate::store) fn take_held(
        &mut self,
        mut seqs: impl Iterator<Item = Seq>,
    ) -> Option<Image> {
        seqs.find_map(|seq| self.held.remove(&seq))
    }

    /// Takes the base rows that nobody has taken, the newest first.
    pub(in crate::store) fn take_all_held(&mut self) -> Vec<(Seq, Image)> {
        let mut rows: Vec<_> = self.held.drain().collect();
        rows.sort_unstable_by_key(|(seq, _)| std::cmp::Reverse(*seq));
        rows
    }
}

/// Holds a row's base image with the first of its events here that a retry looks at. False if there
/// is none.
pub(in crate::store) fn hold_in_front(
    db: &Connection,
    table: &str,
    key: &str,
    image: &str,
) -> Result<bool> {
    let sql = "UPDATE driftless_quarantine SET img = ?3 WHERE seq =
               (SELECT min(seq) FROM driftless_quarantine WHERE tbl = ?1 AND pk = ?2
                AND (line IS NOT NULL OR seq IN (SELECT seq FROM driftless_log)))";
    Ok(db.prepare_cached(sql)?.execute((table, key, image))? > 0)
}
