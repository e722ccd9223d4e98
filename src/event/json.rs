//! A scanner for the JSON that events are made of.
//!
//! Images, keys and pages use a small part of JSON: objects and arrays of the spellings that
//! [`value`](super::value) lists. A page has a hundred thousand of them, and their strings may have
//! bytes that are not UTF-8, which SQLite stores unchecked and a general parser refuses. So
//! [`Scanner`] walks over the bytes once, returns slices of them, and allocates only for a string
//! with escapes.

use std::borrow::Cow;

use super::value::{Value, ValueRef, read_real, write_string};
use crate::error::{Code, Error, Result};

/// The deepest nesting that is read: a page's line has an image, and the image a tagged value.
const MAX_DEPTH: usize = 8;

/// The most digits of an integer that is read in one go. An integer with more digits may not fit.
const SHORT_DIGITS: usize = 18;

/// Names as a JSON array.
pub(crate) fn names_json<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut json = vec![b'['];
    for (index, name) in names.enumerate() {
        if index > 0 {
            json.push(b',');
        }
        write_string(name.as_bytes(), &mut json);
    }
    json.push(b']');
    String::from_utf8(json).expect("names are UTF-8")
}

/// The names in a JSON array. Empty if the text is not such an array.
pub(crate) fn read_names(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_default()
}

/// A cursor over JSON text.
#[derive(Clone, Debug)]
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

#[cold]
fn wrong(what: &str, at: usize) -> Error {
    Error::new(Code::EventInvalid, format!("malformed JSON in an event: {what} at byte {at}"))
}

