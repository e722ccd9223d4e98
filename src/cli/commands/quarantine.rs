//! `driftless quarantine`: pulled events that cannot be applied here yet.

use clap::{Args, Subcommand};

use crate::cli::exit::Exit;
use crate::cli::output::event::key;
use crate::cli::output::{Tone, clean};
use crate::cli::session::Session;
use crate::error::Result;
use crate::event::Seq;
use crate::inspect::Retried;

/// The most characters of a table's name and of a reason.
const CHARS: usize = 200;

/// The arguments of `quarantine`.
#[derive(Debug, Args)]
pub(crate) struct QuarantineArgs {
    #[command(subcommand)]
    action: Option<QuarantineAction>,
}

/// The action on the quarantine.
#[derive(Debug, Subcommand)]
enum QuarantineAction {
    /// Try to apply all of them again
    Retry,
    /// Remove a malformed event: its row was repaired on the remote
    Dismiss {
        /// Its seq
        #[arg(value_name = "SEQ")]
        seq: i64,
    },
}

/// Lists the quarantine, retries it, or removes an event from it.
///
/// # Errors
///
/// `Usage` for an event that is not in quarantine or may still be applied; `Storage` when the
/// database fails.
pub(crate) fn quarantine(session: &Session, args: &QuarantineArgs) -> Result<Exit> {
    match args.action {
        None => list(session),
        Some(QuarantineAction::Retry) => retry(session),
        Some(QuarantineAction::Dismiss { seq }) => dismiss(session, Seq(seq)),
    }
}

fn list(session: &Session) -> Result<Exit> {
    let output = session.output();
    let waiting = session.replica()?.quarantine()?;
    if output.is_json() {
        waiting.iter().try_for_each(|event| output.json(event))?;
        return Ok(Exit::Success);
    }
    if waiting.is_empty() {
        output.note("the quarantine is empty");
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = waiting
        .iter()
        .map(|event| {
            let table = clean(&event.table, CHARS);
            let row = vec![event.seq.to_string(), table, key(&event.key)];
            (Tone::Plain, [row, vec![clean(&event.reason, CHARS)]].concat())
        })
        .collect();
    output.listing(&["seq", "table", "row", "why it waits"], &rows)?;
    output.note("\nOnce the reason is gone, try again with: driftless quarantine retry");
    if let Some(event) = waiting.iter().find(|event| event.is_malformed()) {
        output.note(format_args!(
            "A malformed event is read again by each new version of this program. When its row \
             was repaired on the remote: driftless quarantine dismiss {}",
            event.seq
        ));
    }
    Ok(Exit::Success)
}

fn dismiss(session: &Session, seq: Seq) -> Result<Exit> {
    session.replica()?.dismiss_quarantined(seq)?;
    if session.output().is_json() {
        session.output().json(&serde_json::json!({ "dismissed": seq }))?;
    } else {
        session.output().line(format_args!("event {seq} is off the list"))?;
    }
    Ok(Exit::Success)
}

fn retry(session: &Session) -> Result<Exit> {
    let retried = session.replica()?.retry_quarantine()?;
    if session.output().is_json() {
        session.output().json(&retried)?;
    } else {
        let Retried { applied, waiting, .. } = retried;
        session.output().line(format_args!("{applied} applied, {waiting} still waiting"))?;
    }
    Ok(Exit::Success)
}
