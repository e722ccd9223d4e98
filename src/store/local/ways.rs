//! Where the rows of a page went: deletes and key changes, in the order of the log.

use std::collections::HashMap;

use crate::event::{EventId, Image, RowKey, Seq};

/// A row of a replicated table: the table's place in the store's list, and the key.
pub(super) type Row = (usize, RowKey);

/// Where a row went.
#[derive(Clone, Debug)]
pub(super) enum Next {
    /// It was deleted.
    Gone,
    /// Its key was changed to this one.
    To(RowKey),
    /// Its key was changed, perhaps, and the event with the new key is not applied yet. This is
    /// what its delete says of it.
    Unknown(Option<Image>),
}

/// Deletes and key changes of a page, in the order of the log.
#[derive(Debug, Default)]
pub(in crate::store) struct Ways {
    steps: Vec<(Row, Next)>,
    /// Deletes of key changes whose insert has not come yet.
    halves: HashMap<EventId, (Row, Option<Image>)>,
    /// Inserts of key changes whose delete came in an earlier page, with the delete's id.
    lone: HashMap<Row, (EventId, Seq)>,
    /// Own key changes that are off their rows again: the key before, by the key after.
    back: HashMap<Row, RowKey>,
}

impl Ways {
    /// A row of a replica's event was deleted: one half of a key change. `before` is what the event
    /// says of it.
    pub(super) fn half_deleted(&mut self, id: EventId, row: Row, before: Option<Image>) {
        self.halves.insert(id, (row, before));
    }

    /// The other half of the key change that began with the event `delete`.
    pub(super) fn half_inserted(&mut self, delete: EventId, row: Row, seq: Seq) {
        match self.halves.remove(&delete) {
            Some((from, _)) if from.0 == row.0 => self.steps.push((from, Next::To(row.1))),
            _ => self.came_alone(row, delete, seq),
        }
    }

    /// An insert at `seq` whose `delete` came in an earlier page.
    pub(super) fn came_alone(&mut self, row: Row, delete: EventId, seq: Seq) {
        self.lone.insert(row, (delete, seq));
    }

    /// A row was deleted, and its key was not changed.
    pub(super) fn deleted(&mut self, row: Row) {
        self.steps.push((row, Next::Gone));
    }

    /// A row was deleted by the last event of the page: the next page tells whether its key was
    /// changed.
    pub(super) fn deleted_last(&mut self, row: Row, before: Option<Image>) {
        self.steps.push((row, Next::Unknown(before)));
    }

    /// The row that the step before this one deleted.
    pub(super) fn just_deleted(&self) -> Option<&Row> {
        match self.steps.last() {
            Some((row, Next::Gone)) => Some(row),
            _ => None,
        }
    }

    /// The row that was just deleted has got the key `to`.
    pub(super) fn was_renamed(&mut self, to: RowKey) {
        if let Some((_, next)) = self.steps.last_mut() {
            *next = Next::To(to);
        }
    }

    /// The own key change from `from` is off its row again.
    pub(super) fn turned_back(&mut self, row: Row, from: RowKey) {
        self.back.insert(row, from);
    }

    /// The key that a row had before the own key changes that are off it again. What was on the row
    /// first is taken off first.
    pub(super) fn before_own(&self, row: &Row) -> Row {
        let mut row = row.clone();
        // A hostile log may lead in a circle.
        for _ in 0..self.back.len() {
            let Some(key) = self.back.get(&row) else { break };
            row.1 = key.clone();
        }
        row
    }

    /// The delete of a row that came alone, and where its insert is.
    pub(super) fn delete_of(&self, row: &Row) -> Option<(EventId, Seq)> {
        self.lone.get(row).copied()
    }

    /// Where the rows that were there before the page went, and whether their keys changed on the
    /// way.
    pub(super) fn fates(&self) -> HashMap<Row, (Next, bool)> {
        let mut fates: HashMap<Row, (Next, bool)> = HashMap::new();
        // Which of the rows from before the page has a key now; `None` for a new row.
        let mut holders: HashMap<Row, Option<Row>> = HashMap::new();
        let halves = self.halves.values().cloned();
        let unknown = halves.map(|(row, image)| (row, Next::Unknown(image)));
        for (row, next) in self.steps.iter().cloned().chain(unknown) {
            let holder = holders.insert(row.clone(), None).unwrap_or(Some(row.clone()));
            if let Next::To(key) = &next {
                holders.insert((row.0, key.clone()), holder.clone());
            }
            if let Some(holder) = holder {
                let renamed = fates.get(&holder).is_some_and(|(_, renamed)| *renamed);
                let renamed = renamed || matches!(next, Next::To(_));
                fates.insert(holder, (next, renamed));
            }
        }
        fates
    }
}
