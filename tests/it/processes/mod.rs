//! The built program, as real processes that are killed, behind a network that fails, on disks that
//! are full or damaged, while other programs write with plain SQL.
//!
//! A [`Place`](place::Place) is a folder with a hub and desks, and a [`Proxy`](proxy::Proxy) between
//! them. Writers ([`writers`]) note each transaction that was committed. At the end everything heals,
//! each desk is synchronised to the end, and [`account`] compares the databases row by row and finds
//! each committed write, once, in the log, and then in the tables or among the conflicts.
//!
//! Moments are drawn by a seed, which is printed. `DRIFTLESS_TEST_SEED=7` repeats it, as far as
//! processes can be repeated, and `DRIFTLESS_TEST_KILLS=5000` kills for so long.

mod account;
mod clock;
mod damage;
mod disk;
mod file;
mod first;
mod identity;
mod kills;
mod network;
mod place;
mod proxy;
mod steps;
mod writers;

use std::time::Duration;

/// After this a wait for what should take a moment is a failure.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often to look whether it is there.
const LOOK: Duration = Duration::from_millis(2);

/// Waits until something is so.
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let mut looks = 0;
    while !done() {
        assert!(LOOK * looks < PATIENCE, "waited in vain: {what}");
        looks += 1;
        std::thread::sleep(LOOK);
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// The seed of a test, which is printed if it fails.
#[expect(clippy::print_stderr, reason = "whoever repeats a failure needs it")]
fn seed() -> u64 {
    let seed = number("DRIFTLESS_TEST_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    eprintln!("to repeat: DRIFTLESS_TEST_SEED={seed} cargo test processes");
    seed
}

/// How often to kill, where it is `usual` times by default.
fn kills(usual: usize) -> usize {
    number("DRIFTLESS_TEST_KILLS").map_or(usual, |kills| kills as usize)
}
