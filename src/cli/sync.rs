//! `driftless sync`: push and pull until both are drained.

use super::exit::Exit;
use super::output::Tone;
use super::session::Session;
use super::signal;
use crate::error::Result;
use crate::sync::{Summary, drain};

/// Brings the replica and the remote in step, once.
///
/// # Errors
///
/// As [`drain`], and `Usage` when another replicator is at work on the file.
pub(crate) fn sync(session: &Session) -> Result<Exit> {
    let store = session.store()?;
    let remote = session.remote(&store.state()?.url)?;
    let _lock = session.lock()?;
    let advice = "interrupted: what was done stays; run it again to go on";
    signal::end_at_once(&session.output, Exit::Interrupted, advice.to_owned())?;
    let conflicts = store.state()?.conflicts;
    let spinner = session.output.spinner("pushing and pulling");
    let outcome = drain(store, remote);
    drop(spinner);
    let summary = outcome?;
    if session.output.is_json() {
        session.output.json(&summary)?;
        return Ok(Exit::Success);
    }
    session.output.line(describe(&summary))?;
    let state = session.store()?.state()?;
    if state.conflicts > conflicts {
        let new = state.conflicts - conflicts;
        let db = session.db()?.display();
        session
            .output
            .warn(format_args!("{new} of its events lost: see driftless conflicts --db {db}"));
    }
    if state.quarantined > 0 {
        let (count, db) = (state.quarantined, session.db()?.display());
        session
            .output
            .warn(format_args!("{count} wait in quarantine: see driftless quarantine --db {db}"));
    }
    Ok(Exit::Success)
}

/// What was done, in a line.
pub(crate) fn describe(summary: &Summary) -> String {
    let mut pushed = format!("pushed {}", summary.pushed);
    if summary.pushed > 0 {
        pushed += &format!(" ({} applied", summary.applied);
        if summary.superseded > 0 {
            let lost = format_args!("{} superseded", summary.superseded);
            pushed += &format!(", {}", Tone::Notable.paint(lost));
        }
        if summary.rejected > 0 {
            let rejected = format_args!("{} rejected", summary.rejected);
            pushed += &format!(", {}", Tone::Bad.paint(rejected));
        }
        pushed += ")";
    }
    format!(
        "{pushed}, pulled {}; {} up, {} down in {} {}, {:.2} s",
        summary.pulled,
        bytes(summary.bytes_up),
        bytes(summary.bytes_down),
        summary.requests,
        if summary.requests == 1 { "request" } else { "requests" },
        summary.seconds
    )
}

/// A number of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{} kB", count / 1_000),
        _ => format!("{} MB", count / 1_000_000),
    }
}
