//! A row's history, and who set its values last.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Replica, not_replicated};
use crate::audit::history::{Blamed, History, blame, history};
use crate::catalog::Table;
use crate::error::{Code, Error, Result};
use crate::event::value::Value;
use crate::event::{Image, Op, RowKey, Seq};
use crate::store::Entry;

/// The row of a listing of one column: its value, and who set it last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlamedRow {
    /// The row.
    pub key: RowKey,
    /// Its value of the column, and the event that set it.
    pub blamed: Blamed,
}

impl Replica<'_> {
    /// A row's key, as a person writes it: its values with commas between, or a JSON array. Text is
    /// brought into the form that the key has in the log.
    ///
    /// # Errors
    ///
    /// `Usage` when it has not as many values as the table's key.
    pub fn key(&self, table: &str, text: &str) -> Result<RowKey> {
        let table = self.definition(table)?;
        if text.starts_with('[') {
            let key = RowKey(text.to_owned());
            if key.values().is_ok_and(|values| values.len() == table.key.len()) {
                return Ok(key);
            }
        }
        let parts: Vec<&str> = match table.key.len() {
            1 => vec![text],
            _ => text.split(',').map(str::trim).collect(),
        };
        if parts.len() != table.key.len() {
            let columns: Vec<_> = table.key_columns().map(|column| column.name.as_str()).collect();
            let message = format!(
                "the key of table `{}` has {} values, and `{text}` has {}",
                table.name,
                table.key.len(),
                parts.len()
            );
            return Err(Error::usage(message)
                .with_hint(format!("write them with commas between: {}", columns.join(","))));
        }
        self.store.canonical_key(table, &parts)
    }

    fn definition(&self, name: &str) -> Result<&Table> {
        let found = self.definitions().find(|table| table.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| {
            let names: Vec<_> = self.tables().collect();
            not_replicated(name).with_hint(format!("these are: {}", names.join(", ")))
        })
    }

    /// All versions of a row: what changed it, when and by whom, and the row behind each, under the
    /// keys that it had. `watch` is told how far the log is indexed, if it has to be.
    ///
    /// # Errors
    ///
    /// `Usage` when the table is not replicated, or neither the log nor the table has the row.
    pub fn history(
        &self,
        table: &str,
        key: &RowKey,
        watch: &mut dyn FnMut(Seq),
    ) -> Result<History> {
        let table = self.definition(table)?;
        self.store.index_rows(watch)?;
        let found = self.store.read_log(|log| history(log, table, key))?;
        if found.versions.is_empty() && !found.is_older {
            return Err(no_row(table, key));
        }
        Ok(found)
    }

    /// Who set each column of a row last.
    ///
    /// # Errors
    ///
    /// `Usage` when the table is not replicated, or it has no such row now.
    pub fn blame(
        &self,
        table: &str,
        key: &RowKey,
        watch: &mut dyn FnMut(Seq),
    ) -> Result<Vec<Blamed>> {
        let table = self.definition(table)?;
        self.store.index_rows(watch)?;
        self.store.read_log(|log| {
            let Some(now) = log.row(table, key)? else {
                let message = format!("table `{}` has no row {key} now", table.name);
                return Err(Error::new(Code::NoSuchRow, message).with_hint(
                    "`driftless history` shows a row that is gone, and who deleted it",
                ));
            };
            Ok(blame(&history(log, table, key)?, table, &now))
        })
    }

    /// Who set a column last, of each row of a table in the order of its keys. `watch` is told how
    /// far the log is read.
    ///
    /// # Errors
    ///
    /// `Usage` when there is no such table or column. What `visit` returns ends the walk.
    pub fn blame_column(
        &self,
        table: &str,
        column: &str,
        watch: &mut dyn FnMut(Seq),
        visit: &mut dyn FnMut(BlamedRow) -> Result<()>,
    ) -> Result<()> {
        let table = self.definition(table)?;
        let is_named = |one: &&crate::catalog::Column| one.present.eq_ignore_ascii_case(column);
        let Some(found) = table.columns.iter().find(is_named).or_else(|| table.column(column))
        else {
            let names: Vec<_> = table.column_names().collect();
            let message = format!("table `{}` has no column `{column}`", table.name);
            return Err(Error::usage(message).with_hint(format!("it has {}", names.join(", "))));
        };
        let column = found.name.as_str();
        let present = found;
        self.store.read_log(|log| {
            let mut setters = Setters::default();
            let mut events = 0_u64;
            let is_of = |name: &str| name.eq_ignore_ascii_case(&table.name);
            let mut wanted = |seq: Seq, glance: &crate::event::frame::Glance<'_>| {
                events += 1;
                if events.is_multiple_of(10_000) {
                    watch(seq);
                }
                glance.is_applied && is_of(glance.table)
            };
            log.settled(Seq(0), Seq(i64::MAX), &mut wanted, &mut |event| {
                setters.take(column, &Entry::Settled(event));
                Ok(())
            })?;
            let mut pending = HashMap::new();
            log.pending(&mut |one| {
                if is_of(&one.event.table) && !one.event.aside {
                    let entry = one.into_entry();
                    if setters.take(column, &entry) {
                        pending.insert(row_hash(&entry.row().1.0), entry);
                    }
                }
                Ok(())
            })?;
            log.rows(table, present, &mut |key, value| {
                let entry = match setters.last.get(&row_hash(&key.0)) {
                    None => None,
                    Some(Setter::Pending) => pending.get(&row_hash(&key.0)).cloned(),
                    Some(Setter::Settled(seq)) => log.at(*seq)?.map(Entry::Settled),
                };
                let column = column.to_owned();
                visit(BlamedRow { key, blamed: Blamed { column, value, entry } })
            })
        })
    }
}

