//! A settled event in its canonical binary form: the sealed frame of the local log.
//!
//! A frame is a [`Sealed`] header and the event's values, each a version byte and `bincode`. The
//! same event gives the same bytes on every replica. The frames are chained:
//!
//! ```text
//! hash = H(previous hash ‖ header)        the header holds H(values)
//! ```
//!
//! The values enter by their own hash, so that a person's data can be erased from a log on request
//! (the values' bytes go, their hash stays) and the chain still holds. H is BLAKE3.
//!
//! This is the only file that knows `bincode`, whose authors have ended it: the version byte is the
//! way out.
//!
//! # Caveats
//!
//! The chain proves that a log was not changed after the fact by someone who cannot rewrite all of
//! it. Whoever can rewrite the whole file can make a new chain; that is why replicas leave their
//! chain's head with the remote.

use bincode::{Decode, Encode, config};

use crate::error::{Error, Result};
use crate::event::{Event, EventId, Image, Op, Origin, ReplicaId, RowKey, Seq};
use crate::value::Value;
use crate::verdict::Verdict;

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
    /// The values' bytes; `None` where they were erased.
    pub values: Option<Vec<u8>>,
}

#[derive(Encode, Decode)]
struct Header {
    seq: i64,
    id: u128,
    origin: Option<u128>,
    actor: Option<String>,
    unit: Option<u128>,
    table: String,
    key: String,
    op: u8,
    base: i64,
    cause: Option<u128>,
    via: Option<u128>,
    pair: Option<u128>,
    verdict: u8,
    reason: Option<String>,
    received_at: i64,
    values: Hash,
}

#[derive(Encode, Decode)]
enum Cell {
    Null,
    Integer(i64),
    Real(u64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

type Columns = Option<Vec<(String, Cell)>>;

fn cells(image: Option<&Image>) -> Columns {
    let cell = |value: &Value| match value {
        Value::Null => Cell::Null,
        Value::Integer(integer) => Cell::Integer(*integer),
        Value::Real(real) => Cell::Real(real.to_bits()),
        Value::Text(text) => Cell::Text(text.clone()),
        Value::Blob(blob) => Cell::Blob(blob.clone()),
    };
    image.map(|image| image.0.iter().map(|(name, value)| (name.clone(), cell(value))).collect())
}

fn image(columns: Columns) -> Option<Image> {
    let value = |cell| match cell {
        Cell::Null => Value::Null,
        Cell::Integer(integer) => Value::Integer(integer),
        Cell::Real(bits) => Value::Real(f64::from_bits(bits)),
        Cell::Text(text) => Value::Text(text),
        Cell::Blob(blob) => Value::Blob(blob),
    };
    columns
        .map(|columns| Image(columns.into_iter().map(|(name, cell)| (name, value(cell))).collect()))
}

fn encode(content: impl Encode) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bincode::encode_into_std_write(content, &mut bytes, config::standard())
        .expect("writing to memory cannot fail");
    bytes
}

fn decode<T: Decode<()>>(bytes: &[u8], what: &str, seq: Seq) -> Result<T> {
    let damaged = || {
        Error::corrupt(format!("the {what} of event {seq} in the local log is damaged"))
            .with_hint("`driftless verify --repair` fetches it from the remote again")
    };
    let (&version, rest) = bytes.split_first().ok_or_else(damaged)?;
    if version != VERSION {
        let message = format!("event {seq} is sealed in form {version}, which is not known here");
        return Err(
            Error::corrupt(message).with_hint("a newer driftless wrote it: update this one")
        );
    }
    let limit = config::standard().with_limit::<{ 1 << 30 }>();
    match bincode::decode_from_slice(rest, limit) {
        Ok((content, used)) if used == rest.len() => Ok(content),
        _ => Err(damaged()),
    }
}

/// Seals an event.
pub fn seal(event: &Event) -> Sealed {
    let values = encode((cells(event.before.as_ref()), cells(event.after.as_ref())));
    let ulid = |id: &EventId| id.0.0;
    let header = encode(Header {
        seq: event.seq.0,
        id: event.id.0.0,
        origin: match event.origin {
            Origin::Replica(replica) => Some(replica.0.0),
            Origin::Web => None,
        },
        actor: event.actor.clone(),
        unit: event.unit.map(|unit| unit.0),
        table: event.table.clone(),
        key: event.key.0.clone(),
        op: event.op as u8,
        base: event.base.0,
        cause: event.cause.as_ref().map(ulid),
        via: event.via.as_ref().map(ulid),
        pair: event.pair.as_ref().map(ulid),
        verdict: match event.verdict {
            Verdict::Applied => 0,
            Verdict::Superseded(_) => 1,
            Verdict::Rejected(_) => 2,
        },
        reason: event.verdict.reason().map(str::to_owned),
        received_at: event.received_at,
        values: *blake3::hash(&values).as_bytes(),
    });
    Sealed { header, values: Some(values) }
}

/// The hash of a frame whose predecessor's is `previous`.
pub fn chain(previous: &Hash, sealed: &Sealed) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous);
    hasher.update(&sealed.header);
    *hasher.finalize().as_bytes()
}

/// Opens a frame. `seq` is where it stands in the log, for the error's sake.
///
/// An event whose values were erased comes back without images.
///
/// # Errors
///
/// `Corrupt` when the bytes are not a frame of `seq`, when the values are not those that the header
/// names, or when the version is newer than this program.
pub fn open(sealed: &Sealed, seq: Seq) -> Result<Event> {
    let damaged =
        |what: &str| Error::corrupt(format!("event {seq} in the local log is damaged: {what}"));
    let header: Header = decode(&sealed.header, "header", seq)?;
    if header.seq != seq.0 {
        return Err(damaged("it says that it is another one"));
    }
    let (before, after): (Columns, Columns) = match &sealed.values {
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
        actor: header.actor,
        unit: header.unit.map(ulid::Ulid),
        table: header.table,
        key: RowKey(header.key),
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
            1 => Verdict::Superseded(header.reason.unwrap_or_default()),
            2 => Verdict::Rejected(header.reason.unwrap_or_default()),
            _ => return Err(damaged("its verdict is unknown")),
        },
        received_at: header.received_at,
    })
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
}
