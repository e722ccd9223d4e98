//! A remote that lies during the first sync: what it calls its definitions and its rows.

use std::path::Path;
use std::sync::Arc;

use driftless::remote::{Answer, Batch, Pending, Remote};
use driftless::sync::initialise;
use driftless::value::Value;
use driftless::{Kind, Result};
use rusqlite::Connection;

use crate::support::desk::{SCHEMA, plan};
use crate::support::local_remote::{LocalRemote, read};

type Lie = Box<dyn Fn(&Batch, &mut Answer) + Send + Sync>;

/// An honest remote behind somebody who changes its answers.
struct Liar {
    honest: LocalRemote,
    lie: Lie,
}

impl Remote for Liar {
    fn run(&self, batch: Batch) -> Pending<'_> {
        let outcome = self.honest.run_now(batch.clone());
        let outcome = outcome.map(|mut answer| {
            (self.lie)(&batch, &mut answer);
            answer
        });
        Box::pin(async move { outcome })
    }

    fn url(&self) -> String {
        self.honest.url()
    }
}

/// The application's database after a first sync with a remote that lies.
fn first_sync(lie: Lie) -> (Result<()>, Connection, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("desk.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(SCHEMA).unwrap();
    db.execute_batch("INSERT INTO payments VALUES (1, NULL, 500)").unwrap();
    // One table is only there.
    let honest =
        LocalRemote::new(&format!("{SCHEMA} CREATE TABLE fresh (id TEXT PRIMARY KEY, a);"));
    honest.web("INSERT INTO members VALUES ('m1', 'Ana', NULL), ('m2', 'Bea', NULL)");
    let liar = Arc::new(Liar { honest, lie });
    let outcome = initialise(plan(path, 1, &[]), liar).map(|_| ());
    (outcome, db, folder)
}

/// Adds definitions to those that the remote has.
fn defining(definitions: &'static [[&'static str; 4]], folder: &Path) -> Lie {
    let place = folder.display().to_string();
    Box::new(move |batch, answer| {
        if batch.statements[0].contains("FROM sqlite_schema") {
            for (at, definition) in definitions.iter().enumerate() {
                let mut row: Vec<_> = definition
                    .iter()
                    .map(|text| Value::from(text.replace("HERE", &place).as_str()))
                    .collect();
                row.push(Value::Integer(1_000 + at as i64));
                answer.rows[0].push(row);
            }
        }
    })
}

#[test]
fn a_definition_runs_no_other_sql() {
    let folder = tempfile::tempdir().unwrap();
    let lie = defining(
        &[
            ["index", "i1", "members", "DROP TABLE payments"],
            ["index", "i2", "members", "CREATE INDEX i2 ON members (name); DELETE FROM payments"],
            ["index", "i3", "fresh", "DELETE FROM payments"],
            ["index", "i4", "fresh", "ATTACH 'HERE/attached.db' AS x"],
            ["index", "i5", "fresh", "CREATE INDEX i5 ON fresh (a)"],
            ["table", "t1", "t1", "ATTACH 'HERE/attached.db' AS y"],
            [
                "table",
                "t2",
                "t2",
                "CREATE TABLE t2 (id PRIMARY KEY); ATTACH 'HERE/attached.db' AS z",
            ],
            ["table", "t3", "t3", "VACUUM INTO 'HERE/attached.db'"],
            ["table", "t4", "t4", "PRAGMA writable_schema = 1"],
            [
                "table",
                "t5",
                "t5",
                "CREATE TABLE t5 AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL \
                SELECT x + 1 FROM n) SELECT x FROM n",
            ],
            [
                "table",
                "t6",
                "t6",
                "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) \
                INSERT INTO fresh SELECT x, x FROM n",
            ],
            ["table", "t7", "t7", "SELECT load_extension('HERE/evil.so')"],
            [
                "table",
                "t8",
                "t8",
                "CREATE TRIGGER t8 AFTER INSERT ON members BEGIN DELETE FROM payments; END",
            ],
            ["table", "payments2", "payments2", "CREATE TABLE payments (id INTEGER PRIMARY KEY)"],
            ["table", "driftless_x", "x", "CREATE TABLE Driftless_state (id INTEGER PRIMARY KEY)"],
        ],
        folder.path(),
    );
    let (outcome, db, _desk) = first_sync(lie);
    outcome.unwrap();
    assert!(!folder.path().join("attached.db").exists(), "a file was made");
    assert_eq!(read(&db, "SELECT id, cents FROM payments"), "1|500");
    let tables = "SELECT group_concat(name) FROM (SELECT name FROM sqlite_schema
        WHERE type IN ('table', 'index') AND name NOT LIKE 'driftless%' AND name NOT LIKE 'sqlite%'
        ORDER BY name)";
    assert_eq!(read(&db, tables), "fresh,i5,members,payments");
    assert_eq!(read(&db, "SELECT name FROM members ORDER BY id"), "Ana\nBea");
}

