//! Reads the local log: settled events from their sealed frames, then the pending ones.

pub(in crate::store) mod reader;
pub(in crate::store) mod revert;
pub(in crate::store) mod row_index;

use std::ops::ControlFlow;

use rusqlite::{Connection, OptionalExtension, Row};
use ulid::Ulid;

use super::Store;
use super::outbox::pending::event_id;
use super::outbox::reader::{COLUMNS, Layouts};
use crate::error::Result;
use crate::event::frame::{Sealed, open};
use crate::event::value::Value;
use crate::event::verdict::Verdict;
use crate::event::{Event, EventId, Image, Op, Origin, RowKey, Seq};

/// An event of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The remote has decided about it, and this replica has integrated the decision.
    Settled(Event),
    /// It is in the outbox.
    Pending(PendingEntry),
}

/// A local event without a known verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingEntry {
    /// Its number in the outbox.
    pub n: i64,
    /// Its id.
    pub id: EventId,
    /// Who made it.
    pub actor: Option<String>,
    /// The table.
    pub table: String,
    /// The row.
    pub key: RowKey,
    /// What happened to it.
    pub op: Op,
    /// The old values.
    pub before: Option<Image>,
    /// The new values.
    pub after: Option<Image>,
    /// The newest seq that its writer had seen.
    pub base: Seq,
    /// Whether it is set aside: it is off its row because it has probably lost.
    pub aside: bool,
    /// The event because of which it was set aside, if there is one.
    pub winner: Option<Seq>,
    /// The remote's message when this event alone was pushed.
    pub refuse: Option<String>,
}

impl Entry {
    /// The event's id.
    pub fn id(&self) -> EventId {
        match self {
            Entry::Settled(event) => event.id,
            Entry::Pending(event) => event.id,
        }
    }

    /// What it did.
    pub fn op(&self) -> Op {
        match self {
            Entry::Settled(event) => event.op,
            Entry::Pending(event) => event.op,
        }
    }

    /// Its old and new values.
    pub(crate) fn images(&self) -> (Option<&Image>, Option<&Image>) {
        match self {
            Entry::Settled(event) => (event.before.as_ref(), event.after.as_ref()),
            Entry::Pending(event) => (event.before.as_ref(), event.after.as_ref()),
        }
    }

    /// Its table and row.
    pub fn row(&self) -> (&str, &RowKey) {
        match self {
            Entry::Settled(event) => (&event.table, &event.key),
            Entry::Pending(event) => (&event.table, &event.key),
        }
    }
}

/// A verdict, or none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventState {
    /// In the remote's tables.
    Applied,
    /// Lost to another writer.
    Superseded,
    /// Broke a constraint.
    Rejected,
    /// Not decided, as far as this replica knows.
    Pending,
}

/// Selects events. A field that is `None` selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// The events of this table.
    pub table: Option<String>,
    /// The events of this row. The key's values are separated by commas, or are a JSON array.
    pub key: Option<String>,
    /// The events of this writer.
    pub origin: Option<Origin>,
    /// The events with this verdict.
    pub verdict: Option<EventState>,
    /// The events made at this time or later: ms since 1970, by the writer's clock.
    pub since_ms: Option<i64>,
    /// The events made at this time or earlier.
    pub until_ms: Option<i64>,
    /// The events after this place in the log. Pending events are after every place.
    pub after_seq: Option<Seq>,
    /// The events up to this place in the log.
    pub until_seq: Option<Seq>,
    /// The events of a former remote's log: the number of the identity that ended with it
    /// ([`PastIdentity`](super::PastIdentity)). It has no pending events.
    pub former: Option<i64>,
    /// By this actor, as the application set it.
    pub actor: Option<String>,
    /// Pushed together with others under this unit.
    pub unit: Option<Ulid>,
    /// With this text in a value that it set or took away, or in its key. Numbers are searched as
    /// they are printed.
    pub text: Option<String>,
    /// The newest event first: the pending ones, and then the log backwards.
    pub reverse: bool,
}

impl LogFilter {
    fn takes(&self, me: Origin, entry: &Entry) -> bool {
        let (seq, origin, state) = match entry {
            Entry::Pending(_) => (Seq(i64::MAX), me, EventState::Pending),
            Entry::Settled(event) => {
                let state = match event.verdict {
                    Verdict::Applied => EventState::Applied,
                    Verdict::Superseded(_) => EventState::Superseded,
                    Verdict::Rejected(_) => EventState::Rejected,
                };
                (event.seq, event.origin, state)
            }
        };
        let (table, key) = entry.row();
        let ms = entry.id().ms();
        let (actor, unit) = match entry {
            Entry::Pending(event) => (&event.actor, None),
            Entry::Settled(event) => (&event.actor, event.unit),
        };
        self.table.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(table))
            && self.key.as_ref().is_none_or(|wanted| key.0 == *wanted || key.to_string() == *wanted)
            && self.origin.is_none_or(|wanted| wanted == origin)
            && self.verdict.is_none_or(|wanted| wanted == state)
            && self.since_ms.is_none_or(|since| ms >= since)
            && self.until_ms.is_none_or(|until| ms <= until)
            && self.until_seq.is_none_or(|until| seq <= until)
            && (self.actor.is_none() || self.actor == *actor)
            && (self.unit.is_none() || self.unit == unit)
            && self.text.as_ref().is_none_or(|text| has_text(entry, text))
    }
}

