//! Any table, any values, any statements: captured, pushed, logged and integrated, they are on another
//! desk bit for bit.
//!
//! The tables and the statements are those of [`property`](crate::capture::property), and so is how to
//! repeat a failure: `DRIFTLESS_TEST_SEED=… cargo test sync::roundtrip`.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use driftless::event::value::Value;
use driftless::event::{Image, Op, Seq};
use driftless::store::{Entry, LogFilter};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::capture::property::{Definition, Explored, Step, explore_from};
use crate::support::desk::Desk;
use crate::support::engine::Engine;
use crate::support::local_remote::{LocalRemote, rows};

/// How many tables are made by default: some seconds' worth without optimization.
const CASES: u32 = 40;

/// Where chance begins. What other seeds have found is in [`found`](super::found).
const SEED: u64 = 1;

/// A sync after so many statements.
const STRETCH: usize = 7;

fn failed(error: impl std::fmt::Display) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

fn missing(seq: Seq) -> driftless::Result<()> {
    Err(driftless::Error::usage(format!("event {seq} of the log is of a row that is not there")))
}

/// The rows that the desk's own log folds to.
fn fold(desk: &mut Desk) -> driftless::Result<BTreeMap<String, Image>> {
    let mut rows: BTreeMap<String, Image> = BTreeMap::new();
    desk.machine.store().log(&LogFilter::default(), &mut |entry| {
        let Entry::Settled(event) = entry else { panic!("nothing is pending") };
        if !event.verdict.is_applied() {
            return Ok(());
        }
        let key = event.key.0.clone();
        match (event.op, event.after) {
            (Op::Insert, Some(after)) => drop(rows.insert(key, after)),
            (Op::Update, Some(after)) => match rows.get_mut(&key) {
                Some(row) => row.overlay(&after),
                None => return missing(event.seq),
            },
            // What a foreign key deletes here it deletes on the remote as well, and first.
            _ if rows.remove(&key).is_none() && event.via.is_none() => return missing(event.seq),
            _ => {}
        }
        Ok(())
    })?;
    Ok(rows)
}

