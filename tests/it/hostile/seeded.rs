//! A short run of each fuzz target, from its corpus in `fixtures/fuzz/`: the inputs as they are, and
//! mutations of them that a seed gives.
//!
//! The targets are those of `fuzz/`, where coverage leads the mutations. Here they hold in the
//! ordinary tests what was found there.

// What repeats a failure stands behind the panic's message.
#![allow(clippy::print_stderr)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use super::targets::{ddl, frame, hrana, page};

/// Where chance begins, unless it is set otherwise: the same in every run, so that what fails is new
/// because the program is. Other seeds are for whoever looks for more.
pub(super) const SEED: u64 = 1;
/// The most bytes of a mutated input.
const MOST: usize = 20_000;

/// Pieces that inputs of more than one target are made of.
pub(super) const TOKENS: [&str; 40] = [
    "null",
    "\"",
    "\\u0000",
    "{\"r\":\"",
    "1p-1074",
    "{\"x\":\"",
    "{\"t\":\"FF",
    "[[[[[[[[[[",
    "-1",
    "9223372036854775807",
    "-9223372036854775808",
    "1152921504606846977",
    "applied",
    "superseded",
    "rejected",
    "web",
    "members",
    "visits",
    "things",
    "secrets",
    "driftless_settings",
    "sqlite_schema",
    "insert",
    "update",
    "delete",
    "\n",
    "\u{1f600}",
    "\\ud800",
    "00",
    "{}",
    "[]",
    "PRIMARY KEY",
    "UNIQUE",
    "COLLATE NOCASE",
    "WITHOUT ROWID",
    "STRICT",
    "ON CONFLICT REPLACE",
    "REFERENCES",
    "\"$baton\"",
    ",",
];

pub(super) fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// The corpus of a target, in the order of the files' names.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/fuzz").join(target);
    let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} has inputs", folder.display());
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// An input, changed in one to four places.
fn mutate(inputs: &[(PathBuf, Vec<u8>)], random: &mut fastrand::Rng) -> Vec<u8> {
    let any = |random: &mut fastrand::Rng| &inputs[random.usize(..inputs.len())].1;
    let mut bytes = any(random).clone();
    for _ in 0..random.usize(1..5) {
        let at = random.usize(..=bytes.len());
        let end = (at + random.usize(..16)).min(bytes.len());
        match random.u8(..8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            1 => drop(bytes.drain(at..end)),
            2 | 3 => {
                let token = TOKENS[random.usize(..TOKENS.len())].bytes();
                bytes.splice(at..end, token);
            }
            4 => {
                let token = TOKENS[random.usize(..TOKENS.len())].bytes();
                bytes.splice(at..at, token);
            }
            5 => {
                let twice = bytes[at..end].to_vec();
                bytes.splice(at..at, twice);
            }
            6 => {
                let other = any(random);
                let from = random.usize(..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => number_at(&mut bytes, at, random),
        }
    }
    bytes.truncate(MOST);
    bytes
}

/// Puts another number in the place of the next one.
fn number_at(bytes: &mut Vec<u8>, at: usize, random: &mut fastrand::Rng) {
    let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit) else { return };
    let start = at + start;
    let len = bytes[start..].iter().position(|b| !b.is_ascii_digit());
    let end = len.map_or(bytes.len(), |len| start + len);
    let other = match random.u8(..4) {
        0 => random.i64(-2..10),
        1 => i64::MAX - random.i64(0..2),
        2 => 1 << random.u8(..62),
        _ => random.i64(..),
    };
    bytes.splice(start..end, other.to_string().bytes());
}

/// Runs `target` over its corpus, and over so many mutations of it.
///
/// # Panics
///
/// When the target does; it is said how to repeat that.
fn explore(name: &str, target: fn(&[u8]), cases: u64) {
    let inputs = corpus(name);
    for (path, bytes) in &inputs {
        attempt(target, bytes, || format!("the input is {}", path.display()));
    }
    let seed = number("DRIFTLESS_TEST_SEED").unwrap_or(SEED);
    let cases = number("DRIFTLESS_TEST_CASES").unwrap_or(cases);
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..cases {
        let bytes = mutate(&inputs, &mut random);
        attempt(target, &bytes, || {
            let path = std::env::temp_dir().join(format!("driftless-{name}-{seed}"));
            fs::write(&path, &bytes).unwrap();
            format!(
                "DRIFTLESS_TEST_SEED={seed} DRIFTLESS_TEST_CASES={cases} cargo test hostile::seeded \
                 repeats this; the input is {}, and belongs into fixtures/fuzz/{name}",
                path.display()
            )
        });
    }
}

fn attempt(target: fn(&[u8]), bytes: &[u8], explain: impl FnOnce() -> String) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        // Behind the panic's own message, so that it is seen.
        eprintln!("{}", explain());
        resume_unwind(panic);
    }
}

#[test]
fn a_frame_is_an_event_or_an_error() {
    explore("frame", frame::run, 20_000);
}

#[test]
fn a_page_is_integrated_or_refused() {
    explore("page", page::run, 400);
}

#[test]
fn any_table_is_captured_or_refused() {
    explore("ddl", ddl::run, 40);
}

#[test]
fn the_hub_answers_any_request() {
    explore("hrana", hrana::run, 100);
}
