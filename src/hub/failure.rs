//! The errors of a request, with the words and codes of libSQL server.
//!
//! There are two kinds. A [`Failure`] is of one statement: it goes into the answer, whose HTTP
//! status stays 200, and the pipeline goes on. A [`Refusal`] is of a whole request: it ends the
//! request and its stream with an HTTP status of its own.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rusqlite::ErrorCode;
use serde::Serialize;

/// A statement (or a batch) that failed. `Serialize` writes Hrana's `Error` object.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    message: String,
    code: &'static str,
}

impl Failure {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Failure { message: message.into(), code }
    }

    /// Its message.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Its code: libSQL server's, or SQLite's name of a result code.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// The SQL text holds no statement.
    pub(super) fn no_statement() -> Self {
        Failure::new("SQL_NO_STATEMENT", "SQL string does not contain any statement")
    }

    /// The arguments do not match the statement's parameters.
    pub(super) fn arguments(reason: impl std::fmt::Display) -> Self {
        Failure::new("ARGS_INVALID", format!("Arguments do not match SQL parameters: {reason}"))
    }

    /// The rows are more than one answer may hold.
    pub(super) fn response_too_large() -> Self {
        Failure::new("RESPONSE_TOO_LARGE", "Response is too large")
    }

    /// The request has run for as long as it may.
    pub(super) fn overdue() -> Self {
        Failure::new("SQLITE_INTERRUPT", "SQLite error: interrupted")
    }

    /// The stream's transaction was rolled back because another writer waited.
    pub(super) fn transaction_timeout() -> Self {
        Failure::new("TRANSACTION_TIMEOUT", "Transaction timed out")
    }

    /// A write inside `BEGIN READONLY`.
    pub(super) fn read_only() -> Self {
        let message = "SQLite error: attempt to write a readonly database";
        Failure::new("SQLITE_READONLY", message)
    }

    /// An error that SQLite reports while it compiles a statement, at `offset` in its text.
    ///
    /// libSQL server has a parser of its own before SQLite. So a syntax error has another code
    /// there than an unknown table.
    fn from_input(message: &str, offset: i32) -> Self {
        const SYNTAX: [&str; 3] = ["syntax error", "incomplete input", "unrecognized token"];
        if SYNTAX.iter().any(|phrase| message.contains(phrase)) {
            let message = format!("SQL string could not be parsed: {message} (at offset {offset})");
            return Failure::new("SQL_PARSE_ERROR", message);
        }
        let message = format!("SQL input error: {message} (at offset {offset})");
        Failure::new("SQL_INPUT_ERROR", message)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error::*;
        match error {
            // The end of the text has no offset, so SQLite does not report an input error.
            SqliteFailure(_, Some(message)) if message == "incomplete input" => Failure::new(
                "SQL_PARSE_ERROR",
                format!("SQL string could not be parsed: {message}"),
            ),
            SqliteFailure(error, message) => {
                let message = message.unwrap_or_else(|| error.to_string());
                Failure::new(sqlite_code(error.code), format!("SQLite error: {message}"))
            }
            SqlInputError { msg, offset, .. } => Failure::from_input(&msg, offset),
            MultipleStatement => {
                Failure::new("SQL_MANY_STATEMENTS", "SQL string contains more than one statement")
            }
            NulError(_) => Failure::new(
                "SQL_PARSE_ERROR",
                "SQL string could not be parsed: it contains a NUL character",
            ),
            other => Failure::new("SQLITE_UNKNOWN", format!("SQLite error: {other}")),
        }
    }
}

