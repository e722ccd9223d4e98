//! Upgrades a database that an older driftless wrote, with its outbox.

use rusqlite::{Connection, TransactionBehavior};

use super::install::{TABLES_SQL, drop_triggers, install};
use super::replicated::{definitions, registered};
use crate::error::Result;
use crate::event::{Op, Seq};
use crate::store::connection::{VERSION, set_setting, version};
use crate::store::log::{own_event, settled_in};

/// Columns that were added later: table, column and definition.
const COLUMNS: [(&str, &str, &str); 14] = [
    ("driftless_tables", "columns", "TEXT NOT NULL DEFAULT '[]'"),
    ("driftless_tables", "definition", "TEXT NOT NULL DEFAULT ''"),
    ("driftless_tables", "compared", "TEXT NOT NULL DEFAULT '[]'"),
    ("driftless_tables", "suspect", "TEXT"),
    ("driftless_quarantine", "img", "TEXT"),
    ("driftless_quarantine", "line", "BLOB"),
    ("driftless_conflicts", "tbl", "TEXT"),
    ("driftless_conflicts", "pk", "TEXT"),
    ("driftless_conflicts", "other", "TEXT"),
    ("driftless_conflicts", "ends", "INTEGER"),
    ("driftless_old_conflicts", "tbl", "TEXT"),
    ("driftless_old_conflicts", "pk", "TEXT"),
    ("driftless_old_conflicts", "other", "TEXT"),
    ("driftless_old_conflicts", "ends", "INTEGER"),
];
/// Moves the outbox of schema 1 away; schema 2 dropped its constraints.
const OUTBOX_1_SQL: &str = "
    CREATE TEMP TABLE driftless_former AS
      SELECT n, ms, tail, tbl, pk, op, before, after, changes, base, actor, pair, via, undo, aside,
             winner, refuse, settled FROM main.driftless_outbox;
    DROP TABLE main.driftless_outbox;
    DROP TABLE main.driftless_notes;";
/// Moves it back.
const OUTBOX_2_SQL: &str = "
    INSERT INTO main.driftless_outbox (n, ms, tail, tbl, pk, op, before, after, changes, base,
             actor, pair, via, undo, aside, winner, refuse, settled)
      SELECT n, ms, tail, tbl, pk, op, before, after, changes, base, actor,
             pair, via, undo, aside, winner, refuse, settled FROM temp.driftless_former;
    DROP TABLE temp.driftless_former;";

/// Adds the objects that a replica of an older driftless lacks, in one transaction.
pub(in crate::store) fn upgrade(db: &mut Connection) -> Result<()> {
    if is_complete(db)? {
        return Ok(());
    }
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (table, column, definition) in COLUMNS {
        if has_table(&tx, table)? && !has_column(&tx, table, column)? {
            tx.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column} {definition}"))?;
        }
    }
    let former = version(&tx)?;
    if former < VERSION {
        let tables = registered(&tx)?;
        let all = definitions(&tables);
        // Before their tables are dropped, also those of tables that are no longer replicated.
        drop_triggers(&tx, None)?;
        if former == 1 {
            tx.execute_batch(OUTBOX_1_SQL)?;
        }
        tx.execute_batch(TABLES_SQL)?;
        if former == 1 {
            tx.execute_batch(OUTBOX_2_SQL)?;
        }
        for table in &all {
            install(&tx, table, &all)?;
        }
        set_setting(&tx, "version", Some(&VERSION.to_string()))?;
    }
    tx.execute_batch(TABLES_SQL)?;
    name_rows(&tx)?;
    Ok(tx.commit()?)
}

/// Records the rows of conflicts that an older driftless has listed without them.
fn name_rows(tx: &Connection) -> Result<()> {
    let places = |sql: &str| -> Result<Vec<(Option<i64>, i64)>> {
        let mut statement = tx.prepare(sql)?;
        let places = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(places.collect::<rusqlite::Result<_>>()?)
    };
    let here = places("SELECT NULL, seq FROM driftless_conflicts WHERE tbl IS NULL")?;
    let old = places("SELECT former, seq FROM driftless_old_conflicts WHERE tbl IS NULL")?;
    for (former, seq) in here.into_iter().chain(old) {
        let Some(event) = settled_in(tx, former, Seq(seq))? else { continue };
        let other = match event.pair {
            Some(pair) if event.op == Op::Delete => own_event(tx, former, pair)?,
            _ => None,
        };
        let other = other.map(|insert| insert.key.0);
        let sql = match former {
            None => {
                "UPDATE driftless_conflicts SET tbl = ?3, pk = ?4, other = ?5
                 WHERE ?1 IS NULL AND seq = ?2"
            }
            Some(_) => {
                "UPDATE driftless_old_conflicts SET tbl = ?3, pk = ?4, other = ?5
                 WHERE former = ?1 AND seq = ?2"
            }
        };
        tx.prepare_cached(sql)?.execute((former, seq, &event.table, &event.key.0, other))?;
    }
    Ok(())
}

fn is_complete(db: &Connection) -> Result<bool> {
    let sql = "SELECT count(*) = 5 FROM sqlite_schema
               WHERE name IN ('driftless_identities', 'driftless_kept', 'driftless_old_log',
                              'driftless_names', 'driftless_log_rows')";
    let has_tables: bool = db.query_row(sql, [], |row| row.get(0))?;
    for (table, column, _) in COLUMNS {
        if !has_column(db, table, column)? {
            return Ok(false);
        }
    }
    Ok(has_tables && version(db)? >= VERSION)
}

fn has_table(db: &Connection, table: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)";
    Ok(db.query_row(sql, [table], |row| row.get(0))?)
}

fn has_column(db: &Connection, table: &str, column: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2)";
    Ok(db.query_row(sql, [table, column], |row| row.get(0))?)
}
