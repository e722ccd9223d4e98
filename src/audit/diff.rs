//! Two points compared: the rows that differ, with their old and new values.

use super::changes::{Changes, Scope};
use super::delta::{Net, net};
use super::point::Point;
use crate::catalog::{Table, ident};
use crate::error::Result;
use crate::event::value::Value;
use crate::event::{Image, Op, RowKey};
use crate::store::LogReader;

/// A row that differs between two points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange {
    /// Its table.
    pub table: String,
    /// Its key.
    pub key: RowKey,
    /// Whether the row came, went, or has other values.
    pub op: Op,
    /// The old values: of the columns that differ, or of all if the row is gone.
    pub before: Option<Image>,
    /// The new values: of the columns that differ, or of all if the row is new.
    pub after: Option<Image>,
    /// Whether the earlier values are not sure: they are those that a writer had seen who had lost
    /// before, of a row that is older than the log here.
    pub is_uncertain: bool,
}

/// How many rows of a table differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DiffCount {
    /// The table.
    pub table: String,
    /// Rows that came.
    pub inserted: u64,
    /// Rows that went.
    pub deleted: u64,
    /// Rows with other values.
    pub updated: u64,
    /// Values of the latter that differ.
    pub values: u64,
}

impl DiffCount {
    /// Counts a row of the table.
    pub fn add(&mut self, change: &RowChange) {
        match change.op {
            Op::Insert => self.inserted += 1,
            Op::Delete => self.deleted += 1,
            Op::Update => {
                self.updated += 1;
                self.values += change.after.as_ref().map_or(0, |after| after.0.len() as u64);
            }
        }
    }
}

/// Gives the rows that differ between two points to `visit`, by table and key. `to` is not before
/// `from`. `watch` is told how many events were read.
///
/// # Errors
///
/// `Usage` when the log here does not go back so far. What `visit` returns ends the walk.
pub(crate) fn diff(
    log: &LogReader<'_>,
    from: Point,
    to: Point,
    scope: &Scope,
    watch: &mut dyn FnMut(u64),
    visit: &mut dyn FnMut(RowChange) -> Result<()>,
) -> Result<()> {
    from.check(log)?;
    let from = from.seq(log)?;
    let changes = Changes::between(log, from, to, scope, watch)?;
    changes.each(log, from, &mut |table, key, delta| {
        let (op, before, after) = match net(&delta) {
            None => return Ok(()),
            Some(Net::Inserted(image)) => (Op::Insert, None, Some(image)),
            Some(Net::Deleted(image)) => (Op::Delete, Some(image), None),
            Some(Net::Updated(before, after)) => (Op::Update, Some(before), Some(after)),
        };
        let (table, is_uncertain) = (table.to_owned(), delta.is_unsure());
        visit(RowChange { table, key, op, before, after, is_uncertain })
    })
}

impl RowChange {
    /// The same change the other way round.
    #[must_use]
    pub fn reversed(self) -> RowChange {
        let op = match self.op {
            Op::Insert => Op::Delete,
            Op::Update => Op::Update,
            Op::Delete => Op::Insert,
        };
        RowChange { op, before: self.after, after: self.before, ..self }
    }

    /// The statement that makes this change. `table` is its definition, if it is known: it has the
    /// names of the key's columns.
    pub(crate) fn to_sql(&self, table: Option<&Table>) -> String {
        let name = ident(table.map_or(&self.table, |table| &table.name));
        let values = |image: &Option<Image>| image.clone().unwrap_or_default().0;
        // An event has the name that a column has for life.
        let ident = |name: &str| {
            let column = table.and_then(|table| table.column(name));
            ident(column.map_or(name, |column| &column.present))
        };
        match self.op {
            Op::Insert => {
                let columns = values(&self.after);
                let names: Vec<_> = columns.iter().map(|(column, _)| ident(column)).collect();
                let values: Vec<_> = columns.iter().map(|(_, value)| literal(value)).collect();
                let (names, values) = (names.join(", "), values.join(", "));
                format!("INSERT INTO {name} ({names}) VALUES ({values});")
            }
            Op::Update => {
                let set: Vec<_> = values(&self.after)
                    .iter()
                    .map(|(column, value)| format!("{} = {}", ident(column), literal(value)))
                    .collect();
                format!("UPDATE {name} SET {} WHERE {};", set.join(", "), self.place(table))
            }
            Op::Delete => format!("DELETE FROM {name} WHERE {};", self.place(table)),
        }
    }

    /// The condition that finds the row.
    fn place(&self, table: Option<&Table>) -> String {
        let values = self.key.values().unwrap_or_default();
        let part = |(at, value): (usize, &Value)| {
            let (name, collation) = match table {
                Some(table) if at < table.key.len() => {
                    let column = &table.columns[table.key[at]];
                    let own = column.collation == table.key_collations[at];
                    let collation = table.key_collations[at].name();
                    (ident(&column.present), if own { None } else { Some(collation.to_owned()) })
                }
                _ => (format!("/* part {} of the key */ NULL", at + 1), None),
            };
            let collation = collation.map(|name| format!(" COLLATE {name}")).unwrap_or_default();
            format!("{name} = {}{collation}", literal(value))
        };
        values.iter().enumerate().map(part).collect::<Vec<_>>().join(" AND ")
    }
}

/// A value as SQL text that any SQLite reads as the same value.
pub(crate) fn literal(value: &Value) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    match value {
        Value::Null => "NULL".to_owned(),
        // The parser reads the sign apart from the number, and has no room for this one without it.
        Value::Integer(i64::MIN) => "(-9223372036854775807 - 1)".to_owned(),
        Value::Integer(integer) => integer.to_string(),
        Value::Real(real) if real.is_infinite() => {
            if *real > 0.0 { "9e999" } else { "-9e999" }.to_owned()
        }
        Value::Real(real) => format!("{real:?}"),
        Value::Text(text) => match std::str::from_utf8(text) {
            Ok(text) if !text.contains('\0') => format!("'{}'", text.replace('\'', "''")),
            _ => format!("CAST(x'{}' AS TEXT)", hex(text)),
        },
        Value::Blob(blob) => format!("x'{}'", hex(blob)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_what_sqlite_reads() {
        let db = rusqlite::Connection::open_in_memory().unwrap();
        for value in [
            Value::Null,
            Value::Integer(i64::MIN),
            Value::Integer(-7),
            Value::Real(0.1),
            Value::Real(5.0),
            Value::Real(1e-300),
            Value::Real(f64::NEG_INFINITY),
            Value::from("it's"),
            Value::Text(b"a\0b".to_vec()),
            Value::Text(vec![0xff]),
            Value::Blob(vec![0, 0xab]),
        ] {
            let sql = format!("SELECT {} IS ?1 AND typeof(?1) = typeof({0})", literal(&value));
            let bound = crate::event::value::ValueRef::from(&value);
            let same: bool = db.query_row(&sql, [bound], |row| row.get(0)).unwrap();
            assert!(same, "{sql}");
        }
    }
}
