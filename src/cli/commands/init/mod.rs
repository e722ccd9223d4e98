//! `driftless init`: makes a database a replica.

mod dry_run;
mod words;

use clap::{ArgGroup, Args};
use serde::Serialize;

pub(in crate::cli) use self::words::NAME_CHARS;
use self::words::{clean_words, print_left_out};
use crate::catalog::LeftOut;
use crate::cli::exit::Exit;
use crate::cli::output::{Output, Spinner, Tone, clean};
use crate::cli::session::Session;
use crate::cli::signal;
use crate::error::{Code, Error, Result};
use crate::event::conflict::ConflictRule;
use crate::inspect::{Adopted, AdoptedTable, Orphans, Prefer, Preferences, Replica};
use crate::remote::{Access, Remote as _};
use crate::sync::{Phase, Report, Tables, fresh_plan, initialise};

/// The most characters of a table's name that are shown.
/// The result, as `--json` prints it.
#[derive(Serialize)]
struct Done<'a> {
    replica: String,
    url: String,
    epoch: &'a str,
    tables: Vec<&'a str>,
    left_out: &'a [LeftOut],
    /// Tables of an earlier `init` that were not named this time. They are not replicated any more.
    left: &'a [String],
    /// Replicated, though their names look like the bookkeeping of a migration tool.
    like_bookkeeping: &'a [String],
    /// Rows whose parent was missing before the first sync.
    orphans: &'a [Orphans],
    /// Rows whose parent is missing after it.
    orphans_left: &'a [Orphans],
    made_here: &'a [String],
    made_there: &'a [String],
    installed: bool,
    /// Absent if the first sync was done before.
    rows: Option<&'a Adopted>,
    pending: u64,
}

/// The arguments of `init`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["tables", "all_tables"]))]
pub(crate) struct InitArgs {
    /// The remote: libsql://… or https://…, or http:// on this machine
    #[arg(long, value_name = "URL")]
    remote: String,
    /// The tables to replicate, separated by commas
    #[arg(long, value_name = "TABLES", value_delimiter = ',')]
    tables: Vec<String>,
    /// Replicate every table of either side that has a primary key, except the bookkeeping of
    /// migration tools
    #[arg(long)]
    all_tables: bool,
    /// With --all-tables: leave these tables out, separated by commas
    #[arg(long, value_name = "TABLES", value_delimiter = ',', conflicts_with = "tables")]
    exclude: Vec<String>,
    /// The conflict rule of a table: `row` (the default) or `columns`
    #[arg(long, value_name = "TABLE=RULE", value_delimiter = ',', value_parser = conflict_rule)]
    conflict: Vec<(String, ConflictRule)>,
    /// Which version is taken of a row that both sides have and that differs: `remote` (the
    /// default), `local`, or `newest:COLUMN`; of one table with TABLE=WORD. The other version goes
    /// to the conflict inbox
    #[arg(long, value_name = "WORD", value_delimiter = ',', value_parser = preference)]
    prefer: Vec<Preference>,
    /// Say what would happen, and write nothing on either side
    #[arg(long)]
    dry_run: bool,
}

/// What is preferred, in one table or in all others.
type Preference = (Option<String>, Prefer);

/// Reads `local` or `members=local`.
fn preference(text: &str) -> std::result::Result<Preference, String> {
    match text.split_once('=') {
        None => Ok((None, text.parse()?)),
        Some((table, word)) => Ok((Some(table.to_owned()), word.parse()?)),
    }
}

/// Reads `members=columns`.
fn conflict_rule(text: &str) -> std::result::Result<(String, ConflictRule), String> {
    let (table, rule) = text.split_once('=').ok_or("write TABLE=row or TABLE=columns")?;
    let rule = rule.parse().map_err(|_| format!("`{rule}` is neither `row` nor `columns`"))?;
    Ok((table.to_owned(), rule))
}

/// Installs missing objects on both sides, and merges their rows.
///
/// # Errors
///
/// As [`initialise`](crate::sync::initialise), and `Usage` when another replicator is working on
/// the file.
pub(crate) fn init(session: &Session, args: InitArgs) -> Result<Exit> {
    let db = session.db()?.to_owned();
    let remote = session.remote(&args.remote)?;
    let tables = match (args.all_tables, args.exclude.is_empty()) {
        (false, _) => Tables::Named(args.tables),
        (true, true) => Tables::All,
        (true, false) => Tables::AllBut(args.exclude),
    };
    if remote.access() == Access::ReadOnly && !args.dry_run {
        return Err(remote.read_only());
    }
    let folder = db.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(Error::new(
            Code::NoSuchFile,
            format!("there is no folder {}", folder.display()),
        )
        .with_hint("make it first, or check the path"));
    }
    let mut plan = fresh_plan(db.clone(), remote.url(), tables, args.conflict);
    let mut prefer = Preferences::default();
    args.prefer.into_iter().for_each(|(table, word)| prefer.set(table, word));
    plan.prefer = prefer;
    if args.dry_run {
        return dry_run::dry_run(session, &plan, remote);
    }
    // A new file has no replicator yet.
    let lock = if db.exists() { Some(session.lock()?) } else { None };
    let advice = "interrupted: the work so far is kept; run it again to continue";
    signal::end_at_once(session.output(), Exit::Interrupted, advice.to_owned())?;
    let spinner = session.output().spinner("the first sync");
    let outcome = initialise(plan, remote, &mut |doing| match doing {
        Phase::Found(orphans) if !session.output().is_json() => warn_of(session.output(), orphans),
        _ => show(&spinner, doing),
    });
    drop(spinner);
    let (store, report) = match outcome {
        Ok(done) => done,
        Err(error) => {
            // No replica was made: remove the lock's files.
            if let Some(lock) = lock.filter(|_| Replica::open(&db).is_err()) {
                lock.discard();
            }
            return Err(error);
        }
    };
    tell(session.output(), &Replica::of(store), &report)?;
    Ok(Exit::Success)
}

