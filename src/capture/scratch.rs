//! Another database's definitions, made anew in memory, for SQLite's own pragmas to read.
//!
//! They come from the remote, and are no more to be trusted than its events: what is called the
//! definition of a table may be any SQL. So each text is one statement, an authorizer lets it do
//! nothing but make a table, an index or a virtual table, and its work is bounded. What is read
//! from the scratch database afterwards is SQLite's own record of what was made.

use std::collections::HashSet;

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;

use super::sql::ident;
use super::table::PREFIX;
use crate::error::{Error, Result};

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
pub(super) struct Scratch {
    pub(super) db: Connection,
    /// Names, each with the reason.
    pub(super) skipped: Vec<(String, String)>,
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

fn tables(db: &Connection) -> Result<HashSet<String>> {
    let mut statement = db.prepare("SELECT lower(name) FROM sqlite_schema WHERE type = 'table'")?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

impl Scratch {
    /// Those among children and parents where a foreign key leads to columns that are no key of the
    /// parent. The tables are empty, so that SQLite looks at nothing but the definitions.
    pub(super) fn unfounded(&self, parents: &[(String, String)]) -> Vec<(String, String)> {
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
    /// # Errors
    ///
    /// `Corrupt` when there are more than any database has; `Storage` when SQLite fails.
    pub(super) fn of(schema: &[Definition]) -> Result<Scratch> {
        if schema.len() > MAX_DEFINITIONS {
            return Err(Error::corrupt(format!(
                "a database with {} definitions is more than can be read",
                schema.len()
            )));
        }
        let db = Connection::open_in_memory()?;
        db.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, MAX_SQL_BYTES)?;
        db.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_SQL_BYTES)?;
        let mut scratch = Scratch { db, skipped: Vec::new() };
        let mut of_virtual = HashSet::new();
        for wanted in ["table", "index"] {
            for (kind, name, _, sql) in schema {
                let Some(sql) = sql else { continue };
                if kind != wanted || name.starts_with("sqlite_") || name.starts_with(PREFIX) {
                    continue;
                }
                if wanted == "table" && of_virtual.contains(&name.to_ascii_lowercase()) {
                    let reason = format!("`{name}` is part of a virtual table");
                    let reason = format!("{reason} and cannot be replicated");
                    scratch.skipped.push((name.clone(), reason));
                    continue;
                }
                let made = scratch.make(sql);
                if let Err(error) = made
                    && wanted == "table"
                {
                    let reason = format!("`{name}` cannot be read here: {error}");
                    scratch.skipped.push((name.clone(), reason));
                } else if is_virtual(sql) {
                    of_virtual = tables(&scratch.db)?;
                }
            }
        }
        scratch.db.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
        scratch.db.progress_handler(0, None::<fn() -> bool>)?;
        Ok(scratch)
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
