//! Any table with any rows on both sides: what a dry run says is what happens, by each preference.
//!
//! The tables and the statements are those of [`property`](crate::capture::property), and so is how
//! to repeat a failure: `DRIFTLESS_TEST_SEED=… cargo test sync::adoption::random`.

use std::cell::Cell;
use std::sync::Arc;

use driftless::Code;
use driftless::catalog::{Table, ident};
use driftless::event::value::Value;
use driftless::protocol::compare::KeyOrder;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use rusqlite::Connection;

use super::{counts, dry_run, open, preferring};
use crate::capture::property::{Definition, Step, explore_from};
use crate::support::blocking::{drain, initialise};
use crate::support::desk::plan;
use crate::support::inbox::Inbox as _;
use crate::support::local_remote::{LocalRemote, rows};

/// How many tables are made by default: some seconds' worth without optimization.
const CASES: u32 = 120;

/// Where chance begins: see [`roundtrip`](crate::sync::roundtrip).
const SEED: u64 = 1;

fn failed(error: impl std::fmt::Display) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

/// A file with the table, after these steps. `None` where a limit of SQLite's ends the case.
fn make(
    path: &std::path::Path,
    table: &Definition,
    steps: &[&[Step]],
) -> Result<Option<Connection>, TestCaseError> {
    let db = Connection::open(path).map_err(failed)?;
    db.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    db.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    db.execute_batch(&table.sql()).map_err(failed)?;
    for step in steps.iter().flat_map(|steps| steps.iter()).chain([&Step::Commit]) {
        let (sql, binds) = step.sql(table);
        let _ = db.execute(&sql, rusqlite::params_from_iter(binds));
    }
    if !db.is_autocommit() {
        db.execute_batch("ROLLBACK").map_err(failed)?;
    }
    let orphans = db.prepare("PRAGMA foreign_key_check").map_err(failed)?.exists([]);
    Ok((!orphans.map_err(failed)?).then_some(db))
}

/// The rows of a table: key, and all values.
type Named = Vec<(Vec<Value>, Vec<Value>)>;

/// The rows that have a key. `None` if one of them is not UTF-8, a known limit.
fn named(db: &Connection, table: &Table) -> Result<Option<Named>, TestCaseError> {
    let names: Vec<_> = table.column_names().map(ident).collect();
    let found = rows(db, &format!("SELECT {} FROM t", names.join(", "))).map_err(failed)?;
    let key = |row: &Vec<Value>| table.key.iter().map(|&at| row[at].clone()).collect::<Vec<_>>();
    let all: Vec<_> = found.into_iter().map(|row| (key(&row), row)).collect();
    let is_raw = |value: &Value| matches!(value, Value::Text(_)) && value.as_str().is_none();
    if all.iter().flat_map(|(key, _)| key).any(is_raw) {
        return Ok(None);
    }
    Ok(Some(all.into_iter().filter(|(key, _)| !key.contains(&Value::Null)).collect()))
}

/// What differs between two sides.
#[derive(Debug, Default, PartialEq)]
struct Expected {
    only_here: u64,
    only_there: u64,
    equal: u64,
    different: u64,
}

fn expected(table: &Table, here: &Named, there: &Named) -> Expected {
    let order = KeyOrder::of(table);
    let is = |a: &[Value], b: &[Value]| order.compare(a, b).is_eq();
    let mut found = Expected::default();
    for (key, mine) in here {
        match there.iter().find(|(other, _)| is(key, other)) {
            None => found.only_here += 1,
            Some((_, theirs)) if mine == theirs => found.equal += 1,
            Some(_) => found.different += 1,
        }
    }
    let missing =
        |(key, _): &&(Vec<Value>, Vec<Value>)| !here.iter().any(|(mine, _)| is(mine, key));
    found.only_there = there.iter().filter(missing).count() as u64;
    found
}

