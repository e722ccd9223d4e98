//! What a remote's failure means for the caller.
//!
//! The libsql client gives an error as text: its own error types are private. [`Failure::parse`]
//! takes that text apart, and [`Failure::into_error`] sorts it into a [`Kind`]. Nothing here knows
//! libsql's types, so each sentence that a server has been seen to say can be tested.
//!
//! # Caveats
//!
//! * libsql drops the code of a statement that failed in a batch and keeps its message. The codes
//!   of SQLite's and libSQL server's own messages are put back; a trigger's RAISE has none.

use serde_json::Value as Json;

use crate::error::{Error, Kind};

/// The most characters of a server's message that are passed on.
const LONGEST_MESSAGE: usize = 300;

/// The code of an HTTP 413: the request was too large, and not its answer.
pub(crate) const REQUEST_TOO_LARGE: &str = "HTTP_413";

/// The code of a token that says that it may only read.
pub(super) const READ_ONLY: &str = "TOKEN_READ_ONLY";

/// The codes of refusals that another token may end.
pub(super) const OF_TOKEN: [&str; 3] = ["HTTP_401", "HTTP_403", READ_ONLY];

/// How messages of SQLite and of libSQL server begin, and the code that belongs to them. Only the
/// beginning counts: a trigger of the application's may say anything, and must not stop us by it.
const CODES: [(&str, &str); 23] = [
    ("Operation was blocked", "BLOCKED"),
    ("BLOCKED", "BLOCKED"),
    ("attempt to write a readonly database", "SQLITE_READONLY"),
    ("not authorized", "SQLITE_AUTH"),
    ("Not authorized", "SQLITE_AUTH"),
    ("Authorization forbidden", "SQLITE_AUTH"),
    ("database is locked", "SQLITE_BUSY"),
    ("database table is locked", "SQLITE_LOCKED"),
    ("Server cannot handle additional transactions", "TRANSACTION_BUSY"),
    ("Transaction timed out", "TRANSACTION_TIMEOUT"),
    ("The stream has expired", "STREAM_EXPIRED"),
    ("Received an invalid baton", "BATON_INVALID"),
    ("The baton is invalid", "BATON_INVALID"),
    ("Response is too large", "RESPONSE_TOO_LARGE"),
    ("string or blob too big", "SQLITE_TOOBIG"),
    ("database or disk is full", "SQLITE_FULL"),
    ("interrupted", "SQLITE_INTERRUPT"),
    ("disk I/O error", "SQLITE_IOERR"),
    ("out of memory", "SQLITE_NOMEM"),
    ("malformed database schema", "SQLITE_CORRUPT"),
    ("database disk image is malformed", "SQLITE_CORRUPT"),
    ("SQL string could not be parsed", "SQL_PARSE_ERROR"),
    ("SQL input error", "SQL_INPUT_ERROR"),
];

/// The code that `message` has on a server that gives codes.
fn code_of(message: &str) -> Option<&'static str> {
    // "UNIQUE constraint failed: …", "FOREIGN KEY constraint failed", and so on.
    let word = message.split(" constraint failed").next().unwrap_or_default();
    if word.len() < message.len() && word.bytes().all(|b| b.is_ascii_uppercase() || b == b' ') {
        return Some("SQLITE_CONSTRAINT");
    }
    CODES.iter().find(|(beginning, _)| message.starts_with(beginning)).map(|(_, code)| *code)
}

/// How a request failed.
#[derive(Debug, PartialEq)]
pub(super) enum Failure {
    /// An HTTP status other than 200.
    Status {
        /// The status.
        status: u16,
        /// The server's message, if the body is one of a libSQL server.
        said: Option<Said>,
    },
    /// A statement, or the request as a whole, failed on a server that speaks Hrana.
    Statement(Said),
    /// An answer that is not Hrana.
    Foreign,
    /// An answer whose head was in order and that ended too early.
    CutOff(String),
    /// The request did not get through, or nothing came back.
    Transport(String),
}

/// What a server says of an error.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Said {
    message: String,
    code: Option<String>,
}

impl Said {
    /// A message with its code, or with the code that such a message has.
    pub(super) fn new(message: &str, code: Option<&str>) -> Said {
        let message = message.strip_prefix("SQLite error: ").unwrap_or(message);
        let code = code.filter(|code| !code.is_empty()).or_else(|| code_of(message));
        let message = message.chars().take(LONGEST_MESSAGE).collect();
        Said { message, code: code.map(str::to_owned) }
    }

    /// The message in the JSON body of a libSQL server, in any of its three forms.
    pub(super) fn from_body(body: &str) -> Option<Said> {
        let json: Json = serde_json::from_str(body.trim()).ok()?;
        let error = json.get("error").filter(|error| error.is_object()).unwrap_or(&json);
        let text = |name| error.get(name).and_then(Json::as_str);
        text("message").or_else(|| text("error")).map(|message| Said::new(message, text("code")))
    }

