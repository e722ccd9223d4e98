//! The hub with many clients, and with some that mean harm: it stays up and within its limits,
//! answers the others meanwhile, and gets everything back.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::hub::Running;
use crate::hub::limits::join_all;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);
/// A limit on time that a test waits for. No test asserts how long it was.
const SHORT: Duration = Duration::from_millis(300);

const ENDLESS: &str =
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n";

fn execute(sql: &str) -> Value {
    json!({ "type": "execute", "stmt": { "sql": sql } })
}

fn close() -> Value {
    json!({ "type": "close" })
}

fn code(answer: &Value, index: usize) -> &str {
    answer["results"][index]["error"]["code"].as_str().unwrap_or("no error")
}

/// A connection without a client's manners.
async fn raw(hub: &Running) -> TcpStream {
    TcpStream::connect(hub.url.strip_prefix("http://").unwrap()).await.unwrap()
}

/// A request's bytes.
fn request(path: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nhost: hub\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// The status of the answer on a connection, 0 if it was closed without one.
async fn status(stream: &mut TcpStream) -> u16 {
    let mut bytes = vec![0; 12];
    match stream.read_exact(&mut bytes).await {
        Ok(_) => String::from_utf8_lossy(&bytes[9..]).parse().unwrap_or(0),
        Err(_) => 0,
    }
}

/// An honest client is answered.
async fn answers(hub: &Running) {
    let (status, answer) = hub.pipeline(None, json!([execute("SELECT 1"), close()])).await;
    assert_eq!((status.as_u16(), code(&answer, 0)), (200, "no error"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_connections_are_served() {
    let hub = Running::start(|config| config.limits.stream_wait = LONG).await;
    hub.pipeline(None, json!([execute("CREATE TABLE t (a)"), close()])).await;
    let mut streams = Vec::new();
    for _ in 0..200 {
        streams.push(raw(&hub).await);
    }
    let body = json!({ "requests": [execute("INSERT INTO t VALUES (1)"), close()] }).to_string();
    let mut clients = JoinSet::new();
    for mut stream in streams {
        let request = request("/v3/pipeline", body.len(), body.as_bytes());
        clients.spawn(async move {
            stream.write_all(&request).await.unwrap();
            (status(&mut stream).await, stream)
        });
    }
    // All are open until the last one is answered.
    let all = clients.join_all().await;
    assert!(all.iter().all(|(status, _)| *status == 200));
    let (_, answer) = hub.pipeline(None, json!([execute("SELECT count(*) FROM t"), close()])).await;
    assert_eq!(answer["results"][0]["response"]["result"]["rows"][0][0]["value"], "200");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_never_end_do_not_keep_others_out() {
    let hub = Running::start(|config| {
        config.limits.connections = 8;
        config.limits.head_time = SHORT;
    })
    .await;
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut stream = raw(&hub).await;
        stream.write_all(b"POST /v3/pipeline HTTP/1.1\r\nhost: h").await.unwrap();
        slow.push(stream);
    }
    // There is no place until those are sent away.
    answers(&hub).await;
    for stream in &mut slow {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    }
    // A head that is larger than any is not collected.
    let mut stream = raw(&hub).await;
    let mut sent = 0;
    while sent < 64 << 20 && stream.write_all(&[b'h'; 65_536]).await.is_ok() {
        sent += 65_536;
    }
    assert!(sent < 64 << 20, "it takes in a head without end");
    answers(&hub).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_ends_is_answered() {
    let hub = Running::start(|config| config.limits.body_time = SHORT).await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = raw(&hub).await;
        stream.write_all(&request("/v3/pipeline", 1_000, b"{\"requests\":")).await.unwrap();
        slow.push(stream);
    }
    answers(&hub).await;
    for mut stream in slow {
        assert_eq!(status(&mut stream).await, 408);
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_have_a_room_together() {
    let hub = Running::start(|config| {
        config.limits.bodies_bytes = 1_000_000;
        config.limits.body_time = LONG;
    })
    .await;
    let big = format!("{}{}", " ".repeat(400_000), json!({ "requests": [close()] }));
    let holder = 'held: loop {
        let mut holder = raw(&hub).await;
        holder.write_all(&request("/v3/pipeline", 900_000, &[b' '; 899_999])).await.unwrap();
        // It is in the hub's hands some time after it was sent; or it found the room taken by one
        // of these, and was refused.
        for _ in 0..20 {
            let (status, _) = hub.send("POST", "/v3/pipeline", None, big.clone()).await;
            if status == 503 {
                break 'held holder;
            }
            assert_eq!(status, 200);
        }
    };
    answers(&hub).await;
    drop(holder);
    while hub.send("POST", "/v3/pipeline", None, big.clone()).await.0 != 200 {}
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_bodies_are_refused_by_the_dozen() {
    let hub = Running::start(|config| config.limits.request_bytes = 50_000).await;
    let sends = (0..50).map(|_| hub.send("POST", "/v3/pipeline", None, vec![b'['; 100_000]));
    let mut refused = 0;
    for (status, _) in join_all(sends).await {
        refused += usize::from(status == 413);
    }
    assert_eq!(refused, 50);
    answers(&hub).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_closed_connections_give_their_streams_back() {
    let hub = Running::start(|config| {
        config.limits.streams = 2;
        config.limits.stream_wait = LONG;
        config.limits.idle_timeout = SHORT;
    })
    .await;
    for number in 0..20 {
        let mut stream = raw(&hub).await;
        // Some leave a transaction open, and nobody gets the baton.
        let body = json!({ "requests": [execute("BEGIN"), execute("SELECT 1")] }).to_string();
        stream.write_all(&request("/v3/pipeline", body.len(), body.as_bytes())).await.unwrap();
        if number % 2 == 0 {
            stream.shutdown().await.unwrap();
        }
    }
    answers(&hub).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn abandoned_transactions_are_rolled_back() {
    let hub = Running::start(|config| {
        config.limits.idle_timeout = SHORT;
        config.limits.stream_wait = LONG;
    })
    .await;
    hub.pipeline(None, json!([execute("CREATE TABLE t (a)"), close()])).await;
    let begin = json!([execute("BEGIN"), execute("INSERT INTO t VALUES ('abandoned')")]);
    let readers = json!([execute("BEGIN"), execute("SELECT * FROM t")]);
    let all = (0..128).map(|number| {
        hub.pipeline(None, if number == 0 { begin.clone() } else { readers.clone() })
    });
    assert!(join_all(all).await.iter().all(|(status, _)| *status == 200));
    let write = json!([execute("INSERT INTO t VALUES ('kept')"), close()]);
    let (_, answer) = hub.pipeline(None, write).await;
    assert_eq!(code(&answer, 0), "no error");
    let look = json!([execute("SELECT group_concat(a) FROM t"), close()]);
    let (_, answer) = hub.pipeline(None, look).await;
    assert_eq!(answer["results"][0]["response"]["result"]["rows"][0][0]["value"], "kept");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_without_end_are_interrupted() {
    let hub = Running::start(|config| config.limits.run_time = SHORT).await;
    let endless =
        (0..8).map(|_| hub.pipeline(None, json!([execute(ENDLESS), execute("SELECT 1"), close()])));
    for (status, answer) in join_all(endless).await {
        assert_eq!(status, 200);
        assert_eq!(code(&answer, 0), "SQLITE_INTERRUPT");
        assert_eq!(code(&answer, 1), "SQLITE_INTERRUPT", "its time is that of the request");
    }
    // What it had in a transaction is gone, and the connection is as good as new.
    let begin = json!([
        execute("CREATE TABLE t (a)"),
        execute("BEGIN"),
        execute("DROP TABLE t"),
        execute(ENDLESS),
        close()
    ]);
    hub.pipeline(None, begin).await;
    let (_, answer) = hub.pipeline(None, json!([execute("SELECT * FROM t"), close()])).await;
    assert_eq!(code(&answer, 0), "no error");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_let_go() {
    let hub = Running::start(|config| {
        config.limits.send_time = SHORT;
        config.limits.connections = 2;
        config.limits.streams = 1;
        config.limits.stream_wait = LONG;
    })
    .await;
    // More than the kernel keeps for a reader: the same answer, over and over on one connection.
    let sql = "SELECT zeroblob(4000000)";
    let pipeline = json!({ "requests": [execute(sql), close()] }).to_string();
    let pipeline = request("/v3/pipeline", pipeline.len(), pipeline.as_bytes());
    let rows = format!("SELECT zeroblob(10000) FROM ({})", ENDLESS.replace("max(x)", "x"));
    let cursor = json!({ "batch": { "steps": [{ "stmt": { "sql": rows } }] } }).to_string();
    let cursor = request("/v3/cursor", cursor.len(), cursor.as_bytes());
    for request in [pipeline.repeat(10), cursor] {
        let mut stream = raw(&hub).await;
        stream.write_all(&request).await.unwrap();
        // The only stream, and one of two connections, are free again.
        let mut rest = [0; 1];
        stream.read_exact(&mut rest).await.unwrap();
        answers(&hub).await;
        drop(stream);
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_request_has_no_gigantic_answer() {
    let hub = Running::start(|config| config.limits.response_bytes = 1_000_000).await;
    let describe = json!({ "type": "describe", "sql": "SELECT ?32766" });
    let long = format!("SELECT 1 AS \"{}\"", "n".repeat(4_900));
    let stored = json!({ "type": "store_sql", "sql_id": 1, "sql": long });
    let wrong =
        json!({ "type": "store_sql", "sql_id": 2, "sql": format!("SELECT {}", "n".repeat(4_900)) });
    let by = |id: u32| json!({ "type": "execute", "stmt": { "sql_id": id } });
    let steps = |id: u32| json!({ "type": "batch", "batch": { "steps": vec![json!({ "stmt": { "sql_id": id } }); 2_000] } });
    let many = |request: Value| vec![request; 1_000];
    let requests = [
        many(describe),
        [vec![stored.clone()], many(by(1))].concat(),
        [vec![wrong.clone()], many(by(2))].concat(),
        vec![stored, steps(1)],
        vec![wrong, steps(2)],
    ];
    for requests in requests {
        let body = json!({ "requests": requests }).to_string();
        let (status, answer) = hub.send("POST", "/v3/pipeline", None, body).await;
        assert_eq!(status, 200);
        assert!(answer.len() < 4_000_000, "{} bytes", answer.len());
        assert!(answer.contains("RESPONSE_TOO_LARGE"));
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_batches_take_no_longer_than_their_length() {
    let hub = Running::start(|_| {}).await;
    // Each BEGIN asks what follows it; each parameter asks for its argument.
    let begin = json!({ "stmt": { "sql": "BEGIN" } });
    let steps = json!({ "type": "batch", "batch": { "steps": vec![begin; 30_000] } });
    let (status, _) = hub.pipeline(None, json!([steps, close()])).await;
    assert_eq!(status, 200);
    let names: Vec<_> = (0..20_000).map(|n| format!(":a{n}")).collect();
    let named: Vec<_> =
        names.iter().map(|name| json!({ "name": name, "value": { "type": "null" } })).collect();
    let sql = format!("SELECT coalesce({})", names.join(" || "));
    let sql = sql.replacen("coalesce(", "1 WHERE 0 IN (", 1).replace(" || ", ", ");
    let stmt = json!({ "type": "execute", "stmt": { "sql": sql, "named_args": named } });
    let (status, answer) = hub.pipeline(None, json!([stmt, close()])).await;
    assert_eq!((status.as_u16(), code(&answer, 0)), (200, "no error"));
    hub.stop().await;
}
