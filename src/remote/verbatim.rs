//! Definitions and pushes on their way to the remote, to the letter.
//!
//! The libsql client parses SQL and sends its own spelling of it. For pages that does no harm, but
//! a remote keeps a `CREATE` as it comes: a column `plan` would be `PLAN` there, comments would be
//! gone, and what SQLite knows and the client's parser does not (`IS DISTINCT FROM`) could not be
//! made at all. And a push's text is megabytes of one literal, which the client would take apart
//! and print again. So a batch of either kind goes to the same endpoint as the client's would, in
//! the same messages, but with its text untouched.
//!
//! The literals of a push travel as arguments: what is left of its statement is the same from one
//! push to the next, and a server that keeps statements compiled need not compile it again. That
//! pays, for the statement has all triggers of the inbox and of the tables in it.

use std::sync::Arc;

use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Body, Client, Request};
use libsql_hrana::proto::{
    Batch, BatchCond, BatchResult, BatchStep, BatchStreamReq, CloseStreamReq, PipelineReqBody,
    PipelineRespBody, Stmt, StmtResult, StreamRequest, StreamResponse, StreamResult,
    Value as Carried,
};

use super::Rows;
use super::failure::{Failure, Said};
use super::tls::Connector;
use super::wire::Meter;
use crate::value::Value;

/// What a statement that carries events begins with: all of a push, or a part of it.
const PUSHES: [&str; 2] = ["INSERT INTO driftless_inbox", "INSERT INTO driftless_staged"];

/// Whether a batch must go this way: it holds a definition, or events.
pub(super) fn carries(statements: &[String]) -> bool {
    let begins = |statement: &String, with: &str| {
        let start = statement.trim_start().get(..with.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    let pushes = |statement| PUSHES.iter().any(|push| begins(statement, push));
    statements.iter().any(|statement| begins(statement, "create") || pushes(statement))
}

/// A connection that stays open between batches, and the meter of its bytes.
pub(super) struct Direct {
    client: Client<Connector, Body>,
    meter: Arc<Meter>,
}

impl Direct {
    /// A connection to be made with its first batch. `connector` counts with `meter`.
    pub(super) fn new(connector: Connector, meter: Arc<Meter>) -> Direct {
        Direct { client: Client::builder().build(connector), meter }
    }

    /// Counts its bytes.
    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Runs the statements in one transaction and one request, at the remote of this `http:` or
    /// `https:` URL. Gives the rows of each.
    pub(super) async fn execute(
        &self,
        url: &str,
        token: &str,
        statements: Vec<String>,
    ) -> Result<Vec<Rows>, Failure> {
        let expected = statements.len();
        let body = PipelineReqBody {
            baton: None,
            requests: vec![
                StreamRequest::Batch(BatchStreamReq { batch: transaction(statements) }),
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

/// The statements between BEGIN and COMMIT. Each runs if the one before it did, and where the
/// COMMIT did not run the ROLLBACK does.
fn transaction(statements: Vec<String>) -> Batch {
    let after = |step: usize| BatchCond::Ok { step: step as u32 };
    let step = |sql: String, condition| BatchStep { condition, stmt: statement(sql) };
    // The write lock at once: a transaction that takes it half-way can find itself locked out.
    let mut steps = vec![step("BEGIN IMMEDIATE".to_owned(), None)];
    for sql in statements {
        let condition = Some(after(steps.len() - 1));
        steps.push(step(sql, condition));
    }
    let last = steps.len() - 1;
    steps.push(step("COMMIT".to_owned(), Some(after(last))));
    let failed = BatchCond::Not { cond: Box::new(after(last + 1)) };
    steps.push(step("ROLLBACK".to_owned(), Some(failed)));
    Batch { steps, replication_index: None }
}

fn statement(sql: String) -> Stmt {
    if !PUSHES.iter().any(|push| sql.starts_with(push)) {
        return Stmt::new(sql, true);
    }
    let (sql, literals) = without_literals(&sql);
    let mut statement = Stmt::new(sql, true);
    statement.args =
        literals.into_iter().map(|text| Carried::Text { value: text.into() }).collect();
    statement
}

/// A statement of ours with a parameter in the place of each string, and the strings. Nothing else
/// of ours has a single quote in it, and no comment.
fn without_literals(sql: &str) -> (String, Vec<String>) {
    let (mut bare, mut literals) = (String::new(), Vec::new());
    let mut rest = sql;
    while let Some(start) = rest.find('\'') {
        bare.push_str(&rest[..start]);
        bare.push('?');
        rest = &rest[start + 1..];
        let mut text = String::new();
        while let Some(end) = rest.find('\'') {
            text.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            // A doubled quote is one.
            match rest.strip_prefix('\'') {
                Some(after) => rest = after,
                None => break,
            }
            text.push('\'');
        }
        literals.push(text);
    }
    bare.push_str(rest);
    (bare, literals)
}

/// The rows of each statement, or the first error.
fn read(result: BatchResult, expected: usize) -> Result<Vec<Rows>, Failure> {
    if let Some(error) = result.step_errors.iter().flatten().next() {
        return Err(Failure::Statement(Said::new(&error.message, Some(&error.code))));
    }
    // Those of BEGIN, and behind them of COMMIT and ROLLBACK, are nobody's.
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

/// What hyper says of a request that did not get through.
fn transport(error: hyper::Error) -> Failure {
    // Bytes that are not HTTP.
    if error.is_parse() { Failure::Foreign } else { Failure::Transport(error.to_string()) }
}

/// What hyper says of an answer whose head came, and whose body did not come whole.
fn cut_off(error: hyper::Error) -> Failure {
    if error.is_parse() { Failure::Foreign } else { Failure::CutOff(error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_or_a_push_is_known_by_its_first_words() {
        let carries = |sql: &str| carries(&["SELECT 1".to_owned(), sql.to_owned()]);
        assert!(carries("CREATE TABLE t(a)"));
        assert!(carries("\n create index i on t(a)"));
        assert!(carries("INSERT INTO driftless_inbox (id) SELECT 1"));
        assert!(carries("INSERT INTO driftless_staged (name) SELECT 1"));
        assert!(!carries("INSERT INTO t VALUES ('CREATE TABLE')"));
        assert!(!carries("é"));
    }

    #[test]
    fn the_strings_of_a_push_become_arguments() {
        let (sql, strings) = without_literals("SELECT '', 'it''s', \"a\", '''' || 'é' FROM t");
        assert_eq!(sql, "SELECT ?, ?, \"a\", ? || ? FROM t");
        assert_eq!(strings, ["", "it's", "'", "é"]);
        assert_eq!(without_literals("SELECT 1"), ("SELECT 1".to_owned(), Vec::new()));
    }
}
