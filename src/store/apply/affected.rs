//! The rows that an attempt has to think about: those of the page, and those with pending events.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Index;

use rusqlite::Connection;

use super::step::{Step, Task};
use crate::catalog::Table;
use crate::error::Result;
use crate::event::{Column, EventId, Image, Op, RowKey};
use crate::store::outbox::pending::{Pending, load, row_hash};
use crate::store::outbox::reader::Layouts;
use crate::store::quarantine::rows::QuarantineRows;
use crate::store::rows::row::overlay;

/// No row: the place of an event whose row needs no thought.
const NONE: u32 = u32::MAX;

/// A pending event: its number, its id, and whether it is set aside.
type Brief = (i64, EventId, bool);

/// A row that needs thought.
#[derive(Debug)]
pub(in crate::store) struct AffectedRow {
    /// Its table, if that is replicated and can be written here.
    table: Option<usize>,
    /// Its table, if that is replicated and cannot be written here.
    unwritable: Option<usize>,
    key: RowKey,
    pending: Vec<Brief>,
    /// Its events in the page.
    lines: Vec<usize>,
    /// Nothing is to be written.
    unchanged: bool,
    /// What is underneath its pending events; in the fold, with the page's events so far.
    image: Option<Image>,
    /// What was underneath before the page.
    base: Option<Image>,
    /// The row as it stood, with its pending events; only where all of them come off.
    current: Option<Image>,
    /// Applied events of other writers in the page so far.
    winners: Vec<usize>,
}

impl AffectedRow {
    fn new(table: Option<usize>, unwritable: Option<usize>, key: RowKey) -> Self {
        AffectedRow {
            table,
            unwritable,
            key,
            pending: Vec::new(),
            lines: Vec::new(),
            unchanged: false,
            image: None,
            base: None,
            current: None,
            winners: Vec::new(),
        }
    }

    /// Its table, if that is replicated and can be written here.
    pub(in crate::store) fn table(&self) -> Option<usize> {
        self.table
    }

    /// Its table, if that is replicated and cannot be written here.
    pub(in crate::store) fn unwritable(&self) -> Option<usize> {
        self.unwritable
    }

    pub(in crate::store) fn key(&self) -> &RowKey {
        &self.key
    }

    /// Its pending events: number, id, and whether it is set aside.
    pub(in crate::store) fn pending(&self) -> &[Brief] {
        &self.pending
    }

    /// The number of the pending event with this id.
    pub(in crate::store) fn number_of(&self, id: EventId) -> Option<i64> {
        self.pending.iter().find(|(_, other, _)| *other == id).map(|(n, ..)| *n)
    }

    /// Whether the pending event is on the row, and not set aside.
    pub(in crate::store) fn has_on_top(&self, n: i64) -> bool {
        self.pending.iter().any(|(other, _, aside)| *other == n && !aside)
    }

    /// Whether the pending event is set aside.
    pub(in crate::store) fn has_aside(&self, n: i64) -> bool {
        self.pending.iter().any(|(other, _, aside)| *other == n && *aside)
    }

    /// Its events in the page, as places of lines.
    pub(in crate::store) fn lines(&self) -> &[usize] {
        &self.lines
    }

    /// Whether the page has events of it.
    pub(in crate::store) fn is_of_page(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Whether nothing is to be written.
    pub(in crate::store) fn is_unchanged(&self) -> bool {
        self.unchanged
    }

    /// It stays as it is, with its pending events.
    pub(in crate::store) fn leave_unchanged(&mut self) {
        self.unchanged = true;
    }

    /// What is underneath its pending events; in the fold, with the page's events so far.
    pub(in crate::store) fn image(&self) -> Option<&Image> {
        self.image.as_ref()
    }

    /// What was underneath before the page.
    pub(in crate::store) fn base(&self) -> Option<&Image> {
        self.base.as_ref()
    }

    /// The row as it stood, with its pending events.
    pub(in crate::store) fn current(&self) -> Option<&Image> {
        self.current.as_ref()
    }

    /// Applied events of other writers in the page so far, as places of lines.
    pub(in crate::store) fn winners(&self) -> &[usize] {
        &self.winners
    }

    /// All its pending events are off. It was `current`, and `base` is underneath.
    pub(in crate::store) fn undone(&mut self, current: Option<Image>, base: Option<Image>) {
        self.current = current;
        self.image.clone_from(&base);
        self.base = base;
    }

    /// This is underneath its pending events, which are still on it.
    pub(in crate::store) fn is_above(&mut self, base: Option<Image>) {
        self.base = base;
    }

    /// Folds an event of the page. False if it is an update, and there is no row.
    pub(in crate::store) fn fold(&mut self, table: &Table, op: Op, after: &[Column<'_>]) -> bool {
        match (op, &mut self.image) {
            (Op::Delete, image) => *image = None,
            (Op::Update, None) => return false,
            (Op::Update, Some(image)) => overlay(table, image, after),
            (Op::Insert, image) => overlay(table, image.get_or_insert_default(), after),
        }
        true
    }

    /// Another writer's event of the page was applied.
    pub(in crate::store) fn add_winner(&mut self, line: usize) {
        self.winners.push(line);
    }

    /// The pending event has its verdict.
    pub(in crate::store) fn settle(&mut self, n: i64) {
        self.pending.retain(|(other, ..)| *other != n);
    }

    /// Whether the row's events in the page are its first pending ones, all applied and none set
    /// aside: then the row is what it will be. What is in the row already is underneath, and not on
    /// top.
    fn is_as_it_will_be(&self, task: &Task<'_, '_>) -> bool {
        self.lines.len() <= self.pending.len()
            && self.lines.iter().zip(&self.pending).all(|(&at, (_, id, aside))| {
                let line = &task.lines()[at];
                line.id == *id && line.verdict.is_applied() && !aside && !task.has_adopted(line)
            })
    }
}

/// The rows that need thought.
#[derive(Debug, Default)]
pub(in crate::store) struct AffectedRows {
    rows: Vec<AffectedRow>,
    /// The row of each event of the page, or [`NONE`]; nothing if no row needs thought.
    of_line: Vec<u32>,
}

impl Index<usize> for AffectedRows {
    type Output = AffectedRow;

    fn index(&self, at: usize) -> &AffectedRow {
        &self.rows[at]
    }
}

/// The places of rows, by table and key.
type Places<'p> = HashMap<(usize, Cow<'p, str>), u32>;

impl AffectedRows {
    /// Finds them: step 1 of a rebase.
    pub(in crate::store) fn find(
        task: Task<'_, '_>,
        quarantine: &QuarantineRows<'_>,
    ) -> Step<AffectedRows> {
        let pending = task.store().outbox.pending();
        let mut found = AffectedRows::default();
        if pending.is_empty() && !task.is_folded() {
            return Ok(found);
        }
        let mut places = Places::new();
        found.add_page(task, &pending, &mut places)?;
        if task.is_in_place() {
            for row in &mut found.rows {
                // Own events follow what waits for their row, too: else that would go on top of
                // them one day.
                let waits = quarantine.has_earlier(&task.lines()[row.lines[0]])?;
                row.unchanged = !waits && row.is_as_it_will_be(&task);
            }
        } else {
            found.add_pending(task, &pending, &mut places)?;
        }
        Ok(found)
    }

