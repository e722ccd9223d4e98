//! The remote's SQL: what the inbox decides, what it writes, and what it captures.
//!
//! `scripts/` has a golden script for each rule; `agree` holds the pure conflict rule and its SQL
//! equal; `histories` folds the log of random histories; `turso` runs it all on the Turso engine.
//!
//! A random test says the seed that failed. `DRIFTLESS_TEST_SEED=7` runs that one alone, and
//! `DRIFTLESS_TEST_SEEDS=1000` so many.

mod agree;
mod golden;
mod histories;
mod remote;
mod stock;
mod turso;

use remote::Pushed;

/// Runs a test for each of its seeds, of which there are `count` unless the environment says more, and
/// gives the command that runs them all again. `filter` is the test that asks.
pub(crate) fn each_seed(count: u64, filter: &str, mut run: impl FnMut(u64)) -> String {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let count = number("DRIFTLESS_TEST_SEEDS").unwrap_or(count);
    let seeds = match number("DRIFTLESS_TEST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..count,
    };
    for seed in seeds {
        let run = std::panic::AssertUnwindSafe(|| run(seed));
        if let Err(panic) = std::panic::catch_unwind(run) {
            #[expect(clippy::print_stderr, reason = "a person needs the seed to repeat the run")]
            {
                eprintln!("DRIFTLESS_TEST_SEED={seed} cargo test {filter} repeats this");
            }
            std::panic::resume_unwind(panic);
        }
    }
    format!("DRIFTLESS_TEST_SEEDS={count} cargo test {filter} repeats this")
}

/// The word for an event's kind.
fn said(event: &Pushed) -> &str {
    if event.other.is_some() { "move" } else { &event.op }
}
