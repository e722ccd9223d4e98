//! Replaces local rows that differ by the remote's, and keeps the local versions.
//!
//! The local row becomes a pending insert that is set aside and marked as rejected. The remote's
//! log records it as rejected, with its values. So it comes into the conflict inbox, from where it
//! can be restored.

use crate::error::{Code, Error, Result};
use crate::event::{EventId, Image};
use crate::protocol::compare::{ComparedTable, Difference};
use crate::store::Store;
use crate::store::apply::rebase::Rebase;
use crate::store::apply::step::{Step, Stop, Strategy, Task, begin};
use crate::store::outbox::pending::known_columns;
use crate::store::rows::row::{Row, known_key};

/// The reason with which the local row is recorded as rejected.
const REASON: &str = "repaired: the remote had another row";

/// The result of a repair.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Repaired {
    /// Rows that are equal to the remote's now.
    pub rows: u64,
    /// Local rows that are kept. They come into the conflict inbox with the next sync.
    pub kept: u64,
    /// Rows that have changed since the comparison, or have pending or waiting events.
    pub skipped: u64,
}

impl Store {
    /// Replaces the local rows of these differences by the remote's, in one transaction. `now_ms`
    /// is the time of the new events.
    ///
    /// # Errors
    ///
    /// `Usage` when a constraint or a trigger of this database refuses a row; `Storage` when the
    /// database fails. Then nothing has changed.
    pub fn repair(
        &mut self,
        tables: &[ComparedTable],
        found: &[Difference],
        now_ms: i64,
    ) -> Result<Repaired> {
        self.check_triggers()?;
        match self.repair_once(tables, found, now_ms) {
            Ok(done) => {
                self.outbox.pending_mut().forget();
                Ok(done)
            }
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::SchemaChanged) => {
                Err(Error::unavailable("the definitions of the tables have changed; try again"))
            }
            Err(_) => {
                let message =
                    "a constraint or a trigger of this database refuses the remote's rows";
                Err(Error::new(Code::RowsRefused, message)
                    .with_hint("compare the two schemas: this one is stricter"))
            }
        }
    }

    fn repair_once(
        &self,
        tables: &[ComparedTable],
        found: &[Difference],
        now_ms: i64,
    ) -> Step<Repaired> {
        let tx = self.begin_write()?;
        if self.current_schema_version()? != self.schema_version {
            return Err(Stop::SchemaChanged);
        }
        let start = begin(&tx)?;
        let mut unsettled = self.unsettled(&tx, tables)?;
        let unsettled: Vec<_> = (0..tables.len())
            .map(|at| unsettled.remove(&at).unwrap_or_default())
            .map(|rows| rows.into_iter().filter_map(|row| row.key().cloned()).collect::<Vec<_>>())
            .collect();
        let mut rebase = Rebase::new(Task::new(self, &[], Strategy::InPlace, start))?;
        let mut done = Repaired::default();
        for row in found {
            let place = |name: &str| self.table_index(name);
            let at = tables.iter().position(|table| table.name().eq_ignore_ascii_case(&row.table));
            let (Some(at), Some(index)) = (at, place(&row.table)) else { continue };
            let table = &self.tables[index].table;
            let Some(key) = known_key(table, &row.key.0) else { continue };
            let now = rebase.row(index, &key)?.map(Row::into_image);
            let is_same = now == row.local && start.cursor() == row.seq;
            if !is_same || unsettled[at].contains(&row.key) || !rebase.task().is_writable(index) {
                done.skipped += 1;
                continue;
            }
            let written = match &row.remote {
                Some(theirs) => {
                    let mut image = now.clone().unwrap_or_default();
                    image.overlay(&tables[at].shared(theirs));
                    let columns = known_columns(table, &image);
                    rebase.writer_mut().upsert(index, &row.key.0, &columns)
                }
                None => rebase.writer_mut().delete(index, &key),
            };
            rebase.check(written)?;
            done.rows += 1;
            if let Some(local) = &row.local {
                keep(&tx, row, local, now_ms)?;
                done.kept += 1;
            }
        }
        rebase.finish(start.cursor(), None)?;
        self.commit_write(tx)?;
        Ok(done)
    }
}

/// Appends the insert that is marked as rejected.
fn keep(tx: &rusqlite::Connection, row: &Difference, local: &Image, now_ms: i64) -> Result<()> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO driftless_outbox (ms, tail, tbl, pk, op, after, base, actor, aside, refuse)
         SELECT max(clock, ?1), random() & ?6, ?2, ?3, 0, ?4, cursor, actor, 1, ?5
         FROM driftless_state",
    )?;
    let mask = EventId::TAIL_MASK;
    statement.execute((now_ms, &row.table, &row.key.0, local.to_json(), REASON, mask))?;
    Ok(())
}
