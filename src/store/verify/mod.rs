//! The local side of `verify`: the rows at one moment, the log, the fold of the log, and a repair.

pub(in crate::store) mod fold_check;
pub(in crate::store) mod log_check;
pub(in crate::store) mod repair;
pub(in crate::store) mod snapshot;