/// Whether a text is in an event's key or in one of its values.
fn has_text(entry: &Entry, text: &str) -> bool {
    let (before, after) = entry.images();
    let has = |value: &Value| match value {
        Value::Null => false,
        Value::Blob(blob) => memchr::memmem::find(blob, text.as_bytes()).is_some(),
        Value::Text(value) => memchr::memmem::find(value, text.as_bytes()).is_some(),
        value => value.to_string().contains(text),
    };
    let mut values = [before, after].into_iter().flatten().flat_map(|image| &image.0);
    values.any(|(_, value)| has(value)) || entry.row().1.to_string().contains(text)
}

/// What [`pending`] reads behind [`COLUMNS`].
const MORE: &str = "ms, tail, base, actor, aside, winner, refuse";

fn pending(db: &Connection, layouts: &Layouts, row: &Row<'_>) -> Result<PendingEntry> {
    let mut read = layouts.read(db, row, 0, None)?;
    let ((before, after), op) = (read.take_images(), read.op());
    let (table, key) = read.into_row();
    let n = row.get(0)?;
    Ok(PendingEntry {
        n,
        id: event_id(row.get(8)?, n, row.get(9)?),
        table,
        key,
        op,
        before: before.as_deref().map(Image::parse).transpose()?,
        after: after.as_deref().map(Image::parse).transpose()?,
        base: Seq(row.get(10)?),
        actor: row.get(11)?,
        aside: row.get(12)?,
        winner: row.get::<_, Option<i64>>(13)?.map(Seq),
        refuse: row.get(14)?,
    })
}

/// The event in a row of seq, header and values.
pub(in crate::store) fn frame(row: &Row<'_>) -> Result<Event> {
    let sealed = Sealed { header: row.get(1)?, values: row.get(2)? };
    open(&sealed, Seq(row.get(0)?))
}

/// The frames from `?2` on of the present log, or of a former remote's (`?1`).
fn frames(former: Option<i64>) -> &'static str {
    match former {
        None => {
            "SELECT seq, header, vals FROM driftless_log WHERE ?1 IS NULL AND seq > ?2 ORDER BY seq"
        }
        Some(_) => {
            "SELECT seq, header, vals FROM driftless_old_log WHERE former = ?1 AND seq > ?2
             ORDER BY seq"
        }
    }
}

/// The id of the settled event at a place in the log.
pub(in crate::store) fn settled_id(db: &Connection, seq: Seq) -> Result<Option<EventId>> {
    let mut statement = db.prepare_cached("SELECT id FROM driftless_log WHERE seq = ?1")?;
    let id = statement.query_row([seq.0], |row| row.get::<_, [u8; 16]>(0)).optional()?;
    Ok(id.map(|bytes| EventId(ulid::Ulid::from_bytes(bytes))))
}

impl Store {
    /// Calls `visit` with the events that `filter` selects: first the settled ones in the order of
    /// the log, then the pending ones in the order of the outbox. If the filter is reversed, the
    /// order is the opposite.
    ///
    /// # Errors
    ///
    /// An error of `visit` ends the walk. `Corrupt` when a frame is damaged, `Storage` when the
    /// database fails.
    pub fn log(
        &self,
        filter: &LogFilter,
        visit: &mut dyn FnMut(Entry) -> Result<()>,
    ) -> Result<()> {
        self.walk_log(filter, &mut |entry| visit(entry).map(ControlFlow::Continue))
    }

