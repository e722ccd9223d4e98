//! How replicators fail, by number: tables that are not replicated and refer to tables that are.

use std::fmt::Write as _;
use std::sync::Arc;

use rusqlite::Connection;

use crate::support::blocking::{drain, initialise};
use crate::support::desk::Desk;
use crate::support::local_remote::{LocalRemote, read};

/// What is replicated.
const NOTES: &str = "
    CREATE TABLE note (id INTEGER PRIMARY KEY, slug TEXT UNIQUE, body TEXT);
    INSERT INTO note VALUES (1, 'one', 'a'), (2, 'two', 'b'), (3, 'three', 'c'), (4, 'four', 'd');
";

/// A desk that has the notes, and these tables beside them.
fn desk(remote: &Arc<LocalRemote>, number: u128, local: &str) -> Desk {
    let mut desk = Desk::with_schema(remote, number, "");
    desk.db.execute_batch(local).unwrap();
    desk.sync().unwrap();
    desk
}

#[test]
fn f53_each_action_is_carried_out() {
    let remote = Arc::new(LocalRemote::new(NOTES));
    let mut desk = desk(
        &remote,
        1,
        "CREATE TABLE draft (id INTEGER PRIMARY KEY, n INT REFERENCES note ON DELETE CASCADE ON UPDATE CASCADE);
         CREATE TABLE tag (k TEXT PRIMARY KEY, d INT REFERENCES draft (id) ON DELETE CASCADE) WITHOUT ROWID;
         CREATE TABLE pin (n INTEGER PRIMARY KEY REFERENCES note ON DELETE CASCADE ON UPDATE CASCADE);
         CREATE TABLE last (n INT REFERENCES note (id) ON DELETE SET NULL ON UPDATE SET NULL);
         CREATE TABLE open (n INT DEFAULT 4 REFERENCES note (id) ON DELETE SET DEFAULT ON UPDATE CASCADE);
         CREATE TABLE link (slug TEXT REFERENCES note (slug) ON DELETE CASCADE ON UPDATE CASCADE);
         INSERT INTO draft VALUES (1, 1), (2, 2), (3, 3), (10, 1);
         INSERT INTO tag VALUES ('a', 1), ('b', 2), ('c', 10);
         INSERT INTO pin VALUES (1), (2), (3);
         INSERT INTO last VALUES (1), (2), (3);
         INSERT INTO open VALUES (1), (2), (3);
         INSERT INTO link VALUES ('one'), ('two'), ('three');",
    );
    remote.web("DELETE FROM note WHERE id = 1; UPDATE note SET id = 20 WHERE id = 2");
    remote.web("UPDATE note SET slug = 'drei' WHERE id = 3");
    desk.sync().unwrap();
    assert_eq!(desk.read("SELECT * FROM draft ORDER BY id"), "2|20\n3|3");
    assert_eq!(desk.read("SELECT * FROM tag"), "b|2");
    assert_eq!(desk.read("SELECT * FROM pin"), "3\n20");
    assert_eq!(desk.read("SELECT n FROM last"), "NULL\nNULL\n3");
    assert_eq!(desk.read("SELECT n FROM open"), "4\n20\n3");
    assert_eq!(desk.read("SELECT slug FROM link"), "two\ndrei");
    assert_eq!(desk.read("PRAGMA foreign_key_check"), "");
    assert!(desk.status().dangling.is_empty());
    assert_eq!(desk.status().pending, 0, "what is not replicated is not captured");
}

#[test]
fn f53_what_keeps_its_parent_is_named() {
    let remote = Arc::new(LocalRemote::new(NOTES));
    let mut desk = desk(
        &remote,
        1,
        "CREATE TABLE mark (id INTEGER PRIMARY KEY, n INT REFERENCES note);
         CREATE TABLE must (n INT NOT NULL REFERENCES note ON DELETE SET NULL);
         CREATE TABLE kept (n INT REFERENCES note ON DELETE CASCADE);
         CREATE TRIGGER no BEFORE DELETE ON kept BEGIN SELECT RAISE(ABORT, 'kept'); END;
         INSERT INTO mark VALUES (1, 1), (2, 1), (3, 2);
         INSERT INTO must VALUES (1); INSERT INTO kept VALUES (1);",
    );
    remote.web("DELETE FROM note WHERE id = 1; INSERT INTO note VALUES (9, 'nine', 'i')");
    desk.sync().unwrap();
    assert_eq!(
        desk.read("SELECT id FROM note ORDER BY id"),
        "2\n3\n4\n9",
        "the remote has decided"
    );
    assert_eq!(desk.read("SELECT n FROM mark"), "1\n1\n2");
    let found: Vec<_> = desk.status().dangling.iter().map(|o| format!("{o:?}")).collect();
    let dangling = |table: &str, rows: u64| {
        format!(
            "Dangling {{ table: {table:?}, columns: [\"n\"], parent: \"note\", rows: {rows}, doubtful: 0 }}"
        )
    };
    let expected = [dangling("mark", 2), dangling("must", 1), dangling("kept", 1)];
    assert_eq!(found, expected, "by name");
    // A restart forgets nothing, and what is mended is not counted any more.
    desk.restart();
    assert_eq!(desk.status().dangling.len(), 3);
    desk.write(
        "DROP TRIGGER no; DELETE FROM kept; DELETE FROM must; DELETE FROM mark WHERE id = 1",
    );
    assert_eq!(desk.status().dangling[0].rows, 1);
    desk.write("UPDATE mark SET n = NULL");
    assert!(desk.status().dangling.is_empty());
}

