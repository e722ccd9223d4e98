//! Finds the rows of replicated tables that a page has deleted or given another key. Tables that
//! are not replicated may refer to them.
//!
//! The rows before the page are compared with the rows after it. Writes in between do not count: a
//! strategy may remove a row and write it again. Two facts are only in the log: which row has got
//! another key, and that a row which was deleted and inserted again is another row.
//!
//! The events of a replica's key change name each other. Those of the web application do not:
//! there, a delete that is directly followed by an insert of the same values with another key
//! counts as a key change. If such a delete is the last event of a page, the next page decides.
//!
//! Children stay with their row, even while it is not here:
//!
//! * A row that waits in quarantine keeps its children. If its key changes meanwhile, they follow,
//!   so that the row finds them when it is applied.
//! * An own key change that is taken off its row returns the children to the former key. The row
//!   itself may return later, with the verdict, if its delete is still on top.
//!
//! Until then such children have no parent, and are counted ([`dangling`](super::dangling)).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::actions::{Actions, Item};
use super::dangling::remember;
use super::dependents::Parent;
use super::past::{Own, Went};
use super::ways::{Back, Change, Fate, Lone, Next, Row, Ways, in_order, is_renamed, is_webs};
use crate::event::page::Line;
use crate::event::value::Value;
use crate::event::{Event, Image, Op, RowKey};
use crate::store::apply::rebase::Rebase;
use crate::store::apply::step::Step;
use crate::store::log::own_event;
use crate::store::outbox::pending::{PendingEvent, load, row_hash};
use crate::store::rows::row::known_key;

/// The state of a row after the page.
enum After {
    /// The row exists, with these values that foreign keys refer to. If `sure`, it is certainly the
    /// same row. Then its children follow it even if another row has its former values now.
    Row { values: Vec<Value>, sure: bool },
    /// The row is gone. If `sure`, the remote has deleted it. Otherwise another row may have
    /// replaced it.
    Gone { sure: bool },
    /// The row is not here but will be, with these values as far as they are known. Its children
    /// get these values.
    Absent(Vec<Option<Value>>),
}

/// A row that a page changed, with the facts that concern its children.
struct Departed {
    table: usize,
    before: Vec<Option<Value>>,
    after: After,
    /// Whether its key changed at some point of the page.
    renamed: bool,
}

/// The changes to be carried out on children, by foreign key.
#[derive(Default)]
struct Work {
    items: BTreeMap<usize, Vec<Item>>,
    /// The foreign keys with rows that may have lost their parent.
    left: BTreeSet<usize>,
}

impl Rebase<'_, '_> {
    /// Records an applied event of the page, for the rows that refer to its row.
    pub(in crate::store) fn follow(&mut self, at: usize, row: Option<usize>, table: usize) {
        if !self.writer().is_watched(table) {
            return;
        }
        let task = self.task();
        let line = &task.lines()[at];
        let own = row.map(|row| &self.rows()[row]);
        if own.is_some_and(|row| row.number_of(line.id).is_some_and(|n| row.has_on_top(n))) {
            // The row was like this before the page.
            return;
        }
        let row = (table, RowKey(line.key.to_owned()));
        let ways = self.ways_mut();
        if task.is_again() && line.op == Op::Insert {
            ways.waited(row.clone(), at);
        }
        match (line.op, line.pair) {
            (Op::Insert, Some(delete)) => {
                ways.half_inserted(row, Lone::new(delete, line.seq, at));
            }
            // The actions of an event that was applied before are not carried out again.
            (Op::Delete, _) if task.is_again() => {}
            (Op::Delete, Some(_)) => ways.half_deleted(line.id, row, at),
            // The next page decides whether it was a key change (`follow_on`).
            (Op::Delete, None)
                if at + 1 == task.lines().len()
                    && task.has_more()
                    && is_webs(&line.origin, line.cause) =>
            {
                ways.deleted_last(row, at);
            }
            (Op::Delete, None) => ways.deleted(row, at),
            (Op::Insert, None) if at > 0 => {
                let before = &task.lines()[at - 1];
                let definition = task.table(table);
                if !is_web_pair(before, line)
                    || !before.table.eq_ignore_ascii_case(&line.table)
                    || !is_renamed(
                        definition,
                        image(before.before).as_ref(),
                        image(line.after).as_ref(),
                    )
                {
                    return;
                }
                if task.is_again() {
                    // Both halves have waited.
                    ways.came_alone(row, Lone::new(before.id, line.seq, at));
                } else {
                    ways.was_renamed(at - 1, row.1);
                }
            }
            _ => {}
        }
    }

    /// The same for an event that goes into quarantine. Its row has changed nevertheless.
    pub(in crate::store) fn follow_waiting(&mut self, at: usize, row: Option<usize>, table: usize) {
        if self.task().lines()[at].op == Op::Insert {
            self.follow(at, row, table);
        }
    }

