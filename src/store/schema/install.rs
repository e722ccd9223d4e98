//! Our tables and triggers in a replica's file.

use rusqlite::{Connection, OptionalExtension};

use crate::capture::{BEFORE_IMAGES, LEAVING, Layout, fingerprint, names_table, triggers};
use crate::catalog::limits::PREFIX;
use crate::catalog::{Table, ident};
use crate::error::{Error, Result};

/// Our tables in a replica's database.
pub(crate) const TABLES_SQL: &str = include_str!("../../../schema/replica/tables.sql");

pub(in crate::store) fn schema_version(db: &Connection) -> Result<i64> {
    Ok(db.prepare_cached("PRAGMA schema_version")?.query_row([], |row| row.get(0))?)
}

/// Drops our triggers on a table, or all.
pub(in crate::store) fn drop_triggers(db: &Connection, table: Option<&Table>) -> Result<()> {
    let mut statement = db.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'trigger'
         AND (?1 IS NULL OR tbl_name = ?1 COLLATE NOCASE) AND substr(name, 1, length(?2)) = ?2",
    )?;
    let names = statement
        .query_map((table.map(|table| table.name.as_str()), PREFIX), |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    for name in names {
        db.execute_batch(&format!("DROP TRIGGER {}", ident(&name)))?;
    }
    Ok(())
}

/// Drops our triggers on a table but the one of this name.
pub(in crate::store) fn drop_triggers_but(db: &Connection, table: &Table, but: &str) -> Result<()> {
    let sql =
        "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE
               AND substr(name, 1, length(?2)) = ?2 AND name <> ?3 COLLATE NOCASE";
    let mut statement = db.prepare(sql)?;
    let names = statement.query_map([&table.name, PREFIX, but], |row| row.get(0))?;
    for name in names.collect::<rusqlite::Result<Vec<String>>>()? {
        db.execute_batch(&format!("DROP TRIGGER {}", ident(&name)))?;
    }
    Ok(())
}

/// Drops our triggers on a table and makes them anew.
pub(in crate::store) fn install(db: &Connection, table: &Table, all: &[&Table]) -> Result<()> {
    drop_triggers(db, Some(table))?;
    // No statement is running while this transaction has the lock, so no before-image is needed.
    forget_before_images(db)?;
    make_names(db, all)?;
    for statement in Layout::of(table, all).statements(db)? {
        db.execute_batch(&statement)?;
    }
    let triggers = triggers(table, all);
    for trigger in &triggers {
        db.execute_batch(&trigger.sql).map_err(|source| {
            Error::storage(format!(
                "the capture trigger `{}` of table `{}` cannot be made",
                trigger.name, table.name
            ))
            .with_source(source)
        })?;
    }
    db.execute(
        "UPDATE driftless_tables SET triggers = ?2 WHERE name = ?1 COLLATE NOCASE",
        [table.name.as_str(), fingerprint(&triggers).as_str()],
    )?;
    remember_definition(db, &table.name)
}

/// Makes the table with the names of all columns anew, if it lacks one.
fn make_names(db: &Connection, all: &[&Table]) -> Result<()> {
    let mut statement =
        db.prepare_cached("SELECT lower(name) FROM pragma_table_info('driftless_names')")?;
    let there = statement
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<std::collections::HashSet<String>>>()?;
    let mut wanted = all.iter().flat_map(|table| table.present_names());
    if wanted.all(|name| there.contains(&name.to_ascii_lowercase())) {
        return Ok(());
    }
    for sql in names_table(all) {
        db.execute_batch(&sql)?;
    }
    Ok(())
}

/// Remembers a table's present definition.
pub(super) fn remember_definition(db: &Connection, table: &str) -> Result<()> {
    let sql = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE";
    let text: Option<String> = db.query_row(sql, [table], |row| row.get(0)).optional()?;
    let hash = text.map(|text| definition_hash(&text)).unwrap_or_default();
    let sql = "UPDATE driftless_tables SET definition = ?2 WHERE name = ?1 COLLATE NOCASE";
    db.execute(sql, [table, &hash])?;
    Ok(())
}

/// The remembered form of a CREATE TABLE statement.
pub(super) fn definition_hash(sql: &str) -> String {
    blake3::hash(sql.as_bytes()).to_hex()[..16].to_owned()
}

/// Empties the before-images and the marks.
pub(in crate::store) fn forget_before_images(db: &Connection) -> Result<()> {
    for before_images in BEFORE_IMAGES.into_iter().chain([LEAVING]) {
        db.prepare_cached(&format!("DELETE FROM {before_images}"))?.execute([])?;
    }
    Ok(())
}

/// Whether all our triggers on a table exist, with exactly these texts and in their order, and are
/// newer than the application's.
pub(in crate::store) fn is_installed(
    db: &Connection,
    table: &Table,
    all: &[&Table],
) -> Result<bool> {
    let wanted = triggers(table, all);
    let mut statement = db.prepare_cached(
        "SELECT name, sql, rowid FROM sqlite_schema WHERE type = 'trigger'
         AND tbl_name = ?1 COLLATE NOCASE AND substr(name, 1, length(?2)) = ?2 ORDER BY rowid",
    )?;
    let mut rows = statement.query([table.name.as_str(), PREFIX])?;
    let (mut count, mut oldest) = (0, None);
    while let Some(row) = rows.next()? {
        let same = wanted.get(count).is_some_and(|trigger| {
            let text = |index| row.get_ref(index).ok().and_then(|text| text.as_str().ok());
            text(0) == Some(&trigger.name) && text(1) == Some(&trigger.sql)
        });
        if !same {
            return Ok(false);
        }
        count += 1;
        oldest = oldest.or(Some(row.get::<_, i64>(2)?));
    }
    let newest_foreign = newest_foreign(db, table)?;
    Ok(count == wanted.len()
        && newest_foreign.is_none_or(|theirs| oldest.is_some_and(|oldest| oldest > theirs)))
}

/// The place in the schema of the newest trigger on a table that is not ours.
pub(in crate::store) fn newest_foreign(db: &Connection, table: &Table) -> Result<Option<i64>> {
    Ok(db.query_row(
        "SELECT max(rowid) FROM sqlite_schema WHERE type = 'trigger'
         AND tbl_name = ?1 COLLATE NOCASE AND substr(name, 1, length(?2)) <> ?2",
        [table.name.as_str(), PREFIX],
        |row| row.get(0),
    )?)
}
