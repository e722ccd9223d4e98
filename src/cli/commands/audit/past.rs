//! `driftless sql`, `driftless shell`, `driftless replay` and `driftless bisect`.

use std::cell::RefCell;
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::history::counted;
use crate::cli::commands::log::position;
use crate::cli::exit::Exit;
use crate::cli::output::event::Listing;
use crate::cli::output::grid::Grid;
use crate::cli::output::{Output, Tone};
use crate::cli::session::Session;
use crate::error::{Error, Result};
use crate::inspect::log_position::rfc3339;
use crate::inspect::{Entry, EventView, LogFilter, LogPosition, Past, Point, Replica};

/// The longest pause of `replay --play`.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// The arguments of `sql`.
#[derive(Debug, Args)]
pub(crate) struct SqlArgs {
    /// One SELECT over the replicated tables
    #[arg(value_name = "SELECT")]
    sql: String,
    /// The tables as they were then: a seq, an event's id, a time, a date, an age such as 2h,
    /// `yesterday`, `today` or `now`
    #[arg(long, value_name = "WHEN", value_parser = position, default_value = "now")]
    as_of: LogPosition,
}

/// The arguments of `shell`.
#[derive(Debug, Args)]
pub(crate) struct ShellArgs {
    /// The tables as they were then, as for `sql`
    #[arg(long, value_name = "WHEN", value_parser = position, default_value = "now")]
    as_of: LogPosition,
}

/// The arguments of `replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Up to this point of the log, as for `sql --as-of`
    #[arg(long, value_name = "WHEN", value_parser = position, default_value = "now")]
    until: LogPosition,
    /// Copy the tables as they were then into this new file
    #[arg(long, value_name = "FILE", required_unless_present = "play", conflicts_with = "play")]
    into: Option<PathBuf>,
    /// Show event after event, with the pauses between them
    #[arg(long)]
    play: bool,
    /// With --play: from this point on
    #[arg(long, value_name = "WHEN", value_parser = position, requires = "play")]
    since: Option<LogPosition>,
    /// With --play: only events of this table
    #[arg(long, value_name = "TABLE", requires = "play")]
    table: Option<String>,
    /// With --play: how many times faster than it was
    #[arg(long, value_name = "N", requires = "play", default_value = "60")]
    speed: f64,
}

/// The arguments of `bisect`.
#[derive(Debug, Args)]
pub(crate) struct BisectArgs {
    /// A SELECT whose first value is true while all is well, and false now
    #[arg(value_name = "SELECT")]
    sql: String,
    /// A point at which it was true; the beginning of the log if it is not given
    #[arg(long, value_name = "WHEN", value_parser = position)]
    since: Option<LogPosition>,
    /// A point at which it is false
    #[arg(long, value_name = "WHEN", value_parser = position, default_value = "now")]
    until: LogPosition,
    /// Look at each event, and not only where what was pushed together ends
    #[arg(long)]
    every: bool,
}

/// Opens a former state, with its progress shown.
fn open(replica: &Replica<'_>, output: &Output, at: LogPosition) -> Result<(Point, Past)> {
    let point = replica.point(at)?;
    let spinner = output.spinner("reading the log");
    let mut watch = |events: u64| spinner.progress(format!("{events} events read"));
    let past = replica.as_of(point, &mut watch)?;
    drop(spinner);
    let uncertain = past.rewound().uncertain;
    if uncertain > 0 {
        output.warn(format_args!(
            "of {} the log does not tell all old values: they are as they are now",
            counted(usize::try_from(uncertain).unwrap_or(usize::MAX), "row")
        ));
    }
    Ok((point, past))
}

fn answer(past: &Past, sql: &str, output: &Output) -> Result<u64> {
    let grid: RefCell<Option<Grid<'_>>> = RefCell::new(None);
    past.query(
        sql,
        &mut |names| {
            *grid.borrow_mut() = Some(Grid::new(output, names));
            Ok(())
        },
        &mut |row| grid.borrow_mut().as_mut().map_or(Ok(()), |grid| grid.row(row)),
    )?;
    grid.into_inner().map_or(Ok(0), Grid::finish)
}

/// Answers one query over the tables as they were.
///
/// # Errors
///
/// `Usage` when the query or the point is not valid, `Storage` when the database fails.
pub(crate) fn sql(session: &Session, args: &SqlArgs) -> Result<Exit> {
    let replica = session.replica()?;
    let (_, past) = open(&replica, session.output(), args.as_of)?;
    let paged = session.output().paged();
    answer(&past, &args.sql, &paged)?;
    Ok(Exit::Success)
}

/// Answers queries from stdin, one after the other.
///
/// # Errors
///
/// `Usage` when the point is not valid, `Storage` when the database fails.
pub(crate) fn shell(session: &Session, args: &ShellArgs) -> Result<Exit> {
    let replica = session.replica()?;
    let output = session.output();
    let (point, past) = open(&replica, output, args.as_of)?;
    let is_asked = std::io::stdin().is_terminal() && !output.is_json();
    let state = match point {
        Point::Seq(seq) => format!("behind event {seq}"),
        Point::Now => "now".to_owned(),
    };
    if is_asked {
        let tables: Vec<_> = replica.tables().collect();
        output.note(format_args!("the tables as they were {state}: {}", tables.join(", ")));
        output.note("a query ends with `;`, and `.quit` ends the shell");
    }
    let (mut text, mut lines) = (String::new(), std::io::stdin().lock().lines());
    loop {
        if is_asked {
            output.prompt(if text.is_empty() { "> " } else { "… " });
        }
        let Some(line) = lines.next() else { break };
        let line = line.map_err(|error| Error::usage(format!("cannot read stdin: {error}")))?;
        if text.is_empty() && matches!(line.trim(), ".quit" | ".exit" | "exit" | "quit") {
            break;
        }
        text.push_str(&line);
        text.push('\n');
        if text.trim().is_empty() {
            text.clear();
        } else if text.trim_end().ends_with(';') {
            ask(&past, &std::mem::take(&mut text), output)?;
        }
    }
    if !text.trim().is_empty() {
        ask(&past, &text, output)?;
    }
    Ok(Exit::Success)
}

