//! `driftless returned`: rows that were missing after a schema change and came back.

use clap::{Args, Subcommand};

use crate::cli::exit::Exit;
use crate::cli::output::event::key;
use crate::cli::output::{Tone, clean};
use crate::cli::session::Session;
use crate::error::Result;
use crate::inspect::log_position::rfc3339;

/// The most characters of a table's name.
const CHARS: usize = 200;

/// The arguments of `returned`.
#[derive(Debug, Args)]
pub(crate) struct ReturnedArgs {
    /// Only rows of this table
    #[arg(long, value_name = "TABLE", global = true)]
    table: Option<String>,
    #[command(subcommand)]
    action: Option<ReturnedAction>,
}

/// The action on the rows.
#[derive(Clone, Copy, Debug, Subcommand)]
enum ReturnedAction {
    /// Keep the rows, and take them off the list
    Keep,
    /// Delete the rows, here and on the remote
    Delete,
}

/// Lists the rows, or decides about them.
///
/// # Errors
///
/// `Usage` for a table that is not replicated, or a row that cannot be deleted; `Storage` when the
/// database fails.
pub(crate) fn returned(session: &Session, args: &ReturnedArgs) -> Result<Exit> {
    let mut replica = session.replica()?;
    let table = args.table.as_deref().map(|name| replica.table(name).map(str::to_owned));
    let table = table.transpose()?;
    let (count, word) = match args.action {
        None => return list(session, table.as_deref()),
        Some(ReturnedAction::Keep) => (replica.keep_returned(table.as_deref())?, "kept"),
        Some(ReturnedAction::Delete) => (replica.delete_returned(table.as_deref())?, "deleted"),
    };
    if session.output().is_json() {
        session.output().json(&serde_json::json!({ word: count }))?;
    } else {
        session.output().line(format_args!("{count} row(s) {word}"))?;
    }
    Ok(Exit::Success)
}

fn list(session: &Session, table: Option<&str>) -> Result<Exit> {
    let output = session.output();
    let rows = session.replica()?.returned(table)?;
    if output.is_json() {
        rows.iter().try_for_each(|row| output.json(row))?;
        return Ok(Exit::Success);
    }
    if rows.is_empty() {
        output.note("no row has come back");
        return Ok(Exit::Success);
    }
    let listed: Vec<_> = rows
        .iter()
        .map(|row| (Tone::Plain, vec![clean(&row.table, CHARS), key(&row.key), rfc3339(row.at)]))
        .collect();
    output.listing(&["table", "row", "came back"], &listed)?;
    output.note(
        "\nThe tables' definitions have changed, and these rows were missing. To keep them:\n\
         driftless returned keep. If they were deleted: driftless returned delete",
    );
    Ok(Exit::Success)
}
