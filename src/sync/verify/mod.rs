//! Verifies a replica and its remote, with three proofs:
//!
//! * The local log is complete, and agrees with the remote's (`log`): each of its events has the
//!   same id, row, writer and verdict there.
//! * The local tables are the fold of the local log, with the pending events on top. This needs no
//!   remote. It cannot prove rows from before the log, which came with the first sync.
//! * The tables are the remote's at the replica's cursor, with the pending events on top
//!   (`tables`), while others write.
//!
//! Nothing is changed, unless a repair is requested. A repair takes the remote's rows, and puts the
//! local ones into the conflict inbox.

pub(in crate::sync) mod log;
pub(in crate::sync) mod report;
pub(in crate::sync) mod requests;
pub(in crate::sync) mod run;
pub(in crate::sync) mod tables;
