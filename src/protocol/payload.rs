//! The events of a push in the form that the remote receives: one JSON text, and the terms of the
//! SELECT that distributes it over the columns of the inbox.
//!
//! Values that all events of a push share are in the SELECT, once. The other values are in an array
//! for each event. Most columns are shared most of the time, and each value that the remote takes
//! out of an array is expensive: taking all columns out of an array was a quarter of its work.
//!
//! JSON is sent as a string, although its quotes are escaped then. If it were nested, the remote
//! would format it anew at each step on the way to its column. A whole row is the exception. It is
//! sent as a nested array of its values, and the SELECT has the names: as strings with escaped
//! quotes, the names were half of a push.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::Range;

use super::{Outgoing, Statement};
use crate::catalog::literal;
use crate::event::json::Scanner;
use crate::event::value::{Value, write_string};
use crate::event::{EventId, Op};

/// The most characters of a recorded reason, which is a message for people.
const MAX_REASON: usize = 500;

/// The most bytes of a value in the SELECT of a push in parts.
const SHARED_BYTES: usize = 256;

/// A value of the inbox.
#[derive(PartialEq)]
enum Field<'a> {
    Null,
    Integer(i64),
    Text(Cow<'a, str>),
}

impl<'a> From<Option<&'a str>> for Field<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Field::Null, |text| Field::Text(Cow::Borrowed(text)))
    }
}

impl From<Option<EventId>> for Field<'_> {
    fn from(id: Option<EventId>) -> Self {
        id.map_or(Field::Null, |id| Field::Text(Cow::Owned(id.to_string())))
    }
}

impl From<bool> for Field<'_> {
    /// A flag is 1 or NULL, never 0.
    fn from(flag: bool) -> Self {
        if flag { Field::Integer(1) } else { Field::Null }
    }
}

impl Field<'_> {
    /// The value as a term, if it has one: some servers end a text at a NUL.
    fn term(&self) -> Option<Statement> {
        match self {
            Field::Null => Some("NULL".into()),
            Field::Integer(integer) => Some(integer.to_string().into()),
            Field::Text(text) if text.contains('\0') => None,
            Field::Text(text) => Some(Statement::new("?", [Value::from(&**text)])),
        }
    }

    /// The bytes of its text.
    fn weight(&self) -> usize {
        if let Field::Text(text) = self { text.len() } else { 0 }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Field::Null => out.extend_from_slice(b"null"),
            Field::Integer(integer) => write!(out, "{integer}").expect("a vector takes everything"),
            Field::Text(text) => write_string(text.as_bytes(), out),
        }
    }
}

/// A column of `driftless_inbox`, and the function that gives an event's value of it.
type Column = (&'static str, fn(&Outgoing) -> Field<'_>);

/// The columns that an event fills. The first one differs between any two events.
const INBOX: [Column; 14] = [
    ("id", |event| Some(event.id).into()),
    ("actor", |event| event.actor.as_deref().into()),
    ("tbl", |event| Some(event.table.as_str()).into()),
    ("pk", |event| Some(event.key.0.as_str()).into()),
    ("op", |event| Field::Text(Cow::Owned(event.op.to_string()))),
    ("before", |event| event.before.as_deref().into()),
    ("after", |event| event.after.as_deref().into()),
    ("base", |event| Field::Integer(event.base.0)),
    ("pair", |event| event.pair.into()),
    ("via", |event| event.via.into()),
    ("other", |event| event.other.as_ref().map(|key| key.0.as_str()).into()),
    ("image", |event| event.image.as_deref().into()),
    ("late", |event| event.defer_fk.into()),
    ("refuse", |event| event.refuse.as_deref().map(shorten).into()),
];

/// The most columns of a row that is sent as an array: SQLite limits the depth of an expression.
const MOST_COLUMNS: usize = 100;
/// The fewest events for which the names are in the SELECT. With fewer, they cost more than they
/// save.
const ROWS_FROM: usize = 3;
/// The most tables in one push whose rows are sent as arrays.
const MOST_LAYOUTS: usize = 32;

