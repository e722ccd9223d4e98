//! A remote behind HTTP: Turso, libSQL server or the hub, through the `libsql` crate.
//!
//! [`Libsql`] sends each [`Batch`] as one HTTP request, on a connection that stays open between
//! batches. A `Lane` is such a connection with a meter that counts its bytes. A batch takes an idle
//! lane or opens one, and returns it only after success. So the remains of a failed, dropped or
//! late request cannot reach the next one.
//!
//! The batch runs in a task of its own, because the crate can panic (it assumes that the body of an
//! HTTP error is UTF-8). A panic is reported as an unavailable remote.
//!
//! # Caveats
//!
//! * The crate parses each statement and sends its own spelling: without comments, `a()` as `a ()`,
//!   and an unquoted name that is a keyword in capitals, so that a column `key` would be `KEY` in
//!   the remote's schema. This takes 6 ms a megabyte, and the crate's batches have no parameters.
//!   So definitions and statements with parameters do not use it (see [`pipeline`]).
//! * It skips a statement after the first that does not parse, and commits the others. So
//!   statements are parsed here first. A large first statement is not: the crate reports its
//!   errors.
//! * It begins transactions deferred. The first statement of a writing batch must be a write.
//! * If the server closes a connection at the moment of a request, the request fails as
//!   unavailable. The caller repeats it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::libsql as client;
use fallible_iterator::FallibleIterator;
use libsql_sqlite3_parser::lexer::sql::Parser;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::rustls::ClientConfig;
use tracing::Instrument;

use super::credentials::{Credentials, Key, Keyring};
use super::failure::Failure;
use super::metered_stream::Meter;
use super::pipeline;
use super::pipeline::Direct;
use super::tls::{Connector, client_config};
use super::token::{Access, Token};
use super::url::RemoteUrl;
use super::{Answer, Batch, Pending, Remote, Rows};
use crate::error::{Code, Error, Kind, Result};
use crate::event::value::Value;
use crate::protocol::Statement;

/// Connections that are kept while nothing is sent: one for pushing, one for the next page.
const IDLE_LANES: usize = 2;

/// The most bytes of a batch's first statement that is parsed here first. Only a push is larger.
/// Parsing this much takes a quarter of a millisecond.
const PARSED_FIRST: usize = 64 * 1024;

/// The options of a connection to a remote.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether `http://` may lead to another machine. The network can read the token and all rows
    /// then.
    pub allow_plain_http: bool,
    /// Time limit for name, TCP and TLS together. Ten seconds by default: a slow mobile network
    /// needs three.
    pub connect_timeout: Duration,
    /// Time limit for a whole batch, connecting included. Thirty seconds by default: the largest
    /// push takes a few on a slow line, and libSQL server ends a transaction after five.
    pub request_timeout: Duration,
    /// Root certificates in PEM to trust besides those of the machine. Empty by default.
    pub root_certificates: Vec<u8>,
    /// The most bytes of an answer. 32 MiB by default: libSQL server sends at most 10 MB of values
    /// unless configured otherwise, which are 14 MB in base64. The limit keeps a hostile server
    /// from filling our memory, where empty rows take twenty times their JSON.
    pub answer_limit: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            allow_plain_http: false,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            root_certificates: Vec::new(),
            answer_limit: 32 << 20,
        }
    }
}

/// A remote behind HTTP.
pub struct Libsql {
    url: RemoteUrl,
    keys: Keyring,
    tls: Option<Arc<ClientConfig>>,
    options: Options,
    idle: Mutex<Vec<Lane>>,
    direct: Mutex<Vec<Direct>>,
}

impl Libsql {
    /// A client of the remote at `url`. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`Usage`](Kind::Usage) if the URL is not allowed (see [`RemoteUrl::parse`]) or
    /// `root_certificates` are not valid; [`Refused`](Kind::Refused) if TLS has no root
    /// certificate.
    pub fn connect(url: &str, token: Option<Token>, options: Options) -> Result<Libsql> {
        Libsql::connect_with(url, Credentials::fixed(token), options)
    }

