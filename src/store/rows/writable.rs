//! Whether this connection can write to a table.

use rusqlite::Connection;

use super::refusal::{is_uncompiled, message};
use super::writer::write_statements;
use crate::error::Result;
use crate::store::schema::replicated::ReplicatedTable;

/// The remedy for a table that cannot be written.
pub(in crate::store) const ADVICE: &str = "do the first sync where the application registers it: \
                                 `Builder::on_connect`; or leave the table out";

/// A table that cannot be written here.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Unwritable {
    /// The table.
    pub table: String,
    /// Why.
    pub reason: String,
}

/// Compiles a statement of each kind. Returns the reason why the connection cannot write to a
/// table, if it cannot.
pub(in crate::store) fn unwritable(
    db: &Connection,
    replicated: &ReplicatedTable,
) -> Result<Option<String>> {
    for sql in write_statements(replicated) {
        match db.prepare(&sql) {
            Ok(_) => {}
            Err(error) if is_uncompiled(&error) => {
                let name = &replicated.table.name;
                let why = message(&error);
                let place = place(db, name, &why)?.unwrap_or_default();
                return Ok(Some(format!("table `{name}` cannot be written here: {why}{place}")));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// Names the definition that needs the function or collation which is missing by SQLite's message.
/// `None` if no definition mentions it.
pub(in crate::store) fn place(
    db: &Connection,
    table: &str,
    message: &str,
) -> Result<Option<String>> {
    let Some((_, missing)) = message.rsplit_once(": ") else { return Ok(None) };
    let missing = missing.trim_end_matches("()");
    let missing = missing.strip_prefix("main.").unwrap_or(missing);
    // The table's own definitions are checked first. One of its triggers may fire a trigger of
    // another table.
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema
               WHERE sql NOT NULL AND type IN ('index', 'trigger', 'table')
               AND (type <> 'table' OR name = ?1 COLLATE NOCASE)
               ORDER BY tbl_name <> ?1 COLLATE NOCASE, type, rowid";
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query([table])?;
    while let Some(row) = rows.next()? {
        let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
        let (of, sql): (String, String) = (row.get(2)?, row.get(3)?);
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        if !sql.split(|c| !is_word(c)).any(|word| word.eq_ignore_ascii_case(missing)) {
            continue;
        }
        return Ok(Some(match (kind.as_str(), of.eq_ignore_ascii_case(table)) {
            ("table", _) => match column_with(db, table, missing)? {
                Some(column) => format!(" (in its column `{column}`)"),
                None => " (in its definition)".to_owned(),
            },
            (kind, true) => format!(" (in its {kind} `{name}`)"),
            (kind, false) => format!(" (in the {kind} `{name}` of table `{of}`)"),
        }));
    }
    Ok(None)
}

/// The column that has a collation.
fn column_with(db: &Connection, table: &str, collation: &str) -> Result<Option<String>> {
    let mut statement = db.prepare("SELECT name FROM pragma_table_xinfo(?1) ORDER BY cid")?;
    let names = statement.query_map([table], |row| row.get::<_, String>(0))?;
    for name in names {
        let name = name?;
        let (_, found, ..) = db.column_metadata(Some("main"), table, name.as_str())?;
        if found.is_some_and(|found| found.to_string_lossy().eq_ignore_ascii_case(collation)) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
