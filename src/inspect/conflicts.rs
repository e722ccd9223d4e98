//! The conflict inbox: what is in it, and what a person does about it.

use super::log::resolve;
use super::{Replica, not_replicated};
use crate::error::{Error, Result};
use crate::event::EventId;
use crate::event::value::Value;
use crate::store::{
    Conflict, ConflictCount, ConflictFilter, ConflictKind, Dismissed, NewKey, Restored, Selection,
};

impl Replica<'_> {
    /// A filter by table and kind.
    ///
    /// # Errors
    ///
    /// `Usage` when the table is neither replicated nor in the inbox.
    pub fn conflict_filter(
        &self,
        table: Option<&str>,
        kind: Option<ConflictKind>,
        closed: bool,
    ) -> Result<ConflictFilter> {
        if let Some(table) = table {
            let listed = self.store.conflict_counts()?.into_iter().map(|count| count.table);
            let mut known = self.tables().map(str::to_owned).chain(listed);
            if !known.any(|known| known.eq_ignore_ascii_case(table)) {
                let hint = "`driftless conflicts --summary` names the tables with conflicts";
                return Err(not_replicated(table).with_hint(hint));
            }
        }
        Ok(ConflictFilter { table: table.map(str::to_owned), kind, closed })
    }

    /// The conflicts that `filter` takes, without the first `skip` of them, and no more than
    /// `limit`. They are in the order of the log, but that those of a group stand together.
    pub fn conflicts(
        &self,
        filter: &ConflictFilter,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Conflict>> {
        self.store.conflict_page(filter, skip, limit)
    }

    /// How many conflicts that `filter` takes there are of each table, kind and state.
    pub fn conflict_counts(&self, filter: &ConflictFilter) -> Result<Vec<ConflictCount>> {
        let mut counts = self.store.conflict_counts()?;
        counts.retain(|count| filter.takes(&count.table, count.kind, count.state));
        Ok(counts)
    }

    /// The conflict of one event; either event of a key change will do.
    ///
    /// # Errors
    ///
    /// `Usage` when the event is not in the inbox.
    pub fn conflict(&self, id: EventId) -> Result<Conflict> {
        self.store.conflict(id)
    }

    /// The events that lost with these ids, of which the beginnings or the ends will do.
    ///
    /// # Errors
    ///
    /// `Usage` when a part of an id names no conflict, or several.
    pub fn conflicts_named(&self, texts: &[String]) -> Result<Vec<EventId>> {
        let ids = self.store.conflict_ids()?;
        let find = |text: &String| match text.parse() {
            Ok(id) => Ok(id),
            Err(_) => resolve(text, "conflict", ids.iter().copied()),
        };
        texts.iter().map(find).collect()
    }

    /// Writes the values of events that lost once more, as new events on today's base, in one
    /// transaction: see [`Restored`] for what could not be restored. With `new_key`, the named
    /// insert takes it, and every other collision that is selected takes a fresh one.
    ///
    /// # Errors
    ///
    /// `Usage` when the inbox has not one of the events, or the new key does not fit what is
    /// selected.
    pub fn restore(&mut self, wanted: &Selection, new_key: Option<NewKey>) -> Result<Restored> {
        self.store.restore_selected(wanted, new_key)
    }

    /// Takes events off the conflict inbox, in one transaction. The log keeps them.
    ///
    /// # Errors
    ///
    /// `Usage` when the inbox has not one of the events.
    pub fn dismiss(&mut self, wanted: &Selection) -> Result<Dismissed> {
        self.store.dismiss_selected(wanted)
    }

    /// The key that `text` names, for [`Replica::restore`] of the lost event `id`: its values with
    /// commas between. They have the types of the lost row's key.
    ///
    /// # Errors
    ///
    /// `Usage` when it has not as many values as the table's key, or one is no integer where the
    /// lost one is.
    pub fn new_key(&self, id: EventId, text: &str) -> Result<NewKey> {
        let event = self.store.conflict(id)?.event;
        let old = event.key.values()?;
        let written: Vec<&str> =
            if old.len() == 1 { vec![text] } else { text.split(',').collect() };
        if written.len() != old.len() {
            let (table, count) = (&event.table, old.len());
            let mut definitions = self.definitions();
            let found = definitions.find(|found| found.name.eq_ignore_ascii_case(table));
            let columns = found.into_iter().flat_map(|found| found.key_columns());
            let columns: Vec<_> = columns.map(|column| column.name.as_str()).collect();
            return Err(Error::usage(format!("the key of table `{table}` has {count} values"))
                .with_hint(format!("write them separated by commas: {}", columns.join(","))));
        }
        let values = old.iter().zip(written).map(|(old, text)| match old {
            Value::Integer(_) => text.parse().map(Value::Integer).map_err(|_| {
                Error::usage(format!("the new key `{text}` is not an integer"))
                    .with_hint("the lost key is an integer; without KEY, a fresh number is used")
            }),
            _ => Ok(Value::from(text)),
        });
        Ok(NewKey::Values(values.collect::<Result<_>>()?))
    }
}
