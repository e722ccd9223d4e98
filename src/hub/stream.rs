//! Streams: Hrana's word for a client's state on the server between requests.
//!
//! A stream owns one connection, which is opened and closed with it. Between requests it is in
//! [`Streams`] under its number. A request takes it out and puts it back, under a baton that only
//! the next request may show. A stream that is idle for too long is rolled back and expires.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rusqlite::InterruptHandle;
use tokio::time::Instant;

use super::connection::{Connection, Opener};
use super::failure::{Failure, Refusal};
use super::limits::Limits;

/// How long a request waits for a cursor that still runs on its stream.
const CURSOR_WAIT: Duration = Duration::from_secs(10);

/// How long a write transaction may sit idle while another writer waits. libSQL server's figure.
const TRANSACTION_PATIENCE: Duration = Duration::from_secs(5);

/// How long an expired stream is remembered, so that its client gets the right error.
const EXPIRED_KEPT: Duration = Duration::from_secs(300);

/// A hub that stops interrupts running statements this often: a batch may go on with its next
/// statement.
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(50);
/// How many times: five seconds in all.
const INTERRUPTS: usize = 100;

/// SQL texts that a stream may store, and the bytes of one: libSQL server's figures.
const STORED_SQL_COUNT: usize = 50;
/// See [`STORED_SQL_COUNT`].
const STORED_SQL_BYTES: usize = 5_000;

/// A client's connection and its stored SQL texts.
pub(super) struct Stream {
    connection: Connection,
    sqls: HashMap<i32, String>,
    /// Whether an idle client lost its transaction. All later statements fail: they must not run
    /// outside their transaction.
    timed_out: bool,
}

/// All streams of a hub.
pub(super) struct Streams {
    state: Mutex<State>,
    /// Signalled when a stream was closed or put back.
    changed: Condvar,
    opener: Opener,
    limits: Limits,
    /// Signs batons. Its keys come from the operating system.
    key: RandomState,
}

#[derive(Default)]
struct State {
    slots: HashMap<u64, Slot>,
    /// The number of slots that are not expired: at most the limit.
    open: usize,
    /// Runs no statements. While it is open, a stream that closes is not the last connection: the
    /// last one moves the log into the database and deletes it.
    keeper: Option<Connection>,
    /// [`Opener::waits`] at the last [`Streams::expire`].
    waits: u64,
    closing: bool,
}

enum Slot {
    /// A request uses it. `promised` is the sequence number of a baton that was given out already;
    /// `interrupt` stops the running statement.
    Busy { promised: Option<u64>, interrupt: Option<InterruptHandle> },
    /// It waits for the request with this sequence number, since then.
    Waiting { stream: Box<Stream>, sequence: u64, since: Instant },
    /// It was closed because it was idle.
    Expired { since: Instant },
}

/// A stream that a request uses. If it is dropped without [`Guard::release`], it is closed.
pub(super) struct Guard {
    streams: Arc<Streams>,
    id: u64,
    sequence: u64,
    /// `None` after it was closed or put back, or if its connection could not be opened.
    stream: Option<Box<Stream>>,
    /// Whether the guard no longer owns the stream.
    closed: bool,
}

/// Whether a SQL text could be stored.
pub(super) type Stored = Result<(), Failure>;

impl Streams {
    /// Streams over the database that `opener` opens, whose first connection is `connection`.
    pub(super) fn new(opener: Opener, connection: Connection, limits: Limits) -> Self {
        let state = State { keeper: Some(connection), ..State::default() };
        let key = RandomState::new();
        Streams { state: Mutex::new(state), changed: Condvar::new(), opener, limits, key }
    }

    /// [`Limits::send_time`].
    pub(super) fn send_time(&self) -> Duration {
        self.limits.send_time
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the lock")
    }

    /// The stream of `baton`, or a new one. Blocks while the limit of streams is reached.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: the baton is wrong, was used, or its stream has expired; too many streams are
    /// open; the database cannot be opened.
    pub(super) fn acquire(self: &Arc<Self>, baton: Option<&str>) -> Result<Guard, Refusal> {
        let guard = match baton {
            Some(baton) => self.resume(baton),
            None => self.open(),
        }?;
        if let Some(stream) = &guard.stream {
            stream.connection.renew_deadline();
        }
        Ok(guard)
    }

    fn open(self: &Arc<Self>) -> Result<Guard, Refusal> {
        let crowded = |state: &mut State| state.open >= self.limits.streams && !state.closing;
        let (mut state, _) = self
            .changed
            .wait_timeout_while(self.lock(), self.limits.stream_wait, crowded)
            .expect("nothing panics while it holds the lock");
        if state.open >= self.limits.streams || state.closing {
            return Err(Refusal::Crowded);
        }
        let id = self.draw(|id| state.slots.contains_key(&id));
        state.slots.insert(id, Slot::Busy { promised: None, interrupt: None });
        state.open += 1;
        drop(state);
        let sequence = self.draw(|_| false);
        let mut guard =
            Guard { streams: Arc::clone(self), id, sequence, stream: None, closed: false };
        let connection = self.opener.connect().map_err(|e| Refusal::Internal(e.to_string()))?;
        let interrupt = Some(connection.interrupt_handle());
        self.lock().slots.insert(id, Slot::Busy { promised: None, interrupt });
        let sqls = HashMap::new();
        guard.stream = Some(Box::new(Stream { connection, sqls, timed_out: false }));
        Ok(guard)
    }

