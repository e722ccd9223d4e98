//! Finds from the log where a row is, whose own key changes are off it, and where it went before
//! the page.
//!
//! An own key change may lose long after the remote has deleted its row or given it another key:
//! the verdict comes with a later page. Until then the children have the own key, and another row
//! may have got the former key. So the log is read again from the place that the own event's writer
//! had seen. This happens only if a key change has lost whose delete was set aside before.

use std::collections::HashMap;

use super::ways::{Change, Row, Ways, is_renamed, is_webs};
use crate::error::Result;
use crate::event::{Event, EventId, Image, Op, RowKey, Seq};
use crate::store::Store;
use crate::store::apply::rebase::Rebase;
use crate::store::apply::step::Step;
use crate::store::log::frame;
use crate::store::outbox::pending::{PendingEvent, load, row_hash};

/// A row before its own key changes.
pub(super) enum Own {
    /// Its own delete is still on top. That delete found this image.
    Covered(Row, Image),
    /// It is as the own event's writer saw it.
    AsItWas(Row),
    /// Others may have changed it after this place in the log.
    Since(Row, Seq),
}

/// What happened to a row.
#[derive(Clone, Debug)]
pub(super) enum Went {
    /// This event deleted it. If an insert belongs to that event and was not read yet, its key
    /// changed.
    Gone(EventId),
    /// It got this key, with this image.
    To(RowKey, Option<Image>),
}

/// The rows that are searched.
#[derive(Default)]
struct Search {
    /// The requested rows, by the key that each has at this point of the log.
    holders: HashMap<Row, Vec<Row>>,
    /// The same for rows of whose key change only the delete was read, by that delete.
    halves: HashMap<EventId, Vec<Row>>,
    went: HashMap<Row, Went>,
}

impl Rebase<'_, '_> {
    /// Where the rows went before the page, for rows whose own key changes are off them.
    pub(super) fn past(&self, ways: &Ways) -> Step<HashMap<Row, Went>> {
        let mut rows = Vec::new();
        for (row, back) in ways.backs() {
            let own = self.before_own(ways, row, back.insert() + 1)?;
            if let Some(Own::Since(row, base)) = own {
                rows.push((row, base));
            }
        }
        Ok(self.task().store().went(rows, self.task().start().cursor())?)
    }

    /// The row that had a key before its own key changes up to the outbox number `end`. `None` if
    /// there are none.
    pub(super) fn before_own(&self, ways: &Ways, row: &Row, end: i64) -> Step<Option<Own>> {
        let mut found = None;
        let (mut row, mut end) = (row.clone(), end);
        loop {
            let change = match ways.own_change(&row, end) {
                Some(back) => Some(back.change().clone()),
                // A key change that was off its row before this page.
                None => match found {
                    Some(Own::Since(_, base)) => self.earlier_change(&row, end, base)?,
                    _ => None,
                },
            };
            // A hostile log may contain a cycle.
            let change = change.filter(|change| change.delete() < end);
            let Some(change) = change else { return Ok(found) };
            (row.1, end) = (change.from().clone(), change.delete());
            let delete = load(self.task().db(), self.task().store().outbox.layouts(), end)?;
            let on_top = delete.filter(|event| !event.is_aside() && event.is_old_key());
            if let Some(delete) = on_top {
                let image = delete.undo(None)?.unwrap_or_default();
                return Ok(Some(Own::Covered(row, image)));
            }
            found = Some(match ways.is_untouched(end) {
                true => Own::AsItWas(row.clone()),
                false => Own::Since(row.clone(), change.base()),
            });
        }
    }

