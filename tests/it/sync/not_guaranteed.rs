//! What is known not to arrive as it was, and what becomes of it: see "Not guaranteed" in
//! docs/consistency.md.

use std::sync::Arc;

use driftless::error::Kind;
use driftless::event::Op;
use driftless::event::value::Value;
use driftless::store::{NewKey, Store};
use rusqlite::Connection;

use crate::support::blocking::initialise;
use crate::support::desk::{Desk, plan};
use crate::support::inbox::Inbox as _;
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

const NOTES: &str = "CREATE TABLE notes (id TEXT PRIMARY KEY, words TEXT)";

/// The remote's own capture could not spell such a key, so no change of such a row goes there: it is
/// recorded as rejected, once, and waits in the conflict inbox, from where another key saves it.
#[test]
fn a_key_that_is_not_utf8_is_rejected() {
    let remote = Arc::new(LocalRemote::new(NOTES));
    let desk = |number| Desk::with_schema(&remote, number, NOTES);
    let (mut a, mut b) = (desk(1), desk(2));
    a.write(
        "INSERT INTO notes VALUES (CAST(x'61ff' AS TEXT), 'bad key'), ('b', 'good'), ('c', '')",
    );
    a.write("UPDATE notes SET id = CAST(x'ff' AS TEXT), words = 'moved' WHERE id = 'c'");
    a.sync().unwrap();
    b.sync().unwrap();
    let all = "SELECT hex(id), words FROM notes ORDER BY id";
    assert_eq!(a.read(all), "62|good\n63|");
    assert_eq!((remote.read(all), b.read(all)), (a.read(all), a.read(all)));
    let log = "SELECT pk, op, verdict, reason FROM driftless_events WHERE verdict <> 'applied'";
    let refused = "rejected|key is not UTF-8";
    assert_eq!(
        remote.read(log),
        format!(
            "[{{\"t\":\"61FF\"}}]|insert|{refused}\n[\"c\"]|delete|{refused}\n\
             [{{\"t\":\"FF\"}}]|insert|{refused}"
        )
    );
    let mut store = Store::open(a.path()).unwrap();
    let lost = store.conflicts(false).unwrap();
    assert_eq!(lost.len(), 2, "{lost:?}");
    let insert = lost.iter().find(|lost| lost.event.op == Op::Insert).unwrap().event.id;
    let key = NewKey::Values(vec![Value::Text(b"a".to_vec())]);
    store.restore(insert, Some(key)).unwrap();
    a.sync().unwrap();
    b.sync().unwrap();
    assert_eq!(b.read(all), "61|bad key\n62|good\n63|");
    assert!(Store::open(b.path()).unwrap().quarantine().unwrap().is_empty());
}

/// What the web writes to such a row reaches nobody, and everybody is told where to look. The row can
/// be given another key there, and is then everybody's.
#[test]
fn a_key_of_the_webs_that_is_not_utf8_is_told() {
    let remote = Arc::new(LocalRemote::new(NOTES));
    let mut desk = Desk::with_schema(&remote, 1, NOTES);
    remote.web(
        "INSERT INTO notes VALUES (CAST(x'61ff' AS TEXT), 'bad key'), ('b', 'good');
         UPDATE notes SET words = 'worse' WHERE words = 'bad key'",
    );
    desk.sync().unwrap();
    let told = || {
        let waiting = Store::open(desk.path()).unwrap().quarantine().unwrap();
        waiting.into_iter().map(|event| format!("{} {}: {}", event.seq, event.table, event.reason))
    };
    let why = "names its row of table `notes` by text that is not UTF-8";
    let expected = [1, 3].map(|seq| format!("{seq} notes: malformed: event {seq} {why}"));
    assert!(told().eq(expected), "{:?}", told().collect::<Vec<_>>());
    remote.web("UPDATE notes SET id = 'a' WHERE hex(id) = '61FF'");
    desk.sync().unwrap();
    let all = "SELECT id, words FROM notes ORDER BY id";
    assert_eq!(desk.read(all), "a|worse\nb|good");
    assert_eq!(remote.read(all), desk.read(all));
}

/// No replica takes a key that is larger than 64 KiB. A change of such a row is recorded as rejected,
/// and is settled: it does not keep a sync waiting.
#[test]
fn a_key_that_is_too_large_is_rejected() {
    let remote = Arc::new(LocalRemote::new(NOTES));
    let desk = |number| Desk::with_schema(&remote, number, NOTES);
    let (mut a, mut b) = (desk(1), desk(2));
    let large = "replace(hex(zeroblob(40000)), '00', 'ab')";
    a.write(&format!("INSERT INTO notes VALUES ({large}, 'large'), ('b', 'good')"));
    a.sync().unwrap();
    remote.web(&format!("INSERT INTO notes VALUES ({large}, 'of the web')"));
    a.sync().unwrap();
    b.sync().unwrap();
    assert_eq!(a.read("SELECT id, words FROM notes"), "b|good");
    assert_eq!(b.read("SELECT id, words FROM notes"), "b|good");
    let log = "SELECT verdict, coalesce(reason, '') FROM driftless_events ORDER BY seq";
    assert_eq!(remote.read(log), "rejected|key is too large\napplied|\napplied|");
    let mut store = Store::open(a.path()).unwrap();
    let lost = store.conflicts(false).unwrap();
    assert_eq!((lost.len(), a.status().pending), (1, 0));
    let waits = store.quarantine().unwrap();
    assert!(waits.len() == 1 && waits[0].reason.contains("larger than 64 KiB"), "{waits:?}");
    let key = NewKey::Values(vec![Value::Text(b"a".to_vec())]);
    store.restore(lost[0].event.id, Some(key)).unwrap();
    a.sync().unwrap();
    assert_eq!(remote.read("SELECT words FROM notes WHERE id = 'a'"), "large");
}

/// What was there before is not taken off anybody's table: a person gives the row another key first.
#[test]
fn a_first_sync_refuses_a_key_that_is_not_utf8() {
    let refusal = |here: &str, there: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("desk.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(&format!("{NOTES};{here}")).unwrap();
        let remote = Arc::new(LocalRemote::new(&format!("{NOTES};{there}")));
        let error = initialise(plan(path, 1, &[]), remote).unwrap_err();
        let left: i64 = db.query_row("SELECT count(*) FROM notes", [], |row| row.get(0)).unwrap();
        assert_eq!((error.kind(), left), (Kind::Usage, i64::from(!here.is_empty())));
        error.message().to_owned()
    };
    let bad = "INSERT INTO notes VALUES (CAST(x'ff' AS TEXT), 'bad key')";
    let why = "has a row whose key is text that is not UTF-8";
    assert_eq!(refusal(bad, ""), format!("table `notes` of this database {why}"));
    assert_eq!(refusal("", bad), format!("table `notes` of the remote {why}"));
}
