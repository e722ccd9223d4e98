//! An event: one immutable change of one row.

mod change;
pub mod clock;
pub mod conflict;
pub mod frame;
pub(crate) mod json;
pub mod page;
pub(crate) mod readable;
pub mod value;
pub mod verdict;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

pub use self::change::Change;
use self::json::Scanner;
use self::value::{Value, ValueRef, write_string};
use self::verdict::Verdict;
use crate::error::{Code, Error, Result};

macro_rules! ulid_newtype {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub ulid::Ulid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                let wrong = || Error::new(Code::InvalidId, format!("`{text}` is not {}", $what))
                    .with_hint("a ULID has 26 characters, such as 01JD8ZK3V5QWERTY0123456789");
                // 26 characters hold 130 bits. The parser ignores the excess bits, so it would
                // accept two texts for one id.
                if text.bytes().next().is_some_and(|first| first > b'7') {
                    return Err(wrong());
                }
                text.parse().map($name).map_err(|_| wrong())
            }
        }
    };
}

ulid_newtype!(
    /// The id of an event: a ULID, whose time part is when the change was made.
    EventId, "an event's id"
);
ulid_newtype!(
    /// The identity of a replica.
    ReplicaId, "a replica's id"
);

/// The number of random bits in an outbox event's id, the lowest ones.
const TAIL_BITS: u32 = 40;
/// The number of bits above them, for the outbox's row number. A ULID has 80 bits below its time.
const NUMBER_BITS: u32 = 40;

/// An outbox stores the parts of an id and not its text: 48 bits of time, 40 bits of the outbox's
/// row number, and 40 random bits. Only these functions know this layout.
impl EventId {
    /// The random bits of an integer.
    pub(crate) const TAIL_MASK: i64 = (1 << TAIL_BITS) - 1;

    /// The id of the outbox row `number`, made at `ms` since 1970. Only the random bits of `tail`
    /// are used.
    pub(crate) fn of_outbox(ms: i64, number: i64, tail: i64) -> Self {
        let number = number as u128 & ((1 << NUMBER_BITS) - 1);
        let tail = (tail & Self::TAIL_MASK) as u128;
        EventId(ulid::Ulid((ms as u128) << (NUMBER_BITS + TAIL_BITS) | number << TAIL_BITS | tail))
    }

    /// The time part: ms since 1970.
    pub(crate) fn ms(self) -> i64 {
        self.0.timestamp_ms() as i64
    }

    /// The outbox's row number.
    pub(crate) fn outbox_number(self) -> i64 {
        (self.0.0 >> TAIL_BITS & ((1 << NUMBER_BITS) - 1)) as i64
    }

    /// The characters 11 to 18 of an outbox row's id. They sort like the numbers.
    pub(crate) fn spelled_number(number: i64) -> String {
        EventId::of_outbox(0, number, 0).to_string()[10..18].to_owned()
    }

    /// The random bits.
    pub(crate) fn tail(self) -> i64 {
        self.0.0 as i64 & Self::TAIL_MASK
    }
}

/// An event's place in the remote log, from 1; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Seq(pub i64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A row's identity within its table: its canonical key, as the text of a JSON array.
///
/// Two spellings of one key ('a' and 'A' in a NOCASE column) have the same `RowKey`.
/// docs/protocol.md (*Keys*) defines the canonical form.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey(pub String);

impl RowKey {
    /// The key's values, in the order of the table's primary key.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the text is not an array of values.
    pub fn values(&self) -> Result<Vec<Value>> {
        let mut values = Vec::new();
        RowKey::read(&self.0, &mut values)?;
        Ok(values.into_iter().map(ValueRef::into_value).collect())
    }