    /// What the caller must do about it.
    fn kind(&self) -> Kind {
        match self.code.as_deref().unwrap_or_default() {
            "SQLITE_BUSY"
            | "SQLITE_LOCKED"
            | "SQLITE_INTERRUPT"
            | "SQLITE_IOERR"
            | "SQLITE_NOMEM"
            | "SQLITE_FULL"
            | "SQLITE_PROTOCOL"
            | "SQLITE_SCHEMA"
            | "SQLITE_CANTOPEN"
            | "TRANSACTION_BUSY"
            | "TRANSACTION_TIMEOUT"
            | "PROXY_ERROR" => Kind::Unavailable,
            code if code.contains("STREAM_") || code.contains("BATON") => Kind::Unavailable,
            "SQLITE_READONLY" | "SQLITE_AUTH" | "SQLITE_PERM" | "SQLITE_CORRUPT"
            | "SQLITE_NOTADB" | "BLOCKED" => Kind::Refused,
            code if code.starts_with("AUTH") => Kind::Refused,
            "SQLITE_TOOBIG" | "RESPONSE_TOO_LARGE" => Kind::TooLarge,
            _ => Kind::Rejected,
        }
    }

    /// The error of `kind` that begins with `what`.
    fn error(self, kind: Kind, what: &str) -> Error {
        let mut error = Error::new(kind, format!("{what}: {}", self.message));
        let code = self.code.unwrap_or_default();
        if kind == Kind::Refused {
            error = error.with_hint(if code == "BLOCKED" {
                "the database's owner must allow it again: look at the plan's limits"
            } else if code == "SQLITE_CORRUPT" || code == "SQLITE_NOTADB" {
                "the remote's own database is damaged: its operator must restore it"
            } else {
                "use a token that may write, and a database that is not read-only"
            });
        }
        if code.is_empty() { error } else { error.with_code(code) }
    }
}

impl Failure {
    /// Takes apart the text of a Hrana error of the libsql client.
    pub(super) fn parse(text: &str) -> Failure {
        let inner = |prefix: &str| {
            text.strip_prefix(prefix)
                .and_then(|rest| rest.strip_prefix(" error: `"))
                .map(|rest| rest.strip_suffix('`').unwrap_or(rest))
        };
        if let Some(inner) = inner("api") {
            return parse_status(inner)
                .unwrap_or_else(|| Failure::Statement(Said::new(inner, None)));
        }
        if let Some(inner) = inner("stream") {
            return Failure::Statement(parse_debug(inner));
        }
        if let Some(why) = inner("json").filter(|why| ends_early(why)) {
            return Failure::CutOff(why.to_owned());
        }
        if inner("json").is_some() || text.starts_with("unexpected response") {
            return Failure::Foreign;
        }
        match inner("http") {
            // What hyper says of bytes that are not HTTP.
            Some(inner) if inner.starts_with("invalid HTTP") => Failure::Foreign,
            Some(inner) if inner.starts_with(BODY_ENDED) => Failure::CutOff(inner.to_owned()),
            Some(inner) => Failure::Transport(inner.to_owned()),
            None => Failure::Transport(text.to_owned()),
        }
    }

    /// The error for the caller; `url` is named in it.
    pub(super) fn into_error(self, url: &str) -> Error {
        match self {
            Failure::Statement(said) => {
                let kind = said.kind();
                let what = match kind {
                    Kind::Unavailable => format!("{url} is not ready"),
                    Kind::Refused => format!("{url} refuses to run it"),
                    Kind::TooLarge => format!("{url} finds it too large"),
                    _ => format!("{url} rejects a statement"),
                };
                said.error(kind, &what)
            }
            Failure::Status { status, said } => status_error(status, said, url),
            Failure::Foreign => foreign(url, "what comes back is not Hrana"),
            Failure::CutOff(why) => {
                Error::unavailable(format!("the answer of {url} was cut off: {why}")).with_hint(
                    "it is asked for again; if it stays so, look at the network, or at a proxy, \
                     between here and the remote",
                )
            }
            Failure::Transport(why) => {
                Error::unavailable(format!("the connection to {url} broke: {why}"))
                    .with_hint("check that this machine is online")
            }
        }
    }
}

/// How hyper's text begins about a body that did not come whole.
const BODY_ENDED: &str = "error reading a body from connection";

/// Whether this is what serde says of JSON that has begun and ends too early. An answer without
/// anything in it has not begun: that is no answer of a libSQL server.
fn ends_early(why: &str) -> bool {
    why.starts_with("EOF while parsing") && !why.ends_with("column 0")
}

