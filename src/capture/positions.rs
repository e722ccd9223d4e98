//! The names of columns in triggers: those of `driftless_names`, and which column a capture trigger
//! has at which place, read from its text.
//!
//! `ALTER TABLE … RENAME COLUMN` rewrites the column's name in every trigger, and nothing else of
//! it. So the text of our own trigger tells what a column is called now that was at a place when
//! the trigger was made.

use crate::catalog::index_sql::{split_list, unquoted};
use crate::catalog::table::Table;

/// The most columns of `driftless_names`: below SQLite's own limit of 2,000. A table with a name
/// that does not fit is captured all the same; a column of it cannot be dropped.
const MAX_NAMES: usize = 1_900;

/// Every column name, once whatever its case, as far as they fit.
pub(super) fn names(tables: &[&Table]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for table in tables {
        let new: Vec<_> = table
            .present_names()
            .filter(|name| !seen.contains(&name.to_ascii_lowercase()))
            .map(str::to_owned)
            .collect();
        if names.len() + new.len() <= MAX_NAMES {
            seen.extend(new.iter().map(|name| name.to_ascii_lowercase()));
            names.extend(new);
        }
    }
    names
}

/// The name of the column that `value` reads from the row `old`: `old."x"`, or the same in
/// brackets after a SELECT.
fn column_of(value: &str) -> Option<String> {
    let value = value.trim();
    let inner = value.strip_prefix("(SELECT ").and_then(|rest| rest.strip_suffix(')'));
    unquoted(inner.unwrap_or(value).trim().strip_prefix("old.")?)
}

/// The values of a subquery that begins a FROM, each with its name.
fn subquery(from: &str) -> Vec<(&str, &str)> {
    let Some(list) = from.trim_start().strip_prefix("FROM (SELECT ") else { return Vec::new() };
    let (items, _) = split_list(list);
    let named = items.into_iter().filter_map(|item| item.rsplit_once(" AS "));
    named.map(|(value, name)| (name, value)).collect()
}

/// What a trigger for deletes inserts.
pub(super) struct Places<'s> {
    /// The columns of the table, in the order of their places.
    columns: Vec<String>,
    /// Each other place and its value.
    others: Vec<(&'s str, &'s str)>,
}

impl<'s> Places<'s> {
    /// The columns of the table, in the order of their places.
    pub(super) fn into_columns(self) -> Vec<String> {
        self.columns
    }

    /// The value of another place.
    pub(super) fn value(&self, name: &str) -> Option<&'s str> {
        self.others.iter().find(|(place, _)| *place == name).map(|(_, value)| *value)
    }
}

/// The columns of the table, as the trigger for its deletes names them, in the order of their
/// places. `None` if the text is not such a trigger's. `prefix` begins the names of the places in
/// the table `into`.
pub(super) fn columns_at_places<'s>(sql: &'s str, into: &str, prefix: &str) -> Option<Places<'s>> {
    let rest = sql.rsplit_once(&format!("INSERT INTO {into}"))?.1.trim_start();
    let (places, rest) = split_list(rest.strip_prefix('(')?);
    let rest = rest.trim_start().strip_prefix(')')?.trim_start();
    let (values, from) = split_list(rest.strip_prefix("SELECT ")?);
    let named = subquery(from);
    let (mut columns, mut others) = (Vec::new(), Vec::new());
    for (place, value) in places.into_iter().zip(values) {
        let number = place.strip_prefix(prefix).and_then(|number| number.parse::<usize>().ok());
        if number != Some(columns.len() + 1) {
            others.push((place, value));
            continue;
        }
        let name = value.rsplit_once('.').map_or(value, |(_, name)| name);
        let inner = named.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        columns.push(column_of(inner.unwrap_or(value))?);
    }
    (!columns.is_empty()).then_some(Places { columns, others })
}
