//! Events as people and programs read them.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::log_position::{rfc3339, short};
use super::{Output, Tone, clean};
use crate::error::{Code, Error, Result};
use crate::event::value::Value;
use crate::event::{Event, EventId, Image, Op, Origin, ReplicaId, RowKey};
use crate::store::{Entry, PendingEvent};

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

/// When an event was made: ms since 1970, by its writer's clock.
pub(crate) fn made_at(id: EventId) -> i64 {
    i64::try_from(id.0.timestamp_ms()).unwrap_or(i64::MAX)
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
        let view = View::of(entry, self.me);
        let line = self.line(
            &view.seq.map_or_else(|| "-".to_owned(), |seq| seq.to_string()),
            &short(made_at(view.id)),
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

/// Prints a settled event on a short line that begins with `lead`; `by` names its writer.
///
/// # Errors
///
/// As [`Output::line`].
pub(crate) fn brief(output: &Output, lead: &str, event: &Event, by: &str) -> Result<()> {
    let verdict = clean(&event.verdict.to_string(), VALUE_CHARS);
    let change = change(event.op, event.before.as_ref(), event.after.as_ref());
    let (op, table, seq) = (event.op, clean(&event.table, VALUE_CHARS), event.seq.0);
    let by = clean(by, VALUE_CHARS);
    let line = format!("{lead}  {seq:>6}  {by:8}  {verdict:20}  {op:6}  {table:11}  {change}");
    output.row(tone(event.verdict.as_str()), &line)
}

/// The tone of a verdict.
fn tone(verdict: &str) -> Tone {
    match verdict {
        "superseded" => Tone::Notable,
        "rejected" => Tone::Bad,
        "pending" => Tone::Dim,
        _ => Tone::Plain,
    }
}

/// The fields that settled and pending events share.
struct View<'a> {
    seq: Option<i64>,
    id: EventId,
    origin: Origin,
    actor: Option<&'a str>,
    table: &'a str,
    key: &'a RowKey,
    op: Op,
    before: Option<&'a Image>,
    after: Option<&'a Image>,
    base: i64,
    verdict: &'static str,
    reason: Option<&'a str>,
}

impl<'a> View<'a> {
    fn of(entry: &'a Entry, me: ReplicaId) -> View<'a> {
        match entry {
            Entry::Settled(event) => View::settled(event),
            Entry::Pending(event) => View::pending(event, me),
        }
    }

    fn settled(event: &'a Event) -> View<'a> {
        View {
            seq: Some(event.seq.0),
            id: event.id,
            origin: event.origin,
            actor: event.actor.as_deref(),
            table: &event.table,
            key: &event.key,
            op: event.op,
            before: event.before.as_ref(),
            after: event.after.as_ref(),
            base: event.base.0,
            verdict: event.verdict.as_str(),
            reason: event.verdict.reason().filter(|reason| !reason.is_empty()),
        }
    }

    fn pending(event: &'a PendingEvent, me: ReplicaId) -> View<'a> {
        View {
            seq: None,
            id: event.id,
            origin: Origin::Replica(me),
            actor: event.actor.as_deref(),
            table: &event.table,
            key: &event.key,
            op: event.op,
            before: event.before.as_ref(),
            after: event.after.as_ref(),
            base: event.base.0,
            verdict: "pending",
            reason: event.refuse.as_deref(),
        }
    }
}

/// The largest integer that JavaScript's numbers hold exactly, with all below it: 2^53 − 1.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// An image as a JSON object, its columns in their order, in a form that every JSON reader can
/// read. [`exact`] adds the values that this form changes.
pub(crate) struct JsonImage<'a>(&'a Image);

impl<'a> JsonImage<'a> {
    pub(crate) fn new(image: &'a Image) -> JsonImage<'a> {
        JsonImage(image)
    }
}

impl Serialize for JsonImage<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.0.len()))?;
        for (column, value) in &self.0.0 {
            map.serialize_entry(column, &readable(value))?;
        }
        map.end()
    }
}

/// The columns of an image whose readable form is not exact, in their exact form.
pub(crate) struct JsonExact<'a>(Vec<(&'a str, &'a Value)>);

impl Serialize for JsonExact<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (column, value) in &self.0 {
            map.serialize_entry(column, &exact_value(value))?;
        }
        map.end()
    }
}

/// The exact form of an image's values beside the readable one; `None` where that is exact.
pub(crate) fn exact(image: Option<&Image>) -> Option<JsonExact<'_>> {
    let columns: Vec<_> = image?
        .0
        .iter()
        .filter(|(_, value)| !is_exact(value))
        .map(|(column, value)| (column.as_str(), value))
        .collect();
    (!columns.is_empty()).then_some(JsonExact(columns))
}

/// Whether [`readable`] gives the value exactly.
fn is_exact(value: &Value) -> bool {
    match value {
        Value::Integer(integer) => integer.unsigned_abs() <= MAX_SAFE_INTEGER,
        value => !value.is_tagged(),
    }
}

/// A value as JSON: a number, a string or null. `docs/operations.md` has the table.
fn readable(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Integer(integer) if is_exact(value) => (*integer).into(),
        Value::Integer(integer) => integer.to_string().into(),
        Value::Real(real) if real.is_infinite() => {
            if *real > 0.0 { "Infinity" } else { "-Infinity" }.into()
        }
        Value::Real(real) => (*real).into(),
        Value::Text(text) => String::from_utf8_lossy(text).into(),
        Value::Blob(blob) => {
            blob.iter().map(|byte| format!("{byte:02X}")).collect::<String>().into()
        }
    }
}

