//! The log events behind a replica's cursor, for rows of some tables. They take a row of the remote
//! back to its state at the cursor. Pure.

use std::collections::HashMap;

use crate::error::Result;
use crate::event::page::Line;
use crate::event::value::Value;
use crate::event::{Image, Op, RowKey, Seq};
use crate::protocol::meta::{number, parameters, wrong};
use crate::protocol::{Rows, Statement};

/// The statement for the applied events of these tables after a place, at most `limit`.
pub(crate) fn changes(tables: &[&str], after: Seq, limit: usize) -> Statement {
    let sql = format!(
        "SELECT seq, tbl, pk, op, before FROM driftless_events WHERE seq > ? \
         AND verdict = 'applied' AND tbl IN ({}) ORDER BY seq LIMIT ?",
        parameters(tables.len())
    );
    let names = tables.iter().map(|name| Value::from(*name));
    let args = std::iter::once(after.0.into()).chain(names).chain([number(limit)]);
    Statement::new(sql, args)
}

/// The state of a row before the events behind the cursor.
#[derive(Clone, Debug, PartialEq)]
enum Former {
    /// It was not there.
    Absent,
    /// It was this row.
    Whole(Image),
    /// It had these values in these columns. The other columns had their present values.
    Partly(Image),
    /// It cannot be told: an event of it came without its old values, since it was too large.
    Unknown,
}

/// A row at the cursor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AtCursor {
    /// This one; `None`: no row.
    Row(Option<Image>),
    /// It cannot be told.
    Unknown,
}

/// A pending event of a row that is on the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingChange {
    /// What it does.
    pub op: Op,
    /// Its new values: the columns that changed, or all for an insert.
    pub after: Option<Image>,
}

/// The rows that events behind the cursor have changed, by table (in lower case) and key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behind(HashMap<(String, RowKey), Former>);

impl Behind {
    /// From lines of the log, in their order.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the old values of one are none.
    pub(super) fn of_lines(lines: &[Line<'_>]) -> Result<Behind> {
        let mut behind = Behind::default();
        for line in lines.iter().filter(|line| line.damaged.is_none()) {
            if line.verdict.is_applied() {
                let before = line.before.map(Image::parse).transpose()?;
                behind.add(&line.table, RowKey(line.key.to_owned()), line.op, before);
            }
        }
        Ok(behind)
    }

    /// Reads the rows of [`changes`], in their order. Returns their number and the last seq.
    ///
    /// # Errors
    ///
    /// `Corrupt` when `rows` is not a result of that statement.
    pub(crate) fn read(&mut self, rows: &Rows) -> Result<(usize, Option<Seq>)> {
        let mut last = None;
        for row in rows {
            let [
                Value::Integer(seq),
                Value::Text(table),
                Value::Text(key),
                Value::Text(op),
                before,
            ] = row.as_slice()
            else {
                return Err(wrong("an event behind the cursor"));
            };
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| wrong("a key"));
            let op = match op.as_slice() {
                b"insert" => Op::Insert,
                b"update" => Op::Update,
                b"delete" => Op::Delete,
                _ => return Err(wrong("an event's op")),
            };
            let before = before.as_bytes().map(Image::parse).transpose()?;
            self.add(&text(table)?, RowKey(text(key)?), op, before);
            last = Some(Seq(*seq));
        }
        Ok((rows.len(), last))
    }

    /// The first event of a row decides whether the row was there. For each column, the first event
    /// that has it counts.
    fn add(&mut self, table: &str, key: RowKey, op: Op, before: Option<Image>) {
        let row = (table.to_ascii_lowercase(), key);
        let former = self.0.entry(row).or_insert_with(|| match op {
            Op::Insert => Former::Absent,
            Op::Update | Op::Delete => Former::Partly(Image::default()),
        });
        let Former::Partly(known) = former else { return };
        let before = before.filter(|before| !before.0.is_empty());
        let Some(before) = before else {
            if op != Op::Insert {
                *former = Former::Unknown;
            }
            return;
        };
        for (name, value) in before.0 {
            if !known.0.iter().any(|(mine, _)| mine.eq_ignore_ascii_case(&name)) {
                known.0.push((name, value));
            }
        }
        if op == Op::Delete {
            *former = Former::Whole(std::mem::take(known));
        }
    }

