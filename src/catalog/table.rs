//! A table's definition, as capture and the row writer need it.
//!
//! [`Table::read`] asks SQLite itself (`PRAGMA table_xinfo`, `index_xinfo`, `foreign_key_list` and
//! the column metadata), so it does not depend on the spelling of a `CREATE TABLE`. A remote's
//! definitions are read in the same way: its `sqlite_schema` runs in a sandbox in memory
//! ([`Catalog::of_remote`]).

use rusqlite::{Connection, OptionalExtension};

use super::affinity::Affinity;
use super::limits::{MAX_COLUMNS, MAX_KEY_COLUMNS, PREFIX};
use super::sandbox::Sandbox;
use crate::error::{Code, Error, Result};

/// The collations that SQLite itself has. A key may not use another one, because other clients of
/// the file could not run our triggers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Collation {
    /// Byte for byte.
    Binary,
    /// A to Z without regard to case.
    NoCase,
    /// Without regard to spaces at the end.
    RTrim,
    /// One that an application registered.
    Other(String),
}

impl Collation {
    pub(crate) fn named(name: &str) -> Self {
        match name.to_ascii_uppercase().as_str() {
            "BINARY" => Collation::Binary,
            "NOCASE" => Collation::NoCase,
            "RTRIM" => Collation::RTrim,
            _ => Collation::Other(name.to_owned()),
        }
    }

    /// The name, as SQL has it.
    pub fn name(&self) -> &str {
        match self {
            Collation::Binary => "BINARY",
            Collation::NoCase => "NOCASE",
            Collation::RTrim => "RTRIM",
            Collation::Other(name) => name,
        }
    }
}

/// A column that events carry. Generated columns are not among them: they cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Column {
    /// Its name in events, the same for life: see [`Names`](super::Names).
    pub name: String,
    /// Its name in the database at present.
    pub present: String,
    /// Its declared type, as written.
    pub declared: String,
    /// Its affinity.
    pub affinity: Affinity,
    /// Its collation.
    pub collation: Collation,
    /// Whether NULL is refused.
    pub not_null: bool,
    /// The default's SQL text.
    pub default: Option<String>,
}

/// A term of a UNIQUE index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Term {
    /// A column and the index's collation for it.
    Column(String, Collation),
    /// An expression's SQL text.
    Expression(String),
}

/// A UNIQUE constraint or index, other than the primary key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unique {
    /// The index's name.
    pub name: String,
    /// Its terms, in order.
    pub terms: Vec<Term>,
    /// The WHERE of a partial index.
    pub predicate: Option<String>,
}

impl Unique {
    /// The columns, each with the index's collation. `None` if the index has an expression, a
    /// condition or a generated column.
    pub(crate) fn plain_columns<'a>(
        &'a self,
        table: &'a Table,
    ) -> Option<Vec<(&'a Column, &'a Collation)>> {
        if self.predicate.is_some() {
            return None;
        }
        let column = |term: &'a Term| match term {
            Term::Column(column, collation) => {
                table.column(column).map(|column| (column, collation))
            }
            Term::Expression(_) => None,
        };
        self.terms.iter().map(column).collect()
    }

    /// Whether its terms or its predicate may use a column of this name. True if their text
    /// contains the name.
    pub fn mentions(&self, column: &str) -> bool {
        let mut texts = self.terms.iter().map(|term| match term {
            Term::Column(name, _) => name,
            Term::Expression(text) => text,
        });
        texts.any(|text| mentions(text, column))
            || self.predicate.as_ref().is_some_and(|text| mentions(text, column))
    }
}

/// Whether an expression may use a column of this name. True if the text contains the name.
pub(crate) fn mentions(sql: &str, column: &str) -> bool {
    let column = column.to_ascii_lowercase();
    // A quote in a name is doubled in SQL.
    column.contains(['"', '`', '[', ']']) || sql.to_ascii_lowercase().contains(&column)
}

/// The action of a foreign key on children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Refuses, at the end of the statement or transaction.
    NoAction,
    /// Refuses at once.
    Restrict,
    /// Sets the child's columns to NULL.
    SetNull,
    /// Sets the child's columns to their defaults.
    SetDefault,
    /// Applies the parent's change to the child.
    Cascade,
}

