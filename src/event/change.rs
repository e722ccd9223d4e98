//! A row that a pull changed, for a user interface.

use super::{Op, Origin, RowKey, readable};

/// A row that a pull changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Change {
    /// Its table.
    pub table: String,
    /// Its key.
    #[serde(flatten, serialize_with = "readable::key")]
    pub key: RowKey,
    /// What happened to the row in this database.
    pub op: Op,
    /// Who changed it. It is this replica if a change of its own was taken off the row, because it
    /// has lost or will probably lose.
    pub origin: Origin,
}
