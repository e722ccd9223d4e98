//! The rows of a first sync: local rows and rows of the remote become one set.
//!
//! The remote's rows are staged beside the tables. `merge` brings them in within one transaction,
//! and appends the rows that only this file has to the outbox, parents first (`row_order`).
//! `rehearse` finds rows without a parent before anything is changed.

pub(super) mod merge;
pub(super) mod prefer;
pub(super) mod rehearse;
pub(super) mod row_order;
pub(super) mod staging;
