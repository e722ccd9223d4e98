//! How replicators fail, by number: rows of tables that are not replicated stay with the row that
//! they refer to (F53), also where it has another key for a while, or is not here for a while.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::support::application::register;
use crate::support::desk::Desk;
use crate::support::inbox::Inbox as _;
use crate::support::local_remote::LocalRemote;

/// What is replicated, and what refers to it.
const NOTES: &str = "
    CREATE TABLE note (id INTEGER PRIMARY KEY, slug TEXT UNIQUE, body TEXT);
    INSERT INTO note VALUES (1, 'one', 'a'), (2, 'two', 'b'), (3, 'three', 'c'), (4, 'four', 'd');
";
const DRAFTS: &str = "
    CREATE TABLE draft (n INT REFERENCES note ON DELETE CASCADE ON UPDATE CASCADE);
    INSERT INTO draft VALUES (2), (3);
";

fn desk(remote: &Arc<LocalRemote>) -> Desk {
    let mut desk = Desk::with_schema(remote, 1, "");
    desk.db.execute_batch(DRAFTS).unwrap();
    desk.sync().unwrap();
    desk
}

/// The web changes something, or another desk does.
fn change(remote: &Arc<LocalRemote>, by_web: bool, sql: &str) {
    if by_web {
        return remote.web(sql);
    }
    let mut other = Desk::with_schema(remote, 2, "");
    other.write(sql);
    other.sync().unwrap();
}

/// Who changes the key; how many events are integrated at a time; and whether a key change of the
/// desk's own was pending.
fn ways() -> impl Iterator<Item = (bool, usize, bool)> {
    (0..12).map(|n| (n % 2 == 0, [1, 2, usize::MAX][n / 2 % 3], n >= 6))
}

/// Something keeps the row with the new key out.
fn keep_out(remote: &Arc<LocalRemote>, desk: &mut Desk, own: bool) {
    desk.write("CREATE UNIQUE INDEX own ON note (body)");
    remote.web("UPDATE note SET body = 'a' WHERE id = 2");
    if own {
        desk.write("UPDATE note SET id = 20 WHERE id = 2");
    }
}

fn let_in(desk: &mut Desk) {
    desk.write("DROP INDEX own");
    desk.restart();
    desk.sync().unwrap();
    assert_eq!(desk.status().quarantined, 0);
}

#[test]
fn f53_a_key_change_whose_row_waits() {
    for way in ways() {
        let (by_web, events, own) = way;
        let remote = Arc::new(LocalRemote::new(NOTES));
        let mut desk = desk(&remote);
        desk.transaction = events;
        keep_out(&remote, &mut desk, own);
        change(&remote, by_web, "UPDATE note SET id = 9 WHERE id = 2");
        desk.sync().unwrap();
        assert_eq!(desk.read("SELECT id FROM note ORDER BY id"), "1\n3\n4", "{way:?}");
        assert_eq!(desk.read("SELECT n FROM draft"), "9\n3", "it follows: {way:?}");
        assert_eq!(desk.status().dangling[0].rows, 1, "and is named: {way:?}");
        let_in(&mut desk);
        assert_eq!(desk.read("SELECT n FROM draft"), "9\n3", "{way:?}");
        assert!(desk.status().dangling.is_empty(), "{way:?}");
    }
}

#[test]
fn f53_a_key_that_changes_while_its_row_waits() {
    for way in ways() {
        for at_once in [true, false] {
            let (by_web, events, own) = way;
            let remote = Arc::new(LocalRemote::new(NOTES));
            let mut desk = desk(&remote);
            desk.transaction = events;
            keep_out(&remote, &mut desk, own);
            change(&remote, by_web, "UPDATE note SET id = 9 WHERE id = 2");
            if !at_once {
                desk.sync().unwrap();
            }
            change(&remote, by_web, "UPDATE note SET id = 11 WHERE id = 9");
            desk.sync().unwrap();
            let_in(&mut desk);
            assert_eq!(desk.read("SELECT n FROM draft"), "11\n3", "at once: {at_once}, {way:?}");
            assert!(desk.status().dangling.is_empty(), "at once: {at_once}, {way:?}");
        }
    }
}

