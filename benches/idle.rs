//! A replica at rest and in the background: its memory, its start, its polls, how soon another
//! desk's commit is here, and what it costs the application's writes.
//!
//! ```text
//! cargo bench --bench idle
//! cargo bench --bench idle -- soon
//! cargo bench --bench idle -- catching
//! RUST_LOG=driftless=trace cargo bench --bench idle -- catching
//! ```
//!
//! The second measures the time from a commit to the other desk alone, and the third the catch-up
//! alone. The fourth says how long each transaction held the write lock.

#![allow(clippy::disallowed_methods, clippy::print_stdout, missing_docs)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use driftless::Replicator;
use support::{Counting, Place, Served};

/// How long an idle replica is watched.
const WATCHED: Duration = Duration::from_secs(20);

/// After a change, a replica looks more often for a while.
const LIVELY: Duration = Duration::from_secs(35);

/// Commits whose way to the other desk is measured, for each pause.
const COMMITS: usize = 60;

/// Between two writes of the application.
const PAUSE: Duration = Duration::from_millis(2);

/// Writes of the application that are measured without a pull under way.
const QUIET_WRITES: usize = 500;

/// A field of this process's status, in KiB.
fn memory(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

/// The processor time of this process's threads, in ms.
fn processor_time() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let spent = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    });
    spent.sum::<f64>() / 1e6
}

fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort();
    times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e3
}

