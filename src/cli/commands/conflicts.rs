//! `driftless conflicts`: local events that lost, each with the winner beside it.

use serde::Serialize;

use crate::cli::args;
use crate::cli::args::ConflictAction;
use crate::cli::exit::Exit;
use crate::cli::output::event::{
    JsonEvent, JsonExact, JsonImage, exact, exact_key, json_key, key, made_at, names, resolve,
    tail, value, who,
};
use crate::cli::output::log_position::{rfc3339, short};
use crate::cli::output::{Output, Tone, clean};
use crate::cli::session::Session;
use crate::error::{Code, Error, Result};
use crate::event::value::Value;
use crate::event::verdict::{KEY_NOT_UTF8, KEY_TOO_LARGE, TOO_LARGE};
use crate::event::{Event, EventId, Image, Op, ReplicaId};
use crate::store::{
    Conflict, ConflictCount, ConflictFilter, ConflictKind, ConflictState, NewKey, Restored,
    Selection, Store,
};

/// Characters of a value in the listing and where one conflict is shown.
pub(in crate::cli) const LISTED_CHARS: usize = 40;
const SHOWN_CHARS: usize = 200;

/// How many conflicts a person is shown who has not said how many.
const SHOWN: usize = 50;
/// How many ids a line names.
const NAMED: usize = 20;

/// Lists the conflicts, or does something about them.
///
/// # Errors
///
/// `Usage` when there is no such conflict or it cannot be restored so, `Storage` when the database
/// fails.
pub(crate) fn conflicts(session: &Session, args: args::Conflicts) -> Result<Exit> {
    let mut store = session.store()?;
    let output = &session.output;
    if let Some(flag) = args.misplaced() {
        return Err(Error::usage(format!("{flag} stands in front of what is to be done"))
            .with_hint("write it at the end: driftless conflicts dismiss --table TABLE"));
    }
    match args.action {
        None if args.summary => summary(output, &store, &filter(&store, &args)?)?,
        None => list(output, &store, &args)?,
        Some(ConflictAction::Show { id }) => {
            let conflict = store.conflict(find_all(&store, &[id])?[0])?;
            print(output, &conflict, store.id(), SHOWN_CHARS)?;
        }
        Some(ConflictAction::Restore(args)) => restore(output, &mut store, &args)?,
        Some(ConflictAction::Dismiss(args)) => dismiss(output, &mut store, &args)?,
    }
    Ok(Exit::Success)
}

/// The events of the conflicts that a person means. The other half of a key change names it, too.
fn find_all(store: &Store, texts: &[String]) -> Result<Vec<EventId>> {
    let ids = store.conflict_ids()?;
    let find = |text: &String| match text.parse() {
        Ok(id) => Ok(id),
        Err(_) => resolve(text, "conflict", ids.iter().copied()),
    };
    texts.iter().map(find).collect()
}

/// Which conflicts a table's name and a kind mean. A table that nobody knows is a mistake.
fn matching(
    store: &Store,
    table: Option<&String>,
    kind: Option<&String>,
    closed: bool,
) -> Result<ConflictFilter> {
    if let Some(table) = table {
        let here = store.tables().iter().map(|replicated| replicated.table.name.clone());
        let listed = store.conflict_counts()?.into_iter().map(|count| count.table);
        if !here.chain(listed).any(|known| known.eq_ignore_ascii_case(table)) {
            let table = clean(table, LISTED_CHARS);
            return Err(Error::new(
                Code::TableNotReplicated,
                format!("table `{table}` is not replicated here"),
            )
            .with_hint("`driftless conflicts --summary` names the tables with conflicts"));
        }
    }
    let kind = kind.map(|kind| match kind.as_str() {
        "collision" => ConflictKind::Collision,
        "rejected" => ConflictKind::Rejected,
        _ => ConflictKind::Conflict,
    });
    Ok(ConflictFilter { table: table.cloned(), kind, closed })
}

fn filter(store: &Store, args: &args::Conflicts) -> Result<ConflictFilter> {
    matching(store, args.table.as_ref(), args.kind.as_ref(), args.all)
}

