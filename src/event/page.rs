//! A page of the remote log, as it is sent: one line for each event, each a JSON array.
//!
//! The remote makes a line from the log's columns ([`PULL_LINE`]). `pk`, `before` and `after` are
//! JSON already and are inserted unchanged. A [`Page`] owns the bytes. A [`Line`] borrows from
//! them, so the values of an event are copied only if they are needed. A replica's own event may
//! come without the fields that are in its outbox, as an [`echo`].

#[doc(hidden)]
pub mod echo;
#[doc(hidden)]
pub mod unfold;

use std::borrow::Cow;

use self::echo::{Echo, pieces};
use super::json::Scanner;
use super::verdict::Verdict;
use super::{Event, EventId, Image, Op, Origin, RowKey, Seq};
use crate::error::{Code, Error, Result};

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

/// The greatest size of a key, in bytes. The limit exists because the key is in an index on the
/// remote. A change of a row with a larger key is recorded as rejected. Such a change of the web
/// application waits in quarantine.
pub const MAX_KEY_BYTES: usize = 64 << 10;

/// The fewest events of a page that two threads read: starting a thread costs as much as reading
/// about fifty events.
const TWO_FROM: usize = 512;
/// The most characters of a table's name in a reason.
const MAX_SHOWN: usize = 100;
/// The fewest bytes of a line, with its line feed: seventeen fields have commas, and most have
/// quotes. A page that claims more lines than its bytes allow is refused, before the lines take 100
/// times the page's memory.
const MIN_LINE_BYTES: usize = 48;

/// The greatest seq. It is far above any real log's, and far enough below 2^63 that no sum
/// overflows.
pub const MAX_SEQ: Seq = Seq(1 << 60);

/// The lines of a page, and the place in the log where they end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The lines, with a line feed between.
    pub bytes: Vec<u8>,
    /// The seq of the last event; the cursor after this page.
    pub last: Seq,
    /// How many events there are.
    pub count: usize,
    /// Whether the log goes on after this page, as the remote reported it.
    pub more: bool,
}

/// One event of a page, still in its JSON. A flat record: each field except `damaged` and `bytes`
/// is an element of the line's array.
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
    /// Why the line is not a valid event; `None` if it is valid. If it is not, only `seq`, `bytes`
    /// and, if it could be read, `table` are set.
    pub damaged: Option<String>,
    /// The line as it was received.
    pub bytes: &'a [u8],
}

/// A place within a page: see [`Page::part`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset {
    bytes: usize,
    events: usize,
}

