//! What a first sync would do, without doing it.
//!
//! [`preview`] shows a remote that is to take the place of another one, in numbers of rows. The
//! rest is a dry run.
//!
//! The tables of both sides are compared as they are, by ranges of keys
//! ([`Comparison::of_strangers`](crate::protocol::compare::Comparison::of_strangers)), and what a
//! person should know before two databases become one is counted: rows of one side, rows that
//! differ and in which columns, rows that cannot stand beside one another, and definitions that do
//! not fit. Nothing is written on either side.
//!
//! # Caveats
//!
//! * The two sides are read range by range. What others write meanwhile may be counted or not.
//! * Twins are told by UNIQUE indexes of plain columns, with SQLite's own collations.

pub(in crate::sync) mod preview;
pub(in crate::sync) mod report;
pub(in crate::sync) mod run;
mod tables;
mod twins;
