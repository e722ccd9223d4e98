//! Events that wait although pushes go: the remote's table cannot take them as it is.
//!
//! The web application has dropped the table, or its key is another one, or it requires a column
//! that inserts from here do not have. Such events are not sent, and nothing of them is refused.
//! They stay in the outbox, and later events pass them: `sent` goes beyond their numbers. When the
//! obstacle is gone, `sent` goes back, and all behind the first of them is sent again; the remote
//! knows by their ids those that it has.
//!
//! The obstacles are found where the definitions of both sides are compared, and kept in the file,
//! so that any process can say what waits. Which events wait follows from them and the outbox.
//!
//! An obstacle is one of a whole table, or one of inserts that lack a value. With such an insert
//! wait the later events of its row, and the rows that refer to it.

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

/// The setting that has the obstacles.
const SETTING: &str = "obstacles";

/// What is needed to read events of the outbox.
struct HeldFinder<'a> {
    db: &'a Connection,
    layouts: &'a Layouts,
    tables: Vec<&'a Table>,
}

impl HeldFinder<'_> {
    /// Looks at the pending events up to `to` that were not looked at yet.
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
    // What another version has kept is of no use: the definitions are compared before a push.
    Ok(json.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default())
}

impl Store {
    /// Brings what is known of the events that wait up to date, up to the number `to`.
    pub(in crate::store) fn refresh_held(&self, db: &Connection, to: i64) -> Result<()> {
        let mut pending = self.outbox.pending_mut();
        let held = pending.held_mut();
        if held.is_idle() {
            return Ok(());
        }
        let tables = self.tables.iter().map(|known| &known.table).collect();
        HeldFinder { db, layouts: self.outbox.layouts(), tables }.on(held, to)
    }

    /// Notes why events cannot be pushed now. Those whose obstacle is gone count as unsent, and so
    /// do all behind them.
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

    /// The tables of which not everything flows.
    pub fn waiting_tables(&self) -> Result<Vec<Waiting>> {
        let newest = self.newest()?;
        self.refresh_held(&self.db, newest)?;
        let pending = self.outbox.pending();
        Ok(pending.held().counted(|n| pending.has(n)))
    }
}
