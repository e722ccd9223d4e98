//! What driftless has in a replica's database: its own tables, the list of replicated tables, and
//! their capture triggers.

use std::collections::HashSet;
use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::Store;
use super::apply::rebase::is_uncompiled;
use super::apply::row_writer::{message, write_statements};
use super::connection::{
    OnConnect, VERSION, check_version, connect, is_replica, set_setting, setting,
};
use super::local::dependents::Dependents;
use super::upgrade::upgrade;
use crate::capture::{Layout, NOTES, fingerprint, triggers};
use crate::catalog::{PREFIX, Table, ident};
use crate::error::{Code, Error, Kind, Result};
use crate::event::ReplicaId;
use crate::event::conflict::ConflictRule;
use crate::event::frame::GENESIS;
use crate::event::json::read_names;

/// Our tables in a replica's database.
pub(crate) const TABLES_SQL: &str = include_str!("../../schema/replica/tables.sql");
/// The powers of two that spell a REAL.
const POW2_SQL: &str = include_str!("../../schema/pow2.sql");

/// What a replica is made with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The remote's URL, without credentials.
    pub url: String,
    /// The tables to replicate.
    pub tables: Vec<(String, ConflictRule)>,
    /// The remote's identity, if it has been asked.
    pub epoch: Option<String>,
}

/// A table that is replicated.
#[derive(Clone, Debug)]
pub struct ReplicatedTable {
    /// Its definition here, in the remote's spelling.
    pub table: Table,
    /// What counts as a conflict.
    pub rule: ConflictRule,
    /// The name by which its rowid can be had, if that is not its key.
    pub(super) rowid: Option<&'static str>,
    /// Why this connection cannot write to it, in a sentence: an index, a CHECK, a generated column
    /// or a trigger needs a collation or a function that only the application has. What comes for
    /// it waits in quarantine.
    pub unwritable: Option<String>,
}

impl ReplicatedTable {
    /// A table that is not replicated yet.
    pub(super) fn unregistered(db: &Connection, table: Table) -> Result<Self> {
        let rowid = if table.rowid_key { None } else { rowid_name(db, &table)? };
        Ok(ReplicatedTable { table, rule: ConflictRule::default(), rowid, unwritable: None })
    }

    /// Reads the definition, in the spelling of `name` and `columns`.
    fn read(db: &Connection, name: &str, columns: &str, rule: ConflictRule) -> Result<Self> {
        let table = Table::read(db, name)?.respelled(name, &read_names(columns));
        Ok(ReplicatedTable { rule, ..ReplicatedTable::unregistered(db, table)? })
    }
}

/// The name by which a table's rowid can be had; `None` if it has none, or columns have taken all
/// of its names.
pub(super) fn rowid_name(db: &Connection, table: &Table) -> rusqlite::Result<Option<&'static str>> {
    if table.without_rowid {
        return Ok(None);
    }
    let mut statement = db.prepare("SELECT name FROM pragma_table_xinfo(?1)")?;
    let names = statement
        .query_map([&table.name], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    let free = |alias: &&str| !names.iter().any(|name| name.eq_ignore_ascii_case(alias));
    Ok(["rowid", "_rowid_", "oid"].into_iter().find(free))
}

impl Store {
    /// Makes a database into a replica, or brings one up to date. It may be run again: what is
    /// there stays, and tables that are named anew are added.
    ///
    /// `id` is the identity of a new replica; one that has an identity keeps it.
    ///
    /// # Errors
    ///
    /// `Usage`, naming the table, when a table cannot be replicated. `Storage` as for
    /// [`Store::open`]. After an error nothing has changed.
    #[cfg(feature = "internals")]
    pub fn init(path: &Path, setup: &Setup, id: ReplicaId) -> Result<Store> {
        Store::init_with(path, setup, id, &OnConnect::default())
    }

    /// The same with what the application registers on its connections.
    ///
    /// # Errors
    ///
    /// As for [`Store::init`], and what `on_connect` returns.
    pub fn init_with(
        path: &Path,
        setup: &Setup,
        id: ReplicaId,
        on_connect: &OnConnect,
    ) -> Result<Store> {
        Store::make(path, &[], setup, id, on_connect)
    }

    /// The same, and `makers` make missing tables in the same transaction: see
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
            // An application may keep the write lock for long, and need not be waited for.
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

