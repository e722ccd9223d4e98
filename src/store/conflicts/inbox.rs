//! The conflict inbox: local events that lost, with the winner beside them.
//!
//! [`record`](super::record) writes it, this lists it. A key change is a pair of events and is
//! listed once, as its delete. What one transaction of the application lost is a group: see
//! [`together`](super::together). [`restore`](super::restore) writes lost values again.

use std::collections::{BTreeSet, HashMap, HashSet};

use rusqlite::{Connection, Row, Transaction, TransactionBehavior};

use super::entry::{ConflictKind, ConflictState, Place};
use super::together::group;
use crate::error::{Code, Error, Result};
use crate::event::value::Value;
use crate::event::verdict::TOO_LARGE;
use crate::event::{Event, EventId, Image, Op, Seq};
use crate::store::Store;
use crate::store::log::own_event;

/// A local event that lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The event, with the remote's verdict. Of a key change, the delete.
    pub event: Event,
    /// Of a key change, the insert.
    pub insert: Option<Event>,
    /// How it lost.
    pub kind: ConflictKind,
    /// The event that won, where there is one and it is known here.
    pub winner: Option<Event>,
    /// The row as the remote had it when the loss was learnt; `None` if it was gone.
    pub theirs: Option<Image>,
    /// What has been done about it.
    pub state: ConflictState,
    /// When this replica learnt of it: ms since 1970.
    pub noticed_ms: i64,
    /// What may be of one transaction has the same: the first of these events that lost.
    pub group: EventId,
    /// Of a former remote: the number of the identity that ended with it, as the log's filter has
    /// it ([`LogFilter`](crate::store::LogFilter)). The seqs of its events are of that remote's
    /// log.
    pub former: Option<i64>,
}

/// The key under which a lost insert is to be brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewKey {
    /// A number that no row has: for a table whose key is one INTEGER PRIMARY KEY.
    Fresh,
    /// These values, in the order of the table's key.
    Values(Vec<Value>),
}

/// Which conflicts are meant; what is `None` is not asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConflictFilter {
    /// Of this table.
    pub table: Option<String>,
    /// That lost in this way.
    pub kind: Option<ConflictKind>,
    /// Also those that are not open.
    pub closed: bool,
}

impl ConflictFilter {
    pub(crate) fn takes(&self, table: &str, kind: ConflictKind, state: ConflictState) -> bool {
        (self.closed || state == ConflictState::Open)
            && self.kind.is_none_or(|wanted| wanted == kind)
            && self.table.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(table))
    }

    fn takes_place(&self, place: &Place) -> bool {
        self.takes(&place.table, place.kind, place.state)
    }
}

/// The conflicts that something is done about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// These, open or not. Either event of a key change will do.
    Events(Vec<EventId>),
    /// These, and what is open of their groups.
    Together(Vec<EventId>),
    /// All open ones that the filter takes.
    Matching(ConflictFilter),
}

/// How many conflicts there are of a table, of a kind and in a state.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ConflictCount {
    /// The table.
    pub table: String,
    /// How they lost.
    pub kind: ConflictKind,
    /// What has been done about them.
    pub state: ConflictState,
    /// How many.
    pub count: usize,
}

/// What became of conflicts that were to be dismissed.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Dismissed {
    /// These are off the list now.
    pub dismissed: Vec<EventId>,
    /// These were off it before.
    pub already: Vec<EventId>,
}

/// The inbox by the ids of its events.
pub(in crate::store) struct Index<'p> {
    by_id: HashMap<EventId, &'p Place>,
    /// The present log is the last one.
    formers: Vec<Option<i64>>,
}

impl<'p> Index<'p> {
    pub(in crate::store) fn of(places: &'p [Place]) -> Self {
        let formers: BTreeSet<_> = places.iter().filter_map(|place| place.former).collect();
        Index {
            by_id: places.iter().map(|place| (place.id, place)).collect(),
            formers: formers.into_iter().map(Some).chain([None]).collect(),
        }
    }
}

