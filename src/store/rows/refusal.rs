//! What SQLite's refusals mean.

use rusqlite::ErrorCode;

/// Whether a statement could not even be made: a trigger of the application calls a function that
/// this program does not have, or writes a table that is gone; or an index has a collation that it
/// does not have, for which SQLite has an extended code of its own.
pub(in crate::store) fn is_uncompiled(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqlInputError { .. })
        || error.sqlite_error().is_some_and(|error| error.extended_code & 0xff == 1)
}

/// The longest piece of a remote's text in a reason, in bytes.
const MAX_NAME: usize = 200;

pub(in crate::store) fn shorten(text: &str) -> &str {
    let end = (0..=MAX_NAME.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// Whether a write failed because of what is in it, and not because of the disk or a lock.
pub(in crate::store) fn is_refusal(error: &rusqlite::Error) -> bool {
    let codes = [ErrorCode::ConstraintViolation, ErrorCode::TypeMismatch, ErrorCode::TooBig];
    error.sqlite_error_code().is_some_and(|code| codes.contains(&code))
}

/// Whether a write failed because another row has what it wants: that may change when more events
/// are applied with it.
pub(in crate::store) fn is_unique_violation(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{
        SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_ROWID, SQLITE_CONSTRAINT_UNIQUE,
    };
    let taken = [SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_ROWID, SQLITE_CONSTRAINT_UNIQUE];
    extended_code(error).is_some_and(|code| taken.contains(&code))
}

/// What SQLite says of a statement that it cannot compile, without the statement.
pub(in crate::store) fn message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    }
}

/// The extended result code of an error of SQLite's.
pub(in crate::store) fn extended_code(error: &rusqlite::Error) -> Option<i32> {
    error.sqlite_error().map(|error| error.extended_code)
}