    /// Runs statements that make missing tables, in one transaction, before [`Store::init`] takes
    /// them: see [`create_if_missing`](crate::catalog::create_if_missing).
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

    /// Sees to it that the capture triggers are what the definitions ask for: installs them again
    /// where one is missing, has another text, or is older than a trigger of the application (the
    /// newest fires first, and ours must see what the others do after they did it). True if
    /// triggers were installed.
    ///
    /// The first call after opening compares them; later ones only when the schema has changed.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn check_triggers(&mut self) -> Result<bool> {
        let mut version = self.current_schema_version()?;
        if self.checked == Some(version) {
            return Ok(false);
        }
        let tables = registered(&self.db)?;
        let all = definitions(&tables);
        let mut stale = false;
        for table in &all {
            stale |= !is_installed(&self.db, table, &all)?;
        }
        if stale {
            let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // Read again under the lock: the definitions may have changed since.
            let tables = registered(&tx)?;
            let all = definitions(&tables);
            for table in &all {
                if !is_installed(&tx, table, &all)? {
                    install(&tx, table, &all)?;
                }
            }
            version = schema_version(&tx)?;
            tx.commit()?;
        }
        self.checked = Some(version);
        self.load_definitions()?;
        Ok(stale)
    }

    pub(super) fn current_schema_version(&self) -> Result<i64> {
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
        self.dependents = Dependents::read(&self.db, &self.tables, &registered_names(&self.db)?)?;
        // They run when a page changes these tables, and may not write to replicated ones.
        foreign |= self.dependents.have_triggers;
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

    /// The replicated tables' names, each with the names of its columns.
    pub fn columns(&self) -> Vec<(String, Vec<String>)> {
        let columns = |table: &Table| table.column_names().map(str::to_owned).collect();
        let tables = self.tables.iter().map(|replicated| &replicated.table);
        tables.map(|table| (table.name.clone(), columns(table))).collect()
    }

    /// The replicated tables that are there.
    pub fn tables(&self) -> &[ReplicatedTable] {
        &self.tables
    }
}

/// Makes what driftless has in a replica's database, within a transaction.
pub(super) fn establish(
    tx: &Connection,
    makers: &[String],
    setup: &Setup,
    id: ReplicaId,
) -> Result<()> {
    for statement in makers {
        tx.execute_batch(statement).map_err(|source| {
            let what: Vec<_> = statement.split_whitespace().take(6).collect();
            let message = format!("this database cannot take `{} …`: {source}", what.join(" "));
            Error::new(Code::DefinitionRefused, message)
                .with_hint("change what stands in the way, on either side")
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
        }
    }
    let tables = registered(tx)?;
    let all = definitions(&tables);
    for table in &all {
        install(tx, table, &all)?;
    }
    Ok(())
}

/// What a person can do about a table that cannot be written.
pub(super) const ADVICE: &str = "do the first sync where the application registers it: \
                                 `Builder::on_connect`; or leave the table out";

/// A table that cannot be written here.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Unwritable {
    /// The table.
    pub table: String,
    /// Why.
    pub reason: String,
}

