//! Reads and makes definitions of a local database before there is a
//! [`Store`](crate::store::Store).

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::replicated::{ReplicatedTable, registered, registered_names};
use crate::catalog::{Catalog, Table, name_references};
use crate::error::{Code, Error, Kind, Result};
use crate::store::connection::{OnConnect, connect, must_be_file};
use crate::store::rows::writable::{ADVICE, Unwritable, place, unwritable};

/// How long to wait for another process's lock.
const BUSY: Duration = Duration::from_secs(5);

/// A row of `sqlite_schema`: kind, name, table and SQL.
pub type Definition = (String, String, String, Option<String>);

/// Reads every definition of the database at `path`, in the order of creation. A file that does not
/// exist has none.
///
/// # Errors
///
/// `Storage` when the file cannot be read or is not a database.
pub fn definitions(path: &Path) -> Result<Vec<Definition>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    must_be_file(path)?;
    let read = || -> Result<Vec<Definition>> {
        // The journal mode stays: reading must not change the file.
        let db = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid";
        let mut statement = db.prepare(sql)?;
        let rows = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    };
    read().map_err(|error| error.of_file(path))
}

/// A local database's definitions, and which of its tables this program can replicate.
pub(crate) struct Local {
    /// The definitions.
    definitions: Vec<Definition>,
    /// The tables. The ones in `unwritable` are among its skipped ones.
    catalog: Catalog,
    /// Tables that need something that only the application has.
    unwritable: Vec<Unwritable>,
}

impl Local {
    /// Reads the file at `path`, with the registrations of `on_connect`. A file that does not exist
    /// has no tables.
    ///
    /// `named` are tables that a person asks for by name. A table whose CREATE TABLE needs a
    /// registration is taken only if it is named, because a remote cannot create it.
    ///
    /// # Errors
    ///
    /// `Storage` when the file cannot be read, and the errors of `on_connect`.
    pub(crate) fn read(path: &Path, on_connect: &OnConnect, named: &[String]) -> Result<Local> {
        let definitions = definitions(path)?;
        let mut local = Local::of(definitions)?;
        if path.exists() {
            let db = connect(path, false)?;
            on_connect.run(&db)?;
            let named = if on_connect.is_some() { named } else { &[] };
            local.look(&db, named)?;
        }
        Ok(local)
    }

    /// The same from the definitions alone.
    ///
    /// # Errors
    ///
    /// As for [`Catalog::of_remote`].
    pub(crate) fn of(definitions: Vec<Definition>) -> Result<Local> {
        let catalog = Catalog::of_remote(&definitions)?;
        Ok(Local { definitions, catalog, unwritable: Vec::new() })
    }

    /// Gives columns of which nothing is known the names that the remote's tables suggest.
    pub(crate) fn take_names(&mut self, theirs: &Catalog) {
        for mine in &mut self.catalog.tables {
            let Some(there) = theirs.table(&mine.name) else { continue };
            let names = mine.suggested(there);
            if !names.is_empty() {
                *mine = mine.clone().named(&names.over(mine.names()));
            }
        }
    }

    /// The definitions.
    pub(crate) fn definitions(&self) -> &[Definition] {
        &self.definitions
    }

    /// The tables that can be replicated, and those that cannot, each with the reason.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Finds the tables that `db` can read and write. A table that is replicated already is kept.
    pub(in crate::store) fn look(&mut self, db: &Connection, named: &[String]) -> Result<()> {
        let known = match self.definitions.iter().any(|(_, name, ..)| name == "driftless_tables") {
            true => registered_names(db)?,
            false => HashSet::new(),
        };
        let is_known = |name: &str| known.contains(&name.to_ascii_lowercase());
        let mut skipped = Vec::new();
        for table in std::mem::take(&mut self.catalog.tables) {
            let candidate = ReplicatedTable::unregistered(db, table)?;
            let reason = match is_known(&candidate.table.name) {
                true => None,
                false => unwritable(db, &candidate)?,
            };
            match reason {
                None => self.catalog.tables.push(candidate.table),
                Some(reason) => skipped.push((candidate.table.name, reason)),
            }
        }
        for (name, reason) in std::mem::take(&mut self.catalog.skipped) {
            let is_unmade = is_in(&self.catalog.unmade, &name);
            let table = if is_unmade { read(db, &name)? } else { None };
            let Some(table) = table else {
                self.catalog.skipped.push((name, reason));
                continue;
            };
            let candidate = ReplicatedTable::unregistered(db, table)?;
            let is_wanted = is_in(named, &name);
            if is_known(&name) || is_wanted && unwritable(db, &candidate)?.is_none() {
                let parents = candidate.table.foreign_keys.iter();
                let parents = parents.map(|key| (candidate.table.name.clone(), key.parent.clone()));
                self.catalog.parents.extend(parents);
                self.catalog.tables.push(candidate.table);
            } else {
                let place = place(db, &name, &reason)?.unwrap_or_default();
                skipped.push((name, reason + &place));
            }
        }
        if !known.is_empty() {
            let known = registered(db)?;
            for mine in &mut self.catalog.tables {
                let is =
                    |known: &&ReplicatedTable| known.table.name.eq_ignore_ascii_case(&mine.name);
                if let Some(known) = known.iter().find(is) {
                    *mine = mine.clone().named_like(&known.table);
                }
            }
            name_references(self.catalog.tables.iter_mut());
        }
        self.catalog.tables.sort_by(|a, b| a.name.cmp(&b.name));
        let unwritable = |(table, reason): &(String, String)| {
            let (table, reason) = (table.clone(), reason.clone());
            Unwritable { table, reason }
        };
        self.unwritable = skipped.iter().map(unwritable).collect();
        self.catalog.skipped.extend(skipped);
        Ok(())
    }

    /// The error for a table that this program cannot write.
    ///
    /// # Errors
    ///
    /// `Usage`, naming the table and what is missing.
    pub(crate) fn require_writable(&self, name: &str) -> Result<()> {
        match self.unwritable.iter().find(|found| found.table.eq_ignore_ascii_case(name)) {
            None => Ok(()),
            Some(found) => {
                Err(Error::new(Code::TableUnwritable, found.reason.clone()).with_hint(ADVICE))
            }
        }
    }
}

fn is_in(names: &[String], name: &str) -> bool {
    names.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// A table; `None` if it cannot be replicated with any registration.
fn read(db: &Connection, name: &str) -> Result<Option<Table>> {
    match Table::read(db, name) {
        Ok(table) => Ok(Some(table)),
        Err(error) if error.kind() == Kind::Usage => Ok(None),
        Err(error) => Err(error),
    }
}

/// An ordinary connection for an application: WAL, foreign keys on, a busy timeout of 5 s.
/// `on_commit` is called at every commit, just before it takes effect. It must be quick.
pub fn application_connection(
    path: &Path,
    on_commit: impl Fn() + Send + 'static,
) -> Result<Connection> {
    must_be_file(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let open = || -> Result<Connection> {
        let db = open(path, flags)?;
        db.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        db.pragma_update(None, "foreign_keys", true)?;
        Ok(db)
    };
    let mut db = open().map_err(|error| error.of_file(path))?;
    db.commit_hook(Some(move || {
        on_commit();
        // False lets the commit happen.
        false
    }))?;
    Ok(db)
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    Ok(db)
}
