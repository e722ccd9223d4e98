//! Tables: their definitions, read from a database.
//!
//! [`Table`] has what capture and the store need to know of a table. [`Catalog`] has the tables of
//! a database, and the reason for each one that cannot be replicated. The remote's definitions are
//! not trusted: they run in a `sandbox`, and SQLite's own pragmas read the result.

pub(crate) mod affinity;
pub(crate) mod bookkeeping;
pub(crate) mod identity;
pub(crate) mod index_sql;
pub(crate) mod limits;
pub(crate) mod names;

pub(crate) mod left_out;
pub(crate) mod quote;
pub(crate) mod sandbox;
pub(crate) mod sql;
pub(crate) mod table;

pub use affinity::Affinity;
pub use bookkeeping::{bookkeeper, may_be_bookkeeping};
pub use left_out::{Choice, Fresh, LeftOut, Where, Why};
pub use limits::{MAX_COLUMNS, MAX_KEY_COLUMNS, PREFIX};
pub use names::{Names, columns_json, name_references};
pub use quote::{ident, literal};
pub use sandbox::rehearse;
pub use sql::create_if_missing;
pub(crate) use sql::{key_json, row_json};
pub use table::*;
