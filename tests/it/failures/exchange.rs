//! How replicators fail, by number: requests and answers. The machine is driven by hand where the
//! order of things matters, and by the real driver where threads do.

use std::sync::Arc;
use std::time::Duration;

use driftless::protocol::statements::MAX_EVENTS;
use driftless::remote::Remote;
use driftless::sync::backoff::CAP_MS;
use driftless::sync::{Input, SyncState};
use driftless::{Code, Kind, Replicator};

use crate::support::desk::{Desk, SCHEMA, assert_equal};
use crate::support::local_remote::{Fault, LocalRemote};
use crate::support::members::{TABLES, events, many, remote};

#[test]
fn f03_counts_at_page_boundaries() {
    let page = MAX_EVENTS;
    for count in [0, 1, page - 1, page, page + 1, 2 * page] {
        let remote = remote();
        let (mut a, mut b) = (Desk::new(&remote, 1), Desk::new(&remote, 2));
        a.write(&many(count, "a"));
        remote.web(&many(count, "w"));
        let up = a.sync().unwrap();
        assert_eq!((up.pushed, up.applied, up.pulled), (count as u64, count as u64, count as u64));
        let down = b.sync().unwrap();
        assert_eq!((down.pushed, down.pulled), (0, 2 * count as u64));
        for desk in [&a, &b] {
            assert_equal(desk, &TABLES);
            assert_eq!(desk.status().cursor, 2 * count as i64);
        }
        // Nothing is left over: the next sync moves nothing.
        assert_eq!(b.sync().unwrap().pulled, 0);
        assert_eq!(events(&remote), 2 * count as i64);
    }
}

#[test]
fn f04_changes_while_a_sync_runs() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    let (id, batch) = desk.sent.pop_front().expect("a commit is pushed at once");
    // The request is under way. Both sides write.
    desk.write("INSERT INTO members (id, name) VALUES ('2', 'Bea')");
    let answer = remote.run_now(batch);
    remote.web("INSERT INTO members (id, name) VALUES ('3', 'Cleo')");
    desk.input(Input::Answer(id, answer));
    // The page is there and not integrated yet. Both write once more.
    desk.write("UPDATE members SET name = 'Anna' WHERE id = '1'");
    remote.web("INSERT INTO members (id, name) VALUES ('4', 'Dora')");
    desk.sync().unwrap();
    assert_equal(&desk, &TABLES);
    assert_eq!(desk.read("SELECT group_concat(name) FROM members"), "Anna,Bea,Cleo,Dora");
}

#[test]
fn f07_lost_acknowledgement() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    remote.fail([Fault::LostAfter]);
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    desk.settle();
    assert_eq!(events(&remote), 1, "it took effect");
    assert_eq!(desk.status().state, SyncState::Offline);
    assert_eq!(desk.status().pending, 1);
    desk.advance(CAP_MS);
    assert_eq!(events(&remote), 1, "and took effect once");
    assert_equal(&desk, &TABLES);
}

#[test]
fn f08_a_part_had_arrived() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    remote.fail([Fault::LostAfter]);
    desk.write(&many(3, "a"));
    desk.settle();
    desk.write(&many(2, "b"));
    let summary = desk.sync().unwrap();
    assert_eq!((summary.pushed, summary.applied), (5, 5));
    assert_eq!(remote.read("SELECT count(*), count(DISTINCT id) FROM driftless_events"), "5|5");
    assert_equal(&desk, &TABLES);
}

#[test]
fn f09_a_failed_push_is_retried_without_a_further_write() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    remote.fail([Fault::LostBefore]);
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    desk.settle();
    assert_eq!(events(&remote), 0);
    desk.advance(CAP_MS);
    assert_equal(&desk, &TABLES);
    assert_eq!(events(&remote), 1);
}

#[test]
fn f10_a_panic_of_the_uploader() {
    let remote = remote();
    let folder = tempfile::tempdir().unwrap();
    let replicator = start(&folder, &remote);
    replicator.sync_now_blocking().unwrap();
    remote.fail([Fault::Panic]);
    replicator
        .connection()
        .unwrap()
        .execute("INSERT INTO members (id, name) VALUES ('1', 'Ana')", [])
        .unwrap();
    replicator.sync_now_blocking().unwrap();
    assert_eq!(remote.faults_left(), 0, "it did panic");
    assert_eq!(events(&remote), 1);
    assert_eq!(replicator.status().pending, 0);
    assert_eq!(remote.read("SELECT name FROM members"), "Ana");
}

