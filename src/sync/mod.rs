//! Synchronising: the protocol, and what runs it.
//!
//! [`Machine`] is the protocol. It is told what happened ([`Input`]) and says what is to be done
//! ([`Effect`]); it works on a [`Store`](crate::store::Store) and knows no network, no clock and no
//! chance, so a history can be run again to the letter. One request at a time goes out: it carries
//! what is to be pushed and asks for the log after the newest page that came, and the next one goes
//! out before that page is integrated. How much a request carries is decided by `push` and `pull`,
//! which also close in on an event that the remote rejects.
//!
//! [`Init`] is the first contact with a remote, a machine too.
//!
//! `driver` performs the effects: one thread owns the machine and with it the database, tokio owns
//! the network. [`drain`] runs the same until nothing is left to do, for a command.
//! [`Replicator`](crate::Replicator) is the driver's public face.
//!
//! # Caveats
//!
//! * A transaction with more than [`GROUP_EVENTS`](crate::store::GROUP_EVENTS) events may be parted
//!   on its way, between events that do not hang together.
//! * An event that is larger than the remote takes in one request is recorded without its values,
//!   as rejected. They stay in its writer's conflict inbox.
//! * A first sync that is interrupted begins anew.

mod driver;
mod first_sync;
mod machine;
mod status;

pub(crate) use driver::Driver;
#[cfg(feature = "internals")]
pub use driver::blocking::initialise;
pub use driver::blocking::{accept, initialise_watched, offer};
pub(crate) use driver::blocking::{fresh_plan, open_offline, when_unlocked};
pub(crate) use driver::clock::Time;
pub use driver::drain::{drain, drain_watched};
pub(crate) use driver::handle::{Command, Handle};
pub use driver::lock::{Holder, Lock};
pub(crate) use driver::remote_facts::{RemoteFacts, ask};
pub(crate) use driver::status_file::heard;
pub use first_sync::compare::Tables;
pub use first_sync::preview::{LogEnd, Offer, TableRows};
pub use first_sync::report::{Doing, Report};
pub use first_sync::run::{Init, Plan, Progress};
pub use machine::io::{Effect, Input, Now, RequestId, Ticket};
pub use machine::push::bisect::PushSize;
pub use machine::push::staging::Staged;
pub use machine::{Config, LIVELY_POLL_MS, Machine, POLL_MS};
pub use status::{
    Change, Changes, FirstSync, FirstSyncStep, HEALTH_BOUND_MS, Health, RemoteStatus, Status,
    Summary, SyncState,
};
pub(crate) use status::{Known, Trouble, remembered_success, stopped};
