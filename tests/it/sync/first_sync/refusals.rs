//! A refused `init` has changed nothing anywhere.

use std::path::Path;
use std::sync::Arc;

use driftless::Code;
use driftless::event::conflict::ConflictRule;
use driftless::sync::{Plan, Tables};
use fastrand::Rng;
use rusqlite::Connection;

use super::{file, remote_schema, schema};
use crate::support::blocking::initialise;
use crate::support::local_remote::LocalRemote;
use crate::support::seeds::each_seed;

/// Something on one of the sides, or in what is asked, for which an `init` must be refused.
struct Refusal {
    name: &'static str,
    here: &'static str,
    there: &'static str,
    ask: fn(&mut Plan),
    code: Code,
    names: &'static str,
}

fn nothing(_: &mut Plan) {}

fn name(plan: &mut Plan, names: &[&str]) {
    plan.tables = Tables::Named(names.iter().map(|&name| name.to_owned()).collect());
}

/// Each says what is wrong, by name.
const REFUSALS: [Refusal; 18] = [
    Refusal {
        name: "a table that nobody has",
        here: "",
        there: "",
        ask: |plan| name(plan, &["a", "nowhere"]),
        code: Code::NoSuchTable,
        names: "`nowhere`",
    },
    Refusal {
        name: "a table without a key",
        here: "CREATE TABLE odd (x)",
        there: "",
        ask: |plan| name(plan, &["a", "odd"]),
        code: Code::TableUnsupported,
        names: "`odd`",
    },
    Refusal {
        name: "a shadow table",
        here: "CREATE VIRTUAL TABLE words USING fts5(text); VACUUM",
        there: "",
        ask: |plan| name(plan, &["words_data"]),
        code: Code::TableUnsupported,
        names: "`words_data`",
    },
    Refusal {
        name: "a table to leave out that nobody has",
        here: "",
        there: "",
        ask: |plan| plan.tables = Tables::AllBut(vec!["nowhere".to_owned()]),
        code: Code::NoSuchTable,
        names: "`nowhere`",
    },
    Refusal {
        name: "a column more on one side",
        here: "CREATE TABLE b (id INTEGER PRIMARY KEY, x, y)",
        there: "CREATE TABLE b (id INTEGER PRIMARY KEY, x)",
        ask: nothing,
        code: Code::TablesDiffer,
        names: "`b`",
    },
    Refusal {
        name: "another key",
        here: "CREATE TABLE b (id TEXT PRIMARY KEY)",
        there: "CREATE TABLE b (id TEXT COLLATE NOCASE PRIMARY KEY)",
        ask: nothing,
        code: Code::TablesDiffer,
        names: "`b`",
    },
    Refusal {
        name: "a key on one side alone",
        here: "CREATE TABLE b (id INTEGER PRIMARY KEY)",
        there: "CREATE TABLE b (id INTEGER)",
        ask: nothing,
        code: Code::TableUnsupported,
        names: "`b`",
    },
    Refusal {
        name: "a view by the name of a table",
        here: "CREATE TABLE b (id INTEGER PRIMARY KEY)",
        there: "CREATE VIEW b AS SELECT 1 AS id",
        ask: nothing,
        code: Code::TableUnsupported,
        names: "`b`",
    },
    Refusal {
        name: "a parent that the remote lacks",
        here: "CREATE TABLE b (id INTEGER PRIMARY KEY); \
               CREATE TABLE c (id INTEGER PRIMARY KEY, b REFERENCES b (id))",
        there: "",
        ask: |plan| name(plan, &["a", "c"]),
        code: Code::ForeignKeyUnusable,
        names: "`b`",
    },
    Refusal {
        name: "a foreign key that leads to no key",
        here: "CREATE TABLE b (id INTEGER PRIMARY KEY, x); \
               CREATE TABLE c (id INTEGER PRIMARY KEY, b REFERENCES b (x))",
        there: "",
        ask: nothing,
        code: Code::ForeignKeyUnusable,
        names: "`c`",
    },
    Refusal {
        name: "an index's name that the remote has",
        here: "CREATE TABLE b (id INTEGER PRIMARY KEY, x); CREATE INDEX Taken ON b (x)",
        there: "CREATE TABLE c (id INTEGER PRIMARY KEY, x); CREATE INDEX taken ON c (x)",
        ask: |plan| name(plan, &["a", "b"]),
        code: Code::NameTaken,
        names: "`Taken`",
    },
    Refusal {
        name: "an index's name that this database has",
        here: "CREATE TABLE c (id INTEGER PRIMARY KEY, x); CREATE INDEX taken ON c (x)",
        there: "CREATE TABLE b (id INTEGER PRIMARY KEY, x); CREATE INDEX taken ON b (x)",
        ask: |plan| name(plan, &["a", "b"]),
        code: Code::NameTaken,
        names: "`taken`",
    },
    Refusal {
        name: "a table's name that is an index's there",
        here: "CREATE TABLE taken (id INTEGER PRIMARY KEY, x)",
        there: "CREATE TABLE c (id INTEGER PRIMARY KEY, x); CREATE INDEX taken ON c (x)",
        ask: |plan| name(plan, &["a", "taken"]),
        code: Code::NameTaken,
        names: "`taken`",
    },
    Refusal {
        name: "a rule for a table that is not replicated",
        here: "CREATE TABLE b (id INTEGER PRIMARY KEY)",
        there: "",
        ask: |plan| {
            name(plan, &["a"]);
            plan.rules = vec![("b".to_owned(), ConflictRule::Columns)];
        },
        code: Code::TableNotReplicated,
        names: "`b`",
    },
    Refusal {
        name: "a key here that is not UTF-8",
        here: "CREATE TABLE b (id TEXT PRIMARY KEY); INSERT INTO b VALUES (CAST(x'ff' AS TEXT))",
        there: "",
        ask: nothing,
        code: Code::KeyNotUtf8,
        names: "`b`",
    },
    Refusal {
        name: "a name of ours that is taken here",
        here: "CREATE VIEW driftless_outbox AS SELECT 1 AS n",
        there: "",
        ask: nothing,
        code: Code::NameReserved,
        names: "`driftless_outbox`",
    },
    Refusal {
        name: "a name of ours that is taken there",
        here: "",
        there: "CREATE TABLE Driftless_Events (id)",
        ask: nothing,
        code: Code::NameReserved,
        names: "`Driftless_Events`",
    },
    Refusal {
        name: "a table that shadows one to be made here",
        here: "CREATE VIRTUAL TABLE words USING fts5(text); VACUUM",
        there: "CREATE TABLE words_data (id INTEGER PRIMARY KEY, block BLOB)",
        ask: nothing,
        code: Code::TableUnsupported,
        names: "`words_data`",
    },
];

