//! The limits of a hub's clients.

use std::time::Duration;

/// The limits of a client. The defaults for sizes, streams and idle streams are libSQL server's, so
/// that a program that works here works there.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request's body. A larger one is answered with status 413.
    pub request_bytes: usize,
    /// Bytes of all values in the answer to one pipeline. A blob counts with its own size, not that
    /// of its base64. More is the error `RESPONSE_TOO_LARGE`. Cursors have no such limit.
    pub response_bytes: usize,
    /// Bytes of one value, or one row in the database. More is the error `SQLITE_TOOBIG`.
    pub value_bytes: usize,
    /// Bytes of all bodies that are being read or processed. More is answered with status 503: a
    /// body of the shortest requests takes some twenty times its size in memory.
    pub bodies_bytes: usize,
    /// Connections open at once. Further ones wait to be accepted.
    pub connections: usize,
    /// How long the head of a request may take to arrive, and how long a connection may be idle
    /// before it is closed.
    pub head_time: Duration,
    /// How long a request's body may take to arrive. After that it is answered with status 408.
    pub body_time: Duration,
    /// How long all statements of one request may run, including their waits for locks. After that
    /// they fail with `SQLITE_INTERRUPT`. A cursor's time restarts with each chunk that its client
    /// takes.
    pub run_time: Duration,
    /// How long a client may read nothing of an answer before its connection is closed.
    pub send_time: Duration,
    /// Streams open at once.
    pub streams: usize,
    /// How long a request waits for a stream before it is answered with status 503.
    pub stream_wait: Duration,
    /// How long a stream may be idle between two requests before it is closed.
    pub idle_timeout: Duration,
    /// How long requests under way may take when the hub stops, before they are interrupted.
    pub stop_grace: Duration,
}

/// [`Limits::request_bytes`] and [`Limits::response_bytes`] by default: 10 MB.
const BODY_BYTES: usize = 10_000_000;

/// [`Limits::value_bytes`] by default: 5 MB.
const VALUE_BYTES: usize = 5_000_000;

/// [`Limits::bodies_bytes`] by default: six bodies of the largest size.
const BODIES_BYTES: usize = 64_000_000;

/// [`Limits::connections`] by default: twice the number of streams, so that a request that waits
/// for a stream gets an answer.
const CONNECTIONS: usize = 256;

/// [`Limits::head_time`] by default: a replica asks every five seconds.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// [`Limits::body_time`] by default: the largest body on a line of 3 Mbit/s.
const BODY_TIME: Duration = Duration::from_secs(30);

/// [`Limits::run_time`] by default: our clients do not wait longer.
const RUN_TIME: Duration = Duration::from_secs(30);

/// [`Limits::send_time`] by default.
const SEND_TIME: Duration = Duration::from_secs(30);

/// [`Limits::streams`] by default.
const STREAMS: usize = 128;

/// [`Limits::stream_wait`] by default.
const STREAM_WAIT: Duration = Duration::from_secs(1);

/// [`Limits::idle_timeout`] by default.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// [`Limits::stop_grace`] by default: longer than our requests take.
const STOP_GRACE: Duration = Duration::from_secs(10);

impl Default for Limits {
    fn default() -> Self {
        Limits {
            request_bytes: BODY_BYTES,
            response_bytes: BODY_BYTES,
            value_bytes: VALUE_BYTES,
            bodies_bytes: BODIES_BYTES,
            connections: CONNECTIONS,
            head_time: HEAD_TIME,
            body_time: BODY_TIME,
            run_time: RUN_TIME,
            send_time: SEND_TIME,
            streams: STREAMS,
            stream_wait: STREAM_WAIT,
            idle_timeout: IDLE_TIMEOUT,
            stop_grace: STOP_GRACE,
        }
    }
}
