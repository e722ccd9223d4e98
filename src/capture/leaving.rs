//! Marks of parents that are about to change or go. From them a child's trigger knows that its
//! change is the consequence of a foreign key's action.
//!
//! A child's trigger may not look whether its parent is gone. SQLite parses every trigger when a
//! table is renamed or a column is dropped, and a trigger that names another table stops the
//! rebuild of that table. So the parent's BEFORE triggers leave a mark in `driftless_leaving`. They
//! run before the foreign key's actions. The parent's AFTER triggers remove the mark.
//!
//! A mark has the values of the columns that a foreign key leads to. They are stored in the column
//! with the affinity of the parent's column, so a mark compares with the child's value as the
//! parent's column would.
//!
//! # Caveats
//!
//! * A mark stays if a trigger of the application ignores the delete (`RAISE(IGNORE)`), or if a
//!   statement with OR IGNORE does not write. If such a child is deleted later, and its parent in
//!   the same push, the child's delete is taken for a consequence. It loses only if the parent's
//!   delete loses, and is listed with it. The next update of the parent removes the mark. So does
//!   the store.
//! * A REPLACE of a row by another version of itself leaves no mark: its event is an update, which
//!   has no consequences. An UPDATE OR REPLACE that evicts the parent of its own row leaves a mark,
//!   as above.

use crate::catalog::affinity::Affinity;
use crate::catalog::quote::{ident, literal};
use crate::catalog::sql::of;
use crate::catalog::table::{Collation, ForeignKey, Table};

/// The table of marks.
pub const LEAVING: &str = "driftless_leaving";

/// The columns of a parent that foreign keys with actions lead to.
pub(super) struct Target<'t> {
    columns: Vec<&'t str>,
    /// Whether a foreign key acts when the parent is deleted.
    on_delete: bool,
    /// The same for a change of these columns.
    on_update: bool,
}

impl<'t> Target<'t> {
    /// The columns.
    pub(super) fn columns(&self) -> &[&'t str] {
        &self.columns
    }

    /// Whether a foreign key acts when the parent is deleted.
    pub(super) fn on_delete(&self) -> bool {
        self.on_delete
    }

    /// The same for a change of these columns.
    pub(super) fn on_update(&self) -> bool {
        self.on_update
    }
}

/// The name of a target in a mark: its table and, unless it is the key, its columns.
pub(super) fn label(parent: &Table, columns: &[&str]) -> String {
    let key = parent.key_columns().map(|column| column.name.as_str());
    let is_key = columns.len() == parent.key.len()
        && columns.iter().zip(key).all(|(one, other)| one.eq_ignore_ascii_case(other));
    let mut label = parent.name.clone();
    if !is_key {
        for column in columns {
            label.push('.');
            label.push_str(&column.to_ascii_lowercase());
        }
    }
    literal(&label)
}

/// The targets of foreign keys in `parent`.
pub(super) fn targets<'t>(parent: &Table, replicated: &'t [&Table]) -> Vec<Target<'t>> {
    let mut targets: Vec<Target<'_>> = Vec::new();
    let keys = replicated.iter().flat_map(|child| &child.foreign_keys);
    for key in keys.filter(|key| key.parent.eq_ignore_ascii_case(&parent.name)) {
        let (on_delete, on_update) = (!key.on_delete.refuses(), !key.on_update.refuses());
        if !on_delete && !on_update {
            continue;
        }
        let columns: Vec<_> = key.columns.iter().map(|(_, to)| to.as_str()).collect();
        let name = label(parent, &columns);
        match targets.iter_mut().find(|known| label(parent, &known.columns) == name) {
            Some(known) => {
                known.on_delete |= on_delete;
                known.on_update |= on_update;
            }
            None => targets.push(Target { columns, on_delete, on_update }),
        }
    }
    targets
}

/// The column of a mark for these values: the one with their affinity or, for several columns, the
/// one for text.
pub(super) fn place(parent: &Table, columns: &[&str]) -> &'static str {
    let [name] = columns else { return "b" };
    match parent.column(name).map(|column| column.affinity) {
        Some(Affinity::Text) => "t",
        Some(Affinity::Integer | Affinity::Numeric | Affinity::Real) => "n",
        Some(Affinity::Blob) | None => "b",
    }
}

/// The value of a mark for the values of `columns`. Several values become one text; equal values
/// have texts that are equal without regard to case. Spaces at the end of a value would be inside
/// that text, so a value whose trailing spaces do not count is left out.
pub(super) fn spelled(parent: &Table, columns: &[&str], value: &dyn Fn(usize) -> String) -> String {
    if columns.len() == 1 {
        return value(0);
    }
    let part = |(at, name): (usize, &&str)| {
        let x = value(at);
        match parent.column(name).map(|column| &column.collation) {
            Some(Collation::RTrim | Collation::Other(_)) => None,
            _ => Some(format!("CASE WHEN {x} < '' THEN CAST({x} AS INTEGER) ELSE {x} END")),
        }
    };
    let parts: Vec<_> = columns.iter().enumerate().filter_map(part).collect();
    if parts.is_empty() { "''".to_owned() } else { format!("({})", parts.join(" || '|' || ")) }
}

/// The COLLATE clause by which a mark is compared.
fn collation(parent: &Table, columns: &[&str]) -> String {
    match (columns, parent.column(columns[0])) {
        ([_], Some(column)) => format!(" COLLATE {}", ident(column.collation.name())),
        ([_], None) => String::new(),
        _ => format!(" COLLATE {}", Collation::NoCase.name()),
    }
}

/// SQL condition: the parent of the row `old` by this foreign key has a mark.
pub(super) fn is_leaving(child: &Table, key: &ForeignKey, parent: &Table) -> String {
    let columns: Vec<_> = key.columns.iter().map(|(_, to)| to.as_str()).collect();
    let value = |at: usize| of("old", child.present(&key.columns[at].0));
    format!(
        "EXISTS (SELECT 1 FROM {LEAVING} AS p WHERE p.tbl = {} AND p.{} = {}{})",
        label(parent, &columns),
        place(parent, &columns),
        spelled(parent, &columns, &value),
        collation(parent, &columns),
    )
}
