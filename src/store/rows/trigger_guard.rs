//! Keeps the application's triggers from changing replicated rows during a replay.
//!
//! The triggers run during a replay, so that full-text indexes and other local tables follow. But
//! they may not write to a replicated table. An authorizer on the replaying connection makes their
//! INSERTs and UPDATEs ineffective when a statement is compiled. For a DELETE, SQLITE_IGNORE has
//! another meaning. So TEMP triggers on this connection refuse each delete of a row, except the one
//! that the store has just announced. TEMP triggers fire before the schema's own, so the first row
//! that they see is the store's.
//!
//! If the application has no trigger on any replicated table, the replaying connection turns all
//! triggers off. Then capture costs nothing.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::functions::FunctionFlags;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use crate::catalog::{PREFIX, ident};
use crate::error::Result;
use crate::store::schema::replicated::ReplicatedTable;

/// The replaying connection's knowledge of the application's triggers.
#[derive(Debug, Default)]
pub(in crate::store) struct Guard {
    /// Whether a replicated table has a trigger that is not ours.
    foreign: bool,
    /// Set before the store deletes a row. The first TEMP trigger that fires clears it.
    armed: Arc<AtomicBool>,
    /// The tables that have a TEMP trigger.
    guarded: Vec<String>,
}

impl Guard {
    /// Registers the function that the TEMP triggers call.
    pub(in crate::store) fn new(db: &Connection) -> Result<Guard> {
        let guard = Guard::default();
        let armed = Arc::clone(&guard.armed);
        let name = "driftless_foreign_delete";
        db.create_scalar_function(name, 0, FunctionFlags::SQLITE_UTF8, move |_| {
            Ok(!armed.swap(false, Ordering::Relaxed))
        })?;
        Ok(guard)
    }

    /// Whether a replicated table has a trigger that is not ours.
    pub(in crate::store) fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// Announces the delete of a row by the store, until the row is asked about.
    pub(in crate::store) fn arm(&self, armed: bool) {
        self.armed.store(armed, Ordering::Relaxed);
    }

    /// Prepares the connection for these tables.
    pub(in crate::store) fn watch(
        &mut self,
        db: &mut Connection,
        tables: &[ReplicatedTable],
        foreign: bool,
    ) -> Result<()> {
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, foreign)?;
        for table in self.guarded.drain(..) {
            db.execute_batch(&format!("DROP TRIGGER IF EXISTS temp.{}", trigger(&table)))?;
        }
        self.foreign = foreign;
        if !foreign {
            return Ok(db.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?);
        }
        for table in tables.iter().map(|replicated| &replicated.table.name) {
            db.execute_batch(&format!(
                "CREATE TEMP TRIGGER {} BEFORE DELETE ON main.{}
                 WHEN driftless_foreign_delete() BEGIN SELECT RAISE(IGNORE); END",
                trigger(table),
                ident(table)
            ))?;
            self.guarded.push(table.clone());
        }
        leave_out_writes(db, tables)
    }
}

/// Makes the INSERTs and UPDATEs of the application's triggers on replicated tables ineffective on
/// this connection.
pub(in crate::store) fn leave_out_writes(
    db: &mut Connection,
    tables: &[ReplicatedTable],
) -> Result<()> {
    let replicated: HashSet<_> =
        tables.iter().map(|replicated| replicated.table.name.to_ascii_lowercase()).collect();
    Ok(db.authorizer(Some(move |context: AuthContext<'_>| {
        let table = match context.action {
            AuthAction::Insert { table_name } | AuthAction::Update { table_name, .. } => table_name,
            _ => return Authorization::Allow,
        };
        let theirs = context.accessor.is_some_and(|trigger| !trigger.starts_with(PREFIX));
        if theirs && replicated.contains(&table.to_ascii_lowercase()) {
            Authorization::Ignore
        } else {
            Authorization::Allow
        }
    }))?)
}

fn trigger(table: &str) -> String {
    ident(&format!("{PREFIX}keep_{table}"))
}
