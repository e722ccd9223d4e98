//! Questions to the log of a million events: a row's history, two points compared, a query over the
//! past, a copy of it.
//!
//! ```text
//! cargo bench --bench inspect
//! DRIFTLESS_BENCH_EVENTS=100000 cargo bench --bench inspect
//! ```
//!
//! A tenth of the events insert members, the others change one of two columns of a random member.
//! A thousand events come an hour. The questions are asked by a process of its own, so that its
//! peak of memory is theirs alone. Each time is the median of the rounds, on the clock.

#![allow(clippy::disallowed_methods, clippy::print_stdout, missing_docs)]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use driftless::event::conflict::ConflictRule;
use driftless::event::page::Page;
use driftless::event::{ReplicaId, RowKey, Seq};
use driftless::inspect::{Point, Replica};
use driftless::store::{Outcome, Setup, Store};
use rusqlite::Connection;
use support::Place;
use ulid::Ulid;

const PAGE: usize = 20_000;
const PER_HOUR: i64 = 1_000;
const BEGIN_MS: i64 = 1_700_000_000_000;
/// Changes between the past that is asked and now.
const SINCE: i64 = 10_000;

const SCHEMA: &str = "CREATE TABLE members (id TEXT PRIMARY KEY, name TEXT NOT NULL, email TEXT,
    phone TEXT, plan TEXT, joined_at INTEGER, balance_cents INTEGER, notes TEXT, active INTEGER,
    updated_at INTEGER);
  CREATE INDEX members_email ON members (email);
  CREATE INDEX members_joined ON members (joined_at);";

/// What an event's line needs to know of the rows so far.
struct Rows {
    balance: Vec<i64>,
    random: fastrand::Rng,
}

fn line(seq: i64, members: usize, rows: &mut Rows) -> String {
    let id = Ulid::from_parts((BEGIN_MS + seq) as u64, seq as u128);
    let received = BEGIN_MS + seq * 3_600_000 / PER_HOUR;
    let member = rows.balance.len();
    if member < members {
        rows.balance.push(0);
        let key = support::id(member);
        return format!(
            r#"[{seq},"{id}","web","maria",null,"members",["{key}"],"insert",null,{{"id":"{key}","name":"Maria Fernanda Oliveira","email":"member{member}@example.com","phone":"+55 11 91234-5678","plan":"monthly-unlimited","joined_at":{received},"balance_cents":0,"notes":"Prefers mornings; trains for the half marathon in May.","active":1,"updated_at":0}},0,null,null,null,"applied",null,{received}]"#
        );
    }
    let member = rows.random.usize(0..members);
    let (key, old) = (support::id(member), rows.balance[member]);
    rows.balance[member] = seq;
    format!(
        r#"[{seq},"{id}","web",null,null,"members",["{key}"],"update",{{"balance_cents":{old},"updated_at":{old}}},{{"balance_cents":{seq},"updated_at":{seq}}},0,null,null,null,"applied",null,{received}]"#
    )
}

/// A replica whose log has so many events.
fn replica(path: &Path, events: usize) {
    let db = Connection::open(path).unwrap();
    db.execute_batch(SCHEMA).unwrap();
    drop(db);
    let tables = vec![("members".to_owned(), ConflictRule::Row)];
    let setup = Setup { url: "bench".to_owned(), tables, epoch: None };
    let mut store = Store::init(path, &setup, ReplicaId(Ulid(1))).unwrap();
    let mut rows = Rows { balance: Vec::new(), random: fastrand::Rng::with_seed(3) };
    let all: Vec<i64> = (1..=events as i64).collect();
    for seqs in all.chunks(PAGE) {
        let lines: Vec<_> = seqs.iter().map(|&seq| line(seq, events / 10, &mut rows)).collect();
        let page = Page {
            bytes: lines.join("\n").into_bytes(),
            last: Seq(seqs[seqs.len() - 1]),
            count: seqs.len(),
            more: true,
        };
        assert!(matches!(store.integrate(&page, None, 0).unwrap(), Outcome::Done(_)));
    }
}

