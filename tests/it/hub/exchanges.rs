//! Recorded exchanges: requests and the answers that they must get, in `fixtures/hrana/*.json`.
//!
//! Each file is a conversation with a hub of its own. `"$baton"` in a request stands for the baton
//! of the answer before, and in an answer for any baton at all. A cursor's answer is an array of
//! its lines. With `UPDATE_GOLDENFILES=1` the answers are written anew, for a person to read the
//! diff.

use std::fs;
use std::path::Path;

use hyper::StatusCode;
use libsql_hrana::proto::{CursorEntry, PipelineRespBody};
use serde_json::{Value, json};

use super::Running;

const PLACEHOLDER: &str = "$baton";

#[tokio::test(flavor = "multi_thread")]
async fn recorded_exchanges_are_answered_alike() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hrana");
    let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    assert!(!paths.is_empty(), "there are recorded exchanges");
    let mut differences = Vec::new();
    for path in paths {
        differences.extend(check(&path).await);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Has the conversation in the file at `path` and returns what was answered otherwise.
async fn check(path: &Path) -> Vec<String> {
    let mut conversation: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let hub = Running::start(|config| {
        let settings = &conversation["hub"];
        config.token = settings["token"].as_str().map(Into::into);
        let bytes = |name: &str, default: usize| {
            settings[name].as_u64().map_or(default, |bytes| usize::try_from(bytes).unwrap())
        };
        let limits = &mut config.limits;
        limits.request_bytes = bytes("request_bytes", limits.request_bytes);
        limits.response_bytes = bytes("response_bytes", limits.response_bytes);
        limits.value_bytes = bytes("value_bytes", limits.value_bytes);
    })
    .await;
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let mut differences = Vec::new();
    let mut baton = None;
    let exchanges = conversation["exchanges"].as_array_mut().unwrap();
    for (index, exchange) in exchanges.iter_mut().enumerate() {
        let answer = converse(&hub, &exchange["request"], &mut baton).await;
        let expected = &mut exchange["answer"];
        if *expected != answer {
            differences.push(format!("{name}, exchange {index}:\n-{expected}\n+{answer}"));
            *expected = answer;
        }
    }
    hub.stop().await;
    if std::env::var("UPDATE_GOLDENFILES").is_ok_and(|value| value == "1") {
        let text = serde_json::to_string_pretty(&conversation).unwrap();
        fs::write(path, text + "\n").unwrap();
        differences.clear();
    }
    differences
}

async fn converse(hub: &Running, request: &Value, baton: &mut Option<String>) -> Value {
    let method = request["method"].as_str().unwrap_or("POST");
    let path = request["path"].as_str().unwrap();
    let mut body = request["body"].clone();
    if body["baton"] == PLACEHOLDER {
        body["baton"] = json!(baton.as_deref().unwrap());
    }
    let body = match body {
        Value::Null => String::new(),
        Value::String(text) => text,
        body => body.to_string(),
    };
    let (status, text) = hub.send(method, path, request["authorization"].as_str(), body).await;
    let mut answer = understand(path, &text);
    if status == StatusCode::OK && method == "POST" {
        // What clients with these types would read.
        if path.ends_with("cursor") {
            let entries = text.lines().skip(1).map(serde_json::from_str::<CursorEntry>);
            entries.for_each(|entry| assert!(entry.is_ok(), "{text}"));
        } else {
            serde_json::from_str::<PipelineRespBody>(&text).unwrap();
        }
    }
    let head = if answer.is_array() { &mut answer[0] } else { &mut answer };
    if let Some(given) = head.get_mut("baton").filter(|given| given.is_string()) {
        *baton = given.as_str().map(str::to_owned);
        *given = json!(PLACEHOLDER);
    }
    json!({ "status": status.as_u16(), "body": answer })
}

/// The JSON of an answer, or its text where it is none.
fn understand(path: &str, text: &str) -> Value {
    let lines = || text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
    if path.ends_with("cursor") && !text.is_empty() {
        lines().map_or_else(|_| json!([text]), Value::Array)
    } else {
        serde_json::from_str(text).unwrap_or_else(|_| json!(text))
    }
}
