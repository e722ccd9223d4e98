//! The next push is read while one is under way, and used only if it is what would be read then.

use crate::support::desk::Desk;
use crate::support::local_remote::{Fault, LocalRemote};
use std::sync::Arc;

const SCHEMA: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT);";

/// A desk with twelve events, of which the first four are under way, and the next four were read.
fn read_ahead(remote: &Arc<LocalRemote>) -> Desk {
    let mut desk = Desk::with_schema(remote, 1, SCHEMA);
    for id in 1..=12 {
        desk.db.execute("INSERT INTO t VALUES (?1, 'as written')", [id]).unwrap();
    }
    desk.restart_with_pushes_of(4);
    assert_eq!(desk.sent.len(), 1, "a push is under way");
    assert!(desk.go_on(), "the machine wants to go on meanwhile");
    assert!(!desk.go_on(), "once");
    assert_eq!(desk.sent.len(), 1);
    desk
}

/// Changes an event of the second push behind the machine's back.
fn change(desk: &Desk) {
    let sql = "UPDATE driftless_outbox SET a2 = 'changed' WHERE n = 6";
    assert_eq!(desk.db.execute(sql, []).unwrap(), 1);
}

fn log(remote: &LocalRemote) -> String {
    let events =
        "SELECT json_extract(pk, '$[0]') AS id FROM driftless_events ORDER BY seq LIMIT -1";
    remote.read(&format!("SELECT group_concat(id) FROM ({events})"))
}

const ALL: &str = "1,2,3,4,5,6,7,8,9,10,11,12";

#[test]
fn what_was_read_ahead_is_pushed() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    let mut desk = read_ahead(&remote);
    change(&desk);
    let before = remote.requests();
    desk.sync().unwrap();
    assert_eq!(log(&remote), ALL);
    assert!(remote.requests() - before <= 4, "no event is pushed twice");
    let name = remote.read("SELECT name FROM t WHERE id = 6");
    assert_eq!(name, "as written", "it was not read again");
    assert_eq!(desk.status().pending, 0);
}

#[test]
fn a_new_definition_has_it_read_again() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    let mut desk = read_ahead(&remote);
    change(&desk);
    desk.db.execute_batch("CREATE TABLE another (x)").unwrap();
    desk.sync().unwrap();
    assert_eq!(log(&remote), ALL);
    assert_eq!(remote.read("SELECT name FROM t WHERE id = 6"), "changed");
}

#[test]
fn a_push_that_is_lost_goes_again_before_it() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    let mut desk = read_ahead(&remote);
    remote.fail([Fault::LostBefore]);
    desk.settle();
    desk.advance(60_000);
    desk.sync().unwrap();
    assert_eq!(log(&remote), ALL);
    assert_eq!(desk.status().pending, 0);
}

#[test]
fn a_push_that_is_refused_goes_before_it_too() {
    let remote = Arc::new(LocalRemote::new(&SCHEMA.replace("TEXT)", "TEXT CHECK (id <> 3))")));
    let mut desk = read_ahead(&remote);
    desk.sync().unwrap();
    desk.sync().unwrap();
    assert_eq!(log(&remote), ALL);
    assert_eq!(remote.read("SELECT count(*) FROM t"), "11");
    assert_eq!(desk.status().conflicts, 1);
}
