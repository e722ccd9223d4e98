//! Events as people and programs read them.

use super::{Output, Tone, clean};
use crate::error::Result;
use crate::event::value::Value;
use crate::event::{Event, Image, Op, Origin, ReplicaId, RowKey};
use crate::inspect::log_position::{rfc3339, short};
use crate::inspect::{Entry, EventView};

/// Characters of an id in a listing: its last eight are the random ones.
const ID_TAIL: usize = 8;
/// The most characters of a value in a listing.
const VALUE_CHARS: usize = 40;
/// The most characters of an event's changes in a listing.
const CHANGE_CHARS: usize = 100;
/// Bytes of a blob that are shown.
const BLOB_BYTES: usize = 8;

/// The end of an id, by which a person can name it.
pub(crate) fn tail(id: &impl ToString) -> String {
    let text = id.to_string();
    let from = text.char_indices().rev().nth(ID_TAIL - 1).map_or(0, |(at, _)| at);
    text[from..].to_owned()
}

/// An origin in a listing.
pub(crate) fn origin(origin: Origin, me: ReplicaId) -> String {
    match origin {
        Origin::Web => "web".to_owned(),
        Origin::Replica(replica) if replica == me => "me".to_owned(),
        Origin::Replica(replica) => tail(&replica),
    }
}

/// An origin and its actor.
pub(crate) fn who(from: Origin, actor: Option<&str>, me: ReplicaId) -> String {
    match actor {
        Some(actor) => format!("{} ({})", clean(actor, VALUE_CHARS), origin(from, me)),
        None => origin(from, me),
    }
}

/// A value on one line.
pub(crate) fn value(value: &Value, most: usize) -> String {
    match value {
        Value::Blob(blob) if blob.len() > BLOB_BYTES => {
            let mut start = Value::Blob(blob[..BLOB_BYTES].to_vec()).to_string();
            start.pop();
            format!("{start}…' ({} bytes)", blob.len())
        }
        Value::Text(text) if text.is_empty() => "''".to_owned(),
        value => clean(&value.to_string(), most),
    }
}

/// A key on one line.
pub(crate) fn key(key: &RowKey) -> String {
    clean(&key.to_string(), VALUE_CHARS)
}

/// The changes of an event on one line.
fn change(op: Op, before: Option<&Image>, after: Option<&Image>) -> String {
    let mut text = String::new();
    let image = if op == Op::Delete { before } else { after };
    for (column, new) in image.map(|image| image.0.as_slice()).unwrap_or_default() {
        if text.chars().count() > CHANGE_CHARS {
            break;
        }
        let old = (op == Op::Update).then(|| before.and_then(|before| before.get(column)));
        let separator = if text.is_empty() { "" } else { ", " };
        let column = clean(column, VALUE_CHARS);
        let new = value(new, VALUE_CHARS);
        match old.flatten() {
            Some(old) => {
                text += &format!("{separator}{column}: {} → {new}", value(old, VALUE_CHARS));
            }
            None => text += &format!("{separator}{column}={new}"),
        }
    }
    clean(&text, CHANGE_CHARS)
}

/// The layout of a listing of events. It is fixed beforehand: events are printed as they are read.
pub(crate) struct Listing {
    me: ReplicaId,
    table_width: usize,
}

impl Listing {
    /// A listing for this replica, whose tables have these names.
    pub(crate) fn new<'a>(me: ReplicaId, tables: impl Iterator<Item = &'a str>) -> Listing {
        let longest = tables.map(|name| name.chars().count()).max();
        Listing { me, table_width: longest.unwrap_or(0).max("table".len()) }
    }

    /// The headings: of all columns but the last, and of the last.
    pub(crate) fn header(&self) -> (String, &'static str) {
        let line = self.line("seq", "made (UTC)", "by", "verdict", "op", "table", "event");
        (line, "row and change")
    }

    #[allow(clippy::too_many_arguments, reason = "the columns")]
    fn line(
        &self,
        seq: &str,
        made: &str,
        by: &str,
        verdict: &str,
        op: &str,
        table: &str,
        id: &str,
    ) -> String {
        let width = self.table_width;
        format!("{seq:>8}  {made:19}  {id:8}  {by:8}  {verdict:10}  {op:6}  {table:width$}  ")
    }

    /// An event's tone, its line, and its last column.
    pub(crate) fn entry(&self, entry: &Entry) -> (Tone, String, String) {
        let view = EventView::of(entry, self.me);
        let line = self.line(
            &view.seq.map_or_else(|| "-".to_owned(), |seq| seq.to_string()),
            &short(view.id.ms()),
            &origin(view.origin, self.me),
            view.verdict,
            view.op.as_str(),
            &clean(view.table, VALUE_CHARS),
            &tail(&view.id),
        );
        let reason = view.reason.map(|reason| format!(" [{}]", clean(reason, VALUE_CHARS)));
        let actor = view.actor.map(|actor| format!(" by {}", clean(actor, VALUE_CHARS)));
        let last = format!(
            "{}{}{}  {}",
            key(view.key),
            reason.unwrap_or_default(),
            actor.unwrap_or_default(),
            change(view.op, view.before, view.after)
        );
        (tone(view.verdict), line, last)
    }
}

