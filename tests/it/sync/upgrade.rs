//! A remote and a replica that version 0.1 left: the present program makes both into its own, in
//! place, with events pending.
//!
//! `fixtures/remote/version-1.sql` is a dump of such a remote, which has a trigger of the web's too,
//! and `fixtures/replica/version-1.sql` one of a replica of it. Neither has the powers of two, which
//! every version has alike. The replica has six events to push: an insert; an update of a UNIQUE
//! value and of a REAL; the insert of a child; a key change; a delete.

use std::sync::Arc;

use driftless::store::Store;
use driftless::sync::{Advance, FirstSync, Plan, SyncState, Tables};
use driftless::{Health, Kind};
use rusqlite::Connection;

use crate::support::blocking::initialise;
use crate::support::desk::{Backup, Desk, assert_equal, plan};
use crate::support::local_remote::{Fault, LocalRemote, read};

const REMOTE: &str = include_str!("../../../fixtures/remote/version-1.sql");
const REPLICA: &str = include_str!("../../../fixtures/replica/version-1.sql");
const POW2: &str = include_str!("../../../schema/pow2.sql");

/// The tables of both.
const TABLES: [&str; 2] = ["members", "seats"];

/// All that is ours in a remote's schema.
const OURS: &str = "SELECT type, name, tbl_name, sql FROM sqlite_schema \
    WHERE name GLOB 'driftless_*' AND name NOT IN ('driftless_meta') ORDER BY 1, 2";

fn remote() -> Arc<LocalRemote> {
    let remote = LocalRemote::new(&format!("{REMOTE}; {POW2}"));
    remote.web("PRAGMA foreign_keys = ON");
    Arc::new(remote)
}

/// The replica's file.
fn replica() -> Backup {
    let backup = Backup::empty();
    let db = Connection::open(backup.path()).unwrap();
    db.execute_batch(&format!("{REPLICA}; {POW2}")).unwrap();
    backup
}

/// What the program of version 0.1 would be started with.
fn old_plan(desk: &Desk) -> Plan {
    Plan { tables: Tables::Named(TABLES.map(str::to_owned).to_vec()), ..desk.plan() }
}

fn desk(remote: &Arc<LocalRemote>) -> Desk {
    let now = driftless::sync::Now { steady_ms: 1, wall_ms: 1_800_000_000_000 };
    replica().open(remote, 1, now)
}

/// What a remote of this version has, if it has the same tables.
fn made_anew() -> String {
    let schema: Vec<_> = REMOTE
        .split_inclusive(";\n")
        .filter(|sql| {
            sql.starts_with("CREATE TABLE members") || sql.starts_with("CREATE TABLE seats")
        })
        .collect();
    let fresh = Arc::new(LocalRemote::new(&schema.concat()));
    let folder = tempfile::tempdir().unwrap();
    initialise(plan(folder.path().join("desk.db"), 7, &[]), fresh.clone()).unwrap();
    fresh.read(OURS)
}

/// Everything is here and there, the web's writes are captured, and nothing of before is left.
fn assert_upgraded(remote: &Arc<LocalRemote>, desk: &mut Desk) {
    let status = desk.status();
    assert_eq!((status.pending, status.conflicts, status.quarantined), (0, 0, 0), "{status:?}");
    assert_eq!((status.state, status.health), (SyncState::InStep, Health::Ok), "{status:?}");
    assert_equal(desk, &TABLES);
    let members = "SELECT id, email, weight FROM members ORDER BY id";
    let told = "ann|ann@y|62.125\ncyd|cyd@x|55.5\nold|old@x|71.0\nweb|web@x|0.1";
    assert_eq!(remote.read(members), told);
    assert_eq!(remote.read("SELECT * FROM seats ORDER BY hall"), "a|7|ann\nb|2|cyd");
    assert_eq!(remote.read("SELECT version FROM driftless_meta"), "2");
    assert_eq!(remote.read(OURS), made_anew());
    // Each pushed event is in the log once.
    let own = "SELECT count(*), count(DISTINCT id) FROM driftless_events \
        WHERE seq > 5 AND origin <> 'web'";
    assert_eq!(remote.read(own), "6|6");
    remote.web(
        "UPDATE members SET weight = 0.3 WHERE id = 'web'; DELETE FROM members WHERE id = 'cyd'",
    );
    remote.web("INSERT OR REPLACE INTO members VALUES ('new', 'old@x', 5)");
    desk.sync().unwrap();
    assert_equal(desk, &TABLES);
    assert_eq!(desk.read("SELECT count(*) FROM seats"), "1", "a foreign key did its work");
    desk.write("UPDATE members SET weight = 99.5; INSERT INTO seats VALUES ('z', 1, 'new')");
    desk.sync().unwrap();
    assert_eq!((desk.status().pending, desk.status().conflicts), (0, 0));
    assert_equal(desk, &TABLES);
    assert_eq!(remote.read("SELECT what FROM audit"), "a1\nb2\nz1", "the web's own trigger fires");
}

