//! Selects rows of the inbox, and groups them by transaction.
//!
//! SQLite tells a trigger nothing about its transaction, so an event does not say which transaction
//! it is of. The ends of some transactions are known
//! ([`boundaries`](crate::store::outbox::boundaries)), and the time of each event. Two events are
//! assumed to be of one transaction if no boundary is known between them, and if the events of this
//! file between them have no pause longer than [`PAUSE_MS`].
//!
//! So a group may contain several transactions that followed each other quickly while no replicator
//! was running. It splits a transaction only if that paused for so long. A group that is too small
//! is inconvenient. One that is too large would overwrite more of other people's changes than
//! intended.

use std::collections::{BTreeSet, HashMap, HashSet};

use rusqlite::{Connection, Row};

use super::entry::{ConflictKind, ConflictState};
use crate::error::{Code, Error, Result};
use crate::event::{EventId, Seq};
use crate::store::Store;
use crate::store::log::own_event;

/// The longest pause between two changes of one transaction, in ms. A desktop application makes the
/// changes of a transaction within milliseconds. A person needs seconds between two transactions.
const PAUSE_MS: i64 = 1_000;

/// Selects conflicts. A field that is `None` selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConflictFilter {
    /// The conflicts of this table.
    pub table: Option<String>,
    /// The conflicts of this kind.
    pub kind: Option<ConflictKind>,
    /// Whether closed conflicts are included.
    pub closed: bool,
}

impl ConflictFilter {
    pub(crate) fn takes(&self, table: &str, kind: ConflictKind, state: ConflictState) -> bool {
        (self.closed || state == ConflictState::Open)
            && self.kind.is_none_or(|wanted| wanted == kind)
            && self.table.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(table))
    }

    pub(in crate::store) fn takes_row(&self, row: &InboxRow) -> bool {
        self.takes(&row.table, row.kind, row.state)
    }
}

/// The conflicts on which a command acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// These, open or not. Either event of a key change selects it.
    Events(Vec<EventId>),
    /// These, and the open conflicts of their groups.
    Together(Vec<EventId>),
    /// All open conflicts that the filter selects.
    Matching(ConflictFilter),
}

/// A row of the inbox, without its events.
#[derive(Clone, Debug)]
pub(in crate::store) struct InboxRow {
    former: Option<i64>,
    seq: Seq,
    id: EventId,
    kind: ConflictKind,
    state: ConflictState,
    table: String,
    ends: Option<i64>,
    group: EventId,
}

impl InboxRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<InboxRow> {
        let id = EventId(ulid::Ulid::from_bytes(row.get(2)?));
        Ok(InboxRow {
            former: row.get(0)?,
            seq: Seq(row.get(1)?),
            id,
            kind: ConflictKind::read(row.get_ref(3)?.as_str()?),
            state: ConflictState::read(row.get_ref(4)?.as_str()?),
            table: row.get::<_, Option<String>>(5)?.unwrap_or_default(),
            ends: row.get(6)?,
            group: id,
        })
    }

    /// The former remote, if the event is in its log, and the place in the log.
    pub(in crate::store) fn place(&self) -> (Option<i64>, Seq) {
        (self.former, self.seq)
    }

    pub(in crate::store) fn id(&self) -> EventId {
        self.id
    }

    pub(in crate::store) fn kind(&self) -> ConflictKind {
        self.kind
    }

    pub(in crate::store) fn state(&self) -> ConflictState {
        self.state
    }

    /// Records what was done about it.
    pub(in crate::store) fn close(&self, db: &Connection, state: ConflictState) -> Result<()> {
        close(db, self.former, self.seq, state)
    }

    /// The group: rows that may be of one transaction have the same value.
    pub(in crate::store) fn group(&self) -> EventId {
        self.group
    }
}

/// The inbox, indexed by the ids of its events.
pub(in crate::store) struct Index<'p> {
    by_id: HashMap<EventId, &'p InboxRow>,
    /// The numbers of the former logs. The present log is the last one.
    formers: Vec<Option<i64>>,
}

impl<'p> Index<'p> {
    pub(in crate::store) fn of(rows: &'p [InboxRow]) -> Self {
        let formers: BTreeSet<_> = rows.iter().filter_map(|row| row.former).collect();
        Index {
            by_id: rows.iter().map(|row| (row.id, row)).collect(),
            formers: formers.into_iter().map(Some).chain([None]).collect(),
        }
    }
}

impl Store {
    /// All rows of the inbox: see [`Store::conflict_page`] for their order.
    pub(in crate::store) fn inbox_rows(&self, tx: &Connection) -> Result<Vec<InboxRow>> {
        let sql = "SELECT former, seq, id, kind, state, tbl, ends FROM driftless_old_conflicts
             UNION ALL SELECT NULL, seq, id, kind, state, tbl, ends FROM driftless_conflicts";
        let mut statement = tx.prepare_cached(sql)?;
        let mut rows = statement
            .query_map([], InboxRow::read)?
            .collect::<rusqlite::Result<Vec<InboxRow>>>()?;
        group(tx, &mut rows)?;
        let mut first: HashMap<EventId, Seq> = HashMap::new();
        for row in &rows {
            let seq = first.entry(row.group).or_insert(row.seq);
            *seq = row.seq.min(*seq);
        }
        rows.sort_by_key(|row| (row.former.is_none(), row.former, first[&row.group], row.seq));
        Ok(rows)
    }

