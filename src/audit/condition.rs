//! A condition in SQL over one event or one changed row, as `--where` has it.
//!
//! The condition runs in a database in memory that has no tables: it sees the fields of what it is
//! asked about, and nothing else.

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use crate::error::{Code, Error, Result};
use crate::event::value::Value;

/// The fields of an event that a condition may name, in the order of [`Condition::takes`].
pub(crate) const EVENT_FIELDS: [&str; 13] = [
    "seq", "id", "made_at", "origin", "actor", "unit", "tbl", "key", "op", "verdict", "reason",
    "before", "after",
];

/// The fields of a changed row that a condition may name.
pub(crate) const ROW_FIELDS: [&str; 5] = ["tbl", "key", "op", "before", "after"];

/// A condition in SQL.
pub struct Condition {
    db: Connection,
    sql: String,
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Condition").field(&self.sql).finish()
    }
}

impl Condition {
    /// The condition `text` over these fields.
    ///
    /// # Errors
    ///
    /// `Usage`, with SQLite's words, when it is not one.
    pub fn new(text: &str, fields: &[&str]) -> Result<Condition> {
        let columns: Vec<_> =
            fields.iter().enumerate().map(|(at, name)| format!("?{} AS {name}", at + 1)).collect();
        let sql = format!(
            "SELECT coalesce((SELECT ({text}\n) FROM (SELECT {})), 0) <> 0",
            columns.join(", ")
        );
        let mut db = Connection::open_in_memory()?;
        db.authorizer(Some(|context: AuthContext<'_>| match context.action {
            AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => {
                Authorization::Allow
            }
            AuthAction::Function { function_name } if function_name != "load_extension" => {
                Authorization::Allow
            }
            _ => Authorization::Deny,
        }))?;
        let wrong = |error: rusqlite::Error| {
            let message = format!("the condition `{text}` is not valid: {}", said(&error));
            Error::new(Code::QueryRefused, message)
                .with_hint(format!("it may name {}", fields.join(", ")))
        };
        db.prepare_cached(&sql).map_err(wrong)?;
        Ok(Condition { db, sql })
    }

    /// Whether it holds for these values, one for each field.
    ///
    /// # Errors
    ///
    /// `Usage`, with SQLite's words, when it cannot be computed.
    pub fn takes(&self, values: &[Value]) -> Result<bool> {
        let mut statement = self.db.prepare_cached(&self.sql)?;
        let values = values.iter().map(crate::event::value::ValueRef::from);
        let held = statement.query_row(rusqlite::params_from_iter(values), |row| row.get(0));
        held.map_err(|error| {
            let message = format!("the condition cannot be computed: {}", said(&error));
            Error::new(Code::QueryRefused, message)
        })
    }
}

/// SQLite's own words.
pub(crate) fn said(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}
