//! The tables as they were: any query over a former state, and a copy of it.
//!
//! A [`Past`] is a connection of its own to the replica's file, in one read transaction. The rows
//! that have changed since the point are put into TEMP tables, as they were; over each replicated
//! table stands a TEMP view of its name, which leaves these rows out of the table and takes them
//! from there. SQLite looks for TEMP names first, so a query needs no change. The work is that of
//! the events since, and not of the tables' size.
//!
//! The application's views are made again as TEMP views, so that they see the former rows too.
//!
//! # Caveats
//!
//! * An authorizer refuses all writes, and everything that would show the present in the past's
//!   place: a table by its schema (`main.members`), tables that are not replicated, virtual tables
//!   and driftless's own. `rowid` is no column of a view.
//! * The former tables have the columns of today. A row that did not have one has its default.
//! * The file's write-ahead log cannot be written back while a `Past` is open.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::ValueRef as SqlRef;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::changes::{Changes, Scope};
use super::condition::said;
use super::delta::{Known, fold, get, underlay};
use super::point::Point;
use crate::catalog::index_sql::names_main;
use crate::catalog::{Column, PREFIX, Table, create_if_missing, ident};
use crate::error::{Code, Error, Result};
use crate::event::value::{Value, ValueRef};
use crate::event::{Image, RowKey, Seq};
use crate::store::{LogReader, OnConnect};

/// How long a lock of another program is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The cache of the TEMP tables, in KiB.
const CACHE_KIB: i64 = 16 << 10;
/// Schema functions that a query may read.
const PRAGMAS: [&str; 5] =
    ["table_list", "table_info", "table_xinfo", "index_list", "foreign_key_list"];

/// A replicated table, and how its former rows stand in the TEMP schema.
struct Former {
    table: Table,
    /// All columns that a query sees, in their order.
    visible: Vec<String>,
    /// Whether any row of it has changed since.
    is_changed: bool,
    number: usize,
}

/// What a [`Past`] has been made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Rewound {
    /// Events of the log since the point.
    pub events: u64,
    /// Rows that have changed since.
    pub rows: u64,
    /// Rows of which the log does not tell all values at the point: events without old values, of
    /// rows that are older than the log.
    pub uncertain: u64,
}

/// The tables as they were at a point.
pub struct Past {
    db: Connection,
    former: Vec<Former>,
    rewound: Rewound,
    is_past: bool,
    refused: Arc<Mutex<Option<String>>>,
}

impl std::fmt::Debug for Past {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Past").field("rewound", &self.rewound).finish_non_exhaustive()
    }
}

