//! `driftless revert`.

use clap::Args;

use super::history::counted;
use crate::cli::commands::log::position;
use crate::cli::exit::Exit;
use crate::cli::output::event::{key, tail};
use crate::cli::output::{Output, Tone, clean};
use crate::cli::session::Session;
use crate::error::{Error, Result};
use crate::event::Op;
use crate::inspect::{LogFilter, LogPosition, PointRange, Replica, Reverted, ToRevert};

/// The arguments of `revert`.
#[derive(Debug, Args)]
pub(crate) struct RevertArgs {
    /// An event (its seq or id, or the beginning or end of it), a unit's id, or A..B for all events
    /// behind A up to B
    #[arg(value_name = "EVENT|UNIT|A..B", required_unless_present_any = ["actor", "since"])]
    what: Option<String>,
    /// All events by this actor, as the application set it
    #[arg(long, value_name = "NAME", conflicts_with = "what")]
    actor: Option<String>,
    /// All events from here on: a time, a date, an age such as 2h, a seq or an event's id
    #[arg(long, value_name = "WHEN", value_parser = position, conflicts_with = "what")]
    since: Option<LogPosition>,
    /// With --actor or --since: only events of this table
    #[arg(long, value_name = "TABLE", conflicts_with = "what")]
    table: Option<String>,
    /// Show what would be taken back, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// What the command line means.
fn wanted(replica: &Replica<'_>, args: &RevertArgs) -> Result<ToRevert> {
    let Some(what) = &args.what else {
        let table = args.table.as_deref().map(|name| replica.table(name)).transpose()?;
        let mut filter = LogFilter {
            actor: args.actor.clone(),
            table: table.map(str::to_owned),
            ..LogFilter::default()
        };
        replica.limit(&mut filter, args.since, None)?;
        return Ok(ToRevert::Selected(Box::new(filter)));
    };
    if what.contains("..") {
        let range: PointRange = what.parse()?;
        return Ok(ToRevert::Between(replica.point(range.from)?, replica.point(range.to)?));
    }
    match replica.event(what) {
        Ok(entry) => Ok(ToRevert::Event(entry.id())),
        Err(error) => match what.parse() {
            Ok(unit) => Ok(ToRevert::Unit(unit)),
            Err(_) => Err(error),
        },
    }
}

/// Takes changes back.
///
/// # Errors
///
/// `Usage` when no such change is in the log, `Storage` when the database fails.
pub(crate) fn revert(session: &Session, args: &RevertArgs) -> Result<Exit> {
    let mut replica = session.replica()?;
    let output = session.output();
    let wanted = wanted(&replica, args)?;
    let done = replica.revert(&wanted, args.dry_run)?;
    if output.is_json() {
        output.json(&done)?;
    } else {
        print(output, &done, args.dry_run)?;
    }
    if let Some(kept) = done.kept.first().filter(|_| done.reverted.is_empty() && !args.dry_run) {
        return Err(Error::usage(format!("nothing was taken back: {}", kept.reason))
            .with_hint("`driftless history` shows what happened to a row"));
    }
    Ok(Exit::Success)
}

fn print(output: &Output, done: &Reverted, dry_run: bool) -> Result<()> {
    for one in &done.reverted {
        let what = match one.op {
            Op::Delete => "inserted again".to_owned(),
            Op::Insert if one.columns.is_empty() => "deleted again".to_owned(),
            // The latter is a key change.
            Op::Update | Op::Insert => format!("back: {}", columns(&one.columns)),
        };
        let line = format!(
            "{:>8}  {}  {:6}  {} {}  {what}",
            one.seq,
            tail(&one.id),
            one.op,
            clean(&one.table, usize::MAX),
            key(&one.key)
        );
        output.row(Tone::Good, &line)?;
    }
    for one in &done.kept {
        let of = match one.columns.is_empty() {
            true => String::new(),
            false => format!("{}: ", columns(&one.columns)),
        };
        let line = format!(
            "{:>8}  {}  {:6}  {} {}  stays: {of}{}",
            one.seq,
            tail(&one.id),
            one.op,
            clean(&one.table, usize::MAX),
            key(&one.key),
            clean(&one.reason, usize::MAX)
        );
        output.row(Tone::Notable, &line)?;
    }
    let verb = if dry_run { "would be taken back" } else { "taken back" };
    output.note(format_args!("{} {verb}", counted(done.reverted.len(), "event")));
    if done.reverted.is_empty() && done.kept.is_empty() {
        output.note("the rows are as they were before already");
    }
    Ok(())
}

fn columns(names: &[String]) -> String {
    clean(&names.join(", "), 100)
}
