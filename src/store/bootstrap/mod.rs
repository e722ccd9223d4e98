//! The first sync: the remote and the local rows are merged.

pub(super) mod merge;
pub(super) mod rehearse;
pub(super) mod row_order;
