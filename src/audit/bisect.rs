//! Finds a change of the log after which a statement is no longer true.

use super::as_of::Past;
use super::point::Point;
use crate::error::{Code, Error, Result};
use crate::event::frame::Glance;
use crate::event::{Event, Seq};
use crate::store::LogReader;

/// A change after which a statement is no longer true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The last place at which it is true.
    pub good: Seq,
    /// The first one at which it is not.
    pub bad: Seq,
    /// The events between: what was pushed together, or one.
    pub events: Vec<Event>,
    /// How many states were asked.
    pub asked: u64,
}

/// The last events of a search that are given back.
const MOST_EVENTS: usize = 10_000;

/// A search for a change.
pub(crate) struct Search<'a> {
    /// The places at which the log may be asked: ends of units, or each event.
    ends: Vec<Seq>,
    ask: &'a mut dyn FnMut(Point) -> Result<Past>,
    sql: &'a str,
    asked: u64,
}

/// The places behind `from` up to `to` at which the tables were whole: where a unit ends, or, with
/// `every`, behind each event.
fn ends(log: &LogReader<'_>, from: Seq, to: Seq, every: bool) -> Result<Vec<Seq>> {
    let mut ends: Vec<Seq> = Vec::new();
    let mut last_unit = None;
    log.settled(from, to, &mut |_, _: &Glance<'_>| true, &mut |event| {
        // What a trigger of the web's wrote belongs to its cause.
        let is_one = !every && event.unit.is_some() && event.unit == last_unit;
        if is_one || (!every && event.cause.is_some()) {
            ends.pop();
        }
        last_unit = event.unit.or(last_unit.filter(|_| event.cause.is_some()));
        ends.push(event.seq);
        Ok(())
    })?;
    Ok(ends)
}

impl<'a> Search<'a> {
    /// A search between two points, at the ends of units or, with `every`, at each event. `ask`
    /// opens a former state.
    ///
    /// # Errors
    ///
    /// `Corrupt` when a frame is damaged.
    pub(crate) fn new(
        log: &LogReader<'_>,
        range: std::ops::Range<Seq>,
        every: bool,
        sql: &'a str,
        ask: &'a mut dyn FnMut(Point) -> Result<Past>,
    ) -> Result<Search<'a>> {
        let mut all = vec![range.start];
        all.extend(ends(log, range.start, range.end, every)?);
        Ok(Search { ends: all, ask, sql, asked: 0 })
    }

    /// How many states are to be asked at the most.
    pub(crate) fn most(&self) -> u32 {
        self.ends.len().ilog2() + 3
    }

    fn holds(&mut self, at: usize) -> Result<bool> {
        self.asked += 1;
        (self.ask)(Point::Seq(self.ends[at]))?.holds(self.sql)
    }

    /// The change. The statement must be true at the first place and false at the last.
    ///
    /// # Errors
    ///
    /// `Usage` when it is not so, or the statement cannot be answered.
    pub(crate) fn run(mut self, log: &LogReader<'_>) -> Result<Found> {
        let (mut good, mut bad) = (0, self.ends.len() - 1);
        if !self.holds(good)? {
            let message = format!(
                "the statement is not true behind event {}, where the search begins",
                self.ends[good]
            );
            return Err(Error::new(Code::QueryRefused, message)
                .with_hint("name an earlier point at which it was true with --since"));
        }
        if self.holds(bad)? {
            let message = format!(
                "the statement is still true behind event {}, where the search ends",
                self.ends[bad]
            );
            return Err(Error::new(Code::QueryRefused, message)
                .with_hint("write it so that it is true while all is well, and false now"));
        }
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            if self.holds(middle)? {
                good = middle;
            } else {
                bad = middle;
            }
        }
        let (good, bad) = (self.ends[good], self.ends[bad]);
        let mut events = Vec::new();
        log.settled(good, bad, &mut |_, _: &Glance<'_>| true, &mut |event| {
            if events.len() < MOST_EVENTS {
                events.push(event);
            }
            Ok(())
        })?;
        Ok(Found { good, bad, events, asked: self.asked })
    }
}
