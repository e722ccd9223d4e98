//! The worlds of a test run, and the histories that ever failed.

#![allow(clippy::print_stderr)]

use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::coverage::Seen;
use super::history::History;
use super::report;
use super::run::{Failure, run};
use super::shape::WORLDS_A_SHAPE;

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

/// What came of some worlds.
#[derive(Default, Serialize, Deserialize)]
struct Sum {
    seen: Seen,
    steps: u64,
    failed: Option<(u64, Failure)>,
}

/// Which part of the worlds a process takes, and where it says what came of them: the part's number,
/// how many parts there are, and a file.
const SHARE: &str = "DRIFTLESS_SIM_SHARE";

/// Runs the worlds of this process' share, until one fails.
fn share(seeds: Range<u64>, share: &str) {
    let mut parts = share.splitn(3, ' ');
    let mut number = || parts.next().unwrap().parse::<u64>().unwrap();
    let (part, of) = (number(), number());
    let mut sum = Sum::default();
    for seed in seeds.filter(|seed| seed / WORLDS_A_SHAPE % of == part) {
        let ran = run(&History::of(seed), false);
        sum.seen.add(&ran.seen);
        sum.steps += ran.steps;
        sum.failed = ran.failure.map(|failure| (seed, failure));
        if sum.failed.is_some() {
            break;
        }
    }
    std::fs::write(parts.next().unwrap(), serde_json::to_vec(&sum).unwrap()).unwrap();
}

/// Runs the worlds of these seeds, in a process for each core: threads would wait for each other,
/// since SQLite counts its memory under one lock. The first that fails is reported.
fn worlds(seeds: &Range<u64>) -> Sum {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let folder = tempfile::tempdir().unwrap();
    let start = |part: usize| {
        let file = folder.path().join(part.to_string());
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["sim::tests::worlds_end_equal", "--exact"])
            .env("DRIFTLESS_SEEDS", format!("{}..{}", seeds.start, seeds.end))
            .env(SHARE, format!("{part} {cores} {}", file.display()))
            .stdout(Stdio::null())
            .spawn();
        (child.unwrap(), file)
    };
    let mut sum = Sum::default();
    for (mut child, file) in (0..cores).map(start).collect::<Vec<_>>() {
        let Range { start, end } = seeds;
        assert!(
            child.wait().unwrap().success(),
            "a share of the worlds came to an end: DRIFTLESS_SEEDS={start}..{end} cargo test --test \
             it sim::tests::worlds repeats this"
        );
        let part: Sum = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        sum.seen.add(&part.seen);
        sum.steps += part.steps;
        let failed = sum.failed.into_iter().chain(part.failed);
        sum.failed = failed.min_by_key(|(seed, _)| *seed);
    }
    if let Some((seed, failure)) = &sum.failed {
        panic!("{}", report::of(&History::of(*seed), failure));
    }
    sum
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
    if let Ok(part) = std::env::var(SHARE) {
        return share(range, &part);
    }
    let Sum { seen, steps, .. } = worlds(&range);
    eprintln!("{} worlds, {steps} steps:\n{seen}", range.count());
    if given.is_none() {
        let missing = seen.missing();
        assert!(
            missing.is_empty(),
            "nothing of this happened: {missing:?}\n{seen}\ncargo test --test it \
             sim::tests::worlds repeats this"
        );
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
