//! What is looked at after each step, on the replica that it touched.
//!
//! * The cursor never goes back.
//! * Every event that an application committed is in its outbox, or in the remote log at or before
//!   the cursor, and not in both. No event is in an outbox that no application made.
//! * A row is the log's fold up to the cursor with the pending events, those that have not lost, on
//!   top. So capture says what was written, and nothing is undone or redone in a wrong way.
//! * The local log is the remote's, sealed and chained ([`frames`](super::frames)).
//! * A pending event is set aside if the rule says that it has lost, and for what defeats it.
//! * What lost is in the conflict inbox, unless what it wanted is so already; nothing else is.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use driftless::capture::{Captured, Layout};
use driftless::event::frame::{GENESIS, Hash};
use driftless::event::verdict::{TOO_LARGE, Verdict};
use driftless::event::{Event, EventId, Image, Op, Origin, RowKey, Seq};
use rusqlite::Connection;

use super::beside::Beside;
use super::rows::{Rows, difference, row, snapshot};
use super::sql::{number, rows, version};
use super::world::{Checked, World};

/// A change that an application committed, as its outbox tells it.
pub(crate) struct Mutation {
    pub(super) at: usize,
    pub(super) event: Event,
    /// The bases that it had: another one when its file takes another identity.
    pub(super) bases: Vec<i64>,
    /// It went with its file, or with its remote: nobody has to have it.
    pub(super) gone: bool,
    /// The parent whose going made it.
    pub(super) parent: Option<String>,
    /// The first event of the transaction that made it, if that was seen.
    pub(super) made: Option<EventId>,
}

#[derive(Clone)]
struct Pending {
    id: EventId,
    aside: bool,
    undo: bool,
    /// The event because of which it is set aside, if it is because of one.
    winner: Option<i64>,
}

/// What is known of a replica from looking at it before.
#[derive(Clone)]
pub(crate) struct Watch {
    /// Whether its remote is the one that it knows, as far as is known.
    pub(super) certain: bool,
    /// The events that this file's outbox had, unless it has them under another number now.
    pub(super) mine: HashSet<EventId>,
    /// Its identity.
    name: String,
    /// The connection's number and its database's state at the last look.
    version: (u64, (i64, u64)),
    pub(super) cursor: i64,
    /// The cursor after the first sync.
    adopted: i64,
    newest: i64,
    pending: BTreeMap<i64, Pending>,
    pub(super) chain: Hash,
    /// How many frames the local log has.
    pub(super) frames: i64,
    /// What a replica has that has not had its first sync.
    before: Option<Rows>,
    pub(super) quarantine: BTreeSet<(String, String)>,
    pub(super) beside: Beside,
}

impl Default for Watch {
    fn default() -> Self {
        Watch {
            certain: true,
            mine: HashSet::new(),
            name: String::new(),
            version: (0, (0, 0)),
            cursor: 0,
            adopted: 0,
            newest: 0,
            pending: BTreeMap::new(),
            chain: GENESIS,
            frames: 0,
            before: None,
            quarantine: BTreeSet::new(),
            beside: Beside::default(),
        }
    }
}

impl Watch {
    /// Of a replica that joins with these rows.
    pub(crate) fn joining(rows: Rows) -> Self {
        Watch { before: Some(rows), ..Watch::default() }
    }

    /// What is pending.
    pub(super) fn pending(&self) -> impl Iterator<Item = EventId> + '_ {
        self.pending.values().map(|found| found.id)
    }

    /// Its file is another state: it is looked at whatever its connection says.
    pub(super) fn look_again(&mut self) {
        self.version = Default::default();
    }

    /// Its remote is another one: it is looked at once more, although nothing has changed here.
    pub(super) fn doubt(&mut self) {
        (self.certain, self.version) = (false, Default::default());
    }
}

/// Who may have written since the last look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Writer {
    Nobody,
    Application,
    /// The first sync has made events of the rows that were there.
    FirstSync,
}

/// The pending events' numbers and standing.
const PENDING: &str = "SELECT n, ms, tail, aside, undo IS NOT NULL, winner \
     FROM driftless_outbox WHERE NOT settled ORDER BY n";

