//! Recapture: finds the writes that capture missed, and appends them to the outbox.
//!
//! The rows of a suspect table are compared with the expected rows: the remote's row, without the
//! log events that are not integrated yet, with the pending events on top. A difference was written
//! while the triggers were missing. It becomes an event of its own, with the cursor as its base.
//! Each page of rows is one short transaction, which reads its rows under the lock. The application
//! writes in between.
//!
//! * A pending event may not fit: an update of a row that was inserted while nothing was captured,
//!   or the insert of a row that was deleted then. While it is unsent, it is repaired: the update
//!   becomes an insert, and the insert an update.
//! * A column that was added since the last comparison has its default here, which is not a write.
//!   It gets the remote's value. If both sides have written other values, the remote's value is
//!   used, and the own one goes to the conflict inbox, as an insert that has lost.
//! * A missing row was deleted, or its table was rebuilt without it. Deletes are appended for at
//!   most [`MOST_DELETES`] rows and a quarter of the table, and for none if the table was rebuilt.
//!   Otherwise the rows come back.
//! * A row with an event in quarantine is left unchanged, because the expected row is not known.
//!
//! Generated columns, and columns that one side lacks, are not compared. Two values are equal if
//! storing either in the other's column gives the other.

mod cascade;
mod comparison;
mod found;
mod returned;

use self::comparison::Comparison;
use self::found::Missing;
pub use self::found::Recaptured;
pub(crate) use self::found::Remote;
pub use self::returned::{Returned, ReturnedRows};
use super::Store;
use super::apply::step::{Stop, begin};
use super::outbox::reader::row_key;
use super::schema::notice::{Suspect, suspect_arrivals, suspects, wait_for, wait_no_more};
use crate::catalog::{Table, ident, key_json};
use crate::error::{Error, Result};
use crate::event::json::names_json;
use crate::event::{Image, RowKey};
use crate::protocol::remote_tables::RemoteTables;

/// The most missing rows for which deletes are appended.
const MOST_DELETES: usize = 100;

/// The number of rows that are compared in one transaction: the application's write waits for it.
const ROWS: usize = 500;

