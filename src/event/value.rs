//! One SQLite value, and its exact form in JSON.
//!
//! Plain JSON cannot carry all of SQLite's values: a REAL may lose digits when it is printed, a
//! BLOB has no form, and text may have bytes that JSON cannot. So a [`Value`] is written as one of
//!
//! | value | spelling |
//! | --- | --- |
//! | NULL | `null` |
//! | integer | a JSON integer of up to 64 bits |
//! | text | a JSON string, escaped as SQLite's `json_quote` escapes it |
//! | text with a NUL, or that is not UTF-8 | `{"t":"<hex of its bytes>"}` |
//! | blob | `{"x":"<hex>"}` |
//! | integral REAL below 2^53 | `{"r":"<digits>.0"}` |
//! | any other finite REAL | `{"r":"<M>p<E>"}`, which is M × 2^E with 2^52 ≤ |M| < 2^53 |
//! | infinities | `{"r":"inf"}`, `{"r":"-inf"}` |
//!
//! The binary spelling of a REAL exists because no decimal spelling is exact everywhere: of doubles
//! with random exponents, SQLite 3.40 prints one in a thousand with a wrong 17th digit, and reads
//! one in five hundred wrongly. Multiplication by a power of two is exact in every version, in SQL
//! and in Rust, so both sides can write and read this form without rounding. For people, doubles
//! are shown in decimal.
//!
//! # Caveats
//!
//! SQLite's SQL functions cannot tell −0.0 from 0.0, so a captured −0.0 arrives as 0.0.

use std::borrow::Cow;

use crate::error::{Code, Error, Result};

/// One SQLite value. SQLite has no NaN (it stores NULL), so there is none here.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// NULL.
    #[default]
    Null,
    /// A 64-bit integer.
    Integer(i64),
    /// A double, infinities included. Two are equal if their bits are equal.
    Real(f64),
    /// Text. The bytes are UTF-8 unless a program wrote other bytes: SQLite does not check.
    Text(Vec<u8>),
    /// Bytes.
    Blob(Vec<u8>),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Integer(a), Value::Integer(b)) => a == b,
            (Value::Real(a), Value::Real(b)) => a.to_bits() == b.to_bits(),
            (Value::Text(a), Value::Text(b)) | (Value::Blob(a), Value::Blob(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

/// A [`Value`] that borrows its bytes where it can: from an event's JSON, or from a `Value`.
#[derive(Clone, Debug)]
pub enum ValueRef<'a> {
    /// NULL.
    Null,
    /// A 64-bit integer.
    Integer(i64),
    /// A double.
    Real(f64),
    /// Text, as bytes.
    Text(Cow<'a, [u8]>),
    /// Bytes.
    Blob(Cow<'a, [u8]>),
}

impl ValueRef<'_> {
    /// The value, with its own bytes.
    pub fn into_value(self) -> Value {
        match self {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(integer) => Value::Integer(integer),
            ValueRef::Real(real) => Value::Real(real),
            ValueRef::Text(text) => Value::Text(text.into_owned()),
            ValueRef::Blob(blob) => Value::Blob(blob.into_owned()),
        }
    }
}

impl<'a> From<&'a Value> for ValueRef<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => ValueRef::Null,
            Value::Integer(integer) => ValueRef::Integer(*integer),
            Value::Real(real) => ValueRef::Real(*real),
            Value::Text(text) => ValueRef::Text(Cow::Borrowed(text)),
            Value::Blob(blob) => ValueRef::Blob(Cow::Borrowed(blob)),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.as_bytes().to_vec())
    }
}

impl From<i64> for Value {
    fn from(integer: i64) -> Self {
        Value::Integer(integer)
    }
}

/// The number of bits of a double's mantissa, without the implicit one.
const MANTISSA_BITS: i32 = 52;
/// The first integer that a double cannot distinguish from its neighbours: 2^53.
const EXACT_LIMIT: f64 = 9_007_199_254_740_992.0;

