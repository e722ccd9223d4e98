//! The input and the result of a comparison.

use crate::catalog::Table;
use crate::event::Change;
use crate::protocol::compare::behind::Behind;

/// The result of comparing a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recaptured {
    /// Writes that capture missed. Events were appended for them.
    pub found: usize,
    /// Rows that were missing here and came back.
    pub returned: usize,
    /// Rows in which a new local column got the remote's value.
    pub filled: usize,
    /// Rows that were left unchanged because they have events in quarantine.
    pub unknown: usize,
    /// Rows that changed here.
    pub changes: Vec<Change>,
}

impl Recaptured {
    /// Adds the result for another part of the table.
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
    /// From the remote's definition of a table, and the events that are not integrated.
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

/// What happens with rows that are missing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Deletes are appended for them.
    Deleted,
    /// They come back.
    Returned,
}
