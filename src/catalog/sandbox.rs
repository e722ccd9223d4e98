//! Another database's definitions, made anew in memory, for SQLite's own pragmas to read.
//!
//! They come from the remote, and are no more to be trusted than its events: what is called the
//! definition of a table may be any SQL. So each text is one statement, an authorizer lets it do
//! nothing but make a table, an index or a virtual table, and its work is bounded. What is read
//! from the scratch database afterwards is SQLite's own record of what was made.

use std::collections::HashSet;

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, params_from_iter};

use super::limits::PREFIX;
use super::quote::ident;
use crate::error::{Code, Error, Result};
use crate::event::value::{Value, ValueRef};

/// A row of `sqlite_schema`: `type`, `name`, `tbl_name`, `sql`.
type Definition = (String, String, String, Option<String>);

/// The most definitions that are read: each takes a look at all others, and a database that people
/// work with has a few hundred.
const MAX_DEFINITIONS: usize = 10_000;

/// The most bytes of one definition. A table of 200 columns with a CHECK for each has 20,000.
const MAX_SQL_BYTES: i32 = 1 << 20;

/// Instructions of SQLite's machine for one definition: a full-text table's takes some thousands.
const MAX_INSTRUCTIONS: i32 = 1_000_000;

/// What was made, and what could not be.
pub(crate) struct Scratch {
    db: Connection,
    /// Names, each with the reason.
    skipped: Vec<(String, String)>,
    /// Those among them that are ordinary tables, and could not be made.
    unmade: Vec<String>,
    /// Those among them that are shadow tables.
    shadows: Vec<String>,
}

/// What a definition may do, beside making what it names: SQLite asks about each step. `within` a
/// virtual table, its module also fills tables of its own.
fn authorize(action: &AuthAction<'_>, within: bool) -> Authorization {
    let allowed = match action {
        AuthAction::CreateTable { .. }
        | AuthAction::CreateIndex { .. }
        | AuthAction::Reindex { .. }
        | AuthAction::Read { .. } => true,
        AuthAction::Insert { table_name } | AuthAction::Update { table_name, .. } => {
            within || table_name.eq_ignore_ascii_case("sqlite_master")
        }
        AuthAction::Function { function_name } => {
            !function_name.eq_ignore_ascii_case("load_extension")
        }
        AuthAction::CreateVtable { .. }
        | AuthAction::Delete { .. }
        | AuthAction::Select
        | AuthAction::Pragma { .. } => within,
        _ => false,
    };
    if allowed { Authorization::Allow } else { Authorization::Deny }
}

/// Whether a definition is one of a virtual table: SQLite's record of one begins so.
fn is_virtual(sql: &str) -> bool {
    let mut words = sql.split_ascii_whitespace();
    let mut is = |word: &str| words.next().is_some_and(|found| found.eq_ignore_ascii_case(word));
    is("create") && is("virtual")
}

/// Whether a definition is one of libSQL's vector index, which keeps its data in a table.
fn is_vector(sql: &str) -> bool {
    sql.to_ascii_lowercase().contains("libsql_vector_idx")
}

/// Whether `name` is that of a shadow table of `of`: its name, an underline, and more. That of a
/// vector index is the one word `shadow`.
fn begins_like(name: &str, of: &str, any: bool) -> bool {
    let rest = name.get(of.len()..).and_then(|rest| rest.strip_prefix('_'));
    let begins = name.get(..of.len()).is_some_and(|start| start.eq_ignore_ascii_case(of));
    begins && rest.is_some_and(|rest| any || rest.eq_ignore_ascii_case("shadow"))
}

fn tables(db: &Connection) -> Result<HashSet<String>> {
    let mut statement = db.prepare("SELECT lower(name) FROM sqlite_schema WHERE type = 'table'")?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

/// Runs statements of ours over another database's definitions, made anew in memory: what this
/// refuses that database would refuse, too.
/// Each statement is its text and what is bound to its parameters.
///
/// # Errors
///
/// `Usage`, naming what cannot be made.
pub fn rehearse<'a>(
    schema: &[Definition],
    statements: impl IntoIterator<Item = (&'a str, &'a [Value])>,
) -> Result<()> {
    let db = Scratch::of(schema)?.db;
    for limit in [Limit::SQLITE_LIMIT_SQL_LENGTH, Limit::SQLITE_LIMIT_LENGTH] {
        db.set_limit(limit, i32::MAX)?;
    }
    for (sql, args) in statements {
        let args = params_from_iter(args.iter().map(ValueRef::from));
        let done = db.prepare(sql).and_then(|mut made| made.query(args)?.next().map(|_| ()));
        if let Err(source) = done {
            let what: Vec<_> = sql.split_whitespace().take(6).collect();
            let what = what.join(" ");
            let message = format!("the remote cannot take `{what} …`: {source}");
            return Err(Error::new(Code::DefinitionRefused, message)
                .with_hint("nothing was changed: change what stands in the way, on either side"));
        }
    }
    Ok(())
}

impl Scratch {
    /// The database in memory.
    pub(crate) fn db(&self) -> &Connection {
        &self.db
    }

    /// The tables that were not made: each name, with the reason.
    pub(crate) fn skipped(&self) -> &[(String, String)] {
        &self.skipped
    }

