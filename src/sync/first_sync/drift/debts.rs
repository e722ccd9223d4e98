//! The data that the remote lacks: ranges of the log that capture may have missed, and columns.

use crate::error::{Code, Error, Result};
use crate::event::Seq;
use crate::event::value::Value;
use crate::protocol::Statement;
use crate::protocol::meta::NOW_MS;
use crate::protocol::remote_tables::Gap;
use crate::remote::Rows;

/// Records a gap, in the transaction that completes capture.
pub(in crate::sync) fn note(gap: &Gap) -> Statement {
    let sql = format!(
        "INSERT INTO driftless_gaps (tbl, since, noticed) VALUES (?, ?, {NOW_MS}) \
         ON CONFLICT (tbl) DO UPDATE SET since = min(since, excluded.since)"
    );
    Statement::new(sql, [gap.table.as_str().into(), gap.since.0.into()])
}

/// Reads the rows of [`GAPS`](crate::protocol::statements::GAPS).
pub(in crate::sync) fn read_gaps(rows: &Rows) -> Result<Vec<Gap>> {
    let read = |row: &Vec<Value>| match row.as_slice() {
        [n, table, since] => Some(Gap {
            n: n.as_integer()?,
            table: table.as_str()?.to_owned(),
            since: Seq(since.as_integer()?),
        }),
        _ => None,
    };
    let all: Option<Vec<_>> = rows.iter().map(read).collect();
    all.ok_or_else(|| Error::new(Code::AnswerInvalid, "the remote's list of gaps is not one"))
}

/// A column that events name and the remote's table lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sync) struct Owed {
    /// The table.
    table: String,
    /// The column.
    column: String,
    /// The first event that has named it; `None` if there is none yet.
    since: Option<Seq>,
}

impl Owed {
    /// A column of a table that no event has named yet.
    pub(in crate::sync) fn new(table: String, column: String) -> Owed {
        Owed { table, column, since: None }
    }

    /// Whether it is the same column of the same table.
    pub(in crate::sync) fn is_same(&self, other: &Owed) -> bool {
        self.table.eq_ignore_ascii_case(&other.table)
            && self.column.eq_ignore_ascii_case(&other.column)
    }

    /// The table.
    pub(in crate::sync) fn table(&self) -> &str {
        &self.table
    }

    /// The column.
    pub(in crate::sync) fn column(&self) -> &str {
        &self.column
    }

    /// The first event that has named it; `None` if there is none yet.
    pub(in crate::sync) fn since(&self) -> Option<Seq> {
        self.since
    }
}

/// Reads the rows of [`OWED`](crate::protocol::statements::OWED).
pub(in crate::sync) fn read_owed(rows: &Rows) -> Result<Vec<Owed>> {
    let read = |row: &Vec<Value>| match row.as_slice() {
        [table, column, since] => Some(Owed {
            table: table.as_str()?.to_owned(),
            column: column.as_str()?.to_owned(),
            since: Some(Seq(since.as_integer()?)),
        }),
        _ => None,
    };
    let all: Option<Vec<_>> = rows.iter().map(read).collect();
    all.ok_or_else(|| Error::new(Code::AnswerInvalid, "the remote's list of debts is not one"))
}
