//! The remote's identity, and SQL that several statements share.

use super::exchange::Rows;
use super::incarnation::Place;
use super::statement::{Statement, text};
use crate::error::{Code, Error, Result};
use crate::event::page::MAX_SEQ;
use crate::event::value::Value;
use crate::event::{ReplicaId, Seq};

/// The version of `schema/remote`, in `driftless_meta`.
pub const SCHEMA_VERSION: i64 = 2;

/// The remote's time, in ms since 1970.
pub(crate) const NOW_MS: &str = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)";

/// The replica that asks, and its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The replica.
    pub replica: ReplicaId,
    /// The newest place in the log that it knows.
    pub place: Place,
}

/// The remote's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The epoch: a random text that is different for each database.
    pub epoch: String,
    /// The version of our schema there.
    pub version: i64,
    /// The oldest seq that is kept.
    pub oldest: Seq,
    /// The id of the event at the asker's place, if there is one.
    pub there: Option<String>,
    /// The asker's incarnation, if there is one.
    pub incarnation: Option<String>,
    /// The version of the whole schema, if [`meta`] asked for it.
    pub cookie: Option<i64>,
}

/// Reads [`Meta`] without the fields about an asker.
pub const META: &str = "SELECT epoch, version, oldest FROM driftless_meta WHERE one = 1";

/// Reads the log's newest seq, 0 for an empty log.
pub const HEAD: &str = "SELECT coalesce(max(seq), 0) FROM driftless_events";

pub(crate) fn wrong(what: &str) -> Error {
    Error::new(Code::AnswerInvalid, format!("the remote's answer is not valid: {what}"))
}

/// SQL condition: this is the right database, and its log has the place.
pub(crate) fn guard(epoch: &str, place: Place) -> Statement {
    let mut args = vec![epoch.into()];
    let log = match place {
        Place { seq: Seq(0), .. } => String::new(),
        Place { seq, id } => {
            args.extend([seq.0.into(), seq.0.into()]);
            args.extend(id.map(text));
            let id = if id.is_some() { " AND id = ?" } else { "" };
            format!(
                " AND (oldest > ? OR EXISTS (SELECT 1 FROM driftless_events WHERE seq = ?{id}))"
            )
        }
    };
    let sql = format!(
        "EXISTS (SELECT 1 FROM driftless_meta WHERE epoch = ? AND version = {SCHEMA_VERSION}{log})"
    );
    Statement::new(sql, args)
}

/// A list of `count` parameters.
pub(crate) fn parameters(count: usize) -> String {
    vec!["?"; count].join(", ")
}

/// The statement for [`Meta`], for a replica.
pub fn meta(asker: Asker) -> Statement {
    let sql = "SELECT epoch, version, oldest, (SELECT id FROM driftless_events WHERE seq = ?), \
         (SELECT mark FROM driftless_replicas WHERE name = ?), \
         (SELECT schema_version FROM pragma_schema_version) \
         FROM driftless_meta WHERE one = 1";
    Statement::new(sql, [asker.place.seq.0.into(), text(asker.replica)])
}

/// Whether a text can be an epoch that driftless made. An epoch is shown to people.
fn is_epoch(text: &str) -> bool {
    (1..=MAX_EPOCH_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Reads the row of [`META`] or [`meta`].
///
/// # Errors
/// `Corrupt` when `rows` is not that row.
/// `Corrupt` when it is not one.
pub fn read_meta(rows: &Rows) -> Result<Option<Meta>> {
    let Some(row) = rows.first() else { return Ok(None) };
    let (identity, asked) = row.split_at_checked(3).ok_or_else(|| wrong("its identity"))?;
    let text = |index| asked.get(index).and_then(Value::as_str).map(str::to_owned);
    match (identity[0].as_str(), identity[1].as_integer(), identity[2].as_integer()) {
        (Some(epoch), Some(version), Some(oldest)) if is_epoch(epoch) => {
            let (epoch, oldest) = (epoch.to_owned(), Seq(oldest));
            let cookie = asked.get(2).and_then(Value::as_integer);
            Ok(Some(Meta { epoch, version, oldest, there: text(0), incarnation: text(1), cookie }))
        }
        _ => Err(wrong("its identity")),
    }
}

/// Reads the row of [`HEAD`].
///
/// # Errors
///
/// `Corrupt` when `rows` is not that row.
pub fn read_head(rows: &Rows) -> Result<Seq> {
    let seq = rows.first().and_then(|row| row.first()).and_then(Value::as_integer).map(Seq);
    let is_one = |seq: &Seq| (Seq(0)..=MAX_SEQ).contains(seq);
    seq.filter(is_one).ok_or_else(|| wrong("its newest event"))
}

/// A count or a limit, to be bound.
pub(crate) fn number(count: usize) -> Value {
    Value::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

/// The most bytes of an epoch, which is shown to people. A ULID has 26 bytes.
pub(super) const MAX_EPOCH_BYTES: usize = 64;
