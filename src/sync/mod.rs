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

mod accept;
mod asked;
mod contact;
mod definitions;
mod drain;
mod driver;
mod effect;
mod file;
mod first;
mod found;
mod handle;
mod identity;
mod init;
mod inquiry;
mod install;
mod lock;
mod look;
mod machine;
mod missing;
mod names;
mod pace;
mod pull;
mod push;
mod report;
mod request;
mod slices;
mod staging;
mod status;
mod trouble;
mod waiters;
mod watch;
mod word;

pub use accept::{LogEnd, Offer, TableRows};
pub use contact::{accept, initialise, initialise_watched, offer};
pub(crate) use contact::{fresh_plan, open_offline};
pub use definitions::Tables;
pub use drain::drain;
pub(crate) use driver::{Driver, Time};
pub use effect::{Effect, Input, Now, RequestId, Ticket};
pub(crate) use found::missing_table;
pub(crate) use handle::{Command, Handle};
pub(crate) use identity::{Refusal, examine};
pub use init::{Init, Plan, Progress};
pub(crate) use inquiry::other_log;
pub use lock::{Holder, Lock};
pub use machine::{Config, LIVELY_POLL_MS, Machine, POLL_MS};
pub use report::{Doing, Report};
pub use status::{
    Change, Changes, FirstSync, FirstSyncStep, HEALTH_BOUND_MS, Health, RemoteStatus, Status,
    Summary, SyncState,
};
pub(crate) use status::{Known, remembered_success, stopped};
pub(crate) use trouble::{other_remote, unknown_column};
pub(crate) use word::heard;
