//! What is asked of the log: a stretch of it, a slice of a line that does not fit into an answer,
//! and the lines of events by their ids. All pure.

use super::lean_lines::{Lean, lines};
use super::meta::{Meta, number, parameters, read_meta, wrong};
use super::{Statement, text};
use crate::error::Result;
use crate::event::page::unfold::unfold;
use crate::event::page::{MAX_SEQ, PULL_LINE, Page};
use crate::event::value::Value;
use crate::event::{EventId, Seq};
use crate::protocol::{Answer, Rows};

/// The most events of a unit that is waited for to be integrated in one transaction. An optimised
/// build integrates 100,000 events a second and more, so the write lock is held for less than half
/// a second; a larger unit is integrated in parts.
pub const MAX_UNIT: usize = 20_000;

/// A stretch of the log to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// It begins after this.
    pub after: Seq,
    /// At most so many events, up to the end of the last one's unit.
    pub events: usize,
    /// Whether the last event's unit is completed, unless that takes more than [`MAX_UNIT`] events
    /// more. A unit that is larger than an answer may be is read in parts.
    pub whole: bool,
    /// Of the first event's line only this: it is larger than an answer may be.
    pub slice: Option<Slice>,
}

/// A slice of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// How many bytes stand before it.
    pub from: usize,
    /// How many it has, where the line goes on for as long.
    pub bytes: usize,
}

/// A [`Slice`] as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The event.
    pub seq: Seq,
    /// The length of its whole line, in bytes.
    pub size: usize,
    /// The slice.
    pub bytes: Vec<u8>,
    /// The log's newest seq.
    pub head: Seq,
}

/// The statement for a page. Its one row: the lines, the last seq, the count and, if there is any
/// event, the log's newest seq.
pub(crate) fn page(span: Span, lean: Option<&Lean>) -> Statement {
    let Span { after, events, whole, .. } = span;
    // Nearly every place of the log has an event, so the place is as good as a count, which would
    // read all events up to it. There is none if nothing is after the cursor.
    let cut = "(SELECT coalesce((SELECT seq FROM driftless_events WHERE seq >= ? + ? ORDER BY seq \
         LIMIT 1), (SELECT max(seq) FROM driftless_events)) \
         FROM driftless_events WHERE seq > ? LIMIT 1)";
    // Units are contiguous: a unit ends before the next event that is not of it.
    let edge = if whole {
        format!(
            "(SELECT CASE WHEN l.unit IS NULL THEN l.seq ELSE coalesce((SELECT n.seq - 1 \
             FROM driftless_events AS n WHERE n.seq > l.seq AND n.unit IS NOT l.unit \
             ORDER BY n.seq LIMIT 1), (SELECT max(seq) FROM driftless_events)) END \
             FROM driftless_events AS l WHERE l.seq = {cut})"
        )
    } else {
        cut.to_owned()
    };
    let most = events.saturating_add(MAX_UNIT);
    let cut = [after.0.into(), number(events), after.0.into()];
    let range = Statement::new(
        format!("e.seq > ? AND e.seq <= {edge} ORDER BY e.seq LIMIT ?"),
        std::iter::once(after.0.into()).chain(cut).chain([number(most)]),
    );
    let lines = match lean {
        Some(lean) => lines(lean, after, range),
        None => {
            let sql = format!(
                "SELECT seq, {PULL_LINE} AS line FROM driftless_events AS e WHERE {}",
                range.sql
            );
            Statement::new(sql, range.args)
        }
    };
    let sql = format!(
        "SELECT CAST(group_concat(line, char(10)) AS BLOB), max(seq), count(*), \
         CASE WHEN count(*) > 0 THEN (SELECT max(seq) FROM driftless_events) END FROM ({})",
        lines.sql
    );
    Statement::new(sql, lines.args)
}

/// The statement for a slice of the line of the first event after a place. Its row: the seq, the
/// whole line's length, the slice, and the log's newest seq.
pub(crate) fn slice(after: Seq, slice: Slice) -> Statement {
    sliced(slice, "seq > ? ORDER BY seq LIMIT 1", after.0.into())
}

