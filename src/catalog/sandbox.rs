//! A sandbox: another database's definitions, run in memory, so that SQLite's pragmas can read
//! them.
//!
//! The definitions come from the remote and are not trusted: the definition of a table may be any
//! SQL. So each text is one statement, an authorizer allows only the creation of a table, an index
//! or a virtual table, and the work is bounded. Afterwards only SQLite's own record of the created
//! objects is read.

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

/// The most definitions that are read. Each is compared with all others; a normal database has a
/// few hundred.
const MAX_DEFINITIONS: usize = 10_000;

/// The most bytes of one definition. A table of 200 columns with a CHECK for each has 20,000.
const MAX_SQL_BYTES: i32 = 1 << 20;

/// The most instructions of SQLite's virtual machine for one definition. A full-text table needs
/// some thousands.
const MAX_INSTRUCTIONS: i32 = 1_000_000;

/// A database in memory with another database's tables and indexes.
pub(crate) struct Sandbox {
    db: Connection,
    /// The tables that were not made: each name, with the reason.
    skipped: Vec<(String, String)>,
    /// The ordinary tables among them.
    unmade: Vec<String>,
    /// The shadow tables among them.
    shadows: Vec<String>,
}

/// Allows the steps of a definition: SQLite asks about each. While a virtual table is created
/// (`within`), its module also writes to tables of its own.
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

/// Whether a definition is of a virtual table.
fn is_virtual(sql: &str) -> bool {
    let mut words = sql.split_ascii_whitespace();
    let mut is = |word: &str| words.next().is_some_and(|found| found.eq_ignore_ascii_case(word));
    is("create") && is("virtual")
}

/// Whether a definition is of libSQL's vector index, which keeps its data in a table.
fn is_vector(sql: &str) -> bool {
    sql.to_ascii_lowercase().contains("libsql_vector_idx")
}

/// Whether `name` is the name of a shadow table of `of`: that name, an underscore, and more. For a
/// vector index the rest is the word `shadow`.
fn begins_like(name: &str, of: &str, any: bool) -> bool {
    let rest = name.get(of.len()..).and_then(|rest| rest.strip_prefix('_'));
    let begins = name.get(..of.len()).is_some_and(|start| start.eq_ignore_ascii_case(of));
    begins && rest.is_some_and(|rest| any || rest.eq_ignore_ascii_case("shadow"))
}

fn tables(db: &Connection) -> Result<HashSet<String>> {
    let mut statement = db.prepare("SELECT lower(name) FROM sqlite_schema WHERE type = 'table'")?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

/// Runs our statements in a sandbox with another database's definitions. A statement that fails
/// here would fail in that database too. Each statement is its text and the values of its
/// parameters.
///
/// # Errors
///
/// `Usage`, with the beginning of the statement that fails.
pub fn rehearse<'a>(
    schema: &[Definition],
    statements: impl IntoIterator<Item = (&'a str, &'a [Value])>,
) -> Result<()> {
    let db = Sandbox::of(schema)?.db;
    for limit in [Limit::SQLITE_LIMIT_SQL_LENGTH, Limit::SQLITE_LIMIT_LENGTH] {
        db.set_limit(limit, i32::MAX)?;
    }
    for (sql, args) in statements {
        let args = params_from_iter(args.iter().map(ValueRef::from));
        let done = db.prepare(sql).and_then(|mut made| made.query(args)?.next().map(|_| ()));
        if let Err(source) = done {
            let what: Vec<_> = sql.split_whitespace().take(6).collect();
            let what = what.join(" ");
            let message = format!("the remote cannot run `{what} …`: {source}");
            return Err(Error::new(Code::DefinitionRefused, message).with_hint(
                "nothing was changed: change the definitions on either side so that \
                    they fit",
            ));
        }
    }
    Ok(())
}

impl Sandbox {
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

    /// The pairs of child and parent whose foreign key does not lead to a key of the parent. The
    /// tables are empty, so SQLite checks only the definitions.
    pub(crate) fn unfounded(&self, parents: &[(String, String)]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (child, parent) in parents {
            let check = format!("PRAGMA foreign_key_check({})", ident(child));
            let mismatch = format!("foreign key mismatch - \"{child}\" referencing \"{parent}\"");
            let checked =
                self.db.prepare(&check).and_then(|mut check| check.query([])?.next().map(|_| ()));
            // Any other error is of a missing parent, which is reported elsewhere.
            if checked.is_err_and(|error| error.to_string().contains(&mismatch)) {
                found.push((child.clone(), parent.clone()));
            }
        }
        found
    }

    /// Makes the tables and indexes of `schema`. Objects that this SQLite cannot make are left out,
    /// and so is text that is not a definition.
    ///
    /// A virtual table makes tables of its own, its shadow tables. The order of the definitions
    /// does not show which these are: VACUUM writes the virtual tables last. So a table whose name
    /// begins like a virtual table's is made after it, unless the virtual table has made it.
    ///
    /// # Errors
    ///
    /// `Corrupt` when there are more than any database has; `Storage` when SQLite fails.
    pub(crate) fn of(schema: &[Definition]) -> Result<Sandbox> {
        let count = schema.iter().filter(|(kind, ..)| kind != "trigger").count();
        if count > MAX_DEFINITIONS {
            return Err(Error::corrupt(format!(
                "the database has {count} definitions, which is more than can be read"
            )));
        }
        let db = Connection::open_in_memory()?;
        db.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, MAX_SQL_BYTES)?;
        db.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_SQL_BYTES)?;
        let (skipped, unmade, shadows) = (Vec::new(), Vec::new(), Vec::new());
        let mut sandbox = Sandbox { db, skipped, unmade, shadows };
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
            sandbox.make_table(name, sql);
        }
        let mut unknown = HashSet::new();
        for &(name, sql) in &virtuals {
            if !sandbox.make_table(name, sql) {
                unknown.insert(name);
            }
        }
        sandbox.db.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
        let made = tables(&sandbox.db)?;
        for (name, sql) in parts {
            let of = parent(name).expect("it was told apart by its parent");
            // The shadow tables of an unknown module are not known. Leave out every table that may
            // be one.
            if made.contains(&name.to_ascii_lowercase())
                || unknown.contains(of)
                || vectors.contains(&of)
            {
                let reason = format!("`{name}` is part of `{of}` and cannot be replicated");
                sandbox.skipped.push((name.to_owned(), reason));
                if !unknown.contains(of) {
                    sandbox.shadows.push(name.to_owned());
                }
            } else {
                sandbox.make_table(name, sql);
            }
        }
        for (_, sql) in of_kind("index") {
            // An index that cannot be made here is not needed here.
            let _ = sandbox.make(sql);
        }
        sandbox.db.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
        sandbox.db.progress_handler(0, None::<fn() -> bool>)?;
        Ok(sandbox)
    }

    /// Makes a table, or records why it cannot be made. Gives whether it was made.
    fn make_table(&mut self, name: &str, sql: &str) -> bool {
        let made = self.make(sql);
        if let Err(error) = &made {
            // The statement is left out of the message, because it may be long.
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
