//! What a first contact says of itself, while it is under way and when it is done.

use crate::store::{Adopted, Orphans};

/// What a first contact did.
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
    /// Rows of this database that referred to a row that was not there, before anything was moved.
    pub orphans: Vec<Orphans>,
    /// The same after the first sync: neither side has the row that these refer to.
    pub orphans_left: Vec<Orphans>,
    /// Tables that are replicated, though their names look like the bookkeeping of a migration
    /// tool.
    pub suspects: Vec<String>,
    /// Tables of an earlier `init` that were not asked for again. They stay replicated.
    pub kept: Vec<String>,
}

/// What is being done next in a first contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Definitions are compared, and what is missing is made.
    Installing,
    /// Nothing was changed so far, and rows of this database refer to rows that are not there.
    Found(Vec<Orphans>),
    /// The remote's rows of a table are read: so many so far.
    Reading {
        /// The table.
        table: String,
        /// Its rows that are here already.
        rows: usize,
    },
    /// What was logged meanwhile is read, and then the rows of both sides are brought together.
    Merging,
}
