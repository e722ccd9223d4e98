//! Tables that are not replicated and refer to replicated ones.
//!
//! A page is integrated with foreign keys off: the remote has enforced them, and what they did to
//! replicated rows comes as events. Nobody does that for a table that only this database has. So
//! [`Dependents`] lists the foreign keys that lead from such tables to replicated ones, and on from
//! these tables to others; [`actions`](super::actions) carries out what they declare.

use std::collections::HashSet;

use rusqlite::Connection;

use crate::catalog::{Action, Affinity, Collation, PREFIX, foreign_keys, ident};
use crate::error::Result;
use crate::store::schema::replicated::ReplicatedTable;

/// The table that a foreign key refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Parent {
    /// A replicated table, by its place in the store's list.
    Replicated(usize),
    /// One of [`Dependents::children`].
    Local(usize),
}

/// A column of a parent that a foreign key refers to.
#[derive(Clone, Debug)]
pub(in crate::store) struct ParentColumn {
    pub(in crate::store) name: String,
    pub(in crate::store) affinity: Affinity,
    pub(in crate::store) collation: Collation,
}

/// A foreign key whose actions are to be carried out.
#[derive(Clone, Debug)]
pub(in crate::store) struct Dependence {
    /// Its table, by its place in [`Dependents::children`].
    pub(in crate::store) child: usize,
    /// The columns of the child.
    pub(in crate::store) columns: Vec<String>,
    pub(in crate::store) parent: Parent,
    pub(in crate::store) parent_name: String,
    /// The columns of the parent, in the same order.
    pub(in crate::store) to: Vec<ParentColumn>,
    pub(in crate::store) on_delete: Action,
    pub(in crate::store) on_update: Action,
}

/// A table that refers to another one.
#[derive(Clone, Debug)]
pub(in crate::store) struct Child {
    pub(in crate::store) name: String,
    /// Whether it is replicated. Such a table is only looked at: its rows are the remote's.
    pub(in crate::store) replicated: bool,
    /// What names one of its rows, as SQL: its rowid, or the columns of its key.
    pub(in crate::store) id: Vec<String>,
    /// The columns with a default, and its SQL text.
    pub(in crate::store) defaults: Vec<(String, String)>,
    /// Whether a constraint has a conflict clause of its own.
    pub(in crate::store) has_conflict_clause: bool,
}

/// The foreign keys that lead to replicated tables from those that are not.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Dependents {
    pub(in crate::store) children: Vec<Child>,
    pub(in crate::store) keys: Vec<Dependence>,
    /// Whether a child that is not replicated has a trigger.
    pub(in crate::store) have_triggers: bool,
}

/// A foreign key of the schema, before it is known whether it matters.
struct Found {
    child: String,
    key: crate::catalog::ForeignKey,
}

