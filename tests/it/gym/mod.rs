//! The reference application's data, `fixtures/gym/`: the schema, the generated year and the demo's
//! scripts are what their descriptions say they are.

mod demo;
mod search;
mod year;

use std::sync::{LazyLock, Mutex};

use rusqlite::backup::Backup;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, Params};

use crate::support::tools::{Tool, require};

const SCHEMA: &str = include_str!("../../../fixtures/gym/schema.sql");
const LOCAL: &str = include_str!("../../../fixtures/gym/local.sql");
const REMOTE: &str = include_str!("../../../fixtures/gym/remote.sql");
const GENERATE: &str = include_str!("../../../fixtures/gym/generate.sql");

/// The default year's [`fingerprint`]. It moves when the generator is changed, and must not move
/// when SQLite is.
const DEFAULT_YEAR: &str = "7d6a5436d7c5c286b3eae6af3e1cc0273aba79e33a4c65b949ad60dd45939f96";

/// How much is generated: seed, members, payments, check-ins.
type Size = (i64, i64, i64, i64);
const SMALL: Size = (7, 60, 700, 2_000);

/// An empty gym, with foreign keys enforced.
fn empty() -> Connection {
    let db = Connection::open_in_memory().unwrap();
    db.pragma_update(None, "foreign_keys", true).unwrap();
    db.execute_batch(SCHEMA).unwrap();
    db
}

/// A gym with the year of this size in it.
fn generated(size: Size) -> Connection {
    let (seed, members, payments, checkins) = size;
    let mut db = empty();
    let tx = db.transaction().unwrap();
    tx.execute_batch(&format!(
        "CREATE TEMP TABLE gym_size AS SELECT {seed} AS seed, {members} AS members,
           {payments} AS payments, {checkins} AS checkins;"
    ))
    .unwrap();
    tx.execute_batch(GENERATE).unwrap();
    tx.commit().unwrap();
    db
}

/// A gym with the year of the generator's own defaults, which is made once for all tests.
fn default_year() -> Connection {
    static YEAR: LazyLock<Mutex<Connection>> = LazyLock::new(|| {
        let mut db = empty();
        let tx = db.transaction().unwrap();
        tx.execute_batch(GENERATE).unwrap();
        tx.commit().unwrap();
        Mutex::new(db)
    });
    copy(&YEAR.lock().unwrap())
}

fn copy(db: &Connection) -> Connection {
    let mut copy = Connection::open_in_memory().unwrap();
    Backup::new(db, &mut copy).unwrap().step(-1).unwrap();
    copy.pragma_update(None, "foreign_keys", true).unwrap();
    copy
}

fn count(db: &Connection, sql: &str) -> i64 {
    count_with(db, sql, [])
}

fn count_with(db: &Connection, sql: &str, params: impl Params) -> i64 {
    db.query_row(sql, params, |row| row.get(0)).unwrap_or_else(|e| panic!("{sql}: {e}"))
}

/// Runs a query and gives its first two columns, a text and a number.
fn counts(db: &Connection, sql: &str) -> Vec<(String, i64)> {
    let mut statement = db.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

fn tables(db: &Connection) -> Vec<String> {
    let sql = "SELECT name, 0 FROM sqlite_schema WHERE type = 'table' ORDER BY name";
    counts(db, sql).into_iter().map(|(name, _)| name).collect()
}

/// A hash over every table's rows in the order of writing, each value with its type, bit for bit.
fn fingerprint(db: &Connection) -> String {
    let mut hasher = blake3::Hasher::new();
    for table in tables(db) {
        hasher.update(format!("table {table}\n").as_bytes());
        let mut statement = db.prepare(&format!("SELECT * FROM {table} ORDER BY rowid")).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for column in 0..columns {
                let (kind, bytes) = match row.get_ref(column).unwrap() {
                    ValueRef::Null => (0, vec![]),
                    ValueRef::Integer(value) => (1, value.to_le_bytes().to_vec()),
                    ValueRef::Real(value) => (2, value.to_bits().to_le_bytes().to_vec()),
                    ValueRef::Text(value) => (3, value.to_vec()),
                    ValueRef::Blob(value) => (4, value.to_vec()),
                };
                hasher.update(&[kind]);
                hasher.update(&u64::try_from(bytes.len()).unwrap().to_le_bytes());
                hasher.update(&bytes);
            }
        }
    }
    hasher.finalize().to_hex().to_string()
}

