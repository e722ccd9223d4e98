//! How a column's declared type converts a value.

use serde::{Deserialize, Serialize};

use crate::event::value::Value;

/// How SQLite converts a value that is stored in a column:
/// <https://www.sqlite.org/datatype3.html#determination_of_column_affinity>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// INTEGER.
    Integer,
    /// TEXT: numbers become text.
    Text,
    /// No affinity: a value is stored unchanged.
    Blob,
    /// REAL: integers become doubles.
    Real,
    /// NUMERIC.
    Numeric,
}

impl Affinity {
    /// Applies SQLite's rules, in SQLite's order.
    pub fn of(declared: &str) -> Self {
        let upper = declared.to_ascii_uppercase();
        let has = |part| upper.contains(part);
        if has("INT") {
            Affinity::Integer
        } else if has("CHAR") || has("CLOB") || has("TEXT") {
            Affinity::Text
        } else if has("BLOB") || upper.is_empty() {
            Affinity::Blob
        } else if has("REAL") || has("FLOA") || has("DOUB") {
            Affinity::Real
        } else {
            Affinity::Numeric
        }
    }

    /// A declared type that has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Affinity::Integer => "INTEGER",
            Affinity::Text => "TEXT",
            Affinity::Blob => "BLOB",
            Affinity::Real => "REAL",
            Affinity::Numeric => "NUMERIC",
        }
    }

    /// Converts a value as SQLite does when it stores the value in a column of this affinity.
    pub(crate) fn convert(self, value: Value) -> Value {
        match (self, value) {
            (Affinity::Text, Value::Integer(integer)) => {
                Value::Text(integer.to_string().into_bytes())
            }
            (Affinity::Text, Value::Real(real)) => Value::Text(decimal(real).into_bytes()),
            (Affinity::Real, Value::Integer(integer)) => Value::Real(integer as f64),
            (Affinity::Integer | Affinity::Numeric | Affinity::Real, Value::Text(text)) => {
                match (number(&text), self) {
                    (None, _) => Value::Text(text),
                    (Some(Value::Integer(integer)), Affinity::Real) => Value::Real(integer as f64),
                    (Some(number), _) => number,
                }
            }
            (_, value) => value,
        }
    }
}

/// Converts a REAL to text as SQLite does: with 15 digits.
fn decimal(real: f64) -> String {
    let trim = |digits: &str| match digits.trim_end_matches('0') {
        whole if whole.ends_with('.') => format!("{whole}0"),
        other => other.to_owned(),
    };
    let scientific = format!("{real:.14e}");
    match scientific.split_once('e').map(|(digits, power)| (digits, power.parse::<i32>())) {
        Some((_, Ok(power @ -4..15))) => {
            let places = (14 - power).max(1) as usize;
            trim(&format!("{real:.places$}"))
        }
        Some((digits, Ok(power))) => format!("{}e{power:+03}", trim(digits)),
        _ if real < 0.0 => "-Inf".to_owned(),
        _ => "Inf".to_owned(),
    }
}

/// Parses text as a number. `None` if it is not a number. A REAL without a fraction stays a REAL.
fn number(text: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(text).ok()?;
    let text = text.trim_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    // Rust also parses words such as `inf`. For SQLite they are text.
    let plain = |c: char| c.is_ascii_digit() || ['.', 'e', 'E', '+', '-'].contains(&c);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') || !digits.chars().all(plain) {
        return None;
    }
    match text.parse() {
        Ok(integer) => Some(Value::Integer(integer)),
        Err(_) => text.parse().ok().map(Value::Real),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values come from SQLite itself.
    #[test]
    fn values_are_converted_as_sqlite_converts_them() {
        let db = rusqlite::Connection::open_in_memory().unwrap();
        let text = |text: &str| Value::Text(text.as_bytes().to_vec());
        let mut values = vec![Value::Null, Value::Integer(7), Value::Integer(i64::MIN)];
        // Versions of SQLite differ in the text of other doubles.
        values.extend([1.0, -2.5, 0.1, 1e300, 1e-4, -1e-5, 1.5e-300].map(Value::Real));
        values.push(Value::Blob(b"1".to_vec()));
        values.extend(
            ["1", " 1 ", "+1", "-1.50", "1.", ".5", "1e3", "1e", "0x10", "inf", "nan", "1a", ""]
                .map(text),
        );
        values.extend(["9223372036854775808", "-9223372036854775808", "e1", ".", "+"].map(text));
        for (affinity, declared) in [
            (Affinity::Text, "TEXT"),
            (Affinity::Integer, "INTEGER"),
            (Affinity::Numeric, "NUMERIC"),
            (Affinity::Real, "REAL"),
            (Affinity::Blob, ""),
        ] {
            for value in &values {
                let bound = crate::event::value::ValueRef::from(value);
                db.execute_batch(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t (x {declared})"))
                    .unwrap();
                db.execute("INSERT INTO t VALUES (?1)", [bound]).unwrap();
                let same = "SELECT x = ?1 AND (typeof(x) = typeof(?1) OR typeof(x) = 'integer'
                                               AND typeof(?1) = 'real') OR x IS NULL FROM t";
                let converted = affinity.convert(value.clone());
                // A parameter has no affinity, so SQLite compares it unchanged.
                let like: bool = db
                    .query_row(same, [crate::event::value::ValueRef::from(&converted)], |row| {
                        row.get(0)
                    })
                    .unwrap();
                assert!(like, "{affinity:?} {value:?} became {converted:?}");
            }
        }
    }
}
