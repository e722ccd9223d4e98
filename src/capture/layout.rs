//! Where the values of a captured event stand in the outbox.
//!
//! A trigger writes each value into a column of its own, as it is: the old ones into `b1`, `b2`, …
//! and the new ones into `a1`, `a2`, …, by their column's place in the table. An event outlives the
//! definition that it was captured with (a column may be added, renamed or dropped before it is
//! pushed), so it names its [`Layout`], which is kept in `driftless_layouts`.

use std::fmt::Write as _;

use rusqlite::Row;
use rusqlite::types::ValueRef;
use serde::{Deserialize, Serialize};

use super::sql::literal;
use super::table::{Affinity, Collation, Table};
use crate::error::{Code, Error, Result};
use crate::event::{Op, RowKey};
use crate::value::{Value, write_string};

/// The bits of a layout's number: six bytes of a row, and no two layouts have the same.
const ID_BITS: u32 = 47;

/// How a table's values stand in the outbox.
///
/// * Two layouts with one number are the same: it is a hash of all the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    id: i64,
    table: String,
    spec: Spec,
    select: String,
    select_key: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Spec {
    columns: Vec<String>,
    key: Vec<Part>,
}

/// A column of the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    /// Its place among the columns.
    column: usize,
    fold: Fold,
    /// Whether a REAL without a fraction is the same key as the integer.
    integral: bool,
}

/// What two spellings of a key may differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Fold {
    Binary,
    NoCase,
    RTrim,
}

/// An event's key and images, as canonical JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The row.
    pub key: RowKey,
    /// The old values: of the changed columns, or of all for a delete.
    pub before: Option<Vec<u8>>,
    /// The new values: of the changed columns, or of all for an insert.
    pub after: Option<Vec<u8>>,
}

impl Layout {
    /// The layout that `table` has now.
    pub fn of(table: &Table) -> Layout {
        let fold = |collation: &Collation| match collation {
            Collation::NoCase => Fold::NoCase,
            Collation::RTrim => Fold::RTrim,
            Collation::Binary | Collation::Other(_) => Fold::Binary,
        };
        let parts = table.key.iter().zip(&table.key_collations);
        let key = parts.map(|(&column, collation)| Part {
            column,
            fold: fold(collation),
            integral: table.columns[column].affinity != Affinity::Real,
        });
        let columns = table.column_names().map(str::to_owned).collect();
        Layout::new(table.name.clone(), Spec { columns, key: key.collect() })
    }

    /// A layout as `driftless_layouts` has it.
    ///
    /// # Errors
    ///
    /// `Corrupt` when `spec` is none.
    pub fn read(table: &str, spec: &str) -> Result<Layout> {
        let wrong =
            || Error::new(Code::OutboxDamaged, "the layout of an event in the outbox is damaged");
        let spec: Spec = serde_json::from_str(spec).map_err(|_| wrong())?;
        if spec.key.is_empty() || spec.key.iter().any(|part| part.column >= spec.columns.len()) {
            return Err(wrong());
        }
        Ok(Layout::new(table.to_owned(), spec))
    }

    fn new(table: String, spec: Spec) -> Layout {
        let mut hasher = blake3::Hasher::new();
        hasher.update(table.as_bytes());
        hasher.update(b"\0");
        hasher.update(json(&spec).as_bytes());
        let hash = hasher.finalize();
        let head = hash.as_bytes().first_chunk().expect("a hash has 32 bytes");
        let number = u64::from_le_bytes(*head);
        let select = select_of((0..spec.columns.len()).collect());
        let select_key = select_of(spec.key.iter().map(|part| part.column).collect());
        Layout { id: (number >> (64 - ID_BITS)) as i64, table, spec, select, select_key }
    }

    /// Its number.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The outbox's column for the old value of a table's column, which is counted from 0.
    pub(super) fn before(at: usize) -> String {
        format!("b{}", at + 1)
    }

    /// The same for the new value.
    pub(super) fn after(at: usize) -> String {
        format!("a{}", at + 1)
    }

    /// The same in a note.
    pub(super) fn noted(at: usize) -> String {
        format!("v{}", at + 1)
    }

    /// The statements that make a replica's database ready for this layout. `room` is for how many
    /// columns there is room already: how many `v` columns `driftless_notes` has.
    pub fn statements(&self, room: usize) -> Vec<String> {
        let mut statements = Vec::new();
        for at in room..self.spec.columns.len() {
            for (table, column) in [
                ("outbox", Layout::before(at)),
                ("outbox", Layout::after(at)),
                ("notes", Layout::noted(at)),
            ] {
                statements.push(format!("ALTER TABLE driftless_{table} ADD COLUMN {column}"));
            }
        }
        statements.push(self.register());
        statements
    }

    /// The statement that makes this layout known to a replica's database.
    pub fn register(&self) -> String {
        format!(
            "INSERT INTO driftless_layouts (id, tbl, spec) VALUES ({}, {}, {}) \
             ON CONFLICT (id) DO NOTHING",
            self.id,
            literal(&self.table),
            literal(&json(&self.spec))
        )
    }

    /// The same layout in the spelling of `table`: names may differ in their case.
    pub fn respelled(&self, table: &Table) -> Layout {
        let mut spec = self.spec.clone();
        for name in &mut spec.columns {
            if let Some(column) = table.column(name) {
                name.clone_from(&column.name);
            }
        }
        Layout::new(table.name.clone(), spec)
    }