impl<'a> Scanner<'a> {
    /// A scanner at the start of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Scanner { bytes, at: 0 }
    }

    fn skip_space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    /// The next byte that is not white space. It is not taken.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let next = self.bytes.get(self.at).copied();
        if next.is_some_and(|byte| byte <= b' ') {
            self.skip_space();
            return self.bytes.get(self.at).copied();
        }
        next
    }

    /// Takes `bytes` if exactly these are next.
    #[inline]
    pub(crate) fn eat_all(&mut self, bytes: &[&[u8]]) -> bool {
        let mut at = self.at;
        for bytes in bytes {
            if !self.bytes[at..].starts_with(bytes) {
                return false;
            }
            at += bytes.len();
        }
        self.at = at;
        true
    }

    /// Takes `byte` if it is next.
    #[inline]
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let hit = self.peek() == Some(byte);
        self.at += usize::from(hit);
        hit
    }

    /// Takes `byte`, which must be next.
    ///
    /// # Errors
    ///
    /// `Corrupt` when something else is next. The same is true of all methods here.
    #[inline]
    pub(crate) fn expect(&mut self, byte: u8) -> Result<()> {
        if self.eat(byte) { Ok(()) } else { Err(self.lacks(byte)) }
    }

    #[cold]
    fn lacks(&self, byte: u8) -> Error {
        wrong(&format!("expected `{}`", byte as char), self.at)
    }

    /// Checks that only white space is left.
    pub(crate) fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(wrong("something after the end", self.at)),
        }
    }

    /// Takes a string and undoes its escapes. `\u0000` is a NUL; a lone surrogate is an error.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, [u8]>> {
        self.expect(b'"')?;
        let start = self.at;
        let rest = &self.bytes[start..];
        let stop = memchr::memchr2(b'"', b'\\', rest).ok_or_else(|| wrong("open string", start))?;
        self.at = start + stop + 1;
        if rest[stop] == b'"' {
            return Ok(Cow::Borrowed(&rest[..stop]));
        }
        self.at -= 1;
        self.escaped(rest[..stop].to_vec()).map(Cow::Owned)
    }

    /// The rest of a string from its first backslash on.
    fn escaped(&mut self, mut out: Vec<u8>) -> Result<Vec<u8>> {
        loop {
            let rest = &self.bytes[self.at..];
            let stop =
                memchr::memchr2(b'"', b'\\', rest).ok_or_else(|| wrong("open string", self.at))?;
            out.extend_from_slice(&rest[..stop]);
            self.at += stop + 1;
            if rest[stop] == b'"' {
                return Ok(out);
            }
            let kind = self.bytes.get(self.at).copied();
            self.at += 1;
            match kind {
                Some(byte @ (b'"' | b'\\' | b'/')) => out.push(byte),
                Some(b'b') => out.push(8),
                Some(b't') => out.push(9),
                Some(b'n') => out.push(10),
                Some(b'f') => out.push(12),
                Some(b'r') => out.push(13),
                Some(b'u') => {
                    let c = self.unicode()?;
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                _ => return Err(wrong("unknown escape", self.at)),
            }
        }
    }

    fn unicode(&mut self) -> Result<char> {
        let high = self.hex4()?;
        let code = if (0xd800..0xdc00).contains(&high) {
            if self.bytes.get(self.at..self.at + 2) != Some(b"\\u") {
                return Err(wrong("lone surrogate", self.at));
            }
            self.at += 2;
            let low = self.hex4()?;
            if !(0xdc00..0xe000).contains(&low) {
                return Err(wrong("lone surrogate", self.at));
            }
            0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
        } else {
            high
        };
        char::from_u32(code).ok_or_else(|| wrong("lone surrogate", self.at))
    }

    fn hex4(&mut self) -> Result<u32> {
        let digits = self.bytes.get(self.at..self.at + 4);
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        self.at += 4;
        code.ok_or_else(|| wrong("bad \\u escape", self.at))
    }

    /// Takes a run of number characters.
    fn number(&mut self) -> Result<&'a str> {
        self.skip_space();
        let rest = &self.bytes[self.at..];
        let len = rest
            .iter()
            .position(|b| !matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
            .unwrap_or(rest.len());
        self.at += len;
        std::str::from_utf8(&rest[..len]).map_err(|_| wrong("expected a number", self.at))
    }

    /// Takes a short integer. Nearly all integers are short.
    #[inline]
    fn short_integer(&mut self) -> Option<i64> {
        let rest = self.bytes.get(self.at..)?;
        let minus = usize::from(rest.first() == Some(&b'-'));
        let (mut integer, mut len) = (0, minus);
        while let Some(digit) = rest.get(len).map(|byte| byte.wrapping_sub(b'0'))
            && digit < 10
        {
            // An integer with more digits may be too large for 64 bits.
            if len == minus + SHORT_DIGITS {
                return None;
            }
            integer = integer * 10 + i64::from(digit);
            len += 1;
        }
        let more = matches!(rest.get(len), Some(b'-' | b'+' | b'.' | b'e' | b'E'));
        if len == minus || more {
            return None;
        }
        self.at += len;
        Some(if minus == 1 { -integer } else { integer })
    }

    /// Takes an integer.
    pub(crate) fn integer(&mut self) -> Result<i64> {
        self.skip_space();
        if let Some(integer) = self.short_integer() {
            return Ok(integer);
        }
        let at = self.at;
        self.number()?.parse().map_err(|_| wrong("expected an integer", at))
    }

    /// Takes `null` if it is next.
    pub(crate) fn null(&mut self) -> bool {
        self.skip_space();
        let hit = self.bytes[self.at..].starts_with(b"null");
        self.at += if hit { 4 } else { 0 };
        hit
    }

    /// Takes one value in the spellings of [`value`](super::value).
    pub(crate) fn value(&mut self) -> Result<Value> {
        self.value_ref().map(ValueRef::into_value)
    }

    /// Takes one value. Copies nothing that needs no decoding.
    pub(crate) fn value_ref(&mut self) -> Result<ValueRef<'a>> {
        match self.peek() {
            Some(b'"') => Ok(ValueRef::Text(self.string()?)),
            Some(b'{') => self.tagged(),
            Some(b'n') if self.null() => Ok(ValueRef::Null),
            Some(b'-' | b'0'..=b'9') => {
                if let Some(integer) = self.short_integer() {
                    return Ok(ValueRef::Integer(integer));
                }
                let at = self.at;
                let number = self.number()?;
                match number.parse::<i64>() {
                    Ok(integer) => Ok(ValueRef::Integer(integer)),
                    Err(_) => read_real(number)
                        .map(ValueRef::Real)
                        .map_err(|_| wrong("expected a number", at)),
                }
            }
            _ => Err(wrong("expected a value", self.at)),
        }
    }

    fn tagged(&mut self) -> Result<ValueRef<'a>> {
        self.expect(b'{')?;
        let tag = self.string()?;
        self.expect(b':')?;
        let text = self.string()?;
        self.expect(b'}')?;
        let bytes = |text| unhex(text).map(Cow::Owned).ok_or_else(|| wrong("bad hex", self.at));
        match tag.as_ref() {
            b"r" => {
                let text = std::str::from_utf8(&text).map_err(|_| wrong("bad REAL", self.at))?;
                read_real(text).map(ValueRef::Real)
            }
            b"x" => bytes(&text).map(ValueRef::Blob),
            b"t" => bytes(&text).map(ValueRef::Text),
            _ => Err(wrong("unknown tag", self.at)),
        }
    }

    /// Takes any JSON value and returns its bytes.
    pub(crate) fn raw(&mut self) -> Result<&'a [u8]> {
        self.skip_space();
        let start = self.at;
        self.skip(0)?;
        Ok(&self.bytes[start..self.at])
    }

    /// Takes an object and returns its bytes, up to the closing brace. Its content is not checked.
    pub(crate) fn raw_object(&mut self) -> Result<&'a [u8]> {
        self.skip_space();
        let start = self.at;
        let mut depth = 0;
        loop {
            let rest = &self.bytes[self.at..];
            let next = rest.iter().position(|byte| matches!(byte, b'"' | b'{' | b'}'));
            self.at += next.ok_or_else(|| wrong("open object", start))?;
            match self.bytes[self.at] {
                b'"' => {
                    self.skip_string()?;
                    continue;
                }
                b'{' => depth += 1,
                _ => depth -= 1,
            }
            self.at += 1;
            if depth <= 0 {
                break;
            }
        }
        if self.bytes[start] != b'{' {
            return Err(wrong("expected an object", start));
        }
        Ok(&self.bytes[start..self.at])
    }

    fn skip(&mut self, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(wrong("nested too deeply", self.at));
        }
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(open @ (b'{' | b'[')) => {
                let close = open + 2;
                self.at += 1;
                if self.eat(close) {
                    return Ok(());
                }
                loop {
                    if open == b'{' {
                        self.skip_string()?;
                        self.expect(b':')?;
                    }
                    self.skip(depth + 1)?;
                    if self.eat(close) {
                        return Ok(());
                    }
                    self.expect(b',')?;
                }
            }
            Some(b'n') if self.null() => Ok(()),
            Some(b'-' | b'0'..=b'9') => self.number().map(|_| ()),
            _ => Err(wrong("expected a value", self.at)),
        }
    }

    fn skip_string(&mut self) -> Result<()> {
        self.expect(b'"')?;
        loop {
            // An escaped character may be missing at the end of the bytes.
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let stop =
                memchr::memchr2(b'"', b'\\', rest).ok_or_else(|| wrong("open string", self.at))?;
            self.at += stop + 1;
            if rest[stop] == b'"' {
                return Ok(());
            }
            self.at += 1;
        }
    }
}

