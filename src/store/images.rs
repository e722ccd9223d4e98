//! The images of an outbox row.
//!
//! An ordinary update is captured as one object, `{"column": [old, new]}`, which costs the
//! application half the comparisons of two. A row that was replaced has two whole images, of which
//! only what differs is of interest. Both come out of here as the two images of an event.

use rusqlite::Row;

use crate::error::{Error, Result};
use crate::event::{Image, Op};
use crate::json::Scanner;

/// The old and the new values, as JSON objects.
pub(super) type Images = (Option<Vec<u8>>, Option<Vec<u8>>);

/// The images of a row that has `before`, `after` and `changes` at these places.
pub(super) fn images(
    row: &Row<'_>,
    op: Op,
    before: usize,
    after: usize,
    changes: usize,
) -> Result<Images> {
    let bytes = |index| -> Result<Option<&[u8]>> {
        Ok(row.get_ref(index)?.as_bytes_or_null().map_err(rusqlite::Error::from)?)
    };
    if let Some(changes) = bytes(changes)? {
        let (before, after) = split(changes)?;
        return Ok((Some(before), Some(after)));
    }
    match (bytes(before)?, bytes(after)?) {
        (Some(before), Some(after)) if op == Op::Update => {
            let (before, after) = differing(before, after)?;
            Ok((Some(before), Some(after)))
        }
        (before, after) => Ok((before.map(<[u8]>::to_vec), after.map(<[u8]>::to_vec))),
    }
}

/// `{"column": [old, new], …}` as two objects.
fn split(changes: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let (mut before, mut after) = (vec![b'{'], vec![b'{']);
    let mut scanner = Scanner::new(changes);
    scanner.expect(b'{')?;
    while !scanner.eat(b'}') {
        if before.len() > 1 {
            scanner.expect(b',')?;
            before.push(b',');
            after.push(b',');
        }
        let name = scanner.raw()?;
        scanner.expect(b':')?;
        scanner.expect(b'[')?;
        let old = scanner.raw()?;
        scanner.expect(b',')?;
        let new = scanner.raw()?;
        scanner.expect(b']')?;
        for (image, value) in [(&mut before, old), (&mut after, new)] {
            image.extend_from_slice(name);
            image.push(b':');
            image.extend_from_slice(value);
        }
    }
    scanner.end()?;
    before.push(b'}');
    after.push(b'}');
    Ok((before, after))
}

/// The columns of two whole images that differ.
fn differing(before: &[u8], after: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let (mut before, mut after) = (Image::parse(before)?, Image::parse(after)?);
    if before.0.len() != after.0.len() {
        return Err(Error::corrupt("the images of a replaced row have different columns"));
    }
    let same: Vec<bool> =
        after.0.iter().map(|(name, value)| before.get(name) == Some(value)).collect();
    let keep = |image: &mut Image| {
        let mut same = same.iter();
        image.0.retain(|_| same.next() == Some(&false));
    };
    keep(&mut before);
    keep(&mut after);
    Ok((before.to_json().into_bytes(), after.to_json().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_split() {
        let (before, after) = split(br#"{"a":[1,{"r":"2.0"}],"b\"":["x",null]}"#).unwrap();
        assert_eq!(before, br#"{"a":1,"b\"":"x"}"#);
        assert_eq!(after, br#"{"a":{"r":"2.0"},"b\"":null}"#);
        assert_eq!(split(b"{}").unwrap(), (b"{}".to_vec(), b"{}".to_vec()));
        assert!(split(br#"{"a":[1]}"#).is_err());
    }

    #[test]
    fn what_a_replacement_left_alone_is_dropped() {
        let (before, after) =
            differing(br#"{"a":1,"b":2,"c":3}"#, br#"{"a":1,"b":"2","c":null}"#).unwrap();
        assert_eq!(before, br#"{"b":2,"c":3}"#);
        assert_eq!(after, br#"{"b":"2","c":null}"#);
    }
}
