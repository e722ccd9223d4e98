//! Sends definitions, and statements with parameters, without the `libsql` crate.
//!
//! The crate parses SQL and sends its own spelling. A remote stores a `CREATE` as it arrives: a
//! column `plan` would be `PLAN`, comments would be lost, and syntax that SQLite has and the
//! crate's parser has not (`IS DISTINCT FROM`) would fail. The crate's batches have no parameters.
//! So such a batch goes to the same endpoint in the same messages, with its text unchanged and its
//! values bound.
//!
//! A push repeats a few texts. The server stores them for the stream, so that each is sent once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Body, Client, Request};
use libsql_hrana::proto::{
    BatchResult, PipelineRespBody, StmtResult, StreamResponse, StreamResult, Value as Carried,
};
use serde::Serialize;

use super::failure::{Failure, Said};
use super::metered_stream::Meter;
use super::tls::Connector;
use super::{Batch as Asked, Rows};
use crate::error::Error;
use crate::event::value::Value;
use crate::protocol::Statement;

/// Whether a batch must be sent here: it has a definition, or a statement with parameters.
pub(super) fn carries(statements: &[Statement]) -> bool {
    let defines = |sql: &str| {
        let start = sql.trim_start().get(.."create".len());
        start.is_some_and(|start| start.eq_ignore_ascii_case("create"))
    };
    statements.iter().any(|statement| !statement.args.is_empty() || defines(&statement.sql))
}

