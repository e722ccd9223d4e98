//! Rows as they are, and rows as the outbox says that they are.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use driftless::capture::Layout;
use driftless::catalog::{Affinity, Collation, Table, ident};
use driftless::event::value::Value;
use driftless::event::{Image, Op, RowKey};
use rusqlite::Connection;
use rusqlite::types::ValueRef;

/// A row of the outbox.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) n: i64,
    pub(crate) table: String,
    /// The key in the spelling of [`RowKey::from_values`].
    pub(crate) key: RowKey,
    pub(crate) op: Op,
    pub(crate) before: Option<Image>,
    pub(crate) after: Option<Image>,
    pub(crate) pair: Option<i64>,
    pub(crate) via: Option<String>,
}

/// The outbox's rows after `n`, in order.
pub(crate) fn read_outbox(db: &Connection, n: i64) -> Vec<Change> {
    let mut statement = db
        .prepare(
            "SELECT n, op, pair, via, layouts.tbl, layouts.spec
             FROM driftless_outbox
             JOIN driftless_layouts AS layouts ON layouts.id = layout WHERE n > ?1 ORDER BY n",
        )
        .unwrap();
    let mut rows = statement.query([n]).unwrap();
    let mut changes = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let (n, table, spec): (i64, String, String) =
            (row.get(0).unwrap(), row.get(4).unwrap(), row.get(5).unwrap());
        let op = [Op::Insert, Op::Update, Op::Delete][row.get::<_, u8>(1).unwrap() as usize];
        let layout = Layout::read(&table, &spec).unwrap();
        let mut values = db.prepare_cached(layout.select()).unwrap();
        let number: Option<String> = row.get(3).unwrap();
        let number = number.map(|number| number.parse::<usize>().expect("a foreign key's number"));
        let (captured, parent) = values
            .query_row([n], |row| {
                let parent = number.map(|number| layout.parent(number, row).expect("a parent"));
                Ok((layout.captured(op, row).expect("the values can be read"), parent))
            })
            .unwrap();
        let via = parent.map(|(table, key)| format!("[\"{table}\",{}]", key.0));
        let image = |json: Option<Vec<u8>>| {
            json.map(|json| {
                Image::parse(&json)
                    .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&json)))
            })
        };
        changes.push(Change {
            n,
            table,
            key: captured.key,
            op,
            before: image(captured.before),
            after: image(captured.after),
            pair: row.get(2).unwrap(),
            via,
        });
    }
    let count: i64 = db
        .query_row("SELECT count(*) FROM driftless_outbox WHERE layout IS NULL", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(count, 0, "an event without a layout");
    changes
}

/// The rows of some tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rows(BTreeMap<(String, String), BTreeMap<String, Value>>);

impl Rows {
    /// The rows that stand in `tables` now. A row without a key is not replicated and not here.
    pub(crate) fn read(db: &Connection, tables: &[Table]) -> Rows {
        let mut found = Rows::default();
        for table in tables {
            let names: Vec<_> = table.column_names().map(ident).collect();
            let sql = format!("SELECT {} FROM {}", names.join(", "), ident(&table.name));
            let mut statement = db.prepare(&sql).unwrap();
            let mut rows = statement.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let values: Vec<_> =
                    (0..names.len()).map(|i| value(row.get_ref(i).unwrap())).collect();
                if let Some(key) = canonical_key(table, &values) {
                    let image = table.column_names().map(str::to_owned).zip(values).collect();
                    let old = found.0.insert((table.name.clone(), key.0), image);
                    assert!(old.is_none(), "two rows of `{}` have one canonical key", table.name);
                }
            }
        }
        found
    }

    /// Does to the rows what an event says; refuses what cannot be true.
    pub(crate) fn apply(&mut self, change: &Change) -> Result<(), String> {
        let place = (change.table.clone(), change.key.0.clone());
        let wrong = |what: &str| Err(format!("{what}: {}", line(change)));
        match (change.op, &change.before, &change.after) {
            (Op::Insert, None, Some(after)) => {
                if self.0.insert(place, columns(after)).is_some() {
                    return wrong("an insert of a row that is there");
                }
            }
            (Op::Delete, Some(before), None) => match self.0.remove(&place) {
                None => return wrong("a delete of a row that is not there"),
                Some(row) if row != columns(before) => return wrong("another row stood there"),
                Some(_) => {}
            },
            (Op::Update, Some(before), Some(after)) => {
                let Some(row) = self.0.get_mut(&place) else {
                    return wrong("an update of a row that is not there");
                };
                let (before, after) = (columns(before), columns(after));
                if !before.keys().eq(after.keys()) {
                    return wrong("before and after have different columns");
                }
                if before == after {
                    return wrong("an update that changes nothing");
                }
                if before.iter().any(|(name, value)| row.get(name) != Some(value)) {
                    return wrong("another row stood there");
                }
                row.extend(after);
            }
            _ => return wrong("an event without the images that it must have"),
        }
        Ok(())
    }

    /// How `self`, the fold, differs from `real`; `None` when it does not.
    pub(crate) fn difference(&self, real: &Rows) -> Option<String> {
        let mut text = String::new();
        for (place, row) in &self.0 {
            match real.0.get(place) {
                Some(there) if there == row => {}
                Some(there) => {
                    for (name, value) in row.iter().filter(|(name, v)| there.get(*name) != Some(v))
                    {
                        let _ = writeln!(
                            text,
                            "{} {} {name}: {} by the outbox, {} in the table",
                            place.0,
                            place.1,
                            literal(value),
                            there.get(name).map_or("nothing".to_owned(), literal)
                        );
                    }
                }
                None => {
                    let _ = writeln!(text, "{} {} is only in the outbox", place.0, place.1);
                }
            }
        }
        for place in real.0.keys().filter(|place| !self.0.contains_key(*place)) {
            let _ = writeln!(text, "{} {} is only in the table", place.0, place.1);
        }
        (!text.is_empty()).then_some(text)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The row of a table with a key.
    pub(crate) fn image(&self, table: &str, key: &RowKey) -> Option<Image> {
        let row = self.0.get(&(table.to_owned(), key.0.clone()))?;
        Some(Image(row.iter().map(|(name, value)| (name.clone(), value.clone())).collect()))
    }
}

