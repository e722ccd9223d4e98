//! `driftless init --dry-run`: what a first sync would do.

use std::sync::Arc;

use super::words::{NAME_CHARS, clean_words, print_left_out};
use crate::cli::exit::Exit;
use crate::cli::output::{Output, Tone, clean};
use crate::cli::session::Session;
use crate::cli::signal;
use crate::error::Result;
use crate::remote::Libsql;
use crate::sync::{DryRun, Plan, Side, TablePreview, Twins};

/// Characters of a key that are shown.
const KEY_CHARS: usize = 40;

/// Says what `init` would do. It ends with the error with which `init` would.
///
/// # Errors
///
/// As [`dry_run`](crate::sync::dry_run).
pub(super) fn dry_run(session: &Session, plan: &Plan, remote: Arc<Libsql>) -> Result<Exit> {
    let output = session.output();
    let advice = "interrupted: nothing was changed";
    signal::end_at_once(output, Exit::Interrupted, advice.to_owned())?;
    let spinner = output.spinner("comparing");
    let outcome = crate::sync::dry_run(plan, remote, &mut |done, all| {
        spinner.progress(format!("{done} of {all} rows are compared"));
    });
    drop(spinner);
    let (found, refused) = outcome?;
    if output.is_json() {
        output.json(&found)?;
    } else {
        print(output, &found)?;
    }
    match refused {
        Some(error) => Err(error),
        None => Ok(Exit::Success),
    }
}

fn print(output: &Output, found: &DryRun) -> Result<()> {
    let line = |table: &TablePreview| {
        let tone = match table.problem {
            Some(_) => Tone::Bad,
            None if table.different > 0 || !table.twins.is_empty() => Tone::Notable,
            None => Tone::Plain,
        };
        let what = match table.side {
            Side::Local => "made there",
            Side::Remote => "made here",
            Side::Both => "both sides",
            Side::Replicated => "is replicated",
        };
        let counts = [table.only_here, table.only_there, table.equal, table.different];
        let taken = table.takes_local;
        let counts = counts.into_iter().chain([taken]).map(|count| match table.side {
            Side::Replicated => String::new(),
            _ => count.to_string(),
        });
        let words = [clean(&table.table, NAME_CHARS), what.to_owned()];
        (tone, words.into_iter().chain(counts).collect())
    };
    let lines: Vec<_> = found.tables.iter().map(line).collect();
    let columns = ["table", "", "only here", "only there", "equal", "different", "local taken"];
    output.table(&columns, &lines)?;
    found.tables.iter().try_for_each(|table| print_table(output, table))?;
    print_left_out(output, &found.left_out)?;
    for orphans in &found.orphans {
        output.warn(clean_words(orphans));
    }
    if !found.orphans.is_empty() {
        output.note(
            "   hint: those of which the remote has the parent are no orphans after the first \
             sync; the others are rejected when they are pushed",
        );
    }
    output.line("nothing was changed on either side")
}

/// What is to be said of one table.
fn print_table(output: &Output, table: &TablePreview) -> Result<()> {
    let name = clean(&table.table, NAME_CHARS);
    let names = |names: &[String]| clean(&names.join(", "), usize::MAX);
    if !table.columns.is_empty() {
        let column = |found: &crate::sync::ColumnDifference| {
            format!("{} ({})", clean(&found.column, NAME_CHARS), found.rows)
        };
        let columns: Vec<_> = table.columns.iter().map(column).collect();
        output.line(format_args!("`{name}`: rows differ in {}", columns.join(", ")))?;
    }
    for (columns, side) in [(&table.columns_here, "here"), (&table.columns_there, "there")] {
        if !columns.is_empty() {
            output.line(format_args!("`{name}`: only {side}: column {}", names(columns)))?;
        }
    }
    if let Some(problem) = &table.problem {
        let problem = clean(problem, usize::MAX);
        output.line(Tone::Bad.paint(format_args!("`{name}`: {problem}")))?;
    }
    for twins in &table.twins {
        let Twins { columns, rows, keys } = twins;
        let pair = |[mine, theirs]: &[String; 2]| {
            format!("{} and {}", clean(mine, KEY_CHARS), clean(theirs, KEY_CHARS))
        };
        let pairs: Vec<_> = keys.iter().map(pair).collect();
        let more = if *rows > keys.len() as u64 { ", …" } else { "" };
        let (what, go) = match rows {
            1 => ("1 row here has".to_owned(), "it is rejected when it is pushed, and goes"),
            rows => (format!("{rows} rows here have"), "they are rejected when pushed, and go"),
        };
        output.warn(format_args!(
            "`{name}`: {what} the {} of another row of the remote ({}{more}): {go} to the conflict \
             inbox",
            names(columns),
            pairs.join(", ")
        ));
    }
    if table.unnamed > 0 {
        output.warn(format_args!(
            "`{name}`: {} rows of the remote have a key that is not UTF-8, and are not replicated",
            table.unnamed
        ));
    }
    Ok(())
}
