//! Capture: from a table's definition to the SQL that turns its changes into events.

mod affinity;
mod bookkeeping;
mod cell;
mod chain;
mod inbox;
mod index_sql;
mod judge;
mod layout;
mod left_out;
mod notes;
mod remote;
mod replica;
mod scratch;
mod spelling;
mod sql;
mod table;
mod triggers;

pub use affinity::Affinity;
pub use bookkeeping::{bookkeeper, may_be_bookkeeping};
pub use chain::{Move, RowId, Step, Uniques, untangle};
pub use layout::{Captured, Layout, NOTES};
pub use left_out::{Choice, LeftOut, Where, Why};
#[cfg(feature = "internals")]
pub use remote::remote_triggers;
pub use remote::{RemoteTriggers, Replicated, TableTriggers};
pub use replica::{fingerprint, triggers};
pub use scratch::rehearse;
pub use sql::{create_if_missing, ident, literal};
pub(crate) use sql::{key_json, row_json};
pub use table::*;
pub use triggers::Trigger;