    /// The row of one event, or of the other half of its key change.
    pub(in crate::store) fn find<'p>(
        &self,
        index: &Index<'p>,
        id: EventId,
    ) -> Result<&'p InboxRow> {
        if let Some(row) = index.by_id.get(&id) {
            return Ok(row);
        }
        for &former in index.formers.iter().rev() {
            let pair = own_event(&self.db, former, id)?.and_then(|event| event.pair);
            if let Some(row) = pair.and_then(|pair| index.by_id.get(&pair)) {
                return Ok(row);
            }
        }
        Err(Error::new(Code::NoSuchEvent, format!("event {id} is not in the conflict inbox"))
            .with_hint("`driftless conflicts` lists the inbox"))
    }

    /// The selected rows. A row that is named twice is returned once.
    pub(in crate::store) fn select(
        &self,
        rows: &[InboxRow],
        wanted: &Selection,
    ) -> Result<Vec<InboxRow>> {
        let index = Index::of(rows);
        let taken: Vec<&InboxRow> = match wanted {
            Selection::Matching(filter) => {
                let filter = ConflictFilter { closed: false, ..filter.clone() };
                rows.iter().filter(|row| filter.takes_row(row)).collect()
            }
            Selection::Together(ids) => {
                let (mut groups, mut named) = (HashSet::new(), HashSet::new());
                for &id in ids {
                    let row = self.find(&index, id)?;
                    groups.insert((row.former, row.group));
                    named.insert((row.former, row.seq));
                }
                let open = |row: &&InboxRow| {
                    groups.contains(&(row.former, row.group))
                        && (row.state == ConflictState::Open
                            || named.contains(&(row.former, row.seq)))
                };
                rows.iter().filter(open).collect()
            }
            Selection::Events(ids) => {
                let mut named = HashSet::new();
                for &id in ids {
                    let row = self.find(&index, id)?;
                    named.insert((row.former, row.seq));
                }
                let named = |row: &&InboxRow| named.contains(&(row.former, row.seq));
                rows.iter().filter(named).collect()
            }
        };
        Ok(taken.into_iter().cloned().collect())
    }
}

/// Records what was done about a conflict.
pub(in crate::store) fn close(
    db: &Connection,
    former: Option<i64>,
    seq: Seq,
    state: ConflictState,
) -> Result<()> {
    let sql = match former {
        None => "UPDATE driftless_conflicts SET state = ?3 WHERE ?1 IS NULL AND seq = ?2",
        Some(_) => "UPDATE driftless_old_conflicts SET state = ?3 WHERE former = ?1 AND seq = ?2",
    };
    db.prepare_cached(sql)?.execute((former, seq.0, state.as_str()))?;
    Ok(())
}

/// Sets the groups. The value of each is the id of the first of its events.
fn group(db: &Connection, rows: &mut [InboxRow]) -> Result<()> {
    rows.sort_by_key(|row| (row.former, row.id.outbox_number(), row.id));
    for at in 1..rows.len() {
        let (before, here) = (&rows[at - 1], &rows[at]);
        let known = here.ends.is_some() && before.ends == here.ends;
        if known && before.former == here.former && is_close(db, before, here)? {
            rows[at].group = rows[at - 1].group;
        }
    }
    Ok(())
}

/// Whether this file's events have no long pause between these two.
fn is_close(db: &Connection, from: &InboxRow, to: &InboxRow) -> Result<bool> {
    if to.id.ms() - from.id.ms() <= PAUSE_MS {
        return Ok(true);
    }
    let mut times = between(db, from, to)?;
    times.extend([from.id.ms(), to.id.ms()]);
    times.sort_unstable();
    Ok(times.windows(2).all(|pair| pair[1] - pair[0] <= PAUSE_MS))
}

/// The times of this file's events between two others, whatever their verdicts.
fn between(db: &Connection, from: &InboxRow, to: &InboxRow) -> Result<Vec<i64>> {
    let (first, last) = (from.id.0.to_bytes(), to.id.0.to_bytes());
    let sql = match from.former {
        None => "SELECT id FROM driftless_log WHERE own AND ?1 IS NULL AND id > ?2 AND id < ?3",
        Some(_) => {
            "SELECT id FROM driftless_old_log WHERE own AND former = ?1 AND id > ?2 AND id < ?3"
        }
    };
    let mut statement = db.prepare_cached(sql)?;
    let ids = statement.query_map((from.former, first.as_slice(), last.as_slice()), |row| {
        row.get::<_, [u8; 16]>(0)
    })?;
    let mut times = Vec::new();
    for id in ids {
        times.push(EventId(ulid::Ulid::from_bytes(id?)).ms());
    }
    if from.former.is_none() {
        let sql = "SELECT ms FROM driftless_outbox WHERE n > ?1 AND n < ?2 AND NOT settled";
        let mut statement = db.prepare_cached(sql)?;
        let pending = statement
            .query_map([from.id.outbox_number(), to.id.outbox_number()], |row| row.get(0))?;
        for ms in pending {
            times.push(ms?);
        }
    }
    Ok(times)
}
