//! The rows of an answer in columns, printed as they come.

use super::event::value;
use super::{Output, Tone, clean};
use crate::error::Result;
use crate::event::Image;
use crate::event::value::Value;
use crate::inspect::AnswerRow;

/// Rows by whose widths the columns are laid out.
const SAMPLE: usize = 100;
/// The most characters of a value.
const VALUE_CHARS: usize = 60;

/// Prints an answer.
pub(crate) struct Grid<'a> {
    output: &'a Output,
    names: Vec<String>,
    widths: Vec<usize>,
    sample: Vec<Vec<Value>>,
    rows: u64,
}

impl<'a> Grid<'a> {
    /// An answer whose columns have these names.
    pub(crate) fn new(output: &'a Output, names: &[&str]) -> Self {
        let names: Vec<_> = names.iter().map(|name| clean(name, VALUE_CHARS)).collect();
        let widths = names.iter().map(|name| name.chars().count()).collect();
        Grid { output, names, widths, sample: Vec::new(), rows: 0 }
    }

    /// Takes a row.
    pub(crate) fn row(&mut self, row: Vec<Value>) -> Result<()> {
        self.rows += 1;
        if self.output.is_json() {
            let image = Image(self.names.iter().cloned().zip(row).collect());
            return self.output.json(&AnswerRow { row: Some(&image) });
        }
        if self.rows <= SAMPLE as u64 {
            for (width, cell) in self.widths.iter_mut().zip(&row) {
                *width = (*width).max(value(cell, VALUE_CHARS).chars().count());
            }
            self.sample.push(row);
            if self.rows == SAMPLE as u64 {
                self.flush()?;
            }
            return Ok(());
        }
        self.print(&row)
    }

    fn flush(&mut self) -> Result<()> {
        let names: Vec<_> = self.names.iter().map(String::as_str).collect();
        self.output.row(Tone::Strong, &self.line(names.iter().map(ToString::to_string)))?;
        std::mem::take(&mut self.sample).iter().try_for_each(|row| self.print(row))
    }

    fn print(&self, row: &[Value]) -> Result<()> {
        self.output.row(Tone::Plain, &self.line(row.iter().map(|cell| value(cell, VALUE_CHARS))))
    }

    fn line(&self, cells: impl Iterator<Item = String>) -> String {
        let cells = cells.zip(&self.widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ")
    }

    /// Prints what is left, and gives how many rows there were.
    pub(crate) fn finish(mut self) -> Result<u64> {
        if !self.output.is_json() && self.rows < SAMPLE as u64 {
            self.flush()?;
        }
        Ok(self.rows)
    }
}
