//! One SQL statement for the remote: its text, and the arguments for its parameters.

use std::fmt::Display;

use crate::event::value::Value;

/// A single complete SQL statement, or a part of one.
///
/// Values are in `args`. The text has a `?` for each, in the same order. So a value is never parsed
/// as SQL, and the text is the same in each request. A definition has no parameters.
///
/// No argument is a REAL, because a server may receive another double than the one that was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(unnameable_types, reason = "for our own remotes: see `Builder::with_remote`")]
pub struct Statement {
    /// The text.
    pub sql: String,
    /// The values of its parameters.
    pub args: Vec<Value>,
}

impl Statement {
    /// A text and its arguments.
    pub fn new(sql: impl Into<String>, args: impl IntoIterator<Item = Value>) -> Statement {
        Statement { sql: sql.into(), args: args.into_iter().collect() }
    }
}

impl From<String> for Statement {
    /// A statement without parameters.
    fn from(sql: String) -> Self {
        Statement { sql, args: Vec::new() }
    }
}

impl From<&str> for Statement {
    /// A statement without parameters.
    fn from(sql: &str) -> Self {
        sql.to_owned().into()
    }
}

/// The text of an id, a key or an incarnation, as an argument.
pub(crate) fn text(shown: impl Display) -> Value {
    Value::Text(shown.to_string().into_bytes())
}
