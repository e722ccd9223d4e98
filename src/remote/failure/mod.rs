//! Classifies the failures of a remote.
//!
//! The `libsql` crate gives an error as text: its own error types are private. [`Failure::parse`]
//! parses that text, and [`Failure::into_error`] gives it a [`Code`]. [`said`] has the sentences of
//! servers. This folder does not use the crate's types, so each sentence can be tested.
//!
//! # Caveats
//!
//! * The crate drops the code of a statement that failed in a batch and keeps its message. The code
//!   of SQLite's and libSQL server's own messages is restored here; a trigger's RAISE has none.

mod said;

pub(super) use self::said::Said;
pub(crate) use self::said::missing_table_of;
#[cfg(any(test, feature = "internals"))]
pub use self::said::rejected;
use self::said::{BODY_ENDED, INVALID_HTTP, ends_early};
use crate::error::{Code, Error, Kind};

/// The failure of a request.
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
    /// An answer whose head was valid and that ended too early.
    CutOff(String),
    /// The request did not get through, or nothing came back.
    Transport(String),
}

impl Failure {
    /// Parses the text of a Hrana error of the `libsql` crate.
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
            // hyper's message for bytes that are not HTTP.
            Some(inner) if inner.starts_with(INVALID_HTTP) => Failure::Foreign,
            Some(inner) if inner.starts_with(BODY_ENDED) => Failure::CutOff(inner.to_owned()),
            Some(inner) => Failure::Transport(inner.to_owned()),
            None => Failure::Transport(text.to_owned()),
        }
    }

    /// The error for the caller; `url` is named in it.
    pub(super) fn into_error(self, url: &str) -> Error {
        match self {
            Failure::Statement(said) => {
                let what = match said.error_code().kind() {
                    Kind::Unavailable => format!("{url} is not ready"),
                    Kind::Refused => format!("{url} refuses to run it"),
                    Kind::TooLarge => format!("{url} finds it too large"),
                    _ => format!("{url} rejects a statement"),
                };
                said.into_error(&what)
            }
            Failure::Status { status, said } => status_error(status, said, url),
            Failure::Foreign => foreign(url, "what comes back is not Hrana"),
            Failure::CutOff(why) => {
                let message = format!("the answer of {url} was cut off: {why}");
                Error::new(Code::AnswerCutOff, message).with_hint(
                    "it is requested again; if this persists, check the network, and any proxy, \
                     between here and the remote",
                )
            }
            Failure::Transport(why) => {
                let message = format!("the connection to {url} broke: {why}");
                Error::new(Code::RemoteUnreachable, message)
                    .with_hint("check that this machine is online")
            }
        }
    }
}

/// Parses `status=401 Unauthorized, body=…`.
fn parse_status(text: &str) -> Option<Failure> {
    let (status, body) = text.strip_prefix("status=")?.split_once(", body=")?;
    let status = status.split(' ').next()?.parse().ok()?;
    Some(Failure::Status { status, said: Said::from_body(body) })
}

/// Parses `Error { message: "…", code: "…" }`, as Rust's `Debug` prints it.
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
    let because = said.as_ref().map(|said| format!(": {}", said.message())).unwrap_or_default();
    let speaks_hrana = said.is_some();
    let busy = |hint: &str| {
        let message = format!("{url} answers HTTP {status}{because}");
        Error::new(Code::RemoteBusy, message).with_hint(hint)
    };
    match status {
        401 => {
            let message = format!("{url} refuses the token (HTTP 401){because}");
            return Error::new(Code::TokenRefused, message);
        }
        403 => {
            let message = format!("{url} forbids this to the token (HTTP 403){because}");
            return Error::new(Code::TokenForbidden, message);
        }
        413 => {
            let message = format!("{url} finds the request too large (HTTP 413){because}");
            return Error::new(Code::RequestTooLarge, message);
        }
        429 => return busy("the remote asks for fewer requests; they are tried again later"),
        _ => {}
    }
    // Trust the server's reason, but a 5xx is never a statement's fault.
    if let Some(said) = said {
        let told = status == 400 || (status > 400 && said.error_code().kind() != Kind::Rejected);
        if told {
            return Failure::Statement(said).into_error(url);
        }
    }
    match status {
        // A libSQL server answers a POST.
        501 => foreign(url, "HTTP 501"),
        408 | 425 | 500.. => busy(
            "the remote has an internal error; the request is tried again \
            later",
        ),
        300..=399 => Error::new(
            Code::RemoteMoved,
            format!(
                "{url} redirects to another address (HTTP \
                {status})"
            ),
        )
        .with_hint("use the address that the browser shows after opening the URL"),
        404 if speaks_hrana => {
            Error::new(Code::NoSuchDatabase, format!("{url} has no such database{because}"))
                .with_hint("check the name in the URL; the database may have been deleted")
        }
        _ => foreign(url, &format!("HTTP {status}")),
    }
}

