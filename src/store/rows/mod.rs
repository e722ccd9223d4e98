//! Rows of replicated tables: reading and writing them, and the reasons for a refused write.
//!
//! `row` converts between an event's JSON and SQLite's values. `writer` has a prepared statement
//! for each shape of write. `trigger_guard` keeps the application's triggers from writing to
//! replicated rows. `refusal` classifies SQLite's errors, and `writable` says whether this
//! connection can write to a table at all.

pub(super) mod refusal;
pub(super) mod row;
pub(super) mod trigger_guard;
pub(super) mod writable;
pub(super) mod writer;
