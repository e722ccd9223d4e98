//! How replicators fail, by number: columns are dropped and renamed, here and there.

use std::sync::Arc;

use driftless::Health;

use crate::support::desk::{Desk, SCHEMA, assert_equal};
use crate::support::local_remote::LocalRemote;

const RENAME: &str = "ALTER TABLE members RENAME COLUMN name TO title";

fn remote() -> Arc<LocalRemote> {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    remote.web("ALTER TABLE members ADD COLUMN notes TEXT");
    remote
}

fn desk(remote: &Arc<LocalRemote>, number: u128) -> Desk {
    let schema = SCHEMA.replace("email TEXT UNIQUE", "email TEXT UNIQUE, notes TEXT");
    Desk::with_schema(remote, number, &schema)
}

/// Two desks with the same rows, in step.
fn two() -> (Arc<LocalRemote>, Desk, Desk) {
    let remote = remote();
    let (mut a, mut b) = (desk(&remote, 1), desk(&remote, 2));
    a.write("INSERT INTO members VALUES ('1', 'Ana', 'a@x', 'n1'), ('2', 'Bo', NULL, 'n2')");
    a.write("INSERT INTO payments VALUES (1, '1', 10), (2, '2', 20)");
    a.sync().unwrap();
    b.sync().unwrap();
    (remote, a, b)
}

fn at_rest(remote: &LocalRemote, desks: &mut [&mut Desk]) {
    for _ in 0..3 {
        for desk in desks.iter_mut() {
            desk.advance(10_000);
            desk.sync().unwrap();
        }
    }
    assert_eq!(remote.read("SELECT count(*) FROM driftless_owed"), "0");
    assert_eq!(remote.read("SELECT count(*) FROM driftless_applying"), "0");
    for desk in desks.iter_mut() {
        let status = desk.status();
        assert_eq!((status.pending, status.conflicts, status.quarantined), (0, 0, 0));
        assert_eq!((status.trouble, status.health), (None, Health::Ok));
        assert!(status.suspect.is_empty(), "{:?}", status.suspect);
    }
}

#[test]
fn f64_a_desk_drops_a_column() {
    for running in [true, false] {
        let (remote, mut a, mut b) = two();
        a.db.execute_batch("UPDATE members SET notes = 'last', name = 'Anna' WHERE id = '1'")
            .unwrap();
        a.db.execute_batch("ALTER TABLE members DROP COLUMN notes").unwrap();
        // Triggers know the column, and capture all the same.
        a.db.execute_batch(
            "INSERT INTO members VALUES ('3', 'Cleo', NULL); UPDATE members SET name = 'B' WHERE id = '2';
             INSERT INTO members VALUES ('4', 'Dan', NULL); UPDATE members SET email = 'd@x' WHERE id = '4';
             INSERT OR REPLACE INTO members VALUES ('2', 'Bob', 'b@x');
             UPDATE members SET id = '5' WHERE id = '3';
             DELETE FROM members WHERE id = '4'",
        )
        .unwrap();
        if running {
            a.input(driftless::sync::Input::LocalCommit);
        } else {
            a.restart();
        }
        a.sync().unwrap();
        b.sync().unwrap();
        assert_eq!(
            remote.read("SELECT * FROM members ORDER BY id"),
            "1|Anna|a@x|last\n2|Bob|b@x|n2\n5|Cleo|NULL|NULL"
        );
        assert_equal(&b, &["members", "payments"]);
        let rows = "SELECT id, name, email FROM members ORDER BY id";
        assert_eq!(a.read(rows), remote.read(rows));
        // Weeks later, in both directions.
        b.write("UPDATE members SET notes = 'of b' WHERE id = '1'");
        b.sync().unwrap();
        a.sync().unwrap();
        a.write("UPDATE members SET name = 'A' WHERE id = '1'");
        a.sync().unwrap();
        assert_eq!(remote.read("SELECT name, notes FROM members WHERE id = '1'"), "A|of b");
        at_rest(&remote, &mut [&mut a, &mut b]);
    }
}

