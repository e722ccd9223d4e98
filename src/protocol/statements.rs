//! The requests of a replica as SQL statements, and how their answers are read. All pure.
//!
//! An [`Exchange`] is one request: it pushes the events to push and reads the log after the cursor,
//! in one transaction. The events are sent as one JSON text, whatever their number, and the page
//! comes back as one BLOB. [`Exchange::read`] returns a [`Reply`].
//!
//! A push is accepted only by the database that the replica was initialised with, and only from the
//! file that pushed last under this id. The first statement stores the push's fresh incarnation
//! ([`incarnation`](super::incarnation)) if `driftless_meta` has the expected epoch and schema
//! version, the log has the replica's place, and `driftless_replicas` has one of its incarnations.
//! The second inserts nothing unless the fresh incarnation is there. So a URL that leads to another
//! database between two requests does no harm. The second statement also inserts nothing if a table
//! has a column that the remote's triggers do not know: they would leave it out, and nobody would
//! notice ([`Reply::unknown`]).
//!
//! # Caveats
//!
//! * All events of a push are inserted by one transaction, which takes effect as a whole, and a
//!   push has all unsent events up to its newest one. So the presence of that event in the log
//!   proves all of them, and no other is looked up. The last event in the push's order proves
//!   nothing: it may have arrived with an earlier push whose answer was lost. The remote's count of
//!   affected rows is not used.
//! * A poll that finds nothing reads a few rows on the server, each by its key: that of
//!   `driftless_meta`, the event at the cursor, and the replica's own row. An idle replica reads
//!   less: see [`idle_poll`](super::idle_poll).

use std::sync::Arc;

use ulid::Ulid;

use super::incarnation::{Incarnation, Incarnations, Place};
use super::log_range::{chunk, page, read_chunk, read_page};
use super::meta::{NOW_MS, guard, number, parameters, wrong};
use super::payload::shorten;
use super::remote_tables::{RemoteTables, SCHEMA_COOKIE};
use super::staged::{forget, source};
use super::{Lean, Push, Statement, text};
use crate::catalog::{Collation, Table, ident, key_json, row_json};
use crate::error::Result;
use crate::event::json::{Scanner, names_json};
use crate::event::page::Page;
use crate::event::value::{Value, write_string};
use crate::event::{Image, ReplicaId, RowKey, Seq};
use crate::protocol::{Answer, Batch, Rows};

pub use super::log_range::{
    Chunk, LogRange, MAX_UNIT, ReceivedChunk, lookup, lookup_chunk, read_lookup, read_lookup_chunk,
};
pub use super::meta::{Asker, HEAD, META, Meta, SCHEMA_VERSION, meta, read_head, read_meta};
pub use super::payload::PushPayload;
pub use super::staged::Part as PushPart;

/// The most events of a push or of a page, without the rest of a unit. A larger request is not
/// faster.
pub const MAX_EVENTS: usize = 5_000;

/// The most bytes of events in a push. A proxy may limit a body to a few megabytes. libSQL server
/// ends a transaction after five seconds; this takes about a tenth of that.
pub const MAX_PUSH_BYTES: usize = 2 << 20;

/// The intended size of a page, in bytes. libSQL server limits a value to 5 MB and an answer to 10
/// MB, and base64 makes the BLOB a third longer.
pub const PAGE_BYTES: usize = 3 << 20;

/// The database and the schema that a push is meant for, and who pushes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The replica.
    pub replica: ReplicaId,
    /// The epoch of the remote that it belongs to.
    pub epoch: String,
    /// The seq up to which it has integrated.
    pub cursor: Seq,
    /// Its incarnations. The newest one was issued for this push.
    pub incarnations: Incarnations,
    /// The remote's tables, for which the push is planned.
    pub tables: Arc<RemoteTables>,
}

impl Sender {
    /// The incarnation of this push, if one was issued.
    fn incarnation(&self) -> Option<Incarnation> {
        self.incarnations.issued.last().copied()
    }
}

