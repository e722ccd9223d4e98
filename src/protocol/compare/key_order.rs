//! The order of a table's keys, as SQLite sorts them, and ranges in it.
//!
//! Text is compared by its bytes in UTF-8, also if a file uses UTF-16.

use std::cmp::Ordering;

use crate::catalog::{Collation, Table};
use crate::event::value::Value;

/// The order of a table's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyOrder(Vec<Collation>);

/// The beginning or the end of a range: the values of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The values. They need not be the key of an existing row.
    pub key: Vec<Value>,
    /// Whether a row with exactly this key is after the bound. If not, it is before it.
    pub behind: bool,
}

impl Bound {
    /// The bound directly before a key.
    pub fn at(key: Vec<Value>) -> Bound {
        Bound { key, behind: true }
    }

    /// The bound directly after a key.
    pub fn after(key: Vec<Value>) -> Bound {
        Bound { key, behind: false }
    }
}

/// The keys between two bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// The beginning; `None` for the first key.
    pub from: Option<Bound>,
    /// The end; `None` for the last key.
    pub to: Option<Bound>,
}

impl KeyRange {
    /// Splits the range at these bounds, which are in the range and rise.
    pub fn split(&self, bounds: Vec<Bound>) -> Vec<KeyRange> {
        let mut from = self.from.clone();
        let mut parts = Vec::with_capacity(bounds.len() + 1);
        for bound in bounds {
            let to = Some(bound);
            parts.push(KeyRange { from: std::mem::replace(&mut from, to.clone()), to });
        }
        parts.push(KeyRange { from, to: self.to.clone() });
        parts
    }
}

impl KeyOrder {
    /// The order of the keys of `table`.
    pub fn of(table: &Table) -> KeyOrder {
        KeyOrder(table.key_collations.clone())
    }

    /// Compares two keys. All spellings of one key are equal to each other and to its canonical
    /// form.
    pub fn compare(&self, a: &[Value], b: &[Value]) -> Ordering {
        let parts = self.0.iter().zip(a.iter().zip(b));
        let orders = parts.map(|(collation, (a, b))| compare(collation, a, b));
        orders.fold(Ordering::Equal, Ordering::then)
    }

    /// Whether a key is in a range.
    pub fn is_in(&self, key: &[Value], range: &KeyRange) -> bool {
        let is_behind = |bound: &Bound| match self.compare(key, &bound.key) {
            Ordering::Equal => bound.behind,
            order => order.is_gt(),
        };
        range.from.as_ref().is_none_or(is_behind) && !range.to.as_ref().is_some_and(is_behind)
    }

    /// A short bound between two neighbouring keys. A request has some hundred bounds.
    pub fn between(&self, before: &[Value], next: Vec<Value>) -> Bound {
        if let ([Collation::Binary], [Value::Text(before)], [Value::Text(text)]) =
            (self.0.as_slice(), before, next.as_slice())
            && let Ok(text) = std::str::from_utf8(text)
        {
            let common = before.iter().zip(text.as_bytes()).take_while(|(a, b)| a == b).count();
            let mut ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
            if let Some(end) = ends.find(|end| *end > common) {
                return Bound::at(vec![Value::from(&text[..end])]);
            }
        }
        Bound::at(next)
    }
}

fn compare(collation: &Collation, a: &Value, b: &Value) -> Ordering {
    // NULL is below numbers, numbers are below text, and text is below blobs.
    let class = |value: &Value| match value {
        Value::Null => 0,
        Value::Integer(_) | Value::Real(_) => 1,
        Value::Text(_) => 2,
        Value::Blob(_) => 3,
    };
    match (a, b) {
        (Value::Integer(a), Value::Integer(b)) => a.cmp(b),
        // SQLite has no NaN.
        (Value::Real(a), Value::Real(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
        (Value::Integer(a), Value::Real(b)) => integer_and_real(*a, *b),
        (Value::Real(a), Value::Integer(b)) => integer_and_real(*b, *a).reverse(),
        (Value::Text(a), Value::Text(b)) => match collation {
            Collation::NoCase => without_case(a, b),
            Collation::RTrim => trimmed(a).cmp(trimmed(b)),
            _ => a.cmp(b),
        },
        (Value::Blob(a), Value::Blob(b)) => a.cmp(b),
        (a, b) => class(a).cmp(&class(b)),
    }
}

/// Compares exactly, as SQLite does. A double cannot represent every integer.
fn integer_and_real(integer: i64, real: f64) -> Ordering {
    const END: f64 = 9_223_372_036_854_775_808.0;
    if real >= END {
        return Ordering::Less;
    }
    if real < -END {
        return Ordering::Greater;
    }
    let whole = real.trunc();
    let fraction = || 0.0.partial_cmp(&(real - whole)).unwrap_or(Ordering::Equal);
    integer.cmp(&(whole as i64)).then_with(fraction)
}

/// Compares as NOCASE does: of the text after a NUL, only the length counts.
fn without_case(a: &[u8], b: &[u8]) -> Ordering {
    for (a, b) in a.iter().zip(b) {
        let order = a.to_ascii_lowercase().cmp(&b.to_ascii_lowercase());
        if order.is_ne() {
            return order;
        }
        if *a == 0 {
            break;
        }
    }
    a.len().cmp(&b.len())
}

fn trimmed(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|&byte| byte != b' ').map_or(0, |last| last + 1);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(collations: &[Collation]) -> KeyOrder {
        KeyOrder(collations.to_vec())
    }

    #[test]
    fn a_bound_between_two_keys_is_short_and_between_them() {
        let order = order(&[Collation::Binary]);
        let between = |a: &str, b: &str| order.between(&[a.into()], vec![b.into()]).key;
        assert_eq!(between("m1", "m2"), ["m2".into()]);
        assert_eq!(between("aaaa", "abcd"), ["ab".into()]);
        assert_eq!(between("ab", "abcd"), ["abc".into()]);
        assert_eq!(between("e", "éx"), ["é".into()]);
        assert_eq!(order.between(&[1.into()], vec![5.into()]).key, [5.into()]);
    }

    #[test]
    fn a_range_has_the_keys_between_its_bounds() {
        let order = order(&[Collation::Binary]);
        let key = |n: i64| vec![Value::Integer(n)];
        let bounds = vec![Bound::at(key(3)), Bound::after(key(5))];
        let parts = KeyRange::default().split(bounds);
        let of = |part: &KeyRange| -> Vec<_> {
            (1..8).filter(|&n| order.is_in(&key(n), part)).collect()
        };
        let found: Vec<_> = parts.iter().map(of).collect();
        assert_eq!(found, [vec![1, 2], vec![3, 4, 5], vec![6, 7]]);
    }
}
