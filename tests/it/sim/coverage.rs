//! What happened in worlds, so that a run can say that it did: a simulation in which nothing goes
//! wrong proves nothing.

use std::collections::BTreeMap;

use driftless::event::Event;
use serde::{Deserialize, Serialize};

use super::history::Fate;

/// Counts of what happened.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seen(BTreeMap<String, u64>);

/// What a run of the default size must have seen.
pub(crate) const WANTED: [&str; 73] = [
    "a write",
    "a write of the web's",
    "a write with no process of ours running",
    "a page",
    "a page split",
    "too large",
    "an undo",
    "a redo",
    "a crash",
    "a crash between commit and acknowledgement",
    "a crash with a page waiting",
    "a lost answer that had taken effect",
    "a request into a partition",
    "a request that nobody waits for arrives",
    "a clock jumps",
    "a full disk",
    "a conflict in the inbox",
    "a collision",
    "a rejected event in the inbox",
    "a moot loss",
    "a conflict restored",
    "a conflict that became moot",
    "a conflict dismissed",
    "a constraint of one replica's own",
    "a quarantine",
    "a quarantine's retry",
    "a culprit that was singled out",
    "an event too large to travel",
    "a consequence on the remote",
    "an action on a local row",
    "a local foreign key's consequence",
    "a replica joins with rows",
    "a replica restored from a copy",
    "a file restored under a live machine",
    "a file restored with a request under way",
    "a file restored with a page waiting",
    "a file restored to a later state",
    "a copied file goes on",
    "an identity change",
    "a remote rolled back",
    "a remote made anew",
    "a remote accepted",
    "conflict by rows",
    "conflict by columns",
    "verdict pair",
    "verdict via",
    "verdict exists",
    "verdict missing",
    "verdict unique",
    "verdict foreign",
    "verdict children",
    "verdict refused",
    "deferred foreign",
    "deferred children",
    "a deferral that was wrong",
    "a part of a push",
    "a part that nobody waits for",
    "a crash between two parts",
    "a push in parts",
    "a key change in parts",
    "a cascade in parts",
    "a child ahead of its parent in parts",
    "a circle in parts",
    "a transaction in more than one push",
    "a transaction integrated in parts",
    "a transaction put together from pages",
    "fate LostBefore",
    "fate LostAfter",
    "fate AnswerLate",
    "fate RequestLate",
    "fate Twice",
    "fate AnsweredTwice",
    "fate RemoteDies",
];

impl Seen {
    /// It happened.
    pub(crate) fn note(&mut self, what: &str) {
        match self.0.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(what.to_owned(), 1)),
        }
    }

    /// A request had this fate.
    pub(crate) fn note_fate(&mut self, fate: Fate) {
        if fate != Fate::Through {
            let name = format!("{fate:?}");
            self.note(&format!("fate {}", name.split('(').next().unwrap_or_default()));
        }
    }

    /// An event of a replica's arrived.
    pub(crate) fn note_verdict(&mut self, event: &Event, by_columns: bool) {
        match event.verdict.reason().and_then(|reason| reason.split(':').next()) {
            Some("conflict") if by_columns => self.note("conflict by columns"),
            Some("conflict") => self.note("conflict by rows"),
            Some(word) if !word.contains(' ') => self.note(&format!("verdict {word}")),
            _ => {}
        }
    }

    /// Adds what happened elsewhere.
    pub(crate) fn add(&mut self, other: &Seen) {
        for (what, count) in &other.0 {
            *self.0.entry(what.clone()).or_default() += count;
        }
    }

    /// What has not happened, though it should have.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        WANTED.into_iter().filter(|what| !self.0.contains_key(*what)).collect()
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (what, count) in &self.0 {
            writeln!(f, "{count:9} {what}")?;
        }
        Ok(())
    }
}