/// One request of a replica.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exchange<'a> {
    /// The events to push, the unit of the first ones (each next unit's ULID is one higher), and
    /// the sender.
    pub push: Option<(&'a Push, Ulid, &'a Sender)>,
    /// All events of the push, if its parts are on the remote already. The token of the parts is
    /// the unit. There is no other unit.
    pub staged: Option<&'a PushPayload>,
    /// A part of a push that is larger than a request. The remote keeps it until the last part is
    /// there.
    pub part: Option<PushPart<'a>>,
    /// The range of the log to read.
    pub pull: Option<LogRange>,
    /// The short forms that the lines of a page may have; `None` for whole lines.
    pub lean: Option<&'a Lean>,
    /// The replica that asks; `None` if it has no place in the log yet. Then it pushes nothing.
    pub asker: Option<Asker>,
}

/// The result of an [`Exchange`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Whether the pushed events are in the log. False if nothing was pushed, if the remote is not
    /// the intended one, and if another file has pushed under this id.
    pub pushed: bool,
    /// Whether the remote has the push's incarnation now.
    pub incarnation_is_there: bool,
    /// A table and one of its columns that the remote's triggers do not know, if nothing was pushed
    /// for this reason.
    pub unknown: Option<(String, String)>,
    /// Whether nothing was pushed because the remote's schema is not the one that the push was
    /// planned for.
    pub stale: bool,
    /// The page. Empty, with the range's start as its end, if there was nothing or no page was
    /// requested.
    pub page: Page,
    /// A chunk of a line, if one was requested and the line exists. Then the page is empty.
    pub chunk: Option<ReceivedChunk>,
    /// The log's newest seq, or the page's end if nothing was received.
    pub head: Seq,
    /// The remote's identity; `None` if it has lost that row.
    pub meta: Option<Meta>,
}

/// Reads how long the oldest event after a cursor has been in the log, in ms by the remote's clock.
/// No row if there is no such event.
pub fn waiting(cursor: Seq) -> Statement {
    let sql = "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) - received_at \
         FROM driftless_events WHERE seq > ? ORDER BY seq LIMIT 1";
    Statement::new(sql, [cursor.0.into()])
}

/// Reads every definition: kind, name, table, SQL and rowid, in the order of creation. The SQL of
/// our own triggers is left out if it is longer than any of this version: the triggers of version 1
/// had megabytes.
pub const DEFINITIONS: &str = "SELECT type, name, tbl_name, CASE WHEN type <> 'trigger' \
     OR substr(name, 1, 10) <> 'driftless_' OR length(sql) <= 65536 THEN sql END, rowid \
     FROM sqlite_schema ORDER BY rowid";

/// Reads the names of the remote's tables.
pub const TABLE_NAMES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table'";

/// Reads the gaps, the ranges of the log in which capture of a table may have missed writes:
/// number, table, and the last seq before the gap.
pub const GAPS: &str = "SELECT n, tbl, since FROM driftless_gaps ORDER BY tbl";

/// Reads the columns that the remote owes: table, column, and the first event that names the
/// column.
pub const OWED: &str = "SELECT tbl, col, since FROM driftless_owed ORDER BY tbl, col";

/// Reads the tables that the remote replicates: name, conflict rule, fingerprint, and a JSON array
/// of its columns.
pub const TABLES: &str =
    "SELECT name, conflict, triggers, columns FROM driftless_tables ORDER BY name";