fn restore(output: &Output, store: &mut Store, args: &args::RestoreConflicts) -> Result<()> {
    let ids = find_all(store, &args.ids)?;
    let new_key = match (&args.new_key, &ids[..]) {
        (None, _) => None,
        (Some(text), &[id]) => Some(read_key(store, &store.conflict(id)?, text.as_deref())?),
        (Some(None), _) => Some(NewKey::Fresh),
        (Some(Some(_)), _) => {
            return Err(Error::new(
                Code::NewKeyUnusable,
                "one new key cannot be that of several rows",
            )
            .with_hint("leave KEY out, and each row gets a fresh number"));
        }
    };
    let one = ids.len() == 1;
    let wanted = match (ids.is_empty(), args.alone) {
        (true, _) => {
            let (table, kind) = (args.table.as_ref(), args.kind.as_ref());
            Selection::Matching(matching(store, table, kind, false)?)
        }
        (false, true) => Selection::Events(ids),
        (false, false) => Selection::Together(ids),
    };
    let done = store.restore_selected(&wanted, new_key)?;
    // Who has named one event wants it and nothing less.
    if let Some(error) = done.refusal().filter(|_| one) {
        return Err(error);
    }
    tell_restored(output, &done)?;
    match done.refused.len() {
        0 => Ok(()),
        refused => {
            let left = refused + done.held_back;
            let all = left + done.restored.len();
            Err(Error::new(Code::PartlyRestored, format!("{left} of {all} conflicts were not restored"))
                .with_hint(
                    "they are open still, with what may be of their transactions: make room for them, or `driftless conflicts dismiss` them",
                ))
        }
    }
}