/// Takes apart `status=401 Unauthorized, body=…`.
fn parse_status(text: &str) -> Option<Failure> {
    let (status, body) = text.strip_prefix("status=")?.split_once(", body=")?;
    let status = status.split(' ').next()?.parse().ok()?;
    Some(Failure::Status { status, said: Said::from_body(body) })
}

/// Takes apart `Error { message: "…", code: "…" }`, as Rust's `Debug` prints it.
fn parse_debug(text: &str) -> Said {
    let parts = text
        .strip_prefix("Error { message: \"")
        .and_then(|rest| rest.strip_suffix("\" }"))
        .and_then(|rest| rest.rsplit_once("\", code: \""));
    match parts {
        Some((message, code)) => Said::new(&message.replace("\\\"", "\""), Some(code)),
        None => Said::new(text, None),
    }
}

/// The error for an HTTP status other than 200.
fn status_error(status: u16, said: Option<Said>, url: &str) -> Error {
    let because = said.as_ref().map(|said| format!(": {}", said.message)).unwrap_or_default();
    let speaks_hrana = said.is_some();
    let unavailable = || Error::unavailable(format!("{url} answers HTTP {status}{because}"));
    match status {
        401 => {
            return Error::refused(format!("{url} refuses the token (HTTP 401){because}"))
                .with_code("HTTP_401")
                .with_hint("create a new one with: turso db tokens create NAME");
        }
        403 => {
            return Error::refused(format!("{url} forbids this to the token (HTTP 403){because}"))
                .with_code("HTTP_403")
                .with_hint("use a token of this very database that may read and write");
        }
        413 => {
            let message = format!("{url} finds the request too large (HTTP 413){because}");
            return Error::new(Kind::TooLarge, message)
                .with_code(REQUEST_TOO_LARGE)
                .with_hint("raise the limit of the server, or of a proxy before it, on requests");
        }
        429 => return unavailable().with_hint("the remote asks for fewer requests: it passes"),
        _ => {}
    }
    // A server that says what is wrong is believed; but a 5xx is never a statement's fault.
    if let Some(said) = said {
        let told = status == 400 || (status > 400 && said.kind() != Kind::Rejected);
        if told {
            return Failure::Statement(said).into_error(url);
        }
    }
    match status {
        // No libSQL server knows too little to answer a POST.
        501 => foreign(url, "HTTP 501"),
        408 | 425 | 500.. => unavailable().with_hint("the remote has a fault: it passes"),
        300..=399 => Error::refused(format!("{url} sends elsewhere (HTTP {status})"))
            .with_hint("use the address that the browser shows after opening the URL"),
        404 if speaks_hrana => Error::refused(format!("{url} has no such database{because}"))
            .with_hint("check the name in the URL; the database may have been deleted"),
        _ => foreign(url, &format!("HTTP {status}")),
    }
}