#[test]
fn f53_a_trigger_of_the_applications_follows() {
    let remote = Arc::new(LocalRemote::new(NOTES));
    let mut desk = desk(
        &remote,
        1,
        "CREATE TABLE draft (n INT REFERENCES note ON DELETE CASCADE);
         CREATE TABLE said (text);
         CREATE TRIGGER drafts AFTER DELETE ON draft BEGIN
           INSERT INTO said VALUES (old.n); UPDATE note SET body = 'no' WHERE id = 2; END;
         INSERT INTO draft VALUES (1), (3);",
    );
    remote.web("DELETE FROM note WHERE id = 1");
    desk.sync().unwrap();
    assert_eq!(desk.read("SELECT text FROM said"), "1");
    assert_eq!(desk.read("SELECT body FROM note WHERE id = 2"), "b", "the remote's rows stay");
    // One that rolls everything back is left out of the page.
    desk.write(
        "CREATE TRIGGER roll BEFORE DELETE ON draft BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
    );
    remote.web("DELETE FROM note WHERE id = 3");
    desk.sync().unwrap();
    assert_eq!(desk.read("SELECT count(*) FROM draft"), "0");
}

#[test]
fn f53_rows_that_are_written_anew_are_not_deleted() {
    let remote = Arc::new(LocalRemote::new(NOTES));
    let mut desk = desk(
        &remote,
        1,
        "CREATE TABLE draft (n INT REFERENCES note ON DELETE CASCADE ON UPDATE SET NULL);
         INSERT INTO draft VALUES (1), (2), (3), (4);",
    );
    // A UNIQUE value that a pending row has, and two that are exchanged: the page is tried in
    // each way, and takes rows off to write them again.
    desk.write("INSERT INTO note VALUES (7, 'five', 'x'); INSERT INTO draft VALUES (7)");
    desk.write("UPDATE note SET body = 'mine' WHERE id = 4");
    remote.web(
        "UPDATE note SET slug = 'five' WHERE id = 3; UPDATE note SET slug = 't' WHERE id = 1;
         UPDATE note SET slug = 'one' WHERE id = 2; UPDATE note SET slug = 'two' WHERE id = 1;",
    );
    desk.sync().unwrap();
    assert_eq!(desk.read("SELECT slug FROM note ORDER BY id"), "two\none\nfive\nfour");
    // The insert has lost, and its draft goes with it.
    assert_eq!(desk.read("SELECT n FROM draft"), "1\n2\n3\n4");
}

#[test]
fn f53_deleted_and_made_again_is_another_row() {
    for events in [1, 2, 3, usize::MAX] {
        let remote = Arc::new(LocalRemote::new(NOTES));
        let mut desk = desk(
            &remote,
            1,
            "CREATE TABLE draft (n INT REFERENCES note ON DELETE CASCADE ON UPDATE CASCADE);
             INSERT INTO draft VALUES (1), (2), (3);",
        );
        desk.transaction = events;
        remote.web("DELETE FROM note WHERE id = 1; INSERT INTO note VALUES (1, 'other', 'x')");
        remote.web("UPDATE note SET id = 30 WHERE id = 3; UPDATE note SET id = 3 WHERE id = 2");
        desk.sync().unwrap();
        let drafts = desk.read("SELECT n FROM draft ORDER BY rowid");
        assert_eq!(drafts, "3\n30", "{events} at a time");
    }
}

