//! Reading the log: a range of it, a chunk of a line that does not fit into an answer, and the
//! lines of events by their ids. All pure.
//!
//! The lines of a long page repeat little: [`unfold`](crate::event::page::unfold) describes the
//! forms.
//!
//! The line of an event is made next to the event one place before it, and leaves out the fields
//! that are the same. A whole row is sent as an array of its values if that loses nothing. Two
//! conditions prove it: the row's JSON matches a pattern with the names of the layout in their
//! order, and it is longer than the array by exactly these names, so it has no others.

use super::meta::{Meta, number, parameters, read_meta, wrong};
use super::{Statement, text};
use crate::catalog::literal;
use crate::error::Result;
use crate::event::page::echo::SHORT_LINE;
use crate::event::page::unfold::{ID, ID_TAIL, Layout, unfold};
use crate::event::page::{MAX_SEQ, PULL_LINE, Page};
use crate::event::value::Value;
use crate::event::{EventId, ReplicaId, Seq};
use crate::protocol::{Answer, Rows};

/// The most events of a unit that is waited for, to be integrated in one transaction. An optimised
/// build integrates 100,000 events a second and more, so the write lock is held for less than half
/// a second. A larger unit is integrated in parts.
pub const MAX_UNIT: usize = 20_000;

/// A range of the log to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRange {
    /// The range begins after this seq.
    pub after: Seq,
    /// The most events, up to the end of the last one's unit.
    pub events: usize,
    /// Whether the last event's unit is completed, unless it has more than [`MAX_UNIT`] further
    /// events. A unit that is larger than an answer may be is read in parts.
    pub whole_units: bool,
    /// Only this chunk of the first event's line: the line is larger than an answer may be.
    pub chunk: Option<Chunk>,
}

/// A chunk of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The number of bytes before it.
    pub from: usize,
    /// Its length in bytes, unless the line ends before.
    pub bytes: usize,
}

/// A [`Chunk`] that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedChunk {
    /// The event.
    pub seq: Seq,
    /// The length of its whole line, in bytes.
    pub size: usize,
    /// The chunk.
    pub bytes: Vec<u8>,
    /// The log's newest seq.
    pub head: Seq,
}

