//! The rows of a page that need thought: finding them, and taking their pending events off.

use std::borrow::Cow;
use std::collections::HashMap;

use rusqlite::Connection;

use super::rebase::{AffectedRow, NONE, Rebase};
use super::step::{Step, Strategy};
use crate::error::Result;
use crate::event::page::Line;
use crate::event::{EventId, Image, Op, RowKey, Seq};
use crate::store::outbox::pending::{PendingEvent, load, row_hash};
use crate::store::outbox::reader::Layouts;
use crate::store::rows::row::{Row, borrow, known_key};

impl Rebase<'_, '_> {
    /// Step 1: the rows that need thought.
    pub(in crate::store) fn group(&mut self) -> Step {
        let pending = self.store.pending.borrow();
        if pending.is_empty() && self.strategy != Strategy::Folded {
            return Ok(());
        }
        let mut index: HashMap<(usize, Cow<'_, str>), u32> = HashMap::new();
        let unreplicated = self.store.tables.len();
        self.of_line = vec![NONE; self.lines.len()];
        for (at, line) in self.lines.iter().enumerate() {
            let numbers = pending.of_row(row_hash(&line.table, line.key));
            if numbers.is_empty() && self.strategy != Strategy::Folded {
                continue;
            }
            let table = self.store.table_index(&line.table);
            let place = (table.unwrap_or(unreplicated), Cow::Borrowed(line.key));
            let row = match index.get(&place) {
                Some(&row) => row,
                None => {
                    let found =
                        load_row(self.db, &self.store.layouts, numbers, &line.table, line.key)?;
                    if found.is_empty() && self.strategy != Strategy::Folded {
                        continue;
                    }
                    let row = self.rows.len() as u32;
                    self.rows.push(self.affected(table, line.key, found));
                    index.insert(place, row);
                    row
                }
            };
            self.of_line[at] = row;
            self.rows[row as usize].lines.push(at);
        }
        if self.strategy == Strategy::InPlace {
            let mut rows = std::mem::take(&mut self.rows);
            for row in &mut rows {
                // Own events follow what waits for their row, too: else that would go on top of
                // them one day.
                let waits = self.any_waiting && self.is_waiting(&self.lines[row.lines[0]])?;
                row.unchanged = !waits && is_unchanged(row, self.lines, self.adopted);
            }
            self.rows = rows;
            return Ok(());
        }
        // A constraint is of one table, so only pending events of the page's tables can be in the
        // way.
        let mut busy = vec![self.everything; unreplicated];
        for line in self.lines {
            if let Some(table) = self.store.table_index(&line.table) {
                busy[table] = true;
            }
        }
        for n in pending.numbers() {
            let Some(event) = load(self.db, &self.store.layouts, n)? else { continue };
            let Some(table) = self.store.table_index(event.table()) else { continue };
            if !busy[table] || !self.is_writable(table) {
                continue;
            }
            let place = (table, Cow::Owned(event.key().0.clone()));
            match index.get(&place) {
                Some(&row) if !self.rows[row as usize].lines.is_empty() => {}
                Some(&row) => self.rows[row as usize].pending.push(event.brief()),
                None => {
                    index.insert(place, self.rows.len() as u32);
                    let (key, found) = (event.key().clone(), vec![event.brief()]);
                    self.rows.push(AffectedRow::new(Some(table), key, found));
                }
            }
        }
        Ok(())
    }

    fn affected(
        &self,
        table: Option<usize>,
        key: &str,
        pending: Vec<(i64, EventId, bool)>,
    ) -> AffectedRow {
        let writable = table.filter(|&table| self.is_writable(table));
        let unwritable = table.filter(|_| writable.is_none());
        AffectedRow { unwritable, ..AffectedRow::new(writable, RowKey(key.to_owned()), pending) }
    }

    /// Step 2: the rows as the remote has them.
    pub(in crate::store) fn undo_pending(&mut self) -> Step {
        for at in 0..self.rows.len() {
            let Some(table) = self.rows[at].table.filter(|_| !self.rows[at].unchanged) else {
                self.look_underneath(at)?;
                continue;
            };
            let key = self.rows[at].key.clone();
            let Some(values) = known_key(&self.store.tables[table].table, &key.0) else { continue };
            let current = self.writer.row(table, &values)?;
            let image = self.underneath(at, table, current.as_ref())?;
            if self.strategy == Strategy::InPlace {
                let same = current.as_ref().map(|row| &row.image) == image.as_ref();
                if !same {
                    let written = match (&image, &current) {
                        (Some(image), _) => self.writer.upsert(table, &key.0, &borrow(image)),
                        (None, Some(row)) => {
                            self.writer.remove_for_rewrite(table, &key, &values, row)
                        }
                        (None, None) => Ok(0),
                    };
                    self.check(written)?;
                }
            } else {
                if let Some(row) = &current {
                    let removed = self.writer.remove_for_rewrite(table, &key, &values, row);
                    self.check(removed)?;
                }
                // What it waits as counts more than what stands there.
                let image = match self.held_row(at, table) {
                    Some(whole) => Some(whole).filter(|whole| !whole.0.is_empty()),
                    None => image,
                };
                let row = &mut self.rows[at];
                row.current = current.map(|current| current.image);
                row.base.clone_from(&image);
                row.image = image;
            }
        }
        if self.strategy == Strategy::TableWide {
            for at in 0..self.rows.len() {
                let row = &self.rows[at];
                if let (Some(table), Some(image)) = (row.table, &row.image) {
                    let written = self.writer.upsert(table, &row.key.0, &borrow(image));
                    self.check(written)?;
                }
            }
        }
        Ok(())
    }
}

impl Rebase<'_, '_> {
    /// A row without its pending events. What is `current` is the row as it stands.
    pub(in crate::store) fn underneath(
        &self,
        at: usize,
        table: usize,
        current: Option<&Row>,
    ) -> Step<Option<Image>> {
        let mut image = current.map(|row| row.image.clone());
        for &(n, _, aside) in self.rows[at].pending.iter().rev() {
            if !aside
                && let Some(event) = load(self.db, &self.store.layouts, n)?
                && self.change_around(at, &event)?.is_none()
            {
                image = event.undo(image)?;
            }
        }
        if let Some(image) = &mut image {
            // A deleted row is undone to what it was, with columns that may be gone by now.
            let definition = &self.store.tables[table].table;
            image.0.retain(|(name, _)| definition.column(name).is_some());
        }
        Ok(image)
    }

