//! Synchronisation: one replica and one remote exchange their changes until both have all of them.
//!
//! # The exchange
//!
//! The application writes to its own SQLite file, and triggers append every change to an outbox
//! ([`store`](crate::store)). The remote keeps a log of every change that it has received, in one
//! order, each with a verdict. A replica is in step when its outbox is empty and its cursor is at
//! the end of that log. Every request has two halves, and either may be missing: it pushes the next
//! events of the outbox, and it pulls the log after the newest page that has arrived. The remote
//! runs a request in one transaction, so the page that comes back with a push has the verdicts of
//! the pushed events too. A replica does not decide who wins a conflict. It learns that from the
//! log.
//!
//! # The machine
//!
//! [`Machine`] is the protocol of one replica. It has no thread, no clock, no network and no random
//! numbers of its own. The driver gives it an [`Input`]: a timer, a commit, the answer to a
//! request, a caller who asks for a sync. The machine works on its [`Store`](crate::store::Store)
//! and returns a list of [`Effect`]s: send this request, wake me at this time, notify this caller.
//! So every history can be repeated: the simulation and the golden scripts drive the machine
//! directly, and compare its effects exactly.
//!
//! At most one request is in flight (`Requests`). The next one is sent before the page of the last
//! one is integrated, so the network and the disk work at the same time. A third one waits, because
//! at most two pages are kept in memory. A failed request is tried again after growing waits
//! (`Schedule`). It has the same events with the same ids, and the remote ignores the ones that it
//! has. So a lost answer costs a repetition and nothing else.
//!
//! The parts of the machine own their state, and each answers one question:
//!
//! * `schedule`: when may something be sent?
//! * `push`: which events are next, and which one made a push fail? After a rejection the push is
//!   bisected. Events that depend on each other by foreign keys are sent in one transaction, in
//!   parts if a request cannot carry them.
//! * `pull`: how much of the log is requested, and which page is integrated next? A line that no
//!   answer can carry is read in chunks.
//! * `reconcile`: is an acknowledged event missing from the log that was read?
//! * `recapture` and `find`: has capture missed writes, here or on the remote?
//! * `identity`: with which identity does the replica push? A copied file finds out at its first
//!   push, and takes an identity of its own.
//! * `file`: is the database file still the same?
//! * `waiters`: which callers' syncs are done?
//! * `error_policy` and `health`: what does an error mean, and which state is shown?
//!
//! They return decisions. `request/next.rs` puts the next request together from them, and
//! `apply.rs` applies the consequences of answers and failures. No other file writes the machine's
//! state.
//!
//! # The check of the remote
//!
//! Every answer says which database the remote is, which event it has at the replica's place in the
//! log, and which incarnation of the replica. `remote_check` compares them before anything else in
//! the answer is used. If the URL leads to another database, or the remote was restored from a
//! backup, nothing is pushed or pulled until a person accepts the remote ([`RemotePreview`],
//! [`accept`]).
//!
//! # The first sync
//!
//! [`FirstSync`] joins two databases that have never met. It compares their definitions, creates
//! the missing tables on each side, reads all rows of the remote page by page into a staging area,
//! and folds the log since the first page over them. Then one local transaction merges the rows.
//! Like the machine, it returns one request at a time and receives the answers. The machine runs it
//! as one of its phases, and a command runs it alone ([`initialise`]).
//!
//! # The driver
//!
//! The driver (`driver`) owns the thread that owns the machine and the database. It sends requests
//! on a thread of tokio, reads the clocks, holds the lock that makes it the only replicator of the
//! file, notices commits of other processes, and decides how long to hold the write lock, so that
//! the application does not wait for long. [`drain`] does the same until nothing is left, for a
//! command. [`Replicator`](crate::Replicator) is its public interface.
//!
//! # Invariants
//!
//! * A request is sent only after everything that it depends on is in the database.
//! * Nothing of an answer is used before the remote was checked.
//! * The machine never stops silently: it has a request in flight, or waits for a time, and the
//!   status names what does not flow.
//!
//! # Caveats
//!
//! * A transaction with more than [`GROUP_EVENTS`](crate::store::GROUP_EVENTS) events may be split
//!   between events that do not depend on each other.
//! * A transaction of another writer that is larger than 20,000 events, or than 16 MB if the
//!   remote's answers are small, is integrated in parts. The status says so until its end is here.
//! * An event that is too large for a request is recorded as rejected, without its values. Its
//!   values stay in its writer's conflict inbox.
//! * For each event that makes a push fail, a bisection takes a number of requests that grows with
//!   the logarithm of the push. Later events wait meanwhile.
//! * An interrupted first sync begins again.
//! * If the remote's log leaves out an event, a replica notices it only for its own events.

mod adoption;
pub mod backoff;
mod driver;
mod first_sync;
mod machine;
mod remote_check;
mod removal;
mod status;
mod verify;

pub use adoption::preview::{LogEnd, RemotePreview, TableRows};
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
pub(crate) use driver::status_file::{Announcement, read_status, remembered_success};
pub use first_sync::compare::Tables;
#[cfg(feature = "internals")]
pub use first_sync::kept_tables::kept;
pub use first_sync::plan::Plan;
pub(crate) use first_sync::plan::{fresh_plan, open_offline};
pub use first_sync::report::{Advance, Phase, Report};
pub use first_sync::run::FirstSync;
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
