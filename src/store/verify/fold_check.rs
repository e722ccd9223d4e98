//! Compares the tables of a replica with its own log: a row is the fold of the log, with the
//! pending events on top.
//!
//! A replica's log begins with its first sync, which read rows and not events. So the fold knows
//! only what later events say about a row: the whole row after an insert, and otherwise the changed
//! columns. Only these are compared; the comparison with the remote covers the rest. The fold is
//! kept in a temporary file, because it may be as large as the tables.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension};

use super::snapshot::{UnsettledRow, changes};
use crate::catalog::ident;
use crate::error::Result;
use crate::event::{Image, Op, RowKey};
use crate::protocol::compare::{ComparedTable, replay};
use crate::store::Store;
use crate::store::log::frame;
use crate::store::log::reader::row_of;
use crate::store::outbox::pending::{PendingEvent, load};
use crate::store::rows::row::overlay;

/// The most rows that are named.
const NAMED: usize = 1_000;
/// The cache of the temporary file, in KiB.
const CACHE_KIB: i64 = 8 << 10;
/// The number of events between two calls of the watcher.
const GLANCE: u64 = 10_000;

/// A row that differs from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldDifference {
    /// The table.
    pub table: String,
    /// The row.
    pub key: RowKey,
    /// The row by the log, with the pending events on top, in the known columns. `None` if the log
    /// has no such row.
    pub log: Option<Image>,
    /// The local row.
    pub local: Option<Image>,
    /// The columns that differ; empty if one of the two rows is absent.
    pub columns: Vec<String>,
}

/// The result of folding the local log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoldCheck {
    /// Applied events of the replicated tables.
    pub events: u64,
    /// Rows of which the log has an event.
    pub rows: u64,
    /// Local rows without an event in the log: they came with the first sync.
    pub before_log: u64,
    /// Rows with events in quarantine, which are not compared.
    pub waiting: u64,
    /// Rows that differ from the log.
    pub differing: u64,
    /// The first of these.
    pub found: Vec<FoldDifference>,
}

/// The fold, in a temporary file.
struct Fold {
    db: Connection,
}

impl Fold {
    fn new() -> Result<Fold> {
        // An empty name means a temporary file, which SQLite removes.
        let db = Connection::open("")?;
        db.pragma_update(None, "cache_size", -CACHE_KIB)?;
        db.pragma_update(None, "journal_mode", "OFF")?;
        db.execute_batch(
            "CREATE TABLE fold (t INTEGER, k TEXT, img TEXT, PRIMARY KEY (t, k)) WITHOUT ROWID;
             BEGIN",
        )?;
        Ok(Fold { db })
    }

    /// The image of a row: `None` if the log has no event of it, `Some(None)` if it is deleted.
    fn get(&self, table: usize, key: &str) -> Result<Option<Option<Image>>> {
        let sql = "SELECT img FROM fold WHERE t = ?1 AND k = ?2";
        let mut statement = self.db.prepare_cached(sql)?;
        let found: Option<Option<String>> =
            statement.query_row((table as i64, key), |row| row.get(0)).optional()?;
        let parse = |json: Option<String>| json.map(|json| Image::parse(json.as_bytes()));
        found.map(|image| parse(image).transpose()).transpose()
    }

    fn put(&self, table: usize, key: &str, image: Option<&Image>) -> Result<()> {
        let sql = "INSERT INTO fold VALUES (?1, ?2, ?3)
                   ON CONFLICT (t, k) DO UPDATE SET img = excluded.img";
        let mut statement = self.db.prepare_cached(sql)?;
        statement.execute((table as i64, key, image.map(Image::to_json)))?;
        Ok(())
    }
}