/// The median of the times that a question takes.
fn median(mut ask: impl FnMut(u64) -> Duration) -> Duration {
    let mut times: Vec<_> = (0..9).map(&mut ask).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn told(what: &str, time: Duration) {
    println!("{what:50} {:>10.2} ms", time.as_secs_f64() * 1_000.0);
}

/// The peak of this process's memory, in MiB; zero where the system does not say.
fn peak_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
}

fn ask(path: &Path) {
    let replica = Replica::open(path).unwrap();
    let head = replica.log_range().unwrap().end.0;
    let members = (head / 10) as usize;
    let key = |round: u64| {
        let mut random = fastrand::Rng::with_seed(round);
        RowKey(format!("[\"{}\"]", support::id(random.usize(0..members))))
    };
    let first = timed(|| drop(replica.history("members", &key(99), &mut |_| {}).unwrap()));
    told("the first question, which indexes the log", first);
    told(
        "history of a row",
        median(|round| {
            timed(|| drop(replica.history("members", &key(round), &mut |_| {}).unwrap()))
        }),
    );
    told(
        "blame of a row",
        median(|round| timed(|| drop(replica.blame("members", &key(round), &mut |_| {}).unwrap()))),
    );
    let hour = (Point::Seq(Seq(head / 2)), Point::Seq(Seq(head / 2 + PER_HOUR)));
    let diff = |key: Option<&RowKey>| {
        let mut rows = 0;
        let mut visit = |_| {
            rows += 1;
            Ok(())
        };
        replica.diff(hour.0, hour.1, Some("members"), key, &mut |_| {}, &mut visit).unwrap();
        rows
    };
    told(
        "diff of one row, an hour apart",
        median(|round| timed(|| assert!(diff(Some(&key(round))) < 2))),
    );
    told("diff of all rows, an hour apart", median(|_| timed(|| assert!(diff(None) > 500))));
    told(
        "sql --as-of, 10,000 changes since, first row",
        median(|_| {
            timed(|| {
                let past = replica.as_of(Point::Seq(Seq(head - SINCE)), &mut |_| {}).unwrap();
                let sql = "SELECT * FROM members LIMIT 1";
                past.query(sql, &mut |_| Ok(()), &mut |_| Ok(())).unwrap();
            })
        }),
    );
    let past = replica.as_of(Point::Seq(Seq(head - SINCE)), &mut |_| {}).unwrap();
    told(
        "then one row by its key",
        median(|round| {
            let sql =
                format!("SELECT * FROM members WHERE id = '{}'", support::id(round as usize * 7));
            timed(|| past.query(&sql, &mut |_| Ok(()), &mut |_| Ok(())).unwrap())
        }),
    );
    drop(past);
    for (name, at) in [("now", head), ("the middle of the log", head / 2)] {
        let target = path.with_file_name(format!("copy-{at}.db"));
        let time = timed(|| {
            let point = Point::Seq(Seq(at));
            drop(replica.replay_into(point, &target, &mut |_| {}, &mut |_| {}).unwrap());
        });
        let rate = at as f64 / time.as_secs_f64();
        told(&format!("replay into a file, up to {name}"), time);
        println!("{:50} {rate:>10.0} events/s", "");
    }
    let size = Connection::open(path).unwrap();
    let sql = "SELECT sum(pgsize) >> 10 FROM dbstat WHERE name = 'driftless_log_rows'";
    if let Ok(kib) = size.query_row(sql, [], |row| row.get::<_, i64>(0)) {
        println!("{:50} {kib:>10} KiB", "the index by row");
    }
    println!("{:50} {:>10} MiB", "peak of memory", peak_mib());
}

fn main() {
    let file = std::env::args().skip_while(|one| one != "ask").nth(1);
    if let Some(file) = file {
        return ask(Path::new(&file));
    }
    let events = match std::env::var("DRIFTLESS_BENCH_EVENTS") {
        Ok(_) => support::events(),
        Err(_) => 1_000_000,
    };
    let place = Place::new();
    let path = place.path("desk.db");
    let made = timed(|| replica(&path, events));
    println!("{events} events, integrated in {:.1} s", made.as_secs_f64());
    let program = std::env::current_exe().unwrap();
    let asked = Command::new(program).arg("ask").arg(&path).status().unwrap();
    assert!(asked.success());
}
