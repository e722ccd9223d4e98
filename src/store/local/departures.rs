//! Which rows of replicated tables a page took away or gave another key, for the tables that are
//! not replicated and refer to them.
//!
//! The rows before the page are compared with the rows after it. What is written in between does
//! not count: a pass may take a row off and write it again. The log tells two things that the rows
//! do not: which row has got another key, and that a row which was deleted and inserted again is
//! another row.
//!
//! The events of a replica's key change name each other. Those of the web's do not: there, a delete
//! that is followed at once by the insert of the same values under another key is a key change.
//! Where a page ends with such a delete, what it was is told by the next page.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::actions::{Actions, Item};
use super::dangling::remember;
use super::dependents::Parent;
use super::ways::{Next, Row, Ways};
use crate::catalog::Table;
use crate::event::page::Line;
use crate::event::value::Value;
use crate::event::{EventId, Image, Op, Origin, RowKey, Seq};
use crate::store::apply::rebase::Rebase;
use crate::store::apply::step::Step;
use crate::store::outbox::pending::{PendingEvent, load};
use crate::store::rows::row::known_key;

/// What a row is after the page.
enum After {
    /// The values to which foreign keys refer. `sure` says that it is known to be the row that it
    /// was; then its children follow it also where another row has its former values now.
    Row { values: Vec<Value>, sure: bool },
    /// It is gone. `sure` says that the remote deleted it; otherwise another row may have taken
    /// its place.
    Gone { sure: bool },
    /// Nobody knows yet: see [`Next::Unknown`]. So its children stay with what it was last.
    Unknown(Vec<Option<Value>>),
}

impl Rebase<'_, '_> {
    /// Notes an applied event of the page, for the rows that refer to its row.
    pub(in crate::store) fn follow(&mut self, at: usize, row: Option<usize>, table: usize) {
        if !self.writer.is_watched(table) {
            return;
        }
        let line = &self.lines[at];
        let pending = row.map_or(&[][..], |row| &self.rows[row].pending);
        if pending.iter().any(|(_, id, aside)| *id == line.id && !aside) {
            // Its row was so before the page.
            return;
        }
        let row = (table, RowKey(line.key.to_owned()));
        let ways = &mut self.ways;
        match (line.op, line.pair) {
            (Op::Insert, Some(delete)) => ways.half_inserted(delete, row, line.seq),
            // What was applied before is not done to the children a second time.
            (Op::Delete, _) if self.again => {}
            (Op::Delete, Some(_)) => {
                let before = line.before.and_then(|before| Image::parse(before).ok());
                ways.half_deleted(line.id, row, before);
            }
            // The next page tells whether it was a key change (`follow_on`).
            (Op::Delete, None)
                if at + 1 == self.lines.len() && self.more && is_webs(&line.origin, line.cause) =>
            {
                let before = line.before.and_then(|before| Image::parse(before).ok());
                ways.deleted_last(row, before);
            }
            (Op::Delete, None) => ways.deleted(row),
            (Op::Insert, None) if at > 0 && !self.again => {
                let Some(from) = ways.just_deleted() else { return };
                let before = &self.lines[at - 1];
                if from.0 == table && from.1.0 == before.key && is_web_pair(before, line) {
                    let definition = &self.store.tables[table].table;
                    if is_renamed(definition, before.before, line.after) {
                        ways.was_renamed(row.1);
                    }
                }
            }
            _ => {}
        }
    }

    /// What became of a row that the web deleted in the last event of the page before this one.
    fn follow_on(&mut self) -> Step<Option<(usize, Vec<Option<Value>>)>> {
        let Some(first) = self.lines.first().filter(|_| !self.again) else { return Ok(None) };
        let Some(last) = self.store.settled(self.start.cursor)? else { return Ok(None) };
        let of_web = is_webs(&last.origin, last.cause);
        if last.op != Op::Delete || last.pair.is_some() || !of_web || !last.verdict.is_applied() {
            return Ok(None);
        }
        let table = self.store.table_index(&last.table);
        let Some(table) = table.filter(|&table| self.writer.is_watched(table)) else {
            return Ok(None);
        };
        let before = last.before.as_ref().map(Image::to_json);
        let definition = &self.store.tables[table].table;
        let is_next = first.seq.0 == last.seq.0 + 1
            && first.op == Op::Insert
            && first.pair.is_none()
            && (&first.origin, first.cause) == (&last.origin, last.cause)
            && first.table.eq_ignore_ascii_case(&last.table);
        if is_next && is_renamed(definition, before.as_deref().map(str::as_bytes), first.after) {
            let row = (table, RowKey(first.key.to_owned()));
            self.ways.came_alone(row, last.id, first.seq);
            return Ok(None);
        }
        Ok(Some((table, self.before_of((last.id, first.seq), table)?)))
    }

