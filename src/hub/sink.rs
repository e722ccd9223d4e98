//! Where the results of statements go, whatever form the answer has.

use rusqlite::{Row, Statement};

use super::failure::Failure;

/// A version of Hrana over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V2,
    V3,
}

/// What ends a statement before its time.
pub(super) enum Halt {
    /// This statement failed; others may run.
    Statement(Failure),
    /// The whole batch is over: its answer is too large, or nobody wants it any more.
    All(Failure),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Halt::Statement(failure)
    }
}

/// Where results go. For each step either `skipped`; or `begin`, then `columns`, `row`s and `end`,
/// of which `failed` may take the place at any point.
pub(super) trait Sink {
    fn begin(&mut self, step: usize);
    fn columns(&mut self, statement: &Statement<'_>) -> Result<(), Halt>;
    fn row(&mut self, row: &Row<'_>, columns: usize) -> Result<(), Halt>;
    /// `affected` rows were changed. `last_insert_rowid` is only for an `INSERT`.
    fn end(&mut self, affected: u64, last_insert_rowid: Option<i64>) -> Result<(), Halt>;
    fn failed(&mut self, failure: Failure) -> Result<(), Halt>;
    fn skipped(&mut self, step: usize);
}
