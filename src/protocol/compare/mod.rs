//! Two sides of a table, compared by ranges of keys. All pure.
//!
//! A [`Comparison`] sends the boundaries of ranges and gets a [`Digest`] of each: how many rows
//! there are, and a hash of them in the order of their keys. What differs is split, until there are
//! so few rows that they are read themselves. So a million equal rows cost one request, and ten
//! rows that differ cost two more.
//!
//! # What is compared
//!
//! The local side is [`LocalRows`]: a snapshot of the replica at its cursor. The remote goes on
//! meanwhile, so each answer has the keys of the rows with events above that cursor. A range with
//! such a row is taken to differ. Where rows are read, the events since the cursor are read with
//! them and taken off ([`behind`]), which makes them rows at the cursor. Pending events are put on
//! top of that, and the result is what must stand here. So each answer is proof by itself, and the
//! snapshot may be another one for each request.
//!
//! Two databases that have never met are compared as they are ([`Comparison::of_strangers`]): there
//! is no log and no cursor. What only the remote has is counted there, not read, where it can do
//! nothing to the rows that are here.
//!
//! The columns that both sides have are compared ([`ComparedTable`]). Generated columns are not.
//!
//! # The hash
//!
//! `crypto_blake3` of SQLean, which Turso preloads: see [`digest`]. A remote without it sends the
//! rows instead ([`Comparison::without_digests`]).
//!
//! # Caveats
//!
//! * Rows with NULL in their key, or with text in it that is not UTF-8, have no identity. They are
//!   left out.
//! * SQLite's SQL functions cannot tell −0.0 from 0.0, so the two are equal here.

pub(crate) mod behind;
mod comparison;
mod digest;
mod key_order;
mod questions;
mod sides;
mod table;

pub use self::behind::PendingChange;
pub(crate) use self::behind::replay;
pub use self::comparison::Comparison;
pub use self::digest::{Digest, Digester, Lines};
pub use self::key_order::{Bound, KeyOrder, KeyRange};
pub(crate) use self::questions::read_digests;
pub(crate) use self::questions::{log_digests, log_lines, read_log_lines};
pub use self::sides::{Coverage, Difference, LocalDigest, LocalRow, LocalRows};
pub use self::table::ComparedTable;
