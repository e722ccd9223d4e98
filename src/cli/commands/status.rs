//! `driftless status`.

use std::time::Duration;

use clap::Args;

use super::init::NAME_CHARS;
use super::sync::bytes;
use crate::catalog::{LeftOut, Why};
use crate::cli::exit::Exit;
use crate::cli::output::{Output, Tone, clean};
use crate::cli::session::Session;
use crate::cli::signal;
use crate::error::{Code, Result};
use crate::event::clock::duration;
use crate::inspect::log_position::rfc3339;
use crate::inspect::{
    Cause, Contact, Dangling, PastIdentity, Replica, ReturnedRows, State, Unwritable, Waiting,
};
use crate::remote::Options;
use crate::sync::{FirstSyncProgress, FirstSyncStep, Health, LastCheck, Status, SyncState};

/// The time limit of the connection. A person waits, so it is shorter than a replicator's.
const CONNECT: Duration = Duration::from_secs(5);
/// The time limit of the answer.
const REQUEST: Duration = Duration::from_secs(10);

/// The text for a large transaction that is only partly here.
const IN_PARTS: &str = "a part of a large transaction is here, and the rest will follow";

/// The arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Do not ask the remote
    #[arg(long)]
    offline: bool,
}

/// Prints the status of the replica, and of the remote unless `--offline` is given.
///
/// # Errors
///
/// `Usage` when the file is not a replica; `Storage` when it cannot be read. A remote that cannot
/// be reached is not an error. Red health has an exit code of its own.
pub(crate) fn status(session: &Session, args: &StatusArgs) -> Result<Exit> {
    let replica = session.replica()?;
    let status = replica.status_with(|state| match args.offline {
        true => Contact::Unasked,
        false => contact(session, &replica, state),
    })?;
    let output = session.output();
    if output.is_json() {
        output.json(&status)?
    } else {
        print(output, &status)?
    }
    Ok(if status.health == Health::Red { Exit::Red } else { Exit::Success })
}

/// Asks the remote, if possible.
fn contact(session: &Session, replica: &Replica<'_>, state: &State) -> Contact {
    let options =
        Options { connect_timeout: CONNECT, request_timeout: REQUEST, ..session.options() };
    match session.connect(&state.url, options) {
        Err(error) => Contact::Unable(error),
        Ok(remote) => match signal::runtime() {
            Err(error) => Contact::Failed(error, SyncState::Refused),
            Ok(runtime) => match runtime.block_on(replica.ask(&remote, state)) {
                Ok(facts) => Contact::Answered(facts),
                Err((error, state)) => Contact::Failed(session.explain(error), state),
            },
        },
    }
}

/// A state in words.
pub(crate) fn words(state: SyncState) -> &'static str {
    match state {
        SyncState::Starting => "starting",
        SyncState::FirstSync => "first sync",
        SyncState::InStep => "in step",
        SyncState::Syncing => "syncing",
        SyncState::Offline => "offline: the remote cannot be reached",
        SyncState::Refused => "refused by the remote",
        SyncState::OtherRemote => "the URL leads to another database",
        SyncState::RolledBack => "the remote was rolled back",
        SyncState::Trouble => "in trouble",
        SyncState::Standby => "standing by",
        SyncState::Stopped => "no replicator is running",
    }
}

/// A state in words, with the process that replicates the file.
pub(crate) fn described(status: &Status) -> String {
    let state = words(status.state);
    match (status.process, status.state) {
        (Some(process), SyncState::Standby) => format!("{state}: process {process} replicates"),
        (None, SyncState::Standby) => format!("{state}: another process replicates"),
        (Some(process), _) => format!("{state}; process {process} replicates"),
        (None, _) => state.to_owned(),
    }
}