/// The statement for a page. Its one row has the lines, the last seq, the count and, unless it is
/// empty, the log's newest seq.
pub(crate) fn page(range: LogRange, lean: Option<&Lean>) -> Statement {
    let LogRange { after, events, whole_units, .. } = range;
    // Nearly every seq has an event, so a seq is as good as a count. Counting would read all events
    // up to there. The result is NULL if nothing is after the cursor.
    let cut = "(SELECT coalesce((SELECT seq FROM driftless_events WHERE seq >= ? + ? ORDER BY seq \
         LIMIT 1), (SELECT max(seq) FROM driftless_events)) \
         FROM driftless_events WHERE seq > ? LIMIT 1)";
    // Units are contiguous: a unit ends before the next event of another unit.
    let edge = if whole_units {
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

/// The statement for a chunk of the line of the first event after a place. Its row has the seq, the
/// whole line's length, the chunk, and the log's newest seq.
pub(crate) fn chunk(after: Seq, chunk: Chunk) -> Statement {
    chunked(chunk, "seq > ? ORDER BY seq LIMIT 1", after.0.into())
}

/// The statement for a chunk of the one line that the condition selects. `arg` is its parameter.
fn chunked(Chunk { from, bytes }: Chunk, condition: &str, arg: Value) -> Statement {
    let sql = format!(
        "SELECT seq, length(line), substr(line, ?, ?), \
         (SELECT max(seq) FROM driftless_events) FROM (SELECT seq, CAST({PULL_LINE} AS BLOB) AS line \
         FROM driftless_events WHERE {condition})"
    );
    Statement::new(sql, [number(from + 1), number(bytes), arg])
}

pub(crate) fn read_chunk(rows: Rows) -> Result<Option<ReceivedChunk>> {
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    let [seq, size, bytes, head]: [Value; 4] =
        row.try_into().map_err(|_| wrong("a chunk's columns"))?;
    let size = size.as_integer().and_then(|size| usize::try_from(size).ok());
    match (seq.as_integer(), size, bytes, head.as_integer()) {
        (Some(seq), Some(size), Value::Blob(bytes) | Value::Text(bytes), Some(head))
            if seq <= head && head <= MAX_SEQ.0 =>
        {
            Ok(Some(ReceivedChunk { seq: Seq(seq), size, bytes, head: Seq(head) }))
        }
        _ => Err(wrong("a chunk")),
    }
}

/// The statement for the lines of these events, with the same columns as a page.
pub fn lookup(ids: &[EventId]) -> Statement {
    let sql = format!(
        "SELECT CAST(group_concat(line, char(10)) AS BLOB), max(seq), count(*), max(seq) \
         FROM (SELECT seq, {PULL_LINE} AS line FROM driftless_events WHERE id IN ({}) \
         ORDER BY seq)",
        parameters(ids.len())
    );
    Statement::new(sql, ids.iter().map(text))
}

/// The statement for a chunk of the line of this event. Its row has the same columns as that of
/// [`chunk`].
pub fn lookup_chunk(id: EventId, chunk: Chunk) -> Statement {
    chunked(chunk, "id = ?", text(id))
}

/// Reads the results of [`lookup_chunk`] and [`meta`](super::meta::meta). There is no part if there
/// is no such event.
///
/// # Errors
///
/// `Corrupt` when `answer` is not a result of these statements.
pub fn read_lookup_chunk(answer: Answer) -> Result<(Option<ReceivedChunk>, Option<Meta>)> {
    let [chunk, meta]: [Rows; 2] =
        answer.rows.try_into().map_err(|_| wrong("the number of results"))?;
    Ok((read_chunk(chunk)?, read_meta(&meta)?))
}

/// Reads the results of [`lookup`] and [`meta`](super::meta::meta).
///
/// # Errors
///
/// `Corrupt` when `answer` is not a result of these statements.
pub fn read_lookup(answer: Answer) -> Result<(Page, Option<Meta>)> {
    let [page, meta]: [Rows; 2] =
        answer.rows.try_into().map_err(|_| wrong("the number of results"))?;
    Ok((read_page(page, Seq(0), None)?.0, read_meta(&meta)?))
}

/// Reads the row of [`page`], which was requested for the log after `after`, with `lean`.
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

/// Own events that are in the outbox: the events of a replica with numbers in a range. The number
/// is part of the id, by which the remote knows an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who made them.
    pub replica: ReplicaId,
    /// The number of the oldest event without a verdict.
    pub first: i64,
    /// The number of the newest event.
    pub last: i64,
}

impl Held {
    /// The number of numbers in the range.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.last - self.first).map_or(0, |more| more.saturating_add(1))
    }
}

/// The short forms that the lines of a page may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lean {
    /// The events whose values the asking replica has. They come as echoes.
    pub held: Option<Held>,
    /// The tables whose rows may come as arrays.
    pub layouts: Vec<Layout>,
}

/// The columns of an event.
const FIELDS: [&str; 17] = [
    "seq",
    "id",
    "origin",
    "actor",
    "unit",
    "tbl",
    "pk",
    "op",
    "before",
    "after",
    "base",
    "cause",
    "via",
    "pair",
    "verdict",
    "reason",
    "received_at",
];

/// The columns that an event shares with the one before it; otherwise it has no lean line.
const SHARED: [&str; 9] =
    ["origin", "actor", "unit", "base", "cause", "via", "pair", "verdict", "reason"];

/// The most columns of a row that is sent as an array: a function of SQLite takes 127 arguments.
const MOST_COLUMNS: usize = 100;

/// The columns, qualified by an alias of the event.
fn of(alias: &str, columns: &[&str]) -> String {
    let columns: Vec<_> = columns.iter().map(|column| format!("{alias}.{column}")).collect();
    columns.join(", ")
}

/// Whether a name needs no escaping in JSON, in a path and in a pattern.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether rows of the table may be sent as arrays.
fn is_fit(layout: &Layout) -> bool {
    let columns = &layout.columns;
    (2..=MOST_COLUMNS).contains(&columns.len()) && columns.iter().all(|name| is_plain(name))
}

/// SQL condition: the values of the event `alias` need not be sent. Halves of a key change and
/// consequences are sent whole, because the outbox does not say which events belong together. So
/// are events that were pushed without values.
fn holds(held: Option<&Held>, alias: &str) -> Statement {
    let Some(Held { replica, first, last }) = held else { return "0".into() };
    let sql = "(x.origin = ? AND x.cause IS NULL AND x.via IS NULL AND x.pair IS NULL \
         AND x.unit IS NOT NULL AND substr(x.id, 11, 8) BETWEEN ? AND ? \
         AND coalesce(x.before, '') <> '{}' AND coalesce(x.after, '') <> '{}')";
    let number = |n| Value::from(EventId::spelled_number(n).as_str());
    let args = [text(replica), number(*first), number(*last)];
    Statement::new(sql.replace("x.", &format!("{alias}.")), args)
}

