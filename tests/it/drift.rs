//! Definitions that change under way: triggers that are taken away, and columns that one side has
//! and the other has not.

use std::sync::Arc;

use driftless::store::Store;
use driftless::sync::{Input, Ticket, drain};

use crate::support::desk::{Desk, assert_equal};
use crate::support::local_remote::LocalRemote;

const NOTES: &str = "CREATE TABLE notes (id TEXT PRIMARY KEY, words TEXT)";

fn remote() -> Arc<LocalRemote> {
    Arc::new(LocalRemote::new(NOTES))
}

fn desk(remote: &Arc<LocalRemote>, number: u128) -> Desk {
    Desk::with_schema(remote, number, NOTES)
}

#[test]
fn a_sync_that_finds_nothing_to_do_asks_once() {
    let remote = remote();
    let desk = desk(&remote, 1);
    desk.db.execute_batch("INSERT INTO notes VALUES ('a', 'one')").unwrap();
    let requests = remote.requests();
    let summary = drain(Store::open(desk.path()).unwrap(), remote.clone()).unwrap();
    assert_eq!((summary.pushed, summary.applied, summary.requests), (1, 1, 1));
    let summary = drain(Store::open(desk.path()).unwrap(), remote.clone()).unwrap();
    assert_eq!((summary.pushed, summary.requests), (0, 1));
    assert_eq!(remote.requests(), requests + 2);
}

#[test]
fn a_request_from_before_the_call_does_not_count() {
    let remote = remote();
    let mut desk = desk(&remote, 1);
    desk.input(Input::Wake);
    let (id, batch) = desk.sent.pop_front().expect("it looks when it wakes");
    let answer = remote.run_now(batch);
    remote.web("INSERT INTO notes VALUES ('a', 'one')");
    desk.input(Input::SyncNow(Ticket(7)));
    desk.input(Input::Answer(id, answer));
    assert!(desk.settled.is_empty(), "the request began before the call");
    desk.settle();
    assert_eq!(desk.settled.len(), 1);
    assert_equal(&desk, &["notes"]);
}

/// What was done to a replica's database while no program of ours had it open is seen by the next
/// one: the triggers are made anew before anything is captured.
#[test]
fn triggers_that_were_taken_away_are_made_anew_by_a_sync() {
    for damage in [
        "DROP TRIGGER driftless_update_notes",
        "CREATE TRIGGER touch AFTER UPDATE ON notes BEGIN SELECT 1; END",
        "DROP TRIGGER driftless_update_notes;
         CREATE TRIGGER driftless_update_notes AFTER UPDATE ON notes BEGIN SELECT 1; END",
    ] {
        let remote = remote();
        let desk = desk(&remote, 1);
        let ours = "SELECT name, sql FROM sqlite_schema
            WHERE type = 'trigger' AND name LIKE 'driftless%' ORDER BY rowid";
        let wanted = desk.read(ours);
        desk.db.execute_batch("INSERT INTO notes VALUES ('a', 'one')").unwrap();
        desk.db.execute_batch(damage).unwrap();
        drain(Store::open(desk.path()).unwrap(), remote.clone()).unwrap();
        assert_eq!(desk.read(ours), wanted, "{damage}");
        desk.db.execute_batch("UPDATE notes SET words = 'two'").unwrap();
        let summary = drain(Store::open(desk.path()).unwrap(), remote.clone()).unwrap();
        assert_eq!(summary.pushed, 1, "{damage}");
        assert_eq!(remote.read("SELECT words FROM notes"), "two", "{damage}");
        let mut store = Store::open(desk.path()).unwrap();
        assert!(!store.check_triggers().unwrap(), "what is in order is left alone: {damage}");
    }
}

#[test]
fn a_column_that_was_added_is_captured_after_the_next_check() {
    let remote = remote();
    let desk = desk(&remote, 1);
    desk.db.execute_batch("ALTER TABLE notes ADD COLUMN stars INT").unwrap();
    let mut store = Store::open(desk.path()).unwrap();
    assert!(store.check_triggers().unwrap());
    assert!(!store.check_triggers().unwrap());
    desk.db.execute_batch("INSERT INTO notes VALUES ('a', 'one', 5)").unwrap();
    assert_eq!(desk.read("SELECT after ->> 'stars' FROM driftless_outbox"), "5");
}
