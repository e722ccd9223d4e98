//! The progress of a first sync, and its result.

use crate::store::{Adopted, Orphans};

/// The result of a first sync.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The remote's epoch.
    pub epoch: String,
    /// Tables that were made here.
    pub made_here: Vec<String>,
    /// Tables that were made on the remote.
    pub made_there: Vec<String>,
    /// Whether anything was installed on the remote.
    pub installed: bool,
    /// The rows of both sides; `None` where the first sync was done already.
    pub adopted: Option<Adopted>,
    /// Rows of this database whose parent row was missing before anything was moved.
    pub orphans: Vec<Orphans>,
    /// The same after the first sync: neither side has their parent row.
    pub orphans_left: Vec<Orphans>,
    /// Tables that are replicated, though their names look like the bookkeeping of a migration
    /// tool.
    pub suspects: Vec<String>,
    /// Tables of an earlier `init` that were not asked for again. They stay replicated.
    pub kept: Vec<String>,
}

/// The next step of a first sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Definitions are compared, and what is missing is made.
    Installing,
    /// Nothing was changed so far. Rows of this database have no parent row.
    Found(Vec<Orphans>),
    /// The remote's rows of a table are read: so many so far.
    Reading {
        /// The table.
        table: String,
        /// Its rows that are here already.
        rows: usize,
    },
    /// The events since the first page are read, and then the rows of both sides are brought
    /// together.
    Merging,
}
