//! What hangs together: how long the remote's transaction for it takes, and a long list of rows.
//!
//! ```text
//! cargo bench --bench groups
//! DRIFTLESS_BENCH_SERVER=http://127.0.0.1:8080 cargo bench --bench groups
//! ```
//!
//! The first runs against a hub in this process, the second against a server with an empty
//! database and without a token. Each group is one transaction of the application, and goes to the
//! remote in one transaction, also when it is larger than a request. The parts of a large one are
//! sent before; the last request has the whole transaction, and is the longest. Its time is
//! printed. Deletes of parents are many groups, which a push parts if they make too many runs.
//!
//! The list is 12,000 rows, each of which refers to the next. It was there before the first sync,
//! or it is written into a replica.

#![allow(clippy::disallowed_methods, clippy::print_stdout, missing_docs)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use driftless::Replicator;
use rusqlite::Connection;
use support::{Place, Served, Timed};

/// The events of a group. The last is beyond the bound of what is pushed without a word.
const SIZES: [usize; 4] = [5_000, 15_000, 30_000, 60_000];
/// The rows of the list.
const LIST: usize = 12_000;

const FAMILY: &str = "CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT, note TEXT);
  CREATE TABLE child (id INTEGER PRIMARY KEY,
    parent INTEGER NOT NULL REFERENCES parent (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    name TEXT, email TEXT UNIQUE, phone TEXT, plan TEXT, joined_at INTEGER, notes TEXT);
  CREATE INDEX child_parent ON child (parent);
  CREATE TABLE item (id INTEGER PRIMARY KEY, next INTEGER REFERENCES item (id), name TEXT);";

/// A desk, its remote, and the times of the requests.
struct Desk {
    db: Connection,
    replicator: Replicator,
    times: Arc<Mutex<Vec<Duration>>>,
}

impl Desk {
    /// A desk whose tables have been synchronised, with `rows` in them from before.
    fn new(place: &Place, served: &Served, rows: &str) -> (Desk, Duration) {
        let path = place.path("desk.db");
        let db = Connection::open(&path).unwrap();
        db.pragma_update(None, "journal_mode", "wal").unwrap();
        db.pragma_update(None, "synchronous", "normal").unwrap();
        db.busy_timeout(Duration::from_secs(10)).unwrap();
        db.execute_batch(FAMILY).unwrap();
        db.execute_batch(rows).unwrap();
        let times = Arc::default();
        let remote = Timed { inner: served.client(), times: Arc::clone(&times) };
        let start = Instant::now();
        let replicator = Replicator::builder(&path)
            .with_remote(Arc::new(remote))
            .tables(["parent", "child", "item"])
            .poll_interval(Duration::from_secs(3_600))
            .start()
            .unwrap();
        replicator.sync_now_blocking().unwrap();
        let took = start.elapsed();
        db.pragma_update(None, "foreign_keys", true).unwrap();
        (Desk { db, replicator, times }, took)
    }

    /// Commits, and waits until the remote has it and it is settled. Gives the time of all, of the
    /// longest request, and the number of requests.
    fn pushed(&self, sql: &str) -> (Duration, Duration, usize) {
        self.times.lock().unwrap().clear();
        self.db.execute_batch(&format!("BEGIN; {sql}; COMMIT")).unwrap();
        let start = Instant::now();
        while self.replicator.sync_now_blocking().is_err() || self.replicator.status().pending > 0 {
            assert!(start.elapsed() < Duration::from_secs(300), "{:?}", self.replicator.status());
        }
        let took = start.elapsed();
        let status = self.replicator.status();
        assert_eq!((status.pending, status.conflicts), (0, 0), "{status:?}");
        let times = self.times.lock().unwrap();
        (took, times.iter().max().copied().unwrap_or_default(), times.len())
    }
}

/// The numbers from one to `count`, as `c (n)`.
fn numbers(count: usize) -> String {
    format!("WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {count})")
}

fn list() -> String {
    format!("{} INSERT INTO item SELECT n, nullif(n + 1, {LIST} + 1), 'item' FROM c", numbers(LIST))
}

fn report(what: &str, events: usize, (took, longest, requests): (Duration, Duration, usize)) {
    let seconds = longest.as_secs_f64();
    println!(
        "  {what:<40} {events:>6} {:>8.2} s {seconds:>8.2} s {:>9.0} {requests:>9}",
        took.as_secs_f64(),
        3.0 * events as f64 / seconds
    );
}

fn groups(served: &Served, place: &Place) {
    let (desk, _) = Desk::new(place, served, "");
    println!(
        "{:<42} {:>6} {:>10} {:>10} {:>9} {:>9}",
        "a group", "events", "in all", "longest", "in 3 s", "requests"
    );
    for size in SIZES {
        // Children first, and their parent last: no event can go without the others.
        let children = format!(
            "INSERT INTO parent VALUES (1, 'Moema', '');
             {} INSERT INTO child SELECT n, 2, 'Maria Fernanda Oliveira',
               'member' || n || '@example.com', '+55 11 91234-5678', 'monthly-unlimited',
               1700000000000 + n, 'Prefers mornings; trains for the half marathon in May.' FROM c;
             INSERT INTO parent VALUES (2, 'Pinheiros', '')",
            numbers(size - 2)
        );
        report("inserts, the parent last", size, desk.pushed(&children));
        report(
            "the same rows get another parent key",
            size - 1,
            desk.pushed("UPDATE child SET parent = 3; INSERT INTO parent VALUES (3, 'Lapa', '')"),
        );
        report(
            "a cascade from one parent",
            size - 1,
            desk.pushed("DELETE FROM parent WHERE id = 3"),
        );
        desk.pushed("DELETE FROM parent");
        let families = format!(
            "{0} INSERT INTO parent SELECT n, 'p', '' FROM c;
             {0} INSERT INTO child SELECT n, n, 'c', NULL, '', '', n, '' FROM c",
            numbers(size / 2)
        );
        desk.pushed(&families);
        let deletes = "DELETE FROM parent";
        report("parents deleted, each with a child", size / 2 * 2, desk.pushed(deletes));
    }
}

fn main() {
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    if only.as_deref() != Some("list") {
        let place = Place::new();
        let served = Served::named_or_hub(&place.path("hub.db"));
        groups(&served, &place);
    }
    if std::env::var_os("DRIFTLESS_BENCH_SERVER").is_some() && only.as_deref() != Some("list") {
        // The server has the tables now, and is not empty any more.
        return;
    }
    let place = Place::new();
    let served = Served::named_or_hub(&place.path("hub.db"));
    let (_desk, took) = Desk::new(&place, &served, &list());
    println!("a list of {LIST} rows, first sync: {:.2} s", took.as_secs_f64());
    if std::env::var_os("DRIFTLESS_BENCH_SERVER").is_some() {
        return;
    }
    let place = Place::new();
    let served = Served::named_or_hub(&place.path("hub.db"));
    let (desk, _) = Desk::new(&place, &served, "");
    desk.db.pragma_update(None, "foreign_keys", false).unwrap();
    let (took, _, _) = desk.pushed(&list());
    println!("a list of {LIST} rows, captured: {:.2} s", took.as_secs_f64());
}
