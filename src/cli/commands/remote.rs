//! `driftless remote accept`: continues with another remote on purpose.

use std::io::{self, IsTerminal};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::init::{NAME_CHARS, print_rows, show, waiting};
use crate::cli::exit::Exit;
use crate::cli::output::{Output, Tone, clean};
use crate::cli::session::Session;
use crate::cli::signal;
use crate::error::{Code, Error, Result};
use crate::inspect::{Adopted, Replica};
use crate::remote::{Access, Remote as _};
use crate::sync::{RemotePreview, accept};

/// The result, as `--json` prints it.
#[derive(Serialize)]
struct Done<'a> {
    accepted: bool,
    url: &'a str,
    #[serde(flatten)]
    offer: &'a RemotePreview,
    /// The new identity and the counts of rows, if it was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    replica: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<&'a Adopted>,
}

/// The arguments of `remote`.
#[derive(Debug, Args)]
pub(crate) struct RemoteArgs {
    #[command(subcommand)]
    action: RemoteAction,
}

/// The action on the remote.
#[derive(Debug, Subcommand)]
enum RemoteAction {
    /// Show the differences, and continue with the remote: rows that are only here are pushed, rows
    /// that are only there are fetched, and rows that differ get the remote's version
    Accept {
        /// Another URL of the remote
        #[arg(long, value_name = "URL")]
        remote: Option<String>,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
    },
}

/// Accepts another remote.
///
/// # Errors
///
/// As [`Replica::preview_remote`] and [`accept`]; `Usage` when another replicator is working on the
/// file, or the question was not answered with yes.
pub(crate) fn remote(session: &Session, args: RemoteArgs) -> Result<Exit> {
    let RemoteAction::Accept { remote: url, yes } = args.action;
    let replica = session.replica()?;
    let url = url.map_or_else(|| replica.state().map(|state| state.url), Ok)?;
    let remote = session.remote(&url)?;
    let _lock = session.lock()?;
    if remote.access() == Access::ReadOnly {
        return Err(remote.read_only());
    }
    let found = replica.preview_remote(&*remote)?;
    let output = session.output();
    let url = remote.url();
    let mut done = Done { accepted: false, url: &url, offer: &found, replica: None, rows: None };
    let Some(trouble) = &found.trouble else {
        match output.is_json() {
            true => output.json(&done)?,
            false => output.line("the remote is the one that this replica belongs to")?,
        }
        return Ok(Exit::Success);
    };
    if !output.is_json() {
        describe(output, &found, trouble)?;
    }
    if !yes && !agreed(output)? {
        if output.is_json() {
            output.json(&done)?;
        }
        return Err(Error::new(
            Code::NotConfirmed,
            "nothing was done: the remote was not accepted",
        )
        .with_hint("add --yes to accept it"));
    }
    let advice = "interrupted: run it again; until it is complete, the replica belongs to its \
        former remote";
    signal::end_at_once(output, Exit::Interrupted, advice.to_owned())?;
    let spinner = output.spinner("reading the remote's rows");
    let outcome = accept(replica.into_store(), remote.clone(), &mut |doing| show(&spinner, doing));
    drop(spinner);
    let (store, report) = outcome?;
    let state = Replica::of(store).state()?;
    done = Done {
        accepted: true,
        replica: Some(state.replica.to_string()),
        rows: report.adopted.as_ref(),
        ..done
    };
    if output.is_json() {
        output.json(&done)?;
        return Ok(Exit::Success);
    }
    let file = session.db()?.display();
    output.line(format_args!("{file} is replica {} of {url} now", state.replica))?;
    if let Some(rows) = &done.rows {
        print_rows(output, rows)?;
    }
    if state.pending > 0 {
        output.note(waiting(state.pending, &file));
    }
    Ok(Exit::Success)
}

/// Prints the differences, and the effect of accepting the remote.
fn describe(output: &Output, offer: &RemotePreview, trouble: &str) -> Result<()> {
    output.line(format_args!("{}", Tone::Notable.paint(clean(trouble, usize::MAX))))?;
    output.line(format_args!("here   {}", offer.ours))?;
    output.line(format_args!("there  {}", offer.theirs))?;
    let rows: Vec<_> = offer
        .tables
        .iter()
        .map(|table| {
            let there = table.there.map_or_else(|| "none".to_owned(), |there| there.to_string());
            let name = clean(&table.table, NAME_CHARS);
            (Tone::Plain, vec![name, table.here.to_string(), there])
        })
        .collect();
    output.table(&["table", "rows here", "rows there"], &rows)?;
    output.note(format_args!(
        "Accepting it is a first sync: rows that are only here are pushed, rows that are only \
         there are\nfetched, and rows that differ take the remote's version, with the local one \
         in the conflict inbox.\n{} pending events stay pending. The log so far is kept beside \
         the new one.",
        offer.pending
    ));
    Ok(())
}

/// Asks for confirmation. Without a terminal the answer is no.
fn agreed(output: &Output) -> Result<bool> {
    if !io::stdin().is_terminal() || output.is_json() {
        return Ok(false);
    }
    output.note("Accept it? [y/N]");
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|source| Error::storage("the answer cannot be read").with_source(source))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
