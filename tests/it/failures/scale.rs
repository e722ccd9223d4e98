//! How replicators fail, by number: much to do at once. No test here looks at a clock; what would take
//! long is told by how much is done.

use std::sync::Arc;
use std::time::Duration;

use driftless::Replicator;
use driftless::protocol::statements::{MAX_EVENTS, MAX_PUSH_BYTES};
use driftless::remote::Remote;
use driftless::sync::{Input, SyncState, Ticket};

use crate::support::desk::{Desk, SCHEMA, assert_equal};
use crate::support::members::{TABLES, events, many, remote};
use crate::support::statement::inlined;

#[test]
fn f06_far_behind() {
    const BEHIND: usize = 25_000;
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    remote.web(&many(BEHIND, "w"));
    desk.input(Input::SyncNow(Ticket(1)));
    let mut lags = Vec::new();
    while desk.deliver() || desk.go_on() {
        let status = desk.status();
        if status.lag > 0 {
            assert_eq!(status.state, SyncState::Syncing);
            lags.push(status.lag);
        }
        // A write of the application's gets in between two pages.
        desk.db.execute("INSERT OR IGNORE INTO payments VALUES (1, NULL, 1)", []).unwrap();
    }
    lags.dedup();
    assert!(lags.is_sorted_by(|a, b| a > b), "it says how far it is: {lags:?}");
    assert!(lags.len() >= BEHIND / MAX_EVENTS - 1, "{lags:?}");
    desk.sync().unwrap();
    assert_equal(&desk, &TABLES);
    assert_eq!(desk.status().lag, 0);
}

#[test]
fn f16_a_hundred_thousand_unsent_events_at_the_start() {
    const UNSENT: usize = 100_000;
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    remote.set_offline(true);
    desk.db.execute_batch(&many(UNSENT, "a")).unwrap();
    // What a start does not read cannot hold it up: here is an event that cannot even be parsed.
    let damaged = "UPDATE driftless_outbox SET layout = NULL, tbl = 'members', pk = '[\"a60000\"]',
         after = '{' WHERE n = 60000";
    desk.db.execute_batch(damaged).unwrap();
    desk.restart();
    let status = desk.status();
    assert_eq!(status.pending, UNSENT as u64);
    assert_eq!(status.trouble, None);
    // The first request is ready, and is no larger than any other.
    let (_, batch) = desk.sent.front().expect("a request is under way at once");
    let bytes: usize = batch.statements.iter().map(|asked| inlined(asked).len()).sum();
    assert!(batch.writes && bytes < 3 * MAX_PUSH_BYTES, "{bytes} bytes");
    // The application writes at once.
    desk.db.execute("INSERT INTO payments VALUES (1, NULL, 1)", []).unwrap();
    let mend =
        "UPDATE driftless_outbox SET layout = (SELECT layout FROM driftless_outbox WHERE n = 1)
         WHERE n = 60000";
    desk.db.execute_batch(mend).unwrap();
    remote.set_offline(false);
    desk.input(Input::Wake);
    desk.deliver();
    assert_eq!(events(&remote), MAX_EVENTS as i64);
}

#[test]
fn f40_applications_write_while_many_events_apply() {
    const EVENTS: usize = 30_000;
    const WRITES: usize = 300;
    let remote = remote();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("desk.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch(SCHEMA).unwrap();
    let shared: Arc<dyn Remote> = Arc::clone(&remote) as Arc<dyn Remote>;
    let replicator = Replicator::builder(&path)
        .with_remote(shared)
        .tables(TABLES)
        .poll_interval(Duration::from_millis(100))
        .start()
        .unwrap();
    replicator.sync_now_blocking().unwrap();
    remote.web(&many(EVENTS, "w"));
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let path = path.clone();
            std::thread::spawn(move || {
                let db = rusqlite::Connection::open(path).unwrap();
                db.busy_timeout(Duration::from_secs(5)).unwrap();
                db.pragma_update(None, "foreign_keys", true).unwrap();
                let mut written = 0;
                // A number, so that they end by themselves.
                while written < WRITES {
                    db.execute_batch(&format!(
                        "BEGIN IMMEDIATE; INSERT INTO members (id) VALUES ('{writer}-{written}');
                         UPDATE members SET name = 'x' WHERE id = '{writer}-{written}'; COMMIT"
                    ))
                    .expect("no write of an application's fails");
                    written += 1;
                }
                written
            })
        })
        .collect();
    replicator.sync_now_blocking().unwrap();
    let written: usize = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
    replicator.sync_now_blocking().unwrap();
    let count = format!("{}", EVENTS + written);
    assert_eq!(remote.read("SELECT count(*) FROM members"), count);
    let db = replicator.connection().unwrap();
    let here: i64 = db.query_row("SELECT count(*) FROM members", [], |row| row.get(0)).unwrap();
    assert_eq!(here.to_string(), count);
    assert_eq!(replicator.status().pending, 0);
    assert_eq!(replicator.status().conflicts, 0);
}
