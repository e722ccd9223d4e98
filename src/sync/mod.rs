//! Synchronisation: one replica and one remote exchange their changes until both have all of them.
//!
//! # What is exchanged
//!
//! The application writes to its own SQLite file, and triggers append every change to an outbox
//! ([`store`](crate::store)). The remote keeps a log: every change that it has taken in, in one
//! order, each with a verdict. A replica is in step when its outbox is empty and its cursor is at
//! the end of that log. Every request has two halves, and either may be missing: it pushes the next
//! events of the outbox, and it pulls the log behind the newest page that has arrived. The remote
//! runs a request in one transaction, so a page that comes back with a push has the verdicts of the
//! pushed events too. A replica does not decide who wins a conflict: it learns that from the log.
//!
//! # The machine
//!
//! [`Machine`] is the protocol of one replica, without a thread, a clock, a network or a source of
//! chance of its own. The driver gives it an [`Input`]: the time has come, somebody has committed,
//! a request was answered, somebody asks for a sync. The machine works on its
//! [`Store`](crate::store::Store) and returns a list of [`Effect`]s: send this request, wake me at
//! this time, tell this caller. So every history can be repeated: the simulation and the golden
//! scripts drive the machine by hand and compare its effects to the letter.
//!
//! At most one request is in flight (`Requests`). The next one goes out before the page of the last
//! one is integrated, so the network and the disk work at the same time; a third one waits, because
//! at most two pages may be kept in memory. A request that fails is tried again after waits that
//! grow (`Schedule`). It carries the same events with the same ids, and the remote leaves out the
//! ones that it has: so a lost answer costs a repetition and nothing else.
//!
//! Its parts own their state, and each answers one question:
//!
//! * `schedule`: when may something be sent?
//! * `push`: which events go next, and which one made a push fail? After a rejection the push is
//!   bisected. Events that hang together by foreign keys go in one transaction, in parts if a
//!   request cannot carry them.
//! * `pull`: how much of the log is asked for, and which page is integrated next? A line that no
//!   answer can carry is read in chunks.
//! * `reconcile`: is an acknowledged event missing from the log that was read?
//! * `identity`: under which name is pushed? A copied file finds out at its first push, and takes a
//!   name of its own.
//! * `waiters`: whose sync is done?
//! * `error_policy` and `health`: what does an error mean, and what is shown?
//!
//! They return decisions. `machine/mod.rs` puts the next request together, and `machine/apply.rs`
//! applies what answers and failures lead to. No other file writes the machine's state.
//!
//! # The remote is checked with every answer
//!
//! Every answer says which database the remote is, which event it has at the replica's place in the
//! log, and which incarnation of the replica it has. `remote_check` compares them before anything
//! of the answer counts. If the URL leads to another database, or the remote was restored from a
//! backup, nothing is pushed or pulled until a person accepts the remote ([`RemotePreview`],
//! [`accept`]).
//!
//! # The first sync
//!
//! [`FirstSync`] brings two databases together that have never met: it compares their definitions,
//! makes on each side what is missing, reads all rows of the remote page by page into a staging
//! area, and folds the log since the first page over them. Then one local transaction shows the
//! result. It is asked for one request after the other and given the answers, as the machine is; so
//! the machine runs it as part of its own life, and a command runs it alone
//! ([`initialise`]).
//!
//! # The driver
//!
//! The driver (`driver`) owns the thread that owns the machine, and with it the database. It
//! carries requests to the remote on a thread of tokio's, reads the clocks, holds the lock that
//! makes it the only replicator of the file, notices commits of other processes, and decides how
//! long the write lock is held at a time, so that the application is not kept waiting. [`drain`]
//! runs the same until nothing is left to do, for a command. [`Replicator`](crate::Replicator) is
//! its public face.
//!
//! # Caveats
//!
//! * A transaction with more than [`GROUP_EVENTS`](crate::store::GROUP_EVENTS) events may be split
//!   on its way, between events that do not hang together.
//! * A transaction of another writer that is larger than 20,000 events, or 16 MB where the remote's
//!   answers are small, is integrated in parts. The status says so until its end is here.
//! * An event that is larger than the remote takes in one request is recorded without its values,
//!   as rejected. Its values stay in its writer's conflict inbox.
//! * A bisection takes a number of requests that grows with the logarithm of the push, for each
//!   event that is to blame. What was written after that push waits meanwhile.
//! * A first sync that is interrupted begins anew.
//! * Only own events are missed if the remote's log leaves something out.

mod adoption;
pub mod backoff;
mod driver;
mod first_sync;
mod machine;
mod remote_check;
mod removal;
mod status;
mod verify;

pub use adoption::report::{ColumnDifference, DryRun, Side, TablePreview, Twins};
pub use adoption::run::dry_run;
pub(crate) use driver::Driver;
pub(crate) use driver::blocking::when_unlocked;
pub use driver::blocking::{
    accept, drain, initialise, look_at_installation, preview_remote, remove_files,
    remove_installation,
};
pub(crate) use driver::clock::now_ms;
pub(crate) use driver::handle::{Command, Handle, shut_down};
pub use driver::lock::{Holder, Lock};
pub(crate) use driver::remote_facts::{RemoteFacts, ask};
pub(crate) use driver::status_file::{read_status, remembered_success};
pub use first_sync::compare::Tables;
#[cfg(feature = "internals")]
pub use first_sync::kept_tables::kept;
pub use first_sync::plan::Plan;
pub(crate) use first_sync::plan::{fresh_plan, open_offline};
pub use first_sync::preview::{LogEnd, RemotePreview, TableRows};
pub use first_sync::report::{Phase, Report};
pub use first_sync::run::{Advance, FirstSync};
pub use machine::Machine;
pub use machine::io::{Config, Effect, Input, Now, PullSize, PushSize, RequestId, Staged, Ticket};
#[cfg(feature = "internals")]
pub use machine::schedule::MAX_SOON_REQUESTS;
pub use machine::schedule::{POLL_MS, SOON_MS};
pub use removal::RemoteInstallation;
pub use status::{
    Changes, FirstSyncProgress, FirstSyncStep, HEALTH_BOUND_MS, Health, LastCheck, RemoteStatus,
    Status, Summary, SyncState,
};
pub(crate) use status::{Known, stopped};
pub use verify::report::{
    LogDifference, Proof, RowDifference, Unverified, Verified, VerifiedLog, VerifiedTable,
    VerifyOptions, VerifyProgress,
};
pub use verify::run::{Repair, verify};
pub use verify::tables::{Checked, TableCheck};
