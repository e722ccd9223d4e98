//! What a person is told of a history that failed, and where it is kept.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::history::History;
use super::run::{Failure, shrink};

/// The report of a failure: the seed, the commit, the shortest history that was found, and the
/// commands that repeat it.
pub(crate) fn of(history: &History, failure: &Failure) -> String {
    let (short, last) = shrink(history, failure);
    let seed = history.seed;
    let path = kept(&short);
    let mut text = format!(
        "the world of seed {seed} at commit {} failed after {} of {} steps:\n  {}\n\
         the shortest history found has {} steps, and fails so:\n  {}\n",
        commit(),
        failure.step,
        history.steps.len(),
        failure.what,
        short.steps.len(),
        last.what,
    );
    text.push_str(&short.shape.schema());
    for sql in short.shape.web.iter().chain(&short.shape.local) {
        let _ = writeln!(text, "{sql};");
    }
    let _ = writeln!(text, "{} replicas at first", short.replicas);
    for (at, step) in short.steps.iter().enumerate() {
        let _ = writeln!(text, "{at:4} {step:?}");
    }
    let _ = write!(
        text,
        "repeat it:  DRIFTLESS_SEEDS={seed}..{} cargo test --test it sim::tests::worlds\n\
         shrunk:     DRIFTLESS_HISTORY={} cargo test --test it sim::tests::worlds",
        seed + 1,
        path.display(),
    );
    text
}

/// A history from its file.
pub(crate) fn read(path: &Path) -> History {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Writes a history down where it can be repeated from.
fn kept(history: &History) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/sim");
    let path = folder.join(format!("{}.json", history.seed));
    let text = serde_json::to_vec_pretty(history).expect("a history is data");
    let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, text));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

fn commit() -> String {
    let told = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "--short", "HEAD"])
        .output();
    match told {
        Ok(told) if told.status.success() => {
            String::from_utf8_lossy(&told.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}