impl Action {
    fn named(name: &str) -> Self {
        match name {
            "RESTRICT" => Action::Restrict,
            "SET NULL" => Action::SetNull,
            "SET DEFAULT" => Action::SetDefault,
            "CASCADE" => Action::Cascade,
            _ => Action::NoAction,
        }
    }

    /// Whether it refuses a change of a parent with children.
    pub fn refuses(self) -> bool {
        matches!(self, Action::NoAction | Action::Restrict)
    }
}

/// A foreign key of a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ForeignKey {
    /// The parent table.
    pub parent: String,
    /// Child column and parent column, in order.
    pub columns: Vec<(String, String)>,
    /// ON DELETE.
    pub on_delete: Action,
    /// ON UPDATE.
    pub on_update: Action,
}

/// A table that can be replicated.
///
/// * `key` is not empty, and names columns of `columns`.
/// * No key column has a collation that the application registered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Table {
    /// Its name, in the case of its definition.
    pub name: String,
    /// Its columns that can be written, in their order.
    pub columns: Vec<Column>,
    /// Its generated columns, which cannot be written.
    pub generated: Vec<String>,
    /// The primary key: indexes into `columns`, in the key's order.
    pub key: Vec<usize>,
    /// The key's collations.
    pub key_collations: Vec<Collation>,
    /// Whether the key is one INTEGER PRIMARY KEY, which is the rowid.
    pub rowid_key: bool,
    /// Whether it is a WITHOUT ROWID table.
    pub without_rowid: bool,
    /// Whether it is a STRICT table.
    pub strict: bool,
    /// Its UNIQUE constraints and indexes.
    pub uniques: Vec<Unique>,
    /// Its foreign keys.
    pub foreign_keys: Vec<ForeignKey>,
    /// The SQL that made it.
    pub sql: String,
}

impl Table {
    /// Reads a table's definition.
    ///
    /// # Errors
    ///
    /// `Usage`, naming the table, when it cannot be replicated: it does not exist; it is a view, a
    /// virtual or a shadow table, or one of SQLite's or ours; it has no primary key; a key column
    /// has a collation that the application registered; or it has more than [`MAX_COLUMNS`]
    /// columns. `Storage` when the database cannot be read.
    pub fn read(db: &Connection, name: &str) -> Result<Table> {
        let (name, kind, without_rowid, strict) = table_kind(db, name)?;
        refuse_by_kind(&name, &kind)?;
        let sql: String = db.query_row(
            "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?1",
            [&name],
            |row| row.get(0),
        )?;
        let (columns, generated, key) = read_columns(db, &name, strict)?;
        if key.is_empty() {
            return Err(unsupported(format!("table `{name}` has no primary key"))
                .with_hint("an event names its row by the key: give the table a PRIMARY KEY"));
        }
        if key.len() > MAX_KEY_COLUMNS {
            return Err(unsupported(format!(
                "the key of table `{name}` has {} columns; at most {MAX_KEY_COLUMNS} can be replicated",
                key.len()
            )));
        }
        if columns.len() > MAX_COLUMNS {
            return Err(unsupported(format!(
                "table `{name}` has {} columns; at most {MAX_COLUMNS} can be replicated",
                columns.len()
            )));
        }
        let (uniques, key_collations) = read_indexes(db, &name, &columns, &key)?;
        for (collation, &column) in key_collations.iter().zip(&key) {
            if let Collation::Other(collation) = collation {
                return Err(unsupported(format!(
                    "key column `{}` of table `{name}` has the collation `{collation}`, which other \
                     programs do not know",
                    columns[column].name
                ))
                .with_hint("a replicated key is BINARY, NOCASE or RTRIM"));
            }
        }
        let rowid_key = !without_rowid
            && key.len() == 1
            && columns[key[0]].declared.eq_ignore_ascii_case("INTEGER")
            && !has_key_index(db, &name)?;
        let foreign_keys = foreign_keys(db, &name)?;
        Ok(Table {
            name,
            columns,
            generated,
            key,
            key_collations,
            rowid_key,
            without_rowid,
            strict,
            uniques,
            foreign_keys,
            sql,
        })
    }

