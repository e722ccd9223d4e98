//! The events of a push as the remote takes them in: one JSON text, and the terms of the SELECT
//! that spreads it over the columns of the inbox.
//!
//! What all events of a push share stands in the SELECT, once; what differs, in an array for each
//! event. Most columns are of the first kind most of the time, and the remote pays dearly for each
//! place that it takes out of an array: taking all columns out of one was a quarter of its work.
//!
//! JSON travels as a string, though its quotes are then escaped: nested, the remote would spell it
//! out anew at each step on the way to its column.

use std::borrow::Cow;
use std::io::Write as _;

use crate::capture::literal;
use crate::event::EventId;
use crate::store::Outgoing;
use crate::value::write_string;

/// The most characters of a recorded reason: it is a message for people.
const MAX_REASON: usize = 500;

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
    /// Never 0: a flag is 1 or NULL.
    fn from(flag: bool) -> Self {
        if flag { Field::Integer(1) } else { Field::Null }
    }
}

impl Field<'_> {
    /// The value as an SQL literal, if it can be one: SQLite's parser would stop at a NUL.
    fn literal(&self) -> Option<String> {
        match self {
            Field::Null => Some("NULL".to_owned()),
            Field::Integer(integer) => Some(integer.to_string()),
            Field::Text(text) if text.contains('\0') => None,
            Field::Text(text) => Some(literal(text)),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Field::Null => out.extend_from_slice(b"null"),
            Field::Integer(integer) => write!(out, "{integer}").expect("a vector takes everything"),
            Field::Text(text) => write_string(text.as_bytes(), out),
        }
    }
}

/// A column of `driftless_inbox`, and what an event has in it.
type Column = (&'static str, fn(&Outgoing) -> Field<'_>);

/// The columns that an event fills. The first differs between any two events.
const INBOX: [Column; 15] = [
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
    ("late", |event| event.late.into()),
    ("refuse", |event| event.refuse.as_deref().map(shorten).into()),
    ("plain", |event| event.plain.into()),
];

/// Events, ready for the inbox.
pub(super) struct Parcel {
    /// The names of the inbox's columns.
    pub(super) names: String,
    /// What fills them, in the same order: over `value`, an event's array.
    pub(super) terms: String,
    /// An array of the events' arrays.
    pub(super) json: String,
}

impl Parcel {
    /// Packs events, of which there is at least one.
    pub(super) fn pack(events: &[Outgoing]) -> Parcel {
        let (first, rest) = events.split_first().expect("a push has events");
        let (mut names, mut terms, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (column, (name, field)) in INBOX.iter().enumerate() {
            names.push(*name);
            let value = field(first);
            let shared = column > 0 && rest.iter().all(|event| field(event) == value);
            match value.literal().filter(|_| shared) {
                Some(literal) => terms.push(literal),
                None => {
                    terms.push(format!("value ->> {}", places.len()));
                    places.push(field);
                }
            }
        }
        let mut json = Vec::new();
        for (index, event) in events.iter().enumerate() {
            json.push(if index == 0 { b'[' } else { b',' });
            for (place, field) in places.iter().enumerate() {
                json.push(if place == 0 { b'[' } else { b',' });
                field(event).write(&mut json);
            }
            json.push(b']');
        }
        json.push(b']');
        let json = String::from_utf8(json).expect("events are UTF-8, for other bytes are in hex");
        Parcel { names: names.join(", "), terms: terms.join(", "), json }
    }
}

/// At most [`MAX_REASON`] characters of a reason.
pub(super) fn shorten(reason: &str) -> &str {
    reason.char_indices().nth(MAX_REASON).map_or(reason, |(at, _)| &reason[..at])
}
