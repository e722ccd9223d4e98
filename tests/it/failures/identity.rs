//! How replicas and remotes are taken for others: F22, F23 and F24, with the machine driven by
//! hand. `cli::identity` has them with the real command over the hub.

use std::sync::Arc;

use driftless::protocol::incarnation::MAX_ISSUED;
use driftless::store::Cause;
use driftless::sync::{Input, SyncState};
use driftless::{Code, Error};

use crate::support::desk::{Desk, SCHEMA, assert_equal};
use crate::support::inbox::Inbox as _;
use crate::support::local_remote::{Fault, LocalRemote};
use crate::support::members::{TABLES, events, many, remote};

/// The causes of a desk's changes of identity.
fn causes(desk: &Desk) -> Vec<Cause> {
    desk.status().identity.iter().map(|former| former.cause).collect()
}

/// Every desk is in step, all have the same rows, and each event is in the log once.
fn all_equal(desks: &mut [&mut Desk]) {
    for _ in 0..2 {
        for desk in desks.iter_mut() {
            desk.sync().unwrap();
        }
    }
    for desk in desks {
        assert_equal(desk, &TABLES);
        let ids = desk.remote.read("SELECT count(*) - count(DISTINCT id) FROM driftless_events");
        assert_eq!(ids, "0");
        assert_eq!(desk.status().state, SyncState::InStep);
    }
}

/// The desk is refused, pushes nothing, however often it tries, and changes nothing here.
fn is_refused(desk: &mut Desk, state: SyncState, code: Code) {
    let (rows, log) = (desk.read("SELECT * FROM members ORDER BY 1"), dump(&desk.remote));
    let pending = desk.status().pending;
    let error: Error = desk.sync().unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.hint().is_some());
    let status = desk.status();
    assert_eq!((status.state, status.pending), (state, pending));
    assert_eq!((status.code, status.trouble.as_deref()), (Some(code), Some(error.message())));
    desk.advance(600_000);
    assert_eq!(desk.read("SELECT * FROM members ORDER BY 1"), rows);
    assert_eq!(dump(&desk.remote), log, "nothing was pushed");
    assert_ne!(desk.status().health, driftless::Health::Ok);
}

fn dump(remote: &LocalRemote) -> String {
    let tables = remote.read("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1");
    let ours = tables.contains("driftless_events");
    let log = if ours { remote.read("SELECT seq, id FROM driftless_events") } else { tables };
    log + "\n" + &remote.read("SELECT * FROM members ORDER BY 1")
}

#[test]
fn f22_restored_from_a_backup() {
    let remote = remote();
    let (mut a, mut b) = (Desk::new(&remote, 1), Desk::new(&remote, 2));
    a.write(&many(10, "early"));
    a.sync().unwrap();
    // Pending when the backup is taken: it is pushed later.
    a.db.execute_batch("UPDATE members SET name = 'pending' WHERE id = 'early1'").unwrap();
    let backup = a.backup();
    a.write(&many(10, "late"));
    a.write("UPDATE members SET name = 'again' WHERE id = 'early2'");
    a.sync().unwrap();
    b.sync().unwrap();
    b.write("DELETE FROM members WHERE id IN ('early3', 'late3')");
    b.sync().unwrap();
    let before = remote.read("SELECT id FROM driftless_events ORDER BY seq");
    let id = a.machine.store().id();

    a.restore(&backup);
    assert_eq!(a.read("SELECT count(*) FROM members"), "10", "the backup is old");
    a.db.execute_batch("INSERT INTO members (id, name) VALUES ('new', 'written after')").unwrap();
    a.db.execute_batch("UPDATE members SET name = 'after' WHERE id = 'early1'").unwrap();
    a.db.execute_batch("UPDATE members SET name = 'stale' WHERE id = 'early2'").unwrap();
    a.db.execute_batch("UPDATE members SET name = 'dead' WHERE id = 'early3'").unwrap();
    all_equal(&mut [&mut a, &mut b]);

    assert_eq!(causes(&a), [Cause::Copied]);
    assert_eq!(a.status().identity[0].replica, id.to_string());
    assert_ne!(a.machine.store().id(), id);
    assert!(causes(&b).is_empty());
    // What was acknowledged is there still, what was written after the restoration arrived, and
    // what was deleted stays deleted.
    let log = remote.read("SELECT id FROM driftless_events ORDER BY seq");
    assert!(log.starts_with(&before));
    assert_eq!(b.read("SELECT name FROM members WHERE id = 'new'"), "written after");
    assert_eq!(b.read("SELECT name FROM members WHERE id = 'early1'"), "after");
    assert_eq!(b.read("SELECT count(*) FROM members WHERE id IN ('early3', 'late3')"), "0");
    // These two were written over what the backup did not know.
    assert_eq!(b.read("SELECT name FROM members WHERE id = 'early2'"), "again");
    assert_eq!(a.status().conflicts, 2);
}

