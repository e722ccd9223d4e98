//! Writes lost values again, by SQL on a connection of its own. So capture makes new events of
//! them, with the present cursor as their base.
//!
//! One call is one transaction, which also records what was restored. So a conflict is restored
//! once, however often this is requested, and if the process ends in between, nothing was restored.
//! In the transaction each group ([`selection`](super::selection)) is a savepoint: it is restored
//! as a whole, or not at all.
//!
//! The conflicts of a group are tried in the order of the log, where parents and causes come first.
//! A conflict that a constraint refuses is tried again after others. If only a cycle of foreign
//! keys is left, these are checked at the end of the group.
//!
//! Triggers of the application run, but their INSERTs and UPDATEs of replicated tables are left
//! out: the writes of the triggers in the lost transaction either lost too, and are restored
//! themselves, or are on the remote.

use std::collections::HashMap;

use rusqlite::{Connection, TransactionBehavior};

use super::entry::{ConflictKind, ConflictState};
use super::inbox::{Conflict, NewKey};
use super::refusal::{FOREIGN_HINT, cannot, missing_parent, no_parent};
use super::rewrite::Rewriter;
use super::selection::{InboxRow, Index, Selection};
use crate::catalog::{Table, ident};
use crate::error::{Code, Error, Kind, Result};
use crate::event::value::Value;
use crate::event::{Event, EventId, Op, RowKey};
use crate::store::Store;
use crate::store::connection::connect;
use crate::store::rows::refusal::is_refusal;
use crate::store::rows::trigger_guard::{Guard, leave_out_writes};

/// The most refused conflicts that an error names.
const NAMED: usize = 5;

/// The result of restoring conflicts.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Restored {
    /// These were written again. They are new events now, which will be pushed.
    pub restored: Vec<EventId>,
    /// These had been restored before, and were not written again.
    pub already: Vec<EventId>,
    /// These could not be restored, and neither could the rest of their groups.
    pub refused: Vec<Unrestored>,
    /// The number of conflicts that were not restored because another of their group was refused.
    pub held_back: usize,
}

/// A conflict that could not be restored.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Unrestored {
    /// Its event.
    pub id: EventId,
    /// Its table.
    pub table: String,
    /// Its row.
    #[serde(flatten, serialize_with = "crate::event::readable::key")]
    pub key: RowKey,
    /// The reason, in a sentence.
    pub reason: String,
    /// The remedy.
    pub hint: Option<String>,
    /// Whether a foreign key refused it. It may succeed when other rows exist.
    #[serde(skip)]
    foreign: bool,
}

impl Store {
    /// Restores conflicts in one transaction, group by group. If a conflict cannot be restored, its
    /// whole group is left unchanged and named in the result. The other groups are restored.
    ///
    /// With `new_key`, the named insert gets this key, and every other selected collision gets a
    /// fresh one. Other lost events of that row, and references to it, follow within the group.
    ///
    /// # Errors
    ///
    /// `Usage` when there is no such conflict, or the new key does not fit the selection; `Storage`
    /// when the database fails. Then nothing has changed.
    pub fn restore_selected(
        &mut self,
        wanted: &Selection,
        new_key: Option<NewKey>,
    ) -> Result<Restored> {
        let mut db = connect(self.path(), false)?;
        self.on_connect.run(&db)?;
        db.pragma_update(None, "foreign_keys", true)?;
        loop {
            self.check_triggers()?;
            leave_out_writes(&mut db, &self.tables)?;
            // A second restoration waits here, and then sees the result of the first one.
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if self.current_schema_version()? != self.schema_version {
                continue;
            }
            let (rows, named) = self.to_restore(wanted)?;
            let new_key = NewKeys::of(new_key.clone(), named)?;
            let guard = Guard::default();
            let mut work = Restoration {
                store: self,
                db: &tx,
                rewriter: Rewriter::new(self, &tx, &guard),
                new_key,
                done: Restored::default(),
            };
            work.run(rows)?;
            let done = std::mem::take(&mut work.done);
            drop(work);
            if let Err(error) = tx.commit() {
                return Err(not_committed(error));
            }
            return Ok(done);
        }
    }

