//! `driftless log` and `driftless show`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::cli::exit::Exit;
use crate::cli::output::event::{Listing, origin, show as show_entry};
use crate::cli::output::{Output, Tone, clean};
use crate::cli::session::Session;
use crate::cli::signal;
use crate::error::{Error, Result};
use crate::event::{EventId, Seq};
use crate::inspect::log_position::rfc3339;
use crate::inspect::{
    Cause, Condition, Entry, EventState, EventView, LogFilter, LogPosition, PastIdentity, Replica,
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
    /// Only events of this row: its key's values separated by commas, or a JSON array
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only events of this origin: `web`, `me`, or a replica's id or its beginning or end
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// Only events with this verdict: applied, superseded, rejected or pending
    #[arg(long, value_name = "VERDICT", value_parser = VERDICTS)]
    verdict: Option<String>,
    /// From this place on: a time, a date, an age such as 2h or 7d, a seq, or an event's id
    #[arg(long, value_name = "WHEN", value_parser = position)]
    since: Option<LogPosition>,
    /// Up to this place: the same forms
    #[arg(long, value_name = "WHEN", value_parser = position)]
    until: Option<LogPosition>,
    /// The log of a former remote, by its number in the output of `log`
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    former: Option<i64>,
    /// Only events by this actor, as the application set it
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only events that were pushed together with this one: its seq or id, or the unit's id
    #[arg(long, value_name = "EVENT")]
    unit: Option<String>,
    /// Only events with this text in a value, old or new, or in the key
    #[arg(short = 'S', value_name = "TEXT")]
    text: Option<String>,
    /// Only events for which this SQL holds; it may name seq, id, made_at, origin, actor, unit,
    /// tbl, key, op, verdict, reason, before and after (the last two JSON)
    #[arg(long = "where", value_name = "SQL")]
    condition: Option<String>,
    #[command(flatten)]
    form: Form,
    /// Continue with new events, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
}

/// In which order and form the events are printed.
#[derive(Debug, Args)]
struct Form {
    /// The newest event first
    #[arg(long, conflicts_with = "follow")]
    reverse: bool,
    /// No more than so many events
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    limit: Option<u64>,
    /// One short line an event
    #[arg(long, conflicts_with = "stat")]
    oneline: bool,
    /// Count the events of each table by writer and verdict instead
    #[arg(long, conflicts_with = "follow")]
    stat: bool,
}

/// Parses a place in the log. The error says how to write one.
pub(in crate::cli) fn position(text: &str) -> std::result::Result<LogPosition, String> {
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
        actor: args.actor.clone(),
        unit: args.unit.as_deref().map(|text| replica.unit(text)).transpose()?,
        text: args.text.clone(),
        reverse: args.form.reverse,
        ..LogFilter::default()
    };
    replica.limit(&mut filter, args.since, args.until)?;
    Ok(filter)
}

/// Whether the listing is limited only by time or place, so that it includes changes of identity.
fn is_of_everything(filter: &LogFilter) -> bool {
    let LogFilter { table, key, origin, verdict, former, actor, unit, text, .. } = filter;
    let asked = table.is_some() || origin.is_some() || verdict.is_some() || former.is_some();
    !asked && key.is_none() && actor.is_none() && unit.is_none() && text.is_none()
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
/// `Usage` for a filter that matches no object, `Storage` when the database fails.
pub(crate) fn log(session: &Session, args: LogArgs) -> Result<Exit> {
    let replica = session.replica()?;
    let mut wanted = filter(&replica, &args)?;
    let paged = if args.follow { None } else { Some(session.output().paged()) };
    let output = paged.as_ref().unwrap_or(session.output());
    let condition = args.condition.as_deref().map(Condition::of_events).transpose()?;
    if args.form.stat {
        return stat(&replica, &wanted, condition.as_ref(), output);
    }
    let mut printer = Printer {
        replica: &replica,
        output,
        listing: Listing::new(replica.id(), replica.tables()),
        condition,
        oneline: args.form.oneline,
        left: args.form.limit.unwrap_or(u64::MAX),
        printed_header: output.is_json() || args.form.oneline,
        printed: false,
        pending_seen: Vec::new(),
    };
    if args.follow {
        // Ctrl-C is the normal way to end `--follow`.
        signal::end_at_once(output, Exit::Success, String::new())?;
    }
    if is_of_everything(&wanted) && !output.is_json() {
        for past in replica.past_identities()? {
            output.note(told(&past, &replica));
        }
    }
    loop {
        let version = replica.data_version()?;
        let last = printer.print(&wanted)?;
        if !args.follow {
            break;
        }
        wanted.after_seq = wanted.after_seq.max(last);
        while replica.data_version()? == version {
            std::thread::sleep(FOLLOW);
        }
    }
    if !printer.printed && !output.is_json() {
        output.note("no events");
    }
    Ok(Exit::Success)
}

/// A change of identity, as the listing shows it before the events.
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

/// Prints events as they are read.
struct Printer<'a> {
    replica: &'a Replica<'a>,
    output: &'a Output,
    listing: Listing,
    condition: Option<Condition>,
    oneline: bool,
    /// How many events may still be printed.
    left: u64,
    printed_header: bool,
    printed: bool,
    /// The pending events of the last round, in the order of their ids.
    pending_seen: Vec<EventId>,
}

