//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand};

use crate::error::Error;
use crate::event::conflict::ConflictRule;

use super::output::log_position::When;

/// What stands below the list of commands.
const AFTER_HELP: &str = "\
The remote's token comes from DRIFTLESS_AUTH_TOKEN, TURSO_AUTH_TOKEN or --auth-token-file. Of the
first two each goes to no other host than that of DRIFTLESS_REMOTE_URL or TURSO_DATABASE_URL, where
that is set.

Exit codes: 0 fine, 1 health is red (`status`), 2 usage, 3 the remote is unavailable, 4 the remote
refuses, 5 databases differ, 6 the local database or disk failed, 130 interrupted before the work
was done.";

/// What `--verdict` takes.
const VERDICTS: [&str; 4] = ["applied", "superseded", "rejected", "pending"];

/// Keeps a local SQLite database and a Turso (libSQL) database in step, in both directions.
#[derive(Debug, Parser)]
#[command(name = "driftless", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The replica: a SQLite file (for `hub`: the file to serve)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) db: Option<PathBuf>,
    /// A file with the remote's token, for its owner's eyes alone (for `hub`: the token to ask for)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) auth_token_file: Option<PathBuf>,
    /// Let http:// lead to another machine, where the token and all rows are readable on the way
    #[arg(long, global = true)]
    pub(crate) allow_plain_http: bool,
    /// Print JSON: an object, or one a line for listings
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say on stderr what happens; twice for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a database into a replica of a remote; may be run again
    Init(Init),
    /// Push what is pending and pull what is new, until both are done
    Sync,
    /// Push and pull for ever, until SIGINT or SIGTERM
    Run(Run),
    /// How the replica is
    Status(Status),
    /// The events, in the order of the remote log, and then those that wait to be pushed
    Log(Log),
    /// One event, column by column
    Show(Show),
    /// Local events that lost, with the winner beside each
    Conflicts(Conflicts),
    /// Pulled events that cannot be applied here yet
    Quarantine(Quarantine),
    /// Go on with a remote that was wiped, replaced or rolled back
    Remote(Remote),
    /// Serve a SQLite file as a remote, for development and tests
    #[cfg(feature = "hub")]
    Hub(Hub),
    /// See it work: a hub, two desktops and a web app over the data of a gym
    #[cfg(feature = "hub")]
    Demo(Demo),
}

/// `init`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["tables", "all_tables"]))]
pub(crate) struct Init {
    /// The remote: libsql://… or https://…, or http:// on this machine
    #[arg(long, value_name = "URL")]
    pub(crate) remote: String,
    /// The tables to replicate, with commas between
    #[arg(long, value_name = "TABLES", value_delimiter = ',')]
    pub(crate) tables: Vec<String>,
    /// Replicate every table that has a primary key, of either side, but for the bookkeeping of
    /// migration tools
    #[arg(long)]
    pub(crate) all_tables: bool,
    /// With --all-tables: leave these tables out, with commas between
    #[arg(long, value_name = "TABLES", value_delimiter = ',', conflicts_with = "tables")]
    pub(crate) exclude: Vec<String>,
    /// What counts as a conflict in a table: `row` (the default) or `columns`
    #[arg(long, value_name = "TABLE=RULE", value_delimiter = ',', value_parser = conflict_rule)]
    pub(crate) conflict: Vec<(String, ConflictRule)>,
}

/// Reads `members=columns`.
fn conflict_rule(text: &str) -> std::result::Result<(String, ConflictRule), String> {
    let (table, rule) = text.split_once('=').ok_or("write TABLE=row or TABLE=columns")?;
    let rule = rule.parse().map_err(|_| format!("`{rule}` is neither `row` nor `columns`"))?;
    Ok((table.to_owned(), rule))
}

/// `run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// End when standard input ends, which must be a pipe: as soon as the program that started this
    /// one is gone, however it ended
    #[arg(long)]
    pub(crate) until_stdin_closes: bool,
}

/// `status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Do not ask the remote
    #[arg(long)]
    pub(crate) offline: bool,
}

/// Reads a place in the log, and says how to write one.
fn when(text: &str) -> std::result::Result<When, String> {
    text.parse().map_err(|error: Error| match error.hint() {
        Some(hint) => format!("{error}\n  {hint}"),
        None => error.to_string(),
    })
}

/// `log`.
#[derive(Debug, Args)]
pub(crate) struct Log {
    /// Only events of this table
    #[arg(long, value_name = "TABLE")]
    pub(crate) table: Option<String>,
    /// Only events of this row: its key's values with commas between, or a JSON array
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Only events of this origin: `web`, `me`, or a replica's id or its beginning or end
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) origin: Option<String>,
    /// Only events with this verdict: applied, superseded, rejected or pending
    #[arg(long, value_name = "VERDICT", value_parser = VERDICTS)]
    pub(crate) verdict: Option<String>,
    /// From here on: a time, a date, an age such as 2h or 7d, a seq, or an event's id
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub(crate) since: Option<When>,
    /// Up to here: likewise
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub(crate) until: Option<When>,
    /// The log of a former remote, by the number that `log` names
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    pub(crate) former: Option<i64>,
    /// Go on with what comes, until Ctrl-C
    #[arg(short, long)]
    pub(crate) follow: bool,
}

