//! What is known not to arrive as it was, and what becomes of it: see "Not guaranteed" in
//! docs/consistency.md.

use std::sync::Arc;

use driftless::store::Store;
use driftless::value::Value;

use crate::support::desk::Desk;
use crate::support::local_remote::{LocalRemote, rows};

const NUMBERS: &str = "CREATE TABLE numbers (id INTEGER PRIMARY KEY, r REAL, i INTEGER, n NUMERIC,
    t TEXT, any)";

/// The columns of the one row, with a double's bits.
fn bits(rows: &[Vec<Value>]) -> Vec<String> {
    let shown = |value: &Value| match value {
        Value::Real(real) => format!("{:016x}", real.to_bits()),
        other => other.to_string(),
    };
    rows[0].iter().map(shown).collect()
}

/// SQLite keeps the sign of a zero in a column without a type alone, and none of its functions shows
/// it, so that a trigger cannot tell. In all other columns it is gone before anything is captured.
#[test]
fn minus_zero_is_zero() {
    let remote = Arc::new(LocalRemote::new(NUMBERS));
    let mut desk = Desk::with_schema(&remote, 1, NUMBERS);
    let insert = "INSERT INTO numbers VALUES (1, ?1, ?1, ?1, ?1, ?1)";
    desk.db.execute(insert, [-0.0_f64]).unwrap();
    desk.sync().unwrap();
    let all = "SELECT r, i, n, t, any FROM numbers";
    let zero = "0000000000000000";
    assert_eq!(bits(&rows(&desk.db, all).unwrap()), [zero, "0", "0", "0.0", "8000000000000000"]);
    assert_eq!(bits(&remote.rows(all)), [zero, "0", "0", "0.0", zero]);
    // To SQLite they are equal, so nothing is written again.
    desk.sync().unwrap();
    assert_eq!(bits(&rows(&desk.db, all).unwrap())[4], "8000000000000000");
    assert_eq!((desk.status().pending, desk.status().conflicts), (0, 0));
}

/// Such a row arrives. But the remote's capture spells its key otherwise than the pusher, so it does
/// not know the write for the pushed one and logs it again, under a key that no reader takes.
#[test]
fn a_key_that_is_not_utf8_is_logged_twice() {
    const NOTES: &str = "CREATE TABLE notes (id TEXT PRIMARY KEY, words TEXT)";
    let remote = Arc::new(LocalRemote::new(NOTES));
    let desk = |number| Desk::with_schema(&remote, number, NOTES);
    let (mut a, mut b) = (desk(1), desk(2));
    a.write("INSERT INTO notes VALUES (CAST(x'61ff' AS TEXT), 'bad key'), ('b', 'good')");
    a.sync().unwrap();
    b.sync().unwrap();
    b.write("UPDATE notes SET words = 'changed' WHERE id <> 'b'");
    b.sync().unwrap();
    a.sync().unwrap();
    let all = "SELECT hex(id), words FROM notes ORDER BY id";
    assert_eq!(a.read(all), "61FF|changed\n62|good");
    assert_eq!((remote.read(all), b.read(all)), (a.read(all), a.read(all)));
    a.write("DELETE FROM notes WHERE id <> 'b'");
    a.sync().unwrap();
    b.sync().unwrap();
    assert_eq!((remote.read(all).as_str(), b.read(all).as_str()), ("62|good", "62|good"));
    let waiting = Store::open(b.path()).unwrap().quarantine().unwrap();
    assert_eq!(waiting.len(), 3, "each change a second time: {waiting:?}");
    assert!(waiting.iter().all(|event| event.reason.contains("a key that is none")));
}
