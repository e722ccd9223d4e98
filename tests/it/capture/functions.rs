//! No local trigger calls a function that an application may have replaced, or that a build of
//! SQLite may lack (F58, F59).

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use driftless::capture::triggers;
use driftless::catalog::Table;
use rusqlite::Connection;

use super::clients::{Knows, events, feed, ours_of};
use super::property::explore;
use crate::support::tools::{Tool, require};

/// The functions that the triggers may call, and why no operator will do.
const ALLOWED: [(&str, &str); 2] =
    [("julianday", "the time of an event's id"), ("random", "the random bits of an event's id")];

/// Words in front of a bracket that call nothing.
const KEYWORDS: [&str; 20] = [
    "AND", "AS", "BEGIN", "BETWEEN", "BY", "CASE", "CAST", "ELSE", "EXISTS", "FROM", "SELECT",
    "IN", "IS", "JOIN", "NOT", "ON", "OR", "THEN", "WHEN", "WHERE",
];
/// Operators and constants that are functions under another name.
const HIDDEN: [&str; 9] = [
    "LIKE",
    "GLOB",
    "MATCH",
    "REGEXP",
    "CURRENT_TIMESTAMP",
    "CURRENT_TIME",
    "CURRENT_DATE",
    "->",
    "->>",
];

/// Random tables.
const CASES: u32 = 300;

/// Tables with every kind of column, key, index and reference, and nothing that calls a function
/// itself.
const SCHEMA: &str = "
    CREATE TABLE rowids (id INTEGER PRIMARY KEY, a, b INT UNIQUE, c TEXT COLLATE NOCASE UNIQUE, d REAL,
        e BLOB, f NUMERIC NOT NULL DEFAULT 1 UNIQUE, g TEXT NOT NULL DEFAULT 2, h REAL NOT NULL DEFAULT 3,
        boss INT REFERENCES rowids ON DELETE CASCADE ON UPDATE CASCADE);
    CREATE TABLE texts (id TEXT COLLATE NOCASE PRIMARY KEY, x TEXT COLLATE RTRIM,
        made TEXT AS (x || '!') STORED UNIQUE, code INT UNIQUE);
    CREATE TABLE trimmed (id TEXT COLLATE RTRIM PRIMARY KEY DEFAULT 'x' NOT NULL, x);
    CREATE TABLE pairs (a INT, b REAL, c TEXT COLLATE NOCASE, d TEXT COLLATE RTRIM, e, x UNIQUE,
        PRIMARY KEY (c, a, b, d, e), UNIQUE (b, x) ON CONFLICT REPLACE);
    CREATE TABLE clustered (a DATETIME, b TEXT COLLATE RTRIM, x, PRIMARY KEY (a, b)) WITHOUT ROWID;
    CREATE TABLE strict (id ANY PRIMARY KEY, a INT, b TEXT, c REAL, d BLOB, e ANY) STRICT;
    CREATE UNIQUE INDEX partial ON strict (a) WHERE b > 'x';
    CREATE TABLE children (id PRIMARY KEY, one TEXT REFERENCES texts ON DELETE CASCADE,
        two INT REFERENCES texts (code) ON DELETE SET NULL, raw,
        made AS (raw) REFERENCES rowids DEFERRABLE INITIALLY DEFERRED,
        too TEXT REFERENCES texts (made), a INT, b TEXT,
        FOREIGN KEY (a, b) REFERENCES clustered ON DELETE SET DEFAULT ON UPDATE CASCADE);";

/// The functions that a statement calls, by any way of calling them.
fn called(sql: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let (mut before, mut last) = (String::new(), String::new());
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let len = match first {
            '\'' | '"' => {
                let mut end = 1;
                while let Some(at) = rest[end..].find(first) {
                    end += at + 1;
                    if !rest[end..].starts_with(first) {
                        break;
                    }
                    end += 1;
                }
                end
            }
            '-' if rest.starts_with("->") => 2,
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let token = &rest[..len];
        rest = &rest[len..];
        if token.trim().is_empty() {
            continue;
        }
        let upper = last.to_ascii_uppercase();
        let names = last.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '"');
        // A table with its columns, or a trigger's.
        let is_target = ["INTO", "ON", "OF"].contains(&before.to_ascii_uppercase().as_str());
        if token == "(" && names && !is_target && !KEYWORDS.contains(&&*upper) && upper != "VALUES"
        {
            found.insert(last.trim_matches('"').to_ascii_lowercase());
        }
        if HIDDEN.contains(&&*token.to_ascii_uppercase()) {
            found.insert(token.to_owned());
        }
        before = std::mem::replace(&mut last, token.to_owned());
    }
    found
}