/// The error for an answer that no libSQL server gives.
fn foreign(url: &str, what: &str) -> Error {
    Error::refused(format!("{url} does not answer like a libSQL server: {what}")).with_hint(
        "check the URL: it must be the database's own, not a web page's; where a network has a \
             login page, log in",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "libsql://gym.turso.io";

    #[track_caller]
    fn check(text: &str, kind: Kind, code: Option<&str>, says: &str) {
        let error = Failure::parse(text).into_error(URL);
        assert_eq!((error.kind(), error.code()), (kind, code), "{text}: {error:?}");
        assert!(error.message().contains(URL), "{text}: {error:?}");
        assert!(format!("{error:?}").contains(says), "{text}: {error:?}");
    }

    #[test]
    fn credentials_that_do_not_suffice_are_refused() {
        check(
            "api error: `status=401 Unauthorized, body={\"error\":\"Unauthorized: `The JWT is \
               invalid`\"}`",
            Kind::Refused,
            Some("HTTP_401"),
            "The JWT is invalid",
        );
        let text = "api error: `status=403 Forbidden, body=`";
        check(text, Kind::Refused, Some("HTTP_403"), "read and write");
        check(
            "api error: `SQLite error: attempt to write a readonly database`",
            Kind::Refused,
            Some("SQLITE_READONLY"),
            "may write",
        );
        check(
            "api error: `Operation was blocked: SQL write operations are forbidden (writes are \
               blocked, do you need to upgrade your plan?)`",
            Kind::Refused,
            Some("BLOCKED"),
            "plan",
        );
        check(
            "stream error: `Error { message: \"Operation was blocked: SQL write operations are \
               forbidden\", code: \"BLOCKED\" }`",
            Kind::Refused,
            Some("BLOCKED"),
            "plan",
        );
        check(
            "api error: `status=500 Internal Server Error, body={\"error\":\"Not authorized\"}`",
            Kind::Refused,
            Some("SQLITE_AUTH"),
            "may write",
        );
    }

    #[test]
    fn a_statement_that_fails_is_rejected_with_its_code() {
        check(
            "api error: `SQLite error: UNIQUE constraint failed: members.email`",
            Kind::Rejected,
            Some("SQLITE_CONSTRAINT"),
            ": UNIQUE constraint failed: members.email",
        );
        check(
            "api error: `SQLite error: CHECK constraint failed: not authorized`",
            Kind::Rejected,
            Some("SQLITE_CONSTRAINT"),
            "CHECK",
        );
        check(
            "api error: `SQL input error: no such table: t (at offset 14)`",
            Kind::Rejected,
            Some("SQL_INPUT_ERROR"),
            "no such table: t",
        );
        check(
            "api error: `SQLite error: members cannot be deleted`",
            Kind::Rejected,
            None,
            "members cannot be deleted",
        );
        check(
            "api error: `SQLite error: the desk is not authorized: Operation was blocked`",
            Kind::Rejected,
            None,
            "the desk",
        );
        check(
            "stream error: `Error { message: \"near \\\"x\\\": syntax error\", code: \
               \"SQL_PARSE_ERROR\" }`",
            Kind::Rejected,
            Some("SQL_PARSE_ERROR"),
            "near \"x\": syntax error",
        );
        check(
            "api error: `status=400 Bad Request, body={\"message\":\"bad\",\"code\":\"X\"}`",
            Kind::Rejected,
            Some("X"),
            "bad",
        );
    }

    #[test]
    fn what_passes_is_unavailable() {
        for text in [
            "api error: `status=500 Internal Server Error, body=<html>oops</html>`",
            "api error: `status=503 Service Unavailable, body=`",
            "api error: `status=408 Request Timeout, body=`",
            "http error: `connection closed before message completed`",
            "http error: `connection error: Connection reset by peer (os error 104)`",
        ] {
            check(text, Kind::Unavailable, None, "");
        }
        check(
            "api error: `status=429 Too Many Requests, body=slow down`",
            Kind::Unavailable,
            None,
            "fewer requests",
        );
        check(
            "api error: `SQLite error: database is locked`",
            Kind::Unavailable,
            Some("SQLITE_BUSY"),
            "locked",
        );
        check(
            "api error: `status=400 Bad Request, body={\"message\":\"The stream has expired due \
               to inactivity\",\"code\":\"STREAM_EXPIRED\"}`",
            Kind::Unavailable,
            Some("STREAM_EXPIRED"),
            "expired",
        );
        check(
            "stream error: `Error { message: \"Transaction timed out\", code: \
               \"TRANSACTION_TIMEOUT\" }`",
            Kind::Unavailable,
            Some("TRANSACTION_TIMEOUT"),
            "",
        );
    }

    #[test]
    fn f71_an_answer_that_is_cut_off_is_asked_for_again() {
        for text in [
            "json error: `EOF while parsing a string at line 1 column 812`",
            "json error: `EOF while parsing an object at line 1 column 1`",
            "http error: `error reading a body from connection: end of file before message length \
             reached`",
        ] {
            check(text, Kind::Unavailable, None, "was cut off");
        }
        // Nothing at all has not begun.
        let empty = "json error: `EOF while parsing a value at line 1 column 0`";
        check(empty, Kind::Refused, None, "does not answer like a libSQL server");
    }

    #[test]
    fn what_is_no_libsql_server_is_said_to_be_none() {
        for text in [
            "json error: `expected value at line 1 column 1`",
            "unexpected response: `Unexpected empty response from server: []`",
            "http error: `invalid HTTP version parsed`",
            "api error: `status=404 Not Found, body=<html></html>`",
            "api error: `status=405 Method Not Allowed, body=`",
        ] {
            check(text, Kind::Refused, None, "does not answer like a libSQL server");
        }
        check("api error: `status=301 Moved Permanently, body=`", Kind::Refused, None, "elsewhere");
        check(
            "api error: `status=404 Not Found, body={\"error\":\"Namespace `x` doesn't exist\"}`",
            Kind::Refused,
            None,
            "has no such database",
        );
    }

    #[test]
    fn too_large_is_told_apart() {
        let text = "api error: `status=413 Payload Too Large, body=`";
        check(text, Kind::TooLarge, Some(REQUEST_TOO_LARGE), "the request too large (HTTP 413)");
        check("api error: `Response is too large`", Kind::TooLarge, Some("RESPONSE_TOO_LARGE"), "");
        check(
            "api error: `SQLite error: string or blob too big`",
            Kind::TooLarge,
            Some("SQLITE_TOOBIG"),
            "",
        );
    }

    #[test]
    fn a_long_message_is_cut() {
        let text = format!("api error: `SQLite error: {}`", "ü".repeat(5_000));
        let error = Failure::parse(&text).into_error(URL);
        assert!(error.message().chars().count() < LONGEST_MESSAGE + 100);
    }
}