/// Prints the result.
fn tell(output: &Output, replica: &Replica<'_>, report: &Report) -> Result<()> {
    let (state, left_out) = (replica.state()?, replica.left_out()?);
    let tables: Vec<&str> = replica.tables().collect();
    if output.is_json() {
        return output.json(&Done {
            replica: state.replica.to_string(),
            url: state.url,
            epoch: &report.epoch,
            tables,
            left_out: &left_out,
            left: &report.left,
            like_bookkeeping: &report.suspects,
            orphans: &report.orphans,
            orphans_left: &report.orphans_left,
            made_here: &report.made_here,
            made_there: &report.made_there,
            installed: report.installed,
            rows: report.adopted.as_ref(),
            pending: state.pending,
        });
    }
    let (file, url) = (replica.path().display(), &state.url);
    output.line(format_args!("{file} is replica {} of {url}", state.replica))?;
    output.line(format_args!("tables     {}", clean(&tables.join(", "), usize::MAX)))?;
    for (names, side) in [(&report.made_here, "made here "), (&report.made_there, "made there")] {
        if !names.is_empty() {
            output.line(format_args!("{side} {}", clean(&names.join(", "), usize::MAX)))?;
        }
    }
    print_left_out(output, &left_out)?;
    if let Some(rows) = &report.adopted {
        print_rows(output, rows)?;
    }
    advise(output, report);
    if state.pending > 0 {
        output.note(waiting(state.pending, &file));
    }
    Ok(())
}

/// Prints the tables that are not replicated, each with the reason. Tables that were not chosen are
/// on one line.
/// Warns of tables and rows that a person should check.
fn advise(output: &Output, report: &Report) {
    let named = |tables: &[String]| {
        let names: Vec<_> = tables.iter().map(|name| format!("`{name}`")).collect();
        clean(&names.join(", "), usize::MAX)
    };
    if !report.left.is_empty() {
        output.warn(format_args!(
            "not asked for, and not replicated here any more: {}",
            named(&report.left)
        ));
    }
    if !report.suspects.is_empty() {
        output.warn(format_args!(
            "replicated, although the name looks like a migration tool's bookkeeping, which must \
             not be replicated: {}",
            named(&report.suspects)
        ));
        output.note("   hint: if it is, make the replica again, with --exclude");
    }
    if !report.orphans_left.is_empty() {
        for orphans in &report.orphans_left {
            output.warn(format_args!("after the first sync {}", clean_words(orphans)));
        }
        output.note(
            "   hint: rows that only this database has will be rejected when they are pushed: \
             they leave their tables, and `driftless conflicts` lists them. Give them a parent \
             before `driftless sync`, or set the column to NULL",
        );
    }
}

/// Warns of rows whose parents are missing.
fn warn_of(output: &Output, orphans: &[Orphans]) {
    for orphans in orphans {
        output.warn(clean_words(orphans));
    }
    output.note(
        "   nothing was changed so far; rows whose parent is on the remote are not orphans after \
         the first sync",
    );
}

/// The text that events are pending.
pub(in crate::cli) fn waiting(pending: u64, db: &impl std::fmt::Display) -> String {
    let wait = if pending == 1 { "event waits" } else { "events wait" };
    format!("{pending} {wait} to be pushed: driftless sync --db {db}")
}

/// Shows the progress of a first sync.
pub(in crate::cli) fn show(spinner: &Spinner, doing: &Phase) {
    spinner.progress(match doing {
        Phase::Installing | Phase::Found(_) => "installing missing tables and triggers".to_owned(),
        Phase::Reading { table, rows } => {
            format!("reading {}: {rows} rows so far", clean(table, NAME_CHARS))
        }
        Phase::Merging => "merging the rows of both sides".to_owned(),
    });
}

/// Prints the rows of a first sync, and the figures of each table if there are several.
pub(in crate::cli) fn print_rows(output: &Output, rows: &Adopted) -> Result<()> {
    let taken = match rows.local_taken {
        0 => "the remote's are taken".to_owned(),
        kept if kept == rows.different => "the local ones are taken".to_owned(),
        kept => format!("{kept} local ones are taken, and the remote's of the others"),
    };
    output.line(format_args!(
        "rows       {} fetched, {} only here, {} equal, {} different ({taken})",
        rows.fetched, rows.local, rows.equal, rows.different
    ))?;
    if rows.tables.len() < 2 {
        return Ok(());
    }
    let columns = ["table", "fetched", "only here", "equal", "different", "local taken"];
    // The last one only where it says something.
    let columns = &columns[..columns.len() - usize::from(rows.local_taken == 0)];
    let line = |found: &AdoptedTable| {
        let counts = [found.fetched, found.local, found.equal, found.different, found.local_taken];
        let name = clean(&found.table, NAME_CHARS);
        let counts = counts.iter().map(usize::to_string);
        (Tone::Plain, std::iter::once(name).chain(counts).take(columns.len()).collect())
    };
    let lines: Vec<_> = rows.tables.iter().map(line).collect();
    output.table(columns, &lines)
}
