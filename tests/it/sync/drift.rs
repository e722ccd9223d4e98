//! Definitions that change under way: triggers that are taken away, and columns that one side has
//! and the other has not.

use std::sync::Arc;

use driftless::protocol::statements::MAX_EVENTS;
use driftless::store::{Entry, EventState, LogFilter, PushLimit, Store};
use driftless::sync::{Input, SyncState, Ticket};
use driftless::{Code, Health};

use crate::support::blocking::drain;
use crate::support::desk::{Desk, assert_equal};
use crate::support::local_remote::{Fault, LocalRemote};

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
    assert_eq!(remote.requests(), requests + 1);
    let summary = drain(Store::open(desk.path()).unwrap(), remote.clone()).unwrap();
    assert_eq!((summary.pushed, summary.requests), (0, 1));
    assert_eq!(remote.requests(), requests + 2);
}

/// The answer to a sync may come before the driver has begun.
#[test]
fn a_sync_from_before_the_start_asks_once() {
    let remote = remote();
    let made = desk(&remote, 1);
    let requests = remote.requests();
    let mut desk = made.before_start();
    desk.input(Input::SyncNow(Ticket(7)));
    desk.settle();
    assert_eq!(desk.settled.len(), 1);
    desk.input(Input::Start);
    desk.settle();
    assert_eq!(remote.requests(), requests + 1);
    // Without one it looks by itself.
    let mut desk = desk.before_start();
    desk.input(Input::Start);
    desk.settle();
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

/// However fast the application and the web write meanwhile.
#[test]
fn a_sync_ends_when_what_was_there_at_the_call_is_done() {
    for backlog in [1, MAX_EVENTS * 2] {
        let remote = remote();
        let mut desk = desk(&remote, 1);
        remote.web("INSERT INTO notes VALUES ('w', 'of the web'), ('a7', 'taken')");
        desk.db
            .execute_batch(&format!(
                "WITH n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {backlog})
                 INSERT INTO notes SELECT 'a' || n, 'before' FROM n"
            ))
            .unwrap();
        desk.input(Input::SyncNow(Ticket(7)));
        let mut steps = 0;
        while desk.settled.is_empty() {
            steps += 1;
            assert!(steps < 100, "it never ends");
            desk.write(&format!("INSERT INTO notes VALUES ('b{steps}', 'meanwhile')"));
            desk.deliver();
            remote.web(&format!("INSERT INTO notes VALUES ('v{steps}', 'meanwhile')"));
            desk.write(&format!("INSERT INTO notes VALUES ('c{steps}', 'meanwhile')"));
            desk.go_on();
        }
        let summary = desk.settled.remove(0).1.unwrap();
        assert!(summary.pushed >= backlog as u64, "{summary:?}");
        assert_eq!(desk.read("SELECT words FROM notes WHERE id = 'w'"), "of the web");
        let (mut before, mut meanwhile) = (0, 0);
        let filter = LogFilter { verdict: Some(EventState::Pending), ..LogFilter::default() };
        let store = Store::open(desk.path()).unwrap();
        store
            .log(&filter, &mut |entry| {
                let Entry::Pending(event) = entry else { panic!("it is settled") };
                let words = event.after.unwrap().get("words").cloned().unwrap();
                before += usize::from(words.as_str() == Some("before"));
                meanwhile += usize::from(words.as_str() == Some("meanwhile"));
                Ok(())
            })
            .unwrap();
        assert_eq!(before, 0);
        assert_ne!(meanwhile, 0, "it is not drained");
        let lost = usize::from(backlog >= 7);
        assert_eq!(summary.superseded + summary.rejected, lost as u64);
        desk.sync().unwrap();
        desk.sync().unwrap();
        assert_equal(&desk, &["notes"]);
    }
}

/// The culprit of a push that fails as a whole is found before the sync ends, not after.
#[test]
fn a_sync_waits_for_the_verdict_on_what_is_refused() {
    let strict = "CREATE TABLE notes (id TEXT PRIMARY KEY, words TEXT CHECK (words <> 'bad'))";
    let remote = Arc::new(LocalRemote::new(strict));
    let mut desk = desk(&remote, 1);
    desk.db.execute_batch("INSERT INTO notes VALUES ('a', 'x'), ('b', 'bad'), ('c', 'y')").unwrap();
    desk.input(Input::SyncNow(Ticket(7)));
    let mut steps = 0;
    while desk.settled.is_empty() {
        steps += 1;
        assert!(steps < 100, "it never ends");
        desk.write(&format!("INSERT INTO notes VALUES ('b{steps}', 'meanwhile')"));
        desk.deliver();
        desk.go_on();
    }
    let summary = desk.settled.remove(0).1.unwrap();
    assert_eq!(summary.rejected, 1);
    assert!(summary.applied >= 2, "{summary:?}");
    assert_eq!(
        desk.read("SELECT group_concat(id) FROM notes WHERE words IN ('x', 'bad', 'y')"),
        "a,c"
    );
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
    let limit = PushLimit::of(1, 1 << 10);
    assert!(store.outgoing(limit).unwrap().is_none(), "the table is compared first");
    let mut captured = Vec::new();
    store
        .log(&LogFilter::default(), &mut |entry| {
            let Entry::Pending(event) = entry else { panic!("it is settled") };
            captured.extend(event.after.map(|image| image.to_json()));
            Ok(())
        })
        .unwrap();
    assert_eq!(captured, [r#"{"id":"a","words":"one","stars":5}"#]);
}

const MIGRATION: &str = "ALTER TABLE notes ADD COLUMN stars INT";

#[test]
fn a_column_that_the_remote_does_not_have_is_owed_until_it_has() {
    let remote = remote();
    let (mut a, mut b) = (desk(&remote, 1), desk(&remote, 2));
    a.write(MIGRATION);
    a.write("INSERT INTO notes VALUES ('a', 'one', 5)");
    a.settle();
    remote.web("INSERT INTO notes VALUES ('w', 'of the web')");
    b.write("INSERT INTO notes VALUES ('b', 'two')");
    b.sync().unwrap();
    a.sync().unwrap();
    let waiting = a.status().waiting;
    assert_eq!((waiting.len(), waiting[0].events), (1, 0));
    for word in ["`notes`", "`stars`"] {
        assert!(waiting[0].reason.contains(word), "{waiting:?}");
    }
    // The rest of the row is there, and the log has all of it: the value is owed, and said.
    assert_eq!(a.read("SELECT id FROM notes ORDER BY id"), "a\nb\nw");
    let ours = "SELECT count(*) FROM driftless_events WHERE tbl = 'notes' AND pk = '[\"a\"]'";
    assert_eq!(remote.read(ours), "1");
    assert_eq!(remote.read("SELECT words FROM notes WHERE id = 'a'"), "one");
    let debts = "SELECT tbl, col, since FROM driftless_owed";
    let seq = "SELECT 'notes|stars|' || seq FROM driftless_events WHERE pk = '[\"a\"]'";
    assert_eq!(remote.read(debts), remote.read(seq));
    let status = a.status();
    assert_eq!((status.state, status.pending, status.lag), (SyncState::InStep, 0, 0));
    assert_eq!(
        (status.code, status.trouble.as_ref()),
        (Some(Code::TableWaits), Some(&waiting[0].reason))
    );
    assert_eq!(status.health, Health::Degraded);
    // A new process says it too.
    a.restart();
    a.advance(120_000);
    assert_eq!(a.status().waiting.len(), 1);
    // The column comes: it is filled from the log, and nobody is told.
    remote.web(MIGRATION);
    a.advance(61_000);
    assert_eq!(remote.read("SELECT words, stars FROM notes WHERE id = 'a'"), "one|5");
    assert_eq!((remote.read(ours), remote.read(debts)), ("1".to_owned(), String::new()));
    assert_eq!(a.status().state, SyncState::InStep);
    assert_eq!((a.status().trouble, a.status().health), (None, Health::Ok));
    assert_equal(&a, &["notes"]);
    // The other one goes on without the column, and gets its values with it.
    b.write("INSERT INTO notes VALUES ('c', 'three')");
    b.sync().unwrap();
    assert_eq!((b.status().pending, b.status().quarantined), (0, 0));
    assert_eq!(b.read("SELECT id FROM notes ORDER BY id"), "a\nb\nc\nw");
    b.write(MIGRATION);
    b.settle();
    assert_equal(&b, &["notes"]);
}

#[test]
fn a_push_whose_answer_was_lost_is_not_held_by_a_later_column() {
    let remote = remote();
    let mut desk = desk(&remote, 1);
    remote.fail([Fault::LostAfter]);
    desk.write("INSERT INTO notes VALUES ('a', 'one')");
    desk.settle();
    desk.db.execute_batch(MIGRATION).unwrap();
    desk.sync().unwrap();
    assert_eq!(desk.status().pending, 0);
    assert_eq!(remote.read("SELECT words FROM notes"), "one");
}

/// F38: the web has a column that a replica has not.
#[test]
fn f38_a_column_of_the_webs_comes_with_the_local_migration() {
    let remote = remote();
    let (mut a, mut b) = (desk(&remote, 1), desk(&remote, 2));
    remote.web("INSERT INTO notes (id, words) VALUES ('old', 'zero')");
    b.sync().unwrap();
    remote.web(MIGRATION);
    a.write(MIGRATION);
    a.initialise_again(&[]).unwrap();
    remote.web(
        "INSERT INTO notes VALUES ('w', 'one', 3); UPDATE notes SET words = 'two' WHERE id = 'w'",
    );
    remote.web("UPDATE notes SET words = 'null' WHERE id = 'old'");
    a.sync().unwrap();
    assert_equal(&a, &["notes"]);
    b.write("INSERT INTO notes VALUES ('b', 'of b')");
    b.sync().unwrap();
    // All goes on but the column.
    assert_eq!(b.read("SELECT id, words FROM notes ORDER BY id"), "b|of b\nold|null\nw|two");
    assert_eq!((b.status().quarantined, b.status().pending), (0, 0));
    assert_eq!(remote.read("SELECT words, stars FROM notes WHERE id = 'b'"), "of b|NULL");
    // The file is migrated while nobody looks; the next program fills the column.
    b.db.execute_batch(MIGRATION).unwrap();
    drain(Store::open(b.path()).unwrap(), remote.clone()).unwrap();
    assert_eq!(b.status().quarantined, 0);
    assert_equal(&b, &["notes"]);
}

/// The values of a column that a migration brings are told like a page.
#[test]
fn what_a_migration_fills_is_told() {
    let remote = remote();
    let (mut a, mut b) = (desk(&remote, 1), desk(&remote, 2));
    remote.web(MIGRATION);
    a.write(MIGRATION);
    a.initialise_again(&[]).unwrap();
    remote.web("INSERT INTO notes VALUES ('w', 'one', 3)");
    b.sync().unwrap();
    assert_eq!(b.status().quarantined, 0);
    b.changes.clear();
    b.write(MIGRATION);
    assert_eq!(b.status().suspect, ["notes"]);
    b.settle();
    assert!(b.status().suspect.is_empty());
    assert_equal(&b, &["notes"]);
    let [changes] = b.changes.as_slice() else { panic!("{:?}", b.changes) };
    assert_eq!((changes.rows.len(), changes.cursor.0), (1, b.status().cursor));
    assert_eq!(
        (changes.rows[0].table.as_str(), changes.rows[0].key.0.as_str()),
        ("notes", "[\"w\"]")
    );
    b.changes.clear();
    b.write("INSERT INTO notes VALUES ('b', 'of b', 1)");
    assert!(b.changes.is_empty(), "nothing came");
}
