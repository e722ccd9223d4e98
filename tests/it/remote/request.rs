//! What a batch is on the wire, and what comes back of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use driftless::event::value::Value;
use driftless::remote::{Credentials, Libsql, Options, Remote, Token};
use driftless::{Code, Kind};
use serde_json::json;

use super::server::{Reply, Server};
use super::{client, client_with, reads, writes};

#[tokio::test]
async fn a_batch_is_one_request_in_one_transaction() {
    let server = Server::start(|_, _| Reply::rows(&[json!([]), json!([])])).await;
    let remote = client(&server);
    remote
        .run(writes(&["INSERT INTO t (a) VALUES ('x;''y') -- a comment", "SELECT a FROM t;"]))
        .await
        .unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].head.starts_with("post /v3/pipeline http/1.1\r\n"));
    assert!(requests[0].head.contains("authorization: bearer s3cret\r\n"));
    let steps = requests[0].steps();
    let expected = [
        "BEGIN TRANSACTION",
        "INSERT INTO t (a) VALUES ('x;''y');",
        "SELECT a FROM t;",
        "COMMIT",
        "ROLLBACK",
    ];
    assert_eq!(steps, expected);
    // The stream is closed by the same request, so nothing stays open on the server.
    let kinds: Vec<_> = requests[0].body["requests"].as_array().unwrap().to_vec();
    assert_eq!(kinds.last().unwrap()["type"], "close");
    // Each step runs only if the one before it did; ROLLBACK only if COMMIT did not.
    let conditions: Vec<_> = kinds[0]["batch"]["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["condition"].clone())
        .collect();
    let ok = |step| json!({ "type": "ok", "step": step });
    let expected = [json!(null), ok(0), ok(1), ok(2), json!({ "type": "not", "cond": ok(3) })];
    assert_eq!(conditions, expected);
}

#[tokio::test]
async fn every_kind_of_value_comes_back() {
    let server = Server::start(|_, _| {
        Reply::rows(&[
            json!([[
                { "type": "null" },
                { "type": "integer", "value": "-9223372036854775808" },
                { "type": "float", "value": 0.5 },
                { "type": "text", "value": "ü\u{0}'" },
                { "type": "blob", "base64": "AP8KGw" },
            ]]),
            json!([]),
            json!([[{ "type": "integer", "value": "1" }], [{ "type": "integer", "value": "2" }]]),
        ])
    })
    .await;
    let answer = client(&server).run(reads(&["SELECT 1", "SELECT 2", "SELECT 3"])).await.unwrap();
    let first = vec![
        Value::Null,
        Value::Integer(i64::MIN),
        Value::Real(0.5),
        Value::Text("ü\0'".into()),
        Value::Blob(vec![0x00, 0xff, 0x0a, 0x1b]),
    ];
    let third = vec![vec![Value::Integer(1)], vec![Value::Integer(2)]];
    assert_eq!(answer.rows, vec![vec![first], vec![], third]);
}

#[tokio::test]
async fn a_connection_is_kept_between_batches_and_its_bytes_are_counted() {
    let server = Server::start(|_, _| Reply::rows(&[json!([])])).await;
    let remote = client(&server);
    let mut before = (0, 0);
    for _ in 0..3 {
        let answer = remote.run(reads(&["SELECT 1"])).await.unwrap();
        let after = server.bytes();
        let on_the_wire = (after.0 - before.0, after.1 - before.1);
        assert_eq!((answer.bytes_up, answer.bytes_down), on_the_wire);
        before = after;
    }
    assert_eq!((server.connections(), server.requests().len()), (1, 3));
}

/// Of both kinds: those of pages, and those of pushes.
#[tokio::test]
async fn connections_that_may_be_dead_are_given_up() {
    let push = "INSERT INTO driftless_inbox (id) SELECT 1";
    for batch in [reads(&["SELECT 1"]), writes(&[push])] {
        let server = Server::start(|_, _| Reply::rows(&[json!([])])).await;
        let remote = client(&server);
        for _ in 0..2 {
            remote.run(batch.clone()).await.unwrap();
        }
        assert_eq!(server.connections(), 1);
        remote.forget_connections();
        remote.run(batch.clone()).await.unwrap();
        assert_eq!(server.connections(), 2, "{batch:?}");
    }
}

