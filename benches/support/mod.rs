//! What the benches of replication share: a hub on loopback or another server, the tables, the
//! rows, and medians.

// Each bench uses a part of it.
#![allow(dead_code, clippy::disallowed_methods, unreachable_pub, missing_docs)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use driftless::hub::{Config, Hub};
use driftless::remote::{Batch, Libsql, Options, Pending, Remote};
use driftless::{Replicator, Summary};
use rusqlite::Connection;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// Rows of a transaction.
pub const PER_TRANSACTION: usize = 1_000;

/// A member in four has a payment, which refers to it.
const PER_PAYMENT: usize = 4;

pub const TABLES: &str = "CREATE TABLE members (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, email TEXT, phone TEXT, plan TEXT,
    joined_at INTEGER, balance_cents INTEGER, notes TEXT, active INTEGER, updated_at INTEGER);
  CREATE TABLE payments (
    id TEXT PRIMARY KEY, member TEXT NOT NULL REFERENCES members (id), cents INTEGER, paid_at INTEGER);";

/// Two indexes on the larger table, and the one that its foreign key wants.
pub const INDEXES: &str = "CREATE INDEX members_email ON members (email);
  CREATE INDEX members_joined ON members (joined_at);
  CREATE INDEX payments_member ON payments (member);";

/// How many events a round has: `DRIFTLESS_BENCH_EVENTS`, or 100,000.
pub fn events() -> usize {
    number("DRIFTLESS_BENCH_EVENTS", 100_000)
}

/// How many rounds there are: `DRIFTLESS_BENCH_ROUNDS`, or 3.
pub fn rounds() -> usize {
    number("DRIFTLESS_BENCH_ROUNDS", 3)
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// A folder with databases in it.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An application's database with the tables, and with `more`.
    pub fn database(&self, name: &str, more: &str) -> Connection {
        let db = Connection::open(self.path(name)).unwrap();
        db.pragma_update(None, "journal_mode", "wal").unwrap();
        db.pragma_update(None, "synchronous", "normal").unwrap();
        db.pragma_update(None, "foreign_keys", true).unwrap();
        db.busy_timeout(Duration::from_secs(10)).unwrap();
        db.execute_batch(TABLES).unwrap();
        db.execute_batch(more).unwrap();
        db
    }
}

/// A key that looks like a ULID: rising, with a random end.
pub fn id(row: usize) -> String {
    format!("01JD8ZK{:07X}{:012}", row, row * 7_919 % 1_000_003)
}

