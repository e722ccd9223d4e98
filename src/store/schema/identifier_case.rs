//! The remote's case of the names of the replicated tables and columns, taken over by this replica.
//!
//! Events that were captured with another one, before the first sync or since a column was
//! added on both sides, get it in the outbox: those in the log have the remote's already.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::install::{drop_triggers, forget_before_images, install};
use super::notice::SchemaCheck;
use super::replicated::{ReplicatedTable, registered};
use crate::capture::Layout;
use crate::catalog::{Table, columns_json};
use crate::error::Result;
use crate::event::json::Scanner;
use crate::event::value::write_string;
use crate::store::Store;

/// The images of an outbox row.
const IMAGES: [&str; 4] = ["before", "after", "changes", "undo"];

impl Store {
    /// Spells the replicated tables and their columns as here. What differs in more than the case
    /// of letters A to Z stays as it is, but for columns that have another name in events.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails, `Corrupt` when an event in the outbox is damaged. Then
    /// nothing has changed.
    pub fn set_identifier_case(&mut self, spelling: &[Table]) -> Result<()> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        SchemaCheck::at(&tx)?.carry_out(&tx)?;
        let before = registered(&tx)?;
        for spelled in spelling {
            let name = &spelled.name;
            let columns: Vec<_> = spelled.column_names().map(str::to_owned).collect();
            let json = columns_json(&columns, &spelled.names());
            let sql = "SELECT name FROM driftless_tables
                WHERE name = ?1 COLLATE NOCASE AND (name <> ?1 OR columns <> ?2)";
            let old: Option<String> =
                tx.query_row(sql, [name, &json], |row| row.get(0)).optional()?;
            let Some(old) = old else { continue };
            // The trigger tells the former names; it is made anew below.
            let known = before.iter().find(|known| known.table.name == old);
            if known.is_some_and(|known| known.table.names() != spelled.names()) {
                drop_triggers(&tx, known.map(|known| &known.table))?;
            }
            let sql = "UPDATE driftless_tables SET name = ?2, columns = ?3 WHERE name = ?1";
            tx.execute(sql, [&old, name, &json])?;
        }
        set_names_anew(&tx, &before)?;
        tx.commit()?;
        self.outbox.pending_mut().forget();
        self.load_definitions()
    }
}

/// Spells the outbox and the triggers of tables that have got other names since `before`.
pub(super) fn set_names_anew(tx: &Connection, before: &[ReplicatedTable]) -> Result<()> {
    let after = registered(tx)?;
    let mut any = false;
    for ReplicatedTable { table, .. } in &after {
        let same = |old: &&ReplicatedTable| old.table.name.eq_ignore_ascii_case(&table.name);
        let Some(old) = before.iter().find(same) else { continue };
        if old.table.name != table.name || !old.table.column_names().eq(table.column_names()) {
            set_case_in_outbox(tx, &old.table, table)?;
            any = true;
        }
    }
    if any {
        // Of statements that were refused: no statement is under way now.
        forget_before_images(tx)?;
        let all: Vec<_> = after.iter().map(|replicated| &replicated.table).collect();
        for table in &all {
            install(tx, table, &all)?;
        }
    }
    Ok(())
}

/// Spells the events of a table that await their verdict as its definition does.
fn set_case_in_outbox(db: &Connection, former: &Table, table: &Table) -> Result<()> {
    let old = former.name.as_str();
    let sql = "SELECT id, tbl, spec FROM driftless_layouts WHERE tbl = ?1";
    let layouts = db
        .prepare(sql)?
        .query_map([old], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<Vec<(i64, String, String)>>>()?;
    let sql = "SELECT n FROM driftless_outbox WHERE NOT settled AND (tbl = ?1
                   OR layout IN (SELECT id FROM driftless_layouts WHERE tbl = ?1))";
    let numbers = db
        .prepare(sql)?
        .query_map([old], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<i64>>>()?;
    for n in numbers {
        let sql = "UPDATE driftless_outbox SET tbl = ?2 WHERE n = ?1 AND layout IS NULL";
        db.prepare_cached(sql)?.execute((n, &table.name))?;
        for image in IMAGES {
            let sql = format!("SELECT CAST({image} AS BLOB) FROM driftless_outbox WHERE n = ?1");
            let json: Option<Vec<u8>> =
                db.prepare_cached(&sql)?.query_row([n], |row| row.get(0))?;
            let Some(json) = json else { continue };
            let sql =
                format!("UPDATE driftless_outbox SET {image} = CAST(?2 AS TEXT) WHERE n = ?1");
            db.prepare_cached(&sql)?.execute((n, set_case_in_object(&json, former, table)?))?;
        }
    }
    for (id, name, spec) in layouts {
        let layout = Layout::read(&name, &spec)?.in_case_of(former, table);
        db.execute_batch(&layout.register())?;
        let sql = "UPDATE driftless_outbox SET layout = ?2 WHERE layout = ?1 AND NOT settled";
        db.execute(sql, [id, layout.id()])?;
    }
    Ok(())
}

/// A JSON object whose names are columns, spelled as in the definition.
fn set_case_in_object(json: &[u8], former: &Table, table: &Table) -> Result<Vec<u8>> {
    let mut out = vec![b'{'];
    let mut scanner = Scanner::new(json);
    scanner.expect(b'{')?;
    while !scanner.eat(b'}') {
        if out.len() > 1 {
            scanner.expect(b',')?;
            out.push(b',');
        }
        let name = scanner.string()?;
        let new = std::str::from_utf8(&name).ok().map(|name| table.renamed_from(former, name));
        write_string(new.map_or(&name, str::as_bytes), &mut out);
        scanner.expect(b':')?;
        out.push(b':');
        out.extend_from_slice(scanner.raw()?);
    }
    Ok(out.into_iter().chain([b'}']).collect())
}
