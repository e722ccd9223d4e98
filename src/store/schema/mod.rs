//! The objects of driftless in a replica's database: its own tables, the list of replicated tables,
//! and their capture triggers.

pub(super) mod definitions;
pub(super) mod identifier_case;
pub(super) mod install;
pub(super) mod left_out;
pub(super) mod members;
pub(super) mod migrate;
pub(super) mod notice;
pub(super) mod replicated;
pub(super) mod upgrade;

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use self::install::{TABLES_SQL, is_installed, newest_foreign, schema_version};
use self::migrate::{Bracket, bracket, forget_bracket};
use self::notice::{SchemaCheck, Suspect, suspects};
use self::replicated::{ReplicatedTable, definitions, registered, registered_names};
use self::upgrade::upgrade;
use super::Store;
use super::connection::{
    ADOPTED, OnConnect, VERSION, check_version, connect, is_replica, set_setting, setting,
};
use super::local::dependents::Dependents;
use super::rows::writable::{Unwritable, unwritable};
use crate::catalog::{PREFIX, Table};
use crate::error::{Code, Error, Result};
use crate::event::ReplicaId;
use crate::event::conflict::ConflictRule;
use crate::event::frame::GENESIS;

/// The powers of two with which a REAL is spelled.
pub(super) const POW2_SQL: &str = include_str!("../../../schema/pow2.sql");

/// The settings of a new replica.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The remote's URL, without credentials.
    pub url: String,
    /// The tables to replicate.
    pub tables: Vec<(String, ConflictRule)>,
    /// The remote's identity, if it is known.
    pub epoch: Option<String>,
}

impl Store {
    /// Turns a database into a replica, or upgrades one. It may be repeated: existing objects stay,
    /// and newly named tables are added.
    ///
    /// `id` is the identity of a new replica. An existing one keeps its identity.
    ///
    /// # Errors
    ///
    /// `Usage`, naming the table, when a table cannot be replicated. `Storage` as for
    /// [`Store::open`]. After an error nothing has changed.
    #[cfg(feature = "internals")]
    pub fn init(path: &Path, setup: &Setup, id: ReplicaId) -> Result<Store> {
        Store::init_with(path, setup, id, &OnConnect::default())
    }

    /// The same, with the application's callback for its connections.
    ///
    /// # Errors
    ///
    /// As for [`Store::init`], and the errors of `on_connect`.
    pub fn init_with(
        path: &Path,
        setup: &Setup,
        id: ReplicaId,
        on_connect: &OnConnect,
    ) -> Result<Store> {
        Store::make(path, &[], setup, id, on_connect)
    }

    /// The same. The statements `makers` create missing tables in the same transaction: see
    /// [`create_if_missing`](crate::catalog::create_if_missing).
    ///
    /// # Errors
    ///
    /// As for [`Store::init_with`].
    pub fn make(
        path: &Path,
        makers: &[String],
        setup: &Setup,
        id: ReplicaId,
        on_connect: &OnConnect,
    ) -> Result<Store> {
        let mut db = connect(path, true)?;
        on_connect.run(&db)?;
        if is_replica(&db)? {
            check_version(&db, path)?;
            upgrade(&mut db)?;
            // If nothing is to be done, do not wait for an application that holds the write lock
            // for long.
            if makers.is_empty() && is_set_up(&db, setup)? {
                return Store::adopt_connection(db, path, on_connect);
            }
        }
        db.pragma_update(None, "journal_mode", "WAL")?;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        establish(&tx, makers, setup, id)?;
        tx.commit()?;
        Store::adopt_connection(db, path, on_connect)
    }

    /// Runs statements that create missing tables, in one transaction, before [`Store::init`]
    /// registers them: see [`create_if_missing`](crate::catalog::create_if_missing).
    ///
    /// # Errors
    ///
    /// `Storage` as for [`Store::open`], or when SQLite refuses a statement.
    pub fn define(path: &Path, statements: &[String]) -> Result<()> {
        let mut db = connect(path, true)?;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for statement in statements {
            tx.execute_batch(statement)?;
        }
        Ok(tx.commit()?)
    }

