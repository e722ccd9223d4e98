//! A batch of statements for the remote, and its answer.

use super::Statement;
use crate::event::value::Value;

/// SQL statements that run in one transaction and one round trip.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(unnameable_types, reason = "for our own remotes: see `Builder::with_remote`")]
pub struct Batch {
    /// Each is a single complete statement. In a writing batch the first one must write, so that
    /// the transaction takes the write lock at once.
    pub statements: Vec<Statement>,
    /// Whether any statement writes. A batch that only reads is one snapshot too.
    pub writes: bool,
}

/// The rows of one statement, in order; each row is its columns' values.
pub type Rows = Vec<Vec<Value>>;

/// The answer to a batch: the rows of each statement, in order, and the traffic.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(unnameable_types, reason = "as `Batch`")]
pub struct Answer {
    /// One entry for each statement of the batch; empty for a statement without rows.
    pub rows: Vec<Rows>,
    /// Bytes sent and received on the wire for this batch, as far as the client can measure them; 0
    /// if there is no wire.
    pub bytes_up: u64,
    /// See `bytes_up`.
    pub bytes_down: u64,
}
