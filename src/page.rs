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

/// The greatest size of a key, in bytes: it stands in an index on the remote. A change of a row
/// with a larger one is recorded as rejected, and one of the web's waits in quarantine.
pub const MAX_KEY_BYTES: usize = 64 << 10;

/// The least events of a page that two threads read: a thread costs as much as some fifty of them.
const TWO_FROM: usize = 512;
/// The most characters of a table's name in a reason.
const MAX_SHOWN: usize = 100;
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
    /// Why this is no event, if it is none; then everything but `seq`, and `table` where it
    /// can be told, is empty.
    pub damaged: Option<String>,
}

/// How far a page has been taken apart: see [`Page::part`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset {
    bytes: usize,
    events: usize,
}

impl Page {
    /// The page's next part behind `from`, itself a page, and where it ends: at least `events`
    /// events if there are as many, up to the end of the last one's unit and of its key change.
    ///
    /// Nothing is checked here: what is wrong with a page shows in its parts.
    pub fn part(&self, from: Offset, events: usize) -> (Page, Offset) {
        let (mut count, mut at) = (0, from.bytes);
        let mut last: Option<(Seq, &[u8])> = None;
        for line in pieces(&self.bytes[from.bytes..]) {
            // What has no seq belongs to a damaged line before it.
            if let Some(seq) = seq(line) {
                if let Some((last, before)) = last
                    && count >= events
                    && ends_unit(before, line)
                {
                    let bytes = self.bytes[from.bytes..at - 1].to_vec();
                    let place = Offset { bytes: at, events: from.events + count };
                    return (Page { bytes, last, count, more: true }, place);
                }
                count += 1;
                last = Some((seq, line));
            }
            at += line.len() + 1;
        }
        let rest = Page {
            bytes: self.bytes[from.bytes..].to_vec(),
            last: self.last,
            count: self.count.saturating_sub(from.events),
            more: self.more,
        };
        (rest, Offset { bytes: self.bytes.len(), events: self.count })
    }

    /// Whether nothing is behind `place`.
    pub fn ends_at(&self, place: Offset) -> bool {
        place.bytes >= self.bytes.len()
    }

    /// Reads the lines of a long page, half of them in a thread of their own. `None` if it is
    /// short, and if anything is amiss: then it is for the one who reads them in a row to say what.
    fn lines_by_two(&self) -> Option<Vec<Line<'_>>> {
        if self.count < TWO_FROM {
            return None;
        }
        let middle = self.bytes.len() / 2;
        let middle = middle + memchr::memchr(b'\n', &self.bytes[middle..])?;
        let (first, second) = self.bytes.split_at(middle);
        let (mut lines, more) = std::thread::scope(|scope| {
            let more = std::thread::Builder::new().name("driftless-lines".to_owned());
            let more = more.spawn_scoped(scope, move || read_lines(second, self.count)).ok()?;
            let lines = read_lines(first, self.count);
            Some((lines.ok()?, more.join().ok()?.ok()?))
        })?;
        let rises =
            lines.last().zip(more.first()).is_some_and(|(last, first)| last.seq < first.seq);
        lines.extend(more);
        rises.then_some(lines)
    }

    /// Reads every line.
    ///
    /// # Errors
    ///
    /// `Corrupt` when a line has not even a seq, when seqs do not rise up to `last` (below
    /// [`MAX_SEQ`]), or when the count is another. Then the page must be fetched again. A line that
    /// has a seq and is no event otherwise comes as [`Line::damaged`], since it will be there
    /// again.
    pub fn lines(&self) -> Result<Vec<Line<'_>>> {
        // What the remote says of its page is believed only as far as the bytes go.
        let most = self.bytes.len() / MIN_LINE_BYTES + 1;
        if self.count > most {
            let message =
                format!("a page of {} bytes cannot have {} events", self.bytes.len(), self.count);
            return Err(Error::corrupt(message));
        }
        let lines = match self.lines_by_two() {
            Some(lines) => lines,
            None => read_lines(&self.bytes, self.count)?,
        };
        let previous = lines.last().map_or(Seq(0), |line| line.seq);
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