    /// The row that the web application deleted in the last event of the page before this one,
    /// unless its key was changed.
    fn follow_on(&mut self) -> Step<Option<(usize, Event)>> {
        let Some(first) = self.task().lines().first().filter(|_| !self.task().is_again()) else {
            return Ok(None);
        };
        let Some(last) = self.task().store().settled(self.task().start().cursor())? else {
            return Ok(None);
        };
        let of_web = is_webs(&last.origin, last.cause);
        if last.op != Op::Delete || last.pair.is_some() || !of_web || !last.verdict.is_applied() {
            return Ok(None);
        }
        let table = self.task().store().table_index(&last.table);
        let Some(table) = table.filter(|&table| self.writer().is_watched(table)) else {
            return Ok(None);
        };
        let definition = &self.task().store().tables[table].table;
        let is_next = first.seq.0 == last.seq.0 + 1
            && first.op == Op::Insert
            && first.pair.is_none()
            && (&first.origin, first.cause) == (&last.origin, last.cause)
            && first.table.eq_ignore_ascii_case(&last.table);
        if is_next && is_renamed(definition, last.before.as_ref(), image(first.after).as_ref()) {
            let row = (table, RowKey(first.key.to_owned()));
            self.ways_mut().came_alone(row, Lone::new(last.id, first.seq, 0));
            return Ok(None);
        }
        Ok(Some((table, last)))
    }

    /// Records that the own event `n` has lost, if it is half of a key change and was on its row
    /// until now, or another insert that was off its row.
    pub(in crate::store) fn turn_back(&mut self, at: usize, row: usize, n: i64) -> Step {
        let (line, row) = (&self.task().lines()[at], &self.rows()[row]);
        let Some(table) = row.table().filter(|&table| self.writer().is_watched(table)) else {
            return Ok(());
        };
        let on_top = row.has_on_top(n);
        let Some(delete) = line.pair.filter(|_| on_top) else {
            if line.pair.is_none() && !on_top && line.op == Op::Insert {
                self.ways_mut().lost_insert((table, RowKey(line.key.to_owned())), at);
            }
            return Ok(());
        };
        if line.op != Op::Insert {
            self.ways_mut().was_on_top(n);
            return Ok(());
        }
        let here = self.task().lines().iter().find(|other| other.id == delete);
        let from = match here {
            Some(delete) => Some(RowKey(delete.key.to_owned())),
            None => own_event(self.task().db(), None, delete)?.map(|event| event.key),
        };
        if let Some(from) = from {
            let (row, image) = ((table, RowKey(line.key.to_owned())), image(line.after));
            let change = Change::new(from, delete.outbox_number(), line.base);
            self.ways_mut().turned_back(row, Back::new(n, image, change));
        }
        Ok(())
    }

    /// The same for an event that is set aside.
    pub(in crate::store) fn turn_back_pending(&mut self, event: &PendingEvent, row: usize) -> Step {
        let Some(table) = self.rows()[row].table().filter(|&table| self.writer().is_watched(table))
        else {
            return Ok(());
        };
        if event.is_aside() || !event.is_new_key() {
            return Ok(());
        }
        let ((n, ..), (_, base)) = (event.brief(), event.claim());
        let delete = load(self.task().db(), self.task().store().outbox.layouts(), n - 1)?;
        if let Some(delete) = delete.filter(PendingEvent::is_old_key) {
            let (row, from) = ((table, event.key().clone()), delete.key().clone());
            let change = Change::new(from, n - 1, base);
            let back = Back::new(n, Some(event.after()?), change);
            self.ways_mut().turned_back(row, back);
        }
        Ok(())
    }

    /// Carries out the actions of foreign keys from tables that are not replicated.
    pub(in crate::store) fn carry_out_actions(&mut self) -> Step {
        if !self.writer().watches() {
            return Ok(());
        }
        let gone = self.follow_on()?;
        let values_before = self.writer_mut().take_values_before().into_iter().collect();
        let ways = std::mem::take(self.ways_mut());
        let mut work = Work::default();
        for departed in self.departed(&values_before, &ways, gone)? {
            self.compare(&departed, &mut work);
        }
        let dependents = &self.task().store().dependents;
        work.left.extend(Actions::new(self.task().db(), dependents).run(work.items)?);
        remember(self.task().db(), &work.left, dependents)?;
        Ok(())
    }

