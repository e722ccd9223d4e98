//! The remote's tables, read page by page in the order of their keys.
//!
//! A row that does not fit into an answer alone is read in chunks. If it changes between two
//! chunks, it is read from its beginning again.

use crate::catalog::Table;
use crate::error::{Code, Error, Result};
use crate::event::value::Value;
use crate::event::{Image, RowKey};
use crate::protocol::Statement;
use crate::protocol::statements;
use crate::protocol::statements::RowState;
use crate::remote::Rows;
use crate::sync::machine::pull::chunks::Chunks;

/// The most rows in a page of a table, also at first.
const ROWS: usize = 2_000;
/// The intended size of such a page, in bytes.
const ROWS_BYTES: usize = statements::PAGE_BYTES;
/// How many times a large row may change while it is read.
const CHANGES: u32 = 8;

/// The progress of reading the tables.
pub(in crate::sync) struct TableReader {
    tables: Vec<Table>,
    /// The table that is being read.
    index: usize,
    /// The last row of it that was read.
    after: Option<RowKey>,
    /// The number of its rows that were read.
    rows: usize,
    /// The most rows of the next page.
    limit: usize,
    /// The next row, if it is read in chunks.
    large: Option<LargeRow>,
}

/// A row that is read in chunks.
struct LargeRow {
    chunks: Chunks<RowState>,
    /// How many times it has changed meanwhile.
    changes: u32,
}

/// The result of an answer.
pub(in crate::sync) enum TablePage {
    /// A chunk of a row.
    Chunk,
    /// Rows of this table; none after its last one.
    Rows(String, Vec<(RowKey, Image)>),
}

impl TableReader {
    /// Nothing is read yet.
    pub(in crate::sync) fn new(tables: Vec<Table>) -> Self {
        TableReader { tables, index: 0, after: None, rows: 0, limit: ROWS, large: None }
    }

    /// The table that is being read, and the number of its rows that were read; `None` at the end.
    pub(in crate::sync) fn progress(&self) -> Option<(&Table, usize)> {
        self.tables.get(self.index).map(|table| (table, self.rows))
    }

    /// The next statement.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the last key that was read is not a key of its table.
    pub(in crate::sync) fn statement(&self) -> Result<Statement> {
        let (table, after) = (&self.tables[self.index], self.after.as_ref());
        match &self.large {
            Some(row) => statements::row_chunk(table, after, row.chunks.next()),
            None => statements::table_page(table, after, self.limit),
        }
    }

    /// The answer was too large: the next request is smaller. Returns false if it cannot be.
    pub(in crate::sync) fn too_large(&mut self) -> bool {
        match &mut self.large {
            Some(row) => return row.chunks.too_large(),
            None if self.limit > 1 => self.limit /= 2,
            None => self.large = Some(LargeRow { chunks: Chunks::new(), changes: 0 }),
        }
        true
    }

    /// Handles the answer to the statement.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the answer is not valid; `Unavailable` when a large row changes all the time.
    pub(in crate::sync) fn answered(&mut self, answer: &Rows) -> Result<TablePage> {
        let Some(mut row) = self.large.take() else { return self.page(answer) };
        let Some((state, size, bytes)) = statements::read_row_chunk(answer)? else {
            // The row is gone, and no row comes after it.
            return self.page(&vec![vec![Value::Null, Value::Integer(0)]]);
        };
        if row.chunks.is_of(&state, size) {
            if let Some(line) = row.chunks.came(state, size, bytes)? {
                return self.page(&vec![vec![Value::Blob(line), Value::Integer(1)]]);
            }
        } else {
            row.changes += 1;
            row.chunks.restart();
        }
        if row.changes > CHANGES {
            let table = &self.tables[self.index].name;
            let message = format!("a large row of table `{table}` changes all the time");
            return Err(Error::unavailable(message).with_hint("try again later"));
        }
        self.large = Some(row);
        Ok(TablePage::Chunk)
    }

    fn page(&mut self, answer: &Rows) -> Result<TablePage> {
        let table = self.tables[self.index].name.clone();
        let (rows, bytes) = statements::read_table_page(&table, answer)?;
        // A remote that returns the same rows again would be read for ever.
        let after = self.after.as_ref();
        let again = after.is_some_and(|after| rows.iter().any(|(key, _)| key == after));
        if again || rows.len() > self.limit {
            let message = format!("the remote's page of table `{table}` is not one");
            return Err(Error::new(Code::AnswerInvalid, message));
        }
        match rows.last() {
            None => {
                self.index += 1;
                (self.after, self.rows, self.limit) = (None, 0, ROWS);
            }
            Some((key, _)) => {
                let fitting = ROWS_BYTES / (bytes / rows.len()).max(1);
                self.limit = (self.limit + self.limit.div_ceil(4)).min(fitting).clamp(1, ROWS);
                self.after = Some(key.clone());
                self.rows += rows.len();
            }
        }
        Ok(TablePage::Rows(table, rows))
    }
}