    /// The key's columns, in the key's order.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().map(|&index| &self.columns[index])
    }

    /// Whether the column at `index` is part of the key.
    pub fn is_key(&self, index: usize) -> bool {
        self.key.contains(&index)
    }

    /// A column, by its name in any case, as in SQLite.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// The names of the columns in the INSERT that an application would write by hand.
    pub fn column_names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }
}

fn table_kind(db: &Connection, name: &str) -> Result<(String, String, bool, bool)> {
    let mut statement = db.prepare(
        "SELECT name, type, wr, strict FROM pragma_table_list
         WHERE schema = 'main' AND name = ?1 COLLATE NOCASE",
    )?;
    let found = statement
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    found.ok_or_else(|| {
        let hint = "check the spelling; `--all-tables` takes every table that can be replicated";
        Error::new(Code::NoSuchTable, format!("there is no table `{name}`")).with_hint(hint)
    })
}

fn refuse_by_kind(name: &str, kind: &str) -> Result<()> {
    let what = match kind {
        "view" => "is a view",
        "virtual" => "is a virtual table",
        "shadow" => "belongs to a virtual table",
        _ if begins_with(name, "sqlite_") => "is one of SQLite's own",
        _ if begins_with(name, PREFIX) => "is one of driftless's own",
        _ => return Ok(()),
    };
    Err(unsupported(format!("`{name}` {what} and cannot be replicated"))
        .with_hint("replicate the tables behind it; they are all that it shows"))
}

/// The error for a table that cannot be replicated.
fn unsupported(message: String) -> Error {
    Error::new(Code::TableUnsupported, message)
}

/// Whether a name begins with `prefix`, in any case: SQLite ignores the case of names.
fn begins_with(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The columns that can be written, the generated ones, and the places of the key among the former.
type Columns = (Vec<Column>, Vec<String>, Vec<usize>);

fn read_columns(db: &Connection, name: &str, strict: bool) -> Result<Columns> {
    let mut statement = db.prepare(
        "SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(?1)
         ORDER BY cid",
    )?;
    let mut rows = statement.query([name])?;
    let (mut columns, mut generated, mut key) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let (pk, hidden): (i64, i64) = (row.get(4)?, row.get(5)?);
        let column: String = row.get(0)?;
        if hidden != 0 {
            generated.push(column);
            continue;
        }
        let declared: String = row.get(1)?;
        let (_, collation, ..) = db.column_metadata(Some("main"), name, &column)?;
        let collation = collation.map_or(String::new(), |c| c.to_string_lossy().into_owned());
        // In a STRICT table ANY converts nothing. In every other table it means NUMERIC.
        let affinity = if strict && declared.eq_ignore_ascii_case("ANY") {
            Affinity::Blob
        } else {
            Affinity::of(&declared)
        };
        if pk > 0 {
            key.push((pk, columns.len()));
        }
        columns.push(Column {
            affinity,
            collation: Collation::named(&collation),
            not_null: row.get(2)?,
            default: row.get(3)?,
            name: column.clone(),
            present: column,
            declared,
        });
    }
    key.sort_unstable();
    Ok((columns, generated, key.into_iter().map(|(_, index)| index).collect()))
}

fn has_key_index(db: &Connection, name: &str) -> Result<bool> {
    let sql = "SELECT count(*) FROM pragma_index_list(?1) WHERE origin = 'pk'";
    let count: i64 = db.query_row(sql, [name], |row| row.get(0))?;
    Ok(count > 0)
}

fn read_indexes(
    db: &Connection,
    table: &str,
    columns: &[Column],
    key: &[usize],
) -> Result<(Vec<Unique>, Vec<Collation>)> {
    let mut key_collations: Vec<_> =
        key.iter().map(|&index| columns[index].collation.clone()).collect();
    let mut uniques = Vec::new();
    let mut statement = db.prepare(
        "SELECT name, origin, partial FROM pragma_index_list(?1) WHERE \"unique\" ORDER BY seq",
    )?;
    let mut rows = statement.query([table])?;
    while let Some(row) = rows.next()? {
        let (name, origin, partial): (String, String, bool) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        if origin == "pk" {
            key_collations = index_collations(db, &name)?;
            key_collations.truncate(key.len());
            continue;
        }
        uniques.push(read_unique(db, name, partial)?);
    }
    // SQLite lists the newest index first and checks the oldest first. Judge them as SQLite does.
    uniques.reverse();
    Ok((uniques, key_collations))
}