/// The progress of a first sync in words.
pub(crate) fn progress(first: &FirstSyncProgress) -> String {
    match (first.step, &first.table, first.rows) {
        (FirstSyncStep::Installing, ..) => "comparing and creating tables".to_owned(),
        (FirstSyncStep::Merging, ..) => "merging the rows of both sides".to_owned(),
        (FirstSyncStep::Reading, Some(table), Some(rows)) => {
            format!("reading the remote's rows: {}, {rows} so far", clean(table, usize::MAX))
        }
        (FirstSyncStep::Reading, ..) => "reading the remote's rows".to_owned(),
    }
}

/// The newest past identity of the file in words; empty if there is none.
fn words_of_past(past: &[PastIdentity]) -> String {
    let Some(PastIdentity { replica, cause, ended_ms, .. }) = past.last() else {
        return String::new();
    };
    let why = match cause {
        Cause::Copied => "this file was copied, or restored from a backup",
        Cause::Accepted => "another remote was accepted",
    };
    let more = match past.len() {
        1 => String::new(),
        all => format!(" ({} more before)", all - 1),
    };
    let until = rfc3339(*ended_ms);
    Tone::Notable.paint(format_args!("was {replica} until {until}: {why}{more}"))
}

/// The last complete comparison, in words.
fn last_check(check: &LastCheck) -> String {
    let at = rfc3339(check.at);
    match check.differing {
        0 => format!("{at}: nothing differs"),
        count => Tone::Bad
            .paint(format_args!("{at}: {count} rows or events differ; run driftless verify again")),
    }
}

/// The tables that are not replicated. Tables that were not chosen are only counted.
fn left_out_in_words(tables: &[LeftOut]) -> String {
    let (unnamed, told): (Vec<_>, Vec<_>) =
        tables.iter().partition(|found| found.why == Why::NotNamed);
    let one = |found: &&LeftOut| {
        format!("`{}`: {}", clean(&found.table, NAME_CHARS), clean(&found.reason, usize::MAX))
    };
    let mut parts: Vec<_> = told.iter().map(one).collect();
    match unnamed.len() {
        0 => {}
        1 => parts.push("1 table that was not named".to_owned()),
        count => parts.push(format!("{count} tables that were not named")),
    }
    let grave = |found: &&LeftOut| matches!(found.why, Why::Gone | Why::Later | Why::Unfit);
    let tone = if told.iter().any(grave) { Tone::Notable } else { Tone::Plain };
    let gap = format!("\n{:12}", "");
    if parts.is_empty() { String::new() } else { tone.paint(parts.join(&gap)) }
}

/// The tables that must be compared with the remote's first.
fn compared_in_words(tables: &[String]) -> String {
    if tables.is_empty() {
        return String::new();
    }
    let names: Vec<_> = tables.iter().map(|table| clean(table, NAME_CHARS)).collect();
    Tone::Notable
        .paint(format_args!("{}: changed here, compared at the next sync", names.join(", ")))
}

/// The rows that came back after a schema change.
fn returned_in_words(tables: &[ReturnedRows]) -> String {
    let one = |found: &ReturnedRows| {
        format!("{} row(s) of `{}`", found.rows, clean(&found.table, NAME_CHARS))
    };
    let all: Vec<_> = tables.iter().map(one).collect();
    if all.is_empty() {
        return String::new();
    }
    Tone::Notable.paint(format_args!("{}: see `driftless returned`", all.join(", ")))
}

