//! The log, read: a row's history, two points compared, the tables as they were, and changes taken
//! back.
//!
//! Everything here is computed from what a [`LogReader`](crate::store::LogReader) gives, at one
//! moment of the file. Nothing of it writes to a replicated table.
//!
//! * [`delta`] is the pure core: what a stretch of the log did to one row.
//! * [`changes`] collects the deltas of all rows between two points, in bounded memory; [`diff`]
//!   says what is left of them.
//! * [`history`] lists the versions of a row, and says who set each column last.
//! * [`as_of`] answers any query over the tables as they were; [`replay`] copies them into a file,
//!   and [`bisect`] finds a change after which a statement is no longer true.
//!
//! # Caveats
//!
//! * The log of a replica begins where its first sync ended. A row that came with that has no event
//!   there: what it was is known from the old values of the events that changed it, and from the
//!   row itself.
//! * A former state has the columns that the table has today.

pub(crate) mod as_of;
pub(crate) mod bisect;
pub(crate) mod changes;
pub(crate) mod condition;
pub(crate) mod delta;
pub(crate) mod diff;
pub(crate) mod history;
pub(crate) mod point;
pub(crate) mod replay;
