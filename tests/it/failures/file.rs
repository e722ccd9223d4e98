//! What happens to a file under a live replicator, F54 and F55, with the machine driven by hand.
//! `processes::file` has them with the real program.

use std::path::Path;
use std::sync::Arc;

use driftless::store::Store;
use driftless::sync::{Config, Effect, Input, Machine, Now, SyncState};
use driftless::{Code, Health};
use rusqlite::Connection;

use crate::support::desk::{Backup, Desk, SCHEMA, assert_equal, plan};
use crate::support::local_remote::LocalRemote;
use crate::support::members::{TABLES, remote};

/// All is pushed and pulled, and both have the same rows.
fn ends_equal(desk: &mut Desk) {
    desk.sync().unwrap();
    desk.sync().unwrap();
    while desk.deliver_late() {}
    desk.sync().unwrap();
    assert_equal(desk, &TABLES);
    assert_eq!(desk.status().state, SyncState::InStep);
    let ids = desk.remote.read("SELECT count(*) - count(DISTINCT id) FROM driftless_events");
    assert_eq!(ids, "0");
}

fn member(desk: &mut Desk, id: &str) {
    desk.write(&format!("INSERT INTO members (id, name) VALUES ('{id}', 'of {id}')"));
}

fn members(remote: &LocalRemote) -> String {
    remote.read("SELECT group_concat(id, ' ') FROM (SELECT id FROM members ORDER BY id)")
}

/// A desk with a copy of its file from before it pushed five members, and the web one.
fn with_backup(remote: &Arc<LocalRemote>) -> (Desk, Backup) {
    let mut desk = Desk::new(remote, 1);
    member(&mut desk, "a0");
    desk.sync().unwrap();
    let backup = desk.backup();
    for number in 1..=5 {
        member(&mut desk, &format!("a{number}"));
    }
    remote.web("INSERT INTO members (id, name) VALUES ('w1', 'web')");
    desk.sync().unwrap();
    (desk, backup)
}

#[test]
fn f54_restored_in_place_while_it_runs() {
    for told in [true, false] {
        let remote = remote();
        let (mut desk, backup) = with_backup(&remote);
        desk.restore_in_place(&backup);
        if told {
            desk.input(Input::LocalCommit);
        }
        member(&mut desk, "a6");
        assert!(desk.wanted.contains(&"reopened"));
        ends_equal(&mut desk);
        assert_eq!(members(&remote), "a0 a1 a2 a3 a4 a5 a6 w1");
        // It had pushed under a name that the remote knows better, as after any restore.
        assert_eq!(desk.status().identity.len(), 1);
        assert!(desk.changes.iter().any(|changes| changes.missed), "all is to be drawn anew");
    }
}

#[test]
fn f54_restored_between_a_question_and_its_page() {
    for deliver in [false, true] {
        let remote = remote();
        let (mut desk, backup) = with_backup(&remote);
        remote.web("INSERT INTO members (id, name) VALUES ('w2', 'web')");
        desk.now.steady_ms += 60_000;
        desk.input(Input::Timer);
        assert_eq!(desk.sent.len(), 1, "a page is asked for");
        if deliver {
            desk.deliver();
            assert!(desk.go_on, "it waits to be integrated");
        }
        desk.restore_in_place(&backup);
        if deliver {
            desk.go_on()
        } else {
            desk.deliver()
        };
        ends_equal(&mut desk);
        assert_eq!(members(&remote), "a0 a1 a2 a3 a4 a5 w1 w2");
    }
}

#[test]
fn f54_restored_while_a_push_is_under_way() {
    // Its answer comes before the restore is noticed, or after it.
    for late in [false, true] {
        let remote = remote();
        let mut desk = Desk::new(&remote, 1);
        member(&mut desk, "a0");
        desk.sync().unwrap();
        let backup = desk.backup();
        member(&mut desk, "a1");
        let (id, batch) = desk.sent.pop_front().expect("it is pushed");
        let answer = remote.run_now(batch);
        desk.restore_in_place(&backup);
        // It has the number in the outbox that the other one had.
        desk.db.execute_batch("INSERT INTO members (id, name) VALUES ('b1', 'other')").unwrap();
        if late {
            desk.input(Input::LocalCommit);
            desk.settle();
        }
        desk.input(Input::Answer(id, answer));
        ends_equal(&mut desk);
        assert_eq!(members(&remote), "a0 a1 b1", "nothing that was acknowledged is dropped");
    }
}

