//! Changes taken back.

use std::collections::HashSet;

use super::{Point, Replica, Reverted};
use crate::audit::delta::{Known, fold, get};
use crate::error::{Code, Error, Result};
use crate::event::frame::Glance;
use crate::event::value::Value;
use crate::event::{Event, EventId, Image, Op, Seq};
use crate::store::{Entry, EventState, LogFilter, LogReader};

/// The most events that are taken back in one transaction.
const MOST_EVENTS: usize = 100_000;
/// How far behind an event its consequences are looked for.
const CONSEQUENCES: i64 = 20_000;

/// Which events are to be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToRevert {
    /// This one.
    Event(EventId),
    /// What was pushed together under this id.
    Unit(ulid::Ulid),
    /// All behind the first point up to the second.
    Between(Point, Point),
    /// All settled events that a filter takes.
    Selected(Box<LogFilter>),
}

impl Replica<'_> {
    /// Takes settled changes back, in one transaction, with their foreign keys' consequences: new
    /// events set the old values again where nobody has changed them since. What cannot be taken
    /// back is told in what comes back. With `dry_run` nothing changes.
    ///
    /// # Errors
    ///
    /// `Usage` when there is no such event, it has lost or is not pushed yet, or there are more
    /// than 100,000. Then nothing has changed.
    pub fn revert(&mut self, wanted: &ToRevert, dry_run: bool) -> Result<Reverted> {
        let chosen = self.chosen(wanted)?;
        self.store.index_rows(&mut |_| {})?;
        let events = self.store.read_log(|log| {
            let mut events = with_consequences(log, chosen)?;
            for event in &mut events {
                as_logged(log, event)?;
            }
            Ok(events)
        })?;
        self.store.revert(&events, dry_run)
    }

    /// The events that are meant, in the order of the log.
    fn chosen(&self, wanted: &ToRevert) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        let mut take = |event: Event| {
            if events.len() == MOST_EVENTS {
                let message = format!("more than {MOST_EVENTS} events are to be taken back");
                return Err(Error::usage(message).with_hint("name a part of them at a time"));
            }
            if event.verdict.is_applied() {
                events.push(event);
            }
            Ok(())
        };
        match wanted {
            ToRevert::Event(id) => match self.store.event(*id)? {
                Some(Entry::Settled(event)) if event.verdict.is_applied() => take(event)?,
                Some(Entry::Settled(event)) => {
                    let message = format!("event {} has lost: it has changed nothing", event.seq);
                    return Err(Error::usage(message));
                }
                Some(Entry::Pending(_)) => {
                    let message = format!("event {id} is not pushed yet");
                    return Err(Error::usage(message)
                        .with_hint("synchronise first, or change the row by hand"));
                }
                None => {
                    let message = format!("there is no event {id} in the log");
                    return Err(Error::new(Code::NoSuchEvent, message));
                }
            },
            ToRevert::Unit(unit) => {
                self.each(&LogFilter { unit: Some(*unit), ..LogFilter::default() }, &mut take)?
            }
            ToRevert::Between(from, to) => self.store.read_log(|log| {
                from.check(log)?;
                let (from, to) = (from.seq(log)?, to.seq(log)?);
                log.settled(from, to, &mut |_, glance| glance.is_applied, &mut take)
            })?,
            ToRevert::Selected(filter) => self.each(filter, &mut take)?,
        }
        if events.is_empty() {
            return Err(Error::new(Code::NoSuchEvent, "no applied event is meant")
                .with_hint("`driftless log` lists what is there, with the same filters"));
        }
        Ok(events)
    }

    fn each(&self, filter: &LogFilter, take: &mut dyn FnMut(Event) -> Result<()>) -> Result<()> {
        let filter =
            LogFilter { verdict: Some(EventState::Applied), reverse: false, ..filter.clone() };
        self.store.log(&filter, &mut |entry| match entry {
            Entry::Settled(event) => take(event),
            Entry::Pending(_) => Ok(()),
        })
    }
}

/// Gives an event the old values that the log had in front of it. Its own are those that its writer
/// had seen, and earlier changes of that writer may have lost.
fn as_logged(log: &LogReader<'_>, event: &mut Event) -> Result<()> {
    if event.op == Op::Insert {
        return Ok(());
    }
    let earlier = log.of_row(&event.table, &event.key, Seq(0), Seq(event.seq.0 - 1))?.events;
    if earlier.iter().all(|one| one.verdict.is_applied()) {
        return Ok(());
    }
    if let Some(Known::Row { image, .. }) = fold(&earlier) {
        let wanted = |(name, _): &&(String, Value)| match &event.after {
            Some(after) => get(after, name).is_some(),
            None => true,
        };
        event.before = Some(Image(image.0.iter().filter(wanted).cloned().collect()));
    }
    Ok(())
}

/// The events with the other halves of key changes, and with what foreign keys and triggers of the
/// web's did because of them.
fn with_consequences(log: &LogReader<'_>, chosen: Vec<Event>) -> Result<Vec<Event>> {
    let Some(first) = chosen.first().map(|event| event.seq) else { return Ok(chosen) };
    let last = chosen.last().map_or(first, |event| event.seq);
    let mut ids: HashSet<EventId> = chosen.iter().map(|event| event.id).collect();
    let mut all = chosen;
    // The delete of a key change is in front of its insert.
    for at in 0..all.len() {
        let insert = &all[at];
        if let (Op::Insert, Some(pair)) = (insert.op, insert.pair)
            && !ids.contains(&pair)
            && let Some(delete) = log.named_before(pair, insert.seq)?
        {
            ids.insert(delete.id);
            all.push(delete);
        }
    }
    let until = Seq(last.0.saturating_add(CONSEQUENCES));
    let mut found = Vec::new();
    log.settled(first, until, &mut |_, glance: &Glance<'_>| glance.is_applied, &mut |event| {
        let of = [event.cause, event.via, event.pair].into_iter().flatten();
        if !ids.contains(&event.id) && of.into_iter().any(|id| ids.contains(&id)) {
            ids.insert(event.id);
            found.push(event);
        }
        Ok(())
    })?;
    all.extend(found);
    all.sort_by_key(|event| event.seq);
    Ok(all)
}