/// The row of the event `e` as an array, for each table, and by how much its JSON is longer.
fn arrays(layouts: &[Layout]) -> [String; 2] {
    let (mut arrays, mut longer) = (String::new(), String::new());
    for layout in layouts.iter().filter(|layout| is_fit(layout)) {
        let table = literal(&layout.table);
        let names = &layout.columns;
        let pattern: Vec<_> = names.iter().map(|name| format!("\"{name}\":*")).collect();
        let paths: Vec<_> = names.iter().map(|name| format!("'$.{name}'")).collect();
        let more: usize = names.iter().map(|name| name.len() + "\"\":".len()).sum();
        arrays.push_str(&format!(
            " WHEN {table} THEN CASE WHEN coalesce(e.after, e.before) GLOB '{{{}}}' \
             THEN json_extract(coalesce(e.after, e.before), {}) END",
            pattern.join(","),
            paths.join(",")
        ));
        longer.push_str(&format!(" WHEN {table} THEN {more}"));
    }
    match arrays.is_empty() {
        true => ["NULL".to_owned(), "NULL".to_owned()],
        false => [
            format!(
                "CASE WHEN b.seq IS NOT NULL AND e.op <> 'update' \
                 AND json_valid(coalesce(e.after, e.before)) THEN CASE e.tbl{arrays} END END"
            ),
            format!("CASE e.tbl{longer} END"),
        ],
    }
}

/// The lean line of an event, or NULL.
fn lean_line() -> String {
    let keyed = |image: &str| {
        format!(
            "CASE WHEN length({image}) = length(packed) + longer THEN CASE WHEN instr(pk, ',') = 0 \
             AND substr(packed, 1, length(pk)) = substr(pk, 1, length(pk) - 1) || ',' THEN '0' \
             ELSE pk END || ',' || packed ELSE pk || ',' || {image} END"
        )
    };
    format!(
        "'[\"' || CASE WHEN near THEN substr(id, {}) ELSE id END || '\",' || later || ',' || \
         CASE WHEN alike THEN '' ELSE json_quote(tbl) || ',\"' || op || '\",' END || CASE op \
         WHEN 'insert' THEN CASE WHEN before IS NULL THEN {} END \
         WHEN 'delete' THEN CASE WHEN after IS NULL THEN {} END \
         ELSE pk || ',' || before || ',' || after END || ']'",
        ID - ID_TAIL + 1,
        keyed("after"),
        keyed("before")
    )
}

/// The SELECT for the lines of a range of the log, with their seqs. The range is a condition on
/// `e.seq` with an order and a limit.
fn lines(lean: &Lean, after: Seq, range: Statement) -> Statement {
    let [this, that] = ["e", "b"].map(|alias| holds(lean.held.as_ref(), alias));
    let [row, longer] = arrays(&lean.layouts);
    let lean_line = lean_line();
    let sql = format!(
        "SELECT seq, CASE WHEN mine THEN {SHORT_LINE} \
         ELSE coalesce(CASE WHEN same THEN {lean_line} END, {PULL_LINE}) END AS line \
         FROM (SELECT {}, {} AS mine, ({}) IS ({}) AND {} = {} AS same, \
         substr(e.id, 1, {prefix}) = substr(b.id, 1, {prefix}) AS near, \
         e.tbl = b.tbl AND e.op = b.op AS alike, e.received_at - b.received_at AS later, \
         {row} AS packed, {longer} AS longer \
         FROM driftless_events AS e LEFT JOIN driftless_events AS b \
         ON b.seq = e.seq - 1 AND b.seq > ? WHERE {})",
        FIELDS.map(|field| format!("e.{field} AS {field}")).join(", "),
        this.sql,
        of("e", &SHARED),
        of("b", &SHARED),
        this.sql,
        that.sql,
        range.sql,
        prefix = ID - ID_TAIL,
    );
    let args = this.args.iter().chain(&this.args).chain(&that.args).cloned();
    Statement::new(sql, args.chain([after.0.into()]).chain(range.args))
}