    fn resume(self: &Arc<Self>, baton: &str) -> Result<Guard, Refusal> {
        let (id, sequence) =
            self.decode(baton).ok_or_else(|| Refusal::protocol("Received an invalid baton"))?;
        let running = |state: &mut State| {
            let slot = state.slots.get(&id);
            matches!(slot, Some(Slot::Busy { promised: Some(next), .. }) if *next == sequence)
                && !state.closing
        };
        let (mut state, _) = self
            .changed
            .wait_timeout_while(self.lock(), CURSOR_WAIT, running)
            .expect("nothing panics while it holds the lock");
        match state.slots.get_mut(&id) {
            None => Err(Refusal::protocol("Received an invalid baton")),
            Some(Slot::Expired { .. }) => Err(Refusal::Expired),
            Some(slot @ Slot::Waiting { .. }) => {
                let Slot::Waiting { stream, sequence: expected, since } =
                    std::mem::replace(slot, Slot::Busy { promised: None, interrupt: None })
                else {
                    unreachable!("it was matched just now")
                };
                if expected != sequence {
                    *slot = Slot::Waiting { stream, sequence: expected, since };
                    return Err(Refusal::protocol("Received a baton that has already been used"));
                }
                let interrupt = Some(stream.connection.interrupt_handle());
                *slot = Slot::Busy { promised: None, interrupt };
                let streams = Arc::clone(self);
                let sequence = sequence.wrapping_add(1);
                Ok(Guard { streams, id, sequence, stream: Some(stream), closed: false })
            }
            Some(Slot::Busy { .. }) => {
                Err(Refusal::protocol("Received a baton that has already been used"))
            }
        }
    }

    /// Closes streams that were idle for longer than the idle timeout. While another writer waits,
    /// rolls back write transactions of idle clients.
    pub(super) fn expire(&self, now: Instant) {
        let mut closed = Vec::new();
        let mut overdue = Vec::new();
        let mut state = self.lock();
        let waits = self.opener.waits();
        let contended = std::mem::replace(&mut state.waits, waits) != waits;
        state.slots.retain(|_, slot| match slot {
            Slot::Expired { since } => now - *since < EXPIRED_KEPT,
            _ => true,
        });
        for (id, slot) in &mut state.slots {
            let Slot::Waiting { stream, sequence, since } = slot else { continue };
            let idle_for = now - *since;
            let expired = Slot::Expired { since: now };
            if idle_for >= self.limits.idle_timeout {
                if let Slot::Waiting { stream, .. } = std::mem::replace(slot, expired) {
                    closed.push(stream);
                }
            } else if contended
                && idle_for >= TRANSACTION_PATIENCE
                && stream.connection.holds_write_lock()
            {
                let busy = Slot::Busy { promised: Some(*sequence), interrupt: None };
                if let Slot::Waiting { stream, sequence, since } = std::mem::replace(slot, busy) {
                    overdue.push((*id, stream, sequence, since));
                }
            }
        }
        drop(state);
        for stream in closed {
            tracing::debug!("a stream expired");
            stream.connection.close();
            self.lock().open -= 1;
        }
        for (id, mut stream, sequence, since) in overdue {
            tracing::debug!("an idle transaction was rolled back for another writer");
            stream.timed_out = true;
            // If this fails, the next use of the connection fails too.
            let _ = stream.connection.roll_back();
            self.put_back(id, stream, sequence, since);
        }
        self.changed.notify_all();
    }

