//! The `driftless` command.
//!
//! [`main`] reads the command line (`args`), runs the command, and turns the outcome into an exit
//! code (`exit`). Each command is a file in `commands`, with its own arguments, and uses only the
//! library's interface: it asks a [`Replica`](crate::inspect::Replica), calls the driver, or starts
//! a [`Replicator`](crate::Replicator) or a [`Hub`](crate::hub::Hub).
//!
//! `output` prints: data to stdout, everything else to stderr. With `--json` both are lines of
//! JSON: errors, warnings and notes are objects on stderr. Only the log that `--verbose` turns on
//! is plain text.
//!
//! # Caveats
//!
//! * Ctrl-C ends a command at once, except for `run` and `hub`, which shut down in order. Ending at
//!   once is always safe: a local change is one transaction, and a push that is sent twice counts
//!   once.
//! * Times are shown in UTC.

mod args;
mod commands;
#[cfg(feature = "hub")]
mod demo;
mod exit;
mod output;
mod session;
mod signal;
mod stdin;
mod stdio;

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use self::args::{Cli, Command};
use self::exit::Exit;
use self::output::Output;
use self::session::Session;
use crate::error::Result;

/// Runs the command that the process was started with, and gives its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // The arguments could not be parsed, so look for the flag directly.
            let json = std::env::args_os().any(|argument| argument == "--json");
            Output::new(json).usage(&error);
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
            return exit.into();
        }
    };
    let output = Output::new(cli.global().is_json());
    trace(cli.global().verbosity(), &output);
    keep_quiet_about_the_client();
    match run(cli, &output) {
        Ok(exit) => exit.into(),
        Err(error) if output::is_closed(&error) => Exit::Success.into(),
        Err(error) => {
            output.error(&error);
            Exit::from(error.kind()).into()
        }
    }
}

fn run(cli: Cli, output: &Output) -> Result<Exit> {
    let (global, command) = cli.into_parts();
    let session = Session::new(global, output.clone());
    perform(&session, command).map_err(|error| session.explain(error))
}

fn perform(session: &Session, command: Command) -> Result<Exit> {
    keep_private(&command);
    match command {
        Command::Init(args) => commands::init::init(session, args),
        Command::Sync => commands::sync::sync(session),
        Command::Run(args) => commands::run::run(session, &args),
        Command::Status(args) => commands::status::status(session, &args),
        Command::Log(args) => commands::log::log(session, args),
        Command::Show(args) => commands::log::show(session, &args),
        Command::History(args) => commands::audit::history::history(session, &args),
        Command::Blame(args) => commands::audit::history::blame(session, &args),
        Command::Diff(args) => commands::audit::diff::diff(session, &args),
        Command::Sql(args) => commands::audit::past::sql(session, &args),
        Command::Shell(args) => commands::audit::past::shell(session, &args),
        Command::Replay(args) => commands::audit::past::replay(session, &args),
        Command::Bisect(args) => commands::audit::past::bisect(session, &args),
        Command::Revert(args) => commands::audit::revert::revert(session, &args),
        Command::Conflicts(args) => commands::conflicts::conflicts(session, args),
        Command::Quarantine(args) => commands::quarantine::quarantine(session, &args),
        Command::Returned(args) => commands::returned::returned(session, &args),
        Command::Remote(args) => commands::remote::remote(session, args),
        Command::Migrate(args) => commands::upkeep::migrate::migrate(session, &args),
        Command::Remove(args) => commands::upkeep::remove::remove(session, &args),
        Command::Verify(args) => commands::upkeep::verify::verify(session, &args),
        #[cfg(feature = "hub")]
        Command::Hub(args) => commands::hub::hub(session, &args),
        #[cfg(feature = "hub")]
        Command::Demo(args) => demo::demo(session, &args),
    }
}

/// Lets only the owner read the files that `init`, `run --stdio`, `hub` and `demo` create: they
/// hold a business's rows. A file that exists keeps its mode. SQLite gives the files beside a
/// database the same mode.
fn keep_private(command: &Command) {
    let makes_files = match command {
        Command::Init(_) => true,
        Command::Run(args) => args.makes_files(),
        #[cfg(feature = "hub")]
        Command::Hub(_) | Command::Demo(_) => true,
        _ => false,
    };
    #[cfg(unix)]
    if makes_files {
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    }
    #[cfg(not(unix))]
    let _ = makes_files;
}

/// Suppresses the message of a panic in the `libsql` crate. The transport reports such a panic as
/// an unavailable remote, and the message would print data that the remote sent.
fn keep_quiet_about_the_client() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| match panic.location() {
        Some(location) if location.file().contains("libsql-") => {
            tracing::debug!(file = location.file(), line = location.line(), "the client fell");
        }
        _ => usual(panic),
    }));
}

/// Sends the library's log to stderr.
///
/// Other crates log errors only, at every verbosity: `libsql` logs SQL, and so rows, at its `trace`
/// level.
fn trace(verbose: u8, output: &Output) {
    let level = match verbose {
        // The command prints its own error.
        0 => "error",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::new(format!("error,driftless={level}"));
    output.report(filter);
}
