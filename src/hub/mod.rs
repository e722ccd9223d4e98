//! The hub: an embedded development server, the remote when there is no Turso account.
//!
//! A [`Hub`] serves one SQLite file over [Hrana](https://github.com/tursodatabase/libsql), versions
//! 3 and 2 over HTTP, so that the `libsql` crate, `@libsql/client` and this crate's own replicas
//! take it for a Turso database. **It is for development, tests, demonstrations and CI, not for
//! production:** it speaks plain HTTP, knows one token for everything, and keeps no replicas or
//! backups of its file.
//!
//! `http` checks a request's token and reads its body. The rest runs on a blocking thread, so that
//! a slow statement delays only its own client. There `request` parses the message and takes a
//! `stream`: a connection, and the SQL texts that the client has stored. A client that continues
//! its stream (an interactive transaction) gets a *baton*. All others close the stream in the same
//! request. As on libSQL server, each stream opens a connection: its first statement parses the
//! whole schema, and is as much slower as the schema is larger. `execute` runs the statements, and
//! `answer` writes SQLite's values directly into the body.
//!
//! Errors have libSQL server's codes and shapes (`failure`): a statement that fails is an `error`
//! in an answer with status 200, and the pipeline goes on.
//!
//! Writers wait for one another no more than SQLite requires. A batch that will write begins with
//! `BEGIN IMMEDIATE`, whatever the client wrote. A statement waits six seconds for another writer.
//! A write transaction whose client is silent for five seconds is rolled back if another writer
//! waits.
//!
//! # Caveats
//!
//! * libSQL server parses SQL before it runs any of it: a syntax error in one step of a batch fails
//!   the batch as a whole. Here it is that step's error. Its message is SQLite's.
//! * Statements that libSQL has and SQLite has not (`ALTER TABLE … ALTER COLUMN`, vector functions)
//!   are errors. `BEGIN READONLY` is understood.
//! * `want_rows` is ignored, as libSQL server does.
//! * `rows_read` and `rows_written` are estimates ([`Totals`]). Results carry no
//!   `query_duration_ms`, which is optional, and cursors no `replication_index`: there is no
//!   replication.
//! * A `BEGIN` outside a batch, or in a sequence, is not changed: the hub does not know what
//!   follows.
//! * Statements that libSQL server's parser refuses (`ATTACH`, temporary tables, most pragmas) fail
//!   with SQLite's code `SQLITE_AUTH`.
//! * A pipeline whose client has gone runs to its end, or to its time limit.
//! * JSON only: no Protobuf, no WebSockets. Clients that would prefer those fall back to JSON over
//!   HTTP when they are given an `http://` URL.
//! * A client that stops reading in the middle of a cursor holds its stream and the database's WAL
//!   for [`Limits::send_time`].
//! * The sizes of the database and of SQLite's temporary files are limited only by
//!   [`Limits::run_time`].
//! * SQLite checks the clock between the instructions of a statement, and a function call is one
//!   instruction. `trim`, `replace` and `instr` over two values of megabytes take minutes and
//!   cannot be interrupted.

mod answer;
mod connection;
mod execute;
mod failure;
mod http;
mod limits;
mod listen;
mod request;
mod sink;
mod sql;
mod stream;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::time::{Instant, MissedTickBehavior};

pub use self::connection::{Rows, Totals};
pub use self::limits::Limits;
use crate::error::{Code, Error, Result};
use connection::Opener;
use http::Shared;
use stream::Streams;

/// How often idle streams are looked for.
const EXPIRY_TICK: Duration = Duration::from_millis(250);

/// The configuration of a [`Hub`].
#[derive(Debug)]
pub struct Config {
    /// The SQLite file. It is created if it does not exist.
    pub db: PathBuf,
    /// The address to listen on. Port 0 picks a free port; [`Hub::addr`] has it.
    pub listen: SocketAddr,
    /// The token that every request must show. Without a token everybody may do everything.
    pub token: Option<SecretString>,
    /// How much a client may ask for.
    pub limits: Limits,
}

impl Config {
    /// Serves `db` on `listen` to everybody, with the default limits.
    pub fn new(db: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        Config { db: db.into(), listen, token: None, limits: Limits::default() }
    }
}

/// A development server that has opened its database and its address, and does not answer yet.
pub struct Hub {
    listener: TcpListener,
    addr: SocketAddr,
    shared: Arc<Shared>,
    totals: Totals,
}

impl Hub {
    /// Opens the database and the address. Clients can connect from now on. [`Hub::serve`] answers
    /// them.
    ///
    /// # Errors
    ///
    /// * `Usage`: the address is in use or not this machine's, or the file is a folder.
    /// * `Storage`: the file cannot be opened or written, is not a database, or is locked.
    pub async fn bind(config: Config) -> Result<Hub> {
        let Config { db, listen, token, limits } = config;
        // Before the file is created: the address may not be valid.
        let listener = TcpListener::bind(listen).await.map_err(|error| unusable(listen, error))?;
        let opener = Opener::new(&db, &limits);
        let totals = opener.totals();
        let (opener, connection) = tokio::task::spawn_blocking(move || {
            opener.create().map(|connection| (opener, connection))
        })
        .await
        .map_err(|error| Error::storage("the database was not opened").with_source(error))??;
        let addr = listener.local_addr().map_err(|error| unusable(listen, error))?;
        if token.is_none() && !addr.ip().is_loopback() {
            tracing::warn!(%addr, "the hub serves everybody who can reach it, without a token");
        }
        let streams = Streams::new(opener, connection, limits.clone());
        let shared = Arc::new(Shared::new(streams, token.as_ref(), limits));
        Ok(Hub { listener, addr, shared, totals })
    }

    /// The address that it listens on, with the port that was picked.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL for clients on this machine, such as `http://127.0.0.1:8080`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What it has read and written since it was opened. The counts go on while it serves.
    pub fn totals(&self) -> Totals {
        self.totals.clone()
    }

    /// Answers requests until `stop` is ready. Then finishes those under way (ten seconds at most),
    /// rolls back open transactions, and closes the database.
    ///
    /// # Errors
    ///
    /// `Storage` when the database could not be closed in order.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let streams = Arc::clone(self.shared.streams());
        tokio::select! {
            () = listen::serve(self.listener, self.shared, stop) => {}
            () = expire(Arc::clone(&streams)) => {}
        }
        // The last connection to close runs a checkpoint, which takes a while.
        let closed = tokio::task::spawn_blocking(move || streams.close()).await;
        closed.map_err(|error| Error::storage("the database was not closed").with_source(error))
    }
}

fn unusable(listen: SocketAddr, error: std::io::Error) -> Error {
    let (why, hint) = match error.kind() {
        std::io::ErrorKind::AddrInUse => (
            "the address is in use",
            "stop the other program, or listen on port 0 to pick a free one",
        ),
        std::io::ErrorKind::AddrNotAvailable => {
            ("this machine has no such address", "listen on 127.0.0.1")
        }
        std::io::ErrorKind::PermissionDenied => {
            ("permission denied", "listen on a port above 1023")
        }
        _ => ("the system refuses it", "listen on 127.0.0.1:0"),
    };
    let message = format!("cannot listen on {listen}: {why}");
    Error::new(Code::AddressUnusable, message).with_hint(hint).with_source(error)
}

/// Closes streams that sit idle for too long, for ever.
async fn expire(streams: Arc<Streams>) {
    let mut ticks = tokio::time::interval(EXPIRY_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let streams = Arc::clone(&streams);
        // It fails only when the runtime ends.
        let _ = tokio::task::spawn_blocking(move || streams.expire(Instant::now())).await;
    }
}
