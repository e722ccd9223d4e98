//! Capture: generates, from a table's definition, the triggers that turn its changes into events.

mod before_images;
mod chain;
mod layout;
mod leaving;
mod marks;
mod remote;
mod replica;
mod triggers;

pub use chain::{Move, RowId, ChainStep, Uniques, untangle};
pub use layout::{Captured, Layout, BEFORE_IMAGES};
pub use leaving::LEAVING;

pub use remote::{GENERATOR, RemoteCapture};
pub use replica::{fingerprint, fingerprint_of, triggers};

pub use triggers::Trigger;
