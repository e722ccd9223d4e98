//! An event that does not fit into a request even alone: it is recorded without its values, which
//! stay in the conflict inbox, and keeps no other event from travelling.

use std::sync::Arc;

use driftless::Code;
use driftless::event::value::Value;
use driftless::remote::{Libsql, Options, Remote};
use driftless::store::{Conflict, ConflictKind, Store};
use driftless::sync::Input;
use rusqlite::Connection;

use crate::hub::Running;
use crate::support::blocking::{drain, initialise};
use crate::support::desk::{Desk, assert_equal, plan};
use crate::support::inbox::Inbox as _;
use crate::support::local_remote::{LocalRemote, read};

const MEMBERS: &str = "CREATE TABLE members (id TEXT PRIMARY KEY, name TEXT, photo BLOB)";
/// The most bytes of a request.
const CAP: usize = 100_000;
const LARGE: &str = "zeroblob(300000)";
const ROWS: &str = "SELECT id, name, length(photo) FROM members ORDER BY id";
const LOG: &str = "SELECT pk, op, verdict, coalesce(reason, '') FROM driftless_events ORDER BY seq";

fn two_desks() -> (Arc<LocalRemote>, Desk, Desk) {
    let remote = Arc::new(LocalRemote::new(MEMBERS));
    let (a, b) = (Desk::with_schema(&remote, 1, MEMBERS), Desk::with_schema(&remote, 2, MEMBERS));
    remote.set_caps(CAP, usize::MAX);
    (remote, a, b)
}

fn conflicts(desk: &Desk) -> Vec<Conflict> {
    Store::open(desk.path()).unwrap().conflicts(false).unwrap()
}

#[track_caller]
fn settle(a: &mut Desk, b: &mut Desk) {
    a.sync().unwrap();
    b.sync().unwrap();
    a.sync().unwrap();
    for desk in [a, b] {
        assert_equal(desk, &["members"]);
        assert_eq!(desk.status().trouble, None);
    }
}

#[test]
fn an_insert_that_is_too_large_is_in_the_inbox_and_the_queue_goes_on() {
    let (remote, mut a, mut b) = two_desks();
    a.write("INSERT INTO members VALUES ('1', 'Ana', NULL)");
    a.write(&format!("INSERT INTO members VALUES ('2', 'Bea', {LARGE})"));
    a.write("INSERT INTO members VALUES ('3', 'Cid', NULL)");
    a.write("UPDATE members SET name = 'Beatrix' WHERE id = '2'");
    settle(&mut a, &mut b);
    assert_eq!(a.read(ROWS), "1|Ana|NULL\n3|Cid|NULL");
    assert_eq!(
        remote.read(LOG),
        "[\"1\"]|insert|applied|\n[\"2\"]|insert|rejected|too large\n[\"3\"]|insert|applied|\n\
         [\"2\"]|update|rejected|missing"
    );
    let lost = conflicts(&a);
    assert_eq!(lost.len(), 2);
    assert_eq!(lost[0].kind, ConflictKind::Rejected);
    let photo = lost[0].event.after.as_ref().unwrap().get("photo").unwrap();
    assert_eq!(*photo, Value::Blob(vec![0; 300_000]), "its values are here");
    // Where the remote takes more, it goes again.
    remote.set_caps(usize::MAX, usize::MAX);
    a.machine.store().restore(lost[0].event.id, None).unwrap();
    a.input(Input::LocalCommit);
    settle(&mut a, &mut b);
    assert_eq!(b.read(ROWS), "1|Ana|NULL\n2|Bea|300000\n3|Cid|NULL");
}

#[test]
fn an_update_that_is_too_large_goes_back_and_later_ones_stand() {
    let (remote, mut a, mut b) = two_desks();
    a.write("INSERT INTO members VALUES ('1', 'Ana', x'01'), ('2', 'Bea', x'02')");
    settle(&mut a, &mut b);
    a.write(&format!("UPDATE members SET photo = {LARGE}"));
    a.write("UPDATE members SET name = 'Anna' WHERE id = '1'");
    // Of this one the old value alone is too large.
    a.write("UPDATE members SET photo = x'0203' WHERE id = '2'");
    settle(&mut a, &mut b);
    assert_eq!(b.read(ROWS), "1|Anna|1\n2|Bea|2");
    let lost = conflicts(&a);
    let keys: Vec<_> = lost.iter().map(|lost| lost.event.key.0.as_str()).collect();
    assert_eq!(keys, ["[\"1\"]", "[\"2\"]"]);
    assert_eq!(lost[0].event.before.as_ref().unwrap().get("photo"), Some(&Value::Blob(vec![1])));
    assert_eq!(lost[0].theirs.as_ref().unwrap().get("photo"), Some(&Value::Blob(vec![1])));
    assert_eq!(
        remote.read("SELECT count(*) FROM driftless_events WHERE reason = 'too large'"),
        "2"
    );
}

