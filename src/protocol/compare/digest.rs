//! The hash of a range of rows, in SQL and in Rust. Both hash the same bytes.
//!
//! A row is the concatenation of its values, each as
//!
//! | value | bytes |
//! | --- | --- |
//! | NULL | `n` |
//! | integer | `i<digits>;` |
//! | text, blob | `t<length>:<bytes>`, `b<length>:<hex of the bytes>` |
//! | text, blob of more than 1,000 bytes | `T`, `B`, and the hex of the hash of its bytes |
//! | integral REAL below 2^53 in size | `r<digits>.;` |
//! | other REAL from 2^-50 to 2^53 in size | `r<i>.<f>.<g>;`: integer part, and 52 bits twice |
//! | any other REAL | `r<M>p<E>;`, which is M × 2^E; `rinf;`, `r-inf;` |
//!
//! Lengths are of bytes, in decimal. In a negative REAL all parts are negative. Each step of a
//! REAL's spelling is exact in every version of SQLite; printing it in decimal is not. The hash of
//! a range is the hash of its rows' hashes in hex, in the order of their keys. Only its first 16
//! bytes are used. A long value is hashed separately, so that no text grows beyond a server's limit
//! on one value.

use std::borrow::Cow;

use crate::catalog::{Affinity, Column, Table, ident};
use crate::event::value::{Value, spell_real};

/// The name of the hash in SQL.
pub(super) const FUNCTION: &str = "crypto_blake3";

/// A value with more bytes is hashed separately.
const LONG: usize = 1_000;

/// 2^52. The digits of a double below it are exact.
const TWO_52: f64 = 4_503_599_627_370_496.0;
const TWO_53: f64 = 9_007_199_254_740_992.0;
/// 2^-50. A greater or equal REAL has no bit below 2^-104.
const SMALL: f64 = 1.0 / 1_125_899_906_842_624.0;

/// The number of rows of a range, and their hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// The rows.
    pub rows: u64,
    /// The first bytes of the hash; zeros if there are no rows.
    pub hash: [u8; 16],
}

impl Digest {
    /// Reads `<rows>:<hex>`.
    pub(super) fn parse(text: &str) -> Option<Digest> {
        let (rows, hex) = text.split_once(':')?;
        let mut digest = Digest { rows: rows.parse().ok()?, hash: [0; 16] };
        match (digest.rows, hex.len()) {
            (0, 0) => return Some(digest),
            (1.., 32) if hex.is_ascii() => {}
            _ => return None,
        }
        for (byte, at) in digest.hash.iter_mut().zip((0..32).step_by(2)) {
            *byte = u8::from_str_radix(&hex[at..at + 2], 16).ok()?;
        }
        Some(digest)
    }
}

/// Makes the digest of rows that are added in the order of their keys.
#[derive(Debug, Default)]
pub struct Digester {
    rows: u64,
    hasher: blake3::Hasher,
    row: Vec<u8>,
}

impl Digester {
    /// Adds a row: the compared values, in their order.
    pub fn row<'v>(&mut self, values: impl Iterator<Item = Cow<'v, Value>>) {
        self.row.clear();
        values.for_each(|value| spell(&value, &mut self.row));
        self.hasher.update(upper_hex(blake3::hash(&self.row).as_bytes()).as_bytes());
        self.rows += 1;
    }

    /// The digest of the rows.
    pub fn finish(self) -> Digest {
        let mut digest = Digest { rows: self.rows, hash: [0; 16] };
        if self.rows > 0 {
            digest.hash.copy_from_slice(&self.hasher.finalize().as_bytes()[..16]);
        }
        digest
    }
}

/// Makes the digest of lines of text in the same way.
#[derive(Debug, Default)]
pub struct Lines(Digester);

impl Lines {
    /// Adds a line.
    pub fn add(&mut self, line: &str) {
        self.0.hasher.update(upper_hex(blake3::hash(line.as_bytes()).as_bytes()).as_bytes());
        self.0.rows += 1;
    }

    /// The number of lines.
    pub fn count(&self) -> u64 {
        self.0.rows
    }

    /// Their digest.
    pub fn finish(self) -> Digest {
        self.0.finish()
    }
}

fn upper_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Appends a value's bytes: see the module.
fn spell(value: &Value, out: &mut Vec<u8>) {
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
    let long = |bytes: &[u8]| upper_hex(blake3::hash(bytes).as_bytes());
    match value {
        Value::Null => put(&[b"n"]),
        Value::Integer(integer) => put(&[b"i", integer.to_string().as_bytes(), b";"]),
        Value::Real(real) => put(&[b"r", real_text(*real).as_bytes(), b";"]),
        Value::Text(text) if text.len() > LONG => put(&[b"T", long(text).as_bytes()]),
        Value::Blob(blob) if blob.len() > LONG => put(&[b"B", long(blob).as_bytes()]),
        Value::Text(text) => put(&[b"t", text.len().to_string().as_bytes(), b":", text]),
        Value::Blob(blob) => {
            put(&[b"b", blob.len().to_string().as_bytes(), b":", upper_hex(blob).as_bytes()]);
        }
    }
}

fn real_text(real: f64) -> String {
    let whole = real.trunc();
    if real.abs() < TWO_53 && whole == real {
        return format!("{}.", whole as i64);
    }
    if real.abs() < TWO_53 && real.abs() >= SMALL {
        let first = (real - whole) * TWO_52;
        let second = (first - first.trunc()) * TWO_52;
        return format!("{}.{}.{}", whole as i64, first as i64, second as i64);
    }
    spell_real(real)
}

