//! Tables join the replicated ones, and leave them.
//!
//! A table that joins a replica is registered and captured at once. It is suspect from then on, so
//! nothing is pushed or integrated until its rows were brought together with the remote's, at the
//! replica's cursor ([`Store::adopt_joining`]).
//!
//! Of a table that is not replicated here the log has the events, and nothing else is kept of them:
//! when it joins, its rows are read from the remote.

use rusqlite::Connection;

use super::install::drop_triggers;
use super::notice::{joining, suspects};
use super::replicated::registered_names;
use crate::catalog::{Choice, Table};
use crate::error::{Code, Error, Kind, Result};
use crate::store::Store;
use crate::store::bootstrap::prefer::{Prefer, Preferences};
use crate::store::outbox::pending::load;

/// A table joins: in the transaction that registers it.
pub(super) fn join(tx: &Connection, table: &str) -> Result<()> {
    let note = joining(&Prefer::default());
    let sql = "UPDATE driftless_tables SET suspect = ?2 WHERE name = ?1";
    tx.execute(sql, [table, &note])?;
    forget(tx, table)
}

/// Forgets what waits for a table: its rows are read anew, or are of no interest.
fn forget(tx: &Connection, table: &str) -> Result<()> {
    for sql in [
        "DELETE FROM driftless_quarantine WHERE tbl = ?1 COLLATE NOCASE",
        "DELETE FROM driftless_returned WHERE tbl = ?1 COLLATE NOCASE",
    ] {
        tx.execute(sql, [table])?;
    }
    Ok(())
}

impl Store {
    /// Whether a table is among the replicated ones, whether or not it is here.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub(in crate::store) fn is_registered(&self, table: &str) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM driftless_tables WHERE name = ?1 COLLATE NOCASE)";
        Ok(self.db.prepare_cached(sql)?.query_row([table], |row| row.get(0))?)
    }

    /// Notes what a replica whose first sync is done goes on with: what is preferred of the tables
    /// that join, if a person has said so, and which tables were asked for.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub(crate) fn goes_on_with(
        &mut self,
        prefer: Option<&Preferences>,
        choice: &Choice,
    ) -> Result<()> {
        if let Some(prefer) = prefer {
            self.prefer_joining(prefer)?;
        }
        if self.choice()?.map_or(choice.all, |known| known != *choice) {
            self.set_choice(choice)?;
        }
        Ok(())
    }

    /// Sets which version of a row is taken, of the tables that join.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub(crate) fn prefer_joining(&mut self, preferences: &Preferences) -> Result<()> {
        let joins = self.suspects.iter().filter(|one| one.joins.is_some());
        let names: Vec<_> = joins.map(|one| one.table.clone()).collect();
        for name in names {
            let sql = "UPDATE driftless_tables SET suspect = ?2 WHERE name = ?1";
            self.db.execute(sql, [&name, &joining(preferences.of(&name))])?;
        }
        self.suspects = suspects(&self.db)?;
        Ok(())
    }

    /// The names of the replicated tables, those too that are not here any more, in lower case.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub(crate) fn registered_tables(&self) -> Result<Vec<String>> {
        Ok(registered_names(&self.db)?.into_iter().collect())
    }

    /// How many events of a table are pending.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub(crate) fn pending_of(&self, table: &str) -> Result<usize> {
        let mut count = 0;
        let sql = "SELECT n FROM driftless_outbox WHERE NOT settled";
        let mut statement = self.db.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let event = load(&self.db, self.outbox.layouts(), row.get(0)?)?;
            let is_of = |name: &str| name.eq_ignore_ascii_case(table);
            count += usize::from(event.is_some_and(|event| is_of(event.table())));
        }
        Ok(count)
    }

    /// Refuses to take tables out of which events are pending.
    ///
    /// # Errors
    ///
    /// `Usage`, naming the table.
    pub(crate) fn require_settled(&self, tables: &[String]) -> Result<()> {
        for table in tables {
            let pending = self.pending_of(table)?;
            if pending > 0 {
                let message = format!(
                    "table `{table}` cannot be taken out: {pending} of its events wait to be pushed"
                );
                return Err(Error::new(Code::WouldLose, message)
                    .with_hint("run `driftless sync` first, then try again"));
            }
        }
        Ok(())
    }

    /// These tables are not replicated any more: their triggers are taken off. Their rows stay, and
    /// what is in the log and in the conflict inbox.
    ///
    /// # Errors
    ///
    /// As for [`Store::require_settled`]. Then nothing has changed.
    pub(crate) fn leave(&mut self, tables: &[String]) -> Result<()> {
        if tables.is_empty() {
            return Ok(());
        }
        self.require_settled(tables)?;
        let tx = self.begin_write()?;
        for name in tables {
            match Table::read(&tx, name) {
                Ok(table) => drop_triggers(&tx, Some(&table))?,
                // It is not here.
                Err(error) if error.kind() == Kind::Usage => {}
                Err(error) => return Err(error),
            }
            tx.execute("DELETE FROM driftless_tables WHERE name = ?1 COLLATE NOCASE", [name])?;
            forget(&tx, name)?;
        }
        self.commit_write(tx)?;
        self.check_triggers()?;
        self.load_definitions()
    }
}
