//! The log of events.

use serde::Serialize;

use super::super::message::Failure;
use super::super::method::{Method, Reply};
use super::super::params::Params;
use super::super::sidecar::Sidecar;
use crate::error::Error;
use crate::inspect::{Entry, EventState, EventView, LogFilter, LogPosition, Replica};

pub(super) const METHODS: &[Method] = &[Method::new("log", log), Method::new("event", event)];

/// How many events are listed, unless `limit` says another number.
const LISTED: usize = 100;
/// The most events of an answer.
const MOST: usize = 1_000;

/// Lists events in the order of the log, then the pending ones.
fn log(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Listed<'a> {
        events: Vec<EventView<'a>>,
        more: bool,
    }
    let replica = sidecar.replica()?;
    let filter = filter(&replica, params)?;
    let mut skip: usize = params.option("skip")?.unwrap_or(0);
    let limit = params.option("limit")?.unwrap_or(LISTED).min(MOST);
    params.end()?;
    let (mut entries, mut more) = (Vec::new(), false);
    let walked = replica.log(&filter, &mut |entry| {
        if skip > 0 {
            skip -= 1;
        } else if entries.len() < limit {
            entries.push(entry);
        } else {
            more = true;
            // It ends the walk.
            return Err(Error::usage("the list is long enough"));
        }
        Ok(())
    });
    if !more {
        walked?;
    }
    let events = entries.iter().map(|entry| EventView::of(entry, replica.id())).collect();
    Reply::now(&Listed { events, more })
}

fn filter(replica: &Replica<'_>, params: &mut Params) -> Result<LogFilter, Failure> {
    let table: Option<String> = params.option("table")?;
    let origin: Option<String> = params.option("origin")?;
    let verdict: Option<String> = params.option("verdict")?;
    let former: Option<i64> = params.option("former")?;
    let verdict = match verdict.as_deref() {
        None => None,
        Some("applied") => Some(EventState::Applied),
        Some("superseded") => Some(EventState::Superseded),
        Some("rejected") => Some(EventState::Rejected),
        Some("pending") => Some(EventState::Pending),
        Some(_) => {
            let words = "is not `applied`, `superseded`, `rejected` or `pending`";
            return Err(params.wrong("verdict", words));
        }
    };
    let mut filter = LogFilter {
        table: table.map(|name| replica.table(&name).map(str::to_owned)).transpose()?,
        key: params.option("key")?,
        origin: origin.map(|text| replica.origin(&text)).transpose()?,
        verdict,
        former: former.map(|n| replica.former_log(n)).transpose()?,
        ..LogFilter::default()
    };
    let position = |text: Option<String>| -> Result<Option<LogPosition>, Failure> {
        Ok(text.map(|text| text.parse()).transpose()?)
    };
    let (since, until) = (position(params.option("since")?)?, position(params.option("until")?)?);
    replica.limit(&mut filter, since, until)?;
    Ok(filter)
}

/// One event, by its seq, its id, or the beginning or end of that.
fn event(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    let id: String = params.take("id")?;
    params.end()?;
    let replica = sidecar.replica()?;
    let found: Entry = replica.event(&id)?;
    Reply::now(&EventView::of(&found, replica.id()))
}
