//! `driftless log` and `driftless show`.

use std::time::Duration;

use clap::Args;

use crate::cli::exit::Exit;
use crate::cli::output::event::{Listing, show as show_entry};
use crate::cli::output::{Output, Tone};
use crate::cli::session::Session;
use crate::cli::signal;
use crate::error::{Error, Result};
use crate::event::{EventId, Seq};
use crate::inspect::log_position::rfc3339;
use crate::inspect::{
    Cause, Entry, EventState, EventView, LogFilter, LogPosition, PastIdentity, Replica,
};

/// How often `--follow` looks for new events.
const FOLLOW: Duration = Duration::from_millis(200);

/// The values of `--verdict`.
const VERDICTS: [&str; 4] = ["applied", "superseded", "rejected", "pending"];

/// The arguments of `log`.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Only events of this table
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// Only events of this row: its key's values with commas between, or a JSON array
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only events of this origin: `web`, `me`, or a replica's id or its beginning or end
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// Only events with this verdict: applied, superseded, rejected or pending
    #[arg(long, value_name = "VERDICT", value_parser = VERDICTS)]
    verdict: Option<String>,
    /// From here on: a time, a date, an age such as 2h or 7d, a seq, or an event's id
    #[arg(long, value_name = "WHEN", value_parser = position)]
    since: Option<LogPosition>,
    /// Up to here: likewise
    #[arg(long, value_name = "WHEN", value_parser = position)]
    until: Option<LogPosition>,
    /// The log of a former remote, by the number that `log` names
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    former: Option<i64>,
    /// Go on with what comes, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
}

/// Parses a place in the log. The error says how to write one.
fn position(text: &str) -> std::result::Result<LogPosition, String> {
    text.parse().map_err(|error: Error| match error.hint() {
        Some(hint) => format!("{error}\n  {hint}"),
        None => error.to_string(),
    })
}

/// The arguments of `show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The event: its id, the beginning or end of it, or its seq
    #[arg(value_name = "EVENT")]
    event: String,
}

/// The filter of the command line.
fn filter(replica: &Replica<'_>, args: &LogArgs) -> Result<LogFilter> {
    let table = args.table.as_deref().map(|name| replica.table(name)).transpose()?;
    let mut filter = LogFilter {
        table: table.map(str::to_owned),
        key: args.key.clone(),
        origin: args.origin.as_deref().map(|text| replica.origin(text)).transpose()?,
        verdict: args.verdict.as_deref().map(standing),
        former: args.former.map(|n| replica.former_log(n)).transpose()?,
        ..LogFilter::default()
    };
    replica.limit(&mut filter, args.since, args.until)?;
    Ok(filter)
}

/// Whether only time or place limits the listing, so that changes of identity are part of it.
fn is_of_everything(filter: &LogFilter) -> bool {
    let LogFilter { table, key, origin, verdict, former, .. } = filter;
    let asked = table.is_some() || origin.is_some() || verdict.is_some() || former.is_some();
    !asked && key.is_none()
}

fn standing(word: &str) -> EventState {
    match word {
        "applied" => EventState::Applied,
        "superseded" => EventState::Superseded,
        "rejected" => EventState::Rejected,
        "pending" => EventState::Pending,
        _ => unreachable!("the parser of the command line knows the words"),
    }
}

/// Prints the events.
///
/// # Errors
///
/// `Usage` for a filter that names nothing, `Storage` when the database fails.
pub(crate) fn log(session: &Session, args: LogArgs) -> Result<Exit> {
    let replica = session.replica()?;
    let mut wanted = filter(&replica, &args)?;
    let output = session.output();
    let listing = Listing::new(replica.id(), replica.tables());
    if args.follow {
        // Ctrl-C is the normal end of `--follow`.
        signal::end_at_once(output, Exit::Success, String::new())?;
    }
    if is_of_everything(&wanted) && !output.is_json() {
        for past in replica.past_identities()? {
            output.note(told(&past, &replica));
        }
    }
    let mut printed_header = output.is_json();
    let mut pending_seen: Vec<EventId> = Vec::new();
    loop {
        let version = replica.data_version()?;
        let last =
            print(&replica, &wanted, output, &listing, &mut printed_header, &mut pending_seen)?;
        if !args.follow {
            break;
        }
        wanted.after_seq = wanted.after_seq.max(last);
        while replica.data_version()? == version {
            std::thread::sleep(FOLLOW);
        }
    }
    if !printed_header {
        output.note("no events");
    }
    Ok(Exit::Success)
}

/// A change of identity, as the listing shows it above the events.
fn told(past: &PastIdentity, replica: &Replica<'_>) -> String {
    let PastIdentity { n, replica: id, cursor, cause, ended_ms, .. } = past;
    let until = format!("until {} this file was replica {id}", rfc3339(*ended_ms));
    match cause {
        Cause::Copied => {
            format!("{until}, up to event {cursor}: it was copied, or restored from a backup")
        }
        Cause::Accepted => format!(
            "{until} of another remote, whose log is kept: driftless log --db {} --former {n}",
            replica.path().display()
        ),
    }
}

/// Prints the events that are wanted and not printed yet. Gives the last settled event's place.
fn print(
    replica: &Replica<'_>,
    wanted: &LogFilter,
    output: &Output,
    listing: &Listing,
    printed_header: &mut bool,
    pending_seen: &mut Vec<EventId>,
) -> Result<Option<Seq>> {
    let mut last = None;
    let mut pending = Vec::new();
    replica.log(wanted, &mut |entry| {
        match &entry {
            Entry::Settled(event) => last = Some(event.seq),
            Entry::Pending(event) => {
                pending.push(event.id);
                if pending_seen.binary_search(&event.id).is_ok() {
                    return Ok(());
                }
            }
        }
        if !std::mem::replace(printed_header, true) {
            let (line, last) = listing.header();
            output.row_in_two(Tone::Strong, &line, last)?;
        }
        match output.is_json() {
            true => output.json(&EventView::of(&entry, replica.id())),
            false => {
                let (tone, line, last) = listing.entry(&entry);
                output.row_in_two(tone, &line, &last)
            }
        }
    })?;
    pending.sort_unstable();
    *pending_seen = pending;
    Ok(last)
}

/// Prints one event.
///
/// # Errors
///
/// `Usage` when there is no such event, `Storage` when the database fails.
pub(crate) fn show(session: &Session, args: &ShowArgs) -> Result<Exit> {
    let replica = session.replica()?;
    show_entry(session.output(), &replica.event(&args.event)?, replica.id())?;
    Ok(Exit::Success)
}
