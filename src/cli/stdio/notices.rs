//! Changed rows that the client was not told of yet.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use crate::event::{Change, RowKey, Seq};
use crate::sync::Changes;

/// How many rows are kept. If there are more, only their tables are.
pub(super) const MAX_ROWS: usize = 1_000;

/// The rows that pulls have changed since the last notification.
#[derive(Debug, Default)]
pub(super) struct Notices {
    rows: Vec<Change>,
    /// The place of each row in `rows`.
    places: HashMap<(String, RowKey), usize>,
    tables: BTreeSet<String>,
    everything: bool,
    cursor: Seq,
}

/// The notification `changes`.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    /// The rows that were changed, each once.
    rows: Vec<Change>,
    /// Tables of which more rows were changed than are told one by one.
    tables: BTreeSet<String>,
    /// Anything may have changed.
    everything: bool,
    /// The highest seq of the remote log that is integrated.
    cursor: Seq,
}

impl Notices {
    /// Adds the rows of a page.
    pub(super) fn add(&mut self, changes: Changes) {
        self.cursor = self.cursor.max(changes.cursor);
        if changes.missed {
            self.forget_rows();
            self.tables.clear();
            self.everything = true;
        }
        if self.everything {
            return;
        }
        for change in changes.rows {
            if self.tables.contains(&change.table) {
                continue;
            }
            match self.places.get(&(change.table.clone(), change.key.clone())) {
                Some(&place) => self.rows[place] = change,
                None => {
                    let row = (change.table.clone(), change.key.clone());
                    self.places.insert(row, self.rows.len());
                    self.rows.push(change);
                }
            }
            if self.rows.len() > MAX_ROWS {
                self.tables.extend(self.rows.iter().map(|change| change.table.clone()));
                self.forget_rows();
            }
        }
    }

    fn forget_rows(&mut self) {
        self.rows.clear();
        self.places.clear();
    }

    /// What was added since the last call; `None` if nothing was.
    pub(super) fn take(&mut self) -> Option<Told> {
        let is_nothing = self.rows.is_empty() && self.tables.is_empty() && !self.everything;
        if is_nothing {
            return None;
        }
        let Notices { rows, tables, everything, cursor, .. } = std::mem::take(self);
        self.cursor = cursor;
        Some(Told { rows, tables, everything, cursor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Op, Origin};

    fn page(table: &str, keys: std::ops::Range<usize>, op: Op, cursor: i64) -> Changes {
        let change = |key: usize| Change {
            table: table.to_owned(),
            key: RowKey(format!("[{key}]")),
            op,
            origin: Origin::Web,
        };
        Changes { rows: keys.map(change).collect(), cursor: Seq(cursor), missed: false }
    }

    #[test]
    fn a_row_is_told_once_with_what_became_of_it() {
        let mut notices = Notices::default();
        assert!(notices.take().is_none());
        notices.add(page("a", 0..2, Op::Insert, 2));
        notices.add(page("b", 0..1, Op::Insert, 3));
        notices.add(page("a", 1..2, Op::Delete, 4));
        let told = notices.take().unwrap();
        let rows: Vec<_> =
            told.rows.iter().map(|row| (row.table.as_str(), &*row.key.0, row.op)).collect();
        assert_eq!(
            rows,
            [("a", "[0]", Op::Insert), ("a", "[1]", Op::Delete), ("b", "[0]", Op::Insert)]
        );
        assert!(told.cursor == Seq(4) && !told.everything && told.tables.is_empty());
        assert!(notices.take().is_none(), "it was told");
    }

    #[test]
    fn of_too_many_rows_the_tables_are_told() {
        let mut notices = Notices::default();
        notices.add(page("a", 0..MAX_ROWS, Op::Insert, 1));
        notices.add(page("b", 0..1, Op::Insert, 2));
        notices.add(page("a", 0..9, Op::Delete, 3));
        notices.add(page("c", 0..2, Op::Delete, 4));
        let told = notices.take().unwrap();
        let tables: Vec<_> = told.tables.iter().map(String::as_str).collect();
        let rows: Vec<_> = told.rows.iter().map(|row| row.table.as_str()).collect();
        assert_eq!((tables, rows), (vec!["a", "b"], vec!["c", "c"]));
    }

    #[test]
    fn what_was_missed_may_be_anything() {
        let mut notices = Notices::default();
        notices.add(page("a", 0..MAX_ROWS + 1, Op::Insert, 1));
        notices.add(Changes::missed());
        notices.add(page("a", 0..2, Op::Insert, 5));
        let told = notices.take().unwrap();
        assert!(told.everything && told.rows.is_empty() && told.tables.is_empty());
        assert_eq!(told.cursor, Seq(5));
    }
}
