//! Capture: from a table's definition to the SQL that turns its changes into events.

mod index_sql;
mod sql;
mod table;

pub use sql::{ident, literal};
pub use table::*;