fn index_collations(db: &Connection, index: &str) -> Result<Vec<Collation>> {
    let mut statement =
        db.prepare("SELECT coll FROM pragma_index_xinfo(?1) WHERE key ORDER BY seqno")?;
    let names = statement.query_map([index], |row| row.get::<_, String>(0))?;
    names.map(|name| Ok(Collation::named(&name?))).collect()
}

fn read_unique(db: &Connection, name: String, partial: bool) -> Result<Unique> {
    let sql: Option<String> = db.query_row(
        "SELECT sql FROM sqlite_schema WHERE type = 'index' AND name = ?1",
        [&name],
        |row| row.get(0),
    )?;
    let written = sql.as_deref().map(super::index_sql::parse).unwrap_or_default();
    let mut statement =
        db.prepare("SELECT name, coll FROM pragma_index_xinfo(?1) WHERE key ORDER BY seqno")?;
    let mut rows = statement.query([&name])?;
    let mut terms = Vec::new();
    while let Some(row) = rows.next()? {
        let (column, collation): (Option<String>, String) = (row.get(0)?, row.get(1)?);
        terms.push(match column {
            Some(column) => Term::Column(column, Collation::named(&collation)),
            None => {
                Term::Expression(written.term(terms.len()).map(str::to_owned).ok_or_else(|| {
                    unsupported(format!("the definition of the index `{name}` cannot be read"))
                })?)
            }
        });
    }
    let unreadable =
        || unsupported(format!("the definition of the partial index `{name}` cannot be read"));
    let predicate = partial
        .then(|| written.predicate().map(str::to_owned).ok_or_else(unreadable))
        .transpose()?;
    Ok(Unique { name, terms, predicate })
}

pub(crate) fn foreign_keys(db: &Connection, table: &str) -> Result<Vec<ForeignKey>> {
    let mut statement = db.prepare(
        "SELECT id, \"table\", \"from\", \"to\", on_update, on_delete
         FROM pragma_foreign_key_list(?1) ORDER BY id, seq",
    )?;
    let mut rows = statement.query([table])?;
    let mut keys: Vec<(i64, ForeignKey)> = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, parent, from): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let to: Option<String> = row.get(3)?;
        if keys.last().is_none_or(|(last, _)| *last != id) {
            let (on_update, on_delete): (String, String) = (row.get(4)?, row.get(5)?);
            keys.push((
                id,
                ForeignKey {
                    parent: parent.clone(),
                    columns: Vec::new(),
                    on_delete: Action::named(&on_delete),
                    on_update: Action::named(&on_update),
                },
            ));
        }
        let (_, key) = keys.last_mut().expect("one was pushed just now");
        // A foreign key that names no columns means the parent's primary key.
        let to = match to {
            Some(to) => Some(to),
            None => parent_key_column(db, &parent, key.columns.len())?,
        };
        if let Some(to) = to {
            key.columns.push((from, to));
        }
    }
    Ok(keys.into_iter().map(|(_, key)| key).filter(|key| !key.columns.is_empty()).collect())
}

fn parent_key_column(db: &Connection, parent: &str, index: usize) -> Result<Option<String>> {
    let sql = "SELECT name FROM pragma_table_xinfo(?1) WHERE pk = ?2";
    Ok(db.query_row(sql, (parent, index as i64 + 1), |row| row.get(0)).optional()?)
}

