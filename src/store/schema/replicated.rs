//! The replicated tables, as recorded in the file.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension};

use crate::capture::{Layout, delete_trigger, present_names};
use crate::catalog::{Names, Table, name_references};
use crate::error::{Kind, Result};
use crate::event::conflict::ConflictRule;

/// A table that is replicated.
#[derive(Clone, Debug)]
pub struct ReplicatedTable {
    /// Its definition here, in the remote's spelling.
    pub table: Table,
    /// The conflict rule.
    pub rule: ConflictRule,
    /// The name by which SQL can use its rowid, if that is not its key.
    rowid: Option<&'static str>,
    /// Why this connection cannot write to it, in a sentence: an index, a CHECK, a generated column
    /// or a trigger needs a collation or a function that only the application has. Events for it
    /// wait in quarantine.
    pub unwritable: Option<String>,
}

impl ReplicatedTable {
    /// A table that is not replicated yet.
    pub(in crate::store) fn unregistered(db: &Connection, table: Table) -> Result<Self> {
        let rowid = if table.rowid_key { None } else { rowid_name(db, &table)? };
        Ok(ReplicatedTable { table, rule: ConflictRule::default(), rowid, unwritable: None })
    }

    /// The name by which its rowid can be had, if that is not its key.
    pub(in crate::store) fn rowid(&self) -> Option<&'static str> {
        self.rowid
    }

    /// Reads the definition, in the case of `name` and `columns`.
    fn read(db: &Connection, name: &str, columns: &str, rule: ConflictRule) -> Result<Self> {
        let table = Table::read(db, name)?;
        let (columns, stored) = Names::read(columns);
        let names = names_by_trigger(db, name)?.of(&table).over(stored.of(&table));
        let table = table.named(&names).in_case_of(name, &columns);
        Ok(ReplicatedTable { rule, ..ReplicatedTable::unregistered(db, table)? })
    }
}

/// The names of a table's columns as our trigger for its deletes tells them: it names the columns
/// by their present names, in the order of the layout with which it was made.
fn names_by_trigger(db: &Connection, table: &str) -> Result<Names> {
    let sql = "SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = ?1 COLLATE NOCASE
               AND tbl_name = ?2 COLLATE NOCASE";
    let text: Option<String> = db
        .prepare_cached(sql)?
        .query_row([&delete_trigger(table), table], |row| row.get(0))
        .optional()?;
    let Some((layout, present)) = text.as_deref().and_then(present_names) else {
        return Ok(Names::default());
    };
    let sql = "SELECT spec FROM driftless_layouts WHERE id = ?1";
    let spec: Option<String> =
        db.prepare_cached(sql)?.query_row([layout], |row| row.get(0)).optional()?;
    let Some(spec) = spec else { return Ok(Names::default()) };
    let layout = Layout::read(table, &spec)?;
    Ok(Names::new(layout.columns().iter().cloned().zip(present).collect()))
}

/// The name by which SQL can use a table's rowid; `None` if it has none, or columns have all of its
/// names.
pub(in crate::store) fn rowid_name(
    db: &Connection,
    table: &Table,
) -> rusqlite::Result<Option<&'static str>> {
    if table.without_rowid {
        return Ok(None);
    }
    let mut statement = db.prepare("SELECT name FROM pragma_table_xinfo(?1)")?;
    let names = statement
        .query_map([&table.name], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    let free = |alias: &&str| !names.iter().any(|name| name.eq_ignore_ascii_case(alias));
    Ok(["rowid", "_rowid_", "oid"].into_iter().find(free))
}

/// The replicated tables. If the application has dropped one, or changed it so that it cannot be
/// replicated, it is left out, and its events wait in quarantine.
pub(in crate::store) fn registered(db: &Connection) -> Result<Vec<ReplicatedTable>> {
    let sql = "SELECT name, conflict, columns FROM driftless_tables ORDER BY name";
    let mut statement = db.prepare(sql)?;
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<Vec<(String, String, String)>>>()?;
    let mut tables = Vec::with_capacity(rows.len());
    for (name, rule, columns) in rows {
        match ReplicatedTable::read(db, &name, &columns, rule.parse()?) {
            Ok(table) => tables.push(table),
            Err(error) if error.kind() == Kind::Usage => {
                tracing::warn!(table = name, "a replicated table is gone: {error}");
            }
            Err(error) => return Err(error),
        }
    }
    name_references(tables.iter_mut().map(|known| &mut known.table));
    Ok(tables)
}

/// The names of the replicated tables, in lower case, whether or not they exist.
pub(in crate::store) fn registered_names(db: &Connection) -> Result<HashSet<String>> {
    let mut statement = db.prepare("SELECT name FROM driftless_tables")?;
    let names = statement.query_map([], |row| row.get(0))?;
    let names = names.collect::<rusqlite::Result<Vec<String>>>()?;
    Ok(names.into_iter().map(|name| name.to_ascii_lowercase()).collect())
}

pub(in crate::store) fn definitions(tables: &[ReplicatedTable]) -> Vec<&Table> {
    tables.iter().map(|replicated| &replicated.table).collect()
}