/// The bytes of each file in a folder, with its name.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// What both sides have in any case.
const COMMON: &str = "CREATE TABLE a (id INTEGER PRIMARY KEY, x); INSERT INTO a VALUES (1, 2);";

#[test]
fn a_refused_init_has_changed_nothing_anywhere() {
    for refusal in &REFUSALS {
        each_seed(3, "a_refused_init", |seed| {
            let mut rng = Rng::with_seed(seed);
            let common = |rng: &mut Rng| if rng.bool() { COMMON } else { "" };
            let there = format!("{}{}", common(&mut rng), refusal.there);
            let remote = Arc::new(LocalRemote::new(&there));
            // In one request, or in many.
            remote.set_caps(if rng.bool() { 60_000 } else { usize::MAX }, usize::MAX);
            if rng.bool() && !refusal.there.contains("Driftless") {
                // Another replica was here before, with the table that both have.
                let (_folder, mut other) = file(9, COMMON);
                name(&mut other, &["a"]);
                initialise(other, remote.clone()).unwrap();
            }
            let wal = if rng.bool() { "PRAGMA journal_mode = WAL;" } else { "" };
            let (folder, mut plan) = file(1, &format!("{wal}{COMMON}{}", refusal.here));
            (refusal.ask)(&mut plan);
            let path = plan.path.clone();
            let before = (files(folder.path()), schema(&path), remote_schema(&remote));
            let error = initialise(plan, remote.clone()).unwrap_err();
            let why = refusal.name;
            assert!(error.message().contains(refusal.names), "{why}: {error}");
            assert_eq!(error.code(), refusal.code, "{why}: {error}");
            let after = (files(folder.path()), schema(&path), remote_schema(&remote));
            assert!(before == after, "{why}: {error}");
        });
    }
}

#[test]
fn a_refused_init_makes_no_file() {
    let remote = Arc::new(LocalRemote::new(COMMON));
    let folder = tempfile::tempdir().unwrap();
    let mut plan = crate::support::desk::plan(folder.path().join("desk.db"), 1, &[]);
    name(&mut plan, &["a", "nowhere"]);
    let error = initialise(plan, remote).unwrap_err();
    assert_eq!(error.code(), Code::NoSuchTable, "{error}");
    assert_eq!(files(folder.path()), []);
}

/// VACUUM writes a virtual table's own definition behind those of its shadow tables.
#[test]
fn shadow_tables_are_known_in_any_order() {
    let schema = "CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT);
        CREATE VIRTUAL TABLE words USING fts5(body, content='note', content_rowid='id');
        CREATE VIRTUAL TABLE places USING rtree(id, x1, x2);
        CREATE TABLE words_of_mine (id INTEGER PRIMARY KEY);
        DELETE FROM note; VACUUM";
    let remote = Arc::new(LocalRemote::new(""));
    let (_folder, plan) = file(1, schema);
    let order = "SELECT (SELECT rowid FROM sqlite_schema WHERE name = 'words')
         > (SELECT rowid FROM sqlite_schema WHERE name = 'words_data')";
    let db = Connection::open(&plan.path).unwrap();
    assert!(db.query_row(order, [], |row| row.get::<_, bool>(0)).unwrap(), "it is a test");
    let (store, report) = initialise(plan, remote.clone()).unwrap();
    assert_eq!(report.made_there, ["note", "words_of_mine"]);
    let left: Vec<_> = store.left_out().unwrap().into_iter().map(|found| found.table).collect();
    assert_eq!(left, ["places", "words"]);
}