    /// The key's values, borrowed from its text.
    ///
    /// # Errors
    ///
    /// As for [`RowKey::values`].
    pub(crate) fn read<'a>(key: &'a str, values: &mut Vec<ValueRef<'a>>) -> Result<()> {
        values.clear();
        let mut scanner = Scanner::new(key.as_bytes());
        scanner.expect(b'[')?;
        loop {
            values.push(scanner.value_ref()?);
            if scanner.eat(b']') {
                break;
            }
            scanner.expect(b',')?;
        }
        scanner.end()
    }

    /// Whether all text in the key is UTF-8. The remote does not accept a change of a row whose key
    /// has other text: see `KEY_NOT_UTF8`.
    #[doc(hidden)]
    pub fn is_utf8(&self) -> bool {
        // Text that is not UTF-8 is spelled in hex in the key, which is rare.
        let is_utf8 = |value: &Value| !matches!(value, Value::Text(_)) || value.as_str().is_some();
        !self.0.contains("{\"t\"") || self.values().is_ok_and(|key| key.iter().all(is_utf8))
    }

    /// The error of a first sync that finds such a row.
    pub(crate) fn not_utf8(side: &str, table: &str) -> Error {
        let message =
            format!("table `{table}` of {side} has a row whose key is text that is not UTF-8");
        Error::new(Code::KeyNotUtf8, message)
            .with_hint("give the row another key there, or take it out: SELECT hex(key) shows it")
    }

    /// The key that has these values, which must be canonical already.
    pub fn from_values(values: &[Value]) -> Self {
        let mut json = vec![b'['];
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                json.push(b',');
            }
            value.write_json(&mut json);
        }
        json.push(b']');
        RowKey(String::from_utf8(json).expect("a value that is no UTF-8 is written in hex"))
    }
}

impl fmt::Display for RowKey {
    /// The key for a person: its values with commas between.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.values() {
            Ok(values) => {
                for (index, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if index > 0 { "," } else { "" })?;
                }
                Ok(())
            }
            Err(_) => f.write_str(&self.0),
        }
    }
}

impl fmt::Debug for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an event does to its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// The row was not there.
    Insert,
    /// Some of its columns changed.
    Update,
    /// The row is gone.
    Delete,
}

impl Op {
    /// Its name in the remote log.
    pub fn as_str(self) -> &'static str {
        match self {
            Op::Insert => "insert",
            Op::Update => "update",
            Op::Delete => "delete",
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Op {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "insert" => Ok(Op::Insert),
            "update" => Ok(Op::Update),
            "delete" => Ok(Op::Delete),
            _ => Err(Error::new(
                Code::EventInvalid,
                "an event's op is none of insert, update, delete",
            )),
        }
    }
}

/// Who made an event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// A replica.
    Replica(ReplicaId),
    /// The web application, or anything else that wrote plain SQL to the remote.
    Web,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Replica(replica) => replica.fmt(f),
            Origin::Web => f.pad("web"),
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Origin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "web" => Ok(Origin::Web),
            other => other.parse().map(Origin::Replica),
        }
    }
}

/// Columns and their values, in the order they were written: a whole row, or the part that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image(pub Vec<(String, Value)>);

impl Image {
    /// Reads a JSON object of values.
    ///
    /// # Errors
    ///
    /// `Corrupt` when it is not one, or a column's name is not UTF-8.
    #[doc(hidden)]
    pub fn parse(json: &[u8]) -> Result<Self> {
        let mut columns = Columns::new();
        read_columns(json, &mut columns)?;
        let owned =
            columns.into_iter().map(|(name, value)| (name.into_owned(), value.into_value()));
        Ok(Image(owned.collect()))
    }

