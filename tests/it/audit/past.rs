//! Queries over former states: what they may read, and what is refused.

use driftless::event::Seq;
use driftless::event::conflict::ConflictRule;
use driftless::event::value::Value;
use driftless::inspect::{Past, Point, Replica};

use crate::store::world::{Desk, Remote};

const SCHEMA: &str = "CREATE TABLE plans (id TEXT PRIMARY KEY COLLATE NOCASE, price INTEGER,
                      double INTEGER AS (price * 2), name TEXT DEFAULT 'none');
                      CREATE TABLE visits (n INTEGER PRIMARY KEY, who TEXT);";
const LOCAL: &str = "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);
                     CREATE VIEW cheap AS SELECT id, price FROM plans WHERE price < 30;
                     CREATE VIEW cheaper AS SELECT * FROM cheap WHERE price < 25;
                     CREATE VIEW sly AS SELECT * FROM main.plans;
                     CREATE VIRTUAL TABLE words USING fts5(text);";

/// A desk whose plan was 20, and then 25; another plan came, and a visit went.
fn desk() -> (Desk, Remote, i64) {
    let mut remote = Remote::new(SCHEMA, "", ConflictRule::Row);
    let mut desk = Desk::new(1, SCHEMA, LOCAL, ConflictRule::Row);
    desk.write("INSERT INTO plans (id, price) VALUES ('Basic', 20)");
    desk.write("INSERT INTO visits VALUES (1, 'Ana'), (2, 'Bob')");
    desk.sync(&mut remote);
    let at = desk.store.state().unwrap().cursor().0;
    desk.write("UPDATE plans SET price = 25 WHERE id = 'basic'");
    desk.write("INSERT INTO plans (id, price, name) VALUES ('Gold', 50, 'G')");
    desk.write("DELETE FROM visits WHERE n = 1");
    desk.sync(&mut remote);
    desk.write("UPDATE plans SET price = 26 WHERE id = 'BASIC'");
    (desk, remote, at)
}

fn open(desk: &Desk, point: Point) -> Past {
    Replica::open(desk.path()).unwrap().as_of(point, &mut |_| {}).unwrap()
}

fn ask(past: &Past, sql: &str) -> Result<Vec<String>, String> {
    let mut rows = Vec::new();
    let asked = past.query(sql, &mut |_| Ok(()), &mut |row: Vec<Value>| {
        rows.push(row.iter().map(ToString::to_string).collect::<Vec<_>>().join("|"));
        Ok(())
    });
    asked.map(|()| rows).map_err(|error| error.message().to_owned())
}

#[test]
fn a_query_sees_the_tables_as_they_were() {
    let (desk, _remote, at) = desk();
    let past = open(&desk, Point::Seq(Seq(at)));
    let one = |sql: &str| ask(&past, sql).unwrap().join("; ");
    assert_eq!(one("SELECT * FROM plans"), "Basic|20|40|none");
    assert_eq!(one("SELECT price FROM plans WHERE id = 'BASIC'"), "20");
    assert_eq!(one("SELECT n, who FROM visits ORDER BY n"), "1|Ana; 2|Bob");
    assert_eq!(one("SELECT * FROM cheaper"), "Basic|20", "a view over a view sees the past");
    assert_eq!(one("WITH p AS (SELECT * FROM plans) SELECT count(*) FROM p JOIN visits"), "2");
    let now = open(&desk, Point::Now);
    assert_eq!(
        ask(&now, "SELECT id, price FROM plans ORDER BY id").unwrap().join("; "),
        "Basic|26; Gold|50"
    );
    let head = Replica::open(desk.path()).unwrap().log_range().unwrap().end;
    let head = open(&desk, Point::Seq(head));
    assert_eq!(
        ask(&head, "SELECT price FROM plans WHERE id = 'basic'").unwrap(),
        ["25"],
        "without what is pending"
    );
    assert_eq!(head.rewound().rows, 1);
}

