//! What the web application's statements cost with capture beside what they cost without it (F76), in
//! steps of SQLite's virtual machine: a clock would measure the machine. `thin` has the bytes that a
//! server parses for each stream, and `benches/guest.rs` the time.

#![allow(clippy::print_stdout, reason = "it shows where the steps are")]

use driftless::capture::RemoteCapture;
use driftless::catalog::Catalog;
use rusqlite::{Connection, StatementStatus};

const SCHEMA: &str = "CREATE TABLE members (id TEXT PRIMARY KEY, name TEXT, email TEXT UNIQUE);
    CREATE TABLE payments (id INTEGER PRIMARY KEY, member TEXT REFERENCES members, cents INT, note TEXT);
    CREATE INDEX payments_of ON payments (member);";
const ROWS: &str = "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 200)
    INSERT INTO members SELECT 'm' || n, 'Ana', 'a' || n FROM c;
    WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 200)
    INSERT INTO payments SELECT n, 'm' || n, n, NULL FROM c;";

const READS: [&str; 4] = [
    "SELECT * FROM members WHERE id = 'm7'",
    "SELECT count(*) FROM payments WHERE cents > 50",
    "SELECT name, sum(cents) FROM members JOIN payments ON member = members.id GROUP BY 1",
    "SELECT id FROM members WHERE email LIKE 'a1%' ORDER BY name LIMIT 5",
];

/// Writes of one row, each with the most steps that capture may add. Fewer steps would need more
/// text in the triggers, which costs more to parse and to compile than it saves.
const WRITES: [(&str, i32); 4] = [
    ("INSERT INTO payments VALUES (1000, 'm1', 5, 'x')", 1_500),
    ("UPDATE payments SET cents = 7 WHERE id = 8", 1_500),
    ("UPDATE members SET email = 'b' WHERE id = 'm9'", 1_500),
    ("DELETE FROM payments WHERE id = 1000", 1_500),
];

fn remote(captured: bool) -> Connection {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch(SCHEMA).unwrap();
    if captured {
        let catalog = Catalog::read(&db).unwrap();
        let capture = RemoteCapture::of(&catalog.tables.iter().collect::<Vec<_>>());
        db.execute_batch(include_str!("../../../schema/remote/tables.sql")).unwrap();
        for sql in capture.shared() {
            db.execute_batch(sql).unwrap();
        }
        for trigger in capture.tables().iter().flat_map(|(_, made)| made) {
            db.execute_batch(&trigger.sql).unwrap();
        }
    }
    db.execute_batch(ROWS).unwrap();
    db
}

/// The steps of a statement, and whether it gave rows.
fn steps(db: &Connection, sql: &str) -> i32 {
    let mut statement = db.prepare(sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    while rows.next().unwrap().is_some() {}
    drop(rows);
    statement.get_status(StatementStatus::VmStep)
}

#[test]
fn f76_a_read_of_the_webs_does_what_it_did() {
    let (bare, with) = (remote(false), remote(true));
    for sql in READS {
        let program = |db: &Connection| -> Vec<String> {
            let mut statement = db.prepare(&format!("EXPLAIN {sql}")).unwrap();
            let rows = statement.query_map([], |row| row.get(1)).unwrap();
            rows.collect::<rusqlite::Result<_>>().unwrap()
        };
        assert_eq!(program(&bare), program(&with), "{sql}");
        assert_eq!(steps(&bare, sql), steps(&with, sql), "{sql}");
    }
}

#[test]
fn f76_a_write_of_the_webs_costs_a_bounded_number_of_steps_more() {
    let (bare, with) = (remote(false), remote(true));
    let logged = || -> i64 {
        with.query_row("SELECT count(*) FROM driftless_events", [], |row| row.get(0)).unwrap()
    };
    for (sql, most) in WRITES {
        let before = logged();
        let (plain, captured) = (steps(&bare, sql), steps(&with, sql));
        println!("{plain:5} {captured:5} {sql}");
        assert_eq!(logged(), before + 1, "{sql}");
        assert!(captured - plain <= most, "{} steps more: {sql}", captured - plain);
    }
}
