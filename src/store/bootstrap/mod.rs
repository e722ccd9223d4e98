//! The first sync: the rows that are here and the rows of the remote become one set.
//!
//! The remote's rows are staged beside the tables. `merge` then brings them in within one
//! transaction, parents first (`row_order`), and appends the rows that only this file has to the
//! outbox. `rehearse` looks for rows without a parent before anything is changed.

pub(super) mod merge;
pub(super) mod prefer;
pub(super) mod rehearse;
pub(super) mod row_order;
pub(super) mod staging;