impl Exchange<'_> {
    /// The request.
    ///
    /// # Panics
    ///
    /// When something is to be pushed without a sender or without an incarnation.
    pub fn batch(&self) -> Batch {
        let mut statements = Vec::with_capacity(7);
        if let Some((push, unit, sender)) = self.push {
            let asker = self.asker.expect("a push has a sender with a place");
            statements.push(contact(sender, asker.place));
            statements.push(deliver(push, unit, sender, self.staged));
            statements.extend(super::push::statements(push, &sender.tables));
            let newest = push.events.iter().max_by_key(|event| event.n);
            let newest = newest.expect("a push has events").id;
            let sql = "SELECT seq FROM driftless_events WHERE id = ?";
            statements.push(Statement::new(sql, [text(newest)]));
            statements.push(unknown_column(&columns_there(push, sender)));
            statements.push(SCHEMA_COOKIE.into());
            statements.extend(self.staged.map(|_| forget(sender.replica)));
        }
        if let Some(part) = self.part {
            let asker = self.asker.expect("a push has a sender with a place");
            statements.extend(part.statements(asker.place));
        }
        if let Some(range) = self.pull {
            statements.push(
                range.chunk.map_or_else(|| page(range, self.lean), |at| chunk(range.after, at)),
            );
        }
        statements.push(self.asker.map_or_else(|| META.into(), meta));
        Batch { statements, writes: self.push.is_some() || self.part.is_some() }
    }

    /// The number of statements after those of the push's plan.
    fn behind_plan(&self) -> usize {
        let push = if self.push.is_some() { 3 } else { 0 } + usize::from(self.staged.is_some());
        push + self.part.map_or(0, |part| part.count()) + usize::from(self.pull.is_some()) + 1
    }

    /// Reads the answer to this request.
    ///
    /// # Errors
    ///
    /// `Corrupt` when `answer` is not an answer to this request.
    pub fn read(&self, answer: Answer) -> Result<Reply> {
        let before = answer.rows.len().checked_sub(self.behind_plan());
        let before = before.ok_or_else(|| wrong("the number of results"))?;
        if self.push.is_none() && before != 0 {
            return Err(wrong("the number of results"));
        }
        let mut results = answer.rows.into_iter().skip(before);
        let mut next = || results.next().unwrap_or_default();
        let (mut pushed, mut unknown, mut stale) = (false, None, false);
        if let Some((_, _, sender)) = self.push {
            pushed = !next().is_empty();
            unknown = read_unknown_column(&next())?;
            let cookie = next().first().and_then(|row| row.first()?.as_integer());
            stale = cookie.ok_or_else(|| wrong("its schema's version"))? != sender.tables.cookie;
        }
        let silent = usize::from(self.staged.is_some()) + self.part.map_or(0, |part| part.count());
        (0..silent).for_each(|_| drop(next()));
        let (mut read, mut head, mut received) = (Page::default(), Seq(0), None);
        if let Some(range) = self.pull {
            let rows = next();
            if range.chunk.is_some() {
                (read.last, head) = (range.after, range.after);
                received = read_chunk(rows)?;
            } else {
                (read, head) = read_page(rows, range.after, self.lean)?;
            }
        }
        let meta = read_meta(&next())?;
        let found = meta.as_ref().and_then(|meta| meta.incarnation.as_deref());
        let mine = self.push.and_then(|(_, _, sender)| sender.incarnation());
        let incarnation_is_there = mine.is_some_and(|mine| found == Some(&mine.to_string()));
        // Another file with our id may have pushed the same event.
        let pushed = pushed && incarnation_is_there;
        let stale = stale && !pushed;
        Ok(Reply {
            pushed,
            incarnation_is_there,
            unknown,
            stale,
            page: read,
            chunk: received,
            head,
            meta,
        })
    }
}

/// SQL condition: the remote has one of the incarnations from before this push. If no incarnation
/// was confirmed, it may also know nothing of the replica.
pub(super) fn known(replica: ReplicaId, incarnations: &Incarnations) -> Statement {
    let (_, before) =
        incarnations.issued.split_last().expect("a push has an incarnation of its own");
    let list: Vec<_> = incarnations.confirmed.iter().chain(before).map(text).collect();
    let row = "SELECT 1 FROM driftless_replicas WHERE name = ? AND mark";
    let placeholders = parameters(list.len());
    let sql = match (incarnations.confirmed, list.is_empty()) {
        (Some(_), _) => format!("EXISTS ({row} IN ({placeholders}))"),
        (None, true) => format!("NOT EXISTS ({row} IS NOT NULL)"),
        (None, false) => format!("NOT EXISTS ({row} NOT IN ({placeholders}))"),
    };
    Statement::new(sql, std::iter::once(text(replica)).chain(list))
}

/// The pushed tables with the columns that the remote's tables have. Capture there must know them.
fn columns_there(push: &Push, sender: &Sender) -> Vec<(String, Vec<String>)> {
    let there = push.tables.iter().filter_map(|(name, _)| sender.tables.get(name));
    let names = |table: &Table| table.column_names().map(str::to_owned).collect();
    there.map(|there| (there.table.name.clone(), names(&there.table))).collect()
}