#[test]
fn f53_a_key_change_of_ones_own_that_lost() {
    let remote = Arc::new(LocalRemote::new(NOTES));
    let mut desk = desk(
        &remote,
        1,
        "CREATE TABLE draft (n INT REFERENCES note ON DELETE CASCADE ON UPDATE CASCADE);
         INSERT INTO draft VALUES (1), (2);",
    );
    desk.write("UPDATE note SET id = 10 WHERE id = 1");
    desk.write("UPDATE note SET id = 20 WHERE id = 2");
    assert_eq!(desk.read("SELECT n FROM draft"), "10\n20");
    remote.web("UPDATE note SET body = 'web' WHERE id = 1; DELETE FROM note WHERE id = 2");
    desk.sync().unwrap();
    assert_eq!(desk.read("SELECT id FROM note ORDER BY id"), "1\n3\n4");
    assert_eq!(desk.read("SELECT n FROM draft"), "1", "it follows its note back");
    assert_eq!(desk.status().conflicts, 2);
}

#[test]
fn f53_a_key_change_that_a_page_splits() {
    let remote = Arc::new(LocalRemote::new(NOTES));
    let mut desk = desk(
        &remote,
        1,
        "CREATE TABLE draft (n INT REFERENCES note ON DELETE CASCADE ON UPDATE CASCADE);
         CREATE TABLE link (slug TEXT REFERENCES note (slug) ON DELETE CASCADE ON UPDATE CASCADE);
         INSERT INTO draft VALUES (1), (2), (3); INSERT INTO link VALUES ('one'), ('three');",
    );
    // One of another desk, whose events name each other, and one of the web, whose do not.
    let mut other = Desk::with_schema(&remote, 2, "");
    other.write("UPDATE note SET id = 10, slug = 'ten' WHERE id = 1");
    other.sync().unwrap();
    remote.web("UPDATE note SET id = 20 WHERE id = 2; DELETE FROM note WHERE id = 3");
    remote.web("INSERT INTO note VALUES (5, 'five', 'e')");
    desk.transaction = 1;
    desk.sync().unwrap();
    assert_eq!(desk.read("SELECT n FROM draft"), "10\n20");
    assert_eq!(desk.read("SELECT slug FROM link"), "ten");
    assert!(desk.status().dangling.is_empty());
}

/// The new key is here already, by an insert of one's own that has lost.
#[test]
fn f53_a_key_change_that_a_page_splits_meets_an_insert() {
    for by_web in [true, false] {
        let remote = Arc::new(LocalRemote::new(NOTES));
        let mut desk = desk(
            &remote,
            1,
            "CREATE TABLE draft (n INT REFERENCES note ON DELETE SET NULL ON UPDATE CASCADE);
             INSERT INTO draft VALUES (2), (3);",
        );
        desk.transaction = 1;
        let change = "UPDATE note SET id = 9 WHERE id = 2";
        if by_web {
            remote.web(change);
        } else {
            let mut other = Desk::with_schema(&remote, 2, "");
            other.write(change);
            other.sync().unwrap();
        }
        desk.write("INSERT INTO note VALUES (9, 'nine', 'z')");
        desk.sync().unwrap();
        assert_eq!(desk.read("SELECT n FROM draft"), "9\n3", "by the web: {by_web}");
        assert_eq!(desk.read("PRAGMA foreign_key_check"), "", "by the web: {by_web}");
    }
}

/// A page may end with a delete, whoever made it: by itself it is no key change.
#[test]
fn f53_a_delete_that_ends_a_page() {
    let remote = Arc::new(LocalRemote::new(NOTES));
    let mut desk = desk(
        &remote,
        1,
        "CREATE TABLE draft (n INT REFERENCES note ON DELETE CASCADE);
         CREATE TABLE last (n INT REFERENCES note ON DELETE SET NULL);
         INSERT INTO draft VALUES (1), (2), (3); INSERT INTO last VALUES (1), (2), (3);",
    );
    desk.transaction = 1;
    let mut other = Desk::with_schema(&remote, 2, "");
    other.write("DELETE FROM note WHERE id = 1");
    other.sync().unwrap();
    remote.web("DELETE FROM note WHERE id = 2");
    other.write("UPDATE note SET body = 'x' WHERE id = 4");
    other.sync().unwrap();
    desk.sync().unwrap();
    assert_eq!(desk.read("SELECT n FROM draft"), "3");
    assert_eq!(desk.read("SELECT n FROM last"), "NULL\nNULL\n3");
    assert!(desk.status().dangling.is_empty());
}

