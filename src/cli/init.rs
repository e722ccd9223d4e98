//! `driftless init`: make a database into a replica.

use serde::Serialize;

use super::args;
use super::exit::Exit;
use super::output::{Output, Spinner, Tone, clean};
use super::session::Session;
use super::signal;
use crate::error::{Error, Result};
use crate::remote::{Access, Remote as _};
use crate::store::Store;
use crate::sync::{Doing, Report, Tables, fresh_plan, initialise_watched};

/// Characters of a table's name that are shown.
pub(super) const NAME_CHARS: usize = 40;

/// What was done, as `--json` prints it.
#[derive(Serialize)]
struct Done<'a> {
    replica: String,
    url: String,
    epoch: &'a str,
    tables: Vec<&'a str>,
    made_here: &'a [String],
    made_there: &'a [String],
    installed: bool,
    /// Absent where the first sync was done before.
    rows: Option<Rows>,
    pending: u64,
}

/// Rows that were found, and where.
#[derive(Clone, Serialize)]
pub(super) struct Rows {
    fetched: usize,
    local: usize,
    equal: usize,
    different: usize,
    tables: Vec<TableRows>,
}

/// The same of one table.
#[derive(Clone, Serialize)]
struct TableRows {
    table: String,
    fetched: usize,
    local: usize,
    equal: usize,
    different: usize,
}

/// Installs what is missing on both sides, and brings their rows together.
///
/// # Errors
///
/// As [`initialise`](crate::sync::initialise), and `Usage` when another replicator is at work on
/// the file.
pub(crate) fn init(session: &Session, args: args::Init) -> Result<Exit> {
    let db = session.db()?.to_owned();
    let remote = session.remote(&args.remote)?;
    let tables = if args.all_tables { Tables::All } else { Tables::Named(args.tables) };
    if remote.access() == Access::ReadOnly {
        return Err(Error::refused(format!("the token for {} is read-only", remote.url()))
            .with_hint("create one that may write, with: turso db tokens create NAME"));
    }
    let folder = db.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(Error::usage(format!("there is no folder {}", folder.display()))
            .with_hint("make it first, or check the path"));
    }
    // Nobody is at work on a file that is not there yet.
    let lock = if db.exists() { Some(session.lock()?) } else { None };
    let advice = "interrupted: what was done stays; run it again to go on";
    signal::end_at_once(&session.output, Exit::Interrupted, advice.to_owned())?;
    let plan = fresh_plan(db.clone(), remote.url(), tables, args.conflict);
    let spinner = session.output.spinner("the first contact");
    let outcome = initialise_watched(plan, remote, &mut |doing| show(&spinner, doing));
    drop(spinner);
    let (store, report) = match outcome {
        Ok(done) => done,
        Err(error) => {
            // What was made for a replica that did not come about goes.
            if let Some(lock) = lock.filter(|_| Store::open(&db).is_err()) {
                lock.discard();
            }
            return Err(error);
        }
    };
    let state = store.state()?;
    let tables: Vec<&str> = store.tables().iter().map(|r| r.table.name.as_str()).collect();
    if session.output.is_json() {
        session.output.json(&Done {
            replica: state.replica.to_string(),
            url: state.url,
            epoch: &report.epoch,
            tables,
            made_here: &report.made_here,
            made_there: &report.made_there,
            installed: report.installed,
            rows: Rows::of(&report),
            pending: state.pending,
        })?;
        return Ok(Exit::Success);
    }
    let output = &session.output;
    let (file, url) = (session.db()?.display(), &state.url);
    output.line(format_args!("{file} is replica {} of {url}", state.replica))?;
    output.line(format_args!("tables     {}", clean(&tables.join(", "), usize::MAX)))?;
    for (names, side) in [(&report.made_here, "made here "), (&report.made_there, "made there")] {
        if !names.is_empty() {
            output.line(format_args!("{side} {}", clean(&names.join(", "), usize::MAX)))?;
        }
    }
    if let Some(rows) = Rows::of(&report) {
        rows.print(output)?;
    }
    if state.pending > 0 {
        output.note(waiting(state.pending, &file));
    }
    Ok(Exit::Success)
}

/// What a person is told when there is something to push.
pub(super) fn waiting(pending: u64, db: &impl std::fmt::Display) -> String {
    let wait = if pending == 1 { "event waits" } else { "events wait" };
    format!("{pending} {wait} to be pushed: driftless sync --db {db}")
}

/// Shows how far a first contact is.
pub(super) fn show(spinner: &Spinner, doing: &Doing) {
    spinner.progress(match doing {
        Doing::Installing => "installing what is missing".to_owned(),
        Doing::Reading { table, rows } => {
            format!("reading {}: {rows} rows so far", clean(table, NAME_CHARS))
        }
        Doing::Merging => "bringing the rows of both sides together".to_owned(),
    });
}

impl Rows {
    /// Of a first sync; `None` where it was done before.
    pub(super) fn of(report: &Report) -> Option<Rows> {
        let adopted = report.adopted.as_ref()?;
        let tables = adopted.tables.iter().map(|found| TableRows {
            table: found.table.clone(),
            fetched: found.fetched,
            local: found.local,
            equal: found.equal,
            different: found.different,
        });
        Some(Rows {
            fetched: adopted.fetched,
            local: adopted.local,
            equal: adopted.equal,
            different: adopted.different,
            tables: tables.collect(),
        })
    }

    /// The figures together, and, where there is more than one table, for each.
    ///
    /// # Errors
    ///
    /// As [`Output::line`].
    pub(super) fn print(&self, output: &Output) -> Result<()> {
        output.line(format_args!(
            "rows       {} fetched, {} only here, {} equal, {} different (the remote's are taken)",
            self.fetched, self.local, self.equal, self.different
        ))?;
        if self.tables.len() < 2 {
            return Ok(());
        }
        let line = |found: &TableRows| {
            let counts = [found.fetched, found.local, found.equal, found.different];
            let name = clean(&found.table, NAME_CHARS);
            let counts = counts.iter().map(usize::to_string);
            (Tone::Plain, std::iter::once(name).chain(counts).collect())
        };
        let lines: Vec<_> = self.tables.iter().map(line).collect();
        output.table(&["table", "fetched", "only here", "equal", "different"], &lines)
    }
}
