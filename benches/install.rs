//! Install: a first sync of a database with many tables, with a hub on loopback.
//!
//! ```text
//! cargo bench --bench install
//! ```
//!
//! Prints the seconds of the first `init`, which installs; of the push of a row of each table; and
//! of the `init` of a second replica, which installs nothing. `DRIFTLESS_BENCH_TABLES` is the
//! number of tables, 150 unless it is set; each has fourteen columns, and refers to the one before
//! it. The hub runs in this process, on two cores with everything else.

#![allow(clippy::disallowed_methods, clippy::print_stdout, missing_docs)]

mod support;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use driftless::remote::Remote as _;
use driftless::store::Store;
use driftless::sync::{Plan, Tables, drain, initialise};
use rusqlite::Connection;
use support::{Place, Served};

const COLUMNS: usize = 14;

fn tables(count: usize) -> String {
    let mut sql = String::new();
    for table in 0..count {
        let parent = match table {
            0 => String::new(),
            _ => format!(" REFERENCES application_table_{} (id)", table - 1),
        };
        let _ = write!(
            sql,
            "CREATE TABLE application_table_{table} (id INTEGER PRIMARY KEY, parent INTEGER{parent}"
        );
        for column in 2..COLUMNS {
            let _ = write!(sql, ", column_{column} {}", ["TEXT", "INTEGER", "REAL"][column % 3]);
        }
        sql.push_str(");");
    }
    sql
}

fn main() {
    let count = std::env::var("DRIFTLESS_BENCH_TABLES").map_or(150, |text| text.parse().unwrap());
    for _ in 0..support::rounds() {
        let place = Place::new();
        let hub = Served::new(&place.path("hub.db"));
        let plan = |name: &str| Plan {
            path: place.path(name),
            url: hub.client().url(),
            tables: Tables::All,
            rules: Vec::new(),
            prefer: Default::default(),
            replica: driftless::event::ReplicaId(ulid::Ulid::from_parts(0, fastrand::u128(..))),
            epoch: ulid::Ulid::from_parts(0, fastrand::u128(..)),
            on_connect: Default::default(),
        };
        let db = Connection::open(place.path("first.db")).unwrap();
        db.execute_batch(&tables(count)).unwrap();
        let start = Instant::now();
        let (store, report) =
            initialise(plan("first.db"), Arc::new(hub.client()), &mut |_| {}).unwrap();
        let first = start.elapsed().as_secs_f64();
        assert_eq!(report.made_there.len(), count);
        drop(store);
        for table in 0..count {
            let sql = format!("INSERT INTO application_table_{table} (column_2) VALUES ('x')");
            db.execute_batch(&sql).unwrap();
        }
        let start = Instant::now();
        let store = Store::open(&place.path("first.db")).unwrap();
        let summary = drain(store, Arc::new(hub.client()), &mut |_| {}).unwrap();
        let push = start.elapsed().as_secs_f64();
        assert_eq!(summary.applied, count as u64);
        let start = Instant::now();
        let (_, report) =
            initialise(plan("second.db"), Arc::new(hub.client()), &mut |_| {}).unwrap();
        let second = start.elapsed().as_secs_f64();
        assert!(!report.installed && report.made_here.len() == count);
        println!(
            "{count} tables: init {first:.1} s, a row of each pushed in {push:.2} s, \
             a second init {second:.1} s"
        );
    }
}
