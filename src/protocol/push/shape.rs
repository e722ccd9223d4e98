//! The common properties of a run's events, and the SQL for their values.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::cell::{Cell, key_part};
use super::judged::{Judged, is_tagged_key};
use super::words::{E, Kind};
use crate::catalog::sql::of;
use crate::catalog::table::{Column, Table};
use crate::event::value::Value;
use crate::protocol::remote_tables::RemoteTable;

/// The alias of the event in `driftless_inbox`, where its values are taken from its JSON.
const INBOX: &str = "driftless_inbox";

/// The table, the op and the columns of a run, and facts that are true of some of its events.
pub(super) struct Shape<'a> {
    table: Option<&'a RemoteTable>,
    kind: Kind,
    /// The columns that the events set, by their place in the table.
    columns: Vec<usize>,
    /// The columns among them that have a tagged value in some event.
    tagged: BTreeSet<usize>,
    tagged_keys: bool,
    deferred: bool,
    refused: bool,
    causes: bool,
    /// Whether some event names a column that the table lacks.
    owing: bool,
    /// The foreign key by which events refer to rows that others of the run bring.
    parents_key: Option<usize>,
}

impl<'a> Shape<'a> {
    /// The shape of one event.
    pub(super) fn of(first: &Judged<'a>) -> Shape<'a> {
        let mut shape = Shape {
            table: first.table(),
            kind: first.kind(),
            columns: first.columns().to_vec(),
            tagged: BTreeSet::new(),
            tagged_keys: false,
            deferred: false,
            refused: false,
            causes: false,
            owing: false,
            parents_key: None,
        };
        shape.add(first);
        shape
    }

    /// Whether an event has the table, the op and the columns.
    pub(super) fn is_like(&self, next: &Judged<'_>) -> bool {
        match (self.table, next.table()) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => {
                ours.table.name == theirs.table.name
                    && self.kind == next.kind()
                    && self.columns == next.columns()
            }
            _ => false,
        }
    }

    /// Adds an event with the same shape.
    pub(super) fn add(&mut self, next: &Judged<'_>) {
        let event = next.event();
        if let Some(there) = self.table
            && !event.plain
        {
            let is_tagged = |at: &&usize| {
                let value = next.new_value(&there.table.columns[**at].name);
                value.is_some_and(Value::is_tagged)
            };
            self.tagged.extend(self.columns.iter().filter(is_tagged));
        }
        self.tagged_keys |=
            is_tagged_key(&event.key) || event.other.as_ref().is_some_and(is_tagged_key);
        self.deferred |= event.defer_fk;
        self.refused |= event.refuse.is_some();
        self.causes |= event.via.is_some();
        self.owing |= next.names_unknown();
    }

