//! The life of a sidecar: a plain file, offline; pauses; the end.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::super::{Folder, Running, hub_and_replica};
use super::client::Client;

const SCHEMA: &str = "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL, phone TEXT)";

/// What a query gives, read from the file.
fn read(path: &Path, sql: &str) -> i64 {
    let db = rusqlite::Connection::open(path).unwrap();
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// A plain file becomes a replica without the remote, and is captured from the first moment.
#[test]
fn a_plain_file_is_captured_offline_and_goes_out_later() {
    let folder = Folder::new();
    let address = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().to_string()
    };
    folder.sql("a.db", &format!("{SCHEMA}; INSERT INTO people VALUES (1, 'Ana', NULL);"));
    let mut client = Client::start(&folder, "run --stdio");
    client.agree();
    let url = format!("http://{address}");
    let opened = client.call(
        "open",
        json!({ "file": folder.path("a.db"), "url": url, "tables": ["people"], "actor": "Rosa" }),
    );
    assert_eq!(opened["tables"], json!(["people"]));
    folder.sql("a.db", "UPDATE people SET phone = '11' WHERE id = 1");
    let status = client.status(|status| status["state"] == "offline" && status["pending"] == 1);
    assert!(status["code"] == "remote_unreachable" && status["hint"].is_string(), "{status}");
    assert_eq!(status["paused"], false);
    let error = client.refused("sync", json!({}));
    assert!(error["code"] == -32003 && error["data"]["kind"] == "unavailable", "{error}");

    let args = format!("hub --db hub.db --listen {address}");
    let _hub = Running::start(&mut folder.command(&args));
    client.call("network_changed", json!({}));
    client.call("sync", json!({}));
    client.status(|status| status["state"] == "in_step" && status["pending"] == 0);
    let log = client.call("log", json!({ "table": "people" }));
    let events = log["events"].as_array().unwrap();
    assert_eq!(events.len(), 2, "{log}");
    assert!(events[1]["actor"] == "Rosa" && events[1]["after"]["phone"] == "11", "{log}");
    assert_eq!(read(&folder.path("hub.db"), "SELECT count(*) FROM people WHERE phone = 11"), 1);
}

/// Until the remote answers, the status says that the first sync is under way.
#[test]
fn a_first_sync_is_told() {
    let folder = Folder::new();
    // It accepts connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    folder.sql("a.db", SCHEMA);
    let mut client = Client::start(&folder, "run --stdio --db a.db");
    client.agree();
    let url = format!("http://{}", silent.local_addr().unwrap());
    client.call("open", json!({ "url": url }));
    let status = client.status(|status| status["first_sync"].is_object());
    assert!(status["first_sync"]["step"] == "installing" && status["pending"] == 0, "{status}");
    folder.sql("a.db", "INSERT INTO people VALUES (1, 'Ana', NULL)");
    client.status(|status| status["first_sync"].is_object() && status["pending"] == 1);
    client.close();
    assert_eq!(client.end().0, Some(0));
}

/// After a first sync that has brought rows, anything may have changed.
#[test]
fn what_a_first_sync_brings_is_told() {
    let (folder, hub) = hub_and_replica();
    let mut client = Client::start(&folder, "run --stdio --db new.db");
    client.agree();
    let opened = client.call("open", json!({ "url": hub.url(), "poll_ms": 50 }));
    assert_eq!(opened["tables"], json!([]), "{opened}");
    let changes = client.told("changes", |_| true);
    assert!(changes["everything"] == true && changes["rows"] == json!([]), "{changes}");
    assert_eq!(read(&folder.path("new.db"), "SELECT count(*) FROM people"), 2);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(folder.path("new.db")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "a database that it makes is its owner's alone");
    }
}

#[test]
fn a_pause_captures_and_sends_nothing() {
    let (folder, _hub) = hub_and_replica();
    let mut client = Client::start(&folder, "run --stdio --db a.db");
    client.agree();
    client.call("open", json!({}));
    client.status(|status| status["state"] == "in_step");
    let paused = client.call("pause", json!({}));
    assert!(paused["paused"] == true && paused["state"] == "stopped", "{paused}");
    client.forget();
    folder.sql("a.db", "UPDATE people SET phone = '33' WHERE id = 2");
    client.status(|status| status["paused"] == true && status["pending"] == 1);
    // Who is at work and where the remote is can be said meanwhile.
    client.call("set_actor", json!({ "actor": "Rosa" }));
    folder.sql("a.db", "UPDATE people SET phone = '44' WHERE id = 2");
    assert_eq!(client.refused("sync", json!({}))["data"]["code"], "usage");
    assert_eq!(client.refused("reconfigure", json!({ "url": "x" }))["data"]["code"], "invalid_url");
    let pending = client.call("log", json!({ "verdict": "pending" }));
    assert_eq!(pending["events"][0]["actor"], json!(null));
    assert_eq!(pending["events"][1]["actor"], "Rosa");
    assert_eq!(read(&folder.path("hub.db"), "SELECT count(*) FROM people WHERE phone = 44"), 0);
    assert_eq!(client.call("resume", json!({}))["paused"], false);
    client.call("sync", json!({}));
    assert_eq!(read(&folder.path("hub.db"), "SELECT count(*) FROM people WHERE phone = 44"), 1);
    client.status(|status| status["pending"] == 0 && status["paused"] == false);
}

