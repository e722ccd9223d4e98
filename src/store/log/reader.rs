//! Reads the local log at one moment: for questions about rows, times and former states.

use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use super::row_index::places;
use super::{Entry, MORE, PendingEntry, frame, pending, settled_in};
use crate::catalog::{Affinity, Column, Table, ident, key_json};
use crate::error::Result;
use crate::event::frame::{Glance, glance};
use crate::event::value::{Value, ValueRef};
use crate::event::{Event, EventId, Image, RowKey, Seq};
use crate::store::Store;
use crate::store::identity::landmark;
use crate::store::outbox::reader::{COLUMNS, Layouts};
use crate::store::rows::row::{known_key, value};

/// The events of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfRow {
    /// The settled ones in the order of the log.
    pub events: Vec<Event>,
    /// Frames that cannot be read: they may be of this row.
    pub unreadable: Vec<Seq>,
}

/// A pending event, with what it knows to be underneath it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The event.
    pub event: PendingEntry,
    /// What its row held underneath: of an update the old values of its columns, of a delete the
    /// whole row.
    pub under: Option<Image>,
}

/// A pulled event that is in the log and not in the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Its place in the log.
    pub seq: Seq,
    /// Its table.
    pub table: String,
    /// Its row.
    pub key: RowKey,
}

/// Reads the log in a transaction that another began: all answers are of one moment.
pub struct LogReader<'a> {
    db: &'a Connection,
    layouts: Layouts,
}

impl<'a> LogReader<'a> {
    /// A reader over a connection to a replica's file.
    pub fn over(db: &'a Connection) -> Self {
        LogReader { db, layouts: Layouts::default() }
    }

