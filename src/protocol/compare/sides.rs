//! The local side of a comparison, and the results.

use super::behind::PendingChange;
use super::digest::Digest;
use super::key_order::{Bound, KeyRange};
use crate::error::Result;
use crate::event::value::Value;
use crate::event::{Image, RowKey, Seq};

/// The local side: a snapshot of the replica. Tables have the numbers that the comparison gave
/// them.
pub trait LocalRows {
    /// The place of the snapshot in the remote's log.
    fn cursor(&self) -> Seq;

    /// The number of rows of a table.
    ///
    /// # Errors
    ///
    /// The errors of the database. The same is true of all methods here.
    fn count(&mut self, table: usize) -> Result<u64>;

    /// The keys of the first and the last row of a table; `None` if the table is empty, or if one
    /// of these keys is not UTF-8.
    fn ends(&mut self, table: usize) -> Result<Option<[Vec<Value>; 2]>>;

    /// The bounds that split a range into parts of `every` rows.
    fn cut(&mut self, table: usize, range: &KeyRange, every: u64) -> Result<Vec<Bound>>;

    /// The digest of the rows of a range without their pending events.
    fn digest(&mut self, table: usize, range: &KeyRange) -> Result<LocalDigest>;

    /// The rows of a range, and the absent rows with pending or waiting events.
    fn rows(&mut self, table: usize, range: &KeyRange) -> Result<Vec<LocalRow>>;
}

/// The digest of a local range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalDigest {
    /// The digest.
    pub digest: Digest,
    /// Whether the rows must be read because a hash cannot distinguish one of them from the
    /// remote's.
    pub must_read: bool,
}

/// A local row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalRow {
    /// Its key.
    pub key: RowKey,
    /// The row; `None` if it is absent.
    pub row: Option<Image>,
    /// The pending events that are applied to the row, in their order.
    pub pending: Vec<PendingChange>,
    /// The columns of the row that an event in quarantine changes.
    pub waiting: Vec<String>,
    /// Whether an event in quarantine inserts or deletes the row.
    pub waits: bool,
}

/// A row that differs from the expected one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The table.
    pub table: String,
    /// The row.
    pub key: RowKey,
    /// The remote's row at `seq`; `None` if it is absent.
    pub remote: Option<Image>,
    /// The expected local row: the remote's, with the pending events on top.
    pub expected: Option<Image>,
    /// The local row.
    pub local: Option<Image>,
    /// The columns that differ; empty if one of the two rows is absent.
    pub columns: Vec<String>,
    /// The place in the log at which the rows were compared: the cursor of the replica.
    pub seq: Seq,
}

/// The numbers of rows of a table that were compared or left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Rows that were compared.
    pub rows: u64,
    /// Rows that differ.
    pub differing: u64,
    /// Rows that were not compared because others are changing them.
    pub moving: u64,
    /// Rows that were not compared because an event in quarantine inserts or deletes them.
    pub waiting: u64,
    /// Rows of the remote that were not compared because their key has text that is not UTF-8.
    pub unnamed: u64,
    /// Rows that only the remote has and that were counted, not read. The other numbers include
    /// them, and no difference is given for them.
    pub counted: u64,
}
