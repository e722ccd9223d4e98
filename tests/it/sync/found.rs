//! What [`roundtrip`](super::roundtrip) has found, as small as it gets: one desk writes alone, and
//! nothing of it may be lost.

use std::sync::Arc;

use crate::support::desk::{Desk, assert_equal};
use crate::support::local_remote::LocalRemote;

/// Writes the lists of statements on one desk, a sync after each, and looks at another desk.
#[track_caller]
fn arrives(schema: &str, temp: &str, steps: &[&str]) {
    let remote = Arc::new(LocalRemote::new(schema));
    let mut a = Desk::with_schema(&remote, 1, schema);
    let mut b = Desk::with_schema(&remote, 2, schema);
    a.db.execute_batch(temp).unwrap();
    for step in steps {
        a.db.execute_batch(step).unwrap();
        a.sync().unwrap();
        b.sync().unwrap();
        let lost = "SELECT group_concat(op || pk || verdict || coalesce(reason, '') || origin)
                    FROM driftless_events WHERE verdict <> 'applied' OR origin = 'web'";
        assert_eq!(remote.read(lost), "NULL", "{schema}: {step}");
        assert_equal(&a, &["t"]);
        assert_equal(&b, &["t"]);
    }
}

/// A BLOB and the text with its bytes are two keys, on the remote as here, in each kind of key.
#[test]
fn a_blob_in_a_key_is_not_the_text_with_its_bytes() {
    for (columns, key) in [
        ("k TEXT COLLATE NOCASE, i, x", "k"),
        ("k TEXT COLLATE RTRIM, i, x", "k"),
        ("k TEXT, i, x", "k"),
        ("k, i, x", "k"),
        ("k TEXT, i, x", "k, i"),
        ("k TEXT COLLATE NOCASE, i INT, x", "k, i"),
        ("k NUMERIC, i TEXT, x", "i, k"),
        ("k INT, i REAL, x", "k, i"),
    ] {
        let schema = format!("CREATE TABLE t ({columns}, PRIMARY KEY ({key}))");
        arrives(
            &schema,
            "",
            &[
                "BEGIN; INSERT INTO t VALUES ('a', 1, 1), (x'61', 1, 2), (x'41', 1, 3);
                 UPDATE t SET x = x + 10; COMMIT",
                "BEGIN; DELETE FROM t WHERE k = x'61'; UPDATE t SET x = x + 10;
                 INSERT INTO t VALUES (x'61', 1, 5); UPDATE t SET x = x + 10; COMMIT",
                "BEGIN; UPDATE t SET k = x'62' WHERE k = x'61'; UPDATE t SET k = 'b' WHERE k = 'a';
                 UPDATE t SET x = x + 10; COMMIT",
                "BEGIN; REPLACE INTO t VALUES ('b', 1, 7), (x'62', 1, 8); DELETE FROM t; COMMIT",
            ],
        );
    }
}

/// Text with a NUL is another key than what stands before it. NOCASE takes two texts for one if they
/// are equal up to there and are of one length.
#[test]
fn a_nul_in_a_key_is_not_its_end() {
    for (columns, key) in [
        ("k TEXT COLLATE NOCASE, i, x", "k"),
        ("k TEXT COLLATE RTRIM, i, x", "k"),
        ("k TEXT, i, x", "k"),
        ("k TEXT COLLATE NOCASE, i TEXT, x", "k, i"),
        ("k TEXT, i TEXT, x", "k, i"),
        ("k, i, x", "k, i"),
        ("k TEXT COLLATE NOCASE, i INT, x", "i, k"),
    ] {
        for strict in ["", " STRICT"] {
            let columns = match strict {
                "" => columns.to_owned(),
                _ => columns.replace("k,", "k ANY,").replace("i,", "i ANY,").replace("x", "x INT"),
            };
            let schema = format!("CREATE TABLE t ({columns}, PRIMARY KEY ({key})){strict}");
            let nul = "CAST(x'610062' AS TEXT)";
            let rest = "CAST(x'006231' AS TEXT)";
            let insert = format!("INSERT INTO t VALUES ('A', 1, 1), ({nul}, 1, 2), ('a/3', 1, 3)");
            let again = format!("DELETE FROM t WHERE i = 1; INSERT INTO t VALUES ({nul}, 1, 7)");
            let parts = match columns.contains("i INT") {
                true => String::new(),
                false => format!(
                    "INSERT INTO t VALUES ('a', {rest}, 4), ({nul}, '1', 5) \
                                  ON CONFLICT DO NOTHING;"
                ),
            };
            let update = "UPDATE t SET x = x + 10";
            let steps = [
                format!("BEGIN; {insert}; {update}; {parts} {update}; COMMIT"),
                format!("BEGIN; {again}; {update}; COMMIT"),
                format!(
                    "BEGIN; UPDATE t SET k = CAST(x'4100' AS TEXT) WHERE x = 17; {update}; COMMIT"
                ),
            ];
            let steps: Vec<_> = steps.iter().map(String::as_str).collect();
            arrives(&schema, "", &steps);
        }
    }
}