    /// The rows that the page changed. If two of them have the same children, these belong to the
    /// first one.
    fn departed(
        &self,
        values_before: &BTreeMap<Row, Option<Vec<Value>>>,
        ways: &Ways,
        gone: Option<(usize, Event)>,
    ) -> Step<Vec<Departed>> {
        let fates = ways.fates();
        let past = self.past(ways)?;
        // True of rows that the page has written.
        let was_here = |row: &Row| values_before.get(row).is_some_and(Option::is_some);
        let is_renamed = |row: &Row| fates.get(row).is_some_and(Fate::is_renamed);
        let mut all = Vec::new();
        for (row, lone) in ways.lone() {
            let table = row.0;
            let delete = self.task().store().logged_before(lone.delete(), lone.seq())?;
            let Some(delete) = delete else { continue };
            let before = self.values_of(delete.before.as_ref(), table);
            let after = self.after_alone(&fates, row, lone)?;
            // A row that had the former key before the page is another row.
            let other = self.was_here(values_before, &(table, delete.key))?;
            let (after, renamed) = (unless(other, after), !other && is_renamed(row));
            all.push(Departed { table, before, after, renamed });
        }
        for (row, before) in values_before {
            let Some(before) = before else { continue };
            let before = before.iter().cloned().map(Some).collect();
            let after = match self.before_own(ways, row, i64::MAX)? {
                Some(own) => self.after(ways, &fates, &past, own)?,
                None => self.after_as(&fates, row)?,
            };
            all.push(Departed { table: row.0, before, after, renamed: is_renamed(row) });
        }
        // The row was not here, but its children were: it waited, or an own event was on top of it.
        for (row, fate) in in_order(&fates).into_iter().filter(|(row, _)| !was_here(row)) {
            let before = self
                .values_of(image(self.task().lines()[fate.first_delete()].before).as_ref(), row.0);
            let after = self.after_as(&fates, row)?;
            all.push(Departed { table: row.0, before, after, renamed: fate.is_renamed() });
        }
        for (row, back) in ways.backs().filter(|(row, _)| !was_here(row)) {
            let before = self.values_of(back.image(), row.0);
            let own = self.before_own(ways, row, back.insert() + 1)?;
            let Some(own) = own else { continue };
            let after = self.after(ways, &fates, &past, own)?;
            all.push(Departed { table: row.0, before, after, renamed: false });
        }
        for (row, &insert) in ways.out_of_quarantine().into_iter().filter(|(row, _)| !was_here(row))
        {
            let Some(values) = self.referred(row)? else { continue };
            let before = self.values_of(image(self.task().lines()[insert].after).as_ref(), row.0);
            let after = After::Row { values, sure: false };
            all.push(Departed { table: row.0, before, after, renamed: false });
        }
        for (row, &insert) in ways.lost_inserts().into_iter().filter(|(row, _)| !was_here(row)) {
            let before = self.values_of(image(self.task().lines()[insert].after).as_ref(), row.0);
            let after = self.after_as(&fates, row)?;
            all.push(Departed { table: row.0, before, after, renamed: false });
        }
        if let Some((table, delete)) = gone {
            let before = self.values_of(delete.before.as_ref(), table);
            let sure = !self.was_here(values_before, &(table, delete.key))?;
            let after = After::Gone { sure };
            all.push(Departed { table, before, after, renamed: false });
        }
        Ok(all)
    }