/// The name of SQLite's primary result code. libSQL server reports no extended ones.
fn sqlite_code(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::InternalMalfunction => "SQLITE_INTERNAL",
        ErrorCode::PermissionDenied => "SQLITE_PERM",
        ErrorCode::OperationAborted => "SQLITE_ABORT",
        ErrorCode::DatabaseBusy => "SQLITE_BUSY",
        ErrorCode::DatabaseLocked => "SQLITE_LOCKED",
        ErrorCode::OutOfMemory => "SQLITE_NOMEM",
        ErrorCode::ReadOnly => "SQLITE_READONLY",
        ErrorCode::OperationInterrupted => "SQLITE_INTERRUPT",
        ErrorCode::SystemIoFailure => "SQLITE_IOERR",
        ErrorCode::DatabaseCorrupt => "SQLITE_CORRUPT",
        ErrorCode::NotFound => "SQLITE_NOTFOUND",
        ErrorCode::DiskFull => "SQLITE_FULL",
        ErrorCode::CannotOpen => "SQLITE_CANTOPEN",
        ErrorCode::FileLockingProtocolFailed => "SQLITE_PROTOCOL",
        ErrorCode::SchemaChanged => "SQLITE_SCHEMA",
        ErrorCode::TooBig => "SQLITE_TOOBIG",
        ErrorCode::ConstraintViolation => "SQLITE_CONSTRAINT",
        ErrorCode::TypeMismatch => "SQLITE_MISMATCH",
        ErrorCode::ApiMisuse => "SQLITE_MISUSE",
        ErrorCode::NoLargeFileSupport => "SQLITE_NOLFS",
        ErrorCode::AuthorizationForStatementDenied => "SQLITE_AUTH",
        ErrorCode::ParameterOutOfRange => "SQLITE_RANGE",
        ErrorCode::NotADatabase => "SQLITE_NOTADB",
        _ => "SQLITE_UNKNOWN",
    }
}

/// Why a request was refused as a whole.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The client breaks the protocol: 400, in plain text.
    Protocol(String),
    /// The `Authorization` header is missing or wrong: 401.
    Unauthorized(&'static str),
    /// The request's body is over the limit, which is in bytes: 413.
    BodyTooLarge(usize),
    /// The stream of this baton was idle for too long: 500, with Hrana's `Error` object.
    Expired,
    /// The limit of open streams, or of bodies held, is reached: 503.
    Crowded,
    /// The body did not arrive in its time: 408.
    Slow,
    /// The database cannot be opened, or a request's thread panicked: 500.
    Internal(String),
}

impl Refusal {
    /// A breach of the protocol.
    pub(super) fn protocol(message: impl Into<String>) -> Self {
        Refusal::Protocol(message.into())
    }

    /// A request of version 2 has `what`, which exists since version 3.
    pub(super) fn needs_version_3(what: &str) -> Self {
        Refusal::Protocol(format!("{what} is only supported in protocol version hrana3 and higher"))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Refusal::Protocol(message) => (StatusCode::BAD_REQUEST, message).into_response(),
            Refusal::Unauthorized(reason) => {
                described(StatusCode::UNAUTHORIZED, &format!("Unauthorized: `{reason}`"))
            }
            Refusal::BodyTooLarge(limit) => described(
                StatusCode::PAYLOAD_TOO_LARGE,
                &format!("Request body is too large: the limit is {limit} bytes"),
            ),
            Refusal::Expired => json(
                StatusCode::INTERNAL_SERVER_ERROR,
                &Failure::new("STREAM_EXPIRED", "The stream has expired due to inactivity"),
            ),
            Refusal::Crowded => described(
                StatusCode::SERVICE_UNAVAILABLE,
                "Timed out while opening database connection",
            ),
            Refusal::Slow => described(
                StatusCode::REQUEST_TIMEOUT,
                "The body of the request did not arrive in time",
            ),
            Refusal::Internal(message) => described(
                StatusCode::INTERNAL_SERVER_ERROR,
                &format!("Internal Error: `{message}`"),
            ),
        }
    }
}

/// An answer of libSQL server's HTTP layer: `{"error": message}`.
fn described(status: StatusCode, message: &str) -> Response {
    json(status, &serde_json::json!({ "error": message }))
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).expect("text and objects of text are always JSON");
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
