//! `driftless verify`: compares the replica with its log and its remote.

use clap::Args;
use serde::Serialize;

use crate::cli::exit::Exit;
use crate::cli::output::event::{key, names, value};
use crate::cli::output::{Output, Tone, clean};
use crate::cli::session::Session;
use crate::cli::signal;
use crate::error::Result;
use crate::event::Image;
use crate::inspect::{RowDifference, Verified, VerifyOptions, VerifyProgress};

/// The most characters of a name and of a value.
const CHARS: usize = 60;
/// The most rows that are listed for people. `--json` lists all that are kept.
const LISTED: usize = 50;

/// The arguments of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Only this table; may be given several times. The logs are compared only without it
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,
    /// Take the remote's row wherever a row differs; the local one goes to the conflict inbox
    #[arg(long)]
    repair: bool,
}

/// Verifies the replica.
///
/// # Errors
///
/// As [`Replica::verify`](crate::inspect::Replica::verify); `Usage` when a repair is requested
/// while a replicator is working on the file.
pub(crate) fn verify(session: &Session, args: &VerifyArgs) -> Result<Exit> {
    let mut replica = session.replica()?;
    let remote = session.remote(&replica.state()?.url)?;
    let _lock = args.repair.then(|| session.lock()).transpose()?;
    let advice = "interrupted: nothing was changed";
    signal::end_at_once(session.output(), Exit::Interrupted, advice.to_owned())?;
    let output = session.output();
    let spinner = output.spinner("comparing");
    let options = VerifyOptions { tables: args.tables.clone(), repair: args.repair };
    let outcome = replica.verify(remote, &options, &mut |now| spinner.progress(progress(now)));
    drop(spinner);
    let verified = outcome?;
    match output.is_json() {
        true => print_json(output, &verified)?,
        false => print(output, &verified, &session.db()?.display().to_string())?,
    }
    let is_left = verified.differing > verified.repaired.as_ref().map_or(0, |done| done.rows);
    let is_clean = verified.is_clean() || !is_left && verified.has_whole_log();
    Ok(if is_clean { Exit::Success } else { Exit::Divergence })
}

/// Prints a line of JSON for each row that differs, and a last one for the totals.
fn print_json(output: &Output, verified: &Verified) -> Result<()> {
    #[derive(Serialize)]
    struct Whole<'a> {
        equal: bool,
        #[serde(flatten)]
        verified: &'a Verified,
    }
    verified.rows.iter().try_for_each(|row| output.json(row))?;
    output.json(&Whole { equal: verified.is_clean(), verified })
}

fn progress(now: VerifyProgress) -> String {
    match now {
        VerifyProgress::Log => "reading the local log".to_owned(),
        VerifyProgress::Fold(events) => format!("{events} events of the local log are folded"),
        VerifyProgress::RemoteLog => "comparing the log with the remote's".to_owned(),
        VerifyProgress::Rows(done, all) => format!("{done} of {all} rows are compared"),
    }
}

