//! What the machine does where two things meet that seldom do: driven by hand, as in
//! [`waits`](super::waits).

use driftless::event::value::Value;
use driftless::protocol::statements::MAX_EVENTS;
use driftless::remote::{Answer, Batch};
use driftless::sync::backoff::{CAP_MS, FIRST_MS};
use driftless::sync::{Input, SyncState, Ticket};
use driftless::{Health, Replicator};

use crate::support::desk::{Desk, assert_equal};
use crate::support::local_remote::{Fault, LocalRemote};
use crate::support::members::{TABLES, many, remote};

/// How long a push that was refused waits, in ms.
const REFUSED_MS: u64 = 60_000;
/// How often it looks, in ms.
const POLL_MS: u64 = 5_000;
/// The most bytes of an answer: one large row fits into it, and two do not.
const CAP: usize = 400_000;

/// How many rows there are, and all that they are.
const ALL: &str = "SELECT count(*), sum(length(name)), count(DISTINCT id) FROM members";

/// A row that fills most of an answer.
fn large(id: &str) -> String {
    format!("INSERT INTO members (id, name) VALUES ('{id}', printf('%.*c', 300000, 'x'))")
}

/// A push and a page go apart from here on.
fn part(desk: &mut Desk, remote: &LocalRemote) {
    remote.set_caps(usize::MAX, CAP);
    // The own row comes back without its values.
    remote.web(&large("w"));
    remote.web(&large("v"));
    desk.write(&large("d"));
    assert!(desk.sent[0].1.writes);
    desk.deliver();
    assert!(!desk.sent[0].1.writes, "the answer was too large: it looks first");
    desk.deliver();
}

#[test]
fn a_file_that_was_copied_and_pushes_without_a_page_reads_on_before_it_takes_another_name() {
    let remote = remote();
    let mut a = Desk::new(&remote, 1);
    a.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    a.settle();
    part(&mut a, &remote);
    a.settle();
    // A copy goes ahead under the name.
    let mut copy = a.copy(2);
    copy.write("UPDATE members SET name = 'Anna' WHERE id = '1'");
    copy.sync().unwrap();
    assert!(copy.status().identity.is_empty());
    a.write("INSERT INTO members (id, name) VALUES ('2', 'Bea')");
    assert!(a.sent[0].1.writes);
    a.deliver();
    assert_eq!(a.status().pending, 1, "it was refused for the other file's incarnation");
    assert!(a.status().identity.is_empty(), "the log is to be read first");
    assert!(!a.sent[0].1.writes, "it reads on");
    a.settle();
    assert_eq!(a.read("SELECT name FROM members WHERE id = '1'"), "Anna");
    assert_eq!((a.status().identity.len(), a.status().conflicts), (1, 0));
    assert_equal(&a, &TABLES);
}

/// Requests until a change is there and its verdict is here.
fn requests_of_a_change(desk: &mut Desk, id: usize) -> usize {
    let before = desk.remote.requests();
    desk.write(&format!("INSERT INTO members (id, name) VALUES ('n{id}', 'x')"));
    desk.settle();
    assert_eq!(desk.status().pending, 0);
    desk.remote.requests() - before
}

#[test]
fn push_and_page_come_together_again_when_pushes_are_as_large_as_ever() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    assert_eq!(requests_of_a_change(&mut desk, 0), 1);
    part(&mut desk, &remote);
    desk.settle();
    remote.set_caps(usize::MAX, usize::MAX);
    assert_eq!(requests_of_a_change(&mut desk, 1), 2, "a push, and a page");
    // Each push doubles the limits.
    let pushes = MAX_EVENTS.ilog2() as usize + 1;
    for push in 0..pushes {
        requests_of_a_change(&mut desk, 2 + push);
    }
    assert_eq!(requests_of_a_change(&mut desk, 99), 1);
    assert_equal(&desk, &TABLES);
}

