//! Running statements: one, a batch with conditions, a sequence; and describing one.

use std::borrow::Cow;
use std::collections::HashMap;

use libsql_hrana::proto::{Batch, BatchCond, BatchStep, DescribeCol, DescribeParam};
use libsql_hrana::proto::{DescribeResult, NamedArg, Stmt, Value};
use rusqlite::types::{Null, ToSqlOutput, ValueRef};
use rusqlite::{Statement, ToSql};

use super::connection::Connection;
use super::failure::{Failure, Refusal};
use super::sink::{Halt, Sink, Version};
use super::sql::{Begin, Verb};
use super::stream::Stream;

/// SQL texts up to this many bytes are kept compiled. A longer text contains its data, and is not
/// repeated.
const CACHED_SQL_BYTES: usize = 16 * 1024;

/// The SQL text of a request: its own, or one that was stored.
///
/// # Errors
///
/// A breach of the protocol when the request has both, neither, or names a text that is not stored.
pub(super) fn sql_of<'a>(
    stream: &'a Stream,
    sql: &'a Option<String>,
    sql_id: Option<i32>,
) -> Result<&'a str, Refusal> {
    match (sql, sql_id) {
        (Some(sql), None) => Ok(sql),
        (None, Some(sql_id)) => stream.stored_sql(sql_id),
        (Some(_), Some(_)) => {
            Err(Refusal::protocol("Either `sql` or `sql_id` are required, but not both"))
        }
        (None, None) => Err(Refusal::protocol("Either `sql` or `sql_id` are required")),
    }
}

/// Runs one statement.
///
/// # Errors
///
/// The outer one is a breach of the protocol; the inner one goes into the answer.
pub(super) fn statement(
    stream: &mut Stream,
    request: &Stmt,
    sink: &mut impl Sink,
) -> Result<Result<(), Failure>, Refusal> {
    if stream.is_timed_out() {
        return Ok(Err(Failure::transaction_timeout()));
    }
    let sql = sql_of(stream, &request.sql, request.sql_id)?;
    let verb = Verb::of(sql);
    let sql = spelled_for_sqlite(sql, verb, false);
    let run = run(stream.connection(), &sql, verb, request, sink);
    stream.connection_mut().track_read_only(verb == Verb::Begin(Begin::ReadOnly));
    Ok(run.map_err(|halt| match halt {
        Halt::Statement(failure) | Halt::All(failure) => failure,
    }))
}

/// Checks the texts and the conditions of all steps of `batch`.
///
/// # Errors
///
/// A breach of the protocol.
pub(super) fn check_batch(stream: &Stream, batch: &Batch, version: Version) -> Result<(), Refusal> {
    for (index, step) in batch.steps.iter().enumerate() {
        sql_of(stream, &step.stmt.sql, step.stmt.sql_id)?;
        if let Some(condition) = &step.condition {
            check_condition(condition, index, version)?;
        }
    }
    Ok(())
}

fn check_condition(condition: &BatchCond, index: usize, version: Version) -> Result<(), Refusal> {
    match condition {
        BatchCond::None => Err(Refusal::protocol("BatchCond type not recognized")),
        BatchCond::Ok { step } | BatchCond::Error { step } if *step as usize >= index => {
            Err(Refusal::protocol("Invalid reference to step in a batch condition"))
        }
        BatchCond::Ok { .. } | BatchCond::Error { .. } => Ok(()),
        BatchCond::Not { cond } => check_condition(cond, index, version),
        BatchCond::And(list) | BatchCond::Or(list) => {
            list.conds.iter().try_for_each(|cond| check_condition(cond, index, version))
        }
        BatchCond::IsAutocommit {} if version == Version::V2 => {
            Err(Refusal::needs_version_3("BatchCond of type `is_autocommit`"))
        }
        BatchCond::IsAutocommit {} => Ok(()),
    }
}

/// Runs the steps of a batch that [`check_batch`] has accepted.
///
/// If the whole batch is stopped, a transaction that it opened is rolled back.
///
/// # Errors
///
/// The reason why the whole batch stopped. A step that fails does not stop it: the conditions of
/// the later steps decide.
pub(super) fn batch(
    stream: &mut Stream,
    batch: &Batch,
    sink: &mut impl Sink,
) -> Result<(), Failure> {
    if stream.is_timed_out() {
        return Err(Failure::transaction_timeout());
    }
    let in_transaction = !stream.connection().is_autocommit();
    let done = steps(stream, batch, sink);
    if done.is_err() && !in_transaction {
        stream.connection_mut().roll_back()?;
    }
    done
}

