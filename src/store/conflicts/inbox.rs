//! The conflict inbox: local events that lost, each with the winner.
//!
//! [`record`](super::record) writes the inbox, and this module lists it. A key change is a pair of
//! events and is listed once, as its delete. The lost events of one transaction of the application
//! form a group: see [`selection`](super::selection). [`restore`](super::restore) writes lost
//! values again.

use rusqlite::{Transaction, TransactionBehavior};

use super::entry::{ConflictKind, ConflictState};
use super::selection::{ConflictFilter, InboxRow, Index, Selection};
use crate::error::{Code, Error, Result};
use crate::event::value::Value;
use crate::event::verdict::TOO_LARGE;
use crate::event::{Event, EventId, Image, Op, Seq};
use crate::store::Store;
use crate::store::log::{own_event, settled_in};

/// A local event that lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The event, with the remote's verdict. For a key change, the delete.
    pub event: Event,
    /// The insert, for a key change.
    pub insert: Option<Event>,
    /// How it lost.
    pub kind: ConflictKind,
    /// The event that won, if there is one and it is known here.
    pub winner: Option<Event>,
    /// The row as the remote had it when the loss became known; `None` if it was gone.
    pub theirs: Option<Image>,
    /// What was done about it.
    pub state: ConflictState,
    /// When the loss became known here: ms since 1970.
    pub noticed_ms: i64,
    /// The group: lost events that may be of one transaction have the same value, the id of the
    /// first of them.
    pub group: EventId,
    /// For a former remote: the number of the identity that ended with it, as in the log's filter
    /// ([`LogFilter`](crate::store::LogFilter)). The seqs of its events are places in that remote's
    /// log.
    pub former: Option<i64>,
}

/// The key with which a lost insert is restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewKey {
    /// A number that no row has. The table's key must be one INTEGER PRIMARY KEY.
    Fresh,
    /// These values, in the order of the table's key.
    Values(Vec<Value>),
}

/// The number of conflicts of a table, a kind and a state.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ConflictCount {
    /// The table.
    pub table: String,
    /// How they lost.
    pub kind: ConflictKind,
    /// What was done about them.
    pub state: ConflictState,
    /// How many.
    pub count: usize,
}

/// The result of dismissing conflicts.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Dismissed {
    /// These were dismissed now.
    pub dismissed: Vec<EventId>,
    /// These were not open before.
    pub already: Vec<EventId>,
}