impl Printer<'_> {
    /// Prints the events that are wanted and not printed yet. Gives the last settled event's place.
    fn print(&mut self, wanted: &LogFilter) -> Result<Option<Seq>> {
        let mut last = None;
        let mut pending = Vec::new();
        let replica = self.replica;
        replica.walk_log(wanted, &mut |entry| {
            match &entry {
                Entry::Settled(event) => last = last.max(Some(event.seq)),
                Entry::Pending(event) => {
                    pending.push(event.id);
                    if self.pending_seen.binary_search(&event.id).is_ok() {
                        return Ok(ControlFlow::Continue(()));
                    }
                }
            }
            if self.left == 0 {
                return Ok(ControlFlow::Break(()));
            }
            let view = EventView::of(&entry, replica.id());
            if let Some(condition) = &self.condition
                && !condition.takes_event(&view)?
            {
                return Ok(ControlFlow::Continue(()));
            }
            self.left -= 1;
            self.one(&entry, &view)?;
            Ok(ControlFlow::Continue(()))
        })?;
        pending.sort_unstable();
        self.pending_seen = pending;
        Ok(last)
    }

    fn one(&mut self, entry: &Entry, view: &EventView<'_>) -> Result<()> {
        self.printed = true;
        if !std::mem::replace(&mut self.printed_header, true) {
            let (line, last) = self.listing.header();
            self.output.row_in_two(Tone::Strong, &line, last)?;
        }
        if self.output.is_json() {
            return self.output.json(view);
        }
        if self.oneline {
            let (tone, line) = self.listing.oneline(entry);
            return self.output.row(tone, &line);
        }
        let (tone, line, last) = self.listing.entry(entry);
        self.output.row_in_two(tone, &line, &last)
    }
}

/// Prints how many events there are of each table, writer and verdict.
fn stat(
    replica: &Replica<'_>,
    wanted: &LogFilter,
    condition: Option<&Condition>,
    output: &Output,
) -> Result<Exit> {
    let mut counts: BTreeMap<(String, String, &'static str), [u64; 3]> = BTreeMap::new();
    replica.log(wanted, &mut |entry| {
        let view = EventView::of(&entry, replica.id());
        if condition.map_or(Ok(true), |condition| condition.takes_event(&view))? {
            let by = match output.is_json() {
                true => view.origin.to_string(),
                false => origin(view.origin, replica.id()),
            };
            let counted = counts.entry((view.table.to_owned(), by, view.verdict)).or_default();
            counted[view.op as usize] += 1;
        }
        Ok(())
    })?;
    if output.is_json() {
        for ((table, origin, verdict), [inserts, updates, deletes]) in &counts {
            output.json(&Stat { table, origin, verdict, inserts, updates, deletes })?;
        }
        return Ok(Exit::Success);
    }
    if counts.is_empty() {
        output.note("no events");
        return Ok(Exit::Success);
    }
    let row = |((table, by, verdict), counted): (&(String, String, &str), &[u64; 3])| {
        let mut row = vec![clean(table, usize::MAX), by.clone(), (*verdict).to_owned()];
        row.extend(counted.iter().map(u64::to_string));
        (Tone::Plain, row)
    };
    let rows: Vec<_> = counts.iter().map(row).collect();
    output.table(&["table", "by", "verdict", "inserts", "updates", "deletes"], &rows)?;
    Ok(Exit::Success)
}

/// A line of `log --stat --json`.
#[derive(Serialize)]
struct Stat<'a> {
    table: &'a str,
    origin: &'a str,
    verdict: &'a str,
    inserts: &'a u64,
    updates: &'a u64,
    deletes: &'a u64,
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
