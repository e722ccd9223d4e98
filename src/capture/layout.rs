//! The layout of a captured event's values in the outbox.
//!
//! A trigger writes each value unchanged into its own column: old values into `b1`, `b2`, … and new
//! values into `a1`, `a2`, …, by the column's place in the table. A column may be added, renamed or
//! dropped before the event is pushed. So the event names its [`Layout`], and `driftless_layouts`
//! keeps it.
//!
//! Generated columns that a foreign key leads from or to come after the table's columns. They
//! cannot be written, so they are not part of an event's images. They show which events depend on
//! each other ([`Captured::made`]).
//!
//! For the consequence of a foreign key's action, `via` is the number of that foreign key. The
//! layout has the places of the child's old values and the parent's spelling of them
//! ([`Layout::parent`]).

use std::fmt::Write as _;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use serde::{Deserialize, Serialize};

use crate::catalog::affinity::Affinity;
use crate::catalog::quote::literal;
use crate::catalog::table::{Collation, ForeignKey, Table};
use crate::error::{Code, Error, Result};
use crate::event::value::{Value, write_string};
use crate::event::{Image, Op, RowKey};

/// The tables of before-images, one for each collation by which keys are compared: BINARY, NOCASE,
/// RTRIM.
pub const BEFORE_IMAGES: [&str; 3] =
    ["driftless_notes", "driftless_notes_nocase", "driftless_notes_rtrim"];

/// What a trigger finds in the place of a column that the application has dropped since the trigger
/// was made.
pub(super) const ABSENT: &[u8] = b"driftless: this column was dropped";

/// The number of bits of a layout's id. The id takes six bytes of a row, and collisions are
/// improbable.
const ID_BITS: u32 = 47;

/// The places of a table's values in the outbox.
///
/// * Two layouts with the same id are equal: the id is a hash of all the rest.
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
    /// The generated columns that foreign keys lead from or to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    made: Vec<String>,
    /// The foreign keys to replicated tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    foreign: Vec<Foreign>,
}

/// A foreign key, with the data that the reader needs to name a consequence's parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Foreign {
    parent: String,
    /// Whether it leads to the parent's key. Then the parts are in the key's order.
    to_key: bool,
    parts: Vec<Reference>,
}

/// A column of a foreign key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Reference {
    /// The child's column: its place among the columns, or after them among the generated ones.
    at: usize,
    /// The parent's column.
    to: String,
    affinity: Affinity,
    fold: Fold,
    integral: bool,
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

/// The difference that two spellings of one key may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Fold {
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
    /// The old and the new values of generated columns, by the same rules. Empty if no foreign key
    /// leads from or to one.
    pub made: [Image; 2],
}

impl Layout {
    /// The present layout of `table`. `replicated` are all replicated tables.
    pub fn of(table: &Table, replicated: &[&Table]) -> Layout {
        let parts = table.key.iter().zip(&table.key_collations);
        let key = parts.map(|(&column, collation)| Part {
            column,
            fold: Fold::of(collation),
            integral: table.columns[column].affinity != Affinity::Real,
        });
        let columns: Vec<_> = table.column_names().map(str::to_owned).collect();
        let made = generated_references(table, replicated);
        let foreign = foreign_keys(table, replicated)
            .map(|(key, parent)| Foreign::of(key, parent, &columns, &made))
            .collect();
        let key = key.collect();
        Layout::new(table.name.clone(), Spec { columns, key, made, foreign })
    }