#[test]
fn f11_unavailable_for_a_while() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    remote.fail([Fault::Unavailable; 20]);
    for i in 0..10 {
        desk.write(&format!("INSERT INTO members (id) VALUES ('{i}')"));
        desk.advance(1_000);
    }
    assert_eq!(desk.status().pending, 10, "nothing is dropped");
    assert_eq!(desk.status().remote.reachable, Some(false));
    let before = remote.requests();
    desk.advance(20 * CAP_MS);
    assert_eq!(remote.faults_left(), 0);
    assert!(remote.requests() > before);
    assert_equal(&desk, &TABLES);
    assert_eq!(desk.status().state, SyncState::InStep);
}

#[test]
fn f12_one_event_is_refused_for_good() {
    // The web's table has a CHECK that no trigger can judge beforehand.
    let remote = Arc::new(LocalRemote::new(
        "CREATE TABLE members (id TEXT PRIMARY KEY, name TEXT CHECK (name <> 'bad'), email TEXT UNIQUE);
         CREATE TABLE payments (id INTEGER PRIMARY KEY, member TEXT REFERENCES members (id), cents INT);
         INSERT INTO members VALUES ('web', 'Web', 'taken@example.org')",
    ));
    let mut desk = Desk::new(&remote, 1);
    for i in 0..20 {
        let name = if i == 13 { "bad" } else { "good" };
        desk.db
            .execute("INSERT INTO members (id, name) VALUES (?1, ?2)", (format!("m{i}"), name))
            .unwrap();
    }
    desk.db.execute_batch("PRAGMA foreign_keys = off").unwrap();
    desk.write("INSERT INTO payments VALUES (1, 'nobody', 5)");
    remote.web("INSERT INTO members (id, name) VALUES ('later', 'Later')");
    let summary = desk.sync().unwrap();
    assert_eq!((summary.applied, summary.rejected), (19, 2), "{summary:?}");
    assert_eq!(summary.pulled, 1, "the pull went on");
    assert_equal(&desk, &TABLES);
    let rejected = "SELECT pk, reason FROM driftless_events WHERE verdict = 'rejected' ORDER BY pk";
    let rejected = remote.read(rejected);
    assert!(rejected.contains("CHECK constraint failed"), "{rejected}");
    assert!(rejected.contains("foreign"), "{rejected}");
    assert_eq!(desk.status().conflicts, 2, "what was refused is shown");
    // Afterwards a push is whole again.
    let before = remote.requests();
    desk.write(&many(50, "n"));
    desk.settle();
    desk.sync().unwrap();
    assert!(remote.requests() - before <= 8, "{}", remote.requests() - before);
}

#[test]
fn f13_a_write_that_did_not_happen() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    // What the remote says about its writes is not looked at; what it has is.
    remote.fail([Fault::Swallow]);
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    desk.settle();
    assert_eq!(events(&remote), 0);
    assert_eq!(desk.status().pending, 1, "no success was believed");
    desk.advance(CAP_MS);
    assert_equal(&desk, &TABLES);
    assert_eq!(events(&remote), 1);
}

#[test]
fn f14_sizes_adapt() {
    let remote = remote();
    let (mut a, mut b) = (Desk::new(&remote, 1), Desk::new(&remote, 2));
    remote.set_caps(100_000, 80_000);
    let wide = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
        INSERT INTO members (id, name) SELECT 'm' || i, printf('%.*c', 1000, 'x') FROM n";
    a.write(wide);
    let summary = a.sync().unwrap();
    assert_eq!(summary.applied, 1_000, "{summary:?} {:?}", a.status());
    assert_eq!(b.sync().unwrap().pulled, 1_000);
    assert_equal(&a, &TABLES);
    assert_equal(&b, &TABLES);
    // What has been learnt is kept: the next ones are not tried too large again and again.
    let before = remote.requests();
    remote.web("UPDATE members SET name = name || 'y' WHERE id < 'm5'");
    let summary = b.sync().unwrap();
    let failed = (remote.requests() - before) as u64 - summary.requests;
    assert!(failed <= 3, "{failed} requests failed");
    assert_equal(&b, &TABLES);
}

#[test]
fn f14_one_row_of_four_megabytes() {
    let remote = remote();
    let (mut a, mut b) = (Desk::new(&remote, 1), Desk::new(&remote, 2));
    a.write("INSERT INTO members (id, name) VALUES ('1', printf('%.*c', 4194304, 'x'))");
    a.write(&many(10, "a"));
    assert_eq!(a.sync().unwrap().pushed, 11);
    b.sync().unwrap();
    assert_equal(&b, &TABLES);
}

