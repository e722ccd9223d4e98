//! What is looked at on the remote after each request and each write of the web's.
//!
//! * What an application committed is in the log at most once, as it was committed, and nothing is
//!   there that nobody committed.
//! * Its verdict is the model's, and of a conflict, that of the pure rule too.
//! * What its foreign keys miss, no later event brings ([`deferral`](super::deferral)).
//! * The applied log folds to the tables.

use std::sync::Arc;

use driftless::event::conflict::{Claim, ConflictRule, loses_to};
use driftless::event::page::{PULL_LINE, Page};
use driftless::event::verdict::{TOO_LARGE, Verdict};
use driftless::event::{Event, EventId, Op, Origin, Seq};
use rusqlite::Connection;

use super::model::{Model, Ruling};
use super::rows::{difference, snapshot};
use super::sql::number;
use super::workload::LARGE;
use super::world::{Checked, World};

/// The log after an event.
pub(super) fn read_log(db: &Connection, after: i64) -> Checked<Vec<Event>> {
    let sql = format!(
        "SELECT CAST(group_concat(line, char(10)) AS BLOB), max(seq), count(*) FROM \
         (SELECT seq, {PULL_LINE} AS line FROM driftless_events WHERE seq > ?1 ORDER BY seq)"
    );
    let mut statement = db.prepare_cached(&sql).unwrap();
    let page = statement.query_row([after], |row| {
        Ok(Page {
            bytes: row.get::<_, Option<Vec<u8>>>(0)?.unwrap_or_default(),
            last: Seq(row.get::<_, Option<i64>>(1)?.unwrap_or(after)),
            count: row.get::<_, i64>(2)? as usize,
            more: false,
        })
    });
    let page = page.map_err(|error| error.to_string())?;
    let lines = page.lines().map_err(|error| format!("{error:?}"))?;
    lines.iter().map(|line| line.event().map_err(|error| format!("{error:?}"))).collect()
}

/// What the remote's own constraints and triggers say, as far as a shape has such.
fn is_the_servers(reason: &str) -> bool {
    reason.contains("constraint failed") || reason == "no" || reason == TOO_LARGE
}

/// Whether an event has a value that not every remote takes.
fn is_large(event: &Event) -> bool {
    let values = [&event.before, &event.after].into_iter().flatten().flat_map(|image| &image.0);
    values.map(|(_, value)| value.as_bytes().map_or(0, <[u8]>::len)).any(|bytes| bytes >= LARGE)
}

impl World {
    /// Looks at the remote.
    pub(super) fn observe_remote(&mut self) -> Checked {
        if self.server.is_doubted() {
            return Err("an honest remote is asked for events by their ids".to_owned());
        }
        let version = self.server.version();
        if std::mem::replace(&mut self.server_version, version) == version {
            return Ok(());
        }
        if self.blank && !self.is_installed() {
            let rows = self.server.with(|db| snapshot(db, &self.shape));
            self.model = Model::new(Arc::clone(&self.shape), rows);
            self.orphans = self.model.orphans();
            return Ok(());
        }
        let last = self.log.keys().next_back().copied().unwrap_or(0);
        let events = self.server.with(|db| read_log(db, last))?;
        let first = events.first().map(|event| event.seq.0);
        let is_webs = events.iter().all(|event| event.origin == Origin::Web);
        for event in events {
            let wrong = |what: String| format!("event {} on the remote: {what}", event.seq);
            if self.places.insert(event.id, event.seq.0).is_some() {
                return Err(wrong("it is in the log twice".to_owned()));
            }
            let arrives = event.cause.is_none() && event.origin != Origin::Web;
            if arrives {
                self.judge(&event).map_err(wrong)?;
            } else if !event.verdict.is_applied() {
                return Err(wrong("what happened there is not applied".to_owned()));
            }
            if event.cause.is_some() {
                self.seen.note("a consequence on the remote");
            }
            self.model.take(&event);
            if arrives {
                self.check_parted(&event).map_err(wrong)?;
            }
            self.log.insert(event.seq.0, event);
        }
        if let Some(first) = first {
            self.check_causes(first)?;
            self.check_whole(first)?;
            self.check_deferral(first)?;
            // A push leaves none. An UPDATE OR REPLACE of the web's may, in a table that refers to
            // itself: SQLite lets it.
            let orphans = self.model.orphans();
            if let Some(place) = orphans.difference(&self.orphans).next().filter(|_| !is_webs) {
                return Err(format!("row {} of {} is without its parent", place.1, place.0));
            }
            self.orphans = orphans;
        }
        let there = self.server.with(|db| snapshot(db, &self.shape));
        if there == self.model.rows {
            return Ok(());
        }
        let told = difference(&there, &self.model.rows);
        Err(format!("the remote's rows (left) are not what the model says: {told}"))
    }

