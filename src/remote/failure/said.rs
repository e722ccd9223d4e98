//! The sentences of servers, and their codes.
//!
//! SQLite, libSQL server and hyper report many failures only in words. This is the only place that
//! matches such words; all other code uses the [`Code`] that they get here. Each sentence has its
//! source beside it. No sentence of driftless itself is ever matched.

use serde_json::Value as Json;

use crate::error::{Code, Error};

/// The most characters of a server's message that are passed on.
const LONGEST_MESSAGE: usize = 300;

/// The beginnings of messages, and the code that a server with codes gives for each. Only the
/// beginning is compared: the message of an application's trigger may contain any text.
const CODES: [(&str, &str); 23] = [
    // libSQL server: hrana/stmt.rs, StmtError.
    ("Operation was blocked", "BLOCKED"),
    ("SQL string could not be parsed", "SQL_PARSE_ERROR"),
    ("SQL input error", "SQL_INPUT_ERROR"),
    // libSQL server: hrana/stmt.rs and hrana/batch.rs.
    ("Server cannot handle additional transactions", "TRANSACTION_BUSY"),
    ("Transaction timed out", "TRANSACTION_TIMEOUT"),
    ("Response is too large", "RESPONSE_TOO_LARGE"),
    // libSQL server: hrana/http/stream.rs and hrana/mod.rs.
    ("The stream has expired", "STREAM_EXPIRED"),
    ("Received an invalid baton", "BATON_INVALID"),
    ("The baton is invalid", "BATON_INVALID"),
    // Seen from Turso's cloud; its source is not public.
    ("BLOCKED", "BLOCKED"),
    ("Not authorized", "SQLITE_AUTH"),
    ("Authorization forbidden", "SQLITE_AUTH"),
    // SQLite: main.c, sqlite3ErrStr.
    ("attempt to write a readonly database", "SQLITE_READONLY"),
    ("database is locked", "SQLITE_BUSY"),
    ("database table is locked", "SQLITE_LOCKED"),
    ("string or blob too big", "SQLITE_TOOBIG"),
    ("database or disk is full", "SQLITE_FULL"),
    ("interrupted", "SQLITE_INTERRUPT"),
    ("disk I/O error", "SQLITE_IOERR"),
    ("out of memory", "SQLITE_NOMEM"),
    ("database disk image is malformed", "SQLITE_CORRUPT"),
    // SQLite: auth.c, sqliteAuthBadReturnCode and sqlite3AuthCheck.
    ("not authorized", "SQLITE_AUTH"),
    // SQLite: prepare.c, corruptSchema.
    ("malformed database schema", "SQLITE_CORRUPT"),
];

/// SQLite: vdbe.c, OP_Halt. The kind of constraint is before it, in capitals.
const CONSTRAINT_FAILED: &str = " constraint failed";

/// SQLite: vdbe.c and vdbeaux.c, "FOREIGN KEY constraint failed". The Turso engine writes it in
/// small letters, so it is compared without case.
const FOREIGN_KEY: &str = "foreign key";

/// SQLite: build.c, sqlite3LocateTable. The name follows.
const NO_TABLE: &str = "no such table: ";

/// SQLite: resolve.c, and insert.c with trigger.c.
const NO_COLUMN: [&str; 2] = ["no such column: ", " has no column named "];

/// libSQL server, hrana/stmt.rs: the place of the error in the statement's text.
const OFFSET: &str = " (at offset";

/// The prefix of our tables' names; and a table that an earlier version did not install.
const OWN: &str = "driftless_";
const STAGED: &str = "driftless_staged";
/// Those of our tables that hold nothing between transactions. They are made anew when the
/// definitions are compared.
const SCRATCH: [&str; 7] = [
    "driftless_applying",
    "driftless_capture",
    "driftless_inbox",
    "driftless_names",
    "driftless_notes",
    "driftless_now",
    "driftless_one",
];

/// SQLite, insert.c: the column that a failed constraint names. The guard of an installation
/// violates this one if another installation has begun.
const INSTALL_TOKEN: &str = "driftless_installs.token";

/// hyper, error.rs, Kind::Parse: bytes that are not HTTP.
pub(super) const INVALID_HTTP: &str = "invalid HTTP";

/// hyper, error.rs, Kind::Body: a body that ended too early.
pub(super) const BODY_ENDED: &str = "error reading a body from connection";

/// serde_json, error.rs, ErrorCode::Eof…: JSON that ended too early.
const JSON_ENDED: &str = "EOF while parsing";

/// Whether this is serde's message for JSON that ends too early. An empty answer does not count: it
/// is not from a libSQL server.
pub(super) fn ends_early(why: &str) -> bool {
    why.starts_with(JSON_ENDED) && !why.ends_with("column 0")
}

/// The code of `message` on a server with codes.
fn code_of(message: &str) -> Option<&'static str> {
    // "UNIQUE constraint failed: …", "FOREIGN KEY constraint failed", and so on.
    let word = message.split(CONSTRAINT_FAILED).next().unwrap_or_default();
    if word.len() < message.len() && word.bytes().all(|b| b.is_ascii_uppercase() || b == b' ') {
        return Some("SQLITE_CONSTRAINT");
    }
    CODES.iter().find(|(beginning, _)| message.starts_with(beginning)).map(|(_, code)| *code)
}

/// A server's message and code for an error.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::remote) struct Said {
    message: String,
    code: Option<String>,
}

