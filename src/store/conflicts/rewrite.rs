//! Writes one lost event again: see [`restore`](super::restore).

use std::collections::HashMap;

use rusqlite::Connection;

use super::inbox::Conflict;
use super::refusal::{FOREIGN_HINT, cannot, missing_parent, no_parent};
use crate::catalog::Table;
use crate::error::{Code, Error, Result};
use crate::event::value::{Value, ValueRef};
use crate::event::{Event, Image, Op, RowKey, Seq};
use crate::store::Store;
use crate::store::rows::refusal::{extended_code, is_refusal};
use crate::store::rows::row::{Row, borrow, known_key, overlay};
use crate::store::rows::trigger_guard::Guard;
use crate::store::rows::writer::Writer;

/// Writes lost events again, in a transaction.
pub(in crate::store) struct Rewriter<'s> {
    store: &'s Store,
    db: &'s Connection,
    writer: Writer<'s>,
    /// The new keys of lost inserts, by table and old key, each with its insert's place in the log.
    moved: HashMap<(usize, String), (Seq, Vec<Value>)>,
}

impl<'s> Rewriter<'s> {
    pub(in crate::store) fn new(store: &'s Store, db: &'s Connection, guard: &'s Guard) -> Self {
        let writer = Writer::new(db, &store.tables, guard);
        Rewriter { store, db, writer, moved: HashMap::new() }
    }

