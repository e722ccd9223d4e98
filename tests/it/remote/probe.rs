//! What a settings page is told about a URL and a token.

use driftless::remote::{Aspect, Level, Options, ProbeReport, Token, probe};
use serde_json::json;

use super::server::{Reply, Request, Server};

/// Rows as a libSQL server sends them for the probe's question.
fn version() -> Reply {
    Reply::rows(&[json!([[
        { "type": "text", "value": "3.47.0" },
        { "type": "blob", "base64": "AP8" },
    ]])])
}

/// A server that reads well and answers a write with `on_write`.
async fn server(on_write: impl Fn() -> Reply + Send + Sync + 'static) -> Server {
    Server::start(
        move |_, request: &Request| {
            if request.steps()[1].starts_with("SELECT") { version() } else { on_write() }
        },
    )
    .await
}

async fn report(server: &Server) -> ProbeReport {
    let token = Token::new("s3cret").unwrap();
    let report = probe(&server.url(), Some(token), Options::default()).await;
    assert!(!serde_json::to_string(&report).unwrap().contains("s3cret"), "{report:?}");
    let problem = report.findings.iter().any(|finding| finding.level == Level::Problem);
    assert_eq!(report.usable, !problem, "{report:?}");
    report
}

/// The aspect of the first problem, whose words must hold `says`.
#[track_caller]
fn problem(report: &ProbeReport, says: &str) -> Aspect {
    let mut findings = report.findings.iter();
    let finding = findings.find(|finding| finding.level == Level::Problem).unwrap();
    let hint = finding.hint.clone().unwrap_or_default();
    assert!(format!("{} ({hint})", finding.message).contains(says), "{report:?}");
    finding.about
}

#[tokio::test]
async fn all_is_well() {
    let broken = "SQLite error: CHECK constraint failed: never > 1";
    let server = server(move || Reply::failed(2, 1, broken, "SQLITE_CONSTRAINT")).await;
    let report = report(&server).await;
    assert!(report.usable, "{report:?}");
    assert_eq!(report.url, server.url());
    assert_eq!(report.sqlite_version.as_deref(), Some("3.47.0"));
    assert_eq!(report.can_write, Some(true));
    assert!(report.latency_ms.is_some());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["findings"][0]["level"], "fine");
    assert_eq!(json["findings"][0]["about"], "connection");
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_trial_that_went_through_is_taken_back() {
    let server = Server::start(|_, request| match request.steps().len() {
        4 if request.steps()[1].starts_with("SELECT") => version(),
        4 => Reply::rows(&[json!([])]),
        _ => Reply::rows(&[json!([]), json!([])]),
    })
    .await;
    let report = report(&server).await;
    assert_eq!(problem(&report, "constraints"), Aspect::Writing);
    let last = server.requests().last().unwrap().steps();
    assert_eq!(last[1], "DROP TABLE IF EXISTS driftless_probe;");
}

#[tokio::test]
async fn the_token_may_not_write() {
    let readonly = "SQLite error: attempt to write a readonly database";
    let server = server(move || Reply::failed(2, 0, readonly, "SQLITE_READONLY")).await;
    let found = report(&server).await;
    assert_eq!(found.can_write, Some(false));
    assert_eq!(problem(&found, "may write"), Aspect::Writing);

    // One that says so itself is not tried.
    let token = "eyJhbGciOiJFZERTQSJ9.eyJhIjoicm8iLCJleHAiOjE3MDAwMDAwMDB9.c2ln";
    let before = server.requests().len();
    let token = Token::new(token).unwrap();
    let found = probe(&server.url(), Some(token), Options::default()).await;
    assert_eq!(found.can_write, Some(false));
    assert_eq!(problem(&found, "the token is read-only"), Aspect::Writing);
    assert_eq!(server.requests().len() - before, 2);
}

#[tokio::test]
async fn writing_cannot_be_tried_now() {
    let server = server(|| Reply::failed(2, 0, "SQLite error: database is locked", "x")).await;
    let report = report(&server).await;
    assert_eq!(report.can_write, None);
    assert_eq!(problem(&report, "locked"), Aspect::Writing);
}

#[tokio::test]
async fn the_token_is_refused() {
    let server = Server::start(|_, _| Reply::http("401 Unauthorized", "")).await;
    assert_eq!(problem(&report(&server).await, "turso db tokens create"), Aspect::Token);

    let none = probe(&server.url(), None, Options::default()).await;
    assert!(none.findings.iter().any(|finding| finding.message == "no token was given"));

    let expired = "eyJhbGciOiJFZERTQSJ9.eyJhIjoicnciLCJleHAiOjE3MDAwMDAwMDB9.c2ln";
    let token = Token::new(expired).unwrap();
    let found = probe(&server.url(), Some(token), Options::default()).await;
    let until = "the token says that it is valid until 2023-11-14T22:13:20Z";
    assert!(found.findings.iter().any(|finding| finding.message == until), "{found:?}");
}

#[tokio::test]
async fn the_server_is_another() {
    let html = Server::start(|_, _| Reply::http("200 OK", "<html/>")).await;
    assert_eq!(problem(&report(&html).await, "libSQL server"), Aspect::Connection);
    // One that takes libsql's wish for no rows literally.
    let terse = Server::start(|_, _| Reply::rows(&[json!([])])).await;
    assert_eq!(problem(&report(&terse).await, "return the rows"), Aspect::Connection);
}

#[tokio::test]
async fn the_url_is_wrong() {
    let report = probe("wss://gym.turso.io?authToken=s3cret", None, Options::default()).await;
    assert_eq!(problem(&report, "use libsql://gym.turso.io"), Aspect::Url);
    assert!(!format!("{report:?}").contains("s3cret"), "{report:?}");
    assert!(!report.usable && report.findings.len() == 1);
}
