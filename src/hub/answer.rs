//! Answers: results as JSON, written directly from SQLite's values into the body.
//!
//! No tree of values is built first. A page of events is one blob of some megabytes, and a tree
//! would copy it; so it is encoded from SQLite's memory into the body. The JSON is the one that the
//! types of `libsql_hrana` serialize to. A test reads it back with them.

use std::io::Write as _;
use std::time::Duration;

use axum::body::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rusqlite::types::ValueRef;
use rusqlite::{Row, Statement};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::connection::{Deadline, Rows};
use super::failure::Failure;
use super::sink::{Halt, Sink};

/// Bytes of a cursor's answer that are sent at once: large enough that the cost of a chunk is
/// small.
const CHUNK_BYTES: usize = 64 * 1024;

/// Bytes that a body has room for at first.
const BODY_BYTES: usize = 1024;

/// Writes JSON into a growing body.
pub(super) struct Body(Vec<u8>);

impl Body {
    /// An empty body.
    pub(super) fn new() -> Self {
        Body(Vec::with_capacity(BODY_BYTES))
    }

    /// How many bytes it has so far.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The body, complete.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Appends `text` as it is.
    pub(super) fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Appends `value` as JSON.
    pub(super) fn json<T: serde::Serialize + ?Sized>(&mut self, value: &T) {
        serde_json::to_writer(&mut self.0, value).expect("these values are always JSON");
    }

    /// Appends a comma unless the last byte opens an array or an object.
    pub(super) fn comma(&mut self) {
        if !matches!(self.0.last(), Some(b'[' | b'{') | None) {
            self.0.push(b',');
        }
    }

    fn columns(&mut self, statement: &Statement<'_>) {
        self.raw("\"cols\":[");
        for column in statement.columns() {
            self.comma();
            self.raw("{\"name\":");
            self.json(column.name());
            self.raw(",\"decltype\":");
            self.json(&column.decl_type());
            self.raw("}");
        }
        self.raw("]");
    }

    /// Appends an array of the row's values and returns their size as libSQL server counts it.
    fn row(&mut self, row: &Row<'_>, columns: usize) -> Result<usize, Halt> {
        let mut size = 0;
        self.raw("[");
        for index in 0..columns {
            self.comma();
            size += self.value(row.get_ref(index).map_err(Failure::from)?)?;
        }
        self.raw("]");
        Ok(size)
    }

    fn value(&mut self, value: ValueRef<'_>) -> Result<usize, Halt> {
        let start = self.0.len();
        match value {
            ValueRef::Null => self.raw("{\"type\":\"null\"}"),
            ValueRef::Integer(number) => {
                write!(self.0, "{{\"type\":\"integer\",\"value\":\"{number}\"}}")
                    .expect("a vector takes everything");
            }
            ValueRef::Real(number) => {
                self.raw("{\"type\":\"float\",\"value\":");
                self.json(&number);
                self.raw("}");
            }
            ValueRef::Text(bytes) => {
                let text = std::str::from_utf8(bytes).map_err(|_| {
                    Failure::new("SQLITE_MISMATCH", "SQLite error: a text is not valid UTF-8")
                })?;
                self.raw("{\"type\":\"text\",\"value\":");
                self.json(text);
                self.raw("}");
            }
            ValueRef::Blob(bytes) => {
                self.raw("{\"type\":\"blob\",\"base64\":\"");
                self.base64(bytes);
                self.raw("\"}");
                return Ok(bytes.len());
            }
        }
        Ok(self.0.len() - start)
    }

    fn base64(&mut self, bytes: &[u8]) {
        let start = self.0.len();
        self.0.resize(start + bytes.len().div_ceil(3) * 4, 0);
        let written = STANDARD_NO_PAD
            .encode_slice(bytes, &mut self.0[start..])
            .expect("base64 takes four bytes for three");
        self.0.truncate(start + written);
    }
}

