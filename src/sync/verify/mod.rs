//! Whether a replica and its remote are what they must be: three proofs.
//!
//! * The local log is whole, and is the remote's (`log`): each event of it has the same id, row,
//!   writer and verdict there.
//! * The local tables are the fold of the local log, with the pending events on top. That needs no
//!   remote. It cannot prove rows from before the log, which came with the first sync.
//! * The tables are the remote's at the replica's cursor, with the pending events on top
//!   (`tables`), while others write.
//!
//! Nothing is changed, unless a repair is asked for. A repair takes the remote's rows, and keeps
//! the local ones for the conflict inbox.

pub(in crate::sync) mod log;
pub(in crate::sync) mod report;
pub(in crate::sync) mod requests;
pub(in crate::sync) mod run;
pub(in crate::sync) mod tables;
