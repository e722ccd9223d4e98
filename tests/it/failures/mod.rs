//! How replicators fail, each failure by its number: `f07_…` is F07 of docs/testing.md.
//!
//! Failures that belong to one part of the program have their tests in its folder, by the same kind of
//! name: `cargo test f07` runs all tests of a number.

mod brackets;
mod exchange;
mod file;
mod held;
mod identity;
mod local;
mod migrated;
mod migrations;
mod moved;
mod renamed;
mod rows;
mod scale;
mod schema;
mod triggers;
