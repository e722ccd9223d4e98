//! `driftless remove`: removes driftless from a replica or from a remote.

use clap::Args;
use serde::Serialize;

use crate::cli::exit::Exit;
use crate::cli::output::clean;
use crate::cli::session::Session;
use crate::error::{Code, Error, Result};
use crate::inspect::log_position::short;
use crate::inspect::{OnlyHere, Removed};
use crate::remote::Remote as _;
use crate::sync::{RemoteInstallation, look_at_installation, remove_files, remove_installation};

/// The arguments of `remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Remove it from the remote at this URL, for all replicas, and not from a replica
    #[arg(long, value_name = "URL")]
    remote: Option<String>,
    /// Remove it even if something is lost
    #[arg(long)]
    force: bool,
}

/// The result, as `--json` prints it.
#[derive(Serialize)]
struct Done<'a> {
    removed: &'a Removed,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<&'a OnlyHere>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<&'a RemoteInstallation>,
}

/// Removes driftless from a database.
///
/// # Errors
///
/// `Usage` when a replicator is working on the file, or something would be lost and `--force` was
/// not given; the errors of the database and of the remote.
pub(crate) fn remove(session: &Session, args: &RemoveArgs) -> Result<Exit> {
    match &args.remote {
        Some(url) => from_remote(session, url, args.force),
        None => from_replica(session, args.force),
    }
}

fn from_replica(session: &Session, force: bool) -> Result<Exit> {
    let replica = session.replica()?;
    let lock = session.lock()?;
    let lost = replica.only_here()?;
    if !lost.is_nothing() && !force {
        return Err(would_lose(&lost));
    }
    let removed = replica.remove()?;
    remove_files(lock, session.db()?);
    let output = session.output();
    if output.is_json() {
        output.json(&Done { removed: &removed, lost: Some(&lost), remote: None })?;
        return Ok(Exit::Success);
    }
    let file = session.db()?.display();
    let Removed { tables, triggers } = removed;
    output.line(format_args!(
        "{file} is not a replica any more: {tables} tables and {triggers} triggers were removed"
    ))?;
    output.note("The application's tables are unchanged. VACUUM frees the space.");
    Ok(Exit::Success)
}

/// The error for a removal that loses something.
fn would_lose(lost: &OnlyHere) -> Error {
    let count = |count: u64, one: &str, many: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {many}")),
    };
    let parts = [
        count(lost.pending, "event that waits to be pushed", "events that wait to be pushed"),
        count(lost.conflicts, "open conflict", "open conflicts"),
        count(lost.quarantined, "event in quarantine", "events in quarantine"),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    let message = format!("nothing was removed: it would lose {}", parts.join(", "));
    Error::new(Code::WouldLose, message).with_hint(
        "run `driftless sync`, and look at `driftless conflicts` and `driftless quarantine`; \
         --force removes it anyway",
    )
}

fn from_remote(session: &Session, url: &str, force: bool) -> Result<Exit> {
    let remote = session.remote(url)?;
    let found = look_at_installation(&*remote)?;
    let output = session.output();
    if found.is_nothing() {
        match output.is_json() {
            true => output.json(&Done {
                removed: &Removed::default(),
                lost: None,
                remote: Some(&found),
            })?,
            false => output.line("the remote has no tables or triggers of driftless")?,
        }
        return Ok(Exit::Success);
    }
    if !force {
        let names = found.replicas.iter().map(|(name, contact)| {
            let seen = contact.map_or_else(|| "never seen".to_owned(), short);
            format!("{} ({seen})", clean(name, 40))
        });
        let names: Vec<_> = names.collect();
        let message = format!(
            "nothing was removed: the log, of {} event(s), would be lost, and {} replica(s) could \
             no longer push: {}",
            found.events,
            names.len(),
            names.join(", ")
        );
        return Err(Error::new(Code::WouldLose, message).with_hint(
            "sync each replica, stop it, and add --force; for its own file: `driftless remove \
             --db FILE`",
        ));
    }
    let removed = remove_installation(&*remote, &found)?;
    if output.is_json() {
        output.json(&Done { removed: &removed, lost: None, remote: Some(&found) })?;
        return Ok(Exit::Success);
    }
    let Removed { tables, triggers } = removed;
    output.line(format_args!(
        "{} replicates no longer: {tables} tables and {triggers} triggers were removed",
        remote.url()
    ))?;
    Ok(Exit::Success)
}
