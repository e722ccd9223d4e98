//! A conflict as people and programs read it: the event that lost, with the winner beside it.

use super::event::{key, names, tail, value, who};
use super::{Output, Tone, clean};
use crate::error::Result;
use crate::event::verdict::{KEY_NOT_UTF8, KEY_TOO_LARGE, TOO_LARGE};
use crate::event::{Event, Image, Op, ReplicaId};
use crate::inspect::log_position::short;
use crate::inspect::{Conflict, ConflictState};

/// Characters of a value in a listing of conflicts.
pub(in crate::cli) const LISTED_CHARS: usize = 40;
/// Characters of a value where one conflict is shown.
pub(in crate::cli) const SHOWN_CHARS: usize = 200;

/// Prints a conflict, the winner beside the loser. Values are cut off after `most` characters.
pub(in crate::cli) fn print(
    output: &Output,
    conflict: &Conflict,
    me: ReplicaId,
    most: usize,
) -> Result<()> {
    let event = &conflict.event;
    if output.is_json() {
        return output.json(conflict);
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
        "via" => "the event that caused it lost",
        "unique" => "a UNIQUE value is taken",
        "foreign" => "a row that it refers to is missing",
        "children" => "other rows refer to it",
        "exists" => "its key is taken",
        "missing" => "its row is gone",
        "refused" => "a trigger of the remote refused it",
        TOO_LARGE => {
            "it is too large for the remote, so only this replica has its values: save them \
             elsewhere, or write smaller ones"
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

/// The rows of the comparison: the writers, the times, and each column that differs.
fn beside(conflict: &Conflict, me: ReplicaId, most: usize) -> Vec<(Tone, Vec<String>)> {
    let event = &conflict.event;
    let winner = conflict.winner.as_ref();
    let dim = |name: &str, mine: String, theirs: String| {
        (Tone::Dim, vec![format!("  {name}"), mine, theirs])
    };
    let by = |event: &Event| who(event.origin, event.actor.as_deref(), me);
    let made = |event: &Event| short(event.id.ms());
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
    // The remote's row when the loss was recorded; without it, the values that the winner wrote.
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
        // Leave out a column that is NULL here and has no value there.
        if left != right && !(right.is_empty() && left == "NULL") {
            rows.push((Tone::Plain, vec![format!("  {}", clean(name, most)), left, right]));
        }
    }
    rows
}
