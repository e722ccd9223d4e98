//! The habits of this house that a program can look after: which module may know which, who may
//! know SQLite or a clock, how long a function, a file and a line may be, and that every column of
//! the schemas says what it is.

use std::fs;
use std::path::Path;

/// The most lines of a file of `src/`.
const FILE_LINES: usize = 600;
/// What was longer when this rule came, and may only become shorter.
const LONG_FILES: [(&str, usize); 1] = [("src/store/rebase.rs", 740)];
/// The most lines of a function of `src/`.
const FUNCTION_LINES: usize = 70;
/// The most characters of a line.
const COLUMNS: usize = 100;

/// What each layer may use of the other layers. What is not a layer is the pure core.
const ARROWS: [(&str, &[&str]); 6] = [
    ("capture", &[]),
    ("store", &["capture"]),
    ("remote", &["capture", "store"]),
    ("sync", &["capture", "store", "remote"]),
    ("hub", &[]),
    ("cli", &["capture", "store", "remote", "sync", "hub", "replicator"]),
];
const LAYERS: [&str; 7] = ["capture", "store", "remote", "sync", "hub", "cli", "replicator"];

/// Who alone may write a word: the word, and the paths that begin so.
const KNOWERS: [(&str, &[&str]); 5] = [
    ("rusqlite", &["src/store/", "src/capture/", "src/hub/", "src/replicator.rs", "src/error.rs"]),
    ("bincode::", &["src/frame.rs"]),
    ("libsql::Builder", &["src/remote/libsql.rs", "src/remote/tls.rs", "src/remote/probe.rs"]),
    ("println!", &["src/cli/output.rs"]),
    ("SystemTime::now", &["src/sync/driver.rs", "src/hub/"]),
];

/// The files below `folder`, by their paths from the repository's root, with their text.
fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut folders, mut files) = (vec![root.join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!files.is_empty(), "there is nothing in {folder}");
    files.sort();
    files
}

/// A source file without its unit tests, which stand last, and without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    lines
        .take_while(|(_, line)| *line != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn arrows_run_one_way() {
    let mut found = Vec::new();
    for (path, text) in files("src", ".rs") {
        let layer = path.trim_start_matches("src/").split(['/', '.']).next().unwrap();
        let allowed = match ARROWS.iter().find(|(name, _)| *name == layer) {
            Some((_, allowed)) => *allowed,
            // These stand on top of everything.
            None if ["lib", "main", "replicator"].contains(&layer) => continue,
            None => &[],
        };
        for (number, line) in code(&text) {
            for other in LAYERS {
                let uses = line.contains(&format!("crate::{other}::"));
                if uses && other != layer && !allowed.contains(&other) {
                    found.push(format!("{path}:{number}: {layer} uses {other}"));
                }
            }
        }
    }
    assert_none("arrows between modules run one way", &found);
}

#[test]
fn only_the_named_files_know() {
    let mut found = Vec::new();
    for (path, text) in files("src", ".rs") {
        for (number, line) in code(&text) {
            for (word, knowers) in KNOWERS {
                let known = knowers.iter().any(|knower| path.starts_with(knower));
                if line.contains(word) && !known {
                    found.push(format!("{path}:{number}: `{word}` is for {knowers:?} alone"));
                }
            }
        }
    }
    assert_none("some things are known in few places", &found);
}

#[test]
fn files_and_functions_are_short() {
    let mut found = Vec::new();
    for (path, text) in files("src", ".rs") {
        let lines = text.lines().count();
        let known = LONG_FILES.iter().find(|(long, _)| *long == path);
        if lines > known.map_or(FILE_LINES, |(_, lines)| *lines) {
            found.push(format!("{path} has {lines} lines"));
        }
        // rustfmt puts a function's closing brace under its first word.
        let mut open: Option<(usize, usize, &str)> = None;
        for (number, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let word = line.trim_start();
            let begins = word.starts_with("fn ")
                || word.contains(" fn ") && word.starts_with("pub")
                || word.starts_with("async fn ")
                || word.starts_with("const fn ");
            if open.is_none() && begins && !word.ends_with(';') {
                open = Some((number, indent, word));
            }
            if let Some((first, at, name)) = open
                && indent == at
                && (word == "}" || word.ends_with('}') && number == first)
            {
                let length = number - first + 1;
                if length > FUNCTION_LINES {
                    found.push(format!("{path}:{}: {length} lines: {name}", first + 1));
                }
                open = None;
            }
        }
    }
    assert_none("functions and files are short", &found);
}

#[test]
fn lines_are_short_and_nothing_is_left_to_do() {
    let mut found = Vec::new();
    // Put together, so that this file does not find itself.
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["to", "do!("].concat()];
    let ignored = ["#[", "ignore"].concat();
    for folder in ["src", "tests", "benches", "examples"] {
        for (path, text) in files(folder, ".rs") {
            for (number, line) in text.lines().enumerate() {
                // rustfmt leaves a long string as it is.
                let literal = line.contains('"') || line.trim_end().ends_with('\\');
                let in_sql = path.starts_with("tests/");
                if line.chars().count() > COLUMNS && !literal && !in_sql {
                    found.push(format!("{path}:{}: a long line", number + 1));
                }
                if marks.iter().any(|mark| line.contains(mark)) || line.contains(&ignored) {
                    found.push(format!("{path}:{}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    assert_none("lines are short, and what is there is done", &found);
}

#[test]
fn every_column_says_what_it_is() {
    let mut found = Vec::new();
    for (path, text) in files("schema", ".sql") {
        let mut within = false;
        for (number, line) in text.lines().enumerate() {
            let word = line.trim();
            if line.starts_with("CREATE TABLE") {
                within = true;
            } else if line.starts_with(')') {
                within = false;
            } else if within {
                let first = word.split_whitespace().next().unwrap_or_default();
                let constraint = ["PRIMARY", "UNIQUE", "CHECK", "FOREIGN", "--", ""];
                if !constraint.contains(&first) && !word.contains("-- ") {
                    found.push(format!("{path}:{}: {word}", number + 1));
                }
            }
        }
    }
    assert_none("every column has a comment", &found);
}
