//! Notices schema changes, and for which tables capture may have missed writes.
//!
//! An application may migrate while no replicator runs. A table that it rebuilds has lost our
//! triggers, and a new column is written before a trigger knows it. A table is *suspect* if
//!
//! * our triggers on it are not the ones that were installed: one is missing, or has another text;
//! * its definition has another text than before;
//! * nothing visible has changed, but SQLite's schema version rose by more than one. Somebody may
//!   have dropped a trigger and created it again. VACUUM raises the version by one.
//!
//! The suspicion is recorded in the transaction that installs the triggers. The missed writes are
//! found later ([`recapture`](crate::store::recapture)). Until then no page is integrated.
//!
//! A table that is replicated since a moment ago *joins*: it is suspect too, and its rows are
//! brought together with the remote's as in a first sync (`members`).
//!
//! Triggers that an older program has installed are replaced in one transaction, and no write is
//! missed.

use rusqlite::Connection;

use super::install::{definition_hash, install, is_installed, remember_definition, schema_version};
use super::replicated::{ReplicatedTable, definitions, registered, registered_names};
use crate::capture::fingerprint_of;
use crate::catalog::limits::PREFIX;
use crate::catalog::{Names, Table, columns_json, ident};
use crate::error::Result;
use crate::event::json::{names_json, read_names};
use crate::protocol::remote_tables::RemoteTables;
use crate::store::bootstrap::prefer::Prefer;
use crate::store::connection::{ADOPTED, set_setting, setting};

/// The setting with the schema version of the last check, and a hash of all definitions.
const LOOKED: &str = "looked";

/// A table for which capture may have missed writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The table.
    pub table: String,
    /// Whether it had none of our triggers: then it was rebuilt.
    pub anew: bool,
    /// It is replicated since a moment ago, and its rows are brought together with the remote's as
    /// in a first sync. Which version of a row is taken.
    pub joins: Option<Prefer>,
    /// The file's record of the suspicion.
    note: String,
}

impl Suspect {
    /// The file's record of the suspicion.
    pub(in crate::store) fn note(&self) -> &str {
        &self.note
    }
}

/// The schema versions of a store's last checks; `None` before the first.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::store) struct SchemaVersionsSeen {
    /// The check of the triggers.
    triggers: Option<i64>,
    /// The check of the quarantine, which follows the one of the triggers.
    quarantine: Option<i64>,
}

impl SchemaVersionsSeen {
    /// Whether the triggers were checked with this version.
    pub(in crate::store) fn has_seen_triggers(&self, version: i64) -> bool {
        self.triggers == Some(version)
    }

    /// Records that the triggers were checked.
    pub(in crate::store) fn saw_triggers(&mut self, version: i64) {
        self.triggers = Some(version);
    }

    /// Whether the quarantine was checked since the last check of the triggers.
    pub(in crate::store) fn has_seen_quarantine(&self) -> bool {
        self.quarantine == self.triggers
    }

    /// Records that the quarantine was checked.
    pub(in crate::store) fn saw_quarantine(&mut self) {
        self.quarantine = self.triggers;
    }
}

/// The beginning of `note` for a rebuilt table.
const ANEW: &str = "anew";
const GAP: &str = "gap";
const ABSENT: &str = "absent";
const JOINS: &str = "joins";

/// What is noted of a table that joins the replicated ones.
pub(super) fn joining(prefer: &Prefer) -> String {
    format!("{JOINS} {prefer}")
}

/// The result of a check.
#[derive(Debug, Default)]
pub(super) struct SchemaCheck {
    /// The tables whose triggers must be installed.
    stale: Vec<String>,
    /// The newly suspect tables, and whether they were rebuilt.
    suspects: Vec<(String, bool)>,
    /// Our triggers on tables that are not replicated, perhaps with another name.
    strays: Vec<String>,
    /// The tables whose columns have other names than are stored, each with what is to be stored.
    named: Vec<(String, String)>,
    /// The tables of which columns were renamed and nothing else was changed.
    renamed: Vec<String>,
    /// The state to remember, if it has changed.
    looked: Option<String>,
}

impl SchemaCheck {
    /// Whether there is anything to write.
    pub(super) fn finds_nothing(&self) -> bool {
        self.stale.is_empty()
            && self.suspects.is_empty()
            && self.strays.is_empty()
            && self.named.is_empty()
            && self.renamed.is_empty()
            && self.looked.is_none()
    }

