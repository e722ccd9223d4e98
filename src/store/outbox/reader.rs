//! Reads the rows that the triggers appended to the outbox: table, key and images.
//!
//! A captured event has a layout, and its values in columns of their own. An event of a first sync,
//! or one that was captured by a driftless before schema 2, has its table, its key and JSON.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row};

use crate::capture::{Captured, Layout};
use crate::error::{Code, Error, Result};
use crate::event::json::Scanner;
use crate::event::{Image, Op, RowKey};

/// The columns that [`Reader::read`] reads, in its order.
pub(in crate::store) const COLUMNS: &str = "n, op, layout, tbl, pk, before, after, changes";

/// The columns that [`Reader::row`] reads, in its order.
pub(in crate::store) const ROW: &str = "n, op, layout, tbl, pk";

/// The change that an outbox row describes.
#[derive(Clone, Debug)]
pub(in crate::store) struct OutboxEvent {
    table: String,
    op: Op,
    key: RowKey,
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
    /// Old and new values of generated columns that foreign keys lead from or to.
    made: [Image; 2],
    /// For a foreign key's consequence: the table and the key of the parent that was deleted or
    /// changed.
    parent: Option<(String, RowKey)>,
}

impl OutboxEvent {
    pub(in crate::store) fn table(&self) -> &str {
        &self.table
    }

    pub(in crate::store) fn op(&self) -> Op {
        self.op
    }

    pub(in crate::store) fn key(&self) -> &RowKey {
        &self.key
    }

    /// The JSON of its old values.
    pub(in crate::store) fn before(&self) -> Option<&[u8]> {
        self.before.as_deref()
    }

    /// For a foreign key's consequence: the table and the key of the parent that was deleted or
    /// changed.
    pub(in crate::store) fn parent(&self) -> Option<&(String, RowKey)> {
        self.parent.as_ref()
    }

    /// Takes the JSON of its old and new values out of it.
    pub(in crate::store) fn take_images(&mut self) -> Images {
        (self.before.take(), self.after.take())
    }

    /// Takes the values of generated columns out of it.
    pub(in crate::store) fn take_made(&mut self) -> [Image; 2] {
        std::mem::take(&mut self.made)
    }

    /// Takes the parent out of it.
    pub(in crate::store) fn take_parent(&mut self) -> Option<(String, RowKey)> {
        self.parent.take()
    }

    /// Its table and key.
    pub(in crate::store) fn into_row(self) -> (String, RowKey) {
        (self.table, self.key)
    }
}

/// The layouts of the events that were read so far. The meaning of a number never changes.
#[derive(Debug, Default)]
pub(in crate::store) struct Layouts(RefCell<HashMap<i64, Arc<Layout>>>);

impl Layouts {
    fn get(&self, db: &Connection, id: i64) -> Result<Arc<Layout>> {
        if let Some(layout) = self.0.borrow().get(&id) {
            return Ok(Arc::clone(layout));
        }
        let sql = "SELECT tbl, spec FROM driftless_layouts WHERE id = ?1";
        let found: Option<(String, String)> = db
            .prepare_cached(sql)?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (table, spec) = found.ok_or_else(|| {
            Error::new(Code::OutboxDamaged, "an event in the outbox has no layout")
        })?;
        let layout = Arc::new(Layout::read(&table, &spec)?);
        self.0.borrow_mut().insert(id, Arc::clone(&layout));
        Ok(layout)
    }

    /// The table of the row of [`COLUMNS`], which begin at the column `first`.
    pub(in crate::store) fn table(
        &self,
        db: &Connection,
        row: &Row<'_>,
        first: usize,
    ) -> Result<String> {
        match row.get(first + 2)? {
            Some(layout) => Ok(self.get(db, layout)?.table().to_owned()),
            None => Ok(row.get(first + 3)?),
        }
    }

    /// Reads the row of [`COLUMNS`], which begin at the column `first`. For many rows a [`Reader`]
    /// is faster.
    pub(in crate::store) fn read(
        &self,
        db: &Connection,
        row: &Row<'_>,
        first: usize,
        via: Option<usize>,
    ) -> Result<OutboxEvent> {
        Reader::of_values(db, self).read(row, first, via)
    }
}

