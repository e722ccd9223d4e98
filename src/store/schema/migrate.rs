//! Migrations by the application, with our triggers out of the way.
//!
//! An application migrates as it likes, and what capture misses is found. A migration in a bracket
//! is surer: no trigger of ours can be in its way, and renamed columns are told. The triggers
//! for deletes stay, for SQLite's RENAME COLUMN writes the new names into them.
//!
//! * [`migrate`] is one transaction. No other program sees a moment without triggers.
//! * [`begin_migration`] and [`end_migration`] enclose the work of another program. In between a
//!   replicator neither pushes nor integrates. A bracket that nobody closes ends by itself
//!   ([`BRACKET_MS`]): then the next look makes the triggers again.
//!
//! Taking triggers down makes the tables suspect in the same transaction, so whatever happens, what
//! was written meanwhile is compared with the remote's rows.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::{Batch, Connection, TransactionBehavior};

use super::identifier_case::set_names_anew;
use super::install::{drop_triggers, drop_triggers_but, schema_version};
use super::notice::{SchemaCheck, suspect_all};
use super::replicated::{ReplicatedTable, registered};
use crate::capture::delete_trigger;
use crate::catalog::{Names, Table, columns_json};
use crate::error::{Code, Error, Result};
use crate::store::connection::{
    OnConnect, check_version, connect, is_replica, set_setting, setting,
};

/// The setting that says that a bracket is open: until when, in ms since 1970.
const MIGRATING: &str = "migrating";

/// How long a bracket is open unless it is renewed, in ms.
const BRACKET_MS: i64 = 15 * 60 * 1000;

/// This moment, in ms since 1970, by SQLite.
const NOW_SQL: &str = "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)";

/// A column that a migration renames.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// The table.
    pub table: String,
    /// The column's name before.
    pub from: String,
    /// Its name afterwards.
    pub to: String,
}

impl FromStr for Rename {
    type Err = Error;

    /// Reads `table.old=new`.
    fn from_str(text: &str) -> Result<Rename> {
        let wrong = || {
            Error::usage("a renamed column is not given as TABLE.OLD=NEW")
                .with_hint("for example: --rename members.notes=remarks")
        };
        let (old, to) = text.split_once('=').ok_or_else(wrong)?;
        let (table, from) = old.split_once('.').ok_or_else(wrong)?;
        if table.is_empty() || from.is_empty() || to.is_empty() {
            return Err(wrong());
        }
        Ok(Rename { table: table.to_owned(), from: from.to_owned(), to: to.to_owned() })
    }
}

/// A migration of one replica.
pub(crate) struct Migration {
    path: PathBuf,
    on_connect: OnConnect,
}

impl Migration {
    /// Of the replica in this file, for a program that registers nothing.
    pub(crate) fn of(path: &Path) -> Migration {
        Migration { path: path.to_owned(), on_connect: OnConnect::default() }
    }

    /// The same for a program that registers something on its connections.
    pub(crate) fn connecting(self, on_connect: &OnConnect) -> Migration {
        Migration { on_connect: on_connect.clone(), ..self }
    }

    /// Does `work` in one transaction, and notes that these columns were renamed.
    ///
    /// # Errors
    ///
    /// What `work` returns; `Usage` when it has ended the transaction, left rows that refer to
    /// nothing, or a renamed column is not there. Then nothing has changed.
    pub(crate) fn transact<T>(
        &self,
        renames: &[Rename],
        work: impl FnOnce(&Connection) -> Result<T>,
    ) -> Result<T> {
        migrate(&self.path, &self.on_connect, renames, work)
    }

    /// Runs a script in one transaction, and notes that these columns were renamed.
    ///
    /// # Errors
    ///
    /// `Usage` when SQLite refuses a statement, or a renamed column is not there. Then nothing has
    /// changed.
    pub(crate) fn run(&self, script: &str, renames: &[Rename]) -> Result<()> {
        self.transact(renames, |tx| run_script(tx, script))
    }

    /// Takes the triggers out of the way of another program.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub(crate) fn begin(&self) -> Result<()> {
        begin_migration(&self.path, &self.on_connect)
    }

    /// Makes the triggers again.
    ///
    /// # Errors
    ///
    /// `Usage` when a renamed column is not there; `Storage` when the database fails.
    pub(crate) fn end(&self, renames: &[Rename]) -> Result<()> {
        end_migration(&self.path, &self.on_connect, renames)
    }
}

