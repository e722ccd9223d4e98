//! A settled event in its canonical binary form: the sealed frame of the local log.
//!
//! A frame is a [`Sealed`] header and the event's values, each a version byte and `bincode`. The
//! same event gives the same bytes on every replica. The frames are chained:
//!
//! ```text
//! hash = H(previous hash ‖ header)        the header holds H(values)
//! ```
//!
//! The values enter the chain only by their own hash. So a person's data can be erased from a log
//! on request: the values' bytes are deleted, their hash stays, and the chain is still valid. H is
//! BLAKE3.
//!
//! Only this file knows `bincode`, which its authors no longer maintain. The version byte allows
//! another encoding later.
//!
//! # Caveats
//!
//! The chain proves that nobody has changed the log afterwards, except somebody who can rewrite the
//! whole file and make a new chain. `driftless_replicas.chain` on the remote is meant for the head
//! of a replica's chain, so that others witness it. Nothing writes that column yet.

use bincode::de::BorrowDecoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode, Encode, config};

use super::page::Line;
use super::value::{Value, ValueRef};
use super::verdict::Verdict;
use super::{Column, Columns, Event, EventId, Image, Op, Origin, ReplicaId, RowKey, Seq};
use crate::error::{Code, Error, Result};

/// The version of the form that this program writes.
pub const VERSION: u8 = 1;

/// A hash of the chain.
pub type Hash = [u8; 32];

/// The hash before the first frame.
pub const GENESIS: Hash = [0; 32];

/// A frame: what the local log stores of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The header's bytes.
    pub header: Vec<u8>,
    /// The values' bytes; `None` if they were erased.
    pub values: Option<Vec<u8>>,
}

/// The header of a frame. A flat record: bincode writes these fields in this order.
#[derive(Encode, BorrowDecode)]
struct Header<'a> {
    seq: i64,
    id: u128,
    origin: Option<u128>,
    actor: Option<&'a str>,
    unit: Option<u128>,
    table: &'a str,
    key: &'a str,
    op: u8,
    base: i64,
    cause: Option<u128>,
    via: Option<u128>,
    pair: Option<u128>,
    verdict: u8,
    reason: Option<&'a str>,
    received_at: i64,
    values: Hash,
}

#[derive(Encode, BorrowDecode)]
enum Cell<'a> {
    Null,
    Integer(i64),
    Real(u64),
    Text(&'a [u8]),
    Blob(&'a [u8]),
}

/// The columns of an image. They are decoded one by one: bincode would allocate memory for the
/// number of columns that a damaged frame claims to have, which may be a gigabyte.
struct Cells<'a>(Vec<(&'a str, Cell<'a>)>);

impl<'de, Context> BorrowDecode<'de, Context> for Cells<'de> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Context>>(
        decoder: &mut D,
    ) -> std::result::Result<Self, DecodeError> {
        let count = u64::borrow_decode(decoder)?;
        let mut cells = Vec::new();
        // Each column takes at least two bytes, so the bytes run out long before the memory does.
        for _ in 0..count {
            cells.push(BorrowDecode::borrow_decode(decoder)?);
        }
        Ok(Cells(cells))
    }
}

/// The columns of both images.
type Images<'a> = (Option<Cells<'a>>, Option<Cells<'a>>);

/// Borrowed columns. Their encoding is the same as that of a `Vec` of names and [`Cell`]s.
struct Borrowed<'x, 'a>(&'x [Column<'a>]);

impl Encode for Borrowed<'_, '_> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> std::result::Result<(), EncodeError> {
        (self.0.len() as u64).encode(encoder)?;
        for (name, value) in self.0 {
            let cell = match value {
                ValueRef::Null => Cell::Null,
                ValueRef::Integer(integer) => Cell::Integer(*integer),
                ValueRef::Real(real) => Cell::Real(real.to_bits()),
                ValueRef::Text(text) => Cell::Text(text),
                ValueRef::Blob(blob) => Cell::Blob(blob),
            };
            (&**name, cell).encode(encoder)?;
        }
        Ok(())
    }
}

