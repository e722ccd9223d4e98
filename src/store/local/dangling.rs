//! Rows of tables that are not replicated and refer to a row that is gone.
//!
//! The remote decides about a parent, also where a local row refers to it with RESTRICT or NO
//! ACTION. Then the local row is left as it is. Its table is remembered, and such rows of it are
//! counted for the status from then on, until there are none.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::dependents::Dependents;
use crate::error::Result;
use crate::event::json::{names_json, read_names};
use crate::store::connection::{set_setting, setting};
use crate::store::rows::refusal::is_uncompiled;

/// The setting with the names of the tables that may have such rows.
const TABLES: &str = "dangling";

/// Rows of a table that is not replicated, whose parent is gone.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Dangling {
    /// The table with the rows.
    pub table: String,
    /// The columns that refer to the parent.
    pub columns: Vec<String>,
    /// The parent's table.
    pub parent: String,
    /// How many rows.
    pub rows: u64,
}

/// A count, and the state of the file for which it is right.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Counted {
    at: Option<(i64, u64)>,
    found: Vec<Dangling>,
}

impl Counted {
    /// The rows of the tables that are remembered. They are counted anew if somebody has written to
    /// the file since, whose `PRAGMA data_version` this is.
    pub(in crate::store) fn refresh(
        &mut self,
        db: &Connection,
        dependents: &Dependents,
        data_version: i64,
    ) -> Result<Vec<Dangling>> {
        let Some(tables) = setting(db, TABLES)? else { return Ok(Vec::new()) };
        let at = (data_version, db.total_changes());
        if self.at != Some(at) {
            let tables = read_names(&tables).into_iter().collect();
            self.found = count(db, dependents, &tables)?;
            self.at = Some(at);
        }
        Ok(self.found.clone())
    }
}

/// Remembers the tables of foreign keys of which rows were left as they were. Tables that have no
/// such rows any more are forgotten.
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
            // A collation that only the application has: nobody can count here.
            Err(error) if is_uncompiled(&error) => continue,
            Err(error) => return Err(error.into()),
        };
        if rows > 0 {
            found.push(Dangling {
                table: child.to_owned(),
                columns: key.columns().to_vec(),
                parent: key.parent_name().to_owned(),
                rows,
            });
        }
    }
    Ok(found)
}
