//! Every way in which a server can fail, and what the caller is told to do.

use std::time::Duration;

use driftless::remote::{Libsql, Options, Remote};
use driftless::{Code, Error};
use serde_json::json;

use super::server::{Reply, Server};
use super::{client, client_with, reads};

/// The error of a batch to a server that always gives the answer that `reply` makes.
async fn error_of(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Error {
    let server = Server::start(move |_, _| reply()).await;
    let error = client(&server).run(reads(&["SELECT 1"])).await.unwrap_err();
    assert_eq!(server.requests().len(), 1, "nothing is repeated unasked: {error:?}");
    assert!(error.message().contains("127.0.0.1"), "{error:?}");
    assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    error
}

/// The error of a batch to a server that gives this reply: its code, the server's own code, and
/// what of the server's own words is in its message.
async fn check(
    reply: impl Fn() -> Reply + Send + Sync + 'static,
    code: Code,
    remote_code: Option<&str>,
    says: &str,
) {
    let error = error_of(reply).await;
    assert_eq!((error.code(), error.remote_code()), (code, remote_code), "{error:?}");
    assert!(error.message().contains(says), "{error:?}");
}

#[tokio::test]
async fn a_token_that_is_refused() {
    let body = r#"{"error":"Unauthorized: `The JWT is invalid`"}"#;
    check(
        move || Reply::http("401 Unauthorized", body),
        Code::TokenRefused,
        None,
        "JWT is invalid",
    )
    .await;
    check(|| Reply::http("403 Forbidden", ""), Code::TokenForbidden, None, "").await;
    // A server that repeats the token.
    let body = r#"{"error":"s3cret is no token"}"#;
    check(move || Reply::http("401 Unauthorized", body), Code::TokenRefused, None, "… is no token")
        .await;
}

#[tokio::test]
async fn a_database_that_takes_no_writes() {
    let blocked = "Operation was blocked: SQL write operations are forbidden";
    check(
        move || Reply::failed(1, 0, blocked, "BLOCKED"),
        Code::RemoteBlocked,
        Some("BLOCKED"),
        blocked,
    )
    .await;
    let readonly = "SQLite error: attempt to write a readonly database";
    check(
        move || Reply::failed(1, 0, readonly, "SQLITE_READONLY"),
        Code::RemoteReadOnly,
        Some("SQLITE_READONLY"),
        "readonly database",
    )
    .await;
}

#[tokio::test]
async fn a_server_in_trouble() {
    let html = "<html><body>Internal Server Error</body></html>";
    for status in ["500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable"] {
        check(move || Reply::http(status, html), Code::RemoteBusy, None, "").await;
    }
    check(|| Reply::http("429 Too Many Requests", "slow down"), Code::RemoteBusy, None, "").await;
    check(
        || Reply::failed(1, 0, "SQLite error: database is locked", "SQLITE_BUSY"),
        Code::RemoteBusy,
        Some("SQLITE_BUSY"),
        "locked",
    )
    .await;
}

#[tokio::test]
async fn an_error_body_that_is_not_utf8_does_not_end_the_client() {
    let server = Server::start(|number, _| match number {
        0 => Reply::http("500 Internal Server Error", [0xff, 0xfe, 0x00]),
        _ => Reply::rows(&[json!([])]),
    })
    .await;
    let remote = client(&server);
    let error = remote.run(reads(&["SELECT 1"])).await.unwrap_err();
    assert_eq!(error.code(), Code::AnswerUnreadable, "{error:?}");
    remote.run(reads(&["SELECT 1"])).await.unwrap();
}

#[tokio::test]
async fn too_large_either_way() {
    let request = || Reply::http("413 Payload Too Large", "");
    check(request, Code::RequestTooLarge, None, "").await;
    check(
        || Reply::failed(1, 0, "Response is too large", "RESPONSE_TOO_LARGE"),
        Code::AnswerTooLarge,
        Some("RESPONSE_TOO_LARGE"),
        "too large",
    )
    .await;
}

#[tokio::test]
async fn what_is_no_libsql_server() {
    for body in ["<html>Welcome to nginx</html>", "", "{}", "[1,2]", r#"{"results":[]}"#] {
        check(move || Reply::http("200 OK", body), Code::NotLibsql, None, "").await;
    }
    check(|| Reply::http("404 Not Found", "<html/>"), Code::NotLibsql, None, "").await;
    check(|| Reply::http("405 Method Not Allowed", ""), Code::NotLibsql, None, "").await;
    check(|| Reply::Last(b"SSH-2.0-OpenSSH_9.9\r\n\r\n".to_vec()), Code::NotLibsql, None, "").await;
    let moved = b"HTTP/1.1 301 Moved\r\nlocation: https://x/\r\ncontent-length: 0\r\n\r\n";
    check(|| Reply::Bytes(moved.to_vec()), Code::RemoteMoved, None, "").await;
    let unknown = r#"{"error":"Namespace `gym` doesn't exist"}"#;
    check(move || Reply::http("404 Not Found", unknown), Code::NoSuchDatabase, None, "Namespace")
        .await;
}

#[tokio::test]
async fn an_answer_that_breaks_off() {
    for bytes in [&b""[..], b"HTTP/1.1 200"] {
        check(move || Reply::Last(bytes.to_vec()), Code::RemoteUnreachable, None, "").await;
    }
}

/// F71. By its length, by its chunks, and as JSON.
#[tokio::test]
async fn f71_an_answer_that_is_cut_off() {
    let length = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"baton\":null";
    let chunk = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7\r\n{\"bato";
    let no_last_chunk = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{\"\r\n";
    for bytes in [&length[..], chunk, no_last_chunk] {
        check(move || Reply::Last(bytes.to_vec()), Code::AnswerCutOff, None, "").await;
    }
    for body in
        ["{", "{\"baton\":null", "{\"baton\":null,\"base_url\":null,\"results\":[{\"type\":\"o"]
    {
        check(move || Reply::http("200 OK", body), Code::AnswerCutOff, None, "").await;
    }
}

#[tokio::test]
async fn an_answer_to_fewer_statements_than_were_sent() {
    let server = Server::start(|_, _| Reply::rows(&[json!([])])).await;
    let error = client(&server).run(reads(&["SELECT 1", "SELECT 2"])).await.unwrap_err();
    assert_eq!(error.code(), Code::AnswerInvalid, "{error:?}");
}

#[tokio::test]
async fn a_server_that_never_answers() {
    let server = Server::start(|number, _| match number {
        0 => Reply::Silence,
        _ => Reply::rows(&[json!([])]),
    })
    .await;
    let limit = Duration::from_millis(250);
    let options = Options { request_timeout: limit, ..Options::default() };
    let remote = client_with(&server, options);
    let error = remote.run(reads(&["SELECT 1"])).await.unwrap_err();
    assert_eq!(error.code(), Code::RemoteTimeout, "{error:?}");
    // On a busy machine the limit may be too short for an answer, too.
    while let Err(error) = remote.run(reads(&["SELECT 1"])).await {
        assert_eq!(error.code(), Code::RemoteTimeout, "{error:?}");
    }
    assert!(server.connections() > 1, "the late connection is used again");
}

#[tokio::test]
async fn nobody_listens() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let url = format!("http://127.0.0.1:{port}");
    let remote = Libsql::connect(&url, None, Options::default()).unwrap();
    let error = remote.run(reads(&["SELECT 1"])).await.unwrap_err();
    assert_eq!(error.code(), Code::RemoteUnreachable, "{error:?}");
    assert!(error.hint().is_some(), "{error:?}");
}

#[tokio::test]
async fn a_name_that_does_not_exist() {
    let options = Options { allow_plain_http: true, ..Options::default() };
    let remote = Libsql::connect("http://gym.invalid", None, options).unwrap();
    let error = remote.run(reads(&["SELECT 1"])).await.unwrap_err();
    assert_eq!(error.code(), Code::RemoteUnreachable, "{error:?}");
    assert!(error.message().contains("gym.invalid"), "{error:?}");
    assert!(error.hint().is_some(), "{error:?}");
}

#[tokio::test]
async fn a_server_cannot_send_the_token_over_the_network_in_the_clear() {
    let server = Server::start(|number, _| match number {
        0 => Reply::moved("http://gym.example"),
        _ => Reply::rows(&[json!([])]),
    })
    .await;
    let remote = client(&server);
    remote.run(reads(&["SELECT 1"])).await.unwrap();
    let error = remote.run(reads(&["SELECT 1"])).await.unwrap_err();
    assert_eq!(error.code(), Code::RedirectRefused, "{error:?}");
    // A new connection begins at the URL again.
    remote.run(reads(&["SELECT 1"])).await.unwrap();
}
