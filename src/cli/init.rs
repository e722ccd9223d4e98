//! `driftless init`: make a database into a replica.

use serde::Serialize;

use super::args;
use super::exit::Exit;
use super::session::Session;
use super::signal;
use crate::error::{Error, Result};
use crate::remote::{Access, Remote as _};
use crate::sync::{Report, Tables, fresh_plan, initialise};

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
}

/// Installs what is missing on both sides, and brings their rows together.
///
/// # Errors
///
/// As [`initialise`], and `Usage` when another replicator is at work on the file.
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
    let _lock = if db.exists() { Some(session.lock()?) } else { None };
    let advice = "interrupted: what was done stays; run it again to go on";
    signal::end_at_once(&session.output, Exit::Interrupted, advice.to_owned())?;
    let plan = fresh_plan(db, remote.url(), tables, args.conflict);
    let spinner = session.output.spinner("the first contact");
    let outcome = initialise(plan, remote);
    drop(spinner);
    let (store, report) = outcome?;
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
    output.line(format_args!("tables     {}", tables.join(", ")))?;
    for (names, side) in [(&report.made_here, "made here "), (&report.made_there, "made there")] {
        if !names.is_empty() {
            output.line(format_args!("{side} {}", names.join(", ")))?;
        }
    }
    if let Some(rows) = Rows::of(&report) {
        output.line(rows)?;
    }
    if state.pending > 0 {
        let pending = state.pending;
        output.note(format_args!("{pending} events wait to be pushed: driftless sync --db {file}"));
    }
    Ok(Exit::Success)
}

impl Rows {
    /// Of a first sync; `None` where it was done before.
    pub(super) fn of(report: &Report) -> Option<Rows> {
        report.adopted.as_ref().map(|adopted| Rows {
            fetched: adopted.fetched,
            local: adopted.local,
            equal: adopted.equal,
            different: adopted.different,
        })
    }
}

impl std::fmt::Display for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "rows       {} fetched, {} only here, {} equal, {} different (the remote's are taken)",
            self.fetched, self.local, self.equal, self.different
        )
    }
}