    /// The same with a token that may change.
    ///
    /// # Errors
    ///
    /// As for [`Libsql::connect`], and as [`Token::from_file`] for a token from a file.
    pub fn connect_with(url: &str, credentials: Credentials, options: Options) -> Result<Libsql> {
        let url = RemoteUrl::parse(url, options.allow_plain_http)?;
        let tls =
            if url.is_secure() { Some(client_config(&options.root_certificates)?) } else { None };
        let (idle, direct) = (Mutex::default(), Mutex::default());
        let keys = Keyring::new(credentials)?;
        Ok(Libsql { url, keys, tls, options, idle, direct })
    }

    /// The access that the token claims.
    pub fn access(&self) -> Access {
        self.keys.current().access()
    }

    /// The error for a token that may only read.
    pub(crate) fn read_only(&self) -> Error {
        let message = format!("the token for {} is read-only", self.url.as_str());
        Error::new(Code::TokenReadOnly, message)
    }

    /// Runs `batch` within its time.
    async fn run_timed(&self, batch: Batch) -> Result<Answer> {
        let expected = batch.statements.len();
        if expected == 0 {
            return Err(Error::usage("a batch must hold at least one statement"));
        }
        // Measured for the log only.
        let started = Instant::now();
        let attempt = self.authorised(batch);
        let outcome = tokio::time::timeout(self.options.request_timeout, attempt).await;
        let outcome = outcome.unwrap_or_else(|_| {
            let seconds = self.options.request_timeout.as_secs_f64();
            let message = format!("{} did not answer within {seconds} s", self.url.as_str());
            Err(Error::new(Code::RemoteTimeout, message)
                .with_hint("check the network; a slow one needs a longer time limit"))
        });
        let outcome = outcome.and_then(|answer| self.counted(answer, expected));
        let elapsed_ms = started.elapsed().as_millis() as u64;
        match &outcome {
            Ok(answer) => tracing::debug!(
                bytes_up = answer.bytes_up,
                bytes_down = answer.bytes_down,
                elapsed_ms,
                "answered"
            ),
            Err(error) => {
                let (code, remote) = (error.code().as_str(), error.remote_code());
                tracing::debug!(kind = ?error.kind(), code, remote, elapsed_ms, "failed");
            }
        }
        outcome
    }

    /// Sends a batch. Sends it once more if its token was refused and there is a new one: a batch
    /// that was refused has not begun.
    async fn authorised(&self, batch: Batch) -> Result<Answer> {
        let key = self.keys.obtain().await?;
        let again = self.keys.may_change().then(|| batch.clone());
        let outcome = self.permitted(batch, &key).await;
        let refused = matches!(&outcome, Err(error) if error.code().is_of_token());
        let Some(again) = again.filter(|_| refused) else { return outcome };
        match self.keys.after_refusal(key.number()).await {
            Ok(true) => {
                let key = self.keys.current();
                self.permitted(again, &key).await
            }
            Ok(false) => outcome,
            Err(why) => outcome.map_err(|error| {
                let message = format!("{error}; {why}");
                let told = error.in_words(message);
                match why.hint() {
                    Some(hint) => told.with_hint(hint),
                    None => told,
                }
            }),
        }
    }

    /// Sends a batch, unless it writes and the token is read-only.
    async fn permitted(&self, batch: Batch, key: &Key) -> Result<Answer> {
        if batch.writes && key.access() == Access::ReadOnly {
            return Err(self.read_only());
        }
        let outcome = self.attempt(batch, key).await;
        outcome.map_err(|error| key.remove_from(error))
    }

    /// Sends the statements through the crate, or past it.
    async fn attempt(&self, batch: Batch, key: &Key) -> Result<Answer> {
        if pipeline::carries(&batch.statements) {
            return self.carry(batch, key).await;
        }
        for (index, Statement { sql, .. }) in batch.statements.iter().enumerate() {
            if index > 0 || sql.len() <= PARSED_FIRST {
                require_one_statement(index + 1, sql)?;
            }
        }
        // The separator is on its own line, so that a comment before it does not include it.
        let texts: Vec<_> = batch.statements.into_iter().map(|statement| statement.sql).collect();
        self.send(texts.join("\n;\n"), key).await
    }