/// The error for an answer that no libSQL server gives.
fn foreign(url: &str, what: &str) -> Error {
    let message = format!("{url} does not answer like a libSQL server: {what}");
    Error::new(Code::NotLibsql, message).with_hint(
        "check the URL: it must be the database's own, not a web page's; where a network has a \
             login page, log in",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "libsql://gym.turso.io";

    /// The error for the client's `text` has this code, the remote's code, and names the remote;
    /// `says` is what of the server's own words is in its message.
    #[track_caller]
    fn check(text: &str, code: Code, remote_code: Option<&str>, says: &str) {
        let error = Failure::parse(text).into_error(URL);
        assert_eq!((error.code(), error.remote_code()), (code, remote_code), "{text}: {error:?}");
        assert!(error.message().contains(URL), "{text}: {error:?}");
        assert!(error.message().contains(says), "{text}: {error:?}");
    }

    #[test]
    fn credentials_that_do_not_suffice_are_refused() {
        check(
            "api error: `status=401 Unauthorized, body={\"error\":\"Unauthorized: `The JWT is \
               invalid`\"}`",
            Code::TokenRefused,
            None,
            "The JWT is invalid",
        );
        let text = "api error: `status=403 Forbidden, body=`";
        check(text, Code::TokenForbidden, None, "");
        check(
            "api error: `SQLite error: attempt to write a readonly database`",
            Code::RemoteReadOnly,
            Some("SQLITE_READONLY"),
            "attempt to write a readonly database",
        );
        check(
            "api error: `Operation was blocked: SQL write operations are forbidden (writes are \
               blocked, do you need to upgrade your plan?)`",
            Code::RemoteBlocked,
            Some("BLOCKED"),
            "SQL write operations are forbidden",
        );
        check(
            "stream error: `Error { message: \"Operation was blocked: SQL write operations are \
               forbidden\", code: \"BLOCKED\" }`",
            Code::RemoteBlocked,
            Some("BLOCKED"),
            "SQL write operations are forbidden",
        );
        check(
            "api error: `status=500 Internal Server Error, body={\"error\":\"Not authorized\"}`",
            Code::RemoteReadOnly,
            Some("SQLITE_AUTH"),
            "Not authorized",
        );
    }

    #[test]
    fn a_statement_that_fails_is_rejected_with_its_code() {
        check(
            "api error: `SQLite error: UNIQUE constraint failed: members.email`",
            Code::ConstraintFailed,
            Some("SQLITE_CONSTRAINT"),
            ": UNIQUE constraint failed: members.email",
        );
        check(
            "api error: `SQLite error: CHECK constraint failed: not authorized`",
            Code::ConstraintFailed,
            Some("SQLITE_CONSTRAINT"),
            "CHECK",
        );
        check(
            "api error: `SQL input error: no such table: t (at offset 14)`",
            Code::StatementTableMissing,
            Some("SQL_INPUT_ERROR"),
            "no such table: t",
        );
        check(
            "api error: `SQLite error: members cannot be deleted`",
            Code::Rejected,
            None,
            "members cannot be deleted",
        );
        check(
            "api error: `SQLite error: the desk is not authorized: Operation was blocked`",
            Code::Rejected,
            None,
            "the desk",
        );
        check(
            "stream error: `Error { message: \"near \\\"x\\\": syntax error\", code: \
               \"SQL_PARSE_ERROR\" }`",
            Code::SqlInvalid,
            Some("SQL_PARSE_ERROR"),
            "near \"x\": syntax error",
        );
        check(
            "api error: `status=400 Bad Request, body={\"message\":\"bad\",\"code\":\"X\"}`",
            Code::Rejected,
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
        ] {
            check(text, Code::RemoteBusy, None, "");
        }
        for text in [
            "http error: `connection closed before message completed`",
            "http error: `connection error: Connection reset by peer (os error 104)`",
        ] {
            check(text, Code::RemoteUnreachable, None, "");
        }
        check(
            "api error: `status=429 Too Many Requests, body=slow down`",
            Code::RemoteBusy,
            None,
            "",
        );
        check(
            "api error: `SQLite error: database is locked`",
            Code::RemoteBusy,
            Some("SQLITE_BUSY"),
            "locked",
        );
        check(
            "api error: `status=400 Bad Request, body={\"message\":\"The stream has expired due \
               to inactivity\",\"code\":\"STREAM_EXPIRED\"}`",
            Code::RemoteBusy,
            Some("STREAM_EXPIRED"),
            "expired",
        );
        check(
            "stream error: `Error { message: \"Transaction timed out\", code: \
               \"TRANSACTION_TIMEOUT\" }`",
            Code::RemoteBusy,
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
            check(text, Code::AnswerCutOff, None, "");
        }
        // Nothing at all has not begun.
        let empty = "json error: `EOF while parsing a value at line 1 column 0`";
        check(empty, Code::NotLibsql, None, "");
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
            check(text, Code::NotLibsql, None, "");
        }
        check("api error: `status=301 Moved Permanently, body=`", Code::RemoteMoved, None, "");
        check(
            "api error: `status=404 Not Found, body={\"error\":\"Namespace `x` doesn't exist\"}`",
            Code::NoSuchDatabase,
            None,
            "Namespace",
        );
    }

    #[test]
    fn too_large_is_told_apart() {
        let text = "api error: `status=413 Payload Too Large, body=`";
        check(text, Code::RequestTooLarge, None, "");
        check(
            "api error: `Response is too large`",
            Code::AnswerTooLarge,
            Some("RESPONSE_TOO_LARGE"),
            "",
        );
        check(
            "api error: `SQLite error: string or blob too big`",
            Code::TooLarge,
            Some("SQLITE_TOOBIG"),
            "",
        );
    }

    #[test]
    fn a_long_message_is_cut() {
        let text = format!("api error: `SQLite error: {}`", "ü".repeat(5_000));
        let error = Failure::parse(&text).into_error(URL);
        assert!(error.message().chars().count() < 400);
    }
}
