//! An *incarnation* distinguishes a replica's file from its copies. A *place* in the log
//! distinguishes a remote from an earlier state of it.
//!
//! A replica's id says which replica pushes. But a file that was copied to a second machine, or
//! restored from a backup, has the id of another file with a newer state. So before each attempt at
//! a push, a replica issues a fresh [`Incarnation`] and stores it. The push carries it, together
//! with the incarnations that the remote may have ([`Incarnations`]): the last confirmed one, and
//! all that were issued since. The remote accepts the push only if it has one of these, and then
//! stores the fresh one. So a push whose answer was lost causes no alarm. Of two files with one id,
//! the one that pushes second is refused.
//!
//! Incarnations are counted. If the remote has a later incarnation than this replica has heard of,
//! another file has pushed ([`Standing::Behind`]). If it has an earlier incarnation or none at all,
//! the remote was rolled back ([`Standing::Ahead`]).
//!
//! # Caveats
//!
//! Two copies of a file are distinguished by the first push of each, and not before. A remote that
//! was rolled back and whose log has grown again may have a later incarnation, from a copy. Then
//! its log shows the rollback ([`Place`]).

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::event::{EventId, Seq};

/// The most incarnations that are issued without an answer. After that, a request only reads which
/// of them the remote has. So the list stays short even if a replica is offline for long.
pub const MAX_ISSUED: usize = 16;
/// How many of the incarnations are kept after such a read, for requests that may still be on their
/// way.
const KEPT: usize = MAX_ISSUED / 2;

/// One attempt at a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation {
    /// Greater than the count of every incarnation that this file had seen when this one was
    /// issued.
    pub count: u64,
    /// A random number.
    pub chance: u128,
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:032x}", self.count, self.chance)
    }
}

impl FromStr for Incarnation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::corrupt("the incarnation of a replica is not valid");
        let (count, chance) = text.split_once('.').ok_or_else(wrong)?;
        let count = count.parse().map_err(|_| wrong())?;
        let chance = u128::from_str_radix(chance, 16).map_err(|_| wrong())?;
        Ok(Incarnation { count, chance })
    }
}

/// What a replica knows about its incarnation on the remote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incarnations {
    /// The newest incarnation that the remote is known to have had.
    pub confirmed: Option<Incarnation>,
    /// The incarnations issued since, in order. The remote may have any of them.
    pub issued: Vec<Incarnation>,
}

/// The result of comparing the remote's incarnation with a replica's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The remote has no incarnation of this replica, and none was confirmed: a new replica.
    New,
    /// The remote has one of our incarnations.
    Known,
    /// The remote has a later incarnation: another file uses the same id, and this file was copied
    /// or restored.
    Behind,
    /// The remote has an earlier incarnation or none, although one was confirmed: it was rolled
    /// back.
    Ahead,
}

impl Incarnations {
    /// Issues the incarnation of the next attempt.
    pub fn issue(&mut self, chance: u128) -> Incarnation {
        let newest = self.all().map(|incarnation| incarnation.count).max().unwrap_or(0);
        let incarnation = Incarnation { count: newest.saturating_add(1), chance };
        self.issued.push(incarnation);
        incarnation
    }

    /// All incarnations that the remote may have, the oldest first.
    pub fn all(&self) -> impl Iterator<Item = Incarnation> + '_ {
        self.confirmed.iter().chain(&self.issued).copied()
    }

    /// The incarnation was seen on the remote. No earlier one can arrive there any more.
    pub fn confirm(&mut self, incarnation: Incarnation) {
        if let Some(at) = self.issued.iter().position(|issued| *issued == incarnation) {
            self.issued.drain(..=at);
            self.confirmed = Some(incarnation);
        }
    }

    /// A request that only read has returned the remote's incarnation.
    pub fn seen(&mut self, found: Option<&str>) {
        if let Some(incarnation) = found.and_then(|text| text.parse().ok()) {
            self.confirm(incarnation);
        }
        self.issued.drain(..self.issued.len().saturating_sub(KEPT));
    }

    /// Compares with the remote's incarnation.
    pub fn compare(&self, found: Option<&str>) -> Standing {
        match (found, self.confirmed) {
            (None, None) => Standing::New,
            (None, Some(_)) => Standing::Ahead,
            (Some(text), confirmed) => match text.parse::<Incarnation>() {
                Ok(incarnation) if self.all().any(|known| known == incarnation) => Standing::Known,
                Ok(incarnation)
                    if confirmed.is_some_and(|known| incarnation.count <= known.count) =>
                {
                    Standing::Ahead
                }
                _ => Standing::Behind,
            },
        }
    }
}