#[test]
fn f53_a_row_that_is_deleted_while_it_waits() {
    for way in ways() {
        for at_once in [true, false] {
            let (by_web, events, own) = way;
            let remote = Arc::new(LocalRemote::new(NOTES));
            let mut desk = desk(&remote);
            desk.transaction = events;
            keep_out(&remote, &mut desk, own);
            change(&remote, by_web, "UPDATE note SET id = 9 WHERE id = 2");
            if !at_once {
                desk.sync().unwrap();
            }
            change(&remote, by_web, "DELETE FROM note WHERE id = 9");
            desk.sync().unwrap();
            let_in(&mut desk);
            assert_eq!(desk.read("SELECT n FROM draft"), "3", "at once: {at_once}, {way:?}");
            assert!(desk.status().dangling.is_empty(), "at once: {at_once}, {way:?}");
        }
    }
}

/// The row has a column that is not here yet: it comes without it.
#[test]
fn f53_a_key_change_of_a_row_with_a_column_more() {
    for events in [1, usize::MAX] {
        let remote = Arc::new(LocalRemote::new(NOTES));
        let mut desk = desk(&remote);
        desk.transaction = events;
        remote.web("ALTER TABLE note ADD COLUMN colour TEXT");
        let mut other = Desk::with_schema(&remote, 2, "");
        other.sync().unwrap();
        remote.web("UPDATE note SET id = 9 WHERE id = 2");
        desk.sync().unwrap();
        assert_eq!(desk.status().quarantined, 0);
        assert!(desk.status().dangling.is_empty(), "{events} at a time");
        assert_eq!(desk.read("SELECT n FROM draft"), "9\n3", "{events} at a time");
        desk.write("ALTER TABLE note ADD COLUMN colour TEXT");
        desk.restart();
        desk.sync().unwrap();
        assert_eq!(desk.status().quarantined, 0);
        assert_eq!(desk.read("SELECT n FROM draft"), "9\n3", "{events} at a time");
    }
}

/// A table that cannot be written for a while: both halves of a key change wait.
#[test]
fn f53_a_key_change_of_which_both_halves_wait() {
    for (by_web, from, to) in [(true, 2, 9), (true, 2, 0), (false, 2, 9), (false, 2, 0)] {
        let remote = Arc::new(LocalRemote::new(NOTES));
        let mut desk = desk(&remote);
        register(&desk.db).unwrap();
        desk.write("CREATE INDEX i ON note (body COLLATE FR)");
        desk.restart();
        change(&remote, by_web, &format!("UPDATE note SET id = {to} WHERE id = {from}"));
        desk.sync().unwrap();
        assert_eq!(desk.status().quarantined, 2);
        assert_eq!(desk.read("SELECT n FROM draft"), "2\n3");
        desk.write("DROP INDEX i");
        desk.restart();
        desk.sync().unwrap();
        assert_eq!(desk.read("SELECT n FROM draft"), format!("{to}\n3"), "by the web: {by_web}");
    }
}

/// Another row has the new key of a key change of one's own, for good or for a while.
#[test]
fn f53_a_key_change_of_ones_own_whose_key_another_row_took() {
    for way in ways().filter(|(.., own)| !own) {
        for taken in [
            "INSERT INTO note VALUES (9, 'nine', 'z')",
            "UPDATE note SET id = 9 WHERE id = 4",
            "INSERT INTO note VALUES (9, 'nine', 'z'); DELETE FROM note WHERE id = 9",
        ] {
            let (by_web, events, _) = way;
            let remote = Arc::new(LocalRemote::new(NOTES));
            let mut desk = desk(&remote);
            desk.transaction = events;
            desk.write("UPDATE note SET id = 9 WHERE id = 2");
            assert_eq!(desk.read("SELECT n FROM draft"), "9\n3");
            change(&remote, by_web, taken);
            desk.sync().unwrap();
            assert_eq!(desk.read("SELECT body FROM note WHERE id = 2"), "b", "{way:?}: {taken}");
            assert_eq!(desk.read("SELECT n FROM draft"), "2\n3", "{way:?}: {taken}");
            assert!(desk.status().dangling.is_empty(), "{way:?}: {taken}");
        }
    }
}