impl Said {
    /// A message with its code, or with the code of such a message.
    pub(in crate::remote) fn new(message: &str, code: Option<&str>) -> Said {
        let message = message.strip_prefix("SQLite error: ").unwrap_or(message);
        let code = code.filter(|code| !code.is_empty()).or_else(|| code_of(message));
        let message = message.chars().take(LONGEST_MESSAGE).collect();
        Said { message, code: code.map(str::to_owned) }
    }

    /// The message in the JSON body of a libSQL server, in any of its three forms.
    pub(in crate::remote) fn from_body(body: &str) -> Option<Said> {
        let json: Json = serde_json::from_str(body.trim()).ok()?;
        let error = json.get("error").filter(|error| error.is_object()).unwrap_or(&json);
        let text = |name| error.get(name).and_then(Json::as_str);
        text("message").or_else(|| text("error")).map(|message| Said::new(message, text("code")))
    }

    /// The message.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Its code.
    pub(super) fn error_code(&self) -> Code {
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
            | "PROXY_ERROR" => Code::RemoteBusy,
            code if code.contains("STREAM_") || code.contains("BATON") => Code::RemoteBusy,
            "SQLITE_READONLY" | "SQLITE_AUTH" | "SQLITE_PERM" => Code::RemoteReadOnly,
            "SQLITE_CORRUPT" | "SQLITE_NOTADB" => Code::RemoteDamaged,
            "BLOCKED" => Code::RemoteBlocked,
            code if code.starts_with("AUTH") => Code::RemoteReadOnly,
            "SQLITE_TOOBIG" => Code::TooLarge,
            "RESPONSE_TOO_LARGE" => Code::AnswerTooLarge,
            code => rejection(&self.message, code),
        }
    }

    /// The error, whose message begins with `what`.
    pub(super) fn into_error(self, what: &str) -> Error {
        let error = Error::new(self.error_code(), format!("{what}: {}", self.message));
        match self.code {
            Some(code) => error.with_remote_code(code),
            None => error,
        }
    }
}

/// The code of a failed statement, from the server's message and from its code, if it has one.
fn rejection(message: &str, code: &str) -> Code {
    if let Some((_, name)) = message.split_once(NO_TABLE) {
        // A table that a trigger lacks is named with its schema (`main.t`), also one of ours. Its
        // code makes the replica check the definitions.
        return match name {
            name if name.starts_with(STAGED) => Code::StagedTableMissing,
            name if SCRATCH.contains(&name.split(OFFSET).next().unwrap_or(name)) => {
                Code::StatementTableMissing
            }
            name if name.starts_with(OWN) => Code::OwnTableMissing,
            _ => Code::StatementTableMissing,
        };
    }
    if NO_COLUMN.iter().any(|words| message.contains(words)) {
        return Code::StatementColumnMissing;
    }
    if message.contains(INSTALL_TOKEN) {
        return Code::InstalledByAnother;
    }
    if message.to_ascii_lowercase().contains(FOREIGN_KEY) {
        return Code::ForeignKeyFailed;
    }
    match code {
        "SQLITE_CONSTRAINT" => Code::ConstraintFailed,
        "SQL_PARSE_ERROR" | "SQL_INPUT_ERROR" => Code::SqlInvalid,
        _ => Code::Rejected,
    }
}

/// The name of the table or the view that a message says is missing, without its schema.
fn name_after_no_table(message: &str) -> Option<&str> {
    let (_, name) = message.split_once(NO_TABLE)?;
    let name = name.split(OFFSET).next().unwrap_or(name).trim();
    Some(name.strip_prefix("main.").unwrap_or(name))
}

/// The name of the table or the view that a statement of this error lacks.
pub(crate) fn missing_table_of(error: &Error) -> Option<&str> {
    let told = error.code() == Code::StatementTableMissing;
    told.then(|| name_after_no_table(error.message())).flatten()
}

/// The error of a [`Remote`](crate::remote::Remote) whose database rejects a statement in these
/// words of SQLite: for implementations that do not speak HTTP.
#[cfg(any(test, feature = "internals"))]
pub fn rejected(message: &str) -> Error {
    let said = Said::new(message, None);
    let code = rejection(&said.message, said.code.as_deref().unwrap_or_default());
    Error::new(code, said.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f71_what_is_missing_is_taken_from_the_words() {
        for (message, code, name) in [
            ("no such table: main.people", Code::StatementTableMissing, Some("people")),
            ("no such table: people (at offset 14)", Code::StatementTableMissing, Some("people")),
            ("no such table: main.two words", Code::StatementTableMissing, Some("two words")),
            ("no such table: driftless_meta", Code::OwnTableMissing, None),
            ("no such table: driftless_now", Code::StatementTableMissing, Some("driftless_now")),
            ("no such table: main.driftless_x", Code::StatementTableMissing, Some("driftless_x")),
            ("no such table: driftless_staged", Code::StagedTableMissing, None),
            ("no such column: NEW.phone", Code::StatementColumnMissing, None),
            ("table people has no column named phone", Code::StatementColumnMissing, None),
            ("UNIQUE constraint failed: people.phone", Code::ConstraintFailed, None),
            (
                "NOT NULL constraint failed: driftless_installs.token",
                Code::InstalledByAnother,
                None,
            ),
            ("FOREIGN KEY constraint failed", Code::ForeignKeyFailed, None),
            ("foreign key constraint failed", Code::ForeignKeyFailed, None),
            ("a member cannot be deleted", Code::Rejected, None),
        ] {
            let error = Said::new(message, None).into_error("https://x rejects a statement");
            assert_eq!((error.code(), missing_table_of(&error)), (code, name), "{message}");
            assert_eq!(rejected(message).code(), code, "{message}");
        }
    }
}