/// Writes `count` rows in transactions of [`PER_TRANSACTION`].
pub fn fill(db: &Connection, count: usize) -> Duration {
    let mut member =
        db.prepare("INSERT INTO members VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)").unwrap();
    let mut payment = db.prepare("INSERT INTO payments VALUES (?1, ?2, ?3, ?4)").unwrap();
    let start = Instant::now();
    for first in (0..count).step_by(PER_TRANSACTION) {
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        for row in first..count.min(first + PER_TRANSACTION) {
            let at = 1_700_000_000_000_i64 + row as i64;
            if row % (PER_PAYMENT + 1) == PER_PAYMENT {
                payment.execute(rusqlite::params![id(row), id(row - 1), 8_990, at]).unwrap();
                continue;
            }
            let email = format!("member{row}@example.com");
            let notes = "Prefers mornings; trains for the half marathon in May.";
            member
                .execute(rusqlite::params![
                    id(row),
                    "Maria Fernanda Oliveira",
                    email,
                    "+55 11 91234-5678",
                    "monthly-unlimited",
                    at,
                    8_990,
                    notes,
                    1,
                    at
                ])
                .unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
    }
    start.elapsed()
}

pub fn count(db: &Connection) -> usize {
    let sql = "SELECT (SELECT count(*) FROM members) + (SELECT count(*) FROM payments)";
    db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as usize
}

/// A remote: a hub in this process on a runtime of its own, or a server that runs already.
pub struct Served {
    pub url: String,
    /// Ends the hub, and waits for it.
    hub: Option<(oneshot::Sender<()>, tokio::task::JoinHandle<()>)>,
    runtime: Runtime,
}

impl Served {
    pub fn new(path: &Path) -> Self {
        let runtime = Runtime::new().unwrap();
        let config = Config::new(path, "127.0.0.1:0".parse().unwrap());
        let hub = runtime.block_on(Hub::bind(config)).unwrap();
        let url = hub.url();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = runtime.spawn(async move {
            hub.serve(async move { drop(stopped.await) }).await.unwrap();
        });
        Served { url, hub: Some((stop, served)), runtime }
    }

    /// The server at a URL, which has to be without a token, and its database empty.
    pub fn at(url: &str) -> Self {
        Served { url: url.to_owned(), hub: None, runtime: Runtime::new().unwrap() }
    }

    /// The server that `DRIFTLESS_BENCH_SERVER` names, or else a hub.
    pub fn named_or_hub(path: &Path) -> Self {
        std::env::var("DRIFTLESS_BENCH_SERVER")
            .map_or_else(|_| Self::new(path), |url| Self::at(&url))
    }

    /// A replicator of `path`, initialised and in step.
    pub fn replicator(&self, path: &Path) -> Replicator {
        self.synced(path).0
    }

    /// The same with what that took.
    pub fn synced(&self, path: &Path) -> (Replicator, Summary) {
        let replicator = Replicator::builder(path)
            .remote(self.url.as_str(), "")
            .tables(["members", "payments"])
            .start()
            .unwrap();
        let summary = replicator.sync_now_blocking().unwrap();
        (replicator, summary)
    }

    /// Makes `path` a replica, and leaves it to itself.
    pub fn initialise(&self, path: &Path) {
        let replicator = self.replicator(path);
        self.runtime.block_on(replicator.shutdown()).unwrap();
    }

    pub fn client(&self) -> Libsql {
        Libsql::connect(&self.url, None, Options::default()).unwrap()
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some((stop, served)) = self.hub.take() {
            // It is gone already if it failed, and has said so.
            let _ = stop.send(());
            let _ = self.runtime.block_on(served);
        }
    }
}

/// A remote that counts its requests.
pub struct Counting {
    pub inner: Libsql,
    pub requests: Arc<AtomicU64>,
}

impl Remote for Counting {
    fn run(&self, batch: Batch) -> Pending<'_> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.inner.run(batch)
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

/// A remote that notes how long each request took.
pub struct Timed {
    pub inner: Libsql,
    pub times: Arc<Mutex<Vec<Duration>>>,
}

impl Remote for Timed {
    fn run(&self, batch: Batch) -> Pending<'_> {
        Box::pin(async move {
            let start = Instant::now();
            let answer = self.inner.run(batch).await;
            self.times.lock().unwrap().push(start.elapsed());
            answer
        })
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

/// Prints the bytes that something took, as they go over the wire, in MB.
#[allow(clippy::print_stdout)]
pub fn report_bytes(name: &str, up: u64, down: u64) {
    let mb = |bytes: u64| bytes as f64 / 1e6;
    println!("  {name:<54} {:>6.1} MB up {:>6.1} MB down", mb(up), mb(down));
}

pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints the median speed of what took these times, and its ratio to a twin of the same rounds.
#[allow(clippy::print_stdout)]
pub fn report(name: &str, count: usize, times: &[Duration], twin: Option<&[Duration]>) {
    let speed = median(times.iter().map(|time| count as f64 / time.as_secs_f64()));
    print!("  {name:<54} {speed:>9.0}/s");
    if let Some(twin) = twin {
        let ratio =
            times.iter().zip(twin).map(|(time, twin)| time.as_secs_f64() / twin.as_secs_f64());
        print!("   × {:.1} of plain SQLite", median(ratio));
    }
    println!();
}