#[test]
fn f54_unsent_changes_go_with_the_file_and_their_numbers_are_used_again() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    member(&mut desk, "a0");
    desk.sync().unwrap();
    let backup = desk.backup();
    remote.set_offline(true);
    member(&mut desk, "a1");
    member(&mut desk, "a2");
    // The cursor, the incarnations and what is sent are the same there. Only the outbox is not.
    desk.restore_in_place(&backup);
    desk.db.execute_batch("INSERT INTO members (id, name) VALUES ('b1', 'one')").unwrap();
    desk.db.execute_batch("INSERT INTO members (id, name) VALUES ('b2', 'two')").unwrap();
    desk.db.execute_batch("UPDATE members SET name = 'three' WHERE id = 'b2'").unwrap();
    remote.set_offline(false);
    desk.input(Input::LocalCommit);
    remote.web("UPDATE members SET name = 'web' WHERE id = 'a0'");
    ends_equal(&mut desk);
    assert_eq!(members(&remote), "a0 b1 b2");
}

/// Nothing but the outbox tells the two states apart, and the push is in memory.
#[test]
fn f54_restored_while_a_push_is_under_way_in_parts() {
    for parts in [0, 1, 2] {
        let remote = remote();
        let mut desk = Desk::new(&remote, 1);
        member(&mut desk, "a0");
        desk.sync().unwrap();
        let backup = desk.backup();
        // More than a request takes, in one transaction, so no boundary within it is known.
        let rows =
            "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 12000)
            INSERT INTO members (id, name) SELECT 'a' || n, 'x' FROM c";
        desk.db.execute_batch(rows).unwrap();
        desk.input(Input::LocalCommit);
        for _ in 0..parts {
            assert!(desk.deliver());
        }
        let staged = "SELECT count(DISTINCT part) FROM driftless_staged";
        assert_eq!(remote.read(staged), parts.to_string(), "the rest is still to be sent");
        desk.restore_in_place(&backup);
        // It has the number in the outbox that one of those had.
        member(&mut desk, "b1");
        ends_equal(&mut desk);
        assert_eq!(remote.read("SELECT count(*) FROM members"), "2", "after {parts} parts");
        assert_eq!(members(&remote), "a0 b1");
        assert!(desk.status().identity.is_empty(), "nothing else has its name");
    }
}

#[test]
fn f54_restored_back_and_forth() {
    let remote = remote();
    let (mut desk, backup) = with_backup(&remote);
    let later = desk.backup();
    desk.restore_in_place(&backup);
    member(&mut desk, "a6");
    desk.sync().unwrap();
    desk.restore_in_place(&later);
    member(&mut desk, "a7");
    ends_equal(&mut desk);
    assert_eq!(members(&remote), "a0 a1 a2 a3 a4 a5 a6 a7 w1");
}

#[test]
fn f54_restored_to_a_copy_of_another_desk() {
    let remote = remote();
    let (mut desk, _) = with_backup(&remote);
    let mut other = Desk::new(&remote, 2);
    other.sync().unwrap();
    member(&mut other, "o1");
    desk.restore_in_place(&other.backup());
    member(&mut desk, "a6");
    ends_equal(&mut desk);
    ends_equal(&mut other);
    desk.sync().unwrap();
    assert_equal(&desk, &TABLES);
    assert_eq!(members(&remote), "a0 a1 a2 a3 a4 a5 a6 o1 w1");
}