    /// The table, if the remote replicates it.
    pub(super) fn there(&self) -> Option<&'a RemoteTable> {
        self.table
    }

    /// The table, if some event names a column that it lacks.
    pub(super) fn owing(&self) -> Option<&'a RemoteTable> {
        self.table.filter(|_| self.owing)
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The columns that the events set, by their place in the table.
    pub(super) fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// Whether a later event may supply the rows that the foreign keys of some event miss.
    pub(super) fn has_deferred(&self) -> bool {
        self.deferred
    }

    /// Whether some event must be recorded as rejected.
    pub(super) fn has_refused(&self) -> bool {
        self.refused
    }

    /// Whether some event is a foreign key's consequence.
    pub(super) fn has_causes(&self) -> bool {
        self.causes
    }

    /// Whether events may refer to rows of the run by this foreign key of the table.
    pub(super) fn may_refer_by(&self, key: usize) -> bool {
        self.parents_key.is_none_or(|known| known == key)
    }

    /// Records that events refer to rows of the run by this foreign key.
    pub(super) fn refer_by(&mut self, key: usize) {
        self.parents_key = Some(key);
    }

    /// The foreign key by which events refer to rows that others of the run bring.
    pub(super) fn parents_key(&self) -> Option<usize> {
        self.parents_key
    }

    fn place(&self, column: &Column) -> Option<usize> {
        let table = &self.table?.table;
        self.columns.iter().copied().find(|&at| std::ptr::eq(&table.columns[at], column))
    }

    /// Whether the events set a column.
    pub(super) fn brings(&self, column: &Column) -> bool {
        self.place(column).is_some()
    }

    /// A column's value in the event [`E`] of [`Shape::source`].
    pub(super) fn value(&self, column: &Column) -> String {
        match self.place(column) {
            Some(at) => format!("{E}.v{}", at + 1),
            None => "NULL".to_owned(),
        }
    }

    /// SQL condition: the row `alias` has the key in the event's field `pk` or `other`.
    pub(super) fn has_key(&self, table: &Table, alias: &str, field: &str) -> String {
        let parts: Vec<_> = table
            .key_columns()
            .zip(&table.key_collations)
            .enumerate()
            .map(|(part, (column, collation))| {
                let value = key_value(field, part);
                let collate = match column.collation == *collation {
                    true => String::new(),
                    false => format!(" COLLATE {}", collation.name()),
                };
                format!("{}={value}{collate}", of(alias, &column.present))
            })
            .collect();
        parts.join(" AND ")
    }

    /// The FROM item for the events [`E`] whose numbers are between two parameters, in their order.
    /// It has the columns of `driftless_inbox`, and the values and parts of keys that `texts` name.
    /// Each is taken from the event's JSON once.
    pub(super) fn source(&self, texts: &[&str]) -> String {
        self.from(texts, "driftless_inbox", "driftless_inbox.n BETWEEN ? AND ?", "")
    }

    /// The same, with the column `parent`: the number of the event that brings the parent. Its two
    /// parameters are a JSON array of these numbers, and the number of the first element's event.
    pub(super) fn source_with_parents(&self, texts: &[&str]) -> String {
        let from = "json_each(?) AS driftless_p CROSS JOIN driftless_inbox \
                    ON driftless_inbox.n=driftless_p.key+?";
        self.from(texts, from, "1", ",driftless_p.value AS parent")
    }

    fn from(&self, texts: &[&str], from: &str, condition: &str, more: &str) -> String {
        let is_named = |name: &str| {
            let name = format!("{E}.{name}");
            texts.iter().any(|text| {
                text.match_indices(&name).any(|(at, _)| {
                    let next = text.as_bytes().get(at + name.len());
                    !next.is_some_and(u8::is_ascii_digit)
                })
            })
        };
        let mut taken = String::new();
        if let Some(there) = self.table {
            let table = &there.table;
            let json = match self.kind {
                Kind::Move => format!("{INBOX}.image"),
                _ => format!("{INBOX}.after"),
            };
            for &at in &self.columns {
                let name = format!("v{}", at + 1);
                if is_named(&name) {
                    let cell = Cell::new(&json, &table.columns[at], self.tagged.contains(&at));
                    let _ = write!(taken, ",{} AS {name}", cell.value());
                }
            }
            for part in 0..table.key.len() {
                for field in ["pk", "other"] {
                    let name = key_name(field, part);
                    if is_named(&name) {
                        let is_tagged = self.tagged_keys && !table.rowid_key;
                        let value = key_part(&format!("{INBOX}.{field}"), part, is_tagged);
                        let _ = write!(taken, ",{value} AS {name}");
                    }
                }
            }
        }
        // The LIMIT keeps SQLite from merging the subquery into the outer one.
        format!(
            "(SELECT driftless_inbox.*{more}{taken} FROM {from} WHERE {condition} \
             ORDER BY driftless_inbox.n LIMIT -1) AS {E}"
        )
    }
}

fn key_name(field: &str, part: usize) -> String {
    format!("{field}{}", part + 1)
}

/// A part of the key in the field `pk` or `other` of an event, from [`Shape::source`].
pub(super) fn key_value(field: &str, part: usize) -> String {
    format!("{E}.{}", key_name(field, part))
}
