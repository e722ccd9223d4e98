//! `driftless log` and `driftless show`.

use std::time::Duration;

use clap::Args;

use crate::cli::clock::now_ms;
use crate::cli::exit::Exit;
use crate::cli::output::event::{JsonEvent, Listing, resolve, show as show_entry};
use crate::cli::output::log_position::{When, rfc3339};
use crate::cli::output::{Output, Tone};
use crate::cli::session::Session;
use crate::cli::signal;
use crate::error::{Code, Error, Result};
use crate::event::{EventId, Origin, RowKey, Seq};
use crate::store::{Cause, Entry, Former, LogFilter, Standing, Store};

/// How often `--follow` looks for new events.
const FOLLOW: Duration = Duration::from_millis(200);

/// The values of `--verdict`.
const VERDICTS: [&str; 4] = ["applied", "superseded", "rejected", "pending"];

/// The arguments of `log`.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Only events of this table
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// Only events of this row: its key's values with commas between, or a JSON array
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only events of this origin: `web`, `me`, or a replica's id or its beginning or end
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// Only events with this verdict: applied, superseded, rejected or pending
    #[arg(long, value_name = "VERDICT", value_parser = VERDICTS)]
    verdict: Option<String>,
    /// From here on: a time, a date, an age such as 2h or 7d, a seq, or an event's id
    #[arg(long, value_name = "WHEN", value_parser = when)]
    since: Option<When>,
    /// Up to here: likewise
    #[arg(long, value_name = "WHEN", value_parser = when)]
    until: Option<When>,
    /// The log of a former remote, by the number that `log` names
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    former: Option<i64>,
    /// Go on with what comes, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
}

/// Parses a place in the log. The error says how to write one.
fn when(text: &str) -> std::result::Result<When, String> {
    text.parse().map_err(|error: Error| match error.hint() {
        Some(hint) => format!("{error}\n  {hint}"),
        None => error.to_string(),
    })
}

/// The arguments of `show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The event: its id, the beginning or end of it, or its seq
    #[arg(value_name = "EVENT")]
    event: String,
}

/// A [`LogFilter`] and the conditions that it does not have.
struct Wanted {
    filter: LogFilter,
    key: Option<String>,
    since: Option<Seq>,
    until: Option<Seq>,
}

impl Wanted {
    /// From the command line.
    fn new(store: &Store, args: &LogArgs) -> Result<Wanted> {
        let mut wanted = Wanted {
            filter: LogFilter {
                table: args.table.clone().map(|name| replicated(store, &name)).transpose()?,
                origin: args.origin.as_deref().map(|text| origin(store, text)).transpose()?,
                verdict: args.verdict.as_deref().map(standing),
                former: args.former.map(|n| former(store, n)).transpose()?,
                ..LogFilter::default()
            },
            key: args.key.clone(),
            since: None,
            until: None,
        };
        match args.since.map(|when| place(store, when)).transpose()? {
            Some(When::Seq(seq)) => wanted.since = Some(seq),
            Some(When::At(ms)) => wanted.filter.since_ms = Some(ms),
            _ => {}
        }
        match args.until.map(|when| place(store, when)).transpose()? {
            Some(When::Seq(seq)) => wanted.until = Some(seq),
            Some(When::At(ms)) => wanted.filter.until_ms = Some(ms),
            _ => {}
        }
        wanted.filter.after_seq = wanted.since.map(|Seq(seq)| Seq(seq.saturating_sub(1)));
        Ok(wanted)
    }

    /// Whether only time or place limits the listing, so that changes of identity are part of it.
    fn is_of_everything(&self) -> bool {
        let LogFilter { table, origin, verdict, former, .. } = &self.filter;
        let asked = table.is_some() || origin.is_some() || verdict.is_some() || former.is_some();
        !asked && self.key.is_none()
    }

    fn takes(&self, entry: &Entry) -> bool {
        let seq = match entry {
            Entry::Settled(event) => Some(event.seq),
            Entry::Pending(_) => None,
        };
        let (_, key) = entry.row();
        // A pending event is after every place in the log.
        self.until.is_none_or(|until| seq.is_some_and(|seq| seq <= until))
            && self.key.as_ref().is_none_or(|wanted| is_key(key, wanted))
    }
}

/// Checks the number of a former remote's log.
fn former(store: &Store, n: i64) -> Result<i64> {
    let all = store.former()?;
    let logs: Vec<_> = all.iter().filter(|former| former.cause == Cause::Accepted).collect();
    if logs.iter().any(|former| former.n == n) {
        return Ok(n);
    }
    let names: Vec<_> = logs.iter().map(|former| former.n.to_string()).collect();
    let error = Error::usage(format!("there is no log of a former remote with the number {n}"));
    Err(error.with_hint(match names.is_empty() {
        true => "this file has had one remote only".to_owned(),
        false => format!("these are: {}", names.join(", ")),
    }))
}

/// Whether `text` names this key, as JSON or as values with commas between.
fn is_key(key: &RowKey, text: &str) -> bool {
    key.0 == text || key.to_string() == text
}

fn replicated(store: &Store, name: &str) -> Result<String> {
    let mut tables = store.tables().iter().map(|replicated| replicated.table.name.as_str());
    match tables.find(|table| table.eq_ignore_ascii_case(name)) {
        Some(table) => Ok(table.to_owned()),
        None => {
            let names: Vec<_> = store.tables().iter().map(|r| r.table.name.as_str()).collect();
            Err(Error::new(
                Code::TableNotReplicated,
                format!("table `{name}` is not replicated here"),
            )
            .with_hint(format!("these are: {}", names.join(", "))))
        }
    }
}