/// Every definition of a database.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// The tables that can be replicated, by name.
    pub tables: Vec<Table>,
    /// The tables and views that cannot, each with the reason.
    pub skipped: Vec<(String, String)>,
    /// The views and shadow tables among `skipped`. They are left out without a warning.
    pub quiet: Vec<String>,
    /// The tables among `skipped` that [`Catalog::of_remote`] could not make in memory.
    pub unmade: Vec<String>,
    /// The indexes that were made by a `CREATE INDEX`: the table, and SQLite's record of the
    /// statement, in the order they were made.
    pub indexes: Vec<(String, String)>,
    /// The foreign keys: the child table, and the parent by the name that the child uses. The
    /// parent may not exist.
    pub parents: Vec<(String, String)>,
    /// The foreign keys that do not lead to a key of the parent. Only [`Catalog::of_remote`] knows
    /// them.
    pub unfounded: Vec<(String, String)>,
}

impl Catalog {
    /// Reads all tables of a database.
    pub fn read(db: &Connection) -> Result<Catalog> {
        let mut statement = db.prepare(
            "SELECT name, type FROM pragma_table_list WHERE schema = 'main'
             AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
             AND name NOT LIKE 'driftless\\_%' ESCAPE '\\'
             ORDER BY name",
        )?;
        let names = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<Vec<(String, String)>>>()?;
        let mut catalog = Catalog::default();
        for (name, kind) in names {
            match Table::read(db, &name) {
                Ok(table) => catalog.tables.push(table),
                // A virtual table's own tables are left out without a warning.
                Err(_) if kind == "shadow" => {}
                Err(error) if error.kind() == crate::error::Kind::Usage => {
                    catalog.skipped.push((name, error.message().to_owned()));
                }
                Err(error) => return Err(error),
            }
        }
        let mut statement = db.prepare(
            "SELECT tbl_name, sql FROM sqlite_schema WHERE type = 'index' AND sql NOT NULL
             ORDER BY rowid",
        )?;
        let indexes = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        catalog.indexes = indexes.collect::<rusqlite::Result<_>>()?;
        let mut statement = db.prepare(
            "SELECT DISTINCT t.name, k.\"table\" FROM sqlite_schema AS t
             JOIN pragma_foreign_key_list(t.name) AS k WHERE t.type = 'table'",
        )?;
        let parents = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        catalog.parents = parents.collect::<rusqlite::Result<_>>()?;
        Ok(catalog)
    }

    /// Reads a remote's definitions from the rows of its `sqlite_schema` (`type`, `name`,
    /// `tbl_name`, `sql`), in a sandbox.
    ///
    /// Objects that this SQLite cannot make (a virtual table of an unknown module) are skipped,
    /// with the reason. So is text that is not a definition: a remote may send anything.
    ///
    /// # Errors
    ///
    /// `Corrupt` when there are more definitions than any real database has; `Storage` when SQLite
    /// fails.
    pub fn of_remote(schema: &[(String, String, String, Option<String>)]) -> Result<Catalog> {
        let mut skipped = Vec::new();
        for (_, name, ..) in schema.iter().filter(|(kind, ..)| kind == "view") {
            skipped.push((name.clone(), format!("`{name}` is a view and cannot be replicated")));
        }
        let sandbox = Sandbox::of(schema)?;
        let mut catalog = Catalog::read(sandbox.db())?;
        catalog.unfounded = sandbox.unfounded(&catalog.parents);
        catalog.quiet = skipped.iter().map(|(name, _)| name.clone()).collect();
        catalog.unmade = sandbox.unmade().to_vec();
        catalog.quiet.extend_from_slice(sandbox.shadows());
        skipped.extend_from_slice(sandbox.skipped());
        catalog.skipped.extend(skipped);
        Ok(catalog)
    }

    /// A table, by its name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name.eq_ignore_ascii_case(name))
    }

    /// The table, or a usage error with the reason why it cannot be replicated.
    ///
    /// # Errors
    ///
    /// `Usage`, naming the table.
    pub fn require(&self, name: &str) -> Result<&Table> {
        if let Some(table) = self.table(name) {
            return Ok(table);
        }
        let skipped = self.skipped.iter().find(|(skipped, _)| skipped.eq_ignore_ascii_case(name));
        Err(match skipped {
            Some((_, reason)) => unsupported(reason.clone())
                .with_hint("only tables that have a primary key can be replicated: leave it out"),
            None => Error::new(Code::NoSuchTable, format!("there is no table `{name}`")),
        })
    }
}
