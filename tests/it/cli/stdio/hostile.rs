//! Clients that make mistakes, or mean harm.

use serde_json::{Value as Json, json};

use super::super::Folder;
use super::client::Client;
use crate::support::seeds::each_seed;

/// A sidecar with nothing open.
fn client(folder: &Folder) -> Client {
    let mut client = Client::start(folder, "run --stdio");
    client.agree();
    client
}

/// Sends a line, and gives the id and the number of the error that comes back.
fn failed(client: &mut Client, line: &[u8]) -> (Json, i64) {
    client.write(line);
    client.write(b"\n");
    let answer = client.any_answer();
    let error = &answer["error"];
    assert!(error["message"].is_string() && error["data"]["code"].is_string(), "{answer}");
    (answer["id"].clone(), error["code"].as_i64().unwrap())
}

#[test]
fn lines_that_are_no_requests_are_answered_and_do_no_harm() {
    let folder = Folder::new();
    let mut client = client(&folder);
    for line in ["{", "nonsense", "\u{0}", "{\"jsonrpc\":\"2.0\"", "{}}"] {
        assert_eq!(failed(&mut client, line.as_bytes()), (Json::Null, -32700), "{line}");
    }
    assert_eq!(failed(&mut client, b"\xff\xfe"), (Json::Null, -32700));
    assert_eq!(failed(&mut client, "[".repeat(100_000).as_bytes()), (Json::Null, -32700));
    let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"status"}]"#;
    for line in [batch, "[]", "1", "null", "\"status\"", "{}"] {
        assert_eq!(failed(&mut client, line.as_bytes()), (Json::Null, -32600), "{line}");
    }
    for id in ["true", "{}", "[1]"] {
        let line = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"status"}}"#);
        assert_eq!(failed(&mut client, line.as_bytes()), (Json::Null, -32600), "{line}");
    }
    // An answer is no request.
    let line = br#"{"jsonrpc":"2.0","id":3,"result":null}"#;
    assert_eq!(failed(&mut client, line), (json!(3), -32600));
    client.call("test_connection", json!({ "url": "nonsense" }));
}

#[test]
fn a_line_has_a_bounded_length() {
    let folder = Folder::new();
    let mut client = client(&folder);
    let huge = vec![b'['; 3 << 20];
    assert_eq!(failed(&mut client, &huge), (Json::Null, -32600));
    // The largest one is read: its padding is white space.
    let mut line = br#"{"jsonrpc":"2.0","id":5,"method":"nothing"}"#.to_vec();
    line.resize(1 << 20, b' ');
    assert_eq!(failed(&mut client, &line), (json!(5), -32601));
    line.push(b' ');
    assert_eq!(failed(&mut client, &line), (Json::Null, -32600));
}

#[test]
fn methods_and_parameters_that_are_not_known_are_named() {
    let folder = Folder::new();
    let mut client = client(&folder);
    for (line, number, says) in [
        (r#""method":"migrate""#, -32601, "`open`, `status`"),
        (r#""method":"open","params":{"tabels":[]}"#, -32602, "`file`"),
        (r#""method":"open","params":{"file":7}"#, -32602, "`file` of `open`"),
        (r#""method":"open","params":["a.db"]"#, -32602, "have names"),
        (
            r#""method":"test_connection","params":{}"#,
            -32602,
            "`url` of `test_connection` is missing",
        ),
        (r#""method":"status","params":{"x":1}"#, -32602, "it has none"),
    ] {
        // Parameters come before the question whether anything is open, or after it.
        let line = format!(r#"{{"jsonrpc":"2.0","id":"x",{line}}}"#);
        client.write(format!("{line}\n").as_bytes());
        let answer = client.any_answer();
        let text = answer["error"].to_string();
        assert!(answer["id"] == "x" && text.contains(says), "{line}: {answer}");
        assert!(answer["error"]["code"] == number, "{line}: {answer}");
    }
}

#[test]
fn the_version_comes_first() {
    let folder = Folder::new();
    let mut client = Client::start(&folder, "run --stdio");
    let error = client.refused("status", json!({}));
    assert!(error["code"] == -32002 && error["data"]["hint"].to_string().contains("`initialize`"));
    let error = client.refused("initialize", json!({ "protocol": 2 }));
    assert!(error["message"].to_string().contains("version 1"), "{error}");
    client.refused("status", json!({}));
    client.agree();
    let error = client.refused("status", json!({}));
    assert_eq!(error["data"]["code"], "no_database_named");
}

#[test]
fn a_notification_has_no_answer() {
    let folder = Folder::new();
    let mut client = client(&folder);
    client.write(b"{\"jsonrpc\":\"2.0\",\"method\":\"nothing\"}\n");
    client.write(b"{\"jsonrpc\":\"2.0\",\"method\":\"status\",\"params\":[]}\n");
    client.write(b"{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"nothing\"}\n");
    let answer = client.any_answer();
    assert!(answer["id"].is_null() && answer["error"]["code"] == -32601, "{answer}");
    client.write(b"{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"nothing\"}\n");
    assert_eq!(client.any_answer()["id"], 1.5);
}

/// Requests that were changed at random: each line has at most one answer, and then the sidecar
/// works as before.
#[test]
fn random_lines_do_no_harm() {
    each_seed(6, "cli::stdio::hostile::random_lines_do_no_harm", |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let folder = Folder::new();
        let mut client = client(&folder);
        let lines = [
            r#"{"jsonrpc":"2.0","id":1,"method":"test_connection","params":{"url":"x"}}"#,
            r#"{"jsonrpc":"2.0","id":"a","method":"open","params":{"file":7,"tables":["a"]}}"#,
            r#"{"jsonrpc":"2.0","method":"restore","params":{"ids":["a"],"new_key":[1,2.5]}}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"log","params":{"since":"2h","limit":1}}"#,
        ];
        let mut sent = 0;
        for _ in 0..200 {
            let mut line = random.choice(lines).unwrap().as_bytes().to_vec();
            for _ in 0..random.usize(1..6) {
                let at = random.usize(..line.len());
                match random.u8(..4) {
                    0 => line[at] = random.u8(..),
                    1 => line.truncate(at.max(1)),
                    2 => line.insert(at, *random.choice(b"{}[]\",:\\0e-").unwrap()),
                    _ => drop(line.remove(at)),
                }
                if line.is_empty() {
                    break;
                }
            }
            line.push(b'\n');
            sent += line.iter().filter(|byte| **byte == b'\n').count();
            client.write(&line);
        }
        let id = client.send("test_connection", json!({ "url": "nonsense" }));
        let mut answers = 0;
        // What is answered later may come behind it.
        while client.any_answer()["id"] != id {
            answers += 1;
        }
        assert!(answers > 50 && answers <= sent, "{answers} of {sent}");
        client.close();
        assert_eq!(client.end().0, Some(0));
    });
}