/// Why the connection cannot write to a table, if it cannot: a statement of each kind is compiled.
pub(super) fn unwritable(db: &Connection, replicated: &ReplicatedTable) -> Result<Option<String>> {
    for sql in write_statements(replicated) {
        match db.prepare(&sql) {
            Ok(_) => {}
            Err(error) if is_uncompiled(&error) => {
                let name = &replicated.table.name;
                let why = message(&error);
                let place = place(db, name, &why)?.unwrap_or_default();
                return Ok(Some(format!("table `{name}` cannot be written here: {why}{place}")));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// Names the definition that needs the thing which SQLite's message says is missing. `None` if no
/// definition mentions it.
pub(super) fn place(db: &Connection, table: &str, message: &str) -> Result<Option<String>> {
    let Some((_, missing)) = message.rsplit_once(": ") else { return Ok(None) };
    let missing = missing.trim_end_matches("()");
    let missing = missing.strip_prefix("main.").unwrap_or(missing);
    // The table's own definitions first: a trigger of it may fire one of another table.
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema
               WHERE sql NOT NULL AND type IN ('index', 'trigger', 'table')
               AND (type <> 'table' OR name = ?1 COLLATE NOCASE)
               ORDER BY tbl_name <> ?1 COLLATE NOCASE, type, rowid";
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query([table])?;
    while let Some(row) = rows.next()? {
        let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
        let (of, sql): (String, String) = (row.get(2)?, row.get(3)?);
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        if !sql.split(|c| !is_word(c)).any(|word| word.eq_ignore_ascii_case(missing)) {
            continue;
        }
        return Ok(Some(match (kind.as_str(), of.eq_ignore_ascii_case(table)) {
            ("table", _) => match column_with(db, table, missing)? {
                Some(column) => format!(" (in its column `{column}`)"),
                None => " (in its definition)".to_owned(),
            },
            (kind, true) => format!(" (in its {kind} `{name}`)"),
            (kind, false) => format!(" (in the {kind} `{name}` of table `{of}`)"),
        }));
    }
    Ok(None)
}

/// The column that has a collation.
fn column_with(db: &Connection, table: &str, collation: &str) -> Result<Option<String>> {
    let mut statement = db.prepare("SELECT name FROM pragma_table_xinfo(?1) ORDER BY cid")?;
    let names = statement.query_map([table], |row| row.get::<_, String>(0))?;
    for name in names {
        let name = name?;
        let (_, found, ..) = db.column_metadata(Some("main"), table, name.as_str())?;
        if found.is_some_and(|found| found.to_string_lossy().eq_ignore_ascii_case(collation)) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Whether [`Store::init`] has nothing to do on a replica.
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

/// Whether the database has all tables and indexes of ours, and the powers of two.
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

/// The replicated tables. One that the application has dropped, or made into something that cannot
/// be replicated, is left out: its events wait in quarantine.
pub(super) fn registered(db: &Connection) -> Result<Vec<ReplicatedTable>> {
    let sql = "SELECT name, conflict, columns FROM driftless_tables ORDER BY name";
    let mut statement = db.prepare(sql)?;
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<Vec<(String, String, String)>>>()?;
    let mut tables = Vec::with_capacity(rows.len());
    for (name, rule, columns) in rows {
        match ReplicatedTable::read(db, &name, &columns, rule.parse()?) {
            Ok(table) => tables.push(table),
            Err(error) if error.kind() == Kind::Usage => {
                tracing::warn!(table = name, "a replicated table is gone: {error}");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(tables)
}

/// The names of the replicated tables, in lower case, whether or not they are there.
pub(super) fn registered_names(db: &Connection) -> Result<HashSet<String>> {
    let mut statement = db.prepare("SELECT name FROM driftless_tables")?;
    let names = statement.query_map([], |row| row.get(0))?;
    let names = names.collect::<rusqlite::Result<Vec<String>>>()?;
    Ok(names.into_iter().map(|name| name.to_ascii_lowercase()).collect())
}

pub(super) fn definitions(tables: &[ReplicatedTable]) -> Vec<&Table> {
    tables.iter().map(|replicated| &replicated.table).collect()
}

fn schema_version(db: &Connection) -> Result<i64> {
    Ok(db.prepare_cached("PRAGMA schema_version")?.query_row([], |row| row.get(0))?)
}

/// Drops our triggers on a table, or all.
pub(super) fn drop_triggers(db: &Connection, table: Option<&Table>) -> Result<()> {
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

/// Drops our triggers on a table and makes them anew.
pub(super) fn install(db: &Connection, table: &Table, all: &[&Table]) -> Result<()> {
    drop_triggers(db, Some(table))?;
    // No statement is under way while this transaction has the lock, so no note is of use.
    forget_notes(db)?;
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
    Ok(())
}

/// Empties the notes.
pub(super) fn forget_notes(db: &Connection) -> Result<()> {
    for notes in NOTES {
        db.prepare_cached(&format!("DELETE FROM {notes}"))?.execute([])?;
    }
    Ok(())
}

/// Whether our triggers on a table are all there, to the letter and in their order, and newer than
/// the application's.
fn is_installed(db: &Connection, table: &Table, all: &[&Table]) -> Result<bool> {
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

/// Where in the schema the newest trigger on a table stands that is not ours.
fn newest_foreign(db: &Connection, table: &Table) -> Result<Option<i64>> {
    Ok(db.query_row(
        "SELECT max(rowid) FROM sqlite_schema WHERE type = 'trigger'
         AND tbl_name = ?1 COLLATE NOCASE AND substr(name, 1, length(?2)) <> ?2",
        [table.name.as_str(), PREFIX],
        |row| row.get(0),
    )?)
}
