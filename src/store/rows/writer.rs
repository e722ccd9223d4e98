//! Reads, writes and deletes rows of replicated tables.
//!
//! A [`Writer`] lives for one transaction. It keeps a prepared statement for each shape of write in
//! the transaction (table, kind of write, set of columns), and binds values directly from an
//! event's JSON. No SQL text comes from an event: its column names are looked up in the table's
//! definition, and the statement is made from the names there.

use std::collections::HashMap;

use rusqlite::config::DbConfig;
use rusqlite::{CachedStatement, Connection};

use super::refusal::{extended_code, is_uncompiled};
use super::row::{Row, column_index, known_key, value};
use super::trigger_guard::Guard;
use crate::catalog::{Table, ident};
use crate::error::Result;
use crate::event::value::{Value, ValueRef};
use crate::event::{Column, Columns, Image, RowKey};
use crate::store::local::dependents::{Dependents, Parent};
use crate::store::schema::replicated::ReplicatedTable;

/// The most statements that a writer keeps before it starts again. This limits a remote whose
/// events have every combination of columns.
const MAX_SHAPES: usize = 256;

/// The kind of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Writes a row that may exist.
    Upsert,
    /// The same. If the row does not exist, it gets a given rowid.
    UpsertAt,
    /// Changes columns of a row.
    Update,
    /// Deletes a row.
    Delete,
    /// Reads a row. If it has a rowid apart from its key, that is the last column.
    Read,
}

/// A row of a table, and its values to which local rows could refer; `None` if it did not exist.
pub(in crate::store) type ValuesBefore = ((usize, RowKey), Option<Vec<Value>>);

/// Reads and writes rows of replicated tables, within one transaction.
pub(in crate::store) struct Writer<'c> {
    db: &'c Connection,
    tables: &'c [ReplicatedTable],
    guard: &'c Guard,
    statements: Vec<CachedStatement<'c>>,
    /// The place of the statement for each shape.
    shapes: HashMap<Box<[u16]>, usize>,
    /// The shape of the present statement: table, kind, columns.
    shape: Vec<u16>,
    /// The previous shape, and the place of its statement: consecutive events are mostly alike.
    last: (Vec<u16>, usize),
    /// The rowids of rows that were removed in this transaction and will be written again.
    rowids: HashMap<(usize, RowKey), i64>,
    /// The tables that local rows refer to, and which of their columns.
    dependents: Option<(&'c Dependents, Vec<bool>)>,
    /// The rows of those tables before they were first written.
    values_before: HashMap<(usize, RowKey), Option<Vec<Value>>>,
}

impl<'c> Writer<'c> {
    pub(in crate::store) fn new(
        db: &'c Connection,
        tables: &'c [ReplicatedTable],
        guard: &'c Guard,
    ) -> Self {
        Writer {
            db,
            tables,
            guard,
            statements: Vec::new(),
            shapes: HashMap::new(),
            shape: Vec::new(),
            last: (Vec::new(), 0),
            rowids: HashMap::new(),
            dependents: None,
            values_before: HashMap::new(),
        }
    }

    /// Keeps each row's referred values from before its first write.
    pub(in crate::store) fn keeping_values_before(
        self,
        dependents: &'c Dependents,
    ) -> Result<Self> {
        let watched = dependents.watched(self.db, self.tables.len())?;
        let any = watched.contains(&true);
        Ok(Writer { dependents: any.then_some((dependents, watched)), ..self })
    }

    /// Whether local rows may refer to rows of any table.
    pub(in crate::store) fn watches(&self) -> bool {
        self.dependents.is_some()
    }

    /// Whether local rows may refer to rows of this table.
    pub(in crate::store) fn is_watched(&self, table: usize) -> bool {
        self.dependents.as_ref().is_some_and(|(_, watched)| watched[table])
    }