/// Refuses values that Hrana does not carry exactly.
///
/// # Errors
///
/// `Usage` for a REAL, and for text that is not UTF-8.
pub(super) fn check(statements: &[Statement]) -> Result<(), Error> {
    for value in statements.iter().flat_map(|statement| &statement.args) {
        match value {
            Value::Real(_) => return Err(Error::usage("a REAL is bound to a statement")),
            Value::Text(text) if std::str::from_utf8(text).is_err() => {
                return Err(Error::usage("text that is not UTF-8 is bound to a statement"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A connection that stays open between batches, and the meter of its bytes.
pub(super) struct Direct {
    client: Client<Connector, Body>,
    meter: Arc<Meter>,
}

impl Direct {
    /// A connection, opened by its first batch. `connector` counts with `meter`.
    pub(super) fn new(connector: Connector, meter: Arc<Meter>) -> Direct {
        Direct { client: Client::builder().build(connector), meter }
    }

    /// The meter of its bytes.
    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Runs the statements in one transaction and one request, at the remote of this `http:` or
    /// `https:` URL. Gives the rows of each.
    pub(super) async fn execute(
        &self,
        url: &str,
        token: &str,
        batch: Asked,
    ) -> Result<Vec<Rows>, Failure> {
        let expected = batch.statements.len();
        let stored = repeated(&batch.statements);
        let store = stored.iter().map(|(sql, &sql_id)| Sent::StoreSql { sql_id, sql });
        let mut requests: Vec<_> = store.collect();
        requests.push(match batch.statements.as_slice() {
            // A statement that reads is a snapshot without a transaction.
            [statement] if !batch.writes => Sent::Execute { stmt: Text::of(statement, &stored) },
            statements => Sent::Batch { batch: transaction(statements, batch.writes, &stored) },
        });
        requests.push(Sent::Close);
        let body = SentBody { baton: None, requests };
        let body = serde_json::to_string(&body).expect("a request is JSON");
        let request = Request::post(format!("{url}/v3/pipeline"))
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .map_err(|error| Failure::Transport(error.to_string()))?;
        let answer = self.client.request(request).await.map_err(transport)?;
        let status = answer.status();
        let body = hyper::body::to_bytes(answer.into_body()).await.map_err(cut_off)?;
        if !status.is_success() {
            let said = Said::from_body(&String::from_utf8_lossy(&body));
            return Err(Failure::Status { status: status.as_u16(), said });
        }
        let body: PipelineRespBody = serde_json::from_slice(&body).map_err(|error| {
            let begun = error.is_eof() && !body.is_empty();
            if begun { Failure::CutOff(error.to_string()) } else { Failure::Foreign }
        })?;
        // A text that was not stored is the first error; the batch's result is behind the texts'.
        let mut results = body.results.into_iter();
        let first = results
            .by_ref()
            .take(stored.len())
            .find(|result| !matches!(result, StreamResult::Ok { .. }))
            .or_else(|| results.next());
        match first {
            Some(StreamResult::Ok { response: StreamResponse::Batch(batch) }) => {
                read(batch.result, expected)
            }
            Some(StreamResult::Ok { response: StreamResponse::Execute(execute) }) => {
                Ok(vec![rows(execute.result)])
            }
            Some(StreamResult::Error { error }) => {
                Err(Failure::Statement(Said::new(&error.message, Some(&error.code))))
            }
            _ => Err(Failure::Foreign),
        }
    }
}

/// The most texts that a request stores: libSQL server takes 50 for a stream.
const MAX_STORED: usize = 40;

/// The most bytes of a stored text on libSQL server. A longer one is sent each time.
const MAX_STORED_BYTES: usize = 5_000;

/// Texts that several statements have, each with the id under which it is stored. A push repeats a
/// few texts many times.
fn repeated(statements: &[Statement]) -> BTreeMap<String, i32> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for statement in statements {
        *counts.entry(&statement.sql).or_default() += 1;
    }
    let mut saved: Vec<_> = counts
        .into_iter()
        .filter(|(sql, count)| *count > 1 && sql.len() <= MAX_STORED_BYTES)
        .map(|(sql, count)| ((count - 1) * sql.len(), sql))
        .collect();
    saved.sort_unstable_by(|a, b| b.cmp(a));
    let stored = saved.into_iter().take(MAX_STORED).zip(0..);
    stored.map(|((_, sql), id)| (sql.to_owned(), id)).collect()
}

/// A request's body: Hrana's `PipelineReqBody` without the fields that are not needed. A push has
/// thousands of steps, and half of their bytes would be names of absent fields.
#[derive(Serialize)]
struct SentBody<'a> {
    baton: Option<&'a str>,
    requests: Vec<Sent<'a>>,
}

/// A request of the body.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Sent<'a> {
    StoreSql { sql_id: i32, sql: &'a str },
    Execute { stmt: Text<'a> },
    Batch { batch: Steps<'a> },
    Close,
}

#[derive(Serialize)]
struct Steps<'a> {
    steps: Vec<PipelineStep<'a>>,
}

/// A statement of a batch, and when it runs.
#[derive(Serialize)]
struct PipelineStep<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<Condition>,
    stmt: Text<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Condition {
    Ok { step: u32 },
    Not { cond: Box<Condition> },
}

#[derive(Serialize)]
struct Text<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sql: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sql_id: Option<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Carried>,
    want_rows: bool,
}

impl<'a> Text<'a> {
    fn simple(sql: &'a str) -> Text<'a> {
        Text { sql: Some(sql), sql_id: None, args: Vec::new(), want_rows: false }
    }

    fn of(statement: &'a Statement, stored: &BTreeMap<String, i32>) -> Text<'a> {
        let sql_id = stored.get(&statement.sql).copied();
        let sql = sql_id.is_none().then_some(statement.sql.as_str());
        let args = statement.args.iter().map(carried).collect();
        Text { sql, sql_id, args, want_rows: gives_rows(&statement.sql) }
    }
}

/// Whether a statement may give rows.
fn gives_rows(sql: &str) -> bool {
    let writes = ["INSERT ", "UPDATE ", "DELETE ", "CREATE ", "DROP "];
    !writes.iter().any(|word| sql.starts_with(word)) || sql.contains("RETURNING")
}

/// The statements between BEGIN and COMMIT. Each runs if the one before it succeeded. The ROLLBACK
/// runs if the COMMIT did not.
fn transaction<'a>(
    statements: &'a [Statement],
    writes: bool,
    stored: &BTreeMap<String, i32>,
) -> Steps<'a> {
    let after = |step: usize| Condition::Ok { step: step as u32 };
    // Take the write lock at once: a transaction that takes it later may fail with SQLITE_BUSY.
    let begin = if writes { "BEGIN IMMEDIATE" } else { "BEGIN" };
    let mut steps = vec![PipelineStep { condition: None, stmt: Text::simple(begin) }];
    for statement in statements {
        let condition = Some(after(steps.len() - 1));
        steps.push(PipelineStep { condition, stmt: Text::of(statement, stored) });
    }
    let last = steps.len() - 1;
    steps.push(PipelineStep { condition: Some(after(last)), stmt: Text::simple("COMMIT") });
    let failed = Condition::Not { cond: Box::new(after(last + 1)) };
    steps.push(PipelineStep { condition: Some(failed), stmt: Text::simple("ROLLBACK") });
    Steps { steps }
}

fn carried(value: &Value) -> Carried {
    match value {
        Value::Null => Carried::Null,
        Value::Integer(value) => Carried::Integer { value: *value },
        Value::Real(value) => Carried::Float { value: *value },
        Value::Text(text) => {
            Carried::Text { value: String::from_utf8_lossy(text).into_owned().into() }
        }
        Value::Blob(bytes) => Carried::Blob { value: bytes.clone().into() },
    }
}

/// The rows of each statement, or the first error.
fn read(result: BatchResult, expected: usize) -> Result<Vec<Rows>, Failure> {
    if let Some(error) = result.step_errors.iter().flatten().next() {
        return Err(Failure::Statement(Said::new(&error.message, Some(&error.code))));
    }
    // Skip the results of BEGIN, COMMIT and ROLLBACK.
    let results = result.step_results.into_iter().skip(1).take(expected);
    Ok(results.map(|result| result.map(rows).unwrap_or_default()).collect())
}

fn rows(result: StmtResult) -> Rows {
    result.rows.into_iter().map(|row| row.values.into_iter().map(value).collect()).collect()
}

fn value(value: Carried) -> Value {
    match value {
        Carried::Integer { value } => Value::Integer(value),
        Carried::Float { value } => Value::Real(value),
        Carried::Text { value } => Value::Text(value.as_bytes().to_vec()),
        Carried::Blob { value } => Value::Blob(value.to_vec()),
        Carried::None | Carried::Null => Value::Null,
    }
}

/// The failure for a request that did not get through.
fn transport(error: hyper::Error) -> Failure {
    // Bytes that are not HTTP.
    if error.is_parse() { Failure::Foreign } else { Failure::Transport(error.to_string()) }
}

/// The failure for an answer whose body did not arrive whole.
fn cut_off(error: hyper::Error) -> Failure {
    if error.is_parse() { Failure::Foreign } else { Failure::CutOff(error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_and_what_has_parameters_go_this_way() {
        let carries = |sql: &str| carries(&["SELECT 1".into(), sql.into()]);
        assert!(carries("CREATE TABLE t(a)"));
        assert!(carries("\n create index i on t(a)"));
        assert!(!carries("INSERT INTO t VALUES ('CREATE TABLE')"));
        assert!(!carries("é"));
        assert!(super::carries(&[Statement::new("SELECT ?", [Value::Null])]));
    }

    #[test]
    fn a_text_that_is_repeated_is_sent_once() {
        let texts = ["a", "bb", "a", "c", "bb", "bb"];
        let statements: Vec<_> = texts.map(Statement::from).into();
        let stored = repeated(&statements);
        assert_eq!(stored, [("a".to_owned(), 1), ("bb".to_owned(), 0)].into());
        let batch = transaction(&statements, true, &stored);
        let sent: Vec<_> = batch.steps[1..=6].iter().map(|step| step.stmt.sql_id).collect();
        assert_eq!(sent, [Some(1), Some(0), Some(1), None, Some(0), Some(0)]);
        assert!(batch.steps[1..=6].iter().all(|s| s.stmt.sql.is_some() != s.stmt.sql_id.is_some()));
    }

    #[test]
    fn values_that_would_arrive_as_others_are_refused() {
        let text = |bytes: &[u8]| Value::Text(bytes.to_vec());
        let good = [Value::Null, Value::Integer(i64::MIN), text("é'".as_bytes())];
        assert!(check(&[Statement::new("SELECT ?, ?, ?", good)]).is_ok());
        for bad in [Value::Real(0.1), text(&[0xff])] {
            let refused = check(&["SELECT 1".into(), Statement::new("SELECT ?", [bad])]);
            assert_eq!(refused.unwrap_err().kind(), crate::error::Kind::Usage);
        }
    }

    #[test]
    fn a_transaction_that_only_reads_takes_no_write_lock() {
        let begins = |writes| transaction(&[], writes, &BTreeMap::new()).steps[0].stmt.sql;
        assert_eq!(begins(false), Some("BEGIN"));
        assert_eq!(begins(true), Some("BEGIN IMMEDIATE"));
    }
}
