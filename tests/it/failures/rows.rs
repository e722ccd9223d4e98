//! How replicators fail, by number: events that are missed, clocks, and rows that two writers want.

use std::sync::Arc;

use driftless::event::conflict::ConflictRule;
use driftless::store::{ConflictKind, NewKey};
use driftless::sync::Input;

use crate::support::desk::{Desk, SCHEMA, assert_equal};
use crate::support::inbox::Inbox as _;
use crate::support::local_remote::LocalRemote;
use crate::support::members::{TABLES, events, many, remote};

const MONTH_MS: i64 = 30 * 24 * 3_600_000;

/// The names of a desk's lost events, by how they lost and in the order of the log.
fn lost(desk: &mut Desk) -> Vec<(ConflictKind, String)> {
    let conflicts = desk.machine.store().conflicts(false).unwrap();
    conflicts.iter().map(|c| (c.kind, c.event.op.to_string())).collect()
}

fn sync_all(desks: &mut [&mut Desk]) {
    for _ in 0..2 {
        for desk in &mut *desks {
            desk.sync().unwrap();
        }
    }
}

#[test]
fn f01_a_later_writer_is_visible_first() {
    // A database with one writer at a time: whoever has taken numbers commits them, or nobody ever
    // sees them, before the next one takes any. What a reader has passed never appears behind it.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("remote.db");
    let remote = Arc::new(LocalRemote::at(&path, SCHEMA));
    let mut desk = Desk::new(&remote, 1);
    let open = || {
        let db = rusqlite::Connection::open(&path).unwrap();
        db.busy_timeout(std::time::Duration::ZERO).unwrap();
        db
    };
    let (first, second) = (open(), open());
    first.execute_batch(&format!("BEGIN IMMEDIATE; {}", many(3, "first"))).unwrap();
    assert!(second.execute_batch(&many(1, "second")).is_err(), "the second one has to wait");
    assert_eq!(desk.sync().unwrap().pulled, 0);
    first.execute_batch("COMMIT").unwrap();
    first.execute_batch(&format!("BEGIN IMMEDIATE; {}; ROLLBACK", many(5, "none"))).unwrap();
    second.execute_batch(&many(1, "second")).unwrap();
    assert_eq!(desk.sync().unwrap().pulled, 4);
    assert_equal(&desk, &TABLES);
    assert_eq!(desk.read("SELECT group_concat(seq) FROM driftless_log"), "1,2,3,4");
}

#[test]
fn f02_a_month_offline() {
    let remote = remote();
    let (mut a, mut b) = (Desk::new(&remote, 1), Desk::new(&remote, 2));
    // What a wrote a month ago and never sent.
    a.db.execute_batch(&many(50, "old")).unwrap();
    a.db.execute_batch(&format!("UPDATE driftless_outbox SET ms = ms - {MONTH_MS}")).unwrap();
    b.write(&many(50, "new"));
    remote.web(&many(50, "web"));
    b.sync().unwrap();
    let cursor = b.status().cursor;
    a.input(Input::Wake);
    a.sync().unwrap();
    assert_eq!(b.sync().unwrap().pulled, 50, "old ids come after a cursor that knows no time");
    assert_eq!(b.status().cursor, cursor + 50);
    let me = a.machine.store().id();
    let older = format!(
        "SELECT count(*) FROM driftless_events WHERE id <
         (SELECT min(id) FROM driftless_events WHERE origin <> '{me}')"
    );
    assert_eq!(remote.read(&older), "50", "they are old");
    assert_equal(&a, &TABLES);
    assert_equal(&b, &TABLES);
}

#[test]
fn f26_delete_against_update_in_every_order() {
    #[derive(Clone, Copy, PartialEq)]
    enum By {
        Web,
        Desk,
    }
    let change = |op: &str| match op {
        "delete" => "DELETE FROM members WHERE id = '1'",
        _ => "UPDATE members SET name = 'Anna' WHERE id = '1'",
    };
    for rule in [ConflictRule::Row, ConflictRule::Columns] {
        for (first, second) in [("delete", "update"), ("update", "delete"), ("delete", "delete")] {
            for by in [By::Web, By::Desk] {
                let remote = remote();
                let rules = [("members", rule)];
                let mut desks: Vec<_> =
                    (1..=3).map(|n| Desk::with_rules(&remote, n, SCHEMA, &rules)).collect();
                desks[0].write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
                desks.iter_mut().for_each(|desk| {
                    desk.sync().unwrap();
                });
                desks[1].db.execute_batch(change(second)).unwrap();
                match by {
                    By::Web => remote.web(change(first)),
                    By::Desk => desks[0].write(change(first)),
                }
                for _ in 0..2 {
                    desks.iter_mut().for_each(|desk| {
                        desk.sync().unwrap();
                    });
                }
                desks.iter().for_each(|desk| assert_equal(desk, &TABLES));
                let rows = remote.read("SELECT name FROM members");
                assert_eq!(rows, if first == "delete" { "" } else { "Anna" }, "the first one wins");
                let listed = lost(&mut desks[1]);
                // Where both deleted there is nothing to choose between.
                let expected = match first == second {
                    true => vec![],
                    false => vec![(ConflictKind::Conflict, second.to_owned())],
                };
                assert_eq!(listed, expected, "{first} before {second}");
                assert_eq!(desks[0].status().conflicts + desks[2].status().conflicts, 0);
            }
        }
    }
}

