//! Brings a database that an older driftless wrote up to date, its queue included.

use rusqlite::{Connection, TransactionBehavior};

use super::open::{VERSION, set_setting, version};
use super::schema::{TABLES_SQL, definitions, drop_triggers, install, registered};
use crate::error::Result;

/// Puts the outbox of schema 1 aside; its constraints went with schema 2.
const OUTBOX_1_SQL: &str = "
    CREATE TEMP TABLE driftless_former AS
      SELECT n, ms, tail, tbl, pk, op, before, after, changes, base, actor, pair, via, undo, aside,
             winner, refuse, settled FROM main.driftless_outbox;
    DROP TABLE main.driftless_outbox;
    DROP TABLE main.driftless_notes;";
/// Puts it back.
const OUTBOX_2_SQL: &str = "
    INSERT INTO main.driftless_outbox (n, ms, tail, tbl, pk, op, before, after, changes, base,
             actor, pair, via, undo, aside, winner, refuse, settled)
      SELECT n, ms, tail, tbl, pk, op, before, after, changes, base, actor,
             pair, via, undo, aside, winner, refuse, settled FROM temp.driftless_former;
    DROP TABLE temp.driftless_former;";

/// Columns that came later, with their tables and what they are.
const COLUMNS: [(&str, &str, &str); 2] = [
    ("driftless_tables", "columns", "TEXT NOT NULL DEFAULT '[]'"),
    ("driftless_quarantine", "img", "TEXT"),
];

/// Adds what a replica of an older driftless lacks, in one transaction.
pub(super) fn upgrade(db: &mut Connection) -> Result<()> {
    if is_complete(db)? {
        return Ok(());
    }
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (table, column, definition) in COLUMNS {
        if !has_column(&tx, table, column)? {
            let sql = format!("ALTER TABLE {table} ADD COLUMN {column} {definition}");
            tx.execute_batch(&sql)?;
        }
    }
    if version(&tx)? < VERSION {
        let tables = registered(&tx)?;
        let all = definitions(&tables);
        // Before their tables go, and with those of tables that are replicated no more.
        drop_triggers(&tx, None)?;
        tx.execute_batch(OUTBOX_1_SQL)?;
        tx.execute_batch(TABLES_SQL)?;
        tx.execute_batch(OUTBOX_2_SQL)?;
        for table in &all {
            install(&tx, table, &all)?;
        }
        set_setting(&tx, "version", Some(&VERSION.to_string()))?;
    }
    tx.execute_batch(TABLES_SQL)?;
    Ok(tx.commit()?)
}

fn is_complete(db: &Connection) -> Result<bool> {
    let sql = "SELECT count(*) = 3 FROM sqlite_schema
               WHERE name IN ('driftless_identities', 'driftless_kept', 'driftless_old_log')";
    let has_tables: bool = db.query_row(sql, [], |row| row.get(0))?;
    for (table, column, _) in COLUMNS {
        if !has_column(db, table, column)? {
            return Ok(false);
        }
    }
    Ok(has_tables && version(db)? >= VERSION)
}

fn has_column(db: &Connection, table: &str, column: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2)";
    Ok(db.query_row(sql, [table, column], |row| row.get(0))?)
}