    /// Closes all streams. No new ones are opened. Interrupts running statements and waits for
    /// them.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        let keeper = state.keeper.take();
        let waiting: Vec<Slot> = state
            .slots
            .extract_if(|_, slot| !matches!(slot, Slot::Busy { .. }))
            .map(|s| s.1)
            .collect();
        state.open -= waiting.iter().filter(|slot| matches!(slot, Slot::Waiting { .. })).count();
        drop(state);
        // Wake the requests that wait for a stream: they fail now.
        self.changed.notify_all();
        drop((keeper, waiting));
        let mut state = self.lock();
        for _ in 0..INTERRUPTS {
            if state.open == 0 {
                return;
            }
            for slot in state.slots.values() {
                if let Slot::Busy { interrupt: Some(interrupt), .. } = slot {
                    interrupt.interrupt();
                }
            }
            let waited = self.changed.wait_timeout(state, INTERRUPT_INTERVAL);
            state = waited.expect("nothing panics while it holds the lock").0;
        }
        tracing::warn!(streams = state.open, "some statements run on although the hub has stopped");
    }

    /// Puts a stream back. It waits for the request with the number `sequence`, and is idle `since`
    /// that time.
    fn put_back(&self, id: u64, stream: Box<Stream>, sequence: u64, since: Instant) {
        let mut state = self.lock();
        if state.closing {
            drop(state);
            return self.leave(id, Some(stream));
        }
        state.slots.insert(id, Slot::Waiting { stream, sequence, since });
        drop(state);
        self.changed.notify_all();
    }

    /// Closes a stream. It counts as open until its connection is closed.
    fn leave(&self, id: u64, stream: Option<Box<Stream>>) {
        self.lock().slots.remove(&id);
        if let Some(stream) = stream {
            stream.connection.close();
        }
        self.lock().open -= 1;
        self.changed.notify_all();
    }

    /// A number that cannot be guessed and is not `taken`.
    fn draw(&self, taken: impl Fn(u64) -> bool) -> u64 {
        loop {
            // Each `RandomState` has its own random keys, so its hashes cannot be predicted.
            let number = RandomState::new().hash_one(self.key.hash_one(0));
            if !taken(number) {
                return number;
            }
        }
    }

    fn encode(&self, id: u64, sequence: u64) -> String {
        let signature = self.key.hash_one((id, sequence));
        let mut bytes = [0; 24];
        for (place, number) in bytes.chunks_exact_mut(8).zip([id, sequence, signature]) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        STANDARD_NO_PAD.encode(bytes)
    }

    fn decode(&self, baton: &str) -> Option<(u64, u64)> {
        let bytes: [u8; 24] = STANDARD_NO_PAD.decode(baton).ok()?.try_into().ok()?;
        let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        let (id, sequence, signature) = (number(0)?, number(8)?, number(16)?);
        (signature == self.key.hash_one((id, sequence))).then_some((id, sequence))
    }
}

impl Guard {
    /// The stream.
    ///
    /// # Errors
    ///
    /// A breach of the protocol when this request has closed it.
    pub(super) fn stream(&mut self) -> Result<&mut Stream, Refusal> {
        let closed = || Refusal::protocol("Stream for this baton was closed");
        self.stream.as_deref_mut().ok_or_else(closed)
    }

    /// Closes the stream: its transaction is rolled back, and there is no baton.
    pub(super) fn close(&mut self) {
        if !std::mem::replace(&mut self.closed, true) {
            self.streams.leave(self.id, self.stream.take());
        }
    }

    /// The baton of the next request, while this one still uses the stream. The next request
    /// waits.
    pub(super) fn promise(&self) -> String {
        let mut state = self.streams.lock();
        if let Some(Slot::Busy { promised, .. }) = state.slots.get_mut(&self.id) {
            *promised = Some(self.sequence);
        }
        drop(state);
        self.streams.encode(self.id, self.sequence)
    }

    /// Puts the stream back for the next request and gives its baton; `None` if it was closed.
    pub(super) fn release(mut self) -> Option<String> {
        let stream = self.stream.take()?;
        self.closed = true;
        self.streams.put_back(self.id, stream, self.sequence, Instant::now());
        Some(self.streams.encode(self.id, self.sequence))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The state of the connection is not known: drop it.
            self.stream = None;
        }
        self.close();
    }
}

impl Stream {
    /// Its connection.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Its connection.
    pub(super) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Whether it lost its transaction to another writer. No statement may run then.
    pub(super) fn is_timed_out(&self) -> bool {
        self.timed_out
    }

    /// The SQL text that was stored as `sql_id`.
    ///
    /// # Errors
    ///
    /// A breach of the protocol when there is none.
    pub(super) fn stored_sql(&self, sql_id: i32) -> Result<&str, Refusal> {
        let sql = self.sqls.get(&sql_id).map(String::as_str);
        sql.ok_or_else(|| Refusal::protocol(format!("SQL text {sql_id} not found")))
    }

    /// Stores `sql` as `sql_id`. The inner error is the client's to see.
    ///
    /// # Errors
    ///
    /// A breach of the protocol when that number is taken.
    pub(super) fn store_sql(&mut self, sql_id: i32, sql: String) -> Result<Stored, Refusal> {
        if self.sqls.contains_key(&sql_id) {
            return Err(Refusal::protocol(format!("SQL text {sql_id} already exists")));
        }
        let count = self.sqls.len();
        if count >= STORED_SQL_COUNT {
            let message =
                format!("The server already stores {count} SQL texts, it cannot store more");
            return Ok(Err(Failure::new("SQL_STORE_TOO_MANY", message)));
        }
        if sql.len() > STORED_SQL_BYTES {
            let message = format!(
                "The statement is too large to be stored: {} of {STORED_SQL_BYTES} bytes",
                sql.len()
            );
            return Ok(Err(Failure::new("SQL_STORE_TOO_LARGE", message)));
        }
        self.sqls.insert(sql_id, sql);
        Ok(Ok(()))
    }

    /// Forgets the SQL text `sql_id`, if it is there.
    pub(super) fn close_sql(&mut self, sql_id: i32) {
        self.sqls.remove(&sql_id);
    }
}