    /// A foreign key's consequence is applied only if its cause is, or what the cause wanted is so.
    /// Whichever of the two comes last is looked at, in whichever push it comes.
    fn check_parted(&self, event: &Event) -> Checked {
        let Some(known) = self.ledger.get(&event.id) else { return Ok(()) };
        let number = |event: &Event| event.id.0.0 >> 40 & 0xFF_FFFF_FFFF;
        let named = |cause: &Event| format!("[\"{}\",{}]", cause.table, cause.key.0);
        let log = |id: &EventId| self.places.get(id).and_then(|seq| self.log.get(seq));
        let mine = || self.ledger.values().filter(|other| other.at == known.at && !other.gone);
        let made = |event: &Event| self.ledger.get(&event.id).and_then(|known| known.made);
        // The cause of a consequence is the next such delete of its transaction. A later
        // transaction may delete another row with that key.
        let cause_of = |consequence: &Event, parent: &str| {
            let later = mine().map(|other| &other.event).filter(|other| {
                other.op == Op::Delete
                    && number(other) > number(consequence)
                    && named(other) == parent
                    && made(other).is_some()
                    && made(other) == made(consequence)
            });
            later.min_by_key(|other| number(other)).map(|cause| cause.id)
        };
        let stays = |cause: &Event| {
            self.model.rows.contains_key(&(cause.table.clone(), cause.key.0.clone()))
        };
        let parted = |consequence: &Event, cause: &Event| {
            let told =
                format!("{} was applied, and its cause {} was not", consequence.id, cause.id);
            match consequence.verdict.is_applied() && !cause.verdict.is_applied() && stays(cause) {
                true => Err(told),
                false => Ok(()),
            }
        };
        if let Some(parent) = &known.parent
            && let Some(cause) = cause_of(event, parent).and_then(|id| log(&id).cloned())
        {
            return parted(event, &cause);
        }
        if event.op != Op::Delete || event.verdict.is_applied() {
            return Ok(());
        }
        let name = named(event);
        for other in mine().filter(|other| other.parent.as_ref() == Some(&name)) {
            let ours = cause_of(&other.event, &name) == Some(event.id);
            if let Some(consequence) = log(&other.event.id).filter(|_| ours) {
                parted(consequence, event)?;
            }
        }
        Ok(())
    }

    /// Whether a database that was made anew has what is ours by now.
    fn is_installed(&mut self) -> bool {
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'driftless_events'";
        self.blank = self.server.with(|db| number(db, sql)) == 0;
        !self.blank
    }

    /// Two files never push under one name: whoever does has all that ever came under it.
    fn check_name(&self, event: &Event) -> Checked {
        let Origin::Replica(name) = event.origin else { return Ok(()) };
        if !self.names.contains(&name) {
            return Err(format!("nobody is called {name}"));
        }
        let Some(carrier) = self.carrier else { return Ok(()) };
        let mine = &self.watches[carrier].mine;
        let of_another = self.log.values().find(|other| {
            other.origin == event.origin && other.cause.is_none() && !mine.contains(&other.id)
        });
        match of_another {
            Some(other) => Err(format!("{name} is the name of two files: see event {}", other.seq)),
            None => Ok(()),
        }
    }

