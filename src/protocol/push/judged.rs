//! An event of a push, with the facts that decide which run it joins.

use super::words::Kind;
use crate::catalog::affinity::Affinity;
use crate::catalog::table::{Collation, Column, Table, Term};
use crate::event::value::Value;
use crate::event::{Image, Op, RowKey};
use crate::protocol::Outgoing;
use crate::protocol::remote_tables::{RemoteTable, RemoteTables};

/// An event, with the facts that decide which run it joins.
pub(super) struct Judged<'a> {
    event: &'a Outgoing,
    /// The remote's table; `None` if the remote does not replicate it.
    table: Option<&'a RemoteTable>,
    kind: Kind,
    /// The new values.
    image: Image,
    /// The columns that it sets, by their place in the table.
    columns: Vec<usize>,
}

impl<'a> Judged<'a> {
    pub(super) fn of(event: &'a Outgoing, tables: &'a RemoteTables) -> Judged<'a> {
        let table = tables.get(&event.table);
        let kind = match (event.op, event.pair.is_some()) {
            (Op::Insert, false) => Kind::Insert,
            (Op::Insert, true) => Kind::Arrive,
            (Op::Update, _) => Kind::Update,
            (Op::Delete, false) => Kind::Delete,
            (Op::Delete, true) => Kind::Move,
        };
        let json = event.image.as_ref().or(event.after.as_ref());
        let image = json.and_then(|json| Image::parse(json.as_bytes()).ok()).unwrap_or_default();
        let columns = table.map_or_else(Vec::new, |there| {
            let names = there.table.columns.iter().enumerate();
            names.filter(|(_, c)| image.get(&c.name).is_some()).map(|(at, _)| at).collect()
        });
        Judged { event, table, kind, image, columns }
    }

    /// The event.
    pub(super) fn event(&self) -> &'a Outgoing {
        self.event
    }

    /// The remote's table, if it replicates it.
    pub(super) fn table(&self) -> Option<&'a RemoteTable> {
        self.table
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// A new value, by its column's name.
    pub(super) fn new_value(&self, column: &str) -> Option<&Value> {
        self.image.get(column)
    }

    /// The columns that it sets, by their place in the table.
    pub(super) fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// Whether it names a column that the remote's table lacks.
    pub(super) fn names_unknown(&self) -> bool {
        self.image.0.len() > self.columns.len()
    }

    /// Whether it must be alone in its run, whatever its neighbours are.
    pub(super) fn is_alone(&self, tables: &RemoteTables) -> bool {
        let Some(there) = self.table else { return false };
        let op = self.event.op;
        match self.kind {
            Kind::Move | Kind::Arrive => true,
            // A trigger of the application may write more rows, which are logged with this event as
            // their cause.
            _ if there.triggered.contains(&op) => true,
            // A foreign key's action is logged like that too. And in a table that refers to itself,
            // a child that another event of the run deletes is still there when its parent is
            // judged.
            Kind::Delete => tables
                .children(&there.table.name)
                .any(|(child, key)| !key.on_delete.refuses() || child.name == there.table.name),
            // An update frees a value that is not known here.
            Kind::Update => self.columns.iter().any(|&at| {
                there.table.is_key(at) || is_in_unique(&there.table, &there.table.columns[at])
            }),
            // The value of such a default is known only after the write. It is logged with this
            // event as its cause.
            Kind::Insert if self.leaves_default(&there.table) => true,
            Kind::Insert => there.table.uniques.iter().any(|unique| {
                unique.terms.iter().any(|term| match term {
                    Term::Column(name, collation) => {
                        matches!(collation, Collation::Other(_)) || self.image.get(name).is_none()
                    }
                    Term::Expression(_) => true,
                })
            }),
        }
    }

    /// Whether an insert leaves a column to a default whose value is not known in advance.
    fn leaves_default(&self, table: &Table) -> bool {
        let mut left =
            table.columns.iter().enumerate().filter(|(at, _)| !self.columns.contains(at));
        left.any(|(_, column)| plain_default(column).is_none())
    }

    /// Texts for the event's row and UNIQUE values. Two events with a common text may not share a
    /// run.
    pub(super) fn claims(&self) -> Vec<String> {
        let keys = std::iter::once(&self.event.key).chain(&self.event.other);
        let mut claims: Vec<_> = keys.map(|key| self.row(key)).collect();
        if self.kind == Kind::Insert {
            claims.extend(self.unique_claims());
        }
        claims
    }

    /// The text for a row of the event's table, from its key.
    fn row(&self, key: &RowKey) -> String {
        match (self.table, key.values()) {
            (Some(there), Ok(values)) => row(&there.table, values.iter()),
            _ => claim("row", &self.event.table, [key.0.clone()]),
        }
    }

    /// The UNIQUE values of its image.
    pub(super) fn unique_claims(&self) -> Vec<String> {
        let Some(there) = self.table else { return Vec::new() };
        let mut claims = Vec::new();
        for unique in &there.table.uniques {
            let values = unique.terms.iter().map(|term| match term {
                Term::Column(name, collation) => self.folded(&there.table, name, collation),
                Term::Expression(_) => None,
            });
            if let Some(values) = values.collect::<Option<Vec<_>>>() {
                claims.push(claim(&unique.name, &there.table.name, values));
            }
        }
        claims
    }

    /// A copy of the event with another image.
    pub(super) fn with_image(&self, image: Image) -> Judged<'a> {
        let Judged { event, table, kind, .. } = *self;
        Judged { event, table, kind, image, columns: self.columns.clone() }
    }

    /// The texts of the rows that foreign keys of its image refer to, as in [`Judged::claims`]. All
    /// these foreign keys lead to keys.
    pub(super) fn parents(&self, tables: &RemoteTables) -> Vec<String> {
        let Some(there) = self.table else { return Vec::new() };
        let mut rows = Vec::new();
        for key in &there.table.foreign_keys {
            let is_parent = |it: &&RemoteTable| it.table.name.eq_ignore_ascii_case(&key.parent);
            let Some(parent) = tables.tables.iter().find(is_parent) else { continue };
            let value = |column: &Column| {
                let is = |(_, to): &&(String, String)| to.eq_ignore_ascii_case(&column.name);
                let (from, _) = key.columns.iter().find(is)?;
                self.image.get(&there.table.column(from)?.name)
            };
            let values: Option<Vec<_>> = parent.table.key_columns().map(value).collect();
            if let Some(values) = values
                && values.iter().all(|value| **value != Value::Null)
            {
                rows.push(row(&parent.table, values.into_iter()));
            }
        }
        rows
    }

    /// A value of the event in the form in which its index compares it. `None` for NULL, which
    /// equals nothing.
    fn folded(&self, table: &Table, name: &str, collation: &Collation) -> Option<String> {
        let column = table.column(name)?;
        folded(collation, self.image.get(&column.name)?)
    }

    /// The texts by which foreign keys of its own table refer to its row, each with the foreign
    /// key's number.
    pub(super) fn offers(&self) -> Vec<(usize, String)> {
        self.by_own_keys(false)
    }

    /// The texts of the rows of its own table that the event refers to, each with the foreign key's
    /// number.
    pub(super) fn needs(&self) -> Vec<(usize, String)> {
        self.by_own_keys(true)
    }

    fn by_own_keys(&self, child: bool) -> Vec<(usize, String)> {
        let Some(there) = self.table else { return Vec::new() };
        let table = &there.table;
        let mut found = Vec::new();
        for (number, key) in table.foreign_keys.iter().enumerate() {
            if !key.parent.eq_ignore_ascii_case(&table.name) {
                continue;
            }
            let values = key.columns.iter().map(|(from, to)| {
                let parent = table.column(to)?;
                let name = if child { from } else { to };
                let value = self.image.get(&table.column(name)?.name)?;
                // The comparison uses the parent column's collation.
                folded(&parent.collation, value)
            });
            if let Some(values) = values.collect::<Option<Vec<_>>>() {
                found.push((number, claim("own", &number.to_string(), values)));
            }
        }
        found
    }
}

