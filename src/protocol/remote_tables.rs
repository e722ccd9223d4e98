//! The replicated tables as the remote defines them. A push is planned with them.

use super::exchange::Rows;
use super::meta::wrong;
use crate::catalog::Table;
use crate::error::Result;
use crate::event::conflict::ConflictRule;
use crate::event::value::Value;
use crate::event::{Op, Seq};

/// Reads the number that changes with each change of the remote's schema.
pub const SCHEMA_COOKIE: &str = "SELECT schema_version FROM pragma_schema_version";

/// Reads the row of [`SCHEMA_COOKIE`].
///
/// # Errors
///
/// `Corrupt` when `rows` is not that row.
pub fn read_schema_cookie(rows: &Rows) -> Result<i64> {
    let cookie = rows.first().and_then(|row| row.first()).and_then(Value::as_integer);
    cookie.ok_or_else(|| wrong("its schema's version"))
}

/// A replicated table of the remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteTable {
    /// The remote's definition, in the case of the events.
    pub table: Table,
    /// The conflict rule.
    pub rule: ConflictRule,
    /// The ops for which the table has a trigger of the web application.
    pub triggered: Vec<Op>,
}

/// The replicated tables of a remote, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteTables {
    /// The remote's [`SCHEMA_COOKIE`] at that moment. A push that was planned for another one is
    /// not accepted.
    pub cookie: i64,
    /// Whether the web application has a trigger on any table.
    pub has_triggers: bool,
    /// The tables.
    pub tables: Vec<RemoteTable>,
    /// The tables of which capture may have missed writes.
    pub gaps: Vec<Gap>,
}

/// A table of which capture may have missed writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Its number on the remote; 0 before it is recorded there.
    pub n: i64,
    /// The table.
    pub table: String,
    /// The end of the log when capture was last known to be complete.
    pub since: Seq,
}

impl RemoteTables {
    /// A table, by its name in events.
    pub fn get(&self, name: &str) -> Option<&RemoteTable> {
        self.tables.iter().find(|there| there.table.name == name)
    }

    /// A table, by its name in any case.
    pub(crate) fn get_any_case(&self, name: &str) -> Option<&RemoteTable> {
        self.tables.iter().find(|there| there.table.name.eq_ignore_ascii_case(name))
    }

    /// The foreign keys that lead to a table, each with its child.
    pub(crate) fn children<'a>(
        &'a self,
        parent: &'a str,
    ) -> impl Iterator<Item = (&'a Table, &'a crate::catalog::ForeignKey)> {
        self.tables.iter().flat_map(move |child| {
            let keys = child.table.foreign_keys.iter();
            keys.filter(move |key| key.parent.eq_ignore_ascii_case(parent))
                .map(move |key| (&child.table, key))
        })
    }
}
