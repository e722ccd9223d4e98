//! What a batch is on the wire, and what comes back of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use driftless::Kind;
use driftless::remote::{Libsql, Options, Remote, Token};
use driftless::value::Value;
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

#[tokio::test]
async fn a_rejected_batch_keeps_the_connection() {
    let server = Server::start(|number, _| match number {
        0 => Reply::failed(2, 1, "SQLite error: UNIQUE constraint failed: t.a", "x"),
        _ => Reply::rows(&[json!([])]),
    })
    .await;
    let remote = client(&server);
    let error = remote.run(writes(&["DELETE FROM t", "SELECT 1"])).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Rejected, Some("SQLITE_CONSTRAINT")));
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
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.message().contains("read-only"), "{error:?}");
    assert!(server.requests().is_empty());
    remote.run(reads(&["SELECT 1"])).await.unwrap();
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
        let found = (error.kind(), error.code());
        assert_eq!(found, (Kind::Rejected, Some("SQL_PARSE_ERROR")), "{broken}: {error:?}");
        assert!(error.message().contains("statement 2"), "{error:?}");
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

/// The crate sends its own spelling of each statement; it must mean the same.
#[tokio::test]
async fn the_remote_schema_survives_the_spelling_of_the_client() {
    let original = include_str!("../../../schema/remote/tables.sql");
    let code: Vec<&str> = original.lines().map(|line| line.split("--").next().unwrap()).collect();
    let code = code.join("\n");
    let statements: Vec<&str> =
        code.split(';').map(str::trim).filter(|sql| !sql.is_empty()).collect();
    let count = statements.len();
    assert!(count > 5, "{statements:?}");
    let server = Server::start(move |_, _| Reply::rows(&vec![json!([]); count])).await;
    client(&server).run(writes(&statements)).await.unwrap();
    let steps = server.requests()[0].steps();
    let respelled = steps[1..=count].join("\n");
    assert_ne!(original, respelled);
    assert_eq!(schema_of(original), schema_of(&respelled));
}

/// What SQLite makes of `sql`: each table's columns and indexes, in words. In small letters, since
/// the client writes a name that is a keyword in capitals, and SQLite does not mind.
fn schema_of(sql: &str) -> Vec<String> {
    let database = rusqlite::Connection::open_in_memory().unwrap();
    database.execute_batch(sql).unwrap();
    let lines = "SELECT lower(format('%s %s %s %s %d %Q %d', s.name, c.name, c.type, s.type, \"notnull\",
                               c.dflt_value, c.pk))
                 FROM sqlite_schema s JOIN pragma_table_xinfo(s.name) c
                 UNION ALL
                 SELECT lower(format('%s %s %d %s %d %s', s.name, i.name, i.\"unique\", i.origin, x.seqno,
                               x.name))
                 FROM sqlite_schema s JOIN pragma_index_list(s.name) i
                 JOIN pragma_index_info(i.name) x
                 ORDER BY 1";
    let mut query = database.prepare(lines).unwrap();
    query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
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
