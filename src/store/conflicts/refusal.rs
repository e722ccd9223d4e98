//! Why a lost event cannot be restored.

use rusqlite::Connection;

use crate::catalog::{Table, ident};
use crate::error::{Code, Error, Result};
use crate::event::Image;
use crate::event::value::{Value, ValueRef};

/// The hint of an error that is caused by a foreign key.
pub(in crate::store) const FOREIGN_HINT: &str =
    "restore or change the other row first, or `driftless conflicts dismiss` it";

pub(in crate::store) fn no_parent(parent: &str) -> String {
    format!("the row of table `{parent}` that it refers to is missing")
}

pub(in crate::store) fn cannot(reason: &str) -> Error {
    Error::new(Code::CannotRestore, reason)
        .with_hint("make room for it first, or `driftless conflicts dismiss` it")
}

/// The parent table of the first foreign key of a row whose parent is missing.
pub(in crate::store) fn missing_parent(
    db: &Connection,
    table: &Table,
    image: &Image,
) -> Result<Option<String>> {
    let value = |name: &str| {
        image.0.iter().find(|(mine, _)| mine.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    for key in &table.foreign_keys {
        let values: Option<Vec<&Value>> = key
            .columns
            .iter()
            .map(|(child, _)| value(child).filter(|value| **value != Value::Null))
            .collect();
        let Some(values) = values else { continue };
        let own = key.parent.eq_ignore_ascii_case(&table.name)
            && key.columns.iter().all(|(child, parent)| value(child) == value(parent));
        if own {
            continue;
        }
        let conditions: Vec<_> = key
            .columns
            .iter()
            .enumerate()
            .map(|(at, (_, parent))| format!("{} = ?{}", ident(parent), at + 1))
            .collect();
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM main.{} WHERE {})",
            ident(&key.parent),
            conditions.join(" AND ")
        );
        let values = values.into_iter().map(ValueRef::from);
        let found: bool = db
            .prepare_cached(&sql)?
            .query_row(rusqlite::params_from_iter(values), |row| row.get(0))?;
        if !found {
            return Ok(Some(key.parent.clone()));
        }
    }
    Ok(None)
}