/// Reads outbox rows one after the other. It keeps a statement for each layout, which reads a
/// captured event's values by number.
pub(in crate::store) struct Reader<'a> {
    db: &'a Connection,
    layouts: &'a Layouts,
    select: fn(&Layout) -> &str,
    open: Vec<(i64, Arc<Layout>, CachedStatement<'a>)>,
}

impl<'a> Reader<'a> {
    /// For [`Reader::read`].
    pub(in crate::store) fn of_values(db: &'a Connection, layouts: &'a Layouts) -> Self {
        Reader { db, layouts, select: Layout::select, open: Vec::new() }
    }

    /// For [`Reader::row`].
    pub(in crate::store) fn of_keys(db: &'a Connection, layouts: &'a Layouts) -> Self {
        Reader { db, layouts, select: Layout::select_key, open: Vec::new() }
    }

    /// Calls `take` with the values of the event `n`.
    fn with_values<T>(
        &mut self,
        layout: i64,
        n: i64,
        take: impl FnOnce(&Layout, &Row<'_>) -> Result<T>,
    ) -> Result<T> {
        let known = self.open.iter().position(|(id, ..)| *id == layout);
        let at = match known {
            Some(at) => at,
            None => {
                let found = self.layouts.get(self.db, layout)?;
                let statement = self.db.prepare_cached((self.select)(&found))?;
                self.open.push((layout, found, statement));
                self.open.len() - 1
            }
        };
        let (_, layout, statement) = &mut self.open[at];
        let mut rows = statement.query([n])?;
        let row = rows
            .next()?
            .ok_or_else(|| Error::new(Code::OutboxDamaged, "an event in the outbox is gone"))?;
        take(layout, row)
    }

    /// Reads the row of [`COLUMNS`], which begin at the column `first`. `via` is the place of that
    /// column, if the parent is to be read.
    pub(in crate::store) fn read(
        &mut self,
        row: &Row<'_>,
        first: usize,
        via: Option<usize>,
    ) -> Result<OutboxEvent> {
        let op = op(row.get(first + 1)?)?;
        let via = via.map(|via| bytes(row, via)).transpose()?.flatten();
        let via = via.map(Via::read).transpose()?;
        if let Some(layout) = row.get(first + 2)? {
            return self.with_values(layout, row.get(first)?, |layout, row| {
                let Captured { key, before, after, made } = layout.captured(op, row)?;
                let parent = match via {
                    None => None,
                    Some(Via::Named(parent)) => Some(parent),
                    Some(Via::By(foreign)) => Some(layout.parent(foreign, row)?),
                };
                let table = layout.table().to_owned();
                Ok(OutboxEvent { table, op, key, before, after, made, parent })
            });
        }
        let (before, after) = images(row, first + 5)?;
        let key = row_key(bytes(row, first + 4)?.unwrap_or_default())?;
        let parent = match via {
            Some(Via::Named(parent)) => Some(parent),
            _ => None,
        };
        let table = row.get(first + 3)?;
        Ok(OutboxEvent { table, op, key, before, after, made: Default::default(), parent })
    }

    /// Calls `take` with the table and the key of the row of [`ROW`], which begins at the column
    /// `first`.
    pub(in crate::store) fn row<T>(
        &mut self,
        row: &Row<'_>,
        first: usize,
        take: impl FnOnce(&str, &str) -> T,
    ) -> Result<T> {
        if let Some(layout) = row.get(first + 2)? {
            let op = op(row.get(first + 1)?)?;
            return self.with_values(layout, row.get(first)?, |layout, row| {
                Ok(take(layout.table(), &layout.captured_key(op, row)?.0))
            });
        }
        let table = row.get_ref(first + 3)?.as_str().map_err(rusqlite::Error::from)?;
        let key = row_key(bytes(row, first + 4)?.unwrap_or_default())?;
        Ok(take(table, &key.0))
    }
}

/// The parent of a consequence, as `via` has it.
enum Via {
    /// The number of the foreign key in the event's layout.
    By(usize),
    /// Table and key of the parent, as JSON from a driftless before schema 3. If the parent is
    /// named by other columns than its key, the key is an object.
    Named((String, RowKey)),
}

impl Via {
    fn read(via: &[u8]) -> Result<Via> {
        if let Some(number) = std::str::from_utf8(via).ok().and_then(|text| text.parse().ok()) {
            return Ok(Via::By(number));
        }
        let mut scanner = Scanner::new(via);
        scanner.expect(b'[')?;
        let table = String::from_utf8_lossy(&scanner.string()?).into_owned();
        scanner.expect(b',')?;
        let key = match scanner.raw()? {
            object @ [b'{', ..] => RowKey(Image::parse(object)?.to_json()),
            key => row_key(key)?,
        };
        Ok(Via::Named((table, key)))
    }
}

/// The bytes of a text column, or NULL.
pub(in crate::store) fn bytes<'r>(row: &'r Row<'_>, index: usize) -> Result<Option<&'r [u8]>> {
    let value: ValueRef<'r> = row.get_ref(index)?;
    Ok(value.as_bytes_or_null().map_err(rusqlite::Error::from)?)
}

/// The op for the number that the outbox has.
fn op(number: i64) -> Result<Op> {
    match number {
        0 => Ok(Op::Insert),
        1 => Ok(Op::Update),
        2 => Ok(Op::Delete),
        _ => Err(Error::new(
            Code::OutboxDamaged,
            "an event in the outbox has an op that is not \
            valid",
        )),
    }
}

/// A key from an outbox row. It may have bytes that are not UTF-8.
pub(in crate::store) fn row_key(bytes: &[u8]) -> Result<RowKey> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(RowKey(text.to_owned())),
        Err(_) => {
            let mut scanner = Scanner::new(bytes);
            let mut values = Vec::new();
            scanner.expect(b'[')?;
            loop {
                values.push(scanner.value()?);
                if scanner.eat(b']') {
                    break;
                }
                scanner.expect(b',')?;
            }
            scanner.end()?;
            Ok(RowKey::from_values(&values))
        }
    }
}

