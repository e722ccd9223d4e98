//! A remote in memory: the real schema on a real SQLite, or on libSQL's engine, without a network
//! between. It counts what it is asked, and fails as it is told.

use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;

use driftless::event::value::Value;
use driftless::remote::{Answer, Batch, Pending, Remote, Rows, Statement, rejected};
use driftless::{Code, Error, Result};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params_from_iter};

use super::engine::{Engine, with_hash};
use super::statement::inlined;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It never arrives.
    LostBefore,
    /// It takes effect, and its answer is lost.
    LostAfter,
    /// The credentials are refused.
    Refused,
    /// The remote is overloaded.
    Unavailable,
    /// The client panics.
    Panic,
    /// The write is dropped, though the answer looks as if it had happened.
    Swallow,
    /// Nothing: the request goes through.
    None,
}

struct State {
    db: Engine,
    faults: VecDeque<Fault>,
    batches: Vec<Batch>,
    offline: bool,
    answer_cap: usize,
    request_cap: usize,
}

/// The least bytes of a statement in a request: its number, its condition, and JSON.
const STEP_BYTES: usize = 100;

/// See the module.
pub(crate) struct LocalRemote {
    state: Mutex<State>,
    url: String,
}

impl LocalRemote {
    /// A remote with these tables of the web application's.
    pub(crate) fn new(schema: &str) -> Self {
        Self::over(Engine::bundled(), schema)
    }

    /// The same in a file, so that other connections may write beside it.
    pub(crate) fn at(path: &std::path::Path, schema: &str) -> Self {
        let db = Connection::open(path).unwrap();
        db.pragma_update(None, "journal_mode", "WAL").unwrap();
        Self::over(Engine::Bundled(with_hash(db)), schema)
    }

    /// The same over an empty database.
    pub(crate) fn over(db: Engine, schema: &str) -> Self {
        db.execute_batch("PRAGMA foreign_keys = ON").unwrap();
        db.execute_batch(schema).unwrap();
        let (faults, batches) = (VecDeque::new(), Vec::new());
        let caps = usize::MAX;
        let state =
            State { db, faults, batches, offline: false, answer_cap: caps, request_cap: caps };
        LocalRemote { state: Mutex::new(state), url: "memory://remote".to_owned() }
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// The whole database as it is now, for [`LocalRemote::roll_back`].
    pub(crate) fn snapshot(&self) -> Engine {
        self.with(|state| state.db.copy())
    }

    /// The database is what it was once.
    pub(crate) fn roll_back(&self, snapshot: &Engine) {
        let db = snapshot.copy();
        db.execute_batch("PRAGMA foreign_keys = ON").unwrap();
        self.with(|state| state.db = db);
    }

    /// The database is made anew, with these tables of the web application's alone.
    pub(crate) fn wipe(&self, schema: &str) {
        let db = self.with(|state| state.db.another());
        db.execute_batch(schema).unwrap();
        self.roll_back(&db);
    }

    /// What happens to the next requests, one each.
    pub(crate) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.with(|state| state.faults.extend(faults));
    }

    /// Whether no request arrives at all.
    pub(crate) fn set_offline(&self, offline: bool) {
        self.with(|state| state.offline = offline);
    }

    /// The most bytes of a request and of an answer.
    pub(crate) fn set_caps(&self, request: usize, answer: usize) {
        self.with(|state| (state.request_cap, state.answer_cap) = (request, answer));
    }

    /// How many faults are still to come.
    pub(crate) fn faults_left(&self) -> usize {
        self.with(|state| state.faults.len())
    }

    /// The requests so far, those that failed too.
    pub(crate) fn batches(&self) -> Vec<Batch> {
        self.with(|state| state.batches.clone())
    }

    /// How many requests there were.
    pub(crate) fn requests(&self) -> usize {
        self.with(|state| state.batches.len())
    }

    /// The web application writes.
    pub(crate) fn web(&self, sql: &str) {
        self.with(|state| state.db.execute_batch(sql).unwrap());
    }

    /// The web application tries a transaction; it is rolled back if a statement fails.
    pub(crate) fn try_web(&self, sql: &str) -> bool {
        self.with(|state| {
            let done = state.db.execute_batch(&format!("BEGIN IMMEDIATE; {sql}; COMMIT"));
            if done.is_err() && !state.db.is_autocommit() {
                state.db.execute_batch("ROLLBACK").unwrap();
            }
            done.is_ok()
        })
    }

    /// One query's rows as text, a line each.
    pub(crate) fn read(&self, sql: &str) -> String {
        self.with(|state| told(state.db.look(sql)))
    }

    /// One query's rows.
    pub(crate) fn rows(&self, sql: &str) -> Rows {
        self.with(|state| state.db.look(sql))
    }