    /// The selected conflicts, and the named event if there is one.
    fn to_restore(&self, wanted: &Selection) -> Result<(Vec<InboxRow>, Option<EventId>)> {
        let rows = self.inbox_rows(&self.db)?;
        let selected = self.select(&rows, wanted)?;
        let named = match wanted {
            Selection::Together(ids) | Selection::Events(ids) if ids.len() == 1 => Some(ids[0]),
            _ => None,
        };
        let named = named.map(|id| self.find(&Index::of(&rows), id)).transpose()?;
        Ok((selected, named.map(|row| row.id())))
    }
}

impl Restored {
    /// The error for a caller that wants all or nothing; `None` if nothing was refused.
    pub fn refusal(&self) -> Option<Error> {
        let first = self.refused.first()?;
        let told: Vec<_> = self.refused.iter().take(NAMED).map(Unrestored::message).collect();
        let more = match self.refused.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let rest = match self.held_back {
            0 => String::new(),
            _ => format!("; {} more of its group were not restored either", self.held_back),
        };
        let hint = first.hint.as_deref().unwrap_or("`driftless conflicts dismiss` it");
        let code = if first.foreign { Code::RestoreNeedsRow } else { Code::CannotRestore };
        Some(Error::new(code, format!("{}{more}{rest}", told.join("; "))).with_hint(hint))
    }
}

impl Unrestored {
    fn message(&self) -> String {
        let Unrestored { id, table, key, reason, .. } = self;
        format!("event {id} cannot be restored to row {key} of table `{table}`: {reason}")
    }
}

/// The inserts that get a new key.
#[derive(Default)]
struct NewKeys {
    named: Option<(EventId, NewKey)>,
    collisions: bool,
}

impl NewKeys {
    fn of(new_key: Option<NewKey>, named: Option<EventId>) -> Result<NewKeys> {
        let Some(new_key) = new_key else { return Ok(NewKeys::default()) };
        match (named, &new_key) {
            (None, NewKey::Values(_)) => {
                Err(Error::new(Code::NewKeyUnusable, "several rows cannot have the same new key")
                    .with_hint("leave the key out, and each gets a fresh number"))
            }
            _ => Ok(NewKeys { named: named.map(|id| (id, new_key)), collisions: true }),
        }
    }

    fn of_conflict(&self, conflict: &Conflict) -> Option<NewKey> {
        match &self.named {
            Some((id, new_key)) if *id == conflict.event.id => Some(new_key.clone()),
            _ => (self.collisions && conflict.kind == ConflictKind::Collision)
                .then_some(NewKey::Fresh),
        }
    }

    /// Whether the event is not an insert, so that a fresh key is meant for the others of its
    /// group.
    fn is_of_others(&self, conflicts: &[Conflict]) -> bool {
        matches!(&self.named, Some((_, NewKey::Fresh)))
            && conflicts.iter().any(|conflict| conflict.kind == ConflictKind::Collision)
    }
}

/// A restoration that is running.
struct Restoration<'s> {
    store: &'s Store,
    db: &'s Connection,
    rewriter: Rewriter<'s>,
    new_key: NewKeys,
    done: Restored,
}

