//! Versions of a row, and who set its values, as people read them.

use super::event::{origin, tail, tone, value, who};
use super::{Tone, clean};
use crate::event::{Op, Origin, ReplicaId};
use crate::inspect::log_position::short;
use crate::inspect::{Blamed, ColumnChange, Entry, EventView, Version};

/// The most characters of a value.
const VALUE_CHARS: usize = 60;

/// The lines below a version's first one.
pub(crate) type Changes = Vec<String>;

/// A version: its tone, its first line, and a line for each column that it changed.
pub(crate) fn version(version: &Version, me: ReplicaId) -> (Tone, String, Changes) {
    let view = EventView::of(&version.entry, me);
    let seq = view.seq.map_or_else(|| "not pushed yet".to_owned(), |seq| format!("event {seq}"));
    let what = match (&version.moved_from, &version.moved_to, view.op) {
        (Some(from), ..) => {
            format!("got its key; it was {}", clean(&from.to_string(), VALUE_CHARS))
        }
        (_, Some(to), _) => format!("got the key {}", clean(&to.to_string(), VALUE_CHARS)),
        (.., Op::Insert) => "inserted".to_owned(),
        (.., Op::Update) => "updated".to_owned(),
        (.., Op::Delete) => "deleted".to_owned(),
    };
    let lost = match view.verdict {
        "applied" => String::new(),
        "pending" if !version.is_effective => ", set aside: it has probably lost".to_owned(),
        verdict => match view.reason {
            Some(reason) => format!(", {verdict}: {}", clean(reason, VALUE_CHARS)),
            None => format!(", {verdict}"),
        },
    };
    let by = who(view.origin, view.actor, me);
    let line =
        format!("{}  {what} by {by}{lost}  ({seq}, {})", short(view.id.ms()), tail(&view.id));
    // The row goes on under its new key, with all its values.
    let changes = match version.moved_to {
        Some(_) => Vec::new(),
        None => lines(&version.changes, view.op),
    };
    (tone(view.verdict), line, changes)
}

fn lines(changes: &[ColumnChange], op: Op) -> Changes {
    let names = changes.iter().map(|change| clean(&change.column, VALUE_CHARS));
    let width = names.map(|name| name.chars().count()).max().unwrap_or(0);
    let line = |change: &ColumnChange| {
        let shown = |of: &Option<crate::event::value::Value>| {
            of.as_ref().map(|of| value(of, VALUE_CHARS)).unwrap_or_default()
        };
        let (old, new) = (shown(&change.old), shown(&change.new));
        let change_of = match (op, &change.old) {
            (Op::Delete, _) => format!("- {old}"),
            (_, None) => format!("+ {new}"),
            (_, Some(_)) => format!("  {old} → {new}"),
        };
        format!("    {:width$}  {change_of}", clean(&change.column, VALUE_CHARS))
    };
    changes.iter().map(line).collect()
}

/// A blamed value: the value, when it was set, by which event, and by whom.
pub(crate) fn blamed_row(blamed: &Blamed, me: ReplicaId) -> [String; 4] {
    let shown = value(&blamed.value, VALUE_CHARS);
    let Some(entry) = &blamed.entry else {
        let before = "before this replica's log".to_owned();
        return [shown, "-".to_owned(), "-".to_owned(), before];
    };
    let (from, actor) = match entry {
        Entry::Settled(event) => (event.origin, event.actor.as_deref()),
        Entry::Pending(event) => (Origin::Replica(me), event.actor.as_deref()),
    };
    let mut by = match actor {
        Some(_) => who(from, actor, me),
        None => origin(from, me),
    };
    if matches!(entry, Entry::Pending(_)) {
        by += ", pending";
    }
    [shown, short(entry.id().ms()), tail(&entry.id()), by]
}