    pub(in crate::store) fn row(
        &mut self,
        table: usize,
        key: &[ValueRef<'_>],
    ) -> Result<Option<Row>> {
        self.writer.row(table, key)
    }

    /// A lost insert, and what refers to its row from then on, gets this key.
    pub(in crate::store) fn move_row(&mut self, table: usize, event: &Event, values: Vec<Value>) {
        self.moved.insert((table, event.key.0.clone()), (event.seq, values));
    }

    /// Another group has other new keys.
    pub(in crate::store) fn forget_moves(&mut self) {
        self.moved.clear();
    }

    /// The new key of an event's row, if it has one: that of the insert, or of an event behind it.
    pub(in crate::store) fn moved(&self, table: usize, event: &Event) -> Option<&[Value]> {
        let (seq, values) = self.moved.get(&(table, event.key.0.clone()))?;
        (*seq <= event.seq).then_some(values)
    }

    /// Writes what one lost event wrote.
    pub(in crate::store) fn one(&mut self, lost: &Conflict) -> Result<()> {
        let event = &lost.event;
        let table = self.store.table_index(&event.table).ok_or_else(|| {
            let message = format!("table `{}` is not replicated here", event.table);
            Error::new(Code::TableNotReplicated, message)
        })?;
        let key = match self.moved(table, event) {
            Some(values) => RowKey::from_values(values),
            None => event.key.clone(),
        };
        let image = lost.insert.as_ref().unwrap_or(event).after.clone().unwrap_or_default();
        let image = self.with_moved_parents(table, image)?;
        let row = At { event, table, key };
        match (event.op, &lost.insert) {
            (Op::Insert, _) => {
                let image = self.with_own_key(&row, image);
                self.put(&row, &image)
            }
            (Op::Update, _) => self.change(&row, &image, lost.winner.as_ref()),
            (Op::Delete, Some(_)) => match self.is_there(&row)? {
                true => self.change(&row, &image, None),
                false => self.put(&row, &image),
            },
            (Op::Delete, None) => {
                let key = self.key(&row)?;
                let written = self.writer.delete(table, &key);
                written.map(drop).map_err(|error| self.refused(&row, None, error))
            }
        }
    }

    /// An image whose references to rows that got a new key follow them.
    fn with_moved_parents(&self, table: usize, mut image: Image) -> Result<Image> {
        if self.moved.is_empty() {
            return Ok(image);
        }
        for key in &self.store.tables[table].table.foreign_keys {
            let Some(parent) = self.store.table_index(&key.parent) else { continue };
            let definition = &self.store.tables[parent].table;
            let child_of = |column: &str| {
                let pair = key.columns.iter().find(|(_, of)| of.eq_ignore_ascii_case(column));
                let place = |name: &str| {
                    image.0.iter().position(|(mine, _)| mine.eq_ignore_ascii_case(name))
                };
                pair.and_then(|(child, _)| place(child))
            };
            let places: Option<Vec<usize>> =
                definition.key_columns().map(|column| child_of(&column.name)).collect();
            let Some(places) = places.filter(|places| places.len() == key.columns.len()) else {
                continue;
            };
            let old: Vec<Value> = places.iter().map(|&at| image.0[at].1.clone()).collect();
            if let Some((_, new)) = self.moved.get(&(parent, RowKey::from_values(&old).0)) {
                for (&at, value) in places.iter().zip(new) {
                    image.0[at].1 = value.clone();
                }
            }
        }
        Ok(image)
    }

    fn definition(&self, row: &At<'_>) -> &Table {
        &self.store.tables[row.table].table
    }

    fn key<'k>(&self, row: &'k At<'_>) -> Result<Vec<ValueRef<'k>>> {
        known_key(self.definition(row), &row.key.0).ok_or_else(|| {
            let table = &row.event.table;
            let message = format!("the key of table `{table}` has another form now");
            Error::new(Code::CannotRestore, message)
        })
    }

    fn is_there(&mut self, row: &At<'_>) -> Result<bool> {
        match known_key(self.definition(row), &row.key.0) {
            Some(values) => Ok(self.writer.row(row.table, &values)?.is_some()),
            None => Ok(false),
        }
    }

    fn check_columns(&self, row: &At<'_>, image: &Image) -> Result<()> {
        let table = self.definition(row);
        match image.0.iter().find(|(name, _)| table.column(name).is_none()) {
            None => Ok(()),
            Some((name, _)) => {
                let message = format!(
                    "table `{}` has no column `{name}` any more, which event {} wrote",
                    table.name, row.event.id
                );
                Err(Error::new(Code::CannotRestore, message))
            }
        }
    }

    /// Writes a whole row, over the one that is there if there is one.
    fn put(&mut self, row: &At<'_>, image: &Image) -> Result<()> {
        self.check_columns(row, image)?;
        let written = self.writer.upsert(row.table, &row.key.0, &borrow(image));
        written.map(drop).map_err(|error| self.refused(row, Some(image), error))
    }

    /// Changes columns of a row, which is made again if the winner's delete tells what it was.
    fn change(&mut self, row: &At<'_>, after: &Image, winner: Option<&Event>) -> Result<()> {
        self.check_columns(row, after)?;
        if self.is_there(row)? {
            let key = self.key(row)?;
            let written = self.writer.update(row.table, &key, &borrow(after));
            return written.map(drop).map_err(|error| self.refused(row, Some(after), error));
        }
        let event = row.event;
        let whole = winner.filter(|winner| winner.op == Op::Delete && winner.key == event.key);
        let Some(mut image) = whole.and_then(|winner| winner.before.clone()) else {
            let message = "the row is gone, and only some of its columns were changed";
            return Err(Error::new(Code::CannotRestore, message)
                .with_hint("insert the row again by hand, or `driftless conflicts dismiss` it"));
        };
        overlay(self.definition(row), &mut image, &borrow(after));
        self.put(row, &image)
    }

    /// The image of a lost insert under the key that it gets.
    fn with_own_key(&self, row: &At<'_>, mut image: Image) -> Image {
        let Some(values) = self.moved(row.table, row.event) else { return image };
        for (column, value) in self.definition(row).key_columns().zip(values) {
            match image.0.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(&column.name)) {
                Some((_, old)) => *old = value.clone(),
                None => image.0.push((column.name.clone(), value.clone())),
            }
        }
        image
    }

    /// Why a restoration was refused. `image` is what was to be written.
    fn refused(&self, row: &At<'_>, image: Option<&Image>, error: rusqlite::Error) -> Error {
        if !is_refusal(&error) {
            return error.into();
        }
        let message = match &error {
            rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
            other => other.to_string(),
        };
        let foreign = extended_code(&error) == Some(rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY)
            || message.starts_with("FOREIGN KEY");
        if !foreign {
            return cannot(&message).with_source(error);
        }
        let parent = image
            .and_then(|image| missing_parent(self.db, self.definition(row), image).ok().flatten());
        let reason = match (parent, image) {
            (Some(parent), _) => no_parent(&parent),
            (None, None) => "other rows refer to it".to_owned(),
            (None, Some(_)) => message,
        };
        Error::new(Code::RestoreNeedsRow, reason).with_hint(FOREIGN_HINT).with_source(error)
    }
}

/// A row that is to be written.
struct At<'e> {
    event: &'e Event,
    table: usize,
    /// Its key, which may be another one than its event's.
    key: RowKey,
}