/// The columns of a table whose inserted rows are sent as arrays.
struct Layout<'a> {
    table: &'a str,
    /// The names, spelled as in JSON, in the order of the values.
    names: Vec<&'a [u8]>,
}

impl<'a> Layout<'a> {
    /// The layout of each table with inserted rows, taken from the first of them.
    fn all(events: &'a [Outgoing]) -> Vec<Self> {
        let mut layouts: Vec<Self> = Vec::new();
        if events.len() < ROWS_FROM {
            return layouts;
        }
        for event in events.iter().filter(|event| event.op == Op::Insert) {
            let known = |layout: &Layout<'_>| layout.table == event.table;
            if layouts.len() < MOST_LAYOUTS && !layouts.iter().rev().any(known) {
                let names = event.after.as_deref().and_then(names).unwrap_or_default();
                layouts.push(Layout { table: &event.table, names });
            }
        }
        layouts
    }

    /// Whether rows are sent as arrays at all.
    fn is_fit(&self) -> bool {
        !self.names.is_empty()
    }

    /// Appends the array of a row with exactly these columns. The array begins with the layout's
    /// place. For any other image it appends nothing and returns false.
    fn write(&self, place: usize, image: &str, out: &mut Vec<u8>) -> bool {
        let begin = out.len();
        let written = self.try_write(place, image, out).is_some();
        if !written {
            out.truncate(begin);
        }
        written
    }

    fn try_write(&self, place: usize, image: &str, out: &mut Vec<u8>) -> Option<()> {
        write!(out, "[{place}").ok()?;
        let mut scanner = Scanner::new(image.as_bytes());
        let mut open = b'{';
        // The size of the JSON that the remote makes, which has no white space.
        let mut size = "}".len();
        for name in &self.names {
            scanner.expect(open).ok()?;
            open = b',';
            (scanner.raw().ok()? == *name).then_some(())?;
            scanner.expect(b':').ok()?;
            let value = scanner.raw().ok()?;
            out.push(b',');
            out.extend_from_slice(value);
            size += "{:".len() + name.len() + value.len();
        }
        scanner.expect(b'}').ok()?;
        out.push(b']');
        (size == image.len()).then_some(())
    }

    /// The term for the JSON of a row. Its array is at `at` in an event's array.
    fn term(&self, at: usize) -> String {
        let mut term = String::new();
        for (index, name) in self.names.iter().enumerate() {
            let name = String::from_utf8_lossy(name);
            let open = if index > 0 { ',' } else { '{' };
            let name = literal(&format!("{open}{name}:"));
            let join = if index > 0 { " || " } else { "" };
            write!(term, "{join}{name} || (value -> '$[{at}][{}]')", index + 1)
                .expect("a string takes everything");
        }
        term + " || '}'"
    }
}

/// The names of an image, if its row may be sent as an array.
fn names(image: &str) -> Option<Vec<&[u8]>> {
    let mut scanner = Scanner::new(image.as_bytes());
    let (mut names, mut open) = (Vec::new(), b'{');
    while !scanner.eat(b'}') {
        scanner.expect(open).ok()?;
        open = b',';
        names.push(scanner.raw().ok()?);
        scanner.expect(b':').ok()?;
        scanner.raw().ok()?;
    }
    let fits = (1..=MOST_COLUMNS).contains(&names.len());
    fits.then_some(names)
}

