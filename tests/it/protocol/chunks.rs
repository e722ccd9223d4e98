//! An event that fits into a request and not into an answer: its line is read in chunks, and keeps
//! nobody from reading on.

use std::sync::{Arc, Mutex};

use driftless::remote::{Batch, Libsql, Options, Pending, Remote};
use driftless::store::Store;
use driftless::sync::{Input, SyncState, Ticket};
use driftless::{Code, Kind};
use rusqlite::Connection;

use crate::hub::Running;
use crate::support::blocking::{drain, initialise};
use crate::support::desk::{Desk, assert_equal, plan};
use crate::support::local_remote::{Fault, LocalRemote, read};
use crate::support::statement::inlined;

const MEMBERS: &str = "CREATE TABLE members (id TEXT PRIMARY KEY, name TEXT, photo BLOB)";
const ROWS: &str = "SELECT id, name, length(photo), hex(substr(photo, 1, 9)) FROM members
    ORDER BY id";
/// The most bytes of an answer.
const CAP: usize = 100_000;
/// More than that, and not the same all over.
const LARGE: &str = "randomblob(300000)";

fn two_desks() -> (Arc<LocalRemote>, Desk, Desk) {
    let remote = Arc::new(LocalRemote::new(MEMBERS));
    let (a, b) = (Desk::with_schema(&remote, 1, MEMBERS), Desk::with_schema(&remote, 2, MEMBERS));
    (remote, a, b)
}

/// Requests that asked for a chunk.
fn chunks(remote: &LocalRemote) -> usize {
    let batches = remote.batches();
    batches
        .iter()
        .filter(|batch| batch.statements.iter().any(|asked| asked.sql.contains("substr(line")))
        .count()
}

#[test]
fn an_event_that_no_answer_takes_is_read_in_chunks() {
    let (remote, mut a, mut b) = two_desks();
    remote.set_caps(usize::MAX, CAP);
    a.write("INSERT INTO members VALUES ('1', 'Ana', NULL)");
    a.write(&format!("INSERT INTO members VALUES ('2', 'Bea', {LARGE})"));
    a.write("INSERT INTO members VALUES ('3', 'Cid', NULL)");
    a.sync().unwrap();
    remote.web(&format!("UPDATE members SET photo = {LARGE} WHERE id = '1'"));
    remote.web("INSERT INTO members VALUES ('4', 'Dan', NULL)");
    // 600 kB in hexadecimal, in chunks of 64 KiB.
    b.sync().unwrap();
    a.sync().unwrap();
    for desk in [&a, &b] {
        assert_equal(desk, &["members"]);
        assert_eq!(desk.read(ROWS), remote.read(ROWS));
        let status = desk.status();
        assert_eq!((status.trouble, status.quarantined, status.conflicts), (None, 0, 0));
    }
    assert!(chunks(&remote) >= 4 * 10, "{}", chunks(&remote));
    // What follows comes in pages again, in as many requests as ever.
    for n in 0..400 {
        remote.web(&format!("INSERT INTO members VALUES ('w{n}', 'web', NULL)"));
    }
    b.sync().unwrap();
    let (requests, read) = (remote.requests(), chunks(&remote));
    for n in 400..800 {
        remote.web(&format!("INSERT INTO members VALUES ('w{n}', 'web', NULL)"));
    }
    b.sync().unwrap();
    assert_equal(&b, &["members"]);
    assert_eq!(chunks(&remote), read, "none of them is read in chunks");
    assert!(remote.requests() - requests < 12, "{}", remote.requests() - requests);
}

/// An answer is lost, the process ends, and the limit falls, all in the middle of a line.
#[test]
fn a_line_in_chunks_survives_what_requests_meet() {
    let (remote, mut a, mut b) = two_desks();
    a.write(&format!("INSERT INTO members VALUES ('1', 'Ana', {LARGE})"));
    a.sync().unwrap();
    remote.set_caps(usize::MAX, CAP);
    for (what, seen) in [3, 6, 9, 12].into_iter().enumerate() {
        b.input(Input::SyncNow(Ticket(1_000 + what as u64)));
        while chunks(&remote) < seen {
            assert!(b.deliver(), "it asks for chunks");
        }
        assert_eq!(b.status().cursor, 0, "it is in the middle of the line");
        match what {
            0 => remote.fail([Fault::LostAfter]),
            1 => remote.set_caps(usize::MAX, CAP / 3),
            2 => b.restart(),
            _ => remote.web("INSERT INTO members VALUES ('2', 'Bea', NULL)"),
        }
        b.deliver();
    }
    b.sync().unwrap();
    assert_equal(&b, &["members"]);
    assert_eq!(b.read(ROWS), remote.read(ROWS));
}