/// The machine lets go of the file, says why, and pushes nothing.
fn is_lost(desk: &mut Desk, code: Code) {
    let log = "SELECT count(*) FROM driftless_events";
    let before = desk.remote.read(log);
    desk.input(Input::LocalCommit);
    let status = desk.status();
    assert_eq!(status.state, SyncState::Trouble, "{status:?}");
    assert_eq!(status.code, Some(code), "{status:?}");
    assert!(status.hint.is_some() && status.health != Health::Ok);
    assert!(!status.remote.url.is_empty(), "what was known is still told");
    let error = desk.sync().unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    desk.advance(120_000);
    assert_eq!(desk.status().health, Health::Red);
    assert_eq!(desk.remote.read(log), before, "nothing was pushed");
    assert!(desk.wanted.contains(&"lost"), "its lock goes");
}

#[test]
fn f54_restored_to_a_copy_from_before_init() {
    let remote = remote();
    let (mut desk, _) = with_backup(&remote);
    let now = desk.backup();
    let folder = tempfile::tempdir().unwrap();
    let bare = folder.path().join("bare.db");
    Connection::open(&bare).unwrap().execute_batch(SCHEMA).unwrap();
    desk.restore_from(&bare);
    is_lost(&mut desk, Code::FileReplaced);
    desk.restore_in_place(&now);
    desk.advance(10_000);
    member(&mut desk, "a6");
    ends_equal(&mut desk);
    assert_eq!(members(&remote), "a0 a1 a2 a3 a4 a5 a6 w1");
}

#[test]
fn f54_restored_to_a_replica_of_another_remote() {
    let (remote, elsewhere) = (remote(), remote());
    let (mut desk, _) = with_backup(&remote);
    let now = desk.backup();
    let mut other = Desk::new(&elsewhere, 2);
    member(&mut other, "x1");
    desk.restore_in_place(&other.backup());
    is_lost(&mut desk, Code::FileReplaced);
    assert!(!members(&remote).contains("x1"));
    desk.restore_in_place(&now);
    desk.advance(10_000);
    ends_equal(&mut desk);
}

#[test]
fn f54_restored_during_a_first_sync() {
    // After each number of requests: what was staged by then is another state of the file.
    for requests in 1..7 {
        let remote = remote();
        for number in 0..4_500 {
            remote.web(&format!("INSERT INTO members (id, name) VALUES ('m{number}', 'x')"));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("desk.db");
        let db = Connection::open(&path).unwrap();
        db.pragma_update(None, "journal_mode", "WAL").unwrap();
        db.execute_batch(SCHEMA).unwrap();
        let mut first = First::start(&path, &remote);
        first.run(requests);
        let copy = folder.path().join("copy.db");
        copy_to(&db, &copy);
        first.run(2);
        copy_to(&Connection::open(&copy).unwrap(), &path);
        first.run(usize::MAX);
        let count = "SELECT count(*) FROM members";
        assert_eq!(remote.read(count), "4500");
        let here: i64 = db.query_row(count, [], |row| row.get(0)).unwrap();
        assert_eq!(here, 4_500, "after {requests} requests");
    }
}

fn copy_to(from: &Connection, to: &Path) {
    let mut to = Connection::open(to).unwrap();
    let backup = rusqlite::backup::Backup::new(from, &mut to).unwrap();
    backup.run_to_completion(1_000, std::time::Duration::ZERO, None).unwrap();
}

/// A first sync under way.
struct First<'r> {
    machine: Machine,
    remote: &'r LocalRemote,
    now: Now,
    next: Vec<Input>,
    done: bool,
}

impl<'r> First<'r> {
    fn start(path: &Path, remote: &'r LocalRemote) -> Self {
        let plan = plan(path.to_owned(), 1, &[]);
        let tables = TABLES.map(|table| (table.to_owned(), Default::default())).to_vec();
        let setup = driftless::store::Setup { url: plan.url.clone(), tables, epoch: None };
        let store = Store::init(path, &setup, plan.replica).unwrap();
        let config = Config {
            poll_ms: 5_000,
            health_bound_ms: 60_000,
            seed: 1,
            identity_seed: 1,
            push: driftless::sync::PushSize::default(),
            pull: driftless::sync::PullSize::default(),
        };
        let machine = Machine::new(store, Some(plan), config).unwrap();
        let now = Now { steady_ms: 1_000, wall_ms: 1_700_000_000_000 };
        First { machine, remote, now, next: vec![Input::Start], done: false }
    }