    /// The work of [`Remote::run`], at once.
    pub(crate) fn run_now(&self, batch: Batch) -> Result<Answer> {
        self.with(|state| {
            let fault = state.faults.pop_front().unwrap_or(Fault::None);
            state.batches.push(batch.clone());
            if batch.statements.is_empty() {
                return Err(Error::usage("a batch must hold at least one statement"));
            }
            // A client sends a text once, the values of each statement, and some JSON around them.
            let mut texts = HashSet::new();
            let sent = |statement: &Statement| {
                let values = inlined(statement).len().saturating_sub(statement.sql.len());
                let is_new = texts.insert(statement.sql.clone());
                STEP_BYTES + values + if is_new { statement.sql.len() } else { 0 }
            };
            let size: usize = batch.statements.iter().map(sent).sum();
            let lost = || Error::unavailable("the line is dead");
            match fault {
                _ if state.offline => return Err(lost()),
                Fault::LostBefore | Fault::Unavailable => return Err(lost()),
                Fault::Refused => return Err(Error::new(Code::TokenRefused, "no")),
                Fault::Panic => panic!("the uploader panics, as it was told"),
                _ if size > state.request_cap => {
                    let count = batch.statements.len();
                    let why = format!("413: {size} bytes in {count} statements");
                    return Err(Error::new(Code::RequestTooLarge, why));
                }
                _ => {}
            }
            let outcome = transact(&state.db, &batch, fault == Fault::Swallow);
            if fault == Fault::LostAfter { outcome.and(Err(lost())) } else { outcome }
        })
        .and_then(|answer| {
            let cap = self.with(|state| state.answer_cap);
            if answer.bytes_down > cap as u64 {
                return Err(Error::new(Code::AnswerTooLarge, "the answer is too large"));
            }
            Ok(answer)
        })
    }
}

impl Remote for LocalRemote {
    fn run(&self, batch: Batch) -> Pending<'_> {
        Box::pin(async move { self.run_now(batch) })
    }

    fn url(&self) -> String {
        self.url.clone()
    }
}

fn transact(db: &Engine, batch: &Batch, swallow: bool) -> Result<Answer> {
    let refused = |message: String| rejected(&message);
    db.execute_batch(if batch.writes { "BEGIN IMMEDIATE" } else { "BEGIN" }).unwrap();
    let mut answer = Answer::default();
    for statement in &batch.statements {
        answer.bytes_up += inlined(statement).len() as u64;
        if swallow && statement.sql.starts_with("INSERT") {
            answer.rows.push(Rows::new());
            continue;
        }
        match db.rows(statement) {
            Ok(rows) => answer.rows.push(rows),
            Err(error) => {
                if !db.is_autocommit() {
                    db.execute_batch("ROLLBACK").unwrap();
                }
                return Err(refused(error));
            }
        }
    }
    if let Err(error) = db.execute_batch("COMMIT") {
        db.execute_batch("ROLLBACK").unwrap();
        return Err(refused(error));
    }
    let values = answer.rows.iter().flatten().flatten();
    answer.bytes_down = values.map(|value| value.as_bytes().map_or(8, <[u8]>::len) as u64).sum();
    Ok(answer)
}

/// One query's rows.
pub(crate) fn rows(db: &Connection, sql: &str) -> rusqlite::Result<Rows> {
    rows_of(db, &sql.into())
}

/// One statement's rows.
pub(crate) fn rows_of(db: &Connection, asked: &Statement) -> rusqlite::Result<Rows> {
    let mut statement = db.prepare(&asked.sql)?;
    let columns = statement.column_count();
    let args = asked.args.iter().map(driftless::event::value::ValueRef::from);
    let mut found = statement.query(params_from_iter(args))?;
    let mut rows = Rows::new();
    while let Some(row) = found.next()? {
        let value = |column| {
            Ok(match row.get_ref(column)? {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(integer) => Value::Integer(integer),
                ValueRef::Real(real) => Value::Real(real),
                ValueRef::Text(text) => Value::Text(text.to_vec()),
                ValueRef::Blob(blob) => Value::Blob(blob.to_vec()),
            })
        };
        rows.push((0..columns).map(value).collect::<rusqlite::Result<_>>()?);
    }
    Ok(rows)
}

/// One query's rows as text, a line each.
pub(crate) fn read(db: &Connection, sql: &str) -> String {
    told(rows(db, sql).unwrap())
}

fn told(rows: Rows) -> String {
    let lines: Vec<_> = rows
        .into_iter()
        .map(|row| {
            let values: Vec<_> = row.iter().map(Value::to_string).collect();
            values.join("|")
        })
        .collect();
    lines.join("\n")
}