/// A connection for a migration: without foreign keys, as for every rebuild of a table.
fn open(path: &Path, on_connect: &OnConnect) -> Result<Connection> {
    let db = connect(path, false)?;
    if !is_replica(&db)? {
        let message = format!("{} is not a replica", path.display());
        return Err(Error::new(Code::NotAReplica, message).with_hint(
            "migrate it by your own means, or make it a replica with `driftless init`",
        ));
    }
    check_version(&db, path)?;
    on_connect.run(&db)?;
    Ok(db)
}

/// Migrates in one transaction: takes our triggers down, does `work`, and puts them up again.
///
/// # Errors
///
/// What `work` returns; `Usage` when it has ended the transaction, broken a foreign key or left a
/// renamed column out; `Storage` when the database fails. Then nothing has changed.
pub fn migrate<T>(
    path: &Path,
    on_connect: &OnConnect,
    renames: &[Rename],
    work: impl FnOnce(&Connection) -> Result<T>,
) -> Result<T> {
    let mut db = open(path, on_connect)?;
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let before = take_down(&tx)?;
    let known = orphans(&tx)?;
    let done = work(&tx)?;
    if tx.is_autocommit() {
        return Err(Error::usage("the migration has ended the transaction that it runs in")
            .with_hint("leave COMMIT and ROLLBACK out: it is one transaction"));
    }
    let left = orphans(&tx)?;
    let count = |all: &[Orphan], one: &Orphan| all.iter().filter(|other| *other == one).count();
    let new = left.iter().find(|found| count(&left, found) > count(&known, found));
    if let Some(Orphan { table, parent }) = new {
        let message = format!(
            "the migration leaves rows of table `{table}` that refer to missing rows of `{parent}`"
        );
        return Err(
            Error::usage(message).with_hint("nothing was changed: correct these rows in it")
        );
    }
    put_up(&tx, &before, renames)?;
    tx.commit()?;
    Ok(done)
}

/// A foreign key whose parent row is missing.
#[derive(PartialEq, Eq)]
struct Orphan {
    table: String,
    parent: String,
}

/// Opens a bracket, or renews it.
///
/// # Errors
///
/// `Storage` when the database fails.
pub fn begin_migration(path: &Path, on_connect: &OnConnect) -> Result<()> {
    let mut db = open(path, on_connect)?;
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let now: i64 = tx.query_row(NOW_SQL, [], |row| row.get(0))?;
    if setting(&tx, MIGRATING)?.is_none() {
        take_down(&tx)?;
    }
    set_setting(&tx, MIGRATING, Some(&(now + BRACKET_MS).to_string()))?;
    Ok(tx.commit()?)
}

/// Closes a bracket.
///
/// # Errors
///
/// `Usage` when a column that was renamed is not there; then the bracket is still open. `Storage`
/// when the database fails.
pub fn end_migration(path: &Path, on_connect: &OnConnect, renames: &[Rename]) -> Result<()> {
    let mut db = open(path, on_connect)?;
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let before = registered(&tx)?;
    set_setting(&tx, MIGRATING, None)?;
    put_up(&tx, &before, renames)?;
    Ok(tx.commit()?)
}

/// What the file says of a bracket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bracket {
    /// There is none.
    None,
    /// It is open.
    Open,
    /// Nobody has closed it, and its time is over.
    Over,
}

/// Whether a bracket is open.
pub(in crate::store) fn bracket(db: &Connection) -> Result<Bracket> {
    let Some(until) = setting(db, MIGRATING)? else { return Ok(Bracket::None) };
    let now: i64 = db.query_row(NOW_SQL, [], |row| row.get(0))?;
    match until.parse().is_ok_and(|until: i64| until > now) {
        true => Ok(Bracket::Open),
        false => Ok(Bracket::Over),
    }
}

/// Forgets a bracket that nobody has closed.
pub(in crate::store) fn forget_bracket(db: &Connection) -> Result<()> {
    set_setting(db, MIGRATING, None)
}

/// Takes the triggers down, but for those that tell the names of columns.
fn take_down(tx: &Connection) -> Result<Vec<ReplicatedTable>> {
    // What somebody has done before is noticed first.
    SchemaCheck::at(tx)?.carry_out(tx)?;
    let before = registered(tx)?;
    for ReplicatedTable { table, .. } in &before {
        drop_triggers_but(tx, table, &delete_trigger(&table.name))?;
    }
    suspect_all(tx)?;
    Ok(before)
}