#[test]
fn f27_clocks() {
    let remote = remote();
    let year = 365 * 24 * 3_600_000_i64;
    let (mut ahead, mut behind) = (Desk::new(&remote, 1), Desk::new(&remote, 2));
    // The triggers take the later of the machine's time and what they have seen.
    ahead.db.execute_batch(&format!(
        "UPDATE driftless_state SET clock = CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) + {year}"
    )).unwrap();
    ahead.write("INSERT INTO members (id, name) VALUES ('1', 'a year ahead')");
    ahead.sync().unwrap();
    behind.db.execute_batch("INSERT INTO members (id, name) VALUES ('2', 'behind')").unwrap();
    behind.db.execute_batch(&format!("UPDATE driftless_outbox SET ms = ms - {year}")).unwrap();
    behind.sync().unwrap();
    ahead.sync().unwrap();
    // It won nothing for ever: who comes first wins, and then who comes next.
    for (round, name) in ["b1", "a1", "b2", "a2"].into_iter().enumerate() {
        let desk = if name.starts_with('a') { &mut ahead } else { &mut behind };
        desk.write(&format!("UPDATE members SET name = '{name}' WHERE id = '1'"));
        let summary = desk.sync().unwrap();
        assert_eq!((summary.applied, summary.superseded), (1, 0), "round {round}");
        sync_all(&mut [&mut ahead, &mut behind]);
        assert_eq!(remote.read("SELECT name FROM members WHERE id = '1'"), name);
    }
    // Who has seen an event makes no id below it.
    let ids = "SELECT id > (SELECT id FROM driftless_events WHERE seq = 1) FROM driftless_events
         WHERE seq > 2 ORDER BY seq";
    assert_eq!(remote.read(ids), "1\n1\n1\n1");
    // The clock is set back while the desk runs.
    behind.now.wall_ms -= year;
    for i in 0..3 {
        behind.write(&format!("INSERT INTO members (id) VALUES ('back{i}')"));
        behind.advance(1_000);
        behind.now.wall_ms -= 300_000;
    }
    sync_all(&mut [&mut ahead, &mut behind]);
    let sorted = format!(
        "SELECT count(*) FROM driftless_events AS a JOIN driftless_events AS b
         ON a.origin = b.origin AND a.seq < b.seq AND a.id >= b.id WHERE a.origin = '{}'",
        behind.machine.store().id()
    );
    assert_eq!(remote.read(&sorted), "0", "ids of one desk go up");
    assert_equal(&ahead, &TABLES);
    assert_equal(&behind, &TABLES);
    assert_eq!(ahead.status().conflicts + behind.status().conflicts, 0);
}

#[test]
fn f28_the_same_integer_key() {
    let remote = remote();
    let (mut a, mut b) = (Desk::new(&remote, 1), Desk::new(&remote, 2));
    remote.set_offline(true);
    a.write("INSERT INTO payments VALUES (1, NULL, 500), (2, NULL, 600)");
    b.write("INSERT INTO payments VALUES (1, NULL, 900)");
    a.settle();
    b.settle();
    remote.set_offline(false);
    sync_all(&mut [&mut a, &mut b]);
    assert_eq!(lost(&mut b), [(ConflictKind::Collision, "insert".to_owned())]);
    let id = b.machine.store().conflicts(false).unwrap()[0].event.id;
    b.machine.store().restore(id, Some(NewKey::Fresh)).unwrap();
    sync_all(&mut [&mut b, &mut a]);
    assert_eq!(remote.read("SELECT id, cents FROM payments ORDER BY id"), "1|500\n2|600\n3|900");
    assert_equal(&a, &TABLES);
    assert_equal(&b, &TABLES);
    assert_eq!(b.status().conflicts, 0);
}