fn image(columns: Option<Cells<'_>>) -> Option<Image> {
    let value = |cell: Cell<'_>| match cell {
        Cell::Null => Value::Null,
        Cell::Integer(integer) => Value::Integer(integer),
        Cell::Real(bits) => Value::Real(f64::from_bits(bits)),
        Cell::Text(text) => Value::Text(text.to_vec()),
        Cell::Blob(blob) => Value::Blob(blob.to_vec()),
    };
    columns.map(|Cells(columns)| {
        Image(columns.into_iter().map(|(name, cell)| (name.to_owned(), value(cell))).collect())
    })
}

fn columns(image: &Image) -> Columns<'_> {
    image.0.iter().map(|(name, value)| (name.as_str().into(), value.into())).collect()
}

/// Appends the form of `content`.
fn encode(content: impl Encode, bytes: &mut Vec<u8>) {
    bytes.push(VERSION);
    bincode::encode_into_std_write(content, bytes, config::standard())
        .expect("writing to memory cannot fail");
}

fn decode<'a, T: BorrowDecode<'a, ()>>(bytes: &'a [u8], what: &str, seq: Seq) -> Result<T> {
    let damaged = || {
        Error::new(
            Code::LogDamaged,
            format!("the {what} of event {seq} in the local log is damaged"),
        )
        .with_hint("the tables are not affected; make a new replica to get the whole log")
    };
    let (&version, rest) = bytes.split_first().ok_or_else(damaged)?;
    if version != VERSION {
        let message = format!(
            "event {seq} is sealed in format {version}, which this program does \
            not know"
        );
        return Err(Error::new(Code::LogNewer, message));
    }
    match bincode::borrow_decode_from_slice(rest, config::standard()) {
        Ok((content, used)) if used == rest.len() => Ok(content),
        _ => Err(damaged()),
    }
}

/// Seals an event.
pub fn seal(event: &Event) -> Sealed {
    let (before, after) = (event.before.as_ref().map(columns), event.after.as_ref().map(columns));
    let mut sealed = Sealed { header: Vec::new(), values: None };
    let mut values = Vec::new();
    encode((before.as_deref().map(Borrowed), after.as_deref().map(Borrowed)), &mut values);
    let header = Header {
        seq: event.seq.0,
        id: event.id.0.0,
        origin: origin(event.origin),
        actor: event.actor.as_deref(),
        unit: event.unit.map(|unit| unit.0),
        table: &event.table,
        key: &event.key.0,
        op: event.op as u8,
        base: event.base.0,
        cause: event.cause.map(|id| id.0.0),
        via: event.via.map(|id| id.0.0),
        pair: event.pair.map(|id| id.0.0),
        verdict: verdict(&event.verdict),
        reason: event.verdict.reason(),
        received_at: event.received_at,
        values: *blake3::hash(&values).as_bytes(),
    };
    encode(header, &mut sealed.header);
    sealed.values = Some(values);
    sealed
}

/// Seals the event of a page's line, with the same result as [`seal`]. Appends the values and then
/// the header to `out`, and returns the header's place there. `before` and `after` are the line's
/// images.
pub fn seal_line(
    line: &Line<'_>,
    before: Option<&[Column<'_>]>,
    after: Option<&[Column<'_>]>,
    out: &mut Vec<u8>,
) -> usize {
    let start = out.len();
    encode((before.map(Borrowed), after.map(Borrowed)), out);
    let place = out.len();
    let header = Header {
        seq: line.seq.0,
        id: line.id.0.0,
        origin: origin(line.origin),
        actor: line.actor.as_deref(),
        unit: line.unit.map(|unit| unit.0),
        table: &line.table,
        key: line.key,
        op: line.op as u8,
        base: line.base.0,
        cause: line.cause.map(|id| id.0.0),
        via: line.via.map(|id| id.0.0),
        pair: line.pair.map(|id| id.0.0),
        verdict: verdict(&line.verdict),
        reason: line.verdict.reason(),
        received_at: line.received_at,
        values: *blake3::hash(&out[start..]).as_bytes(),
    };
    encode(header, out);
    place
}

fn origin(origin: Origin) -> Option<u128> {
    match origin {
        Origin::Replica(replica) => Some(replica.0.0),
        Origin::Web => None,
    }
}

fn verdict(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Applied => 0,
        Verdict::Superseded(_) => 1,
        Verdict::Rejected(_) => 2,
    }
}

/// The hash of a frame after the frame with the hash `previous`.
pub fn chain(previous: &Hash, sealed: &Sealed) -> Hash {
    chain_header(previous, &sealed.header)
}

/// The same, from the frame's header alone. The hash depends on nothing else.
pub fn chain_header(previous: &Hash, header: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous);
    hasher.update(header);
    *hasher.finalize().as_bytes()
}

