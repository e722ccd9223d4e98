//! Pages of the remote log against the local database: decoded, applied to indexed tables, sealed
//! into the local log.
//!
//! ```text
//! cargo bench --bench integrate
//! cargo bench --bench integrate -- rising
//! cargo bench --bench integrate -- held
//! ```
//!
//! Two tables: the gym's members, with a rising key and two indexes, and one with random keys,
//! which touches pages all over its tree. Each has its plain SQLite twin in the same round: the
//! same rows, by prepared statements, in transactions of the same size. Prints the time on the
//! clock, and the processor's for the thread that writes, which is steadier on a machine that
//! others use too. Another thread reads the values and seals the frames meanwhile.
//!
//! `held` measures for how long one transaction of the size that a puller integrates whole (20,000
//! events) keeps other writers out: another connection asks for the write lock again and again.

#![allow(clippy::disallowed_methods, clippy::print_stdout, missing_docs)]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use driftless::event::conflict::ConflictRule;
use driftless::event::page::Page;
use driftless::event::{ReplicaId, Seq};
use driftless::store::{Outcome, Setup, Store};
use rusqlite::Connection;
use support::Place;
use ulid::Ulid;

const PAGE: usize = 5_000;

/// The most events that a puller integrates in one transaction for their unit's sake: `MAX_UNIT`.
const UNIT: usize = 20_000;

/// Between two units, so that the other writer sees the lock free.
const PAUSE: Duration = Duration::from_millis(50);

/// What one case has: its table, with indexes, a row's JSON image, and the plain insert of it.
struct Case {
    name: &'static str,
    table: &'static str,
    schema: &'static str,
    insert: &'static str,
    key: fn(usize) -> String,
}

const MEMBERS: Case = Case {
    name: "members, rising key",
    table: "members",
    schema: r#"CREATE TABLE members (id TEXT PRIMARY KEY, name TEXT NOT NULL, email TEXT,
        phone TEXT, "plan" TEXT, joined_at INTEGER, balance_cents INTEGER, notes TEXT,
        active INTEGER, updated_at INTEGER);
        CREATE INDEX members_email ON members (email);
        CREATE INDEX members_joined ON members (joined_at);"#,
    insert: "INSERT INTO members VALUES (?1, 'Maria Fernanda Oliveira', ?2, '+55 11 91234-5678',
        'monthly-unlimited', ?3, 8990, 'Prefers mornings; trains for the half marathon in May.',
        1, ?3)",
    key: support::id,
};

const SCATTERED: Case = Case {
    name: "members without rowid, random key",
    schema: r#"CREATE TABLE members (id TEXT PRIMARY KEY, name TEXT NOT NULL, email TEXT,
        phone TEXT, "plan" TEXT, joined_at INTEGER, balance_cents INTEGER, notes TEXT,
        active INTEGER, updated_at INTEGER) WITHOUT ROWID;
        CREATE INDEX members_email ON members (email);
        CREATE INDEX members_joined ON members (joined_at);"#,
    key: |row| {
        let mut random = fastrand::Rng::with_seed(row as u64);
        Ulid(random.u128(..) >> 1).to_string()
    },
    ..MEMBERS
};

fn email(row: usize) -> String {
    format!("member{row}@example.com")
}

fn joined(row: usize) -> i64 {
    1_700_000_000_000 + row as i64
}

impl Case {
    fn pages(&self, events: usize) -> Vec<Page> {
        self.pages_of(events, PAGE, "Prefers mornings; trains for the half marathon in May.")
    }

    /// So many inserts in pages of `size`, with these notes in each row.
    fn pages_of(&self, events: usize, size: usize, notes: &str) -> Vec<Page> {
        let mut random = fastrand::Rng::with_seed(2);
        let origin = Ulid(7);
        let rows: Vec<_> = (0..events).collect();
        let pages = rows.chunks(size).map(|rows| {
            let mut page = Page { more: true, ..Page::default() };
            let unit = Ulid(random.u128(..) >> 1);
            for &row in rows {
                if page.count > 0 {
                    page.bytes.push(b'\n');
                }
                let seq = row + 1;
                let id = Ulid(random.u128(..) >> 1);
                let (key, at) = ((self.key)(row), joined(row));
                let line = format!(
                    r#"[{seq},"{id}","{origin}","maria","{unit}","{}",["{key}"],"insert",null,{{"id":"{key}","name":"Maria Fernanda Oliveira","email":"{}","phone":"+55 11 91234-5678","plan":"monthly-unlimited","joined_at":{at},"balance_cents":8990,"notes":"{notes}","active":1,"updated_at":{at}}},0,null,null,null,"applied",null,1700000000000]"#,
                    self.table,
                    email(row)
                );
                page.bytes.extend_from_slice(line.as_bytes());
                page.count += 1;
                page.last = Seq(seq as i64);
            }
            page
        });
        pages.collect()
    }

    /// Plain SQLite, set up as the replica's own connection is.
    fn plain(&self, place: &Place, events: usize) -> Spent {
        let db = Connection::open(place.path("plain.db")).unwrap();
        db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL").unwrap();
        db.execute_batch("PRAGMA cache_size = -16384").unwrap();
        db.execute_batch(self.schema).unwrap();
        let rows: Vec<_> = (0..events).map(|row| ((self.key)(row), email(row))).collect();
        let start = Spent::now();
        for (page, rows) in rows.chunks(PAGE).enumerate() {
            let tx = db.unchecked_transaction().unwrap();
            let mut insert = tx.prepare_cached(self.insert).unwrap();
            for (row, (key, email)) in rows.iter().enumerate() {
                insert.execute((key, email, joined(page * PAGE + row))).unwrap();
            }
            drop(insert);
            tx.commit().unwrap();
        }
        start.until_now()
    }