/// Rows of table and column: the columns of these tables that the remote's triggers do not know. A
/// table that the remote does not replicate has none. Equal lists have equal texts, which is
/// checked first because nearly all are equal.
fn unknown(tables: &[(String, Vec<String>)]) -> Statement {
    let mut json = vec![b'['];
    for (index, (table, columns)) in tables.iter().enumerate() {
        json.extend_from_slice(if index > 0 { b",[" } else { b"[" });
        write_string(table.as_bytes(), &mut json);
        json.push(b',');
        json.extend_from_slice(names_json(columns.iter().map(String::as_str)).as_bytes());
        json.push(b']');
    }
    json.push(b']');
    let sql = "SELECT here.value ->> 0, name.value FROM json_each(?) AS here \
         JOIN driftless_tables AS there ON there.name = here.value ->> 0 \
         JOIN json_each(here.value, '$[1]') AS name \
         WHERE there.columns <> here.value ->> 1 AND NOT EXISTS \
         (SELECT 1 FROM json_each(there.columns) AS known WHERE known.value = name.value)";
    Statement::new(sql, [Value::Text(json)])
}

/// The statement that reads one column of these tables (names, with the names of their columns)
/// that the remote's triggers do not know.
pub fn unknown_column(tables: &[(String, Vec<String>)]) -> Statement {
    let Statement { sql, args } = unknown(tables);
    Statement::new(format!("{sql} LIMIT 1"), args)
}

/// Reads the row of [`unknown_column`]: table and column.
///
/// # Errors
///
/// `Corrupt` when `rows` is not that row.
pub fn read_unknown_column(rows: &Rows) -> Result<Option<(String, String)>> {
    let Some(row) = rows.first() else { return Ok(None) };
    match row.as_slice() {
        [Value::Text(table), Value::Text(column)] => {
            let text = |bytes| shorten(&String::from_utf8_lossy(bytes)).to_owned();
            Ok(Some((text(table), text(column))))
        }
        _ => Err(wrong("a column that it does not know")),
    }
}

/// The first statement, which stores the push's incarnation.
fn contact(sender: &Sender, place: Place) -> Statement {
    let Sender { replica, epoch, cursor, incarnations, tables } = sender;
    let (guard, known) = (guard(epoch, place), known(*replica, incarnations));
    let sql = format!(
        "INSERT INTO driftless_replicas (name, mark, contact, cursor) \
         SELECT ?, ?, {NOW_MS}, ? WHERE ({SCHEMA_COOKIE}) = ? AND {} AND {} \
         ON CONFLICT (name) DO UPDATE SET mark = excluded.mark, contact = excluded.contact, \
         cursor = excluded.cursor",
        guard.sql, known.sql
    );
    let incarnation = sender.incarnation().expect("an incarnation was issued for this push");
    let row = [text(replica), text(incarnation), cursor.0.into(), tables.cookie.into()];
    Statement::new(sql, row.into_iter().chain(guard.args).chain(known.args))
}

/// The second statement, which inserts the events.
///
/// The LIMIT keeps SQLite from merging the inner SELECT into the outer one. After a merge, each of
/// the columns would format the event's array again. `json_each` returns an array's elements in
/// their order; an ORDER BY would first put all events into a temporary table. The signs keep
/// SQLite's planner from using the bound values: otherwise it would compile the statement again for
/// each push.
fn deliver(push: &Push, unit: Ulid, sender: &Sender, staged: Option<&PushPayload>) -> Statement {
    let ((names, terms), unit, (events, complete)) = match staged {
        Some(payload) => {
            let unit_term = Statement::new("?", [text(unit)]);
            (payload.columns(), unit_term, source(payload, sender.replica, unit))
        }
        None => {
            let packed = PushPayload::pack(&push.events, usize::MAX, usize::MAX);
            let columns = packed.columns();
            let (unit, from) = unit_term(&push.units, unit);
            let events = Value::Text(packed.into_text().into_bytes());
            let sql = format!("SELECT {from} FROM json_each(?) LIMIT -1");
            (columns, unit, (Statement::new(sql, [events]), Statement::default()))
        }
    };
    let unknown = unknown(&columns_there(push, sender));
    let sql = format!(
        "INSERT INTO driftless_inbox (origin, unit, {names}) SELECT ?, {}, {} FROM ({}) \
         WHERE EXISTS (SELECT 1 FROM driftless_replicas WHERE +name = ? AND +mark = ?) \
         AND ({SCHEMA_COOKIE}) = ? AND NOT EXISTS ({}){}",
        unit.sql, terms.sql, events.sql, unknown.sql, complete.sql
    );
    let incarnation = sender.incarnation().expect("an incarnation was issued for this push");
    let args = std::iter::once(text(sender.replica)).chain(unit.args).chain(terms.args);
    let cookie = Value::Integer(sender.tables.cookie);
    let args = args.chain(events.args).chain([text(sender.replica), text(incarnation), cookie]);
    Statement::new(sql, args.chain(unknown.args).chain(complete.args))
}