#[test]
fn f15_two_replicas_return_at_the_same_moment() {
    let remote = remote();
    let (mut a, mut b) = (Desk::new(&remote, 1), Desk::new(&remote, 2));
    remote.set_offline(true);
    for (desk, name) in [(&mut a, "a"), (&mut b, "b")] {
        desk.write(&many(300, name));
        desk.write(&format!("INSERT INTO members (id, name) VALUES ('both', '{name}')"));
        desk.settle();
    }
    remote.set_offline(false);
    a.input(Input::Wake);
    b.input(Input::Wake);
    // Turn by turn, a step each.
    for _ in 0..200 {
        let _ = a.deliver() || a.go_on();
        let _ = b.deliver() || b.go_on();
    }
    a.sync().unwrap();
    b.sync().unwrap();
    a.sync().unwrap();
    assert_equal(&a, &TABLES);
    assert_equal(&b, &TABLES);
    assert_eq!(remote.read("SELECT count(*) FROM members"), "601");
    assert_eq!(a.status().conflicts + b.status().conflicts, 1, "one of the two lost, and is shown");
}

#[test]
fn f20_a_sleep_of_eight_hours() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    remote.set_offline(true);
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    desk.advance(300_000);
    assert_eq!(desk.status().state, SyncState::Offline);
    // The lid closes: the steady clock stands still, the wall clock goes on, and so does the web.
    remote.set_offline(false);
    remote.web(&many(100, "w"));
    desk.now.wall_ms += 8 * 3_600_000;
    desk.input(Input::Wake);
    assert_eq!(desk.sent.len(), 1, "it does not wait for the backoff's end");
    desk.settle();
    assert_equal(&desk, &TABLES);
}

#[test]
fn f24_another_remote_gets_nothing() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    desk.sync().unwrap();
    // The database behind the URL is wiped and set up anew by somebody else.
    let other = Arc::new(LocalRemote::new(SCHEMA));
    let _stranger = Desk::new(&other, 7);
    desk.remote = Arc::clone(&other);
    let before = events(&other);
    desk.write("INSERT INTO members (id, name) VALUES ('2', 'Bea')");
    desk.settle();
    let status = desk.status();
    assert_eq!(status.state, SyncState::OtherRemote);
    assert_eq!(status.code, Some(Code::OtherRemote));
    desk.advance(600_000);
    assert_eq!(events(&other), before, "nothing was pushed");
    assert_eq!(other.read("SELECT count(*) FROM members"), "0");
    assert_eq!(desk.read("SELECT count(*) FROM members"), "2", "nothing was erased");
    // So it is with one that has nothing of ours.
    desk.remote = Arc::new(LocalRemote::new(SCHEMA));
    assert_eq!(desk.sync().unwrap_err().kind(), Kind::Refused);
    assert_eq!(desk.status().state, SyncState::OtherRemote);
}

#[test]
fn a_refusal_stops_the_sending_until_somebody_acts() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    remote.fail([Fault::Refused, Fault::Refused, Fault::Refused]);
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    desk.settle();
    assert_eq!(desk.status().state, SyncState::Refused);
    let before = remote.requests();
    desk.advance(30_000);
    assert_eq!(remote.requests(), before, "it is left alone");
    desk.remote = Arc::clone(&remote);
    desk.input(Input::Reconfigured { url: "memory://remote".to_owned() });
    desk.advance(CAP_MS * 10);
    assert_equal(&desk, &TABLES);
}

#[test]
fn the_next_page_is_asked_for_before_one_is_integrated() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    remote.web(&many(3 * MAX_EVENTS, "w"));
    desk.input(Input::SyncNow(driftless::sync::Ticket(77)));
    desk.wanted.clear();
    desk.deliver();
    let sends: Vec<_> = desk.wanted.iter().filter(|name| **name != "wait").copied().collect();
    assert_eq!(sends, ["send", "continue"]);
    desk.settle();
    assert_equal(&desk, &TABLES);
}

#[test]
fn one_request_carries_push_verdicts_and_pull() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    let before = remote.requests();
    remote.web("INSERT INTO members (id, name) VALUES ('w', 'Web')");
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    desk.settle();
    assert_eq!(remote.requests() - before, 1);
    assert_equal(&desk, &TABLES);
}

