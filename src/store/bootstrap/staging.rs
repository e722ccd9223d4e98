//! The remote's rows, kept beside the tables until they are merged.

use rusqlite::Connection;

use crate::error::{Code, Error, Result};
use crate::event::page::{Line, Page};
use crate::event::{Columns, Image, Op, RowKey, read_columns};
use crate::store::Store;
use crate::store::apply::admission::{MALFORMED, Offered, fits};
use crate::store::file_state::count_staged;
use crate::store::rows::refusal::shorten;
use crate::store::rows::row::{borrow, overlay};

impl Store {
    /// Keeps rows of a remote table aside, until [`Store::adopt_by`]. A row that is staged already
    /// is replaced.
    ///
    /// # Errors
    ///
    /// `Corrupt` when a row is none of that table: its key has another form, or its values another
    /// key. `Storage` when the database fails.
    pub fn stage(&mut self, table: &str, rows: &[(RowKey, Image)]) -> Result<()> {
        let definition = self.table_index(table).map(|at| &self.tables[at].table);
        let definition = definition.ok_or_else(|| {
            Error::new(Code::TableNotReplicated, format!("table `{table}` is not replicated"))
        })?;
        let tx = self.begin_write()?;
        count_staged(&tx)?;
        for (key, image) in rows {
            let columns = borrow(image);
            let offered = Offered::row(key, &columns);
            fits(definition, &offered, &mut Vec::new())
                .map_err(|reason| Error::new(Code::AnswerInvalid, reason))?;
            put(&tx, table, &key.0, Some(image))?;
        }
        self.commit_write(tx)
    }

    /// Folds a page of the log over the staged rows. An event that is none goes to quarantine.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the page is not one. `Storage` when the database fails.
    pub fn stage_events(&mut self, page: &Page) -> Result<()> {
        let lines = page.lines()?;
        let tx = self.begin_write()?;
        count_staged(&tx)?;
        let (mut after, mut key) = (Columns::new(), Vec::new());
        for line in lines.iter().filter(|line| line.verdict.is_applied() || line.damaged.is_some())
        {
            if let Some(reason) = &line.damaged {
                quarantine(&tx, line, reason)?;
                continue;
            }
            let Some(table) = self.table_index(&line.table) else { continue };
            let table = &self.tables[table].table;
            let read = match line.after {
                Some(json) => read_columns(json, &mut after),
                None => {
                    after.clear();
                    Ok(())
                }
            };
            let read = read.map_err(|error| error.message().to_owned());
            let mut admit = || {
                let offered = Offered::event(line, &after);
                fits(table, &offered, &mut key)
            };
            if let Err(reason) = read.and_then(|()| admit().map(drop)) {
                quarantine(&tx, line, &reason)?;
                continue;
            }
            let mut image = match line.op {
                Op::Insert => Some(Image::default()),
                Op::Update => staged(&tx, &table.name, line.key)?,
                Op::Delete => None,
            };
            if let Some(image) = &mut image {
                overlay(table, image, &after);
            }
            if image.is_some() || line.op == Op::Delete {
                put(&tx, &table.name, line.key, image.as_ref())?;
            }
        }
        self.commit_write(tx)
    }

    /// Stages what a row was at the cursor, unless the row is staged already.
    ///
    /// # Errors
    ///
    /// As for [`Store::stage`].
    pub(crate) fn stage_former(&mut self, table: &str, key: &RowKey, row: Image) -> Result<()> {
        match staged(&self.db, table, &key.0)? {
            Some(_) => Ok(()),
            None => self.stage(table, &[(key.clone(), row)]),
        }
    }

    /// Forgets all staged rows.
    pub fn stage_clear(&mut self) -> Result<()> {
        let tx = self.begin_write()?;
        count_staged(&tx)?;
        tx.execute("DELETE FROM driftless_staging", [])?;
        self.commit_write(tx)
    }
}

/// The staged image of a row, if there is one and the row was not deleted meanwhile.
pub(super) fn staged(db: &Connection, table: &str, key: &str) -> Result<Option<Image>> {
    let sql = "SELECT img FROM driftless_staging WHERE tbl = ?1 AND pk = ?2 AND img IS NOT NULL";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([table, key])?;
    match rows.next()? {
        None => Ok(None),
        Some(row) => {
            Ok(Some(Image::parse(row.get_ref(0)?.as_bytes().map_err(rusqlite::Error::from)?)?))
        }
    }
}

/// Forgets a staged row.
pub(super) fn unstage(db: &Connection, table: &str, key: &RowKey) -> Result<()> {
    let sql = "DELETE FROM driftless_staging WHERE tbl = ?1 AND pk = ?2";
    db.prepare_cached(sql)?.execute([table, &key.0])?;
    Ok(())
}

fn put(db: &Connection, table: &str, key: &str, image: Option<&Image>) -> Result<()> {
    let mut statement = db.prepare_cached(
        "INSERT INTO driftless_staging (tbl, pk, img) VALUES (?1, ?2, ?3)
         ON CONFLICT (tbl, pk) DO UPDATE SET img = excluded.img",
    )?;
    statement.execute((table, key, image.map(Image::to_json)))?;
    Ok(())
}

/// Puts an event that is none into quarantine: it is no reason to have no first sync.
fn quarantine(db: &Connection, line: &Line<'_>, reason: &str) -> Result<()> {
    let mut statement = db.prepare_cached(
        "INSERT INTO driftless_quarantine (seq, tbl, pk, reason) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (seq) DO UPDATE SET reason = excluded.reason",
    )?;
    let reason = format!("{MALFORMED}{reason}");
    statement.execute((line.seq.0, &line.table, line.key, &reason))?;
    let table = shorten(&line.table);
    tracing::warn!(seq = line.seq.0, table = ?table, reason, "into quarantine");
    Ok(())
}
