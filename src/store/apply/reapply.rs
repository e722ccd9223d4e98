//! Reapplies pending events on top of a page, or sets them aside.

use rusqlite::Connection;

use super::rebase::Rebase;
use super::step::{Step, Stop};
use crate::catalog::Table;
use crate::event::conflict::{Claim, loses_to};
use crate::event::{Image, Op, Seq};
use crate::store::outbox::pending::{PendingEvent, known_columns, load, row_hash};
use crate::store::rows::refusal::{is_refusal, is_uncompiled};
use crate::store::rows::row::{Row, borrow, known_key};
use crate::store::rows::writer::Writer;

impl Rebase<'_, '_> {
    /// Step 2: the rows as the remote has them.
    pub(in crate::store) fn undo_pending(&mut self) -> Step {
        let task = self.task();
        for at in 0..self.rows().len() {
            let row = &self.rows()[at];
            let Some(table) = row.table().filter(|_| !row.is_unchanged()) else {
                self.look_underneath(at)?;
                continue;
            };
            let key = row.key().clone();
            let Some(values) = known_key(task.table(table), &key.0) else { continue };
            let current = self.row(table, &values)?;
            let image = self.underneath(at, table, current.as_ref())?;
            if !task.is_in_place() {
                if let Some(row) = &current {
                    let removed = self.writer_mut().remove_for_rewrite(table, &key, &values, row);
                    task.check(removed)?;
                }
                // What it waits as counts more than what stands there.
                let image = match self.held_row(at, table) {
                    Some(held) => Some(held).filter(|held| !held.0.is_empty()),
                    None => image,
                };
                let current = current.map(Row::into_image);
                self.rows_mut().row_mut(at).undone(current, image);
            } else if current.as_ref().map(Row::image) != image.as_ref() {
                let writer = self.writer_mut();
                let written = match (&image, &current) {
                    (Some(image), _) => writer.upsert(table, &key.0, &borrow(image)),
                    (None, Some(row)) => writer.remove_for_rewrite(table, &key, &values, row),
                    (None, None) => Ok(0),
                };
                task.check(written)?;
            }
        }
        if !task.is_in_place() && !task.is_folded() {
            let (writer, rows) = self.writer_and_rows();
            for row in rows.iter() {
                if let (Some(table), Some(image)) = (row.table(), row.image()) {
                    task.check(writer.upsert(table, &row.key().0, &borrow(image)))?;
                }
            }
        }
        Ok(())
    }

    /// A row without its pending events. What is `current` is the row as it stands.
    pub(super) fn underneath(
        &self,
        at: usize,
        table: usize,
        current: Option<&Row>,
    ) -> Step<Option<Image>> {
        let task = self.task();
        let mut image = current.map(|row| row.image().clone());
        for &(n, _, aside) in self.rows()[at].pending().iter().rev() {
            if !aside
                && let Some(event) = load(task.db(), task.store().outbox.layouts(), n)?
                && self.change_around(at, &event)?.is_none()
            {
                image = event.undo(image)?;
            }
        }
        if let Some(image) = &mut image {
            // A deleted row is undone to what it was, with columns that may be gone by now.
            let definition = task.table(table);
            image.0.retain(|(name, _)| definition.column(name).is_some());
        }
        Ok(image)
    }

    /// The base row that was held in quarantine. What stands in front of its event here is what
    /// could not be read when it began to wait.
    fn held_row(&mut self, at: usize, table: usize) -> Option<Image> {
        let task = self.task();
        let lines = self.rows()[at].lines().to_vec();
        let &first = lines.first()?;
        let seqs = lines.iter().map(|&line| task.lines()[line].seq);
        let mut image = self.quarantine_mut().take_held(seqs)?;
        let definition = task.table(table);
        image.0.retain(|(name, _)| definition.column(name).is_some());
        self.changed(first, table);
        Some(image)
    }

    /// The number of the insert of a key change, if an event is what a foreign key did to a row
    /// that refers to itself and changes its key, and that insert is pending as well. Such an event
    /// has the new key and stands before the pair, and before the delete of a row that had the key
    /// and was replaced: on that row it never was. The insert's image has what it did, so there is
    /// nothing to undo or to do again.
    fn change_around(&self, at: usize, event: &PendingEvent) -> Step<Option<i64>> {
        let Some(parent) = event.parent().filter(|parent| *parent != event.key()) else {
            return Ok(None);
        };
        let (db, store) = (self.task().db(), self.task().store());
        let read = |n| load(db, store.outbox.layouts(), n);
        let (here, ..) = event.brief();
        let later = self.rows()[at].pending().iter().filter(|(n, ..)| *n > here);
        for &(n, ..) in later {
            if !read(n)?.is_some_and(|insert| insert.is_new_key()) {
                continue;
            }
            // Events settle in the order of their push, where a consequence stands behind its
            // cause: if the delete has been settled and this has not, then that was the cause.
            let Some(delete) = read(n - 1)? else { return Ok(Some(n)) };
            if !delete.is_of(event.table(), &parent.0) {
                continue;
            }
            // The cause is the next delete of the parent, not a later one.
            let pending = store.outbox.pending();
            let numbers = pending.of_row(row_hash(event.table(), &parent.0));
            let between: Vec<i64> =
                numbers.iter().copied().filter(|&m| m > here && m < n - 1).collect();
            for m in between {
                if read(m)?.is_some_and(|e| e.op() == Op::Delete && e.key() == parent) {
                    return Ok(None);
                }
            }
            return Ok(Some(n));
        }
        Ok(None)
    }