#[test]
fn an_idle_desk_asks_once_a_poll_and_reads_only() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    // What is left of the liveliness of its beginning.
    desk.advance(60_000);
    let before = remote.requests();
    desk.advance(60_000);
    assert_eq!(remote.requests() - before, 12);
    let batches = remote.batches();
    assert!(batches[before..].iter().all(|batch| !batch.writes && batch.statements.len() == 2));
}

#[test]
fn units_are_read_whole() {
    let remote = remote();
    let (mut a, mut b) = (Desk::new(&remote, 1), Desk::new(&remote, 2));
    remote.web(&many(MAX_EVENTS - 10, "w"));
    a.write(&many(100, "a"));
    a.sync().unwrap();
    b.input(Input::SyncNow(driftless::sync::Ticket(5)));
    b.deliver();
    assert!(b.go_on());
    // The unit of 100 began ten events before the page's limit.
    assert_eq!(b.status().cursor, MAX_EVENTS as i64 + 90);
}

#[test]
fn a_page_is_integrated_by_units() {
    let remote = remote();
    let (mut a, mut b) = (Desk::new(&remote, 1), Desk::new(&remote, 2));
    // The first of these is under way while the others are written.
    for name in ["a", "b", "c"] {
        a.write(&many(600, name));
    }
    a.sync().unwrap();
    let units = "SELECT group_concat(n) FROM (SELECT count(*) AS n FROM driftless_events
        GROUP BY unit ORDER BY min(seq))";
    assert_eq!(remote.read(units), "600,600,600");
    b.input(Input::SyncNow(driftless::sync::Ticket(5)));
    b.deliver();
    b.transaction = 1;
    let mut cursors = Vec::new();
    while b.go_on() {
        cursors.push(b.status().cursor);
    }
    assert_eq!(cursors, [600, 1_200, 1_800], "a unit is never seen in part");
    b.sync().unwrap();
    assert_equal(&b, &TABLES);
}

#[test]
fn a_crash_between_the_answer_and_the_page_loses_nothing() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    desk.write(&many(5, "a"));
    desk.deliver();
    desk.restart();
    desk.sync().unwrap();
    assert_eq!(events(&remote), 5);
    assert_equal(&desk, &TABLES);
}

fn start(folder: &tempfile::TempDir, remote: &Arc<LocalRemote>) -> Replicator {
    let path = folder.path().join("desk.db");
    let fresh = !path.exists();
    let db = rusqlite::Connection::open(&path).unwrap();
    if fresh {
        db.execute_batch(SCHEMA).unwrap();
    }
    let remote: Arc<dyn Remote> = Arc::clone(remote) as Arc<dyn Remote>;
    Replicator::builder(&path)
        .with_remote(remote)
        .tables(TABLES)
        .poll_interval(Duration::from_millis(200))
        .start()
        .unwrap()
}

#[test]
fn a_malformed_event_goes_into_quarantine_and_the_others_flow() {
    let remote = remote();
    let (mut a, mut b) = (Desk::new(&remote, 1), Desk::new(&remote, 2));
    a.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    a.sync().unwrap();
    // Somebody who can write to the remote writes nonsense into the log.
    remote.web(
        "INSERT INTO driftless_events (id, origin, tbl, pk, op, base, verdict, received_at)
         VALUES ('01ARZ3NDEKTSV4RRFFQ69G5FAV', 'web', 'members', '[\"2\"', 'insert', 0, 'applied', 1);
         INSERT INTO driftless_events (id, origin, tbl, pk, op, \"after\", base, verdict, received_at)
         VALUES ('01ARZ3NDEKTSV4RRFFQ69G5FAW', 'web', 'members', '[\"2\"]', 'insert',
         '{\"id\":\"2\",\"name\":{\"r\":\"nonsense\"}}', 0, 'applied', 1);
         INSERT INTO driftless_events (id, origin, tbl, pk, op, \"after\", base, verdict, received_at)
         VALUES ('no ulid', 'web', 'members', '[\"2\"]', 'upsert', '[]', 0, 'maybe', 1);
         INSERT INTO members (id, name) VALUES ('3', 'Cleo');",
    );
    for desk in [&mut a, &mut b] {
        desk.sync().unwrap();
        assert_equal(desk, &TABLES);
        assert_eq!(desk.status().quarantined, 3);
    }
    a.write("UPDATE members SET name = 'Anna' WHERE id = '1'");
    a.sync().unwrap();
    b.sync().unwrap();
    assert_equal(&b, &TABLES);
}
