//! The rows that statements read and write, nearly as libSQL counts them for a bill.
//!
//! libSQL's SQLite counts every entry that is put into a table or an index or is removed from a
//! table, and every step of a cursor. SQLite counts neither, so these numbers are estimates, made
//! from what it does count.
//!
//! * Written: every changed row, also by triggers and foreign keys, and for an inserted row an
//!   entry in each index of its table, a partial one included. Left out are the entries of a
//!   changed row, and `sqlite_sequence`.
//! * Read: every row of the answer, and every step through a whole table. Left out are lookups by a
//!   key or a range, and those of triggers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::hooks::Action;
use rusqlite::{Connection, Statement, StatementStatus};

/// Rows of one statement, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// At least so many were read.
    pub read: u64,
    /// About so many were written, entries of indexes included.
    pub written: u64,
}

/// The totals of a hub, which go on counting.
#[derive(Clone, Debug, Default)]
pub struct Totals(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    statements: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
}

impl Totals {
    /// The statements that ran to their end so far.
    pub fn statements(&self) -> u64 {
        self.0.statements.load(Ordering::Relaxed)
    }

    /// Their rows.
    pub fn rows(&self) -> Rows {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Rows { read: of(&self.0.read), written: of(&self.0.written) }
    }

    fn add(&self, rows: Rows) {
        self.0.statements.fetch_add(1, Ordering::Relaxed);
        self.0.read.fetch_add(rows.read, Ordering::Relaxed);
        self.0.written.fetch_add(rows.written, Ordering::Relaxed);
    }
}

/// Counts for one connection.
pub(in crate::hub) struct Tally {
    totals: Totals,
    /// Inserted rows of the statement that runs, by table.
    inserted: Arc<Mutex<HashMap<String, u64>>>,
    /// How many indexes each table has, once that was asked.
    indexes: RefCell<Option<HashMap<String, u64>>>,
}

impl Tally {
    /// Counts what `db` does from now on.
    pub(super) fn of(db: &mut Connection, totals: Totals) -> rusqlite::Result<Tally> {
        let inserted = Arc::<Mutex<HashMap<String, u64>>>::default();
        let counted = Arc::clone(&inserted);
        db.update_hook(Some(move |action, _: &str, table: &str, _| {
            if action != Action::SQLITE_INSERT {
                return;
            }
            let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
            match counted.get_mut(table) {
                Some(count) => *count += 1,
                None => drop(counted.insert(table.to_owned(), 1)),
            }
        }))?;
        Ok(Tally { totals, inserted, indexes: RefCell::default() })
    }

    /// A statement begins. The one before it may have failed.
    pub(super) fn begin(&self) {
        self.inserted.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The definitions may be other ones now.
    pub(super) fn forget_indexes(&self) {
        *self.indexes.borrow_mut() = None;
    }

    /// What `statement` did: it gave so many rows, and `changed` rows were changed.
    pub(super) fn rows_of(
        &self,
        db: &Connection,
        statement: &Statement<'_>,
        given: u64,
        changed: u64,
    ) -> Rows {
        let steps = statement.reset_status(StatementStatus::FullscanStep);
        let inserted = {
            let mut inserted = self.inserted.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *inserted)
        };
        let entries: u64 =
            inserted.iter().map(|(table, count)| count * self.indexes_of(db, table)).sum();
        let read = given + u64::try_from(steps).unwrap_or(0);
        let written = changed + entries;
        // libSQL server counts a statement that does nothing as a row that was read.
        let rows = Rows { read: if written == 0 { read.max(1) } else { read }, written };
        self.totals.add(rows);
        rows
    }

    fn indexes_of(&self, db: &Connection, table: &str) -> u64 {
        let mut known = self.indexes.borrow_mut();
        // An estimate need not be there: without the schema there are none.
        let known = known.get_or_insert_with(|| indexes(db).unwrap_or_default());
        known.get(table).copied().unwrap_or(0)
    }
}

/// How many indexes each table has.
fn indexes(db: &Connection) -> rusqlite::Result<HashMap<String, u64>> {
    let sql = "SELECT tbl_name, count(*) FROM sqlite_schema WHERE type = 'index' GROUP BY tbl_name";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        let count: i64 = row.get(1)?;
        Ok((row.get(0)?, u64::try_from(count).unwrap_or(0)))
    })?;
    rows.collect()
}