    /// Adds the changes for each foreign key that refers to a row.
    fn compare(&self, departed: &Departed, work: &mut Work) {
        let Departed { table, before, after, renamed } = departed;
        let dependents = &self.task().store().dependents;
        let definition = &self.task().store().tables[*table].table;
        let mut from = 0;
        for place in dependents.of(Parent::Replicated(*table)) {
            let key = dependents.key(place);
            let range = from..from + key.width();
            from = range.end;
            let old: Option<Vec<Value>> = before[range.clone()].iter().cloned().collect();
            // No row refers to NULL.
            let Some(old) = old.filter(|old| !old.contains(&Value::Null)) else { continue };
            let (new, sure) = match after {
                // The first change of the key separated the children from the row, whatever
                // happened later.
                _ if *renamed && key.is_of_key(definition) && key.is_cut_by_update() => {
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
                After::Absent(values) => {
                    work.left.insert(place);
                    let new: Option<Vec<Value>> =
                        values.get(range).and_then(|values| values.iter().cloned().collect());
                    match new.filter(|new| *new != old) {
                        Some(new) => (Some(new), true),
                        None => continue,
                    }
                }
            };
            work.items.entry(place).or_default().push(Item::new(old, new, sure));
        }
    }

    fn referred(&self, (table, key): &Row) -> Step<Option<Vec<Value>>> {
        Ok(match known_key(&self.task().store().tables[*table].table, &key.0) {
            Some(values) => self.writer().referred(*table, &values)?,
            None => None,
        })
    }

    /// Whether any row had this key before the page.
    fn was_here(&self, values_before: &BTreeMap<Row, Option<Vec<Value>>>, row: &Row) -> Step<bool> {
        match values_before.get(row) {
            Some(before) => Ok(before.is_some()),
            None => Ok(self.referred(row)?.is_some()),
        }
    }

    /// The state of a row, from before own key changes.
    fn after(
        &self,
        ways: &Ways,
        fates: &HashMap<Row, Fate>,
        past: &HashMap<Row, Went>,
        own: Own,
    ) -> Step<After> {
        let (row, went) = match own {
            Own::Covered(row, image) => {
                return Ok(After::Absent(self.values_of(Some(&image), row.0)));
            }
            Own::AsItWas(row) => (row, None),
            Own::Since(row, _) => {
                let went = past.get(&row);
                (row, went)
            }
        };
        match went {
            None => self.after_as(fates, &row),
            Some(Went::Gone(delete)) => match ways.after_delete(*delete) {
                Some((row, lone)) => self.after_alone(fates, row, lone),
                None => Ok(After::Gone { sure: true }),
            },
            Some(Went::To(key, image)) => {
                let row = (row.0, key.clone());
                match self.referred(&row)? {
                    None if !fates.contains_key(&row) => {
                        Ok(After::Absent(self.values_of(image.as_ref(), row.0)))
                    }
                    _ => self.after_as(fates, &row),
                }
            }
        }
    }

    /// The state of a row whose key change has come alone.
    fn after_alone(&self, fates: &HashMap<Row, Fate>, row: &Row, lone: &Lone) -> Step<After> {
        match self.referred(row)? {
            None if !fates.contains_key(row) => Ok(self.waiting(lone.insert(), row.0)),
            _ => self.after_as(fates, row),
        }
    }

    /// The state of a row, from the page alone.
    fn after_as(&self, fates: &HashMap<Row, Fate>, row: &Row) -> Step<After> {
        let Some(fate) = fates.get(row) else {
            return Ok(match self.referred(row)? {
                Some(values) => After::Row { values, sure: true },
                None if self.is_row_in_quarantine(row)? || self.is_undecided(row)? => {
                    After::Absent(Vec::new())
                }
                None => After::Gone { sure: false },
            });
        };
        Ok(match fate.next() {
            Next::Gone => After::Gone { sure: true },
            Next::Unknown => {
                let image = image(self.task().lines()[fate.last_delete()].before);
                After::Absent(self.values_of(image.as_ref(), row.0))
            }
            Next::To(key, insert) => match self.referred(&(row.0, key.clone()))? {
                Some(values) => After::Row { values, sure: true },
                None => self.waiting(*insert, row.0),
            },
        })
    }

    /// The state of a row that waits in quarantine since the insert in this line.
    fn waiting(&self, insert: usize, table: usize) -> After {
        After::Absent(self.values_of(image(self.task().lines()[insert].after).as_ref(), table))
    }

    /// Whether an own insert is off the row, but not because it has lost. The remote may still
    /// apply it.
    fn is_undecided(&self, (table, key): &Row) -> Step<bool> {
        let name = &self.task().store().tables[*table].table.name;
        let pending = self.task().store().outbox.pending().of_row(row_hash(name, &key.0)).to_vec();
        for n in pending {
            let event = load(self.task().db(), self.task().store().outbox.layouts(), n)?;
            let event = event.filter(|event| event.is_of(name, &key.0) && event.is_aside());
            if event.is_some_and(|event| {
                event.op() == Op::Insert && !event.is_new_key() && event.winner().is_none()
            }) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_row_in_quarantine(&self, (table, key): &Row) -> Step<bool> {
        let name = &self.task().store().tables[*table].table.name;
        self.quarantine().has_row(name, &key.0)
    }

    /// The values that foreign keys of local tables refer to, as far as an image of a row has them.
    fn values_of(&self, image: Option<&Image>, table: usize) -> Vec<Option<Value>> {
        self.task().store().dependents.values_of(Parent::Replicated(table), image)
    }
}

/// Makes `after` uncertain if `other` is true: another row may have been there.
fn unless(other: bool, after: After) -> After {
    match after {
        After::Row { values, sure } => After::Row { values, sure: sure && !other },
        After::Gone { sure } => After::Gone { sure: sure && !other },
        After::Absent(_) if other => After::Absent(Vec::new()),
        after => after,
    }
}

fn image(json: Option<&[u8]>) -> Option<Image> {
    json.and_then(|json| Image::parse(json).ok())
}

/// Whether two consecutive lines may be a key change by the web application or by a trigger.
fn is_web_pair(delete: &Line<'_>, insert: &Line<'_>) -> bool {
    delete.op == Op::Delete
        && delete.seq.0 + 1 == insert.seq.0
        && delete.verdict.is_applied()
        && is_webs(&delete.origin, delete.cause)
        && (&delete.origin, delete.cause) == (&insert.origin, insert.cause)
}