fn run(
    definition: &Definition,
    steps: &[Step],
    case: usize,
    differing: &Cell<u64>,
) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().map_err(failed)?;
    let (mine, theirs) = (folder.path().join("desk.db"), folder.path().join("remote.db"));
    let parts: Vec<_> = steps.chunks(steps.len().div_ceil(3)).collect();
    let part = |at: usize| parts.get(at).copied().unwrap_or_default();
    let Some(here) = make(&mine, definition, &[part(0), part(1)])? else { return Ok(()) };
    let Some(there) = make(&theirs, definition, &[part(0), part(2)])? else { return Ok(()) };
    let table = Table::read(&here, "t").map_err(failed)?;
    if let Some(other) = (0..table.columns.len()).find(|at| !table.key.contains(at)) {
        // Statements alone make few differences.
        let name = ident(&table.columns[other].name);
        let sql = format!("UPDATE OR IGNORE t SET {name} = 71");
        let _ = there.execute_batch(&sql);
    }
    if there.prepare("PRAGMA foreign_key_check").map_err(failed)?.exists([]).map_err(failed)? {
        return Ok(());
    }
    let (Some(here_rows), Some(there_rows)) = (named(&here, &table)?, named(&there, &table)?)
    else {
        return Ok(());
    };
    let expected = expected(&table, &here_rows, &there_rows);
    drop((here, there));
    let remote = Arc::new(LocalRemote::at(&theirs, ""));
    let mut plan = plan(mine.clone(), 1, &[]);
    let column =
        ["local".to_owned(), "remote".to_owned(), format!("newest:{}", table.columns[0].name)];
    plan.prefer = preferring(&[(None, &column[case % 3])]);
    let (found, refused) = dry_run(&plan, &remote).map_err(failed)?;
    prop_assert!(refused.is_none(), "{refused:?}");
    let preview = &found.tables[0];
    let Expected { only_here, only_there, equal, different } = expected;
    let [.., taken] = counts(preview);
    prop_assert_eq!(counts(preview), [only_here, only_there, equal, different, taken]);
    let (store, report) = match initialise(plan.clone(), remote.clone()) {
        Ok(done) => done,
        // A constraint that two rows of the two sides cannot satisfy together.
        Err(error) if error.code() == Code::RowsRefused => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let adopted = report.adopted.unwrap();
    let figures =
        [adopted.local, adopted.fetched, adopted.equal, adopted.different, adopted.local_taken];
    prop_assert_eq!(figures.map(|figure| figure as u64), counts(preview));
    drain(store, remote.clone()).map_err(failed)?;
    // All that differed has a version in the inbox, unless it came to the row in another way.
    let conflicts = open(&plan).conflicts(true).map_err(failed)?;
    let both = Connection::open(&mine).map_err(failed)?;
    let after = named(&both, &table)?.unwrap_or_default();
    let there = Connection::open(&theirs).map_err(failed)?;
    let after_there = named(&there, &table)?.unwrap_or_default();
    prop_assert_eq!(
        super::random::expected(&table, &after, &after_there),
        Expected { equal: after.len() as u64, ..Expected::default() }
    );
    let lost = conflicts.len() as u64;
    prop_assert!(lost >= different, "{lost} of {different} are in the inbox");
    let is_plain =
        table.uniques.is_empty() && table.foreign_keys.is_empty() && table.generated.is_empty();
    if is_plain {
        prop_assert_eq!(lost, different);
        let (winners, others) = match case % 3 {
            0 => (&here_rows, &there_rows),
            _ => (&there_rows, &here_rows),
        };
        let order = KeyOrder::of(&table);
        let find = |rows: &Named, key: &[Value]| {
            rows.iter()
                .find(|(other, _)| order.compare(key, other).is_eq())
                .map(|(_, row)| row.clone())
        };
        for (key, row) in after.iter().filter(|_| case % 3 < 2) {
            let wanted = find(winners, key).or_else(|| find(others, key));
            prop_assert_eq!(Some(row), wanted.as_ref());
        }
    }
    differing.set(differing.get() + different);
    Ok(())
}

#[test]
fn what_a_dry_run_says_is_what_happens() {
    let (differing, case) = (Cell::new(0), Cell::new(0));
    let check = |table: &_, steps: &_| {
        case.set(case.get() + 1);
        run(table, steps, case.get(), &differing)
    };
    let explored = explore_from(SEED, CASES, "sync::adoption::random", check);
    let enough = u64::from(explored.cases / 4);
    assert!(explored.cases < CASES || differing.get() > enough, "{}", differing.get());
}