const TEMP_SQL: &str = "
    CREATE TEMP TABLE IF NOT EXISTS driftless_seen (pk TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TEMP TABLE IF NOT EXISTS driftless_todo (pk TEXT);
    CREATE TEMP TABLE IF NOT EXISTS driftless_missing (pk TEXT, img TEXT);
    DELETE FROM temp.driftless_seen;
    DELETE FROM temp.driftless_todo;
    DELETE FROM temp.driftless_missing;";

/// Keys, each with the remote's row.
type Rows = Vec<(RowKey, Option<Image>)>;

impl Store {
    /// Records that the remote lacks these suspect tables. They wait until it has them, and delay
    /// nothing.
    pub(crate) fn wait_for_tables(&mut self, tables: &[&str]) -> Result<()> {
        wait_for(&self.db, tables)?;
        self.suspects = suspects(&self.db)?;
        Ok(())
    }

    /// Records that the remote has these tables.
    pub(crate) fn tables_are_there(&mut self, tables: &[&str]) -> Result<()> {
        wait_no_more(&self.db, tables)?;
        self.suspects = suspects(&self.db)?;
        Ok(())
    }

    /// Notes that tables are to be compared again, if the remote has got a column that it did not
    /// have when they were last compared. `there` are the remote's tables.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub(crate) fn columns_arrived(&mut self, there: &RemoteTables) -> Result<()> {
        if !self.is_adopted()? {
            return Ok(());
        }
        let tx = self.begin_write()?;
        let any = suspect_arrivals(&tx, &self.tables, there)?;
        self.commit_write(tx)?;
        if any {
            self.suspects = suspects(&self.db)?;
        }
        Ok(())
    }

    /// Begins the comparison of a suspect table.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub(crate) fn begin_recapture(&mut self) -> Result<()> {
        Ok(self.db.execute_batch(TEMP_SQL)?)
    }

    /// Compares these rows of the remote with the local ones. `None` if the schema has changed
    /// since the definitions were read: then the comparison must begin again.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails, `Corrupt` when an event in the outbox is damaged.
    pub(crate) fn recapture_rows(
        &mut self,
        remote: Remote<'_>,
        rows: &[(RowKey, Image)],
        now_ms: i64,
    ) -> Result<Option<Recaptured>> {
        let mut all = Recaptured::default();
        for rows in rows.chunks(ROWS) {
            let done = self.compare(remote, now_ms, &mut |comparison| {
                let sql = "INSERT INTO temp.driftless_seen VALUES (?1) ON CONFLICT DO NOTHING";
                let mut seen = comparison.tx().prepare_cached(sql)?;
                for (key, image) in rows {
                    seen.execute([&key.0])?;
                    comparison.row(key, Some(image.clone()))?;
                }
                Ok(())
            })?;
            let Some(done) = done else { return Ok(None) };
            all.add(done);
        }
        Ok(Some(all))
    }

    /// Compares the rows that the remote lacks, and decides about the rows that are missing here.
    /// After that, the table is no longer suspect.
    ///
    /// # Errors
    ///
    /// As for [`recapture_rows`](Store::recapture_rows).
    pub(crate) fn end_recapture(
        &mut self,
        suspect: &Suspect,
        remote: Remote<'_>,
        now_ms: i64,
    ) -> Result<Option<Recaptured>> {
        self.list_unseen(remote)?;
        let mut all = Recaptured::default();
        loop {
            let rows = self.unseen()?;
            if rows.is_empty() {
                break;
            }
            let done = self.compare(remote, now_ms, &mut |comparison| {
                rows.iter().try_for_each(|(key, _)| comparison.row(key, None))
            })?;
            let Some(done) = done else { return Ok(None) };
            all.add(done);
        }
        let (missing, fate) = self.missing(suspect)?;
        for rows in missing.chunks(ROWS) {
            let done = self.compare(remote, now_ms, &mut |comparison| {
                rows.iter()
                    .try_for_each(|(key, there)| comparison.missing_row(key, there.clone(), fate))
            })?;
            let Some(done) = done else { return Ok(None) };
            all.add(done);
        }
        self.acquit(suspect, remote.table())?;
        Ok(Some(all))
    }

    /// Does `work` in one transaction. `None` if the schema has changed.
    fn compare(
        &mut self,
        remote: Remote<'_>,
        now_ms: i64,
        work: &mut dyn FnMut(&mut Comparison<'_>) -> Result<()>,
    ) -> Result<Option<Recaptured>> {
        let at = self.table_index(&remote.table().name);
        let Some(at) = at else { return Ok(None) };
        loop {
            self.straighten()?;
            let tx = self.begin_write()?;
            if self.current_schema_version()? != self.schema_version {
                return Ok(None);
            }
            let start = begin(&tx)?;
            match self.refresh_pending(&tx, start.cursor()) {
                Ok(()) => {}
                // New events must be put in order first.
                Err(Stop::SchemaChanged) => continue,
                Err(Stop::Failed(error)) => return Err(error),
                Err(_) => return Err(Error::storage("the outbox cannot be read")),
            }
            let done = {
                let mut comparison = Comparison::of(self, &tx, at, remote, now_ms)?;
                work(&mut comparison)?;
                comparison.done()
            };
            tx.execute("UPDATE driftless_state SET replaying = 0", [])?;
            self.commit_write(tx)?;
            if done.found > 0 {
                self.outbox.forget_numbers();
            }
            return Ok(Some(done));
        }
    }

    /// Lists the rows that the comparison has not seen: the local ones, and those that the remote
    /// had at the cursor.
    fn list_unseen(&self, remote: Remote<'_>) -> Result<()> {
        let Some(at) = self.table_index(&remote.table().name) else { return Ok(()) };
        let table = &self.tables[at].table;
        let whole: Vec<_> = table
            .key_columns()
            .map(|column| format!("r.{} IS NOT NULL", ident(&column.present)))
            .collect();
        let sql = format!(
            "INSERT INTO temp.driftless_todo SELECT k FROM (SELECT {} AS k FROM main.{} AS r \
             WHERE {}) WHERE k NOT IN (SELECT pk FROM temp.driftless_seen)",
            key_json(table, "r"),
            ident(&table.name),
            whole.join(" AND "),
        );
        self.db.execute(&sql, [])?;
        let sql = "INSERT INTO temp.driftless_todo SELECT ?1
                   WHERE ?1 NOT IN (SELECT pk FROM temp.driftless_seen)
                   AND ?1 NOT IN (SELECT pk FROM temp.driftless_todo)";
        let mut statement = self.db.prepare(sql)?;
        for key in remote.behind().keys(&table.name) {
            statement.execute([&key.0])?;
        }
        Ok(())
    }

    /// Takes some of the listed rows.
    fn unseen(&self) -> Result<Rows> {
        let sql = "DELETE FROM temp.driftless_todo WHERE rowid IN
                   (SELECT rowid FROM temp.driftless_todo LIMIT ?1)
                   RETURNING CAST(pk AS BLOB)";
        let mut statement = self.db.prepare_cached(sql)?;
        let keys = statement.query_map([ROWS as i64], |row| row.get::<_, Vec<u8>>(0))?;
        keys.map(|key| Ok((row_key(&key?)?, None))).collect()
    }

    /// The rows that are missing here, and what happens with them.
    fn missing(&self, suspect: &Suspect) -> Result<(Rows, Missing)> {
        let mut statement = self.db.prepare("SELECT pk, img FROM temp.driftless_missing")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let rows = rows.collect::<rusqlite::Result<Vec<(String, Option<String>)>>>()?;
        let rows = rows.into_iter().map(|(key, image)| {
            Ok((RowKey(key), image.map(|json| Image::parse(json.as_bytes())).transpose()?))
        });
        let rows = rows.collect::<Result<Rows>>()?;
        let count = format!("SELECT count(*) FROM main.{}", ident(&suspect.table));
        let count: i64 = self.db.query_row(&count, [], |row| row.get(0))?;
        let few = rows.len() <= MOST_DELETES && 3 * rows.len() as i64 <= count;
        Ok((rows, if few && !suspect.anew { Missing::Deleted } else { Missing::Returned }))
    }

    /// Ends the suspicion of the table, unless another migration has made it suspect again.
    fn acquit(&mut self, suspect: &Suspect, there: &Table) -> Result<()> {
        let at = self.table_index(&suspect.table);
        let columns = at.map(|at| {
            let shared = self.tables[at].table.column_names();
            names_json(shared.filter(|name| there.column(name).is_some()))
        });
        let tx = self.begin_write()?;
        tx.execute(
            "UPDATE driftless_tables SET suspect = NULL, compared = coalesce(?3, compared)
             WHERE name = ?1 AND suspect = ?2",
            (&suspect.table, suspect.note(), columns),
        )?;
        self.commit_write(tx)?;
        self.suspects = suspects(&self.db)?;
        Ok(())
    }
}
