//! Where the rows of a page went: its deletes and key changes, in the order of the log.

use std::collections::{HashMap, HashSet};

use crate::catalog::Table;
use crate::event::{EventId, Image, Origin, RowKey, Seq};

/// A row of a replicated table: the table's place in the store's list, and the key.
pub(super) type Row = (usize, RowKey);

/// What happened to a row.
#[derive(Clone, Debug)]
pub(super) enum Next {
    /// It was deleted.
    Gone,
    /// Its key was changed to this one, by the insert in this line of the page.
    To(RowKey, usize),
    /// Its key was perhaps changed. The event with the new key is not applied yet.
    Unknown,
}

/// A row that left its key.
#[derive(Clone, Debug)]
struct Departure {
    row: Row,
    next: Next,
    /// The line of its delete.
    delete: usize,
}

/// What happened to a row that existed before the page.
#[derive(Clone, Debug)]
pub(super) struct Fate {
    next: Next,
    first: usize,
    last: usize,
    renamed: bool,
}

impl Fate {
    pub(super) fn next(&self) -> &Next {
        &self.next
    }

    /// The line of the delete that removed its first key.
    pub(super) fn first_delete(&self) -> usize {
        self.first
    }

    /// The line of the delete that removed its last key.
    pub(super) fn last_delete(&self) -> usize {
        self.last
    }

    /// Whether its key changed on the way.
    pub(super) fn is_renamed(&self) -> bool {
        self.renamed
    }
}

/// The insert of a key change whose delete was in an earlier page, or waited with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lone {
    delete: EventId,
    seq: Seq,
    insert: usize,
}

impl Lone {
    /// The insert at `seq`, in the line `insert`.
    pub(super) fn new(delete: EventId, seq: Seq, insert: usize) -> Self {
        Lone { delete, seq, insert }
    }

    pub(super) fn delete(&self) -> EventId {
        self.delete
    }

    /// The place of the insert in the log.
    pub(super) fn seq(&self) -> Seq {
        self.seq
    }

    /// The line of the insert.
    pub(super) fn insert(&self) -> usize {
        self.insert
    }
}

/// An own key change that was taken off its row.
#[derive(Clone, Debug)]
pub(super) struct Back {
    insert: i64,
    image: Option<Image>,
    change: Change,
}

impl Back {
    /// `insert` is the outbox number of its insert, and `image` the row with the new key.
    pub(super) fn new(insert: i64, image: Option<Image>, change: Change) -> Self {
        Back { insert, image, change }
    }

    /// The outbox number of its insert.
    pub(super) fn insert(&self) -> i64 {
        self.insert
    }

    /// The row with the new key.
    pub(super) fn image(&self) -> Option<&Image> {
        self.image.as_ref()
    }

    pub(super) fn change(&self) -> &Change {
        &self.change
    }
}

/// An own key change.
#[derive(Clone, Debug)]
pub(super) struct Change {
    from: RowKey,
    delete: i64,
    base: Seq,
}

impl Change {
    /// `delete` is the outbox number of its delete, and `base` the seq that its writer had seen.
    pub(super) fn new(from: RowKey, delete: i64, base: Seq) -> Self {
        Change { from, delete, base }
    }

    /// The key before.
    pub(super) fn from(&self) -> &RowKey {
        &self.from
    }

    /// The outbox number of its delete.
    pub(super) fn delete(&self) -> i64 {
        self.delete
    }

    /// The seq that its writer had seen.
    pub(super) fn base(&self) -> Seq {
        self.base
    }
}

/// The deletes and key changes of a page, in the order of the log.
#[derive(Debug, Default)]
pub(in crate::store) struct Ways {
    steps: Vec<Departure>,
    /// Deletes of key changes whose insert has not been read yet.
    halves: HashMap<EventId, (Row, usize)>,
    lone: HashMap<Row, Lone>,
    /// Own key changes that were taken off, by the new key.
    back: HashMap<Row, Vec<Back>>,
    /// Deletes of own key changes that have lost and were on their rows until now.
    on_top: HashSet<i64>,
    /// The lines of inserts that have waited in quarantine.
    waited: HashMap<Row, usize>,
    /// The lines of own inserts that have lost and were off their rows before.
    lost: HashMap<Row, usize>,
}

impl Ways {
    /// This line deleted a row, as one half of a replica's key change.
    pub(super) fn half_deleted(&mut self, id: EventId, row: Row, delete: usize) {
        self.halves.insert(id, (row, delete));
    }

    /// The insert of the key change whose delete is the event `delete`.
    pub(super) fn half_inserted(&mut self, row: Row, lone: Lone) {
        match self.halves.remove(&lone.delete) {
            Some((from, delete)) if from.0 == row.0 => {
                let next = Next::To(row.1, lone.insert);
                self.steps.push(Departure { row: from, next, delete });
            }
            _ => self.came_alone(row, lone),
        }
    }

    /// An insert whose delete is not recorded here.
    pub(super) fn came_alone(&mut self, row: Row, lone: Lone) {
        self.lone.insert(row, lone);
    }

