//! What happens at the hub's limits, and when many clients come at once.

use std::time::Duration;

use driftless::Code;
use driftless::hub::{Config, Hub};
use serde_json::{Value, json};

use super::Running;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);

fn execute(sql: &str) -> Value {
    json!({ "type": "execute", "stmt": { "sql": sql } })
}

fn close() -> Value {
    json!({ "type": "close" })
}

/// The first value of the first row of the result at `index`.
fn value(answer: &Value, index: usize) -> &Value {
    let result = &answer["results"][index];
    assert_eq!(result["type"], "ok", "{result}");
    &result["response"]["result"]["rows"][0][0]["value"]
}

fn code(answer: &Value, index: usize) -> &str {
    answer["results"][index]["error"]["code"].as_str().unwrap_or("no error")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_body_is_answered_although_it_is_still_being_sent() {
    let hub = Running::start(|config| config.limits.request_bytes = 100_000).await;
    let body = vec![b' '; 700_000];
    let (status, answer) = hub.send("POST", "/v3/pipeline", None, body.clone()).await;
    assert_eq!(status, 413);
    assert!(answer.contains("100000 bytes"), "{answer}");
    // The same without an announced length.
    let (mut sender, chunked) = hyper::Body::channel();
    let sending = tokio::spawn(async move {
        for chunk in body.chunks(10_000) {
            sender.send_data(chunk.to_vec().into()).await.unwrap();
        }
    });
    let (status, _) = hub.send("POST", "/v3/pipeline", None, chunked).await;
    sending.await.unwrap();
    assert_eq!(status, 413);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_streams_than_allowed_are_refused() {
    let hub = Running::start(|config| {
        config.limits.stream_wait = Duration::from_millis(50);
        config.limits.idle_timeout = LONG;
    })
    .await;
    let opened = (0..150).map(|_| hub.pipeline(None, json!([execute("SELECT 1")])));
    let mut batons = Vec::new();
    let mut refused = 0;
    for (status, answer) in join_all(opened).await {
        match status.as_u16() {
            200 => batons.push(answer["baton"].as_str().unwrap().to_owned()),
            503 => refused += 1,
            _ => panic!("{status}: {answer}"),
        }
    }
    assert_eq!((batons.len(), refused), (128, 22));
    for baton in &batons {
        let (status, _) = hub.pipeline(Some(baton), json!([close()])).await;
        assert_eq!(status, 200, "those that are open are as they were");
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_a_stream_that_closes() {
    let hub = Running::start(|config| {
        config.limits.streams = 1;
        config.limits.stream_wait = LONG;
        config.limits.idle_timeout = LONG;
    })
    .await;
    let (_, answer) = hub.pipeline(None, json!([execute("SELECT 1")])).await;
    let baton = answer["baton"].as_str().unwrap();
    let waiting = hub.pipeline(None, json!([execute("SELECT 'in'"), close()]));
    let closing = hub.pipeline(Some(baton), json!([close()]));
    let ((status, answer), _) = tokio::join!(waiting, closing);
    assert_eq!(status, 200);
    assert_eq!(value(&answer, 0), "in");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_stream_expires_and_its_transaction_is_rolled_back() {
    let hub = Running::start(|config| {
        config.limits.idle_timeout = Duration::from_millis(100);
        config.limits.streams = 1;
        config.limits.stream_wait = LONG;
    })
    .await;
    let begin = json!([execute("CREATE TABLE t (a)"), execute("BEGIN"), execute("DROP TABLE t")]);
    let (_, answer) = hub.pipeline(None, begin).await;
    let baton = answer["baton"].as_str().unwrap();
    // The only place is free again once the stream has expired.
    let look = json!([execute("SELECT count(*) FROM t"), close()]);
    let (status, answer) = hub.pipeline(None, look).await;
    assert_eq!(status, 200);
    assert_eq!(value(&answer, 0), "0");
    let (status, answer) = hub.pipeline(Some(baton), json!([execute("COMMIT")])).await;
    assert_eq!(status, 500);
    assert_eq!(answer["code"], "STREAM_EXPIRED");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_baton_is_good_for_one_request() {
    let hub = Running::start(|_| {}).await;
    let (_, answer) = hub.pipeline(None, json!([execute("SELECT 1")])).await;
    let first = answer["baton"].as_str().unwrap().to_owned();
    let (status, answer) = hub.pipeline(Some(&first), json!([execute("SELECT 2")])).await;
    assert_eq!(status, 200);
    let second = answer["baton"].as_str().unwrap();
    assert_ne!(first, second);
    let (status, answer) = hub.pipeline(Some(&first), json!([execute("SELECT 3")])).await;
    assert_eq!(
        (status.as_u16(), answer),
        (400, json!("Received a baton that has already been used"))
    );
    let (status, _) = hub.pipeline(Some(second), json!([execute("SELECT 4")])).await;
    assert_eq!(status, 200, "a wrong baton does not close the stream of a right one");
    // A baton of our own making, or another hub's.
    let other = Running::start(|_| {}).await;
    let (status, _) = other.pipeline(Some(second), json!([close()])).await;
    assert_eq!(status, 400);
    other.stop().await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stream_leaves_behind_is_not_the_next_ones() {
    let hub = Running::start(|_| {}).await;
    let leave =
        json!([execute("CREATE TABLE t (a)"), execute("PRAGMA defer_foreign_keys = ON"), close(),]);
    hub.pipeline(None, leave).await;
    let (_, answer) =
        hub.pipeline(None, json!([execute("PRAGMA defer_foreign_keys"), close()])).await;
    assert_eq!(value(&answer, 0), "0");
    let log = hub.db().with_extension("db-wal");
    assert!(log.exists(), "a stream that closes does not move the log into the database");
    let leave = json!([
        execute("PRAGMA foreign_keys = OFF"),
        execute("BEGIN"),
        execute("INSERT INTO t VALUES (1)"),
        close(),
    ]);
    hub.pipeline(None, leave).await;
    let look = json!([
        execute("PRAGMA foreign_keys"),
        { "type": "get_autocommit" },
        execute("SELECT count(*) FROM t"),
        close(),
    ]);
    let (_, answer) = hub.pipeline(None, look).await;
    assert_eq!(value(&answer, 0), "1");
    assert_eq!(answer["results"][1]["response"]["is_autocommit"], true);
    assert_eq!(value(&answer, 2), "0");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_reads_before_it_writes_does_not_fail_half_way() {
    let hub = Running::start(|_| {}).await;
    hub.pipeline(None, json!([execute("CREATE TABLE t (n)"), close()])).await;
    hub.pipeline(None, json!([execute("INSERT INTO t VALUES (0)"), close()])).await;
    let ok = |step: usize, sql: &str| {
        let condition = json!({ "type": "ok", "step": step });
        json!({ "stmt": { "sql": sql }, "condition": condition })
    };
    let batch = json!({ "type": "batch", "batch": { "steps": [
        { "stmt": { "sql": "BEGIN TRANSACTION" } },
        ok(0, "SELECT n FROM t"),
        ok(1, "UPDATE t SET n = n + 1 RETURNING n"),
        ok(2, "COMMIT"),
        { "stmt": { "sql": "ROLLBACK" }, "condition":
            { "type": "not", "cond": { "type": "ok", "step": 3 } } },
    ] } });
    let writers = (0..8).map(|_| async {
        for _ in 0..25 {
            let (status, answer) = hub.pipeline(None, json!([batch.clone(), close()])).await;
            assert_eq!(status, 200);
            let result = &answer["results"][0]["response"]["result"];
            assert!(
                result["step_errors"].as_array().unwrap().iter().all(Value::is_null),
                "{answer}"
            );
        }
    });
    join_all(writers).await;
    let (_, answer) = hub.pipeline(None, json!([execute("SELECT n FROM t"), close()])).await;
    assert_eq!(value(&answer, 0), "200", "no write is lost, and none is doubled");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_writer_gets_the_lock_of_an_idle_transaction() {
    let hub = Running::start(|config| config.limits.idle_timeout = LONG).await;
    let begin = json!([
        execute("CREATE TABLE t (a)"),
        execute("BEGIN IMMEDIATE"),
        execute("INSERT INTO t VALUES ('never committed')"),
    ]);
    let (_, answer) = hub.pipeline(None, begin).await;
    let baton = answer["baton"].as_str().unwrap();
    let write = json!([execute("INSERT INTO t VALUES ('waited') RETURNING a"), close()]);
    let (_, answer) = hub.pipeline(None, write).await;
    assert_eq!(value(&answer, 0), "waited");
    let go_on = json!([execute("INSERT INTO t VALUES ('too late')"), execute("COMMIT"), close()]);
    let (_, answer) = hub.pipeline(Some(baton), go_on).await;
    assert_eq!(code(&answer, 0), "TRANSACTION_TIMEOUT");
    assert_eq!(code(&answer, 1), "TRANSACTION_TIMEOUT");
    let look = json!([execute("SELECT group_concat(a) FROM t"), close()]);
    let (_, answer) = hub.pipeline(None, look).await;
    assert_eq!(value(&answer, 0), "waited");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_not_read_to_its_end_gives_its_stream_back() {
    let hub = Running::start(|_| {}).await;
    let sql = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) \
               SELECT x, zeroblob(10000) FROM n";
    let body = json!({ "batch": { "steps": [{ "stmt": { "sql": sql } }] } }).to_string();
    let request = hyper::Request::post(format!("{}/v3/cursor", hub.url)).body(body.into()).unwrap();
    let mut response = hyper::Client::new().request(request).await.unwrap();
    let chunk = hyper::body::HttpBody::data(response.body_mut()).await.unwrap().unwrap();
    let line = chunk.split(|byte| *byte == b'\n').next().unwrap();
    let first: Value = serde_json::from_slice(line).unwrap();
    let baton = first["baton"].as_str().unwrap();
    // The statement has no end: that the next request is answered shows that it was stopped.
    drop(response);
    let (status, answer) =
        hub.pipeline(Some(baton), json!([execute("SELECT 'next'"), close()])).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(value(&answer, 0), "next");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_stops_interrupts_what_has_no_end() {
    let hub = Running::start(|config| {
        config.limits.stop_grace = Duration::from_millis(50);
        config.limits.streams = 1;
        config.limits.stream_wait = Duration::from_millis(1);
    })
    .await;
    hub.pipeline(None, json!([execute("CREATE TABLE t (a)"), close()])).await;
    let endless = "INSERT INTO t WITH RECURSIVE n(x) AS \
                   (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n WHERE x < 0";
    let body = json!({ "requests": [execute(endless)] }).to_string();
    let request =
        hyper::Request::post(format!("{}/v3/pipeline", hub.url)).body(body.into()).unwrap();
    let request = tokio::spawn(hyper::Client::new().request(request));
    // It runs once it has the only stream.
    while hub.pipeline(None, json!([close()])).await.0 != 503 {}
    hub.stop().await;
    // Whether the answer still came through or not.
    drop(request.await.unwrap());
}

/// SQLite cannot be interrupted in the middle of a LIKE: what makes one long is the pattern.
#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_has_a_limit() {
    let hub = Running::start(|_| ()).await;
    for operator in ["LIKE", "GLOB"] {
        let asked =
            |bytes| execute(&format!("SELECT 'x' {operator} '{}' AS found", "a".repeat(bytes)));
        let requests = json!([asked(1_000), asked(1_001), close()]);
        let (_, answer) = hub.pipeline(None, requests).await;
        assert_eq!(code(&answer, 0), "no error", "{answer}");
        let error = &answer["results"][1]["error"];
        assert_eq!(error["message"], "SQLite error: LIKE or GLOB pattern too complex", "{answer}");
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_start_is_explained() {
    let hub = Running::start(|_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let free = "127.0.0.1:0".parse().unwrap();
    let taken = hub.url.strip_prefix("http://").unwrap().parse().unwrap();
    let nonsense = folder.path().join("nonsense.db");
    std::fs::write(&nonsense, "no database at all. ".repeat(100)).unwrap();
    for (db, listen, code) in [
        (folder.path().join("a.db"), taken, Code::AddressUnusable),
        (nonsense.clone(), free, Code::NotADatabase),
        (folder.path().join("no/such/folder.db"), free, Code::CannotOpen),
        (folder.path().to_path_buf(), free, Code::IsFolder),
    ] {
        let error = Hub::bind(Config::new(db, listen)).await.err().unwrap();
        assert_eq!(error.code(), code, "{error:?}");
        assert!(error.hint().is_some(), "{error:?}");
    }
    let untouched = std::fs::read_to_string(&nonsense).unwrap();
    assert_eq!(untouched, "no database at all. ".repeat(100));
    hub.stop().await;
}

/// Waits for all of `futures`, which run at the same time.
pub(crate) async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}