/// A page may end in the middle of a key that goes by way of another one, at each event.
#[test]
fn f53_a_key_that_takes_two_steps() {
    for events in [1, 2, 3, 4, 5] {
        let remote = Arc::new(LocalRemote::new(NOTES));
        let mut desk = desk(
            &remote,
            1,
            "CREATE TABLE draft (n INT REFERENCES note ON DELETE CASCADE ON UPDATE CASCADE);
             INSERT INTO draft VALUES (1), (2);",
        );
        desk.transaction = events;
        let mut other = Desk::with_schema(&remote, 2, "");
        other.write("UPDATE note SET id = 12 WHERE id = 2; UPDATE note SET id = 22 WHERE id = 12");
        other.sync().unwrap();
        remote.web("UPDATE note SET id = 11 WHERE id = 1; UPDATE note SET id = 21 WHERE id = 11");
        desk.sync().unwrap();
        assert_eq!(desk.read("SELECT n FROM draft"), "21\n22", "{events} at a time");
        assert!(desk.status().dangling.is_empty(), "{events} at a time");
    }
}

#[test]
fn f53_the_first_sync_too() {
    let remote = Arc::new(LocalRemote::new(NOTES));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(
        "CREATE TABLE note (id INTEGER PRIMARY KEY, slug TEXT UNIQUE, body TEXT);
         CREATE TABLE link (slug TEXT REFERENCES note (slug) ON UPDATE CASCADE);
         INSERT INTO note VALUES (1, 'uno', 'a'), (8, 'eight', 'h');
         INSERT INTO link VALUES ('uno'), ('eight')",
    )
    .unwrap();
    let plan = crate::support::desk::plan(path, 1, &[]);
    let tables = driftless::sync::Tables::Named(vec!["note".to_owned()]);
    let plan = driftless::sync::Plan { tables, ..plan };
    initialise(plan, remote).unwrap();
    assert_eq!(read(&db, "SELECT slug FROM link"), "one\neight");
}

#[test]
fn f53_a_replicated_child_of_a_local_parent() {
    // The other direction: the rows of `item` are the remote's, also where they refer to a table
    // that only this database has.
    let remote = Arc::new(LocalRemote::new(&format!(
        "{NOTES} CREATE TABLE shelf (id INTEGER PRIMARY KEY);
         CREATE TABLE item (id INTEGER PRIMARY KEY, shelf INT REFERENCES shelf (id) ON DELETE CASCADE);
         INSERT INTO shelf VALUES (5); INSERT INTO item VALUES (1, 5);"
    )));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(
        "CREATE TABLE shelf (id INTEGER PRIMARY KEY, n INT REFERENCES note (id) ON DELETE CASCADE);
         CREATE TABLE note (id INTEGER PRIMARY KEY, slug TEXT UNIQUE, body TEXT);
         CREATE TABLE item (id INTEGER PRIMARY KEY, shelf INT REFERENCES shelf (id) ON DELETE CASCADE);
         INSERT INTO note VALUES (1, 'one', 'a'); INSERT INTO shelf VALUES (5, 1);
         INSERT INTO item VALUES (1, 5);",
    )
    .unwrap();
    let plan = crate::support::desk::plan(path.clone(), 1, &[]);
    let tables = driftless::sync::Tables::Named(vec!["note".to_owned(), "item".to_owned()]);
    let (store, _) = initialise(driftless::sync::Plan { tables, ..plan }, remote.clone()).unwrap();
    remote.web("DELETE FROM note WHERE id = 1");
    drain(store, remote.clone()).unwrap();
    assert_eq!(read(&db, "SELECT count(*) FROM shelf"), "0", "the local action is carried out");
    assert_eq!(read(&db, "SELECT * FROM item"), "1|5", "the remote's row stays");
    let dangling = driftless::store::Store::open(&path).unwrap().dangling().unwrap();
    assert_eq!((dangling[0].table.as_str(), dangling[0].rows), ("item", 1), "and is named");
}

/// Tables that refer to `m`, which is replicated, and to each other.
fn local_tables(random: &mut fastrand::Rng) -> String {
    let actions = |random: &mut fastrand::Rng, in_pages: bool| {
        let delete = ["CASCADE", "SET NULL", "SET DEFAULT"][random.usize(..3)];
        // What a page does to a value that is no key is seen as a whole.
        let update = if in_pages { "CASCADE" } else { ["CASCADE", "SET NULL"][random.usize(..2)] };
        format!("ON DELETE {delete} ON UPDATE {update}")
    };
    let kind = ["", "WITHOUT ROWID"][random.usize(..2)];
    let mut sql = String::new();
    let _ = write!(
        sql,
        "CREATE TABLE a (k INTEGER PRIMARY KEY, m TEXT REFERENCES m {}, x TEXT UNIQUE);
         CREATE TABLE b (k TEXT PRIMARY KEY, a INT REFERENCES a {}, up TEXT REFERENCES b {}) {kind};
         CREATE TABLE c (u TEXT REFERENCES m (u) {}, n INT);
         CREATE TABLE d (x TEXT REFERENCES a (x) {}, m TEXT COLLATE NOCASE REFERENCES m (id) {});
         CREATE TABLE e (m TEXT PRIMARY KEY REFERENCES m ON DELETE CASCADE ON UPDATE CASCADE);",
        actions(random, false),
        actions(random, false),
        actions(random, false),
        actions(random, true),
        actions(random, false),
        actions(random, false),
    );
    sql
}