#[test]
fn nothing_shows_the_present_in_the_pasts_place() {
    let (desk, _remote, at) = desk();
    let past = open(&desk, Point::Seq(Seq(at)));
    for (sql, why) in [
        ("SELECT * FROM main.plans", "the present"),
        ("SELECT * FROM notes", "not replicated"),
        ("SELECT * FROM words", "not replicated"),
        ("SELECT * FROM sly", "present"),
        ("SELECT * FROM driftless_state", "driftless's own"),
        ("SELECT rowid FROM plans", "no such column"),
        ("SELECT unknown FROM plans", "no such column"),
        ("SELECT count(*) FROM main.visits", "the present"),
        ("SELECT count(*) FROM sly", "present"),
        ("SELECT load_extension('x')", "extension"),
    ] {
        let refused = ask(&past, sql).unwrap_err();
        assert!(refused.contains(why), "{sql}: {refused}");
    }
}

#[test]
fn nothing_is_written() {
    let (desk, _remote, at) = desk();
    let before = desk.actual();
    for point in [Point::Now, Point::Seq(Seq(at))] {
        let past = open(&desk, point);
        for sql in [
            "DELETE FROM plans",
            "INSERT INTO visits VALUES (9, 'x')",
            "UPDATE driftless_state SET cursor = 0",
            "CREATE TABLE x (a)",
            "CREATE TEMP TABLE x (a)",
            "DROP VIEW cheap",
            "ATTACH 'other.db' AS other",
            "PRAGMA user_version = 7",
            "PRAGMA writable_schema = 1",
            "COMMIT",
            "VACUUM",
            "SELECT 1; SELECT 2",
        ] {
            assert!(ask(&past, sql).is_err(), "{sql}");
        }
    }
    assert_eq!(desk.actual(), before);
}

#[test]
fn the_application_writes_on_while_the_past_is_read() {
    let (mut desk, mut remote, at) = desk();
    let past = open(&desk, Point::Seq(Seq(at)));
    desk.write("UPDATE plans SET price = 99");
    desk.sync(&mut remote);
    assert_eq!(ask(&past, "SELECT price FROM plans").unwrap(), ["20"], "it is one moment");
    assert_eq!(desk.rows("SELECT max(price) FROM plans"), ["99"]);
}

#[test]
fn a_copy_of_the_past_is_a_database_of_its_own() {
    let (desk, _remote, at) = desk();
    let replica = Replica::open(desk.path()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("past.db");
    let copy = || replica.replay_into(Point::Seq(Seq(at)), &file, &mut |_| {}, &mut |_| {});
    let done = copy().unwrap();
    let rows: Vec<_> = done.tables.iter().map(|one| (one.table.as_str(), one.rows)).collect();
    assert_eq!(rows, [("plans", 1), ("visits", 2)]);
    assert!(done.left_out.iter().any(|left| left.contains("notes")), "{:?}", done.left_out);
    let db = rusqlite::Connection::open(&file).unwrap();
    let found: (String, i64) = db
        .query_row(
            "SELECT (SELECT group_concat(id || double) FROM plans), (SELECT count(*) FROM cheap)",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert_eq!(found, ("Basic40".to_owned(), 1));
    let ours = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'driftless%'";
    assert_eq!(db.query_row(ours, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    let again = copy().unwrap_err();
    assert!(again.message().contains("exists already"), "{again}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left there");
}

#[test]
fn a_search_finds_the_change() {
    let (desk, _remote, _) = desk();
    let replica = Replica::open(desk.path()).unwrap();
    let bisect = |sql: &str| replica.bisect(sql, None, Point::Now, true, &mut |_, _| {});
    let found = bisect("SELECT coalesce(max(price), 0) < 50 FROM plans").unwrap();
    assert_eq!(found.events.len(), 1);
    assert_eq!(found.events[0].key.0, "[\"gold\"]");
    let wrong = bisect("SELECT 1").unwrap_err();
    assert!(wrong.message().contains("still true"), "{wrong}");
    let wrong = bisect("SELECT 0").unwrap_err();
    assert!(wrong.message().contains("not true"), "{wrong}");
}
