//! A double's spelling is the same in SQL, on two versions of SQLite, and in Rust.

use std::io::Write as _;
use std::process::{Command, Stdio};

use driftless::event::value::Value;
use rusqlite::Connection;

use crate::capture::desk::Desk;
use crate::capture::fold::read_outbox;
use crate::support::tools::{Tool, require};

/// How many doubles of random bits are spelled.
const DOUBLES: usize = 5_000;

/// Random bits, and doubles near those where the spelling changes.
fn doubles() -> Vec<f64> {
    let mut random = fastrand::Rng::with_seed(11);
    let mut doubles: Vec<_> = (0..DOUBLES).map(|_| f64::from_bits(random.u64(..))).collect();
    doubles.extend((0..DOUBLES / 5).map(|_| random.i32(..) as f64 / 100.0));
    doubles.extend((0..DOUBLES / 5).map(|_| random.i64(-(1 << 54)..1 << 54) as f64));
    doubles.extend((-1074..=1023).map(|exponent| 2.0_f64.powi(exponent)));
    for edge in
        [f64::MAX, f64::MIN_POSITIVE, 9_007_199_254_740_992.0, 1.0, 9.223_372_036_854_776e18]
    {
        let bits = edge.to_bits();
        doubles.extend([bits - 1, bits, bits + 1].map(f64::from_bits));
    }
    doubles.extend([f64::INFINITY, 5e-324, 0.1, 1e22, 1e23]);
    let negative: Vec<_> = doubles.iter().map(|double| -double).collect();
    doubles.extend(negative);
    // NaN is NULL, and SQL does not know -0.0.
    doubles.retain(|double| !double.is_nan() && double.to_bits() != (-0.0_f64).to_bits());
    doubles
}

fn desk(db: Connection) -> Desk {
    db.execute_batch("CREATE TABLE reals (id INTEGER PRIMARY KEY, x REAL)").unwrap();
    let mut desk = Desk::new(db);
    desk.capture(&["reals"]).unwrap();
    desk
}

fn compare(db: &Connection, doubles: &[f64]) {
    let changes = read_outbox(db, 0);
    assert_eq!(changes.len(), doubles.len());
    for (change, double) in changes.iter().zip(doubles) {
        let after = change.after.as_ref().unwrap();
        assert_eq!(after.get("x"), Some(&Value::Real(*double)), "{double:?}");
    }
}

#[test]
fn here() {
    let doubles = doubles();
    let desk = desk(Connection::open_in_memory().unwrap());
    desk.db.execute_batch("BEGIN").unwrap();
    let mut insert = desk.db.prepare("INSERT INTO reals (x) VALUES (?1)").unwrap();
    for double in &doubles {
        insert.execute([double]).unwrap();
    }
    compare(&desk.db, &doubles);
}

#[test]
fn in_python() {
    let Some(program) = require(Tool::Python3) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reals.db");
    let desk = desk(Connection::open(&path).unwrap());
    let doubles = doubles();
    let script = "import sqlite3, struct, sys\n\
                  db = sqlite3.connect(sys.argv[1])\n\
                  doubles = struct.iter_unpack('<d', sys.stdin.buffer.read())\n\
                  db.executemany('INSERT INTO reals (x) VALUES (?)', doubles)\n\
                  db.commit()\n";
    let mut child = Command::new(program)
        .args(["-c", script])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let bytes: Vec<_> = doubles.iter().flat_map(|double| double.to_le_bytes()).collect();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(child.wait().unwrap().success());
    compare(&desk.db, &doubles);
}