/// The unit of an event, as a term over `json_each`. The events of the first unit have `first`, and
/// those of each next unit the ULID after that.
fn unit_term(ends: &[usize], first: Ulid) -> (Statement, &'static str) {
    let unit = |place: usize| text(Ulid(first.0.wrapping_add(place as u128)));
    if ends.is_empty() {
        return (Statement::new("?", [unit(0)]), "value");
    }
    let sql = format!("CASE {}ELSE ? END", "WHEN key < ? THEN ? ".repeat(ends.len()));
    let cases = ends.iter().enumerate();
    let cases = cases.flat_map(|(place, &end)| [Value::Integer(end as i64), unit(place)]);
    (Statement::new(sql, cases.chain([unit(ends.len())])), "key, value")
}

/// The statement for at most `limit` rows of a table in the order of its key, after the key
/// `after`. Its one row has the lines, each a JSON array of the row's canonical key and the row,
/// and their count. Rows with NULL in their key are left out, because no event can name them.
///
/// # Errors
///
/// `Corrupt` when `after` is not a key of the table.
pub fn table_page(table: &Table, after: Option<&RowKey>, limit: usize) -> Result<Statement> {
    let rows = rows_after(table, after)?;
    let sql = format!(
        "SELECT CAST(group_concat(line, char(10)) AS BLOB), count(*) FROM (SELECT '[' || {} || ',' \
         || {} || ']' AS line {} LIMIT ?)",
        key_json(table, "r"),
        row_json(table, "r"),
        rows.sql
    );
    Ok(Statement::new(sql, rows.args.into_iter().chain([number(limit)])))
}

/// The statement for a chunk of the first line that [`table_page`] would return after a key. Its
/// row has the row's key, the whole line's length, the chunk, and the newest event of that row.
///
/// # Errors
///
/// As for [`table_page`].
pub fn row_chunk(table: &Table, after: Option<&RowKey>, chunk: Chunk) -> Result<Statement> {
    let rows = rows_after(table, after)?;
    let sql = format!(
        "SELECT k, length(line), substr(line, ?, ?), event FROM (SELECT {key} AS k, \
         CAST('[' || {key} || ',' || {} || ']' AS BLOB) AS line, \
         (SELECT max(seq) FROM driftless_events WHERE tbl = ? AND pk = {key}) AS event \
         {} LIMIT 1)",
        row_json(table, "r"),
        rows.sql,
        key = key_json(table, "r"),
    );
    let args = [number(chunk.from + 1), number(chunk.bytes), table.name.as_str().into()];
    Ok(Statement::new(sql, args.into_iter().chain(rows.args)))
}

/// The identity and state of the row of a chunk: its key, and its newest event.
pub type RowState = (Vec<u8>, Option<i64>);

/// Reads the row of [`row_chunk`], if there is one: the row's state, the line's length, and the
/// chunk.
///
/// # Errors
///
/// `Corrupt` when `rows` is not that row.
pub fn read_row_chunk(rows: &Rows) -> Result<Option<(RowState, usize, &[u8])>> {
    let Some(row) = rows.first() else { return Ok(None) };
    let [Value::Text(key), Value::Integer(size), Value::Blob(bytes), event] = row.as_slice() else {
        return Err(wrong("a row's chunk"));
    };
    let size = usize::try_from(*size).map_err(|_| wrong("a row's length"))?;
    Ok(Some(((key.clone(), event.as_integer()), size, bytes)))
}

/// The FROM, WHERE and ORDER BY for the rows `r` of a table after a key. Rows with NULL in their
/// key are left out.
fn rows_after(table: &Table, after: Option<&RowKey>) -> Result<Statement> {
    let columns: Vec<_> = table
        .key_columns()
        .zip(&table.key_collations)
        .map(|(column, collation)| sorted(&column.present, collation))
        .collect();
    let mut conditions: Vec<_> =
        columns.iter().map(|column| format!("{column} IS NOT NULL")).collect();
    let mut args = Vec::new();
    if let Some(after) = after {
        let values = after.values()?;
        if values.len() != columns.len() {
            return Err(wrong("a key of another table"));
        }
        let values: Vec<_> = values.into_iter().map(key_value).collect();
        let terms: Vec<_> = values.iter().map(|value| value.sql.as_str()).collect();
        conditions.push(format!("({}) > ({})", columns.join(", "), terms.join(", ")));
        args.extend(values.into_iter().flat_map(|value| value.args));
    }
    let sql = format!(
        "FROM {} AS r WHERE {} ORDER BY {}",
        ident(&table.name),
        conditions.join(" AND "),
        columns.join(", ")
    );
    Ok(Statement::new(sql, args))
}

