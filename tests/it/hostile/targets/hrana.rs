//! The hub: whatever is asked, it answers in its own words and goes on.
//!
//! An input is one request or more, with a line `---` between: a line with the method and the path,
//! and the body below it. `$baton` in a body stands for the baton of the answer before.

use std::cell::RefCell;
use std::time::Duration;

use driftless::hub::{Config, Hub};
use hyper::{Body, Client, Request};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Longer than any answer takes whose statements have a fifth of a second.
const LONG: Duration = Duration::from_secs(30);

/// Inputs after which the hub's database begins anew.
const INPUTS: usize = 200;

/// Bytes of an answer's values; all of it has less than three times as many, for base64 and for the
/// names of columns.
const RESPONSE_BYTES: usize = 100_000;

/// How often a request is sent once more because its connection was closed.
const TRIES: usize = 3;

/// How often the hub is asked whether it goes on.
const LOOKS: usize = 50;

/// Statuses that the hub gives.
const STATUSES: [u16; 9] = [200, 400, 404, 405, 408, 413, 415, 500, 503];

struct Running {
    runtime: Runtime,
    client: Client<hyper::client::HttpConnector>,
    url: String,
    inputs: usize,
    _folder: TempDir,
}

thread_local! {
    static HUB: RefCell<Option<Running>> = const { RefCell::new(None) };
}

impl Running {
    fn new() -> Running {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let mut config = Config::new(folder.path().join("hub.db"), "127.0.0.1:0".parse().unwrap());
        let limits = &mut config.limits;
        limits.request_bytes = 100_000;
        limits.response_bytes = RESPONSE_BYTES;
        limits.value_bytes = 50_000;
        limits.streams = 4;
        limits.stream_wait = Duration::from_secs(5);
        limits.idle_timeout = Duration::from_millis(100);
        limits.run_time = Duration::from_millis(200);
        let hub = runtime.block_on(Hub::bind(config)).unwrap();
        let url = hub.url();
        runtime.spawn(hub.serve(std::future::pending()));
        Running { runtime, client: Client::new(), url, inputs: 0, _folder: folder }
    }

    /// Sends a request; `None` if it is none that HTTP can carry.
    fn send(&self, method: &str, path: &str, body: Vec<u8>) -> Option<(u16, Vec<u8>)> {
        // The hub closes a connection on which it has not read a body, and the client may send its
        // next request there in that moment.
        let mut tries = 0..TRIES;
        loop {
            let last = tries.next().is_none();
            match self.try_send(method, path, body.clone())? {
                Ok(answer) => return Some(answer),
                // A path that hyper does not send.
                Err(error) if error.is_user() || error.is_parse() => return None,
                Err(error) => assert!(!last, "{method} {path}: {error}"),
            }
        }
    }

    fn try_send(
        &self,
        method: &str,
        path: &str,
        body: Vec<u8>,
    ) -> Option<Result<(u16, Vec<u8>), hyper::Error>> {
        let uri = format!("{}{path}", self.url);
        let request = Request::builder().method(method).uri(uri).body(Body::from(body)).ok()?;
        let answered = self.runtime.block_on(async {
            let answer = async {
                let response = self.client.request(request).await?;
                let status = response.status().as_u16();
                let body = hyper::body::to_bytes(response.into_body()).await?;
                Ok((status, body.to_vec()))
            };
            tokio::time::timeout(LONG, answer).await
        });
        Some(answered.unwrap_or_else(|_| panic!("{method} {path} has no answer")))
    }

    fn run(&mut self, data: &[u8]) {
        self.inputs += 1;
        let mut baton: Option<String> = None;
        for block in
            data.split(|&byte| byte == b'\n').collect::<Vec<_>>().split(|line| *line == b"---")
        {
            let Some((head, body)) = block.split_first() else { continue };
            let head = String::from_utf8_lossy(head).into_owned();
            let (method, path) = head.split_once(' ').unwrap_or((&head, "/v3/pipeline"));
            if !path.starts_with('/') || !["GET", "POST"].contains(&method) {
                continue;
            }
            let mut body = body.join(&b'\n');
            if let (Some(baton), Ok(text)) = (&baton, std::str::from_utf8(&body)) {
                body = text.replace("$baton", baton).into_bytes();
            }
            if let Some((status, answer)) = self.send(method, path, body) {
                baton = check(method, path, status, &answer);
            }
        }
        if let Some(baton) = baton {
            let body = format!(r#"{{"baton":"{baton}","requests":[{{"type":"close"}}]}}"#);
            self.send("POST", "/v3/pipeline", body.into_bytes());
        }
        let look =
            br#"{"requests":[{"type":"execute","stmt":{"sql":"SELECT 40 + 2"}},{"type":"close"}]}"#;
        // On a machine with much else to do, a fifth of a second may pass before it begins.
        for left in (0..LOOKS).rev() {
            let (status, answer) = self.send("POST", "/v2/pipeline", look.to_vec()).unwrap();
            let answer = String::from_utf8_lossy(&answer);
            if status == 200 && answer.contains(r#""value":"42""#) {
                break;
            }
            assert!(left > 0 && answer.contains("SQLITE_INTERRUPT"), "{status}: {answer}");
        }
    }
}

/// Gives the baton of an answer that is as it should be.
fn check(method: &str, path: &str, status: u16, answer: &[u8]) -> Option<String> {
    assert!(STATUSES.contains(&status), "{method} {path} has status {status}");
    let text = String::from_utf8_lossy(answer);
    let panicked = status == 500 && text.contains("could not be finished");
    assert!(!panicked, "{method} {path}: a request's thread panicked");
    if status != 200 || method != "POST" {
        return None;
    }
    if path.ends_with("/cursor") {
        let first = text.lines().next().unwrap_or_default();
        let entries: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("an entry is JSON"))
            .collect();
        assert!(!entries.is_empty(), "{first}");
        return entries[0]["baton"].as_str().map(str::to_owned);
    }
    assert!(answer.len() < 3 * RESPONSE_BYTES + 100_000, "an answer has {} bytes", answer.len());
    let answer: Value = serde_json::from_slice(answer).expect("an answer is JSON");
    assert!(answer["results"].is_array(), "{answer}");
    answer["baton"].as_str().map(str::to_owned)
}

/// Sends what `data` says.
///
/// # Panics
///
/// When the hub does not answer, or not as it should, or does not go on.
pub(crate) fn run(data: &[u8]) {
    HUB.with_borrow_mut(|hub| {
        if hub.as_ref().is_some_and(|hub| hub.inputs >= INPUTS) {
            *hub = None;
        }
        hub.get_or_insert_with(Running::new).run(data);
    });
}