    /// The shadow tables among the skipped ones, by their names.
    pub(crate) fn shadows(&self) -> &[String] {
        &self.shadows
    }

    /// The ordinary tables that could not be made, by their names.
    pub(crate) fn unmade(&self) -> &[String] {
        &self.unmade
    }

    /// Those among children and parents where a foreign key leads to columns that are no key of the
    /// parent. The tables are empty, so that SQLite looks at nothing but the definitions.
    pub(crate) fn unfounded(&self, parents: &[(String, String)]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (child, parent) in parents {
            let check = format!("PRAGMA foreign_key_check({})", ident(child));
            let mismatch = format!("foreign key mismatch - \"{child}\" referencing \"{parent}\"");
            let checked =
                self.db.prepare(&check).and_then(|mut check| check.query([])?.next().map(|_| ()));
            // Another error is of a parent that is not there, and for others to tell.
            if checked.is_err_and(|error| error.to_string().contains(&mismatch)) {
                found.push((child.clone(), parent.clone()));
            }
        }
        found
    }

    /// Makes the tables and indexes of `schema`. Objects that this SQLite cannot make, or that are
    /// no definitions, are left out.
    ///
    /// A virtual table makes tables of its own, its shadow tables. The order of the definitions
    /// does not tell which they are: VACUUM writes the virtual tables last. So a table whose name
    /// begins like that of a virtual table is made after it, if it is not there by then.
    ///
    /// # Errors
    ///
    /// `Corrupt` when there are more than any database has; `Storage` when SQLite fails.
    pub(crate) fn of(schema: &[Definition]) -> Result<Scratch> {
        let count = schema.iter().filter(|(kind, ..)| kind != "trigger").count();
        if count > MAX_DEFINITIONS {
            return Err(Error::corrupt(format!(
                "a database with {count} definitions is more than can be read"
            )));
        }
        let db = Connection::open_in_memory()?;
        db.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, MAX_SQL_BYTES)?;
        db.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_SQL_BYTES)?;
        let (skipped, unmade, shadows) = (Vec::new(), Vec::new(), Vec::new());
        let mut scratch = Scratch { db, skipped, unmade, shadows };
        let foreign = |name: &str| !name.starts_with("sqlite_") && !name.starts_with(PREFIX);
        let of_kind = |wanted: &'static str| {
            schema.iter().filter_map(move |(kind, name, _, sql)| {
                let sql = sql.as_deref()?;
                (kind == wanted && foreign(name)).then_some((name.as_str(), sql))
            })
        };
        let virtuals: Vec<_> = of_kind("table").filter(|(_, sql)| is_virtual(sql)).collect();
        let vectors: Vec<_> =
            of_kind("index").filter(|(_, sql)| is_vector(sql)).map(|(name, _)| name).collect();
        let parent = |name: &str| {
            let of = virtuals.iter().map(|(of, _)| *of).find(|of| begins_like(name, of, true));
            of.or_else(|| vectors.iter().copied().find(|of| begins_like(name, of, false)))
        };
        let (parts, plain): (Vec<_>, Vec<_>) = of_kind("table")
            .filter(|(_, sql)| !is_virtual(sql))
            .partition(|(name, _)| parent(name).is_some());
        for (name, sql) in plain {
            scratch.make_table(name, sql);
        }
        let mut unknown = HashSet::new();
        for &(name, sql) in &virtuals {
            if !scratch.make_table(name, sql) {
                unknown.insert(name);
            }
        }
        scratch.db.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
        let made = tables(&scratch.db)?;
        for (name, sql) in parts {
            let of = parent(name).expect("it was told apart by its parent");
            // Of a module that is unknown here, nobody can tell which tables are its own.
            if made.contains(&name.to_ascii_lowercase())
                || unknown.contains(of)
                || vectors.contains(&of)
            {
                let reason = format!("`{name}` is part of `{of}` and cannot be replicated");
                scratch.skipped.push((name.to_owned(), reason));
                if !unknown.contains(of) {
                    scratch.shadows.push(name.to_owned());
                }
            } else {
                scratch.make_table(name, sql);
            }
        }
        for (_, sql) in of_kind("index") {
            // One that cannot be made here is not needed here.
            let _ = scratch.make(sql);
        }
        scratch.db.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
        scratch.db.progress_handler(0, None::<fn() -> bool>)?;
        Ok(scratch)
    }

    /// Makes a table, or notes why it cannot be made. Whether it was made.
    fn make_table(&mut self, name: &str, sql: &str) -> bool {
        let made = self.make(sql);
        if let Err(error) = &made {
            // Without the statement, which can be long.
            let why = match error {
                rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
                other => other.to_string(),
            };
            let reason = format!("`{name}` cannot be read here: {why}");
            self.skipped.push((name.to_owned(), reason));
            if !is_virtual(sql) {
                self.unmade.push(name.to_owned());
            }
        }
        made.is_ok()
    }

    /// Runs one definition.
    fn make(&mut self, sql: &str) -> rusqlite::Result<()> {
        let within = is_virtual(sql);
        self.db
            .authorizer(Some(move |context: AuthContext<'_>| authorize(&context.action, within)))?;
        self.db.progress_handler(MAX_INSTRUCTIONS, Some(|| true))?;
        self.db.execute(sql, []).map(|_| ())
    }
}