/// Opens a frame. `seq` is its place in the log, for the message of an error.
///
/// An event whose values were erased comes back without images.
///
/// # Errors
///
/// `Corrupt` when the bytes are not a frame of `seq`, when the values are not those that the header
/// names, or when the version is newer than this program.
pub fn open(sealed: &Sealed, seq: Seq) -> Result<Event> {
    let damaged = |what: &str| {
        Error::new(Code::LogDamaged, format!("event {seq} in the local log is damaged: {what}"))
    };
    let header: Header = decode(&sealed.header, "header", seq)?;
    if header.seq != seq.0 {
        return Err(damaged("it says that it is another one"));
    }
    let (before, after): Images<'_> = match &sealed.values {
        None => (None, None),
        Some(values) if *blake3::hash(values).as_bytes() == header.values => {
            decode(values, "values", seq)?
        }
        Some(_) => return Err(damaged("its values do not match their hash")),
    };
    let id = |id: u128| EventId(ulid::Ulid(id));
    Ok(Event {
        seq,
        id: id(header.id),
        origin: match header.origin {
            Some(replica) => Origin::Replica(ReplicaId(ulid::Ulid(replica))),
            None => Origin::Web,
        },
        actor: header.actor.map(str::to_owned),
        unit: header.unit.map(ulid::Ulid),
        table: header.table.to_owned(),
        key: RowKey(header.key.to_owned()),
        op: match header.op {
            0 => Op::Insert,
            1 => Op::Update,
            2 => Op::Delete,
            _ => return Err(damaged("its op is unknown")),
        },
        before: image(before),
        after: image(after),
        base: Seq(header.base),
        cause: header.cause.map(id),
        via: header.via.map(id),
        pair: header.pair.map(id),
        verdict: match header.verdict {
            0 => Verdict::Applied,
            1 => Verdict::Superseded(header.reason.unwrap_or_default().to_owned()),
            2 => Verdict::Rejected(header.reason.unwrap_or_default().to_owned()),
            _ => return Err(damaged("its verdict is unknown")),
        },
        received_at: header.received_at,
    })
}

/// The part of a header that is enough to decide whether its event is searched for. It borrows from
/// the header's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance<'a> {
    /// The event's id.
    pub id: EventId,
    /// Its table.
    pub table: &'a str,
    /// Its row's canonical key.
    pub key: &'a str,
    /// Whether it has taken effect.
    pub is_applied: bool,
    /// When the remote took it in: ms since 1970.
    pub received_at: i64,
}

/// Reads a header without its values. `seq` is where it stands in the log.
///
/// # Errors
///
/// As for [`open`].
pub fn glance(header: &[u8], seq: Seq) -> Result<Glance<'_>> {
    let header: Header<'_> = decode(header, "header", seq)?;
    Ok(Glance {
        id: EventId(ulid::Ulid(header.id)),
        table: header.table,
        key: header.key,
        is_applied: header.verdict == 0,
        received_at: header.received_at,
    })
}

