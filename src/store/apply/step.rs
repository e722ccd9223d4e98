//! An attempt at a page: how thorough it is, why it ended, and what it did.

use std::collections::HashMap;

use rusqlite::Connection;

use crate::error::{Code, Error, Result};
use crate::event::frame::Hash;
use crate::event::{Change, Image, Seq};
use crate::store::schema::install::forget_before_images;

/// What a page did here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Integrated {
    /// The rows that were written, in the order of the log.
    pub changes: Vec<Change>,
    /// Events in the page.
    pub pulled: usize,
    /// This replica's own events in it, by their verdict.
    pub settled_applied: usize,
    /// See `settled_applied`.
    pub settled_superseded: usize,
    /// See `settled_applied`.
    pub settled_rejected: usize,
    /// Own events that are new in the conflict inbox.
    pub conflicts: usize,
    /// Conflicts that were open, and whose effect the page has brought.
    pub moot: usize,
    /// Events that went into quarantine.
    pub quarantined: usize,
    /// Pending events that are off their rows, for they have probably lost.
    pub set_aside: usize,
    /// The cursor after the page.
    pub cursor: Seq,
}

impl Integrated {
    /// This replica's own events in the page.
    pub fn settled(&self) -> usize {
        self.settled_applied + self.settled_superseded + self.settled_rejected
    }
}

/// How thoroughly a page is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Strategy {
    /// Only the page's own rows are rebased, in place.
    InPlace,
    /// All pending events of the page's tables come off first.
    TableWide,
    /// The same, and each row of the page is written once, with its final image.
    Folded,
}

/// Why an attempt at a page ended.
#[derive(Debug)]
pub(in crate::store) enum Stop {
    /// Another row has a value or a rowid that a write wanted.
    UniqueViolation,
    /// Another constraint refused a write.
    Refused,
    /// The definitions changed before the transaction began, or the outbox got events that are to
    /// be put in their order first.
    SchemaChanged,
    /// A trigger of the application rolled the transaction back.
    RolledBack,
    /// Something else.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Failed(error)
    }
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Stop::Failed(error.into())
    }
}

/// A step of an attempt.
pub(in crate::store) type Step<T = ()> = std::result::Result<T, Stop>;

/// The state row, as a page finds it.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Start {
    pub(in crate::store) cursor: Seq,
    pub(in crate::store) chain: Hash,
    /// The outbox's newest number.
    pub(in crate::store) newest: i64,
}

/// Marks the transaction as a replay, so that capture is silent in it.
pub(in crate::store) fn begin(db: &Connection) -> Result<Start> {
    forget_before_images(db)?;
    db.prepare_cached("UPDATE driftless_state SET replaying = 1")?.execute([])?;
    let mut statement = db.prepare_cached(
        "SELECT cursor, chain, (SELECT coalesce(max(n), 0) FROM driftless_outbox)
         FROM driftless_state",
    )?;
    let (cursor, chain, newest) =
        statement.query_row([], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?, row.get(2)?)))?;
    Ok(Start { cursor: Seq(cursor), chain: hash(chain)?, newest })
}

pub(in crate::store) fn hash(bytes: Vec<u8>) -> Result<Hash> {
    let message = "the local log's chain has a head that is no hash";
    bytes.try_into().map_err(|_| Error::new(Code::LogDamaged, message))
}

/// Base rows that come out of quarantine, each by the event that it waited with: see
/// [`hold_in_front`](crate::store::quarantine::hold_in_front).
pub(in crate::store) type HeldRows = HashMap<Seq, Image>;