    /// Checks that the capture triggers agree with the definitions. It installs them again if one
    /// is missing, has another text, or is older than a trigger of the application (the newest
    /// fires first, and ours must run before the others). In the same transaction it records for
    /// which tables capture may have missed writes ([`Store::suspects`]). Returns whether triggers
    /// were installed.
    ///
    /// The first call after opening compares them. Later calls compare only if the schema has
    /// changed.
    pub fn check_triggers(&mut self) -> Result<bool> {
        match bracket(&self.db)? {
            Bracket::None => {}
            Bracket::Open => {
                // Its end, or the end of its time, is looked at.
                self.load_definitions()?;
                return Ok(false);
            }
            Bracket::Over => forget_bracket(&self.db)?,
        }
        let mut version = self.current_schema_version()?;
        if self.looks.has_seen_triggers(version) {
            return Ok(false);
        }
        let mut installed = false;
        if !SchemaCheck::at(&self.db)?.finds_nothing() {
            let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // Read again under the lock: the definitions may have changed since.
            installed = SchemaCheck::at(&tx)?.carry_out(&tx)?;
            version = schema_version(&tx)?;
            tx.commit()?;
        }
        self.looks.saw_triggers(version);
        self.load_definitions()?;
        let anew: Vec<_> = self.suspects.iter().filter(|one| one.anew).cloned().collect();
        let anew: Vec<_> = anew.iter().map(|one| one.table.as_str()).collect();
        let back = if anew.is_empty() { 0 } else { self.take_cascades_back(&anew)? };
        if back > 0 {
            tracing::warn!(rows = back, parents = ?anew, "children of tables made anew came back");
        }
        Ok(installed)
    }

    /// Whether an application migrates the database at this moment, with our triggers out of its
    /// way. Nothing is pushed and nothing is integrated meanwhile.
    pub(crate) fn migration(&self) -> Result<Bracket> {
        bracket(&self.db)
    }

    /// The tables for which capture may have missed writes, from the last
    /// [`check_triggers`](Store::check_triggers). Until they are compared with the remote's, no
    /// page is integrated.
    pub fn suspects(&self) -> &[Suspect] {
        &self.suspects
    }