impl Value {
    /// Appends the JSON spelling of this value.
    #[doc(hidden)]
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Integer(integer) => out.extend_from_slice(integer.to_string().as_bytes()),
            Value::Real(real) => {
                out.extend_from_slice(b"{\"r\":\"");
                out.extend_from_slice(spell_real(*real).as_bytes());
                out.extend_from_slice(b"\"}");
            }
            Value::Text(text) => {
                if text.contains(&0) || std::str::from_utf8(text).is_err() {
                    write_tagged(b't', text, out);
                } else {
                    write_string(text, out);
                }
            }
            Value::Blob(blob) => write_tagged(b'x', blob, out),
        }
    }

    /// Whether [`Value::write_json`] gives an object with a tag.
    #[doc(hidden)]
    pub fn is_tagged(&self) -> bool {
        match self {
            Value::Null | Value::Integer(_) => false,
            Value::Real(_) | Value::Blob(_) => true,
            Value::Text(text) => text.contains(&0) || std::str::from_utf8(text).is_err(),
        }
    }

    /// The text, when this is text in UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// The integer, when this is one.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Value::Integer(integer) => Some(*integer),
            _ => None,
        }
    }

    /// The bytes, when this is text or a blob.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Text(bytes) | Value::Blob(bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl std::fmt::Display for Value {
    /// The value for a person: text unchanged, a blob as `x'…'`, a REAL in decimal.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Null => f.write_str("NULL"),
            Value::Integer(integer) => write!(f, "{integer}"),
            Value::Real(real) => write!(f, "{real:?}"),
            Value::Text(text) => f.write_str(&String::from_utf8_lossy(text)),
            Value::Blob(blob) => {
                f.write_str("x'")?;
                for byte in blob {
                    write!(f, "{byte:02X}")?;
                }
                f.write_str("'")
            }
        }
    }
}

/// The exact spelling of a double: see the module's table.
pub fn spell_real(real: f64) -> String {
    if real.is_infinite() {
        return real.to_string();
    }
    if real.trunc() == real && real.abs() < EXACT_LIMIT {
        return format!("{}.0", real as i64);
    }
    let bits = real.to_bits();
    let sign = if bits >> 63 == 1 { "-" } else { "" };
    let fraction = bits & ((1 << MANTISSA_BITS) - 1);
    let biased = ((bits >> MANTISSA_BITS) & 0x7ff) as i32;
    // A subnormal number is shifted until its leading bit is where a normal number has it.
    let (mantissa, exponent) = if biased == 0 {
        let shift = fraction.leading_zeros() as i32 - (63 - MANTISSA_BITS);
        (fraction << shift, -1074 - shift)
    } else {
        (fraction + (1 << MANTISSA_BITS), biased - 1075)
    };
    format!("{sign}{mantissa}p{exponent}")
}

/// Reads [`spell_real`]'s spellings, and plain decimals.
///
/// # Errors
///
/// [`Corrupt`](crate::error::Kind::Corrupt) when `text` is neither, or is not finite where it
/// should be.
pub fn read_real(text: &str) -> Result<f64> {
    let wrong = || Error::new(Code::EventInvalid, "a REAL in an event is not valid");
    match text {
        "inf" => return Ok(f64::INFINITY),
        "-inf" => return Ok(f64::NEG_INFINITY),
        _ => {}
    }
    let real = match text.split_once('p') {
        None => text.parse::<f64>().map_err(|_| wrong())?,
        Some((mantissa, exponent)) => {
            let mantissa: i64 = mantissa.parse().map_err(|_| wrong())?;
            let exponent: i32 = exponent.parse().map_err(|_| wrong())?;
            if mantissa.unsigned_abs() >> (MANTISSA_BITS + 1) != 0 {
                return Err(wrong());
            }
            scale(mantissa as f64, exponent)
        }
    };
    if real.is_finite() { Ok(real) } else { Err(wrong()) }
}