fn columns(image: &Image) -> BTreeMap<String, Value> {
    image.0.iter().map(|(name, value)| (name.clone(), positive_zero(value.clone()))).collect()
}

fn positive_zero(value: Value) -> Value {
    if matches!(value, Value::Real(real) if real == 0.0) { Value::Real(0.0) } else { value }
}

pub(crate) fn value(value: ValueRef<'_>) -> Value {
    positive_zero(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Text(text) => Value::Text(text.to_vec()),
        ValueRef::Blob(blob) => Value::Blob(blob.to_vec()),
    })
}

/// The canonical key of a row, by the definition and not by the SQL: `None` where a part is NULL.
pub(crate) fn canonical_key(table: &Table, values: &[Value]) -> Option<RowKey> {
    let mut key = Vec::new();
    for (&index, collation) in table.key.iter().zip(&table.key_collations) {
        let affinity = table.columns[index].affinity;
        key.push(match values[index].clone() {
            Value::Null => return None,
            Value::Text(text) => Value::Text(match collation {
                Collation::NoCase => fold_case(&text),
                Collation::RTrim => {
                    let end = text.iter().rposition(|&b| b != b' ').map_or(0, |at| at + 1);
                    text[..end].to_vec()
                }
                _ => text,
            }),
            // Equal to an integer that could stand here too, so the same key.
            Value::Real(real) if affinity != Affinity::Real && is_integer(real) => {
                Value::Integer(real as i64)
            }
            other => other,
        });
    }
    Some(RowKey::from_values(&key))
}

/// What NOCASE compares: it stops at a NUL, and looks at nothing but the length from there on.
fn fold_case(text: &[u8]) -> Vec<u8> {
    let end = text.iter().position(|&b| b == 0).unwrap_or(text.len());
    let mut folded = text[..end].to_ascii_lowercase();
    folded.resize(text.len(), 0);
    folded
}

fn is_integer(real: f64) -> bool {
    real.trunc() == real
        && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&real)
}

/// The most columns of an image that are shown one by one.
const SHOWN: usize = 12;

/// An event on one line.
pub(crate) fn line(change: &Change) -> String {
    let mut text = format!("{} {} {}", change.op, change.table, change.key.0);
    for (mark, image) in [("", &change.before), (" →", &change.after)] {
        let Some(image) = image else { continue };
        let parts: Vec<_> =
            image.0.iter().map(|(name, value)| format!("{name}={}", literal(value))).collect();
        match parts.len() {
            0..=SHOWN => write!(text, "{mark} {{{}}}", parts.join(", ")).unwrap(),
            more => write!(text, "{mark} {{{} … {more} columns}}", parts[0]).unwrap(),
        }
    }
    match change.pair {
        Some(1) => text.push_str(" (moves away)"),
        Some(2) => text.push_str(" (arrives)"),
        Some(other) => write!(text, " (pair {other}?)").unwrap(),
        None => {}
    }
    if let Some(via) = &change.via {
        write!(text, " via {via}").unwrap();
    }
    text
}

/// A value as SQL has it, with what is not printable in hex.
pub(crate) fn literal(value: &Value) -> String {
    match value {
        Value::Text(text) => match std::str::from_utf8(text) {
            Ok(text) if !text.contains('\0') => format!("'{}'", text.replace('\'', "''")),
            _ => format!("CAST({} AS TEXT)", Value::Blob(text.clone())),
        },
        other => other.to_string(),
    }
}
