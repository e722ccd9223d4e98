//! Programs that some tests drive and that not every machine has.
//!
//! A test that needs one asks [`require`]. Where it is missing the test says that it was skipped,
//! and passes; with `DRIFTLESS_TEST_REQUIRE_TOOLS=1`, which CI sets, it fails instead.

use std::env;
use std::path::{Path, PathBuf};

/// A program that a test may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "each is used by the tests of another part")]
pub(crate) enum Tool {
    /// A C compiler, `cc`.
    Cc,
    /// A Chromium that can do without a window.
    Chromium,
    /// Node.js, `node`.
    Node,
    /// SQLite's own shell, `sqlite3`.
    Sqlite3,
    /// A client with the oldest SQLite that may write, which `.ci/run` builds of `.ci/oldest`.
    OldestSqlite,
    /// Python 3 with its `sqlite3` module, `python3`.
    Python3,
    /// The shell of the Turso engine, `tursodb`, of the npm package `turso`.
    Tursodb,
    /// A package that Node can import, by its name. What is found is its folder.
    NodePackage(&'static str),
}

/// Where `tool` is; `None` where the test must be skipped, which has been said on stderr.
///
/// # Panics
///
/// When it is missing and `DRIFTLESS_TEST_REQUIRE_TOOLS` is `1`.
pub(crate) fn require(tool: Tool) -> Option<PathBuf> {
    let found = find(tool);
    if found.is_none() {
        let missing = format!("{tool:?} is not installed");
        let required = env::var("DRIFTLESS_TEST_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
        assert!(!required, "{missing}, and DRIFTLESS_TEST_REQUIRE_TOOLS says that it must be");
        #[expect(clippy::print_stderr, reason = "a person must see that a test did not run")]
        {
            eprintln!("skipped: {missing}");
        }
    }
    found
}

/// The folder of installed npm packages: `DRIFTLESS_TEST_NODE_MODULES`, or the one in this
/// repository that `.ci/run` fills.
pub(crate) fn node_modules() -> PathBuf {
    env::var_os("DRIFTLESS_TEST_NODE_MODULES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/tools/node_modules"),
        PathBuf::from,
    )
}

/// Where `tool` is.
pub(crate) fn find(tool: Tool) -> Option<PathBuf> {
    match tool {
        Tool::Cc => on_path("cc"),
        Tool::Chromium => {
            ["chromium-headless-shell", "chromium", "google-chrome"].into_iter().find_map(on_path)
        }
        Tool::Node => on_path("node"),
        Tool::Sqlite3 => on_path("sqlite3"),
        Tool::OldestSqlite => {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/tools/oldest/release");
            Some(folder.join(format!("oldest{}", env::consts::EXE_SUFFIX))).filter(|p| p.is_file())
        }
        Tool::Python3 => on_path("python3"),
        Tool::Tursodb => tursodb().or_else(|| on_path("tursodb")),
        Tool::NodePackage(name) => {
            let folder = node_modules().join(name);
            folder.join("package.json").is_file().then_some(folder)
        }
    }
}

/// The program that belongs to the package `turso`, which is in a package of its own for each kind
/// of machine, `@tursodatabase/cli-linux-x64-gnu` for instance.
fn tursodb() -> Option<PathBuf> {
    let packages = node_modules().join("@tursodatabase");
    let mut found: Vec<PathBuf> = packages
        .read_dir()
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("cli-")))
        .map(|path| path.join(format!("tursodb{}", env::consts::EXE_SUFFIX)))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found.pop()
}

fn on_path(name: &str) -> Option<PathBuf> {
    let name = format!("{name}{}", env::consts::EXE_SUFFIX);
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(&name)).find(|p| p.is_file())
}
