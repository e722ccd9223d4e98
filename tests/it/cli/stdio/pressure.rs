//! A client that does not read: it stops nothing, and misses no status.

use serde_json::{Value as Json, json};

use super::super::{LOOK, PATIENCE, hub_and_replica};
use super::client::Client;

/// Enough that neither pipes nor buffers take it.
const ROWS: i64 = 20_000;

fn request(id: u64, method: &str, params: &Json) -> String {
    let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
    format!("{message}\n")
}

#[test]
fn a_client_that_does_not_read_stops_nothing_and_gets_the_newest_status() {
    let (folder, _hub) = hub_and_replica();
    let mut client = Client::start_deaf(&folder, "run --stdio --db a.db");
    client.write(request(1, "initialize", &json!({ "protocol": 1 })).as_bytes());
    client.write(request(2, "open", &json!({ "poll_ms": 50 })).as_bytes());
    // The answers to these fill the pipe.
    let all = json!({ "limit": 1_000 });
    let mut requests = 0;
    for id in 3..200 {
        client.write(request(id, "log", &all).as_bytes());
        client.write(request(1_000 + id, "status", &json!({})).as_bytes());
        requests += 2;
    }
    folder.sql(
        "hub.db",
        &format!(
            "WITH RECURSIVE n (n) AS (SELECT 3 UNION ALL SELECT n + 1 FROM n WHERE n < {ROWS})
             INSERT INTO people SELECT n, 'someone', NULL FROM n"
        ),
    );
    folder.sql("a.db", "UPDATE people SET phone = 'mine' WHERE id = 1");
    let count = |file: &str, what: &str| -> i64 {
        let db = rusqlite::Connection::open(folder.path(file)).unwrap();
        db.query_row(&format!("SELECT count(*) FROM people WHERE {what}"), [], |row| row.get(0))
            .unwrap()
    };
    let mut looks = 0;
    while count("a.db", "true") < ROWS || count("hub.db", "phone = 'mine'") < 1 {
        assert!(LOOK * looks < PATIENCE, "replication has stopped");
        looks += 1;
        std::thread::sleep(LOOK);
    }

    client.listen();
    let (mut answers, mut tables, mut newest, mut statuses) = (0, Vec::new(), Json::Null, 0);
    let is_done = |newest: &Json| newest["state"] == "in_step" && newest["cursor"] == ROWS + 1;
    while answers < requests + 2 || !is_done(&newest) {
        let message = client.next().unwrap();
        match message["method"].as_str() {
            Some("status") => {
                newest = message["params"].clone();
                statuses += 1;
            }
            Some("changes") => {
                assert_eq!(message["params"]["everything"], false);
                let named = message["params"]["tables"].as_array().unwrap().iter();
                tables.extend(named.map(|table| table.as_str().unwrap().to_owned()));
            }
            _ => {
                assert!(message.get("result").is_some(), "{message}");
                answers += 1;
            }
        }
    }
    assert_eq!(tables, ["people"], "the rows are too many to be told one by one");
    // Without a reader there would be ten a second.
    assert!(statuses < 50, "{statuses} statuses were kept");
}

/// The answers that wait are bounded, so the sidecar stops reading. It sees the end of standard
/// input all the same.
#[cfg(unix)]
#[test]
fn the_end_is_seen_although_nobody_reads() {
    use rustix::fs::{OFlags, fcntl_setfl};
    use std::io::Write;

    let (folder, _hub) = hub_and_replica();
    let mut client = Client::start_deaf(&folder, "run --stdio --db a.db");
    client.write(request(1, "initialize", &json!({ "protocol": 1 })).as_bytes());
    client.write(request(2, "open", &json!({})).as_bytes());
    let mut stdin = client.take_stdin();
    fcntl_setfl(&stdin, OFlags::NONBLOCK).unwrap();
    let status = request(3, "status", &json!({}));
    let (mut written, mut full) = (0, 0);
    while full < 50 {
        match stdin.write(status.as_bytes()) {
            Ok(_) => (written, full) = (written + 1, 0),
            Err(_) => full += 1,
        }
        assert!(written < 100_000, "it reads without an end");
        std::thread::sleep(std::time::Duration::from_micros(if full > 0 { 10_000 } else { 0 }));
    }
    assert!(client.lives(), "{written} requests");
    drop(stdin);
    assert_eq!(client.end().0, Some(0));
}
