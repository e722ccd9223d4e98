//! A row of the remote, undone to a cursor, and the row that is expected on a replica.

use std::collections::HashMap;

use crate::error::Result;
use crate::event::page::Line;
use crate::event::{Image, Op, RowKey};

/// A pending event that is applied to its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingChange {
    /// What it does.
    pub op: Op,
    /// Its new values: the columns that changed, or all for an insert.
    pub after: Option<Image>,
}

/// An expected local row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// This row; `None` for no row.
    Row(Option<Image>),
    /// Unknown: an event of the row came without its old values.
    Unknown,
}

/// The events of the log after a cursor, by their rows.
#[derive(Debug, Default)]
pub(super) struct Since<'a> {
    lines: HashMap<(String, &'a str), Vec<&'a Line<'a>>>,
    /// Whether some of the events are missing.
    is_cut: bool,
}

impl<'a> Since<'a> {
    /// From the lines of the log, in its order.
    pub(super) fn new(lines: &'a [Line<'a>], is_cut: bool) -> Since<'a> {
        let mut since = Since { lines: HashMap::new(), is_cut };
        for line in lines.iter().filter(|line| line.damaged.is_none()) {
            if line.verdict.is_applied() {
                let row = (line.table.to_ascii_lowercase(), line.key);
                since.lines.entry(row).or_default().push(line);
            }
        }
        since
    }

    /// Whether events are missing.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Undoes the row's events, the newest first.
    pub(super) fn rewind(&self, table: &str, key: &RowKey, row: Option<Image>) -> Result<Expected> {
        let lines = self.lines.get(&(table.to_ascii_lowercase(), key.0.as_str()));
        let mut row = row;
        for line in lines.into_iter().flatten().rev() {
            let before = line.before.map(Image::parse).transpose()?;
            row = match (line.op, before, row) {
                (Op::Insert, _, _) => None,
                // The event was too large, so it came without its old values.
                (Op::Update | Op::Delete, None, _) => return Ok(Expected::Unknown),
                (Op::Update | Op::Delete, Some(before), _) if before.0.is_empty() => {
                    return Ok(Expected::Unknown);
                }
                (Op::Delete, before, _) => before,
                (Op::Update, Some(before), Some(mut row)) => {
                    set(&mut row, &before);
                    Some(row)
                }
                // There is no row that the event could have changed.
                (Op::Update, _, None) => None,
            };
        }
        Ok(Expected::Row(row))
    }
}

/// Applies pending events to a row, in their order.
pub(crate) fn replay(row: Option<Image>, pending: &[PendingChange]) -> Option<Image> {
    pending.iter().fold(row, |row, change| match (change.op, row) {
        (Op::Delete, _) => None,
        (Op::Insert, _) => change.after.clone(),
        (Op::Update, Some(mut row)) => {
            if let Some(after) = &change.after {
                set(&mut row, after);
            }
            Some(row)
        }
        (Op::Update, None) => None,
    })
}

/// Sets the columns of `row` that `values` has.
fn set(row: &mut Image, values: &Image) {
    for (name, value) in &values.0 {
        match row.0.iter_mut().find(|(mine, _)| mine.eq_ignore_ascii_case(name)) {
            Some((_, mine)) => *mine = value.clone(),
            None => row.0.push((name.clone(), value.clone())),
        }
    }
}