/// Warns of tables that cannot be written, and of rows without a parent.
fn print_tables(output: &Output, status: &Status) {
    // If there is no other problem, the status shows the first table already.
    let told = usize::from(status.code == Some(Code::TableUnwritable));
    for Unwritable { reason, .. } in status.unwritable.iter().skip(told) {
        output.warn(clean(reason, usize::MAX));
    }
    let told = usize::from(status.code == Some(Code::TableWaits));
    for (at, Waiting { table, reason, events }) in status.waiting.iter().enumerate() {
        if at >= told {
            output.warn(clean(reason, usize::MAX));
        }
        if *events > 0 {
            let table = clean(table, usize::MAX);
            output.note(format_args!("   {events} event(s) of `{table}` wait"));
        }
    }
    for Dangling { table, columns, parent, rows, doubtful } in &status.dangling {
        let (table, parent) = (clean(table, usize::MAX), clean(parent, usize::MAX));
        let columns = clean(&columns.join(", "), usize::MAX);
        if *doubtful > 0 {
            output.warn(format_args!(
                "{doubtful} row(s) of `{table}` ({columns}) may refer to another row of \
                 `{parent}` than they were written for: the change that gave that key to a row \
                 has lost"
            ));
            output.note(format_args!(
                "   {} `driftless conflicts` has the change; restore or dismiss it when these rows \
                 are right",
                Tone::Good.paint("hint:")
            ));
        }
        if *rows == 0 {
            continue;
        }
        output.warn(format_args!(
            "{rows} row(s) of `{table}` ({columns}) refer to rows of `{parent}` that the remote \
             deleted"
        ));
        output.note(format_args!(
            "   {} `{table}` is not replicated; `PRAGMA foreign_key_check(\"{table}\")` lists them",
            Tone::Good.paint("hint:")
        ));
    }
}

fn print(output: &Output, status: &Status) -> Result<()> {
    let (health, tone) = match status.health {
        Health::Ok => ("ok", Tone::Good),
        Health::Degraded => ("degraded", Tone::Notable),
        Health::Red => ("red", Tone::Bad),
    };
    let reachable = match status.remote.reachable {
        Some(true) => " (reachable)",
        Some(false) => " (not reachable)",
        None => " (not asked)",
    };
    let oldest = status
        .oldest_pending_s
        .map(|seconds| format!(", the oldest is {} old", duration(seconds)))
        .unwrap_or_default();
    let attention = |count: u64| if count > 0 { Tone::Notable } else { Tone::Plain };
    let lag = if status.remote.reachable == Some(true) && status.trouble.is_none() {
        format!(", {} behind the remote", status.lag)
    } else {
        String::new()
    };
    let facts = [
        ("health", tone.paint(health)),
        ("state", described(status)),
        ("first sync", status.first_sync.as_ref().map(progress).unwrap_or_default()),
        ("replica", status.replica.clone()),
        ("remote", format!("{}{reachable}", clean(&status.remote.url, usize::MAX))),
        ("identity", words_of_past(&status.identity)),
        ("epoch", status.remote.epoch.clone().unwrap_or_else(|| "not known yet".to_owned())),
        ("pending", format!("{}{oldest}", status.pending)),
        ("cursor", format!("{}{lag}", status.cursor)),
        ("in parts", if status.in_parts { IN_PARTS } else { "" }.to_owned()),
        ("conflicts", attention(status.conflicts).paint(status.conflicts)),
        ("quarantine", attention(status.quarantined).paint(status.quarantined)),
        ("comparing", compared_in_words(&status.suspect)),
        ("came back", returned_in_words(&status.returned)),
        ("left out", left_out_in_words(&status.left_out)),
        ("success", status.last_success.map_or_else(|| "never".to_owned(), rfc3339)),
        ("requests", status.remote.requests.map(|sent| sent.to_string()).unwrap_or_default()),
        ("verified", status.remote.verified.as_ref().map(last_check).unwrap_or_default()),
        ("size", bytes(status.bytes)),
    ];
    for (name, fact) in facts.into_iter().filter(|(_, fact)| !fact.is_empty()) {
        output.line(format_args!("{}  {fact}", Tone::Dim.paint(format_args!("{name:>10}"))))?;
    }
    print_tables(output, status);
    if let Some(trouble) = &status.trouble {
        output.warn(clean(trouble, usize::MAX));
        if let Some(hint) = &status.hint {
            output.note(format_args!(
                "   {} {}",
                Tone::Good.paint("hint:"),
                clean(hint, usize::MAX)
            ));
        }
    }
    Ok(())
}
