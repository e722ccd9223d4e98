//! The two sides of a comparison: what the local one gives, and what is found.

use super::behind::PendingChange;
use super::digest::Digest;
use super::key_order::{Bound, KeyRange};
use crate::error::Result;
use crate::event::value::Value;
use crate::event::{Image, RowKey, Seq};

/// The local side: a snapshot of the replica. Tables are numbered as the comparison has them.
pub trait LocalRows {
    /// Where the snapshot stands in the remote's log.
    fn cursor(&self) -> Seq;

    /// How many rows a table has.
    ///
    /// # Errors
    ///
    /// Those of the database; so it is for every method here.
    fn count(&mut self, table: usize) -> Result<u64>;

    /// The keys of the first and the last row of a table; `None` if it has none, or if one of them
    /// is not UTF-8.
    fn ends(&mut self, table: usize) -> Result<Option<[Vec<Value>; 2]>>;

    /// Bounds between every `every` rows of a range.
    fn cut(&mut self, table: usize, range: &KeyRange, every: u64) -> Result<Vec<Bound>>;

    /// The digest of the rows of a range without their pending events.
    fn digest(&mut self, table: usize, range: &KeyRange) -> Result<LocalDigest>;

    /// The rows of a range, and those that are absent here and have pending or waiting events.
    fn rows(&mut self, table: usize, range: &KeyRange) -> Result<Vec<LocalRow>>;
}

/// The digest of a local range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalDigest {
    /// The digest.
    pub digest: Digest,
    /// A row cannot be told from the remote's by a hash, so the rows must be read.
    pub must_read: bool,
}

/// A local row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalRow {
    /// Its key.
    pub key: RowKey,
    /// The row; `None` if there is none.
    pub row: Option<Image>,
    /// Its pending events that are on it, in their order.
    pub pending: Vec<PendingChange>,
    /// The columns that an event in quarantine names.
    pub waiting: Vec<String>,
    /// An event in quarantine makes or deletes the row.
    pub waits: bool,
}

/// A row that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The table.
    pub table: String,
    /// The row.
    pub key: RowKey,
    /// The remote's row at `seq`; `None` if there is none.
    pub remote: Option<Image>,
    /// The row that must stand here: the remote's, with the pending events on top.
    pub expected: Option<Image>,
    /// The row that stands here.
    pub local: Option<Image>,
    /// The columns that differ; empty if one of the two rows is absent.
    pub columns: Vec<String>,
    /// The place in the log for which this holds: the cursor of the replica.
    pub seq: Seq,
}

/// What was compared of a table, in rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Rows that were compared.
    pub rows: u64,
    /// Rows that differ.
    pub differing: u64,
    /// Rows that others change at present, and that were not compared for that.
    pub moving: u64,
    /// Rows with events in quarantine that make or delete them.
    pub waiting: u64,
    /// Rows of the remote whose key is text that is not UTF-8.
    pub unnamed: u64,
    /// Rows that only the remote has and that were counted, not read. They are among the others,
    /// and no difference is given for them.
    pub counted: u64,
}
