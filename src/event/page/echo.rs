//! Echoes: lines of this replica's own events that come without images.
//!
//! The writer of an event has its values in the outbox until the verdict arrives. So the remote may
//! leave them out. It sends the *short* form of the line ([`SHORT_LINE`]), in which neighbours of
//! one push do not repeat their common fields. [`unfold`](super::unfold::unfold) makes an echo of
//! each short line. An echo is complete by itself, so a page can be split at any line.
//! [`Echo::write`] makes an echo whole again, with the event of the outbox. Until then it is not a
//! valid event, and [`Line`](super::Line) reports it as damaged.
//!
//! ```text
//! short:  [seq,"id",received_at,size]                                  as the line before
//!         [seq,"id",received_at,size,"unit",base,"verdict",reason]     says all
//! echo:   [seq,"id",0,null,"unit",base,"verdict",reason,received_at,size]
//! ```
//!
//! `size` is the number of characters of both images. If an event was changed after it was pushed,
//! its size differs from that of the remote's event.
//!
//! [`SHORT_LINE`]: self

use std::io::Write as _;

use crate::error::Result;
use crate::event::json::Scanner;
use crate::event::value::write_string;
use crate::event::{EventId, Op, Origin, RowKey, Seq};

/// The SQL expression for the short line of an event. `same` is a condition: the event one place
/// before is an echo too, with the same unit, base, verdict and reason.
pub(crate) const SHORT_LINE: &str = "'[' || seq || ',\"' || id || '\",' || received_at || ',' || \
         (coalesce(length(before), 0) + coalesce(length(after), 0)) || \
         CASE WHEN same THEN ']' ELSE ',\"' || unit || '\",' || base || ',\"' || verdict || \
         '\",' || CASE WHEN reason IS NULL THEN 'null' ELSE json_quote(reason) END || ']' END";

/// The pieces between line feeds.
pub(super) fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = memchr::memchr_iter(b'\n', bytes).chain([bytes.len()]);
    let mut start = 0;
    ends.map(move |end| &bytes[std::mem::replace(&mut start, end + 1)..end])
}

/// The fields that an echo leaves out, as the writer pushed them.
pub struct Pushed<'a> {
    /// Who made it.
    pub origin: Origin,
    /// The actor.
    pub actor: Option<&'a str>,
    /// The table.
    pub table: &'a str,
    /// The row.
    pub key: &'a RowKey,
    /// The op.
    pub op: Op,
    /// The old values' JSON object.
    pub before: Option<&'a str>,
    /// The new values' JSON object.
    pub after: Option<&'a str>,
}

impl Pushed<'_> {
    /// The characters of both images.
    fn size(&self) -> usize {
        let images = [self.before, self.after];
        images.into_iter().flatten().map(|image| image.chars().count()).sum()
    }
}

/// An echo. All fields except the id and the size are still in their JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Echo<'a> {
    seq: Seq,
    id: EventId,
    unit: &'a [u8],
    base: &'a [u8],
    verdict: &'a [u8],
    reason: &'a [u8],
    received_at: &'a [u8],
    size: usize,
}

/// The next element of an array, after a comma.
pub(super) fn next<'a>(scanner: &mut Scanner<'a>) -> Option<&'a [u8]> {
    scanner.expect(b',').ok()?;
    scanner.raw().ok()
}

