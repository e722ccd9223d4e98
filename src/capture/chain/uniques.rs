//! The UNIQUE indexes that an order of events has to fit.

use std::collections::HashMap;

use super::step::State;
use crate::capture::layout::{Fold, canonical};
use crate::catalog::table::{Table, Term, Unique, mentions};
use crate::event::RowKey;
use crate::event::value::Value;

/// Columns that no two rows share, and how they compare.
#[derive(Clone, Debug)]
struct Index {
    columns: Vec<(String, Fold)>,
    /// Whether this is certain. The condition of a partial index is not evaluated here.
    strict: bool,
}

impl Index {
    /// `None` if the index has a generated column: an event has no value of it.
    fn of(unique: &Unique, table: &Table) -> Option<Index> {
        let strict = unique.predicate.is_none();
        let mut columns = Vec::new();
        for term in &unique.terms {
            match term {
                Term::Column(name, collation) => {
                    columns.push((table.column(name)?.name.clone(), Fold::of(collation)));
                }
                // Rows that agree in all columns of an expression agree in its value.
                Term::Expression(sql) => {
                    let made = &table.generated;
                    if made.iter().any(|column| mentions(sql, column)) {
                        return None;
                    }
                    let columns_of = table.columns.iter();
                    let found = columns_of.filter(|column| mentions(sql, &column.present));
                    columns.extend(found.map(|column| (column.name.clone(), Fold::Binary)));
                }
            }
        }
        Some(Index { columns, strict })
    }
}

/// The UNIQUE indexes of some tables.
#[derive(Clone, Debug, Default)]
pub struct Uniques {
    indexes: Vec<Index>,
    /// The indexes of a table, by its name in lower case.
    of_table: HashMap<String, Vec<usize>>,
}

impl Uniques {
    /// The UNIQUE indexes of `tables`.
    pub fn of<'a>(tables: impl Iterator<Item = &'a Table>) -> Uniques {
        let mut uniques = Uniques::default();
        for table in tables {
            for index in table.uniques.iter().filter_map(|unique| Index::of(unique, table)) {
                let of_table = uniques.of_table.entry(table.name.to_ascii_lowercase());
                of_table.or_default().push(uniques.indexes.len());
                uniques.indexes.push(index);
            }
        }
        uniques
    }

    pub(super) fn of_table(&self, table: &str) -> &[usize] {
        self.of_table.get(table).map_or(&[], Vec::as_slice)
    }

    /// Whether no two rows share an entry of this index, whatever its condition says.
    pub(super) fn is_strict(&self, index: usize) -> bool {
        self.indexes[index].strict
    }

    /// A row's entry in an index; `None` if it has none or it is unknown.
    pub(super) fn entry(&self, index: usize, state: &State) -> Option<Entry> {
        let State::Row(image) = state else { return None };
        let value = |(column, fold): &(String, Fold)| match image.get(column)? {
            Value::Null => None,
            value => Some(canonical(*fold, true, value.clone())),
        };
        let values: Option<Vec<_>> = self.indexes[index].columns.iter().map(value).collect();
        Some((index, RowKey::from_values(&values?).0))
    }
}

/// An index, and an entry's values in it.
pub(super) type Entry = (usize, String);

#[cfg(test)]
impl Uniques {
    /// One table with a UNIQUE column.
    pub(super) fn for_tests(table: &str, column: &str) -> Uniques {
        let index = Index { columns: vec![(column.to_owned(), Fold::Binary)], strict: true };
        let of_table = HashMap::from([(table.to_owned(), vec![0])]);
        Uniques { indexes: vec![index], of_table }
    }
}