/// The push was not taken for its name's sake, so nothing is known of its columns.
#[test]
fn a_copy_with_a_new_column_asks_anew_under_its_own_name() {
    let remote = remote();
    let mut a = Desk::new(&remote, 1);
    a.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    a.sync().unwrap();
    let mut copy = a.copy(2);
    copy.input(Input::Start);
    copy.settle();
    a.write("INSERT INTO members (id, name) VALUES ('2', 'Bea')");
    a.sync().unwrap();
    let migration = "ALTER TABLE members ADD COLUMN phone TEXT";
    copy.write(migration);
    copy.write("INSERT INTO members (id, phone) VALUES ('3', '1')");
    // What was written before the column was known is looked for first.
    while !copy.sent[0].1.writes {
        copy.deliver();
    }
    copy.deliver();
    assert_eq!(copy.status().pending, 1);
    // By the time it has its own name, the remote has the column.
    remote.web(migration);
    a.write(migration);
    a.initialise_again(&[]).unwrap();
    copy.settle();
    assert_eq!((copy.status().identity.len(), copy.status().pending), (1, 0), "no time has passed");
    assert_equal(&copy, &TABLES);
}

/// The sync waits for a page, and when that is done the push may be tried again.
#[test]
fn who_waits_is_not_told_of_a_refusal_that_is_over() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    remote.web("INSERT INTO members (id, name) VALUES ('w', 'web')");
    desk.db.execute_batch("INSERT INTO members (id, name) VALUES ('1', 'Ana')").unwrap();
    remote.fail([Fault::Refused]);
    desk.input(Input::SyncNow(Ticket(9)));
    assert!(desk.sent[0].1.writes);
    desk.deliver();
    assert!(!desk.sent[0].1.writes, "pulling goes on");
    desk.deliver();
    assert!(desk.go_on && desk.settled.is_empty(), "its page is to be integrated");
    desk.now.steady_ms += REFUSED_MS;
    desk.go_on();
    assert!(desk.settled.is_empty(), "it is tried again");
    desk.settle();
    let (ticket, summary) = desk.settled.pop().expect("it is done");
    assert_eq!((ticket, summary.unwrap().pushed), (Ticket(9), 1));
    assert_equal(&desk, &TABLES);
}

#[test]
fn a_file_that_is_not_there_is_made_while_there_is_no_remote() {
    let remote = remote();
    remote.set_offline(true);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.db");
    let replicator = Replicator::builder(&path).with_remote(remote).start().unwrap();
    drop(replicator);
    assert!(path.exists());
    // One that is there is left as it is.
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch(
        "CREATE TABLE members (id TEXT PRIMARY KEY); INSERT INTO members VALUES ('1')",
    )
    .unwrap();
    let offline = self::remote();
    offline.set_offline(true);
    drop(Replicator::builder(&path).with_remote(offline).start().unwrap());
    assert_eq!(crate::support::local_remote::read(&db, "SELECT id FROM members"), "1");
}

/// What comes is no page.
fn damaged(answer: &mut Answer) {
    let blobs = answer.rows.iter_mut().flatten().flatten();
    let blob = blobs.filter_map(|value| match value {
        Value::Blob(bytes) => Some(bytes),
        _ => None,
    });
    for bytes in blob {
        bytes[0] = b'x';
    }
}

/// Two pages of a log, of which the first one waits to be integrated and the second is under way.
fn two_pages(remote: &LocalRemote, desk: &mut Desk, spoil: bool) {
    remote.web(&many(MAX_EVENTS + 1, "w"));
    desk.input(Input::Wake);
    let (id, batch) = desk.sent.pop_front().expect("it looks when it wakes");
    let mut answer = remote.run_now(batch);
    if spoil {
        damaged(answer.as_mut().unwrap());
    }
    desk.input(Input::Answer(id, answer));
    assert!(desk.go_on && desk.sent.len() == 1);
}

#[test]
fn a_page_that_was_under_way_when_its_predecessor_was_none_is_not_taken() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    two_pages(&remote, &mut desk, true);
    desk.go_on();
    assert_eq!(desk.status().state, SyncState::Trouble);
    desk.advance(FIRST_MS);
    assert_eq!(desk.read(ALL), remote.read(ALL), "the wait after a failure is all that is waited");
    assert_eq!(desk.status().state, SyncState::InStep);
}

