//! Tables join the replicated ones, and leave them.
//!
//! A table that joins a replica is registered and captured at once. It is suspect from then on, so
//! nothing is pushed or integrated until its rows were compared with the remote's.
//!
//! Of a table that is not replicated here the log has the events, and nothing else is kept of them:
//! when it joins, its rows are read from the remote.

use rusqlite::Connection;

use super::notice::joining;
use crate::error::Result;
use crate::store::Store;
use crate::store::bootstrap::prefer::Prefer;

/// A table joins: in the transaction that registers it.
pub(super) fn join(tx: &Connection, table: &str) -> Result<()> {
    let note = joining(&Prefer::default());
    let sql = "UPDATE driftless_tables SET suspect = ?2 WHERE name = ?1";
    tx.execute(sql, [table, &note])?;
    forget(tx, table)
}

/// Forgets what waits for a table: its rows are read anew, or are of no interest.
fn forget(tx: &Connection, table: &str) -> Result<()> {
    for sql in [
        "DELETE FROM driftless_quarantine WHERE tbl = ?1 COLLATE NOCASE",
        "DELETE FROM driftless_returned WHERE tbl = ?1 COLLATE NOCASE",
    ] {
        tx.execute(sql, [table])?;
    }
    Ok(())
}

impl Store {
    /// Whether a table is among the replicated ones, whether or not it is here.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub(in crate::store) fn is_registered(&self, table: &str) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM driftless_tables WHERE name = ?1 COLLATE NOCASE)";
        Ok(self.db.prepare_cached(sql)?.query_row([table], |row| row.get(0))?)
    }
}