    /// The value of a column, if the image has it.
    pub fn get(&self, column: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name == column).map(|(_, value)| value)
    }

    /// Sets each column that `other` has to the value in `other`.
    #[doc(hidden)]
    pub fn overlay(&mut self, other: &Image) {
        for (name, value) in &other.0 {
            match self.0.iter_mut().find(|(mine, _)| mine == name) {
                Some((_, mine)) => *mine = value.clone(),
                None => self.0.push((name.clone(), value.clone())),
            }
        }
    }

    /// Whether this image has every column of `other`, with the same values.
    #[doc(hidden)]
    pub fn holds(&self, other: &Image) -> bool {
        other.0.iter().all(|(name, value)| self.get(name) == Some(value))
    }

    /// Appends the JSON object.
    #[doc(hidden)]
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (index, (name, value)) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_string(name.as_bytes(), out);
            out.push(b':');
            value.write_json(out);
        }
        out.push(b'}');
    }

    /// The JSON object.
    pub fn to_json(&self) -> String {
        let mut out = Vec::new();
        self.write_json(&mut out);
        String::from_utf8(out).expect("a value that is no UTF-8 is written in hex")
    }

    /// Whether every value has a plain JSON spelling, without a tag.
    #[doc(hidden)]
    pub fn is_plain(&self) -> bool {
        !self.0.iter().any(|(_, value)| value.is_tagged())
    }
}

/// The most columns of an image: SQLite's own limit on a table's columns. JSON with more is not an
/// image. In memory, a column takes ten times its shortest JSON.
const MAX_IMAGE_COLUMNS: usize = 32_767;

/// A column of an image and its value, borrowed from the image's JSON.
pub type Column<'a> = (Cow<'a, str>, ValueRef<'a>);

/// The columns of an image, borrowed from its JSON.
pub type Columns<'a> = Vec<Column<'a>>;

/// Reads the columns of a JSON object of values into `columns`, which is cleared first.
///
/// # Errors
///
/// `Corrupt` when `json` is not such an object.
pub fn read_columns<'a>(json: &'a [u8], columns: &mut Columns<'a>) -> Result<()> {
    columns.clear();
    read_columns_like(json, 0, columns)
}

/// The same, appended to `columns`. The columns from the place `like` on are those of another
/// event. Their names are expected first, because most events of a page have the same columns as
/// the one before.
///
/// # Errors
///
/// As for [`read_columns`]. After an error, the appended columns must not be used.
pub fn read_columns_like<'a>(json: &'a [u8], like: usize, columns: &mut Columns<'a>) -> Result<()> {
    let (begin, mut place) = (columns.len(), like);
    let mut scanner = Scanner::new(json);
    scanner.expect(b'{')?;
    if !scanner.eat(b'}') {
        loop {
            let name = match columns.get(place) {
                Some((Cow::Borrowed(name), _))
                    if scanner.eat_all(&[b"\"", name.as_bytes(), b"\":"]) =>
                {
                    Cow::Borrowed(*name)
                }
                _ => read_name(&mut scanner)?,
            };
            place += 1;
            if columns.len() - begin == MAX_IMAGE_COLUMNS {
                return Err(Error::new(
                    Code::EventInvalid,
                    "an event has more columns than any table",
                ));
            }
            columns.push((name, scanner.value_ref()?));
            if scanner.eat(b'}') {
                break;
            }
            scanner.expect(b',')?;
        }
    }
    scanner.end()
}

fn read_name<'a>(scanner: &mut Scanner<'a>) -> Result<Cow<'a, str>> {
    let name = match scanner.string()? {
        Cow::Borrowed(name) => std::str::from_utf8(name).map(Cow::Borrowed).ok(),
        Cow::Owned(name) => String::from_utf8(name).map(Cow::Owned).ok(),
    };
    scanner.expect(b':')?;
    name.ok_or_else(|| Error::new(Code::EventInvalid, "a column's name in an event is not UTF-8"))
}