fn steps(stream: &mut Stream, batch: &Batch, sink: &mut impl Sink) -> Result<(), Failure> {
    let mut succeeded: Vec<bool> = Vec::with_capacity(batch.steps.len());
    let mut writers: Option<Vec<bool>> = None;
    for (index, step) in batch.steps.iter().enumerate() {
        let autocommit = stream.connection().is_autocommit();
        let condition = step.condition.as_ref();
        if !condition.is_none_or(|condition| holds(condition, &succeeded, autocommit)) {
            sink.skipped(index);
            succeeded.push(false);
            continue;
        }
        sink.begin(index);
        let sql = sql_of(stream, &step.stmt.sql, step.stmt.sql_id)
            .expect("the batch was checked before it began");
        let verb = Verb::of(sql);
        let writes = verb == Verb::Begin(Begin::Deferred)
            && *writers
                .get_or_insert_with(|| followed_by_writes(stream, &batch.steps))
                .get(index)
                .unwrap_or(&false);
        let sql = spelled_for_sqlite(sql, verb, writes);
        let run = run(stream.connection(), &sql, verb, &step.stmt, sink);
        stream.connection_mut().track_read_only(verb == Verb::Begin(Begin::ReadOnly));
        succeeded.push(run.is_ok());
        let halted = match run {
            Ok(()) => Ok(()),
            Err(Halt::Statement(failure)) => sink.failed(failure),
            Err(halt @ Halt::All(_)) => Err(halt),
        };
        if let Err(Halt::All(failure) | Halt::Statement(failure)) = halted {
            return Err(failure);
        }
    }
    Ok(())
}

fn holds(condition: &BatchCond, succeeded: &[bool], autocommit: bool) -> bool {
    let has_succeeded = |step: u32| succeeded.get(step as usize) == Some(&true);
    match condition {
        BatchCond::None => false,
        BatchCond::Ok { step } => has_succeeded(*step),
        // A step that was skipped counts as failed, as on libSQL server.
        BatchCond::Error { step } => !has_succeeded(*step),
        BatchCond::Not { cond } => !holds(cond, succeeded, autocommit),
        BatchCond::And(list) => list.conds.iter().all(|cond| holds(cond, succeeded, autocommit)),
        BatchCond::Or(list) => list.conds.iter().any(|cond| holds(cond, succeeded, autocommit)),
        BatchCond::IsAutocommit {} => autocommit,
    }
}

/// For each of `steps`, whether a later step of its transaction writes. One pass computes all: a
/// batch may have a hundred thousand `BEGIN`s.
fn followed_by_writes(stream: &Stream, steps: &[BatchStep]) -> Vec<bool> {
    let mut writes = false;
    let mut followed = Vec::with_capacity(steps.len());
    for step in steps.iter().rev() {
        followed.push(writes);
        let sql = sql_of(stream, &step.stmt.sql, step.stmt.sql_id).unwrap_or_default();
        let verb = Verb::of(sql);
        writes = verb != Verb::End && (writes || verb.writes());
    }
    followed.reverse();
    followed
}

/// The text that SQLite is given for `sql`.
///
/// A transaction of a batch that will write takes the write lock at once. A deferred transaction
/// that reads first fails with `SQLITE_BUSY` if another connection writes in between, and waiting
/// does not help. `READONLY` exists in libSQL only; the nearest of SQLite is a deferred
/// transaction.
fn spelled_for_sqlite(sql: &str, verb: Verb, writes: bool) -> Cow<'_, str> {
    match verb {
        Verb::Begin(Begin::Deferred) if writes => Cow::Borrowed("BEGIN IMMEDIATE"),
        Verb::Begin(Begin::ReadOnly) => Cow::Borrowed("BEGIN DEFERRED"),
        _ => Cow::Borrowed(sql),
    }
}

fn run(
    connection: &Connection,
    sql: &str,
    verb: Verb,
    request: &Stmt,
    sink: &mut impl Sink,
) -> Result<(), Halt> {
    if verb == Verb::Nothing {
        return Err(Failure::no_statement().into());
    }
    // Short statements never reach the progress handler, so check here. The end of a transaction
    // may always run.
    if verb != Verb::End && connection.is_overdue() {
        return Err(Failure::overdue().into());
    }
    if sql.len() <= CACHED_SQL_BYTES {
        let mut statement = connection.prepare_cached(sql).map_err(Failure::from)?;
        run_prepared(connection, &mut statement, verb, request, sink)
    } else {
        let mut statement = connection.prepare(sql).map_err(Failure::from)?;
        run_prepared(connection, &mut statement, verb, request, sink)
    }
}

