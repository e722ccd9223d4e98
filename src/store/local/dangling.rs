//! Rows of tables that are not replicated and whose parent is gone.
//!
//! The remote decides about a parent, even if a local row refers to it with RESTRICT or NO ACTION.
//! Then the local row is left unchanged. Its table is remembered, and its rows without a parent are
//! counted for the status until there are none.
//!
//! The parent of a local row may also be another row than the one for which it was written.
//! Example: the application gave a key to a row, by an insert or a change of the key, and wrote
//! local rows that refer to it. That change lost, and another row has the key. A foreign key that
//! follows a change of the key leads the local rows back with their row. One that refuses it
//! cannot, and the row of a lost insert is gone. In both cases, local rows of the old and of the
//! new parent look alike. Such rows are counted while the lost change is open in the conflict
//! inbox.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use super::dependents::{Dependents, Parent};
use crate::error::Result;
use crate::event::frame::{Sealed, open};
use crate::event::json::{names_json, read_names};
use crate::event::value::ValueRef;
use crate::event::{Op, RowKey, Seq};
use crate::store::connection::{set_setting, setting};
use crate::store::rows::refusal::is_uncompiled;
use crate::store::rows::row::known_key;
use crate::store::schema::replicated::ReplicatedTable;

/// The number of keys that one statement searches.
const KEYS: usize = 200;

/// The setting with the names of the tables that may have such rows.
const TABLES: &str = "dangling";

/// The rows of a table that is not replicated whose parent is gone or may be another row.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Dangling {
    /// The table with the rows.
    pub table: String,
    /// The columns that refer to the parent.
    pub columns: Vec<String>,
    /// The parent's table.
    pub parent: String,
    /// The number of rows whose parent is gone.
    pub rows: u64,
    /// The number of rows whose parent may be another row than the one for which they were written:
    /// a change of this replica that gave the key to a row has lost, and another row has the key.
    /// They are counted until that conflict is restored or dismissed.
    pub doubtful: u64,
}

/// A count, and the state of the file for which it is valid.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Counted {
    at: Option<(i64, u64)>,
    found: Vec<Dangling>,
}

impl Counted {
    /// The rows of the remembered tables. They are counted again if the file was written since,
    /// which its `PRAGMA data_version` shows.
    pub(in crate::store) fn refresh(
        &mut self,
        db: &Connection,
        dependents: &Dependents,
        replicated: &[ReplicatedTable],
        data_version: i64,
    ) -> Result<Vec<Dangling>> {
        let at = (data_version, db.total_changes());
        if self.at != Some(at) {
            let tables = read_names(&setting(db, TABLES)?.unwrap_or_default());
            let mut found = count(db, dependents, &tables.into_iter().collect())?;
            for one in count_doubtful(db, dependents, replicated)? {
                let same = |known: &&mut Dangling| {
                    known.table == one.table
                        && known.columns == one.columns
                        && known.parent == one.parent
                };
                match found.iter_mut().find(same) {
                    Some(known) => known.doubtful = one.doubtful,
                    None => found.push(one),
                }
            }
            self.found = found;
            self.at = Some(at);
        }
        Ok(self.found.clone())
    }
}

/// Remembers the tables of foreign keys with rows that were left unchanged. Forgets tables that
/// have no such rows any more.
pub(in crate::store) fn remember(
    db: &Connection,
    keys: &BTreeSet<usize>,
    dependents: &Dependents,
) -> Result<()> {
    let names = keys.iter().map(|&place| dependents.child_name(place).to_owned());
    let mut tables: BTreeSet<String> = names.collect();
    if tables.is_empty() {
        return Ok(());
    }
    let known = setting(db, TABLES)?.unwrap_or_default();
    tables.extend(read_names(&known));
    let found = count(db, dependents, &tables)?;
    for Dangling { table, parent, rows, .. } in &found {
        tracing::warn!(table, parent, rows, "local rows refer to rows that are gone");
    }
    tables.retain(|table| found.iter().any(|dangling| dangling.table == *table));
    let names = tables.iter().map(String::as_str);
    set_setting(db, TABLES, (!tables.is_empty()).then(|| names_json(names)).as_deref())
}