fn standing(word: &str) -> Standing {
    match word {
        "applied" => Standing::Applied,
        "superseded" => Standing::Superseded,
        "rejected" => Standing::Rejected,
        "pending" => Standing::Pending,
        _ => unreachable!("the parser of the command line knows the words"),
    }
}

/// Parses an origin: `web`, `me`, or a replica by its id or a part of it.
fn origin(store: &Store, text: &str) -> Result<Origin> {
    match text {
        "web" => return Ok(Origin::Web),
        "me" => return Ok(Origin::Replica(store.id())),
        _ => {}
    }
    if let Ok(origin) = text.parse() {
        return Ok(origin);
    }
    let mut replicas = vec![store.id()];
    store.log(&LogFilter::default(), &mut |entry| {
        if let Entry::Settled(event) = entry
            && let Origin::Replica(replica) = event.origin
            && !replicas.contains(&replica)
        {
            replicas.push(replica);
        }
        Ok(())
    })?;
    let found = resolve(text, "replica", replicas.into_iter().map(|id| EventId(id.0)));
    found.map(|id| Origin::Replica(crate::event::ReplicaId(id.0)))
}

/// A place as a seq or a time.
fn place(store: &Store, when: When) -> Result<When> {
    match when.settle(now_ms()) {
        When::Event(id) => match store.event(id)? {
            Some(Entry::Settled(event)) => Ok(When::Seq(event.seq)),
            Some(Entry::Pending(_)) => Ok(When::At(crate::cli::output::event::made_at(id))),
            None => {
                Err(Error::new(Code::NoSuchEvent, format!("there is no event {id} in the log")))
            }
        },
        other => Ok(other),
    }
}

/// Prints the events.
///
/// # Errors
///
/// `Usage` for a filter that names nothing, `Storage` when the database fails.
pub(crate) fn log(session: &Session, args: LogArgs) -> Result<Exit> {
    let store = session.store()?;
    let mut wanted = Wanted::new(&store, &args)?;
    let output = session.output();
    let tables = store.tables().iter().map(|replicated| replicated.table.name.as_str());
    let listing = Listing::new(store.id(), tables);
    if args.follow {
        // Ctrl-C is the normal end of `--follow`.
        signal::end_at_once(output, Exit::Success, String::new())?;
    }
    if wanted.is_of_everything() && !output.is_json() {
        for former in store.former()? {
            output.note(told(&former, &store));
        }
    }
    let mut printed_header = output.is_json();
    let mut pending_seen: Vec<EventId> = Vec::new();
    loop {
        let version = store.data_version()?;
        let last =
            print(&store, &wanted, output, &listing, &mut printed_header, &mut pending_seen)?;
        if !args.follow {
            break;
        }
        wanted.filter.after_seq = wanted.filter.after_seq.max(last);
        while store.data_version()? == version {
            std::thread::sleep(FOLLOW);
        }
    }
    if !printed_header {
        output.note("no events");
    }
    Ok(Exit::Success)
}

/// A change of identity, as the listing shows it above the events.
fn told(former: &Former, store: &Store) -> String {
    let Former { n, replica, cursor, cause, ended_ms, .. } = former;
    let until = format!("until {} this file was replica {replica}", rfc3339(*ended_ms));
    match cause {
        Cause::Copied => {
            format!("{until}, up to event {cursor}: it was copied, or restored from a backup")
        }
        Cause::Accepted => format!(
            "{until} of another remote, whose log is kept: driftless log --db {} --former {n}",
            store.path().display()
        ),
    }
}

/// Prints the events that are wanted and not printed yet. Gives the last settled event's place.
fn print(
    store: &Store,
    wanted: &Wanted,
    output: &Output,
    listing: &Listing,
    printed_header: &mut bool,
    pending_seen: &mut Vec<EventId>,
) -> Result<Option<Seq>> {
    let mut last = None;
    let mut pending = Vec::new();
    store.log(&wanted.filter, &mut |entry| {
        match &entry {
            Entry::Settled(event) => last = Some(event.seq),
            Entry::Pending(event) => {
                pending.push(event.id);
                if pending_seen.binary_search(&event.id).is_ok() {
                    return Ok(());
                }
            }
        }
        if !wanted.takes(&entry) {
            return Ok(());
        }
        if !std::mem::replace(printed_header, true) {
            let (line, last) = listing.header();
            output.row_in_two(Tone::Strong, &line, last)?;
        }
        match output.is_json() {
            true => output.json(&JsonEvent::new(&entry, store.id())),
            false => {
                let (tone, line, last) = listing.entry(&entry);
                output.row_in_two(tone, &line, &last)
            }
        }
    })?;
    pending.sort_unstable();
    *pending_seen = pending;
    Ok(last)
}

/// Prints one event.
///
/// # Errors
///
/// `Usage` when there is no such event, `Storage` when the database fails.
pub(crate) fn show(session: &Session, args: &ShowArgs) -> Result<Exit> {
    let store = session.store()?;
    let entry = find(&store, &args.event)?;
    show_entry(session.output(), &entry, store.id())?;
    Ok(Exit::Success)
}

/// Finds an event by its seq, its id, or a part of its id.
fn find(store: &Store, text: &str) -> Result<Entry> {
    if let Ok(seq) = text.parse::<i64>()
        && let Some(event) = store.settled(Seq(seq))?
    {
        return Ok(Entry::Settled(event));
    }
    let id = match text.parse::<EventId>() {
        Ok(id) => id,
        Err(_) => {
            let mut ids = Vec::new();
            store.log(&LogFilter::default(), &mut |entry| {
                ids.push(entry.id());
                Ok(())
            })?;
            resolve(text, "event", ids.into_iter())?
        }
    };
    store.event(id)?.ok_or_else(|| {
        Error::new(Code::NoSuchEvent, format!("there is no event {id} in the log"))
            .with_hint("`driftless log` lists what is there")
    })
}
