//! The answer of a dry run.

use crate::catalog::LeftOut;
use crate::store::Orphans;

/// What a first sync would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DryRun {
    /// The tables that would be replicated.
    pub tables: Vec<TablePreview>,
    /// The tables that would not be, each with the reason.
    pub left_out: Vec<LeftOut>,
    /// Rows of this database whose parent row is not here. Those of which the remote has the parent
    /// are no orphans after the first sync.
    pub orphans: Vec<Orphans>,
    /// Why nothing would be done: the message of the error with which it would end.
    pub refused: Option<String>,
    /// The requests that were needed.
    pub requests: u64,
    /// The bytes of the requests and their answers.
    pub bytes: u64,
}

/// The sides that have a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Only this database: it would be made on the remote.
    Local,
    /// Only the remote: it would be made here.
    Remote,
    /// Both.
    #[default]
    Both,
    /// Both, and it is replicated already. Its rows are not compared.
    Replicated,
}

/// What a first sync would do with a table, in rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct TablePreview {
    /// The table.
    pub table: String,
    /// The sides that have it.
    pub side: Side,
    /// Rows that are only here: they would be pushed.
    pub only_here: u64,
    /// Rows that are only on the remote: they would be fetched.
    pub only_there: u64,
    /// Rows that are the same.
    pub equal: u64,
    /// Rows that differ.
    pub different: u64,
    /// Those of them of which the local version would be taken; of the others the remote's.
    pub takes_local: u64,
    /// The columns in which rows differ.
    pub columns: Vec<ColumnDifference>,
    /// Columns that only this database has.
    pub columns_here: Vec<String>,
    /// Columns that only the remote has.
    pub columns_there: Vec<String>,
    /// Rows of the two sides that have another key and one UNIQUE value.
    pub twins: Vec<Twins>,
    /// Rows of the remote whose key is text that is not UTF-8. They would not be replicated.
    pub unnamed: u64,
    /// Why the two definitions do not fit.
    pub problem: Option<String>,
}

/// A column in which rows differ.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ColumnDifference {
    /// The column.
    pub column: String,
    /// In how many rows.
    pub rows: u64,
}

/// Rows of this database that cannot stand beside another row of the remote: a UNIQUE index has
/// their values once.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Twins {
    /// The columns of the index.
    pub columns: Vec<String>,
    /// How many local rows: they would be rejected, and come into the conflict inbox.
    pub rows: u64,
    /// The keys of a few pairs: the local row's, and the remote's.
    pub keys: Vec<[String; 2]>,
}

impl DryRun {
    /// Whether a first sync would lose nothing to the conflict inbox, and would not be refused.
    #[cfg(feature = "internals")]
    pub fn is_smooth(&self) -> bool {
        self.refused.is_none()
            && self.tables.iter().all(|table| table.different == 0 && table.twins.is_empty())
    }
}