#[test]
fn f29_the_same_unique_value_in_two_rows() {
    let remote = remote();
    let (mut a, mut b) = (Desk::new(&remote, 1), Desk::new(&remote, 2));
    a.db.execute_batch("INSERT INTO members VALUES ('1', 'Ana', 'x')").unwrap();
    b.db.execute_batch(
        "INSERT INTO members VALUES ('2', 'Bea', 'x'), ('3', 'Cleo', 'z');
         INSERT INTO payments VALUES (7, '3', 5)",
    )
    .unwrap();
    a.input(Input::LocalCommit);
    sync_all(&mut [&mut a, &mut b]);
    assert_eq!(lost(&mut b), [(ConflictKind::Rejected, "insert".to_owned())]);
    let reason = "SELECT pk, reason FROM driftless_events WHERE verdict = 'rejected'";
    assert_eq!(remote.read(reason), "[\"2\"]|unique: email");
    assert_equal(&a, &TABLES);
    assert_equal(&b, &TABLES);
    // There is room for it once the other one has moved.
    let id = b.machine.store().conflicts(false).unwrap()[0].event.id;
    assert!(b.machine.store().restore(id, None).is_err());
    a.write("UPDATE members SET email = 'y' WHERE id = '1'");
    sync_all(&mut [&mut a, &mut b]);
    b.machine.store().restore(id, None).unwrap();
    sync_all(&mut [&mut b, &mut a]);
    assert_eq!(remote.read("SELECT count(*) FROM members"), "3");
    assert_equal(&a, &TABLES);
    assert_equal(&b, &TABLES);
}

#[test]
fn f30_foreign_keys() {
    let schema = "
        CREATE TABLE members (id TEXT PRIMARY KEY, name TEXT,
            friend TEXT REFERENCES members (id) ON DELETE SET NULL);
        CREATE TABLE payments (id INTEGER PRIMARY KEY,
            member TEXT REFERENCES members (id) ON DELETE CASCADE, cents INT);";
    let remote = Arc::new(LocalRemote::new(schema));
    let (mut a, mut b) =
        (Desk::with_schema(&remote, 1, schema), Desk::with_schema(&remote, 2, schema));
    // Parent and child in one transaction, one row that refers to itself, two that refer to each
    // other by way of an update.
    a.write(
        "BEGIN; INSERT INTO members VALUES ('1', 'Ana', '1'); INSERT INTO payments VALUES (1, '1', 5);
         INSERT INTO members VALUES ('2', 'Bea', '1'); UPDATE members SET friend = '2' WHERE id = '1';
         COMMIT",
    );
    sync_all(&mut [&mut a, &mut b]);
    assert_eq!(
        remote.read("SELECT count(*) FROM driftless_events WHERE verdict <> 'applied'"),
        "0"
    );
    // A child that the deleter never saw goes with its parent, everywhere.
    b.write("INSERT INTO payments VALUES (2, '1', 6)");
    b.sync().unwrap();
    a.db.execute_batch("DELETE FROM members WHERE id = '1'").unwrap();
    sync_all(&mut [&mut a, &mut b]);
    assert_eq!(remote.read("SELECT count(*) FROM payments"), "0");
    assert_eq!(remote.read("SELECT id, friend FROM members"), "2|NULL");
    assert_equal(&a, &TABLES);
    assert_equal(&b, &TABLES);
    // And one that arrives after its parent went is rejected, and shown.
    a.write("DELETE FROM members WHERE id = '2'");
    b.db.execute_batch("INSERT INTO payments VALUES (3, '2', 7)").unwrap();
    sync_all(&mut [&mut a, &mut b]);
    assert_eq!(lost(&mut b), [(ConflictKind::Rejected, "insert".to_owned())]);
    assert_equal(&a, &TABLES);
    assert_equal(&b, &TABLES);
}

#[test]
fn f31_a_winner_while_three_changes_are_pending() {
    for rule in [ConflictRule::Row, ConflictRule::Columns] {
        let remote = remote();
        let rules = [("members", rule)];
        let mut desk = Desk::with_rules(&remote, 1, SCHEMA, &rules);
        desk.write("INSERT INTO members VALUES ('1', 'Ana', 'a')");
        desk.sync().unwrap();
        remote.web("UPDATE members SET name = 'Web', email = 'w'");
        desk.input(Input::Wake);
        assert!(desk.deliver(), "the winner is on its way");
        for sql in ["name = 'B'", "email = 'b'", "name = 'C'"] {
            desk.db.execute_batch(&format!("UPDATE members SET {sql}")).unwrap();
        }
        assert!(desk.go_on(), "and is integrated under the three");
        assert_eq!(desk.read("SELECT name, email FROM members"), "Web|w", "never half of both");
        desk.sync().unwrap();
        assert_equal(&desk, &TABLES);
        assert_eq!(desk.read("SELECT name, email FROM members"), "Web|w");
        assert_eq!(lost(&mut desk).len(), 3);
        assert_eq!(events(&remote), 5, "the log has them all");
    }
}
