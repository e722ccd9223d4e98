//! Any table, any values, any statements, on two desks: nothing differs but what was planted.
//!
//! The tables and the statements are those of [`property`](crate::capture::property), and so is how
//! to repeat a failure: `DRIFTLESS_TEST_SEED=… cargo test sync::verify::random`.

use std::cell::Cell;
use std::cmp::Ordering;
use std::sync::Arc;

use driftless::catalog::{Table, ident};
use driftless::event::value::Value;
use driftless::protocol::compare::KeyOrder;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use rusqlite::Connection;

use super::{compare, plant_there};
use crate::capture::fold::literal;
use crate::capture::property::{Definition, Step, explore_from};
use crate::support::desk::Desk;
use crate::support::engine::Engine;
use crate::support::local_remote::{LocalRemote, rows};

/// How many tables are made by default: some seconds' worth without optimization.
const CASES: u32 = 60;

/// Where chance begins: see [`roundtrip`](crate::sync::roundtrip).
const SEED: u64 = 1;

fn failed(error: impl std::fmt::Display) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

/// Does some of the steps on a desk. Gives false where a limit of SQLite's ends the case.
fn write(desk: &Desk, table: &Definition, steps: &[Step]) -> Result<bool, TestCaseError> {
    for step in steps.iter().chain([&Step::Commit]) {
        let (sql, binds) = step.sql(table);
        let _ = desk.db.execute(&sql, rusqlite::params_from_iter(binds));
        let mut check = desk.db.prepare("PRAGMA foreign_key_check").map_err(failed)?;
        if check.exists([]).map_err(failed)? && desk.db.is_autocommit() {
            return Ok(false);
        }
    }
    if !desk.db.is_autocommit() {
        desk.db.execute_batch("ROLLBACK").map_err(failed)?;
    }
    Ok(true)
}

/// Whether a key has text that is not UTF-8: a known limit of capture.
fn is_raw(key: &Value) -> bool {
    let Some(key) = key.as_str() else { return true };
    !driftless::event::RowKey(key.to_owned()).is_utf8()
}

/// The keys of the rows that have one.
fn keys(db: &Connection, table: &Definition) -> Result<Vec<Vec<Value>>, TestCaseError> {
    let key = table.key();
    let known: Vec<_> = key.iter().map(|name| format!("{name} IS NOT NULL")).collect();
    let sql =
        format!("SELECT {0} FROM t WHERE {1} ORDER BY {0}", key.join(", "), known.join(" AND "));
    rows(db, &sql).map_err(failed)
}

fn condition(table: &Definition, key: &[Value]) -> String {
    let parts = table.key().into_iter().zip(key);
    let parts = parts.map(|(name, value)| format!("{name} = {}", literal(value)));
    parts.collect::<Vec<_>>().join(" AND ")
}

fn run(
    table: &Definition,
    steps: &[Step],
    engine: Engine,
    planted: &Cell<usize>,
) -> Result<(), TestCaseError> {
    let remote = Arc::new(LocalRemote::over(engine, ""));
    let mut a = Desk::with_schema(&remote, 1, &table.sql());
    let mut b = Desk::with_schema(&remote, 2, &table.sql());
    let parts: Vec<_> = steps.chunks(steps.len().div_ceil(3)).collect();
    let part = |at: usize| parts.get(at).copied().unwrap_or_default();
    if !write(&a, table, part(0))? {
        return Ok(());
    }
    a.sync().map_err(failed)?;
    b.sync().map_err(failed)?;
    // Both write; what one has pushed is on its way to the other, whose own events are pending.
    if !write(&a, table, part(1))? || !write(&b, table, part(2))? {
        return Ok(());
    }
    b.sync().map_err(failed)?;
    if remote.rows("SELECT DISTINCT pk FROM driftless_events").iter().any(|row| is_raw(&row[0])) {
        return Ok(());
    }
    if keys(&a.db, table)?
        .iter()
        .flatten()
        .any(|value| matches!(value, Value::Text(text) if std::str::from_utf8(text).is_err()))
    {
        return Ok(());
    }
    for desk in [&a, &b] {
        let found = compare(desk).map_err(failed)?;
        prop_assert!(found.is_clean(), "nothing was planted: {found:?}");
    }
    // A row is gone here, one has another value, and one is gone there.
    let db = Connection::open(a.path()).map_err(failed)?;
    let all = keys(&db, table)?;
    let order = KeyOrder::of(&Table::read(&db, "t").map_err(failed)?);
    let mut expected = Vec::new();
    let mut plant_here = |sql: String, key: &Vec<Value>| {
        let sql = format!(
            "BEGIN IMMEDIATE; UPDATE driftless_state SET replaying = 1; {sql};
             UPDATE driftless_state SET replaying = 0; COMMIT"
        );
        match db.execute_batch(&sql) {
            Ok(()) => expected.push(key.clone()),
            Err(_) if !db.is_autocommit() => db.execute_batch("ROLLBACK").unwrap(),
            Err(_) => {}
        }
    };
    if let Some(key) = all.first() {
        plant_here(format!("DELETE FROM t WHERE {}", condition(table, key)), key);
    }
    let plain = Table::read(&db, "t").map_err(failed)?;
    let other = (0..plain.columns.len()).find(|at| !plain.key.contains(at));
    if let (Some(key), Some(other)) = (all.get(1), other) {
        let name = ident(&plain.columns[other].name);
        let sql = format!("SELECT {name} FROM t WHERE {}", condition(table, key));
        let before = rows(&db, &sql).map_err(failed)?;
        let value = if before[0][0] == Value::Integer(71) { 72 } else { 71 };
        let set = format!("UPDATE t SET {name} = {value} WHERE {}", condition(table, key));
        plant_here(set, key);
    }
    let there = remote.rows(&format!("SELECT {} FROM t", table.key().join(", ")));
    let gone = all.last().filter(|key| {
        all.len() > 2 && there.iter().any(|there| order.compare(there, key) == Ordering::Equal)
    });
    if let Some(key) = gone {
        remote.web("PRAGMA foreign_keys = OFF");
        plant_there(&remote, &format!("DELETE FROM t WHERE {}", condition(table, key)));
        expected.push(key.clone());
    }
    let found = compare(&a).map_err(failed)?;
    let found: Vec<_> = found.rows.iter().map(|found| found.key.values().unwrap()).collect();
    let is_in = |list: &[Vec<Value>], key: &Vec<Value>| {
        list.iter().any(|other| order.compare(other, key) == Ordering::Equal)
    };
    prop_assert!(expected.iter().all(|key| is_in(&found, key)), "{expected:?}, not {found:?}");
    prop_assert!(found.iter().all(|key| is_in(&expected, key)), "{expected:?}, not {found:?}");
    planted.set(planted.get() + expected.len());
    Ok(())
}

#[test]
fn what_was_planted_is_found_and_nothing_else() {
    let planted = Cell::new(0);
    let check = |table: &_, steps: &_| run(table, steps, Engine::bundled(), &planted);
    let explored = explore_from(SEED, CASES, "sync::verify::random", check);
    assert!(
        explored.cases < CASES || planted.get() > explored.cases as usize / 2,
        "{}",
        planted.get()
    );
}

/// It has no function for the hash, so rows are read instead.
#[test]
fn libsqls_engine_without_a_hash_is_compared_by_rows() {
    let Some(engine) = Engine::libsql() else { return };
    let planted = Cell::new(0);
    let check = |table: &_, steps: &_| run(table, steps, engine.another(), &planted);
    explore_from(SEED, CASES / 4, "sync::verify::random", check);
}
