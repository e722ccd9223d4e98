//! Checks what a first sync needs of a database, before anything is changed in it.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use crate::catalog::{Fresh, Table, ident};
use crate::error::{Kind, Result};
use crate::event::value::Value;
use crate::event::{ReplicaId, RowKey};
use crate::store::Store;
use crate::store::connection::{ADOPTED, OnConnect, check_version, connect, is_replica, setting};
use crate::store::schema::left_out::choice;
use crate::store::schema::notice::settled_names;
use crate::store::schema::replicated::rowid_name;
use crate::store::schema::{Setup, establish};

/// The most keys of orphans that are named.
const KEYS: usize = 5;

/// The tables of a replica.
#[derive(Clone, Debug)]
pub(crate) struct SettledTables {
    names: Vec<String>,
    fresh: Vec<Fresh>,
}

impl SettledTables {
    /// Those that are replicated, but for those that join.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Those that have come since, as far as they were noticed.
    pub(crate) fn fresh(&self) -> &[Fresh] {
        &self.fresh
    }
}

/// Rows that refer to a row that is not there.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Orphans {
    /// The table of the rows.
    pub table: String,
    /// The table that they refer to.
    pub parent: String,
    /// The number of these rows.
    pub rows: u64,
    /// The keys of a few of them: JSON arrays, as in events.
    pub keys: Vec<String>,
}

impl Store {
    /// Does the work of [`Store::make`] and rolls it back: it fails if [`Store::make`] would. A
    /// missing file is not created.
    ///
    /// # Errors
    ///
    /// As for [`Store::make`]; and `Usage` when a row's key cannot be replicated.
    pub fn rehearse(
        path: &Path,
        makers: &[String],
        setup: &Setup,
        id: ReplicaId,
        on_connect: &OnConnect,
    ) -> Result<()> {
        let mut db =
            if path.exists() { connect(path, false)? } else { Connection::open_in_memory()? };
        if path.exists() {
            on_connect.run(&db)?;
        }
        if is_replica(&db)? {
            check_version(&db, path)?;
        }
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (name, _) in &setup.tables {
            match Table::read(&tx, name) {
                Ok(table) => require_keys(&tx, &table)?,
                // The table will be created.
                Err(error) if error.kind() == Kind::Usage => {}
                Err(error) => return Err(error),
            }
        }
        establish(&tx, makers, setup, id)?;
        Ok(tx.rollback()?)
    }

    /// Whether the file is a replica whose first sync is done.
    pub fn was_adopted(path: &Path) -> Result<bool> {
        if !path.exists() {
            return Ok(false);
        }
        let db = connect(path, false)?;
        Ok(is_replica(&db)? && setting(&db, ADOPTED)?.is_some())
    }

    /// The tables of a file, if it is a replica whose first sync is done.
    ///
    /// # Errors
    ///
    /// `Storage` when the file cannot be read.
    pub(crate) fn settled_tables(path: &Path) -> Result<Option<SettledTables>> {
        if !Store::was_adopted(path)? {
            return Ok(None);
        }
        let db = connect(path, false)?;
        let fresh = choice(&db)?.unwrap_or_default().fresh;
        Ok(Some(SettledTables { names: settled_names(&db)?, fresh }))
    }

    /// The rows of these tables of a file that refer to a row that does not exist.
    pub fn orphans_of(
        path: &Path,
        tables: &[String],
        on_connect: &OnConnect,
    ) -> Result<Vec<Orphans>> {
        if tables.is_empty() {
            return Ok(Vec::new());
        }
        let db = connect(path, false)?;
        on_connect.run(&db)?;
        let mut found = Vec::new();
        for name in tables {
            look(&db, &Table::read(&db, name)?, &mut found)?;
        }
        Ok(found)
    }

    /// The rows of the replicated tables that refer to a row that does not exist.
    pub fn orphans(&self) -> Result<Vec<Orphans>> {
        let mut found = Vec::new();
        for replicated in &self.tables {
            look(&self.db, &replicated.table, &mut found)?;
        }
        Ok(found)
    }
}

