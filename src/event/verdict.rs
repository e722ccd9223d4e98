//! The remote's verdict on an event.

use std::fmt;

use crate::error::{Code, Error, Result};

/// What the remote decided about an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is in the remote's tables.
    Applied,
    /// It lost to another writer. The reason is `conflict`, `pair` (the other half of the key
    /// change lost) or `via` (the event that caused it lost).
    Superseded(String),
    /// It broke a constraint: `unique`, `foreign`, `children`, `exists`, `missing`, `refused` or
    /// the message of the server. Or it is `too large`, `key is not UTF-8` or
    /// `key is too large`.
    Rejected(String),
}

/// The reason for rejecting an event that does not fit into a request, even alone. The log has it
/// without its values. Only its writer has these.
pub const TOO_LARGE: &str = "too large";

/// The reason for rejecting an event whose key has text that is not UTF-8. No other replica could
/// find the row: the remote's own capture writes such text unchanged, and JSON has no form for it.
pub const KEY_NOT_UTF8: &str = "key is not UTF-8";

/// The reason for rejecting an event whose key is larger than
/// [`MAX_KEY_BYTES`](super::page::MAX_KEY_BYTES).
pub const KEY_TOO_LARGE: &str = "key is too large";

impl Verdict {
    /// Reads the remote log's two columns.
    ///
    /// # Errors
    ///
    /// `Corrupt` when `word` is not a verdict.
    #[doc(hidden)]
    pub fn parse(word: &str, reason: Option<&str>) -> Result<Self> {
        let reason = || reason.unwrap_or_default().to_owned();
        match word {
            "applied" => Ok(Verdict::Applied),
            "superseded" => Ok(Verdict::Superseded(reason())),
            "rejected" => Ok(Verdict::Rejected(reason())),
            _ => {
                Err(Error::new(Code::EventInvalid, "this version does not know an event's verdict"))
            }
        }
    }

    /// The verdict's name in the remote log.
    pub fn as_str(&self) -> &'static str {
        match self {
            Verdict::Applied => "applied",
            Verdict::Superseded(_) => "superseded",
            Verdict::Rejected(_) => "rejected",
        }
    }

    /// Why it was not applied.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Verdict::Applied => None,
            Verdict::Superseded(reason) | Verdict::Rejected(reason) => Some(reason),
        }
    }

    /// Whether the event is in the tables.
    pub fn is_applied(&self) -> bool {
        *self == Verdict::Applied
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            Some(reason) if !reason.is_empty() => f.pad(&format!("{}: {reason}", self.as_str())),
            _ => f.pad(self.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_read_from_the_words_it_is_written_in() {
        let all = [
            (Verdict::Applied, None, "applied"),
            (Verdict::Superseded("pair".to_owned()), Some("pair"), "superseded: pair"),
            (Verdict::Rejected("unique".to_owned()), Some("unique"), "rejected: unique"),
        ];
        for (verdict, reason, shown) in all {
            assert_eq!(Verdict::parse(verdict.as_str(), reason).unwrap(), verdict);
            assert_eq!(verdict.reason(), reason);
            assert_eq!(verdict.is_applied(), reason.is_none());
            assert_eq!(verdict.to_string(), shown);
        }
        assert_eq!(Verdict::parse("rejected", None).unwrap().to_string(), "rejected");
        assert_eq!(format!("{:>9}|", Verdict::Applied), "  applied|");
        assert!(Verdict::parse("lost", None).is_err());
    }
}
