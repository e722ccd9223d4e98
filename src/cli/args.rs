//! The command line.

use clap::{Parser, Subcommand};

use super::commands::audit::diff::DiffArgs;
use super::commands::audit::history::{BlameArgs, HistoryArgs};
use super::commands::audit::past::{BisectArgs, ReplayArgs, ShellArgs, SqlArgs};
use super::commands::audit::revert::RevertArgs;
use super::commands::conflicts::ConflictsArgs;
#[cfg(feature = "hub")]
use super::commands::hub::HubArgs;
use super::commands::init::InitArgs;
use super::commands::log::{LogArgs, ShowArgs};
use super::commands::quarantine::QuarantineArgs;
use super::commands::remote::RemoteArgs;
use super::commands::returned::ReturnedArgs;
use super::commands::run::RunArgs;
use super::commands::status::StatusArgs;
use super::commands::upkeep::remove::RemoveArgs;
use super::commands::upkeep::verify::VerifyArgs;
#[cfg(feature = "hub")]
use super::demo::DemoArgs;
use super::session::Global;

/// The text below the list of commands.
const AFTER_HELP: &str = "\
The remote's token comes from DRIFTLESS_AUTH_TOKEN, TURSO_AUTH_TOKEN or --auth-token-file. Of the
first two each goes to no other host than that of DRIFTLESS_REMOTE_URL or TURSO_DATABASE_URL, where
that is set.

Exit codes: 0 fine, 1 health is red (`status`), 2 usage, 3 the remote is unavailable, 4 the remote
refuses, 5 databases differ, 6 the local database or disk failed, 130 interrupted before the work
was done.";

/// Keeps a local SQLite database and a Turso (libSQL) database in step, in both directions.
#[derive(Debug, Parser)]
#[command(name = "driftless", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

impl Cli {
    /// The options of every command.
    pub(crate) fn global(&self) -> &Global {
        &self.global
    }

    /// The options of every command, and the command with its own.
    pub(crate) fn into_parts(self) -> (Global, Command) {
        (self.global, self.command)
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a database into a replica of a remote; may be run again
    Init(InitArgs),
    /// Push what is pending and pull what is new, until both are done
    Sync,
    /// Push and pull for ever, until SIGINT or SIGTERM
    Run(RunArgs),
    /// How the replica is
    Status(StatusArgs),
    /// The events, in the order of the remote log, and then those that wait to be pushed
    Log(LogArgs),
    /// One event, column by column
    Show(ShowArgs),
    /// Every version of a row: what changed it, when and by whom
    History(HistoryArgs),
    /// Who set each column of a row last, or one column of every row
    Blame(BlameArgs),
    /// The rows that differ between two points of the log
    Diff(DiffArgs),
    /// Answer a query over the tables as they were at a point of the log
    Sql(SqlArgs),
    /// The same for one query after the other, from stdin
    Shell(ShellArgs),
    /// Copy the tables as they were into a file, or show the log event by event
    Replay(ReplayArgs),
    /// Find the change after which a statement is no longer true
    Bisect(BisectArgs),
    /// Take changes back, as new changes
    Revert(RevertArgs),
    /// Local events that lost, with the winner beside each
    Conflicts(ConflictsArgs),
    /// Pulled events that cannot be applied here yet
    Quarantine(QuarantineArgs),
    /// Rows that were missing after a change of the schema, and came back
    Returned(ReturnedArgs),
    /// Go on with a remote that was wiped, replaced or rolled back
    Remote(RemoteArgs),
    /// Compare the replica with its log and with the remote, row by row
    Verify(VerifyArgs),
    /// Take everything of driftless's out of a replica, or out of a remote
    Remove(RemoveArgs),
    /// Serve a SQLite file as a remote, for development and tests
    #[cfg(feature = "hub")]
    Hub(HubArgs),
    /// See it work: a hub, two desktops and a web app over the data of a gym
    #[cfg(feature = "hub")]
    Demo(DemoArgs),
}