/// The statement for a slice of the one line that the condition leaves, with its one parameter.
fn sliced(Slice { from, bytes }: Slice, condition: &str, arg: Value) -> Statement {
    let sql = format!(
        "SELECT seq, length(line), substr(line, ?, ?), \
         (SELECT max(seq) FROM driftless_events) FROM (SELECT seq, CAST({PULL_LINE} AS BLOB) AS line \
         FROM driftless_events WHERE {condition})"
    );
    Statement::new(sql, [number(from + 1), number(bytes), arg])
}

pub(crate) fn read_part(rows: Rows) -> Result<Option<Part>> {
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    let [seq, size, bytes, head]: [Value; 4] =
        row.try_into().map_err(|_| wrong("a slice's columns"))?;
    let size = size.as_integer().and_then(|size| usize::try_from(size).ok());
    match (seq.as_integer(), size, bytes, head.as_integer()) {
        (Some(seq), Some(size), Value::Blob(bytes) | Value::Text(bytes), Some(head))
            if seq <= head && head <= MAX_SEQ.0 =>
        {
            Ok(Some(Part { seq: Seq(seq), size, bytes, head: Seq(head) }))
        }
        _ => Err(wrong("a slice")),
    }
}

/// The statement for the lines of these events, as an exchange asks for a page.
pub fn lookup(ids: &[EventId]) -> Statement {
    let sql = format!(
        "SELECT CAST(group_concat(line, char(10)) AS BLOB), max(seq), count(*), max(seq) \
         FROM (SELECT seq, {PULL_LINE} AS line FROM driftless_events WHERE id IN ({}) \
         ORDER BY seq)",
        parameters(ids.len())
    );
    Statement::new(sql, ids.iter().map(text))
}

/// The statement for a slice of the line of this event. Its row is as for a slice of the first
/// event after a place.
pub fn lookup_slice(id: EventId, slice: Slice) -> Statement {
    sliced(slice, "id = ?", text(id))
}

/// Reads the results of [`lookup_slice`] and [`meta`](super::meta::meta). There is no part
/// where there is no such event.
///
/// # Errors
///
/// `Corrupt` when they are not that.
pub fn read_lookup_slice(answer: Answer) -> Result<(Option<Part>, Option<Meta>)> {
    let [part, meta]: [Rows; 2] =
        answer.rows.try_into().map_err(|_| wrong("the number of results"))?;
    Ok((read_part(part)?, read_meta(&meta)?))
}

/// Reads the results of [`lookup`] and [`meta`](super::meta::meta).
///
/// # Errors
///
/// `Corrupt` when they are not that.
pub fn read_lookup(answer: Answer) -> Result<(Page, Option<Meta>)> {
    let [page, meta]: [Rows; 2] =
        answer.rows.try_into().map_err(|_| wrong("the number of results"))?;
    Ok((read_page(page, Seq(0), None)?.0, read_meta(&meta)?))
}

/// Reads the row of [`page`], which begins after a place, and was asked for with `lean`.
pub(crate) fn read_page(rows: Rows, after: Seq, lean: Option<&Lean>) -> Result<(Page, Seq)> {
    let mut row = rows.into_iter().next().ok_or_else(|| wrong("a page without a row"))?;
    let [bytes, last, count, head] = row.as_mut_slice() else {
        return Err(wrong("a page's columns"));
    };
    let count = count.as_integer().and_then(|count| usize::try_from(count).ok());
    let count = count.ok_or_else(|| wrong("a page's count"))?;
    if count == 0 {
        return Ok((Page { last: after, ..Page::default() }, after));
    }
    let (Some(last), Some(head)) = (last.as_integer(), head.as_integer()) else {
        return Err(wrong("a page's end"));
    };
    let (Value::Blob(bytes) | Value::Text(bytes)) = std::mem::take(bytes) else {
        return Err(wrong("a page's lines"));
    };
    if last <= after.0 || head < last || head > MAX_SEQ.0 {
        return Err(wrong("a page that is not after the cursor"));
    }
    let bytes = match lean {
        Some(lean) => unfold(bytes, &lean.layouts),
        None => bytes,
    };
    Ok((Page { bytes, last: Seq(last), count, more: head > last }, Seq(head)))
}
