//! The order of keys is SQLite's own.

use driftless::catalog::Table;
use driftless::event::value::{Value, ValueRef};
use driftless::protocol::compare::KeyOrder;
use rusqlite::Connection;

/// Values of each kind, with neighbours that an inexact order confuses.
fn values() -> Vec<Value> {
    let texts = ["", " ", "a", "A", "a ", "b", "B", "aa", "é", "\u{ffff}", "\u{10000}"];
    let mut values: Vec<_> = texts.into_iter().map(Value::from).collect();
    values.extend([b"a\0b".as_slice(), b"A\0c", b"a\0"].map(|text| Value::Text(text.to_vec())));
    let integers = [0, 1, -1, i64::MAX, i64::MIN, 1 << 53, (1 << 53) + 1];
    values.extend(integers.map(Value::Integer));
    let reals = [0.5, -0.5, 1.0, 9.3e18, -9.3e18, 9_007_199_254_740_992.0, f64::INFINITY];
    values.extend(reals.map(Value::Real));
    values.extend([vec![], vec![0], vec![255], b"a".to_vec()].map(Value::Blob));
    values
}

#[test]
fn keys_are_compared_as_sqlite_compares_them() {
    let db = Connection::open_in_memory().unwrap();
    for collation in ["BINARY", "NOCASE", "RTRIM"] {
        db.execute_batch(&format!(
            "DROP TABLE IF EXISTS t; CREATE TABLE t (k COLLATE {collation} PRIMARY KEY)"
        ))
        .unwrap();
        let order = KeyOrder::of(&Table::read(&db, "t").unwrap());
        let sql = format!("SELECT (?1 > ?2 COLLATE {collation}) - (?1 < ?2 COLLATE {collation})");
        let mut ask = db.prepare(&sql).unwrap();
        for a in values() {
            for b in values() {
                let pair = [ValueRef::from(&a), ValueRef::from(&b)];
                let theirs: i64 = ask.query_row(pair, |row| row.get(0)).unwrap();
                let ours = order.compare(std::slice::from_ref(&a), std::slice::from_ref(&b)) as i64;
                assert_eq!(ours, theirs, "{a:?} and {b:?}, {collation}");
            }
        }
    }
}