/// One change of one row: as it was made, and with the remote's decision about it.
///
/// * An insert has `after` alone: the whole row. A delete has `before` alone: the whole row. An
///   update has both, with the columns that changed and no others.
/// * The remote sets `seq`, `verdict` and `received_at`, and they do not change afterwards.
///
/// A flat record: each field is a column of `driftless_events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place in the remote log.
    pub seq: Seq,
    /// Its id.
    pub id: EventId,
    /// Who made it.
    pub origin: Origin,
    /// The person or program, as the application set it.
    pub actor: Option<String>,
    /// The unit. All events of a unit have the same value; a puller applies a unit as a whole.
    pub unit: Option<ulid::Ulid>,
    /// The table.
    pub table: String,
    /// The row.
    pub key: RowKey,
    /// What happened to it.
    pub op: Op,
    /// The old values.
    pub before: Option<Image>,
    /// The new values.
    pub after: Option<Image>,
    /// The newest seq that its writer had seen.
    pub base: Seq,
    /// The event whose write on the remote made this one, by a trigger or a foreign key.
    pub cause: Option<EventId>,
    /// The event whose consequence this is, by a foreign key's action on the replica.
    pub via: Option<EventId>,
    /// The other half of a key change.
    pub pair: Option<EventId>,
    /// What the remote decided.
    pub verdict: Verdict,
    /// When the remote received it: milliseconds since 1970, by the remote's clock.
    pub received_at: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01JD8ZK3V5QWERTY0123456789";

    #[test]
    fn an_id_has_the_parts_that_the_outbox_stores() {
        let mask = EventId::TAIL_MASK;
        for (ms, number, tail) in [(0, 0, 0), (1, 2, 3), ((1 << 48) - 1, mask, mask)] {
            let id = EventId::of_outbox(ms, number, tail);
            assert_eq!((id.ms(), id.outbox_number(), id.tail()), (ms, number, tail));
            assert_eq!(EventId::of_outbox(ms, number, tail | !mask), id, "the rest does not count");
        }
        let id = EventId::of_outbox(1, 2, 3).0;
        assert_eq!((id.timestamp_ms(), id.random()), (1, 2 << 40 | 3));
    }

    #[test]
    fn an_id_has_one_text() {
        let id: EventId = ID.parse().unwrap();
        let replica: ReplicaId = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ".parse().unwrap();
        assert_eq!((id.to_string(), format!("{id:?}")), (ID.to_owned(), ID.to_owned()));
        assert_eq!(replica, ReplicaId(ulid::Ulid(u128::MAX)));
        for wrong in ["8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "01JD8ZK3V5QWERTY012345678", "", "web"] {
            assert!(wrong.parse::<EventId>().is_err(), "{wrong}");
        }
        assert_eq!(format!("{:>3}", Seq(7)), "  7");
    }

    #[test]
    fn a_key_is_its_values() {
        let values =
            [Value::from("a\"b"), Value::Integer(-1), Value::Null, Value::Text(vec![0xff])];
        let key = RowKey::from_values(&values);
        assert_eq!(key.0, r#"["a\"b",-1,null,{"t":"FF"}]"#);
        assert_eq!(key.values().unwrap(), values);
        assert_eq!(key.to_string(), "a\"b,-1,NULL,\u{fffd}");
        assert_eq!(format!("{key:?}"), key.0);
        let mut borrowed = vec![ValueRef::Null];
        RowKey::read("[1]", &mut borrowed).unwrap();
        assert_eq!(borrowed.len(), 1, "what was there is forgotten");
        for wrong in ["", "[", "[]", "[1", "[1,]", "[1]x", "{}", "1"] {
            let key = RowKey(wrong.to_owned());
            assert!(key.values().is_err(), "{wrong}");
            assert_eq!(key.to_string(), wrong, "and is shown as it is");
        }
    }

    #[test]
    fn a_key_is_utf8_if_all_its_text_is() {
        let is = |values: &[Value]| RowKey::from_values(values).is_utf8();
        let (nul, wrong) = (Value::Text(vec![0]), Value::Text(vec![0xff]));
        assert!(is(&[Value::from("{\"t\"")]) && is(&[Value::Blob(vec![0xff])]));
        assert!(is(&[nul.clone(), Value::Integer(1)]), "it is in hex for its NUL");
        assert!(!is(std::slice::from_ref(&wrong)) && !is(&[nul, wrong]));
        assert!(!RowKey("[{\"t\":\"F\"}]".to_owned()).is_utf8(), "what is no key is not either");
        let error = RowKey::not_utf8("the remote", "members");
        assert!(error.message().contains("`members` of the remote"));
    }

    #[test]
    fn ops_and_origins_are_read_from_the_words_they_are_written_in() {
        for (op, word) in [(Op::Insert, "insert"), (Op::Update, "update"), (Op::Delete, "delete")] {
            assert_eq!(op.to_string(), word);
            assert_eq!(word.parse::<Op>().unwrap(), op);
        }
        assert!("replace".parse::<Op>().is_err());
        for (origin, word) in [(Origin::Web, "web"), (Origin::Replica(ID.parse().unwrap()), ID)] {
            assert_eq!((origin.to_string(), format!("{origin:?}")), (word.into(), word.into()));
            assert_eq!(word.parse::<Origin>().unwrap(), origin);
        }
        assert!("desk".parse::<Origin>().is_err());
    }

    #[test]
    fn an_image_is_its_columns() {
        let json = r#"{"a":1,"b\n":{"x":"00"},"c":null}"#;
        let image = Image::parse(json.as_bytes()).unwrap();
        assert_eq!(image.to_json(), json);
        assert_eq!(image.get("b\n"), Some(&Value::Blob(vec![0])));
        assert_eq!(image.get("b"), None);
        assert!(!image.is_plain());
        let mut other = Image::parse(br#"{"c":"x","a":1}"#).unwrap();
        assert!(other.is_plain() && !image.holds(&other) && image.holds(&Image::default()));
        other.overlay(&image);
        assert_eq!(other.to_json(), r#"{"c":null,"a":1,"b\n":{"x":"00"}}"#);
        assert!(image.holds(&other));
        assert_eq!(Image::default().to_json(), "{}");
        for wrong in ["", "{", "[]", "{\"a\"}", "{\"a\":1,}", "{\"a\":1}x", "{\"a\":1 \"b\":2}"] {
            assert!(Image::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(Image::parse(b"{\"\xff\":1}").is_err(), "a name is UTF-8");
        assert!(Image::parse(b"{\"\\n\xff\":1}").is_err(), "with escapes as well");
    }

    #[test]
    fn the_names_of_the_event_before_are_only_a_guess() {
        let mut columns = Columns::new();
        read_columns(br#"{"a":1,"bb":2,"c\n":3}"#, &mut columns).unwrap();
        let names = |columns: &Columns<'_>, from: usize| -> Vec<String> {
            columns[from..].iter().map(|(name, _)| name.to_string()).collect()
        };
        let same = br#"{"a":4,"bb":5,"c\n":6,"d":7}"#;
        read_columns_like(same, 0, &mut columns).unwrap();
        assert_eq!(names(&columns, 3), ["a", "bb", "c\n", "d"]);
        read_columns_like(br#"{"b":1,"a":2}"#, 3, &mut columns).unwrap();
        assert_eq!(names(&columns, 7), ["b", "a"]);
        read_columns(br#"{"z":1}"#, &mut columns).unwrap();
        assert_eq!(names(&columns, 0), ["z"]);
    }

    #[test]
    fn an_image_has_no_more_columns_than_a_table() {
        let json = |count: usize| {
            let columns = (0..count).map(|_| "\"\":0").collect::<Vec<_>>().join(",");
            format!("{{{columns}}}")
        };
        let (most, more) = (json(MAX_IMAGE_COLUMNS), json(MAX_IMAGE_COLUMNS + 1));
        let mut columns = Columns::new();
        read_columns(br#"{"a":1}"#, &mut columns).unwrap();
        read_columns_like(most.as_bytes(), 0, &mut columns).unwrap();
        assert_eq!(columns.len(), MAX_IMAGE_COLUMNS + 1);
        assert!(read_columns(more.as_bytes(), &mut columns).is_err());
    }
}
