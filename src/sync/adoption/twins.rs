//! Rows of the two sides that are one to a UNIQUE index, and have two keys.

use std::collections::HashMap;

use crate::catalog::{Collation, Unique};
use crate::event::value::Value;
use crate::event::{Image, RowKey};
use crate::protocol::compare::ComparedTable;
use crate::sync::adoption::report::Twins;

/// Pairs that are named.
const NAMED: usize = 5;

/// Some columns of a UNIQUE index.
type Terms = Vec<(String, Collation)>;

/// The values of an index, hashed.
type Values = [u8; 16];

/// The UNIQUE values of the rows of a table that differ.
pub(super) struct Uniques {
    indexes: Vec<Index>,
}

struct Index {
    terms: Terms,
    /// The rows that would stand with the local values, and those with the remote's.
    mine: HashMap<Values, RowKey>,
    theirs: HashMap<Values, RowKey>,
}

impl Uniques {
    /// The UNIQUE indexes that either side has, of plain columns that both have.
    pub(super) fn of(table: &ComparedTable) -> Uniques {
        let mut indexes = Vec::<Index>::new();
        for (side, other) in [(table.here(), table.there()), (table.there(), table.here())] {
            for unique in &side.uniques {
                let Some(terms) = terms(unique, side) else { continue };
                let is_shared = terms.iter().all(|(name, _)| other.column(name).is_some());
                let is_known = |known: &Index| {
                    known.terms.len() == terms.len()
                        && known
                            .terms
                            .iter()
                            .zip(&terms)
                            .all(|((a, x), (b, y))| a.eq_ignore_ascii_case(b) && x == y)
                };
                if is_shared && !indexes.iter().any(is_known) {
                    indexes.push(Index { terms, mine: HashMap::new(), theirs: HashMap::new() });
                }
            }
        }
        Uniques { indexes }
    }

    /// A row that would stand as it is here.
    pub(super) fn local(&mut self, key: &RowKey, row: &Image) {
        for index in &mut self.indexes {
            if let Some(values) = values(&index.terms, row) {
                index.mine.insert(values, key.clone());
            }
        }
    }

    /// A row that would stand as it is on the remote.
    pub(super) fn remote(&mut self, key: &RowKey, row: &Image) {
        for index in &mut self.indexes {
            if let Some(values) = values(&index.terms, row) {
                index.theirs.insert(values, key.clone());
            }
        }
    }

    /// The rows that cannot both stand.
    pub(super) fn twins(self) -> Vec<Twins> {
        let found = self.indexes.into_iter().filter_map(|index| {
            let both = index.mine.iter().filter_map(|(values, mine)| {
                let theirs = index.theirs.get(values)?;
                (mine != theirs).then(|| [mine.0.clone(), theirs.0.clone()])
            });
            let mut keys: Vec<_> = both.collect();
            keys.sort_unstable();
            let rows = keys.len() as u64;
            keys.truncate(NAMED);
            let columns = index.terms.into_iter().map(|(name, _)| name).collect();
            (rows > 0).then_some(Twins { columns, rows, keys })
        });
        found.collect()
    }
}

/// The columns of an index, if it has nothing else, with collations of SQLite's own.
fn terms(unique: &Unique, table: &crate::catalog::Table) -> Option<Terms> {
    let columns = unique.plain_columns(table)?;
    let is_known = |collation: &Collation| !matches!(collation, Collation::Other(_));
    let all = columns.into_iter().map(|(column, collation)| {
        is_known(collation).then(|| (column.name.clone(), collation.clone()))
    });
    all.collect()
}

/// The values of an index in a row; `None` if one is NULL, which is equal to nothing.
fn values(terms: &Terms, row: &Image) -> Option<Values> {
    let value = |(column, collation): &(String, Collation)| {
        let found = row.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(column));
        let value = found.map(|(_, value)| value).filter(|value| **value != Value::Null)?;
        Some(canonical(value, collation))
    };
    let values: Vec<Value> = terms.iter().map(value).collect::<Option<_>>()?;
    let hash = blake3::hash(RowKey::from_values(&values).0.as_bytes());
    hash.as_bytes()[..16].try_into().ok()
}

/// One form of all values that an index takes for equal.
fn canonical(value: &Value, collation: &Collation) -> Value {
    match (value, collation) {
        (Value::Text(text), Collation::NoCase) => Value::Text(text.to_ascii_lowercase()),
        (Value::Text(text), Collation::RTrim) => {
            let end = text.iter().rposition(|&byte| byte != b' ').map_or(0, |at| at + 1);
            Value::Text(text[..end].to_vec())
        }
        // 1 and 1.0 are equal. A double of this size is exact.
        (Value::Real(real), _) if real.fract() == 0.0 && real.abs() < 9e15 => {
            Value::Integer(*real as i64)
        }
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_an_index_takes_for_equal_have_one_form() {
        let text = |text: &str| Value::from(text);
        let same = [
            (text("Ab"), text("aB"), Collation::NoCase),
            (text("a  "), text("a"), Collation::RTrim),
            (Value::Integer(2), Value::Real(2.0), Collation::Binary),
        ];
        for (a, b, collation) in same {
            assert_eq!(canonical(&a, &collation), canonical(&b, &collation), "{a:?}");
        }
        let other = [
            (text("a"), text("A"), Collation::Binary),
            (text("é"), text("É"), Collation::NoCase),
            (text(" a"), text("a"), Collation::RTrim),
            (Value::Integer(2), text("2"), Collation::Binary),
            (Value::Real(2.5), Value::Integer(2), Collation::Binary),
        ];
        for (a, b, collation) in other {
            assert_ne!(canonical(&a, &collation), canonical(&b, &collation), "{a:?}");
        }
    }
}
