//! UNIQUE indexes with a condition or with expressions: the remote judges the coming row with its
//! columns' affinities and collations, as SQLite itself does.

use std::sync::Arc;

use crate::support::desk::{Desk, assert_equal};
use crate::support::local_remote::LocalRemote;

/// Each index, a row that is in it, and one that is not, though it would be if its values had no
/// affinity or no collation.
const CASES: [(&str, &str, &str); 7] = [
    ("(mail) WHERE state <> 'done'", "state = 'open'", "state = 'DONE'"),
    ("(mail) WHERE n <> '5'", "n = 7", "n = 5"),
    ("(mail) WHERE words <> 5", "words = '7'", "words = '5'"),
    ("(mail) WHERE r <> '0.5'", "r = 1.5", "r = 0.5"),
    ("(mail, n <> '5')", "n = 7", "n = 5"),
    ("(mail || (state = 'done'))", "state = 'open'", "state = 'DONE'"),
    ("(mail, lower(twice))", "words = 'a'", "words = 'b'"),
];

fn schema(index: &str) -> String {
    format!(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, mail TEXT, state TEXT COLLATE NOCASE, n INTEGER,
         words TEXT, r REAL, twice TEXT AS (words || words)); CREATE UNIQUE INDEX one ON t {index};"
    )
}

#[test]
fn a_row_that_the_index_takes_is_taken() {
    for (index, taken, free) in CASES {
        let schema = schema(index);
        let remote = Arc::new(LocalRemote::new(&schema));
        let mut desk = Desk::with_schema(&remote, 1, &schema);
        desk.write("INSERT INTO t (id, mail) VALUES (1, 'a'), (3, 'b'), (4, 'c')");
        desk.write(&format!("UPDATE t SET {taken} WHERE id IN (1, 3)"));
        desk.sync().unwrap();
        // As an insert, as an update, and under another key.
        desk.write(&format!("INSERT INTO t (id) VALUES (2); UPDATE t SET {free} WHERE id = 2"));
        desk.sync().unwrap();
        desk.write("UPDATE t SET mail = 'a' WHERE id = 2");
        desk.write(&format!("UPDATE t SET mail = 'b', {free} WHERE id = 4"));
        desk.write("UPDATE t SET id = 5 WHERE id = 4");
        let summary = desk.sync().unwrap();
        assert_eq!(
            summary.rejected,
            0,
            "{index}: {}",
            remote.read("SELECT reason FROM driftless_events")
        );
        assert_equal(&desk, &["t"]);
        assert_eq!(desk.read("SELECT count(*) FROM t WHERE mail IN ('a', 'b')"), "4");
    }
}

#[test]
fn a_row_that_the_index_refuses_is_rejected() {
    for (index, taken, _) in CASES {
        let schema = schema(index);
        let remote = Arc::new(LocalRemote::new(&schema));
        let mut desk = Desk::with_schema(&remote, 1, &schema);
        remote.web("INSERT INTO t (id, mail) VALUES (1, 'a')");
        remote.web(&format!("UPDATE t SET {taken} WHERE id = 1"));
        desk.write("INSERT INTO t (id, mail) VALUES (2, 'b'), (3, 'a')");
        desk.write(&format!("UPDATE t SET {taken} WHERE id = 3"));
        desk.sync().unwrap();
        desk.sync().unwrap();
        assert_equal(&desk, &["t"]);
        let taken = desk.read(
            "SELECT count(*) FROM t WHERE mail = 'a' AND coalesce(state, n, words, r) IS NOT NULL",
        );
        assert_eq!((taken.as_str(), desk.status().conflicts), ("1", 1), "{index}");
    }
}