/// Own keys that went round in a circle, of which one has lost.
#[test]
fn f53_a_swap_of_keys_of_which_one_has_lost() {
    for (row, events) in [(1, 1), (2, 1), (1, usize::MAX), (2, usize::MAX)] {
        let remote = Arc::new(LocalRemote::new(NOTES));
        let mut desk = desk(&remote);
        desk.db.execute_batch("INSERT INTO draft VALUES (1)").unwrap();
        desk.transaction = events;
        desk.write(
            "BEGIN; UPDATE note SET id = 0 WHERE id = 1; UPDATE note SET id = 1 WHERE id = 2;
             UPDATE note SET id = 2 WHERE id = 0; COMMIT",
        );
        assert_eq!(desk.read("SELECT n FROM draft"), "1\n3\n2");
        remote.web(&format!("UPDATE note SET body = 'web' WHERE id = {row}"));
        desk.sync().unwrap();
        let sql = "SELECT slug FROM draft JOIN note ON id = n ORDER BY draft.rowid";
        assert_eq!(desk.read(sql), "two\nthree\none", "{row}, {events} at a time");
    }
}

/// A row that waits as a whole, because what it is underneath a lost change is refused.
#[test]
fn f53_a_row_that_waits_as_a_whole() {
    let remote = Arc::new(LocalRemote::new(NOTES));
    let mut desk = desk(&remote);
    desk.write("CREATE UNIQUE INDEX own ON note (body)");
    desk.write("UPDATE note SET body = 'mine' WHERE id = 2");
    remote.web("UPDATE note SET body = 'b' WHERE id = 3");
    desk.transaction = 1;
    remote.web("UPDATE note SET slug = 'zwei' WHERE id = 2");
    desk.sync().unwrap();
    assert_eq!(desk.read("SELECT id FROM note ORDER BY id"), "1\n3\n4");
    assert_eq!(desk.read("SELECT n FROM draft"), "2\n3");
    assert_eq!(desk.status().dangling[0].rows, 1);
    let_in(&mut desk);
    assert_eq!(desk.read("SELECT n FROM draft"), "2\n3");
    assert!(desk.status().dangling.is_empty());
}

/// An insert of one's own is off its row because of a constraint that this database alone has: the
/// remote decides whether it has lost.
#[test]
fn f53_an_insert_of_ones_own_that_only_this_database_refuses() {
    for events in [1, 2, usize::MAX] {
        for loses in [true, false] {
            let remote = Arc::new(LocalRemote::new(NOTES));
            let mut desk = desk(&remote);
            desk.transaction = events;
            desk.write("CREATE UNIQUE INDEX own ON note (body)");
            desk.write("INSERT INTO note VALUES (7, 'seven', 'z'); INSERT INTO draft VALUES (7)");
            remote.web("UPDATE note SET body = 'z' WHERE id = 3");
            if loses {
                remote.web("UPDATE note SET slug = 'seven' WHERE id = 4");
            }
            desk.sync().unwrap();
            let_in(&mut desk);
            let drafts = desk.read("SELECT n FROM draft");
            let expected = if loses { "2\n3" } else { "2\n3\n7" };
            assert_eq!(drafts, expected, "{events} at a time, loses: {loses}");
            assert!(desk.status().dangling.is_empty(), "{events} at a time, loses: {loses}");
        }
    }
}

const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// What one of the two does, by statements on rows that it sees. A row has its number for ever.
fn action(random: &mut fastrand::Rng, next: &mut u32, own: bool) -> String {
    let mut key = || KEYS[random.usize(..KEYS.len())];
    let (one, two) = (key(), key());
    *next += 1;
    match random.u8(..8) {
        // Two inserts with one key would be one row to their children.
        0 if own => format!("INSERT INTO m VALUES ('own{next}', {next}, {})", *next % 4),
        0 => format!("INSERT OR IGNORE INTO m VALUES ('{one}', {next}, {})", *next % 4),
        1 => format!("DELETE FROM m WHERE id = '{one}'"),
        2 | 3 => format!("UPDATE m SET w = {} WHERE id = '{one}'", *next % 4),
        _ => format!(
            "UPDATE OR IGNORE m SET id = '{two}' WHERE id = (SELECT id FROM m WHERE id >= '{one}' \
             ORDER BY id LIMIT 1)"
        ),
    }
}

