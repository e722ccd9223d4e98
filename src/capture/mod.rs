//! Capture: generates, from a table's definition, the triggers that turn its changes into events.

mod before_images;
mod cell;
mod chain;
mod inbox;
mod judge;
mod layout;
mod remote;
mod replica;
mod triggers;
mod ulid;

pub use chain::{Move, RowId, Step, Uniques, untangle};
pub use layout::{Captured, Layout, NOTES};

pub use judge::Replicated;
#[cfg(feature = "internals")]
pub use remote::remote_triggers;
pub use remote::{RemoteTriggers, TableTriggers};
pub use replica::{fingerprint, triggers};

pub use triggers::Trigger;