/// A start with everything unsent and nobody there to take it.
fn offline(place: &Place, events: usize) {
    let path = place.path("desk.db");
    let db = {
        let hub = Served::new(&place.path("hub.db"));
        let db = place.database("desk.db", "");
        hub.initialise(&path);
        db
    };
    let before = memory("VmRSS");
    support::fill(&db, events);
    drop(db);
    let filled = memory("VmRSS");
    let start = Instant::now();
    // A port that nothing listens on.
    let replicator = Replicator::builder(&path).remote("http://127.0.0.1:9", "").start().unwrap();
    let ready = start.elapsed();
    let read = Instant::now() + Duration::from_secs(2);
    while Instant::now() < read {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(replicator.status().pending, events as u64);
    println!("  start with {events} unsent events: {:.0} ms", ready.as_secs_f64() * 1e3);
    println!(
        "  memory: {:.1} MiB before the writes, {:.1} MiB after, {:.1} MiB with the replicator, \
         {:.1} MiB at the most",
        before / 1024.0,
        filled / 1024.0,
        memory("VmRSS") / 1024.0,
        memory("VmHWM") / 1024.0
    );
}

/// An idle replica, beside its hub in this process.
fn at_rest(place: &Place) {
    let hub = Served::new(&place.path("rest-hub.db"));
    drop(place.database("rest.db", ""));
    let requests = Arc::new(AtomicU64::new(0));
    let remote = Counting { inner: hub.client(), requests: Arc::clone(&requests) };
    let replicator =
        Replicator::builder(place.path("rest.db")).with_remote(Arc::new(remote)).start().unwrap();
    replicator.sync_now_blocking().unwrap();
    std::thread::sleep(LIVELY);
    let watched = |what: &str| {
        let (asked, used) = (requests.load(Ordering::Relaxed), processor_time());
        std::thread::sleep(WATCHED);
        let (asked, used) = (requests.load(Ordering::Relaxed) - asked, processor_time() - used);
        let seconds = WATCHED.as_secs();
        println!("  {what} for {seconds} s: {asked} requests, {used:.0} ms of processor time");
    };
    watched("a hub and an idle replica");
    drop(replicator);
    watched("the hub alone");
    let remote = Counting { inner: hub.client(), requests: Arc::clone(&requests) };
    let replicator = Replicator::builder(place.path("rest.db"))
        .with_remote(Arc::new(remote))
        .poll_interval(Duration::from_secs(3600))
        .start()
        .unwrap();
    replicator.sync_now_blocking().unwrap();
    std::thread::sleep(LIVELY);
    watched("the same between two polls");
}

/// Writes of an application, one transaction each.
fn write(db: &rusqlite::Connection, row: usize) -> Duration {
    let start = Instant::now();
    let sql = "UPDATE members SET balance_cents = balance_cents + 1 WHERE id = ?1";
    db.prepare_cached(sql).unwrap().execute([format!("own{}", row % 100)]).unwrap();
    start.elapsed()
}

/// Two desks on a hub, on each of which somebody works: the time from a commit on one until it can
/// be read on the other, where two commits are `pause` apart on average.
fn soon(place: &Place, pause: Duration) {
    let name = |desk: usize| format!("soon{desk}-{}.db", pause.as_millis());
    let hub = Served::new(&place.path(&format!("soon-hub-{}.db", pause.as_millis())));
    let requests = Arc::new(AtomicU64::new(0));
    let desks = [0, 1].map(|desk| {
        drop(place.database(&name(desk), ""));
        hub.initialise(&place.path(&name(desk)));
        let remote = Counting { inner: hub.client(), requests: Arc::clone(&requests) };
        Replicator::builder(place.path(&name(desk))).with_remote(Arc::new(remote)).start().unwrap()
    });
    let files = [0, 1].map(|desk| {
        let db = driftless::store::Connection::open(place.path(&name(desk))).unwrap();
        db.busy_timeout(Duration::from_secs(10)).unwrap();
        db
    });
    for desk in &desks {
        desk.sync_now_blocking().unwrap();
    }
    let mut random = fastrand::Rng::with_seed(7);
    let mut times = Vec::new();
    let (asked, start) = (requests.load(Ordering::Relaxed), Instant::now());
    for commit in 0..COMMITS as i64 {
        std::thread::sleep(pause.mul_f64(-(1.0 - random.f64()).ln()));
        let writer = random.usize(..2);
        let sql = "INSERT INTO members (id, name, balance_cents) VALUES (?1, 'Ana', 0)";
        files[writer].execute(sql, [commit]).unwrap();
        let committed = Instant::now();
        let sql = "SELECT count(*) FROM members WHERE id = ?1";
        let mut there = files[1 - writer].prepare(sql).unwrap();
        while there.query_row([commit], |row| row.get::<_, i64>(0)).unwrap() == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        times.push(committed.elapsed());
    }
    let asked = (requests.load(Ordering::Relaxed) - asked) as f64;
    println!(
        "  from a commit to the other desk, a commit each {:.1} s: p50 {:.0} ms, p90 {:.0} ms, max \
         {:.0} ms; {:.1} requests a second and desk",
        pause.as_secs_f64(),
        percentile(&mut times, 50),
        percentile(&mut times, 90),
        percentile(&mut times, 100),
        asked / 2.0 / start.elapsed().as_secs_f64()
    );
}

fn catching_up(place: &Place, events: usize) {
    let hub = Served::new(&place.path("busy-hub.db"));
    for name in ["writer.db", "reader.db"] {
        drop(place.database(name, support::INDEXES));
        hub.initialise(&place.path(name));
    }
    let writer = hub.replicator(&place.path("writer.db"));
    support::fill(&writer.connection().unwrap(), events);
    writer.sync_now_blocking().unwrap();
    drop(writer);

    let db = driftless::store::Connection::open(place.path("reader.db")).unwrap();
    db.busy_timeout(Duration::from_secs(10)).unwrap();
    db.pragma_update(None, "synchronous", "normal").unwrap();
    let sql = "INSERT INTO members (id, name, balance_cents) VALUES (?1, 'Own', 0)";
    for row in 0..100 {
        db.execute(sql, [format!("own{row}")]).unwrap();
    }
    let mut quiet: Vec<_> = (0..QUIET_WRITES)
        .map(|row| {
            std::thread::sleep(PAUSE);
            write(&db, row)
        })
        .collect();
    let reader =
        Replicator::builder(place.path("reader.db")).remote(hub.url.as_str(), "").start().unwrap();
    let start = Instant::now();
    let mut busy = Vec::new();
    // The writer's events come first in the log.
    let cursor = |db: &rusqlite::Connection| -> usize {
        let mut statement = db.prepare_cached("SELECT cursor FROM driftless_state").unwrap();
        statement.query_row([], |row| row.get::<_, i64>(0)).unwrap() as usize
    };
    while cursor(&db) < events {
        std::thread::sleep(PAUSE);
        busy.push(write(&db, busy.len()));
    }
    let took = start.elapsed();
    reader.sync_now_blocking().unwrap();
    assert_eq!(support::count(&db), events + 100);
    for (name, times) in [("no replicator", &mut quiet), ("catching up", &mut busy)] {
        println!(
            "  an application's write, {name}: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms ({} writes)",
            percentile(times, 50),
            percentile(times, 99),
            percentile(times, 100),
            times.len()
        );
    }
    println!("  the catch-up of {events} events took {:.1} s meanwhile", took.as_secs_f64());
}

fn main() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let events = support::events();
    let place = Place::new();
    let asks_for = |part: &str| std::env::args().any(|argument| argument == part);
    let (is_soon, is_catching) = (asks_for("soon"), asks_for("catching"));
    if !is_soon && !is_catching {
        offline(&place, events);
        at_rest(&place);
    }
    if !is_catching {
        for pause in [1_000, 3_000, 8_000] {
            soon(&place, Duration::from_millis(pause));
        }
    }
    if !is_soon {
        catching_up(&place, events);
    }
}
