//! What foreign keys missed when an event was judged, and what came later.
//!
//! What a later event of the same push brings would have been there by the end of the request, so
//! nobody is rejected for want of it; nor for want of what the same transaction brings in a later
//! push. But SQLite judges RESTRICT at once. And a push that was rejected for its foreign keys, and
//! again, and again with what is waited for in front, defers no foreign key; and what is too large
//! for one request is parted: at the expense of such events.

use std::collections::{BTreeSet, HashMap};

use driftless::Code;
use driftless::error::{Kind, Result};
use driftless::event::{Event, EventId, Image, Op};
use driftless::remote::Answer;

use super::coverage::Seen;
use super::rows::{Row, key_of};
use super::shape::Foreign;
use super::world::{Checked, World};

/// The least number of rejected pushes in a row before one defers no foreign key, and of those that
/// were rejected for their foreign keys: the first one, and the same after a look at the remote.
const REJECTED: (u32, u32) = (3, 2);

/// What keeps an event from deferring its foreign keys.
#[derive(Default)]
pub(super) struct Doubts {
    /// How many requests of a replica were rejected since its last push, and how many of them for
    /// their foreign keys.
    rejected: HashMap<usize, (u32, u32)>,
    /// Replicas to which something was too large once.
    cramped: BTreeSet<usize>,
    /// Events that were rejected for a foreign key's sake, with their deferrals: by the transaction
    /// that made them.
    rejections: HashMap<EventId, Vec<(i64, EventId)>>,
}

impl Doubts {
    /// A request was answered, of a replica or of nobody who is waiting.
    pub(super) fn answered(&mut self, carrier: Option<usize>, outcome: &Result<Answer>) {
        let (Some(at), Err(error)) = (carrier, outcome) else { return };
        let (all, foreign) = self.rejected.entry(at).or_default();
        match error.kind() {
            Kind::Rejected => {
                *all += 1;
                *foreign += u32::from(error.code() == Code::ForeignKeyFailed);
            }
            Kind::TooLarge => drop(self.cramped.insert(at)),
            _ => {}
        }
    }

    /// A push of a replica went through.
    pub(super) fn pushed(&mut self, at: usize, seen: &mut Seen) {
        let (_, foreign) = self.rejected.remove(&at).unwrap_or_default();
        if foreign >= REJECTED.1 {
            seen.note("a deferral that was wrong");
        }
    }

    fn defers(&self, at: Option<usize>) -> bool {
        at.is_some_and(|at| {
            let (all, foreign) = self.rejected.get(&at).copied().unwrap_or_default();
            all < REJECTED.0 || foreign < REJECTED.1
        })
    }
}

impl World {
    /// Looks at what arrived from `first` on: see the module.
    pub(super) fn check_deferral(&mut self, first: i64) -> Checked {
        let defers = self.doubts.defers(self.carrier);
        let cramped = self.carrier.is_none_or(|at| self.doubts.cramped.contains(&at));
        for (&seq, event) in self.log.range(first..) {
            let mut later = self.log.range(seq + 1..);
            let made = self.ledger.get(&event.id).and_then(|known| known.made);
            let reason = event.verdict.reason().unwrap_or_default();
            if let Some((at, _)) = later.find(|(_, later)| self.brings(event, later)) {
                if defers {
                    let verdict = &event.verdict;
                    return Err(format!("event {seq} is `{verdict}`, though {at} was to come"));
                }
                self.seen.note("an event rejected for want of its deferral");
            } else if reason.starts_with("foreign") || reason.starts_with("children") {
                let made = made.filter(|_| defers && !cramped);
                let made = made.map(|made| self.doubts.rejections.entry(made).or_default());
                made.into_iter().for_each(|rejections| rejections.push((seq, event.id)));
            }
            let rejections = made.and_then(|made| self.doubts.rejections.get(&made));
            for (before, id) in rejections.into_iter().flatten().filter(|(seq, _)| *seq < first) {
                let rejected = self.log.get(before).filter(|event| event.id == *id);
                if rejected.is_some_and(|rejected| self.brings(rejected, event)) {
                    return Err(format!(
                        "event {before} was parted from {seq}, of the same transaction, and rejected"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether a later event brings what an event was rejected for.
    fn brings(&self, event: &Event, later: &Event) -> bool {
        let reason = event.verdict.reason().unwrap_or_default();
        // What refers to nothing, by its column; or whose rows refer to it, by their table.
        let (word, named) = reason.split_once(": ").unwrap_or((reason, ""));
        let other = event.pair.and_then(|pair| self.ledger.get(&pair)).map(|other| &other.event);
        let image = event.after.as_ref().or(other.and_then(|other| other.after.as_ref()));
        let restricts = event.op == Op::Delete && other.is_none();
        let done = later.cause.is_none() && later.verdict.is_applied();
        let brings = done && later.op == Op::Insert;
        let frees = done && later.op != Op::Insert;
        match word {
            "foreign" if brings => self.refers((&event.table, named), image, later, false),
            // Another row refers to it still: what was freed is not enough, and a deferral changes
            // nothing.
            "children" if self.is_kept((named, restricts), event) => false,
            "children" if frees && later.table == named => {
                self.refers((named, ""), later.before.as_ref(), event, restricts)
            }
            "children" => {
                let same = later.table == event.table && later.key == event.key;
                brings && same && !(restricts && self.restricts(named, event))
            }
            _ => false,
        }
    }

    /// Whether rows of a table keep an event's row, or only its key, now that all of the push is
    /// there.
    fn is_kept(&self, (table, goes): (&str, bool), parent: &Event) -> bool {
        let (Some(table), Some(parents)) =
            (self.shape.table(table), self.shape.table(&parent.table))
        else {
            return false;
        };
        let foreign = table.foreign.iter().filter(|foreign| foreign.parent == parent.table);
        let keeping = |foreign: &&Foreign| if goes { foreign.keeps } else { foreign.keeps_key };
        foreign.filter(keeping).any(|foreign| {
            self.model.rows.iter().filter(|(place, _)| place.0 == table.name).any(|(_, row)| {
                let named = Row::from([(parents.key[0].clone(), row[&foreign.column].clone())]);
                key_of(parents, &named) == parent.key.0
            })
        })
    }

    /// Whether a table has a foreign key that refuses the deletion of an event's row at once.
    fn restricts(&self, table: &str, parent: &Event) -> bool {
        self.shape.table(table).is_some_and(|table| {
            table.foreign.iter().any(|foreign| foreign.parent == parent.table)
                && table.sql.contains("ON DELETE RESTRICT")
        })
    }

    /// Whether a row of a table names the row of an event as its parent, in a column, or in any
    /// where none is named, by a foreign key that waits for the end of a transaction, if it is
    /// asked for such a one.
    pub(super) fn refers(
        &self,
        (table, column): (&str, &str),
        row: Option<&Image>,
        parent: &Event,
        waits: bool,
    ) -> bool {
        let Some(table) = self.shape.table(table) else { return false };
        let foreign = table.foreign.iter().filter(|foreign| foreign.parent == parent.table);
        foreign.filter(|foreign| column.is_empty() || foreign.column == column).any(|foreign| {
            let parents = self.shape.table(&foreign.parent).expect("a parent is a table");
            let value = row.and_then(|row| row.get(&foreign.column));
            value.is_some_and(|value| {
                let named = Row::from([(parents.key[0].clone(), value.clone())]);
                !(waits && table.sql.contains("ON DELETE RESTRICT"))
                    && key_of(parents, &named) == parent.key.0
            })
        })
    }
}
