//! The cost of capture: the same local writes with and without the triggers, in turn.
//!
//! ```text
//! cargo bench --bench capture
//! ```
//!
//! Prints, for each kind of write, the median over the rounds of the time with capture divided by
//! the time without it in the same round. The machine's speed drifts; a ratio within one round does
//! not.

#![allow(clippy::disallowed_methods, clippy::print_stdout, missing_docs)]

use std::time::{Duration, Instant};

use driftless::capture;
use driftless::capture::{Layout, names_table};
use driftless::catalog::Table;
use rusqlite::Connection;

/// Rows of one measured stretch.
const ROWS: usize = 20_000;
/// Rows of a transaction.
const PER_TRANSACTION: usize = 1_000;
/// Rows written one by one.
const SINGLE: usize = 5_000;
/// How often everything is measured.
const ROUNDS: usize = 5;

const SCHEMA: &str = "CREATE TABLE members (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, email TEXT, phone TEXT, plan TEXT,
    joined_at INTEGER, balance_cents INTEGER, notes TEXT, active INTEGER, updated_at INTEGER)";

fn database(captured: bool, unique: bool) -> (tempfile::TempDir, Connection) {
    let folder = tempfile::tempdir().unwrap();
    let db = Connection::open(folder.path().join("bench.db")).unwrap();
    db.pragma_update(None, "journal_mode", "wal").unwrap();
    db.pragma_update(None, "synchronous", "normal").unwrap();
    db.execute_batch(SCHEMA).unwrap();
    if unique {
        db.execute_batch("CREATE UNIQUE INDEX members_email ON members (email)").unwrap();
    }
    if captured {
        db.execute_batch(include_str!("../schema/replica/tables.sql")).unwrap();
        db.execute_batch(include_str!("../schema/pow2.sql")).unwrap();
        db.execute_batch("INSERT INTO driftless_state (one, chain) VALUES (1, x'')").unwrap();
        let table = Table::read(&db, "members").unwrap();
        for statement in names_table(&[&table]) {
            db.execute_batch(&statement).unwrap();
        }
        for statement in Layout::of(&table, &[&table]).statements(&db).unwrap() {
            db.execute_batch(&statement).unwrap();
        }
        for trigger in capture::triggers(&table, &[&table]) {
            db.execute_batch(&trigger.sql).unwrap();
        }
    }
    (folder, db)
}

fn id(row: usize) -> String {
    format!("01JD8ZK3V5{:016}", row * 7919 % 1_000_003)
}

fn insert(db: &Connection, rows: std::ops::Range<usize>) {
    let mut statement = db
        .prepare_cached("INSERT INTO members VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")
        .unwrap();
    for row in rows {
        statement
            .execute(rusqlite::params![
                id(row),
                "Maria Fernanda Oliveira",
                format!("member{row}@example.com"),
                "+55 11 91234-5678",
                "monthly-unlimited",
                1_700_000_000_000_i64 + row as i64,
                8_990,
                "Prefers mornings; trains for the half marathon in May with the Tuesday group.",
                1,
                1_700_000_000_000_i64,
            ])
            .unwrap();
    }
}

fn chunks(db: &Connection, mut work: impl FnMut(std::ops::Range<usize>)) -> Duration {
    let start = Instant::now();
    for chunk in 0..ROWS / PER_TRANSACTION {
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        work(chunk * PER_TRANSACTION..(chunk + 1) * PER_TRANSACTION);
        db.execute_batch("COMMIT").unwrap();
    }
    start.elapsed()
}

/// The times of each kind of write on a fresh database.
fn round(captured: bool, unique: bool) -> [Duration; 5] {
    let (_folder, db) = database(captured, unique);
    let inserts = chunks(&db, |rows| insert(&db, rows));
    let updates = chunks(&db, |rows| {
        let mut update =
            db.prepare_cached("UPDATE members SET balance_cents = ?2 WHERE id = ?1").unwrap();
        for row in rows {
            update.execute(rusqlite::params![id(row), row as i64]).unwrap();
        }
    });
    let deletes = chunks(&db, |rows| {
        let mut delete = db.prepare_cached("DELETE FROM members WHERE id = ?1").unwrap();
        for row in rows {
            delete.execute([id(row)]).unwrap();
        }
    });
    let start = Instant::now();
    for row in 0..SINGLE {
        insert(&db, row..row + 1);
    }
    let singles = start.elapsed();
    chunks(&db, |rows| insert(&db, rows.start.max(SINGLE)..rows.end.max(SINGLE)));
    // The last: each leaves a note, which the store would sweep away.
    let upserts = chunks(&db, |rows| {
        let mut upsert = db
            .prepare_cached(
                "INSERT INTO members (id, name) VALUES (?1, 'x')
                 ON CONFLICT (id) DO UPDATE SET active = active + 1",
            )
            .unwrap();
        for row in rows {
            upsert.execute([id(row)]).unwrap();
        }
    });
    [inserts, updates, upserts, deletes, singles]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let names = [
        "insert, transactions of 1,000",
        "update of one column, transactions of 1,000",
        "upsert that updates, transactions of 1,000",
        "delete, transactions of 1,000",
        "insert, autocommit",
    ];
    for unique in [false, true] {
        println!("{}", if unique { "\nwith a UNIQUE index" } else { "primary key alone" });
        let rounds: Vec<_> =
            (0..ROUNDS).map(|_| (round(false, unique), round(true, unique))).collect();
        for (kind, name) in names.iter().enumerate() {
            let count = if kind == 4 { SINGLE } else { ROWS } as f64;
            let plain = median(rounds.iter().map(|(p, _)| count / p[kind].as_secs_f64()).collect());
            let ratio = median(
                rounds.iter().map(|(p, c)| c[kind].as_secs_f64() / p[kind].as_secs_f64()).collect(),
            );
            println!("  {name:<46} plain {plain:>9.0}/s   with capture × {ratio:.2}");
        }
    }
}