    /// The newly suspect tables.
    pub(super) fn suspects(&self) -> impl Iterator<Item = &str> {
        self.suspects.iter().map(|(table, _)| table.as_str())
    }

    /// Checks the schema.
    pub(super) fn at(db: &Connection) -> Result<SchemaCheck> {
        let tables = registered(db)?;
        let all = definitions(&tables);
        let adopted = setting(db, ADOPTED)?.is_some();
        let mut check = SchemaCheck { strays: strays(db, &all)?, ..SchemaCheck::default() };
        for table in &all {
            let is_installed = is_installed(db, table, &all)?;
            if !is_installed {
                check.stale.push(table.name.clone());
            }
            let stored = stored_columns(db, table)?;
            let (columns, names) = Names::read(&stored);
            let is_renamed = names != table.names();
            if is_renamed {
                check.named.push((table.name.clone(), columns_json(&columns, &table.names())));
            }
            // SQLite has rewritten our triggers, so they were there all the time.
            if is_renamed && is_installed {
                check.renamed.push(table.name.clone());
            } else if adopted && let Some(anew) = is_suspect(db, table)? {
                check.suspects.push((table.name.clone(), anew));
            }
        }
        let (version, hash) = (schema_version(db)?, hash(db)?);
        let former = setting(db, LOOKED)?;
        let former = former.as_deref().and_then(|text| text.split_once(' '));
        let former = former.and_then(|(version, hash)| Some((version.parse::<i64>().ok()?, hash)));
        if let Some((before, same)) = former
            && adopted
            && same == hash
            && version > before + 1
        {
            check.suspects = all.iter().map(|table| (table.name.clone(), false)).collect();
        }
        if former.is_none_or(|(before, same)| before != version || same != hash) {
            check.looked = Some(format!("{version} {hash}"));
        }
        Ok(check)
    }

    /// Writes the result, in the same transaction. Returns whether triggers were installed.
    pub(super) fn carry_out(self, tx: &Connection) -> Result<bool> {
        let version = schema_version(tx)?;
        for (table, anew) in &self.suspects {
            let note = format!("{} {version}", if *anew { ANEW } else { GAP });
            // A rebuilt table stays recorded as rebuilt. Of a table that joins, all rows are
            // compared.
            tx.execute(
                "UPDATE driftless_tables SET suspect = CASE WHEN suspect LIKE ?3 || '%'
                   THEN replace(?2, ?4, ?3) WHEN suspect LIKE '%' || ?5 || ' %' THEN suspect
                   ELSE ?2 END WHERE name = ?1 COLLATE NOCASE",
                [table, &note, ANEW, GAP, JOINS],
            )?;
            tracing::warn!(table, "the schema has changed: capture may have missed writes");
        }
        for (table, columns) in &self.named {
            tracing::info!(table, "columns of a table were renamed");
            let sql = "UPDATE driftless_tables SET columns = ?2 WHERE name = ?1 COLLATE NOCASE";
            tx.execute(sql, [table, columns])?;
        }
        for table in &self.renamed {
            remember_definition(tx, table)?;
            let there = triggers_of(tx, table)?;
            let installed = fingerprint_of(there.iter().map(String::as_str));
            let sql = "UPDATE driftless_tables SET triggers = ?2 WHERE name = ?1 COLLATE NOCASE";
            tx.execute(sql, [table, &installed])?;
        }
        for name in &self.strays {
            tx.execute_batch(&format!("DROP TRIGGER {}", ident(name)))?;
        }
        let tables = registered(tx)?;
        let all = definitions(&tables);
        for table in all.iter().filter(|table| self.stale.contains(&table.name)) {
            install(tx, table, &all)?;
        }
        for (table, _) in &self.suspects {
            remember_definition(tx, table)?;
            if let Some(table) = all.iter().find(|known| known.name == *table) {
                forget_defaults(tx, table)?;
            }
        }
        set_setting(tx, LOOKED, Some(&format!("{} {}", schema_version(tx)?, hash(tx)?)))?;
        Ok(!self.stale.is_empty())
    }
}

