//! The oldest SQLite on which capture must run, 3.35, in a program of its own (`.ci/oldest`): what it
//! writes is captured as what the bundled one writes is.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use driftless::event::value::Value;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use rusqlite::Connection;

use super::clients::{Knows, events, ours, workload};
use super::desk::Desk;
use super::fold::line;
use super::property::{Definition, Step, explore};
use crate::support::tools::{Tool, require};

/// How many random tables it writes to.
const CASES: u32 = 40;

/// A constraint was violated, and a value has the wrong type.
const EXPECTED: [&str; 2] = ["19", "20"];

/// A client with a connection to a file.
struct Oldest {
    process: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

/// What a statement came to: whether no transaction is open, and an error's code and message.
struct Outcome {
    autocommit: bool,
    error: Option<(String, String)>,
}

impl Oldest {
    fn open(program: &Path, file: &Path) -> Oldest {
        let mut process = Command::new(program)
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (process.stdin.take(), process.stdout.take().unwrap());
        Oldest { process, to, from: BufReader::new(from) }
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.to.as_mut().unwrap(), "{line}").unwrap();
        let mut answer = String::new();
        self.from.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    fn execute(&mut self, sql: &str, values: &[&Value]) -> Outcome {
        let mut line = hex(sql.as_bytes());
        for value in values {
            let _ = match value {
                Value::Null => write!(line, " n"),
                Value::Integer(integer) => write!(line, " i{integer}"),
                Value::Real(real) => write!(line, " r{:016x}", real.to_bits()),
                Value::Text(text) => write!(line, " t{}", hex(text)),
                Value::Blob(blob) => write!(line, " b{}", hex(blob)),
            };
        }
        let answer = self.ask(&line);
        let mut words = answer.splitn(4, ' ').map(str::to_owned);
        let (done, autocommit) = (words.next().unwrap(), words.next().unwrap() == "1");
        let mut said = || words.next().unwrap_or_default();
        let error = (done == "error").then(|| (said(), said()));
        Outcome { autocommit, error }
    }
}

impl Drop for Oldest {
    fn drop(&mut self) {
        drop(self.to.take());
        let ended = self.process.wait();
        if !std::thread::panicking() {
            assert!(ended.unwrap().success(), "the client failed; what it said is above");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn f41_sqlite_of_the_oldest_version() {
    let Some(program) = require(Tool::OldestSqlite) else { return };
    let write = |path: &Path| {
        let mut client = Oldest::open(&program, path);
        assert!(client.ask("version").starts_with("3.35."), "it is the oldest");
        let outcome = client.execute(&workload(Knows::Ordinary), &[]);
        assert_eq!(outcome.error, None);
    };
    assert_eq!(events(Knows::Ordinary, write), ours(Knows::Ordinary));
}

/// As `capture::property` does it, with another program for the writer.
fn run(
    program: &Path,
    table: &Definition,
    steps: &[Step],
    events: &Cell<usize>,
) -> Result<(), TestCaseError> {
    let failed = |error: rusqlite::Error| TestCaseError::fail(error.to_string());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("desk.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF").map_err(failed)?;
    db.execute_batch(&table.sql()).map_err(failed)?;
    let mut desk = Desk::new(db);
    desk.capture(&["t"]).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let mut client = Oldest::open(program, &path);
    if table.recursive {
        client.execute("PRAGMA recursive_triggers = 1", &[]);
    }
    for (index, step) in steps.iter().chain([&Step::Commit]).enumerate() {
        let (sql, values) = step.sql(table);
        let values: Vec<_> = values.into_iter().map(|bound| &bound.0).collect();
        let outcome = client.execute(&sql, &values);
        if let Some((code, message)) = outcome.error {
            let control = matches!(step, Step::Begin | Step::Undo | Step::Commit | Step::Rollback);
            let expected = control || EXPECTED.contains(&code.as_str());
            prop_assert!(expected, "step {index}: {message} ({code}): {sql}");
        }
        if outcome.autocommit {
            let changes = desk.read().map_err(|(changes, error)| {
                let lines: Vec<_> = changes.iter().map(line).collect();
                TestCaseError::fail(format!("step {index}: {error}\n{}", lines.join("\n")))
            })?;
            events.set(events.get() + changes.len());
        }
    }
    Ok(())
}

#[test]
fn its_outbox_folds_to_the_table() {
    let Some(program) = require(Tool::OldestSqlite) else { return };
    let events = Cell::new(0);
    let explored = explore(CASES, "capture::oldest", |table, steps| {
        // Only later versions know STRICT.
        if table.strict { Ok(()) } else { run(&program, table, steps, &events) }
    });
    assert!(events.get() > 0, "nothing was written\n{} repeats this", explored.repeat);
}