#[test]
fn it_ends_when_it_is_asked_to() {
    let (folder, _hub) = hub_and_replica();
    let mut client = Client::start(&folder, "run --stdio --db a.db");
    client.agree();
    client.call("open", json!({}));
    let error = client.refused("open", json!({}));
    assert!(error["data"]["code"] == "usage", "{error}");
    assert_eq!(client.call("shutdown", json!({})), json!(null));
    let (code, log) = client.end();
    assert_eq!((code, log.as_str()), (Some(0), ""));
    // The lock is free: another one works at once.
    folder.run("sync --db a.db").fine();
}

#[test]
fn it_ends_with_its_standard_input() {
    let (folder, _hub) = hub_and_replica();
    let mut client = Client::start(&folder, "run --stdio --db a.db");
    client.agree();
    client.call("open", json!({}));
    client.close();
    assert_eq!(client.end().0, Some(0));
}

/// It waits for the application's lock for a minute, but not after the end of its standard input.
#[test]
fn it_ends_although_it_waits_for_a_lock() {
    let folder = Folder::new();
    folder.sql("a.db", SCHEMA);
    let db = rusqlite::Connection::open(folder.path("a.db")).unwrap();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut client = Client::start(&folder, "run --stdio --db a.db");
    client.agree();
    client.send("open", json!({ "url": "http://127.0.0.1:1" }));
    client.close();
    assert_eq!(client.end_within(Duration::from_secs(20)).0, Some(0));
    db.execute_batch("ROLLBACK").unwrap();
}

/// Requests that were written before the end are answered.
#[test]
fn requests_before_the_end_are_answered() {
    let (folder, _hub) = hub_and_replica();
    let mut client = Client::start(&folder, "run --stdio --db a.db");
    client.agree();
    client.send("open", json!({}));
    client.send("conflicts", json!({}));
    let last = client.send("log", json!({}));
    client.close();
    let log = client.answer(last).unwrap();
    assert_eq!(log["events"].as_array().unwrap().len(), 2, "{log}");
    assert_eq!(client.end().0, Some(0));
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it() {
    let (folder, _hub) = hub_and_replica();
    let mut client = Client::start(&folder, "run --stdio --db a.db");
    client.agree();
    client.call("open", json!({}));
    client.signal("-TERM");
    assert_eq!(client.end().0, Some(0));
}

#[test]
fn a_migration_between_two_requests() {
    let (folder, _hub) = hub_and_replica();
    let mut client = Client::start(&folder, "run --stdio --db a.db");
    client.agree();
    client.call("open", json!({}));
    client.status(|status| status["state"] == "in_step");
    assert_eq!(client.call("begin_migration", json!({})), json!(null));
    folder.sql(
        "a.db",
        "ALTER TABLE people RENAME TO aside; CREATE TABLE people AS SELECT * FROM aside; DROP TABLE people;
         ALTER TABLE aside RENAME TO people; UPDATE people SET phone = '77' WHERE id = 2",
    );
    let wrong = json!({ "renames": [{ "table": "people", "from": "phone", "to": "tel" }] });
    let error = client.refused("end_migration", wrong);
    assert!(error["message"].to_string().contains("no column `tel`"), "{error}");
    folder.sql("a.db", "ALTER TABLE people RENAME COLUMN phone TO tel");
    assert_eq!(client.call("end_migration", json!({ "renames": [] })), json!(null));
    client.call("sync", json!({}));
    assert_eq!(read(&folder.path("hub.db"), "SELECT count(*) FROM people WHERE phone = 77"), 1);
    // Not as the schema has it, so it is not held against the schema.
    let request = json!({ "jsonrpc": "2.0", "id": 700, "method": "end_migration",
        "params": { "renames": [{ "table": 1 }] } });
    client.write(format!("{request}\n").as_bytes());
    let error = client.answer(700).unwrap_err();
    assert_eq!(error["code"], -32_602, "{error}");
}