/// The SQL of a column's default, if the resulting value is certain.
pub(super) fn plain_default(column: &Column) -> Option<&str> {
    let Some(sql) = column.default.as_deref().map(str::trim) else { return Some("NULL") };
    let is_text = sql.len() > 1 && sql.starts_with('\'') && sql.ends_with('\'');
    let is_text = is_text && !sql[1..sql.len() - 1].contains('\'');
    let is_certain = match column.affinity {
        _ if sql.eq_ignore_ascii_case("null") => true,
        Affinity::Text => is_text,
        Affinity::Blob => is_text || sql.parse::<i64>().is_ok(),
        Affinity::Integer | Affinity::Numeric => sql.parse::<i64>().is_ok(),
        Affinity::Real => false,
    };
    is_certain.then_some(sql)
}

/// Whether a column may affect a UNIQUE index.
fn is_in_unique(table: &Table, column: &Column) -> bool {
    table.uniques.iter().any(|unique| match unique.plain_columns(table) {
        Some(plain) => plain.iter().any(|(plain, _)| plain.name == column.name),
        // A generated column may be computed from it.
        None => {
            unique.mentions(&column.present)
                || table.generated.iter().any(|made| unique.mentions(made))
        }
    })
}

fn claim(what: &str, table: &str, values: impl IntoIterator<Item = String>) -> String {
    let mut text = format!("{what}\0{table}");
    for value in values {
        text.push('\0');
        text.push_str(&value);
    }
    text
}

/// The text for a row, from the values of its key.
fn row<'v>(table: &Table, values: impl Iterator<Item = &'v Value>) -> String {
    let parts = table.key_collations.iter().zip(values);
    let parts = parts.map(|(collation, value)| folded(collation, value).unwrap_or_default());
    claim("row", &table.name, parts)
}

/// A text for a value. Equal values have the same text. Different values may have the same text
/// too.
fn folded(collation: &Collation, value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::Integer(integer) => return Some(number(*integer as f64)),
        Value::Real(real) => return Some(number(*real)),
        Value::Blob(bytes) => return Some(format!("x{bytes:?}")),
        Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
    };
    // A numeric column may store text as a number, and a TEXT column a number as text.
    if let Ok(real) = text.trim().parse::<f64>() {
        return Some(number(real));
    }
    Some(match collation {
        Collation::NoCase => text.split('\0').next().unwrap_or_default().to_ascii_lowercase(),
        Collation::RTrim => text.trim_end_matches(' ').to_owned(),
        _ => text,
    })
}

fn number(real: f64) -> String {
    format!("#{real}")
}

/// Whether a foreign key of the event's table leads to that table's own key.
pub(super) fn leads_to_key(judged: &Judged<'_>, key: usize) -> bool {
    judged.table.is_some_and(|there| {
        let table = &there.table;
        let columns = &table.foreign_keys[key].columns;
        columns.len() == table.key.len()
            && columns
                .iter()
                .zip(table.key_columns())
                .all(|((_, to), column)| to.eq_ignore_ascii_case(&column.name))
    })
}

/// Whether a key's JSON has a tagged value.
pub(super) fn is_tagged_key(key: &RowKey) -> bool {
    key.0.contains('{') && key.values().is_ok_and(|key| key.iter().any(Value::is_tagged))
}