/// A value in the place of a dropped column is no value.
#[test]
fn f64_what_a_trigger_finds_for_a_dropped_column_is_not_sent() {
    let (remote, mut a, _) = two();
    remote.web(
        "PRAGMA foreign_keys = OFF; CREATE TABLE m2 (id TEXT PRIMARY KEY, name TEXT,
           email TEXT UNIQUE, notes TEXT NOT NULL DEFAULT 'none');
         INSERT INTO m2 SELECT * FROM members; DROP TABLE members;
         ALTER TABLE m2 RENAME TO members; PRAGMA foreign_keys = ON",
    );
    a.db.execute_batch("ALTER TABLE members DROP COLUMN notes").unwrap();
    a.db.execute_batch("INSERT INTO members VALUES ('7', 'Gus', NULL)").unwrap();
    a.sync().unwrap();
    assert_eq!(remote.read("SELECT notes FROM members WHERE id = '7'"), "none");
    assert_eq!(a.status().conflicts, 0);
    let events =
        remote.read("SELECT count(*) FROM driftless_events WHERE after LIKE '%driftless%'");
    assert_eq!(events, "0");
}

#[test]
fn f64_a_desk_renames_a_column_with_events_pending() {
    for told_first in [true, false] {
        let (remote, mut a, mut b) = two();
        b.write("UPDATE members SET name = 'of b' WHERE id = '2'");
        b.sync().unwrap();
        a.db.execute_batch("UPDATE members SET name = 'before' WHERE id = '1'").unwrap();
        a.db.execute_batch("INSERT INTO members VALUES ('3', 'Cleo', NULL, 'x')").unwrap();
        if told_first {
            a.input(driftless::sync::Input::LocalCommit);
        }
        a.db.execute_batch(RENAME).unwrap();
        a.db.execute_batch("INSERT INTO members VALUES ('4', 'after', NULL, 'y')").unwrap();
        a.db.execute_batch("UPDATE members SET title = 'Cleo C' WHERE id = '3'").unwrap();
        a.sync().unwrap();
        b.sync().unwrap();
        a.sync().unwrap();
        let rows = "1|before\n2|of b\n3|Cleo C\n4|after";
        assert_eq!(remote.read("SELECT id, name FROM members ORDER BY id"), rows);
        assert_eq!(a.read("SELECT id, title FROM members ORDER BY id"), rows);
        assert_eq!(b.read("SELECT id, name FROM members ORDER BY id"), rows);
        // No comparison of the table was needed: capture was whole all the time.
        assert_eq!(a.status().returned.len(), 0);
        // The remote and the other desk follow, weeks later; pending events are in every name.
        b.db.execute_batch("UPDATE members SET name = 'b again' WHERE id = '2'").unwrap();
        remote.web(RENAME);
        remote.web("UPDATE members SET title = 'of the web' WHERE id = '1'");
        a.write("UPDATE members SET title = 'of a' WHERE id = '4'");
        a.sync().unwrap();
        remote.web("INSERT INTO members (id, title) VALUES ('5', 'new')");
        b.sync().unwrap();
        a.sync().unwrap();
        let rows = "1|of the web\n2|b again\n3|Cleo C\n4|of a\n5|new";
        assert_eq!(remote.read("SELECT id, title FROM members ORDER BY id"), rows);
        assert_eq!(b.read("SELECT id, name FROM members ORDER BY id"), rows);
        b.db.execute_batch(RENAME).unwrap();
        b.write("UPDATE members SET title = 'end' WHERE id = '5'");
        b.sync().unwrap();
        at_rest(&remote, &mut [&mut a, &mut b]);
        assert_equal(&a, &["members", "payments"]);
        assert_equal(&b, &["members", "payments"]);
        assert_eq!(remote.read("SELECT title FROM members WHERE id = '5'"), "end");
        // A new replica gets the tables as they are.
        let renamed =
            SCHEMA.replace("name TEXT, email TEXT UNIQUE", "title TEXT, email TEXT UNIQUE, notes");
        let mut c = Desk::with_schema(&remote, 3, &renamed.replace("notes", "notes TEXT"));
        c.sync().unwrap();
        assert_equal(&c, &["members", "payments"]);
        c.write("UPDATE members SET title = 'c' WHERE id = '1'");
        c.sync().unwrap();
        a.sync().unwrap();
        b.sync().unwrap();
        at_rest(&remote, &mut [&mut a, &mut b, &mut c]);
        for desk in [&a, &b, &c] {
            assert_equal(desk, &["members", "payments"]);
        }
    }
}

