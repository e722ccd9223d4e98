//! Any SQLite client is captured while nothing of driftless runs: the `sqlite3` program and Python's
//! module, both of another version than ours, write what rusqlite writes, and their outboxes say the
//! same (F41).

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rusqlite::Connection;

use super::desk::Desk;
use super::fold::line;
use crate::support::tools::{Tool, require};

const SCHEMA: &str = include_str!("clients/schema.sql");
const WORKLOAD: &str = include_str!("clients/workload.sql");
/// A table that clients know from SQLite 3.37 on, and what is written to it.
const STRICT: &str = include_str!("clients/strict.sql");
const STRICT_WORKLOAD: &str = include_str!("clients/strict_workload.sql");
/// What a program writes that binds its values.
const BOUND: &str = include_str!("clients/bound.py");

/// The most columns a row of the wide table has: more than one `json_object` takes.
const WIDE: usize = 200;

/// Which of the tables a client knows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Knows {
    /// All but STRICT ones, without which it cannot open a file that has one.
    Ordinary,
    Strict,
    /// All but STRICT ones, and no index that calls a function.
    NoFunctions,
}

/// A file with the tables of [`SCHEMA`], and wide ones, captured.
fn desk(folder: &Path, knows: Knows) -> (Desk, std::path::PathBuf) {
    let path = folder.join("desk.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(SCHEMA).unwrap();
    if knows == Knows::NoFunctions {
        db.execute_batch("DROP INDEX loose_x").unwrap();
    }
    let mut tables = vec!["members", "payments", "pairs", "loose", "hundred", "wide"];
    if knows == Knows::Strict {
        db.execute_batch(STRICT).unwrap();
        tables.push("strict");
    }
    for (name, width) in [("hundred", 100), ("wide", WIDE)] {
        let columns: Vec<_> = (0..width).map(|i| format!("c{i}")).collect();
        db.execute_batch(&format!(
            "CREATE TABLE {name} ({}, PRIMARY KEY (c0))",
            columns.join(", ")
        ))
        .unwrap();
    }
    let mut desk = Desk::new(db);
    desk.capture(&tables).unwrap();
    (desk, path)
}

pub(super) fn workload(knows: Knows) -> String {
    let mut sql = WORKLOAD.to_owned();
    if knows == Knows::Strict {
        sql += STRICT_WORKLOAD;
    }
    for (name, width) in [("hundred", 100), ("wide", WIDE)] {
        let values: Vec<_> = (0..width).map(|i| ["'}'", "0.1", "x'00'", "7"][i % 4]).collect();
        let sets: Vec<_> = (0..width).map(|i| format!("c{i} = '{{{i}'")).collect();
        sql += &format!("INSERT INTO {name} VALUES ({});\n", values.join(", "));
        sql += &format!("UPDATE {name} SET c{} = 'last', c1 = 1.0;\n", width - 1);
        sql += &format!("UPDATE {name} SET {};\nDELETE FROM {name};\n", sets[1..].join(", "));
        sql += &format!("INSERT INTO {name} VALUES ({});\n", values.join(", "));
    }
    sql
}

/// The events, one a line, that `write` makes, folded.
pub(super) fn events(knows: Knows, write: impl FnOnce(&Path)) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let (mut desk, path) = desk(folder.path(), knows);
    write(&path);
    let changes = desk.read().unwrap_or_else(|(changes, error)| {
        let lines: Vec<_> = changes.iter().map(line).collect();
        panic!("{error}\n{}", lines.join("\n"))
    });
    assert!(desk.len() > 10, "the workload leaves rows");
    changes.iter().map(line).collect()
}

pub(super) fn ours(knows: Knows) -> Vec<String> {
    ours_of(knows, &workload(knows))
}

/// What rusqlite's writes of `sql` make.
pub(super) fn ours_of(knows: Knows, sql: &str) -> Vec<String> {
    events(knows, |path| Connection::open(path).unwrap().execute_batch(sql).unwrap())
}

pub(super) fn feed(command: &mut Command, text: &str) {
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn f41_the_sqlite3_program() {
    let Some(program) = require(Tool::Sqlite3) else { return };
    let sql = workload(Knows::Strict);
    let write = |path: &Path| feed(Command::new(&program).arg("-bail").arg(path), &sql);
    assert_eq!(events(Knows::Strict, write), ours(Knows::Strict));
}

#[test]
fn f41_python() {
    let Some(program) = require(Tool::Python3) else { return };
    let script = "import sqlite3, sys\n\
                  db = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
                  db.executescript(sys.stdin.read())\n";
    let sql = workload(Knows::Strict);
    let write = |path: &Path| feed(Command::new(&program).args(["-c", script]).arg(path), &sql);
    assert_eq!(events(Knows::Strict, write), ours(Knows::Strict));
}

#[test]
fn values_that_python_binds() {
    let Some(program) = require(Tool::Python3) else { return };
    let lines = events(Knows::Strict, |path| {
        feed(Command::new(&program).args(["-c", BOUND]).arg(path), "");
    });
    assert!(lines.iter().any(|line| line.contains("x=-inf")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("CAST(x'610062' AS TEXT)")), "{lines:#?}");
}
