//! The remote of a world: the real schema on a real SQLite file behind [`Remote`], with a web
//! application beside it. It dies when it is told to, and refuses what is too large.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use driftless::remote::{Answer, Batch, Pending, Remote, Rows, Statement, rejected};
use driftless::{Code, Error, Result};
use rusqlite::Connection;

use super::sql::{Clock, governed, rows, rows_of, transact};
use super::statement::inlined;

/// What runs on the server.
struct State {
    db: Connection,
    request_cap: usize,
    answer_cap: usize,
    /// Dies when so many statements of the next batch have run.
    dies_after: Option<usize>,
    lives: u64,
    /// Somebody has asked for events by their ids, though this database was always this one: what it
    /// acknowledged was missed.
    doubted: bool,
    replaced: bool,
}

/// See the module.
pub(crate) struct Server {
    state: Mutex<State>,
    path: PathBuf,
    clock: Clock,
    seed: u64,
    verbatim: bool,
}

fn connect(path: &PathBuf, clock: &Clock, seed: u64) -> Connection {
    let db = Connection::open(path).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; PRAGMA foreign_keys = ON; \
         PRAGMA locking_mode = EXCLUSIVE",
    )
    .unwrap();
    governed(&db, clock, seed);
    db
}

impl Server {
    /// The server over a database file, which may be new.
    pub(crate) fn new(path: PathBuf, clock: Clock, seed: u64, verbatim: bool) -> Self {
        let db = connect(&path, &clock, seed);
        let (cap, dies_after) = (usize::MAX, None);
        let (doubted, replaced) = (false, false);
        let (request_cap, answer_cap, lives) = (cap, cap, 1);
        let state = State { db, request_cap, answer_cap, dies_after, lives, doubted, replaced };
        Server { state: Mutex::new(state), path, clock, seed, verbatim }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is another one when the database has changed.
    pub(crate) fn version(&self) -> (u64, u64) {
        let state = self.state();
        (state.lives, state.db.total_changes())
    }

    /// Looks at the database.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&Connection) -> T) -> T {
        look(&self.state().db)
    }

    /// The database's file.
    pub(crate) fn copy(&self) -> Vec<u8> {
        let _state = self.state();
        std::fs::read(&self.path).unwrap()
    }

    /// Another database stands in this one's place.
    pub(crate) fn replace(&self, file: &[u8]) {
        let mut state = self.state();
        state.db = Connection::open_in_memory().unwrap();
        std::fs::write(&self.path, file).unwrap();
        state.lives += 1;
        state.replaced = true;
        state.db = connect(&self.path, &self.clock, self.seed ^ state.lives << 32);
    }

    /// Whether somebody missed what this remote has acknowledged, and it was never another one.
    pub(crate) fn is_doubted(&self) -> bool {
        self.state().doubted
    }

    /// The greatest request and the greatest answer, in bytes.
    pub(crate) fn set_caps(&self, request: usize, answer: usize) {
        let mut state = self.state();
        (state.request_cap, state.answer_cap) = (request, answer);
    }

    /// Dies when so many statements of the next batch have run, and is started again.
    pub(crate) fn die_after(&self, statements: usize) {
        self.state().dies_after = Some(statements);
    }

    /// The web application's transaction. False if it was refused.
    pub(crate) fn web(&self, statements: &[String]) -> bool {
        transact(&self.state().db, statements, false)
    }

    /// Runs a batch, as [`Remote::run`] does. A future that never waits is done when it is asked.
    pub(crate) fn ask(&self, batch: Batch) -> Result<Answer> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match self.run(batch).as_mut().poll(&mut context) {
            std::task::Poll::Ready(outcome) => outcome,
            std::task::Poll::Pending => unreachable!("it never waits"),
        }
    }

    fn execute(&self, batch: &Batch) -> Result<Answer> {
        let mut state = self.state();
        if batch.statements.is_empty() {
            return Err(Error::usage("a batch must hold at least one statement"));
        }
        let size: usize = batch.statements.iter().map(|sql| inlined(sql).len()).sum();
        if size > state.request_cap {
            return Err(Error::new(Code::TooLarge, "413"));
        }
        state.doubted |= !state.replaced && batch.statements[0].sql.contains("WHERE id IN (");
        let dies_after = state.dies_after.take();
        let mut answer = Answer { bytes_up: size as u64, ..Answer::default() };
        simple(&state.db, if batch.writes { "BEGIN IMMEDIATE" } else { "BEGIN" })?;
        for (number, statement) in batch.statements.iter().enumerate() {
            if dies_after == Some(number) {
                // The process is gone, and the transaction with it.
                state.lives += 1;
                state.db = Connection::open_in_memory().unwrap();
                state.db = connect(&self.path, &self.clock, self.seed ^ state.lives << 32);
                return Err(Error::unavailable("connection reset by peer"));
            }
            match self.statement(&state.db, statement) {
                Ok(rows) => answer.rows.push(rows),
                Err(source) => {
                    if !state.db.is_autocommit() {
                        simple(&state.db, "ROLLBACK")?;
                    }
                    return Err(rejected(&source.to_string()));
                }
            }
        }
        if let Err(error) = simple(&state.db, "COMMIT") {
            simple(&state.db, "ROLLBACK")?;
            return Err(error);
        }
        let values = answer.rows.iter().flatten().flatten();
        answer.bytes_down =
            values.map(|value| value.as_bytes().map_or(8, <[u8]>::len) as u64).sum();
        if answer.bytes_down > state.answer_cap as u64 {
            return Err(Error::new(Code::AnswerTooLarge, "the answer is too large"));
        }
        Ok(answer)
    }

    fn statement(&self, db: &Connection, statement: &Statement) -> rusqlite::Result<Rows> {
        match () {
            () if self.verbatim => rows(db, &inlined(statement)),
            () => rows_of(db, statement),
        }
    }
}

fn simple(db: &Connection, sql: &str) -> Result<()> {
    let done = db.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
    done.map(drop).map_err(|source| rejected(&source.to_string()))
}

impl Remote for Server {
    fn run(&self, batch: Batch) -> Pending<'_> {
        Box::pin(async move { self.execute(&batch) })
    }

    fn url(&self) -> String {
        "memory://remote".to_owned()
    }
}