    /// Sends definitions, and statements with parameters, unchanged.
    async fn carry(&self, batch: Batch, key: &Key) -> Result<Answer> {
        pipeline::check(&batch.statements)?;
        let idle = self.direct.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let direct = idle.unwrap_or_else(|| {
            let meter = Arc::new(Meter::default());
            Direct::new(self.connector(&meter), meter)
        });
        let meter = Arc::clone(direct.meter());
        meter.begin(self.options.answer_limit);
        let outcome = direct.execute(self.url.http(), key.text(), batch).await;
        let rows = outcome.map_err(|failure| self.sorted(failure, &meter))?;
        let mut idle = self.direct.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_LANES {
            idle.push(direct);
        }
        Ok(Answer { rows, bytes_up: meter.up(), bytes_down: meter.down() })
    }

    /// Sends `sql` on an idle lane or a new one.
    async fn send(&self, sql: String, key: &Key) -> Result<Answer> {
        let idle = self.lanes().pop();
        let lane = match idle.filter(|lane| lane.key == key.number()) {
            Some(lane) => lane,
            None => self.open(key).await?,
        };
        let meter = Arc::clone(&lane.meter);
        meter.begin(self.options.answer_limit);
        let mut running = Running(tokio::spawn(
            async move {
                let outcome = lane.execute(&sql).await;
                (lane, outcome)
            }
            .in_current_span(),
        ));
        let (lane, outcome) = (&mut running.0).await.map_err(|error| {
            let (code, what) = match error.is_panic() {
                true => (Code::AnswerUnreadable, "sent what cannot be read"),
                false => (Code::AnswerCutOff, "was cut off"),
            };
            Error::new(code, format!("{} {what}", self.url.as_str()))
                .with_hint("something between here and the remote may answer in its place")
        })?;
        let outcome = outcome.map_err(|error| self.explain(error, &meter));
        let sound = outcome.as_ref().map_or_else(|error| error.kind() == Kind::Rejected, |_| true);
        if sound {
            let mut idle = self.lanes();
            if idle.len() < IDLE_LANES {
                idle.push(lane);
            }
        }
        outcome
    }

    /// A new lane. Its connection is made with its first request.
    async fn open(&self, key: &Key) -> Result<Lane> {
        let meter = Arc::new(Meter::default());
        let token = key.text().to_owned();
        let connection = client::Builder::new_remote(self.url.http().to_owned(), token)
            .connector(self.connector(&meter))
            .build()
            .await
            .and_then(|database| database.connect())
            .map_err(|error| self.explain(error, &meter))?;
        Ok(Lane { connection, meter, key: key.number() })
    }

    fn connector(&self, meter: &Arc<Meter>) -> Connector {
        let Options { connect_timeout, allow_plain_http, .. } = self.options;
        Connector::new(self.tls.clone(), connect_timeout, allow_plain_http, Arc::clone(meter))
    }

    /// The answer, if it has the rows of each statement.
    fn counted(&self, answer: Answer, expected: usize) -> Result<Answer> {
        let got = answer.rows.len();
        if got == expected {
            return Ok(answer);
        }
        let url = self.url.as_str();
        let message = format!("{url} answered {got} statements where {expected} were sent");
        Err(Error::new(Code::AnswerInvalid, message))
    }

    /// The connection's own error. The HTTP client reports a failure as text only.
    fn known(&self, meter: &Meter) -> Option<Error> {
        let (url, limit) = (self.url.as_str(), self.options.answer_limit);
        meter.take_failure().or_else(|| {
            let larger = || format!("the answer of {url} is larger than {limit} bytes");
            meter.overran().then(|| Error::new(Code::AnswerTooLarge, larger()))
        })
    }

    /// The error for a failure.
    fn sorted(&self, failure: Failure, meter: &Meter) -> Error {
        let error = self.known(meter);
        error.unwrap_or_else(|| failure.into_error(self.url.as_str()))
    }

