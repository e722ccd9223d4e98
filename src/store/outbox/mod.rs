//! The outbox: the events of the application, and how a push is made of them.
//!
//! The capture triggers append to it. `reader` reads what they wrote, `write_order` restores the
//! order in which a row was written, and `pending` knows which rows have events without a verdict.
//! `batch` takes the next events. It ends where a transaction ended (`boundaries`) or where nothing
//! that hangs together is cut (`spans`), puts parents before children (`fk_order`), and marks what
//! belongs together (`grouping`).

pub(super) mod batch;
pub(super) mod boundaries;
pub(super) mod fk_order;
pub(super) mod grouping;
pub(super) mod pending;
pub(super) mod reader;
pub(super) mod row;
pub(super) mod spans;
pub(super) mod stretch;
pub(super) mod watch;
pub(super) mod write_order;
