//! `driftless conflicts`: local events that lost, each with the winner.

use clap::{ArgGroup, Args, Subcommand};

use crate::cli::exit::Exit;
use crate::cli::output::conflict::{LISTED_CHARS, SHOWN_CHARS, print};
use crate::cli::output::event::{key, tail};
use crate::cli::output::{Output, Tone, clean};
use crate::cli::session::Session;
use crate::error::{Code, Error, Result};
use crate::event::EventId;
use crate::inspect::{
    Conflict, ConflictFilter, ConflictKind, ConflictState, NewKey, Replica, Restored, Selection,
};

/// The number of conflicts that are shown without `--limit`.
const SHOWN: usize = 50;
/// The most ids on one line.
const NAMED: usize = 20;

/// The values of `--kind`.
const KINDS: [&str; 3] = ["conflict", "collision", "rejected"];

/// The arguments of `conflicts`.
#[derive(Debug, Args)]
pub(crate) struct ConflictsArgs {
    /// Also list closed conflicts: restored, dismissed or moot
    #[arg(long)]
    all: bool,
    /// Only conflicts of this table
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// Only conflicts of this kind: conflict, collision or rejected
    #[arg(long, value_name = "KIND", value_parser = KINDS)]
    kind: Option<String>,
    /// Only count the conflicts of each table and kind
    #[arg(long)]
    summary: bool,
    /// Show at most N conflicts; 50 by default, all with --json
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Leave out the first N
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: usize,
    #[command(subcommand)]
    action: Option<ConflictAction>,
}

impl ConflictsArgs {
    /// A flag of the listing that was given before an action.
    fn misplaced(&self) -> Option<&'static str> {
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

/// The action on conflicts.
#[derive(Debug, Subcommand)]
enum ConflictAction {
    /// Show one conflict, column by column
    Show {
        /// The event that lost: its id, or the beginning or end of it
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Write the lost values again, as new events
    Restore(RestoreArgs),
    /// Take conflicts off the list; the log keeps the events
    Dismiss(DismissArgs),
}

/// The arguments of `conflicts restore`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true)
    .args(["ids", "table", "kind", "all"]))]
struct RestoreArgs {
    /// Events that lost: their ids, or the beginning or end; each with the other lost events of its
    /// transaction
    #[arg(value_name = "ID", conflicts_with_all = ["table", "kind", "all"])]
    ids: Vec<String>,
    /// Only the named events, without the rest of their transactions
    #[arg(long, requires = "ids")]
    alone: bool,
    /// All open conflicts of this table
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// All open conflicts of this kind: conflict, collision or rejected
    #[arg(long, value_name = "KIND", value_parser = KINDS)]
    kind: Option<String>,
    /// All open conflicts
    #[arg(long)]
    all: bool,
    /// Insert with a new key, if another row has taken the key. Without KEY, a fresh number
    #[arg(long, value_name = "KEY", num_args = 0..=1)]
    #[allow(clippy::option_option, reason = "the flag may come without a value")]
    new_key: Option<Option<String>>,
}

/// The arguments of `conflicts dismiss`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true)
    .args(["ids", "table", "kind", "all"]))]
struct DismissArgs {
    /// Events that lost: their ids, or the beginning or end of them
    #[arg(value_name = "ID", conflicts_with_all = ["table", "kind", "all"])]
    ids: Vec<String>,
    /// All open conflicts of this table
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// All open conflicts of this kind: conflict, collision or rejected
    #[arg(long, value_name = "KIND", value_parser = KINDS)]
    kind: Option<String>,
    /// All open conflicts
    #[arg(long)]
    all: bool,
}

/// Lists the conflicts, restores them or dismisses them.
///
/// # Errors
///
/// `Usage` when there is no such conflict, or it cannot be restored like this; `Storage` when the
/// database fails.
pub(crate) fn conflicts(session: &Session, args: ConflictsArgs) -> Result<Exit> {
    let mut replica = session.replica()?;
    let output = session.output();
    if let Some(flag) = args.misplaced() {
        return Err(Error::usage(format!("{flag} comes before the action"))
            .with_hint("write it after the action: driftless conflicts dismiss --table TABLE"));
    }
    match args.action {
        None => {
            let (table, kind) = (args.table.as_deref(), args.kind.as_deref());
            let wanted = filter(&replica, table, kind, args.all)?;
            match args.summary {
                true => summary(output, &replica, &wanted)?,
                false => list(output, &replica, &wanted, args.skip, args.limit)?,
            }
        }
        Some(ConflictAction::Show { id }) => {
            let conflict = replica.conflict(replica.conflicts_named(&[id])?[0])?;
            print(output, &conflict, replica.id(), SHOWN_CHARS)?;
        }
        Some(ConflictAction::Restore(args)) => restore(output, &mut replica, &args)?,
        Some(ConflictAction::Dismiss(args)) => dismiss(output, &mut replica, &args)?,
    }
    Ok(Exit::Success)
}