    /// The rows that were written, with their referred values from before. `None` for a row that
    /// did not exist. They are in the order of their keys.
    pub(in crate::store) fn take_values_before(&mut self) -> Vec<ValuesBefore> {
        let mut values_before: Vec<_> = self.values_before.drain().collect();
        values_before.sort_by(|(a, _), (b, _)| a.cmp(b));
        values_before
    }

    fn keep_values_before(&mut self, table: usize, key: &str) -> rusqlite::Result<()> {
        if !self.is_watched(table)
            || self.values_before.contains_key(&(table, RowKey(key.to_owned())))
        {
            return Ok(());
        }
        let before = match known_key(&self.tables[table].table, key) {
            // If a row cannot be read, nothing can refer to its values.
            Some(values) => match self.referred(table, &values) {
                Err(error) if is_uncompiled(&error) => None,
                other => other?,
            },
            None => None,
        };
        self.values_before.insert((table, RowKey(key.to_owned())), before);
        Ok(())
    }

    fn note_values(&mut self, table: usize, key: &[ValueRef<'_>]) -> rusqlite::Result<()> {
        if !self.is_watched(table) {
            return Ok(());
        }
        let values: Vec<_> = key.iter().cloned().map(ValueRef::into_value).collect();
        self.keep_values_before(table, &RowKey::from_values(&values).0)
    }

    /// The values of a row to which foreign keys of local tables refer, in the order of
    /// [`Dependents::columns_of`].
    pub(in crate::store) fn referred(
        &self,
        table: usize,
        key: &[ValueRef<'_>],
    ) -> rusqlite::Result<Option<Vec<Value>>> {
        let Some((dependents, _)) = &self.dependents else { return Ok(None) };
        let definition = &self.tables[table].table;
        let columns = dependents.columns_of(Parent::Replicated(table));
        let (name, condition) = (ident(&definition.name), key_condition(definition, 1));
        let sql = format!("SELECT {columns} FROM main.{name} WHERE {condition}");
        let mut statement = self.db.prepare_cached(&sql)?;
        for (place, value) in key.iter().enumerate() {
            statement.raw_bind_parameter(place + 1, value)?;
        }
        let count = statement.column_count();
        let mut rows = statement.raw_query();
        let Some(row) = rows.next()? else { return Ok(None) };
        (0..count).map(|at| Ok(value(row.get_ref(at)?))).collect::<rusqlite::Result<_>>().map(Some)
    }

    fn shape(&mut self, table: usize, kind: Kind, columns: &[Column<'_>]) {
        let definition = &self.tables[table].table;
        self.shape.clear();
        self.shape.extend([table as u16, kind as u16]);
        for (place, (name, _)) in columns.iter().enumerate() {
            let column = column_index(definition, name, place).expect("its columns were checked");
            self.shape.push(column as u16);
        }
    }

    /// The statement for `self.shape`.
    fn statement(&mut self, kind: Kind) -> rusqlite::Result<&mut CachedStatement<'c>> {
        if self.shape != self.last.0 {
            let place = match self.shapes.get(self.shape.as_slice()) {
                Some(&place) => place,
                None => self.prepare(kind)?,
            };
            self.last.0.clone_from(&self.shape);
            self.last.1 = place;
        }
        Ok(&mut self.statements[self.last.1])
    }

    fn prepare(&mut self, kind: Kind) -> rusqlite::Result<usize> {
        if self.statements.len() >= MAX_SHAPES {
            self.statements.clear();
            self.shapes.clear();
            self.last.0.clear();
        }
        let replicated = &self.tables[usize::from(self.shape[0])];
        let sql = sql(replicated, kind, &self.shape[2..]);
        self.statements.push(self.db.prepare_cached(&sql)?);
        let place = self.statements.len() - 1;
        self.shapes.insert(self.shape.as_slice().into(), place);
        Ok(place)
    }

    /// Runs a write, and returns the number of written rows.
    ///
    /// A trigger of the application may refuse a row, with an error or silently. But the remote has
    /// decided already, so the row is then written with all triggers off.
    fn run(
        &mut self,
        kind: Kind,
        values: &[Column<'_>],
        rest: &[ValueRef<'_>],
    ) -> rusqlite::Result<usize> {
        let foreign = self.guard.is_foreign();
        let outcome = self.execute(kind, values, rest);
        let refused = match &outcome {
            Ok(written) => *written == 0,
            Err(error) => extended_code(error) == Some(rusqlite::ffi::SQLITE_CONSTRAINT_TRIGGER),
        };
        // After RAISE(ROLLBACK) there is no transaction to write in.
        if !foreign || !refused || self.db.is_autocommit() {
            return outcome;
        }
        self.db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        let outcome = self.execute(kind, values, rest);
        self.db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, true)?;
        outcome
    }

    fn execute(
        &mut self,
        kind: Kind,
        values: &[Column<'_>],
        rest: &[ValueRef<'_>],
    ) -> rusqlite::Result<usize> {
        let guard = self.guard;
        let statement = self.statement(kind)?;
        let mut place = 0;
        for value in values.iter().map(|(_, value)| value).chain(rest) {
            place += 1;
            statement.raw_bind_parameter(place, value)?;
        }
        guard.arm(kind == Kind::Delete);
        let written = statement.raw_execute();
        guard.arm(false);
        written
    }

    /// Writes the whole row. `key` is the text of its key, by which a remembered rowid is found.
    pub(in crate::store) fn upsert(
        &mut self,
        table: usize,
        key: &str,
        columns: &[Column<'_>],
    ) -> rusqlite::Result<usize> {
        self.keep_values_before(table, key)?;
        if !self.rowids.is_empty() {
            let remembered = self.rowids.get(&(table, RowKey(key.to_owned()))).copied();
            if let Some(rowid) = remembered {
                self.shape(table, Kind::UpsertAt, columns);
                let rest = [ValueRef::Integer(rowid)];
                match self.run(Kind::UpsertAt, columns, &rest) {
                    // Another row has that rowid now.
                    Err(error)
                        if extended_code(&error)
                            == Some(rusqlite::ffi::SQLITE_CONSTRAINT_ROWID) => {}
                    other => return other,
                }
            }
        }
        self.shape(table, Kind::Upsert, columns);
        self.run(Kind::Upsert, columns, &[])
    }

    /// Changes columns of a row; 0 if the row does not exist.
    pub(in crate::store) fn update(
        &mut self,
        table: usize,
        key: &[ValueRef<'_>],
        columns: &[Column<'_>],
    ) -> rusqlite::Result<usize> {
        if columns.is_empty() {
            return Ok(1);
        }
        self.note_values(table, key)?;
        self.shape(table, Kind::Update, columns);
        self.run(Kind::Update, columns, key)
    }

    /// Deletes a row; 0 if the row does not exist.
    pub(in crate::store) fn delete(
        &mut self,
        table: usize,
        key: &[ValueRef<'_>],
    ) -> rusqlite::Result<usize> {
        let none = Columns::new();
        self.note_values(table, key)?;
        self.shape(table, Kind::Delete, &none);
        self.run(Kind::Delete, &none, key)
    }

    /// Deletes a row that will be written again in this transaction with its old rowid.
    pub(in crate::store) fn remove_for_rewrite(
        &mut self,
        table: usize,
        key: &RowKey,
        values: &[ValueRef<'_>],
        row: &Row,
    ) -> rusqlite::Result<usize> {
        if let Some(rowid) = row.rowid() {
            self.rowids.insert((table, key.clone()), rowid);
        }
        self.delete(table, values)
    }

    /// The row as it is now.
    pub(in crate::store) fn row(
        &mut self,
        table: usize,
        key: &[ValueRef<'_>],
    ) -> Result<Option<Row>> {
        self.shape(table, Kind::Read, &Columns::new());
        let replicated = &self.tables[table];
        let statement = self.statement(Kind::Read)?;
        for (place, value) in key.iter().enumerate() {
            statement.raw_bind_parameter(place + 1, value)?;
        }
        let mut rows = statement.raw_query();
        let Some(found) = rows.next()? else { return Ok(None) };
        let mut image = Vec::with_capacity(replicated.table.columns.len());
        for (index, column) in replicated.table.columns.iter().enumerate() {
            image.push((column.name.clone(), value(found.get_ref(index)?)));
        }
        let rowid = match replicated.rowid() {
            Some(_) => Some(found.get(image.len())?),
            None => None,
        };
        Ok(Some(Row::new(Image(image), rowid)))
    }
}

/// `"column" = ?n COLLATE c` for each key column, from parameter `first` on.
fn key_condition(table: &Table, first: usize) -> String {
    let parts: Vec<_> = table
        .key_columns()
        .zip(&table.key_collations)
        .enumerate()
        .map(|(part, (column, collation))| {
            let name = ident(&column.present);
            format!("{name} = ?{} COLLATE {}", first + part, collation.name())
        })
        .collect();
    parts.join(" AND ")
}

fn sql(replicated: &ReplicatedTable, kind: Kind, columns: &[u16]) -> String {
    let table = &replicated.table;
    let name = ident(&table.name);
    // A conflict clause (REPLACE) of a constraint would delete other rows, so it is overridden.
    // Without one, nothing is overridden, because the override also applies to the statements of
    // triggers.
    let or = if table.sql.to_ascii_uppercase().contains("CONFLICT") { " OR ABORT" } else { "" };
    let names: Vec<_> =
        columns.iter().map(|&column| ident(&table.columns[usize::from(column)].present)).collect();
    match kind {
        Kind::Upsert | Kind::UpsertAt => {
            let mut into = names.clone();
            into.extend(replicated.rowid().filter(|_| kind == Kind::UpsertAt).map(str::to_owned));
            let places: Vec<_> = (1..=into.len()).map(|place| format!("?{place}")).collect();
            let sets: Vec<_> =
                names.iter().map(|column| format!("{column} = excluded.{column}")).collect();
            format!(
                "INSERT{or} INTO main.{name} ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {}",
                into.join(", "),
                places.join(", "),
                conflict_target(table),
                sets.join(", ")
            )
        }
        Kind::Update => {
            let sets: Vec<_> = names
                .iter()
                .enumerate()
                .map(|(place, column)| format!("{column} = ?{}", place + 1))
                .collect();
            let condition = key_condition(table, names.len() + 1);
            format!("UPDATE{or} main.{name} SET {} WHERE {condition}", sets.join(", "))
        }
        Kind::Delete => format!("DELETE FROM main.{name} WHERE {}", key_condition(table, 1)),
        Kind::Read => {
            let mut all: Vec<_> = table.present_names().map(ident).collect();
            all.extend(replicated.rowid().map(str::to_owned));
            format!("SELECT {} FROM main.{name} WHERE {}", all.join(", "), key_condition(table, 1))
        }
    }
}

/// A statement of each kind that writes to a table.
pub(in crate::store) fn write_statements(replicated: &ReplicatedTable) -> [String; 3] {
    let all: Vec<_> = (0..replicated.table.columns.len() as u16).collect();
    [Kind::Upsert, Kind::Update, Kind::Delete].map(|kind| match kind {
        Kind::Delete => sql(replicated, kind, &[]),
        _ => sql(replicated, kind, &all),
    })
}

/// The columns of the primary key, in a form that matches no other UNIQUE index of the same
/// columns.
fn conflict_target(table: &Table) -> String {
    let parts: Vec<_> = table
        .key_columns()
        .zip(&table.key_collations)
        .map(|(column, collation)| match table.rowid_key {
            true => ident(&column.present),
            false => format!("{} COLLATE {}", ident(&column.present), collation.name()),
        })
        .collect();
    parts.join(", ")
}
