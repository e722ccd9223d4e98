//! A page of the remote log, as it travels: one line an event, each a JSON array.
//!
//! The remote splices a line together from the log's columns ([`PULL_LINE`]); `pk`, `before` and
//! `after` are JSON already and go in as they are. A [`Page`] owns the bytes; a [`Line`] borrows
//! from them, so that the values of an event that needs no look are never copied.

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::event::{Event, EventId, Image, Op, Origin, RowKey, Seq};
use crate::json::Scanner;
use crate::verdict::Verdict;

/// The SQL expression that makes an event's line from the columns of `driftless_events`. The order
/// is [`Line`]'s. Ids, origins and verdicts have no character that JSON escapes.
pub const PULL_LINE: &str = "'[' || seq || ',\"' || id || '\",\"' || origin || '\",' || \
    CASE WHEN actor IS NULL THEN 'null' ELSE json_quote(actor) END || ',' || \
    CASE WHEN unit IS NULL THEN 'null' ELSE '\"' || unit || '\"' END || ',' || \
    json_quote(tbl) || ',' || pk || ',\"' || op || '\",' || coalesce(before, 'null') || ',' || \
    coalesce(after, 'null') || ',' || base || ',' || \
    CASE WHEN cause IS NULL THEN 'null' ELSE '\"' || cause || '\"' END || ',' || \
    CASE WHEN via IS NULL THEN 'null' ELSE '\"' || via || '\"' END || ',' || \
    CASE WHEN pair IS NULL THEN 'null' ELSE '\"' || pair || '\"' END || ',\"' || verdict || '\",' || \
    CASE WHEN reason IS NULL THEN 'null' ELSE json_quote(reason) END || ',' || received_at || ']'";

/// The greatest size of a key, in bytes: it stands in an index on the remote.
pub const MAX_KEY_BYTES: usize = 64 << 10;

/// No line has fewer bytes, its line feed included: seventeen fields have commas, and most of them
/// quotes. A page of more lines than that is refused, before they take 100 times its own memory.
const MIN_LINE_BYTES: usize = 48;

/// The greatest seq: far above what a log can have, and far enough below 2^63 that nobody's
/// arithmetic overflows.
pub const MAX_SEQ: Seq = Seq(1 << 60);

/// The lines of a page and where in the log they end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The lines, with a line feed between.
    pub bytes: Vec<u8>,
    /// The seq of the last event; the cursor after this page.
    pub last: Seq,
    /// How many events there are.
    pub count: usize,
    /// Whether the log goes on after this page, as far as the remote knew.
    pub more: bool,
}

/// One event of a page, still in its JSON.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// See [`Event`] for this and the others.
    pub seq: Seq,
    /// The id.
    pub id: EventId,
    /// Who made it.
    pub origin: Origin,
    /// The actor.
    pub actor: Option<Cow<'a, str>>,
    /// The unit.
    pub unit: Option<ulid::Ulid>,
    /// The table's name, which may be any text.
    pub table: Cow<'a, str>,
    /// The key's JSON array.
    pub key: &'a str,
    /// The op.
    pub op: Op,
    /// The old values' JSON object.
    pub before: Option<&'a [u8]>,
    /// The new values' JSON object.
    pub after: Option<&'a [u8]>,
    /// The base.
    pub base: Seq,
    /// The cause.
    pub cause: Option<EventId>,
    /// The event of which this is a foreign key's consequence.
    pub via: Option<EventId>,
    /// The other half of a key change.
    pub pair: Option<EventId>,
    /// The verdict.
    pub verdict: Verdict,
    /// When the remote received it, in ms since 1970.
    pub received_at: i64,
    /// Why this is no event, if it is none; then everything but `seq` is empty.
    pub damaged: Option<String>,
}