fn print(output: &Output, verified: &Verified, file: &str) -> Result<()> {
    for row in verified.rows.iter().take(LISTED) {
        print_row(output, row)?;
    }
    if verified.differing > LISTED as u64 {
        let more = verified.differing - LISTED as u64;
        output.note(format_args!("{more} more rows differ; --json lists them"));
    }
    let rows: Vec<_> = verified
        .tables
        .iter()
        .map(|table| {
            let tone = if table.differing > 0 { Tone::Bad } else { Tone::Plain };
            let counts = [table.rows, table.differing, table.moving + table.waiting];
            let name = [clean(&table.table, CHARS)];
            (tone, name.into_iter().chain(counts.map(|count| count.to_string())).collect())
        })
        .collect();
    output.table(&["table", "rows", "differ", "not compared"], &rows)?;
    for left in &verified.left_out {
        output.warn(format_args!(
            "table `{}` was not compared: {}",
            clean(&left.table, CHARS),
            clean(&left.reason, usize::MAX)
        ));
    }
    print_log(output, verified)?;
    let unnamed: u64 = verified.tables.iter().map(|table| table.unnamed).sum();
    if unnamed > 0 {
        output.warn(format_args!(
            "{unnamed} rows of the remote have text in their key that is not UTF-8; they are not \
             replicated"
        ));
    }
    if let Some(done) = &verified.repaired {
        output.line(format_args!(
            "{} rows were replaced by the remote's; {} local ones come into the conflict inbox \
             with the next sync",
            done.rows, done.kept
        ))?;
        if done.skipped > 0 {
            output.warn(format_args!(
                "{} rows were left unchanged, because they have changed or have unsettled events: \
                 sync, and run it again",
                done.skipped
            ));
        }
    } else if verified.rows.iter().any(RowDifference::is_of_remote) {
        output.note(format_args!(
            "To take the remote's rows and put these into the conflict inbox: driftless verify \
             --repair --db {file}"
        ));
    }
    Ok(())
}

fn print_log(output: &Output, verified: &Verified) -> Result<()> {
    let log = &verified.log;
    for what in &log.damaged {
        output.line(Tone::Bad.paint(clean(what, usize::MAX)))?;
    }
    for event in log.differing.iter().take(LISTED) {
        let side =
            |line: &Option<String>| clean(line.as_deref().unwrap_or("no such event"), 2 * CHARS);
        output.line(Tone::Bad.paint(format_args!("event {} differs", event.seq)))?;
        output.line(format_args!("  there  {}", side(&event.remote)))?;
        output.line(format_args!("  here   {}", side(&event.local)))?;
    }
    if let (Some(first), Some(last)) = (log.first, log.last) {
        let end = if log.differing.is_empty() { "the remote's too" } else { "not the remote's" };
        output.line(format_args!("log    {} events, {first} to {last}: {end}", log.events))?;
    }
    let before = match log.before_log {
        0 => String::new(),
        1 => "; 1 row is not in it, and only the remote can prove it".to_owned(),
        rows => format!("; {rows} rows are not in it, and only the remote can prove them"),
    };
    let are = if log.rows == 1 { "1 row is".to_owned() } else { format!("{} rows are", log.rows) };
    output.line(format_args!("fold   {are} in the log{before}"))
}

/// Prints a row that differs, with both values of each differing column.
fn print_row(output: &Output, row: &RowDifference) -> Result<()> {
    let (there, must) = match row.is_of_remote() {
        true => ("remote", "with pending"),
        false => ("log", ""),
    };
    let is_pending = row.is_of_remote() && row.expected != row.remote;
    let what = match (&row.expected, &row.local) {
        (Some(_), None) => ": not here",
        (None, Some(_)) => ": only here",
        _ => "",
    };
    output.line(format_args!(
        "{} {}{what}",
        Tone::Strong.paint(clean(&row.table, CHARS)),
        key(&row.key)
    ))?;
    let first = if row.is_of_remote() { &row.remote } else { &row.expected };
    let all = || names(first.iter().chain(&row.expected).chain(&row.local));
    let columns: Vec<&str> = match row.columns.is_empty() {
        true => all(),
        false => row.columns.iter().map(String::as_str).collect(),
    };
    let cell = |image: &Option<Image>, name: &str| {
        let found = image.as_ref().and_then(|image| image.get(name));
        found.map(|found| value(found, CHARS)).unwrap_or_default()
    };
    let rows: Vec<_> = columns
        .iter()
        .map(|name| {
            let mut cells = vec![format!("  {}", clean(name, CHARS)), cell(first, name)];
            if is_pending {
                cells.push(cell(&row.expected, name));
            }
            cells.push(cell(&row.local, name));
            (Tone::Plain, cells)
        })
        .collect();
    match is_pending {
        true => output.table(&["", there, must, "here"], &rows),
        false => output.table(&["", there, "here"], &rows),
    }
}
