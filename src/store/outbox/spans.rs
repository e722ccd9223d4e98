//! Dependency spans: the ranges of the outbox that must reach the remote in one transaction.
//!
//! Four kinds of events depend on each other. Each makes a span of outbox numbers:
//!
//! * the two halves of a key change;
//! * a foreign key's consequence and its cause, which comes later in the outbox;
//! * a child and a parent row that is inserted later;
//! * a parent row that is deleted, and child rows that are deleted or changed later.
//!
//! A push may end at a *cut point*: after an event that no span crosses. No span crosses the end of
//! a transaction, so it is enough to search up to the next known end.
//!
//! # Caveats
//!
//! * Values are compared loosely and by a hash of 64 bits. Two events may seem to depend on each
//!   other by mistake. This only makes a push longer.
//! * Events that are recorded as rejected are included, although nothing waits for them.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use rusqlite::Connection;

use super::fk_order::{Deletes, Later};
use super::reader::{Layouts, Reader};
use super::row::{EVENT, read};
use crate::catalog::Table;
use crate::error::{Kind, Result};

/// Dependency spans: the first and last number of each, in rising order. No two overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Spans(Vec<(i64, i64)>);

/// The spans of a range of the outbox: the schema version of the definitions that were used, the
/// first and the last number of the range, and the spans.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct KnownSpans(RefCell<Option<Stretched>>);

#[derive(Clone, Debug)]
struct Stretched {
    /// That of the definitions that the spans were found with.
    schema_version: i64,
    range: RangeInclusive<i64>,
    spans: Spans,
}

impl KnownSpans {
    pub(in crate::store) fn forget(&self) {
        self.0.take();
    }

    /// The spans of these events, by `find` if they are not known. `ask` looks something up in
    /// them.
    pub(in crate::store) fn of<T>(
        &self,
        schema_version: i64,
        range: RangeInclusive<i64>,
        find: impl FnOnce(RangeInclusive<i64>) -> Result<Spans>,
        ask: impl FnOnce(&Spans) -> T,
    ) -> Result<T> {
        let mut known = self.0.borrow_mut();
        let fits = |known: &Stretched| {
            known.schema_version == schema_version
                && known.range.contains(range.start())
                && known.range.contains(range.end())
        };
        let stretched = match known.take().filter(fits) {
            Some(stretched) => stretched,
            None => Stretched { schema_version, spans: find(range.clone())?, range },
        };
        Ok(ask(&known.insert(stretched).spans))
    }
}

impl Spans {
    /// Joins spans that overlap.
    pub(in crate::store) fn merged(mut spans: Vec<(i64, i64)>) -> Spans {
        spans.sort_unstable();
        let mut merged: Vec<(i64, i64)> = Vec::new();
        for (start, end) in spans {
            match merged.last_mut() {
                Some((_, last)) if start <= *last => *last = end.max(*last),
                _ => merged.push((start, end)),
            }
        }
        Spans(merged)
    }

    /// Reads the unsent events from `from` up to `to`, where a transaction ended.
    pub(in crate::store) fn read(
        db: &Connection,
        layouts: &Layouts,
        tables: &[&Table],
        range: RangeInclusive<i64>,
    ) -> Result<Spans> {
        let mut found = Finder::new(tables);
        let sql = format!(
            "SELECT {EVENT} FROM driftless_outbox
             WHERE n >= ?1 AND n <= ?2 AND NOT settled ORDER BY n DESC"
        );
        let mut statement = db.prepare_cached(&sql)?;
        let mut rows = statement.query([range.start(), range.end()])?;
        let mut reader = Reader::of_values(db, layouts);
        while let Some(row) = rows.next()? {
            let (n, key_change_half): (i64, Option<i64>) = (row.get(0)?, row.get(PAIR)?);
            found.join_key_changes(n, key_change_half);
            // A damaged event is reported when it is to be pushed. It delays no other event.
            let looked = layouts.table(db, row, 0).and_then(|table| {
                if found.later.is_related(&table) {
                    found.pass(&read(&mut reader, row)?)
                } else {
                    Ok(())
                }
            });
            looked.or_else(|error| match error.kind() {
                Kind::Corrupt => Ok(()),
                _ => Err(error),
            })?;
        }
        Ok(Spans::merged(found.spans))
    }

    /// The span that begins at or before `n` and ends after it: a push that ends with `n` would cut
    /// it.
    fn over(&self, n: i64) -> Option<(i64, i64)> {
        let at = self.0.partition_point(|&(_, end)| end <= n);
        self.0.get(at).copied().filter(|&(start, _)| start <= n)
    }

    /// The last cut point up to the event `n`: the number of the event before it. It is a number
    /// below the range if there is no such place.
    pub(in crate::store) fn cut_up_to(&self, n: i64) -> i64 {
        self.over(n).map_or(n, |(start, _)| start - 1)
    }

    /// The first cut point from the event `n` on: the number of the event before it.
    pub(in crate::store) fn cut_from(&self, n: i64) -> i64 {
        self.over(n).map_or(n, |(_, end)| end)
    }
}

/// The place of the column `pair` among [`EVENT`].
const PAIR: usize = 12;

/// Finds spans, from the last event to the first.
struct Finder<'t> {
    later: Later<'t>,
    deletes: Deletes<'t>,
    /// The second half of a key change, whose first half is the next event.
    key_change_half: Option<i64>,
    spans: Vec<(i64, i64)>,
}

impl<'t> Finder<'t> {
    fn new(tables: &[&'t Table]) -> Self {
        let (later, deletes) = (Later::new(tables), Deletes::new(tables));
        Finder { later, deletes, key_change_half: None, spans: Vec::new() }
    }

    fn join_key_changes(&mut self, n: i64, key_change_half: Option<i64>) {
        match (key_change_half, self.key_change_half.take()) {
            (Some(1), Some(insert)) => self.spans.push((n, insert)),
            (Some(2), _) => self.key_change_half = Some(n),
            _ => {}
        }
    }

    /// Adds the next event, which comes before all events that were added.
    fn pass(&mut self, row: &super::row::OutboxRow) -> Result<()> {
        let (event, at) = (row.event(), row.n() as usize);
        let mut reach = at;
        if let Some((table, key)) = row.parent()
            && row.key_change_half().is_none()
            && let Some(cause) = self.deletes.find(table, &key.0)?
        {
            reach = reach.max(cause);
        }
        self.deletes.pass(at, event)?;
        reach = reach.max(self.later.pass(at, event)?.unwrap_or(at));
        if reach > at {
            self.spans.push((event.n, reach as i64));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_point_is_behind_an_event_that_no_span_reaches_over() {
        let spans = Spans::merged(vec![(8, 9), (2, 4), (4, 5), (3, 4), (9, 9)]);
        assert_eq!(spans.0, [(2, 5), (8, 9)]);
        let cuts: Vec<_> = (1..=10).map(|n| (spans.cut_up_to(n), spans.cut_from(n))).collect();
        assert_eq!(
            cuts,
            [(1, 1), (1, 5), (1, 5), (1, 5), (5, 5), (6, 6), (7, 7), (7, 9), (9, 9), (10, 10)]
        );
    }
}