impl Store {
    /// Folds the local log, and compares the rows of these tables with it. `watch` is called with
    /// the number of folded events.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn check_fold(
        &self,
        tables: &[ComparedTable],
        watch: &mut dyn FnMut(u64),
    ) -> Result<FoldCheck> {
        let tx = self.db.unchecked_transaction()?;
        let fold = Fold::new()?;
        let mut check = FoldCheck::default();
        self.fold_log(&tx, tables, &fold, &mut check, watch)?;
        let mut unsettled = self.unsettled(&tx, tables)?;
        for (at, table) in tables.iter().enumerate() {
            let rows = unsettled.remove(&at).unwrap_or_default();
            let rows = rows.into_iter().filter_map(|row| Some((row.key()?.0.clone(), row)));
            let pending: HashMap<String, UnsettledRow> = rows.collect();
            self.compare_fold(&tx, at, table, &fold, &pending, &mut check)?;
        }
        Ok(check)
    }

    fn fold_log(
        &self,
        tx: &Connection,
        tables: &[ComparedTable],
        fold: &Fold,
        check: &mut FoldCheck,
        watch: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let sql = "SELECT seq, header, vals FROM driftless_log AS l WHERE NOT EXISTS
                   (SELECT 1 FROM driftless_quarantine AS q WHERE q.seq = l.seq) ORDER BY seq";
        let mut statement = tx.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            // The check of the log reports a damaged frame.
            let Ok(event) = frame(row) else { continue };
            let found = tables.iter().position(|t| t.name().eq_ignore_ascii_case(&event.table));
            let Some(at) = found.filter(|_| event.verdict.is_applied()) else { continue };
            check.events += 1;
            if check.events.is_multiple_of(GLANCE) {
                watch(check.events);
            }
            let key = &event.key.0;
            match (event.op, event.after) {
                (Op::Delete, _) => fold.put(at, key, None)?,
                (Op::Insert, Some(after)) => fold.put(at, key, Some(&after))?,
                (Op::Update, Some(after)) => {
                    let mut image = fold.get(at, key)?.flatten().unwrap_or_default();
                    let columns = crate::store::rows::row::borrow(&after);
                    overlay(tables[at].here(), &mut image, &columns);
                    fold.put(at, key, Some(&image))?;
                }
                // Its values were erased.
                (_, None) => {}
            }
        }
        Ok(())
    }

    fn compare_fold(
        &self,
        tx: &Connection,
        at: usize,
        table: &ComparedTable,
        fold: &Fold,
        unsettled: &HashMap<String, UnsettledRow>,
        check: &mut FoldCheck,
    ) -> Result<()> {
        let here = table.here();
        let mut live = 0;
        let mut statement = fold.db.prepare("SELECT k, img FROM fold WHERE t = ?1")?;
        let mut rows = statement.query([at as i64])?;
        while let Some(row) = rows.next()? {
            let key = RowKey(row.get(0)?);
            let image: Option<String> = row.get(1)?;
            let image = image.map(|json| Image::parse(json.as_bytes())).transpose()?;
            check.rows += 1;
            let local = row_of(tx, here, &key)?;
            live += u64::from(local.is_some());
            let mut expected = image;
            if let Some(own) = unsettled.get(&key.0) {
                if own.is_waiting() {
                    check.waiting += 1;
                    continue;
                }
                let load = |&n: &i64| load(tx, self.outbox.layouts(), n).transpose();
                let pending: Vec<PendingEvent> =
                    own.pending().iter().filter_map(load).collect::<Result<_>>()?;
                expected = replay(expected, &changes(&pending)?);
            }
            let columns = match (&expected, &local) {
                (None, None) => continue,
                (Some(expected), Some(local)) => {
                    let mut columns = table.differing(expected, local);
                    let known = |name: &String| {
                        expected.0.iter().any(|(mine, _)| mine.eq_ignore_ascii_case(name))
                    };
                    columns.retain(known);
                    if columns.is_empty() {
                        continue;
                    }
                    columns
                }
                _ => Vec::new(),
            };
            check.differing += 1;
            if check.found.len() < NAMED {
                let table = table.name().to_owned();
                check.found.push(FoldDifference { table, key, log: expected, local, columns });
            }
        }
        let sql = format!("SELECT count(*) FROM main.{}", ident(&here.name));
        let all: i64 = tx.query_row(&sql, [], |row| row.get(0))?;
        check.before_log += (all as u64).saturating_sub(live);
        Ok(())
    }
}
