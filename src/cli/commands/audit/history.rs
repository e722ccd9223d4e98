//! `driftless history` and `driftless blame`.

use clap::Args;

use crate::cli::exit::Exit;
use crate::cli::output::version::{Changes, blamed_row, version};
use crate::cli::output::{Output, Tone, clean};
use crate::cli::session::Session;
use crate::error::{Error, Result};
use crate::event::{ReplicaId, RowKey, Seq};
use crate::inspect::{Blamed, BlamedView, History, VersionView};

/// The arguments of `history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The table
    #[arg(value_name = "TABLE")]
    table: String,
    /// The row: its key, with commas between the values if it has several, or a JSON array
    #[arg(value_name = "KEY", allow_hyphen_values = true)]
    key: String,
    /// The newest version first
    #[arg(long)]
    reverse: bool,
}

/// The arguments of `blame`.
#[derive(Debug, Args)]
pub(crate) struct BlameArgs {
    /// The table
    #[arg(value_name = "TABLE")]
    table: String,
    /// The row: its key, with commas between the values if it has several, or a JSON array
    #[arg(value_name = "KEY", allow_hyphen_values = true, required_unless_present = "column")]
    key: Option<String>,
    /// This column alone; without KEY, of every row
    #[arg(long, value_name = "COLUMN")]
    column: Option<String>,
}

/// Shows the progress of indexing or reading the log.
pub(super) fn watching(output: &Output, what: &str) -> impl FnMut(Seq) {
    let (spinner, what) = (output.spinner(what), what.to_owned());
    move |seq| spinner.progress(format!("{what}, up to event {seq}"))
}

/// Prints the versions of a row.
///
/// # Errors
///
/// `Usage` when there is no such table or row, `Storage` when the database fails.
pub(crate) fn history(session: &Session, args: &HistoryArgs) -> Result<Exit> {
    let replica = session.replica()?;
    let output = session.output();
    let key = replica.key(&args.table, &args.key)?;
    let mut found =
        replica.history(&args.table, &key, &mut watching(output, "indexing the log by row"))?;
    if args.reverse {
        found.versions.reverse();
    }
    if output.is_json() {
        for version in &found.versions {
            output.json(&VersionView::of(version, replica.id()))?;
        }
    } else {
        print_history(output, &found, replica.id())?;
    }
    if found.is_older {
        output.note("the row is older than this replica's log: its first versions are not known");
    }
    told_unreadable(output, &found.unreadable);
    Ok(Exit::Success)
}

fn told_unreadable(output: &Output, unreadable: &[Seq]) {
    if let Some(first) = unreadable.first() {
        output.warn(format_args!(
            "{} of the log cannot be read and may be of this row, the first at {first}: driftless \
             verify names them",
            counted(unreadable.len(), "event")
        ));
    }
}

/// A number with its noun.
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn print_history(output: &Output, found: &History, me: ReplicaId) -> Result<()> {
    let title = format!(
        "{} {}: {}",
        clean(&found.table, usize::MAX),
        clean(&found.key.to_string(), usize::MAX),
        counted(found.versions.len(), "version")
    );
    output.row(Tone::Strong, &title)?;
    for one in &found.versions {
        output.line("")?;
        let (tone, line, changes): (Tone, String, Changes) = version(one, me);
        output.row(tone, &line)?;
        for change in changes {
            output.row(Tone::Plain, &change)?;
        }
    }
    Ok(())
}

/// Prints who set values last.
///
/// # Errors
///
/// `Usage` when there is no such table, row or column, `Storage` when the database fails.
pub(crate) fn blame(session: &Session, args: &BlameArgs) -> Result<Exit> {
    match (&args.key, &args.column) {
        (Some(key), column) => blame_row(session, &args.table, key, column.as_deref()),
        (None, Some(column)) => blame_column(session, &args.table, column),
        (None, None) => Err(Error::usage("name a row by its KEY, or a column with --column")),
    }
}

fn blame_row(session: &Session, table: &str, key: &str, column: Option<&str>) -> Result<Exit> {
    let replica = session.replica()?;
    let (output, me) = (session.output(), replica.id());
    let key = replica.key(table, key)?;
    let mut watch = watching(output, "indexing the log by row");
    let mut found = replica.blame(table, &key, &mut watch)?;
    if let Some(column) = column {
        let names: Vec<_> = found.iter().map(|one| one.column.clone()).collect();
        found.retain(|one| one.column.eq_ignore_ascii_case(column));
        if found.is_empty() {
            let message = format!("table `{table}` has no column `{column}`");
            return Err(Error::usage(message).with_hint(format!("it has {}", names.join(", "))));
        }
    }
    if output.is_json() {
        for blamed in &found {
            output.json(&BlamedView::of(&key, blamed, me))?;
        }
        return Ok(Exit::Success);
    }
    let row = |blamed: &Blamed| {
        let [value, when, event, by] = blamed_row(blamed, me);
        (Tone::Plain, vec![clean(&blamed.column, usize::MAX), value, when, event, by])
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    output.table(&["column", "value", "made (UTC)", "event", "by"], &rows)?;
    Ok(Exit::Success)
}

/// Characters of a key in the listing of a column, which is printed as it is read.
const KEY_WIDTH: usize = 26;
/// Characters of a value there.
const VALUE_WIDTH: usize = 24;

fn blame_column(session: &Session, table: &str, column: &str) -> Result<Exit> {
    let replica = session.replica()?;
    let (output, me) = (session.output(), replica.id());
    let mut is_first = true;
    let line = |key: &str, value: &str, when: &str, event: &str, by: &str| {
        format!("{key:KEY_WIDTH$}  {value:VALUE_WIDTH$}  {when:19}  {event:8}  {by}")
    };
    let mut watch = watching(output, "reading the log");
    replica.blame_column(table, column, &mut watch, &mut |row| {
        let key: &RowKey = &row.key;
        if output.is_json() {
            return output.json(&BlamedView::of(key, &row.blamed, me));
        }
        if std::mem::take(&mut is_first) {
            output.row(Tone::Strong, &line("row", column, "made (UTC)", "event", "by"))?;
        }
        let [value, when, event, by] = blamed_row(&row.blamed, me);
        let (key, value) = (clean(&key.to_string(), KEY_WIDTH), clean(&value, VALUE_WIDTH));
        output.row(Tone::Plain, &line(&key, &value, &when, &event, &by))
    })?;
    Ok(Exit::Success)
}