/// The bytes of the row `r` as SQL, from these columns of a table in this order.
pub(super) fn row_sql(table: &Table, columns: impl Iterator<Item = usize>) -> String {
    let parts: Vec<_> = columns
        .map(|at| {
            let column = &table.columns[at];
            let is_rowid = table.rowid_key && table.key == [at];
            let strict = table.strict.then(|| column.declared.to_ascii_uppercase());
            column_sql(column, is_rowid, strict.as_deref())
        })
        .collect();
    // Groups keep the expression of a wide table below SQLite's limit on depth.
    let groups: Vec<_> = parts.chunks(50).map(|group| format!("({})", group.join("||"))).collect();
    groups.join("||")
}

/// The bytes of a column as SQL. The column's type limits which values are possible.
fn column_sql(column: &Column, is_rowid: bool, strict: Option<&str>) -> String {
    let x = format!("r.{}", ident(&column.present));
    let integer = format!("'i'||{x}||';'");
    if is_rowid {
        return integer;
    }
    match (strict, column.affinity) {
        (Some("INT" | "INTEGER"), _) => {
            format!("CASE WHEN {x} IS NULL THEN 'n' ELSE {integer} END")
        }
        (Some("TEXT"), _) => format!("CASE WHEN {x} IS NULL THEN 'n' ELSE {} END", text_sql(&x)),
        // A TEXT column converts numbers to text. A blob is greater than all text.
        (None, Affinity::Text) => format!(
            "CASE WHEN {x} IS NULL THEN 'n' WHEN {x}>=x'' THEN {} ELSE {} END",
            blob_sql(&x),
            text_sql(&x)
        ),
        _ => format!(
            "CASE typeof({x}) WHEN 'integer' THEN {integer} WHEN 'null' THEN 'n' \
             WHEN 'real' THEN {} WHEN 'text' THEN {} ELSE {} END",
            real_sql(&x),
            text_sql(&x),
            blob_sql(&x)
        ),
    }
}

fn text_sql(x: &str) -> String {
    let (bytes, long) = (format!("CAST({x} AS BLOB)"), LONG);
    format!(
        "CASE WHEN length({bytes})>{long} THEN 'T'||hex({FUNCTION}({bytes})) \
         ELSE 't'||length({bytes})||':'||{x} END"
    )
}

fn blob_sql(x: &str) -> String {
    format!(
        "CASE WHEN length({x})>{LONG} THEN 'B'||hex({FUNCTION}({x})) \
         ELSE 'b'||length({x})||':'||hex({x}) END"
    )
}

/// The SQL for a REAL. The values are compared by their type: a column with an affinity would
/// convert a number to text in a comparison.
fn real_sql(x: &str) -> String {
    let whole = format!("CAST({x} AS INTEGER)");
    let first = format!("(({x}-{whole})*4503599627370496.0)");
    let whole_first = format!("CAST({first} AS INTEGER)");
    format!(
        "'r'||CASE WHEN {x}>-9007199254740992.0 AND {x}<9007199254740992.0 AND {x}={whole} \
         THEN {whole}||'.' \
         WHEN abs({x})<9007199254740992.0 AND abs({x})>=1.0/1125899906842624.0 \
         THEN {whole}||'.'||{whole_first}||'.'||CAST(({first}-{whole_first})*4503599627370496.0 \
         AS INTEGER) WHEN {x}=9e999 THEN 'inf' WHEN {x}=-9e999 THEN '-inf' \
         ELSE (SELECT CAST({x}/p*4503599627370496.0 AS INTEGER)||'p'||(e-52) \
         FROM driftless_pow2 WHERE p<=abs({x}) ORDER BY p DESC LIMIT 1) END||';'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: Value) -> String {
        let mut out = Vec::new();
        spell(&value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_have_their_type_their_length_and_their_bytes() {
        assert_eq!(text(Value::Null), "n");
        assert_eq!(text(Value::Integer(-7)), "i-7;");
        assert_eq!(text(Value::from("é")), "t2:é");
        assert_eq!(text(Value::Blob(vec![0, 0xab])), "b2:00AB");
        assert_eq!(text(Value::Real(5.0)), "r5.;");
        assert_eq!(text(Value::Real(-0.0)), "r0.;");
        assert_eq!(text(Value::Real(-1.5)), "r-1.-2251799813685248.0;");
        assert_eq!(text(Value::Real(f64::NEG_INFINITY)), "r-inf;");
        assert_eq!(text(Value::Real(9_007_199_254_740_992.0)), "r4503599627370496p1;");
        assert_eq!(text(Value::from(&*"x".repeat(1_001))).len(), 65);
        assert!(text(Value::Blob(vec![1; 1_001])).starts_with('B'));
    }

    #[test]
    fn two_reals_have_two_spellings() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..50_000 {
            let real = f64::from_bits(random.u64(..));
            let small = random.f64() * 2_f64.powi(random.i32(-60..60));
            for real in [real, small].into_iter().filter(|real| real.is_finite()) {
                let next = f64::from_bits(real.to_bits() ^ 1);
                assert_ne!(real_text(real), real_text(next), "{real:?}");
            }
        }
    }

    #[test]
    fn a_digest_is_read_as_far_as_it_is_one() {
        let hex = "000102030405060708090A0B0C0D0E0F";
        let read = Digest::parse(&format!("3:{hex}")).unwrap();
        assert_eq!((read.rows, read.hash[15]), (3, 15));
        assert_eq!(Digest::parse("0:"), Some(Digest::default()));
        for wrong in ["", ":", "3:", "0:00", "x:", "-1:", &format!("3:{hex}0"), "3:é"] {
            assert_eq!(Digest::parse(wrong), None, "{wrong}");
        }
    }
}