    /// Step 4: the remaining pending events of the rows whose events were undone, in their order.
    pub(in crate::store) fn reapply(&mut self) -> Step {
        let (db, store) = (self.task().db(), self.task().store());
        let mut remaining: Vec<(i64, usize)> = Vec::new();
        for (at, row) in self.rows().iter().enumerate() {
            if !row.is_unchanged() && (row.table().is_some() || row.unwritable().is_some()) {
                remaining.extend(row.pending().iter().map(|&(n, ..)| (n, at)));
            }
        }
        remaining.sort_unstable();
        let mut within: Vec<(PendingEvent, usize, i64)> = Vec::new();
        for (n, at) in remaining {
            let Some(event) = load(db, store.outbox.layouts(), n)? else { continue };
            let (claim, base) = event.claim();
            let winner = self.winner(at, claim, base);
            if event.is_aside() || winner.is_some() {
                self.turn_back_pending(&event, at)?;
                self.hold_row(at, event.is_aside())?;
                self.set_aside(&event, at, winner)?;
            } else if self.rows()[at].unwritable().is_some() {
                // The event stays on the row, which was not written.
            } else if let Some(insert) = self.change_around(at, &event)? {
                within.push((event, at, insert));
            } else if !self.reapply_one(&event, at)? {
                self.turn_back_pending(&event, at)?;
                self.set_aside(&event, at, None)?;
            }
        }
        // The consequences of a key change on its own row stay on it while the key change does.
        for (event, at, insert) in within {
            if load(db, store.outbox.layouts(), insert)?.is_some_and(|insert| insert.is_aside()) {
                self.set_aside(&event, at, None)?;
            }
        }
        Ok(())
    }

    fn set_aside(&mut self, event: &PendingEvent, row: usize, winner: Option<Seq>) -> Step {
        event.set_aside(self.task().db(), winner)?;
        if !event.is_aside() {
            self.note_undone(row, event.op());
            self.count_set_aside();
        }
        Ok(())
    }

    /// Reapplies a pending event to its row. False if that is impossible.
    fn reapply_one(&mut self, event: &PendingEvent, at: usize) -> Step<bool> {
        let table = self.rows()[at].table().expect("only rows of replicated tables are rebased");
        let task = self.task();
        reapply_event(task.db(), self.writer_mut(), task.table(table), table, event)
    }

    /// The first event of the page that defeats an event of this row.
    pub(super) fn winner(&self, row: usize, event: Claim<'_>, base: Seq) -> Option<Seq> {
        let (row, task) = (&self.rows()[row], self.task());
        let table = row.table().or(row.unwritable());
        let rule = table.map(|table| task.store().tables[table].rule);
        let others = row.winners().iter().map(|&at| &task.lines()[at]);
        let others = others.map(|line| (line.seq, Claim { op: line.op, after: line.after }));
        loses_to(rule.unwrap_or_default(), event, base, others)
    }
}

/// Reapplies a pending event to its row, and records the image under it. False if the row is not as
/// the event needs it, or a constraint refuses it.
pub(in crate::store) fn reapply_event(
    db: &Connection,
    writer: &mut Writer<'_>,
    definition: &Table,
    table: usize,
    event: &PendingEvent,
) -> Step<bool> {
    let Some(key) = known_key(definition, &event.key().0) else { return Ok(false) };
    let current = writer.row(table, &key)?;
    if (event.op() == Op::Insert) == current.is_some() {
        return Ok(false);
    }
    let after = event.after()?;
    let columns = known_columns(definition, &after);
    if columns.len() != after.0.len() {
        return Ok(false);
    }
    let under = current.as_ref().map(|row| match event.op() {
        Op::Delete => row.image().clone(),
        _ => part(row.image(), &after),
    });
    let written = match (event.op(), &current) {
        (Op::Insert, _) => writer.upsert(table, &event.key().0, &columns),
        (Op::Update, _) => writer.update(table, &key, &columns),
        (Op::Delete, Some(row)) => writer.remove_for_rewrite(table, event.key(), &key, row),
        (Op::Delete, None) => unreachable!("a delete needs its row"),
    };
    match written {
        Ok(_) => {}
        Err(_) if db.is_autocommit() => return Err(Stop::RolledBack),
        Err(error) if is_refusal(&error) || is_uncompiled(&error) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    event.set_on(db, under.as_ref())?;
    Ok(true)
}

/// The part of `image` with the columns of `changed`.
fn part(image: &Image, changed: &Image) -> Image {
    let mine = |name: &str| image.0.iter().find(|(mine, _)| mine.eq_ignore_ascii_case(name));
    let columns = changed
        .0
        .iter()
        .filter_map(|(name, _)| mine(name).map(|(_, value)| (name.clone(), value.clone())));
    Image(columns.collect())
}