/// A place in the remote's log, as a replica has seen it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The seq; 0 is before the first event.
    pub seq: Seq,
    /// The event at this seq, if it is known.
    pub id: Option<EventId>,
}

impl Place {
    /// Whether the remote's log contains this place. The remote keeps its log from `oldest` on, and
    /// has the event `found` at this seq.
    pub fn is_in(&self, oldest: Seq, found: Option<&str>) -> bool {
        match (found, self.id) {
            _ if self.seq < oldest => true,
            (None, _) => false,
            (Some(_), None) => true,
            (Some(found), Some(id)) => found == id.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(incarnation: Incarnation) -> Option<String> {
        Some(incarnation.to_string())
    }

    #[test]
    fn an_incarnation_reads_as_it_is_written() {
        for incarnation in [
            Incarnation { count: 1, chance: 0 },
            Incarnation { count: u64::MAX, chance: u128::MAX },
        ] {
            assert_eq!(incarnation.to_string().parse::<Incarnation>().unwrap(), incarnation);
        }
        for wrong in ["", "1", "1.", ".1", "-1.0", "1.g", "1.1.1"] {
            assert!(wrong.parse::<Incarnation>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_lost_answer_is_known_and_a_copy_is_not() {
        let mut mine = Incarnations::default();
        assert_eq!(mine.compare(None), Standing::New);
        let first = mine.issue(1);
        assert_eq!(mine.compare(None), Standing::New, "it never arrived");
        assert_eq!(mine.compare(text(first).as_deref()), Standing::Known, "its answer was lost");
        let second = mine.issue(2);
        mine.confirm(second);
        assert_eq!((mine.confirmed, mine.issued.len()), (Some(second), 0));
        assert_eq!(mine.compare(text(second).as_deref()), Standing::Known);
        assert_eq!(mine.compare(text(first).as_deref()), Standing::Ahead, "an earlier state");
        assert_eq!(mine.compare(None), Standing::Ahead, "all is forgotten");
        let mut copy = mine.clone();
        let (there, _) = (copy.issue(3), mine.issue(4));
        assert_eq!(mine.compare(text(there).as_deref()), Standing::Behind);
        assert_eq!(mine.compare(Some("nonsense")), Standing::Behind);
    }

    #[test]
    fn the_list_of_unanswered_attempts_stays_short() {
        let mut incarnations = Incarnations::default();
        let first = incarnations.issue(0);
        let all: Vec<_> =
            (1..MAX_ISSUED as u128).map(|chance| incarnations.issue(chance)).collect();
        incarnations.seen(text(first).as_deref());
        assert_eq!(incarnations.confirmed, Some(first));
        assert_eq!(incarnations.issued, all[all.len() - KEPT..]);
        incarnations.seen(None);
        assert_eq!(incarnations.issued.len(), 8);
    }

    #[test]
    fn a_place_is_another_ones_where_the_event_is_another_one() {
        let id = EventId(ulid::Ulid(7));
        let (there, other) = (id.to_string(), EventId(ulid::Ulid(8)).to_string());
        let place = Place { seq: Seq(5), id: Some(id) };
        assert!(place.is_in(Seq(1), Some(&there)));
        assert!(!place.is_in(Seq(1), Some(&other)));
        assert!(!place.is_in(Seq(1), None));
        assert!(place.is_in(Seq(6), None), "it is not kept any more");
        assert!(!place.is_in(Seq(5), Some(&other)), "the oldest one is kept");
        assert!(Place { id: None, ..place }.is_in(Seq(1), Some(&other)));
        assert!(!Place { id: None, ..place }.is_in(Seq(1), None));
        assert!(Place::default().is_in(Seq(1), None), "the very beginning is everybody's");
    }
}
