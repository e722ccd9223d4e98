//! The receiver of statements' results, for both forms of an answer.

use rusqlite::{Row, Statement};

use super::connection::Rows;
use super::failure::Failure;

/// A version of Hrana over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V2,
    V3,
}

/// The reason why a statement ends early.
pub(super) enum Halt {
    /// This statement failed; others may run.
    Statement(Failure),
    /// The whole batch ends: its answer is too large, or its client has gone.
    All(Failure),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Halt::Statement(failure)
    }
}

/// The receiver of results. Each step calls either `skipped`, or `begin`, `columns`, `row` for each
/// row, and `end`. `failed` may replace any of the calls after `begin`, and ends the step.
pub(super) trait Sink {
    fn begin(&mut self, step: usize);
    fn columns(&mut self, statement: &Statement<'_>) -> Result<(), Halt>;
    fn row(&mut self, row: &Row<'_>, columns: usize) -> Result<(), Halt>;
    /// `affected` rows were changed. `last_insert_rowid` is only for an `INSERT`.
    /// `rows` were read and written.
    fn end(
        &mut self,
        affected: u64,
        last_insert_rowid: Option<i64>,
        rows: Rows,
    ) -> Result<(), Halt>;
    fn failed(&mut self, failure: Failure) -> Result<(), Halt>;
    fn skipped(&mut self, step: usize);
}
