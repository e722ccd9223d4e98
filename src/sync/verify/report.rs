//! The result of a verification.

use crate::event::{Image, RowKey, Seq};
use crate::protocol::compare::{Coverage, Difference};
use crate::store::{FoldCheck, FoldDifference, LogCheck, Repaired};

/// The options of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Only these tables; all replicated ones if it is empty. The log is compared only then.
    pub tables: Vec<String>,
    /// Whether rows that differ are replaced by the remote's. The local ones go to the conflict
    /// inbox.
    pub repair: bool,
}

/// The progress of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyProgress {
    /// The local log is read.
    Log,
    /// The local log is folded: the number of events so far.
    Fold(u64),
    /// The log is compared with the remote's.
    RemoteLog,
    /// The tables are compared with the remote's: the number of rows so far, and of all rows.
    Rows(u64, u64),
}

/// The source with which a row was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// The remote's row.
    Remote,
    /// The local log.
    Log,
}

/// A row that differs from the expected one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RowDifference {
    /// The table.
    pub table: String,
    /// The row.
    #[serde(flatten, serialize_with = "crate::event::readable::key")]
    pub key: RowKey,
    /// The source with which it was compared.
    pub proof: Proof,
    /// The columns that differ; empty if the row is absent on one side.
    pub columns: Vec<String>,
    /// The remote's row; `None` if it is absent, or if the row was compared with the log.
    #[serde(flatten, serialize_with = "crate::event::readable::remote")]
    pub remote: Option<Image>,
    /// The expected local row: the remote's, or the columns that the log knows, with the pending
    /// events on top.
    #[serde(flatten, serialize_with = "crate::event::readable::expected")]
    pub expected: Option<Image>,
    /// The local row.
    #[serde(flatten, serialize_with = "crate::event::readable::local")]
    pub local: Option<Image>,
}

/// The numbers of rows of a table that were compared with the remote.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct VerifiedTable {
    /// The table.
    pub table: String,
    /// Rows that were compared.
    pub rows: u64,
    /// Rows that differ.
    pub differing: u64,
    /// Rows that others were changing, so they were not compared.
    pub moving: u64,
    /// Rows with events in quarantine, so they were not compared.
    pub waiting: u64,
    /// Rows of the remote whose key has text that is not UTF-8. They are not replicated.
    pub unnamed: u64,
}

/// A table that could not be compared.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Unverified {
    /// The table.
    pub table: String,
    /// The reason.
    pub reason: String,
}

/// An event in which the two logs differ.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LogDifference {
    /// Its place.
    pub seq: Seq,
    /// The event in the remote's log: seq, id, origin, op, base, verdict, table and key. `None` if
    /// it has no such event.
    pub remote: Option<String>,
    /// The event in the local log, in the same form.
    pub local: Option<String>,
}

/// The result of verifying the logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct VerifiedLog {
    /// The number of events in the local log.
    pub events: u64,
    /// The first of them. The log of a replica begins with its first sync.
    pub first: Option<Seq>,
    /// The last of them.
    pub last: Option<Seq>,
    /// The damage in the local log.
    pub damaged: Vec<String>,
    /// Events that differ on the remote, or that one of the logs lacks.
    pub differing: Vec<LogDifference>,
    /// The number of rows that were compared with the local log.
    pub rows: u64,
    /// The number of rows that came with the first sync, before the log. The log cannot prove them.
    pub before_log: u64,
}

/// The result of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// The result for each table.
    pub tables: Vec<VerifiedTable>,
    /// The tables that could not be compared.
    pub left_out: Vec<Unverified>,
    /// The logs.
    pub log: VerifiedLog,
    /// The number of rows that differ.
    pub differing: u64,
    /// The first of these rows.
    #[serde(skip)]
    pub rows: Vec<RowDifference>,
    /// The result of a repair.
    pub repaired: Option<Repaired>,
    /// The number of requests.
    pub requests: u64,
    /// The bytes of the requests and their answers.
    pub bytes: u64,
}

impl Verified {
    /// Whether everything that could be compared agrees.
    pub fn is_clean(&self) -> bool {
        self.differing == 0 && self.has_whole_log()
    }

    /// Whether no problem was found in the logs.
    pub fn has_whole_log(&self) -> bool {
        self.log.damaged.is_empty() && self.log.differing.is_empty()
    }

    /// Adds the result of checking the local log.
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

    /// Adds the result of comparing the rows with the local log.
    pub(in crate::sync) fn add_fold(&mut self, check: FoldCheck) {
        self.log.rows = check.rows;
        self.log.before_log = check.before_log;
        self.differing += check.differing;
        self.rows.extend(check.found.into_iter().map(RowDifference::of_log));
    }

    /// Adds the result of comparing the tables with the remote.
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
        // Both proofs may find the same row.
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