    /// A layout as `driftless_layouts` has it.
    ///
    /// # Errors
    ///
    /// `Corrupt` when `spec` is not valid.
    pub fn read(table: &str, spec: &str) -> Result<Layout> {
        let wrong =
            || Error::new(Code::OutboxDamaged, "the layout of an event in the outbox is damaged");
        let spec: Spec = serde_json::from_str(spec).map_err(|_| wrong())?;
        let places = spec.columns.len() + spec.made.len();
        let mut references = spec.foreign.iter().flat_map(|key| &key.parts);
        if spec.key.is_empty()
            || spec.key.iter().any(|part| part.column >= spec.columns.len())
            || references.any(|reference| reference.at >= places)
        {
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
        let select = select_of((0..spec.columns.len() + spec.made.len()).collect());
        let select_key = select_of(spec.key.iter().map(|part| part.column).collect());
        Layout { id: (number >> (64 - ID_BITS)) as i64, table, spec, select, select_key }
    }

    /// Its id.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// The names of the table's columns in events, in the order of their places.
    pub(crate) fn columns(&self) -> &[String] {
        &self.spec.columns
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The outbox's column for the old value of a table's column. Columns are counted from 0.
    pub(super) fn before(at: usize) -> String {
        format!("b{}", at + 1)
    }

    /// The same for the new value.
    pub(super) fn after(at: usize) -> String {
        format!("a{}", at + 1)
    }

    /// The same in a before-image.
    pub(super) fn before_image_column(at: usize) -> String {
        format!("v{}", at + 1)
    }

    /// The statements that prepare a replica's database for this layout.
    pub fn statements(&self, db: &Connection) -> Result<Vec<String>> {
        let mut statements = Vec::new();
        let places = self.spec.columns.len() + self.spec.made.len();
        let outbox = ("driftless_outbox", [Layout::before, Layout::after].as_slice());
        let before_images = BEFORE_IMAGES.map(|before_images| {
            (before_images, [Layout::before_image_column as fn(usize) -> String].as_slice())
        });
        for (table, names) in std::iter::once(outbox).chain(before_images) {
            let mut statement = db.prepare("SELECT name FROM pragma_table_info(?1)")?;
            let there = statement
                .query_map([table], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<String>>>()?;
            let wanted = (0..places).flat_map(|at| names.iter().map(move |name| name(at)));
            for column in wanted.filter(|column| !there.contains(column)) {
                statements.push(format!("ALTER TABLE {table} ADD COLUMN {column}"));
            }
        }
        statements.push(self.register());
        Ok(statements)
    }

    /// The statement that stores this layout in a replica's database.
    pub fn register(&self) -> String {
        format!(
            "INSERT INTO driftless_layouts (id, tbl, spec) VALUES ({}, {}, {}) \
             ON CONFLICT (id) DO NOTHING",
            self.id,
            literal(&self.table),
            literal(&json(&self.spec))
        )
    }

    /// The same layout with the spelling of `table`: names may differ in case.
    pub fn in_case_of(&self, old: &Table, table: &Table) -> Layout {
        let mut spec = self.spec.clone();
        for name in &mut spec.columns {
            let new = table.renamed_from(old, name).to_owned();
            *name = new;
        }
        Layout::new(table.name.clone(), spec)
    }

    /// The statement that reads the values of the outbox's row `?1`, for [`Layout::captured`].
    pub fn select(&self) -> &str {
        &self.select
    }

    /// The statement that reads the key's values of the outbox's row `?1`, for
    /// [`Layout::captured_key`].
    pub fn select_key(&self) -> &str {
        &self.select_key
    }

    /// The row's key, from `row`, which has the key's values.
    pub fn captured_key(&self, op: Op, row: &Row<'_>) -> Result<RowKey> {
        let side = usize::from(op == Op::Insert);
        let mut values = Vec::with_capacity(self.spec.key.len());
        for (at, part) in self.spec.key.iter().enumerate() {
            values.push(part.canonical(value(row.get_ref(2 * at + side)?)));
        }
        Ok(RowKey::from_values(&values))
    }

    /// The event whose values are in `row`.
    pub fn captured(&self, op: Op, row: &Row<'_>) -> Result<Captured> {
        let columns = self.spec.columns.len();
        let count = columns + self.spec.made.len();
        let (mut before, mut after) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for at in 0..count {
            before.push(value(row.get_ref(2 * at)?));
            after.push(value(row.get_ref(2 * at + 1)?));
        }
        let named_by = if op == Op::Insert { &after } else { &before };
        let key = RowKey::from_values(&self.canonical_key(named_by));
        let mut takes: [Vec<bool>; 2] =
            [vec![op == Op::Delete; count], vec![op == Op::Insert; count]];
        if op == Op::Update {
            let mut changed: Vec<bool> = (0..count)
                .map(|at| {
                    // The old key is always there. The new one is there only if its spelling
                    // differs.
                    let unchanged_key = self.is_key(at) && after[at] == Value::Null;
                    let is_known = !is_absent(&before[at]) && !is_absent(&after[at]);
                    before[at] != after[at] && !unchanged_key && is_known
                })
                .collect();
            // The trigger also appends some updates whose values only may differ. In this one none
            // does.
            if !changed[..columns].contains(&true) {
                for part in &self.spec.key {
                    changed[part.column] = true;
                    after[part.column] = before[part.column].clone();
                }
            }
            takes = [changed.clone(), changed];
        }
        // A column that was dropped when the event was captured is no part of it.
        for at in 0..count {
            if is_absent(&before[at]) || is_absent(&after[at]) {
                (takes[0][at], takes[1][at]) = (false, false);
            }
        }
        let made = [self.made(&before, &takes[0]), self.made(&after, &takes[1])];
        let before = (op != Op::Insert).then(|| self.image(&before[..columns], &takes[0]));
        let after = (op != Op::Delete).then(|| self.image(&after[..columns], &takes[1]));
        Ok(Captured { key, before, after, made })
    }

    /// The parent whose change caused this event; `via` has the number of the foreign key. The
    /// parent is named by its key, or by an object if the foreign key leads to other columns.
    ///
    /// # Errors
    ///
    /// `Corrupt` when there is no such foreign key; `Storage` when the row cannot be read.
    pub fn parent(&self, via: usize, row: &Row<'_>) -> Result<(String, RowKey)> {
        let foreign = self.spec.foreign.get(via).ok_or_else(|| {
            Error::corrupt("an event in the outbox names a foreign key that its layout lacks")
        })?;
        let mut values = Vec::with_capacity(foreign.parts.len());
        for part in &foreign.parts {
            let value = part.affinity.convert(value(row.get_ref(2 * part.at)?));
            values.push(if foreign.to_key { part.canonical(value) } else { value });
        }
        let key = if foreign.to_key {
            RowKey::from_values(&values)
        } else {
            let names = foreign.parts.iter().map(|part| part.to.clone());
            RowKey(Image(names.zip(values).collect()).to_json())
        };
        Ok((foreign.parent.clone(), key))
    }

    fn is_key(&self, at: usize) -> bool {
        self.spec.key.iter().any(|part| part.column == at)
    }

    fn canonical_key(&self, values: &[Value]) -> Vec<Value> {
        self.spec.key.iter().map(|part| part.canonical(values[part.column].clone())).collect()
    }

    /// The JSON of the columns that `takes` accepts.
    fn image(&self, values: &[Value], takes: &[bool]) -> Vec<u8> {
        let mut json = vec![b'{'];
        for at in (0..values.len()).filter(|&at| takes[at]) {
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

    /// The generated columns that `takes` accepts.
    fn made(&self, values: &[Value], takes: &[bool]) -> Image {
        let columns = self.spec.columns.len();
        let made = self.spec.made.iter().enumerate().filter(|(at, _)| takes[columns + at]);
        Image(made.map(|(at, name)| (name.clone(), values[columns + at].clone())).collect())
    }
}

fn is_absent(value: &Value) -> bool {
    matches!(value, Value::Blob(bytes) if bytes == ABSENT)
}

/// The generated columns of `table` that a foreign key of a replicated table leads from or to.
pub(super) fn generated_references(table: &Table, replicated: &[&Table]) -> Vec<String> {
    let from = foreign_keys(table, replicated)
        .flat_map(|(key, _)| key.columns.iter().map(|(child, _)| child));
    let to = replicated
        .iter()
        .flat_map(|child| &child.foreign_keys)
        .filter(|key| key.parent.eq_ignore_ascii_case(&table.name))
        .flat_map(|key| key.columns.iter().map(|(_, to)| to));
    let names: Vec<_> = from.chain(to).collect();
    let named = |made: &&String| names.iter().any(|name| name.eq_ignore_ascii_case(made));
    table.generated.iter().filter(named).cloned().collect()
}

/// The foreign keys of `table` whose parents are replicated, with the parents. `via` of a
/// consequence is an index in this list.
pub(super) fn foreign_keys<'t>(
    table: &'t Table,
    replicated: &'t [&'t Table],
) -> impl Iterator<Item = (&'t ForeignKey, &'t Table)> {
    table.foreign_keys.iter().filter_map(|key| {
        let is_parent = |parent: &&&Table| parent.name.eq_ignore_ascii_case(&key.parent);
        replicated.iter().find(is_parent).map(|parent| (key, *parent))
    })
}

impl Foreign {
    fn of(key: &ForeignKey, parent: &Table, columns: &[String], made: &[String]) -> Foreign {
        let place = |child: &String| {
            let names = || columns.iter().chain(made);
            names().position(|name| name.eq_ignore_ascii_case(child)).expect("SQLite checks it")
        };
        let reference = |(child, to): &(String, String)| {
            let part = parent.key_columns().position(|k| k.name.eq_ignore_ascii_case(to));
            let affinity = parent.column(to).map_or(Affinity::Blob, |column| column.affinity);
            Reference {
                at: place(child),
                to: parent.column(to).map_or(to, |column| &column.name).clone(),
                affinity,
                fold: part.map_or(Fold::Binary, |part| Fold::of(&parent.key_collations[part])),
                integral: affinity != Affinity::Real,
            }
        };
        let mut parts: Vec<_> = key.columns.iter().map(reference).collect();
        let in_key = |part: &Reference| parent.key_columns().position(|k| k.name == part.to);
        let to_key = parts.len() == parent.key.len()
            && (0..parts.len()).all(|at| parts.iter().any(|part| in_key(part) == Some(at)));
        if to_key {
            parts.sort_by_key(in_key);
        }
        Foreign { parent: parent.name.clone(), to_key, parts }
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
    /// The canonical form of this part of a key.
    fn canonical(&self, value: Value) -> Value {
        canonical(self.fold, self.integral, value)
    }
}

impl Reference {
    /// The canonical form of this part of the parent's key.
    fn canonical(&self, value: Value) -> Value {
        canonical(self.fold, self.integral, value)
    }
}

pub(super) fn canonical(fold: Fold, integral: bool, value: Value) -> Value {
    match value {
        Value::Text(text) => Value::Text(fold.apply(text)),
        Value::Real(real) if integral && is_integer(real) => Value::Integer(real as i64),
        other => other,
    }
}

impl Fold {
    pub(super) fn of(collation: &Collation) -> Fold {
        match collation {
            Collation::NoCase => Fold::NoCase,
            Collation::RTrim => Fold::RTrim,
            Collation::Binary | Collation::Other(_) => Fold::Binary,
        }
    }

    /// The canonical form of a key's text.
    fn apply(self, mut text: Vec<u8>) -> Vec<u8> {
        match self {
            Fold::Binary => {}
            Fold::RTrim => {
                let end = text.iter().rposition(|&byte| byte != b' ').map_or(0, |at| at + 1);
                text.truncate(end);
            }
            // SQLite compares the text before a NUL, and only the length of the rest.
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

/// The doubles that fit in 64 bits: from -2^63 up to, not including, 2^63.
const INTEGERS: std::ops::Range<f64> = -9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0;

fn is_integer(real: f64) -> bool {
    real.trunc() == real && INTEGERS.contains(&real)
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        // SQL cannot distinguish -0.0 from 0.0, so no event changes one to the other.
        ValueRef::Real(real) => Value::Real(if real == 0.0 { 0.0 } else { real }),
        ValueRef::Text(text) => Value::Text(text.to_vec()),
        ValueRef::Blob(blob) => Value::Blob(blob.to_vec()),
    }
}
