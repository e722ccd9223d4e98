//! The division of a push's events into runs. Events of one run cannot influence one another's
//! verdict, nor the place of one another's consequences in the log.

use std::collections::{HashMap, HashSet};

use super::judged::{Judged, leads_to_key};
use super::run::Run;
use crate::event::EventId;
use crate::protocol::Outgoing;
use crate::protocol::remote_tables::RemoteTables;

/// The most events of a run.
const MAX_RUN: usize = 5_000;

/// Divides the events into runs, in their order. The time is linear in their number.
pub fn runs<'a>(events: &'a [Outgoing], tables: &'a RemoteTables) -> Vec<Run<'a>> {
    let judged: Vec<_> = events.iter().map(|event| Judged::of(event, tables)).collect();
    runs_of(&judged, tables)
}

/// The same, for events that were read already.
pub(super) fn runs_of<'a>(events: &[Judged<'a>], tables: &RemoteTables) -> Vec<Run<'a>> {
    let mut runs = Vec::new();
    let mut open: Option<Open<'a>> = None;
    for (at, judged) in events.iter().enumerate() {
        let alone = judged.is_alone(tables);
        let claims = judged.claims();
        if let Some(open) = &mut open
            && !alone
            && open.takes(judged, &claims)
        {
            open.push(judged, claims);
            continue;
        }
        runs.extend(open.take().map(|open| open.run));
        open = Some(Open::begin(at, judged, claims, alone));
    }
    runs.extend(open.map(|open| open.run));
    runs
}

/// Puts each event in a run of its own. The verdicts, the tables and the log are the same.
#[cfg(feature = "internals")]
pub fn singles<'a>(events: &'a [Outgoing], tables: &'a RemoteTables) -> Vec<Run<'a>> {
    let one = |(at, event)| Open::begin(at, &Judged::of(event, tables), Vec::new(), true).run;
    events.iter().enumerate().map(one).collect()
}

/// A run that further events may join.
struct Open<'a> {
    run: Run<'a>,
    alone: bool,
    claimed: HashSet<String>,
    /// The rows that the run's events bring, each with the event's number.
    offered: HashMap<String, i64>,
    ids: HashSet<EventId>,
}

impl<'a> Open<'a> {
    fn begin(at: usize, first: &Judged<'a>, claims: Vec<String>, alone: bool) -> Self {
        let run = Run::begin(at, first);
        let (claimed, offered, ids) = (HashSet::new(), HashMap::new(), HashSet::new());
        let mut open = Open { run, alone, claimed, offered, ids };
        open.claim(first, claims);
        open
    }

    fn claim(&mut self, judged: &Judged<'a>, claims: Vec<String>) {
        self.claimed.extend(claims);
        let number = self.run.last();
        self.offered.extend(judged.offers().into_iter().map(|(_, row)| (row, number)));
        self.ids.insert(judged.event().id);
    }

    fn takes(&self, next: &Judged<'_>, claims: &[String]) -> bool {
        !self.alone
            && self.run.events() < MAX_RUN
            && self.run.shape().is_like(next)
            && !next.event().via.is_some_and(|cause| self.ids.contains(&cause))
            && !claims.iter().any(|claim| self.claimed.contains(claim))
            && match self.parents(next).as_slice() {
                [] => true,
                // The parent is in the same run. `Run::repair` handles it, for one foreign key
                // only.
                [(key, _)] => self.run.shape().may_refer_by(*key) && leads_to_key(next, *key),
                _ => false,
            }
    }

    /// The parents of an event in this run: the foreign key's number, and the parent event's. None
    /// if the event defers its foreign keys: a later event may bring the row that this run fails to
    /// bring.
    fn parents(&self, next: &Judged<'_>) -> Vec<(usize, i64)> {
        if next.event().defer_fk {
            return Vec::new();
        }
        let needs = next.needs().into_iter();
        needs.filter_map(|(key, row)| Some((key, *self.offered.get(&row)?))).collect()
    }

    fn push(&mut self, next: &Judged<'a>, claims: Vec<String>) {
        let parent = self.parents(next).first().copied();
        self.run.push(next, parent);
        self.claim(next, claims);
    }
}