/// New events, with their layout where their values stand in columns of their own.
const NEW: &str =
    "SELECT n, ms, tail, coalesce(driftless_layouts.tbl, driftless_outbox.tbl), pk, op,
     base, pair, via, before, after, spec FROM driftless_outbox
     LEFT JOIN driftless_layouts ON driftless_layouts.id = layout
     WHERE n > ?1 AND NOT settled ORDER BY n";

fn id_of(ms: i64, n: i64, tail: i64) -> EventId {
    let low = |value: i64| value as u128 & ((1 << 40) - 1);
    EventId(ulid::Ulid((ms as u128) << 80 | low(n) << 40 | low(tail)))
}

/// Reads the events after `newest`, with their numbers.
fn new_events(db: &Connection, at: usize, newest: i64) -> Vec<(i64, Mutation, i64)> {
    let mut statement = db.prepare_cached(NEW).unwrap();
    let mut found = statement.query([newest]).unwrap();
    let mut events = Vec::new();
    while let Some(line) = found.next().unwrap() {
        let number = |column| line.get::<_, Option<i64>>(column).unwrap().unwrap_or(0);
        let op = [Op::Insert, Op::Update, Op::Delete][number(5) as usize];
        let table: String = line.get(3).unwrap();
        let mut parent = None;
        let captured = match line.get::<_, Option<String>>(11).unwrap() {
            Some(spec) => {
                let layout = Layout::read(&table, &spec).unwrap();
                let mut values = db.prepare_cached(layout.select()).unwrap();
                let via: Option<String> = line.get(8).unwrap();
                let read = |row: &rusqlite::Row<'_>| {
                    let via = via.map(|via| layout.parent(via.parse().unwrap(), row).unwrap());
                    parent = via.map(|(table, key)| format!("[\"{table}\",{}]", key.0));
                    Ok(layout.captured(op, row).unwrap())
                };
                values.query_row([number(0)], read).unwrap()
            }
            None => {
                let json = |column| {
                    let json: Option<String> = line.get(column).unwrap();
                    json.map(String::into_bytes)
                };
                let key = RowKey(line.get(4).unwrap());
                Captured { key, before: json(9), after: json(10), made: Default::default() }
            }
        };
        let image = |json: Option<Vec<u8>>| json.map(|json| Image::parse(&json).unwrap());
        let (before, after) = (image(captured.before), image(captured.after));
        let event = Event {
            seq: Seq(0),
            id: id_of(number(1), number(0), number(2)),
            origin: Origin::Web,
            actor: None,
            unit: None,
            table,
            key: captured.key,
            op,
            before,
            after,
            base: Seq(number(6)),
            cause: None,
            via: None,
            pair: None,
            verdict: Verdict::Applied,
            received_at: 0,
        };
        let bases = vec![event.base.0];
        events.push((
            number(0),
            Mutation { at, event, bases, gone: false, parent, made: None },
            number(7),
        ));
    }
    events
}