/// Refuses a row whose key is text that is not UTF-8.
pub(in crate::store) fn require_keys(db: &Connection, table: &Table) -> Result<()> {
    if table.rowid_key {
        return Ok(());
    }
    let names: Vec<_> = table.key_columns().map(|column| ident(&column.present)).collect();
    let sql = format!("SELECT {} FROM main.{}", names.join(", "), ident(&table.name));
    let mut statement = db.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for at in 0..names.len() {
            if let ValueRef::Text(text) = row.get_ref(at)?
                && std::str::from_utf8(text).is_err()
            {
                return Err(RowKey::not_utf8("this database", &table.name));
            }
        }
    }
    Ok(())
}

/// Appends a table's orphans. None are found if the table's key has a collation that only the
/// application has, because SQLite cannot look up such keys here.
fn look(db: &Connection, table: &Table, found: &mut Vec<Orphans>) -> Result<()> {
    let before = found.len();
    match orphans(db, table, found) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::Unknown) => {
            found.truncate(before);
            let table = &table.name;
            tracing::warn!(
                table,
                "its foreign keys cannot be checked before the first sync: {error}"
            );
            Ok(())
        }
        outcome => Ok(outcome?),
    }
}

/// Appends a table's orphans, for each table that they refer to.
fn orphans(db: &Connection, table: &Table, found: &mut Vec<Orphans>) -> rusqlite::Result<()> {
    if table.foreign_keys.is_empty() {
        return Ok(());
    }
    // The key is not spelled in SQL: a file that is not a replica yet lacks the table that spells a
    // REAL.
    let names: Vec<_> = table.key_columns().map(|column| ident(&column.present)).collect();
    let names = names.join(", ");
    let by_rowid = |rowid| {
        let table = ident(&table.name);
        db.prepare(&format!("SELECT {names} FROM main.{table} AS r WHERE r.{rowid} = ?1"))
    };
    let mut by_rowid = rowid_name(db, table)?.map(by_rowid).transpose()?;
    let check = format!("PRAGMA main.foreign_key_check({})", ident(&table.name));
    let mut check = db.prepare(&check)?;
    let first = found.len();
    let mut rows = check.query([])?;
    while let Some(row) = rows.next()? {
        let (rowid, parent): (Option<i64>, String) = (row.get(1)?, row.get(2)?);
        let at = match found[first..].iter().position(|known| known.parent == parent) {
            Some(at) => first + at,
            None => {
                let (table, keys) = (table.name.clone(), Vec::new());
                found.push(Orphans { table, parent, rows: 0, keys });
                found.len() - 1
            }
        };
        let orphans = &mut found[at];
        orphans.rows += 1;
        if let (Some(rowid), Some(by_rowid)) = (rowid, &mut by_rowid)
            && orphans.keys.len() < KEYS
        {
            let values = 0..table.key.len();
            let key: rusqlite::Result<Vec<Value>> = by_rowid.query_row([rowid], |row| {
                values.map(|at| Ok(plain(row.get_ref(at)?))).collect::<rusqlite::Result<_>>()
            });
            orphans.keys.push(RowKey::from_values(&key?).0);
        }
    }
    Ok(())
}

fn plain(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Text(text) => Value::Text(text.to_vec()),
        ValueRef::Blob(blob) => Value::Blob(blob.to_vec()),
    }
}

impl Orphans {
    /// The text for a person.
    pub fn words(&self) -> String {
        let Orphans { table, parent, rows, keys } = self;
        let (what, refer) = if *rows == 1 { ("row", "refers") } else { ("rows", "refer") };
        let more = if *rows > keys.len() as u64 && !keys.is_empty() { ", …" } else { "" };
        let keys = if keys.is_empty() {
            String::new()
        } else {
            format!(" (key {}{more})", keys.join(", "))
        };
        format!("{rows} {what} of `{table}`{keys} {refer} to rows of `{parent}` that do not exist")
    }
}