fn id(raw: &[u8]) -> Option<EventId> {
    let text = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Whether a line is an echo or should be one: it has 0 where a whole line has its writer.
fn is_echo(line: &[u8]) -> bool {
    let mut scanner = Scanner::new(line);
    let mut third = || {
        scanner.eat(b'[').then_some(())?;
        scanner.integer().ok()?;
        next(&mut scanner)?;
        next(&mut scanner)
    };
    third() == Some(b"0")
}

impl<'a> Echo<'a> {
    /// Reads a line, if it is an echo.
    pub(crate) fn read(line: &'a [u8]) -> Option<Echo<'a>> {
        let mut scanner = Scanner::new(line);
        scanner.eat(b'[').then_some(())?;
        let seq = Seq(scanner.integer().ok()?);
        let id = id(next(&mut scanner)?)?;
        if (next(&mut scanner)?, next(&mut scanner)?) != (b"0", b"null") {
            return None;
        }
        let unit = next(&mut scanner)?;
        let base = next(&mut scanner)?;
        let verdict = next(&mut scanner)?;
        let reason = next(&mut scanner)?;
        let received_at = next(&mut scanner)?;
        scanner.expect(b',').ok()?;
        let size = usize::try_from(scanner.integer().ok()?).ok()?;
        scanner.expect(b']').ok()?;
        scanner.end().ok()?;
        Some(Echo { seq, id, unit, base, verdict, reason, received_at, size })
    }

    pub(crate) fn seq(&self) -> Seq {
        self.seq
    }

    pub(crate) fn id(&self) -> EventId {
        self.id
    }

    /// Appends the whole line, as [`PULL_LINE`](super::PULL_LINE) makes it. If the remote's event
    /// is not `pushed`, it appends nothing and returns false.
    pub(crate) fn write(&self, pushed: &Pushed<'_>, out: &mut Vec<u8>) -> bool {
        if pushed.size() != self.size {
            return false;
        }
        let Pushed { origin, actor, table, key, op, before, after } = pushed;
        write(out, format_args!("[{},\"{}\",\"{origin}\",", self.seq, self.id));
        match actor {
            Some(actor) => write_string(actor.as_bytes(), out),
            None => out.extend_from_slice(b"null"),
        }
        out.push(b',');
        out.extend_from_slice(self.unit);
        out.push(b',');
        write_string(table.as_bytes(), out);
        write(out, format_args!(",{},\"{op}\",", key.0));
        for image in [before, after] {
            out.extend_from_slice(image.unwrap_or("null").as_bytes());
            out.push(b',');
        }
        out.extend_from_slice(self.base);
        out.extend_from_slice(b",null,null,null,");
        for field in [self.verdict, self.reason] {
            out.extend_from_slice(field);
            out.push(b',');
        }
        out.extend_from_slice(self.received_at);
        out.push(b']');
        true
    }
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes everything");
}

/// The fields of a short line that its neighbours may share: unit, base, verdict and reason.
pub(super) type Said<'a> = [&'a [u8]; 4];

/// A short line.
pub(super) struct Short<'a> {
    seq: &'a [u8],
    id: &'a [u8],
    received_at: &'a [u8],
    size: &'a [u8],
    said: Option<Said<'a>>,
}

impl<'a> Short<'a> {
    /// Reads a line if it is short. A whole line has its writer in the third place.
    pub(super) fn read(line: &'a [u8]) -> Option<Self> {
        let mut scanner = Scanner::new(line);
        scanner.eat(b'[').then_some(())?;
        let seq = scanner.raw().ok()?;
        let id = next(&mut scanner)?;
        scanner.expect(b',').ok()?;
        if scanner.peek() == Some(b'"') {
            return None;
        }
        let received_at = scanner.raw().ok()?;
        let size = next(&mut scanner)?;
        let said = if scanner.eat(b']') {
            None
        } else {
            let mut field = || next(&mut scanner);
            let said = [field()?, field()?, field()?, field()?];
            scanner.expect(b']').ok()?;
            Some(said)
        };
        scanner.end().ok()?;
        Some(Short { seq, id, received_at, size, said })
    }

    /// The shared fields, if this line has them.
    pub(super) fn said(&self) -> Option<Said<'a>> {
        self.said
    }

    /// Appends the echo.
    pub(super) fn write(&self, [unit, base, verdict, reason]: &Said<'_>, out: &mut Vec<u8>) {
        let Short { seq, id, received_at, size, .. } = *self;
        let fields = [seq, id, b"0", b"null", unit, base, verdict, reason, received_at, size];
        for (place, field) in fields.into_iter().enumerate() {
            out.push(if place == 0 { b'[' } else { b',' });
            out.extend_from_slice(field);
        }
        out.push(b']');
    }
}

