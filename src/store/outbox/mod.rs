//! The outbox: the application's changes, in the order and in the groups in which they are pushed.

pub(super) mod batch;
pub(super) mod boundaries;
pub(super) mod fk_order;
pub(super) mod grouping;
pub(super) mod pending;
pub(super) mod reader;
pub(super) mod spans;
pub(super) mod stretch;
pub(super) mod write_order;