impl Dependents {
    /// Reads them, and makes the TEMP tables that the search for children needs. `registered` has
    /// the names of all replicated tables, those that cannot be used at present included.
    pub(in crate::store) fn read(
        db: &Connection,
        tables: &[ReplicatedTable],
        registered: &HashSet<String>,
    ) -> Result<Dependents> {
        let found = all_foreign_keys(db)?;
        let mut dependents = Dependents::default();
        let mut names: Vec<String> = Vec::new();
        let mut reached: HashSet<String> =
            tables.iter().map(|known| known.table.name.to_ascii_lowercase()).collect();
        // From parents to children, until there are no more of them.
        loop {
            let more: Vec<_> = found
                .iter()
                .filter(|one| {
                    let child = one.child.to_ascii_lowercase();
                    reached.contains(&one.key.parent.to_ascii_lowercase())
                        && !reached.contains(&child)
                        && !registered.contains(&child)
                })
                .map(|one| one.child.clone())
                .collect();
            if more.is_empty() {
                break;
            }
            for child in more {
                if reached.insert(child.to_ascii_lowercase()) {
                    names.push(child);
                }
            }
        }
        for name in &names {
            dependents.children.push(read_child(db, name, false)?);
            dependents.have_triggers |= has_triggers(db, name)?;
        }
        let place = |list: &[String], name: &str| {
            list.iter().position(|known| known.eq_ignore_ascii_case(name))
        };
        let replicated: Vec<String> = tables.iter().map(|known| known.table.name.clone()).collect();
        for Found { child, key } in found {
            let parent = match (place(&names, &key.parent), place(&replicated, &key.parent)) {
                (Some(local), _) => Parent::Local(local),
                (None, Some(table)) => Parent::Replicated(table),
                (None, None) => continue,
            };
            let child = match (place(&names, &child), parent) {
                (Some(child), _) => child,
                // A replicated table refers to one that is not.
                (None, Parent::Local(_)) => {
                    dependents.children.push(read_child(db, &child, true)?);
                    dependents.children.len() - 1
                }
                (None, Parent::Replicated(_)) => continue,
            };
            let Some(to) = parent_columns(db, &key)? else { continue };
            dependents.keys.push(Dependence {
                child,
                columns: key.columns.iter().map(|(column, _)| column.clone()).collect(),
                parent,
                parent_name: key.parent,
                to,
                on_delete: key.on_delete,
                on_update: key.on_update,
            });
        }
        dependents.make_tables(db)?;
        Ok(dependents)
    }

    /// One TEMP table for each foreign key. Its columns compare as those of the parent do.
    fn make_tables(&self, db: &Connection) -> Result<()> {
        for (place, key) in self.keys.iter().enumerate() {
            let columns: Vec<_> = key
                .to
                .iter()
                .enumerate()
                .map(|(at, column)| format!("o{at} {}", type_of(column.affinity)))
                .collect();
            let name = gone(place);
            db.execute_batch(&format!(
                "DROP TABLE IF EXISTS temp.{name};
                 CREATE TEMP TABLE {name} (i INTEGER PRIMARY KEY, sure INTEGER, {})",
                columns.join(", ")
            ))?;
        }
        Ok(())
    }

    /// The foreign keys that refer to `parent`, by their places.
    pub(in crate::store) fn of(&self, parent: Parent) -> impl Iterator<Item = usize> + '_ {
        let all = self.keys.iter().enumerate();
        all.filter(move |(_, key)| key.parent == parent).map(|(place, _)| place)
    }

    /// Which of the store's `tables` are referred to by a table that has rows. Nothing can be done
    /// to the children of the others.
    pub(in crate::store) fn watched(&self, db: &Connection, tables: usize) -> Result<Vec<bool>> {
        let mut watched = vec![false; tables];
        for key in &self.keys {
            if let Parent::Replicated(table) = key.parent
                && !watched[table]
            {
                let child = ident(&self.children[key.child].name);
                let sql = format!("SELECT EXISTS (SELECT 1 FROM main.{child})");
                watched[table] = db.prepare_cached(&sql)?.query_row([], |row| row.get(0))?;
            }
        }
        Ok(watched)
    }

    /// The columns of a parent that foreign keys refer to, as SQL: those of the first foreign key,
    /// then those of the next.
    pub(in crate::store) fn columns_of(&self, parent: Parent) -> String {
        let columns = self.of(parent).flat_map(|place| &self.keys[place].to);
        let names: Vec<_> = columns.map(|column| ident(&column.name)).collect();
        names.join(", ")
    }
}

/// The TEMP table of a foreign key.
pub(in crate::store) fn gone(place: usize) -> String {
    format!("driftless_gone_{place}")
}

fn type_of(affinity: Affinity) -> &'static str {
    match affinity {
        Affinity::Integer => "INTEGER",
        Affinity::Text => "TEXT",
        Affinity::Blob => "BLOB",
        Affinity::Real => "REAL",
        Affinity::Numeric => "NUMERIC",
    }
}

