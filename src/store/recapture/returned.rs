//! Rows that were missing here after a schema change and came back.
//!
//! It cannot be known whether such a row was deleted or its table was rebuilt without it: see
//! [`recapture`](super). So the row is kept, and a person decides.

use rusqlite::{Connection, TransactionBehavior};

use crate::catalog::{Table, ident};
use crate::error::{Code, Error, Result};
use crate::event::RowKey;
use crate::store::Store;
use crate::store::connection::connect;
use crate::store::rows::row::known_key;

/// A row that came back.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Returned {
    /// Its table.
    pub table: String,
    /// Its key.
    #[serde(flatten, serialize_with = "crate::event::readable::key")]
    pub key: RowKey,
    /// When it came back: ms since 1970.
    pub at: i64,
}

/// The number of rows of a table that came back.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ReturnedRows {
    /// The table.
    pub table: String,
    /// The number of rows.
    pub rows: u64,
}

/// Records that a row came back.
pub(super) fn note(db: &Connection, table: &str, key: &RowKey, now_ms: i64) -> Result<()> {
    let sql = "INSERT INTO driftless_returned (tbl, pk, at) VALUES (?1, ?2, ?3)
               ON CONFLICT (tbl, pk) DO UPDATE SET at = excluded.at";
    db.prepare_cached(sql)?.execute((table, &key.0, now_ms))?;
    Ok(())
}

impl Store {
    /// The rows that came back and about which nobody has decided, of one table or of all.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn returned(&self, table: Option<&str>) -> Result<Vec<Returned>> {
        let sql = "SELECT tbl, pk, at FROM driftless_returned
                   WHERE ?1 IS NULL OR tbl = ?1 COLLATE NOCASE ORDER BY tbl, pk";
        let mut statement = self.db.prepare(sql)?;
        let rows = statement.query_map([table], |row| {
            Ok(Returned { table: row.get(0)?, key: RowKey(row.get(1)?), at: row.get(2)? })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The number of rows that came back, by table.
    pub(crate) fn returned_rows(&self) -> Result<Vec<ReturnedRows>> {
        let sql = "SELECT tbl, count(*) FROM driftless_returned GROUP BY tbl ORDER BY tbl";
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            Ok(ReturnedRows { table: row.get(0)?, rows: row.get::<_, i64>(1)? as u64 })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Keeps the rows: removes them from the list. Returns their number.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn keep_returned(&mut self, table: Option<&str>) -> Result<usize> {
        let tx = self.begin_write()?;
        let sql = "DELETE FROM driftless_returned WHERE ?1 IS NULL OR tbl = ?1 COLLATE NOCASE";
        let kept = tx.execute(sql, [table])?;
        self.commit_write(tx)?;
        Ok(kept)
    }

    /// Deletes the rows, as the application would: each delete is captured, and foreign keys act.
    /// Removes them from the list, in the same transaction. Returns how many rows were deleted.
    ///
    /// # Errors
    ///
    /// `Storage`, naming the table, when a constraint refuses it. Then nothing has changed.
    pub fn delete_returned(&mut self, table: Option<&str>) -> Result<usize> {
        self.check_triggers()?;
        // The store's own connection may have triggers turned off.
        let mut db = connect(self.path(), false)?;
        self.on_connect().run(&db)?;
        db.pragma_update(None, "foreign_keys", true)?;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut deleted = 0;
        for row in self.returned(table)? {
            let Some(at) = self.table_index(&row.table) else { continue };
            deleted += delete(&tx, &self.tables[at].table, &row.key).map_err(|error| {
                let message = format!("a row of table `{}` cannot be deleted: {error}", row.table);
                Error::new(Code::RowsRefused, message)
                    .with_hint("delete what refers to it first, or keep the row")
            })?;
        }
        let sql = "DELETE FROM driftless_returned WHERE ?1 IS NULL OR tbl = ?1 COLLATE NOCASE";
        tx.execute(sql, [table])?;
        tx.commit()?;
        Ok(deleted)
    }
}

/// Deletes a row; 0 if it does not exist.
fn delete(db: &Connection, table: &Table, key: &RowKey) -> rusqlite::Result<usize> {
    let Some(values) = known_key(table, &key.0) else { return Ok(0) };
    let parts: Vec<_> = table
        .key_columns()
        .zip(&table.key_collations)
        .enumerate()
        .map(|(part, (column, collation))| {
            format!("{} = ?{} COLLATE {}", ident(&column.present), part + 1, collation.name())
        })
        .collect();
    let sql = format!("DELETE FROM main.{} WHERE {}", ident(&table.name), parts.join(" AND "));
    let mut statement = db.prepare_cached(&sql)?;
    for (place, value) in values.iter().enumerate() {
        statement.raw_bind_parameter(place + 1, value)?;
    }
    statement.raw_execute()
}
