//! The log: the events that are wanted, and one event by a person's words.

use std::ops::ControlFlow;

use super::{LogPosition, Point, Replica};
use crate::error::{Code, Error, Result};
use crate::event::{EventId, Origin, ReplicaId, Seq};
use crate::store::{Cause, Entry, LogFilter};
use crate::sync::now_ms;

impl Replica<'_> {
    /// Visits the events that `filter` takes: the settled ones in the order of the log, then the
    /// pending ones in theirs. An error of `visit` ends the walk.
    pub fn log(
        &self,
        filter: &LogFilter,
        visit: &mut dyn FnMut(Entry) -> Result<()>,
    ) -> Result<()> {
        self.store.log(filter, visit)
    }

    /// The same; the walk ends, too, when `visit` breaks it.
    pub fn walk_log(
        &self,
        filter: &LogFilter,
        visit: &mut dyn FnMut(Entry) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.store.walk_log(filter, visit)
    }

    /// An event by its seq, its id, or the beginning or end of its id.
    ///
    /// # Errors
    ///
    /// `Usage` when there is none, or several.
    pub fn event(&self, text: &str) -> Result<Entry> {
        if let Ok(seq) = text.parse::<i64>()
            && let Some(event) = self.store.settled(Seq(seq))?
        {
            return Ok(Entry::Settled(event));
        }
        let id = match text.parse::<EventId>() {
            Ok(id) => id,
            Err(_) => {
                let mut ids = Vec::new();
                self.log(&LogFilter::default(), &mut |entry| {
                    ids.push(entry.id());
                    Ok(())
                })?;
                resolve(text, "event", ids.into_iter())?
            }
        };
        let found = self.store.event(id)?;
        found.ok_or_else(|| no_event(id).with_hint("`driftless log` lists the events"))
    }

    /// An origin: `web`, `me`, or a replica by its id or the beginning or end of it.
    ///
    /// # Errors
    ///
    /// As for [`Replica::event`].
    pub fn origin(&self, text: &str) -> Result<Origin> {
        if text == "me" {
            return Ok(Origin::Replica(self.id()));
        }
        if let Ok(origin) = text.parse() {
            return Ok(origin);
        }
        let mut replicas = vec![self.id()];
        self.log(&LogFilter::default(), &mut |entry| {
            if let Entry::Settled(event) = entry
                && let Origin::Replica(replica) = event.origin
                && !replicas.contains(&replica)
            {
                replicas.push(replica);
            }
            Ok(())
        })?;
        let found = resolve(text, "replica", replicas.into_iter().map(|id| EventId(id.0)));
        found.map(|id| Origin::Replica(ReplicaId(id.0)))
    }

    /// A unit: by its id, or by an event of it, as [`Replica::event`] takes it.
    ///
    /// # Errors
    ///
    /// As for [`Replica::event`], and when the event is of no unit.
    pub fn unit(&self, text: &str) -> Result<ulid::Ulid> {
        let found = match self.event(text) {
            Ok(Entry::Settled(event)) => event.unit,
            Ok(Entry::Pending(_)) => None,
            Err(error) => return text.parse().map_err(|_| error),
        };
        found.ok_or_else(|| {
            let message = format!("event `{text}` was not pushed together with others");
            Error::new(Code::NoSuchEvent, message)
        })
    }

    /// Checks the number of a former remote's log, for [`LogFilter::former`].
    ///
    /// # Errors
    ///
    /// `Usage`, naming those that there are, when there is no such log.
    pub fn former_log(&self, n: i64) -> Result<i64> {
        let all = self.past_identities()?;
        let logs = all.iter().filter(|former| former.cause == Cause::Accepted);
        let logs: Vec<_> = logs.map(|former| former.n).collect();
        if logs.contains(&n) {
            return Ok(n);
        }
        let names: Vec<_> = logs.iter().map(i64::to_string).collect();
        let error = Error::usage(format!("there is no log of a former remote with the number {n}"));
        Err(error.with_hint(match names.is_empty() {
            true => "this file has had only one remote".to_owned(),
            false => format!("these are: {}", names.join(", ")),
        }))
    }

    /// Limits `filter` to the events from `since` up to `until`.
    ///
    /// # Errors
    ///
    /// `Usage` when a position is an event that is not in the log.
    pub fn limit(
        &self,
        filter: &mut LogFilter,
        since: Option<LogPosition>,
        until: Option<LogPosition>,
    ) -> Result<()> {
        match since.map(|at| self.settle(at)).transpose()? {
            Some(LogPosition::Seq(Seq(seq))) => filter.after_seq = Some(Seq(seq.saturating_sub(1))),
            Some(LogPosition::At(ms)) => filter.since_ms = Some(ms),
            _ => {}
        }
        match until.map(|at| self.settle(at)).transpose()? {
            Some(LogPosition::Seq(seq)) => filter.until_seq = Some(seq),
            Some(LogPosition::At(ms)) => filter.until_ms = Some(ms),
            _ => {}
        }
        Ok(())
    }

    /// The point of the log at a position: the state of the tables at that moment.
    ///
    /// # Errors
    ///
    /// `Usage` when the position is an event that is not in the log, or is not pushed yet.
    pub fn point(&self, at: LogPosition) -> Result<Point> {
        let at_time = |ms| {
            if ms >= now_ms() {
                return Ok(Point::Now);
            }
            self.store.read_log(|log| log.place_at(ms)).map(Point::Seq)
        };
        match at {
            LogPosition::Now => Ok(Point::Now),
            LogPosition::Seq(seq) => Ok(Point::Seq(seq)),
            LogPosition::At(ms) => at_time(ms),
            LogPosition::Ago(age) => at_time(now_ms().saturating_sub(age)),
            LogPosition::Event(id) => match self.store.event(id)? {
                Some(Entry::Settled(event)) => Ok(Point::Seq(event.seq)),
                Some(Entry::Pending(_)) => {
                    let message =
                        format!("event {id} is not pushed yet: it has no place in the log");
                    Err(Error::new(Code::NoSuchEvent, message)
                        .with_hint("write `now` for the state with what is pending"))
                }
                None => Err(no_event(id)),
            },
        }
    }

    /// A position as a seq or a time.
    fn settle(&self, at: LogPosition) -> Result<LogPosition> {
        match at {
            LogPosition::Ago(age) => Ok(LogPosition::At(now_ms().saturating_sub(age))),
            LogPosition::Event(id) => match self.store.event(id)? {
                Some(Entry::Settled(event)) => Ok(LogPosition::Seq(event.seq)),
                Some(Entry::Pending(_)) => Ok(LogPosition::At(id.ms())),
                None => Err(no_event(id)),
            },
            LogPosition::Now => Ok(LogPosition::At(now_ms())),
            LogPosition::Seq(_) | LogPosition::At(_) => Ok(at),
        }
    }
}

fn no_event(id: EventId) -> Error {
    Error::new(Code::NoSuchEvent, format!("there is no event {id} in the log"))
}

/// The one id that begins or ends with `text`.
pub(super) fn resolve(
    text: &str,
    what: &str,
    ids: impl Iterator<Item = EventId>,
) -> Result<EventId> {
    let wanted = text.to_ascii_uppercase();
    let mut found: Option<EventId> = None;
    for id in ids {
        let name = id.to_string();
        if name == wanted {
            return Ok(id);
        }
        if wanted.is_empty() || !(name.starts_with(&wanted) || name.ends_with(&wanted)) {
            continue;
        }
        if let Some(other) = found.filter(|other| *other != id) {
            let message = format!("more than one {what} matches `{text}`");
            return Err(Error::new(Code::NoSuchEvent, message)
                .with_hint(format!("for instance {other} and {id}: give more characters")));
        }
        found = Some(id);
    }
    found.ok_or_else(|| {
        Error::new(Code::NoSuchEvent, format!("there is no {what} `{text}`"))
            .with_hint("the beginning or the end of its id is enough")
    })
}