#[test]
fn f22_nothing_was_written_after_the_restoration() {
    let remote = remote();
    let mut a = Desk::new(&remote, 1);
    a.write(&many(3, "a"));
    a.sync().unwrap();
    let backup = a.backup();
    a.write(&many(3, "b"));
    a.sync().unwrap();
    a.restore(&backup);
    a.sync().unwrap();
    assert_equal(&a, &TABLES);
    assert!(causes(&a).is_empty(), "who only reads is nobody else");
    a.write("UPDATE members SET name = 'now' WHERE id = 'b1'");
    all_equal(&mut [&mut a]);
    assert_eq!(causes(&a), [Cause::Copied]);
    assert_eq!(a.status().conflicts, 0);
}

#[test]
fn f22_a_lost_answer_a_crash_and_a_restoration() {
    let remote = remote();
    let mut a = Desk::new(&remote, 1);
    a.write(&many(3, "a"));
    a.sync().unwrap();
    remote.fail([Fault::LostAfter]);
    a.write(&many(3, "b"));
    a.settle();
    let unanswered = a.backup();
    a.restart();
    a.sync().unwrap();
    assert!(causes(&a).is_empty(), "a lost answer is no alarm");
    a.write(&many(3, "c"));
    a.sync().unwrap();
    // The backup knows neither that its push took effect nor what came after.
    a.restore(&unanswered);
    a.db.execute_batch("UPDATE members SET name = 'on top' WHERE id = 'b1'").unwrap();
    all_equal(&mut [&mut a]);
    assert_eq!(causes(&a), [Cause::Copied]);
    assert_eq!((events(&remote), a.status().conflicts), (10, 0));
    assert_eq!(remote.read("SELECT name FROM members WHERE id = 'b1'"), "on top");
}

#[test]
fn f22_the_backup_is_the_last_state() {
    // Nothing was pushed since: the file is what the remote believes it to be.
    let remote = remote();
    let mut a = Desk::new(&remote, 1);
    a.write(&many(3, "a"));
    a.sync().unwrap();
    a.db.execute_batch("DELETE FROM members WHERE id = 'a1'").unwrap();
    let backup = a.backup();
    a.db.execute_batch("DELETE FROM members WHERE id = 'a2'").unwrap();
    a.restore(&backup);
    all_equal(&mut [&mut a]);
    assert!(causes(&a).is_empty());
    assert_eq!(remote.read("SELECT count(*) FROM members"), "2");
}

#[test]
fn f22_a_power_failure_between_the_mark_and_the_request() {
    let remote = remote();
    let mut a = Desk::new(&remote, 1);
    remote.fail([Fault::LostBefore]);
    a.write(&many(3, "a"));
    a.settle();
    let (issued, backup) = (a.machine.store().incarnations().unwrap().issued, a.backup());
    assert_eq!(issued.len(), 1, "the incarnation is stored before the request leaves");
    a.restore(&backup);
    assert_eq!(a.machine.store().incarnations().unwrap().issued, issued);
    all_equal(&mut [&mut a]);
    assert!(causes(&a).is_empty());
}

#[test]
fn f22_a_backup_from_before_the_first_sync() {
    let remote = remote();
    let (mut a, mut b) = (Desk::new(&remote, 1), Desk::new(&remote, 2));
    a.write(&many(5, "a"));
    all_equal(&mut [&mut a, &mut b]);
    b.write("DELETE FROM members WHERE id = 'a1'");
    b.write("UPDATE members SET name = 'changed' WHERE id = 'a2'");
    all_equal(&mut [&mut a, &mut b]);
    // The application's file as it was before driftless was ever there, with its rows, is made a
    // replica once more.
    let old = format!("{SCHEMA} {}", many(5, "a"));
    let mut again = Desk::with_schema(&remote, 3, &old);
    again.write("INSERT INTO members (id) VALUES ('fresh')");
    all_equal(&mut [&mut again, &mut a, &mut b]);
    assert_eq!(
        remote.read("SELECT count(*) FROM members WHERE id = 'a1'"),
        "0",
        "it stays deleted"
    );
    assert_eq!(remote.read("SELECT name FROM members WHERE id = 'a2'"), "changed");
    assert_eq!(remote.read("SELECT count(*) FROM members"), "5");
    let lost = again.machine.store().conflicts(false).unwrap();
    let keys: Vec<_> = lost.iter().map(|lost| lost.event.key.0.as_str()).collect();
    assert_eq!(keys, ["[\"a1\"]", "[\"a2\"]"], "and both can be brought back by hand");
}

