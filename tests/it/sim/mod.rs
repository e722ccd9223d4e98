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
//! DRIFTLESS_SEEDS=17..18 cargo test --test it sim::worlds       # one world
//! DRIFTLESS_SEEDS=0..50000 cargo test --test it sim::worlds     # many
//! DRIFTLESS_HISTORY=target/sim/17.json cargo test --test it sim::worlds    # a shrunk one
//! ```
//!
//! With `DRIFTLESS_TRACE=1` each step is told.

#![allow(clippy::print_stderr)]

mod arrivals;
mod coverage;
mod history;
mod model;
mod replica;
mod report;
mod rest;
mod run;
mod server;
mod shape;
mod sql;
mod template;
mod watch;
mod workload;
mod world;

use std::sync::Mutex;

use coverage::Seen;
use history::History;
use run::{run, run_all};

/// The worlds of a run of the default size.
const WORLDS: std::ops::Range<u64> = 0..2_000;

fn seeds() -> Option<std::ops::Range<u64>> {
    let given = std::env::var("DRIFTLESS_SEEDS").ok()?;
    let (first, last) = given.split_once("..").expect("DRIFTLESS_SEEDS is like 0..100");
    Some(first.parse().unwrap()..last.parse().unwrap())
}

fn trace() -> bool {
    std::env::var_os("DRIFTLESS_TRACE").is_some()
}

/// Runs the worlds of these seeds; the first that fails ends the run with its report.
pub(crate) fn worlds(seeds: std::ops::Range<u64>, cores: usize) -> (Seen, u64) {
    let sum = Mutex::new((Seen::default(), 0));
    let failed = Mutex::new(Vec::new());
    run_all(seeds, cores, |seed, ran| {
        let mut sum = sum.lock().unwrap();
        sum.0.add(&ran.seen);
        sum.1 += ran.steps;
        let Some(failure) = ran.failure else { return true };
        failed.lock().unwrap().push((seed, failure));
        false
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort_by_key(|(seed, _)| *seed);
    if let Some((seed, failure)) = failed.first() {
        panic!("{}", report::of(&History::of(*seed), failure));
    }
    sum.into_inner().unwrap()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get())
}

#[test]
fn worlds_end_equal() {
    if let Ok(path) = std::env::var("DRIFTLESS_HISTORY") {
        let history = report::read(std::path::Path::new(&path));
        let ran = run(&history, true);
        assert!(ran.failure.is_none(), "{}", ran.failure.unwrap().what);
        return;
    }
    let given = seeds();
    if trace() {
        for seed in given.clone().unwrap_or(WORLDS) {
            let history = History::of(seed);
            eprintln!("seed {seed}\n{}{:#?}", history.shape.schema(), history.shape);
            let ran = run(&history, true);
            assert!(ran.failure.is_none(), "{:?}", ran.failure);
        }
        return;
    }
    let range = given.clone().unwrap_or(WORLDS);
    let (seen, steps) = worlds(range.clone(), cores());
    eprintln!("{} worlds, {steps} steps:\n{seen}", range.count());
    if given.is_none() {
        let missing = seen.missing();
        assert!(missing.is_empty(), "nothing of this happened: {missing:?}");
    }
}
