//! Checks whether an event, or a row of the remote, is valid for its table here.

use crate::catalog::Table;
use crate::event::page::{Line, MAX_KEY_BYTES};
use crate::event::value::ValueRef;
use crate::event::{Column, Op, RowKey};
use crate::store::rows::refusal::shorten;
use crate::store::rows::row::{column_index, key_matches};

/// The beginning of the reason for an event that is not valid.
pub(in crate::store) const MALFORMED: &str = "malformed: ";

/// How much of an event can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Admitted {
    /// All of it.
    AllColumns,
    /// It names a column that the table lacks here.
    KnownColumns,
}

/// Checks whether an applied event can be written into its table. Reads its key into `key`.
///
/// # Errors
///
/// The reason, which names the table and the column. It has no value of the row.
pub(in crate::store) fn admit<'p>(
    table: &Table,
    line: &Line<'p>,
    after: &[Column<'p>],
    key: &mut Vec<ValueRef<'p>>,
) -> std::result::Result<Admitted, String> {
    if line.key.len() > MAX_KEY_BYTES {
        let (name, most) = (&table.name, MAX_KEY_BYTES >> 10);
        return Err(format!("the event's key in table `{name}` is larger than {most} KiB"));
    }
    fits(table, &Offered::event(line, after), key)
}

/// Data from the remote about a row: an event, or the row itself as an insert.
pub(in crate::store) struct Offered<'a, 'p> {
    /// The word for it in a message.
    what: &'static str,
    key: &'p str,
    op: Op,
    columns: &'a [Column<'p>],
}

impl<'a, 'p> Offered<'a, 'p> {
    pub(in crate::store) fn event(line: &Line<'p>, after: &'a [Column<'p>]) -> Self {
        Offered { what: "event", key: line.key, op: line.op, columns: after }
    }

    pub(in crate::store) fn row(key: &'p RowKey, columns: &'a [Column<'p>]) -> Self {
        Offered { what: "row", key: &key.0, op: Op::Insert, columns }
    }
}

/// Checks whether this is valid for the table. Reads its key into `key`.
///
/// It is untrusted input. Its key must have the table's arity, no NULL, and the canonical spelling.
/// No column may come twice. The key columns among its values must agree with the key. A column
/// that the table lacks here is left out.
///
/// # Errors
///
/// The reason, which names the table and the column. It has no value of the row.
pub(in crate::store) fn fits<'p>(
    table: &Table,
    offered: &Offered<'_, 'p>,
    key: &mut Vec<ValueRef<'p>>,
) -> std::result::Result<Admitted, String> {
    let Offered { what, columns: after, .. } = *offered;
    let name = &table.name;
    let is_valid = RowKey::read(offered.key, key).is_ok()
        && key.len() == table.key.len()
        && !key.iter().any(|value| matches!(value, ValueRef::Null));
    if !is_valid {
        return Err(format!(
            "the {what}'s key does not fit table `{name}`, whose key has {} part(s)",
            table.key.len()
        ));
    }
    if !is_canonical(table, offered.key, key) {
        return Err(format!("the {what}'s key is not in the canonical form of table `{name}`"));
    }
    let mut admitted = Admitted::AllColumns;
    if offered.op == Op::Delete {
        return Ok(admitted);
    }
    let mut parts = 0;
    let mut next = 0;
    for (place, (column, value)) in after.iter().enumerate() {
        let Some(index) = column_index(table, column, place) else {
            admitted = Admitted::KnownColumns;
            continue;
        };
        if let Some(part) = table.key.iter().position(|&column| column == index) {
            parts += 1;
            if !key_matches(table, part, &key[part], value) {
                let column = &table.columns[index].name;
                return Err(format!(
                    "the {what}'s key and its value of column `{column}` of table `{name}` differ"
                ));
            }
        }
        // In the table's own order, which is usual, no column can come twice.
        let in_order = index >= next;
        next = next.max(index + 1);
        if !in_order && after[..place].iter().any(|(other, _)| other.eq_ignore_ascii_case(column)) {
            return Err(format!("the {what} names column `{}` twice", shorten(column)));
        }
    }
    if offered.op == Op::Insert && parts != table.key.len() {
        return Err(format!("the {what} inserts into table `{name}` without its whole key"));
    }
    Ok(admitted)
}

/// Whether a complete key is spelled canonically. With another spelling, SQLite would find the same
/// row, but the search for its pending events would not.
fn is_canonical(table: &Table, text: &str, key: &[ValueRef<'_>]) -> bool {
    // Most keys are one plain word, which has only one spelling.
    let word = text.strip_prefix("[\"").and_then(|rest| rest.strip_suffix("\"]"));
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if word.is_some_and(|word| word.bytes().all(plain)) {
        return true;
    }
    let values: Vec<_> = key.iter().cloned().map(ValueRef::into_value).collect();
    let mut parts = key.iter().enumerate();
    parts.all(|(part, value)| key_matches(table, part, value, value))
        && RowKey::from_values(&values).0 == text
}