/// A limit that nobody meant: what blocks is named, and what can go on does.
#[test]
fn what_no_chunk_brings_is_named_and_pushes_go_on() {
    let (remote, mut a, mut b) = two_desks();
    a.write(&format!("INSERT INTO members VALUES ('1', 'Ana', {LARGE})"));
    a.sync().unwrap();
    remote.set_caps(usize::MAX, 2_000);
    let error = b.sync().unwrap_err();
    assert_eq!(error.code(), Code::EventUnreadable, "{error}");
    assert!(error.hint().is_some(), "{error:?}");
    assert_eq!(b.status().state, SyncState::Trouble);
    b.write("INSERT INTO members VALUES ('b', 'Bea', NULL)");
    b.advance(130_000);
    assert_eq!(remote.read("SELECT name FROM members WHERE id = 'b'"), "Bea", "pushes go on");
    assert!(b.status().trouble.is_some());
    remote.set_caps(usize::MAX, CAP);
    b.settled.clear();
    b.sync().unwrap();
    assert_equal(&b, &["members"]);
}

/// Somebody writes to the remote while a large row is read.
struct Meddled {
    remote: Arc<LocalRemote>,
    writes: Mutex<Vec<&'static str>>,
}

impl Remote for Meddled {
    fn run(&self, batch: Batch) -> Pending<'_> {
        let meddles = inlined(&batch.statements[0]).contains("substr(line, 65537");
        let outcome = self.remote.run_now(batch);
        if meddles && let Some(sql) = self.writes.lock().unwrap().pop() {
            self.remote.web(sql);
        }
        Box::pin(async move { outcome })
    }

    fn url(&self) -> String {
        self.remote.url()
    }
}

/// A row that no answer takes, in the first sync. It changes while it is read, and goes: what is
/// here in the end is what is there.
#[test]
fn a_row_that_no_answer_takes_is_read_in_chunks() {
    let remote = Arc::new(LocalRemote::new(MEMBERS));
    remote.set_caps(usize::MAX, CAP);
    remote.web(&format!(
        "INSERT INTO members VALUES ('1', 'Ana', NULL), ('2', 'Bea', {LARGE}), ('3', 'Cid', {LARGE}),
         ('4', 'Dan', {LARGE}), ('5', 'Eva', NULL)"
    ));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("desk.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(MEMBERS).unwrap();
    // The last first: of the same length, of another one, and the row's end, of which the first is
    // from before the log.
    let writes = Mutex::new(vec![
        "DELETE FROM members WHERE id = '4'",
        "UPDATE members SET photo = randomblob(200000) WHERE id = '3'",
        "UPDATE members SET photo = randomblob(300000) WHERE id = '2'",
        "UPDATE members SET photo = randomblob(300000) WHERE id = '2'",
    ]);
    let meddled = Arc::new(Meddled { remote: Arc::clone(&remote), writes });
    initialise(plan(path.clone(), 1, &[]), meddled.clone()).unwrap();
    assert!(meddled.writes.lock().unwrap().is_empty(), "all of it happened");
    assert_eq!(read(&db, ROWS), remote.read(ROWS));
    assert!(chunks(&remote) > 40, "{}", chunks(&remote));
    // A limit that nobody meant.
    let path = folder.path().join("other.db");
    Connection::open(&path).unwrap().execute_batch(MEMBERS).unwrap();
    remote.set_caps(usize::MAX, 3_000);
    let error = initialise(plan(path, 2, &[]), remote.clone()).unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge, "{error}");
}

/// A hub that sends a megabyte at most, as Turso has been seen to.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_sends_less_than_it_takes() {
    let hub = Running::start(|config| config.limits.response_bytes = 1_000_000).await;
    let url = hub.url.clone();
    let work = move || {
        let remote: Arc<dyn Remote> =
            Arc::new(Libsql::connect(&url, None, Options::default()).unwrap());
        let desk = |number: u128| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("desk.db");
            let db = Connection::open(&path).unwrap();
            db.execute_batch(MEMBERS).unwrap();
            initialise(plan(path.clone(), number, &[]), remote.clone()).unwrap();
            (folder, path, db)
        };
        let (a, b) = (desk(1), desk(2));
        // Four megabytes in hexadecimal: as much as a value may have.
        a.2.execute_batch(
            "INSERT INTO members VALUES ('1', 'Ana', NULL), ('2', 'Bea', randomblob(1500000)),
             ('3', 'Cid', NULL)",
        )
        .unwrap();
        let sync = |desk: &(_, std::path::PathBuf, _)| {
            drain(Store::open(&desk.1).unwrap(), remote.clone()).unwrap()
        };
        let pushed = sync(&a);
        assert_eq!((pushed.pushed, pushed.applied), (3, 3));
        assert_eq!(sync(&b).pulled, 3);
        // One that comes later reads the row, and not the event.
        let c = desk(3);
        assert_eq!(read(&c.2, ROWS), read(&a.2, ROWS));
        (read(&a.2, ROWS), read(&b.2, ROWS))
    };
    let (a, b) = tokio::task::spawn_blocking(work).await.unwrap();
    let there = Connection::open(hub.db()).unwrap();
    assert_eq!(read(&there, ROWS), a);
    assert_eq!(a, b);
    drop(there);
    hub.stop().await;
}