/// A filter by table and kind.
fn filter(
    replica: &Replica<'_>,
    table: Option<&str>,
    kind: Option<&str>,
    closed: bool,
) -> Result<ConflictFilter> {
    let kind = kind.map(|kind| match kind {
        "collision" => ConflictKind::Collision,
        "rejected" => ConflictKind::Rejected,
        _ => ConflictKind::Conflict,
    });
    replica.conflict_filter(table, kind, closed)
}

fn restore(output: &Output, replica: &mut Replica<'_>, args: &RestoreArgs) -> Result<()> {
    let ids = replica.conflicts_named(&args.ids)?;
    let new_key = match (&args.new_key, &ids[..]) {
        (None, _) => None,
        (Some(None), &[id]) => replica.conflict(id).map(|_| Some(NewKey::Fresh))?,
        (Some(None), _) => Some(NewKey::Fresh),
        (Some(Some(text)), &[id]) => Some(replica.new_key(id, text)?),
        (Some(Some(_)), _) => {
            return Err(Error::new(
                Code::NewKeyUnusable,
                "several rows cannot have the same new key",
            )
            .with_hint("leave KEY out, and each row gets a fresh number"));
        }
    };
    let one = ids.len() == 1;
    let (table, kind) = (args.table.as_deref(), args.kind.as_deref());
    let wanted = match (ids.is_empty(), args.alone) {
        (true, _) => Selection::Matching(filter(replica, table, kind, false)?),
        (false, true) => Selection::Events(ids),
        (false, false) => Selection::Together(ids),
    };
    let done = replica.restore(&wanted, new_key)?;
    // A single event was named, so its refusal is the error of the command.
    if let Some(error) = done.refusal().filter(|_| one) {
        return Err(error);
    }
    tell_restored(output, &done)?;
    match done.refused.len() {
        0 => Ok(()),
        refused => {
            let left = refused + done.held_back;
            let all = left + done.restored.len();
            Err(Error::new(
                Code::PartlyRestored,
                format!("{left} of {all} conflicts were not restored"),
            )
            .with_hint(
                "they stay open, with the rest of their transactions: change the rows that \
                     are in the way, or `driftless conflicts dismiss` them",
            ))
        }
    }
}

fn tell_restored(output: &Output, done: &Restored) -> Result<()> {
    if output.is_json() {
        return output.json(done);
    }
    match &done.restored[..] {
        [] if done.already.is_empty() && done.refused.is_empty() => output.note("no conflicts"),
        [] => {}
        [one] => output.line(format_args!(
            "{} restored: its values are a new event now, which will be pushed",
            tail(one)
        ))?,
        many => output.line(format_args!(
            "{} restored: their values are new events now, which will be pushed ({})",
            many.len(),
            tails(many)
        ))?,
    }
    tell_already(output, &done.already, "restored before: nothing was written again")?;
    if done.refused.is_empty() {
        return Ok(());
    }
    let rows = done.refused.iter().map(|one| {
        let row = vec![tail(&one.id), clean(&one.table, LISTED_CHARS), key(&one.key)];
        (Tone::Plain, [row, vec![clean(&one.reason, SHOWN_CHARS)]].concat())
    });
    output.listing(&["event", "table", "row", "why not"], &rows.collect::<Vec<_>>())
}

/// The ends of the first few ids.
fn tails(ids: &[EventId]) -> String {
    let mut text: Vec<_> = ids.iter().take(NAMED).map(tail).collect();
    if ids.len() > NAMED {
        text.push("…".to_owned());
    }
    text.join(", ")
}

