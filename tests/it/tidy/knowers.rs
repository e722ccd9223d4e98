//! Who alone may know SQLite, a clock, a format or the terminal; and that every column of the
//! schemas has a comment.

use super::{assert_none, code, files};

/// Who alone may write a word: the word, and the paths that begin so.
const KNOWERS: [(&str, &[&str]); 7] = [
    (
        "rusqlite",
        &[
            "src/store/",
            "src/catalog/",
            "src/capture/",
            // Former states are TEMP views, and a condition is an expression of SQLite's.
            "src/audit/",
            "src/hub/",
            "src/replicator.rs",
            "src/error.rs",
        ],
    ),
    ("bincode::", &["src/event/frame.rs"]),
    ("libsql::Builder", &["src/remote/libsql.rs", "src/remote/tls.rs", "src/remote/probe.rs"]),
    // The command asks the facade; it opens no store itself.
    (
        "crate::store",
        &[
            "src/store/",
            "src/sync/",
            "src/audit/",
            "src/inspect/",
            "src/replicator.rs",
            "src/lib.rs",
        ],
    ),
    // The command asks the layer below; it makes no request of the protocol itself.
    ("protocol::statements", &["src/protocol/", "src/sync/", "src/replicator.rs"]),
    ("println!", &["src/cli/output/mod.rs"]),
    ("SystemTime::now", &["src/sync/driver/clock.rs", "src/hub/"]),
];

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
