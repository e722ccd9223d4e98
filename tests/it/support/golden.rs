//! Runs a folder of golden scripts.

use std::path::Path;

/// Runs every script of a folder, each with a runner of its own, and fails with the names of those
/// that failed. `DRIFTLESS_TEST_SCRIPT` runs those that have it in their path.
pub(crate) fn every_golden_script<R: goldenscript::Runner>(folder: &str, runner: impl Fn() -> R) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "there are no scripts in {}", folder.display());
    let only = std::env::var("DRIFTLESS_TEST_SCRIPT").unwrap_or_default();
    let mut failed = Vec::new();
    for path in paths.iter().filter(|path| path.to_string_lossy().contains(&only)) {
        let run = || goldenscript::run(&mut runner(), path).unwrap();
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
            failed.push(path.file_name().unwrap().to_owned());
        }
    }
    assert!(failed.is_empty(), "scripts that failed: {failed:?}");
}