    fn judge(&mut self, event: &Event) -> Checked {
        self.check_name(event)?;
        let Some(known) = self.ledger.get(&event.id) else {
            return Err("nobody committed it".to_owned());
        };
        let mine = &known.event;
        // What is too large to travel is recorded without its values.
        let is_bare = event.verdict.reason() == Some(TOO_LARGE);
        // Or, where that is enough, without its old values.
        let bare = event.before.as_ref().is_some_and(|before| before.0.is_empty());
        let other = event.pair.and_then(|pair| self.ledger.get(&pair)).map(|other| &other.event);
        let is_slim = bare && [Some(mine), other].into_iter().flatten().any(is_large);
        let same = (&mine.table, &mine.key, mine.op, mine.pair)
            == (&event.table, &event.key, event.op, event.pair)
            && known.bases.contains(&event.base.0)
            && (is_bare || is_slim || mine.before == event.before)
            && (is_bare || mine.after == event.after);
        if !same {
            return Err(format!("it was committed as {mine:?}, and arrived as {event:?}"));
        }
        let ruling = self.model.judge(event, other);
        let reason = event.verdict.reason().unwrap_or_default();
        let word = reason.split(':').next().unwrap_or_default();
        let by_trigger = !self.shape.web.is_empty() && reason == "refused";
        let agreed = match (&ruling, &event.verdict) {
            (_, Verdict::Rejected(reason)) if is_the_servers(reason) => {
                self.seen.note(match reason.as_str() {
                    TOO_LARGE => "an event too large to travel",
                    _ => "a culprit that was singled out",
                });
                true
            }
            (Ruling::Lost("pair"), Verdict::Rejected(_)) if by_trigger => true,
            (Ruling::Lost(why @ ("conflict" | "pair" | "via")), Verdict::Superseded(_)) => {
                *why == word
            }
            (Ruling::Lost(why), Verdict::Rejected(_)) => *why == word,
            (Ruling::Open(against), Verdict::Applied) => {
                against.iter().for_each(|word| self.seen.note(&format!("deferred {word}")));
                true
            }
            (Ruling::Open(against), Verdict::Rejected(_)) => by_trigger || against.contains(&word),
            _ => false,
        };
        if !agreed {
            let verdict = &event.verdict;
            return Err(format!(
                "its verdict is `{verdict}`, and the model says {ruling:?}: {event:?}"
            ));
        }
        let decided = reason != "via" && !is_the_servers(reason) && reason != "pair";
        let half = event.pair.is_some() && event.op == Op::Insert;
        if decided && !half && self.loses_by_rule(event, other) != (word == "conflict") {
            return Err(format!("the pure rule does not say `{}`: {event:?}", event.verdict));
        }
        if is_slim {
            self.seen.note("an event without its old values");
        }
        self.seen.note_verdict(event, self.shape.columns_rule);
        Ok(())
    }

    /// The conflict rule of the sources, for an event and, of a key change, for its new key.
    fn loses_by_rule(&self, event: &Event, other: Option<&Event>) -> bool {
        let rule = if self.shape.columns_rule { ConflictRule::Columns } else { ConflictRule::Row };
        let keys = [Some(&event.key), other.map(|other| &other.key)];
        keys.into_iter().flatten().any(|key| {
            let others = self.log.values().filter(|other| {
                let of_row = other.table == event.table && other.key == *key;
                of_row && other.origin != event.origin && other.verdict.is_applied()
            });
            loses(rule, event, event.base, others)
        })
    }

    /// Whether two events of one row, by two writers, conflict.
    pub(super) fn beat(&self, theirs: &Event, mine: &Event) -> bool {
        let rule = if self.shape.columns_rule { ConflictRule::Columns } else { ConflictRule::Row };
        loses(rule, mine, Seq(0), [theirs].into_iter())
    }

    /// A foreign key's consequence names its cause, if that came with it; and it names nothing
    /// else.
    fn check_causes(&mut self, first: i64) -> Checked {
        for (seq, event) in self.log.range(first..) {
            let Some(known) = self.ledger.get(&event.id) else { continue };
            let is_cause = |cause: &Event| {
                let named = format!("[\"{}\",{}]", cause.table, cause.key.0);
                cause.op == Op::Delete && known.parent.as_deref() == Some(&named)
            };
            match &event.via {
                Some(via) => {
                    let cause = self.ledger.get(via).filter(|cause| cause.at == known.at);
                    if !cause.is_some_and(|cause| is_cause(&cause.event)) {
                        return Err(format!("event {seq} is via {via}, which is not its cause"));
                    }
                    self.seen.note("a local foreign key's consequence");
                }
                None if known.parent.is_none() || event.pair.is_some() => {}
                None => {
                    // Its cause is the next such delete of its writer.
                    let later = self.log.range(first..).find(|(_, other)| {
                        let theirs = self.ledger.get(&other.id);
                        let after = other.id.0.0 >> 40 & 0xFF_FFFF_FFFF
                            > event.id.0.0 >> 40 & 0xFF_FFFF_FFFF;
                        theirs.is_some_and(|theirs| theirs.at == known.at)
                            && after
                            && other.unit == event.unit
                            && is_cause(other)
                    });
                    if let Some((cause, _)) = later {
                        return Err(format!(
                            "event {seq} came with its cause {cause}, and does not say so"
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The conflict rule of the sources, for an event and others of its row.
fn loses<'a>(
    rule: ConflictRule,
    event: &Event,
    base: Seq,
    others: impl Iterator<Item = &'a Event>,
) -> bool {
    let after = |event: &Event| event.after.as_ref().map(|image| image.to_json().into_bytes());
    let (mine, theirs) = (after(event), others.map(|other| (other, after(other))));
    let theirs: Vec<_> = theirs.collect();
    let theirs = theirs
        .iter()
        .map(|(other, after)| (other.seq, Claim { op: other.op, after: after.as_deref() }));
    loses_to(rule, Claim { op: event.op, after: mine.as_deref() }, base, theirs).is_some()
}
