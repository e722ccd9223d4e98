//! **driftless** keeps a desktop application's local SQLite database and a Turso (libSQL) database
//! in step, in both directions, by an event log.
//!
//! # Start
//!
//! A [`Replicator`] replicates one database file in the background. The application reads and
//! writes its tables with plain SQL, over any connection, and never waits for the network:
//!
//! ```no_run
//! # async fn example() -> driftless::Result<()> {
//! use driftless::{Health, Replicator};
//!
//! let replicator = Replicator::builder("gym.db")
//!     .remote("libsql://gym.turso.io", std::env::var("TURSO_AUTH_TOKEN").unwrap_or_default())
//!     .tables(["members", "payments"])
//!     .actor("front desk")
//!     .start()?;
//! let db = replicator.connection()?;
//! db.execute("UPDATE members SET name = 'Ana' WHERE id = 'm1'", [])?;
//!
//! // An icon, and a sentence beside it.
//! let status = replicator.status();
//! if status.health != Health::Ok {
//!     println!("{}", status.trouble.unwrap_or_default());
//! }
//!
//! // Changes that lost to another writer: a person decides.
//! for conflict in replicator.conflicts(false)? {
//!     println!("{} {} lost", conflict.event.table, conflict.event.key);
//!     replicator.restore(conflict.event.id, None)?;
//! }
//!
//! // Rows that others changed, for a user interface to draw again.
//! let mut changes = replicator.subscribe();
//! while let Some(changes) = changes.next().await {
//!     println!("{} rows changed, up to event {}", changes.rows.len(), changes.cursor);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//!
//! Triggers in the database record each change of a replicated table as an
//! [`Event`](events::Event), in the application's own transaction and with any SQLite client. The
//! replicator pushes the events to the remote and pulls the others' events, in one request.
//!
//! The remote decides about each pushed event, in one transaction: the event is applied, or it
//! loses because another writer changed the row first, or it is rejected because it breaks a
//! constraint ([`Verdict`](events::Verdict)). All replicas apply the same log in the same order, so
//! all have the same rows in the end.
//!
//! # What an application shows
//!
//! * Whether the data is safe and current: [`Replicator::status`]. Its types are in [`status`].
//! * Local changes that lost, and a way to write them again: [`Replicator::conflicts`]. Its types
//!   are in [`conflicts`].
//! * Remote changes that cannot be applied here: [`Replicator::quarantine`].
//! * The log, and everything else that the command shows: [`Replicator::inspect`] and [`inspect`].
//! * A settings page with the remote's URL and token: [`Replicator::test_connection`],
//!   [`Replicator::reconfigure`] and [`remotes`].
//!
//! # Threads
//!
//! One thread owns the replicator's connection and does the work. Every method can be called from
//! any thread. The futures ([`Replicator::sync_now`], [`Subscription::next`]) can be awaited in any
//! runtime; most have a `_blocking` form, which must not be called in a tokio runtime's own thread.
//!
//! # Errors
//!
//! There is one [`Error`]. Its [`Kind`] says what to do about it, and its [`Code`] which error it
//! is: programs act on these two and never on the message. A lost conflict is not an error: it is a
//! [`Conflict`].
//!
//! # Features
//!
//! * `cli` (default): the command `driftless`. An application does not need it.
//! * `hub` (default): a remote for development and tests.
//!
//! # Caveats
//!
//! * A database file that was copied, or restored from a backup, is noticed at its next push. It
//!   continues as another replica ([`Status::identity`]).
//! * One replicator at a time works on a file. A second one waits ([`SyncState::Standby`]), and
//!   takes over when the first one ends.

// The modules are public for our own tests alone. Without that, what is not exported cannot be
// reached, and some re-exports are not used.
#![cfg_attr(
    not(feature = "internals"),
    allow(unreachable_pub, unused_imports, clippy::enum_variant_names)
)]
// What a public signature needs must be exported, too.
#![warn(unnameable_types)]
// The command and the hub use items that the library alone does not.
#![cfg_attr(not(all(feature = "cli", feature = "hub")), allow(dead_code))]