/// The JSON of an outbox row's old and new values.
pub(in crate::store) type Images = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Reads `before`, `after` and `changes`, which begin in this order at the column `first`. An
/// update's two images were captured as one object, with `[old, new]` for each changed column.
/// Those of a replaced row are whole, and unchanged columns are left out here.
pub(in crate::store) fn images(row: &Row<'_>, first: usize) -> Result<Images> {
    let Some(changes) = bytes(row, first + 2)? else {
        return Ok(match (bytes(row, first)?, bytes(row, first + 1)?) {
            (Some(before), Some(after)) => differing(before, after)?,
            (before, after) => (before.map(<[u8]>::to_vec), after.map(<[u8]>::to_vec)),
        });
    };
    let (mut before, mut after) = (vec![b'{'], vec![b'{']);
    let mut scanner = Scanner::new(changes);
    scanner.expect(b'{')?;
    if !scanner.eat(b'}') {
        loop {
            let name = scanner.raw()?;
            scanner.expect(b':')?;
            scanner.expect(b'[')?;
            for (image, end) in [(&mut before, b','), (&mut after, b']')] {
                if image.len() > 1 {
                    image.push(b',');
                }
                image.extend_from_slice(name);
                image.push(b':');
                image.extend_from_slice(scanner.raw()?);
                scanner.expect(end)?;
            }
            if scanner.eat(b'}') {
                break;
            }
            scanner.expect(b',')?;
        }
    }
    scanner.end()?;
    before.push(b'}');
    after.push(b'}');
    Ok((Some(before), Some(after)))
}

/// The columns in which the two whole images of a replaced row differ.
fn differing(before: &[u8], after: &[u8]) -> Result<Images> {
    let (mut before, mut after) = (Image::parse(before)?, Image::parse(after)?);
    let changed = |image: &Image, other: &Image| -> Vec<bool> {
        image.0.iter().map(|(name, value)| other.get(name) != Some(value)).collect()
    };
    let masks = [changed(&before, &after), changed(&after, &before)];
    for (image, mask) in [&mut before, &mut after].into_iter().zip(masks) {
        let mut mask = mask.into_iter();
        image.0.retain(|_| mask.next() == Some(true));
    }
    Ok((Some(before.to_json().into_bytes()), Some(after.to_json().into_bytes())))
}
