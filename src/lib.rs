//! **driftless** keeps a desktop application's local SQLite database and a Turso (libSQL) database
//! in step, in both directions, by an event log.
//!
//! A [`Replicator`] replicates one database file in the background. The application reads and
//! writes its tables with plain SQL, over any connection, and never waits for the network:
//!
//! ```no_run
//! # async fn example() -> driftless::Result<()> {
//! use driftless::Replicator;
//!
//! let replicator = Replicator::builder("gym.db")
//!     .remote("libsql://gym.turso.io", std::env::var("TURSO_AUTH_TOKEN").unwrap_or_default())
//!     .tables(["members", "payments"])
//!     .start()?;
//! let db = replicator.connection()?;
//! db.execute("UPDATE members SET name = 'Ana' WHERE id = 'm1'", [])?;
//!
//! let mut changes = replicator.subscribe();
//! while let Some(changes) = changes.next().await {
//!     println!("{} rows changed, up to event {}", changes.rows.len(), changes.cursor);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Triggers append each change to an outbox ([`capture`]), as an [`event::Event`]. The [`sync`]
//! machine pushes the outbox and pulls the remote's log in one request, which [`remote`] carries.
//! The remote's own triggers judge what arrives ([`verdict`]) and write it to the remote's tables.
//! The [`store`] integrates what comes back, keeps what lost in a conflict inbox, and seals every
//! event into a local log ([`frame`]). `hub` is a remote for development; `cli` is the command.
//!
//! The layers, from the bottom: [`value`], [`event`], [`verdict`], [`page`], [`frame`],
//! [`identity`], [`clock`] and [`backoff`] are pure; [`capture`] makes SQL text; [`store`] owns the
//! local database; [`remote`] owns the network; [`sync`] is the protocol and its driver.
//!
//! # Errors
//!
//! There is one [`Error`], and its [`Kind`] says what to do about it. A conflict that was lost is
//! no error: see [`Replicator::conflicts`].
//!
//! # Caveats
//!
//! * A database file that is copied, or restored from a backup, is noticed at its next push, and
//!   goes on as another replica ([`identity`]).
//! * One replicator at a time works on a file. A second one stands by, and takes over.

// The command and the hub use items that the library alone does not. The build with both features
// still reports an item that nothing uses.
#![cfg_attr(not(all(feature = "cli", feature = "hub")), allow(dead_code, unused_imports))]

pub mod backoff;
pub mod capture;
#[cfg(feature = "cli")]
pub mod cli;
pub mod clock;
pub mod error;
pub mod event;
pub mod frame;
#[cfg(feature = "hub")]
pub mod hub;
pub mod identity;
mod json;
pub mod page;
pub mod remote;
mod replicator;
pub mod store;
pub mod sync;
pub mod value;
pub mod verdict;

pub use error::{Error, Kind, Result};
pub use replicator::{Builder, Replicator, Subscription};
pub use sync::{Changes, Health, Status, Summary, SyncState};

/// The example of the README, which is compiled with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