const KEYS: [&str; 6] = ["k0", "k1", "k2", "K1", "k3", "K0"];

fn web(random: &mut fastrand::Rng) -> String {
    // No two rows are equal but for their keys: they would be taken for a change of the key.
    let v = random.u32(..);
    let mut key = || KEYS[random.usize(..KEYS.len())];
    let (one, two) = (key(), key());
    match random.u8(..6) {
        0 | 1 => format!("INSERT OR IGNORE INTO m VALUES ('{one}', '{two}u', {v})"),
        2 => format!("DELETE FROM m WHERE id = '{one}'"),
        3 | 4 => format!("UPDATE OR IGNORE m SET id = '{two}' WHERE id = '{one}'"),
        _ => format!("UPDATE OR IGNORE m SET u = '{one}u', v = v + 1 WHERE id = '{two}'"),
    }
}

fn local(random: &mut fastrand::Rng) -> String {
    let n = random.u8(..8);
    let some = |table: &str, column: &str| {
        format!("(SELECT {column} FROM {table} ORDER BY {column} LIMIT 1 OFFSET {})", n % 3)
    };
    match random.u8(..5) {
        0 => format!("INSERT OR IGNORE INTO a VALUES ({n}, {}, 'x{n}')", some("m", "id")),
        1 => format!(
            "INSERT OR IGNORE INTO b VALUES ('b{n}', {}, {})",
            some("a", "k"),
            some("b", "k")
        ),
        2 => format!("INSERT INTO c VALUES ({}, {n})", some("m", "u")),
        3 => format!("INSERT INTO d VALUES ({}, {})", some("a", "x"), some("m", "id")),
        _ => format!("INSERT OR IGNORE INTO e SELECT {0} WHERE {0} NOT NULL", some("m", "id")),
    }
}

/// SQLite itself is asked what the actions do: a second database has the same tables with foreign
/// keys on, and the web's statements are run there.
fn follows_sqlite(seed: u64) -> usize {
    let repeat = format!("DRIFTLESS_TEST_SEED={seed} cargo test failures::local repeats this");
    let mut random = fastrand::Rng::with_seed(seed);
    let collate = ["", "COLLATE NOCASE"][random.usize(..2)];
    let m = format!("CREATE TABLE m (id TEXT PRIMARY KEY {collate}, u TEXT UNIQUE, v INT);");
    let remote = Arc::new(LocalRemote::new(&m));
    let tables = local_tables(&mut random);
    let mut desk = desk(&remote, 1, &tables);
    let oracle = Connection::open_in_memory().unwrap();
    oracle.execute_batch(&format!("PRAGMA foreign_keys = ON; {m} {tables}")).unwrap();
    let mut rows = 0;
    for _ in 0..40 {
        for _ in 0..random.usize(..4) {
            let sql = local(&mut random);
            let here = desk.db.execute_batch(&sql).map_err(|error| error.to_string());
            let there = oracle.execute_batch(&sql).map_err(|error| error.to_string());
            assert_eq!(here, there, "{sql}: {repeat}");
        }
        for _ in 0..random.usize(1..4) {
            let sql = web(&mut random);
            // What the remote cannot know of may refuse it there: a UNIQUE value of a child.
            if oracle.execute_batch(&sql).is_ok() {
                remote.web(&sql);
            }
        }
        desk.sync().unwrap();
        for table in ["m", "a", "b", "c", "d", "e"] {
            let sql = format!("SELECT * FROM {table} ORDER BY 1, 2");
            let sql = if table == "e" { sql.replace(", 2", "") } else { sql };
            let expected = read(&oracle, &sql);
            assert_eq!(desk.read(&sql), expected, "table {table} of\n{m}\n{tables}\n{repeat}");
            rows += expected.lines().count();
        }
        assert_eq!(desk.read("PRAGMA foreign_key_check"), "", "{repeat}");
    }
    rows
}

#[test]
fn f53_actions_are_those_of_sqlite() {
    let seeds = match std::env::var("DRIFTLESS_TEST_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("DRIFTLESS_TEST_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..12,
    };
    let rows: usize = seeds.map(follows_sqlite).sum();
    assert!(rows > 0, "there were rows to act on");
}