    /// Carries so many requests, or all.
    fn run(&mut self, requests: usize) {
        let mut left = requests;
        while left > 0 && !self.next.is_empty() {
            let input = self.next.remove(0);
            for effect in self.machine.handle(self.now, input) {
                match effect {
                    Effect::Send(id, batch) => {
                        left -= 1;
                        self.next.push(Input::Answer(id, self.remote.run_now(batch)));
                    }
                    Effect::Continue => self.next.push(Input::Continue { events: 100 }),
                    Effect::Reopened => self.next.push(Input::Start),
                    Effect::Initialised(_) => self.done = true,
                    _ => {}
                }
            }
        }
        assert!(self.done || requests < usize::MAX, "{:?}", self.machine.status(self.now));
    }
}

/// Moves a database with what belongs to it.
fn rename(from: &Path, to: &Path) {
    for ending in ["", "-wal", "-shm"] {
        let at = |path: &Path| format!("{}{ending}", path.display());
        if Path::new(&at(from)).exists() {
            std::fs::rename(at(from), at(to)).unwrap();
        }
    }
}

#[cfg(unix)]
#[test]
fn f55_gone_and_back_again() {
    let remote = remote();
    let (mut desk, _) = with_backup(&remote);
    let path = desk.path().to_owned();
    let elsewhere = path.with_extension("away");
    std::mem::replace(&mut desk.db, Connection::open_in_memory().unwrap()).close().unwrap();
    rename(&path, &elsewhere);
    is_lost(&mut desk, Code::FileGone);
    remote.web("INSERT INTO members (id, name) VALUES ('w2', 'web')");
    rename(&elsewhere, &path);
    desk.advance(10_000);
    desk.open_again();
    ends_equal(&mut desk);
    assert!(desk.status().identity.is_empty(), "it is the same file");
}

#[cfg(unix)]
#[test]
fn f55_another_file_in_its_place() {
    let remote = remote();
    let (mut desk, backup) = with_backup(&remote);
    let path = desk.path().to_owned();
    member(&mut desk, "a6");
    std::mem::replace(&mut desk.db, Connection::open_in_memory().unwrap()).close().unwrap();
    // Its write-ahead log stays: it would be applied to whatever is at the path now.
    std::fs::remove_file(&path).unwrap();
    std::fs::copy(backup.path(), &path).unwrap();
    desk.input(Input::LocalCommit);
    desk.open_again();
    assert_eq!(desk.read("SELECT count(*) FROM members"), "1", "the copy is what it was");
    assert_eq!(desk.read("PRAGMA integrity_check"), "ok");
    member(&mut desk, "b1");
    ends_equal(&mut desk);
    assert!(members(&remote).starts_with("a0 a1 a2 a3 a4 a5"), "{}", members(&remote));
    assert!(members(&remote).contains("b1"));
}

#[cfg(unix)]
#[test]
fn f55_a_file_of_no_use_in_its_place() {
    let (remote, elsewhere) = (remote(), remote());
    let (mut desk, backup) = with_backup(&remote);
    let path = desk.path().to_owned();
    std::mem::replace(&mut desk.db, Connection::open_in_memory().unwrap()).close().unwrap();
    let mut other = Desk::new(&elsewhere, 2);
    member(&mut other, "x1");
    for (file, code) in
        [(Some(other.backup().path()), Code::FileReplaced), (None, Code::NotADatabase)]
    {
        std::fs::remove_file(&path).unwrap();
        match file {
            Some(file) => drop(std::fs::copy(file, &path).unwrap()),
            None => std::fs::write(&path, "x".repeat(5_000)).unwrap(),
        }
        desk.advance(10_000);
        is_lost(&mut desk, code);
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::copy(backup.path(), &path).unwrap();
    desk.advance(10_000);
    desk.open_again();
    ends_equal(&mut desk);
    assert!(!members(&remote).contains("x1"));
}