    /// Notes that the own event `n` has lost, if it is the insert of a key change and was on its
    /// row until now.
    pub(in crate::store) fn turn_back(&mut self, at: usize, row: usize, n: i64) -> Step {
        let (line, row) = (&self.lines[at], &self.rows[row]);
        let (Some(table), Some(delete)) = (row.table, line.pair) else { return Ok(()) };
        let on_top = row.pending.iter().any(|(other, _, aside)| *other == n && !aside);
        if !on_top || line.op != Op::Insert || !self.writer.is_watched(table) {
            return Ok(());
        }
        let here = self.lines.iter().find(|other| other.id == delete);
        let from = match here {
            Some(delete) => Some(RowKey(delete.key.to_owned())),
            None => self.store.own_event(delete)?.map(|event| event.key),
        };
        let to = RowKey(line.key.to_owned());
        if let Some(from) = from {
            self.ways.turned_back((table, to), from);
        }
        Ok(())
    }

    /// The same for one that is set aside.
    pub(in crate::store) fn turn_back_pending(&mut self, event: &PendingEvent, row: usize) -> Step {
        let Some(table) = self.rows[row].table.filter(|&table| self.writer.is_watched(table))
        else {
            return Ok(());
        };
        if event.is_aside() || !event.is_new_key() {
            return Ok(());
        }
        let (n, ..) = event.brief();
        let delete = load(self.db, &self.store.layouts, n - 1)?;
        if let Some(delete) = delete.filter(PendingEvent::is_old_key) {
            self.ways.turned_back((table, event.key().clone()), delete.key().clone());
        }
        Ok(())
    }

    /// Carries out the actions of foreign keys from tables that are not replicated.
    pub(in crate::store) fn carry_out_actions(&mut self) -> Step {
        if !self.writer.watches() {
            return Ok(());
        }
        let gone = self.follow_on()?;
        let noted = self.writer.take_noted();
        let ways = std::mem::take(&mut self.ways);
        let fates = ways.fates();
        let mut items: BTreeMap<usize, Vec<Item>> = BTreeMap::new();
        let mut left = BTreeSet::new();
        for (row, before) in noted {
            let table = row.0;
            let renamed = fates.get(&row).is_some_and(|(_, renamed)| *renamed);
            if let Some(delete) = ways.delete_of(&row) {
                // It comes from another key. A row that had its key before the page is another one.
                let mut after = self.after_as(&fates, &row)?;
                if let After::Row { sure, .. } | After::Gone { sure } = &mut after {
                    *sure = false;
                }
                let before = self.before_of(delete, table)?;
                self.compare(table, &before, (&after, renamed), &mut items, &mut left);
            }
            if let Some(before) = before {
                let before: Vec<_> = before.into_iter().map(Some).collect();
                let after = self.after(&ways, &fates, &row)?;
                self.compare(table, &before, (&after, renamed), &mut items, &mut left);
            }
        }
        if let Some((table, before)) = gone {
            let after = After::Gone { sure: false };
            self.compare(table, &before, (&after, false), &mut items, &mut left);
        }
        let dependents = &self.store.dependents;
        left.extend(Actions::new(self.db, dependents).run(items)?);
        remember(self.db, &left, dependents)?;
        Ok(())
    }