/// Appends the number of changed rows, and the name of the row id without its value.
fn counters(body: &mut Body, affected: u64) {
    body.raw("\"affected_row_count\":");
    body.json(&affected);
    body.raw(",\"last_insert_rowid\":");
}

/// How much more an answer may hold.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// Bytes of values, as libSQL server counts them.
    values: usize,
    /// Bytes of names of columns and of messages, which libSQL server does not count. A request of
    /// 40 bytes can ask for a megabyte of them.
    rest: usize,
}

/// The least [`Room::rest`].
const LEAST_REST: usize = 64 * 1024;

impl Room {
    /// The same number of bytes for values and for the rest.
    pub(super) fn new(bytes: usize) -> Self {
        Room { values: bytes, rest: bytes.max(LEAST_REST) }
    }

    /// Takes room for what is not a value.
    ///
    /// # Errors
    ///
    /// The answer is too large.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Failure> {
        self.rest = self.rest.checked_sub(bytes).ok_or_else(|| {
            // From now on everything is too large.
            self.rest = 0;
            Failure::response_too_large()
        })?;
        Ok(())
    }
}

/// The length of an answer and the room for values at one moment. A result that fails is undone by
/// going back there.
#[derive(Clone, Copy)]
pub(super) struct Checkpoint {
    length: usize,
    values: usize,
}

impl Checkpoint {
    /// The answer as it is now.
    pub(super) fn of(body: &Body, room: &Room) -> Self {
        Checkpoint { length: body.len(), values: room.values }
    }

    /// Removes everything that was appended since.
    pub(super) fn restore(self, body: &mut Body, room: &mut Room) {
        body.0.truncate(self.length);
        room.values = self.values;
    }
}

/// Results inside a pipeline's answer: Hrana's `StmtResult`, alone or as the steps of a batch.
pub(super) struct Results<'a> {
    body: &'a mut Body,
    room: &'a mut Room,
    /// Where the current statement's result begins.
    start: Checkpoint,
    /// The errors of a batch's steps so far.
    errors: Vec<Option<Failure>>,
}

impl<'a> Results<'a> {
    pub(super) fn new(body: &'a mut Body, room: &'a mut Room) -> Self {
        let start = Checkpoint::of(body, room);
        Results { body, room, start, errors: Vec::new() }
    }

    /// The errors of the batch's steps: Hrana's `step_errors`.
    pub(super) fn into_errors(self) -> Vec<Option<Failure>> {
        self.errors
    }
}

impl Sink for Results<'_> {
    fn begin(&mut self, _step: usize) {
        self.body.comma();
        self.start = Checkpoint::of(self.body, self.room);
    }

    fn columns(&mut self, statement: &Statement<'_>) -> Result<(), Halt> {
        let start = self.body.0.len();
        self.body.raw("{");
        self.body.columns(statement);
        self.body.raw(",\"rows\":[");
        self.room.take(self.body.0.len() - start).map_err(Halt::All)
    }

    fn row(&mut self, row: &Row<'_>, columns: usize) -> Result<(), Halt> {
        self.body.comma();
        let size = self.body.row(row, columns)?;
        let rest = self.room.values.checked_sub(size);
        self.room.values = rest.ok_or_else(|| Halt::All(Failure::response_too_large()))?;
        Ok(())
    }

    fn end(
        &mut self,
        affected: u64,
        last_insert_rowid: Option<i64>,
        rows: Rows,
    ) -> Result<(), Halt> {
        self.body.raw("],");
        counters(self.body, affected);
        // A string, as every 64-bit integer of Hrana.
        self.body.json(&last_insert_rowid.map(|id| id.to_string()));
        let Rows { read, written } = rows;
        write!(
            self.body.0,
            ",\"replication_index\":null,\"rows_read\":{read},\"rows_written\":{written}}}"
        )
        .expect("a vector takes everything");
        self.errors.push(None);
        Ok(())
    }

    fn failed(&mut self, failure: Failure) -> Result<(), Halt> {
        self.start.restore(self.body, self.room);
        self.body.raw("null");
        self.room.take(failure.message().len()).map_err(Halt::All)?;
        self.errors.push(Some(failure));
        Ok(())
    }

    fn skipped(&mut self, step: usize) {
        self.begin(step);
        self.body.raw("null");
        self.errors.push(None);
    }
}