#[test]
fn a_remote_and_a_replica_of_version_1_become_new_ones_with_events_pending() {
    let remote = remote();
    let mut desk = desk(&remote);
    assert_eq!(desk.status().pending, 6, "{:?}", desk.status());
    desk.start_with(old_plan(&desk));
    desk.settle();
    assert_upgraded(&remote, &mut desk);
}

/// Also where nothing but a sync is asked for.
#[test]
fn a_push_alone_upgrades_the_remote() {
    let remote = remote();
    let mut desk = desk(&remote);
    desk.sync().unwrap();
    assert_upgraded(&remote, &mut desk);
}

/// The upgrade is one transaction. Whether its answer comes or not, it goes on.
#[test]
fn an_upgrade_that_was_cut_off_goes_on() {
    for faults in [
        vec![Fault::LostBefore],
        vec![Fault::None, Fault::LostAfter],
        vec![Fault::None, Fault::None, Fault::LostBefore],
        vec![Fault::None, Fault::None, Fault::LostAfter],
        vec![Fault::None, Fault::None, Fault::LostAfter, Fault::LostAfter],
        vec![Fault::None, Fault::None, Fault::None, Fault::LostAfter],
    ] {
        let remote = remote();
        let mut desk = desk(&remote);
        remote.fail(faults.clone());
        desk.start_with(old_plan(&desk));
        desk.settle();
        // Another process.
        desk.start_with(old_plan(&desk));
        desk.advance(60_000);
        assert_eq!(remote.faults_left(), 0, "{faults:?}");
        assert_upgraded(&remote, &mut desk);
    }
}

/// Another replica upgrades the remote, and brings tables of its own in a second request, which
/// never comes.
#[test]
fn an_upgrade_that_is_cut_off_between_two_requests_goes_on() {
    let remote = remote();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("desk.db");
    let more = "CREATE TABLE more (id INTEGER PRIMARY KEY, a TEXT UNIQUE)";
    Connection::open(&path).unwrap().execute_batch(more).unwrap();
    let mut upgrade = FirstSync::new(plan(path, 9, &[]), None).in_requests_of(1);
    loop {
        let batch = upgrade.ask().unwrap();
        let writes = batch.writes;
        let answer = remote.run_now(batch).unwrap();
        assert!(matches!(upgrade.answered(answer, 0).unwrap(), Advance::More));
        if writes {
            break;
        }
    }
    let new = "SELECT count(*) FROM sqlite_schema WHERE tbl_name = 'more' AND type = 'trigger'";
    assert_eq!(remote.read(new), "0", "a request is missing");
    assert_eq!(remote.read("SELECT DISTINCT triggers FROM driftless_tables"), "");
    // Half of it is there, and is of the new version.
    assert_eq!(remote.read("SELECT version FROM driftless_meta"), "2");
    push_as_before(&remote);
    let log = "SELECT count(*), max(length(after)) > 2 FROM driftless_events WHERE seq > 5";
    assert_eq!(remote.read(log), "0|NULL");
    remote.web(
        "INSERT INTO members VALUES ('tmp', 'tmp@x', 0.7); DELETE FROM members WHERE id = 'tmp'",
    );
    assert_eq!(remote.read(log), "2|1", "the web's writes are captured all the while");
    let mut desk = desk(&remote);
    desk.start_with(old_plan(&desk));
    desk.settle();
    assert_upgraded(&remote, &mut desk);
}

