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
use super::commands::upkeep::migrate::MigrateArgs;
use super::commands::upkeep::remove::RemoveArgs;
use super::commands::upkeep::verify::VerifyArgs;
#[cfg(feature = "hub")]
use super::demo::DemoArgs;
use super::session::Global;

/// The text below the list of commands.
const AFTER_HELP: &str = "\
The remote's token comes from DRIFTLESS_AUTH_TOKEN, TURSO_AUTH_TOKEN or --auth-token-file. If
DRIFTLESS_REMOTE_URL or TURSO_DATABASE_URL is set, the token in the variable with the same prefix is
sent only to the host of that URL.

Exit codes: 0 success, 1 health is red (`status`), 2 usage, 3 the remote is unavailable, 4 the
remote refuses, 5 databases differ, 6 the local database or disk failed, 130 interrupted before the
work was done.";

/// Keeps a local SQLite database and a Turso (libSQL) database in step, in both directions
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
    /// Make a database a replica of a remote; may be run again
    Init(InitArgs),
    /// Push the pending events and pull the new ones, once
    Sync,
    /// Push and pull continuously, until SIGINT or SIGTERM
    Run(RunArgs),
    /// Show the status of the replica
    Status(StatusArgs),
    /// List the events in the order of the remote log, and then the pending ones
    Log(LogArgs),
    /// Show one event, column by column
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
    /// List local events that lost, each with the winner; restore or dismiss them
    Conflicts(ConflictsArgs),
    /// List pulled events that cannot be applied here yet
    Quarantine(QuarantineArgs),
    /// List rows that were missing after a schema change and came back
    Returned(ReturnedArgs),
    /// Continue with a remote that was wiped, replaced or rolled back
    Remote(RemoteArgs),
    /// Change the schema of a replica, with driftless's triggers out of the way
    Migrate(MigrateArgs),
    /// Compare the replica with its log and with the remote, row by row
    Verify(VerifyArgs),
    /// Remove driftless from a replica or from a remote
    Remove(RemoveArgs),
    /// Serve a SQLite file as a remote, for development and tests
    #[cfg(feature = "hub")]
    Hub(HubArgs),
    /// Show a demonstration: a hub, two desktops and a web app with the data of a gym
    #[cfg(feature = "hub")]
    Demo(DemoArgs),
}