/// The entries of a cursor's answer, one JSON object a line, sent in chunks while they come.
pub(super) struct Entries {
    body: Body,
    sender: mpsc::Sender<Bytes>,
    /// Of the connection that the rows come from.
    deadline: Deadline,
    /// How long a chunk may wait for the client.
    send_time: Duration,
    step: usize,
}

impl Entries {
    pub(super) fn new(
        sender: mpsc::Sender<Bytes>,
        baton: &str,
        deadline: Deadline,
        send_time: Duration,
    ) -> Self {
        let mut body = Body(Vec::with_capacity(CHUNK_BYTES));
        body.json(&serde_json::json!({ "baton": baton, "base_url": null }));
        body.raw("\n");
        Entries { body, sender, deadline, send_time, step: 0 }
    }

    /// Sends what there is once it is worth it. Blocks while the client does not read, but not for
    /// ever: meanwhile the stream is not anybody's, and the database's log cannot be shortened.
    fn send_if(&mut self, at_least: usize) -> Result<(), Halt> {
        if self.body.0.len() < at_least {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.body.0, Vec::with_capacity(CHUNK_BYTES));
        let sent = self.sender.send(Bytes::from(chunk));
        let sent = Handle::current().block_on(tokio::time::timeout(self.send_time, sent));
        if !matches!(sent, Ok(Ok(()))) {
            let message = "SQLite error: the client has gone";
            return Err(Halt::All(Failure::new("SQLITE_INTERRUPT", message)));
        }
        self.deadline.renew();
        Ok(())
    }

    /// Ends the answer, with an entry for what stopped the whole batch.
    pub(super) fn finish(mut self, failure: Option<Failure>) {
        if let Some(failure) = failure {
            self.body.raw("{\"type\":\"error\",\"error\":");
            self.body.json(&failure);
            self.body.raw("}\n");
        }
        // The client may have gone.
        let _ = self.send_if(1);
    }
}

impl Sink for Entries {
    fn begin(&mut self, step: usize) {
        self.step = step;
    }

    fn columns(&mut self, statement: &Statement<'_>) -> Result<(), Halt> {
        self.body.raw("{\"type\":\"step_begin\",\"step\":");
        self.body.json(&self.step);
        self.body.raw(",");
        self.body.columns(statement);
        self.body.raw("}\n");
        Ok(())
    }

    fn row(&mut self, row: &Row<'_>, columns: usize) -> Result<(), Halt> {
        let start = self.body.0.len();
        self.body.raw("{\"type\":\"row\",\"row\":");
        if let Err(halt) = self.body.row(row, columns) {
            self.body.0.truncate(start);
            return Err(halt);
        }
        self.body.raw("}\n");
        self.send_if(CHUNK_BYTES)
    }

    fn end(
        &mut self,
        affected: u64,
        last_insert_rowid: Option<i64>,
        _rows: Rows,
    ) -> Result<(), Halt> {
        self.body.raw("{\"type\":\"step_end\",");
        counters(&mut self.body, affected);
        // A number here, unlike in a pipeline, as in `libsql_hrana` and libSQL server.
        self.body.json(&last_insert_rowid);
        self.body.raw("}\n");
        self.send_if(CHUNK_BYTES)
    }

    fn failed(&mut self, failure: Failure) -> Result<(), Halt> {
        self.body.raw("{\"type\":\"step_error\",\"step\":");
        self.body.json(&self.step);
        self.body.raw(",\"error\":");
        self.body.json(&failure);
        self.body.raw("}\n");
        self.send_if(CHUNK_BYTES)
    }

    fn skipped(&mut self, _step: usize) {}
}