/// A statement of the upgrade fails: all is as it was, and the web's writes are still captured.
#[test]
fn an_upgrade_that_fails_changes_nothing() {
    let remote = remote();
    let before = remote.read("SELECT name, sql FROM sqlite_schema ORDER BY 1");
    let desk = desk(&remote);
    let mut upgrade = FirstSync::new(old_plan(&desk), None);
    let mut last = None;
    while last.is_none() {
        let batch = upgrade.ask().unwrap();
        if batch.writes {
            last = Some(batch);
        } else {
            let answer = remote.run_now(batch).unwrap();
            assert!(matches!(upgrade.answered(answer, 0).unwrap(), Advance::More));
        }
    }
    let batch = last.unwrap();
    for at in 0..=batch.statements.len() {
        let mut cut = batch.clone();
        cut.statements.insert(at, "INSERT INTO there_is_no_such_table VALUES (1)".into());
        assert_eq!(remote.run_now(cut).unwrap_err().kind(), Kind::Rejected);
    }
    assert_eq!(remote.read("SELECT name, sql FROM sqlite_schema ORDER BY 1"), before);
    remote.web("UPDATE members SET weight = 1 WHERE id = 'web'");
    assert_eq!(remote.read("SELECT count(*) FROM driftless_events"), "6");
    // It has taken the first statement for granted: somebody changes the schema in between.
    remote.web("CREATE TABLE more (id INTEGER PRIMARY KEY)");
    let error = remote.run_now(batch).unwrap_err();
    assert!(upgrade.recover(&error), "it begins again: {error}");
}

/// A push as version 0.1 sends it. The parts that do not matter here are left out.
const OLD_PUSH: [&str; 2] = [
    "INSERT INTO driftless_replicas (name, mark, contact, cursor)
     SELECT 'old', '1.1', 0, 5 WHERE EXISTS
         (SELECT 1 FROM driftless_meta WHERE epoch = (SELECT epoch FROM driftless_meta) AND version = 1)
     ON CONFLICT (name) DO UPDATE SET mark = excluded.mark",
    "INSERT INTO driftless_inbox (origin, unit, id, actor, tbl, pk, op, before, after, base, pair, via,
         other, image, late, refuse, plain)
     SELECT 'old', '01HF7YAT00000000010000000C', '01HF7YAT00000000010000000A', NULL, 'members',
         '[\"x\"]', 'insert', NULL, '{\"id\":\"x\",\"email\":null,\"weight\":null}', 5, NULL, NULL, NULL,
         NULL, NULL, NULL, 1
     WHERE EXISTS (SELECT 1 FROM driftless_replicas WHERE name = 'old' AND mark = '1.1')",
];

fn push_as_before(remote: &LocalRemote) -> bool {
    let statements = OLD_PUSH.map(Into::into).to_vec();
    remote.run_now(driftless::remote::Batch { statements, writes: true }).is_ok()
}

#[test]
fn an_old_program_pushes_nothing_to_a_new_remote() {
    let there = "SELECT count(*) FROM members WHERE id = 'x'";
    let old = remote();
    assert!(push_as_before(&old));
    assert_eq!(old.read(there), "1", "it is a push of that version");
    let remote = remote();
    let mut desk = desk(&remote);
    desk.sync().unwrap();
    let log = remote.read("SELECT count(*) FROM driftless_events");
    push_as_before(&remote);
    assert_eq!(remote.read(there), "0");
    assert_eq!(remote.read("SELECT count(*) FROM driftless_inbox"), "0");
    assert_eq!(remote.read("SELECT count(*) FROM driftless_events"), log);
    assert_eq!(remote.read("SELECT count(*) FROM driftless_replicas WHERE name = 'old'"), "0");
    assert_upgraded(&remote, &mut desk);
}

/// The file alone: the present program opens it, and its application writes to it before anybody has
/// reached the remote.
#[test]
fn a_replica_of_version_1_captures_without_its_remote() {
    let backup = replica();
    let mut store = Store::open(&backup.path()).unwrap();
    store.check_triggers().unwrap();
    let db = Connection::open(backup.path()).unwrap();
    db.execute_batch("INSERT INTO members VALUES ('dan', 'dan@x', 1.5)").unwrap();
    assert_eq!(read(&db, "SELECT count(*) FROM driftless_outbox WHERE n > 3"), "7");
}