fn names_of(ids: &[EventId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

fn tell_restored(output: &Output, done: &Restored) -> Result<()> {
    if output.is_json() {
        #[derive(Serialize)]
        struct Refused<'a> {
            id: String,
            table: &'a str,
            key: serde_json::Value,
            #[serde(skip_serializing_if = "Option::is_none")]
            key_exact: Option<serde_json::Value>,
            reason: &'a str,
            hint: Option<&'a str>,
        }
        #[derive(Serialize)]
        struct Done<'a> {
            restored: Vec<String>,
            already: Vec<String>,
            refused: Vec<Refused<'a>>,
            held_back: usize,
        }
        let refused = done.refused.iter().map(|one| Refused {
            id: one.id.to_string(),
            table: &one.table,
            key: json_key(&one.key),
            key_exact: exact_key(&one.key),
            reason: &one.reason,
            hint: one.hint.as_deref(),
        });
        return output.json(&Done {
            restored: names_of(&done.restored),
            already: names_of(&done.already),
            refused: refused.collect(),
            held_back: done.held_back,
        });
    }
    match &done.restored[..] {
        [] if done.already.is_empty() && done.refused.is_empty() => output.note("no conflicts"),
        [] => {}
        [one] => output.line(format_args!(
            "{} restored: its values are a new event now, to be pushed",
            tail(one)
        ))?,
        many => output.line(format_args!(
            "{} restored: their values are new events now, to be pushed ({})",
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

/// The ends of ids; of many, those of the first.
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

fn dismiss(output: &Output, store: &mut Store, args: &args::DismissConflicts) -> Result<()> {
    let wanted = match args.ids.is_empty() {
        true => {
            let (table, kind) = (args.table.as_ref(), args.kind.as_ref());
            Selection::Matching(matching(store, table, kind, false)?)
        }
        false => Selection::Events(find_all(store, &args.ids)?),
    };
    let done = store.dismiss_selected(&wanted)?;
    if output.is_json() {
        #[derive(Serialize)]
        struct Done {
            dismissed: Vec<String>,
            already: Vec<String>,
        }
        let (dismissed, already) = (names_of(&done.dismissed), names_of(&done.already));
        return output.json(&Done { dismissed, already });
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
    tell_already(output, &done.already, "off the list before")
}

/// The new key that was asked for. Its values have the types of the lost row's key.
fn read_key(store: &Store, conflict: &Conflict, text: Option<&str>) -> Result<NewKey> {
    let Some(text) = text else { return Ok(NewKey::Fresh) };
    let event = &conflict.event;
    let old = event.key.values()?;
    let written: Vec<&str> = if old.len() == 1 { vec![text] } else { text.split(',').collect() };
    if written.len() != old.len() {
        let table = store
            .tables()
            .iter()
            .find(|replicated| replicated.table.name.eq_ignore_ascii_case(&event.table));
        let columns: Vec<&str> = table
            .map(|replicated| replicated.table.key_columns().map(|c| c.name.as_str()).collect())
            .unwrap_or_default();
        return Err(Error::usage(format!(
            "the key of table `{}` has {} values",
            event.table,
            old.len()
        ))
        .with_hint(format!("write them with commas between: {}", columns.join(","))));
    }
    let values = old.iter().zip(written).map(|(old, text)| match old {
        Value::Integer(_) => text.parse().map(Value::Integer).map_err(|_| {
            Error::usage(format!("the new key `{}` is no integer", clean(text, LISTED_CHARS)))
                .with_hint("the key that was lost is one; without KEY, a fresh number is taken")
        }),
        _ => Ok(Value::from(text)),
    });
    Ok(NewKey::Values(values.collect::<Result<_>>()?))
}

/// How many conflicts there are of each table and kind.
fn summary(output: &Output, store: &Store, wanted: &ConflictFilter) -> Result<()> {
    #[derive(Serialize)]
    struct Line<'a> {
        table: &'a str,
        kind: &'static str,
        state: &'static str,
        count: usize,
    }
    let counts = counted(store, wanted)?;
    if output.is_json() {
        for ConflictCount { table, kind, state, count } in &counts {
            let (kind, state) = (kind.as_str(), state.as_str());
            output.json(&Line { table, kind, state, count: *count })?;
        }
        return Ok(());
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

fn counted(store: &Store, wanted: &ConflictFilter) -> Result<Vec<ConflictCount>> {
    let mut counts = store.conflict_counts()?;
    counts.retain(|count| {
        (wanted.closed || count.state == ConflictState::Open)
            && wanted.kind.is_none_or(|kind| kind == count.kind)
            && wanted.table.as_ref().is_none_or(|table| table.eq_ignore_ascii_case(&count.table))
    });
    Ok(counts)
}

fn list(output: &Output, store: &Store, args: &args::Conflicts) -> Result<()> {
    let wanted = filter(store, args)?;
    let most = if output.is_json() { usize::MAX } else { SHOWN };
    let limit = args.limit.unwrap_or(most);
    let conflicts = store.conflict_page(&wanted, args.skip, limit)?;
    if output.is_json() {
        return conflicts
            .iter()
            .try_for_each(|conflict| print(output, conflict, store.id(), LISTED_CHARS));
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
                let what = "changes that may be one transaction; `restore` takes them together";
                output.line(Tone::Strong.paint(format_args!("{} {what}", group.len())))?;
            }
            print(output, conflict, store.id(), LISTED_CHARS)?;
        }
    }
    let shown = args.skip + conflicts.len();
    let all: usize = counted(store, &wanted)?.iter().map(|count| count.count).sum();
    if all > shown && !conflicts.is_empty() {
        output.line("")?;
        summary(output, store, &wanted)?;
        output.note(format_args!(
            "\n{} more: go on with --skip {shown}, or choose by --table and --kind",
            all - shown
        ));
    }
    advise(output, store, &conflicts);
    Ok(())
}

/// Says what can be done about what is open. What was restored or dismissed needs nothing more.
fn advise(output: &Output, store: &Store, conflicts: &[Conflict]) {
    let mut open = conflicts.iter().filter(|c| c.state == ConflictState::Open);
    let db = store.path().display();
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

/// A conflict, as `--json` prints it.
#[derive(Serialize)]
struct JsonConflict<'a> {
    id: String,
    kind: &'static str,
    state: &'static str,
    noticed_at: String,
    /// What may be of one transaction has the same.
    group: String,
    event: JsonEvent<'a>,
    insert: Option<JsonEvent<'a>>,
    winner: Option<JsonEvent<'a>>,
    theirs: Option<JsonImage<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    theirs_exact: Option<JsonExact<'a>>,
    /// Of a former remote: the number of its log, whose seqs these are.
    #[serde(skip_serializing_if = "Option::is_none")]
    former: Option<i64>,
}

/// Prints a conflict, with the winner beside the loser; values have `most` characters at most.
///
/// # Errors
///
/// As [`Output::line`].
pub(in crate::cli) fn print(
    output: &Output,
    conflict: &Conflict,
    me: ReplicaId,
    most: usize,
) -> Result<()> {
    let event = &conflict.event;
    if output.is_json() {
        return output.json(&JsonConflict {
            id: event.id.to_string(),
            kind: conflict.kind.as_str(),
            state: conflict.state.as_str(),
            noticed_at: rfc3339(conflict.noticed_ms),
            group: conflict.group.to_string(),
            event: JsonEvent::settled(event),
            insert: conflict.insert.as_ref().map(JsonEvent::settled),
            winner: conflict.winner.as_ref().map(JsonEvent::settled),
            theirs: conflict.theirs.as_ref().map(JsonImage),
            theirs_exact: exact(conflict.theirs.as_ref()),
            former: conflict.former,
        });
    }
    let state = match conflict.state {
        ConflictState::Open => String::new(),
        state => format!("  ({})", state.as_str()),
    };
    output.line(format_args!(
        "{}  {}: {} of {} {}{state}",
        Tone::Strong.paint(tail(&event.id)),
        Tone::Notable.paint(format_args!("{}, {}", conflict.kind.as_str(), reason(event))),
        event.op,
        clean(&event.table, LISTED_CHARS),
        key(&event.key),
    ))?;
    output.table(&["", "mine (lost)", "theirs"], &beside(conflict, me, most))
}

/// Why it lost, in words.
fn reason(event: &Event) -> String {
    let reason = event.verdict.reason().unwrap_or_default();
    let (word, about) = reason.split_once(": ").unwrap_or((reason, ""));
    let words = match word {
        "conflict" => "another writer was first",
        "pair" => "the other half of its key change lost",
        "via" => "the event of which it is a consequence lost",
        "unique" => "a UNIQUE value is taken",
        "foreign" => "a row that it refers to is missing",
        "children" => "other rows refer to it",
        "exists" => "its key is taken",
        "missing" => "its row is gone",
        "refused" => "a trigger of the remote refused it",
        TOO_LARGE => {
            "it is too large for the remote, so its values are here alone: \
             save them elsewhere, or write smaller ones"
        }
        KEY_NOT_UTF8 => "its key is text that is not UTF-8: restore it under another key",
        KEY_TOO_LARGE => "its key is larger than 64 KiB: restore it under another key",
        _ => return clean(reason, SHOWN_CHARS),
    };
    match about {
        "" => words.to_owned(),
        about => format!("{words} ({})", clean(about, SHOWN_CHARS)),
    }
}

/// The rows of the comparison: who, when, and each column that differs.
fn beside(conflict: &Conflict, me: ReplicaId, most: usize) -> Vec<(Tone, Vec<String>)> {
    let event = &conflict.event;
    let winner = conflict.winner.as_ref();
    let dim = |name: &str, mine: String, theirs: String| {
        (Tone::Dim, vec![format!("  {name}"), mine, theirs])
    };
    let by = |event: &Event| who(event.origin, event.actor.as_deref(), me);
    let made = |event: &Event| short(made_at(event.id));
    let outcome = match (winner, &conflict.theirs) {
        (Some(winner), _) => winner.op.to_string(),
        (None, Some(_)) => "(as it is there)".to_owned(),
        (None, None) => "(no such row there)".to_owned(),
    };
    let mut rows = vec![
        dim("by", by(event), winner.map(by).unwrap_or_default()),
        dim("made", made(event), winner.map(made).unwrap_or_default()),
        dim("did", event.op.to_string(), outcome),
    ];
    let mine = conflict.insert.as_ref().unwrap_or(event).after.as_ref();
    let old = event.before.as_ref();
    // What the winner wrote, over the row as it was when the loss was learnt.
    let theirs = conflict.theirs.as_ref().or(winner.and_then(|winner| winner.after.as_ref()));
    let touched = match event.op {
        Op::Delete if conflict.insert.is_none() => winner.and_then(|w| w.after.as_ref()),
        _ => mine,
    };
    for name in names(touched.into_iter()) {
        let cell = |image: Option<&Image>, absent: &str| match image {
            Some(image) => image.get(name).map(|v| value(v, most)).unwrap_or_default(),
            None => absent.to_owned(),
        };
        let deleted = event.op == Op::Delete && conflict.insert.is_none();
        let left =
            if deleted { format!("(deleted; was {})", cell(old, "")) } else { cell(mine, "") };
        let right = cell(theirs, "");
        // A column that was left empty says nothing where there is nothing beside it.
        if left != right && !(right.is_empty() && left == "NULL") {
            rows.push((Tone::Plain, vec![format!("  {}", clean(name, most)), left, right]));
        }
    }
    rows
}
