//! SQL on the world's own connections: statements are compiled once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use driftless::event::value::{Value, ValueRef as Bound};
use driftless::remote::{Rows, Statement};
use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, params_from_iter};

/// Prepared statements that a connection keeps.
const STATEMENTS: usize = 256;

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Text(text) => Value::Text(text.to_vec()),
        ValueRef::Blob(blob) => Value::Blob(blob.to_vec()),
    }
}

fn fetch(statement: &mut CachedStatement<'_>, args: &[Value]) -> rusqlite::Result<Rows> {
    let columns = statement.column_count();
    let mut found = statement.query(params_from_iter(args.iter().map(Bound::from)))?;
    let mut rows = Rows::new();
    while let Some(row) = found.next()? {
        let read = |column| Ok(value(row.get_ref(column)?));
        rows.push((0..columns).map(read).collect::<rusqlite::Result<_>>()?);
    }
    Ok(rows)
}

/// Runs a text without parameters.
pub(crate) fn rows(db: &Connection, sql: &str) -> rusqlite::Result<Rows> {
    fetch(&mut db.prepare_cached(sql)?, &[])
}

/// Runs a statement.
pub(crate) fn rows_of(db: &Connection, statement: &Statement) -> rusqlite::Result<Rows> {
    fetch(&mut db.prepare_cached(&statement.sql)?, &statement.args)
}

/// The one number that a query gives.
pub(crate) fn number(db: &Connection, sql: &str) -> i64 {
    let mut statement = db.prepare_cached(sql).unwrap();
    statement.query_row([], |row| row.get::<_, Option<i64>>(0)).unwrap().unwrap_or(0)
}

/// What is another one when the database has changed, by this connection or by another.
pub(crate) fn version(db: &Connection) -> (i64, u64) {
    (number(db, "PRAGMA data_version"), db.total_changes())
}

/// Runs statements in a transaction. False if one fails, and then nothing has happened. With
/// `abandoned` nothing happens either: the application gives up before it commits.
pub(crate) fn transact(db: &Connection, statements: &[String], abandoned: bool) -> bool {
    let simple = |sql: &str| db.prepare_cached(sql).and_then(|mut begin| begin.execute([]));
    simple("BEGIN IMMEDIATE").unwrap();
    let done = statements.iter().try_for_each(|sql| rows(db, sql).map(drop));
    let committed = !abandoned && done.is_ok() && simple("COMMIT").is_ok();
    if !db.is_autocommit() {
        simple("ROLLBACK").unwrap();
    }
    committed
}

/// A clock that a world sets: ms since 1970.
pub(crate) type Clock = Arc<AtomicI64>;

/// Gives a connection a clock and chance of the world's own, where triggers would ask SQLite's. So
/// a history can be repeated to the letter, and clocks can jump.
pub(crate) fn governed(db: &Connection, clock: &Clock, seed: u64) {
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    let flags = FunctionFlags::SQLITE_UTF8;
    // A replica's triggers ask without an argument, and the remote's with `now`.
    for arguments in [0, 1] {
        let clock = Arc::clone(clock);
        db.create_scalar_function("julianday", arguments, flags, move |_| {
            Ok(clock.load(Ordering::Relaxed) as f64 / 86_400_000.0 + 2_440_587.5)
        })
        .unwrap();
    }
    let state = Arc::new(AtomicU64::new(seed));
    let chance = move || {
        let drawn = fastrand::Rng::with_seed(state.load(Ordering::Relaxed)).u64(..);
        state.store(drawn, Ordering::Relaxed);
        drawn
    };
    let bytes = chance.clone();
    db.create_scalar_function("random", 0, flags, move |_| Ok(chance() as i64)).unwrap();
    db.create_scalar_function("randomblob", 1, flags, move |_| {
        let drawn: [u64; 1] = [bytes()];
        Ok(drawn[0].to_le_bytes().to_vec())
    })
    .unwrap();
}