/// All foreign keys of the application's tables. A virtual table has none, and its module may be
/// unknown here.
fn all_foreign_keys(db: &Connection) -> Result<Vec<Found>> {
    let mut statement = db.prepare(
        "SELECT name FROM sqlite_schema
         WHERE type = 'table' AND substr(sql, 1, 14) <> 'CREATE VIRTUAL'
           AND substr(name, 1, length(?1)) <> ?1 ORDER BY rowid",
    )?;
    let names = statement.query_map([PREFIX], |row| row.get(0))?;
    let mut found = Vec::new();
    for child in names.collect::<rusqlite::Result<Vec<String>>>()? {
        let keys = foreign_keys(db, &child)?;
        found.extend(keys.into_iter().map(|key| Found { child: child.clone(), key }));
    }
    Ok(found)
}

/// The columns that a foreign key refers to; `None` if the parent does not have them.
fn parent_columns(
    db: &Connection,
    key: &crate::catalog::ForeignKey,
) -> Result<Option<Vec<ParentColumn>>> {
    let mut to = Vec::new();
    for (_, name) in &key.columns {
        let sql = "SELECT name, type FROM pragma_table_xinfo(?1) WHERE name = ?2 COLLATE NOCASE";
        let mut statement = db.prepare_cached(sql)?;
        let mut rows = statement.query([&key.parent, name])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let (name, declared): (String, String) = (row.get(0)?, row.get(1)?);
        let (_, collation, ..) = db.column_metadata(Some("main"), key.parent.as_str(), &*name)?;
        let collation = collation.map_or(String::new(), |c| c.to_string_lossy().into_owned());
        to.push(ParentColumn {
            affinity: Affinity::of(&declared),
            collation: Collation::named(&collation),
            name,
        });
    }
    Ok(Some(to))
}

fn read_child(db: &Connection, name: &str, replicated: bool) -> Result<Child> {
    let sql = "SELECT name, pk, dflt_value FROM pragma_table_xinfo(?1)";
    let mut statement = db.prepare_cached(sql)?;
    let columns = statement
        .query_map([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<Vec<(String, i64, Option<String>)>>>()?;
    let sql = "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1";
    let without_rowid: bool = db.prepare_cached(sql)?.query_row([name], |row| row.get(0))?;
    let mut key: Vec<_> = columns.iter().filter(|(_, pk, _)| *pk > 0).collect();
    key.sort_by_key(|(_, pk, _)| *pk);
    let rowid = ["rowid", "_rowid_", "oid"]
        .into_iter()
        .find(|alias| !columns.iter().any(|(name, ..)| name.eq_ignore_ascii_case(alias)));
    let id = match rowid.filter(|_| !without_rowid) {
        Some(rowid) => vec![rowid.to_owned()],
        None => key.iter().map(|(name, ..)| ident(name)).collect(),
    };
    let sql = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    let text: String = db.prepare_cached(sql)?.query_row([name], |row| row.get(0))?;
    Ok(Child {
        name: name.to_owned(),
        replicated,
        id,
        defaults: columns
            .into_iter()
            .filter_map(|(name, _, default)| Some((name, default_sql(&default?))))
            .collect(),
        has_conflict_clause: text.to_ascii_uppercase().contains("CONFLICT"),
    })
}

/// A default as an expression. SQLite takes a bare word in this place for text.
fn default_sql(text: &str) -> String {
    let is_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && text.bytes().next().is_some_and(|first| !first.is_ascii_digit());
    let known =
        ["NULL", "TRUE", "FALSE", "CURRENT_TIME", "CURRENT_DATE", "CURRENT_TIMESTAMP"].iter();
    if is_word && !known.clone().any(|word| word.eq_ignore_ascii_case(text)) {
        return format!("'{text}'");
    }
    format!("({text})")
}

fn has_triggers(db: &Connection, table: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger'
               AND tbl_name = ?1 COLLATE NOCASE)";
    Ok(db.prepare_cached(sql)?.query_row([table], |row| row.get(0))?)
}
