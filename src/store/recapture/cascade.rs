//! Undoes the deletes that the rebuild of a parent table causes.
//!
//! With foreign keys on, `DROP TABLE` first deletes the table's rows. It fires no triggers of the
//! table, but it carries out foreign key actions, and the triggers of the children fire
//! (<https://www.sqlite.org/foreignkeys.html#fk_schemacommands>). So a migration that rebuilds a
//! parent, as many tools do, deletes all its children. If these deletes were pushed, the children
//! would be gone everywhere.
//!
//! Hardly anybody intends this, but it cannot be known. So the rows are written back here, their
//! deletes are not pushed, and the rows are listed with those that came back from the remote.
//!
//! # Caveats
//!
//! * It is recognised by two conditions: the parent table was rebuilt, and no child is left except
//!   those that were inserted since. Then all unsent deletes of children that are not a consequence
//!   of a parent's delete are undone, earlier ones too.
//! * The effects of ON DELETE SET NULL and SET DEFAULT on children are pushed.

use std::collections::HashSet;

use rusqlite::Connection;

use super::returned::note;
use crate::catalog::{Action, ForeignKey, Table, ident};
use crate::error::Result;
use crate::event::{Image, Op, RowKey};
use crate::store::Store;
use crate::store::outbox::pending::known_columns;
use crate::store::outbox::reader::{COLUMNS, OutboxEvent, Reader};
use crate::store::rows::writer::Writer;

/// The time in ms since 1970.
const NOW_MS: &str = "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)";

/// An unsent event.
struct Unsent {
    n: i64,
    written: OutboxEvent,
    is_key_change_half: bool,
}

impl Store {
    /// Undoes the unsent deletes of children of these tables, which were rebuilt. Returns how many
    /// rows came back.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails. Then nothing has changed.
    pub(in crate::store) fn take_cascades_back(&self, anew: &[&str]) -> Result<usize> {
        let is_anew = |key: &&ForeignKey| {
            key.on_delete == Action::Cascade
                && anew.iter().any(|parent| parent.eq_ignore_ascii_case(&key.parent))
        };
        let tables = self.tables.iter().map(|known| &known.table);
        let children: Vec<(&Table, &ForeignKey)> = tables
            .flat_map(|table| table.foreign_keys.iter().map(move |key| (table, key)))
            .filter(|(table, key)| is_anew(key) && !key.parent.eq_ignore_ascii_case(&table.name))
            .collect();
        if children.is_empty() {
            return Ok(0);
        }
        let tx = self.begin_write()?;
        let events = self.unsent(&tx)?;
        let mut emptied = HashSet::new();
        for (table, key) in children {
            if is_emptied(&tx, table, key, &events)? {
                emptied.insert(table.name.to_ascii_lowercase());
            }
        }
        let back = taken_back(&events, &emptied);
        if back.is_empty() {
            return Ok(0);
        }
        tx.execute("UPDATE driftless_state SET replaying = 1", [])?;
        let now_ms: i64 = tx.query_row(NOW_MS, [], |row| row.get(0))?;
        let mut writer = Writer::new(&tx, &self.tables, &self.guard);
        for event in &back {
            self.bring_back(&tx, &mut writer, event, now_ms)?;
        }
        drop(writer);
        tx.execute("UPDATE driftless_state SET replaying = 0", [])?;
        let count = back.len();
        self.commit_write(tx)?;
        self.outbox.forget_numbers();
        Ok(count)
    }

    fn unsent(&self, tx: &Connection) -> Result<Vec<Unsent>> {
        let sql = format!(
            "SELECT {COLUMNS}, via, pair FROM driftless_outbox
             WHERE NOT settled AND n > (SELECT sent FROM driftless_state) ORDER BY n"
        );
        let mut statement = tx.prepare(&sql)?;
        let mut rows = statement.query([])?;
        let mut reader = Reader::of_values(tx, self.outbox.layouts());
        let mut events = Vec::new();
        while let Some(row) = rows.next()? {
            let is_key_change_half = row.get::<_, Option<i64>>(9)?.is_some();
            let written = reader.read(row, 0, Some(8))?;
            events.push(Unsent { n: row.get(0)?, written, is_key_change_half });
        }
        Ok(events)
    }

    /// Writes the row of a delete back, unless it exists, and removes the delete.
    fn bring_back(
        &self,
        tx: &Connection,
        writer: &mut Writer<'_>,
        event: &Unsent,
        now_ms: i64,
    ) -> Result<()> {
        let (table, key, before) =
            (event.written.table(), event.written.key(), event.written.before());
        let (Some(at), Some(before)) = (self.table_index(table), before) else { return Ok(()) };
        let image = Image::parse(before)?;
        let columns = known_columns(&self.tables[at].table, &image);
        writer.upsert(at, &key.0, &columns)?;
        tx.prepare_cached("UPDATE driftless_outbox SET settled = 1 WHERE n = ?1")?
            .execute([event.n])?;
        note(tx, &self.tables[at].table.name, key, now_ms)
    }
}

/// Whether no row refers to the parent except those that were inserted since.
fn is_emptied(tx: &Connection, table: &Table, key: &ForeignKey, events: &[Unsent]) -> Result<bool> {
    let refers: Vec<_> = key.columns.iter().map(|(child, _)| table.present(child)).collect();
    let refers: Vec<_> =
        refers.iter().map(|child| format!("{} IS NOT NULL", ident(child))).collect();
    let sql =
        format!("SELECT count(*) FROM main.{} WHERE {}", ident(&table.name), refers.join(" AND "));
    let left: i64 = tx.query_row(&sql, [], |row| row.get(0))?;
    let of_table = |event: &&Unsent| event.written.table().eq_ignore_ascii_case(&table.name);
    let inserted = events.iter().filter(of_table).filter(|one| one.written.op() == Op::Insert);
    Ok(left <= inserted.count() as i64)
}

/// The deletes of children of a rebuilt table, and their consequences.
fn taken_back<'e>(events: &'e [Unsent], emptied: &HashSet<String>) -> Vec<&'e Unsent> {
    let row = |table: &str, key: &RowKey| (table.to_ascii_lowercase(), key.clone());
    let mut rows = HashSet::new();
    let mut taken = vec![false; events.len()];
    loop {
        let mut any = false;
        // A consequence comes before its cause.
        for (at, event) in events.iter().enumerate() {
            let (table, key) = (event.written.table(), event.written.key());
            if taken[at] || event.written.op() != Op::Delete || event.is_key_change_half {
                continue;
            }
            let is_one = match event.written.parent() {
                None => emptied.contains(&table.to_ascii_lowercase()),
                Some((parent, key)) => rows.contains(&row(parent, key)),
            };
            if is_one {
                rows.insert(row(table, key));
                (taken[at], any) = (true, true);
            }
        }
        if !any {
            break;
        }
    }
    let later = |at: usize, event: &Unsent| {
        let same = |other: &Unsent| {
            other.written.key() == event.written.key()
                && other.written.table().eq_ignore_ascii_case(event.written.table())
        };
        events[at + 1..].iter().any(same)
    };
    // If the application has written a row again since, that is its intention.
    let taken = events.iter().enumerate().filter(|(at, event)| taken[*at] && !later(*at, event));
    taken.map(|(_, event)| event).collect()
}