/// Each page is none, and each answer is one otherwise: also where two are under way at a time.
#[test]
fn a_remote_that_always_answers_with_no_page_is_left_alone_for_longer_and_longer() {
    for events in [1, MAX_EVENTS + 1] {
        let remote = remote();
        let mut desk = Desk::new(&remote, 1);
        remote.web(&many(events, "w"));
        let before = remote.requests();
        let end = desk.now.steady_ms + 600_000;
        while desk.now.steady_ms < end {
            while let Some((id, batch)) = desk.sent.pop_front() {
                let mut answer = remote.run_now(batch);
                damaged(answer.as_mut().unwrap());
                desk.input(Input::Answer(id, answer));
                desk.go_on();
            }
            let timer = desk.timer.take().expect("it waits for something");
            desk.now.wall_ms += (timer - desk.now.steady_ms) as i64;
            desk.now.steady_ms = timer;
            desk.input(Input::Timer);
        }
        // Eight waits grow to half a minute, and are half of that on average.
        let requests = remote.requests() - before;
        assert!((20..200).contains(&requests), "{requests} requests for {events} events");
        let status = desk.status();
        assert_eq!((status.state, status.health), (SyncState::Trouble, Health::Red));
        desk.advance(CAP_MS);
        assert_eq!(desk.read(ALL), remote.read(ALL));
        assert_eq!((desk.status().state, desk.status().trouble), (SyncState::InStep, None));
        assert_equal(&desk, &TABLES);
    }
}

#[test]
fn a_page_that_the_database_failed_for_waits_and_is_not_fetched_again() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    two_pages(&remote, &mut desk, false);
    desk.deliver();
    let rename = |from: &str, to: &str| {
        format!("PRAGMA legacy_alter_table = ON; ALTER TABLE {from} RENAME TO {to}")
    };
    desk.db.execute_batch(&rename("driftless_log", "away")).unwrap();
    let before = remote.requests();
    desk.go_on();
    desk.db.execute_batch(&rename("away", "driftless_log")).unwrap();
    assert_eq!(desk.status().state, SyncState::Trouble);
    desk.advance(900);
    assert_eq!(desk.read(ALL), remote.read(ALL));
    let end = Value::Integer(desk.status().cursor);
    // The file's schema is another one, so the definitions are compared, too.
    let asks_before_it = |batch: &Batch| {
        let question = &batch.statements[0];
        question.sql.contains("seq > ?") && question.args.first() != Some(&end)
    };
    assert!(!remote.batches()[before..].iter().any(asks_before_it), "it is not asked for again");
}

/// A desk whose next page is one event that cannot be there without the one behind it: a value of a
/// UNIQUE column passes from a row to another, and the log has no moment in which nobody has it.
fn half_a_swap(remote: &LocalRemote, desk: &mut Desk) {
    remote.web("INSERT INTO members VALUES ('1', 'Ana', 'x'), ('2', 'Bea', 'y')");
    desk.advance(POLL_MS);
    for (id, email, letter) in [("1", "NULL", "a"), ("2", "'x'", "b"), ("1", "'y'", "c")] {
        let name = format!("printf('%.*c', 2000, '{letter}')");
        remote.web(&format!("UPDATE members SET email = {email}, name = {name} WHERE id = '{id}'"));
    }
    remote.web("DELETE FROM driftless_events WHERE seq = 3");
    remote.set_caps(usize::MAX, 5_000);
    desk.input(Input::Wake);
    loop {
        let (id, batch) = desk.sent.pop_front().expect("it asks for less and less");
        let answer = remote.run_now(batch);
        desk.input(Input::Answer(id, answer));
        if desk.go_on {
            remote.set_caps(usize::MAX, usize::MAX);
            assert_eq!(desk.sent.len(), 1, "the other half is under way");
            return;
        }
    }
}

#[test]
fn a_page_that_needs_what_follows_takes_what_is_under_way() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    half_a_swap(&remote, &mut desk);
    let requests = remote.requests();
    desk.go_on();
    assert_eq!(desk.status().cursor, 2);
    desk.settle();
    assert_eq!(remote.requests() - requests, 1, "the one under way");
    assert_eq!(desk.status().trouble, None);
    assert_equal(&desk, &TABLES);
}