impl Restoration<'_> {
    fn run(&mut self, rows: Vec<InboxRow>) -> Result<()> {
        let mut groups: Vec<Vec<InboxRow>> = Vec::new();
        for row in rows {
            if row.state() == ConflictState::Restored {
                self.done.already.push(row.id());
                continue;
            }
            match groups.last_mut() {
                Some(group) if group[0].group() == row.group() => group.push(row),
                _ => groups.push(vec![row]),
            }
        }
        // A row that one group lacks may be restored by another group.
        loop {
            let (before, mut left) = (groups.len(), Vec::new());
            (self.done.refused, self.done.held_back) = (Vec::new(), 0);
            for group in groups {
                let refused = self.group(&group)?;
                if refused.is_empty() {
                    self.done.restored.extend(group.iter().map(|row| row.id()));
                } else {
                    self.done.held_back += group.len() - refused.len();
                    self.done.refused.extend(refused);
                    left.push(group);
                }
            }
            if left.is_empty() || left.len() == before {
                return Ok(());
            }
            groups = left;
        }
    }

    /// Restores a whole group or nothing of it. Returns the conflicts that could not be restored.
    fn group(&mut self, rows: &[InboxRow]) -> Result<Vec<Unrestored>> {
        let conflicts: Vec<Conflict> =
            rows.iter().map(|row| self.store.read_conflict(row)).collect::<Result<_>>()?;
        let mut refused = self.give_keys(&conflicts)?;
        self.db.execute_batch("SAVEPOINT driftless_group")?;
        if refused.is_empty() {
            refused = self.in_turn(&conflicts)?;
        }
        if refused.is_empty() {
            refused = self.orphans(&conflicts)?;
        }
        if refused.is_empty() {
            for row in rows {
                row.close(self.db, ConflictState::Restored)?;
            }
        } else {
            self.db.execute_batch("ROLLBACK TO driftless_group")?;
        }
        self.db.execute_batch("RELEASE driftless_group")?;
        Ok(refused)
    }

    /// Tries the conflicts of a group, and tries refused ones again while others succeed.
    fn in_turn(&mut self, conflicts: &[Conflict]) -> Result<Vec<Unrestored>> {
        let mut left: Vec<&Conflict> = conflicts.iter().collect();
        let mut deferred = false;
        loop {
            let (before, mut refused) = (left.len(), Vec::new());
            let mut again = Vec::new();
            for conflict in left {
                // A deleted row must have no children left. An inserted row may wait for its
                // parent.
                let defer = deferred && conflict.event.op != Op::Delete;
                if let Some(reason) = self.try_one(conflict, defer)? {
                    again.push(conflict);
                    refused.push(reason);
                }
            }
            let stuck = again.len() == before;
            if refused.is_empty() || stuck && deferred {
                return Ok(refused);
            }
            if stuck {
                if !refused.iter().any(|one| one.foreign) {
                    return Ok(refused);
                }
                deferred = true;
            }
            left = again;
        }
    }

    fn try_one(&mut self, conflict: &Conflict, defer: bool) -> Result<Option<Unrestored>> {
        if defer {
            self.db.pragma_update(None, "defer_foreign_keys", true)?;
        }
        self.db.execute_batch("SAVEPOINT driftless_one")?;
        let written = self.rewriter.one(conflict);
        if self.db.is_autocommit() {
            let event = &conflict.event;
            let message = format!(
                "a trigger of the application rolled back when event {} was restored to row {} of \
                 table `{}`; nothing was restored",
                event.id, event.key, event.table
            );
            return Err(Error::new(Code::CannotRestore, message)
                .with_hint("dismiss it, or change the trigger"));
        }
        if written.is_err() {
            self.db.execute_batch("ROLLBACK TO driftless_one")?;
        }
        self.db.execute_batch("RELEASE driftless_one")?;
        if defer {
            self.db.pragma_update(None, "defer_foreign_keys", false)?;
        }
        match written {
            Ok(()) => Ok(None),
            Err(error) if error.kind() == Kind::Usage => {
                Ok(Some(unrestored(&conflict.event, &error)))
            }
            Err(error) => Err(error),
        }
    }

    /// The rows of a group whose parents are missing now.
    fn orphans(&mut self, conflicts: &[Conflict]) -> Result<Vec<Unrestored>> {
        let mut refused = Vec::new();
        for conflict in conflicts {
            let event = conflict.insert.as_ref().unwrap_or(&conflict.event);
            let Some((table, key)) = self.row_of(event)? else { continue };
            let definition = &self.store.tables[table].table;
            if definition.foreign_keys.is_empty() {
                continue;
            }
            let values = key.iter().map(Into::into).collect::<Vec<_>>();
            let Some(row) = self.rewriter.row(table, &values)? else { continue };
            if let Some(parent) = missing_parent(self.db, definition, row.image())? {
                let error = cannot(&no_parent(&parent)).with_hint(FOREIGN_HINT);
                refused.push(unrestored(&conflict.event, &error));
            }
        }
        Ok(refused)
    }

    /// The place of an event's row, with the new keys of its group.
    fn row_of(&self, event: &Event) -> Result<Option<(usize, Vec<Value>)>> {
        let Some(table) = self.store.table_index(&event.table) else { return Ok(None) };
        match self.rewriter.moved(table, event) {
            Some(values) => Ok(Some((table, values.to_vec()))),
            None => Ok(Some((table, event.key.values()?))),
        }
    }

    /// Gives new keys to the inserts of a group that need one, before anything is written: a row
    /// that refers to such an insert may come first.
    fn give_keys(&mut self, conflicts: &[Conflict]) -> Result<Vec<Unrestored>> {
        self.rewriter.forget_moves();
        let (mut refused, mut newest) = (Vec::new(), HashMap::new());
        for conflict in conflicts {
            let Some(new_key) = self.new_key.of_conflict(conflict) else { continue };
            let event = &conflict.event;
            if event.op != Op::Insert && self.new_key.is_of_others(conflicts) {
                continue;
            }
            match self.choose_key(event, new_key, &mut newest) {
                Ok((table, values)) => self.rewriter.move_row(table, event, values),
                Err(error) if error.kind() == Kind::Usage => {
                    refused.push(unrestored(event, &error))
                }
                Err(error) => return Err(error),
            }
        }
        Ok(refused)
    }

    /// The table of a lost insert, and a key there that no row has. `newest` has the numbers that
    /// were already given out.
    fn choose_key(
        &mut self,
        event: &Event,
        new_key: NewKey,
        newest: &mut HashMap<usize, i64>,
    ) -> Result<(usize, Vec<Value>)> {
        if event.op != Op::Insert {
            return Err(Error::new(
                Code::NewKeyUnusable,
                "it is not an insert, so it cannot get a \
                new key",
            )
            .with_hint("restore it without a new key"));
        }
        let at = self.store.table_index(&event.table).ok_or_else(|| {
            let message = format!("table `{}` is not replicated here", event.table);
            Error::new(Code::TableNotReplicated, message)
        })?;
        let table = &self.store.tables[at].table;
        let values = match new_key {
            NewKey::Values(values) => values,
            NewKey::Fresh => {
                let given = newest.get(&at).copied();
                let fresh = self.fresh_number(table, given)?;
                newest.insert(at, fresh);
                vec![Value::Integer(fresh)]
            }
        };
        if values.len() != table.key.len() {
            let message =
                format!("the key of table `{}` has {} part(s)", table.name, table.key.len());
            return Err(
                Error::new(Code::NewKeyUnusable, message).with_hint("give one value for each")
            );
        }
        let refs: Vec<_> = values.iter().map(Into::into).collect();
        if self.rewriter.row(at, &refs)?.is_some() {
            let message = format!("table `{}` has a row with that key already", table.name);
            return Err(Error::new(Code::NewKeyUnusable, message).with_hint("choose another key"));
        }
        Ok((at, values))
    }

    /// A number that no row of the table has, and that was not given out.
    fn fresh_number(&self, table: &Table, given: Option<i64>) -> Result<i64> {
        if !table.rowid_key {
            let message = format!("the key of table `{}` is not an ascending number", table.name);
            return Err(
                Error::new(Code::NewKeyUnusable, message).with_hint("give the new key of the row")
            );
        }
        let column = table.key_columns().next().expect("a key has a column");
        let sql = format!(
            "SELECT coalesce(max({}), 0) FROM main.{}",
            ident(&column.present),
            ident(&table.name)
        );
        let newest: i64 = self.db.prepare_cached(&sql)?.query_row([], |row| row.get(0))?;
        let newest = given.map_or(newest, |given| given.max(newest));
        newest.checked_add(1).ok_or_else(|| {
            let message = format!("table `{}` has no number left", table.name);
            Error::new(Code::NewKeyUnusable, message)
        })
    }
}

fn unrestored(event: &Event, error: &Error) -> Unrestored {
    Unrestored {
        id: event.id,
        table: event.table.clone(),
        key: event.key.clone(),
        reason: error.message().to_owned(),
        hint: error.hint().map(str::to_owned),
        foreign: error.code() == Code::RestoreNeedsRow,
    }
}

/// The error for a failed commit: nothing was restored.
fn not_committed(error: rusqlite::Error) -> Error {
    if !is_refusal(&error) {
        return error.into();
    }
    let message =
        format!("nothing was restored, because rows would refer to missing rows: {error}");
    Error::new(Code::RestoreNeedsRow, message)
        .with_hint(
            "restore fewer at a time to find out which, or restore the rows that they refer to as \
             well",
        )
        .with_source(error)
}