impl Page {
    /// The part of the page that begins at `from`, and its end. It has at least `events` events if
    /// there are as many, and ends with a unit and not within a key change.
    ///
    /// Nothing is checked here: an error in the page is found when its parts are read.
    pub fn part(&self, from: Offset, events: usize) -> (Page, Offset) {
        let (mut count, mut at) = (0, from.bytes);
        let mut last: Option<(Seq, &[u8])> = None;
        for line in pieces(&self.bytes[from.bytes..]) {
            // A piece without a seq belongs to a damaged line before it.
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

    /// Splits the page before its last unit if that unit may go on in the next page. The first part
    /// is `None` if the page has only one unit. The second is `None` if no unit may go on.
    ///
    /// As in [`Page::part`], nothing is checked here.
    pub fn split_last_unit(self) -> (Option<Page>, Option<Page>) {
        let (mut count, mut end) = (0, self.bytes.len());
        let mut next: Option<usize> = None;
        loop {
            let start = memchr::memrchr(b'\n', &self.bytes[..end]).map_or(0, |at| at + 1);
            if let Some(found) = seq(&self.bytes[start..end]) {
                let (line, rest) = (&self.bytes[start..end], next.unwrap_or(end));
                let behind = pieces(&self.bytes[rest..]).next();
                if next.is_some() && behind.is_some_and(|behind| ends_unit(line, behind)) {
                    let (bytes, more) = (self.bytes[..rest - 1].to_vec(), true);
                    let before = self.count.saturating_sub(count);
                    let done = Page { bytes, last: found, count: before, more };
                    let last = Page { bytes: self.bytes[rest..].to_vec(), count, ..self };
                    return (Some(done), Some(last));
                }
                if next.is_none() && is_alone(line) {
                    return (Some(self), None);
                }
                count += 1;
                next = Some(start);
            }
            if start == 0 {
                return if next.is_some() { (None, Some(self)) } else { (Some(self), None) };
            }
            end = start - 1;
        }
    }

    /// Joins this page and the one that follows it.
    pub fn joined(mut self, next: Page) -> Page {
        self.bytes.push(b'\n');
        self.bytes.extend_from_slice(&next.bytes);
        self.count += next.count;
        (self.last, self.more) = (next.last, next.more);
        self
    }

    /// Whether the page ends at `place`.
    pub fn ends_at(&self, place: Offset) -> bool {
        place.bytes >= self.bytes.len()
    }

    /// Reads the lines of a long page in two threads. `None` if the page is short, and if a line is
    /// not valid: then the caller reads the lines in order, which gives the exact error.
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
    /// `Corrupt` when a line has no seq, when seqs do not rise up to `last` (below [`MAX_SEQ`]), or
    /// when the count differs. Then the page must be fetched again. A line that has a seq but is
    /// not valid otherwise comes as [`Line::damaged`], because it would be the same in the next
    /// page.
    pub fn lines(&self) -> Result<Vec<Line<'_>>> {
        // The remote's count is limited by the number of bytes that came.
        let most = self.bytes.len() / MIN_LINE_BYTES + 1;
        if self.count > most {
            let message =
                format!("a page of {} bytes cannot have {} events", self.bytes.len(), self.count);
            return Err(invalid(message));
        }
        let lines = match self.lines_by_two() {
            Some(lines) => lines,
            None => read_lines(&self.bytes, self.count)?,
        };
        let previous = lines.last().map_or(Seq(0), |line| line.seq);
        if lines.len() != self.count || (self.count > 0 && previous != self.last) {
            return Err(invalid(format!(
                "a page of {} events up to {} has {} up to {previous}",
                self.count,
                self.last,
                lines.len()
            )));
        }
        Ok(lines)
    }

    /// The id of the last event. `None` for an empty page, and if the last line is not valid.
    pub fn last_id(&self) -> Option<EventId> {
        let mut lines = self.bytes.rsplit(|&byte| byte == b'\n');
        let bytes = lines.find(|bytes| !bytes.is_empty())?;
        if let Some(echo) = Echo::read(bytes) {
            return (echo.seq() == self.last).then_some(echo.id());
        }
        let line = Line::read(bytes).ok()??;
        (line.seq == self.last && line.damaged.is_none()).then_some(line.id)
    }
}

/// The error for a page that is not valid.
fn invalid(message: String) -> Error {
    Error::new(Code::AnswerInvalid, message)
}

/// Reads the lines of a page or of a part of it. `most` is the greatest number of lines.
fn read_lines(bytes: &[u8], most: usize) -> Result<Vec<Line<'_>>> {
    let mut lines: Vec<Line<'_>> = Vec::with_capacity(most.min(bytes.len() / MIN_LINE_BYTES + 1));
    let mut previous = Seq(0);
    for bytes in pieces(bytes).filter(|bytes| !bytes.is_empty()) {
        let Some(line) = Line::read(bytes)? else {
            // A line feed in the middle of a damaged line: the piece after it belongs to the same
            // line.
            if lines.last().is_some_and(|line| line.damaged.is_some()) {
                continue;
            }
            return Err(invalid(format!("the line after event {previous} is not an event")));
        };
        if lines.len() == most {
            return Err(invalid(format!("a page has more than its {most} events")));
        }
        if line.seq > MAX_SEQ {
            return Err(invalid(format!("no log has an event {}", line.seq)));
        }
        if line.seq <= previous {
            return Err(invalid(format!("event {} comes after {previous}", line.seq)));
        }
        previous = line.seq;
        lines.push(line);
    }
    Ok(lines)
}

/// The seq at the beginning of a line.
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

/// Whether a line's event has neither a unit nor another half of a key change.
fn is_alone(line: &[u8]) -> bool {
    unit(line).is_ok_and(|unit| unit == b"null")
        && Line::parse(line).map_or(true, |line| line.pair.is_none())
}

/// Whether a unit ends with the line `last`, which is followed by `next`. An event without a unit
/// is a unit by itself, or together with the other half of its key change.
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
                bytes,
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
            bytes,
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

/// The table of a line that is not a valid event. It tells a person where to look.
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

/// Reads the fields of a line after its seq. Each follows a comma.
struct Fields<'a> {
    scanner: Scanner<'a>,
    seq: Seq,
}

impl<'a> Fields<'a> {
    fn wrong(&self, field: &str) -> Error {
        invalid(format!("event {} has a {field} that is not valid", self.seq))
    }

    fn not_utf8(&self, table: &str) -> Error {
        let table: String = table.chars().take(MAX_SHOWN).collect();
        invalid(format!(
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
mod tests;
