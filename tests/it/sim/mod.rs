//! Deterministic simulation: worlds that are made from a seed, in which everything goes wrong that
//! can, and of which all rows must be equal in the end.
//!
//! A [`World`](world::World) has replicas on real SQLite, each with the real machine and the real
//! store; the remote's real schema on real SQLite behind the `Remote` trait; a web application; and
//! time and chance of its own. What happens in it is a [`History`](history::History): data that is
//! made from the seed alone, so that steps can be left out of it, and it can be kept.
//!
//! After each step what it touched is looked at ([`watch`], [`arrivals`]); when all has become
//! quiet, everything ([`rest`]). What the tables should be and what each verdict must be is said by
//! a [`model`] of fewer than 200 lines.
//!
//! ```text
//! DRIFTLESS_SEEDS=17..18 cargo test --test it sim       # one world
//! DRIFTLESS_SEEDS=0..50000 cargo test --test it sim     # many
//! DRIFTLESS_HISTORY=target/sim/17.json cargo test --test it sim    # a shrunk one
//! ```
//!
//! With `DRIFTLESS_TRACE=1` each step is told.

pub(crate) mod report;
pub(crate) mod run;

mod arrivals;
mod beside;
pub(crate) mod coverage;
mod deferral;
mod frames;
mod groups;
pub(crate) mod history;
mod model;
mod replica;
mod rest;
mod rewind;
mod rows;
mod server;
mod shape;
mod sql;
pub(crate) mod statement;
mod template;
#[cfg(test)]
mod tests;
mod watch;
mod workload;
mod world;
