//! What a verification found.

use crate::event::{Image, RowKey, Seq};
use crate::protocol::compare::{Coverage, Difference};
use crate::store::{FoldCheck, FoldDifference, LogCheck, Repaired};

/// What is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Only these tables. All replicated ones if there are none; the log is compared only then.
    pub tables: Vec<String>,
    /// The rows that differ become the remote's, and the local ones go to the conflict inbox.
    pub repair: bool,
}

/// How far a verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyProgress {
    /// The local log is read.
    Log,
    /// The local log is folded: so many events so far.
    Fold(u64),
    /// The log is compared with the remote's.
    RemoteLog,
    /// The tables are compared with the remote's: so many rows of so many.
    Rows(u64, u64),
}

/// With what a row was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// The remote's row.
    Remote,
    /// The local log.
    Log,
}

/// A row that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RowDifference {
    /// The table.
    pub table: String,
    /// The row.
    #[serde(flatten, serialize_with = "crate::event::readable::key")]
    pub key: RowKey,
    /// With what it was compared.
    pub proof: Proof,
    /// The columns that differ; empty if the row is absent on one side.
    pub columns: Vec<String>,
    /// The remote's row; `None` if there is none, or the row was compared with the log.
    #[serde(flatten, serialize_with = "crate::event::readable::remote")]
    pub remote: Option<Image>,
    /// The row that must be here: the remote's, or what the log knows of it, with the pending
    /// events on top.
    #[serde(flatten, serialize_with = "crate::event::readable::expected")]
    pub expected: Option<Image>,
    /// The row that is here.
    #[serde(flatten, serialize_with = "crate::event::readable::local")]
    pub local: Option<Image>,
}

/// What was compared of a table with the remote, in rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct VerifiedTable {
    /// The table.
    pub table: String,
    /// Rows that were compared.
    pub rows: u64,
    /// Rows that differ.
    pub differing: u64,
    /// Rows that others were changing, which were not compared.
    pub moving: u64,
    /// Rows with events in quarantine, which were not compared.
    pub waiting: u64,
    /// Rows of the remote whose key is text that is not UTF-8. They are replicated nowhere.
    pub unnamed: u64,
}

/// A table that could not be compared.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Unverified {
    /// The table.
    pub table: String,
    /// Why.
    pub reason: String,
}

/// An event that the two logs do not have alike.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LogDifference {
    /// Its place.
    pub seq: Seq,
    /// What the remote's log says: seq, id, origin, op, base, verdict, table and key. `None` if it
    /// has no such event.
    pub remote: Option<String>,
    /// What the local log says.
    pub local: Option<String>,
}

/// What was found of the logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct VerifiedLog {
    /// The events of the local log.
    pub events: u64,
    /// The first of them; the log of a replica begins with its first sync.
    pub first: Option<Seq>,
    /// The last of them.
    pub last: Option<Seq>,
    /// What is damaged in the local log.
    pub damaged: Vec<String>,
    /// Events that are another one on the remote, or that one of the logs lacks.
    pub differing: Vec<LogDifference>,
    /// Rows that the local log knows something of, and that were compared with it.
    pub rows: u64,
    /// Rows that came with the first sync, before the log. The log cannot prove them.
    pub before_log: u64,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// What was compared of each table.
    pub tables: Vec<VerifiedTable>,
    /// The tables that could not be compared.
    pub left_out: Vec<Unverified>,
    /// The logs.
    pub log: VerifiedLog,
    /// How many rows are not as they must be.
    pub differing: u64,
    /// The first of them.
    #[serde(skip)]
    pub rows: Vec<RowDifference>,
    /// What a repair did.
    pub repaired: Option<Repaired>,
    /// The requests.
    pub requests: u64,
    /// The bytes of the requests and their answers.
    pub bytes: u64,
}

impl Verified {
    /// Whether everything that could be compared is as it must be.
    pub fn is_clean(&self) -> bool {
        self.differing == 0 && self.has_whole_log()
    }

    /// Whether nothing is wrong with the logs.
    pub fn has_whole_log(&self) -> bool {
        self.log.damaged.is_empty() && self.log.differing.is_empty()
    }

    /// Adds what was found of the local log.
    pub(in crate::sync) fn add_log(&mut self, check: &LogCheck) {
        let (first, last) = check.range.unzip();
        self.log.events = check.events;
        (self.log.first, self.log.last) = (first, last);
        self.log.damaged = check.damaged.iter().map(|(_, what)| what.clone()).collect();
        if check.damages > check.damaged.len() as u64 {
            self.log.damaged.push(format!("{} events in all are damaged", check.damages));
        }
        if !check.is_whole {
            self.log.damaged.push("the local log does not end where it did: its end is cut".into());
        }
    }

    /// Adds what was found of the rows and the local log.
    pub(in crate::sync) fn add_fold(&mut self, check: FoldCheck) {
        self.log.rows = check.rows;
        self.log.before_log = check.before_log;
        self.differing += check.differing;
        self.rows.extend(check.found.into_iter().map(RowDifference::of_log));
    }

    /// Adds what was compared with the remote.
    pub(in crate::sync) fn add_tables(
        &mut self,
        found: &[Difference],
        tables: Vec<(String, Coverage)>,
        left_out: &[(String, String)],
    ) {
        for (table, covered) in tables {
            let Coverage { rows, differing, moving, waiting, unnamed, .. } = covered;
            self.differing += differing;
            let covered = VerifiedTable { table, rows, differing, moving, waiting, unnamed };
            self.tables.push(covered);
        }
        // A row may be found by both proofs.
        for difference in found {
            let is =
                |row: &RowDifference| row.table == difference.table && row.key == difference.key;
            let before = self.rows.len();
            self.rows.retain(|row| !is(row));
            self.differing -= (before - self.rows.len()) as u64;
            self.rows.push(RowDifference::of_remote(difference));
        }
        let unverified = |(table, reason): &(String, String)| Unverified {
            table: table.clone(),
            reason: reason.clone(),
        };
        self.left_out = left_out.iter().map(unverified).collect();
    }
}

impl RowDifference {
    /// Whether the row was compared with the remote's.
    pub fn is_of_remote(&self) -> bool {
        self.proof == Proof::Remote
    }

    fn of_remote(found: &Difference) -> RowDifference {
        let Difference { table, key, remote, expected, local, columns, .. } = found.clone();
        RowDifference { table, key, proof: Proof::Remote, columns, remote, expected, local }
    }

    fn of_log(found: FoldDifference) -> RowDifference {
        let FoldDifference { table, key, log, local, columns } = found;
        let (proof, remote, expected) = (Proof::Log, None, log);
        RowDifference { table, key, proof, columns, remote, expected, local }
    }
}
