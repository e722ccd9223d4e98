//! Removes all tables, indexes and triggers of driftless from a database. The application's tables
//! stay unchanged.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::Store;
use super::connection::connect;
use crate::catalog::{PREFIX, ident};
use crate::error::{Code, Error, Result};

/// The number of removed objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Removed {
    /// Tables, with their indexes.
    pub tables: u64,
    /// Triggers.
    pub triggers: u64,
}

/// Data that exists only in this file and that a removal would lose.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct OnlyHere {
    /// Events that wait to be pushed.
    pub pending: u64,
    /// Open conflicts: changes that lost, which can be restored.
    pub conflicts: u64,
    /// Events in quarantine: changes of others that are not in the tables.
    pub quarantined: u64,
}

impl OnlyHere {
    /// Whether there is no such data.
    pub fn is_nothing(&self) -> bool {
        *self == OnlyHere::default()
    }
}

impl Store {
    /// The data that a removal would lose.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn only_here(&self) -> Result<OnlyHere> {
        let state = self.state()?;
        let (pending, conflicts) = (state.pending, state.conflicts);
        Ok(OnlyHere { pending, conflicts, quarantined: state.quarantined })
    }

    /// Removes all tables, indexes and triggers of driftless from the database, in one transaction,
    /// and checks the result. The caller holds the file's lock.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails, or is damaged afterwards: then nothing has changed.
    pub fn remove(path: &Path) -> Result<Removed> {
        let mut db = connect(path, false)?;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut removed = Removed::default();
        // Triggers are removed before their tables. A trigger of the application on one of our
        // tables goes with the table.
        for kind in ["trigger", "view", "table"] {
            for name in ours(&tx, kind)? {
                tx.execute_batch(&format!("DROP {kind} IF EXISTS main.{}", ident(&name)))?;
                match kind {
                    "trigger" => removed.triggers += 1,
                    _ => removed.tables += 1,
                }
            }
        }
        let check: String = tx.query_row("PRAGMA main.integrity_check(1)", [], |row| row.get(0))?;
        if check != "ok" {
            let message = format!("the database is damaged, so nothing was removed: {check}");
            return Err(Error::new(Code::DatabaseDamaged, message));
        }
        tx.commit()?;
        Ok(removed)
    }
}

fn ours(db: &Connection, kind: &str) -> Result<Vec<String>> {
    let mut statement = db.prepare(
        "SELECT name FROM main.sqlite_schema WHERE type = ?1
         AND lower(substr(name, 1, length(?2))) = ?2",
    )?;
    let names = statement.query_map([kind, PREFIX], |row| row.get(0))?;
    Ok(names.collect::<rusqlite::Result<_>>()?)
}