fn tell_already(output: &Output, already: &[EventId], what: &str) -> Result<()> {
    match already {
        [] => Ok(()),
        [one] => output.line(format_args!("{} was {what}", tail(one))),
        many => output.line(format_args!("{} were {what} ({})", many.len(), tails(many))),
    }
}

fn dismiss(output: &Output, replica: &mut Replica<'_>, args: &DismissArgs) -> Result<()> {
    let (table, kind) = (args.table.as_deref(), args.kind.as_deref());
    let wanted = match args.ids.is_empty() {
        true => Selection::Matching(filter(replica, table, kind, false)?),
        false => Selection::Events(replica.conflicts_named(&args.ids)?),
    };
    let done = replica.dismiss(&wanted)?;
    if output.is_json() {
        return output.json(&done);
    }
    match &done.dismissed[..] {
        [] if done.already.is_empty() => output.note("no conflicts"),
        [] => {}
        [one] => output.line(format_args!(
            "{} dismissed: it is off the list, and stays in the log",
            tail(one)
        ))?,
        many => output.line(format_args!(
            "{} dismissed: they are off the list, and stay in the log ({})",
            many.len(),
            tails(many)
        ))?,
    }
    tell_already(output, &done.already, "off the list already")
}

/// Counts the conflicts of each table and kind.
fn summary(output: &Output, replica: &Replica<'_>, wanted: &ConflictFilter) -> Result<()> {
    let counts = replica.conflict_counts(wanted)?;
    if output.is_json() {
        return counts.iter().try_for_each(|count| output.json(count));
    }
    if counts.is_empty() {
        output.note("no conflicts");
        return Ok(());
    }
    let rows = counts.iter().map(|count| {
        let table = clean(&count.table, LISTED_CHARS);
        let words = [count.kind.as_str(), count.state.as_str()].map(str::to_owned);
        (Tone::Plain, [vec![table], words.to_vec(), vec![count.count.to_string()]].concat())
    });
    output.table(&["table", "kind", "state", "conflicts"], &rows.collect::<Vec<_>>())
}

fn list(
    output: &Output,
    replica: &Replica<'_>,
    wanted: &ConflictFilter,
    skip: usize,
    limit: Option<usize>,
) -> Result<()> {
    let most = if output.is_json() { usize::MAX } else { SHOWN };
    let limit = limit.unwrap_or(most);
    let conflicts = replica.conflicts(wanted, skip, limit)?;
    if output.is_json() {
        return conflicts.iter().try_for_each(|conflict| output.json(conflict));
    }
    if conflicts.is_empty() {
        output.note("no conflicts");
    }
    let mut first = true;
    let together = |a: &Conflict, b: &Conflict| (a.former, a.group) == (b.former, b.group);
    for group in conflicts.chunk_by(together) {
        for (index, conflict) in group.iter().enumerate() {
            if !std::mem::take(&mut first) {
                output.line("")?;
            }
            if index == 0 && group.len() > 1 {
                let what = "changes that may be one transaction; `restore` restores them together";
                output.line(Tone::Strong.paint(format_args!("{} {what}", group.len())))?;
            }
            print(output, conflict, replica.id(), LISTED_CHARS)?;
        }
    }
    let shown = skip + conflicts.len();
    let all: usize = replica.conflict_counts(wanted)?.iter().map(|count| count.count).sum();
    if all > shown && !conflicts.is_empty() {
        output.line("")?;
        summary(output, replica, wanted)?;
        output.note(format_args!(
            "\n{} more: go on with --skip {shown}, or choose by --table and --kind",
            all - shown
        ));
    }
    advise(output, replica, &conflicts);
    Ok(())
}

/// Prints the commands for the open conflicts.
fn advise(output: &Output, replica: &Replica<'_>, conflicts: &[Conflict]) {
    let mut open = conflicts.iter().filter(|c| c.state == ConflictState::Open);
    let db = replica.path().display();
    let command = format!("driftless conflicts --db {db}");
    if let Some(first) = open.clone().next() {
        let id = tail(&first.event.id);
        output.note(format_args!("\nTo write its values again:  {command} restore {id}"));
        output.note(format_args!("To take it off the list:    {command} dismiss {id}"));
    }
    if let Some(collision) = open.find(|c| c.kind == ConflictKind::Collision) {
        let id = tail(&collision.event.id);
        output.note(format_args!("To keep both of a collision: {command} restore {id} --new-key"));
    }
}
