//! Events that are held back while later ones are pushed: the remote's table cannot accept them.
//!
//! The web application has dropped the table, or has changed its key, or requires a column that
//! inserts from here lack. Such events are not sent, and none of them is rejected. They stay in the
//! outbox, and later events pass them: `sent` goes beyond their numbers. When the obstacle is gone,
//! `sent` goes back, and all events from the first held one on are sent again. The remote
//! recognises by their ids the events that it has.
//!
//! The obstacles are found when the definitions of both sides are compared. They are stored in the
//! file, so that any process can show them. The held events follow from the obstacles and the
//! outbox.
//!
//! An obstacle concerns a whole table, or only inserts that lack a value. In the second case the
//! later events of the same row, and rows that refer to it, are held back too.

pub(super) mod held;

use rusqlite::{Connection, Row};

use self::held::{Held, Holds, Obstacle, Waiting};
use super::Store;
use super::connection::{set_setting, setting};
use super::outbox::pending::row_hash;
use super::outbox::reader::{Layouts, Reader};
use super::outbox::row::{EVENT, read};
use crate::catalog::Table;
use crate::error::{Error, Kind, Result};
use crate::event::RowKey;

/// The setting with the obstacles.
const SETTING: &str = "obstacles";

/// The data for reading events of the outbox.
struct HeldFinder<'a> {
    db: &'a Connection,
    layouts: &'a Layouts,
    tables: Vec<&'a Table>,
}

impl HeldFinder<'_> {
    /// Examines the pending events up to `to` that were not examined yet.
    fn on(&self, held: &mut Held, to: i64) -> Result<()> {
        if !held.is_read() {
            *held = Held::of(obstacles(self.db)?);
        }
        if held.is_idle() || to <= held.seen() {
            return Ok(());
        }
        let sql = format!(
            "SELECT {EVENT} FROM driftless_outbox
             WHERE n > ?1 AND n <= ?2 AND NOT settled ORDER BY n"
        );
        let mut statement = self.db.prepare_cached(&sql)?;
        let mut found = statement.query([held.seen(), to])?;
        let mut reader = Reader::of_values(self.db, self.layouts);
        while let Some(row) = found.next()? {
            if let Some(obstacle) = self.obstacle_of(held, &mut reader, row)? {
                held.hold(row.get(0)?, obstacle);
            }
        }
        held.looked_up_to(to);
        Ok(())
    }

    fn obstacle_of(
        &self,
        held: &mut Held,
        reader: &mut Reader<'_>,
        row: &Row<'_>,
    ) -> Result<Option<usize>> {
        let table = match self.layouts.table(self.db, row, 0) {
            Ok(table) => table,
            // A damaged event is reported when it is to be pushed.
            Err(error) if error.kind() == Kind::Corrupt => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_of = |obstacle: &Obstacle| obstacle.table.eq_ignore_ascii_case(&table);
        let whole = |obstacle: &Obstacle| obstacle.holds == Holds::All && is_of(obstacle);
        if let Some(at) = held.known().iter().position(whole) {
            return Ok(Some(at));
        }
        if !held.known().iter().any(|obstacle| matches!(obstacle.holds, Holds::Inserts(_))) {
            return Ok(None);
        }
        match read(reader, row) {
            Ok(row) => Ok(held.look(row.event(), row.key_change_half(), &self.tables)),
            Err(error) if error.kind() == Kind::Corrupt => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn obstacles(db: &Connection) -> Result<Vec<Obstacle>> {
    let json = setting(db, SETTING)?;
    // A list that another version has stored is not used: the definitions are compared before a
    // push.
    Ok(json.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default())
}

impl Store {
    /// Updates the held events, up to the number `to`.
    pub(in crate::store) fn refresh_held(&self, db: &Connection, to: i64) -> Result<()> {
        let mut pending = self.outbox.pending_mut();
        let held = pending.held_mut();
        if held.is_idle() {
            return Ok(());
        }
        let tables = self.tables.iter().map(|known| &known.table).collect();
        HeldFinder { db, layouts: self.outbox.layouts(), tables }.on(held, to)
    }

    /// Stores why events cannot be pushed now. Events whose obstacle is gone, and all events after
    /// them, count as unsent again.
    pub fn set_obstacles(&mut self, found: &[Obstacle]) -> Result<()> {
        if obstacles(&self.db)? == found {
            return Ok(());
        }
        let json = serde_json::to_string(found).map_err(|source| {
            Error::storage("what is in the way of events cannot be kept").with_source(source)
        })?;
        let tables: Vec<Table> = self.tables.iter().map(|known| known.table.clone()).collect();
        let tx = self.begin_write()?;
        let newest = "SELECT coalesce(max(n), 0) FROM driftless_outbox";
        let newest: i64 = tx.query_row(newest, [], |row| row.get(0))?;
        let finder =
            HeldFinder { db: &tx, layouts: self.outbox.layouts(), tables: tables.iter().collect() };
        let (mut former, mut now) = (Held::default(), Held::of(found.to_vec()));
        finder.on(&mut former, newest)?;
        finder.on(&mut now, newest)?;
        if let Some(first) = former.first_beside(&now) {
            let sql = "UPDATE driftless_state SET sent = min(sent, ?1)";
            tx.prepare_cached(sql)?.execute([first - 1])?;
        }
        set_setting(&tx, SETTING, Some(&json).filter(|_| !found.is_empty()).map(String::as_str))?;
        self.commit_write(tx)?;
        *self.outbox.pending_mut().held_mut() = now;
        Ok(())
    }

    /// Whether a row has pending events.
    pub(crate) fn has_pending(&self, table: &str, key: &RowKey) -> Result<bool> {
        let cursor = self.place()?.seq;
        let mut pending = self.outbox.pending_mut();
        pending.refresh(&self.db, self.outbox.layouts(), cursor)?;
        Ok(!pending.of_row(row_hash(table, &key.0)).is_empty())
    }

    /// The tables with events that are held back.
    pub fn waiting_tables(&self) -> Result<Vec<Waiting>> {
        let newest = self.newest()?;
        self.refresh_held(&self.db, newest)?;
        let pending = self.outbox.pending();
        Ok(pending.held().counted(|n| pending.has(n)))
    }
}