fn run(
    table: &Definition,
    steps: &[Step],
    engine: Engine,
    events: &Cell<usize>,
) -> Result<(), TestCaseError> {
    let same_engine = matches!(engine, Engine::Bundled(_));
    let remote = Arc::new(LocalRemote::over(engine, ""));
    let mut a = Desk::with_schema(&remote, 1, &table.sql());
    let mut b = Desk::with_schema(&remote, 2, &table.sql());
    a.db.pragma_update(None, "recursive_triggers", table.recursive).unwrap();
    for temp in table.temps() {
        a.db.execute_batch(&temp).map_err(failed)?;
    }
    for (index, step) in steps.iter().chain([&Step::Commit]).enumerate() {
        let (sql, binds) = step.sql(table);
        // What is refused is refused: that its events are none is capture's test.
        let _ = a.db.execute(&sql, rusqlite::params_from_iter(binds));
        if a.db.prepare("PRAGMA foreign_key_check").map_err(failed)?.exists([]).map_err(failed)? {
            if a.db.is_autocommit() {
                // A limit of SQLite's, which is said in capture; the remote rejects the orphan.
                return Ok(());
            }
            continue;
        }
        if index % STRETCH == 0 && a.db.is_autocommit() {
            a.sync().map_err(failed)?;
        }
    }
    if !a.db.is_autocommit() {
        // A reference leads nowhere.
        a.db.execute_batch("ROLLBACK").map_err(failed)?;
    }
    a.sync().map_err(failed)?;
    b.sync().map_err(failed)?;
    // A known limit of capture, which is said there.
    if remote.rows("SELECT DISTINCT pk FROM driftless_events").iter().any(|row| is_raw(&row[0])) {
        return Ok(());
    }
    // One writer alone never loses, but for a known limit: the remote evaluates the condition and the
    // expressions of an index (`u0`, `u1`) over values that have lost their column's type.
    let reasons = remote.read("SELECT DISTINCT reason FROM driftless_events WHERE reason NOTNULL");
    prop_assert!(reasons.lines().all(|reason| reason.starts_with("unique: u")), "{reasons}");
    // A row with NULL in its key has no name, and stays where it is.
    let named: Vec<_> = table.key().iter().map(|name| format!("{name} IS NOT NULL")).collect();
    let key = table.key().join(", ");
    // What is generated may be spelled otherwise by another version of SQLite.
    let columns = b.machine.store().tables()[0].table.column_names().map(str::to_owned);
    let columns: Vec<String> = columns.collect();
    let quoted: Vec<_> = columns.iter().map(|name| driftless::catalog::ident(name)).collect();
    let (named, quoted) = (named.join(" AND "), quoted.join(", "));
    let compared = if same_engine { "*" } else { &quoted };
    let sql = format!("SELECT {compared} FROM t WHERE {named} ORDER BY {key}");
    let here = rows(&a.db, &sql).map_err(failed)?;
    let on_remote = remote.rows(&sql);
    let on_b = rows(&b.db, &sql).map_err(failed)?;
    prop_assert!(same(&here, &on_remote), "the remote has other rows");
    prop_assert!(same(&here, &on_b), "the other desk has other rows");
    let status = b.status();
    let reasons: Vec<_> =
        b.machine.store().quarantine().map_err(failed)?.into_iter().map(|q| q.reason).collect();
    prop_assert_eq!((reasons, status.conflicts), (vec![], 0));
    // The sealed log says the same.
    let folded = fold(&mut b).map_err(failed)?;
    let sql = sql.replacen(compared, &quoted, 1);
    let mut left = rows(&b.db, &sql).map_err(failed)?;
    for image in folded.values() {
        let row: Vec<Value> =
            columns.iter().map(|name| image.get(name).cloned().unwrap_or_default()).collect();
        let at = left.iter().position(|real| same_row(real, &row));
        let at = at.ok_or_else(|| failed("the log has a row that is not there"))?;
        left.swap_remove(at);
    }
    prop_assert!(left.is_empty(), "the log lacks a row");
    events.set(events.get() + status.cursor as usize);
    Ok(())
}

/// Whether a key has text that is not UTF-8.
fn is_raw(key: &Value) -> bool {
    let Some(key) = key.as_str() else { return true };
    let values = driftless::event::RowKey(key.to_owned()).values().expect("a key");
    values.iter().any(|value| matches!(value, Value::Text(_)) && value.as_str().is_none())
}

fn same(a: &[Vec<Value>], b: &[Vec<Value>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_row(a, b))
}

/// Bit for bit, of doubles too; -0.0 arrives as 0.0.
fn same_row(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| match (a, b) {
            (Value::Real(a), Value::Real(b)) => (a + 0.0).to_bits() == (b + 0.0).to_bits(),
            (a, b) => a == b,
        })
}

#[test]
fn what_is_written_on_one_desk_is_on_the_other() {
    let events = Cell::new(0);
    let check = |table: &_, steps: &_| run(table, steps, Engine::bundled(), &events);
    is_lively(&explore_from(SEED, CASES, "sync::roundtrip", check), CASES, events.get());
}

#[test]
fn libsqls_engine_is_in_between() {
    let Some(engine) = Engine::libsql() else { return };
    let events = Cell::new(0);
    let check = |table: &_, steps: &_| run(table, steps, engine.another(), &events);
    is_lively(&explore_from(SEED, CASES / 4, "sync::roundtrip", check), CASES / 4, events.get());
}

/// Where fewer tables were made than is usual, anything may have happened.
fn is_lively(explored: &Explored, usual: u32, events: usize) {
    let Explored { cases, repeat } = explored;
    let lively = *cases < usual || events > *cases as usize;
    assert!(lively, "too little happened: {events} events\n{repeat} repeats this");
}
