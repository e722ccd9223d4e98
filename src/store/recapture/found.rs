//! What a comparison is made with, and what it has found.

use crate::catalog::Table;
use crate::event::Change;
use crate::protocol::compare::behind::Behind;

/// What a comparison has found in a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recaptured {
    /// Writes that capture missed: events were appended for them.
    pub found: usize,
    /// Rows that were missing here, and have come back.
    pub returned: usize,
    /// Rows in which a column that is new here has taken the remote's value.
    pub filled: usize,
    /// Rows that were left as they are: they have events in quarantine, or an event of the log that
    /// came without its old values.
    pub unknown: usize,
    /// Rows that changed here.
    pub changes: Vec<Change>,
}

impl Recaptured {
    /// Adds what another part of the table had.
    pub(crate) fn add(&mut self, other: Recaptured) {
        self.found += other.found;
        self.returned += other.returned;
        self.filled += other.filled;
        self.unknown += other.unknown;
        self.changes.extend(other.changes);
    }
}

/// The remote's side of a comparison.
#[derive(Clone, Copy)]
pub(crate) struct Remote<'a> {
    table: &'a Table,
    behind: &'a Behind,
}

impl<'a> Remote<'a> {
    /// The remote's definition of a table, and the events that are not integrated.
    pub(crate) fn new(table: &'a Table, behind: &'a Behind) -> Self {
        Remote { table, behind }
    }

    /// The remote's definition.
    pub(super) fn table(&self) -> &'a Table {
        self.table
    }

    /// The events that are not integrated.
    pub(super) fn behind(&self) -> &'a Behind {
        self.behind
    }
}

/// What is done with rows that are missing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// They were deleted.
    Deleted,
    /// They come back.
    Returned,
}
