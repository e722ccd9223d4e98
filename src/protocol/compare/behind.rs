//! The log events that a replica has not integrated, for rows of some tables: what takes a row of
//! the remote back to what it was at the replica's cursor. Pure.

use std::collections::HashMap;

use crate::error::Result;
use crate::event::value::Value;
use crate::event::{Image, Op, RowKey, Seq};
use crate::protocol::meta::{number, parameters, wrong};
use crate::protocol::{Rows, Statement};

/// The statement for the applied events of these tables behind a place, at most `limit`.
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

/// What a row was before the events behind the cursor.
#[derive(Clone, Debug, PartialEq)]
enum Former {
    /// It was not there.
    Absent,
    /// It was this.
    Whole(Image),
    /// It had these values in these columns, and the others as it has them now.
    Partly(Image),
}

/// The rows that events behind the cursor have changed, by table and key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behind(HashMap<(String, RowKey), Former>);

impl Behind {
    /// Reads the rows of [`changes`], in their order. Gives how many there are, and the last seq.
    ///
    /// # Errors
    ///
    /// `Corrupt` when they are not that.
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
            let before = before.as_bytes().map(Image::parse).transpose()?.unwrap_or_default();
            self.add(text(table)?, RowKey(text(key)?), op, before);
            last = Some(Seq(*seq));
        }
        Ok((rows.len(), last))
    }

    /// The first event of a row decides whether the row was there. Of each column counts the first
    /// event that has it.
    fn add(&mut self, table: String, key: RowKey, op: Op, before: Image) {
        let former = self.0.entry((table, key)).or_insert_with(|| match op {
            Op::Insert => Former::Absent,
            Op::Update | Op::Delete => Former::Partly(Image::default()),
        });
        let Former::Partly(known) = former else { return };
        for (name, value) in before.0 {
            if !known.0.iter().any(|(mine, _)| mine.eq_ignore_ascii_case(&name)) {
                known.0.push((name, value));
            }
        }
        if op == Op::Delete {
            *former = Former::Whole(std::mem::take(known));
        }
    }

    /// The row at the cursor, if it is `there` now.
    pub(crate) fn at_cursor(
        &self,
        table: &str,
        key: &RowKey,
        there: Option<Image>,
    ) -> Option<Image> {
        match self.0.get(&(table.to_owned(), key.clone())) {
            None => there,
            Some(Former::Absent) => None,
            Some(Former::Whole(image)) => Some(image.clone()),
            Some(Former::Partly(former)) => {
                let mut image = there?;
                for (name, value) in &former.0 {
                    match image.0.iter_mut().find(|(mine, _)| mine.eq_ignore_ascii_case(name)) {
                        Some((_, mine)) => mine.clone_from(value),
                        None => image.0.push((name.clone(), value.clone())),
                    }
                }
                Some(image)
            }
        }
    }

    /// The rows of a table that events behind the cursor have changed.
    pub(crate) fn keys<'a>(&'a self, table: &'a str) -> impl Iterator<Item = &'a RowKey> {
        self.0.keys().filter(move |(name, _)| name == table).map(|(_, key)| key)
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
        let now = Some(image(r#"{"id":1,"a":3,"b":"y","c":4}"#));
        let then = Some(image(r#"{"id":1,"a":1,"b":"x","c":4}"#));
        assert_eq!(behind.at_cursor("t", &key("[1]"), now), then);
        assert_eq!(behind.at_cursor("t", &key("[2]"), Some(image("{}"))), None);
        let then = Some(image(r#"{"a":7,"id":3,"b":9}"#));
        assert_eq!(behind.at_cursor("t", &key("[3]"), None), then);
        assert_eq!(behind.at_cursor("t", &key("[4]"), None), None);
        let mut keys: Vec<_> = behind.keys("t").map(|key| key.0.as_str()).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["[1]", "[2]", "[3]"]);
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
