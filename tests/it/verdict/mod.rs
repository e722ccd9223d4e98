//! The remote's SQL: what a push decides, what it writes, and what is captured.
//!
//! `golden` runs the golden scripts, of which each rule has one; `agree` holds the pure conflict rule
//! and its SQL equal; `histories` folds the log of random histories; `arranged` puts pushes in another
//! order; `thin` looks at what stands in the remote's schema, and `cost` at what it costs; `turso`
//! runs it all on the Turso engine; `unique` compares UNIQUE indexes of any kind with SQLite's own.
//!
//! A random test says the seed that failed. `DRIFTLESS_TEST_SEED=7` runs that one alone, and
//! `DRIFTLESS_TEST_SEEDS=1000` so many.

mod agree;
mod arranged;
mod cost;
mod golden;
mod histories;
mod remote;
mod stock;
mod thin;
mod turso;
mod unique;

use remote::Pushed;

/// The word for an event's kind.
fn said(event: &Pushed) -> &str {
    if event.other.is_some() { "move" } else { &event.op }
}
