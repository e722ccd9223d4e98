//! Tables that are not replicated and refer to replicated ones.
//!
//! A page is integrated with foreign keys turned off: the remote has enforced them, and their
//! effects on replicated rows come as events. For a table that only this database has, there are no
//! such events. So [`Dependents`] lists the foreign keys that lead from such tables to replicated
//! ones, and from other local tables to these. [`actions`](super::actions) carries out their
//! actions.

use std::collections::HashSet;

use rusqlite::Connection;

use crate::catalog::{Action, Affinity, Collation, PREFIX, Table, foreign_keys, ident};
use crate::error::Result;
use crate::event::Image;
use crate::event::value::Value;
use crate::store::schema::replicated::ReplicatedTable;

/// The table that a foreign key refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Parent {
    /// A replicated table, by its place in the store's list.
    Replicated(usize),
    /// A local table.
    Local(usize),
}

/// A column of a parent that a foreign key refers to.
#[derive(Clone, Debug)]
struct ParentColumn {
    /// Its name in events, if the parent is replicated.
    name: String,
    /// Its name in the database.
    present: String,
    affinity: Affinity,
    collation: Collation,
}

/// A foreign key whose actions are to be carried out.
#[derive(Clone, Debug)]
pub(in crate::store) struct Dependence {
    /// Its table, by its place in [`Dependents::children`].
    child: usize,
    /// The columns of the child.
    columns: Vec<String>,
    parent: Parent,
    parent_name: String,
    /// The columns of the parent, in the same order.
    to: Vec<ParentColumn>,
    on_delete: Action,
    on_update: Action,
}

/// A table that refers to another one.
#[derive(Clone, Debug)]
struct Child {
    name: String,
    /// Whether it is replicated. Such a table is only read, because its rows are the remote's.
    replicated: bool,
    /// The SQL that identifies one of its rows: its rowid, or the columns of its key.
    id: Vec<String>,
    /// The columns with a default, and its SQL text.
    defaults: Vec<(String, String)>,
    /// Whether a constraint has a conflict clause of its own.
    has_conflict_clause: bool,
}

/// The foreign keys that lead from tables that are not replicated to replicated ones.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Dependents {
    children: Vec<Child>,
    keys: Vec<Dependence>,
    /// Whether a child that is not replicated has a trigger.
    have_triggers: bool,
}

/// A foreign key of the schema, before it is known whether it leads to a replicated table.
struct Found {
    child: String,
    key: crate::catalog::ForeignKey,
}

impl Dependence {
    /// The number of its columns.
    pub(in crate::store) fn width(&self) -> usize {
        self.to.len()
    }

    /// The columns of its own table.
    pub(in crate::store) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The table that it refers to.
    pub(in crate::store) fn parent_name(&self) -> &str {
        &self.parent_name
    }

    /// Whether a new key of the parent separates the children from it, although the parent still
    /// exists.
    pub(in crate::store) fn is_cut_by_update(&self) -> bool {
        matches!(self.on_update, Action::SetNull | Action::SetDefault)
    }

    /// Whether it refers to a part of its parent's primary key.
    pub(in crate::store) fn is_of_key(&self, parent: &Table) -> bool {
        let mut key = parent.key_columns();
        key.any(|column| self.to.iter().any(|to| to.name.eq_ignore_ascii_case(&column.name)))
    }

    /// Whether it refers to the whole primary key of its parent.
    pub(in crate::store) fn is_key(&self, parent: &Table) -> bool {
        let is_part = |name: &str| self.to.iter().any(|to| to.name.eq_ignore_ascii_case(name));
        self.to.len() == parent.key.len() && parent.key_columns().all(|c| is_part(&c.name))
    }

    /// Whether a change of the parent's key leaves the children unchanged.
    pub(in crate::store) fn refuses_update(&self) -> bool {
        self.on_update.refuses()
    }

    /// Whether two lists of values are the same parent for it.
    pub(in crate::store) fn are_same(&self, old: &[Value], new: &[Value]) -> bool {
        let mut columns = self.to.iter().zip(old.iter().zip(new));
        columns.all(|(column, (old, new))| same(&column.collation, old, new))
    }
}

