//! What replicas do with a remote: the protocol, through the real driver.

use std::path::PathBuf;
use std::time::Duration;

use driftless::Replicator;
use driftless::event::value::Value;
use driftless::protocol::statements::MAX_EVENTS;
use rusqlite::Connection;

use super::{Subject, suite};

suite!(
    rows_go_both_ways,
    a_conflict_is_kept,
    pages_of_some_megabytes,
    one_bad_event_stops_nobody,
    five_thousand_events_in_one_request,
);

const SCHEMA: &str = "
    CREATE TABLE conformance_members (id TEXT PRIMARY KEY, name TEXT, email TEXT UNIQUE, photo);
    CREATE TABLE conformance_payments (id INTEGER PRIMARY KEY,
        member TEXT REFERENCES conformance_members (id) ON DELETE CASCADE, cents INT);";
const TABLES: [&str; 2] = ["conformance_members", "conformance_payments"];

struct Desk {
    replicator: Replicator,
    db: Connection,
    _folder: tempfile::TempDir,
}

impl Desk {
    fn new(subject: &Subject) -> Desk {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("desk.db");
        Connection::open(&path).unwrap().execute_batch(SCHEMA).unwrap();
        let replicator = Replicator::builder(&path)
            .with_remote(subject.another())
            .tables(TABLES)
            // A sync is asked for where one is wanted.
            .poll_interval(Duration::from_secs(3600))
            .start()
            .unwrap();
        replicator.sync_now_blocking().unwrap();
        let db = replicator.connection().unwrap();
        Desk { replicator, db, _folder: folder }
    }

    fn sync(&self) -> driftless::Summary {
        self.replicator.sync_now_blocking().unwrap()
    }

    /// All rows, exactly.
    fn rows(&self) -> String {
        let read = |sql: &str| -> String {
            self.db
                .query_row(sql, [], |row| row.get::<_, Option<String>>(0))
                .unwrap()
                .unwrap_or_default()
        };
        format!("{}\n{}", read(MEMBERS), read(PAYMENTS))
    }
}

/// Without REALs, which versions of SQLite spell in different ways.
const MEMBERS: &str = "SELECT group_concat(r, char(10)) FROM (SELECT quote(id)
    || CASE WHEN length(name) > 99 THEN length(name) ELSE quote(name) END || quote(email)
    || CASE typeof(photo) WHEN 'real' THEN '' ELSE quote(photo) END AS r FROM conformance_members ORDER BY id)";
const REALS: &str =
    "SELECT photo FROM conformance_members WHERE typeof(photo) = 'real' ORDER BY id";
const PAYMENTS: &str = "SELECT group_concat(r, char(10)) FROM (SELECT quote(id) || quote(member)
    || quote(cents) AS r FROM conformance_payments ORDER BY id)";

fn assert_equal(subject: &Subject, desks: &[&Desk]) {
    let there = |sql: &str| subject.one(&sql.replacen("SELECT group", "SELECT '' || group", 1));
    let whole = |text: String| if text == "NULL" { String::new() } else { text };
    let there = format!("{}\n{}", whole(there(MEMBERS)), whole(there(PAYMENTS)));
    let reals = subject.run(false, &[REALS]).unwrap().rows.remove(0).concat();
    for desk in desks {
        let mut statement = desk.db.prepare(REALS).unwrap();
        let found = statement.query_map([], |row| row.get(0).map(Value::Real)).unwrap();
        assert_eq!(found.collect::<rusqlite::Result<Vec<_>>>().unwrap(), reals, "bit for bit");
        let here = desk.rows();
        // Some rows have megabytes.
        assert!(here == there, "a desk and the remote differ: {here:.2000}\n{there:.2000}");
        assert_eq!(desk.replicator.status().pending, 0);
    }
}

