//! The rows that the hub counts, and what driftless costs in rows and bytes.
//!
//! The bounds are of what the hub counts. `docs/costs.md` has libSQL's own numbers: they agree for
//! the rows that are written here, and are higher for those that are read.

use driftless::Replicator;
use driftless::event::{EventId, Seq};
use driftless::hub::Rows;
use driftless::protocol::idle_poll::{ends_at, idle_poll};
use driftless::protocol::incarnation::Place;
use driftless::remote::{Libsql, Options, Remote};
use serde_json::{Value, json};

use super::Running;

/// The rows of a statement, as its result says.
async fn rows_of(hub: &Running, sql: &str) -> (u64, u64) {
    let requests = json!([{ "type": "execute", "stmt": { "sql": sql } }, { "type": "close" }]);
    let (_, answer) = hub.pipeline(None, requests).await;
    let result = &answer["results"][0]["response"]["result"];
    let number = |name: &str| result.get(name).and_then(Value::as_u64);
    (number("rows_read").unwrap_or(u64::MAX), number("rows_written").unwrap_or(u64::MAX))
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_counted_with_entries_of_indexes_and_what_triggers_write() {
    let hub = Running::start(|_| {}).await;
    for sql in [
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT UNIQUE, b INT)",
        "CREATE TABLE u (a TEXT)",
        "CREATE TRIGGER copy AFTER INSERT ON t BEGIN INSERT INTO u VALUES (new.a); END",
    ] {
        rows_of(&hub, sql).await;
    }
    let three = "INSERT INTO t VALUES (1, 'x', 1), (2, 'y', 1), (3, 'z', 1)";
    assert_eq!(rows_of(&hub, three).await.1, 9, "a row, an entry, and the trigger's row");
    let fails = "INSERT INTO t VALUES (4, 'v', 1), (5, 'x', 1)";
    assert_eq!(rows_of(&hub, fails).await, (u64::MAX, u64::MAX), "it has no result");
    rows_of(&hub, "CREATE INDEX i ON t (b)").await;
    assert_eq!(rows_of(&hub, "INSERT INTO t VALUES (6, 'w', 1)").await.1, 4);
    assert_eq!(rows_of(&hub, "UPDATE t SET id = id + 10").await.1, 4);
    assert_eq!(rows_of(&hub, "SELECT id FROM t WHERE id = 11").await, (1, 0));
    assert_eq!(rows_of(&hub, "SELECT count(*) FROM t WHERE id = 99").await, (1, 0));
    let (read, written) = rows_of(&hub, "SELECT max(b + 0) FROM t").await;
    assert!((4..=5).contains(&read) && written == 0, "{read} rows of a whole table");
    assert_eq!(rows_of(&hub, "DELETE FROM u").await.1, 4, "also where a whole table is emptied");
    assert_eq!(rows_of(&hub, "BEGIN").await, (1, 0), "libSQL server bills a row for it");
    let all = hub.totals.rows();
    assert!(all.written >= 9 + 4 + 4 + 4 && all.read >= 4, "{all:?}");
    assert!(hub.totals.statements() >= 11);
    hub.stop().await;
}

/// A request within one stream, where a definition changes between two statements.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_the_same_request_counts() {
    let hub = Running::start(|_| {}).await;
    let steps = [
        "CREATE TABLE t (a)",
        "INSERT INTO t VALUES (1)",
        "CREATE INDEX i ON t (a)",
        "INSERT INTO t VALUES (2)",
    ];
    let requests: Vec<_> =
        steps.map(|sql| json!({ "type": "execute", "stmt": { "sql": sql } })).into();
    let (_, answer) = hub.pipeline(None, json!(requests)).await;
    let written = |at: usize| answer["results"][at]["response"]["result"]["rows_written"].clone();
    assert_eq!((written(1), written(3)), (json!(1), json!(2)));
    hub.stop().await;
}

/// The most rows that an event of a table with an integer key and nothing else writes.
const PLAIN_EVENT: u64 = 9;
/// The same with a UNIQUE column, a foreign key and a REAL.
const FULL_EVENT: u64 = 10;
/// The most rows that a push writes beside those of its events.
const PUSH: u64 = 6;