/// Names that were another column's: they are told apart for life.
#[test]
fn f37_columns_that_exchange_their_names() {
    const SWAP: &str = "ALTER TABLE members RENAME COLUMN name TO aside;
        ALTER TABLE members RENAME COLUMN notes TO name;
        ALTER TABLE members RENAME COLUMN aside TO notes";
    let (remote, mut a, mut b) = two();
    a.db.execute_batch("UPDATE members SET name = 'A', notes = 'N' WHERE id = '1'").unwrap();
    a.db.execute_batch(SWAP).unwrap();
    a.db.execute_batch("UPDATE members SET name = 'N2', notes = 'B2' WHERE id = '2'").unwrap();
    a.sync().unwrap();
    b.sync().unwrap();
    let rows = "1|A|N\n2|B2|N2";
    assert_eq!(remote.read("SELECT id, name, notes FROM members ORDER BY id"), rows);
    assert_eq!(b.read("SELECT id, name, notes FROM members ORDER BY id"), rows);
    assert_eq!(a.read("SELECT id, notes, name FROM members ORDER BY id"), rows);
    remote.web(SWAP);
    remote.web("UPDATE members SET name = 'web N', notes = 'web A' WHERE id = '1'");
    a.advance(10_000);
    b.sync().unwrap();
    a.sync().unwrap();
    assert_eq!(b.read("SELECT name, notes FROM members WHERE id = '1'"), "web A|web N");
    assert_eq!(a.read("SELECT name, notes FROM members WHERE id = '1'"), "web N|web A");
    b.db.execute_batch(SWAP).unwrap();
    b.write("UPDATE members SET name = 'b N' WHERE id = '2'");
    b.sync().unwrap();
    at_rest(&remote, &mut [&mut a, &mut b]);
    assert_equal(&a, &["members"]);
    assert_equal(&b, &["members"]);
}

/// A name that has become free is given to a new column.
#[test]
fn f37_a_new_column_has_the_former_name_of_another_one() {
    const MIGRATE: &str = "ALTER TABLE members RENAME COLUMN notes TO remarks;
        ALTER TABLE members ADD COLUMN notes INT";
    let (remote, mut a, mut b) = two();
    a.db.execute_batch("UPDATE members SET notes = 'pending' WHERE id = '1'").unwrap();
    a.db.execute_batch(MIGRATE).unwrap();
    a.input(driftless::sync::Input::LocalCommit);
    a.sync().unwrap();
    a.db.execute_batch("UPDATE members SET remarks = 'r', notes = 7 WHERE id = '2'").unwrap();
    a.sync().unwrap();
    b.sync().unwrap();
    // The new column's value is owed, by name, and is in nobody else's column.
    assert_eq!(remote.read("SELECT notes FROM members ORDER BY id"), "pending\nr");
    assert_eq!(b.read("SELECT notes FROM members ORDER BY id"), "pending\nr");
    assert_eq!(remote.read("SELECT col FROM driftless_owed"), "notes (2)");
    remote.web(MIGRATE);
    a.advance(10_000);
    assert_eq!(
        remote.read("SELECT id, remarks, notes FROM members ORDER BY id"),
        "1|pending|NULL\n2|r|7"
    );
    b.db.execute_batch(MIGRATE).unwrap();
    b.write("UPDATE members SET notes = 8 WHERE id = '1'");
    b.sync().unwrap();
    a.sync().unwrap();
    at_rest(&remote, &mut [&mut a, &mut b]);
    assert_equal(&a, &["members"]);
    assert_equal(&b, &["members"]);
}