/// A child knows the number of its row. Wherever keys went, it is that row's in the end, or gone
/// with it.
fn stays_with_its_row(seed: u64) -> usize {
    let repeat = format!("DRIFTLESS_TEST_SEED={seed} cargo test failures::moved repeats this");
    let mut random = fastrand::Rng::with_seed(seed);
    let unique = ["UNIQUE", ""][random.usize(..2)];
    let m = format!("CREATE TABLE m (id TEXT PRIMARY KEY, v INT {unique}, w INT)");
    let remote = Arc::new(LocalRemote::new(&m));
    let mut desk = Desk::with_schema(&remote, 1, "");
    let child = "CREATE TABLE c (k INTEGER PRIMARY KEY, v INT,
                 m TEXT REFERENCES m ON DELETE CASCADE ON UPDATE CASCADE)";
    desk.db.execute_batch(child).unwrap();
    desk.transaction = [1, 2, 3, usize::MAX][random.usize(..4)];
    let mut other = random.bool().then(|| Desk::with_schema(&remote, 2, ""));
    let refuses = random.bool();
    let (mut next, mut rows, mut gone) = (0, 0, BTreeSet::new());
    let children = |desk: &Desk| -> BTreeSet<String> {
        desk.read("SELECT v FROM c").lines().map(str::to_owned).collect()
    };
    for round in 1..=12 {
        for _ in 0..random.usize(..5) {
            let sql = action(&mut random, &mut next, false);
            match &mut other {
                Some(other) if random.bool() => {
                    other.sync().unwrap();
                    other.write(&sql);
                    other.sync().unwrap();
                }
                _ => remote.web(&sql),
            }
        }
        let mut left = String::new();
        for _ in 0..random.usize(..4) {
            let sql = action(&mut random, &mut next, true);
            let there = desk.read("SELECT id FROM m");
            // What has its children under its key although another row may take that: a row that
            // waits, and one whose unsent key change has lost. Nobody could tell whose they are.
            let is_change = sql.contains("SET id");
            let ambiguous = desk.status().quarantined > 0
                || left.lines().any(|key| sql.contains(&format!("SET id = '{key}'")));
            if !is_change || !ambiguous {
                // A constraint of its own may refuse it.
                let _ = desk.db.execute_batch(&sql);
            }
            let now = desk.read("SELECT id FROM m");
            for gone in there.lines().filter(|key| !now.lines().any(|other| other == *key)) {
                let _ = writeln!(left, "{gone}");
            }
            let child = "INSERT INTO c (v, m) SELECT v, id FROM m ORDER BY v LIMIT 1 OFFSET";
            desk.write(&format!("{child} {}", random.u8(..4)));
        }
        if refuses && random.bool() {
            let _ = desk.db.execute_batch("CREATE UNIQUE INDEX IF NOT EXISTS own ON m (w)");
        }
        let before = children(&desk);
        desk.sync().unwrap();
        gone.extend(before.difference(&children(&desk)).cloned());
        if random.bool() || round == 12 {
            desk.write("DROP INDEX IF EXISTS own");
            desk.restart();
            desk.sync().unwrap();
            let wrong =
                "SELECT c.v, c.m, m.v FROM c LEFT JOIN m ON m.id = c.m WHERE m.v IS NOT c.v";
            assert_eq!(desk.read(wrong), "", "{repeat}");
            let sql = "SELECT * FROM m ORDER BY id";
            assert_eq!(desk.read(sql), remote.read(sql), "{repeat}");
            let there = desk.read("SELECT v FROM m");
            let wrong = there.lines().find(|row| gone.contains(*row));
            assert_eq!(wrong, None, "the children are gone, and the row is not: {repeat}");
        }
        rows += children(&desk).len();
    }
    rows
}

#[test]
fn f53_children_stay_with_their_row() {
    let seeds = match std::env::var("DRIFTLESS_TEST_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("DRIFTLESS_TEST_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..12,
    };
    let rows: usize = seeds.map(stays_with_its_row).sum();
    assert!(rows > 0 || std::env::var_os("DRIFTLESS_TEST_SEED").is_some(), "there were rows");
}