/// Counts the rows of these tables whose parent is gone.
fn count(
    db: &Connection,
    dependents: &Dependents,
    tables: &BTreeSet<String>,
) -> Result<Vec<Dangling>> {
    let mut found = Vec::new();
    for place in dependents.places() {
        let (key, child) = (dependents.key(place), dependents.child_name(place));
        if !tables.contains(child) {
            continue;
        }
        let rows = db
            .prepare_cached(&dependents.count_sql(place))
            .and_then(|mut statement| statement.query_row([], |row| row.get::<_, i64>(0)));
        let rows = match rows {
            Ok(rows) => rows as u64,
            // A collation that only the application has: nothing can be counted here.
            Err(error) if is_uncompiled(&error) => continue,
            Err(error) => return Err(error.into()),
        };
        if rows > 0 {
            found.push(Dangling {
                table: child.to_owned(),
                columns: key.columns().to_vec(),
                parent: key.parent_name().to_owned(),
                rows,
                doubtful: 0,
            });
        }
    }
    Ok(found)
}

/// A key that a lost own change had given to a row and that another row has.
struct Lost {
    key: RowKey,
    /// Whether the change was a change of the row's key. Foreign keys that follow it lead back.
    is_change: bool,
}

/// Counts the rows whose parent has a key that a lost own change gave to another row.
fn count_doubtful(
    db: &Connection,
    dependents: &Dependents,
    replicated: &[ReplicatedTable],
) -> Result<Vec<Dangling>> {
    let mut found = Vec::new();
    for (at, ReplicatedTable { table, .. }) in replicated.iter().enumerate() {
        let places: Vec<_> = dependents
            .of(Parent::Replicated(at))
            .filter(|&place| dependents.key(place).is_key(table))
            .collect();
        if places.is_empty() {
            continue;
        }
        let lost = lost_keys(db, &table.name)?;
        for place in places {
            let key = dependents.key(place);
            let counts = |lost: &&Lost| !lost.is_change || key.refuses_update();
            let keys: BTreeSet<_> = lost.iter().filter(counts).map(|lost| &lost.key.0).collect();
            let keys: Vec<Vec<ValueRef<'_>>> =
                keys.into_iter().filter_map(|key| known_key(table, key)).collect();
            let mut rows = 0;
            for keys in keys.chunks(KEYS) {
                let sql = dependents.count_with_parents_sql(place, table, keys.len());
                let values = params_from_iter(keys.iter().flatten());
                let count =
                    db.prepare(&sql).and_then(|mut it| it.query_row(values, |row| row.get(0)));
                match count {
                    Ok::<i64, _>(count) => rows += count as u64,
                    // A collation that only the application has: nothing can be counted here.
                    Err(error) if is_uncompiled(&error) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if rows > 0 {
                found.push(Dangling {
                    table: dependents.child_name(place).to_owned(),
                    columns: key.columns().to_vec(),
                    parent: key.parent_name().to_owned(),
                    rows: 0,
                    doubtful: rows,
                });
            }
        }
    }
    Ok(found)
}

/// The keys that lost changes gave to rows of a table, while they are open in the conflict inbox.
fn lost_keys(db: &Connection, table: &str) -> Result<Vec<Lost>> {
    let sql = "SELECT seq, pk, other FROM driftless_conflicts
               WHERE state = 'open' AND tbl = ?1 COLLATE NOCASE";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([table])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        let (seq, key, other): (i64, String, Option<String>) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        if let Some(other) = other {
            keys.push(Lost { key: RowKey(other), is_change: true });
            continue;
        }
        let sql = "SELECT header, vals FROM driftless_log WHERE seq = ?1";
        let read = |row: &Row<'_>| Ok(Sealed { header: row.get(0)?, values: row.get(1)? });
        let sealed = db.prepare_cached(sql)?.query_row([seq], read).optional()?;
        let event = sealed.map(|sealed| open(&sealed, Seq(seq))).transpose()?;
        if event.is_some_and(|event| event.op == Op::Insert) {
            keys.push(Lost { key: RowKey(key), is_change: false });
        }
    }
    Ok(keys)
}