pub(super) fn sorted(column: &str, collation: &Collation) -> String {
    format!("r.{} COLLATE {}", ident(column), collation.name())
}

/// A value of a key as a term that is exact in every version and, like the value, has no affinity.
pub(super) fn key_value(value: Value) -> Statement {
    match value {
        Value::Real(real) => real_value(real),
        // Hrana's text is UTF-8, and some servers end a text at a NUL.
        Value::Text(text) if text.contains(&0) || std::str::from_utf8(&text).is_err() => {
            Statement::new("CAST(? AS TEXT)", [Value::Blob(text)])
        }
        value => Statement::new("?", [value]),
    }
}

fn real_value(real: f64) -> Statement {
    let integer = |digits: &str| digits.parse().map(Value::Integer).expect("it has digits");
    let spelled = crate::event::value::spell_real(real);
    match spelled.split_once('p') {
        Some((mantissa, exponent)) => Statement::new(
            "(? / 4503599627370496.0 * (SELECT p FROM driftless_pow2 WHERE e = ? + 52))",
            [integer(mantissa), integer(exponent)],
        ),
        None => spelled.replace("inf", "9e999").into(),
    }
}

/// Reads the row of [`table_page`] for `table`: the rows, and the number of bytes that were
/// received.
///
/// # Errors
///
/// `Corrupt` when `rows` is not that row, `Usage` when a row's key is text that is not UTF-8.
pub fn read_table_page(table: &str, rows: &Rows) -> Result<(Vec<(RowKey, Image)>, usize)> {
    let row = rows.first().ok_or_else(|| wrong("a table without a row"))?;
    let [lines, count] = row.as_slice() else { return Err(wrong("a table's columns")) };
    let bytes = lines.as_bytes().unwrap_or_default();
    let mut read = Vec::new();
    for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let mut scanner = Scanner::new(line);
        scanner.expect(b'[')?;
        let key = std::str::from_utf8(scanner.raw()?);
        let key = key.map_err(|_| RowKey::not_utf8("the remote", table))?;
        scanner.expect(b',')?;
        read.push((RowKey(key.to_owned()), Image::parse(scanner.raw()?)?));
        scanner.expect(b']')?;
        scanner.end()?;
    }
    if count.as_integer() != Some(read.len() as i64) {
        return Err(wrong("the number of a table's rows"));
    }
    Ok((read, bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventId, Op};
    use crate::protocol::Outgoing;

    fn event(n: i64) -> Outgoing {
        let (id, key) = (EventId(Ulid(n as u128)), RowKey(format!("[{n}]")));
        let event = Outgoing::new(n, id, "t".to_owned(), key, Op::Delete);
        Outgoing { before: Some("{}".to_owned()), ..event }
    }

    /// The older events may have arrived with a push whose answer was lost.
    #[test]
    fn the_newest_event_proves_a_push_whatever_its_order() {
        let push = Push {
            events: [3, 1, 2].map(event).into(),
            units: Vec::new(),
            last_n: 3,
            self_contained: 3,
            bytes: 0,
            tables: Vec::new(),
        };
        let incarnations =
            Incarnations { confirmed: None, issued: vec![Incarnation { count: 1, chance: 1 }] };
        let (replica, tables) = (ReplicaId(Ulid(7)), Arc::default());
        let sender =
            Sender { replica, epoch: "e".to_owned(), cursor: Seq(0), incarnations, tables };
        let asker = Some(Asker { replica, place: Place::default() });
        let exchange =
            Exchange { push: Some((&push, Ulid(9), &sender)), asker, ..Default::default() };
        let asked = |made: &Statement| made.sql.starts_with("SELECT seq FROM driftless_events");
        let proof = exchange.batch().statements.into_iter().find(asked).unwrap();
        assert_eq!(proof.args, [text(push.events[0].id)]);
    }
}