    /// The connection, to read tables at the same moment.
    pub fn db(&self) -> &'a Connection {
        self.db
    }

    /// The place up to which the replica has integrated the log.
    pub fn head(&self) -> Result<Seq> {
        let sql = "SELECT cursor FROM driftless_state";
        Ok(Seq(self.db.prepare_cached(sql)?.query_row([], |row| row.get(0))?))
    }

    /// The place behind which the replica has each event: where its first sync ended.
    pub fn begin(&self) -> Result<Seq> {
        Ok(landmark(self.db)?.map_or(Seq(0), |place| place.seq))
    }

    /// Visits the settled events behind `after` up to `until`, of which `wanted` takes the header,
    /// in the order of the log.
    ///
    /// # Errors
    ///
    /// What `visit` returns ends the walk. `Corrupt` when a frame is damaged.
    pub fn settled(
        &self,
        after: Seq,
        until: Seq,
        wanted: &mut dyn FnMut(Seq, &Glance<'_>) -> bool,
        visit: &mut dyn FnMut(Event) -> Result<()>,
    ) -> Result<()> {
        let sql = "SELECT seq, header, vals FROM driftless_log
                   WHERE seq > ?1 AND seq <= ?2 ORDER BY seq";
        let mut statement = self.db.prepare_cached(sql)?;
        let mut rows = statement.query((after.0, until.0))?;
        while let Some(row) = rows.next()? {
            let seq = Seq(row.get(0)?);
            if wanted(seq, &glance(header(row)?, seq)?) {
                visit(frame(row)?)?;
            }
        }
        Ok(())
    }

    /// How many frames there are behind `after` up to `until`.
    pub fn count(&self, after: Seq, until: Seq) -> Result<u64> {
        let sql = "SELECT count(*) FROM driftless_log WHERE seq > ?1 AND seq <= ?2";
        let count: i64 = self.db.query_row(sql, (after.0, until.0), |row| row.get(0))?;
        Ok(count as u64)
    }

    /// The settled events of a row behind `after` up to `until`, by the index.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the values of one are damaged.
    pub fn of_row(&self, table: &str, key: &RowKey, after: Seq, until: Seq) -> Result<OfRow> {
        let places = places(self.db, table, &key.0)?;
        let within = |seq: &Seq| *seq > after && *seq <= until;
        let mut found = OfRow::default();
        for seq in places.of_row().iter().copied().filter(within) {
            let event = settled_in(self.db, None, seq)?;
            let is_of =
                |event: &Event| event.key == *key && event.table.eq_ignore_ascii_case(table);
            found.events.extend(event.filter(is_of));
        }
        found.unreadable = places.unreadable().iter().copied().filter(within).collect();
        Ok(found)
    }

    /// The settled event at a place in the log.
    ///
    /// # Errors
    ///
    /// `Corrupt` when it is damaged.
    pub fn at(&self, seq: Seq) -> Result<Option<Event>> {
        settled_in(self.db, None, seq)
    }

    /// The settled event in front of a place in the log.
    ///
    /// # Errors
    ///
    /// As for [`LogReader::at`].
    pub fn before(&self, seq: Seq) -> Result<Option<Event>> {
        let sql = "SELECT seq, header, vals FROM driftless_log WHERE seq < ?1
                   ORDER BY seq DESC LIMIT 1";
        let mut statement = self.db.prepare_cached(sql)?;
        let mut rows = statement.query([seq.0])?;
        rows.next()?.map(frame).transpose()
    }

    /// The settled event with this id that is in front of a place in the log. It is looked for from
    /// there backwards.
    ///
    /// # Errors
    ///
    /// As for [`LogReader::at`].
    pub fn named_before(&self, id: EventId, seq: Seq) -> Result<Option<Event>> {
        let sql = "SELECT seq FROM driftless_log WHERE id = ?1 AND seq < ?2
                   ORDER BY seq DESC LIMIT 1";
        let mut statement = self.db.prepare_cached(sql)?;
        let id = id.0.to_bytes();
        let found = statement.query_row((id.as_slice(), seq.0), |row| row.get(0)).optional()?;
        found.map_or(Ok(None), |seq| self.at(Seq(seq)))
    }

    /// The last event that the remote had taken in at a time: ms since 1970. In a log whose
    /// remote's clock was set back it is one of those between which the time lies.
    ///
    /// # Errors
    ///
    /// `Corrupt` when a frame's header is damaged.
    pub fn place_at(&self, ms: i64) -> Result<Seq> {
        let (mut low, mut high) = (self.begin()?.0, self.head()?.0);
        let sql = "SELECT seq, header FROM driftless_log WHERE seq > ?1 AND seq <= ?2
                   ORDER BY seq LIMIT 1";
        let mut statement = self.db.prepare_cached(sql)?;
        // All up to `low` came by then, and nothing behind `high`.
        while low < high {
            let middle = low + (high - low) / 2;
            let mut rows = statement.query((middle, high))?;
            match rows.next()? {
                None => high = middle,
                Some(row) => {
                    let seq = row.get(0)?;
                    if glance(header(row)?, Seq(seq))?.received_at <= ms {
                        low = seq;
                    } else {
                        high = middle;
                    }
                }
            }
        }
        Ok(Seq(low))
    }

    /// Visits the pending events in their order.
    ///
    /// # Errors
    ///
    /// What `visit` returns ends the walk.
    pub fn pending(&self, visit: &mut dyn FnMut(Pending) -> Result<()>) -> Result<()> {
        let sql = format!(
            "SELECT {COLUMNS}, {MORE}, undo FROM driftless_outbox WHERE NOT settled ORDER BY n"
        );
        let mut statement = self.db.prepare_cached(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let event = pending(self.db, &self.layouts, row)?;
            let undo: Option<String> = row.get(15)?;
            let undo = undo.map(|json| Image::parse(json.as_bytes())).transpose()?;
            let under = undo.or_else(|| event.before.clone());
            visit(Pending { event, under })?;
        }
        Ok(())
    }

    /// The row of a replicated table as it stands now.
    pub fn row(&self, table: &Table, key: &RowKey) -> Result<Option<Image>> {
        row_of(self.db, table, key)
    }

    /// Visits the rows of a replicated table in the order of their keys: each with its canonical
    /// key and its value of a column.
    ///
    /// # Errors
    ///
    /// What `visit` returns ends the walk.
    pub fn rows(
        &self,
        table: &Table,
        column: &Column,
        visit: &mut dyn FnMut(RowKey, Value) -> Result<()>,
    ) -> Result<()> {
        let order: Vec<_> = table.key_columns().map(|column| ident(&column.present)).collect();
        let sql = format!(
            "SELECT {}, t.{} FROM main.{} AS t ORDER BY {}",
            key_json(table, "t"),
            ident(&column.present),
            ident(&table.name),
            order.join(", ")
        );
        let mut statement = self.db.prepare_cached(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            visit(RowKey(row.get(0)?), value(row.get_ref(1)?))?;
        }
        Ok(())
    }

    /// The pulled events that are in the log and not in the tables, in their order.
    pub fn waiting(&self) -> Result<Vec<Waits>> {
        let sql = "SELECT seq, tbl, pk FROM driftless_quarantine ORDER BY seq";
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            Ok(Waits { seq: Seq(row.get(0)?), table: row.get(1)?, key: RowKey(row.get(2)?) })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

/// A row of a table, by its canonical key.
pub(in crate::store) fn row_of(
    db: &Connection,
    table: &Table,
    key: &RowKey,
) -> Result<Option<Image>> {
    let Some(values) = known_key(table, &key.0) else { return Ok(None) };
    let names: Vec<_> = table.present_names().map(ident).collect();
    let conditions = table.key_columns().zip(&table.key_collations);
    let conditions: Vec<_> = conditions
        .map(|(column, collation)| {
            format!("{} = ? COLLATE {}", ident(&column.present), collation.name())
        })
        .collect();
    let sql = format!(
        "SELECT {} FROM main.{} WHERE {}",
        names.join(", "),
        ident(&table.name),
        conditions.join(" AND ")
    );
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let mut image = Image::default();
    for (at, name) in table.column_names().enumerate() {
        image.0.push((name.to_owned(), value(row.get_ref(at)?)));
    }
    Ok(Some(image))
}

fn header<'r>(row: &'r Row<'_>) -> Result<&'r [u8]> {
    Ok(row.get_ref(1)?.as_bytes().map_err(rusqlite::Error::from)?)
}

impl Pending {
    /// The event, as the log lists it.
    pub fn into_entry(self) -> Entry {
        Entry::Pending(self.event)
    }
}

impl Store {
    /// The canonical key that a person means by these texts, one for each part of a table's key:
    /// SQLite converts and folds them as it does for the table.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn canonical_key(&self, table: &Table, parts: &[&str]) -> Result<RowKey> {
        let columns: Vec<_> = table
            .key_columns()
            .map(|column| format!("{} {}", ident(&column.present), column.affinity.name()))
            .collect();
        let db = Connection::open_in_memory()?;
        db.execute_batch(&format!("CREATE TABLE t ({})", columns.join(", ")))?;
        let places: Vec<_> = (1..=parts.len()).map(|place| format!("?{place}")).collect();
        // Where a column has no type a number is taken for one, as a literal would be.
        let number = |part: &&str| match part.parse::<i64>() {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::from(*part),
        };
        let values = parts.iter().zip(table.key_columns()).map(|(part, column)| {
            if column.affinity == Affinity::Blob { number(part) } else { Value::from(*part) }
        });
        let values: Vec<Value> = values.collect();
        let sql = format!("INSERT INTO t VALUES ({})", places.join(", "));
        db.execute(&sql, params_from_iter(values.iter().map(ValueRef::from)))?;
        let sql = format!("SELECT {} FROM t", key_json(table, "t"));
        Ok(RowKey(db.query_row(&sql, [], |row| row.get(0))?))
    }

    /// Answers with a reader of the log; all that it reads is of one moment.
    ///
    /// # Errors
    ///
    /// What `read` returns.
    pub fn read_log<T>(&self, read: impl FnOnce(&LogReader<'_>) -> Result<T>) -> Result<T> {
        let tx = self.db.unchecked_transaction()?;
        read(&LogReader::over(&tx))
    }
}