    /// Adds what changed for each foreign key that refers to a row.
    fn compare(
        &self,
        table: usize,
        before: &[Option<Value>],
        (after, renamed): (&After, bool),
        items: &mut BTreeMap<usize, Vec<Item>>,
        left: &mut BTreeSet<usize>,
    ) {
        let dependents = &self.store.dependents;
        let definition = &self.store.tables[table].table;
        let mut from = 0;
        for place in dependents.of(Parent::Replicated(table)) {
            let key = dependents.key(place);
            let range = from..from + key.width();
            from = range.end;
            let old: Option<Vec<Value>> = before[range.clone()].iter().cloned().collect();
            // Nothing refers to NULL.
            let Some(old) = old.filter(|old| !old.contains(&Value::Null)) else { continue };
            let (new, sure) = match after {
                // The first change of the key parted the children from the row, whatever came then.
                _ if renamed && key.is_of_key(definition) && key.is_cut_by_update() => {
                    (Some(old.clone()), true)
                }
                After::Row { values, sure } => {
                    let new = values[range].to_vec();
                    if key.are_same(&old, &new) {
                        continue;
                    }
                    (Some(new), *sure)
                }
                After::Gone { sure } => (None, *sure),
                After::Unknown(last) => {
                    left.insert(place);
                    let last: Option<Vec<Value>> =
                        last.get(range).and_then(|last| last.iter().cloned().collect());
                    match last.filter(|last| *last != old) {
                        Some(last) => (Some(last), true),
                        None => continue,
                    }
                }
            };
            items.entry(place).or_default().push(Item { old, new, sure });
        }
    }

    fn referred(&self, (table, key): &Row) -> Step<Option<Vec<Value>>> {
        Ok(match known_key(&self.store.tables[*table].table, &key.0) {
            Some(values) => self.writer.referred(*table, &values)?,
            None => None,
        })
    }

    /// What became of a row that was there before the page.
    fn after(&self, ways: &Ways, fates: &HashMap<Row, (Next, bool)>, row: &Row) -> Step<After> {
        self.after_as(fates, &ways.before_own(row))
    }

    /// The same by what the page did alone.
    fn after_as(&self, fates: &HashMap<Row, (Next, bool)>, row: &Row) -> Step<After> {
        let there = match fates.get(row) {
            Some((Next::Gone, _)) => return Ok(After::Gone { sure: true }),
            Some((Next::Unknown(image), _)) => {
                return Ok(After::Unknown(
                    self.store.dependents.values_of(Parent::Replicated(row.0), image.as_ref()),
                ));
            }
            Some((Next::To(key), _)) => self.referred(&(row.0, key.clone()))?,
            None => match self.referred(row)? {
                None => return Ok(After::Gone { sure: false }),
                there => there,
            },
        };
        Ok(match there {
            Some(values) => After::Row { values, sure: true },
            None => After::Unknown(Vec::new()),
        })
    }

    /// What a row was whose key change began in an earlier page, as far as its delete tells.
    fn before_of(&self, delete: (EventId, Seq), table: usize) -> Step<Vec<Option<Value>>> {
        let image = self.store.logged_before(delete.0, delete.1)?.and_then(|event| event.before);
        Ok(self.store.dependents.values_of(Parent::Replicated(table), image.as_ref()))
    }
}

/// Whether the remote made an event. Its halves of a key change do not name each other.
fn is_webs(origin: &Origin, cause: Option<EventId>) -> bool {
    *origin == Origin::Web || cause.is_some()
}

/// Whether two lines that follow each other may be a key change of the web's, or of a trigger's.
fn is_web_pair(delete: &Line<'_>, insert: &Line<'_>) -> bool {
    delete.op == Op::Delete
        && delete.seq.0 + 1 == insert.seq.0
        && delete.verdict.is_applied()
        && is_webs(&delete.origin, delete.cause)
        && (&delete.origin, delete.cause) == (&insert.origin, insert.cause)
}

/// Whether two images differ in their keys alone.
fn is_renamed(table: &Table, before: Option<&[u8]>, after: Option<&[u8]>) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return false };
    let (Ok(before), Ok(after)) = (Image::parse(before), Image::parse(after)) else {
        return false;
    };
    let columns = table.columns.iter().enumerate();
    let mut others = columns.filter(|(at, _)| !table.is_key(*at)).map(|(_, column)| &column.name);
    others.all(|name| before.get(name) == after.get(name))
}
