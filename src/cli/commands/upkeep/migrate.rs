//! `driftless migrate`: changes the schema of a replica, with our triggers out of the way.

use std::path::PathBuf;
use std::process::Command;

use clap::Args;
use serde::Serialize;

use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::error::{Code, Error, Result};
use crate::inspect::{Migration, Rename, Replica};

/// The arguments of `migrate`.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// A file of SQL statements, which are one transaction
    #[arg(value_name = "FILE.sql", conflicts_with = "command")]
    file: Option<PathBuf>,
    /// A column that it renames in another way than by ALTER TABLE … RENAME COLUMN
    #[arg(long, value_name = "TABLE.OLD=NEW")]
    rename: Vec<Rename>,
    /// A program that migrates the database, with its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// The outcome, as `--json` prints it.
#[derive(Serialize)]
struct Done<'a> {
    migrated: bool,
    /// The tables that are compared with the remote's at the next sync.
    comparing: &'a [String],
}

/// Migrates a replica.
///
/// # Errors
///
/// `Usage` when nothing is to be done, SQLite refuses a statement, the program fails, or a renamed
/// column is not there; `Storage` when the file or the database cannot be used.
pub(crate) fn migrate(session: &Session, args: &MigrateArgs) -> Result<Exit> {
    let migration = Migration::of(session.db()?);
    match (&args.file, args.command.split_first()) {
        (Some(file), _) => {
            let script = std::fs::read_to_string(file).map_err(|source| {
                let message = format!("{} cannot be read: {source}", file.display());
                Error::new(Code::NoSuchFile, message).with_source(source)
            })?;
            migration.run(&script, &args.rename)?;
        }
        (None, Some((program, arguments))) => {
            migration.begin()?;
            let outcome = run(program, arguments);
            // Whatever the program has done, capture goes on.
            let ended = migration.end(if outcome.is_ok() { &args.rename } else { &[] });
            if ended.is_err() {
                migration.end(&[])?;
            }
            outcome?;
            ended?;
        }
        (None, None) if args.rename.is_empty() => {
            return Err(Error::usage("nothing is to be done")
                .with_hint("name a file of SQL, or a program: driftless migrate -- COMMAND"));
        }
        // The application has migrated already, and the columns are told.
        (None, None) => migration.run("", &args.rename)?,
    }
    let comparing = Replica::open(session.db()?)?.status()?.suspect;
    let output = session.output();
    if output.is_json() {
        output.json(&Done { migrated: true, comparing: &comparing })?;
        return Ok(Exit::Success);
    }
    output.line(format_args!("{} is migrated", session.db()?.display()))?;
    if !comparing.is_empty() {
        output.note("The next sync compares its tables with the remote's.");
    }
    Ok(Exit::Success)
}

/// Runs a program to its end.
fn run(program: &str, arguments: &[String]) -> Result<()> {
    let outcome = Command::new(program).args(arguments).status().map_err(|source| {
        let message = format!("`{program}` cannot be run: {source}");
        Error::usage(message).with_source(source)
    })?;
    if outcome.success() {
        return Ok(());
    }
    let how = match outcome.code() {
        Some(code) => format!("with code {code}"),
        None => "by a signal".to_owned(),
    };
    Err(Error::usage(format!("`{program}` ended {how}"))
        .with_hint("what it has changed stays; driftless captures again"))
}
