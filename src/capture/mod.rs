//! Capture: the triggers that turn the changes of a table into events.
//!
//! An application writes plain SQL, with any SQLite client, whether a driftless process runs or
//! not. So triggers record its changes, in the transaction of the change. This layer makes the text
//! of these triggers from a table's definition ([`Table`](crate::catalog::table::Table)). It does
//! not install them, and it knows neither the store nor the network.
//!
//! # On a replica
//!
//! [`triggers()`] returns the triggers of one table. They append one row for each event to
//! `driftless_outbox`, with the values unchanged, each in its own column. [`Layout`] says which
//! column has which value, and makes JSON of them later, when the store reads the outbox.
//! `triggers.rs` has the rules, and the histories that need them. `replica.rs` has the SQL: it uses
//! no function that an application can replace and that would decide what is captured.
//!
//! Three things need more than an AFTER trigger:
//!
//! * *Before-images* (`before_images.rs`). A REPLACE deletes rows without firing a delete trigger.
//!   BEFORE triggers save the rows that it may delete as before-images, and AFTER triggers append a
//!   delete for each saved row that is gone.
//! * *Marks* (`leaving.rs`, `marks.rs`). A foreign key's action changes children before the AFTER
//!   trigger of the parent runs. The parent's BEFORE triggers leave a mark, from which the child's
//!   trigger knows that its change is a consequence.
//! * *Order* (`chain/`). A trigger of the application may run before ours and write the same row
//!   again. Then the outbox has the two events in the wrong order. [`untangle`] finds the right
//!   order from the values.
//!
//! # On the remote
//!
//! [`RemoteCapture`] has the triggers of all replicated tables there. Each inserts the old and the
//! new row into `driftless_capture`. Triggers on that table, shared by all tables, append the event
//! to `driftless_events`. A push announces each row that it is about to write in
//! `driftless_applying`, and capture is silent about exactly that change. `remote.rs` has the
//! rules.
//!
//! # Invariants
//!
//! * No trigger names a table of the application other than its own. Otherwise the application
//!   could not rebuild the other table.
//! * Our triggers are the newest of their table, so they run before the application's. The
//!   exceptions are TEMP triggers and triggers that were created later; the store installs ours
//!   again when it sees a later one.
//! * Capture is silent while `driftless_state.replaying` is set. Only a replay sets it, in its own
//!   transaction, so no other writer sees it.
//!
//! # Caveats
//!
//! The lists in `triggers.rs`, `leaving.rs` and `chain/mod.rs` name what is not captured exactly.
//! Each is a rare combination of REPLACE, OR IGNORE or TEMP triggers with triggers of the
//! application.

mod before_images;
mod chain;
mod layout;
mod leaving;
mod marks;
mod positions;
mod remote;
mod replica;
mod shared;
mod triggers;

pub use chain::{ChainStep, Move, RowId, Uniques, untangle};
pub use layout::{BEFORE_IMAGES, Captured, Layout};
pub use leaving::LEAVING;

pub use remote::{GENERATOR, RemoteCapture, delete_trigger_there, present_names_there};
pub use replica::{
    delete_trigger, fingerprint, fingerprint_of, names_table, present_names, triggers,
};

pub use triggers::Trigger;
