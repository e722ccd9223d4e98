//! Classifies SQLite's refusals.

use rusqlite::ErrorCode;

/// Whether a statement could not be compiled: a trigger of the application calls a function that
/// this program lacks, or writes to a table that is gone; or an index has a collation that this
/// program lacks, for which SQLite has an extended code.
pub(in crate::store) fn is_uncompiled(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqlInputError { .. })
        || error.sqlite_error().is_some_and(|error| error.extended_code & 0xff == 1)
}

/// The longest part of a remote's text in a reason, in bytes.
const MAX_NAME: usize = 200;

pub(in crate::store) fn shorten(text: &str) -> &str {
    let end = (0..=MAX_NAME.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// Whether a write failed because of its values, and not because of the disk or a lock.
pub(in crate::store) fn is_refusal(error: &rusqlite::Error) -> bool {
    let codes = [ErrorCode::ConstraintViolation, ErrorCode::TypeMismatch, ErrorCode::TooBig];
    error.sqlite_error_code().is_some_and(|code| codes.contains(&code))
}

/// Whether a write failed because another row has its UNIQUE value. This may change when more
/// events are applied.
pub(in crate::store) fn is_unique_violation(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{
        SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_ROWID, SQLITE_CONSTRAINT_UNIQUE,
    };
    let taken = [SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_ROWID, SQLITE_CONSTRAINT_UNIQUE];
    extended_code(error).is_some_and(|code| taken.contains(&code))
}

/// SQLite's message about a statement that it cannot compile, without the statement.
pub(in crate::store) fn message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    }
}

/// The extended result code of an SQLite error.
pub(in crate::store) fn extended_code(error: &rusqlite::Error) -> Option<i32> {
    error.sqlite_error().map(|error| error.extended_code)
}