impl Page {
    /// Reads every line.
    ///
    /// # Errors
    ///
    /// `Corrupt` when a line has not even a seq, when seqs do not rise up to `last` and
    /// [`MAX_SEQ`], or when the count is another. Then the page must be fetched again. A line that has a
    /// seq and is no event otherwise comes as [`Line::damaged`], since it will be there again.
    pub fn lines(&self) -> Result<Vec<Line<'_>>> {
        // What the remote says of its page is believed only as far as the bytes go.
        let most = self.bytes.len() / MIN_LINE_BYTES + 1;
        if self.count > most {
            let message =
                format!("a page of {} bytes cannot have {} events", self.bytes.len(), self.count);
            return Err(Error::corrupt(message));
        }
        let mut lines = Vec::with_capacity(self.count);
        let mut previous = Seq(0);
        for bytes in self.bytes.split(|&byte| byte == b'\n').filter(|bytes| !bytes.is_empty()) {
            let Some(line) = Line::read(bytes)? else {
                // A line feed in the middle of a damaged line: what is behind it belongs to it.
                if lines.last().is_some_and(|line: &Line<'_>| line.damaged.is_some()) {
                    continue;
                }
                return Err(Error::corrupt(format!("what follows event {previous} is no event")));
            };
            if lines.len() == self.count {
                return Err(Error::corrupt(format!(
                    "a page has more than its {} events",
                    self.count
                )));
            }
            if line.seq > MAX_SEQ {
                return Err(Error::corrupt(format!("no log has an event {}", line.seq)));
            }
            if line.seq <= previous {
                return Err(Error::corrupt(format!("event {} comes after {previous}", line.seq)));
            }
            previous = line.seq;
            lines.push(line);
        }
        if lines.len() != self.count || (self.count > 0 && previous != self.last) {
            return Err(Error::corrupt(format!(
                "a page of {} events up to {} has {} up to {previous}",
                self.count,
                self.last,
                lines.len()
            )));
        }
        Ok(lines)
    }

    /// The id of the last event; `None` for an empty page, and where that line is no event.
    pub fn last_id(&self) -> Option<EventId> {
        let mut lines = self.bytes.rsplit(|&byte| byte == b'\n');
        let line = Line::read(lines.find(|bytes| !bytes.is_empty())?).ok()??;
        (line.seq == self.last && line.damaged.is_none()).then_some(line.id)
    }
}

impl<'a> Line<'a> {
    /// Reads a line; `None` if it has no seq.
    fn read(bytes: &'a [u8]) -> Result<Option<Self>> {
        let mut scanner = Scanner::new(bytes);
        if !scanner.eat(b'[') {
            return Ok(None);
        }
        let Ok(seq) = scanner.integer() else { return Ok(None) };
        Ok(Some(match Self::parse(bytes) {
            Ok(line) => line,
            Err(error) => Line {
                seq: Seq(seq),
                id: EventId(ulid::Ulid(0)),
                origin: Origin::Web,
                actor: None,
                unit: None,
                table: Cow::Borrowed(""),
                key: "[]",
                op: Op::Delete,
                before: None,
                after: None,
                base: Seq(0),
                cause: None,
                via: None,
                pair: None,
                verdict: Verdict::Rejected("malformed".to_owned()),
                received_at: 0,
                damaged: Some(error.message().to_owned()),
            },
        }))
    }

    fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut scanner = Scanner::new(bytes);
        scanner.expect(b'[')?;
        let seq = Seq(scanner.integer()?);
        let mut fields = Fields { scanner, seq };
        let id = fields.ulid()?.map(EventId).ok_or_else(|| fields.wrong("id"))?;
        let origin = fields.required("origin")?.parse().map_err(|_| fields.wrong("origin"))?;
        let actor = fields.text("actor")?;
        let unit = fields.ulid()?;
        let table = fields.required("table")?;
        let key = std::str::from_utf8(fields.raw()?).map_err(|_| fields.wrong("key"))?;
        if key.len() > MAX_KEY_BYTES || !key.starts_with('[') {
            return Err(fields.wrong("key"));
        }
        let op = fields.required("op")?.parse()?;
        let before = fields.image("before")?;
        let after = fields.image("after")?;
        if (op == Op::Delete) != after.is_none() {
            return Err(fields.wrong("op"));
        }
        let base = Seq(fields.integer()?);
        let cause = fields.ulid()?.map(EventId);
        let via = fields.ulid()?.map(EventId);
        let pair = fields.ulid()?.map(EventId);
        let word = fields.required("verdict")?;
        let reason = fields.text("reason")?;
        let verdict = Verdict::parse(&word, reason.as_deref())?;
        let received_at = fields.integer()?;
        fields.scanner.expect(b']')?;
        fields.scanner.end()?;
        Ok(Line {
            seq,
            id,
            origin,
            actor,
            unit,
            table,
            key,
            op,
            before,
            after,
            base,
            cause,
            via,
            pair,
            verdict,
            received_at,
            damaged: None,
        })
    }

    /// The event, with its values read.
    ///
    /// # Errors
    ///
    /// `Corrupt` when an image is not one.
    pub fn event(&self) -> Result<Event> {
        let image = |json: Option<&[u8]>| json.map(Image::parse).transpose();
        Ok(Event {
            seq: self.seq,
            id: self.id,
            origin: self.origin,
            actor: self.actor.as_deref().map(str::to_owned),
            unit: self.unit,
            table: self.table.clone().into_owned(),
            key: RowKey(self.key.to_owned()),
            op: self.op,
            before: image(self.before)?,
            after: image(self.after)?,
            base: self.base,
            cause: self.cause,
            via: self.via,
            pair: self.pair,
            verdict: self.verdict.clone(),
            received_at: self.received_at,
        })
    }
}