impl World {
    /// Looks at a replica.
    pub(super) fn observe(&mut self, at: usize, writer: Writer) -> Checked {
        let wrong = |what: String| format!("replica {at}: {what}");
        self.ghosts.append(&mut self.replicas[at].given_up);
        if !self.replicas[at].ready {
            // Its first sync is not done; what it captures is renumbered by that.
            return Ok(());
        }
        if self.replicas[at].is_out_of_room() {
            self.seen.note("a full disk");
        }
        let fresh = std::mem::take(&mut self.replicas[at].fresh);
        let version = (self.replicas[at].connections, version(&self.replicas[at].db));
        if !fresh && self.watches[at].version == version {
            return Ok(());
        }
        self.watches[at].version = version;
        let writer = if fresh { Writer::FirstSync } else { writer };
        if self.observe_name(at) || !self.watches[at].certain {
            self.note_pending(at);
        }
        let cursor = number(&self.replicas[at].db, "SELECT cursor FROM driftless_state");
        let last = self.watches[at].cursor;
        if writer == Writer::FirstSync {
            self.watches[at].adopted = cursor;
            let sql = "SELECT chain FROM driftless_state";
            let chain = rows(&self.replicas[at].db, sql).unwrap();
            let watch = &mut self.watches[at];
            (watch.certain, watch.cursor, watch.newest) = (true, cursor, -1);
            watch.pending.clear();
            watch.chain = chain[0][0].as_bytes().and_then(|hash| hash.try_into().ok()).unwrap();
            watch.frames = number(&self.replicas[at].db, "SELECT count(*) FROM driftless_log");
        } else if !self.watches[at].certain {
            return Ok(());
        } else if cursor < last {
            return Err(wrong(format!("its cursor goes back from {last} to {cursor}")));
        }
        let log_end = self.log.keys().next_back().copied().unwrap_or(0);
        if cursor > log_end {
            return Err(wrong(format!("its cursor is {cursor}, and the log ends at {log_end}")));
        }
        self.observe_outbox(at, writer, cursor).map_err(wrong)?;
        if writer != Writer::FirstSync {
            self.observe_frames(at, last, cursor).map_err(wrong)?;
        }
        if cursor > last && writer != Writer::FirstSync {
            self.seen.note("a page");
            self.check_units(last, cursor).map_err(wrong)?;
            self.watches[at].cursor = cursor;
        }
        self.observe_quarantine(at);
        self.observe_rows(at, cursor).map_err(wrong)?;
        self.observe_beside(at, writer, last, cursor).map_err(wrong)?;
        if cursor > last && writer != Writer::FirstSync {
            self.observe_inbox(at, last, cursor).map_err(wrong)?;
        }
        if writer == Writer::FirstSync {
            self.observe_adoption(at).map_err(wrong)?;
            self.forget_renumbered(at);
        }
        Ok(())
    }

    /// Learns the identity of a replica's file. True if it is another one than before.
    fn observe_name(&mut self, at: usize) -> bool {
        let sql = "SELECT value FROM driftless_settings WHERE name = 'replica'";
        let found = rows(&self.replicas[at].db, sql).unwrap();
        let name = found[0][0].as_str().unwrap_or_default().to_owned();
        let watch = &mut self.watches[at];
        if watch.name == name {
            return false;
        }
        let before = std::mem::replace(&mut watch.name, name.clone());
        self.names.insert(name.parse().expect("it is a replica's id"));
        if !before.is_empty() {
            self.seen.note("an identity change");
        }
        !before.is_empty()
    }

    /// Takes note of everything that is pending, without a word about what it should be.
    pub(super) fn note_pending(&mut self, at: usize) {
        for (_, mutation, _) in paired(new_events(&self.replicas[at].db, at, -1)) {
            self.watches[at].mine.insert(mutation.event.id);
            note(&mut self.ledger, mutation);
        }
    }

    fn observe_outbox(&mut self, at: usize, writer: Writer, cursor: i64) -> Checked {
        let db = &self.replicas[at].db;
        let watch = &mut self.watches[at];
        let mut now = BTreeMap::new();
        for line in rows(db, PENDING).unwrap() {
            let part = |column: usize| line[column].as_integer().unwrap_or(0);
            let (n, aside, undo) = (part(0), part(3) == 1, part(4) == 1);
            let (id, winner) = (id_of(part(1), n, part(2)), line[5].as_integer());
            now.insert(n, Pending { id, aside, undo, winner });
        }
        let newest = now.keys().next_back().copied().unwrap_or(watch.newest);
        if newest > watch.newest {
            let new = new_events(db, at, watch.newest);
            if writer == Writer::Nobody {
                let (_, first, _) = &new[0];
                let (id, table) = (first.event.id, &first.event.table);
                return Err(format!(
                    "event {id} of table {table} is in the outbox, and nobody wrote"
                ));
            }
            let made = (writer == Writer::Application).then(|| new[0].1.event.id);
            for (_, mut mutation, _) in paired(new) {
                mutation.made = made;
                let id = mutation.event.id;
                watch.mine.insert(id);
                if !note(&mut self.ledger, mutation) && writer == Writer::Application {
                    return Err(format!("event {id} was there before"));
                }
            }
            watch.newest = newest;
        }
        for (n, known) in &watch.pending {
            match now.get(n) {
                Some(found) if found.id != known.id => {
                    return Err(format!("event {} became {} in the outbox", known.id, found.id));
                }
                Some(found) => {
                    if found.aside && !known.aside {
                        self.seen.note("an undo");
                    }
                    if !found.aside && (known.aside || found.undo && !known.undo) {
                        self.seen.note("a redo");
                    }
                }
                None if self.places.get(&known.id).is_some_and(|seq| *seq <= cursor) => {}
                None => {
                    let id = known.id;
                    return Err(format!("event {id} is neither in the outbox nor in the log"));
                }
            }
        }
        watch.pending = now;
        self.check_pending(at, cursor)
    }