/// The part of an event that the remote's log must have as well, on one line: seq, id, origin, op,
/// base, verdict, table and key, with spaces between. It is made from the frame's header alone.
///
/// # Errors
///
/// As for [`open`].
pub fn outline(header: &[u8], seq: Seq) -> Result<String> {
    let event = open(&Sealed { header: header.to_vec(), values: None }, seq)?;
    let Event { id, origin, op, base, verdict, table, key, .. } = event;
    Ok(format!("{seq} {id} {origin} {op} {base} {} {table} {}", verdict.as_str(), key.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let row = vec![
            ("id".to_owned(), Value::from("k1")),
            ("weight".to_owned(), Value::Real(70.1)),
            ("photo".to_owned(), Value::Blob(vec![1, 2, 3])),
        ];
        Event {
            seq: Seq(7),
            id: EventId(ulid::Ulid(42)),
            origin: Origin::Web,
            actor: Some("maria".to_owned()),
            unit: None,
            table: "members".to_owned(),
            key: RowKey::from_values(&[Value::from("k1")]),
            op: Op::Insert,
            before: None,
            after: Some(Image(row)),
            base: Seq(3),
            cause: None,
            via: None,
            pair: Some(EventId(ulid::Ulid(41))),
            verdict: Verdict::Rejected("unique".to_owned()),
            received_at: 1_700_000_000_000,
        }
    }

    #[test]
    fn a_frame_opens_to_the_event_that_was_sealed() {
        let event = event();
        let sealed = seal(&event);
        assert_eq!(open(&sealed, Seq(7)).unwrap(), event);
        assert_eq!(seal(&event), sealed);
    }

    #[test]
    fn a_line_is_sealed_as_its_event_is() {
        let line = r#"[7,"01JD8ZK3V5QWERTY0123456789","web","maria",null,"t",["k",1],"update",{"x":1,"y\n":null},{"x":{"r":"0.5"},"y\n":{"x":"00FF"}},3,null,null,null,"rejected","unique",17]"#;
        let page = crate::event::page::Page {
            bytes: line.as_bytes().to_vec(),
            last: Seq(7),
            count: 1,
            more: false,
        };
        let line = page.lines().unwrap().remove(0);
        let (mut before, mut after) = (Columns::new(), Columns::new());
        crate::event::read_columns(line.before.unwrap(), &mut before).unwrap();
        crate::event::read_columns(line.after.unwrap(), &mut after).unwrap();
        let mut bytes = b"before".to_vec();
        let place = seal_line(&line, Some(&before), Some(&after), &mut bytes);
        let sealed =
            Sealed { header: bytes[place..].to_vec(), values: Some(bytes[6..place].to_vec()) };
        let event = line.event().unwrap();
        assert_eq!(sealed, seal(&event));
        assert_eq!(open(&sealed, Seq(7)).unwrap(), event);
    }

    #[test]
    fn erased_values_leave_the_chain_whole() {
        let sealed = seal(&event());
        let erased = Sealed { values: None, ..sealed.clone() };
        assert_eq!(chain(&GENESIS, &sealed), chain(&GENESIS, &erased));
        assert_eq!(open(&erased, Seq(7)).unwrap().after, None);
    }

    #[test]
    fn damage_is_noticed_wherever_it_is() {
        let sealed = seal(&event());
        assert!(open(&sealed, Seq(8)).is_err());
        let values = sealed.values.clone().unwrap();
        for at in 0..values.len() {
            let mut damaged = values.clone();
            damaged[at] ^= 1;
            let damaged = Sealed { values: Some(damaged), ..sealed.clone() };
            assert!(open(&damaged, Seq(7)).is_err());
        }
        for at in 0..sealed.header.len() {
            let mut header = sealed.header.clone();
            header[at] ^= 1;
            let damaged = Sealed { header, ..sealed.clone() };
            assert_ne!(chain(&GENESIS, &damaged), chain(&GENESIS, &sealed));
        }
    }

    #[test]
    fn every_op_writer_and_verdict_comes_back() {
        let writer = Origin::Replica(ReplicaId(ulid::Ulid(9)));
        let (lost, refused) = (Verdict::Superseded("via".into()), Verdict::Rejected("x".into()));
        for (op, origin, verdict) in [
            (Op::Insert, Origin::Web, Verdict::Applied),
            (Op::Update, writer, lost),
            (Op::Delete, writer, refused),
        ] {
            let event = Event { op, origin, verdict, ..event() };
            assert_eq!(open(&seal(&event), Seq(7)).unwrap(), event);
        }
    }

    #[test]
    fn what_follows_a_frame_is_damage_and_a_newer_form_is_not_guessed_at() {
        let sealed = seal(&event());
        let mut longer = sealed.clone();
        longer.header.push(0);
        assert_eq!(open(&longer, Seq(7)).unwrap_err().code(), Code::LogDamaged);
        let mut newer = sealed;
        newer.header[0] = VERSION + 1;
        assert_eq!(open(&newer, Seq(7)).unwrap_err().code(), Code::LogNewer);
        newer.header.clear();
        assert_eq!(open(&newer, Seq(7)).unwrap_err().code(), Code::LogDamaged);
    }
}