    /// The own key change that had given this key to a row before the outbox number `end`, and was
    /// off it before this page.
    fn earlier_change(&self, row: &Row, end: i64, base: Seq) -> Step<Option<Change>> {
        let name = &self.task().store().tables[row.0].table.name;
        let settled = self.task().store().own_changes(base)?;
        let key_of = |n: i64, change: Option<PendingEvent>| {
            let delete = settled.iter().find(|event| event.id.outbox_number() == n);
            change
                .map(|delete| delete.key().clone())
                .or_else(|| delete.map(|event| event.key.clone()))
        };
        let read = |n| load(self.task().db(), self.task().store().outbox.layouts(), n);
        let pending =
            self.task().store().outbox.pending().of_row(row_hash(name, &row.1.0)).to_vec();
        for n in pending.into_iter().rev().filter(|&n| n < end) {
            let Some(event) = read(n)?.filter(|event| event.is_of(name, &row.1.0)) else {
                continue;
            };
            if !event.is_aside() || event.op() == Op::Delete {
                return Ok(None);
            }
            if event.is_new_key() {
                let (from, (_, base)) = (key_of(n - 1, read(n - 1)?), event.claim());
                return Ok(from.map(|from| Change::new(from, n - 1, base)));
            }
        }
        let lost = settled.iter().rev().find(|event| {
            let is_row = event.key == row.1 && event.table.eq_ignore_ascii_case(name);
            let is_before = event.op == Op::Insert && event.id.outbox_number() < end;
            is_row && is_before && !event.verdict.is_applied()
        });
        let Some(lost) = lost else { return Ok(None) };
        let Some(n) = lost.pair.map(EventId::outbox_number) else { return Ok(None) };
        Ok(key_of(n, None).map(|from| Change::new(from, n, lost.base)))
    }
}

impl Store {
    /// The settled halves of own key changes, from a place in the log on.
    fn own_changes(&self, after: Seq) -> Result<Vec<Event>> {
        let sql = "SELECT seq, header, vals FROM driftless_log
                   WHERE seq > ?1 AND own ORDER BY seq";
        let mut statement = self.db.prepare_cached(sql)?;
        let mut frames = statement.query([after.0])?;
        let mut found = Vec::new();
        while let Some(next) = frames.next()? {
            found.extend(Some(frame(next)?).filter(|event| event.pair.is_some()));
        }
        Ok(found)
    }

    /// Where rows went in the log up to `end`, each from its place in the log on.
    fn went(&self, mut rows: Vec<(Row, Seq)>, end: Seq) -> Result<HashMap<Row, Went>> {
        let mut search = Search::default();
        rows.sort_unstable_by_key(|(_, after)| after.0);
        let Some(&(_, first)) = rows.first() else { return Ok(search.went) };
        let mut rows = rows.into_iter().peekable();
        let sql = "SELECT seq, header, vals FROM driftless_log
                   WHERE seq > ?1 AND seq <= ?2 ORDER BY seq";
        let mut statement = self.db.prepare_cached(sql)?;
        let mut frames = statement.query((first.0, end.0))?;
        let mut last: Option<Event> = None;
        while let Some(next) = frames.next()? {
            let event = frame(next)?;
            while let Some((row, _)) = rows.next_if(|(_, after)| *after < event.seq) {
                search.holders.entry(row.clone()).or_default().push(row);
            }
            if event.verdict.is_applied() {
                self.search(&mut search, last.as_ref(), &event);
            }
            last = Some(event);
        }
        Ok(search.went)
    }

    fn search(&self, search: &mut Search, last: Option<&Event>, event: &Event) {
        let Some(table) = self.table_index(&event.table) else { return };
        let row = (table, event.key.clone());
        match event.op {
            Op::Delete => {
                let Some(asked) = search.holders.remove(&row) else { return };
                for row in &asked {
                    search.went.insert(row.clone(), Went::Gone(event.id));
                }
                search.halves.insert(event.id, asked);
            }
            Op::Insert => {
                let delete = event.pair.or_else(|| {
                    let definition = &self.tables[table].table;
                    let last = last.filter(|last| is_change(last, event))?;
                    let (before, after) = (last.before.as_ref(), event.after.as_ref());
                    is_renamed(definition, before, after).then_some(last.id)
                });
                let Some(asked) = delete.and_then(|delete| search.halves.remove(&delete)) else {
                    return;
                };
                for row in &asked {
                    let went = Went::To(event.key.clone(), event.after.clone());
                    search.went.insert(row.clone(), went);
                }
                search.holders.entry(row).or_default().extend(asked);
            }
            Op::Update => {}
        }
    }
}

/// Whether two consecutive events may be a key change that the remote made.
fn is_change(delete: &Event, insert: &Event) -> bool {
    delete.op == Op::Delete
        && delete.seq.0 + 1 == insert.seq.0
        && delete.verdict.is_applied()
        && delete.pair.is_none()
        && is_webs(&delete.origin, delete.cause)
        && (&delete.origin, delete.cause) == (&insert.origin, insert.cause)
        && delete.table.eq_ignore_ascii_case(&insert.table)
}