    /// Adds the rows of the page that have pending events; for the fold, all of them.
    fn add_page<'s>(
        &mut self,
        task: Task<'s, '_>,
        pending: &Pending,
        places: &mut Places<'s>,
    ) -> Step {
        let store = task.store();
        let unreplicated = store.tables.len();
        self.of_line = vec![NONE; task.lines().len()];
        for (at, line) in task.lines().iter().enumerate() {
            let numbers = pending.of_row(row_hash(&line.table, line.key));
            if numbers.is_empty() && !task.is_folded() {
                continue;
            }
            let table = store.table_index(&line.table);
            let place = (table.unwrap_or(unreplicated), Cow::Borrowed(line.key));
            let row = match places.get(&place) {
                Some(&row) => row,
                None => {
                    let found = load_row(
                        task.db(),
                        store.outbox.layouts(),
                        numbers,
                        &line.table,
                        line.key,
                    )?;
                    if found.is_empty() && !task.is_folded() {
                        continue;
                    }
                    let row = self.rows.len() as u32;
                    let writable = table.filter(|&table| task.is_writable(table));
                    let unwritable = table.filter(|_| writable.is_none());
                    let key = RowKey(line.key.to_owned());
                    let new = AffectedRow::new(writable, unwritable, key);
                    self.rows.push(AffectedRow { pending: found, ..new });
                    places.insert(place, row);
                    row
                }
            };
            self.of_line[at] = row;
            self.rows[row as usize].lines.push(at);
        }
        Ok(())
    }

    /// Adds all rows of the page's tables with pending events. A constraint is of one table, so
    /// only these can be in the way.
    fn add_pending<'s>(
        &mut self,
        task: Task<'s, '_>,
        pending: &Pending,
        places: &mut Places<'s>,
    ) -> Step {
        let store = task.store();
        let mut busy = vec![task.is_of_everything(); store.tables.len()];
        for line in task.lines() {
            if let Some(table) = store.table_index(&line.table) {
                busy[table] = true;
            }
        }
        for n in pending.numbers() {
            let Some(event) = load(task.db(), store.outbox.layouts(), n)? else { continue };
            let Some(table) = store.table_index(event.table()) else { continue };
            if !busy[table] || !task.is_writable(table) {
                continue;
            }
            let place = (table, Cow::Owned(event.key().0.clone()));
            match places.get(&place) {
                Some(&row) if self.rows[row as usize].is_of_page() => {}
                Some(&row) => self.rows[row as usize].pending.push(event.brief()),
                None => {
                    places.insert(place, self.rows.len() as u32);
                    let new = AffectedRow::new(Some(table), None, event.key().clone());
                    self.rows.push(AffectedRow { pending: vec![event.brief()], ..new });
                }
            }
        }
        Ok(())
    }

    /// The row of a line, if it needs thought.
    pub(in crate::store) fn of_line(&self, line: usize) -> Option<usize> {
        self.of_line.get(line).copied().filter(|&row| row != NONE).map(|row| row as usize)
    }

    pub(in crate::store) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(in crate::store) fn iter(&self) -> std::slice::Iter<'_, AffectedRow> {
        self.rows.iter()
    }

    pub(in crate::store) fn iter_mut(&mut self) -> std::slice::IterMut<'_, AffectedRow> {
        self.rows.iter_mut()
    }

    /// The outbox numbers of the pending events of tables that `takes` names by their places,
    /// rising.
    pub(in crate::store) fn numbers(&self, takes: impl Fn(usize) -> bool) -> Vec<i64> {
        let rows = self.iter().filter(|row| row.table.is_some_and(&takes));
        let mut numbers: Vec<_> =
            rows.flat_map(|row| row.pending.iter().map(|(n, ..)| *n)).collect();
        numbers.sort_unstable();
        numbers
    }

    pub(in crate::store) fn row_mut(&mut self, at: usize) -> &mut AffectedRow {
        &mut self.rows[at]
    }
}

/// Reads those of the pending events that are of this row and of no other with the same hash.
fn load_row(
    db: &Connection,
    layouts: &Layouts,
    numbers: &[i64],
    table: &str,
    key: &str,
) -> Result<Vec<Brief>> {
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