    /// What is pending is not in the log yet, somebody committed it, and what it is set aside for
    /// defeats it.
    fn check_pending(&self, at: usize, cursor: i64) -> Checked {
        let watch = &self.watches[at];
        for found in watch.pending.values() {
            // A copy of the file may have pushed it to the new remote before this file took that in.
            let passed = |seq: &i64| *seq > watch.adopted && *seq <= cursor;
            if self.places.get(&found.id).is_some_and(passed) {
                let id = found.id;
                return Err(format!("event {id} is in the log up to the cursor, and pending"));
            }
            if !watch.mine.contains(&found.id) {
                return Err(format!("event {} is pending, and nobody committed it", found.id));
            }
            if let Some(winner) = found.winner.filter(|_| found.aside)
                && !self.defeats(at, winner, &self.ledger[&found.id])
            {
                let id = found.id;
                return Err(format!("event {id} is set aside for {winner}, which does not win"));
            }
            if let Some(winner) = self.winner(at, found, cursor) {
                let id = found.id;
                return Err(format!("event {id} has lost to {winner}, and is not set aside"));
            }
        }
        Ok(())
    }

    /// What defeats a pending event that is on its row, by the pure rule. What was there before
    /// the first sync is the remote's to decide.
    fn winner(&self, at: usize, found: &Pending, cursor: i64) -> Option<i64> {
        let (watch, mutation) = (&self.watches[at], &self.ledger[&found.id]);
        if found.aside {
            return None;
        }
        let seen = mutation.bases.iter().copied().max().unwrap_or(0).max(watch.adopted);
        let mine = &mutation.event;
        let others = self.log.range(seen + 1..).take_while(|(seq, _)| **seq <= cursor);
        others
            .filter(|(seq, event)| event.key == mine.key && self.defeats(at, **seq, mutation))
            .find(|(_, event)| self.beat(event, mine))
            .map(|(seq, _)| *seq)
    }

    /// Whether an event of the log may be what another writer did to the row meanwhile.
    fn defeats(&self, at: usize, winner: i64, mutation: &Mutation) -> bool {
        let (Some(winner), watch) = (self.log.get(&winner), &self.watches[at]) else {
            return false;
        };
        let event = &mutation.event;
        let other =
            event.pair.and_then(|pair| self.ledger.get(&pair)).map(|other| &other.event.key);
        let ours = winner.origin.to_string() == watch.name
            && winner.cause.is_some_and(|cause| watch.mine.contains(&cause));
        winner.verdict.is_applied()
            && winner.table == event.table
            && (winner.key == event.key || other == Some(&winner.key))
            && mutation.bases.iter().any(|base| *base < winner.seq.0)
            && !watch.mine.contains(&winner.id)
            && !ours
    }

    fn observe_quarantine(&mut self, at: usize) {
        let found =
            rows(&self.replicas[at].db, "SELECT tbl, pk FROM driftless_quarantine").unwrap();
        let text =
            |value: &driftless::event::value::Value| value.as_str().unwrap_or_default().to_owned();
        let now: BTreeSet<_> = found.iter().map(|row| (text(&row[0]), text(&row[1]))).collect();
        if now.len() > self.watches[at].quarantine.len() {
            self.seen.note("a quarantine");
        }
        self.watches[at].quarantine = now;
    }

    /// The rows as the log up to `cursor` and the pending events have them.
    fn expected(&self, at: usize, cursor: i64) -> Rows {
        let mut rows = self.model.past.all_at(cursor);
        for pending in self.watches[at].pending.values().filter(|pending| !pending.aside) {
            let event = &self.ledger[&pending.id].event;
            let place = (event.table.clone(), event.key.0.clone());
            let image = event.after.as_ref().map(row).unwrap_or_default();
            match (event.op, rows.get_mut(&place)) {
                (Op::Insert, _) => drop(rows.insert(place, image)),
                (Op::Update, Some(row)) => row.extend(image),
                (Op::Update, None) => {}
                (Op::Delete, _) => drop(rows.remove(&place)),
            }
        }
        rows
    }

