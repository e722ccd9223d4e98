//! Tries a URL and a token for a settings page, and reports problems in words.

use tokio::time::Instant;

use super::libsql::{Libsql, Options};
use super::token::{Access, Token};
use super::{Batch, Remote};
use crate::error::{Code, Error, Kind, Result};
use crate::event::value::Value;

/// The table that the trial of writing creates in a transaction that is rolled back.
const TRIAL_TABLE: &str = "driftless_probe";

/// The findings about a URL and a token.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ProbeReport {
    /// The URL, without credentials; empty if it is not valid.
    pub url: String,
    /// Whether a replica can work with it: no finding is a [`Level::Problem`].
    pub usable: bool,
    /// Time of one request on an open connection, in milliseconds.
    pub latency_ms: Option<f64>,
    /// The version of SQLite that the remote runs.
    pub sqlite_version: Option<String>,
    /// Whether the token may write; `None` if that could not be tried.
    pub can_write: Option<bool>,
    /// The findings, in the order of the trials.
    pub findings: Vec<Finding>,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Finding {
    /// Its level.
    pub level: Level,
    /// Its subject.
    pub about: Aspect,
    /// The finding, in a sentence.
    pub message: String,
    /// The remedy.
    pub hint: Option<String>,
}

/// The level of a [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Fine,
    /// It works, but a person should know.
    Warning,
    /// A replica cannot work so.
    Problem,
}

/// The subject of a [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// The URL itself.
    Url,
    /// Whether the remote can be reached, and whether it is a libSQL server.
    Connection,
    /// Whether the token is accepted.
    Token,
    /// Whether the token may write.
    Writing,
}

impl ProbeReport {
    /// Adds a finding.
    fn note(&mut self, level: Level, about: Aspect, message: String, hint: Option<&str>) {
        let hint = hint.map(str::to_owned);
        self.usable &= level != Level::Problem;
        self.findings.push(Finding { level, about, message, hint });
    }

    /// Adds an error as a problem.
    fn problem(&mut self, about: Aspect, error: &Error) {
        self.note(Level::Problem, about, error.message().to_owned(), error.hint());
    }
}

/// Tries `url` and `token`, and changes nothing on the remote.
///
/// It never fails: an error becomes a finding. It sends up to three requests, each within the time
/// limits of `options`. It tests writing with a transaction that always rolls back.
pub async fn probe(url: &str, token: Option<Token>, options: Options) -> ProbeReport {
    let mut report = ProbeReport {
        url: String::new(),
        usable: true,
        latency_ms: None,
        sqlite_version: None,
        can_write: None,
        findings: Vec::new(),
    };
    let has_token = token.is_some();
    let expires_at = token.as_ref().and_then(Token::expires_at);
    let remote = match Libsql::connect(url, token, options) {
        Ok(remote) => remote,
        Err(error) => {
            report.problem(Aspect::Url, &error);
            return report;
        }
    };
    report.url = remote.url();
    if let Err(error) = try_reading(&remote, &mut report).await {
        report.problem(about(&error), &error);
        if about(&error) == Aspect::Token {
            note_token(&mut report, has_token, expires_at);
        }
        return report;
    }
    try_writing(&remote, &mut report).await;
    report
}

/// The subject of an error of the first request.
fn about(error: &Error) -> Aspect {
    if error.code().is_of_token() { Aspect::Token } else { Aspect::Connection }
}

/// Adds the token's own claims, after the remote has refused it.
fn note_token(report: &mut ProbeReport, has_token: bool, expires_at: Option<i64>) {
    if !has_token {
        let hint = "set DRIFTLESS_AUTH_TOKEN, or name a file with --auth-token-file";
        report.note(Level::Problem, Aspect::Token, "no token was given".to_owned(), Some(hint));
    }
    let expiry = expires_at.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    if let Some(expiry) = expiry {
        let message = format!("the token says that it is valid until {expiry}");
        report.note(Level::Warning, Aspect::Token, message, None);
    }
}

/// Asks for the version, and times a second request.
async fn try_reading(remote: &Libsql, report: &mut ProbeReport) -> Result<()> {
    let question =
        || Batch { statements: vec!["SELECT sqlite_version(), x'00ff'".into()], writes: false };
    let answer = remote.run(question()).await?;
    let row = answer.rows.first().and_then(|rows| rows.first());
    let Some([Value::Text(version), Value::Blob(bytes)]) = row.map(Vec::as_slice) else {
        let url = remote.url();
        let message = format!("{url} does not return the rows of a batch as libSQL server does");
        return Err(Error::new(Code::NotLibsql, message)
            .with_hint("use a Turso database, libSQL server or the hub"));
    };
    if *bytes != [0x00, 0xff] {
        let message = format!("{} does not return bytes unchanged", remote.url());
        return Err(Error::new(Code::AnswerInvalid, message));
    }
    let version = String::from_utf8_lossy(version).into_owned();
    let message = format!("the remote answers and runs SQLite {version}");
    report.note(Level::Fine, Aspect::Connection, message, None);
    report.sqlite_version = Some(version);
    // Measured for a person to read.
    let started = Instant::now();
    remote.run(question()).await?;
    report.latency_ms = Some(started.elapsed().as_secs_f64() * 1000.0);
    Ok(())
}

/// Tries to write, and lets the transaction fail after that.
///
/// A token's claim, or a statement that changes no row, does not show whether the database allows
/// writing: it may be blocked or read-only. So the trial creates a table, which needs the write
/// lock and the permission. The next statement violates the table's constraint and rolls back.
async fn try_writing(remote: &Libsql, report: &mut ProbeReport) {
    if remote.access() == Access::ReadOnly {
        report.can_write = Some(false);
        let hint = "create one that may write, with: turso db tokens create NAME";
        let message = "the token is read-only".to_owned();
        report.note(Level::Problem, Aspect::Writing, message, Some(hint));
        return;
    }
    let statements = vec![
        format!("CREATE TABLE {TRIAL_TABLE} (never INTEGER NOT NULL CHECK (never > 1))").into(),
        format!("INSERT INTO {TRIAL_TABLE} (never) VALUES (1)").into(),
    ];
    let error = match remote.run(Batch { statements, writes: true }).await {
        Err(error) => error,
        Ok(_) => {
            let statements = vec![format!("DROP TABLE IF EXISTS {TRIAL_TABLE}").into()];
            if let Err(error) = remote.run(Batch { statements, writes: true }).await {
                report.problem(Aspect::Writing, &error);
            }
            let message = format!("{} does not enforce constraints", remote.url());
            Error::new(Code::NotLibsql, message)
        }
    };
    if error.code() == Code::ConstraintFailed {
        report.can_write = Some(true);
        report.note(Level::Fine, Aspect::Writing, "the token may write".to_owned(), None);
        return;
    }
    if error.kind() == Kind::Refused {
        report.can_write = Some(false);
    }
    report.problem(Aspect::Writing, &error);
}