fn allowed() -> BTreeSet<String> {
    ALLOWED.iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// The functions that the triggers of all tables call.
fn of_all(db: &Connection, names: &[String]) -> BTreeSet<String> {
    let tables: Vec<_> = names.iter().map(|name| Table::read(db, name).unwrap()).collect();
    let all: Vec<_> = tables.iter().collect();
    let triggers = tables.iter().flat_map(|table| triggers(table, &all));
    triggers.flat_map(|trigger| called(&trigger.sql)).collect()
}

#[test]
fn calls_are_found() {
    let found = called(
        "CREATE TRIGGER x AFTER UPDATE OF a ON \"lower\" (1) WHEN a IN (1) AND lower (a) BEGIN \
         INSERT INTO t (a, b) SELECT 'upper(1)', \"trim\"(b), max(1, (SELECT 2)) WHERE a LIKE b; END",
    );
    let expected = ["LIKE", "lower", "max", "trim"].map(str::to_owned);
    assert_eq!(found, BTreeSet::from(expected));
}

#[test]
fn f58_no_trigger_calls_a_function_that_can_be_replaced() {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch(SCHEMA).unwrap();
    let sql =
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND name NOT GLOB 'sqlite*'";
    let mut statement = db.prepare(sql).unwrap();
    let names = statement.query_map([], |row| row.get(0)).unwrap();
    let names: Vec<String> = names.map(Result::unwrap).collect();
    assert_eq!(names.len(), 7);
    assert_eq!(of_all(&db, &names), allowed());
}

#[test]
fn f58_nor_do_those_of_any_table() {
    let explored = explore(CASES, "capture::functions", |table, _| {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(&table.sql()).unwrap();
        // What an index calls, the application has written, and calls itself.
        let mut allowed = allowed();
        let own = called(&table.sql());
        let found = of_all(&db, &["t".to_owned()]);
        allowed.extend(own);
        let more: Vec<_> = found.difference(&allowed).collect();
        proptest::prop_assert!(more.is_empty(), "{more:?}");
        Ok(())
    });
    assert!(explored.cases > 0);
}

/// Replaces every function but the two by one that lies, in Python.
const HOSTILE: &str = r#"
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
names = set(db.execute("SELECT lower(name), narg FROM pragma_function_list WHERE builtin"))
assert ("lower", 1) in names and ("coalesce", -1) in names and len(names) > 80, names
for name, count in names:
    if name not in ("julianday", "random"):
        db.create_function(name, count, lambda *values: "hostile")
for name, count in (("typeof", 1), ("json_array", -1), ("json_object", -1), ("coalesce", 2), ("max", 2)):
    db.create_function(name, count, lambda *values: "hostile")
assert db.execute("SELECT lower('A'), typeof(1), max(1, 2)").fetchone() == ("hostile",) * 3
db.execute("PRAGMA trusted_schema = OFF")
assert db.execute("PRAGMA trusted_schema").fetchone() == (0,)
db.executescript(sys.stdin.read())
"#;

#[test]
fn f58_f59_a_client_with_other_functions_that_trusts_no_schema() {
    let Some(program) = require(Tool::Python3) else { return };
    let sql = plain_workload();
    let write = |path: &Path| feed(Command::new(&program).args(["-c", HOSTILE]).arg(path), &sql);
    assert_eq!(events(Knows::NoFunctions, write), ours_of(Knows::NoFunctions, &sql));
}

#[test]
fn f59_the_sqlite3_program_that_trusts_no_schema() {
    let Some(program) = require(Tool::Sqlite3) else { return };
    let sql = format!("PRAGMA trusted_schema = OFF;\n{}", plain_workload());
    let write = |path: &Path| feed(Command::new(&program).arg("-bail").arg(path), &sql);
    assert_eq!(events(Knows::NoFunctions, write), ours_of(Knows::NoFunctions, &sql));
}

/// The workload without the functions that the application itself calls.
fn plain_workload() -> String {
    let sql = super::clients::workload(Knows::NoFunctions);
    let plain = sql
        .replace("char(9, 10, 31, 233, 128512)", "'é'")
        .replace("'a' || char(0) || 'b'", "CAST(x'610062' AS TEXT)");
    assert_eq!(called(&plain).into_iter().filter(|name| name == "char").count(), 0);
    plain
}

/// The two that are left decide about nothing but the id.
#[test]
fn f58_the_time_and_the_dice_can_be_replaced() {
    let Some(program) = require(Tool::Python3) else { return };
    let sql = plain_workload();
    let expected = ours_of(Knows::NoFunctions, &sql);
    for value in ["None", "'text'", "1e300", "-5.5", "b'x'"] {
        let script = format!(
            "import sqlite3, sys\n\
             db = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
             db.create_function('julianday', 0, lambda: {value})\n\
             db.create_function('random', 0, lambda: {value})\n\
             db.executescript(sys.stdin.read())\n"
        );
        let write = |path: &Path| {
            feed(Command::new(&program).args(["-c", &script]).arg(path), &sql);
            let db = Connection::open(path).unwrap();
            let odd = "SELECT count(*) FROM driftless_outbox WHERE ms IS NULL OR ms NOT BETWEEN 0
                       AND 281474976710655 OR tail NOT BETWEEN 0 AND 1099511627775";
            let odd: i64 = db.query_row(odd, [], |row| row.get(0)).unwrap();
            assert_eq!(odd, 0, "{value}");
        };
        assert_eq!(events(Knows::NoFunctions, write), expected, "{value}");
    }
}