/// The lines of a page or of a part of it, of which there may be `most`.
fn read_lines(bytes: &[u8], most: usize) -> Result<Vec<Line<'_>>> {
    let mut lines: Vec<Line<'_>> = Vec::with_capacity(most.min(bytes.len() / MIN_LINE_BYTES + 1));
    let mut previous = Seq(0);
    for bytes in pieces(bytes).filter(|bytes| !bytes.is_empty()) {
        let Some(line) = Line::read(bytes)? else {
            // A line feed in the middle of a damaged line: what is behind it belongs to it.
            if lines.last().is_some_and(|line| line.damaged.is_some()) {
                continue;
            }
            return Err(Error::corrupt(format!("what follows event {previous} is no event")));
        };
        if lines.len() == most {
            return Err(Error::corrupt(format!("a page has more than its {most} events")));
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
    Ok(lines)
}

/// The pieces between line feeds.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = memchr::memchr_iter(b'\n', bytes).chain([bytes.len()]);
    let mut start = 0;
    ends.map(move |end| &bytes[std::mem::replace(&mut start, end + 1)..end])
}

/// The seq with which a line begins.
fn seq(line: &[u8]) -> Option<Seq> {
    let mut scanner = Scanner::new(line);
    scanner.eat(b'[').then(|| scanner.integer().ok()).flatten().map(Seq)
}

/// The unit in a line, still in its JSON.
fn unit(line: &[u8]) -> Result<&[u8]> {
    let mut scanner = Scanner::new(line);
    scanner.expect(b'[')?;
    for _before in ["seq", "id", "origin", "actor"] {
        scanner.raw()?;
        scanner.expect(b',')?;
    }
    scanner.raw()
}

