//! What the methods do, between two desks and the web.

use std::io::Write;
use std::path::Path;

use serde_json::{Value as Json, json};

use super::super::{Folder, Running, hub_and_replica};
use super::client::Client;

/// A sidecar of `a.db`, which is in step.
fn open(folder: &Folder) -> Client {
    let mut client = Client::start(folder, "run --stdio --db a.db");
    client.agree();
    client.call("open", json!({ "poll_ms": 50 }));
    client.status(|status| status["state"] == "in_step");
    client.forget();
    client
}

/// A sidecar whose change of each of these rows lost to the web's.
fn lost(keys: &[u32]) -> (Folder, Running, Client) {
    let (folder, hub) = hub_and_replica();
    let mut client = open(&folder);
    client.call("pause", json!({}));
    for key in keys {
        folder.sql("a.db", &format!("UPDATE people SET phone = 'mine' WHERE id = {key}"));
        folder.sql("hub.db", &format!("UPDATE people SET phone = 'theirs' WHERE id = {key}"));
    }
    client.call("resume", json!({}));
    client.call("sync", json!({}));
    (folder, hub, client)
}

fn read(path: &Path, sql: &str) -> String {
    let db = rusqlite::Connection::open(path).unwrap();
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn changed_rows_say_what_happened_and_who_did_it() {
    let (folder, _hub) = hub_and_replica();
    let mut client = open(&folder);
    folder.sql(
        "hub.db",
        "UPDATE people SET phone = '99' WHERE id = 1; DELETE FROM people WHERE id = 2;
         INSERT INTO people VALUES (3, 'Cid', NULL), (9007199254740993, 'Dana', NULL);",
    );
    let mut rows: Vec<Json> = Vec::new();
    while rows.len() < 4 {
        let changes = client.told("changes", |_| true);
        assert!(changes["everything"] == false && changes["tables"] == json!([]), "{changes}");
        rows.extend(changes["rows"].as_array().unwrap().iter().cloned());
    }
    let row =
        |key: Json, op: &str| json!({ "table": "people", "key": [key], "op": op, "origin": "web" });
    let mut large = row(json!("9007199254740993"), "insert");
    large["key_exact"] = json!([{ "i": "9007199254740993" }]);
    let expected =
        [row(json!(1), "update"), row(json!(2), "delete"), row(json!(3), "insert"), large];
    assert_eq!(rows, expected);
}

/// What a sync has brought is told before its answer.
#[test]
fn changes_come_before_the_answer_of_their_sync() {
    let (folder, hub) = hub_and_replica();
    let mut client = Client::start(&folder, "run --stdio --db a.db");
    client.agree();
    client.call("open", json!({ "poll_ms": 3_600_000 }));
    client.call("sync", json!({}));
    for phone in 0..20 {
        folder.sql("hub.db", &format!("UPDATE people SET phone = {phone} WHERE id = 1"));
        let id = client.send("sync", json!({}));
        let (mut changed, mut in_step) = (false, false);
        loop {
            let message = client.next().unwrap();
            if message["id"] == id {
                break;
            }
            changed |= message["method"] == "changes";
            in_step = message["method"] == "status" && message["params"]["lag"] == 0 || in_step;
        }
        assert!(changed && in_step, "{phone}: {changed} {in_step}");
    }
    drop(hub);
}

#[test]
fn a_conflict_has_both_versions_and_is_restored_or_dismissed() {
    let (folder, _hub, mut client) = lost(&[1, 2]);
    client.status(|status| status["conflicts"] == 2);
    let listed = client.call("conflicts", json!({ "table": "People", "kind": "conflict" }));
    assert_eq!(listed["more"], false);
    let conflicts = listed["conflicts"].as_array().unwrap();
    assert_eq!(conflicts.len(), 2);
    let first = &conflicts[0];
    assert_eq!(first["event"]["after"], json!({ "phone": "mine" }), "{first}");
    assert_eq!(first["winner"]["after"], json!({ "phone": "theirs" }), "{first}");
    assert_eq!(first["theirs"], json!({ "id": 1, "name": "Ana", "phone": "theirs" }));
    // The columns are in the order of the table.
    assert!(client.transcript().contains(r#""theirs":{"id":1,"name":"Ana","phone":"theirs"}"#));
    let counts = client.call("conflict_counts", json!({}));
    assert_eq!(
        counts["counts"],
        json!([{ "table": "people", "kind": "conflict", "state": "open", "count": 2 }])
    );
    let page = client.call("conflicts", json!({ "limit": 1, "skip": 0 }));
    assert!(page["more"] == true && page["conflicts"].as_array().unwrap().len() == 1);
    assert_eq!(client.call("conflicts", json!({ "limit": 1, "skip": 1 }))["more"], false);

    let ids = [&conflicts[0]["id"], &conflicts[1]["id"]];
    let shown = client.call("conflict", json!({ "id": ids[1] }));
    assert_eq!(shown, conflicts[1]);
    let restored = client.call("restore", json!({ "ids": [ids[0]], "alone": true }));
    assert_eq!(restored["restored"], json!([ids[0]]));
    client.call("sync", json!({}));
    let phone = "SELECT phone FROM people WHERE id = ";
    assert_eq!(read(&folder.path("hub.db"), &format!("{phone} 1")), "mine");
    let dismissed = client.call("dismiss", json!({ "all": true, "table": "people" }));
    assert_eq!(dismissed["dismissed"], json!([ids[1]]));
    client.status(|status| status["conflicts"] == 0);
    let closed = client.call("conflicts", json!({ "closed": true }));
    assert_eq!(closed["conflicts"].as_array().unwrap().len(), 2);
    assert_eq!(read(&folder.path("hub.db"), &format!("{phone} 2")), "theirs");
    let error = client.refused("restore", json!({ "ids": ["zzz"] }));
    assert!(error["code"] == -32002 && error["data"]["code"] == "no_such_event", "{error}");
    for (params, name) in [
        (json!({}), "`ids`"),
        (json!({ "ids": [], "all": true }), "`ids`"),
        (json!({ "all": true, "new_key": "newest" }), "`new_key`"),
    ] {
        let mut line = json!({ "jsonrpc": "2.0", "id": "r", "method": "restore" });
        line["params"] = params;
        client.write(format!("{line}\n").as_bytes());
        let error = &client.any_answer()["error"];
        assert!(error["code"] == -32602 && error["message"].to_string().contains(name), "{error}");
    }
}

/// Both things survive that were made with one key.
#[test]
fn a_collision_is_restored_under_another_key() {
    let (folder, _hub) = hub_and_replica();
    let mut client = open(&folder);
    client.call("pause", json!({}));
    folder.sql("a.db", "INSERT INTO people VALUES (7, 'mine', NULL), (8, 'mine too', NULL)");
    folder.sql("hub.db", "INSERT INTO people VALUES (7, 'theirs', NULL), (8, 'theirs too', NULL)");
    client.call("resume", json!({}));
    client.call("sync", json!({}));
    let listed = client.call("conflicts", json!({ "kind": "collision" }));
    let ids: Vec<_> = listed["conflicts"].as_array().unwrap().iter().map(|c| &c["id"]).collect();
    client.call("restore", json!({ "ids": [ids[0]], "alone": true, "new_key": [70] }));
    client.call("restore", json!({ "ids": [ids[1]], "alone": true, "new_key": "fresh" }));
    client.call("sync", json!({}));
    let sql =
        "SELECT group_concat(name, ', ') FROM (SELECT name FROM people WHERE id > 2 ORDER BY id)";
    assert_eq!(read(&folder.path("hub.db"), sql), "theirs, theirs too, mine, mine too");
}

#[test]
fn the_quarantine_is_listed_tried_again_and_told() {
    let (folder, _hub) = hub_and_replica();
    let mut client = open(&folder);
    folder.sql("a.db", "CREATE UNIQUE INDEX only_here ON people (phone)");
    folder.sql("hub.db", "INSERT INTO people VALUES (5, 'Eve', '22')");
    client.status(|status| status["quarantined"] == 1);
    let listed = client.call("quarantine", json!({}));
    let event = &listed["events"][0];
    assert!(event["table"] == "people" && event["key"] == json!([5]), "{listed}");
    let error = client.refused("dismiss_quarantined", json!({ "seq": event["seq"] }));
    assert_eq!(error["data"]["code"], "still_applicable", "{error}");
    assert_eq!(client.call("retry_quarantine", json!({})), json!({ "applied": 0, "waiting": 1 }));
    folder.sql("a.db", "DROP INDEX only_here");
    assert_eq!(client.call("retry_quarantine", json!({})), json!({ "applied": 1, "waiting": 0 }));
    client.status(|status| status["quarantined"] == 0);
}

#[test]
fn the_log_is_listed_page_by_page() {
    let (folder, _hub) = hub_and_replica();
    let mut client = open(&folder);
    folder.sql("a.db", "UPDATE people SET phone = '33' WHERE id = 2");
    client.call("sync", json!({}));
    let all = client.call("log", json!({}));
    let events = all["events"].as_array().unwrap();
    assert!(events.len() == 3 && all["more"] == false, "{all}");
    let page = client.call("log", json!({ "skip": 1, "limit": 1 }));
    assert!(page["events"][0] == events[1] && page["more"] == true, "{page}");
    let last = client.call("log", json!({ "since": "3", "origin": "me", "key": "2" }));
    assert_eq!(last["events"], json!([events[2]]));
    assert_eq!(client.call("event", json!({ "id": "3" })), events[2]);
    assert_eq!(events[2]["before"], json!({ "phone": "22" }));
    assert_eq!(client.call("log", json!({ "verdict": "superseded" }))["events"], json!([]));
    assert_eq!(
        client.refused("log", json!({ "table": "x" }))["data"]["code"],
        "table_not_replicated"
    );
    assert_eq!(client.refused("log", json!({ "since": "soon" }))["data"]["code"], "usage");
}

/// A settings page: a URL and a token are tried, used, and changed while it runs. Neither output
/// nor log has a token.
#[cfg(unix)]
#[test]
fn a_token_is_tried_and_changed_and_never_told() {
    use std::os::unix::fs::OpenOptionsExt;
    let folder = Folder::new();
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).mode(0o600).open(folder.path("token")).unwrap();
    file.write_all(b"the-right-secret").unwrap();
    let hub = folder.hub("--auth-token-file token");
    folder.sql("a.db", "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)");
    let mut client = Client::start(&folder, "run --stdio -vv");
    client.agree();
    let url = hub.url();
    let nobody =
        client.call("test_connection", json!({ "url": "http://127.0.0.1:1", "token": "" }));
    assert!(
        nobody["usable"] == false && nobody["findings"][0]["about"] == "connection",
        "{nobody}"
    );
    let wrong = client.call("test_connection", json!({ "url": url, "token": "a-wrong-secret" }));
    assert!(wrong["usable"] == false && wrong["findings"][0]["about"] == "token", "{wrong}");
    let right = client.call("test_connection", json!({ "url": url, "token": "the-right-secret" }));
    assert!(right["usable"] == true && right["can_write"] == true, "{right}");
    assert_eq!(
        client.refused("test_connection", json!({ "url": url, "token": "a b" }))["data"]["code"],
        "invalid_token"
    );

    client.call(
        "open",
        json!({ "file": folder.path("a.db"), "url": url, "token": "a-wrong-secret" }),
    );
    let status = client.status(|status| status["state"] == "refused");
    assert!(status["code"] == "token_refused" && status["hint"].is_string(), "{status}");
    let error = client.refused("sync", json!({}));
    assert!(error["code"] == -32004 && error["data"]["code"] == "token_refused", "{error}");
    client.call("reconfigure", json!({ "url": url, "token": "the-right-secret" }));
    client.call("sync", json!({}));
    client.status(|status| status["state"] == "in_step");
    // The settings of a pause are those of the last change, and a file is as good as a text.
    client.call("reconfigure", json!({ "url": url, "token_file": folder.path("token") }));
    client.call("pause", json!({}));
    client.call("resume", json!({}));
    client.call("sync", json!({}));
    client.call("shutdown", json!({}));
    let (_, log) = client.end();
    assert!(log.contains("integrated") || log.contains("DEBUG"), "it is verbose: {log}");
    assert!(!log.contains("secret"), "{log}");
    let told: Vec<_> = client
        .transcript()
        .lines()
        .filter(|l| !l.contains("\"params\""))
        .map(str::to_owned)
        .collect();
    assert!(told.len() > 10 && told.iter().all(|line| !line.contains("-secret")), "{told:?}");
}

/// A remote that was replaced by another one gets nothing until a person agrees.
#[test]
fn another_remote_is_shown_and_accepted() {
    let (folder, hub) = hub_and_replica();
    let mut client = open(&folder);
    let other = Running::start(&mut folder.command("hub --db other.db --listen 127.0.0.1:0"));
    client.call("reconfigure", json!({ "url": other.url() }));
    client.status(|status| status["state"] == "other_remote");
    assert_eq!(client.refused("sync", json!({}))["data"]["code"], "other_remote");
    let preview = client.call("preview_remote", json!({}));
    assert_eq!(preview["tables"], json!([{ "table": "people", "here": 2, "there": null }]));
    client.call("accept_remote", json!({}));
    assert_eq!(read(&folder.path("other.db"), "SELECT group_concat(name) FROM people"), "Ana,Bob");
    let status = client.call("status", json!({}));
    assert_eq!(status["identity"][0]["cause"], "accepted", "{status}");
    drop(hub);
}