#[test]
fn more_definitions_than_any_database_has_are_refused() {
    let (outcome, db, _desk) = first_sync(Box::new(|batch, answer| {
        if batch.statements[0].contains("FROM sqlite_schema") {
            for number in 0..20_000 {
                let name = format!("t{number}");
                let sql = format!("CREATE TABLE {name} (id PRIMARY KEY)");
                let row = ["table", &name, &name, &sql].map(Value::from);
                answer.rows[0].push([row.to_vec(), vec![Value::Integer(number)]].concat());
            }
        }
    }));
    assert_eq!(outcome.unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(read(&db, "SELECT id, cents FROM payments"), "1|500");
}

#[test]
fn rows_that_are_none_are_refused() {
    let bad: [&[u8]; 9] = [
        b"[[\"m1\"],{\"id\":\"m2\",\"name\":\"x\",\"email\":null}]",
        b"[[\"m1\",\"m1\"],{\"id\":\"m1\",\"name\":\"x\",\"email\":null}]",
        b"[[null],{\"id\":null,\"name\":\"x\",\"email\":null}]",
        b"[[\"m1\"],{\"name\":\"x\",\"email\":null}]",
        b"[[\"m1\"],{}]",
        b"[[\"m1\"],{\"id\":\"m1\",\"name\":\"x\",\"NAME\":\"y\",\"email\":null}]",
        b"[[\"m1\"],[]]",
        b"[[\"m1\"]]",
        b"nonsense",
    ];
    for line in bad {
        let (outcome, db, _desk) = first_sync(Box::new(move |batch, answer| {
            if batch.statements[0].contains("FROM \"members\" AS r") {
                answer.rows[0] = vec![vec![Value::Blob(line.to_vec()), Value::Integer(1)]];
            }
        }));
        let line = String::from_utf8_lossy(line);
        let error = outcome.expect_err(&line);
        assert_eq!(error.kind(), Kind::Corrupt, "{line}: {error:?}");
        assert_eq!(read(&db, "SELECT id, cents FROM payments"), "1|500", "{line}");
        db.execute_batch("INSERT INTO members VALUES ('mine', 'goes on', NULL)").unwrap();
    }
}

#[test]
fn a_table_that_never_ends_is_noticed() {
    // The same page again and again.
    let (outcome, _db, _desk) = first_sync(Box::new(|batch, answer| {
        if batch.statements[0].contains("FROM \"members\" AS r") {
            let row = b"[[\"m1\"],{\"id\":\"m1\",\"name\":\"x\",\"email\":null}]".to_vec();
            answer.rows[0] = vec![vec![Value::Blob(row), Value::Integer(1)]];
        }
    }));
    assert_eq!(outcome.unwrap_err().kind(), Kind::Corrupt);
}

#[test]
fn an_event_that_is_none_does_not_stop_the_first_sync() {
    let lines = [
        r#"[5,"01JD8ZK3V5QWERTY0000000005","web",null,null,"members",["m1"],"update",{},{"name":{"q":"1"}},0,null,null,null,"applied",null,1]"#,
        r#"[6,"01JD8ZK3V5QWERTY0000000006","web",null,null,"members",["m1","x"],"update",{},{"name":"x"},0,null,null,null,"applied",null,1]"#,
        "[7,nonsense",
        r#"[8,"01JD8ZK3V5QWERTY0000000008","web",null,null,"members",["m2"],"update",{},{"name":"Beate"},0,null,null,null,"applied",null,1]"#,
    ]
    .join("\n")
    .into_bytes();
    let (outcome, db, _desk) = first_sync(Box::new(move |batch, answer| {
        if batch.statements[0].contains("FROM driftless_events") && batch.statements.len() == 2 {
            let numbers = [8, 4, 8].map(Value::Integer);
            answer.rows[0] = vec![[vec![Value::Blob(lines.clone())], numbers.to_vec()].concat()];
        }
    }));
    outcome.unwrap();
    assert_eq!(read(&db, "SELECT name FROM members ORDER BY id"), "Ana\nBeate");
    assert_eq!(read(&db, "SELECT seq FROM driftless_quarantine ORDER BY seq"), "5\n6\n7");
}