#[test]
fn a_large_row_can_be_deleted_and_given_another_key() {
    let (remote, mut a, mut b) = two_desks();
    remote.web(&format!("INSERT INTO members VALUES ('1', 'Ana', {LARGE}), ('2', 'Bea', {LARGE})"));
    settle(&mut a, &mut b);
    a.write("DELETE FROM members WHERE id = '1'");
    settle(&mut a, &mut b);
    assert_eq!(remote.read(ROWS), "2|Bea|300000");
    // The new key's insert has the whole row.
    a.write("UPDATE members SET id = 'two' WHERE id = '2'");
    a.write("INSERT INTO members VALUES ('3', 'Cid', NULL)");
    settle(&mut a, &mut b);
    assert_eq!(remote.read(ROWS), "2|Bea|300000\n3|Cid|NULL");
    let lost = conflicts(&a);
    assert_eq!((lost.len(), lost[0].event.key.0.as_str()), (1, "[\"2\"]"));
    let insert = lost[0].insert.as_ref().unwrap();
    assert_eq!(insert.after.as_ref().unwrap().get("id"), Some(&Value::Text(b"two".to_vec())));
    remote.set_caps(usize::MAX, usize::MAX);
    a.machine.store().restore(lost[0].event.id, None).unwrap();
    a.input(Input::LocalCommit);
    settle(&mut a, &mut b);
    assert_eq!(b.read("SELECT name, length(photo) FROM members WHERE id = '2'"), "");
    assert_eq!(b.read("SELECT name, length(photo) FROM members WHERE id = 'two'"), "Bea|300000");
}

/// A limit that nobody meant costs no change: pushing waits for a person, and says so.
#[test]
fn a_remote_that_takes_next_to_nothing_refuses_nothing() {
    let (remote, mut a, mut b) = two_desks();
    // The statement for lines without values is larger than that.
    a.restart_with_whole_lines();
    a.settle();
    remote.set_caps(2_500, usize::MAX);
    a.write("INSERT INTO members VALUES ('1', 'Ana', zeroblob(5000))");
    remote.web("INSERT INTO members VALUES ('w', 'Web', NULL)");
    let error = a.sync().unwrap_err();
    assert_eq!(error.code(), Code::EventTooLarge, "{error}");
    assert_eq!(a.read(ROWS), "1|Ana|5000\nw|Web|NULL", "pulls go on");
    assert_eq!((a.status().pending, a.status().conflicts), (1, 0));
    remote.set_caps(CAP, usize::MAX);
    settle(&mut a, &mut b);
    assert_eq!(b.read(ROWS), "1|Ana|5000\nw|Web|NULL");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_with_a_limit_goes_on_too() {
    let hub = Running::start(|config| config.limits.request_bytes = CAP).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("desk.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(MEMBERS).unwrap();
    let remote: Arc<dyn Remote> =
        Arc::new(Libsql::connect(&hub.url, None, Options::default()).unwrap());
    let work = move || {
        initialise(plan(path.clone(), 1, &[]), remote.clone()).unwrap();
        db.execute_batch(&format!(
            "INSERT INTO members VALUES ('1', 'Ana', NULL), ('2', 'Bea', {LARGE}), ('3', 'Cid', NULL)"
        ))
        .unwrap();
        let summary = drain(Store::open(&path).unwrap(), remote.clone()).unwrap();
        assert_eq!((summary.pushed, summary.applied, summary.rejected), (3, 2, 1));
        assert_eq!(Store::open(&path).unwrap().conflicts(false).unwrap().len(), 1);
        db
    };
    let db = tokio::task::spawn_blocking(work).await.unwrap();
    let there = Connection::open(hub.db()).unwrap();
    assert_eq!(read(&there, ROWS), "1|Ana|NULL\n3|Cid|NULL");
    assert_eq!(read(&db, ROWS), read(&there, ROWS));
    drop(there);
    hub.stop().await;
}
