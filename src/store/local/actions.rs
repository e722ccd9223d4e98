//! The actions of foreign keys from tables that are not replicated. They are what SQLite would do
//! to the children when a page deletes a parent or changes its key.
//!
//! The declared actions are carried out even if the application has foreign keys turned off,
//! because the file does not record that. The application's triggers on these tables run. The
//! remote has decided, so a child cannot keep its parent: where RESTRICT or NO ACTION is declared,
//! or where a child refuses the action, the child stays unchanged, and
//! [`dangling`](super::dangling) counts it.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use rusqlite::{Connection, params_from_iter};

use super::dependents::{Dependents, gone};
use crate::event::RowKey;
use crate::event::value::{Value, ValueRef};
use crate::store::apply::step::{Step, Stop};
use crate::store::rows::refusal::{is_refusal, is_uncompiled, is_unique_violation};
use crate::store::rows::row::value;

/// A changed parent, for one foreign key.
#[derive(Clone, Debug)]
pub(in crate::store) struct Item {
    /// The values that children refer to.
    old: Vec<Value>,
    /// The parent's values now; `None` if it is gone.
    new: Option<Vec<Value>>,
    /// Whether its children must follow even if another row has the old values now.
    sure: bool,
}

impl Item {
    pub(in crate::store) fn new(old: Vec<Value>, new: Option<Vec<Value>>, sure: bool) -> Self {
        Item { old, new, sure }
    }
}

/// A row of a child that refers to a changed parent.
#[derive(Clone, Debug)]
struct Found {
    /// The place of its parent among the items.
    item: usize,
    /// The values that identify the row.
    id: Vec<Value>,
}

/// The result for one row.
enum Done {
    /// It was written. The values that other rows refer to: before and after.
    Written(Vec<Value>, Option<Vec<Value>>),
    /// It no longer exists.
    Absent,
    /// It stays unchanged.
    Refused,
    /// Another row has the values that it should get. That row may change as well.
    UniqueViolation,
}

/// The actions of one page.
pub(in crate::store) struct Actions<'a> {
    db: &'a Connection,
    dependents: &'a Dependents,
    queue: VecDeque<(usize, Vec<Item>)>,
    /// The rows that were handled, by foreign key: each is written once.
    visited: HashSet<(usize, RowKey)>,
    /// The foreign keys with rows that were left unchanged.
    left: BTreeSet<usize>,
}

impl<'a> Actions<'a> {
    pub(in crate::store) fn new(db: &'a Connection, dependents: &'a Dependents) -> Self {
        let (queue, visited, left) = (VecDeque::new(), HashSet::new(), BTreeSet::new());
        Actions { db, dependents, queue, visited, left }
    }