    /// The statement that gives the values of the outbox's row `?1`, for [`Layout::captured`].
    pub fn select(&self) -> &str {
        &self.select
    }

    /// The statement that gives the key's values of the outbox's row `?1`, for
    /// [`Layout::captured_key`].
    pub fn select_key(&self) -> &str {
        &self.select_key
    }

    /// The row that an event is of, from `row`, which has the key's values.
    ///
    /// # Errors
    ///
    /// `Storage` when the row cannot be read.
    pub fn captured_key(&self, op: Op, row: &Row<'_>) -> Result<RowKey> {
        let side = usize::from(op == Op::Insert);
        let mut values = Vec::with_capacity(self.spec.key.len());
        for (at, part) in self.spec.key.iter().enumerate() {
            values.push(part.canonical(value(row.get_ref(2 * at + side)?)));
        }
        Ok(RowKey::from_values(&values))
    }

    /// The event whose values are in `row`.
    ///
    /// # Errors
    ///
    /// `Storage` when the row cannot be read.
    pub fn captured(&self, op: Op, row: &Row<'_>) -> Result<Captured> {
        let count = self.spec.columns.len();
        let (mut before, mut after) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for at in 0..count {
            before.push(value(row.get_ref(2 * at)?));
            after.push(value(row.get_ref(2 * at + 1)?));
        }
        let named_by = if op == Op::Insert { &after } else { &before };
        let key = RowKey::from_values(&self.canonical_key(named_by));
        if op == Op::Update {
            let mut changed: Vec<bool> = (0..count)
                .map(|at| {
                    // The old key is always there, the new one where it is spelled differently.
                    let unchanged_key = self.is_key(at) && after[at] == Value::Null;
                    before[at] != after[at] && !unchanged_key
                })
                .collect();
            // A trigger that is newer than ours may have taken the change back already.
            if !changed.contains(&true) {
                for part in &self.spec.key {
                    changed[part.column] = true;
                    after[part.column] = before[part.column].clone();
                }
            }
            let images = [before, after].map(|values| Some(self.image(&values, |at| changed[at])));
            let [before, after] = images;
            return Ok(Captured { key, before, after });
        }
        let before = (op == Op::Delete).then(|| self.image(&before, |_| true));
        let after = (op == Op::Insert).then(|| self.image(&after, |_| true));
        Ok(Captured { key, before, after })
    }

    fn is_key(&self, at: usize) -> bool {
        self.spec.key.iter().any(|part| part.column == at)
    }

    fn canonical_key(&self, values: &[Value]) -> Vec<Value> {
        self.spec.key.iter().map(|part| part.canonical(values[part.column].clone())).collect()
    }

    /// The JSON of the columns that `takes` takes.
    fn image(&self, values: &[Value], takes: impl Fn(usize) -> bool) -> Vec<u8> {
        let mut json = vec![b'{'];
        for at in (0..values.len()).filter(|&at| takes(at)) {
            if json.len() > 1 {
                json.push(b',');
            }
            write_string(self.spec.columns[at].as_bytes(), &mut json);
            json.push(b':');
            values[at].write_json(&mut json);
        }
        json.push(b'}');
        json
    }
}

/// The statement that gives the old and the new values of some columns of the outbox's row `?1`.
fn select_of(columns: Vec<usize>) -> String {
    let mut sql = String::from("SELECT ");
    for (at, column) in columns.into_iter().enumerate() {
        let comma = if at > 0 { ", " } else { "" };
        let _ = write!(sql, "{comma}{}, {}", Layout::before(column), Layout::after(column));
    }
    sql.push_str(" FROM driftless_outbox WHERE n = ?1");
    sql
}

impl Part {
    /// The canonical one of all spellings of this part of a key.
    fn canonical(&self, value: Value) -> Value {
        match value {
            Value::Text(text) => Value::Text(self.fold.apply(text)),
            Value::Real(real) if self.integral && is_integer(real) => Value::Integer(real as i64),
            other => other,
        }
    }
}

impl Fold {
    /// The canonical one of all spellings of a key.
    fn apply(self, mut text: Vec<u8>) -> Vec<u8> {
        match self {
            Fold::Binary => {}
            Fold::RTrim => {
                let end = text.iter().rposition(|&byte| byte != b' ').map_or(0, |at| at + 1);
                text.truncate(end);
            }
            // SQLite compares up to a NUL, and from there on nothing but the length.
            Fold::NoCase => {
                let end = memchr::memchr(0, &text).unwrap_or(text.len());
                text[..end].make_ascii_lowercase();
                text[end..].fill(0);
            }
        }
        text
    }
}

fn json(spec: &Spec) -> String {
    serde_json::to_string(spec).expect("names and numbers can be written as JSON")
}

/// -2^63, and the first double above all 64-bit integers.
const INTEGERS: std::ops::Range<f64> = -9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0;

fn is_integer(real: f64) -> bool {
    real.trunc() == real && INTEGERS.contains(&real)
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        // No comparison in SQL tells -0.0 from 0.0, so no event can say that one became the other.
        ValueRef::Real(real) => Value::Real(if real == 0.0 { 0.0 } else { real }),
        ValueRef::Text(text) => Value::Text(text.to_vec()),
        ValueRef::Blob(blob) => Value::Blob(blob.to_vec()),
    }
}
