//! Capture: from a table's definition to the SQL that turns its changes into events.

mod cell;
mod inbox;
mod index_sql;
mod judge;
mod layout;
mod notes;
mod remote;
mod replica;
mod scratch;
mod spelling;
mod sql;
mod table;
mod triggers;

pub use layout::{Captured, Layout};
pub use remote::{Replicated, remote_fingerprint, remote_triggers};
pub use replica::{TAIL_BITS, fingerprint, triggers};
pub use sql::{ident, literal};
pub(crate) use sql::{key_json, row_json};
pub use table::*;
pub use triggers::{MAX_KEY_COLUMNS, Trigger};