/// Answers a query of the shell; one that is wrong does not end it.
fn ask(past: &Past, sql: &str, output: &Output) -> Result<()> {
    match answer(past, sql, output) {
        Err(error) if error.kind() == crate::error::Kind::Usage => {
            output.error(&error);
            Ok(())
        }
        answered => answered.map(drop),
    }
}

/// Copies a former state into a file, or shows the log event by event.
///
/// # Errors
///
/// `Usage` when the file exists or a point is not valid, `Storage` when a database fails.
pub(crate) fn replay(session: &Session, args: &ReplayArgs) -> Result<Exit> {
    let replica = session.replica()?;
    let output = session.output();
    let Some(path) = &args.into else { return play(&replica, output, args) };
    let point = replica.point(args.until)?;
    let spinner = output.spinner("reading the log");
    let mut watch = |events: u64| spinner.progress(format!("{events} events read"));
    let mut copied = |table: &crate::inspect::CopiedTable| {
        spinner.progress(format!("table {} copied, {} rows", table.table, table.rows));
    };
    let done = replica.replay_into(point, path, &mut watch, &mut copied)?;
    drop(spinner);
    if output.is_json() {
        output.json(&done)?;
        return Ok(Exit::Success);
    }
    let rows: u64 = done.tables.iter().map(|table| table.rows).sum();
    let row = |table: &crate::inspect::CopiedTable| {
        (Tone::Plain, vec![table.table.clone(), table.rows.to_string()])
    };
    let rows_of: Vec<_> = done.tables.iter().map(row).collect();
    output.table(&["table", "rows"], &rows_of)?;
    for left in &done.left_out {
        output.note(format_args!("left out: {left}"));
    }
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    output.note(format_args!("{} in {}", counted(rows, "row"), path.display()));
    Ok(Exit::Success)
}

fn play(replica: &Replica<'_>, output: &Output, args: &ReplayArgs) -> Result<Exit> {
    if args.speed.is_nan() || args.speed <= 0.0 {
        let message = format!("--speed {} is not a number above 0", args.speed);
        return Err(Error::usage(message).with_hint("60 shows an hour in a minute"));
    }
    let table = args.table.as_deref().map(|name| replica.table(name)).transpose()?;
    let mut filter = LogFilter { table: table.map(str::to_owned), ..LogFilter::default() };
    let until = (args.until != LogPosition::Now).then_some(args.until);
    replica.limit(&mut filter, args.since, until)?;
    let listing = Listing::new(replica.id(), replica.tables());
    if !output.is_json() {
        let (line, last) = listing.header();
        output.row_in_two(Tone::Strong, &line, last)?;
    }
    let mut last_ms = None;
    // Read as it is shown: a snapshot would keep the write-ahead log from being written back.
    let mut after = filter.after_seq;
    loop {
        filter.after_seq = after;
        let mut next = None;
        replica.walk_log(&filter, &mut |entry| {
            Ok(match entry {
                Entry::Settled(event) => {
                    next = Some(event);
                    std::ops::ControlFlow::Break(())
                }
                Entry::Pending(_) => std::ops::ControlFlow::Break(()),
            })
        })?;
        let Some(event) = next else { break };
        let gap = last_ms.map_or(0, |last: i64| (event.received_at - last).max(0));
        let gap = Duration::from_millis(gap.unsigned_abs()).div_f64(args.speed);
        std::thread::sleep(gap.min(LONGEST_PAUSE));
        (last_ms, after) = (Some(event.received_at), Some(event.seq));
        let entry = Entry::Settled(event);
        if output.is_json() {
            output.json(&EventView::of(&entry, replica.id()))?;
        } else {
            let (tone, line, last) = listing.entry(&entry);
            output.row_in_two(tone, &line, &last)?;
        }
    }
    Ok(Exit::Success)
}

/// Finds the change after which a statement is no longer true.
///
/// # Errors
///
/// `Usage` when the statement fails, or is not true first and false then.
pub(crate) fn bisect(session: &Session, args: &BisectArgs) -> Result<Exit> {
    let replica = session.replica()?;
    let output = session.output();
    let from = args.since.map(|at| replica.point(at)).transpose()?;
    let to = replica.point(args.until)?;
    let spinner = output.spinner("asking former states");
    let mut watch =
        |asked: u64, most: u64| spinner.progress(format!("question {asked} of {most} at the most"));
    let found = replica.bisect(&args.sql, from, to, args.every, &mut watch)?;
    drop(spinner);
    let me = replica.id();
    if output.is_json() {
        for event in &found.events {
            output.json(&EventView::settled(event))?;
        }
        return Ok(Exit::Success);
    }
    let when = found.events.last().map(|event| rfc3339(event.received_at)).unwrap_or_default();
    output.note(format_args!(
        "true behind event {}, no longer true behind event {} ({when}); {} asked",
        found.good,
        found.bad,
        counted(usize::try_from(found.asked).unwrap_or(usize::MAX), "state")
    ));
    let listing = Listing::new(me, replica.tables());
    let (line, last) = listing.header();
    output.row_in_two(Tone::Strong, &line, last)?;
    for event in found.events {
        let (tone, line, last) = listing.entry(&Entry::Settled(event));
        output.row_in_two(tone, &line, &last)?;
    }
    Ok(Exit::Success)
}
