//! `driftless conflicts`: local events that lost, each with the winner beside it.

use serde::Serialize;

use super::args::{self, ConflictAction};
use super::event::{
    JsonEvent, JsonExact, JsonImage, exact, key, made_at, names, resolve, tail, value, who,
};
use super::exit::Exit;
use super::output::{Output, Tone, clean};
use super::session::Session;
use super::when::{rfc3339, short};
use crate::error::{Error, Result};
use crate::event::{Event, EventId, Image, Op, ReplicaId};
use crate::store::{Conflict, ConflictKind, ConflictState, NewKey, Store};
use crate::value::Value;
use crate::verdict::{KEY_NOT_UTF8, KEY_TOO_LARGE, TOO_LARGE};

/// Characters of a value in the listing and where one conflict is shown.
pub(super) const LISTED_CHARS: usize = 40;
const SHOWN_CHARS: usize = 200;

/// Lists the conflicts, or does something about one.
///
/// # Errors
///
/// `Usage` when there is no such conflict or it cannot be restored so, `Storage` when the database
/// fails.
pub(crate) fn conflicts(session: &Session, args: args::Conflicts) -> Result<Exit> {
    let mut store = session.store()?;
    let output = &session.output;
    match args.action {
        None => list(output, &store, args.all)?,
        Some(ConflictAction::Show { id }) => {
            let conflict = find(&store, &id)?;
            print(output, &conflict, store.id(), SHOWN_CHARS)?;
        }
        Some(ConflictAction::Restore { id, new_key }) => {
            let conflict = find(&store, &id)?;
            let new_key = new_key.map(|text| read_key(&store, &conflict, text)).transpose()?;
            store.restore(conflict.event.id, new_key)?;
            done(output, &conflict, "restored", ": its values are a new event now, to be pushed")?;
        }
        Some(ConflictAction::Dismiss { id }) => {
            let conflict = find(&store, &id)?;
            store.dismiss(conflict.event.id)?;
            done(output, &conflict, "dismissed", ": it is off the list, and stays in the log")?;
        }
    }
    Ok(Exit::Success)
}

/// The conflict that a person means.
fn find(store: &Store, text: &str) -> Result<Conflict> {
    let ids: Vec<EventId> = store.conflicts(true)?.iter().map(|c| c.event.id).collect();
    // The other half of a key change names its conflict, too.
    let id = match text.parse() {
        Ok(id) => id,
        Err(_) => resolve(text, "conflict", ids.into_iter())?,
    };
    store.conflict(id)
}

fn done(output: &Output, conflict: &Conflict, state: &str, what: &str) -> Result<()> {
    if output.is_json() {
        #[derive(Serialize)]
        struct Done<'a> {
            id: String,
            state: &'a str,
        }
        return output.json(&Done { id: conflict.event.id.to_string(), state });
    }
    output.line(format_args!("{} {state}{what}", tail(&conflict.event.id)))
}

/// The new key that was asked for. Its values have the types of the lost row's key.
fn read_key(store: &Store, conflict: &Conflict, text: Option<String>) -> Result<NewKey> {
    let Some(text) = text else { return Ok(NewKey::Fresh) };
    let event = &conflict.event;
    let old = event.key.values()?;
    let written: Vec<&str> =
        if old.len() == 1 { vec![text.as_str()] } else { text.split(',').collect() };
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

fn list(output: &Output, store: &Store, all: bool) -> Result<()> {
    let conflicts = store.conflicts(all)?;
    if conflicts.is_empty() && !output.is_json() {
        output.note("no conflicts");
    }
    for (index, conflict) in conflicts.iter().enumerate() {
        if index > 0 && !output.is_json() {
            output.line("")?;
        }
        print(output, conflict, store.id(), LISTED_CHARS)?;
    }
    // What was restored or dismissed needs nothing more.
    let mut open = conflicts.iter().filter(|c| c.state == ConflictState::Open && !output.is_json());
    if let Some(first) = open.clone().next() {
        let id = tail(&first.event.id);
        let db = store.path().display();
        let command = format!("driftless conflicts --db {db}");
        output.note(format_args!("\nTo write its values again:  {command} restore {id}"));
        output.note(format_args!("To take it off the list:    {command} dismiss {id}"));
    }
    if let Some(collision) = open.find(|c| c.kind == ConflictKind::Collision) {
        let (id, db) = (tail(&collision.event.id), store.path().display());
        output.note(format_args!(
            "To keep both of a collision: driftless conflicts --db {db} restore {id} --new-key"
        ));
    }
    Ok(())
}

/// A conflict, as `--json` prints it.
#[derive(Serialize)]
struct JsonConflict<'a> {
    id: String,
    kind: &'static str,
    state: &'static str,
    noticed_at: String,
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
pub(super) fn print(
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
