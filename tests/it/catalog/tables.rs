//! Tables that cannot be replicated are refused when they are named, and skipped, with the reason,
//! when they are found.

use driftless::Kind;
use driftless::catalog::{Catalog, MAX_COLUMNS, MAX_KEY_COLUMNS, Table, create_if_missing};
use rusqlite::Connection;

/// A database with one table of each kind, and what is said of it; `None` where it can be had.
fn database() -> (Connection, Vec<(&'static str, Option<&'static str>)>) {
    let db = Connection::open_in_memory().unwrap();
    let wide: Vec<_> = (0..=MAX_COLUMNS).map(|i| format!("c{i}")).collect();
    let long: Vec<_> = (0..=MAX_KEY_COLUMNS).map(|i| format!("c{i}")).collect();
    db.execute_batch(&format!(
        "CREATE TABLE plain (id INTEGER PRIMARY KEY, n TEXT COLLATE NOCASE);
         CREATE TABLE widest ({most}, PRIMARY KEY (c0));
         CREATE TABLE wide ({wide}, PRIMARY KEY (c0));
         CREATE TABLE long ({long}, PRIMARY KEY ({long}));
         CREATE TABLE keyless (a, b UNIQUE);
         CREATE TABLE collated (id TEXT COLLATE NOCASE PRIMARY KEY);
         CREATE TABLE collated_key (id TEXT, PRIMARY KEY (id COLLATE NOCASE));
         CREATE TABLE driftless_things (id INTEGER PRIMARY KEY);
         CREATE VIEW seen AS SELECT * FROM plain;
         CREATE VIRTUAL TABLE words USING fts5 (word);
         CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT);",
        most = wide[1..].join(", ").replacen("c1,", "c0,", 1),
        wide = wide.join(", "),
        long = long.join(", "),
    ))
    .unwrap();
    // As the application left it that has the collation. This program does not, like any other.
    db.execute_batch(
        "PRAGMA writable_schema = 1;
         UPDATE sqlite_schema SET sql = replace(sql, 'NOCASE', 'german');
         PRAGMA writable_schema = RESET;",
    )
    .unwrap();
    let expected = vec![
        ("plain", None),
        ("widest", None),
        ("counted", None),
        ("wide", Some("table `wide` has 201 columns; at most 200 can be replicated")),
        ("long", Some("the key of table `long` has 17 columns; at most 16 can be replicated")),
        ("keyless", Some("table `keyless` has no primary key")),
        (
            "collated",
            Some(
                "key column `id` of table `collated` has the collation `german`, which other programs do not know",
            ),
        ),
        (
            "collated_key",
            Some(
                "key column `id` of table `collated_key` has the collation `german`, which other programs do not know",
            ),
        ),
        ("seen", Some("`seen` is a view and cannot be replicated")),
        ("words", Some("`words` is a virtual table and cannot be replicated")),
        ("words_data", Some("`words_data` belongs to a virtual table and cannot be replicated")),
        (
            "sqlite_sequence",
            Some("`sqlite_sequence` is one of SQLite's own and cannot be replicated"),
        ),
        (
            "driftless_things",
            Some("`driftless_things` is one of driftless's own and cannot be replicated"),
        ),
        ("nothing", Some("there is no table `nothing`")),
    ];
    (db, expected)
}

#[test]
fn named_tables_are_refused_with_the_reason() {
    let (db, expected) = database();
    for (name, reason) in expected {
        match (Table::read(&db, name), reason) {
            (Ok(table), None) => assert_eq!(table.name, name),
            (Err(error), Some(reason)) => {
                assert_eq!(error.message(), reason);
                assert_eq!(error.kind(), Kind::Usage, "{name}");
            }
            (found, _) => panic!("{name}: {found:?}"),
        }
    }
}

#[test]
fn found_tables_are_skipped_with_the_reason() {
    let (db, expected) = database();
    let catalog = Catalog::read(&db).unwrap();
    for (name, reason) in expected {
        let skipped = catalog.skipped.iter().find(|(skipped, _)| skipped == name);
        // What is SQLite's, ours, or a part of a virtual table is nobody's business.
        let silent = ["words_data", "sqlite_sequence", "driftless_things", "nothing"];
        let told = if silent.contains(&name) { None } else { reason };
        assert_eq!(skipped.map(|(_, reason)| reason.as_str()), told, "{name}");
        assert_eq!(catalog.table(name).is_some(), reason.is_none(), "{name}");
    }
    assert!(!catalog.skipped.iter().any(|(name, _)| name.starts_with("words_")));
}

#[test]
fn a_table_is_made_anew_from_its_definition() {
    let definitions = [
        "CREATE TABLE plain (id INTEGER PRIMARY KEY, x TEXT DEFAULT '(')",
        "CREATE TABLE \"a(b\" (id INTEGER PRIMARY KEY)",
        "CREATE TABLE [it's (so)] (id INTEGER PRIMARY KEY) STRICT, WITHOUT ROWID",
        "CREATE TABLE -- (a comment\n noted /* (x */ (id INTEGER PRIMARY KEY)",
    ];
    for definition in definitions {
        let here = Connection::open_in_memory().unwrap();
        here.execute_batch(definition).unwrap();
        let table = Catalog::read(&here).unwrap().tables.remove(0);
        let there = Connection::open_in_memory().unwrap();
        for _ in 0..2 {
            there.execute_batch(&create_if_missing(&table)).unwrap();
        }
        let made = Table::read(&there, &table.name).unwrap();
        assert_eq!(Table { sql: String::new(), ..made }, Table { sql: String::new(), ..table });
    }
}