/// `real` × 2^`exponent` for a `real` of 53 bits, in steps that stay exact.
fn scale(real: f64, exponent: i32) -> f64 {
    // A number in [1, 2) times a power of two is exact if the result has enough bits. This is also
    // true of subnormal results.
    let unit = real / (1_u64 << MANTISSA_BITS) as f64;
    let exponent = exponent.saturating_add(MANTISSA_BITS);
    match exponent {
        -1022..=1023 => unit * f64::from_bits(((exponent + 1023) as u64) << MANTISSA_BITS),
        -1074..=-1023 => unit * f64::from_bits(1_u64 << (exponent + 1074)),
        _ => f64::NAN,
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn write_tagged(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'{', b'"', tag, b'"', b':', b'"']);
    for byte in bytes {
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
    out.extend_from_slice(b"\"}");
}

/// Appends a JSON string, escaped exactly as SQLite's JSON functions do it: the remote compares
/// spellings before it compares values.
pub fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\') {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            8 => out.extend_from_slice(b"\\b"),
            9 => out.extend_from_slice(b"\\t"),
            10 => out.extend_from_slice(b"\\n"),
            12 => out.extend_from_slice(b"\\f"),
            13 => out.extend_from_slice(b"\\r"),
            byte => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)].to_ascii_lowercase());
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reals_round_trip_by_their_bits() {
        let mut random = fastrand::Rng::with_seed(7);
        let edges = [0.1, 1.5, -2.0, 0.30000000000000004, 5e-324, f64::MIN_POSITIVE, f64::MAX];
        let more = [1e22, 9_007_199_254_740_993.0, f64::INFINITY, f64::NEG_INFINITY, 2.2e-308];
        let generated = (0..200_000).map(|_| f64::from_bits(random.u64(..)));
        for real in edges.into_iter().chain(more).chain(generated).filter(|real| !real.is_nan()) {
            if real.to_bits() == (-0.0_f64).to_bits() {
                continue;
            }
            let spelled = spell_real(real);
            let read = read_real(&spelled).unwrap();
            assert_eq!(read.to_bits(), real.to_bits(), "{real:?} is spelled {spelled}");
        }
    }

    #[test]
    fn spellings() {
        let spell = |value: Value| {
            let mut out = Vec::new();
            value.write_json(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(spell(Value::Null), "null");
        assert_eq!(spell(Value::Integer(i64::MIN)), "-9223372036854775808");
        assert_eq!(spell(Value::from("a\"b\\\n\u{1}é")), r#""a\"b\\\n\u0001é""#);
        assert_eq!(spell(Value::Text(b"a\0b".to_vec())), r#"{"t":"610062"}"#);
        assert_eq!(spell(Value::Text(vec![0xff])), r#"{"t":"FF"}"#);
        assert_eq!(spell(Value::Blob(vec![0, 0xab])), r#"{"x":"00AB"}"#);
        assert_eq!(spell(Value::Real(5.0)), r#"{"r":"5.0"}"#);
        assert_eq!(spell(Value::Real(0.1)), r#"{"r":"7205759403792794p-56"}"#);
        assert_eq!(spell(Value::Real(f64::NEG_INFINITY)), r#"{"r":"-inf"}"#);
    }

    #[test]
    fn nonsense_is_no_real() {
        for text in ["", "x", "nan", "1p", "p3", "99999999999999999p0", "1p99999", "1e999"] {
            assert!(read_real(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_real_has_the_one_spelling_that_sql_gives_it() {
        let cases = [
            (9_007_199_254_740_991.0, "9007199254740991.0"),
            (9_007_199_254_740_992.0, "4503599627370496p1"),
            (-9_007_199_254_740_992.0, "-4503599627370496p1"),
            (-1.5, "-6755399441055744p-52"),
            (f64::MIN_POSITIVE, "4503599627370496p-1074"),
            (f64::MIN_POSITIVE / 2.0, "4503599627370496p-1075"),
            (5e-324, "4503599627370496p-1126"),
            (f64::MAX, "9007199254740991p971"),
            (f64::INFINITY, "inf"),
        ];
        for (real, spelled) in cases {
            assert_eq!(spell_real(real), spelled);
            assert_eq!(read_real(spelled).unwrap().to_bits(), real.to_bits(), "{spelled}");
        }
    }

    #[test]
    fn a_real_is_read_as_far_as_it_is_one() {
        assert_eq!(read_real("9007199254740991p0").unwrap(), 9_007_199_254_740_991.0);
        assert_eq!(read_real("-3p-1074").unwrap(), -1.5e-323);
        assert_eq!(read_real("4503599627370496p971").unwrap(), 2.0_f64.powi(1023));
        for wrong in
            ["9007199254740992p0", "-9007199254740992p0", "4503599627370496p972", "1p-1127", "nan"]
        {
            assert!(read_real(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_are_equal_by_type_and_bits() {
        let mut other = Value::Blob(b"a".to_vec());
        assert_ne!(Value::from("a"), other);
        assert_ne!(Value::Real(0.0), Value::Real(-0.0));
        assert_ne!(Value::Real(1.0), Value::Integer(1));
        assert_ne!(Value::Integer(1), Value::Integer(2));
        other = Value::Blob(b"b".to_vec());
        assert_ne!(Value::Blob(b"a".to_vec()), other);
        let all = [Value::Null, Value::Integer(1), Value::Real(0.5), Value::from("a"), other];
        for value in &all {
            assert_eq!(all.iter().filter(|other| *other == value).count(), 1);
            assert_eq!(ValueRef::from(value).into_value(), *value);
        }
    }

    #[test]
    fn a_value_gives_what_it_is_and_shows_it() {
        let (text, broken) = (Value::from("é"), Value::Text(vec![b'a', 0xff]));
        let blob = Value::Blob(vec![0x0f, 0xa0]);
        assert_eq!((text.as_str(), broken.as_str(), blob.as_str()), (Some("é"), None, None));
        assert_eq!((Value::from(-7).as_integer(), Value::Null.as_integer()), (Some(-7), None));
        assert_eq!(broken.as_bytes(), Some(&b"a\xff"[..]));
        assert_eq!((blob.as_bytes(), Value::Null.as_bytes()), (Some(&[0x0f, 0xa0][..]), None));
        for (value, shown) in [
            (text, "é"),
            (broken, "a\u{fffd}"),
            (blob, "x'0FA0'"),
            (Value::Null, "NULL"),
            (Value::Integer(-7), "-7"),
            (Value::Real(0.1), "0.1"),
            (Value::Real(5.0), "5.0"),
            (Value::Real(f64::INFINITY), "inf"),
            (Value::Real(f64::NEG_INFINITY), "-inf"),
        ] {
            assert_eq!(value.to_string(), shown);
        }
    }

    #[test]
    fn a_value_is_tagged_where_its_spelling_is() {
        let values = [
            Value::Null,
            Value::Integer(0),
            Value::Real(1.0),
            Value::from("{"),
            Value::Text(b"a\0".to_vec()),
            Value::Text(vec![0xff]),
            Value::Blob(vec![]),
        ];
        for value in values {
            let mut json = Vec::new();
            value.write_json(&mut json);
            assert_eq!(value.is_tagged(), json[0] == b'{', "{value:?}");
        }
    }

    #[test]
    fn text_is_escaped_as_sqlite_escapes_it() {
        let mut out = Vec::new();
        write_string(b"\x08\x09\x0a\x0b\x0c\x0d\x1f \x7f/\"\\", &mut out);
        assert_eq!(out, b"\"\\b\\t\\n\\u000b\\f\\r\\u001f \x7f/\\\"\\\\\"");
    }
}