fn place(row: &Row<'_>) -> rusqlite::Result<Place> {
    let id = EventId(ulid::Ulid::from_bytes(row.get(2)?));
    Ok(Place {
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

impl Store {
    /// The conflicts that `filter` takes, without the first `skip` of them, and no more than
    /// `limit`. No others are read from the log. They are in its order, but that the conflicts of a
    /// group stand together.
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
        let places = self.places(&tx)?;
        let wanted = places.iter().filter(|place| filter.takes_place(place)).skip(skip).take(limit);
        wanted.map(|place| self.read_conflict(place)).collect()
    }

    /// How many conflicts there are of each table, kind and state.
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

    /// The conflict of one event; either event of a key change will do.
    ///
    /// # Errors
    ///
    /// `Usage` when the event is not in the inbox; and as for [`Store::conflict_page`].
    pub fn conflict(&self, id: EventId) -> Result<Conflict> {
        let tx = self.db.unchecked_transaction()?;
        let places = self.places(&tx)?;
        self.read_conflict(self.find(&Index::of(&places), id)?)
    }

    /// All lines of the inbox: see [`Store::conflict_page`] for their order.
    pub(in crate::store) fn places(&self, tx: &Connection) -> Result<Vec<Place>> {
        let sql = "SELECT former, seq, id, kind, state, tbl, ends FROM driftless_old_conflicts
             UNION ALL SELECT NULL, seq, id, kind, state, tbl, ends FROM driftless_conflicts";
        let mut statement = tx.prepare_cached(sql)?;
        let mut places =
            statement.query_map([], place)?.collect::<rusqlite::Result<Vec<Place>>>()?;
        group(tx, &mut places)?;
        let mut first: HashMap<EventId, Seq> = HashMap::new();
        for place in &places {
            let seq = first.entry(place.group).or_insert(place.seq);
            *seq = place.seq.min(*seq);
        }
        places.sort_by_key(|place| {
            (place.former.is_none(), place.former, first[&place.group], place.seq)
        });
        Ok(places)
    }

    /// The line of one event, or of the other half of its key change.
    pub(in crate::store) fn find<'p>(&self, index: &Index<'p>, id: EventId) -> Result<&'p Place> {
        if let Some(place) = index.by_id.get(&id) {
            return Ok(place);
        }
        for &former in index.formers.iter().rev() {
            let pair = own_event(&self.db, former, id)?.and_then(|event| event.pair);
            if let Some(place) = pair.and_then(|pair| index.by_id.get(&pair)) {
                return Ok(place);
            }
        }
        Err(Error::new(Code::NoSuchEvent, format!("event {id} is not in the conflict inbox"))
            .with_hint("`driftless conflicts` lists what is"))
    }

    /// The lines that are meant. Of several that are named, one that is named twice comes once.
    pub(in crate::store) fn select(
        &self,
        places: &[Place],
        wanted: &Selection,
    ) -> Result<Vec<Place>> {
        let index = Index::of(places);
        let taken: Vec<&Place> = match wanted {
            Selection::Matching(filter) => {
                let filter = ConflictFilter { closed: false, ..filter.clone() };
                places.iter().filter(|place| filter.takes_place(place)).collect()
            }
            Selection::Together(ids) => {
                let (mut groups, mut named) = (HashSet::new(), HashSet::new());
                for &id in ids {
                    let place = self.find(&index, id)?;
                    groups.insert((place.former, place.group));
                    named.insert((place.former, place.seq));
                }
                let open = |place: &&Place| {
                    groups.contains(&(place.former, place.group))
                        && (place.state == ConflictState::Open
                            || named.contains(&(place.former, place.seq)))
                };
                places.iter().filter(open).collect()
            }
            Selection::Events(ids) => {
                let mut named = HashSet::new();
                for &id in ids {
                    let place = self.find(&index, id)?;
                    named.insert((place.former, place.seq));
                }
                let named = |place: &&Place| named.contains(&(place.former, place.seq));
                places.iter().filter(named).collect()
            }
        };
        Ok(taken.into_iter().cloned().collect())
    }

    /// The lost event at a place in a log; of a key change, both of its events.
    pub(in crate::store) fn lost(
        &self,
        former: Option<i64>,
        seq: Seq,
    ) -> Result<(Event, Option<Event>)> {
        let event = self.settled_in(former, seq)?.ok_or_else(|| {
            Error::new(Code::LogDamaged, format!("event {seq} lost, but is not in the log"))
        })?;
        let insert = match event.pair {
            Some(pair) if event.op == Op::Delete => own_event(&self.db, former, pair)?,
            _ => None,
        };
        let insert = insert.map(|insert| self.with_values(insert)).transpose()?;
        Ok((self.with_values(event)?, insert))
    }

    pub(in crate::store) fn read_conflict(&self, place: &Place) -> Result<Conflict> {
        let Place { former, seq, .. } = *place;
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
            Some(winner) => self.settled_in(former, Seq(winner))?,
            None => None,
        };
        Ok(Conflict {
            event,
            insert,
            kind: place.kind,
            winner,
            theirs: theirs.map(|json| Image::parse(json.as_bytes())).transpose()?,
            state: place.state,
            noticed_ms,
            group: place.group,
            former,
        })
    }

    /// An own event with the values that it could not travel with, if it is such a one.
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

    /// Takes conflicts off the list, in one transaction.
    ///
    /// # Errors
    ///
    /// As for [`Store::conflict`]. Then nothing has changed.
    pub fn dismiss_selected(&mut self, wanted: &Selection) -> Result<Dismissed> {
        let tx = Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate)?;
        let places = self.places(&tx)?;
        let mut done = Dismissed::default();
        for place in self.select(&places, wanted)? {
            if place.state == ConflictState::Open {
                close(&tx, place.former, place.seq, ConflictState::Dismissed)?;
                done.dismissed.push(place.id);
            } else {
                done.already.push(place.id);
            }
        }
        tx.commit()?;
        Ok(done)
    }
}

/// Writes down what was done about a conflict.
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
