//! One SQL statement on its way to the remote: its text, and what is bound to its parameters.

use std::fmt::Display;

use crate::event::value::Value;

/// A single complete SQL statement, or a part of one.
///
/// Values are in `args`, and the text has a `?` in the place of each, in the same order. So a value
/// is never read as SQL, and the text stays the same from one request to the next. A definition has
/// no parameters.
///
/// No value is a REAL: a server may take another double than was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(unnameable_types, reason = "for our own remotes: see `Builder::with_remote`")]
pub struct Statement {
    /// The text.
    pub sql: String,
    /// What is bound to its parameters.
    pub args: Vec<Value>,
}

impl Statement {
    /// A text and what is bound to its parameters.
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

/// The text of an id, a key or an incarnation, to be bound.
pub(crate) fn text(shown: impl Display) -> Value {
    Value::Text(shown.to_string().into_bytes())
}
