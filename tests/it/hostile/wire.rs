//! A remote that breaks HTTP or Hrana: the client stops reading, says so, and goes on when the
//! remote is sane again.

use driftless::Kind;
use driftless::event::value::Value;
use driftless::remote::{Batch, Libsql, Options, Remote};
use serde_json::{Value as Json, json};

use crate::remote::server::{Reply, Server};

/// The most bytes of an answer in these tests.
const LIMIT: u64 = 1 << 20;

/// What a server may have written before it notices that nobody reads: the kernel's buffers on both
/// sides.
const IN_FLIGHT: u64 = 16 << 20;

fn batch() -> Batch {
    Batch { statements: vec!["SELECT 1".into()], writes: false }
}

fn client(server: &Server) -> Libsql {
    let options = Options { answer_limit: LIMIT, ..Options::default() };
    Libsql::connect(&server.url(), None, options).unwrap()
}

/// An answer of an honest server: one row with a 1.
fn honest() -> Reply {
    Reply::rows(&[json!([[{ "type": "integer", "value": "1" }]])])
}

/// The first request gets `reply`, and all others an honest one. Gives the first one's error, if it
/// is one.
async fn after(reply: Reply) -> (Option<driftless::Error>, Server) {
    let first = std::sync::Mutex::new(Some(reply));
    let server =
        Server::start(move |_, _| first.lock().unwrap().take().unwrap_or_else(honest)).await;
    let remote = client(&server);
    let error = remote.run(batch()).await.err();
    let sane = remote.run(batch()).await.unwrap();
    assert_eq!(sane.rows, [vec![vec![Value::Integer(1)]]], "it goes on");
    (error, server)
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let chunk = format!("{:x}\r\n{}\r\n", 4096, " ".repeat(4096)).into_bytes();
    let endless = [
        ("a body", "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", vec![b' '; 4096]),
        ("chunks", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunk),
        ("a body until the end", "HTTP/1.1 200 OK\r\n\r\n", vec![b'['; 4096]),
        (
            "an error's body",
            "HTTP/1.1 500 Oh\r\ncontent-length: 99999999999\r\n\r\n",
            vec![b'e'; 4096],
        ),
        ("headers", "HTTP/1.1 200 OK\r\n", b"x-more: and more\r\n".repeat(200)),
        ("one header", "HTTP/1.1 200 OK\r\nx-long: ", vec![b'x'; 4096]),
        ("a status line", "HTTP/1.1 200 ", vec![b'O'; 4096]),
        ("interim answers", "", b"HTTP/1.1 100 Continue\r\n\r\n".repeat(200)),
    ];
    for (name, first, again) in endless {
        let (error, server) = after(Reply::Endless(first.into(), again)).await;
        let error = error.expect(name);
        assert!(matches!(error.kind(), Kind::TooLarge | Kind::Unavailable), "{name}: {error:?}");
        let written = server.bytes().1;
        assert!(written < LIMIT + IN_FLIGHT, "{name}: {written} bytes were taken");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_an_error() {
    let deep = "[".repeat(500_000);
    let deep_rows = format!("{{\"results\":{}", "{\"a\":[".repeat(100_000));
    let bodies: [(&str, &str, &[u8]); 14] = [
        ("nothing", "200 OK", b""),
        ("a page for people", "200 OK", b"<html>Sign in to the network</html>"),
        ("a number", "200 OK", b"7"),
        ("null", "200 OK", b"null"),
        ("deep arrays", "200 OK", deep.as_bytes()),
        ("deep objects", "200 OK", deep_rows.as_bytes()),
        ("no UTF-8", "200 OK", b"{\"results\":\"\xff\xfe\"}"),
        ("an error that is no UTF-8", "500 Oh", b"\xff\xfe\xfd"),
        ("half of one", "200 OK", b"{\"baton\":null,\"results\":[{\"type\":\"ok\""),
        ("another protocol", "200 OK", b"{\"jsonrpc\":\"2.0\"}"),
        ("no content", "204 No Content", b""),
        ("a redirect", "302 Found", b"elsewhere"),
        ("a teapot", "418 I'm a teapot", b"short and stout"),
        ("a status that there is not", "999 What", b"?"),
    ];
    for (name, status, body) in bodies {
        let (error, _server) = after(Reply::http(status, body)).await;
        let error = error.expect(name);
        assert!(error.message().len() < 1_000, "{name}: a message of {}", error.message().len());
    }
    for (name, bytes) in [
        ("not HTTP", &b"SSH-2.0-OpenSSH_9.0\r\n"[..]),
        ("zeros", &[0; 1000]),
        ("two lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}"),
        ("a length that is none", b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n{}"),
        (
            "a chunk of a size that is none",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        ),
        (
            "a chunk without end",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        ),
    ] {
        let (error, _server) = after(Reply::Last(bytes.to_vec())).await;
        assert!(error.is_some(), "{name}");
    }
}

#[tokio::test]
async fn a_redirect_leads_nowhere() {
    let elsewhere = Server::start(|_, _| honest()).await;
    let head =
        format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {}/v3/pipeline\r\n", elsewhere.url());
    let (error, _server) =
        after(Reply::Bytes(format!("{head}content-length: 0\r\n\r\n").into())).await;
    assert!(error.is_some());
    assert_eq!(elsewhere.connections(), 0, "nobody was told the token");
}

#[tokio::test]
async fn claims_about_the_body_are_not_believed() {
    // The answer itself is honest; what is said about it is not.
    let Reply::Bytes(bytes) = honest() else { panic!("it is bytes") };
    let text = String::from_utf8(bytes).unwrap();
    for claim in ["content-type: image/png", "content-type: \u{7f}", "content-encoding: gzip"] {
        let text = text.replacen("\r\n", &format!("\r\n{claim}\r\n"), 1);
        // Taken or refused: there is no decompression that a small answer could blow up with.
        let _ = after(Reply::Bytes(text.into_bytes())).await;
    }
}

/// What is wrong with an answer that is Hrana in its outer form.
#[tokio::test]
async fn hrana_of_wrong_types_is_an_error() {
    let Reply::Bytes(bytes) = honest() else { panic!("it is bytes") };
    let body = bytes.split(|&byte| byte == b'{').skip(1).collect::<Vec<_>>().join(&b'{');
    let honest: Json = serde_json::from_slice(&[b"{", &body[..]].concat()).unwrap();
    let batch = "/results/0/response/result";
    let row = format!("{batch}/step_results/1/rows/0");
    let cases = [
        ("/results", json!(null)),
        ("/results", json!({})),
        ("/results", json!([])),
        ("/results", json!([{ "type": "ok" }])),
        ("/results/0/type", json!("perhaps")),
        ("/results/0/response/type", json!("execute")),
        (batch, json!(null)),
        (&format!("{batch}/step_results"), json!([])),
        (&format!("{batch}/step_results"), json!(vec![Json::Null; 100_000])),
        (&format!("{batch}/step_errors"), json!([])),
        (&format!("{batch}/step_errors"), json!([null, { "message": 7 }, null, null])),
        (&format!("{batch}/step_results/1"), json!("rows")),
        (&format!("{batch}/step_results/1/cols"), json!([])),
        (&format!("{batch}/step_results/1/cols"), json!(null)),
        (&format!("{batch}/step_results/1/rows"), json!({ "0": 1 })),
        (&row, json!([])),
        (&row, json!(vec![json!({ "type": "null" }); 10_000])),
        (&format!("{row}/0"), json!({ "type": "integer", "value": "99999999999999999999" })),
        (&format!("{row}/0"), json!({ "type": "integer", "value": 1.5 })),
        (&format!("{row}/0"), json!({ "type": "integer", "value": "one" })),
        (&format!("{row}/0"), json!({ "type": "float", "value": "1e999" })),
        (&format!("{row}/0"), json!({ "type": "blob", "base64": "!!!" })),
        (&format!("{row}/0"), json!({ "type": "text", "value": [1] })),
        (&format!("{row}/0"), json!({ "type": "date", "value": "today" })),
        ("/baton", json!({ "a": 1 })),
        ("/base_url", json!(7)),
        ("/base_url", json!("http://192.0.2.1:1")),
        ("/base_url", json!("file:///etc/passwd")),
        ("/base_url", json!("not a url at all \u{0}")),
        (&format!("{batch}/step_results/1/affected_row_count"), json!(-1)),
        (&format!("{batch}/step_results/1/last_insert_rowid"), json!("x".repeat(100_000))),
    ];
    let mut errors = 0;
    for (place, value) in cases {
        let mut answer = honest.clone();
        *answer.pointer_mut(place).unwrap_or_else(|| panic!("{place}")) = value.clone();
        let server = Server::start(move |number, _| match number {
            0 => Reply::http("200 OK", answer.to_string()),
            _ => self::honest(),
        })
        .await;
        let remote = client(&server);
        // An error or other rows; never a panic, and never an end to it.
        if let Err(error) = remote.run(self::batch()).await {
            errors += 1;
            assert!(error.message().len() < 1_000, "{place}: {}", error.message().len());
        }
        let sane = client(&server).run(self::batch()).await;
        assert!(sane.is_ok(), "{place} = {value}: {sane:?}");
    }
    assert!(errors > 15, "{errors} errors");
}
