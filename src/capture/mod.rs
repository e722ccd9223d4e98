//! Capture: generates, from a table's definition, the triggers that turn its changes into events.

mod before_images;
mod chain;
mod layout;
mod leaving;
mod marks;
mod positions;
mod remote;
mod replica;
mod triggers;

pub use chain::{ChainStep, Move, RowId, Uniques, untangle};
pub use layout::{BEFORE_IMAGES, Captured, Layout};
pub use leaving::LEAVING;

pub use remote::{GENERATOR, RemoteCapture, delete_trigger_there, present_names_there};
pub use replica::{
    delete_trigger, fingerprint, fingerprint_of, names_table, present_names, triggers,
};

pub use triggers::Trigger;