    /// The names of all suspect tables. This includes those that the remote lacks, and those that a
    /// check of the triggers would find now.
    pub(crate) fn suspect_names(&self) -> Result<Vec<String>> {
        let sql = "SELECT name FROM driftless_tables WHERE suspect IS NOT NULL";
        let mut statement = self.db.prepare_cached(sql)?;
        let names = statement.query_map([], |row| row.get(0))?;
        let mut names = names.collect::<rusqlite::Result<Vec<String>>>()?;
        if !self.looks.has_seen_triggers(self.current_schema_version()?) {
            names.extend(SchemaCheck::at(&self.db)?.suspects().map(str::to_owned));
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// A number that changes with each change of the schema.
    pub(crate) fn current_schema_version(&self) -> Result<i64> {
        schema_version(&self.db)
    }

    /// Reads the replicated tables' definitions, and sets the guard.
    pub(super) fn load_definitions(&mut self) -> Result<()> {
        self.schema_version = self.current_schema_version()?;
        self.tables = registered(&self.db)?;
        let mut foreign = false;
        for replicated in &self.tables {
            foreign |= newest_foreign(&self.db, &replicated.table)?.is_some();
        }
        self.suspects = suspects(&self.db)?;
        self.dependents = Dependents::read(&self.db, &self.tables, &registered_names(&self.db)?)?;
        // Such triggers run when a page changes these tables, and may not write to replicated ones.
        foreign |= self.dependents.have_triggers();
        self.db.flush_prepared_statement_cache();
        self.guard.watch(&mut self.db, &self.tables, foreign)?;
        for replicated in &mut self.tables {
            replicated.unwritable = unwritable(&self.db, replicated)?;
        }
        Ok(())
    }

    /// The replicated tables that cannot be written here, each with the reason.
    pub fn unwritable(&self) -> Vec<Unwritable> {
        let all = self.tables.iter();
        let of = |known: &ReplicatedTable| {
            let (table, reason) = (known.table.name.clone(), known.unwritable.clone()?);
            Some(Unwritable { table, reason })
        };
        all.filter_map(of).collect()
    }

    /// The names of the replicated tables, each with the names of its columns.
    pub fn columns(&self) -> Vec<(String, Vec<String>)> {
        let columns = |table: &Table| table.column_names().map(str::to_owned).collect();
        let tables = self.tables.iter().map(|replicated| &replicated.table);
        tables.map(|table| (table.name.clone(), columns(table))).collect()
    }

    /// The replicated tables that exist.
    pub fn tables(&self) -> &[ReplicatedTable] {
        &self.tables
    }
}

/// Creates driftless's objects in a replica's database, within a transaction.
pub(super) fn establish(
    tx: &Connection,
    makers: &[String],
    setup: &Setup,
    id: ReplicaId,
) -> Result<()> {
    for statement in makers {
        tx.execute_batch(statement).map_err(|source| {
            let what: Vec<_> = statement.split_whitespace().take(6).collect();
            let message = format!("this database cannot run `{} …`: {source}", what.join(" "));
            Error::new(Code::DefinitionRefused, message)
                .with_hint("change the definitions on either side so that they fit")
        })?;
    }
    tx.execute_batch(TABLES_SQL)?;
    let powers: bool =
        tx.query_row("SELECT EXISTS (SELECT 1 FROM driftless_pow2)", [], |row| row.get(0))?;
    if !powers {
        tx.execute_batch(POW2_SQL)?;
    }
    tx.execute(
        "INSERT INTO driftless_state (one, chain) VALUES (1, ?1) ON CONFLICT DO NOTHING",
        [GENESIS.as_slice()],
    )?;
    set_setting(tx, "version", Some(&VERSION.to_string()))?;
    set_setting(tx, "url", Some(&setup.url))?;
    if setting(tx, "replica")?.is_none() {
        set_setting(tx, "replica", Some(&id.to_string()))?;
    }
    if let (Some(epoch), None) = (&setup.epoch, setting(tx, "epoch")?) {
        set_setting(tx, "epoch", Some(epoch))?;
    }
    for (name, rule) in &setup.tables {
        let table = Table::read(tx, name)?;
        let known = tx.execute(
            "UPDATE driftless_tables SET conflict = ?2 WHERE name = ?1 COLLATE NOCASE",
            [table.name.as_str(), rule.as_str()],
        )?;
        if known == 0 {
            tx.execute(
                "INSERT INTO driftless_tables (name, conflict) VALUES (?1, ?2)",
                [table.name.as_str(), rule.as_str()],
            )?;
            if setting(tx, ADOPTED)?.is_some() {
                members::join(tx, &table.name)?;
            }
        }
    }
    SchemaCheck::at(tx)?.carry_out(tx)?;
    Ok(())
}

/// Whether [`Store::init`] has nothing to do for a replica.
fn is_set_up(db: &Connection, setup: &Setup) -> Result<bool> {
    let mode: String = db.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    let epoch = setting(db, "epoch")?;
    let same = mode.eq_ignore_ascii_case("wal")
        && setting(db, "version")?.as_deref() == Some(&VERSION.to_string())
        && setting(db, "url")?.as_deref() == Some(&setup.url)
        && (epoch.is_some() || setup.epoch.is_none());
    if !same || !has_all_of_ours(db)? {
        return Ok(false);
    }
    let sql = "SELECT EXISTS (SELECT 1 FROM driftless_tables
               WHERE name = ?1 COLLATE NOCASE AND conflict = ?2)";
    let mut known = db.prepare(sql)?;
    for (name, rule) in &setup.tables {
        if !known.query_row([name.as_str(), rule.as_str()], |row| row.get(0))? {
            return Ok(false);
        }
    }
    let tables = registered(db)?;
    let all = definitions(&tables);
    for table in &all {
        if !is_installed(db, table, &all)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the database has all our tables and indexes, and the powers of two.
fn has_all_of_ours(db: &Connection) -> Result<bool> {
    let names = |db: &Connection| -> Result<Vec<String>> {
        let sql = "SELECT name FROM sqlite_schema WHERE substr(name, 1, length(?1)) = ?1";
        let mut statement = db.prepare(sql)?;
        let names = statement.query_map([PREFIX], |row| row.get(0))?;
        Ok(names.collect::<rusqlite::Result<_>>()?)
    };
    let sample = Connection::open_in_memory()?;
    sample.execute_batch(TABLES_SQL)?;
    let found = names(db)?;
    let complete = names(&sample)?.iter().all(|name| found.contains(name));
    let sql = "SELECT EXISTS (SELECT 1 FROM driftless_pow2)";
    Ok(complete && db.query_row(sql, [], |row| row.get(0))?)
}
