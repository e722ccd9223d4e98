//! Definitions on their way to the remote, to the letter.
//!
//! The libsql client parses SQL and sends its own spelling of it. For events and pages that does no
//! harm, but a remote keeps a `CREATE` as it comes: a column `plan` would be `PLAN` there, comments
//! would be gone, and what SQLite knows and the client's parser does not (`IS DISTINCT FROM`) could
//! not be made at all. So a batch with a definition in it goes to the same endpoint as the client's
//! would, in the same messages, but with its text untouched.
//!
//! # Caveats
//!
//! * Each such batch has a connection of its own. There are few: those of a first contact.

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
use crate::value::Value;

/// Whether a batch holds a definition, so that it must arrive as it is written.
pub(super) fn defines(statements: &[String]) -> bool {
    let is_definition = |statement: &String| {
        let word = statement.trim_start().get(..6);
        word.is_some_and(|word| word.eq_ignore_ascii_case("create"))
    };
    statements.iter().any(is_definition)
}

/// Runs the statements in one transaction and one request, at the remote of this `http:` or
/// `https:` URL. Gives the rows of each.
pub(super) async fn execute(
    url: &str,
    token: &str,
    connector: Connector,
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
    let client: Client<_, Body> = Client::builder().build(connector);
    let answer = client.request(request).await.map_err(transport)?;
    let status = answer.status();
    let body = hyper::body::to_bytes(answer.into_body()).await.map_err(transport)?;
    if !status.is_success() {
        let said = Said::from_body(&String::from_utf8_lossy(&body));
        return Err(Failure::Status { status: status.as_u16(), said });
    }
    let body: PipelineRespBody = serde_json::from_slice(&body).map_err(|_| Failure::Foreign)?;
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

/// The statements between BEGIN and COMMIT. Each runs if the one before it did, and where the
/// COMMIT did not run the ROLLBACK does.
fn transaction(statements: Vec<String>) -> Batch {
    let after = |step: usize| BatchCond::Ok { step: step as u32 };
    let step = |sql: String, condition| BatchStep { condition, stmt: Stmt::new(sql, true) };
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

#[cfg(test)]
mod tests {
    #[test]
    fn a_definition_is_known_by_its_first_word() {
        let defines = |sql: &str| super::defines(&["SELECT 1".to_owned(), sql.to_owned()]);
        assert!(defines("CREATE TABLE t(a)"));
        assert!(defines("\n create index i on t(a)"));
        assert!(!defines("INSERT INTO t VALUES ('CREATE TABLE')"));
        assert!(!defines("é"));
    }
}
