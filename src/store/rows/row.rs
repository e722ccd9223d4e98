//! Converts rows and values between an event's JSON and SQLite.

use std::borrow::Cow;

use rusqlite::types::ValueRef as SqlRef;

use crate::catalog::affinity::Affinity;
use crate::catalog::{Collation, Table};
use crate::event::value::{Value, ValueRef};
use crate::event::{Column, Columns, Image, RowKey};

/// The value of a column of a result.
pub(in crate::store) fn value(value: SqlRef<'_>) -> Value {
    match value {
        SqlRef::Null => Value::Null,
        SqlRef::Integer(integer) => Value::Integer(integer),
        SqlRef::Real(real) => Value::Real(real),
        SqlRef::Text(text) => Value::Text(text.to_vec()),
        SqlRef::Blob(blob) => Value::Blob(blob.to_vec()),
    }
}

/// The columns of an image, borrowed.
pub(in crate::store) fn borrow(image: &Image) -> Columns<'_> {
    image.0.iter().map(|(name, value)| (Cow::Borrowed(name.as_str()), value.into())).collect()
}

/// A row in its table.
#[derive(Clone, Debug)]
pub(in crate::store) struct Row {
    /// Its values.
    image: Image,
    /// Its rowid, if that is not its key.
    rowid: Option<i64>,
}

impl Row {
    pub(in crate::store) fn new(image: Image, rowid: Option<i64>) -> Row {
        Row { image, rowid }
    }

    /// Its values.
    pub(in crate::store) fn image(&self) -> &Image {
        &self.image
    }

    /// Its values.
    pub(in crate::store) fn into_image(self) -> Image {
        self.image
    }

    /// Its rowid, if that is not its key.
    pub(in crate::store) fn rowid(&self) -> Option<i64> {
        self.rowid
    }
}

/// The place of a column in the definition. `place` is checked first.
pub(in crate::store) fn column_index(table: &Table, name: &str, place: usize) -> Option<usize> {
    match table.columns.get(place) {
        Some(column) if column.name == name => Some(place),
        _ => table.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name)),
    }
}

/// The values of a key, if the table can have it: its arity is right, and it has no NULL.
pub(in crate::store) fn known_key<'k>(table: &Table, key: &'k str) -> Option<Vec<ValueRef<'k>>> {
    let mut values = Vec::with_capacity(table.key.len());
    RowKey::read(key, &mut values).ok()?;
    let whole = values.len() == table.key.len();
    let null = values.iter().any(|value| matches!(value, ValueRef::Null));
    (whole && !null).then_some(values)
}

/// Whether `cell`, of the key column `part`, has the canonical form `key`.
pub(in crate::store) fn key_matches(
    table: &Table,
    part: usize,
    key: &ValueRef<'_>,
    cell: &ValueRef<'_>,
) -> bool {
    match (key, cell) {
        (ValueRef::Integer(key), ValueRef::Integer(cell)) => key == cell,
        (ValueRef::Real(key), ValueRef::Real(cell)) => key.to_bits() == cell.to_bits(),
        (ValueRef::Blob(key), ValueRef::Blob(cell)) => key == cell,
        (ValueRef::Text(key), ValueRef::Text(cell)) => match table.key_collations[part] {
            // After a NUL only the length counts: a canonical key has zero bytes there.
            Collation::NoCase => {
                let nul = memchr::memchr(0, cell).unwrap_or(cell.len());
                key.len() == cell.len()
                    && key[..nul].iter().eq(cell[..nul].to_ascii_lowercase().iter())
                    && key[nul..].iter().all(|&byte| byte == 0)
            }
            Collation::RTrim => {
                let end = cell.iter().rposition(|&byte| byte != b' ').map_or(0, |last| last + 1);
                key[..] == cell[..end]
            }
            _ => key == cell,
        },
        // An integral REAL stays a REAL only if the column converts nothing. A column of integers
        // does not convert -2^63 either.
        (ValueRef::Integer(key), ValueRef::Real(cell)) => {
            let stays = match table.columns[table.key[part]].affinity {
                Affinity::Blob => true,
                Affinity::Integer | Affinity::Numeric => *key == i64::MIN,
                _ => false,
            };
            stays && *key as f64 == *cell && *cell as i64 == *key
        }
        _ => false,
    }
}

/// Sets the columns of `image` to an event's values.
pub(in crate::store) fn overlay(definition: &Table, image: &mut Image, values: &[Column<'_>]) {
    for (name, value) in values {
        let value = value.clone().into_value();
        match image.0.iter_mut().find(|(mine, _)| mine.eq_ignore_ascii_case(name)) {
            Some((_, mine)) => *mine = value,
            None => {
                let name = definition.column(name).map_or(&**name, |column| &column.name);
                image.0.push((name.to_owned(), value));
            }
        }
    }
}
