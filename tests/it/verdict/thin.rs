//! What stands in the remote's schema is small: a server parses it for each stream of the web
//! application's.

#![allow(clippy::print_stdout, reason = "it shows where the bytes are")]

use driftless::capture::RemoteCapture;
use driftless::catalog::{Catalog, Table, ident};
use driftless::event::Op;
use driftless::event::conflict::ConflictRule;
use rusqlite::Connection;

use super::remote::Remote;

/// A table of ten columns with a UNIQUE index and a foreign key.
const TEN_COLUMNS: &str = "CREATE TABLE p (id INTEGER PRIMARY KEY);
    CREATE TABLE payments (id TEXT PRIMARY KEY, member INTEGER REFERENCES p, amount REAL, currency TEXT,
    paid_at TEXT, method TEXT, receipt TEXT UNIQUE, note TEXT, created_at TEXT, updated_at TEXT);";

/// The most bytes of such a table's triggers.
const MOST_A_TABLE: usize = 3_000;
/// The most bytes for the gym, with what all tables share.
const MOST_FOR_THE_GYM: usize = 25_500;

fn capture(schema: &str) -> (Catalog, RemoteCapture) {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch(schema).unwrap();
    let catalog = Catalog::read(&db).unwrap();
    let capture = RemoteCapture::of(&catalog.tables.iter().collect::<Vec<_>>());
    (catalog, capture)
}

#[test]
fn the_triggers_of_a_table_are_small() {
    let (_, capture) = capture(TEN_COLUMNS);
    let (_, made) = capture.tables().iter().find(|(name, _)| name == "payments").unwrap();
    for trigger in made {
        println!("{:5} {}", trigger.sql.len(), trigger.name);
    }
    let bytes: usize = made.iter().map(|trigger| trigger.sql.len()).sum();
    println!("{bytes} bytes");
    assert!(bytes <= MOST_A_TABLE, "{bytes} bytes");
}

#[test]
fn the_gyms_schema_grows_by_little() {
    let (_, capture) = capture(include_str!("../../../fixtures/gym/schema.sql"));
    let shared: usize =
        capture.shared().iter().filter(|s| s.starts_with("CREATE")).map(String::len).sum();
    println!("{shared} bytes are shared");
    for (table, made) in capture.tables() {
        println!("{:5} {table}", made.iter().map(|trigger| trigger.sql.len()).sum::<usize>());
    }
    println!("{} bytes", capture.bytes());
    assert!(capture.bytes() <= MOST_FOR_THE_GYM, "{} bytes", capture.bytes());
}

/// SQLite checks all triggers at each RENAME and DROP COLUMN. So a trigger of ours that named
/// another table would fail that table's migration.
#[test]
fn no_trigger_names_another_table() {
    let (catalog, capture) = capture(include_str!("../../../fixtures/gym/schema.sql"));
    for (table, made) in capture.tables() {
        for trigger in made {
            for other in catalog.tables.iter().filter(|other| other.name != *table) {
                let named = format!("\"{}\"", other.name);
                assert!(!trigger.sql.contains(&named), "{} names {named}", trigger.name);
            }
        }
    }
}

/// What the web application may do to a table, as it would do it without us.
fn migrations(table: &Table) -> Vec<String> {
    let name = ident(&table.name);
    let columns: Vec<_> = table.column_names().map(ident).collect();
    let list = columns.join(", ");
    let mut all = vec![
        format!("ALTER TABLE {name} RENAME TO another_name"),
        format!("ALTER TABLE {name} ADD COLUMN another_column"),
        format!("DROP TABLE {name}"),
        format!(
            "CREATE TABLE rebuilt AS SELECT {list} FROM {name}; DROP TABLE {name}; \
             ALTER TABLE rebuilt RENAME TO {name}"
        ),
    ];
    for column in &columns {
        all.push(format!("ALTER TABLE {name} DROP COLUMN {column}"));
        all.push(format!("ALTER TABLE {name} RENAME COLUMN {column} TO another_column"));
    }
    all
}

/// Each migration passes if it passes without us, and the tables can be written after it.
#[test]
fn the_web_changes_its_schema_as_without_us() {
    let gym = include_str!("../../../fixtures/gym/schema.sql");
    let schema = format!("{gym}\n{TEN_COLUMNS}").replace("payments (id TEXT", "receipts (id TEXT");
    let remote = Remote::new(&schema, |_| ConflictRule::Row);
    let bare = Connection::open_in_memory().unwrap();
    bare.execute_batch(&format!("PRAGMA foreign_keys = ON;\n{schema}")).unwrap();
    let (mut passed, mut dropped) = (0, 0);
    for table in &remote.tables {
        for migration in migrations(table) {
            let script = |rest: &str| format!("SAVEPOINT s; {migration}; {rest}");
            // Compiling the statements looks at all triggers of the table.
            let rest: String = remote
                .tables
                .iter()
                .filter(|_| !migration.starts_with("DROP") && !migration.contains("another_name"))
                .map(|table| format!("DELETE FROM {};", ident(&table.name)))
                .collect();
            let expected = bare.execute_batch(&script(&rest));
            bare.execute_batch("ROLLBACK TO s; RELEASE s").unwrap();
            let done = remote.db.execute_batch(&script(&rest));
            remote.db.execute_batch("ROLLBACK TO s; RELEASE s").unwrap();
            assert_eq!(done.is_ok(), expected.is_ok(), "{migration}: {done:?} {expected:?}");
            passed += usize::from(done.is_ok());
            dropped += usize::from(done.is_ok() && migration.contains("DROP COLUMN"));
        }
    }
    assert!(passed > 80 && dropped > 20, "{passed} migrations passed, {dropped} of them drops");
}

/// What is captured after a column is dropped has NULL in its place, and the rest of the row.
#[test]
fn a_dropped_column_is_null_in_what_is_captured() {
    let remote = Remote::new(TEN_COLUMNS, |_| ConflictRule::Row);
    let payment =
        "INSERT INTO payments (id, amount, currency, method) VALUES ('a', 1.5, 'EUR', 'card')";
    remote.transaction(payment).unwrap();
    remote.transaction("ALTER TABLE payments DROP COLUMN note").unwrap();
    remote.transaction(&payment.replace("'a'", "'b'")).unwrap();
    remote.transaction("UPDATE payments SET method = 'cash' WHERE id = 'a'").unwrap();
    remote.transaction("DELETE FROM payments WHERE id = 'b'").unwrap();
    let log = remote.log(0);
    let told: Vec<_> = log.iter().map(|event| (event.op, event.key.as_str())).collect();
    let (insert, update, delete) = (Op::Insert, Op::Update, Op::Delete);
    let keys = (r#"["a"]"#, r#"["b"]"#);
    assert_eq!(told, [(insert, keys.0), (insert, keys.1), (update, keys.0), (delete, keys.1)]);
    assert_eq!(log[2].after.as_deref(), Some(r#"{"method":"cash"}"#));
    let image = log[1].after.as_deref().unwrap();
    assert!(image.contains(r#""currency":"EUR""#) && image.contains(r#""note":null"#), "{image}");
    assert_eq!(log[3].before.as_deref(), Some(image));
}