#[cfg(not(feature = "internals"))]
mod audit;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod audit;
#[cfg(not(feature = "internals"))]
mod capture;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod capture;
#[cfg(not(feature = "internals"))]
mod catalog;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod catalog;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[cfg(not(feature = "internals"))]
mod error;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod error;
#[cfg(not(feature = "internals"))]
mod event;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod event;
#[cfg(feature = "hub")]
pub mod hub;
pub mod inspect;
#[cfg(not(feature = "internals"))]
mod protocol;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod protocol;
#[cfg(not(feature = "internals"))]
mod remote;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod remote;
mod replicator;
#[cfg(not(feature = "internals"))]
mod store;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod store;
#[cfg(not(feature = "internals"))]
mod sync;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod sync;

pub use error::{Code, Error, Kind, Result, UnknownCode};
pub use replicator::{Builder, Replicator, Subscription};
pub use store::{Conflict, Connection, Rename};
pub use sync::{Changes, Health, Status, Summary, SyncState};

/// The content of a [`Status`] and of the report of a first sync.
///
/// [`Replicator::status`] answers at once, from what the replicator knows. [`Status::health`] is
/// one word for an icon. [`Status::state`], [`Status::trouble`] and [`Status::hint`] are the text
/// beside it. Everything that does not flow is listed by name:
///
/// * [`Status::left_out`]: tables that are not replicated, with the reason;
/// * [`Status::unwritable`]: tables whose changes cannot be written here at present;
/// * [`Status::suspect`]: tables that changed here, and are compared before anything goes on;
/// * [`Status::returned`]: rows that were missing after such a change, and came back;
/// * [`Status::waiting`]: tables whose changes cannot be pushed at present, with what waits;
/// * [`Status::dangling`]: tables with rows whose parent is not replicated or was deleted;
/// * [`Status::conflicts`] and [`Status::quarantined`]: see [`conflicts`].
pub mod status {
    pub use crate::catalog::{LeftOut, Where, Why};
    pub use crate::store::{Cause, Dangling, PastIdentity, ReturnedRows, Unwritable, Waiting};
    pub use crate::sync::{FirstSyncProgress, FirstSyncStep, LastCheck, RemoteStatus};
}

/// Local changes that lost, and remote changes that cannot be applied here.
///
/// [`Replicator::conflicts`] lists the first, each with the winner. A person decides:
/// [`Replicator::restore`] writes the lost values again, as a new change, with a [`NewKey`] if the
/// row's key is taken; [`Replicator::dismiss`] closes the conflict. Conflicts of one `group` may be
/// of one transaction: [`Replicator::restore_selected`] and [`Replicator::dismiss_selected`] act on
/// several.
///
/// [`Replicator::quarantine`] lists the others. They are tried again when the definition of their
/// table changes, and by [`Replicator::retry_quarantine`].
///
/// [`NewKey`]: crate::conflicts::NewKey
/// [`Replicator::conflicts`]: crate::Replicator::conflicts
pub mod conflicts {
    pub use crate::event::conflict::ConflictRule;
    pub use crate::store::{
        ConflictFilter, ConflictKind, ConflictState, Dismissed, NewKey, Prefer, Quarantined,
        Restored, Retried, Selection, Unrestored,
    };
}

/// One change of one row, with its values, its author and the remote's verdict.
pub mod events {
    pub use crate::event::value::Value;
    pub use crate::event::verdict::Verdict;
    pub use crate::event::{Change, Event, EventId, Image, Op, Origin, ReplicaId, RowKey, Seq};
}

/// The remote: its token, a test of both, and the preview of a remote that was replaced.
///
/// [`Credentials`] are the source of the token; a file or a function is read again when the token
/// was refused. [`probe()`] tries a URL and a token without a replicator, and
/// [`Replicator::test_connection`] with one. [`Replicator::remote_preview`] shows a remote that has
/// another log than before, and [`Replicator::accept_remote`] continues with it.
///
/// [`Credentials`]: crate::remotes::Credentials
/// [`probe()`]: crate::remotes::probe
pub mod remotes {
    pub use crate::remote::{
        Access, Aspect, Credentials, Finding, Level, Options, ProbeReport, Token, probe,
    };
    pub use crate::sync::{LogEnd, RemotePreview, TableRows};
}

/// The example of the README, which is compiled with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