    /// Not all events of a row are here.
    pub(super) fn lacks_events(&mut self, table: &str, key: &RowKey) {
        self.0.insert((table.to_ascii_lowercase(), key.clone()), Former::Unknown);
    }

    /// The row at the cursor, if it is `there` now.
    pub(crate) fn at_cursor(&self, table: &str, key: &RowKey, there: Option<Image>) -> AtCursor {
        AtCursor::Row(match self.0.get(&(table.to_ascii_lowercase(), key.clone())) {
            None => there,
            Some(Former::Absent) => None,
            Some(Former::Whole(image)) => Some(image.clone()),
            // There may be no row any more that the events could have changed.
            Some(Former::Partly(former)) => there.map(|mut image| {
                set(&mut image, former);
                image
            }),
            Some(Former::Unknown) => return AtCursor::Unknown,
        })
    }

    /// The rows of a table that events behind the cursor have changed.
    pub(crate) fn keys<'a>(&'a self, table: &'a str) -> impl Iterator<Item = &'a RowKey> {
        let is_of = move |(name, _): &&(String, RowKey)| name.eq_ignore_ascii_case(table);
        self.0.keys().filter(is_of).map(|(_, key)| key)
    }
}

/// Puts pending events on a row, in their order.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> Image {
        Image::parse(text.as_bytes()).unwrap()
    }

    fn event(seq: i64, key: &str, op: &str, before: Option<&str>) -> Vec<Value> {
        let before = before.map_or(Value::Null, Value::from);
        vec![seq.into(), "t".into(), key.into(), op.into(), before]
    }

    #[test]
    fn a_row_is_what_it_was_at_the_cursor() {
        let mut behind = Behind::default();
        let rows = vec![
            event(1, "[1]", "update", Some(r#"{"a":1}"#)),
            event(2, "[1]", "update", Some(r#"{"a":2,"b":"x"}"#)),
            event(3, "[2]", "insert", None),
            event(4, "[2]", "update", Some(r#"{"a":5}"#)),
            event(5, "[3]", "update", Some(r#"{"a":7}"#)),
            event(6, "[3]", "delete", Some(r#"{"id":3,"a":8,"b":9}"#)),
            event(7, "[3]", "insert", None),
        ];
        assert_eq!(behind.read(&rows).unwrap(), (7, Some(Seq(7))));
        let key = |text: &str| RowKey(text.to_owned());
        let at = |text, there| behind.at_cursor("T", &key(text), there);
        let now = Some(image(r#"{"id":1,"a":3,"b":"y","c":4}"#));
        let then = Some(image(r#"{"id":1,"a":1,"b":"x","c":4}"#));
        assert_eq!(at("[1]", now), AtCursor::Row(then));
        assert_eq!(at("[1]", None), AtCursor::Row(None), "there is nothing to take back");
        assert_eq!(at("[2]", Some(image("{}"))), AtCursor::Row(None));
        let then = Some(image(r#"{"a":7,"id":3,"b":9}"#));
        assert_eq!(at("[3]", None), AtCursor::Row(then));
        assert_eq!(at("[4]", None), AtCursor::Row(None));
        let mut keys: Vec<_> = behind.keys("t").map(|key| key.0.as_str()).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["[1]", "[2]", "[3]"]);
    }

    #[test]
    fn without_old_values_a_row_is_not_known() {
        let mut behind = Behind::default();
        let rows = vec![
            event(1, "[1]", "update", Some(r#"{"a":1}"#)),
            event(2, "[1]", "update", Some("{}")),
            event(3, "[1]", "delete", Some(r#"{"id":1,"a":3}"#)),
            event(4, "[2]", "delete", None),
            event(5, "[3]", "insert", None),
            event(6, "[3]", "delete", None),
        ];
        behind.read(&rows).unwrap();
        let at = |key: &str| behind.at_cursor("t", &RowKey(key.to_owned()), None);
        assert_eq!(at("[1]"), AtCursor::Unknown);
        assert_eq!(at("[2]"), AtCursor::Unknown);
        assert_eq!(at("[3]"), AtCursor::Row(None), "it was not there, whatever came then");
    }

    #[test]
    fn what_is_no_event_is_an_error() {
        for row in [
            event(1, "[1]", "upsert", None),
            event(1, "[1]", "delete", Some("{")),
            vec![Value::Integer(1)],
        ] {
            assert!(Behind::default().read(&vec![row]).is_err());
        }
    }
}