    /// The same; the walk ends, too, when `visit` breaks it.
    ///
    /// # Errors
    ///
    /// As for [`Store::log`].
    pub fn walk_log(
        &self,
        filter: &LogFilter,
        visit: &mut dyn FnMut(Entry) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        // One snapshot, so that an event that becomes settled meanwhile is not missed.
        let tx = self.db.unchecked_transaction()?;
        let wants_settled = filter.verdict != Some(EventState::Pending);
        let wants_pending = filter.former.is_none()
            && filter.unit.is_none()
            && matches!(filter.verdict, None | Some(EventState::Pending));
        let parts = [(wants_settled, false), (wants_pending, true)];
        let order = if filter.reverse { [1, 0] } else { [0, 1] };
        for (wanted, pending) in order.map(|at| parts[at]) {
            if !wanted {
                continue;
            }
            let flow = match pending {
                true => self.walk_pending(&tx, filter, visit)?,
                false => self.walk_settled(&tx, filter, visit)?,
            };
            if flow.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn walk_settled(
        &self,
        tx: &Connection,
        filter: &LogFilter,
        visit: &mut dyn FnMut(Entry) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let me = Origin::Replica(self.id);
        let sql = frames(filter.former);
        let sql = if filter.reverse { format!("{sql} DESC") } else { sql.to_owned() };
        let mut statement = tx.prepare_cached(&sql)?;
        let mut rows = statement.query((filter.former, filter.after_seq.unwrap_or_default().0))?;
        while let Some(row) = rows.next()? {
            let entry = Entry::Settled(frame(row)?);
            if filter.takes(me, &entry) && visit(entry)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn walk_pending(
        &self,
        tx: &Connection,
        filter: &LogFilter,
        visit: &mut dyn FnMut(Entry) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let me = Origin::Replica(self.id);
        let order = if filter.reverse { "DESC" } else { "ASC" };
        let sql = format!(
            "SELECT {COLUMNS}, {MORE} FROM driftless_outbox WHERE NOT settled ORDER BY n {order}"
        );
        let mut statement = tx.prepare_cached(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let entry = Entry::Pending(pending(tx, self.outbox.layouts(), row)?);
            if filter.takes(me, &entry) && visit(entry)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// One event, by its id. Another writer's event is found by reading the log.
    ///
    /// # Errors
    ///
    /// As for [`Store::log`].
    pub fn event(&self, id: EventId) -> Result<Option<Entry>> {
        if let Some(event) = own_event(&self.db, None, id)? {
            return Ok(Some(Entry::Settled(event)));
        }
        {
            let sql = format!(
                "SELECT {COLUMNS}, {MORE} FROM driftless_outbox WHERE NOT settled AND n = ?1"
            );
            let mut statement = self.db.prepare_cached(&sql)?;
            let mut rows = statement.query([id.outbox_number()])?;
            if let Some(row) = rows.next()? {
                let event = pending(&self.db, self.outbox.layouts(), row)?;
                if event.id == id {
                    return Ok(Some(Entry::Pending(event)));
                }
            }
        }
        for sql in [
            "SELECT seq, header, vals FROM driftless_log WHERE id = ?1 LIMIT 1",
            "SELECT seq, header, vals FROM driftless_old_log WHERE id = ?1
             ORDER BY former DESC LIMIT 1",
        ] {
            let mut statement = self.db.prepare_cached(sql)?;
            let mut rows = statement.query([id.0.to_bytes().as_slice()])?;
            if let Some(row) = rows.next()? {
                return Ok(Some(Entry::Settled(frame(row)?)));
            }
        }
        Ok(None)
    }

    /// The settled event at a place in the log.
    ///
    /// # Errors
    ///
    /// As for [`Store::log`].
    pub fn settled(&self, seq: Seq) -> Result<Option<Event>> {
        settled_in(&self.db, None, seq)
    }

    /// A settled event of any writer that is in the log before `seq`. The search goes backwards
    /// from there.
    pub(in crate::store) fn logged_before(&self, id: EventId, seq: Seq) -> Result<Option<Event>> {
        let sql = "SELECT seq FROM driftless_log WHERE id = ?1 AND seq < ?2
                   ORDER BY seq DESC LIMIT 1";
        let mut statement = self.db.prepare_cached(sql)?;
        let id = id.0.to_bytes();
        let seq = statement.query_row((id.as_slice(), seq.0), |row| row.get(0)).optional()?;
        seq.map_or(Ok(None), |seq| self.settled(Seq(seq)))
    }
}

/// The settled event at a place in the present log, or in a former remote's.
pub(in crate::store) fn settled_in(
    db: &Connection,
    former: Option<i64>,
    seq: Seq,
) -> Result<Option<Event>> {
    let mut statement = db.prepare_cached(frames(former))?;
    let mut rows = statement.query((former, seq.0.saturating_sub(1)))?;
    let event = rows.next()?.map(frame).transpose()?;
    Ok(event.filter(|event| event.seq == seq))
}

/// A settled event that was in this file's outbox, from the present log or a former remote's.
pub(in crate::store) fn own_event(
    db: &Connection,
    former: Option<i64>,
    id: EventId,
) -> Result<Option<Event>> {
    let sql = match former {
        None => "SELECT seq FROM driftless_log WHERE ?1 IS NULL AND id = ?2 AND own",
        Some(_) => "SELECT seq FROM driftless_old_log WHERE id = ?2 AND own AND former = ?1",
    };
    let mut statement = db.prepare_cached(sql)?;
    let id = id.0.to_bytes();
    let seq = statement.query_row((former, id.as_slice()), |row| row.get(0)).optional()?;
    match seq {
        Some(seq) => settled_in(db, former, Seq(seq)),
        None => Ok(None),
    }
}