/// `show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The event: its id, the beginning or end of it, or its seq
    #[arg(value_name = "EVENT")]
    pub(crate) event: String,
}

/// `conflicts`.
#[derive(Debug, Args)]
pub(crate) struct Conflicts {
    /// Also those that were restored or dismissed, or are moot
    #[arg(long)]
    pub(crate) all: bool,
    /// Only those of this table
    #[arg(long, value_name = "TABLE")]
    pub(crate) table: Option<String>,
    /// Only those that lost in this way: conflict, collision or rejected
    #[arg(long, value_name = "KIND", value_parser = KINDS)]
    pub(crate) kind: Option<String>,
    /// How many there are of each table and kind, and nothing more
    #[arg(long)]
    pub(crate) summary: bool,
    /// Show no more than this; 50 if nothing is said, and all with --json
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Leave out the first N
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) skip: usize,
    #[command(subcommand)]
    pub(crate) action: Option<ConflictAction>,
}

impl Conflicts {
    /// The flags that are for the listing, and were given to an action.
    pub(crate) fn misplaced(&self) -> Option<&'static str> {
        self.action.as_ref()?;
        let given = [
            ("--all", self.all),
            ("--table", self.table.is_some()),
            ("--kind", self.kind.is_some()),
            ("--summary", self.summary),
            ("--limit", self.limit.is_some()),
            ("--skip", self.skip > 0),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }
}

/// What `--kind` takes.
const KINDS: [&str; 3] = ["conflict", "collision", "rejected"];

/// What to do about a conflict.
#[derive(Debug, Subcommand)]
pub(crate) enum ConflictAction {
    /// One conflict, column by column
    Show {
        /// The event that lost: its id, or the beginning or end of it
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Write the values that lost once more, as new events
    Restore(RestoreConflicts),
    /// Take them off the list; the log keeps them
    Dismiss(DismissConflicts),
}

/// `conflicts restore`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true)
    .args(["ids", "table", "kind", "all"]))]
pub(crate) struct RestoreConflicts {
    /// Events that lost: their ids, or the beginning or end. With each, what its transaction lost
    #[arg(value_name = "ID", conflicts_with_all = ["table", "kind", "all"])]
    pub(crate) ids: Vec<String>,
    /// Only the named events, and not what their transactions lost besides
    #[arg(long, requires = "ids")]
    pub(crate) alone: bool,
    /// Every open one of this table
    #[arg(long, value_name = "TABLE")]
    pub(crate) table: Option<String>,
    /// Every open one that lost in this way: conflict, collision or rejected
    #[arg(long, value_name = "KIND", value_parser = KINDS)]
    pub(crate) kind: Option<String>,
    /// Every open one
    #[arg(long)]
    pub(crate) all: bool,
    /// Under a new key: for rows whose key another one has taken. Without KEY, a fresh number
    #[arg(long, value_name = "KEY", num_args = 0..=1)]
    #[allow(clippy::option_option, reason = "the flag may come without a value")]
    pub(crate) new_key: Option<Option<String>>,
}

/// `conflicts dismiss`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true)
    .args(["ids", "table", "kind", "all"]))]
pub(crate) struct DismissConflicts {
    /// Events that lost: their ids, or the beginning or end of them
    #[arg(value_name = "ID", conflicts_with_all = ["table", "kind", "all"])]
    pub(crate) ids: Vec<String>,
    /// Every open one of this table
    #[arg(long, value_name = "TABLE")]
    pub(crate) table: Option<String>,
    /// Every open one that lost in this way: conflict, collision or rejected
    #[arg(long, value_name = "KIND", value_parser = KINDS)]
    pub(crate) kind: Option<String>,
    /// Every open one
    #[arg(long)]
    pub(crate) all: bool,
}

/// `quarantine`.
#[derive(Debug, Args)]
pub(crate) struct Quarantine {
    #[command(subcommand)]
    pub(crate) action: Option<QuarantineAction>,
}

/// What to do about the quarantine.
#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineAction {
    /// Try all of them once more
    Retry,
    /// Take one off the list that is malformed: its row has been mended on the remote
    Dismiss {
        /// Its place in the log
        #[arg(value_name = "SEQ")]
        seq: i64,
    },
}

/// `remote`.
#[derive(Debug, Args)]
pub(crate) struct Remote {
    #[command(subcommand)]
    pub(crate) action: RemoteAction,
}

/// What to do about the remote.
#[derive(Debug, Subcommand)]
pub(crate) enum RemoteAction {
    /// Show what is there, and go on with it: rows only here are pushed, rows only there fetched,
    /// and rows in both take the remote's version
    Accept {
        /// Another URL than the replica has had so far
        #[arg(long, value_name = "URL")]
        remote: Option<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// `hub`.
#[cfg(feature = "hub")]
#[derive(Debug, Args)]
pub(crate) struct Hub {
    /// Where to listen; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
}

/// `demo`.
#[cfg(feature = "hub")]
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Where to put the databases: a folder that is empty or not there yet
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Go on for so long after the story, with small writes of everybody
    #[arg(long, value_name = "N")]
    pub(crate) seconds: Option<u64>,
}