/// The place of `after` in an event's array, and the term for it.
fn after_term(layouts: &[Layout<'_>], at: usize) -> String {
    let mut rows = String::new();
    for (place, layout) in layouts.iter().enumerate().filter(|(_, layout)| layout.is_fit()) {
        write!(rows, " WHEN {place} THEN {}", layout.term(at)).expect("a string takes everything");
    }
    match rows.is_empty() {
        true => format!("value ->> {at}"),
        false => format!("CASE value ->> '$[{at}][0]'{rows} ELSE value ->> {at} END"),
    }
}

/// Events, ready for the inbox.
#[derive(Debug)]
pub struct PushPayload {
    /// The names of the inbox's columns.
    names: String,
    /// The values for them, in the same order. They are taken from `value`, an event's array.
    terms: Statement,
    /// Arrays of the events' arrays, one for each part.
    parts: Vec<String>,
    /// The number of events up to the end of each part.
    ends: Vec<usize>,
}

impl PushPayload {
    /// Packs at least one event into as many parts as needed. A part has at most `most` events. It
    /// has at most `bytes` bytes of them, unless it has only one.
    pub fn pack(events: &[Outgoing], most: usize, bytes: usize) -> PushPayload {
        let (first, rest) = events.split_first().expect("a push has events");
        let (mut names, mut terms, mut places) = (Vec::new(), Vec::new(), Vec::new());
        let layouts = Layout::all(events);
        for (column, (name, field)) in INBOX.iter().enumerate() {
            names.push(*name);
            let value = field(first);
            let shared = column > 0 && rest.iter().all(|event| field(event) == value);
            // A large value is sent in the parts. Otherwise the last request would have its size
            // again.
            let fits = bytes == usize::MAX || value.weight() <= SHARED_BYTES;
            match value.term().filter(|_| shared && fits) {
                Some(term) => terms.push(term),
                None => {
                    let at = places.len();
                    terms.push(match *name {
                        "after" => after_term(&layouts, at).into(),
                        _ => format!("value ->> {at}").into(),
                    });
                    places.push((*name, field));
                }
            }
        }
        let (mut parts, mut ends, mut json, mut weight) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (index, event) in events.iter().enumerate() {
            let begun = index - ends.last().unwrap_or(&0);
            weight += event.weight();
            if begun > 0 && (begun >= most || weight > bytes) {
                parts.push(closed(&mut json));
                ends.push(index);
                weight = event.weight();
            }
            json.push(if json.is_empty() { b'[' } else { b',' });
            for (place, (name, field)) in places.iter().enumerate() {
                json.push(if place == 0 { b'[' } else { b',' });
                if *name != "after" || !write_row(event, &layouts, &mut json) {
                    field(event).write(&mut json);
                }
            }
            json.push(b']');
        }
        parts.push(closed(&mut json));
        ends.push(events.len());
        let texts: Vec<_> = terms.iter().map(|term| term.sql.as_str()).collect();
        let texts = texts.join(", ");
        let terms = Statement::new(texts, terms.into_iter().flat_map(|term| term.args));
        PushPayload { names: names.join(", "), terms, parts, ends }
    }

    /// The names of the inbox's columns, and the terms for their values.
    pub(crate) fn columns(&self) -> (String, Statement) {
        (self.names.clone(), self.terms.clone())
    }

    /// How many parts there are.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// The events of a part: one JSON text.
    pub(crate) fn part(&self, part: usize) -> &str {
        &self.parts[part]
    }

    /// The events of all parts in one text, as [`PushPayload::pack`] packs them without bounds.
    pub(crate) fn into_text(self) -> String {
        let [text] = <[String; 1]>::try_from(self.parts).expect("it was packed as one part");
        text
    }

    /// The range of the events in a part.
    pub fn range(&self, part: usize) -> Range<usize> {
        part.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[part]
    }
}

/// Appends the row of an insert as an array, if that is possible.
fn write_row(event: &Outgoing, layouts: &[Layout<'_>], out: &mut Vec<u8>) -> bool {
    let Some(after) = event.after.as_deref().filter(|_| event.op == Op::Insert) else {
        return false;
    };
    let place = layouts.iter().position(|layout| layout.table == event.table);
    place.is_some_and(|place| layouts[place].is_fit() && layouts[place].write(place, after, out))
}

/// Ends an array and begins the next one.
fn closed(json: &mut Vec<u8>) -> String {
    json.push(b']');
    String::from_utf8(std::mem::take(json)).expect("events are UTF-8, for other bytes are in hex")
}

/// The first [`MAX_REASON`] characters of a reason.
pub(crate) fn shorten(reason: &str) -> &str {
    reason.char_indices().nth(MAX_REASON).map_or(reason, |(at, _)| &reason[..at])
}
