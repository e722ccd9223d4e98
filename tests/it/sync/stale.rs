//! A push is planned for the remote's schema as it was read. The web application changes it under
//! way: nothing is pushed by a plan that may be wrong, and nobody hears of it.

use std::sync::Arc;

use driftless::protocol::statements::DEFINITIONS;
use driftless::remote::Batch;
use driftless::sync::{Input, SyncState};
use driftless::{Code, Health};

use crate::support::desk::{Desk, SCHEMA, assert_equal};
use crate::support::local_remote::LocalRemote;

const TABLES: [&str; 2] = ["members", "payments"];

fn remote() -> Arc<LocalRemote> {
    Arc::new(LocalRemote::new(SCHEMA))
}

/// Delivers one request and looks at the status after it.
fn step(desk: &mut Desk) -> bool {
    let went = desk.deliver() || desk.go_on();
    let status = desk.status();
    assert_ne!(status.state, SyncState::Trouble, "{status:?}");
    assert_eq!((status.health, status.trouble), (Health::Ok, None));
    went
}

#[test]
fn a_changed_schema_costs_two_more_requests_and_no_trouble() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    for (number, (change, installs)) in [
        ("CREATE TABLE more (id INTEGER PRIMARY KEY)", 0),
        ("ALTER TABLE more ADD COLUMN a", 0),
        ("CREATE INDEX by_name ON members (name)", 0),
        // Capture must know the column, and rows that a REPLACE may evict.
        ("ALTER TABLE payments ADD COLUMN note TEXT", 1),
        ("CREATE UNIQUE INDEX by_note ON payments (note)", 1),
        ("DROP TABLE more", 0),
    ]
    .into_iter()
    .enumerate()
    {
        remote.web(change);
        let before = remote.requests();
        desk.write(&format!("INSERT INTO members (id) VALUES ('{number}')"));
        while step(&mut desk) {}
        assert_eq!(desk.status().pending, 0, "{change}");
        assert_eq!(
            remote.requests(),
            before + 4 + installs,
            "push, definitions, tables, push: {change}"
        );
        // And once it is known, none.
        desk.write(&format!("UPDATE members SET name = 'a' WHERE id = '{number}'"));
        while step(&mut desk) {}
        assert_eq!(remote.requests(), before + 5 + installs, "{change}");
    }
    assert_equal(&desk, &["members"]);
    assert_eq!(desk.status().conflicts, 0);
}

#[test]
fn a_trigger_of_the_webs_that_is_newer_has_ours_made_anew() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    remote.web(
        "CREATE TRIGGER shout AFTER INSERT ON members BEGIN \
         UPDATE members SET name = upper(name) WHERE id = new.id; END",
    );
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    while step(&mut desk) {}
    desk.sync().unwrap();
    assert_eq!(desk.read("SELECT name FROM members"), "ANA");
    assert_equal(&desk, &TABLES);
    let oldest = "SELECT min(rowid) > (SELECT rowid FROM sqlite_schema WHERE name = 'shout') \
        FROM sqlite_schema WHERE type = 'trigger' AND name GLOB 'driftless_*'";
    assert_eq!(remote.read(oldest), "1");
}

#[test]
fn a_schema_that_never_rests_is_not_raced() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    desk.write("INSERT INTO members (id) VALUES ('1')");
    let (mut pushes, mut rounds, begin) = (Vec::new(), 0, desk.now.steady_ms);
    // Before each push arrives the schema is another one.
    while desk.now.steady_ms < begin + 60_000 {
        rounds += 1;
        assert!(rounds < 2_000, "it runs hot: {pushes:?}");
        if desk.sent.front().is_some_and(|(_, batch)| batch.writes) {
            remote.web(&format!("CREATE TABLE more_{rounds} (id INTEGER PRIMARY KEY)"));
            pushes.push(desk.now.steady_ms);
        }
        if !step(&mut desk) {
            let timer = desk.timer.take().expect("it waits");
            desk.now.wall_ms += (timer - desk.now.steady_ms) as i64;
            desk.now.steady_ms = timer;
            desk.input(Input::Timer);
        }
    }
    assert_eq!(desk.status().pending, 1);
    assert!((4..60).contains(&pushes.len()), "{pushes:?}");
    let waits: Vec<_> = pushes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits[0], 0, "the first time it is tried again at once");
    assert!(waits.last() > waits.get(2), "the waits grow: {waits:?}");
    // Pulls went on all the while.
    remote.web("INSERT INTO members (id) VALUES ('w')");
    desk.advance(6_000);
    assert_eq!(desk.read("SELECT count(*) FROM members"), "2");
    desk.advance(120_000);
    assert_eq!((desk.status().pending, desk.status().state), (0, SyncState::InStep));
    assert_equal(&desk, &TABLES);
}

/// Nothing of an earlier remote is believed.
#[test]
fn another_url_and_an_accepted_remote_are_looked_at_first() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    let before = remote.requests();
    desk.input(Input::Reconfigured { url: "memory://moved".to_owned() });
    desk.settle();
    desk.write("INSERT INTO members (id) VALUES ('1')");
    assert!(desk.sent[0].1.writes, "the definitions were read as soon as there was an answer");
    let read = |batch: &Batch| batch.statements[0].sql == DEFINITIONS;
    assert_eq!(remote.batches()[before..].iter().filter(|batch| read(batch)).count(), 1);
    desk.settle();
    assert_eq!(desk.status().pending, 0);
    remote.wipe(SCHEMA);
    desk.write("INSERT INTO members (id) VALUES ('2')");
    assert_eq!(desk.sync().unwrap_err().code(), Code::OtherRemote);
    desk.accept().unwrap();
    desk.write("INSERT INTO members (id) VALUES ('3')");
    assert!(desk.sent[0].1.writes, "they are known");
    desk.settle();
    assert_eq!((desk.status().pending, desk.status().state), (0, SyncState::InStep));
    assert_equal(&desk, &TABLES);
}