/// What is stored of the columns of a table.
fn stored_columns(db: &Connection, table: &Table) -> Result<String> {
    let sql = "SELECT columns FROM driftless_tables WHERE name = ?1 COLLATE NOCASE";
    Ok(db.prepare_cached(sql)?.query_row([&table.name], |row| row.get(0))?)
}

/// The columns of a table that were compared with the remote's; all if that is not known.
fn compared(db: &Connection, table: &Table) -> Result<Vec<String>> {
    let sql = "SELECT compared FROM driftless_tables WHERE name = ?1 COLLATE NOCASE";
    let json: String = db.prepare_cached(sql)?.query_row([&table.name], |row| row.get(0))?;
    Ok(match read_names(&json) {
        names if names.is_empty() => table.column_names().map(str::to_owned).collect(),
        names => names,
    })
}

/// A column of a suspect table that has its default in every row was perhaps dropped and added
/// again. It counts as new: it takes the remote's values, and none is overwritten there.
fn forget_defaults(tx: &Connection, table: &Table) -> Result<()> {
    let mut names = compared(tx, table)?;
    let others = table.columns.iter().enumerate().filter(|(at, _)| !table.is_key(*at));
    for (_, column) in others {
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM main.{} WHERE {} IS NOT ({}))",
            ident(&table.name),
            ident(&column.present),
            column.default.as_deref().unwrap_or("NULL")
        );
        // A default that needs what only the application has is not known.
        let differs = tx.query_row(&sql, [], |row| row.get(0)).unwrap_or(true);
        if !differs {
            names.retain(|name| !name.eq_ignore_ascii_case(&column.name));
        }
    }
    let json = names_json(names.iter().map(String::as_str));
    let sql = "UPDATE driftless_tables SET compared = ?2 WHERE name = ?1 COLLATE NOCASE";
    tx.execute(sql, [&table.name, &json])?;
    Ok(())
}

/// Notes that tables are to be compared with the remote's: `there` has a column that is here, and
/// that the remote did not have when they were last compared. True if there is such a table.
pub(in crate::store) fn suspect_arrivals(
    tx: &Connection,
    tables: &[ReplicatedTable],
    there: &RemoteTables,
) -> Result<bool> {
    let mut any = false;
    for ReplicatedTable { table, .. } in tables {
        let Some(there) = there.get_any_case(&table.name) else { continue };
        let known = compared(tx, table)?;
        let is_new = |name: &&str| {
            there.table.column(name).is_some()
                && !known.iter().any(|it| it.eq_ignore_ascii_case(name))
        };
        if table.column_names().find(is_new).is_none() {
            continue;
        }
        let note = format!("{GAP} {}", schema_version(tx)?);
        let sql = "UPDATE driftless_tables SET suspect = coalesce(suspect, ?2) WHERE name = ?1";
        tx.execute(sql, [&table.name, &note])?;
        any = true;
    }
    Ok(any)
}

/// All tables are suspect: their triggers are taken down.
pub(super) fn suspect_all(tx: &Connection) -> Result<()> {
    if setting(tx, ADOPTED)?.is_some() {
        let note = format!("{GAP} {}", schema_version(tx)?);
        tx.execute("UPDATE driftless_tables SET suspect = coalesce(suspect, ?1)", [&note])?;
    }
    Ok(())
}