impl Parent {
    /// The table, if it is replicated.
    fn of(self, tables: &[ReplicatedTable]) -> Option<&Table> {
        match self {
            Parent::Replicated(at) => Some(&tables[at].table),
            Parent::Local(_) => None,
        }
    }
}

impl Dependents {
    /// Reads them, and creates the TEMP tables for finding children. `registered` has the names of
    /// all replicated tables, also of those that cannot be used at present.
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
        // Continue from parents to children until no new ones are found.
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
                // A replicated table refers to a local one.
                (None, Parent::Local(_)) => {
                    dependents.children.push(read_child(db, &child, true)?);
                    dependents.children.len() - 1
                }
                (None, Parent::Replicated(_)) => continue,
            };
            let Some(to) = parent_columns(db, &key, parent.of(tables))? else { continue };
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

    /// Creates one TEMP table for each foreign key. Its columns have the parent's collations and
    /// types.
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

    /// Which of the store's `tables` a table with rows refers to. The others have no children.
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
        let names: Vec<_> = columns.map(|column| ident(&column.present)).collect();
        names.join(", ")
    }

    /// A foreign key by its place.
    pub(in crate::store) fn key(&self, place: usize) -> &Dependence {
        &self.keys[place]
    }

    /// The places of all foreign keys.
    pub(in crate::store) fn places(&self) -> std::ops::Range<usize> {
        0..self.keys.len()
    }

    /// The table of a foreign key, as a parent of others.
    pub(in crate::store) fn child(&self, place: usize) -> Parent {
        Parent::Local(self.keys[place].child)
    }

    /// The name of the table of a foreign key.
    pub(in crate::store) fn child_name(&self, place: usize) -> &str {
        &self.children[self.keys[place].child].name
    }

    /// The number of values that identify a row of the table of a foreign key.
    pub(in crate::store) fn id_width(&self, place: usize) -> usize {
        self.children[self.keys[place].child].id.len()
    }

    /// Whether a table that is not replicated has a trigger.
    pub(in crate::store) fn have_triggers(&self) -> bool {
        self.have_triggers
    }

    /// The values that foreign keys refer to, as far as an image of a parent has them.
    pub(in crate::store) fn values_of(
        &self,
        parent: Parent,
        image: Option<&Image>,
    ) -> Vec<Option<Value>> {
        let columns = self.of(parent).flat_map(|place| &self.keys[place].to);
        columns.map(|column| image?.get(&column.name).cloned()).collect()
    }

    /// The statement that counts the rows whose parent is gone.
    pub(in crate::store) fn count_sql(&self, place: usize) -> String {
        let key = &self.keys[place];
        let not_null: Vec<_> =
            key.columns.iter().map(|column| format!("c.{} IS NOT NULL", ident(column))).collect();
        let equal: Vec<_> = key
            .to
            .iter()
            .zip(&key.columns)
            .map(|(to, column)| format!("p.{} = c.{}", ident(&to.present), ident(column)))
            .collect();
        format!(
            "SELECT count(*) FROM main.{} AS c WHERE {} AND NOT EXISTS \
             (SELECT 1 FROM main.{} AS p WHERE {})",
            ident(self.child_name(place)),
            not_null.join(" AND "),
            ident(&key.parent_name),
            equal.join(" AND ")
        )
    }

    /// The statement that counts the rows whose parent has one of several keys, which are its
    /// parameters.
    pub(in crate::store) fn count_with_parents_sql(
        &self,
        place: usize,
        parent: &Table,
        keys: usize,
    ) -> String {
        let key = &self.keys[place];
        let equal = key.to.iter().zip(&key.columns);
        let equal: Vec<_> = equal
            .map(|(to, column)| format!("p.{} = c.{}", ident(&to.present), ident(column)))
            .collect();
        let names: Vec<_> =
            parent.key_columns().map(|column| format!("p.{}", ident(&column.present))).collect();
        let values = vec![format!("({})", vec!["?"; names.len()].join(", ")); keys];
        format!(
            "SELECT count(*) FROM main.{} AS c JOIN main.{} AS p ON {} WHERE ({}) IN (VALUES {})",
            ident(self.child_name(place)),
            ident(&key.parent_name),
            equal.join(" AND "),
            names.join(", "),
            values.join(", "),
        )
    }

    /// The statement that finds the children of the parents in the TEMP table of a foreign key.
    pub(in crate::store) fn find_sql(&self, place: usize) -> String {
        let key = &self.keys[place];
        let child = &self.children[key.child];
        let ids: Vec<_> = child.id.iter().map(|id| format!("c.{id}")).collect();
        let equal = |left: &dyn Fn(usize) -> String, right: &dyn Fn(usize) -> String| {
            let terms: Vec<_> = key
                .to
                .iter()
                .enumerate()
                .map(|(at, to)| {
                    format!("{} COLLATE {} = {}", left(at), ident(to.collation.name()), right(at))
                })
                .collect();
            terms.join(" AND ")
        };
        let old = |at: usize| format!("g.o{at}");
        format!(
            "SELECT g.i, {} FROM temp.{} AS g CROSS JOIN main.{} AS c ON {} \
             WHERE g.sure OR NOT EXISTS (SELECT 1 FROM main.{} AS p WHERE {})",
            ids.join(", "),
            gone(place),
            ident(&child.name),
            equal(&old, &|at| format!("c.{}", ident(&key.columns[at]))),
            ident(&key.parent_name),
            equal(&|at| format!("p.{}", ident(&key.to[at].present)), &old),
        )
    }

    /// The statements that read a row of a foreign key's table, and carry out the declared action
    /// for a parent that is `gone` or has changed. `None` if there is no action.
    pub(in crate::store) fn action_sql(&self, place: usize, gone: bool) -> Option<[String; 2]> {
        let key = &self.keys[place];
        let child = &self.children[key.child];
        let action = if gone { key.on_delete } else { key.on_update };
        if child.replicated || child.id.is_empty() || action.refuses() {
            return None;
        }
        let columns = self.columns_of(Parent::Local(key.child));
        let columns = if columns.is_empty() { "1" } else { &columns };
        let first = key.columns.len() + 1;
        let ids = child.id.iter().enumerate();
        let ids: Vec<_> = ids.map(|(at, id)| format!("{id} IS ?{}", first + at)).collect();
        let (name, condition) = (ident(&child.name), ids.join(" AND "));
        let act = match action {
            Action::Cascade if gone => {
                format!("DELETE FROM main.{name} WHERE {condition} RETURNING {columns}")
            }
            _ => {
                let or = if child.has_conflict_clause { " OR ABORT" } else { "" };
                let sets = self.sets(place, action);
                format!("UPDATE{or} main.{name} SET {sets} WHERE {condition} RETURNING {columns}")
            }
        };
        Some([format!("SELECT {columns} FROM main.{name} WHERE {condition}"), act])
    }

    /// The SET clause for the child's columns.
    fn sets(&self, place: usize, action: Action) -> String {
        let key = &self.keys[place];
        let defaults = &self.children[key.child].defaults;
        let default = |column: &str| {
            let found = defaults.iter().find(|(name, _)| name.eq_ignore_ascii_case(column));
            found.map_or("NULL", |(_, sql)| sql)
        };
        let sets = key.columns.iter().enumerate().map(|(at, column)| {
            let value = match action {
                Action::Cascade => format!("?{}", at + 1),
                Action::SetDefault => default(column).to_owned(),
                _ => "NULL".to_owned(),
            };
            format!("{} = {value}", ident(column))
        });
        sets.collect::<Vec<_>>().join(", ")
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

/// The columns that a foreign key refers to; `None` if the parent lacks them.
fn parent_columns(
    db: &Connection,
    key: &crate::catalog::ForeignKey,
    known: Option<&Table>,
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
            name: known.map_or(&*name, |known| known.name_of(&name)).to_owned(),
            present: name,
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

/// A default as an expression. Here SQLite treats a bare word as text.
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

/// Whether a foreign key treats two values of its parent as equal.
fn same(collation: &Collation, old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Text(old), Value::Text(new)) => match collation {
            Collation::NoCase => old.eq_ignore_ascii_case(new),
            Collation::RTrim => old.trim_ascii_end() == new.trim_ascii_end(),
            _ => old == new,
        },
        (Value::Integer(integer), Value::Real(real))
        | (Value::Real(real), Value::Integer(integer)) => *integer as f64 == *real,
        (old, new) => old == new,
    }
}
