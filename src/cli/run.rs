//! `driftless run`: push and pull for ever.

use std::time::Duration;

use super::exit::Exit;
use super::output::{Output, clean};
use super::session::Session;
use super::signal;
use super::status::{described, words};
use crate::clock::span;
use crate::error::{Error, Result};
use crate::remote::Remote;
use crate::replicator::Replicator;
use crate::sync::{Health, Status, SyncState};

/// How often to look at the status.
const LOOK: Duration = Duration::from_millis(100);

/// Runs a replicator until SIGINT or SIGTERM.
///
/// # Errors
///
/// `Usage` when the file is no replica, `Storage` when it fails, and `Refused` when the remote
/// refuses us at the first contact that the file ever has, or for want of a token.
pub(crate) fn run(session: &Session) -> Result<Exit> {
    let store = session.store()?;
    let remote: std::sync::Arc<dyn Remote> = session.remote(&store.state()?.url)?;
    let tables: Vec<String> = store.tables().iter().map(|r| r.table.name.clone()).collect();
    let adopted = store.is_adopted()?;
    drop(store);
    let output = &session.output;
    let db = session.db()?;
    let runtime = signal::runtime()?;
    runtime.block_on(async {
        let stop = signal::stop();
        tokio::pin!(stop);
        let url = remote.url();
        let replicator = Replicator::builder(db).with_remote(remote).tables(tables).start()?;
        output.note(format_args!("replicating {} with {url}; Ctrl-C stops", db.display()));
        let spinner = output.spinner("starting");
        let mut ticks = tokio::time::interval(LOOK);
        let mut said = None;
        let outcome = loop {
            tokio::select! {
                stopped = &mut stop => break stopped,
                _ = ticks.tick() => {}
            }
            let status = replicator.status();
            spinner.say(line(&status));
            if let Some(error) = hopeless(session, adopted, &status) {
                break Err(error);
            }
            let (trouble, health) = (status.trouble.clone(), status.health);
            let count = [status.conflicts, status.quarantined, status.identity.len() as u64];
            let news = (status.state, trouble, health, count);
            // Work that comes and goes is for the spinner, and so is another first contact.
            let passing = matches!(status.state, SyncState::Starting | SyncState::Syncing)
                || (adopted && status.state == SyncState::FirstSync);
            if !passing && said.as_ref() != Some(&news) {
                say(output, &status)?;
                said = Some(news);
            }
        };
        drop(spinner);
        replicator.shutdown().await?;
        outcome
    })?;
    output.note("stopped");
    Ok(Exit::Success)
}

/// Why there is no use in going on: we were refused before anything worked, and waiting mends
/// nothing. It does where the file has been in step before (`adopted`). What answers in the
/// morning may be a login page, or a server that is not ready; what went wrong on the remote may be
/// put right; and a desktop's replicator that has ended is started again by nobody.
fn hopeless(session: &Session, adopted: bool, status: &Status) -> Option<Error> {
    let refused =
        matches!(status.state, SyncState::Refused | SyncState::OtherRemote | SyncState::RolledBack);
    if !refused || status.last_success.is_some() {
        return None;
    }
    let trouble = status.trouble.as_deref().unwrap_or(words(status.state));
    let error = Error::refused(trouble);
    let error = match &status.hint {
        Some(hint) => error.with_hint(hint.as_str()),
        None => error,
    };
    (!adopted || session.lacks_token(&error)).then_some(error)
}

fn say(output: &Output, status: &Status) -> Result<()> {
    if output.is_json() {
        return output.json(status);
    }
    output.line(line(status))?;
    if let Some(hint) = &status.hint {
        output.note(format_args!("  hint: {}", clean(hint, usize::MAX)));
    }
    Ok(())
}

/// A status in a line.
fn line(status: &Status) -> String {
    let mut line = match status.state {
        SyncState::Standby => described(status),
        state => words(state).to_owned(),
    };
    if let Some(trouble) = &status.trouble {
        line += &format!(": {}", clean(trouble, usize::MAX));
    }
    if status.health == Health::Red {
        line += "; health is red";
    }
    line += &format!("; cursor {}", status.cursor);
    if let Some(former) = status.identity.last() {
        line += &format!(", was replica {} before", former.replica);
    }
    if status.pending > 0 {
        let oldest = status.oldest_pending_s.map(span).unwrap_or_default();
        line += &format!(", {} pending for {oldest}", status.pending);
    }
    for (count, what) in [(status.conflicts, "conflicts"), (status.quarantined, "in quarantine")] {
        if count > 0 {
            line += &format!(", {count} {what}");
        }
    }
    line
}