/// Whether a unit ends with the line `last`, which `next` follows. An event without a unit is one
/// by itself, or with the other half of its key change.
fn ends_unit(last: &[u8], next: &[u8]) -> bool {
    let (Ok(ends), Ok(begins)) = (unit(last), unit(next)) else { return true };
    if ends != begins || ends != b"null" {
        return ends != begins;
    }
    let (Ok(last), Ok(next)) = (Line::parse(last), Line::parse(next)) else { return true };
    last.pair != Some(next.id)
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
                table: salvage(bytes).unwrap_or(Cow::Borrowed("")),
                seq: Seq(seq),
                id: EventId(ulid::Ulid(0)),
                origin: Origin::Web,
                actor: None,
                unit: None,
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
        let key = std::str::from_utf8(fields.raw()?).map_err(|_| fields.not_utf8(&table))?;
        if !key.starts_with('[') {
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

/// The table in a line that is no event otherwise: it tells a person where to look.
fn salvage(line: &[u8]) -> Option<Cow<'_, str>> {
    let mut scanner = Scanner::new(line);
    scanner.expect(b'[').ok()?;
    for _before in ["seq", "id", "origin", "actor", "unit"] {
        scanner.raw().ok()?;
        scanner.expect(b',').ok()?;
    }
    match scanner.string().ok()? {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).ok(),
        Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).ok(),
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

    fn not_utf8(&self, table: &str) -> Error {
        let table: String = table.chars().take(MAX_SHOWN).collect();
        Error::corrupt(format!(
            "event {} names its row of table `{table}` by text that is not UTF-8",
            self.seq
        ))
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
            Some(text) => {
                text.parse::<EventId>().map(|id| Some(id.0)).map_err(|_| self.wrong("id"))
            }
        }
    }

    fn image(&mut self, field: &str) -> Result<Option<&'a [u8]>> {
        self.scanner.expect(b',')?;
        if self.scanner.null() {
            return Ok(None);
        }
        self.scanner.raw_object().map(Some).map_err(|_| self.wrong(field))
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
    fn a_long_page_is_read_as_a_short_one_is() {
        let count = 2 * TWO_FROM as i64;
        let line = |seq: i64| LINE.replace("[7,", &format!("[{seq},"));
        let lines: Vec<_> = (1..=count).map(line).collect();
        let read = |lines: &[String]| {
            let page = page(&lines.join("\n"), count, lines.len());
            page.lines().map(|lines| lines.iter().map(|line| line.seq.0).collect::<Vec<_>>())
        };
        assert!(read(&lines).unwrap().into_iter().eq(1..=count));
        // A damaged line whose line feed is the very middle is damaged as it would be elsewhere.
        for at in [0, lines.len() / 2 - 1, lines.len() / 2, lines.len() - 1] {
            let mut damaged = lines.clone();
            damaged[at] = damaged[at].replace("\"k\"", &format!("\"{}", "k\n".repeat(400)));
            assert!(read(&damaged).unwrap().into_iter().eq(1..=count), "{at}");
        }
        for at in lines.len() / 2 - 3..lines.len() / 2 + 3 {
            let mut double = lines.clone();
            double[at] = double[at - 1].clone();
            assert!(read(&double).is_err(), "event {at} comes twice");
        }
        for (one, other) in [(0, 1), (lines.len() / 2 - 1, lines.len() / 2), (5, lines.len() - 5)] {
            let mut mixed = lines.clone();
            mixed.swap(one, other);
            assert!(read(&mixed).is_err(), "{one} and {other} change places");
        }
    }

    #[test]
    fn a_page_comes_apart_between_units() {
        let line = |seq: i64, unit: Option<u128>, pair: Option<u128>| {
            let quoted = |id: Option<u128>| match id {
                Some(id) => format!("\"{}\"", ulid::Ulid(id)),
                None => "null".to_owned(),
            };
            let id = quoted(Some(seq as u128));
            LINE.replace(
                "[7,\"01JD8ZK3V5QWERTY0123456789\",\"web\",null,null",
                &format!("[{seq},{id},\"web\",null,{}", quoted(unit)),
            )
            .replace("3,null,null,null,", &format!("3,null,null,{},", quoted(pair)))
        };
        let lines = [
            line(1, Some(9), None),
            line(2, Some(9), None),
            line(3, Some(8), None),
            line(4, None, None),
            line(5, None, Some(6)),
            line(6, None, Some(5)),
            line(7, None, None),
        ];
        let whole = Page { more: true, ..page(&lines.join("\n"), 7, 7) };
        let apart = |events: usize| -> Vec<i64> {
            let mut ends = Vec::new();
            let mut place = Offset::default();
            while !whole.ends_at(place) {
                let (part, end) = whole.part(place, events);
                assert_eq!(part.lines().unwrap().len(), part.count);
                assert!(part.more);
                ends.push(part.last.0);
                place = end;
            }
            ends
        };
        let (first, place) = whole.part(Offset::default(), 3);
        let (second, _) = whole.part(place, 9);
        assert_eq!([first.bytes, second.bytes].join(&b'\n'), whole.bytes);
        assert_eq!(apart(1), [2, 3, 4, 6, 7]);
        assert_eq!(apart(3), [3, 6, 7]);
        assert_eq!(apart(7), [7]);
        let wrong = Page { count: 8, ..whole.clone() };
        let (_, place) = wrong.part(Offset::default(), 1);
        assert!(wrong.part(place, 9).0.lines().is_err(), "a wrong count shows in the last part");
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

    #[test]
    fn only_a_long_page_is_worth_a_thread() {
        let long = |count: usize| {
            let line = |seq: usize| LINE.replace("[7,", &format!("[{seq},"));
            let lines: Vec<_> = (1..=count).map(line).collect();
            page(&lines.join("\n"), count as i64, count)
        };
        assert!(long(TWO_FROM - 1).lines_by_two().is_none());
        assert_eq!(long(TWO_FROM).lines_by_two().unwrap().len(), TWO_FROM);
    }

    #[test]
    fn a_page_is_believed_as_far_as_its_bytes_go() {
        assert!(page("[7", 7, 1).lines().unwrap()[0].damaged.is_some());
        assert!(page("[1\n[2\n[3", 3, 3).lines().is_err(), "no event is so short");
        assert!(page("", 7, 0).lines().unwrap().is_empty());
        let at = |seq: i64| page(&LINE.replace("[7,", &format!("[{seq},")), seq, 1);
        assert_eq!(at(MAX_SEQ.0).lines().unwrap()[0].seq, MAX_SEQ);
        assert!(at(MAX_SEQ.0 + 1).lines().is_err());
    }

    #[test]
    fn a_key_fits_into_an_index() {
        let damaged = |bytes: usize| {
            let key = format!("[\"{}\"]", "k".repeat(bytes - 4));
            let page = page(&LINE.replace("[\"k\",1]", &key), 7, 1);
            page.lines().unwrap()[0].damaged.is_some()
        };
        assert!(!damaged(MAX_KEY_BYTES));
        assert!(damaged(MAX_KEY_BYTES + 1));
    }

    #[test]
    fn the_last_id_is_that_of_the_last_event_if_it_is_one() {
        let two = format!("{}\n{LINE}\n", LINE.replace("[7,", "[6,").replace("789\"", "788\""));
        let id = Some("01JD8ZK3V5QWERTY0123456789".parse().unwrap());
        assert_eq!(page(&two, 7, 2).last_id(), id);
        assert_eq!(page(&two, 8, 2).last_id(), None, "it is not the last one");
        assert_eq!(page(&LINE.replace("web", "wob"), 7, 1).last_id(), None);
        assert_eq!(page("", 0, 0).last_id(), None);
    }
}
