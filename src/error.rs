//! What can go wrong, sorted by what the caller must do about it.
//!
//! There is one [`Error`]. Its [`Kind`] says what to do: try again, stop and ask a person, mend the
//! call. A conflict that was lost is not an error: it is a value, a
//! [`Verdict`](crate::verdict::Verdict).

use std::error::Error as StdError;
use std::fmt;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The code of an error that says that another program has the local database locked.
pub(crate) const LOCKED: &str = "SQLITE_BUSY";

/// What the caller must do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The call was wrong: a table that does not exist, a flag that makes no sense. Mend the call.
    Usage,
    /// The remote cannot be reached, or is overloaded. Try again later; nothing is lost.
    Unavailable,
    /// The remote refuses us: credentials, a newer schema, another database. Stop, and tell a
    /// person.
    Refused,
    /// The remote answered, but refused this very request because of what is in it (a constraint, a
    /// trigger, SQL that it does not know). Repeating it unchanged is of no use.
    Rejected,
    /// The answer, or the request, was too large for the remote. Ask for less.
    TooLarge,
    /// Bytes that should be ours are not what we wrote: a damaged frame, nonsense from a remote.
    Corrupt,
    /// The local database or disk failed: locked for long, full, read-only, not a database.
    Storage,
}

impl Kind {
    /// The word for it, as `--json` prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Usage => "usage",
            Kind::Unavailable => "unavailable",
            Kind::Refused => "refused",
            Kind::Rejected => "rejected",
            Kind::TooLarge => "too_large",
            Kind::Corrupt => "corrupt",
            Kind::Storage => "storage",
        }
    }
}

/// An error: what happened, what to do about it, and its source.
///
/// `Display` prints one line without the source; [`Error::hint`] gives the advice separately, so
/// that a user interface can place it as it likes. Neither ever holds a token or a row's values.
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
    code: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), hint: None, code: None, source: None }
    }

    /// [`Kind::Usage`].
    pub fn usage(message: impl Into<String>) -> Self {
        Error::new(Kind::Usage, message)
    }

    /// [`Kind::Unavailable`].
    pub fn unavailable(message: impl Into<String>) -> Self {
        Error::new(Kind::Unavailable, message)
    }

    /// [`Kind::Refused`].
    pub fn refused(message: impl Into<String>) -> Self {
        Error::new(Kind::Refused, message)
    }

    /// [`Kind::Corrupt`].
    pub fn corrupt(message: impl Into<String>) -> Self {
        Error::new(Kind::Corrupt, message)
    }

    /// [`Kind::Storage`].
    pub fn storage(message: impl Into<String>) -> Self {
        Error::new(Kind::Storage, message)
    }

    /// The same error with advice for a person: what to do, in a sentence.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error with the code that the remote gave it, such as `SQLITE_CONSTRAINT`.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// The same error with the error that caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the caller must do.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What happened, in a sentence without a full stop.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether another program has the local database locked: it may be free a moment later.
    pub(crate) fn is_locked(&self) -> bool {
        self.kind == Kind::Storage && self.code() == Some(LOCKED)
    }

    /// The remote's own code for it (`SQLITE_CONSTRAINT`, `SQL_PARSE_ERROR`, `BLOCKED`), where it
    /// gave one or its message leaves no doubt.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        // A message often ends in what caused it; that is said once.
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