/// A value as the protocol spells it. A large integer is an object, since JavaScript would round
/// it.
fn exact_value(value: &Value) -> serde_json::Value {
    if let Value::Integer(integer) = value
        && !is_exact(value)
    {
        return serde_json::json!({ "i": integer.to_string() });
    }
    let mut json = Vec::new();
    value.write_json(&mut json);
    serde_json::from_slice(&json).expect("a value's spelling is JSON")
}

/// A key as a JSON array of readable values.
pub(crate) fn json_key(key: &RowKey) -> serde_json::Value {
    match key.values() {
        Ok(values) => values.iter().map(readable).collect(),
        Err(_) => serde_json::from_str(&key.0).unwrap_or_else(|_| key.0.clone().into()),
    }
}

/// A key in its exact form, where the readable one is not.
pub(crate) fn exact_key(key: &RowKey) -> Option<serde_json::Value> {
    let values = key.values().ok()?;
    let all_exact = values.iter().all(is_exact);
    (!all_exact).then(|| values.iter().map(exact_value).collect())
}

/// An event, as `--json` prints it. A flat record: each field is one of the JSON object.
#[derive(Serialize)]
pub(crate) struct JsonEvent<'a> {
    seq: Option<i64>,
    id: String,
    made_at: String,
    origin: String,
    actor: Option<&'a str>,
    unit: Option<String>,
    table: &'a str,
    key: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_exact: Option<serde_json::Value>,
    op: &'static str,
    before: Option<JsonImage<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before_exact: Option<JsonExact<'a>>,
    after: Option<JsonImage<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after_exact: Option<JsonExact<'a>>,
    base: i64,
    cause: Option<String>,
    via: Option<String>,
    pair: Option<String>,
    verdict: &'static str,
    reason: Option<&'a str>,
    received_at: Option<String>,
    /// Of a pending event: whether it is set aside, because it has probably lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    aside: Option<bool>,
}

impl<'a> JsonEvent<'a> {
    /// Of an event of the log.
    pub(crate) fn new(entry: &'a Entry, me: ReplicaId) -> JsonEvent<'a> {
        let json = JsonEvent::view(&View::of(entry, me));
        match entry {
            Entry::Settled(event) => json.complete(event),
            Entry::Pending(event) => JsonEvent { aside: Some(event.aside), ..json },
        }
    }

    /// Of a settled event.
    pub(crate) fn settled(event: &'a Event) -> JsonEvent<'a> {
        JsonEvent::view(&View::settled(event)).complete(event)
    }

    fn complete(self, event: &Event) -> JsonEvent<'a> {
        JsonEvent {
            unit: event.unit.map(|unit| unit.to_string()),
            cause: event.cause.map(|id| id.to_string()),
            via: event.via.map(|id| id.to_string()),
            pair: event.pair.map(|id| id.to_string()),
            received_at: Some(rfc3339(event.received_at)),
            ..self
        }
    }

    fn view(view: &View<'a>) -> JsonEvent<'a> {
        JsonEvent {
            seq: view.seq,
            id: view.id.to_string(),
            made_at: rfc3339(made_at(view.id)),
            origin: view.origin.to_string(),
            actor: view.actor,
            unit: None,
            table: view.table,
            key: json_key(view.key),
            key_exact: exact_key(view.key),
            op: view.op.as_str(),
            before: view.before.map(JsonImage),
            before_exact: exact(view.before),
            after: view.after.map(JsonImage),
            after_exact: exact(view.after),
            base: view.base,
            cause: None,
            via: None,
            pair: None,
            verdict: view.verdict,
            reason: view.reason,
            received_at: None,
            aside: None,
        }
    }
}

/// Prints an event column by column.
pub(crate) fn show(output: &Output, entry: &Entry, me: ReplicaId) -> Result<()> {
    if output.is_json() {
        return output.json(&JsonEvent::new(entry, me));
    }
    let view = View::of(entry, me);
    let mut facts = vec![
        ("event", view.id.to_string()),
        ("seq", view.seq.map_or_else(|| "none yet".to_owned(), |seq| seq.to_string())),
        ("made", rfc3339(made_at(view.id))),
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
            facts.push(("aside", format!("off its row, since it has probably lost{winner}")));
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

/// The one id that begins or ends with `text`.
///
/// # Errors
///
/// `Usage` when there is none, or more than one.
pub(crate) fn resolve(
    text: &str,
    what: &str,
    ids: impl Iterator<Item = EventId>,
) -> Result<EventId> {
    let wanted = text.to_ascii_uppercase();
    let mut found: Option<EventId> = None;
    for id in ids {
        let name = id.to_string();
        if name == wanted {
            return Ok(id);
        }
        if wanted.is_empty() || !(name.starts_with(&wanted) || name.ends_with(&wanted)) {
            continue;
        }
        if let Some(other) = found.filter(|other| *other != id) {
            return Err(Error::new(
                Code::NoSuchEvent,
                format!("more than one {what} is called `{text}`"),
            )
            .with_hint(format!("for instance {other} and {id}: write more of it")));
        }
        found = Some(id);
    }
    found.ok_or_else(|| {
        Error::new(Code::NoSuchEvent, format!("there is no {what} `{}`", clean(text, VALUE_CHARS)))
            .with_hint("the beginning or the end of its id is enough")
    })
}