/// Decodes hex digits; `None` if `hex` has anything else.
pub(crate) fn unhex(hex: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    if !hex.len().is_multiple_of(2) {
        return None;
    }
    hex.chunks_exact(2).map(|pair| Some(digit(pair[0])? * 16 + digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_trip() {
        let values = [
            Value::Null,
            Value::Integer(i64::MAX),
            Value::Real(0.1),
            Value::from("plain"),
            Value::from("a\"b\\\n\u{1}\u{7f}é😀"),
            Value::Text(b"a\0b".to_vec()),
            Value::Text(vec![0xff, b'"']),
            Value::Blob(vec![]),
        ];
        for value in values {
            let mut json = Vec::new();
            value.write_json(&mut json);
            let mut scanner = Scanner::new(&json);
            assert_eq!(scanner.value().unwrap(), value);
            scanner.end().unwrap();
            let mut scanner = Scanner::new(&json);
            assert_eq!(scanner.raw().unwrap(), json);
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_pass() {
        let mut scanner = Scanner::new(b"\"a\xff\\nb\"");
        assert_eq!(scanner.value().unwrap(), Value::Text(b"a\xff\nb".to_vec()));
    }

    #[test]
    fn escapes_of_others_are_read() {
        let mut scanner = Scanner::new(br#""\u00e9\ud83d\ude00\/\u0000""#);
        assert_eq!(scanner.value().unwrap(), Value::Text("é😀/\0".as_bytes().to_vec()));
    }

    #[test]
    fn integers_of_every_length() {
        let mut all = vec![0, -1, i64::MAX, i64::MIN];
        for digits in 1..=18 {
            let ten: i64 = 10_i64.pow(digits);
            all.extend([ten - 1, ten, 1 - ten, -ten]);
        }
        for integer in all {
            let text = format!(" {integer} ");
            assert_eq!(Scanner::new(text.as_bytes()).integer().unwrap(), integer);
            let value = Scanner::new(text.as_bytes()).value().unwrap();
            assert_eq!(value, Value::Integer(integer));
        }
        for (text, real) in [("1.5", 1.5), ("9223372036854775808", 2.0_f64.powi(63)), ("1e3", 1e3)]
        {
            assert_eq!(Scanner::new(text.as_bytes()).value().unwrap(), Value::Real(real));
            assert!(Scanner::new(text.as_bytes()).integer().is_err());
        }
    }

    #[test]
    fn an_object_ends_at_its_brace() {
        let object = br#"{"a":{"r":"0.5"},"}":"\"}","b":null}"#;
        let text = [object.as_slice(), b",1"].concat();
        let mut scanner = Scanner::new(&text);
        assert_eq!(scanner.raw_object().unwrap(), object);
        scanner.expect(b',').unwrap();
        for text in ["", "{", "}", "1}", "\"{}\"", "[{}]", "{\"a\":{}"] {
            assert!(Scanner::new(text.as_bytes()).raw_object().is_err(), "{text}");
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        let deep = "[".repeat(10_000);
        let all =
            ["", "\"", "\"\\", "\"\\u12", "\"\\ud800\"", "{", "{\"q\":\"1\"}", "tru", "-", "[1"];
        for text in all.into_iter().chain([deep.as_str()]) {
            let text = text.as_bytes();
            let value = Scanner::new(text).value();
            assert!(value.is_err(), "{value:?}");
        }
        for text in ["\"\\", "\"\\\"", "{\"a\":", deep.as_str(), "[1 2]"] {
            assert!(Scanner::new(text.as_bytes()).raw().is_err());
        }
        for (depth, is) in [(MAX_DEPTH, true), (MAX_DEPTH + 1, false)] {
            let nested = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
            assert_eq!(Scanner::new(nested.as_bytes()).raw().is_ok(), is, "{depth}");
        }
    }

    #[test]
    fn names_are_an_array_of_strings() {
        assert_eq!(names_json(["a", "b\"", ""].into_iter()), r#"["a","b\"",""]"#);
        assert_eq!(read_names(r#"["a","b\"",""]"#), ["a", "b\"", ""]);
        assert_eq!(names_json(std::iter::empty()), "[]");
        assert!(read_names("[1]").is_empty() && read_names("").is_empty());
    }

    #[test]
    fn bytes_are_taken_all_or_not_at_all() {
        let mut scanner = Scanner::new(b"\"ab\": 1");
        assert!(!scanner.eat_all(&[b"\"", b"ab", b"\","]));
        assert!(!scanner.eat_all(&[b"\"", b"ab", b"\": 1", b"2"]), "there is no more of it");
        assert!(scanner.eat_all(&[b"\"", b"ab", b"\":"]));
        assert_eq!(scanner.integer().unwrap(), 1);
        assert!(scanner.eat_all(&[]));
        scanner.end().unwrap();
    }

    #[test]
    fn every_escape_is_undone() {
        let mut scanner = Scanner::new(br#" "\b\t\n\f\r\"\\\/\u007f\uD7FF\uE000\udbff\udfff" "#);
        let text = "\u{8}\t\n\u{c}\r\"\\/\u{7f}\u{d7ff}\u{e000}\u{10ffff}";
        assert_eq!(scanner.value().unwrap(), Value::from(text));
        scanner.end().unwrap();
        for wrong in [
            r#""\x""#,
            r#""\"#,
            r#""\u00e""#,
            r#""\u00g0""#,
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800\u0041""#,
            r#""\ud800\ue000""#,
            r#""\ud800\ud800""#,
            r#""\ud800\n0041""#,
            r#""\n"#,
            r#""\u0041"#,
        ] {
            assert!(Scanner::new(wrong.as_bytes()).value().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_short_integer_is_taken_in_one_go_and_anything_else_is_left() {
        for (text, integer) in [
            ("0", 0),
            ("-7,", -7),
            ("12]", 12),
            ("12:", 12),
            ("999999999999999999", 999_999_999_999_999_999),
            ("-999999999999999999}", -999_999_999_999_999_999),
        ] {
            let mut scanner = Scanner::new(text.as_bytes());
            assert_eq!(scanner.short_integer(), Some(integer));
            assert_eq!(scanner.at, text.trim_end_matches([',', ']', ':', '}']).len());
        }
        let long = ["1000000000000000000", "-1000000000000000000"];
        for text in ["", "-", "x", "1.5", "1e3", "1E3", "1-", "1+"].into_iter().chain(long) {
            let mut scanner = Scanner::new(text.as_bytes());
            assert_eq!((scanner.short_integer(), scanner.at), (None, 0), "{text}");
        }
    }
}
