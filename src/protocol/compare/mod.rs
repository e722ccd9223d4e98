//! Two sides of a table, compared by ranges of keys. All pure.
//!
//! A [`Comparison`] sends the bounds of ranges and gets a [`Digest`] of each: the number of rows,
//! and a hash of them in the order of their keys. A differing range is split until it has so few
//! rows that they are read. A million equal rows cost one request. Ten differing rows cost two
//! more.
//!
//! # What is compared
//!
//! The local side is [`LocalRows`]: a snapshot of the replica at its cursor. The remote changes
//! meanwhile, so each answer has the keys of the rows with events after that cursor. A range with
//! such a row counts as different. When rows are read, the events after the cursor are read too and
//! undone ([`behind`]), which gives the rows at the cursor. With the replica's pending events on
//! top, they are the expected local rows. So each answer is complete by itself, and each request
//! may use another snapshot.
//!
//! Two databases that have never met are compared as they are ([`Comparison::of_strangers`]): there
//! is no log and no cursor. Rows that only the remote has are counted there, and not read, if they
//! cannot affect local rows.
//!
//! The columns that both sides have are compared ([`ComparedTable`]). Generated columns are not.
//!
//! # The hash
//!
//! The hash is `crypto_blake3` of SQLean, which Turso preloads: see [`digest`]. A remote without it
//! sends the rows instead ([`Comparison::without_digests`]).
//!
//! # Caveats
//!
//! * Rows whose key has NULL, or text that is not UTF-8, have no identity. They are left out.
//! * SQLite's SQL functions cannot distinguish −0.0 from 0.0, so the two count as equal.

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