#[test]
fn f23_copied_to_a_second_machine() {
    for copy_first in [false, true] {
        let remote = remote();
        let mut a = Desk::new(&remote, 1);
        a.write(&many(5, "a"));
        a.sync().unwrap();
        let mut c = a.copy(2);
        for round in 0..6 {
            a.write(&format!("INSERT INTO members (id) VALUES ('of a {round}')"));
            c.write(&format!("INSERT INTO members (id) VALUES ('of c {round}')"));
            let turns = if copy_first { [&mut c, &mut a] } else { [&mut a, &mut c] };
            for desk in turns {
                desk.sync().unwrap();
            }
        }
        all_equal(&mut [&mut a, &mut c]);
        assert_eq!(remote.read("SELECT count(*) FROM members"), "17", "both streams arrived");
        // Exactly one of them is somebody else, and was told so once.
        let changed = [&a, &c].map(causes);
        assert_eq!(changed.concat(), [Cause::Copied]);
        assert_eq!(changed[0].is_empty(), !copy_first || !changed[1].is_empty());
        assert_eq!(a.status().conflicts + c.status().conflicts, 0);
    }
}

#[test]
fn f23_copied_before_any_push() {
    let remote = remote();
    let mut a = Desk::new(&remote, 1);
    a.db.execute_batch("INSERT INTO members (id, name) VALUES ('1', 'Ana')").unwrap();
    let mut c = a.copy(2);
    a.db.execute_batch("UPDATE members SET email = 'ana@example.org' WHERE id = '1'").unwrap();
    c.db.execute_batch("INSERT INTO members (id, name) VALUES ('2', 'Bea')").unwrap();
    all_equal(&mut [&mut a, &mut c]);
    assert_eq!(events(&remote), 3, "what both had is in the log once");
    assert_eq!([causes(&a), causes(&c)].concat(), [Cause::Copied]);
    assert_eq!(a.status().conflicts + c.status().conflicts, 0);
}

#[test]
fn f23_both_copies_are_offline_for_a_long_time() {
    let remote = remote();
    let mut a = Desk::new(&remote, 1);
    a.write(&many(20, "m"));
    a.sync().unwrap();
    a.db.execute_batch("UPDATE members SET name = 'shared' WHERE id < 'm15'").unwrap();
    let mut c = a.copy(2);
    remote.set_offline(true);
    for i in 0..200 {
        for (desk, name) in [(&mut a, "a"), (&mut c, "c")] {
            // Half of the rows are of both, and half of one alone.
            let row = if name == "a" { i % 15 } else { 5 + i % 15 } + 1;
            desk.write(&format!("UPDATE members SET name = '{name}{i}' WHERE id = 'm{row}'"));
            desk.advance(60_000);
        }
    }
    assert!(
        a.machine.store().incarnations().unwrap().issued.len() <= MAX_ISSUED,
        "however many attempts"
    );
    remote.set_offline(false);
    a.input(Input::Wake);
    c.input(Input::Wake);
    for _ in 0..200 {
        let _ = a.deliver() || a.go_on();
        let _ = c.deliver() || c.go_on();
    }
    all_equal(&mut [&mut a, &mut c]);
    assert_eq!([causes(&a), causes(&c)].concat(), [Cause::Copied]);
    let rows = |name: &str| {
        remote.read(&format!("SELECT count(*) FROM members WHERE name GLOB '{name}*'"))
    };
    // What only one of them had changed has that one's value; of what both had, the first one's.
    assert_eq!((rows("a"), rows("c")), ("15".to_owned(), "5".to_owned()));
}

#[test]
fn f23_a_moved_file_is_who_it_was() {
    let remote = remote();
    let mut a = Desk::new(&remote, 1);
    a.write(&many(3, "a"));
    a.sync().unwrap();
    a.db.execute_batch("DELETE FROM members WHERE id = 'a1'").unwrap();
    // The file is in another folder, and the first one is gone.
    let id = a.machine.store().id();
    a = a.copy(2);
    a.sync().unwrap();
    assert_equal(&a, &TABLES);
    assert_eq!((causes(&a).len(), a.machine.store().id()), (0, id));
}

