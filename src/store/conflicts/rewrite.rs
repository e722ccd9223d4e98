//! Writes one lost event again: see [`restore`](super::restore).

use super::inbox::Conflict;
use super::refusal::{FOREIGN_HINT, cannot, missing_parent, no_parent};
use super::restore::Restoration;
use crate::catalog::Table;
use crate::error::{Code, Error, Result};
use crate::event::value::{Value, ValueRef};
use crate::event::{Event, Image, Op, RowKey};
use crate::store::rows::refusal::{extended_code, is_refusal};
use crate::store::rows::row::{borrow, known_key, overlay};

impl Restoration<'_> {
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
            if let Some(new) = self.moved.get(&(parent, RowKey::from_values(&old).0)) {
                for (&at, value) in places.iter().zip(&new.values) {
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
