//! The index of the log by row: long pages leave it behind, a question brings it up to date, and an
//! old file is indexed a piece at a time.

use driftless::event::conflict::ConflictRule;
use driftless::event::page::Page;
use driftless::event::{ReplicaId, RowKey, Seq};
use driftless::store::{Outcome, Setup, Store};
use rusqlite::Connection;
use tempfile::TempDir;
use ulid::Ulid;

const SCHEMA: &str = "CREATE TABLE t (id TEXT PRIMARY KEY, x INTEGER)";
const NOW: i64 = 1_700_000_000_000;

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> (Place, Store) {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        let db = Connection::open(place.path()).unwrap();
        db.execute_batch(SCHEMA).unwrap();
        let tables = vec![("t".to_owned(), ConflictRule::Row)];
        let setup = Setup { url: "test".to_owned(), tables, epoch: None };
        let store = Store::init(&place.path(), &setup, ReplicaId(Ulid(1))).unwrap();
        (place, store)
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("desk.db")
    }

    fn indexed(&self) -> i64 {
        let sql = "SELECT coalesce((SELECT CAST(value AS INTEGER) FROM driftless_settings
                   WHERE name = 'rows_indexed'), 0)";
        Connection::open(self.path()).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

/// Events `from..to`: each row is inserted by the first hundred, and then changed again and again.
fn page(from: i64, to: i64) -> Page {
    let mut page = Page { last: Seq(to - 1), ..Page::default() };
    for seq in from..to {
        if page.count > 0 {
            page.bytes.push(b'\n');
        }
        let (id, key, x) = (Ulid(seq as u128), seq % 100, seq);
        let line = if seq < 100 {
            format!(
                r#"[{seq},"{id}","web",null,null,"t",["k{key}"],"insert",null,{{"id":"k{key}","x":{x}}},0,null,null,null,"applied",null,{NOW}]"#
            )
        } else {
            let old = seq - 100;
            format!(
                r#"[{seq},"{id}","web",null,null,"t",["k{key}"],"update",{{"x":{old}}},{{"x":{x}}},0,null,null,null,"applied",null,{NOW}]"#
            )
        };
        page.bytes.extend_from_slice(line.as_bytes());
        page.count += 1;
    }
    page
}

fn integrate(store: &mut Store, from: i64, to: i64) {
    let done = store.integrate(&page(from, to), None, NOW).unwrap();
    assert!(matches!(done, Outcome::Done(_)));
}

fn seqs(store: &Store, key: &str) -> Vec<i64> {
    let key = RowKey(format!("[\"{key}\"]"));
    let found = store.read_log(|log| log.of_row("T", &key, Seq(0), Seq(i64::MAX))).unwrap();
    found.events.iter().map(|event| event.seq.0).collect()
}

fn expected(key: i64, to: i64) -> Vec<i64> {
    (1..to).filter(|seq| seq % 100 == key).collect()
}

#[test]
fn a_long_page_is_left_for_later() {
    let (place, mut store) = Place::new();
    integrate(&mut store, 1, 12_001);
    assert_eq!(place.indexed(), 0);
    assert_eq!(seqs(&store, "k7"), expected(7, 12_001), "the log is read instead");
    // A short page takes some of it with itself.
    integrate(&mut store, 12_001, 12_003);
    assert_eq!(place.indexed(), 1_002);
    assert_eq!(seqs(&store, "k7"), expected(7, 12_003));
    let mut told = Vec::new();
    store.index_rows(&mut |seq| told.push(seq.0)).unwrap();
    assert_eq!((told, place.indexed()), (vec![12_002], 12_002));
    assert_eq!(seqs(&store, "k7"), expected(7, 12_003), "by the index alone");
    integrate(&mut store, 12_003, 12_004);
    assert_eq!(place.indexed(), 12_003, "from here on it follows");
}

#[test]
fn an_old_file_is_indexed_and_an_interruption_costs_nothing() {
    let (place, mut store) = Place::new();
    integrate(&mut store, 1, 30_001);
    // The file of a driftless that had no index.
    let db = Connection::open(place.path()).unwrap();
    db.execute_batch("DROP TABLE driftless_log_rows").unwrap();
    drop(store);
    let store = Store::open(&place.path()).unwrap();
    // It is stopped behind the first piece.
    let stop = || {
        let mut pieces = 0;
        store.index_rows(&mut |_| {
            pieces += 1;
            if pieces == 1 {
                panic!("stopped");
            }
        })
    };
    let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(stop));
    assert!(stopped.is_err());
    let first = place.indexed();
    assert!(first > 0 && first < 30_000, "{first}");
    drop(store);
    let store = Store::open(&place.path()).unwrap();
    assert_eq!(seqs(&store, "k7"), expected(7, 30_001), "half by the index");
    store.index_rows(&mut |_| {}).unwrap();
    assert_eq!(place.indexed(), 30_000);
    assert_eq!(seqs(&store, "k7"), expected(7, 30_001));
    let sql = "SELECT count(*), count(DISTINCT seq) FROM driftless_log_rows";
    let counted = db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(counted, (30_000_i64, 30_000_i64));
}

#[test]
fn another_program_that_keeps_the_lock_is_not_waited_for_twice() {
    let (place, mut store) = Place::new();
    integrate(&mut store, 1, 6_001);
    let other = Connection::open(place.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.index_rows(&mut |_| panic!("nothing can be written")).unwrap();
    assert_eq!(seqs(&store, "k7"), expected(7, 6_001), "the log is read instead");
    other.execute_batch("ROLLBACK").unwrap();
}

#[test]
fn a_damaged_frame_is_named_and_the_others_are_found() {
    let (place, mut store) = Place::new();
    integrate(&mut store, 1, 501);
    let db = Connection::open(place.path()).unwrap();
    db.execute_batch("UPDATE driftless_log SET header = x'01FF' WHERE seq = 207").unwrap();
    db.execute_batch(
        "DELETE FROM driftless_log_rows; DELETE FROM driftless_settings WHERE name = 'rows_indexed'",
    )
    .unwrap();
    integrate(&mut store, 501, 503);
    assert_eq!(place.indexed(), 502);
    let found = store
        .read_log(|log| log.of_row("t", &RowKey("[\"k7\"]".into()), Seq(0), Seq(i64::MAX)))
        .unwrap();
    assert_eq!(found.unreadable, [Seq(207)]);
    assert_eq!(
        found.events.iter().map(|event| event.seq.0).collect::<Vec<_>>(),
        [7, 107, 307, 407]
    );
    // The same where the index does not reach.
    db.execute_batch("DELETE FROM driftless_settings WHERE name = 'rows_indexed'").unwrap();
    let again = store
        .read_log(|log| log.of_row("t", &RowKey("[\"k7\"]".into()), Seq(0), Seq(i64::MAX)))
        .unwrap();
    assert_eq!(again.unreadable, [Seq(207)]);
}