impl Listing {
    /// An event on one short line: its tone, and the line.
    pub(crate) fn oneline(&self, entry: &Entry) -> (Tone, String) {
        let view = EventView::of(entry, self.me);
        let verdict = match view.verdict {
            "applied" => String::new(),
            verdict => format!(" ({verdict})"),
        };
        let (op, table) = (view.op, clean(view.table, VALUE_CHARS));
        let by = who(view.origin, view.actor, self.me);
        let line = format!("{} {op} {table} {} by {by}{verdict}", tail(&view.id), key(view.key));
        (tone(view.verdict), line)
    }
}

/// Prints a settled event on a short line that begins with `lead`; `by` names its writer.
pub(crate) fn brief(output: &Output, lead: &str, event: &Event, by: &str) -> Result<()> {
    let verdict = clean(&event.verdict.to_string(), VALUE_CHARS);
    let change = change(event.op, event.before.as_ref(), event.after.as_ref());
    let (op, table, seq) = (event.op, clean(&event.table, VALUE_CHARS), event.seq.0);
    let by = clean(by, VALUE_CHARS);
    let line = format!("{lead}  {seq:>6}  {by:8}  {verdict:20}  {op:6}  {table:11}  {change}");
    output.row(tone(event.verdict.as_str()), &line)
}

/// The tone of a verdict.
pub(super) fn tone(verdict: &str) -> Tone {
    match verdict {
        "superseded" => Tone::Notable,
        "rejected" => Tone::Bad,
        "pending" => Tone::Dim,
        _ => Tone::Plain,
    }
}

/// Prints an event column by column.
pub(crate) fn show(output: &Output, entry: &Entry, me: ReplicaId) -> Result<()> {
    if output.is_json() {
        return output.json(&EventView::of(entry, me));
    }
    let view = EventView::of(entry, me);
    let mut facts = vec![
        ("event", view.id.to_string()),
        ("seq", view.seq.map_or_else(|| "none yet".to_owned(), |seq| seq.to_string())),
        ("made", view.made_at),
        ("by", who(view.origin, view.actor, me)),
        ("origin", view.origin.to_string()),
        ("table", clean(view.table, usize::MAX)),
        ("row", clean(&view.key.to_string(), usize::MAX)),
        ("op", view.op.to_string()),
        ("base", view.base.to_string()),
        (
            "verdict",
            match view.reason {
                Some(reason) => format!("{}: {}", view.verdict, clean(reason, usize::MAX)),
                None => view.verdict.to_owned(),
            },
        ),
    ];
    match entry {
        Entry::Settled(event) => {
            facts.push(("received", rfc3339(event.received_at)));
            let links = [("cause", event.cause), ("via", event.via), ("pair", event.pair)];
            facts.extend(links.into_iter().filter_map(|(name, id)| Some((name, id?.to_string()))));
            facts.extend(event.unit.map(|unit| ("unit", unit.to_string())));
        }
        Entry::Pending(event) if event.aside => {
            let winner = event.winner.map(|seq| format!(", for seq {seq}")).unwrap_or_default();
            facts.push(("aside", format!("off its row, because it has probably lost{winner}")));
        }
        Entry::Pending(_) => {}
    }
    for (name, fact) in facts {
        output.line(format_args!("{}  {fact}", Tone::Dim.paint(format_args!("{name:>8}"))))?;
    }
    output.line("")?;
    columns(output, view.before, view.after)
}

/// Prints the columns of an event: old values and new ones.
fn columns(output: &Output, before: Option<&Image>, after: Option<&Image>) -> Result<()> {
    let most = CHANGE_CHARS;
    let images = [before, after];
    let names = names(images.into_iter().flatten());
    let cell = |image: Option<&Image>, name: &str| {
        image.and_then(|image| image.get(name)).map(|v| value(v, most)).unwrap_or_default()
    };
    let rows: Vec<(Tone, Vec<String>)> = names
        .iter()
        .map(|name| (Tone::Plain, vec![clean(name, most), cell(before, name), cell(after, name)]))
        .collect();
    output.table(&["column", "before", "after"], &rows)
}

/// The names of all columns of the images, each once, in their order.
pub(crate) fn names<'a>(images: impl Iterator<Item = &'a Image>) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in images.flat_map(|image| &image.0) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}