impl Past {
    /// The state of the file at `path` at a point. `tables` are its replicated tables.
    /// `watch` is told how many events were read.
    ///
    /// # Errors
    ///
    /// `Usage` when the log here does not go back so far, `Corrupt` when a frame is damaged,
    /// `Storage` when the database fails.
    pub(crate) fn open(
        path: &Path,
        on_connect: &OnConnect,
        tables: Vec<Table>,
        point: Point,
        watch: &mut dyn FnMut(u64),
    ) -> Result<Past> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        on_connect.run(&db)?;
        Past::over(db, tables, point, watch)
    }

    fn over(
        db: Connection,
        tables: Vec<Table>,
        point: Point,
        watch: &mut dyn FnMut(u64),
    ) -> Result<Past> {
        db.pragma_update(None, "temp_store", "FILE")?;
        db.pragma_update(Some("temp"), "cache_size", -CACHE_KIB)?;
        db.pragma_update(None, "foreign_keys", false)?;
        db.pragma_update(None, "ignore_check_constraints", true)?;
        db.execute_batch("BEGIN")?;
        let mut past = Past {
            former: Vec::new(),
            rewound: Rewound::default(),
            is_past: point != Point::Now,
            refused: Arc::default(),
            db,
        };
        let log = LogReader::over(&past.db);
        point.check(&log)?;
        // It fixes the moment of the transaction, too.
        let from = point.seq(&log)?;
        let mut former = Vec::new();
        for (number, table) in tables.into_iter().enumerate() {
            let visible = visible_columns(&past.db, &table.name)?;
            former.push(Former { table, visible, is_changed: false, number });
        }
        let mut rewound = Rewound::default();
        if point != Point::Now {
            let rewinder =
                Rewinder { log: &log, from, former: &mut former, rewound: Rewound::default() };
            rewound = rewinder.run(watch)?;
            for one in former.iter().filter(|one| one.is_changed) {
                one.create_view(&past.db)?;
            }
            create_views(&past.db)?;
        }
        drop(log);
        (past.former, past.rewound) = (former, rewound);
        past.guard()?;
        Ok(past)
    }

    /// What it has been made of.
    pub fn rewound(&self) -> Rewound {
        self.rewound
    }

    /// Lets nothing through from here on but reading, and of the past what is of the past.
    fn guard(&mut self) -> Result<()> {
        let lower = |name: &str| name.to_ascii_lowercase();
        let replicated: HashSet<String> =
            self.former.iter().map(|one| lower(&one.table.name)).collect();
        let changed = self.former.iter().filter(|one| one.is_changed);
        let changed: HashSet<String> = changed.map(|one| lower(&one.table.name)).collect();
        let views = view_names(&self.db)?;
        let is_past = self.is_past;
        let refused = Arc::clone(&self.refused);
        self.db.authorizer(Some(move |context: AuthContext<'_>| {
            let refuse = |why: String| {
                *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                Authorization::Deny
            };
            match context.action {
                AuthAction::Select | AuthAction::Recursive => Authorization::Allow,
                AuthAction::Function { function_name: "load_extension" } => {
                    refuse("it would load an extension".to_owned())
                }
                AuthAction::Function { .. } => Authorization::Allow,
                AuthAction::Pragma { pragma_name, .. } if PRAGMAS.contains(&pragma_name) => {
                    Authorization::Allow
                }
                AuthAction::Read { table_name, column_name } => {
                    let name = lower(table_name);
                    let is_temp = context.database_name == Some("temp");
                    if !is_past || is_temp || name.starts_with("sqlite_") || views.contains(&name) {
                        return Authorization::Allow;
                    }
                    let by_view = context.accessor.is_some_and(|view| lower(view) == name);
                    // A table of which no column is read, as in `count(*)`, is named without the
                    // view; that it is not named by its schema is checked in the query's text.
                    let by_view = by_view || column_name.is_empty();
                    if replicated.contains(&name) && (by_view || !changed.contains(&name)) {
                        return Authorization::Allow;
                    }
                    refuse(match replicated.contains(&name) {
                        true => format!(
                            "`main.{table_name}` is the present; write `{table_name}` for what was"
                        ),
                        false if name.starts_with(PREFIX) => {
                            format!("`{table_name}` is driftless's own, and not of the past")
                        }
                        false => format!(
                            "table `{table_name}` is not replicated, so the log does not know what \
                             it was"
                        ),
                    })
                }
                _ => refuse("it would change something, and this only reads".to_owned()),
            }
        }))?;
        Ok(())
    }

    /// Runs one query. `head` gets the names of its columns, and then `visit` each row.
    ///
    /// # Errors
    ///
    /// `Usage`, with SQLite's words or with what was refused, when it is not one query that can be
    /// answered. What `visit` returns ends it.
    pub fn query(
        &self,
        sql: &str,
        head: &mut dyn FnMut(&[&str]) -> Result<()>,
        visit: &mut dyn FnMut(Vec<Value>) -> Result<()>,
    ) -> Result<()> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        let sql = sql.trim().trim_end_matches(';');
        if self.is_past && names_main(sql) {
            let message = "the query is refused: `main.` names the present";
            return Err(Error::new(Code::QueryRefused, message)
                .with_hint("write the table's name alone for what was, and give no alias `main`"));
        }
        let mut statement = self.db.prepare(sql).map_err(|error| self.wrong(&error))?;
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        head(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
        let mut rows = statement.query([]).map_err(|error| self.wrong(&error))?;
        while let Some(row) = rows.next().map_err(|error| self.wrong(&error))? {
            let values = (0..names.len()).map(|at| row.get_ref(at).map(value));
            visit(values.collect::<rusqlite::Result<_>>()?)?;
        }
        Ok(())
    }

    /// Whether a query's first value is true; no row is false.
    ///
    /// # Errors
    ///
    /// As for [`Past::query`].
    pub fn holds(&self, sql: &str) -> Result<bool> {
        let mut held = false;
        let mut first = true;
        self.query(sql, &mut |_| Ok(()), &mut |row| {
            if std::mem::take(&mut first) {
                held = match row.first() {
                    None | Some(Value::Null) => false,
                    Some(Value::Integer(integer)) => *integer != 0,
                    Some(Value::Real(real)) => *real != 0.0,
                    Some(_) => true,
                };
            }
            Ok(())
        })?;
        Ok(held)
    }

    /// The replicated tables, in the order of their names.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Table> {
        self.former.iter().map(|one| &one.table)
    }

    /// Gives each row of a query to `visit`, without a copy of its values.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails. What `visit` returns ends it.
    pub(crate) fn raw(
        &self,
        sql: &str,
        visit: &mut dyn FnMut(&rusqlite::Row<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut statement = self.db.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            visit(row)?;
        }
        Ok(())
    }

    /// What the replica's schema has beside its replicated tables.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub(crate) fn definitions(&self) -> Result<Vec<Definition>> {
        let sql = "SELECT type, name, tbl_name, sql FROM main.sqlite_schema WHERE sql IS NOT NULL
                   ORDER BY CASE type WHEN 'index' THEN 0 ELSE 1 END, rowid";
        let mut found = Vec::new();
        self.raw(sql, &mut |row| {
            let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
            let (table, sql): (String, String) = (row.get(2)?, row.get(3)?);
            let is_here = self.tables().any(|one| one.name.eq_ignore_ascii_case(&table));
            let ours = is_ours(&name) || is_ours(&table);
            match kind.as_str() {
                _ if ours || name.starts_with("sqlite_") => {}
                "index" if is_here => found.push(Definition::Indexed(sql)),
                "view" => found.push(Definition::View(name, sql)),
                "trigger" if is_here => {
                    let what = format!("trigger `{name}`: it would run again on what it has done");
                    found.push(Definition::LeftOut(what));
                }
                "table" if !is_here => {
                    found
                        .push(Definition::LeftOut(format!("table `{name}`: it is not replicated")));
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn wrong(&self, error: &rusqlite::Error) -> Error {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        match refused {
            Some(why) => Error::new(Code::QueryRefused, format!("the query is refused: {why}"))
                .with_hint("write one SELECT over the replicated tables and the views over them"),
            None => Error::new(Code::QueryRefused, format!("the query fails: {}", said(error))),
        }
    }
}

/// Something of the replica's schema beside its replicated tables.
pub(crate) enum Definition {
    /// An index of a replicated table.
    Indexed(String),
    /// A view, with its name.
    View(String, String),
    /// What a copy does not have.
    LeftOut(String),
}

/// Whether a name is of driftless.
fn is_ours(name: &str) -> bool {
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// The value of a column of a result.
fn value(value: SqlRef<'_>) -> Value {
    match value {
        SqlRef::Null => Value::Null,
        SqlRef::Integer(integer) => Value::Integer(integer),
        SqlRef::Real(real) => Value::Real(real),
        SqlRef::Text(text) => Value::Text(text.to_vec()),
        SqlRef::Blob(blob) => Value::Blob(blob.to_vec()),
    }
}

/// The columns that `SELECT *` gives, generated ones too.
fn visible_columns(db: &Connection, table: &str) -> Result<Vec<String>> {
    let sql = "SELECT name FROM pragma_table_xinfo(?1, 'main') WHERE hidden <> 1 ORDER BY cid";
    let mut statement = db.prepare_cached(sql)?;
    let names = statement.query_map([table], |row| row.get(0))?;
    Ok(names.collect::<rusqlite::Result<_>>()?)
}

fn view_names(db: &Connection) -> Result<HashSet<String>> {
    let mut statement =
        db.prepare("SELECT lower(name) FROM main.sqlite_schema WHERE type = 'view'")?;
    let names = statement.query_map([], |row| row.get(0))?;
    Ok(names.collect::<rusqlite::Result<_>>()?)
}

/// Makes the application's views again in the TEMP schema. One that names a schema would show the
/// present; in its place stands one that SQLite refuses, with these words.
fn create_views(db: &Connection) -> Result<()> {
    let mut statement =
        db.prepare("SELECT name, sql FROM main.sqlite_schema WHERE type = 'view' ORDER BY rowid")?;
    let views =
        statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    for (name, sql) in views.collect::<rusqlite::Result<Vec<_>>>()? {
        let rest = sql.strip_prefix("CREATE VIEW").filter(|rest| !names_main(rest));
        let made = rest.map(|rest| db.execute_batch(&format!("CREATE TEMP VIEW{rest}")));
        if !matches!(made, Some(Ok(()))) {
            let why = ident(&format!("what view {name} shows is the present"));
            let name = ident(&name);
            db.execute_batch(&format!("CREATE TEMP VIEW {name} AS SELECT * FROM temp.{why}"))?;
        }
    }
    Ok(())
}

/// Puts the rows that have changed since a point into TEMP tables, as they were.
struct Rewinder<'a, 'db> {
    log: &'a LogReader<'db>,
    from: Seq,
    former: &'a mut [Former],
    rewound: Rewound,
}

impl Rewinder<'_, '_> {
    fn run(mut self, watch: &mut dyn FnMut(u64)) -> Result<Rewound> {
        let (log, from) = (self.log, self.from);
        self.rewound.events = log.count(from, log.head()?)?;
        // An event in quarantine has not reached its table: only the log knows the row.
        let waiting: Vec<_> = log.waiting()?.into_iter().filter(|one| one.seq <= from).collect();
        let place = |table: &str, key: &RowKey| (table.to_ascii_lowercase(), key.clone());
        let mut left: BTreeSet<_> = waiting.iter().map(|one| place(&one.table, &one.key)).collect();
        let changes = Changes::between(log, from, Point::Now, &Scope::default(), watch)?;
        changes.each(log, from, &mut |table, key, delta| {
            let waits = left.remove(&place(table, &key));
            let earlier = if waits { self.earlier(table, &key)? } else { None };
            let start = earlier.unwrap_or_else(|| delta.start().clone());
            self.put(table, &key, start, !delta.is_unsure())
        })?;
        for (table, key) in left {
            match self.earlier(&table, &key)? {
                Some(start) => self.put(&table, &key, start, true)?,
                None => self.rewound.uncertain += 1,
            }
        }
        Ok(self.rewound)
    }

    /// What a row's events up to the point say of it.
    fn earlier(&self, table: &str, key: &RowKey) -> Result<Option<Known>> {
        Ok(fold(&self.log.of_row(table, key, Seq(0), self.from)?.events))
    }

    fn put(&mut self, table: &str, key: &RowKey, start: Known, is_sure: bool) -> Result<()> {
        let found = self.former.iter_mut().find(|one| one.table.name.eq_ignore_ascii_case(table));
        let Some(one) = found else { return Ok(()) };
        let mut certain = is_sure;
        let image = match start {
            Known::Absent => None,
            Known::Row { image, whole: true } => Some(image),
            Known::Row { mut image, whole: false } => {
                match self.log.row(&one.table, key)? {
                    Some(now) => underlay(&mut image, &now),
                    None => certain = false,
                }
                Some(image)
            }
        };
        self.rewound.rows += 1;
        self.rewound.uncertain += u64::from(!certain);
        one.put(self.log.db(), key, image.as_ref())
    }
}

impl Former {
    fn hidden(&self) -> String {
        format!("temp.{PREFIX}hidden_{}", self.number)
    }

    fn past(&self) -> String {
        format!("temp.{PREFIX}past_{}", self.number)
    }

    /// Notes that a row has changed, and what it was if it was there.
    fn put(&mut self, db: &Connection, key: &RowKey, image: Option<&Image>) -> Result<()> {
        if !self.is_changed {
            self.create_tables(db)?;
            self.is_changed = true;
        }
        let key = key.values()?;
        if key.len() != self.table.key.len() {
            return Ok(());
        }
        let places: Vec<_> = (1..=key.len()).map(|at| format!("?{at}")).collect();
        let sql = format!("INSERT OR IGNORE INTO {} VALUES ({})", self.hidden(), places.join(", "));
        let key = key.iter().map(ValueRef::from);
        db.prepare_cached(&sql)?.execute(params_from_iter(key))?;
        let Some(image) = image else { return Ok(()) };
        let columns: Vec<_> =
            self.table.column_names().filter_map(|name| Some((name, get(image, name)?))).collect();
        let names: Vec<_> = columns.iter().map(|(name, _)| ident(name)).collect();
        let places: Vec<_> = (1..=columns.len()).map(|at| format!("?{at}")).collect();
        let (names, places) = (names.join(", "), places.join(", "));
        let sql = format!("INSERT INTO {} ({names}) VALUES ({places})", self.past());
        let values = columns.iter().map(|(_, value)| ValueRef::from(*value));
        db.prepare_cached(&sql)?.execute(params_from_iter(values))?;
        Ok(())
    }

    fn create_tables(&self, db: &Connection) -> Result<()> {
        let keys = self.table.key_columns().zip(&self.table.key_collations);
        let keys: Vec<_> = keys
            .enumerate()
            .map(|(at, (column, collation))| {
                format!("k{at} {} COLLATE {}", column.affinity.name(), collation.name())
            })
            .collect();
        let parts: Vec<_> = (0..keys.len()).map(|at| format!("k{at}")).collect();
        let key: Vec<_> = self.table.key_columns().map(|column| ident(&column.present)).collect();
        db.execute_batch(&format!(
            "CREATE TEMP TABLE {PREFIX}hidden_{n} ({}, PRIMARY KEY ({})) WITHOUT ROWID;
             {};
             CREATE INDEX temp.{PREFIX}past_{n}_key ON {PREFIX}past_{n} ({});",
            keys.join(", "),
            parts.join(", "),
            self.past_table(),
            key.join(", "),
            n = self.number,
        ))?;
        Ok(())
    }

    /// The statement that makes the table of former rows. It has no constraints; but where there
    /// are generated columns it is the table's own definition, since SQLite alone can say theirs.
    fn past_table(&self) -> String {
        let name = format!("{PREFIX}past_{}", self.number);
        if !self.table.generated.is_empty() {
            let own = Table { name, ..self.table.clone() };
            return create_if_missing(&own).replacen("CREATE TABLE", "CREATE TEMP TABLE", 1);
        }
        let column = |column: &Column| {
            let default = column.default.as_ref();
            let default = default.map(|sql| format!(" DEFAULT ({sql})")).unwrap_or_default();
            let (name, collation) = (ident(&column.present), ident(column.collation.name()));
            format!("{name} {} COLLATE {collation}{default}", column.affinity.name())
        };
        let columns: Vec<_> = self.table.columns.iter().map(column).collect();
        format!("CREATE TEMP TABLE {name} ({})", columns.join(", "))
    }

    /// The view of the table's name, over what has not changed and what was.
    fn create_view(&self, db: &Connection) -> Result<()> {
        let all: Vec<_> = self.visible.iter().map(|name| ident(name)).collect();
        let same: Vec<_> = self
            .table
            .key_columns()
            .zip(&self.table.key_collations)
            .enumerate()
            .map(|(at, (column, collation))| {
                format!("h.k{at} = m.{} COLLATE {}", ident(&column.present), collation.name())
            })
            .collect();
        let name = ident(&self.table.name);
        let sql = format!(
            "CREATE TEMP VIEW {name} AS SELECT {} FROM main.{name} AS m WHERE NOT EXISTS (SELECT 1 \
             FROM {} AS h WHERE {}) UNION ALL SELECT {} FROM {}",
            all.join(", "),
            self.hidden(),
            same.join(" AND "),
            all.join(", "),
            self.past(),
        );
        Ok(db.execute_batch(&sql)?)
    }
}
