//! Sends definitions, and statements with parameters, without the `libsql` crate.
//!
//! The crate parses SQL and sends its own spelling. A remote stores a `CREATE` as it arrives: a
//! column `plan` would be `PLAN`, comments would be lost, and syntax that SQLite has and the
//! crate's parser has not (`IS DISTINCT FROM`) would fail. The crate's batches have no parameters.
//! So such a batch goes to the same endpoint in the same messages, with its text unchanged and its
//! values bound.
//!
//! The text of a push does not change, so a server that caches compiled statements need not compile
//! it again. That saves much: the statement includes all triggers of the inbox and of the tables.

use std::sync::Arc;

use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Body, Client, Request};
use libsql_hrana::proto::{
    Batch, BatchCond, BatchResult, BatchStep, BatchStreamReq, CloseStreamReq, PipelineReqBody,
    PipelineRespBody, Stmt, StmtResult, StreamRequest, StreamResponse, StreamResult,
    Value as Carried,
};

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
        let body = PipelineReqBody {
            baton: None,
            requests: vec![
                StreamRequest::Batch(BatchStreamReq {
                    batch: transaction(batch.statements, batch.writes),
                }),
                StreamRequest::Close(CloseStreamReq {}),
            ],
        };
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
        match body.results.into_iter().next() {
            Some(StreamResult::Ok { response: StreamResponse::Batch(batch) }) => {
                read(batch.result, expected)
            }
            Some(StreamResult::Error { error }) => {
                Err(Failure::Statement(Said::new(&error.message, Some(&error.code))))
            }
            _ => Err(Failure::Foreign),
        }
    }
}

/// The statements between BEGIN and COMMIT. Each runs if the one before it succeeded. The ROLLBACK
/// runs if the COMMIT did not.
fn transaction(statements: Vec<Statement>, writes: bool) -> Batch {
    let after = |step: usize| BatchCond::Ok { step: step as u32 };
    let step = |stmt, condition| BatchStep { condition, stmt };
    // Take the write lock at once: a transaction that takes it later may fail with SQLITE_BUSY.
    let begin = if writes { "BEGIN IMMEDIATE" } else { "BEGIN" };
    let mut steps = vec![step(Stmt::new(begin, true), None)];
    for statement in statements {
        let condition = Some(after(steps.len() - 1));
        steps.push(step(carried(statement), condition));
    }
    let last = steps.len() - 1;
    steps.push(step(Stmt::new("COMMIT", true), Some(after(last))));
    let failed = BatchCond::Not { cond: Box::new(after(last + 1)) };
    steps.push(step(Stmt::new("ROLLBACK", true), Some(failed)));
    Batch { steps, replication_index: None }
}

fn carried(Statement { sql, args }: Statement) -> Stmt {
    let bound = |value| match value {
        Value::Null => Carried::Null,
        Value::Integer(value) => Carried::Integer { value },
        Value::Real(value) => Carried::Float { value },
        Value::Text(text) => {
            Carried::Text { value: String::from_utf8_lossy(&text).into_owned().into() }
        }
        Value::Blob(bytes) => Carried::Blob { value: bytes.into() },
    };
    let mut statement = Stmt::new(sql, true);
    statement.args = args.into_iter().map(bound).collect();
    statement
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
        let begins = |writes| transaction(vec!["SELECT 1".into()], writes).steps.remove(0).stmt.sql;
        assert_eq!(begins(false), Stmt::new("BEGIN", true).sql);
        assert_eq!(begins(true), Stmt::new("BEGIN IMMEDIATE", true).sql);
    }
}