    fn observe_rows(&mut self, at: usize, cursor: i64) -> Checked {
        let mut here = snapshot(&self.replicas[at].db, &self.shape);
        let mut wanted = self.expected(at, cursor);
        let watch = &self.watches[at];
        if !watch.quarantine.is_empty() {
            here.retain(|place, _| !watch.quarantine.contains(place));
            wanted.retain(|place, _| !watch.quarantine.contains(place));
        }
        if here == wanted {
            return Ok(());
        }
        let told = difference(&here, &wanted);
        Err(format!(
            "its rows (left) are not the log's up to {cursor} with what is pending: {told}"
        ))
    }

    /// What lost, and is in the log since the last look. A key change is listed as its delete, once
    /// both halves are there.
    fn observe_inbox(&mut self, at: usize, last: i64, cursor: i64) -> Checked {
        let sql = "SELECT seq, kind FROM driftless_conflicts";
        let listed: BTreeMap<_, _> = rows(&self.replicas[at].db, sql)
            .unwrap()
            .into_iter()
            .map(|line| {
                let kind = line[1].as_str().unwrap_or_default().to_owned();
                (line[0].as_integer().unwrap_or(0), kind)
            })
            .collect();
        let mut listable: BTreeSet<_> = listed.range(last + 1..).map(|(seq, _)| *seq).collect();
        for (&seq, event) in self.log.range(last + 1..cursor.max(last) + 1) {
            let mine = self.watches[at].mine.contains(&event.id);
            let first = event.pair.is_some() && event.op == Op::Delete;
            if !mine || event.verdict.is_applied() || first {
                continue;
            }
            let delete = event.pair.and_then(|pair| self.places.get(&pair));
            let subject = delete.map_or(event, |seq| &self.log[seq]);
            listable.remove(&subject.seq.0);
            let unclear = [event, subject].iter().any(|event| {
                let place = (event.table.clone(), event.key.0.clone());
                self.watches[at].quarantine.contains(&place)
            });
            let wanted = !self.is_moot(subject, cursor);
            let found = listed.get(&subject.seq.0).map(String::as_str);
            if wanted != found.is_some() && !unclear {
                let should = if wanted { "should be" } else { "should not be" };
                return Err(format!("event {seq} lost, and {should} in the conflict inbox"));
            }
            self.seen.note(match found {
                Some("collision") => "a collision",
                Some("rejected") => "a rejected event in the inbox",
                Some(_) => "a conflict in the inbox",
                None => "a moot loss",
            });
        }
        match listable.first() {
            Some(seq) => Err(format!("event {seq} is in the conflict inbox, and did not lose")),
            None => self.observe_open(at, cursor),
        }
    }

    /// What lost and is there by now is no open conflict, whenever it came.
    fn observe_open(&mut self, at: usize, cursor: i64) -> Checked {
        let sql = "SELECT seq, state = 'moot' FROM driftless_conflicts
                   WHERE state IN ('open', 'moot')";
        for line in rows(&self.replicas[at].db, sql).unwrap() {
            let seq = line[0].as_integer().unwrap_or(0);
            if line[1].as_integer() == Some(1) {
                self.seen.note("a conflict that became moot");
                continue;
            }
            let Some(event) = self.log.get(&seq) else { continue };
            let other = event.pair.and_then(|pair| self.places.get(&pair));
            let watch = &self.watches[at];
            let unclear =
                [Some(event), other.map(|seq| &self.log[seq])].into_iter().flatten().any(|event| {
                    let place = (event.table.clone(), event.key.0.clone());
                    let on_top = |pending: &Pending| {
                        let pending = &self.ledger[&pending.id].event;
                        (&pending.table, &pending.key) == (&event.table, &event.key)
                    };
                    watch.quarantine.contains(&place) || watch.pending.values().any(on_top)
                });
            if !unclear && self.is_moot(event, cursor) {
                return Err(format!("event {seq} lost and is there, but is an open conflict"));
            }
        }
        Ok(())
    }