    /// Carries out the actions, from parents to children. Returns the foreign keys with rows that
    /// were left unchanged.
    pub(in crate::store) fn run(
        mut self,
        items: BTreeMap<usize, Vec<Item>>,
    ) -> Step<BTreeSet<usize>> {
        self.queue.extend(items);
        while let Some((place, items)) = self.queue.pop_front() {
            let found = match self.find(place, &items) {
                Ok(found) => found,
                // It may have a collation that only the application has.
                Err(error) if is_uncompiled(&error) => {
                    self.left.insert(place);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            self.act(place, &items, found)?;
        }
        Ok(self.left)
    }

    /// The children of changed parents that were not handled yet.
    fn find(&mut self, place: usize, items: &[Item]) -> rusqlite::Result<Vec<Found>> {
        let gone = gone(place);
        self.db.prepare_cached(&format!("DELETE FROM temp.{gone}"))?.execute([])?;
        let places: Vec<_> =
            (0..self.dependents.key(place).width()).map(|at| format!("?{}", at + 3)).collect();
        let sql = format!("INSERT INTO temp.{gone} VALUES (?1, ?2, {})", places.join(", "));
        let mut insert = self.db.prepare_cached(&sql)?;
        for (at, item) in items.iter().enumerate() {
            insert.raw_bind_parameter(1, at as i64)?;
            insert.raw_bind_parameter(2, item.sure)?;
            for (part, value) in item.old.iter().enumerate() {
                insert.raw_bind_parameter(part + 3, ValueRef::from(value))?;
            }
            insert.raw_execute()?;
        }
        let mut statement = self.db.prepare_cached(&self.dependents.find_sql(place))?;
        let ids = self.dependents.id_width(place);
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let mut id = Vec::with_capacity(ids);
            for part in 0..ids {
                id.push(value(row.get_ref(part + 1)?));
            }
            if self.visited.insert((place, RowKey::from_values(&id))) {
                found.push(Found { item: row.get::<_, i64>(0)? as usize, id });
            }
        }
        Ok(found)
    }

    /// Carries out the foreign key's action on the found rows.
    fn act(&mut self, place: usize, items: &[Item], found: Vec<Found>) -> Step {
        let mut changed: BTreeMap<usize, Vec<Item>> = BTreeMap::new();
        let mut waiting = found;
        while !waiting.is_empty() {
            let before = waiting.len();
            let mut taken = Vec::new();
            for row in waiting {
                match self.write(place, &items[row.item], &row)? {
                    Done::Written(old, new) => self.changed(place, old, new, &mut changed),
                    Done::Absent => {}
                    Done::Refused => _ = self.left.insert(place),
                    Done::UniqueViolation => taken.push(row),
                }
            }
            if taken.len() == before {
                let name = self.dependents.child_name(place);
                tracing::warn!(table = name, rows = before, "a UNIQUE value keeps local rows");
                self.left.insert(place);
                break;
            }
            waiting = taken;
        }
        self.queue.extend(changed);
        Ok(())
    }

    /// Records that a child was written, for the rows that refer to it.
    fn changed(
        &self,
        place: usize,
        old: Vec<Value>,
        new: Option<Vec<Value>>,
        changed: &mut BTreeMap<usize, Vec<Item>>,
    ) {
        let mut from = 0;
        for below in self.dependents.of(self.dependents.child(place)) {
            let range = from..from + self.dependents.key(below).width();
            from = range.end;
            let old = old[range.clone()].to_vec();
            let new = new.as_ref().map(|new| new[range].to_vec());
            if !old.contains(&Value::Null) && new.as_ref() != Some(&old) {
                changed.entry(below).or_default().push(Item { old, new, sure: false });
            }
        }
    }

    /// Writes one child.
    fn write(&self, place: usize, item: &Item, row: &Found) -> Step<Done> {
        let Some([look, sql]) = self.dependents.action_sql(place, item.new.is_none()) else {
            return Ok(Done::Refused);
        };
        let width = self.dependents.key(place).width();
        let is_delete = sql.starts_with("DELETE");
        let read = |sql: &str, new: &[Value]| -> rusqlite::Result<Option<Vec<Value>>> {
            let mut statement = self.db.prepare_cached(sql)?;
            let nulls = (new.len()..width).map(|_| &Value::Null);
            let values = new.iter().chain(nulls).chain(&row.id).map(ValueRef::from);
            let most = statement.parameter_count();
            let mut rows = statement.query(params_from_iter(values.take(most)))?;
            let Some(found) = rows.next()? else { return Ok(None) };
            let count = found.as_ref().column_count();
            let values = (0..count).map(|at| Ok(value(found.get_ref(at)?)));
            let values = values.collect::<rusqlite::Result<Vec<_>>>()?;
            // A statement that writes must run to its end.
            while rows.next()?.is_some() {}
            Ok(Some(values))
        };
        let new = item.new.as_deref().unwrap_or_default();
        let outcome = read(&look, new).and_then(|before| Ok((before, read(&sql, new)?)));
        match outcome {
            // Another action has deleted it.
            Ok((None, _)) => Ok(Done::Absent),
            Ok((Some(before), Some(_))) if is_delete => Ok(Done::Written(before, None)),
            Ok((Some(before), Some(after))) => Ok(Done::Written(before, Some(after))),
            Ok((Some(_), None)) => Ok(Done::Refused),
            Err(_) if self.db.is_autocommit() => Err(Stop::RolledBack),
            Err(error) if is_unique_violation(&error) => Ok(Done::UniqueViolation),
            Err(error) if is_refusal(&error) || is_uncompiled(&error) => {
                let table = self.dependents.child_name(place);
                tracing::warn!(table, "a foreign key's action is refused: {error}");
                Ok(Done::Refused)
            }
            Err(error) => Err(error.into()),
        }
    }
}
