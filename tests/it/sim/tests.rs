//! The worlds of a test run, and the histories that ever failed.

#![allow(clippy::print_stderr)]

use std::path::Path;
use std::sync::Mutex;

use super::coverage::Seen;
use super::history::History;
use super::report;
use super::run::{run, run_all};

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

/// Runs the worlds of these seeds; one that fails ends the run with its report.
fn worlds(seeds: std::ops::Range<u64>) -> (Seen, u64) {
    let sum = Mutex::new((Seen::default(), 0));
    let failed = Mutex::new(Vec::new());
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
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

/// Runs one history, telling each step.
fn told(history: &History) {
    eprintln!("seed {}: {:#?}", history.seed, history.shape);
    let failure = run(history, true).failure;
    let told = format!("{failure:?}");
    assert!(failure.is_none(), "{told}");
}

#[test]
fn worlds_end_equal() {
    if let Ok(path) = std::env::var("DRIFTLESS_HISTORY") {
        return told(&report::read(Path::new(&path)));
    }
    let given = seeds();
    let range = given.clone().unwrap_or(WORLDS);
    if trace() {
        return range.for_each(|seed| told(&History::of(seed)));
    }
    let (seen, steps) = worlds(range.clone());
    eprintln!("{} worlds, {steps} steps:\n{seen}", range.count());
    if given.is_none() {
        let missing = seen.missing();
        assert!(missing.is_empty(), "nothing of this happened: {missing:?}\n{seen}");
    }
}

/// Every history that ever failed, as short as it got.
#[test]
fn histories_that_failed_once() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sim");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "json") {
            let failure = run(&report::read(&path), false).failure;
            assert!(failure.is_none(), "{}: {}", path.display(), failure.unwrap().what);
            count += 1;
        }
    }
    assert!(count > 0, "there are such histories");
}

/// What is short can be read, and believed.
#[test]
fn the_model_has_fewer_than_200_lines() {
    assert!(include_str!("model.rs").lines().count() < 200);
}
