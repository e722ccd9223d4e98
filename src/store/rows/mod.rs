//! Rows of replicated tables: reading and writing them, and why a write is refused.
//!
//! `row` has what lies between an event's JSON and SQLite's values. `writer` has a prepared
//! statement for each shape of write. `trigger_guard` keeps the application's triggers from writing
//! to replicated rows meanwhile. `refusal` says what SQLite's errors mean, and `writable` whether
//! this connection can write to a table at all.

pub(super) mod refusal;
pub(super) mod row;
pub(super) mod trigger_guard;
pub(super) mod writable;
pub(super) mod writer;
