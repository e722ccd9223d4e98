//! Runs worlds of the simulation (`tests/it/sim`) until the time is over or one fails.
//!
//! ```text
//! cargo test --release --test soak -- --minutes 60 [--from SEED] [--worlds N] [--brief]
//! cargo test --release --test soak -- --history target/sim/17.json
//! ```
//!
//! Without `--from` the first seed is drawn from the clock, so that each run has other worlds. A
//! world that fails is shrunk and reported as by the tests, and the run ends with exit code 1. With
//! `--brief` it is not shrunk. It takes one core: start one for each.
//!
//! `cargo test` gives neither `--minutes` nor `--worlds`: then it runs the world of seed 0 alone, so
//! that it is seen to work.

#![allow(clippy::disallowed_methods, clippy::print_stdout)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

// Its tests are for the harness of `tests/it`.
#[allow(dead_code, unused_imports)]
#[path = "it/sim/mod.rs"]
mod sim;

use sim::coverage::Seen;
use sim::history::History;
use sim::report;
use sim::run::{Failure, run};

/// How often a line says how far it is.
const LINE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Progress {
    worlds: u64,
    steps: u64,
    seen: Seen,
    failed: Option<(u64, Failure)>,
}

fn argument(name: &str) -> Option<u64> {
    let mut all = std::env::args().skip_while(|argument| argument != name);
    all.next()?;
    let given = all.next().and_then(|value| value.parse().ok());
    Some(given.unwrap_or_else(|| panic!("{name} wants a number behind it")))
}

fn main() {
    let mut all = std::env::args().skip_while(|argument| argument != "--history").skip(1);
    if let Some(path) = all.next() {
        let ran = run(&report::read(path.as_ref()), true);
        println!("{:?}", ran.failure);
        return;
    }
    let (minutes, worlds) = (argument("--minutes"), argument("--worlds"));
    let is_plain = minutes.is_none() && worlds.is_none();
    let minutes = minutes.unwrap_or(10);
    let drawn =
        || SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
    let first = argument("--from").or(is_plain.then_some(0));
    let from = first.unwrap_or_else(|| drawn() << 16);
    let worlds = worlds.or(is_plain.then_some(1)).unwrap_or(u64::MAX - from);
    let begun = Instant::now();
    let end = begun + Duration::from_secs(60 * minutes);
    println!("from seed {from}, for {minutes} minutes");
    let mut progress = Progress::default();
    let mut line = begun;
    for seed in from..from + worlds {
        let ran = run(&History::of(seed), false);
        progress.worlds += 1;
        progress.steps += ran.steps;
        progress.seen.add(&ran.seen);
        progress.failed = ran.failure.map(|failure| (seed, failure));
        let now = Instant::now();
        if now - line >= LINE {
            line = now;
            let seconds = (now - begun).as_secs();
            let Progress { worlds, steps, .. } = progress;
            println!("{seconds:6} s  {worlds:8} worlds  {steps:10} steps  up to seed {seed}");
        }
        if progress.failed.is_some() || now >= end {
            break;
        }
    }
    if !is_plain {
        print!("{}", progress.seen);
    }
    println!("{} worlds, {} steps", progress.worlds, progress.steps);
    if let Some((seed, failure)) = progress.failed {
        println!("found in world {} of this run", seed - from + 1);
        match std::env::args().any(|argument| argument == "--brief") {
            true => println!("{}", failure.what),
            false => println!("{}", report::of(&History::of(seed), &failure)),
        }
        std::process::exit(1);
    }
}
