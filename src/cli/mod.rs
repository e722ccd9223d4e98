//! The `driftless` command.
//!
//! [`main`] reads the command line (`args`), does what it says, and turns the outcome into one of
//! the numbers of `exit`. Each command has a module, and is a function of what the library offers
//! to everybody: it opens a `Store`, asks the driver or starts a
//! [`Replicator`](crate::Replicator) or a [`Hub`](crate::hub::Hub).
//!
//! What is printed goes through `output`: data to stdout, everything else to stderr. With
//! `--json` both hold JSON, a value a line: errors, warnings and notes are objects on stderr. Only
//! what `--verbose` asks for is plain text there.
//!
//! # Caveats
//!
//! * Ctrl-C ends a command at once, except for `run` and `hub`, which stop in order. That is safe
//!   at any moment: a local change is one transaction, and a push that is sent twice counts once.
//! * Times are shown in UTC.

mod args;
mod clock;
mod commands;
#[cfg(feature = "hub")]
mod demo;
mod exit;
mod output;
mod session;
mod signal;
mod stdin;

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
            // The parser has failed, so it does not tell.
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
        Command::Conflicts(args) => commands::conflicts::conflicts(session, args),
        Command::Quarantine(args) => commands::quarantine::quarantine(session, &args),
        Command::Remote(args) => commands::remote::remote(session, args),
        #[cfg(feature = "hub")]
        Command::Hub(args) => commands::hub::hub(session, &args),
        #[cfg(feature = "hub")]
        Command::Demo(args) => demo::demo(session, &args),
    }
}

/// The files that `init`, `hub` and `demo` make have a business's rows: they are their owner's
/// alone. What is there keeps its mode, and SQLite gives the files beside a database its mode.
fn keep_private(command: &Command) {
    let makes_files = match command {
        Command::Init(_) => true,
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

/// A panic of the remote's client is an unavailable remote, and told as such. The panic's own
/// message would be in the way, and it has what the remote sent.
fn keep_quiet_about_the_client() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| match panic.location() {
        Some(location) if location.file().contains("libsql-") => {
            tracing::debug!(file = location.file(), line = location.line(), "the client fell");
        }
        _ => usual(panic),
    }));
}

/// Sends what the library reports to stderr.
///
/// Other crates may report errors alone, whatever was asked for: `libsql` prints SQL, and so rows,
/// at its `trace` level.
fn trace(verbose: u8, output: &Output) {
    let level = match verbose {
        // What goes wrong is printed as the command's own error.
        0 => "error",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::new(format!("error,driftless={level}"));
    output.report(filter);
}