fn run_prepared(
    connection: &Connection,
    statement: &mut Statement<'_>,
    verb: Verb,
    request: &Stmt,
    sink: &mut impl Sink,
) -> Result<(), Halt> {
    if connection.is_read_only() && !statement.readonly() {
        return Err(Failure::read_only().into());
    }
    bind(statement, &request.args, &request.named_args)?;
    sink.columns(statement)?;
    let columns = statement.column_count();
    let (before, mut given) = (connection.begin_count(), 0);
    let mut rows = statement.raw_query();
    // `want_rows` is ignored, as by libSQL server: the `libsql` crate asks for no rows in every
    // batch, and reads them.
    while let Some(row) = rows.next().map_err(Failure::from)? {
        given += 1;
        sink.row(row, columns)?;
    }
    drop(rows);
    // SQLite keeps the counters of the last change, so they are wrong for other statements.
    let affected = match verb {
        Verb::Insert | Verb::Change => connection.changes(),
        _ => 0,
    };
    let last_insert_rowid = (verb == Verb::Insert).then(|| connection.last_insert_rowid());
    let rows = connection.rows_of(statement, given, before, verb == Verb::Define);
    sink.end(affected, last_insert_rowid, rows)
}

/// A value of Hrana, bound without a copy.
struct Bound<'a>(&'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self.0 {
            Value::None | Value::Null => Null.to_sql(),
            Value::Integer { value } => Ok(ToSqlOutput::from(*value)),
            Value::Float { value } => Ok(ToSqlOutput::from(*value)),
            Value::Text { value } => Ok(ToSqlOutput::Borrowed(ValueRef::Text(value.as_bytes()))),
            Value::Blob { value } => Ok(ToSqlOutput::Borrowed(ValueRef::Blob(value))),
        }
    }
}

fn bind(
    statement: &mut Statement<'_>,
    positional: &[Value],
    named: &[NamedArg],
) -> Result<(), Failure> {
    if !positional.is_empty() && !named.is_empty() {
        return Err(Failure::new(
            "ARGS_BOTH_POSITIONAL_AND_NAMED",
            "Specifying both positional and named arguments is not supported",
        ));
    }
    let (count, given) = (statement.parameter_count(), positional.len().max(named.len()));
    if given > count {
        let reason = format!("too many parameters, expected {count} found {given}");
        return Err(Failure::arguments(reason));
    }
    // The last argument with a name counts.
    let named: HashMap<&str, (usize, &Value)> = named
        .iter()
        .enumerate()
        .map(|(place, arg)| (arg.name.as_str(), (place, &arg.value)))
        .collect();
    for index in 1..=count {
        let value = {
            let name = statement.parameter_name(index);
            argument(index, name, positional, &named).ok_or_else(|| match name {
                Some(name) => Failure::arguments(format!("value for parameter {name} not found")),
                None => Failure::arguments(format!("value for parameter {index} not found")),
            })?
        };
        statement.raw_bind_parameter(index, Bound(value)).map_err(Failure::from)?;
    }
    Ok(())
}

/// The argument of a parameter. A name may have its sigil or not. A named parameter also takes the
/// positional argument at its place.
fn argument<'a>(
    index: usize,
    name: Option<&str>,
    positional: &'a [Value],
    named: &HashMap<&str, (usize, &'a Value)>,
) -> Option<&'a Value> {
    let by_place = || positional.get(index - 1);
    let Some(name) = name else { return by_place() };
    let bare = name.trim_start_matches([':', '@', '$', '?']);
    let by_name = named.get(name).into_iter().chain(named.get(bare)).max_by_key(|found| found.0);
    by_name.map(|(_, value)| *value).or_else(by_place)
}

/// Runs all statements of a text, which take no arguments and give no rows.
///
/// # Errors
///
/// The first failure, after which no further statement runs.
pub(super) fn sequence(stream: &Stream, sql: &str) -> Result<(), Failure> {
    if stream.is_timed_out() {
        return Err(Failure::transaction_timeout());
    }
    if stream.connection().is_read_only() {
        return Err(Failure::read_only());
    }
    if stream.connection().is_overdue() {
        return Err(Failure::overdue());
    }
    Ok(stream.connection().execute_batch(sql)?)
}

/// The parameters and columns of a statement.
///
/// # Errors
///
/// When it does not compile.
pub(super) fn describe(connection: &Connection, sql: &str) -> Result<DescribeResult, Failure> {
    let verb = Verb::of(sql);
    if verb == Verb::Nothing {
        return Err(Failure::no_statement());
    }
    if connection.is_overdue() {
        return Err(Failure::overdue());
    }
    let sql = spelled_for_sqlite(sql, verb, false);
    let statement = connection.prepare(&sql)?;
    let params = (1..=statement.parameter_count())
        .map(|index| DescribeParam { name: statement.parameter_name(index).map(str::to_owned) })
        .collect();
    let cols = statement
        .columns()
        .map(|column| DescribeCol {
            name: column.name().to_owned(),
            decltype: column.decl_type().map(str::to_owned),
        })
        .collect();
    let is_explain = statement.is_explain() != 0;
    Ok(DescribeResult { params, cols, is_explain, is_readonly: statement.readonly() })
}