/// Whether a table is suspect and, if so, whether it was rebuilt.
fn is_suspect(db: &Connection, table: &Table) -> Result<Option<bool>> {
    let sql = "SELECT triggers, definition FROM driftless_tables WHERE name = ?1 COLLATE NOCASE";
    let (installed, definition): (String, String) =
        db.prepare_cached(sql)?.query_row([&table.name], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if installed.is_empty() {
        return Ok(None);
    }
    let there = triggers_of(db, &table.name)?;
    if fingerprint_of(there.iter().map(String::as_str)) != installed {
        return Ok(Some(there.is_empty()));
    }
    Ok((!definition.is_empty() && definition != definition_hash(&table.sql)).then_some(false))
}

/// The texts of our triggers on a table, in the order of creation.
fn triggers_of(db: &Connection, table: &str) -> Result<Vec<String>> {
    let mut statement = db.prepare_cached(
        "SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE
         AND substr(name, 1, length(?2)) = ?2 ORDER BY rowid",
    )?;
    let texts = statement.query_map([table, PREFIX], |row| row.get(0))?;
    Ok(texts.collect::<rusqlite::Result<_>>()?)
}

/// The names of our triggers on tables other than `all`.
fn strays(db: &Connection, all: &[&Table]) -> Result<Vec<String>> {
    let mut statement = db.prepare_cached(
        "SELECT name, tbl_name FROM sqlite_schema WHERE type = 'trigger'
         AND substr(name, 1, length(?1)) = ?1 ORDER BY rowid",
    )?;
    let found = statement.query_map([PREFIX], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let found = found.collect::<rusqlite::Result<Vec<(String, String)>>>()?;
    let is_stray = |table: &str| !all.iter().any(|known| known.name.eq_ignore_ascii_case(table));
    Ok(found.into_iter().filter(|(_, table)| is_stray(table)).map(|(name, _)| name).collect())
}

/// A hash of all definitions.
fn hash(db: &Connection) -> Result<String> {
    let sql = "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema
               ORDER BY type, name, tbl_name";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut hasher = blake3::Hasher::new();
    while let Some(row) = rows.next()? {
        for at in 0..4 {
            hasher.update(row.get_ref(at)?.as_bytes().map_err(rusqlite::Error::from)?);
            hasher.update(b"\0");
        }
    }
    Ok(hasher.finalize().to_hex()[..16].to_owned())
}

/// The remote lacks these suspect tables: they wait, and delay nothing.
pub(in crate::store) fn wait_for(db: &Connection, tables: &[&str]) -> Result<()> {
    for table in tables {
        let sql = "UPDATE driftless_tables SET suspect = ?2 || ' ' || suspect
                   WHERE name = ?1 AND suspect IS NOT NULL AND suspect NOT LIKE ?2 || '%'";
        db.execute(sql, [table, ABSENT])?;
    }
    Ok(())
}

/// The remote has these tables: those that have waited for it are suspect again.
pub(in crate::store) fn wait_no_more(db: &Connection, tables: &[&str]) -> Result<()> {
    for table in tables {
        let sql = "UPDATE driftless_tables SET suspect = substr(suspect, length(?2) + 2)
                   WHERE name = ?1 AND suspect LIKE ?2 || '%'";
        db.execute(sql, [table, ABSENT])?;
    }
    Ok(())
}

/// Ends the suspicion about these tables: all of their rows were compared.
pub(in crate::store) fn acquit(tx: &Connection, takes: impl Fn(&str) -> bool) -> Result<()> {
    let mut all = registered(tx)?;
    all.retain(|table| takes(&table.table.name));
    for table in all {
        let columns = names_json(table.table.column_names());
        let sql = "UPDATE driftless_tables SET compared = ?2 WHERE name = ?1";
        tx.execute(sql, [&table.table.name, &columns])?;
    }
    for name in registered_names(tx)?.iter().filter(|name| takes(name)) {
        let sql = "UPDATE driftless_tables SET suspect = NULL WHERE name = ?1 COLLATE NOCASE";
        tx.execute(sql, [name])?;
    }
    Ok(())
}

/// The replicated tables, but for those that join.
pub(in crate::store) fn settled_names(db: &Connection) -> Result<Vec<String>> {
    let sql = "SELECT name FROM driftless_tables
               WHERE suspect IS NULL OR suspect NOT LIKE '%' || ?1 || ' %' ORDER BY name";
    let mut statement = db.prepare(sql)?;
    let names = statement.query_map([JOINS], |row| row.get(0))?;
    Ok(names.collect::<rusqlite::Result<_>>()?)
}

/// The suspect tables whose rows are to be compared with the remote's.
pub(in crate::store) fn suspects(db: &Connection) -> Result<Vec<Suspect>> {
    let sql = "SELECT name, suspect FROM driftless_tables WHERE suspect IS NOT NULL ORDER BY name";
    let mut statement = db.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let rows = rows.collect::<rusqlite::Result<Vec<(String, String)>>>()?;
    let there = rows.into_iter().filter(|(_, note)| !note.starts_with(ABSENT));
    let suspect = |(table, note): (String, String)| {
        let joins = note.strip_prefix(JOINS).map(|word| word.trim().parse().unwrap_or_default());
        Suspect { table, anew: note.starts_with(ANEW), joins, note }
    };
    Ok(there.map(suspect).collect())
}