/// Columns of keys and foreign keys have names, too.
#[test]
fn f64_keys_are_renamed() {
    const MIGRATE: &str = "ALTER TABLE members RENAME COLUMN id TO key;
        ALTER TABLE payments RENAME COLUMN member TO who;
        ALTER TABLE members RENAME COLUMN email TO mail";
    for first in ["desk", "web"] {
        let (remote, mut a, mut b) = two();
        a.db.execute_batch("UPDATE members SET email = 'x@x' WHERE id = '2'").unwrap();
        b.db.execute_batch("INSERT INTO payments VALUES (9, '2', 90)").unwrap();
        match first {
            "desk" => a.db.execute_batch(MIGRATE).unwrap(),
            _ => remote.web(MIGRATE),
        }
        let (key, who) = if first == "desk" { ("key", "who") } else { ("id", "member") };
        a.db.execute_batch(&format!(
            "INSERT INTO members ({key}, name) VALUES ('3', 'C'); UPDATE members SET {key} = '33' WHERE {key} = '3';
             INSERT INTO payments VALUES (3, '33', 30); UPDATE payments SET {who} = '2' WHERE id = 1;
             DELETE FROM members WHERE {key} = '1'"
        ))
        .unwrap();
        a.sync().unwrap();
        b.sync().unwrap();
        a.sync().unwrap();
        match first {
            "desk" => remote.web(MIGRATE),
            _ => a.db.execute_batch(MIGRATE).unwrap(),
        }
        b.db.execute_batch(MIGRATE).unwrap();
        a.write("UPDATE members SET mail = 'y@x' WHERE key = '33'");
        a.sync().unwrap();
        b.sync().unwrap();
        at_rest(&remote, &mut [&mut a, &mut b]);
        assert_equal(&a, &["members", "payments"]);
        assert_equal(&b, &["members", "payments"]);
        assert_eq!(remote.read("SELECT key, mail FROM members ORDER BY key"), "2|x@x\n33|y@x");
        assert_eq!(remote.read("SELECT id, who FROM payments ORDER BY id"), "1|2\n2|2\n3|33\n9|2");
    }
}

/// The value of a new column, written before capture knows it, when the remote has no such column
/// yet.
#[test]
fn f65_a_value_of_a_column_that_the_remote_gets_later() {
    let (remote, mut a, mut b) = two();
    const ADD: &str = "ALTER TABLE members ADD COLUMN stars INT";
    a.db.execute_batch(ADD).unwrap();
    a.db.execute_batch("UPDATE members SET stars = 7 WHERE id = '2'").unwrap();
    a.sync().unwrap();
    a.write("UPDATE members SET stars = 5 WHERE id = '1'");
    a.sync().unwrap();
    remote.web(ADD);
    a.advance(10_000);
    b.db.execute_batch(ADD).unwrap();
    b.sync().unwrap();
    a.sync().unwrap();
    assert_eq!(remote.read("SELECT stars FROM members ORDER BY id"), "5\n7");
    at_rest(&remote, &mut [&mut a, &mut b]);
    assert_equal(&b, &["members"]);
}

/// A column that was dropped and added again here has no values, and takes none away there.
#[test]
fn f37_a_desk_drops_a_column_and_adds_it_again() {
    for looks in [true, false] {
        let (remote, mut a, mut b) = two();
        a.db.execute_batch("UPDATE members SET notes = 'pending' WHERE id = '1'").unwrap();
        a.db.execute_batch("ALTER TABLE members DROP COLUMN notes").unwrap();
        if looks {
            a.input(driftless::sync::Input::LocalCommit);
            a.sync().unwrap();
        }
        a.db.execute_batch("ALTER TABLE members ADD COLUMN notes TEXT").unwrap();
        a.sync().unwrap();
        b.sync().unwrap();
        a.sync().unwrap();
        assert_eq!(remote.read("SELECT notes FROM members ORDER BY id"), "pending\nn2", "{looks}");
        at_rest(&remote, &mut [&mut a, &mut b]);
        assert_equal(&a, &["members"]);
        assert_equal(&b, &["members"]);
    }
}