    /// The base row that was held in quarantine. What stands in front of its event here is what
    /// could not be read when it began to wait.
    fn held_row(&mut self, at: usize, table: usize) -> Option<Image> {
        let &first = self.rows[at].lines.first()?;
        let mut seqs = self.rows[at].lines.iter().map(|&line| self.lines[line].seq);
        let mut image = seqs.find_map(|seq| self.held.remove(&seq))?;
        let definition = &self.store.tables[table].table;
        image.0.retain(|(name, _)| definition.column(name).is_some());
        self.changed(first, table);
        Some(image)
    }

    /// The number of the insert of a key change, if an event is what a foreign key did to a row
    /// that refers to itself and changes its key, and that insert is pending as well. Such an event
    /// has the new key and stands before the pair, and before the delete of a row that had the key
    /// and was replaced: on that row it never was. The insert's image has what it did, so there is
    /// nothing to undo or to do again.
    pub(in crate::store) fn change_around(
        &self,
        at: usize,
        event: &PendingEvent,
    ) -> Step<Option<i64>> {
        let Some(parent) = event.parent().filter(|parent| *parent != event.key()) else {
            return Ok(None);
        };
        let read = |n| load(self.db, &self.store.layouts, n);
        let (here, ..) = event.brief();
        let later = self.rows[at].pending.iter().filter(|(n, ..)| *n > here);
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
            let pending = self.store.pending.borrow();
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
}

/// Reads those of the pending events that are of this row and of no other with the same hash.
fn load_row(
    db: &Connection,
    layouts: &Layouts,
    numbers: &[i64],
    table: &str,
    key: &str,
) -> Result<Vec<(i64, EventId, bool)>> {
    let mut found = Vec::with_capacity(numbers.len());
    for &n in numbers {
        if let Some(event) = load(db, layouts, n)?
            && event.is_of(table, key)
        {
            found.push(event.brief());
        }
    }
    Ok(found)
}

/// Whether a row's events in the page are its first pending ones, all applied and none set aside:
/// then the row is what it will be. What is in the row already is underneath, and not on top.
fn is_unchanged(row: &AffectedRow, lines: &[Line<'_>], adopted: Seq) -> bool {
    row.lines.len() <= row.pending.len()
        && row.lines.iter().zip(&row.pending).all(|(&at, (_, id, aside))| {
            let line = &lines[at];
            line.id == *id && line.verdict.is_applied() && !aside && line.seq > adopted
        })
}