    /// This line deleted a row, and its key was not changed.
    pub(super) fn deleted(&mut self, row: Row, delete: usize) {
        self.steps.push(Departure { row, next: Next::Gone, delete });
    }

    /// The last event of the page deleted a row. The next page decides whether its key was changed.
    pub(super) fn deleted_last(&mut self, row: Row, delete: usize) {
        self.steps.push(Departure { row, next: Next::Unknown, delete });
    }

    /// The row that the line `delete` deleted got the key `to` in the next line.
    pub(super) fn was_renamed(&mut self, delete: usize, to: RowKey) {
        if let Some(step) = self.steps.last_mut().filter(|step| step.delete == delete) {
            step.next = Next::To(to, delete + 1);
        }
    }

    /// An insert was taken out of quarantine, in this line.
    pub(super) fn waited(&mut self, row: Row, insert: usize) {
        self.waited.insert(row, insert);
    }

    /// The delete of an own key change has lost, and was on its row until now.
    pub(super) fn was_on_top(&mut self, delete: i64) {
        self.on_top.insert(delete);
    }

    /// Whether a row was as its own delete had found it, until this page.
    pub(super) fn is_untouched(&self, delete: i64) -> bool {
        self.on_top.contains(&delete)
    }

    /// An own insert in this line has lost, and was off its row before.
    pub(super) fn lost_insert(&mut self, row: Row, insert: usize) {
        self.lost.insert(row, insert);
    }

    /// The own inserts that have lost and were off their rows before.
    pub(super) fn lost_inserts(&self) -> Vec<(&Row, &usize)> {
        in_order(&self.lost)
    }

    /// An own key change to this row was taken off.
    pub(super) fn turned_back(&mut self, row: Row, back: Back) {
        self.back.entry(row).or_default().push(back);
    }

    /// The own key change that gave a key to a row, among those that were taken off: the last one
    /// before the outbox number `end`.
    pub(super) fn own_change(&self, row: &Row, end: i64) -> Option<&Back> {
        let all = self.back.get(row)?.iter().filter(|back| back.insert < end);
        all.max_by_key(|back| back.insert)
    }

    /// The own key changes that were taken off their rows.
    pub(super) fn backs(&self) -> impl Iterator<Item = (&Row, &Back)> {
        in_order(&self.back)
            .into_iter()
            .flat_map(|(row, all)| all.iter().map(move |one| (row, one)))
    }

    /// The inserts of key changes that came alone.
    pub(super) fn lone(&self) -> Vec<(&Row, &Lone)> {
        in_order(&self.lone)
    }

    /// The row whose delete, in an earlier page, was this event, and its insert.
    pub(super) fn after_delete(&self, delete: EventId) -> Option<(&Row, &Lone)> {
        self.lone.iter().find(|(_, lone)| lone.delete == delete)
    }

    /// The inserts that have waited in quarantine.
    pub(super) fn out_of_quarantine(&self) -> Vec<(&Row, &usize)> {
        in_order(&self.waited)
    }

    /// Where the rows that existed before the page went.
    pub(super) fn fates(&self) -> HashMap<Row, Fate> {
        let mut fates: HashMap<Row, Fate> = HashMap::new();
        // For each key, the row from before the page that has it now; `None` for a new row.
        let mut holders: HashMap<Row, Option<Row>> = HashMap::new();
        let halves = self.halves.values().cloned();
        let halves = halves.map(|(row, delete)| Departure { row, next: Next::Unknown, delete });
        for Departure { row, next, delete } in self.steps.iter().cloned().chain(halves) {
            let holder = holders.insert(row.clone(), None).unwrap_or(Some(row.clone()));
            if let Next::To(key, _) = &next {
                holders.insert((row.0, key.clone()), holder.clone());
            }
            if let Some(holder) = holder {
                let known = fates.get(&holder);
                let renamed = known.is_some_and(|fate| fate.renamed);
                let renamed = renamed || matches!(next, Next::To(..));
                let first = known.map_or(delete, |fate| fate.first);
                fates.insert(holder, Fate { next, first, last: delete, renamed });
            }
        }
        fates
    }
}

/// The entries of a map, in the order of the rows.
pub(super) fn in_order<T>(map: &HashMap<Row, T>) -> Vec<(&Row, &T)> {
    let mut all: Vec<_> = map.iter().collect();
    all.sort_unstable_by_key(|(row, _)| *row);
    all
}

/// Whether the remote made an event. The halves of its key changes do not name each other.
pub(super) fn is_webs(origin: &Origin, cause: Option<EventId>) -> bool {
    *origin == Origin::Web || cause.is_some()
}

/// Whether two images differ only in their keys.
pub(super) fn is_renamed(table: &Table, before: Option<&Image>, after: Option<&Image>) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return false };
    let columns = table.columns.iter().enumerate();
    let mut others = columns.filter(|(at, _)| !table.is_key(*at)).map(|(_, column)| &column.name);
    others.all(|name| before.get(name) == after.get(name))
}