/// An event that set a column.
#[derive(Clone, Copy)]
enum Setter {
    Settled(Seq),
    Pending,
}

/// The last setter of a column, by a hash of the row: a million rows take some 50 MB.
#[derive(Default)]
struct Setters {
    last: HashMap<u64, Setter>,
    /// Of the last deleted row: the delete's id, the setter, and the value that it had.
    left: Option<(crate::event::EventId, Option<Setter>, Option<Value>)>,
}

impl Setters {
    /// Takes an event into account; true if it has set the column.
    fn take(&mut self, column: &str, entry: &Entry) -> bool {
        let row = row_hash(&entry.row().1.0);
        let (before, after) = entry.images();
        let value = |image: Option<&Image>| {
            let found = image?.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(column));
            found.map(|(_, value)| value.clone())
        };
        let pair = match entry {
            Entry::Settled(event) => event.pair,
            Entry::Pending(_) => None,
        };
        let setter = match entry {
            Entry::Settled(event) => Setter::Settled(event.seq),
            Entry::Pending(_) => Setter::Pending,
        };
        match entry.op() {
            Op::Delete => {
                let setter = self.last.remove(&row);
                self.left = Some((entry.id(), setter, value(before)));
                false
            }
            Op::Insert => {
                // The second half of a key change leaves a value that it did not change.
                if let Some((id, setter, old)) = self.left.take()
                    && pair == Some(id)
                    && old == value(after)
                {
                    setter.map(|setter| self.last.insert(row, setter));
                    return false;
                }
                self.last.insert(row, setter);
                true
            }
            Op::Update if value(after).is_some() => {
                self.last.insert(row, setter);
                true
            }
            Op::Update => false,
        }
    }
}

fn row_hash(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

fn no_row(table: &Table, key: &RowKey) -> Error {
    let message = format!("table `{}` has no row {key}, and the log has none either", table.name);
    Error::new(Code::NoSuchRow, message).with_hint(
        "check the key; of several values write them with commas between, or as a JSON array",
    )
}
