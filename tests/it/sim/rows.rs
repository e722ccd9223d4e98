//! Rows as values: read from a database, compared, and remembered as they were.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use driftless::event::value::Value;
use driftless::event::{Image, RowKey};
use rusqlite::Connection;

use super::shape::{Shape, Table};
use super::sql;

/// A row: its columns by name.
pub(crate) type Row = BTreeMap<String, Value>;
/// Rows by their keys, of all tables.
pub(crate) type Rows = BTreeMap<(String, String), Row>;

/// The values as a row.
pub(crate) fn row(image: &Image) -> Row {
    image.0.iter().cloned().collect()
}

/// The key as events spell it.
pub(crate) fn key_of(table: &Table, row: &Row) -> String {
    let fold = |name: &String| match row.get(name) {
        Some(Value::Text(text)) if table.nocase => Value::Text(text.to_ascii_lowercase()),
        Some(value) => value.clone(),
        None => Value::Null,
    };
    RowKey::from_values(&table.key.iter().map(fold).collect::<Vec<_>>()).0
}

/// The rows of all tables.
pub(crate) fn snapshot(db: &Connection, shape: &Shape) -> Rows {
    let mut all = Rows::new();
    for (table, sql) in shape.tables.iter().zip(shape.reading()) {
        for values in sql::rows(db, sql).unwrap() {
            let row: Row = table.columns.iter().cloned().zip(values).collect();
            all.insert((table.name.clone(), key_of(table, &row)), row);
        }
    }
    all
}

/// The first difference between two states, for a person.
pub(crate) fn difference(one: &Rows, other: &Rows) -> String {
    let places: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differs = |place: &&&(String, String)| one.get(**place) != other.get(**place);
    let told = |place: &&(String, String)| {
        format!("{} {}: {:?} and {:?}", place.0, place.1, one.get(*place), other.get(*place))
    };
    places.iter().filter(differs).map(told).collect::<Vec<_>>().join("; ")
}

/// What a row became, and where in the log.
type Versions = Vec<(i64, Option<Row>)>;

/// The rows as they were at each place of the log.
#[derive(Clone)]
pub(crate) struct Past(HashMap<(String, String), Versions>);

impl Past {
    /// What there is before the log begins.
    pub(crate) fn new(rows: &Rows) -> Self {
        let first = |row: &Row| vec![(0, Some(row.clone()))];
        Past(rows.iter().map(|(place, row)| (place.clone(), first(row))).collect())
    }

    /// An event has made a row into this, or taken it away.
    pub(crate) fn note(&mut self, seq: i64, place: &(String, String), row: Option<&Row>) {
        self.0.entry(place.clone()).or_default().push((seq, row.cloned()));
    }

    /// A row as it was once the log up to `seq` had happened.
    pub(crate) fn at(&self, place: &(String, String), seq: i64) -> Option<&Row> {
        let versions = self.0.get(place)?;
        versions.iter().rev().find(|(at, _)| *at <= seq).and_then(|(_, row)| row.as_ref())
    }

    /// All rows as they were then.
    pub(crate) fn all_at(&self, seq: i64) -> Rows {
        let row = |place| Some((Clone::clone(place), self.at(place, seq)?.clone()));
        self.0.keys().filter_map(row).collect()
    }
}