#[test]
fn an_event_writes_few_rows() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let hub = runtime.block_on(Running::start(|_| {}));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("desk.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch(
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);
         CREATE TABLE members (id INTEGER PRIMARY KEY, email TEXT UNIQUE, weight REAL,
           note INTEGER REFERENCES notes (id));",
    )
    .unwrap();
    let replicator = Replicator::builder(&path)
        .remote(hub.url.as_str(), "")
        .tables(["members", "notes"])
        .start()
        .unwrap();
    replicator.sync_now_blocking().unwrap();
    // What the next push writes, where these are inserted.
    let pushed = |table: &str, ids: std::ops::Range<i64>| {
        let before = hub.totals.rows();
        db.execute_batch("BEGIN").unwrap();
        for id in ids {
            let row = match table {
                "notes" => format!("({id}, 'text')"),
                _ => format!("({id}, 'mail{id}', {id}.5, 1)"),
            };
            db.execute_batch(&format!("INSERT INTO {table} VALUES {row}")).unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
        replicator.sync_now_blocking().unwrap();
        let Rows { written, .. } = hub.totals.rows();
        written - before.written
    };
    pushed("notes", 1..10);
    pushed("members", 1..10);
    for (table, most) in [("notes", PLAIN_EVENT), ("members", FULL_EVENT)] {
        let alone = pushed(table, 100..101);
        let hundred = pushed(table, 200..300);
        let each = (hundred - alone) / 99;
        assert!(each <= most, "{table}: {each} rows for an event, {alone} for one alone");
        assert!(each > 2, "{table}: {each} rows are fewer than a table and a log have");
        assert!(alone <= most + PUSH, "{table}: {alone} rows for an event alone");
    }
    drop(replicator);
    runtime.block_on(hub.stop());
}

#[test]
fn an_idle_poll_reads_a_row_and_takes_less_than_a_kilobyte() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let hub = runtime.block_on(Running::start(|_| {}));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("desk.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)").unwrap();
    let replicator =
        Replicator::builder(&path).remote(hub.url.as_str(), "").tables(["notes"]).start().unwrap();
    db.execute_batch("INSERT INTO notes VALUES (1, 'text')").unwrap();
    replicator.sync_now_blocking().unwrap();
    drop(replicator);
    let remote = rusqlite::Connection::open(hub.db()).unwrap();
    let id: String = remote
        .query_row("SELECT id FROM driftless_events WHERE seq = 1", [], |r| r.get(0))
        .unwrap();
    drop(remote);
    let id = EventId(id.parse().unwrap());
    let place = Place { seq: Seq(1), id: Some(id) };
    let (statements, rows) = (hub.totals.statements(), hub.totals.rows());
    // A token as long as Turso's are.
    let token = Some(driftless::remote::Token::new("t".repeat(300)).unwrap());
    let client = Libsql::connect(&hub.url, token, Options::default()).unwrap();
    let answer = runtime.block_on(client.run(idle_poll(place))).unwrap();
    let cookie = answer.rows[0][0][2].as_integer().unwrap();
    assert!(ends_at(place, cookie, &answer).unwrap());
    let (up, down) = (answer.bytes_up, answer.bytes_down);
    assert!((100..1_000).contains(&up) && (100..1_000).contains(&down), "{up} up, {down} down");
    assert_eq!(hub.totals.statements() - statements, 1, "no transaction");
    let read = hub.totals.rows().read - rows.read;
    // The event, and the version of the schema.
    assert!((1..=2).contains(&read), "{read} rows");
    assert_eq!(hub.totals.rows().written, rows.written);
    // The plan is a step to the end of the log: nothing else is read.
    let db = rusqlite::Connection::open(hub.db()).unwrap();
    let sql = format!("EXPLAIN {}", idle_poll(place).statements[0].sql);
    let mut explained = db.prepare(&sql).unwrap();
    let codes = explained.query_map([1], |row| row.get::<_, String>(1)).unwrap();
    let codes: Vec<String> = codes.map(Result::unwrap).collect();
    let reads = ["Seek", "Rewind", "Last", "NotExists", "Found", "NotFound"];
    let is_read = |code: &&String| reads.iter().any(|read| code.starts_with(read));
    assert_eq!(codes.iter().filter(is_read).count(), 1, "{codes:?}");
    drop(explained);
    drop(db);
    runtime.block_on(hub.stop());
}