    fn replica(&self, place: &Place) -> Store {
        let path = place.path("desk.db");
        Connection::open(&path).unwrap().execute_batch(self.schema).unwrap();
        let tables = vec![(self.table.to_owned(), ConflictRule::Row)];
        let setup = Setup { url: "bench".to_owned(), tables, epoch: None };
        Store::init(&path, &setup, ReplicaId(Ulid(1))).unwrap()
    }

    /// For how long the transaction of each page keeps another writer out, and what it takes of
    /// this thread's processor.
    fn held(&self, place: &Place, pages: &[Page]) -> Vec<(Duration, Duration)> {
        let mut store = self.replica(place);
        let held = pages.iter().map(|page| {
            std::thread::sleep(PAUSE);
            let (done, start) = (AtomicBool::new(false), Spent::now());
            std::thread::scope(|scope| {
                let other = scope.spawn(|| longest_refusal(&place.path("desk.db"), &done));
                let outcome = store.integrate(page, None, 0).unwrap();
                assert!(matches!(outcome, Outcome::Done(_)));
                let spent = start.until_now();
                done.store(true, Ordering::Relaxed);
                (other.join().unwrap(), spent.processor)
            })
        });
        held.collect()
    }

    fn integrated(&self, place: &Place, pages: &[Page]) -> Spent {
        let mut store = self.replica(place);
        let start = Spent::now();
        for page in pages {
            let done = store.integrate(page, None, 0).unwrap();
            assert!(matches!(done, Outcome::Done(_)));
        }
        start.until_now()
    }
}

/// The longest time for which the write lock was refused without a break, until it is `done`.
fn longest_refusal(path: &std::path::Path, done: &AtomicBool) -> Duration {
    let db = Connection::open(path).unwrap();
    db.busy_timeout(Duration::ZERO).unwrap();
    let (mut longest, mut since) = (Duration::ZERO, None);
    while !done.load(Ordering::Relaxed) || since.is_some() {
        match db.execute_batch("BEGIN IMMEDIATE; ROLLBACK") {
            Ok(()) => {
                longest =
                    longest.max(since.take().map_or(Duration::ZERO, |it: Instant| it.elapsed()));
            }
            Err(_) => {
                since.get_or_insert_with(Instant::now);
            }
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    longest
}

/// Units of as many events as are integrated whole: of rows as they are here, and of larger ones,
/// which make more bytes than go into one (21.6 MB instead of 16 MiB).
fn report_held() {
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        (times[times.len() / 2], times[times.len() - 1])
    };
    for case in [MEMBERS, SCATTERED] {
        for (rows, notes) in
            [("rows of 230 bytes", 54), ("rows of 800 bytes, more than goes into one", 620)]
        {
            let pages = case.pages_of(UNIT * support::rounds(), UNIT, &"x".repeat(notes));
            let held = case.held(&Place::new(), &pages);
            let (refused, worst) = median(held.iter().map(|(refused, _)| *refused).collect());
            let (processor, most) = median(held.iter().map(|(_, spent)| *spent).collect());
            println!(
                "{}, {rows}, {} units of {UNIT}: the lock was refused for {} ms, at most {} ms; \
                 {} ms of the processor, at most {} ms",
                case.name,
                pages.len(),
                refused.as_millis(),
                worst.as_millis(),
                processor.as_millis(),
                most.as_millis(),
            );
        }
    }
}

/// Time on the clock, and of the processor for this thread.
#[derive(Clone, Copy)]
struct Spent {
    start: Instant,
    clock: Duration,
    processor: Duration,
}

impl Spent {
    fn now() -> Self {
        Spent { start: Instant::now(), clock: Duration::ZERO, processor: processor() }
    }

    fn until_now(self) -> Self {
        let (clock, processor) = (self.start.elapsed(), processor() - self.processor);
        Spent { clock, processor, ..self }
    }
}

/// What this thread has had of the processor; zero where the system does not say.
fn processor() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = text.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0);
    Duration::from_nanos(ns)
}

fn main() {
    if std::env::args().any(|argument| argument == "held") {
        report_held();
        return;
    }
    let events = support::events();
    println!("{events} events in pages of {PAGE}, {} rounds", support::rounds());
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    for case in [MEMBERS, SCATTERED] {
        if wanted.as_ref().is_some_and(|wanted| !case.name.contains(wanted)) {
            continue;
        }
        let pages = case.pages(events);
        let (mut plain, mut integrated) = (vec![], vec![]);
        for _ in 0..support::rounds() {
            let place = Place::new();
            plain.push(case.plain(&place, events));
            integrated.push(case.integrated(&place, &pages));
        }
        let by = |spent: &[Spent], time: fn(&Spent) -> Duration| -> Vec<Duration> {
            spent.iter().map(time).collect()
        };
        println!("{}", case.name);
        for (name, time) in [
            ("on the clock", (|spent| spent.clock) as fn(&Spent) -> Duration),
            ("of the processor", |spent| spent.processor),
        ] {
            let (plain, integrated) = (by(&plain, time), by(&integrated, time));
            support::report(&format!("plain SQLite, {name}"), events, &plain, None);
            support::report(&format!("integrated, {name}"), events, &integrated, Some(&plain));
        }
    }
}
