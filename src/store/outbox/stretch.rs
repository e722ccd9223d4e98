//! Unsent events of the outbox, read in order.

use rusqlite::Connection;

use super::reader::{Layouts, Reader};
use super::row::{EVENT, OutboxRow, read};
use crate::error::{Code, Error, Result};
use crate::store::waiting::held::Held;

/// Unsent events that are read in one transaction, one range after the other.
pub(in crate::store) struct Stretch<'a> {
    db: &'a Connection,
    layouts: &'a Layouts,
    /// The events that are skipped.
    held: &'a Held,
    rows: Vec<OutboxRow>,
    /// The number of the newest event that was read.
    at: i64,
    size: usize,
}

impl<'a> Stretch<'a> {
    /// Empty. The first event has a number above `after`, and none is in `held`.
    pub(in crate::store) fn new(
        db: &'a Connection,
        layouts: &'a Layouts,
        held: &'a Held,
        after: i64,
    ) -> Self {
        Stretch { db, layouts, held, rows: Vec::new(), at: after, size: 0 }
    }

    /// Reads up to the number `to`, or until `enough` is true of the events that were read and
    /// their size. Returns whether it was true.
    pub(in crate::store) fn on(
        &mut self,
        to: i64,
        mut enough: impl FnMut(&[OutboxRow], usize) -> bool,
    ) -> Result<bool> {
        let sql = format!(
            "SELECT {EVENT} FROM driftless_outbox
             WHERE n > ?1 AND n <= ?2 AND NOT settled ORDER BY n"
        );
        let mut statement = self.db.prepare_cached(&sql)?;
        let mut found = statement.query([self.at, to])?;
        let mut reader = Reader::of_values(self.db, self.layouts);
        while let Some(row) = found.next()? {
            if self.held.has(row.get(0)?) {
                continue;
            }
            let row = read(&mut reader, row)?;
            (self.at, self.size) = (row.n(), self.size + row.size());
            self.rows.push(row);
            if enough(&self.rows, self.size) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The events that were read.
    pub(in crate::store) fn rows(&self) -> &[OutboxRow] {
        &self.rows
    }

    /// The events that were read.
    pub(in crate::store) fn into_rows(self) -> Vec<OutboxRow> {
        self.rows
    }

    /// Drops all but the first `count` events, which are at least one.
    pub(in crate::store) fn back_to(&mut self, count: usize) {
        self.rows.truncate(count);
        self.at = self.ends().1;
        self.size = self.rows.iter().map(OutboxRow::size).sum();
    }

    /// The first and the last number that were read.
    pub(in crate::store) fn ends(&self) -> (i64, i64) {
        let number = |row: Option<&OutboxRow>| row.expect("an event was read").n();
        (number(self.rows.first()), number(self.rows.last()))
    }
}

/// The error for a group that does not fit into memory.
pub(in crate::store) fn too_much(rows: &[OutboxRow]) -> Error {
    let mut tables: Vec<&str> = rows.iter().map(|row| row.event().table.as_str()).collect();
    tables.sort_unstable();
    tables.dedup();
    Error::new(
        Code::TransactionTooLarge,
        format!(
            "more than {} changes of {} depend on each other by foreign keys and cannot be pushed \
             in one transaction",
            rows.len() - 1,
            named(&tables)
        ),
    )
    .with_hint("they stay in the outbox, and later changes wait for them; pulls continue")
}

/// The names of tables for a message.
pub(in crate::store) fn named(tables: &[&str]) -> String {
    let names: Vec<_> = tables.iter().map(|table| format!("`{table}`")).collect();
    match tables {
        [_] => format!("table {}", names[0]),
        _ => format!("tables {}", names.join(", ")),
    }
}