/// Makes the triggers again, for columns that may have been renamed.
fn put_up(tx: &Connection, before: &[ReplicatedTable], renames: &[Rename]) -> Result<()> {
    for rename in renames {
        tell(tx, before, rename)?;
    }
    SchemaCheck::at(tx)?.carry_out(tx)?;
    set_names_anew(tx, before)?;
    tracing::info!(version = schema_version(tx)?, "a migration is done");
    Ok(())
}

/// Notes that a column was renamed.
fn tell(tx: &Connection, before: &[ReplicatedTable], rename: &Rename) -> Result<()> {
    let Rename { table: name, from, to } = rename;
    let is = |known: &&ReplicatedTable| known.table.name.eq_ignore_ascii_case(name);
    let known = before.iter().find(is).map(|known| &known.table).ok_or_else(|| {
        Error::new(Code::TableNotReplicated, format!("table `{name}` is not replicated here"))
    })?;
    let now = Table::read(tx, &known.name)?;
    if now.column(to).is_none() {
        let message = format!("table `{name}` has no column `{to}` after the migration");
        return Err(Error::usage(message).with_hint("--rename is TABLE.OLD=NEW"));
    }
    if now.column(from).is_some() && !from.eq_ignore_ascii_case(to) {
        let message = format!("table `{name}` still has its column `{from}`");
        return Err(Error::usage(message)
            .with_hint(format!("drop `{from}`, or leave --rename out: `{to}` is a new column")));
    }
    let told = Names::new(vec![(known.name_of(from).to_owned(), to.clone())]);
    let others = registered(tx)?.into_iter().find(|it| it.table.name == known.name);
    let others = others.map(|others| others.table.all_names()).unwrap_or_default();
    let names = told.over(others).of(&now).differing();
    // The trigger would tell another name.
    drop_triggers(tx, Some(known))?;
    let sql = "SELECT columns FROM driftless_tables WHERE name = ?1 COLLATE NOCASE";
    let stored: String = tx.query_row(sql, [&known.name], |row| row.get(0))?;
    let (columns, _) = Names::read(&stored);
    let sql = "UPDATE driftless_tables SET columns = ?2 WHERE name = ?1 COLLATE NOCASE";
    tx.execute(sql, [&known.name, &columns_json(&columns, &names)])?;
    Ok(())
}

/// The foreign keys that lead to missing rows: table and parent, each once for each such row.
fn orphans(db: &Connection) -> Result<Vec<Orphan>> {
    let mut statement =
        db.prepare("SELECT \"table\", parent FROM pragma_foreign_key_check ORDER BY 1, 2")?;
    let found =
        statement.query_map([], |row| Ok(Orphan { table: row.get(0)?, parent: row.get(1)? }))?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// Runs the statements of a script. BEGIN, COMMIT and END count for nothing: the script is one
/// transaction.
///
/// # Errors
///
/// `Usage` with the number of the statement that SQLite refuses, and what SQLite says.
pub(crate) fn run_script(tx: &Connection, script: &str) -> Result<()> {
    let mut batch = Batch::new(tx, script);
    let mut number = 0;
    loop {
        number += 1;
        let refused = |source: rusqlite::Error| {
            let message = format!("SQLite refuses statement {number} of the migration: {source}");
            Error::usage(message).with_hint("nothing was changed").with_source(source)
        };
        let Some(mut statement) = batch.next().map_err(refused)? else { return Ok(()) };
        let text = statement.expanded_sql().unwrap_or_default();
        let word = first_word(&text);
        if ["begin", "commit", "end"].iter().any(|it| word.eq_ignore_ascii_case(it)) {
            continue;
        }
        let mut rows = statement.raw_query();
        while rows.next().map_err(refused)?.is_some() {}
    }
}

/// The first word of a statement, behind comments.
fn first_word(sql: &str) -> &str {
    let mut rest = sql.trim_start();
    loop {
        rest = match (rest.starts_with("--"), rest.starts_with("/*")) {
            (true, _) => rest.split_once('\n').map_or("", |(_, rest)| rest).trim_start(),
            (_, true) => rest.split_once("*/").map_or("", |(_, rest)| rest).trim_start(),
            _ => return rest.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default(),
        };
    }
}
