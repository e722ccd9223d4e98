//! An attempt at a page: its strategy, the reason why it ended, and its result.

use std::collections::HashMap;

use rusqlite::Connection;

use crate::catalog::Table;
use crate::error::{Code, Error, Result};
use crate::event::frame::Hash;
use crate::event::page::Line;
use crate::event::{Change, Image, Seq};
use crate::store::Store;
use crate::store::rows::refusal::{is_refusal, is_unique_violation};
use crate::store::schema::install::forget_before_images;

/// The result of a page.
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
    /// Own events that were added to the conflict inbox.
    pub conflicts: usize,
    /// Open conflicts whose effect the page has brought.
    pub moot: usize,
    /// Events that went into quarantine.
    pub quarantined: usize,
    /// Pending events that were taken off their rows because they have probably lost.
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

/// The strategy with which a page is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Strategy {
    /// Only the page's own rows are rebased, in place.
    InPlace,
    /// All pending events of the page's tables are undone first.
    TableWide,
    /// All pending events of the page's tables are undone first, and each row of the page is
    /// written once, with its final image.
    Folded,
}

/// The reason why an attempt at a page ended.
#[derive(Debug)]
pub(in crate::store) enum Stop {
    /// Another row has a UNIQUE value or a rowid of a written row.
    UniqueViolation,
    /// Another constraint refused a write.
    Refused,
    /// The definitions changed before the transaction began, or the outbox got events that must be
    /// put in order first.
    SchemaChanged,
    /// A trigger of the application rolled the transaction back.
    RolledBack,
    /// Another error.
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

/// The state row at the beginning of a page.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Start {
    cursor: Seq,
    chain: Hash,
    newest: i64,
}

impl Start {
    pub(in crate::store) fn cursor(&self) -> Seq {
        self.cursor
    }

    /// The head of the local log's chain.
    pub(in crate::store) fn chain(&self) -> Hash {
        self.chain
    }

    /// The outbox's newest number.
    pub(in crate::store) fn newest(&self) -> i64 {
        self.newest
    }

    /// The same with a chain that has grown since.
    pub(in crate::store) fn with_chain(self, chain: Hash) -> Start {
        Start { chain, ..self }
    }
}

/// What an attempt has to do. It stays the same until the attempt ends.
#[derive(Clone, Copy)]
pub(in crate::store) struct Task<'s, 'p> {
    store: &'s Store,
    lines: &'s [Line<'p>],
    strategy: Strategy,
    start: Start,
    /// The log goes on behind the page.
    more: bool,
    /// The events are in the log already, and come out of quarantine.
    again: bool,
    /// What the events up to here did is in the rows already: they only settle the outbox.
    adopted: Seq,
    /// All pending events come off, not only those of the page's tables.
    everything: bool,
}

impl<'s, 'p> Task<'s, 'p> {
    pub(in crate::store) fn new(
        store: &'s Store,
        lines: &'s [Line<'p>],
        strategy: Strategy,
        start: Start,
    ) -> Self {
        let (more, again, adopted, everything) = (false, false, Seq(0), false);
        Task { store, lines, strategy, start, more, again, adopted, everything }
    }

    /// For a page behind which the log goes on, or not.
    pub(in crate::store) fn with_more(self, more: bool) -> Self {
        Task { more, ..self }
    }

    /// For events that are in the log already: they are not sealed again.
    pub(in crate::store) fn again(self) -> Self {
        Task { again: true, ..self }
    }

    /// For events of which those up to `adopted` are in the rows already.
    pub(in crate::store) fn adopted(self, adopted: Seq) -> Self {
        Task { adopted, ..self }
    }

    /// For a rebase of all rows that have pending events.
    pub(in crate::store) fn of_everything(self) -> Self {
        Task { everything: true, ..self }
    }

    pub(in crate::store) fn store(&self) -> &'s Store {
        self.store
    }

    pub(in crate::store) fn db(&self) -> &'s Connection {
        &self.store.db
    }

    pub(in crate::store) fn lines(&self) -> &'s [Line<'p>] {
        self.lines
    }

    pub(in crate::store) fn is_folded(&self) -> bool {
        self.strategy == Strategy::Folded
    }

    pub(in crate::store) fn is_in_place(&self) -> bool {
        self.strategy == Strategy::InPlace
    }

    pub(in crate::store) fn start(&self) -> Start {
        self.start
    }

    /// Whether the log goes on behind the page.
    pub(in crate::store) fn has_more(&self) -> bool {
        self.more
    }

    /// Whether the events are in the log already.
    pub(in crate::store) fn is_again(&self) -> bool {
        self.again
    }

    /// Whether what the event did is in the rows already.
    pub(in crate::store) fn has_adopted(&self, line: &Line<'_>) -> bool {
        line.seq <= self.adopted
    }

    /// Whether all pending events come off.
    pub(in crate::store) fn is_of_everything(&self) -> bool {
        self.everything
    }

    /// The definition of a replicated table.
    pub(in crate::store) fn table(&self, table: usize) -> &'s Table {
        &self.store.tables[table].table
    }

    /// Whether a replicated table can be written here.
    pub(in crate::store) fn is_writable(&self, table: usize) -> bool {
        self.store.tables[table].unwritable.is_none()
    }

    /// Turns the outcome of a write into a reason to stop, if it is one.
    pub(in crate::store) fn check(&self, written: rusqlite::Result<usize>) -> Step<usize> {
        written.map_err(|error| match () {
            () if self.db().is_autocommit() => Stop::RolledBack,
            () if is_unique_violation(&error) => Stop::UniqueViolation,
            () if is_refusal(&error) => Stop::Refused,
            () => Stop::Failed(error.into()),
        })
    }
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
    let message = "the head of the local log's chain is not a hash";
    bytes.try_into().map_err(|_| Error::new(Code::LogDamaged, message))
}

/// Base rows that come out of quarantine, each with the event that it waited with: see
/// [`hold_in_front`](crate::store::quarantine::rows::hold_in_front).
pub(in crate::store) type HeldRows = HashMap<Seq, Image>;