fn assert_sound(db: &Connection) {
    assert_eq!(count(db, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
    let verdict: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}

#[test]
fn the_schema_has_the_seven_tables_and_a_comment_on_every_column() {
    let db = empty();
    let expected =
        ["attendance", "classes", "equipment", "members", "payments", "plans", "trainers"];
    assert_eq!(tables(&db), expected);
    db.execute_batch(LOCAL).unwrap();
    db.execute_batch(REMOTE).unwrap();

    // SQLite keeps a table's definition with its comments.
    let sql = "SELECT t.sql, c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c
               WHERE t.type = 'table' AND t.sql LIKE '%--%'";
    let mut statement = db.prepare(sql).unwrap();
    let columns: Vec<(String, String)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(columns.len() > 50, "{} columns", columns.len());
    for (definition, column) in columns {
        let from = definition.lines().skip_while(|line| {
            line.split([' ', ',']).find(|word| !word.is_empty()) != Some(&column)
        });
        let own: Vec<&str> = from
            .enumerate()
            // A column's further lines are indented below it.
            .take_while(|(i, line)| *i == 0 || line.starts_with("     "))
            .map(|(_, line)| line)
            .collect();
        assert!(own.iter().any(|line| line.contains("-- ")), "{column} in\n{definition}");
    }
}

#[test]
fn each_foreign_key_action_does_what_the_schema_says() {
    let db = generated(SMALL);
    let refused = |sql: &str| {
        let error = db.execute(sql, []).unwrap_err();
        assert_eq!(error.sqlite_error_code(), Some(ErrorCode::ConstraintViolation), "{sql}");
    };
    refused("DELETE FROM members WHERE id = (SELECT min(member_id) FROM payments)");
    refused("DELETE FROM plans WHERE id = (SELECT min(plan_id) FROM payments)");

    let of_class = "SELECT count(*) FROM attendance WHERE class_id IS NULL";
    let before = count(&db, of_class);
    let class = "(SELECT min(class_id) FROM attendance)";
    let booked = count(&db, &format!("SELECT count(*) FROM attendance WHERE class_id = {class}"));
    assert!(booked > 0);
    db.execute(&format!("DELETE FROM classes WHERE id = {class}"), []).unwrap();
    assert_eq!(count(&db, of_class), before + booked);

    let led = "SELECT count(*) FROM trainers WHERE lead_id IS NOT NULL";
    assert!(count(&db, led) > 0);
    db.execute("DELETE FROM trainers WHERE id IN (SELECT lead_id FROM trainers)", []).unwrap();
    assert_eq!(count(&db, led), 0);

    let visitor = "(SELECT min(member_id) FROM attendance)";
    db.execute(&format!("DELETE FROM payments WHERE member_id = {visitor}"), []).unwrap();
    let visits = count(&db, "SELECT count(*) FROM attendance");
    db.execute(&format!("DELETE FROM members WHERE id = {visitor}"), []).unwrap();
    assert!(count(&db, "SELECT count(*) FROM attendance") < visits);
    assert_sound(&db);
}

#[test]
fn the_remote_stamps_what_changed_unless_the_writer_did() {
    let db = generated(SMALL);
    db.execute_batch(REMOTE).unwrap();
    // A guard that leaned on recursive_triggers being off would not end here.
    db.pragma_update(None, "recursive_triggers", true).unwrap();
    let id: String = db.query_row("SELECT min(id) FROM members", [], |row| row.get(0)).unwrap();
    let stamped = |stamp: &str| {
        let sql = "SELECT count(*) FROM members WHERE id = ?1 AND updated_at = ?2";
        count_with(&db, sql, (&id, stamp)) == 1
    };
    let old = "2001-01-01T00:00:00.000Z";
    db.execute("UPDATE members SET updated_at = ?2 WHERE id = ?1", (&id, old)).unwrap();
    assert!(stamped(old), "a stamp alone is left as it is");
    let sql = "UPDATE members SET phone = '1', updated_at = ?2 WHERE id = ?1";
    db.execute(sql, (&id, "2002-01-01T00:00:00.000Z")).unwrap();
    assert!(stamped("2002-01-01T00:00:00.000Z"), "the writer's own stamp stays");
    db.execute("UPDATE members SET phone = '2' WHERE id = ?1", [&id]).unwrap();
    assert!(!stamped("2002-01-01T00:00:00.000Z"), "a change without a stamp is stamped");

    db.execute("UPDATE classes SET updated_at = ?1", [old]).unwrap();
    let classes = db.execute("UPDATE classes SET capacity = capacity + 1", []).unwrap();
    assert!(classes > 0);
    let left = "SELECT count(*) FROM classes WHERE updated_at = ?1";
    assert_eq!(count_with(&db, left, [old]), 0);

    assert_eq!(count(&db, "SELECT count(*) FROM membership_audit"), 0);
    db.execute("UPDATE members SET status = 'frozen' WHERE id = ?1", [&id]).unwrap();
    let noted = "SELECT count(*) FROM membership_audit WHERE member_id = ?1";
    assert_eq!(count_with(&db, noted, [&id]), 1);
}

#[test]
fn the_stock_shell_generates_the_same_year() {
    let Some(shell) = require(Tool::Sqlite3) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gym.db");
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/gym");
    let output = std::process::Command::new(shell)
        .arg("-bail")
        .arg(&file)
        .args([".read schema.sql", "BEGIN;", ".read generate.sql", "COMMIT;"])
        .current_dir(fixtures)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let db = Connection::open(&file).unwrap();
    assert_eq!(fingerprint(&db), DEFAULT_YEAR);
}