/// The rows of a ring go together: each finds its parent gone, and one of them went first.
#[test]
fn a_ring_of_rows_goes_and_one_of_its_keys_is_used_again() {
    for action in ["CASCADE", "SET NULL", "CASCADE ON UPDATE CASCADE"] {
        let schema = format!(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, x REFERENCES t ON DELETE {action}
                 DEFERRABLE INITIALLY DEFERRED)"
        );
        let steps = [
            "BEGIN; INSERT INTO t VALUES (2, 3), (1, NULL), (3, 2); COMMIT;
             DELETE FROM t WHERE id = 2; DELETE FROM t WHERE id = 3;
             UPDATE t SET id = id + 2; UPDATE t SET id = id - 1",
            "BEGIN; INSERT INTO t VALUES (4, 5), (5, 6), (6, 4); COMMIT;
             DELETE FROM t WHERE id = 6; DELETE FROM t WHERE id > 3; INSERT INTO t VALUES (4, NULL);
             DELETE FROM t WHERE id = 4; INSERT INTO t VALUES (4, NULL), (5, 4); DELETE FROM t",
        ];
        arrives(&schema, "", &steps);
    }
}

/// A row without its parent is deleted for its own sake, also if that parent comes and goes later.
#[test]
fn a_temp_trigger_undoes_the_insert_that_fired_it() {
    let schema = "CREATE TABLE t (id NOT NULL, x, PRIMARY KEY (id),
        FOREIGN KEY (x) REFERENCES t ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED)";
    let temp = "CREATE TEMP TRIGGER undo AFTER INSERT ON main.t WHEN new.id > 0
        BEGIN DELETE FROM t WHERE id IS new.id; END";
    let steps = [
        "INSERT INTO t VALUES (3, 2), (3, 1), (2, 3)",
        "INSERT INTO t VALUES (2, 3), (3, 2), (2, NULL), (3, 3), (2, 3)",
    ];
    arrives(schema, temp, &steps);
}

/// A generated column, which a BEFORE trigger sees as of a NULL, has a row noted that no statement
/// replaces. The row then leaves its key, and a TEMP trigger deletes it under the new one.
#[test]
fn a_temp_trigger_deletes_each_row_whose_key_changes() {
    for more in ["", "; CREATE UNIQUE INDEX made ON t (made)"] {
        let schema = format!(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT, y,
                 made AS (coalesce(y, 0) || 'm') VIRTUAL){more}"
        );
        let temp = "CREATE TEMP TRIGGER goes AFTER UPDATE ON main.t
            BEGIN DELETE FROM t WHERE id IS new.id; END";
        let steps = [
            "INSERT INTO t (id, x, y) VALUES (1, 'a', NULL), (-9, 2, 'a')",
            "UPDATE t SET id = x + 0",
            // What is ignored and what an upsert does not insert leave a note too.
            "INSERT INTO t (id, x, y) VALUES (1, 'a', 1), (2, 2, 2);
             INSERT OR IGNORE INTO t (id, x, y) VALUES (1, 'b', 3), (3, 'c', 1), (2, 'd', 4)",
            "INSERT INTO t (id, x, y) VALUES (1, 'b', 3), (2, 'c', 1) ON CONFLICT DO NOTHING;
             UPDATE t SET id = id + 5",
        ];
        arrives(&schema, temp, &steps);
    }
}
