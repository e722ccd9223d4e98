//! `driftless sync`: pushes the pending events and pulls the new ones, once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;

use crate::cli::exit::Exit;
use crate::cli::output::{Tone, clean};
use crate::cli::session::Session;
use crate::cli::signal;
use crate::error::Result;
use crate::event::Seq;
use crate::sync::{Staged, Summary, drain, now_ms};

/// How often the progress is updated on a terminal.
const GLANCE: Duration = Duration::from_millis(100);

/// The same without a terminal, where a line is printed only sometimes.
const SLOW_GLANCE: Duration = Duration::from_secs(1);

/// Brings the replica and the remote in step, once.
///
/// # Errors
///
/// As [`drain`], and `Usage` when another replicator is working on the file.
pub(crate) fn sync(session: &Session) -> Result<Exit> {
    let replica = session.replica()?;
    let remote = session.remote(&replica.state()?.url)?;
    let lock = session.lock()?;
    let advice = "interrupted: the work so far is kept; run it again to continue";
    signal::end_at_once(session.output(), Exit::Interrupted, advice.to_owned())?;
    let (conflicts, past) = (replica.state()?.conflicts, replica.past_identities()?.len());
    let summary = watched(session, |staged| {
        drain(replica.into_store(), remote, &mut |now| {
            *staged.lock().unwrap_or_else(PoisonError::into_inner) = now
        })
    })?;
    lock.note_success(now_ms());
    if session.output().is_json() {
        session.output().json(&summary)?;
        return Ok(Exit::Success);
    }
    session.output().line(describe(&summary))?;
    let replica = session.replica()?;
    let state = replica.state()?;
    if let Some(past) = replica.past_identities()?.get(past) {
        session.output().warn(format_args!(
            "this file was copied, or restored from a backup: it was replica {}, and is {} now",
            past.replica, state.replica
        ));
    }
    if state.conflicts > conflicts {
        let new = state.conflicts - conflicts;
        let db = session.db()?.display();
        session
            .output()
            .warn(format_args!("{new} of its events lost: see driftless conflicts --db {db}"));
    }
    for table in replica.waiting()? {
        let reason = clean(&table.reason, usize::MAX);
        output_waiting(session, table.events, &reason);
    }
    for table in replica.unwritable() {
        session.output().warn(clean(&table.reason, usize::MAX));
    }
    if state.quarantined > 0 {
        let (count, db) = (state.quarantined, session.db()?.display());
        session
            .output()
            .warn(format_args!("{count} wait in quarantine: see driftless quarantine --db {db}"));
    }
    Ok(Exit::Success)
}

/// Warns of a table whose events cannot be pushed.
fn output_waiting(session: &Session, events: u64, reason: &str) {
    match events {
        0 => session.output().warn(reason),
        1 => session.output().warn(format_args!("{reason}; 1 event waits")),
        events => session.output().warn(format_args!("{reason}; {events} events wait")),
    }
}

/// Runs `work` and shows its progress.
fn watched<T>(
    session: &Session,
    work: impl FnOnce(&Mutex<Option<Staged>>) -> Result<T>,
) -> Result<T> {
    let spinner = session.output().spinner("pushing and pulling");
    let replica = session.replica()?;
    let all = replica.state()?.unsent;
    let staged = Mutex::new(None);
    let (done, is_done) = crossbeam_channel::bounded::<()>(1);
    std::thread::scope(|scope| {
        let (spinner, staged) = (&spinner, &staged);
        let is_live = session.output().is_live();
        scope.spawn(move || {
            let glance = if is_live { GLANCE } else { SLOW_GLANCE };
            while is_done.recv_timeout(glance) == Err(RecvTimeoutError::Timeout) {
                // If the state cannot be read now, the next update shows it.
                if let Ok(state) = replica.state() {
                    let sent = all.saturating_sub(state.unsent);
                    let staged = *staged.lock().unwrap_or_else(PoisonError::into_inner);
                    spinner.progress(progress(sent, all, state.cursor(), staged));
                }
            }
        });
        let outcome = work(staged);
        drop(done);
        outcome
    })
}

/// The progress on one line.
fn progress(sent: u64, all: u64, cursor: Seq, staged: Option<Staged>) -> String {
    let parts = staged.map(|Staged { events, done, parts }| {
        format!(", {done} of {parts} parts of {events} events that belong together")
    });
    format!("{sent} of {all} pushed{}, at seq {cursor}", parts.unwrap_or_default())
}

/// The outcome on one line.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_large_push_are_shown() {
        let staged = Some(Staged { events: 12_000, done: 1, parts: 3 });
        assert_eq!(
            progress(7, 12_007, Seq(4), staged),
            "7 of 12007 pushed, 1 of 3 parts of 12000 events that belong together, at seq 4"
        );
        assert_eq!(progress(7, 7, Seq(4), None), "7 of 7 pushed, at seq 4");
    }
}