    /// The error for an error of the crate.
    fn explain(&self, error: client::Error, meter: &Meter) -> Error {
        if let Some(error) = self.known(meter) {
            return error;
        }
        let url = self.url.as_str();
        match error {
            client::Error::Hrana(error) => Failure::parse(&error.to_string()).into_error(url),
            // Without the text at that place: it may be a value.
            client::Error::Sqlite3SyntaxError(line, column, _) => {
                let message = format!("syntax error in line {line}, column {column} of the batch");
                Error::new(Code::SqlInvalid, message)
            }
            client::Error::Sqlite3UnsupportedStatement => {
                let message = "the batch holds a statement that libSQL does not run remotely";
                Error::new(Code::SqlInvalid, message)
            }
            client::Error::Sqlite3ParserError(_) => {
                Error::new(Code::SqlInvalid, "the batch cannot be parsed")
            }
            client::Error::TransactionalBatchError(_) => {
                Error::usage("a batch must not begin or end a transaction itself")
            }
            // A remote connection has not given any other, so its text is not printed.
            _ => Error::unavailable(format!("the client of {url} failed")),
        }
    }

    /// The idle lanes.
    fn lanes(&self) -> std::sync::MutexGuard<'_, Vec<Lane>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Libsql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Libsql").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

impl Remote for Libsql {
    fn run(&self, batch: Batch) -> Pending<'_> {
        let span = tracing::debug_span!(
            "remote.request",
            url = self.url.as_str(),
            statements = batch.statements.len(),
            writes = batch.writes,
        );
        Box::pin(self.run_timed(batch).instrument(span))
    }

    fn url(&self) -> String {
        self.url.as_str().to_owned()
    }

    fn forget_connections(&self) {
        self.lanes().clear();
        self.direct.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn renew_credentials(&self) -> bool {
        self.keys.look()
    }

    fn notice(&self) -> Option<Error> {
        self.keys.problem()
    }
}

/// A connection that stays open between batches, and the meter of its bytes.
struct Lane {
    connection: client::Connection,
    meter: Arc<Meter>,
    /// The number of its token.
    key: u64,
}

impl Lane {
    /// Runs the statements of `sql` in one transaction and one request.
    async fn execute(&self, sql: &str) -> std::result::Result<Answer, client::Error> {
        let mut batch = self.connection.execute_transactional_batch(sql).await?;
        let mut rows = VecDeque::new();
        while let Some(result) = batch.next_stmt_row() {
            // `None` is a statement that did not run. The batch would have failed.
            rows.push_back(match result {
                Some(result) => read(result).await?,
                None => Rows::new(),
            });
        }
        Ok(Answer { rows: rows.into(), bytes_up: self.meter.up(), bytes_down: self.meter.down() })
    }
}

/// Refuses text, the batch's statement of that number, that is not exactly one statement.
fn require_one_statement(number: usize, sql: &str) -> Result<()> {
    let wrong = |what: &str| {
        Error::new(Code::SqlInvalid, format!("statement {number} of the batch {what}"))
    };
    // The parser is too large for a thread's stack.
    let mut parser = Box::new(Parser::new(sql.as_bytes()));
    let mut next = || parser.next().map_err(|_| wrong("is not complete SQL"));
    if next()?.is_none() {
        return Err(wrong("is empty"));
    }
    if next()?.is_some() {
        return Err(wrong("is more than one"));
    }
    Ok(())
}

/// The rows of one statement.
async fn read(mut result: client::Rows) -> std::result::Result<Rows, client::Error> {
    let mut rows = Rows::new();
    while let Some(row) = result.next().await? {
        let columns = (0..row.column_count()).map(|index| row.get_value(index).map(value));
        rows.push(columns.collect::<std::result::Result<_, _>>()?);
    }
    Ok(rows)
}

/// The client's value as ours.
fn value(value: client::Value) -> Value {
    match value {
        client::Value::Null => Value::Null,
        client::Value::Integer(integer) => Value::Integer(integer),
        client::Value::Real(real) => Value::Real(real),
        client::Value::Text(text) => Value::Text(text.into_bytes()),
        client::Value::Blob(bytes) => Value::Blob(bytes),
    }
}

/// A task that is aborted when it is dropped.
struct Running<T>(JoinHandle<T>);

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