fn rows_go_both_ways(subject: &Subject) {
    let (a, b) = (Desk::new(subject), Desk::new(subject));
    a.db.execute_batch(
        "BEGIN; INSERT INTO conformance_members VALUES ('1', 'Ana', 'x', x'00ff'), ('2', 'Bea', 'y', 9223372036854775807);
         INSERT INTO conformance_payments VALUES (1, '1', 500), (2, '2', 900); COMMIT",
    )
    .unwrap();
    let summary = a.sync();
    assert_eq!((summary.pushed, summary.applied), (4, 4), "{summary:?}");
    assert_eq!(b.sync().pulled, 4);
    subject.write(&["INSERT INTO conformance_members VALUES ('3', 'Cleo', 'z', 0.1 + 0.2)"]);
    b.db.execute_batch(
        "UPDATE conformance_members SET name = 'Beate', photo = 1e300 WHERE id = '2'",
    )
    .unwrap();
    // The children go with it, here and there.
    a.db.execute_batch("DELETE FROM conformance_members WHERE id = '1'").unwrap();
    a.sync();
    b.sync();
    a.sync();
    b.sync();
    assert_equal(subject, &[&a, &b]);
    assert_eq!(subject.one("SELECT count(*) FROM conformance_members"), "2");
}

fn a_conflict_is_kept(subject: &Subject) {
    let (a, b) = (Desk::new(subject), Desk::new(subject));
    a.db.execute_batch("INSERT INTO conformance_members (id, name) VALUES ('1', 'Ana')").unwrap();
    a.sync();
    b.sync();
    a.db.execute_batch("UPDATE conformance_members SET name = 'Anna'").unwrap();
    // Both commits are noticed and pushed by themselves, so the web sees to the order.
    a.sync();
    subject.write(&["UPDATE conformance_members SET name = 'Web'"]);
    b.db.execute_batch("UPDATE conformance_members SET name = 'Bea'").unwrap();
    b.sync();
    a.sync();
    assert_equal(subject, &[&a, &b]);
    assert_eq!(subject.one("SELECT name FROM conformance_members"), "Web");
    let lost = b.replicator.conflicts(false).unwrap();
    assert_eq!(lost.len(), 1);
    b.replicator.restore(lost[0].event.id, None).unwrap();
    b.sync();
    a.sync();
    assert_equal(subject, &[&a, &b]);
    assert_eq!(subject.one("SELECT name FROM conformance_members"), "Bea");
}

fn pages_of_some_megabytes(subject: &Subject) {
    let (a, b) = (Desk::new(subject), Desk::new(subject));
    a.db.execute_batch(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
         INSERT INTO conformance_members SELECT 'm' || i, printf('%.*c', 1500, '\"'), NULL,
         randomblob(300) FROM n",
    )
    .unwrap();
    assert_eq!(a.sync().applied, 3_000);
    let summary = b.sync();
    assert_eq!(summary.pulled, 3_000, "{summary:?}");
    assert_equal(subject, &[&a, &b]);
}

fn one_bad_event_stops_nobody(subject: &Subject) {
    let checked = SCHEMA.replacen("name TEXT", "name TEXT CHECK (name <> 'bad')", 1);
    let statements: Vec<&str> = checked.split(';').filter(|sql| !sql.trim().is_empty()).collect();
    subject.write(&statements);
    let (a, b) = (Desk::new(subject), Desk::new(subject));
    a.db.execute_batch("BEGIN").unwrap();
    for i in 0..40 {
        let name = if i == 23 { "bad" } else { "good" };
        let sql = "INSERT INTO conformance_members (id, name) VALUES (?1, ?2)";
        a.db.execute(sql, (format!("m{i}"), name)).unwrap();
    }
    a.db.execute_batch("COMMIT").unwrap();
    let summary = a.sync();
    assert_eq!((summary.applied, summary.rejected), (39, 1), "{summary:?}");
    b.sync();
    assert_equal(subject, &[&a, &b]);
    let reason = "SELECT reason FROM driftless_events WHERE verdict = 'rejected'";
    assert!(subject.one(reason).contains("CHECK"));
    assert_eq!(a.replicator.status().conflicts, 1);
}

fn five_thousand_events_in_one_request(subject: &Subject) {
    let a = Desk::new(subject);
    a.db.execute_batch(&format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MAX_EVENTS})
         INSERT INTO conformance_payments SELECT i, NULL, i * 5 FROM n"
    ))
    .unwrap();
    assert_eq!(a.sync().applied, MAX_EVENTS as u64);
    // Events that are pushed together have one unit.
    let units = "SELECT count(DISTINCT unit) FROM driftless_events";
    assert_eq!(subject.one(units), "1");
    assert_equal(subject, &[&a]);
}