#[tokio::test]
async fn a_rejected_batch_keeps_the_connection() {
    let server = Server::start(|number, _| match number {
        0 => Reply::failed(2, 1, "SQLite error: UNIQUE constraint failed: t.a", "x"),
        _ => Reply::rows(&[json!([])]),
    })
    .await;
    let remote = client(&server);
    let error = remote.run(writes(&["DELETE FROM t", "SELECT 1"])).await.unwrap_err();
    assert_eq!(error.code(), Code::ConstraintFailed);
    assert_eq!(error.remote_code(), Some("SQLITE_CONSTRAINT"));
    assert!(error.message().contains("UNIQUE constraint failed: t.a"), "{error:?}");
    remote.run(reads(&["SELECT 1"])).await.unwrap();
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_the_server_closes_is_made_again() {
    let server = Server::start(|_, _| match Reply::rows(&[json!([])]) {
        Reply::Bytes(bytes) => Reply::Last(bytes),
        other => other,
    })
    .await;
    let remote = client(&server);
    let mut answered = 0;
    while answered < 3 {
        // The request and the closing may cross; then the batch is to be repeated.
        match remote.run(reads(&["SELECT 1"])).await {
            Ok(_) => answered += 1,
            Err(error) => assert_eq!(error.kind(), Kind::Unavailable, "{error:?}"),
        }
    }
    assert!(server.connections() >= 3);
}

#[tokio::test]
async fn a_future_that_is_dropped_leaves_the_remote_usable() {
    let server = Server::start(|number, _| match number {
        0 => Reply::Silence,
        _ => Reply::rows(&[json!([])]),
    })
    .await;
    let remote = client(&server);
    tokio::select! {
        answer = remote.run(reads(&["SELECT 1"])) => panic!("answered {answer:?}"),
        () = server.arrival() => {}
    }
    // The request does not go on without us. The limit only ends a test that has failed.
    tokio::time::timeout(Duration::from_secs(20), server.given_up()).await.unwrap();
    remote.run(reads(&["SELECT 2"])).await.unwrap();
    assert_eq!(server.requests()[1].steps()[1], "SELECT 2;");
}

#[tokio::test]
async fn two_batches_run_at_the_same_time() {
    let server = Server::start(|number, _| match number {
        0 => Reply::Silence,
        _ => Reply::rows(&[json!([])]),
    })
    .await;
    let remote = client(&server);
    let late = remote.run(reads(&["SELECT 1"]));
    let prompt = async {
        server.arrival().await;
        remote.run(reads(&["SELECT 2"])).await.unwrap()
    };
    tokio::select! {
        answer = late => panic!("answered {answer:?}"),
        _ = prompt => {}
    }
}

#[tokio::test]
async fn a_token_that_is_read_only_is_noticed_before_a_write_is_sent() {
    let server = Server::start(|_, _| Reply::rows(&[json!([])])).await;
    // {"a":"ro","exp":1700000000}
    let token = Token::new("eyJhbGciOiJFZERTQSJ9.eyJhIjoicm8iLCJleHAiOjE3MDAwMDAwMDB9.c2ln");
    let remote = Libsql::connect(&server.url(), Some(token.unwrap()), Options::default()).unwrap();
    let error = remote.run(writes(&["DELETE FROM t"])).await.unwrap_err();
    assert_eq!(error.code(), Code::TokenReadOnly, "{error:?}");
    assert!(server.requests().is_empty());
    remote.run(reads(&["SELECT 1"])).await.unwrap();
}

/// F71. Either way of sending. What is refused once more is told.
#[tokio::test]
async fn f71_a_batch_that_was_refused_goes_once_more_with_another_token() {
    for batch in [reads(&["SELECT 1"]), writes(&["CREATE TABLE t(a)"])] {
        let good = Arc::new(Mutex::new("s3cret-2".to_owned()));
        let wanted = Arc::clone(&good);
        let server = Server::start(move |_, request| {
            let bearer = format!("bearer {}", wanted.lock().unwrap());
            match request.head.to_lowercase().contains(&bearer) {
                true => Reply::rows(&[json!([])]),
                false => Reply::http("401 Unauthorized", r#"{"error":"s3cret-1 is none"}"#),
            }
        })
        .await;
        let asked = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&asked);
        let credentials = Credentials::source(move || {
            let mut asked = counter.lock().unwrap();
            *asked += 1;
            Token::new(format!("s3cret-{asked}")).map(Some)
        });
        let options = Options::default();
        let remote = Libsql::connect_with(&server.url(), credentials, options).unwrap();
        remote.run(batch.clone()).await.unwrap();
        assert_eq!((*asked.lock().unwrap(), server.requests().len()), (2, 2));
        remote.run(batch.clone()).await.unwrap();
        assert_eq!((*asked.lock().unwrap(), server.requests().len()), (2, 3), "it is kept");
        // The one that comes next is as bad.
        *good.lock().unwrap() = "nobody's".to_owned();
        let error = remote.run(batch).await.unwrap_err();
        assert_eq!((*asked.lock().unwrap(), server.requests().len()), (3, 5));
        assert_eq!(error.code(), Code::TokenRefused);
        for shown in [format!("{error:?}"), format!("{remote:?}")] {
            assert!(!shown.contains("s3cret-3"), "{shown}");
        }
    }
    let fixed = Credentials::fixed(Some(Token::new("s3cret").unwrap()));
    let shown = format!("{fixed:?} {:?}", Credentials::source(|| Ok(None)));
    assert_eq!(shown, "Fixed(Some(Token(…))) Source(…)");
}

#[tokio::test]
async fn a_batch_that_makes_no_sense_is_not_sent() {
    let server = Server::start(|_, _| Reply::rows(&[json!([])])).await;
    let remote = client(&server);
    for (batch, kind) in [
        (reads(&[]), Kind::Usage),
        (reads(&["BEGIN"]), Kind::Usage),
        (reads(&["SELEKT 's3cret'"]), Kind::Rejected),
        (reads(&["SELECT 's3cret"]), Kind::Rejected),
    ] {
        let error = remote.run(batch.clone()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{batch:?}: {error:?}");
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn no_statement_of_a_batch_is_overlooked() {
    let server = Server::start(|_, _| Reply::rows(&[json!([]), json!([])])).await;
    let remote = client(&server);
    for broken in
        ["SELECT 1 FROM", "SELECT (", "SELEKT", "oops SELECT 1", "SELECT 1; SELECT 2", "", "-- x"]
    {
        let error = remote.run(writes(&["DELETE FROM t", broken, "SELECT 3"])).await.unwrap_err();
        assert_eq!(error.code(), Code::SqlInvalid, "{broken}: {error:?}");
    }
    // A large one is left to the client.
    let filler = format!("/* {} */", "x".repeat(100_000));
    for broken in ["DELETE FROM", "oops DELETE FROM t", "DELETE FROM t WHERE a = 'x"] {
        let large = format!("{filler} {broken}");
        let error = remote.run(writes(&[&large, "SELECT 3"])).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Rejected, "{broken}: {error:?}");
        let error = remote.run(writes(&[broken, "SELECT 3"])).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Rejected, "{broken}: {error:?}");
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn an_answer_larger_than_allowed_is_cut_off() {
    let text = "x".repeat(100_000);
    let server =
        Server::start(move |_, _| Reply::rows(&[json!([[{ "type": "text", "value": text }]])]))
            .await;
    let remote = client_with(&server, Options { answer_limit: 50_000, ..Options::default() });
    let error = remote.run(reads(&["SELECT 1"])).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge, "{error:?}");
    let remote = client_with(&server, Options { answer_limit: 200_000, ..Options::default() });
    remote.run(reads(&["SELECT 1"])).await.unwrap();
}

#[tokio::test]
async fn a_push_of_four_megabytes_arrives_whole() {
    let server = Server::start(|_, _| Reply::rows(&[json!([])])).await;
    let events = r#"["01J0000000000000000000","members",{"name":"O''Brien; -- /* x"}],"#;
    let sql = format!(
        "INSERT INTO inbox (id) SELECT value ->> 0 FROM json_each ('[{}null]') ORDER BY KEY",
        events.repeat((4 << 20) / events.len())
    );
    let answer = client(&server).run(writes(&[&sql])).await.unwrap();
    assert!(answer.bytes_up > 4 << 20);
    assert_eq!(server.requests()[0].steps()[1], format!("{sql};"));
}

/// The libsql crate sends its own spelling of each statement, so definitions pass it by.
#[tokio::test]
async fn definitions_are_sent_to_the_letter() {
    let statements = [
        "INSERT INTO t (a) VALUES ('x;''y')",
        "CREATE TABLE t (key, plan DEFAULT 'it''s', -- what is paid\n f() /* ; */)",
        "not even SQL",
    ];
    let server = Server::start(|_, _| {
        Reply::rows(&[json!([]), json!([]), json!([[{ "type": "text", "value": "ü" }]])])
    })
    .await;
    let answer = client(&server).run(writes(&statements)).await.unwrap();
    assert_eq!(answer.rows[2], [[Value::Text("ü".into())]]);
    assert_eq!(answer.rows.len(), 3);
    assert!(answer.bytes_up > 300 && answer.bytes_down > 300, "{answer:?}");
    let requests = server.requests();
    assert!(requests[0].head.starts_with("post /v3/pipeline http/1.1\r\n"));
    assert!(requests[0].head.contains("authorization: bearer s3cret\r\n"));
    let steps = requests[0].steps();
    assert_eq!(steps[1..4], statements);
    assert_eq!([&steps[0], &steps[4], &steps[5]], ["BEGIN IMMEDIATE", "COMMIT", "ROLLBACK"]);
    let kinds = requests[0].body["requests"].as_array().unwrap();
    assert_eq!(kinds.last().unwrap()["type"], "close");
    let ok = |step| json!({ "type": "ok", "step": step });
    let condition = |step: usize| kinds[0]["batch"]["steps"][step]["condition"].clone();
    let expected =
        [json!(null), ok(0), ok(1), ok(2), ok(3), json!({ "type": "not", "cond": ok(4) })];
    assert_eq!((0..6).map(condition).collect::<Vec<_>>(), expected);
}

/// What goes wrong is sorted alike, whichever way a batch goes.
#[tokio::test]
async fn definitions_fail_as_other_statements_do() {
    let reply = |number: usize| match number / 2 {
        0 => Reply::failed(2, 1, "UNIQUE constraint failed: t.a", "SQLITE_CONSTRAINT_UNIQUE"),
        1 => Reply::http("401 Unauthorized", r#"{"error":"no s3cret"}"#),
        2 => Reply::http("200 OK", "<html>"),
        3 => Reply::http("413 Payload Too Large", ""),
        4 => Reply::http("200 OK", "x".repeat(100_000)),
        5 => Reply::Last(b"not HTTP at all\r\n\r\n".to_vec()),
        6 => Reply::Last(Vec::new()),
        7 => Reply::failed(2, 0, "attempt to write a readonly database", "SQLITE_READONLY"),
        _ => Reply::Silence,
    };
    let server = Server::start(move |number, _| reply(number)).await;
    let options = Options { answer_limit: 50_000, ..Options::default() };
    let hasty = Options { request_timeout: Duration::from_millis(200), ..Options::default() };
    let (patient, hasty) = (client_with(&server, options), client_with(&server, hasty));
    for (number, kind) in [
        Kind::Rejected,
        Kind::Refused,
        Kind::Refused,
        Kind::TooLarge,
        Kind::TooLarge,
        Kind::Refused,
        Kind::Unavailable,
        Kind::Refused,
        Kind::Unavailable,
    ]
    .into_iter()
    .enumerate()
    {
        let remote = if number == 8 { &hasty } else { &patient };
        let plain = remote.run(writes(&["DELETE FROM t", "SELECT 1"])).await.unwrap_err();
        let definition = remote.run(writes(&["DELETE FROM t", "CREATE TABLE t (a)"])).await;
        let definition = definition.unwrap_err();
        assert_eq!(plain.kind(), kind, "{number}: {plain:?}");
        assert_eq!(definition.kind(), kind, "{number}: {definition:?}");
        assert!(!format!("{definition:?}").contains("s3cret"));
        if number != 6 {
            // Of a broken connection each HTTP client says what it saw.
            assert_eq!(definition.message(), plain.message(), "{number}");
        }
    }
    // A body that is not UTF-8 is an answer like any other.
    let server = Server::start(|_, _| Reply::http("503 Service Unavailable", [0xff, 0xfe])).await;
    let error = client(&server).run(writes(&["CREATE TABLE t (a)"])).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
}

/// Where a test's log goes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_tells_of_requests_and_never_of_tokens_or_values() {
    let server = Server::start(|number, _| match number {
        0 => Reply::rows(&[json!([[{ "type": "text", "value": "hidden row" }]])]),
        _ => Reply::http("401 Unauthorized", r#"{"error":"s3cret"}"#),
    })
    .await;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_env_filter("driftless=trace")
        .with_writer(move || writer.clone())
        .finish();
    // Tokio runs this test's tasks on this thread alone, so the log has them all.
    let guard = tracing::subscriber::set_default(subscriber);
    let remote = client(&server);
    remote.run(writes(&["INSERT INTO t (a) VALUES ('hidden value')"])).await.unwrap();
    remote.run(reads(&["SELECT 'hidden value'"])).await.unwrap_err();
    drop(guard);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let url = server.url();
    for said in ["remote.request", "statements=1", "bytes_up=", "elapsed_ms=", "Refused", &url] {
        assert!(log.contains(said), "no {said} in {log}");
    }
    for secret in ["s3cret", "hidden", "INSERT", "SELECT"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}