    /// Whether what a lost event wanted is so anyway.
    fn is_moot(&self, event: &Event, cursor: i64) -> bool {
        let holds = |event: &Event| {
            let there = self.model.past.at(&(event.table.clone(), event.key.0.clone()), cursor);
            let wanted = event.after.as_ref().map(row).unwrap_or_default();
            match event.op {
                Op::Delete => there.is_none(),
                _ => there.is_some_and(|there| {
                    wanted.iter().all(|(name, value)| there.get(name) == Some(value))
                }),
            }
        };
        let bare = event.verdict.reason() == Some(TOO_LARGE);
        if bare && (event.op != Op::Delete || event.pair.is_some()) {
            return false;
        }
        let other = event.pair.and_then(|pair| self.ledger.get(&pair));
        holds(event) && other.is_none_or(|other| holds(&other.event))
    }

    /// What was pending before a first sync is so after it, under another number, and every row
    /// that was only here, or was another one here, is an event now.
    fn observe_adoption(&mut self, at: usize) -> Checked {
        let pending: HashSet<_> = self.watches[at].pending.values().map(|found| found.id).collect();
        let is_lost = |id: &&EventId| {
            !self.ledger[*id].gone && !self.places.contains_key(*id) && !pending.contains(*id)
        };
        let lost: Vec<_> = self.watches[at].mine.iter().filter(is_lost).copied().collect();
        for id in lost {
            let known = &self.ledger[&id].event;
            let is_twin = |twin: &&EventId| {
                let twin = &self.ledger[*twin].event;
                (&twin.table, &twin.key, twin.op) == (&known.table, &known.key, known.op)
                    && (&twin.before, &twin.after) == (&known.before, &known.after)
            };
            // A page of the former remote may have settled it meanwhile.
            let sql = format!(
                "SELECT count(*) FROM driftless_old_log WHERE own AND hex(id) = '{:032X}'",
                id.0.0
            );
            let settled = number(&self.replicas[at].db, &sql) > 0;
            if !settled && !pending.iter().any(|twin| is_twin(&twin)) {
                return Err(format!("event {id} was pending before the first sync, and is gone"));
            }
            self.ledger.get_mut(&id).expect("it is there").gone = true;
        }
        let Some(before) = self.watches[at].before.take() else { return Ok(()) };
        let cursor = self.watches[at].cursor;
        let told: BTreeSet<_> = self.watches[at]
            .pending
            .values()
            .map(|pending| &self.ledger[&pending.id].event)
            .map(|event| (event.table.clone(), event.key.0.clone()))
            .collect();
        let untold = before.iter().find(|(place, row)| {
            self.model.past.at(place, cursor) != Some(row) && !told.contains(*place)
        });
        match untold {
            Some((place, _)) => {
                Err(format!("row {} of {} was adopted by nobody", place.1, place.0))
            }
            None => Ok(()),
        }
    }

    /// Whether something of a replica's is in the log, and the replica has not been told.
    pub(super) fn has_unacknowledged(&self, at: usize) -> bool {
        let sent = number(&self.replicas[at].db, "SELECT sent FROM driftless_state");
        let pending = self.watches[at].pending.range(sent + 1..);
        pending.into_iter().any(|(_, pending)| self.places.contains_key(&pending.id))
    }
}

/// The halves of a key change name each other.
fn paired(mut new: Vec<(i64, Mutation, i64)>) -> Vec<(i64, Mutation, i64)> {
    for at in 1..new.len() {
        if (new[at - 1].2, new[at].2) == (1, 2) {
            let (delete, insert) = (new[at - 1].1.event.id, new[at].1.event.id);
            new[at - 1].1.event.pair = Some(insert);
            new[at].1.event.pair = Some(delete);
        }
    }
    new
}

/// Enters what an application committed. False if it was known, perhaps with another base.
fn note(ledger: &mut HashMap<EventId, Mutation>, mutation: Mutation) -> bool {
    match ledger.get_mut(&mutation.event.id) {
        Some(known) => {
            known.bases.push(mutation.event.base.0);
            known.gone = false;
            false
        }
        None => ledger.insert(mutation.event.id, mutation).is_none(),
    }
}
