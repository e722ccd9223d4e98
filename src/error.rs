//! Errors, classified by the caller's next step.
//!
//! There is one [`Error`]. Its [`Kind`] says what to do: try again, stop and ask a person, correct
//! the call. Its [`Code`] says which failure it is, for programs. A lost conflict is not an error.
//! It is a value, a [`Verdict`](crate::event::verdict::Verdict).

mod code;

use std::error::Error as StdError;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub use self::code::{Code, Kind, UnknownCode};

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error: its code, a message, a hint for the remedy, and its source.
///
/// `Display` prints one line without the source. [`Error::hint`] returns the hint separately, so
/// that a user interface can place it as it likes. Neither ever has a token or a row's values.
/// Programs act on [`Error::code`] and [`Error::kind`], never on the message.
#[derive(Clone)]
pub struct Error {
    code: Code,
    message: String,
    hint: Option<String>,
    remote_code: Option<String>,
    names_file: bool,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// The error `code`, with `message`.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let (hint, remote_code, names_file, source) = (None, None, false, None);
        Error { code, message: message.into(), hint, remote_code, names_file, source }
    }

    /// [`Code::Usage`].
    pub fn usage(message: impl Into<String>) -> Self {
        Error::new(Code::Usage, message)
    }

    /// [`Code::Unavailable`].
    pub fn unavailable(message: impl Into<String>) -> Self {
        Error::new(Code::Unavailable, message)
    }

    /// [`Code::Refused`].
    pub fn refused(message: impl Into<String>) -> Self {
        Error::new(Code::Refused, message)
    }

    /// [`Code::Corrupt`].
    pub fn corrupt(message: impl Into<String>) -> Self {
        Error::new(Code::Corrupt, message)
    }

    /// [`Code::Storage`].
    pub fn storage(message: impl Into<String>) -> Self {
        Error::new(Code::Storage, message)
    }

    /// The same error with a hint for a person: the remedy, in a sentence.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error with the code that the remote gave it, such as `SQLITE_CONSTRAINT`.
    #[must_use]
    pub fn with_remote_code(mut self, code: impl Into<String>) -> Self {
        self.remote_code = Some(code.into());
        self
    }

    /// The same error with the error that caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// The same error with another message.
    #[must_use]
    pub(crate) fn with_message(self, message: impl Into<String>) -> Self {
        Error { message: message.into(), source: None, ..self }
    }

    /// The same error with other words. It keeps its code and its hint, and has the former words as
    /// its source.
    #[must_use]
    pub(crate) fn in_words(self, message: impl Into<String>) -> Self {
        let said = Error { message: message.into(), ..self.clone() };
        said.with_source(self)
    }

    /// The same error, whose message names the database's file.
    #[must_use]
    pub(crate) fn naming_file(self) -> Self {
        Error { names_file: true, ..self }
    }

    /// The same error, with the database's file named in its message if it is about that file and
    /// does not name it yet.
    #[must_use]
    pub(crate) fn of_file(self, path: &Path) -> Self {
        if self.names_file || !self.code.is_of_database() {
            return self;
        }
        let message = format!("{}: {}", path.display(), self.message);
        Error { names_file: true, ..self.in_words(message) }
    }

    /// The failure.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The caller's next step.
    pub fn kind(&self) -> Kind {
        self.code.kind()
    }

    /// The problem, in a sentence without a full stop.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The remedy, for a person.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref().or_else(|| self.code.hint())
    }

    /// The remote's own code (`SQLITE_CONSTRAINT`, `SQL_PARSE_ERROR`, `BLOCKED`), if it sent one or
    /// its message is unambiguous.
    pub fn remote_code(&self) -> Option<&str> {
        self.remote_code.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)?;
        if let Some(hint) = self.hint() {
            write!(f, " ({hint})")?;
        }
        // Some messages end with their cause, which is then not repeated.
        if let Some(source) = self.source.as_ref().map(ToString::to_string)
            && !self.message.contains(&source)
        {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_caused_it_is_said_once() {
        let source = || std::io::Error::other("no room");
        let error = Error::storage("it failed: no room").with_source(source());
        assert_eq!(format!("{error:?}"), "Storage: it failed: no room");
        let error = Error::storage("it failed").with_source(source()).with_hint("make room");
        assert_eq!(format!("{error:?}"), "Storage: it failed (make room): no room");
    }
}