#[test]
fn f23_a_replica_from_before_there_were_marks() {
    let remote = remote();
    let mut a = Desk::new(&remote, 1);
    a.write(&many(3, "a"));
    a.sync().unwrap();
    // What an earlier version left: no incarnations on either side, and not all of the tables.
    remote.web("UPDATE driftless_replicas SET mark = NULL");
    a.db.execute_batch(
        "DELETE FROM driftless_settings WHERE name IN ('marks', 'confirmed', 'landmark');
         DROP TABLE driftless_identities; DROP TABLE driftless_old_log;
         DROP TABLE driftless_old_conflicts",
    )
    .unwrap();
    let mut c = a.copy(2);
    a.restart();
    a.write("INSERT INTO members (id) VALUES ('of a')");
    c.write("INSERT INTO members (id) VALUES ('of c')");
    all_equal(&mut [&mut a, &mut c]);
    assert_eq!((causes(&a), causes(&c)), (vec![], vec![Cause::Copied]));
    assert_eq!(events(&remote), 5);
}

#[test]
fn f24_wiped() {
    let remote = remote();
    let mut a = Desk::new(&remote, 1);
    a.write(&many(3, "a"));
    a.sync().unwrap();
    remote.wipe(SCHEMA);
    is_refused(&mut a, SyncState::OtherRemote, Code::OtherRemote);
    a.write(&many(3, "b"));
    is_refused(&mut a, SyncState::OtherRemote, Code::OtherRemote);
}

/// What is pending is put in its order before the remote is accepted, and once.
#[test]
fn f24_accepted_with_several_unsent_events_of_a_row() {
    let remote = remote();
    let mut a = Desk::new(&remote, 1);
    a.write(&many(3, "a"));
    a.sync().unwrap();
    remote.wipe(SCHEMA);
    a.write("INSERT INTO members (id, name) VALUES ('b', 'one')");
    a.write("UPDATE members SET name = 'two' WHERE id = 'b'");
    a.sync().unwrap_err();
    a.accept().unwrap();
    assert_equal(&a, &TABLES);
    assert_eq!(remote.read("SELECT name FROM members WHERE id = 'b'"), "two");
}

#[test]
fn f24_replaced() {
    let remote = remote();
    let mut a = Desk::new(&remote, 1);
    a.write(&many(3, "a"));
    a.sync().unwrap();
    let other = Arc::new(LocalRemote::new(SCHEMA));
    let _stranger = Desk::new(&other, 7);
    a.remote = other;
    a.write(&many(3, "b"));
    is_refused(&mut a, SyncState::OtherRemote, Code::OtherRemote);
}

#[test]
fn f24_rolled_back() {
    let remote = remote();
    let (mut a, mut b) = (Desk::new(&remote, 1), Desk::new(&remote, 2));
    a.write(&many(3, "a"));
    all_equal(&mut [&mut a, &mut b]);
    let then = remote.snapshot();
    b.write(&many(3, "b"));
    all_equal(&mut [&mut a, &mut b]);
    remote.roll_back(&then);
    // To one who only reads, and to one who has something to push.
    is_refused(&mut a, SyncState::RolledBack, Code::RemoteRolledBack);
    b.write(&many(3, "c"));
    is_refused(&mut b, SyncState::RolledBack, Code::RemoteRolledBack);
    // Its log grows again, beyond where they stand.
    remote.web(&many(5, "w"));
    is_refused(&mut a, SyncState::RolledBack, Code::RemoteRolledBack);
    is_refused(&mut b, SyncState::RolledBack, Code::RemoteRolledBack);
}

#[test]
fn f24_rolled_back_between_two_pages() {
    let remote = remote();
    let mut a = Desk::new(&remote, 1);
    remote.web(&many(10, "a"));
    let then = remote.snapshot();
    remote.web(&many(7_000, "b"));
    a.input(Input::Wake);
    assert!(a.deliver(), "the first page is here, and waits");
    remote.roll_back(&then);
    remote.web(&many(9_000, "w"));
    assert!(a.deliver(), "the second one is asked for before the first one is integrated");
    assert_eq!(a.status().state, SyncState::RolledBack);
    a.advance(600_000);
    assert_eq!(a.read("SELECT count(*) FROM members WHERE id GLOB 'w*'"), "0");
}

#[test]
fn f24_rolled_back_to_before_a_push_that_was_not_read_back() {
    let remote = remote();
    let mut a = Desk::new(&remote, 1);
    a.write(&many(3, "a"));
    a.sync().unwrap();
    let then = remote.snapshot();
    // The answer came, and the process ended before its page was integrated.
    a.write(&many(3, "b"));
    a.deliver();
    a.restart();
    assert_eq!(a.status().pending, 3);
    remote.roll_back(&then);
    is_refused(&mut a, SyncState::RolledBack, Code::RemoteRolledBack);
}