/// The doubtful rows that the status names, by table.
fn doubtful(desk: &Desk) -> Vec<(String, u64, u64)> {
    let named = desk.status().dangling.into_iter();
    named.map(|one| (one.table, one.rows, one.doubtful)).collect()
}

/// Foreign keys that keep a parent's key as it is: no child follows, and none could be told from
/// those of the row that has the key now.
#[test]
fn f53_a_child_that_keeps_its_key_is_named_when_another_row_has_it() {
    for (action, by_web, events) in [
        ("RESTRICT", true, usize::MAX),
        ("RESTRICT", false, 1),
        ("NO ACTION", true, 1),
        ("NO ACTION", false, usize::MAX),
    ] {
        for taken in
            ["INSERT INTO note VALUES (9, 'nine', 'z')", "UPDATE note SET id = 9 WHERE id = 4"]
        {
            let case = format!("{action}, {by_web}, {events}: {taken}");
            let remote = Arc::new(LocalRemote::new(NOTES));
            let mut desk = Desk::with_schema(&remote, 1, "");
            let table = format!("CREATE TABLE draft (n INT REFERENCES note ON UPDATE {action})");
            desk.db.execute_batch(&table).unwrap();
            desk.transaction = events;
            desk.sync().unwrap();
            desk.write("UPDATE note SET id = 9 WHERE id = 2; INSERT INTO draft VALUES (9), (3)");
            change(&remote, by_web, taken);
            desk.sync().unwrap();
            assert_eq!(desk.read("SELECT body FROM note WHERE id = 2"), "b", "{case}");
            assert_eq!(desk.read("SELECT n FROM draft"), "9\n3", "{case}");
            assert_eq!(doubtful(&desk), [("draft".to_owned(), 0, 1)], "{case}");
            desk.restart();
            assert_eq!(doubtful(&desk), [("draft".to_owned(), 0, 1)], "{case}");
            // The application puts it right.
            desk.write("UPDATE draft SET n = 2 WHERE n = 9");
            assert_eq!(doubtful(&desk), [], "{case}");
            // Or it was right, and a person says so.
            desk.write("UPDATE draft SET n = 9 WHERE n = 2");
            assert_eq!(doubtful(&desk), [("draft".to_owned(), 0, 1)], "{case}");
            for conflict in desk.machine.store().conflicts(false).unwrap() {
                desk.machine.store().dismiss(conflict.event.id).unwrap();
            }
            assert_eq!(doubtful(&desk), [], "{case}");
        }
    }
}

/// One key belongs to two rows in turn, and both changes lose: nobody can tell whose the local rows
/// are that refer to it.
#[test]
fn f53_local_rows_of_two_rows_with_one_key_are_named() {
    for events in [1, usize::MAX] {
        let remote = Arc::new(LocalRemote::new(NOTES));
        let mut desk = desk(&remote);
        desk.transaction = events;
        desk.write(
            "UPDATE note SET id = 9 WHERE id = 2; INSERT INTO note VALUES (2, 'neu', 'n');
             INSERT INTO draft VALUES (2)",
        );
        remote.web("UPDATE note SET body = 'web' WHERE id = 2");
        desk.sync().unwrap();
        assert_eq!(desk.read("SELECT body FROM note WHERE id = 2"), "web");
        assert_eq!(desk.read("SELECT n FROM draft"), "2\n3\n2", "{events} at a time");
        assert_eq!(doubtful(&desk), [("draft".to_owned(), 0, 2)], "{events} at a time");
    }
    // Two inserts with one key.
    let remote = Arc::new(LocalRemote::new(NOTES));
    let mut desk = desk(&remote);
    desk.write("INSERT INTO note VALUES (7, 'mine', 'm'); INSERT INTO draft VALUES (7)");
    remote.web("INSERT INTO note VALUES (7, 'theirs', 't')");
    desk.sync().unwrap();
    assert_eq!(desk.read("SELECT slug FROM note WHERE id = 7"), "theirs");
    assert_eq!(doubtful(&desk), [("draft".to_owned(), 0, 1)]);
}
