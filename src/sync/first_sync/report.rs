//! The progress of a first sync, and its result.

use std::sync::Arc;

use crate::protocol::remote_tables::RemoteTables;
use crate::store::{Adopted, Orphans, Store};

/// The result of an answer.
pub enum Advance {
    /// Ask again.
    More,
    /// The first sync is done, and these are the replica and the remote's tables.
    Done(Box<Report>, Box<Store>, Arc<RemoteTables>),
    /// The remote is not the one that this replica belongs to: its epoch, if it has one.
    OtherRemote(Option<String>),
}

/// The result of a first sync.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The remote's epoch.
    pub epoch: String,
    /// Tables that were created here.
    pub made_here: Vec<String>,
    /// Tables that were created on the remote.
    pub made_there: Vec<String>,
    /// Whether anything was installed on the remote.
    pub installed: bool,
    /// The rows of both sides; `None` where the first sync was done already, and no table joined.
    pub adopted: Option<Adopted>,
    /// Local rows whose parent row was missing before any row was moved.
    pub orphans: Vec<Orphans>,
    /// The same after the first sync: neither side has the parent row.
    pub orphans_left: Vec<Orphans>,
    /// Replicated tables whose names look like the bookkeeping of a migration tool.
    pub suspects: Vec<String>,
    /// Tables of an earlier `init` that were not asked for again, and are not replicated any more.
    pub left: Vec<String>,
}

/// The next step of a first sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Definitions are compared, and missing objects are created.
    Installing,
    /// Nothing was changed so far. Local rows lack their parent row.
    Found(Vec<Orphans>),
    /// The remote's rows of a table are being read.
    Reading {
        /// The table.
        table: String,
        /// The number of its rows that were read.
        rows: usize,
    },
    /// The events since the first page are read, and then the rows of both sides are merged.
    Merging,
}