impl Store {
    /// The conflicts that `filter` selects, without the first `skip` of them, and at most `limit`.
    /// No others are read from the log. They are in the order of the log, but the conflicts of a
    /// group are neighbours.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails, `Corrupt` when an event's frame is damaged.
    pub fn conflict_page(
        &self,
        filter: &ConflictFilter,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Conflict>> {
        let tx = self.db.unchecked_transaction()?;
        let rows = self.inbox_rows(&tx)?;
        let wanted = rows.iter().filter(|row| filter.takes_row(row)).skip(skip).take(limit);
        wanted.map(|row| self.read_conflict(row)).collect()
    }

    /// The number of conflicts of each table, kind and state.
    pub fn conflict_counts(&self) -> Result<Vec<ConflictCount>> {
        let sql = "SELECT coalesce(tbl, ''), kind, state, count(*) FROM
                     (SELECT tbl, kind, state FROM driftless_conflicts
                      UNION ALL SELECT tbl, kind, state FROM driftless_old_conflicts)
                   GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";
        let mut statement = self.db.prepare_cached(sql)?;
        let counts = statement.query_map([], |row| {
            Ok(ConflictCount {
                table: row.get(0)?,
                kind: ConflictKind::read(row.get_ref(1)?.as_str()?),
                state: ConflictState::read(row.get_ref(2)?.as_str()?),
                count: row.get::<_, i64>(3)? as usize,
            })
        })?;
        Ok(counts.collect::<rusqlite::Result<_>>()?)
    }

    /// The ids of all conflicts, open or not.
    pub fn conflict_ids(&self) -> Result<Vec<EventId>> {
        let sql = "SELECT id FROM driftless_old_conflicts UNION ALL
                   SELECT id FROM driftless_conflicts";
        let mut statement = self.db.prepare_cached(sql)?;
        let ids = statement.query_map([], |row| row.get::<_, [u8; 16]>(0))?;
        ids.map(|id| Ok(EventId(ulid::Ulid::from_bytes(id?)))).collect()
    }

    /// The conflict of one event. Either event of a key change selects it.
    ///
    /// # Errors
    ///
    /// `Usage` when the event is not in the inbox; and as for [`Store::conflict_page`].
    pub fn conflict(&self, id: EventId) -> Result<Conflict> {
        let tx = self.db.unchecked_transaction()?;
        let rows = self.inbox_rows(&tx)?;
        self.read_conflict(self.find(&Index::of(&rows), id)?)
    }

    /// The lost event at a place in a log. For a key change, both of its events.
    pub(in crate::store) fn lost(
        &self,
        former: Option<i64>,
        seq: Seq,
    ) -> Result<(Event, Option<Event>)> {
        let event = settled_in(&self.db, former, seq)?.ok_or_else(|| {
            Error::new(Code::LogDamaged, format!("event {seq} lost, but is not in the log"))
        })?;
        let insert = match event.pair {
            Some(pair) if event.op == Op::Delete => own_event(&self.db, former, pair)?,
            _ => None,
        };
        let insert = insert.map(|insert| self.with_values(insert)).transpose()?;
        Ok((self.with_values(event)?, insert))
    }

    pub(in crate::store) fn read_conflict(&self, row: &InboxRow) -> Result<Conflict> {
        let (former, seq) = row.place();
        let sql = match former {
            None => {
                "SELECT winner, theirs, noticed FROM driftless_conflicts
                 WHERE ?1 IS NULL AND seq = ?2"
            }
            Some(_) => {
                "SELECT winner, theirs, noticed FROM driftless_old_conflicts
                 WHERE former = ?1 AND seq = ?2"
            }
        };
        let mut statement = self.db.prepare_cached(sql)?;
        let (winner, theirs, noticed_ms) = statement.query_row((former, seq.0), |row| {
            let (winner, theirs): (Option<i64>, Option<String>) = (row.get(0)?, row.get(1)?);
            Ok((winner, theirs, row.get(2)?))
        })?;
        let (event, insert) = self.lost(former, seq)?;
        let winner = match winner {
            Some(winner) => settled_in(&self.db, former, Seq(winner))?,
            None => None,
        };
        Ok(Conflict {
            event,
            insert,
            kind: row.kind(),
            winner,
            theirs: theirs.map(|json| Image::parse(json.as_bytes())).transpose()?,
            state: row.state(),
            noticed_ms,
            group: row.group(),
            former,
        })
    }

    /// Restores the values of an own event that was too large to be pushed with them.
    fn with_values(&self, mut event: Event) -> Result<Event> {
        if event.verdict.reason() != Some(TOO_LARGE) {
            return Ok(event);
        }
        let sql = "SELECT before, after FROM driftless_kept WHERE id = ?1";
        let mut statement = self.db.prepare_cached(sql)?;
        let mut rows = statement.query([event.id.0.to_bytes().as_slice()])?;
        if let Some(row) = rows.next()? {
            for (index, image) in [&mut event.before, &mut event.after].into_iter().enumerate() {
                let json = row.get_ref(index)?.as_bytes_or_null().map_err(rusqlite::Error::from)?;
                *image = json.map(Image::parse).transpose()?;
            }
        }
        Ok(event)
    }

    /// Dismisses conflicts, in one transaction.
    ///
    /// # Errors
    ///
    /// As for [`Store::conflict`]. Then nothing has changed.
    pub fn dismiss_selected(&mut self, wanted: &Selection) -> Result<Dismissed> {
        let tx = Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate)?;
        let rows = self.inbox_rows(&tx)?;
        let mut done = Dismissed::default();
        for row in self.select(&rows, wanted)? {
            if row.state() == ConflictState::Open {
                row.close(&tx, ConflictState::Dismissed)?;
                done.dismissed.push(row.id());
            } else {
                done.already.push(row.id());
            }
        }
        tx.commit()?;
        Ok(done)
    }
}