/// The fields of a line after its seq, each behind a comma.
struct Fields<'a> {
    scanner: Scanner<'a>,
    seq: Seq,
}

impl<'a> Fields<'a> {
    fn wrong(&self, field: &str) -> Error {
        Error::corrupt(format!("event {} has a {field} that is none", self.seq))
    }

    fn raw(&mut self) -> Result<&'a [u8]> {
        self.scanner.expect(b',')?;
        self.scanner.raw()
    }

    fn integer(&mut self) -> Result<i64> {
        self.scanner.expect(b',')?;
        self.scanner.integer()
    }

    fn text(&mut self, field: &str) -> Result<Option<Cow<'a, str>>> {
        self.scanner.expect(b',')?;
        if self.scanner.null() {
            return Ok(None);
        }
        match self.scanner.string()? {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).ok(),
            Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).ok(),
        }
        .map(Some)
        .ok_or_else(|| self.wrong(field))
    }

    fn required(&mut self, field: &str) -> Result<Cow<'a, str>> {
        self.text(field)?.ok_or_else(|| self.wrong(field))
    }

    fn ulid(&mut self) -> Result<Option<ulid::Ulid>> {
        match self.text("id")? {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| self.wrong("id")),
        }
    }

    fn image(&mut self, field: &str) -> Result<Option<&'a [u8]>> {
        let raw = self.raw()?;
        match raw.first() {
            Some(b'{') => Ok(Some(raw)),
            _ if raw == b"null" => Ok(None),
            _ => Err(self.wrong(field)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"[7,"01JD8ZK3V5QWERTY0123456789","web",null,null,"a\"b",["k",1],"update",{"x":1},{"x":{"r":"2.0"}},3,null,null,null,"rejected","unique",1700000000000]"#;

    fn page(bytes: &str, last: i64, count: usize) -> Page {
        Page { bytes: bytes.as_bytes().to_vec(), last: Seq(last), count, more: false }
    }

    #[test]
    fn a_line_is_read() {
        let page = page(LINE, 7, 1);
        let event = page.lines().unwrap()[0].event().unwrap();
        assert_eq!(event.table, "a\"b");
        assert_eq!(event.key.0, r#"["k",1]"#);
        assert_eq!(event.after.unwrap().0, [("x".to_owned(), crate::value::Value::Real(2.0))]);
        assert_eq!(event.verdict, Verdict::Rejected("unique".to_owned()));
    }

    #[test]
    fn a_damaged_line_does_not_stop_the_others() {
        let broken = LINE.replace("[\"k\",1]", "[\"k\n\",1").replace("[7,", "[6,");
        let page = page(&format!("{broken}\n{LINE}"), 7, 2);
        let lines = page.lines().unwrap();
        assert!(lines[0].damaged.is_some());
        assert!(lines[1].damaged.is_none());
    }

    #[test]
    fn a_page_that_is_not_what_it_says_is_refused() {
        let two = format!("{LINE}\n{LINE}");
        let bad = [page(LINE, 8, 1), page(LINE, 7, 2), page(&two, 7, 2), page("[]", 7, 1)];
        for page in bad {
            assert!(page.lines().is_err());
        }
        for (old, new) in
            [("web", "wob"), ("{\"x\":1}", "[]"), ("update", "delete"), ("[\"k\",1]", "1")]
        {
            let page = page(&LINE.replace(old, new), 7, 1);
            let lines = page.lines().unwrap();
            assert!(lines[0].damaged.is_some(), "{new}");
            assert_eq!(lines[0].seq, Seq(7));
        }
    }
}