/// The lines, with each echo replaced by a whole line. `whole` appends that line, or returns false
/// if it cannot. `None` if it could not make one of them.
///
/// # Errors
///
/// Those of `whole`.
pub(crate) fn complete(
    bytes: &[u8],
    mut whole: impl FnMut(&Echo<'_>, &mut Vec<u8>) -> Result<bool>,
) -> Result<Option<Vec<u8>>> {
    let mut out = Vec::new();
    let (mut copied, mut at) = (0, 0);
    for line in pieces(bytes) {
        let end = at + line.len();
        if is_echo(line) {
            out.extend_from_slice(&bytes[copied..at]);
            let Some(echo) = Echo::read(line) else { return Ok(None) };
            if !whole(&echo, &mut out)? {
                return Ok(None);
            }
            copied = end;
        }
        at = end + 1;
    }
    out.extend_from_slice(&bytes[copied..]);
    Ok(Some(out))
}

/// Whether a line of the page is an echo, or could not be made whole.
pub(crate) fn has_echoes(bytes: &[u8]) -> bool {
    pieces(bytes).any(is_echo)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ReplicaId;
    use crate::event::page::Page;

    const A: &str = "01JD8ZK3V5QWERTY0123456789";
    const UNIT: &str = "01JD8ZK3V5QWERTY0123456700";
    const WHOLE: &str = r#"[6,"01JD8ZK3V5QWERTY0123456781","web",null,null,"t",[1],"delete",{"k":1},null,0,null,null,null,"applied",null,16]"#;

    /// An echo whose images have `size` characters.
    fn first(size: usize) -> Vec<u8> {
        format!(r#"[4,"{A}",0,null,"{UNIT}",3,"applied",null,17,{size}]"#).into_bytes()
    }

    fn pushed(key: &RowKey) -> Pushed<'_> {
        Pushed {
            origin: Origin::Replica(ReplicaId(ulid::Ulid(5))),
            actor: Some("a\"b"),
            table: "t\n",
            key,
            op: Op::Update,
            before: Some(r#"{"é":1}"#),
            after: Some(r#"{"é":2}"#),
        }
    }

    #[test]
    fn an_echo_and_the_pushed_event_are_the_whole_line() {
        let bytes = first(14);
        let echo = Echo::read(&bytes).unwrap();
        assert_eq!((echo.seq(), echo.id().to_string()), (Seq(4), A.to_owned()));
        let key = RowKey("[1]".to_owned());
        let mut out = b"before".to_vec();
        assert!(echo.write(&pushed(&key), &mut out));
        let line = format!(
            r#"[4,"{A}","{}","a\"b","{UNIT}","t\n",[1],"update",{{"é":1}},{{"é":2}},3,null,null,null,"applied",null,17]"#,
            ReplicaId(ulid::Ulid(5))
        );
        assert_eq!(String::from_utf8(out.split_off(6)).unwrap(), line);
        let page = Page { bytes: line.into_bytes(), last: Seq(4), count: 1, more: false };
        assert!(page.lines().unwrap()[0].damaged.is_none());
    }

    #[test]
    fn another_size_is_another_event() {
        let bytes = first(9);
        let (key, mut out) = (RowKey("[1]".to_owned()), Vec::new());
        assert!(!Echo::read(&bytes).unwrap().write(&pushed(&key), &mut out));
        assert!(out.is_empty());
    }

    #[test]
    fn a_page_is_complete_or_not_at_all() {
        let page = [&first(9)[..], WHOLE.as_bytes()].join(&b'\n');
        let whole = |put: bool| {
            complete(&page, |echo, out| {
                write(out, format_args!("<{}>", echo.seq()));
                Ok(put)
            })
        };
        assert_eq!(whole(true).unwrap().unwrap(), format!("<4>\n{WHOLE}").into_bytes());
        assert_eq!(whole(false).unwrap(), None);
        assert!(has_echoes(&page) && !has_echoes(WHOLE.as_bytes()));
        for damaged in [&b"[4,\"x\",0,null"[..], b"[4,\"x\",0]", b"[4,\"x\",0,1,2,3,4,5,6]"] {
            assert_eq!(complete(damaged, |_, _| Ok(true)).unwrap(), None);
        }
    }

    #[test]
    fn an_echo_has_an_id_and_is_no_event_by_itself() {
        let bytes = first(9);
        let page = Page { bytes, last: Seq(4), count: 1, more: false };
        assert_eq!(page.last_id().unwrap().to_string(), A);
        assert_eq!(Page { last: Seq(5), ..page.clone() }.last_id(), None);
        assert!(page.lines().unwrap()[0].damaged.is_some());
    }
}
