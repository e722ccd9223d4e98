//! A desk: an application's database with the sync machine over it, driven by hand. Time passes only
//! when the test says so.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driftless::event::ReplicaId;
use driftless::remote::Batch;
use driftless::store::Store;
use driftless::sync::{
    Changes, Config, Effect, Input, Machine, Now, Plan, RequestId, Status, Summary, Tables, Ticket,
    initialise,
};
use driftless::verdict::ConflictRule;
use driftless::{Error, Result};
use rusqlite::Connection;
use tempfile::TempDir;

use super::local_remote::{LocalRemote, read};

/// The tables of most tests.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE members (id TEXT PRIMARY KEY, name TEXT, email TEXT UNIQUE);
    CREATE TABLE payments (id INTEGER PRIMARY KEY, member TEXT REFERENCES members (id), cents INT);
";

/// When the tests begin: ms since 1970.
const BEGIN_MS: i64 = 1_700_000_000_000;

/// See the module.
pub(crate) struct Desk {
    /// The application's connection.
    pub(crate) db: Connection,
    pub(crate) machine: Machine,
    pub(crate) remote: Arc<LocalRemote>,
    pub(crate) now: Now,
    /// Requests that are under way.
    pub(crate) sent: VecDeque<(RequestId, Batch)>,
    pub(crate) timer: Option<u64>,
    pub(crate) go_on: bool,
    /// How many events are integrated in one transaction, the rest of a unit aside.
    pub(crate) transaction: usize,
    pub(crate) changes: Vec<Changes>,
    pub(crate) settled: Vec<(Ticket, Result<Summary>)>,
    tickets: u64,
    /// What the machine wanted, in order: for tests of the order.
    pub(crate) wanted: Vec<&'static str>,
    number: u128,
    path: PathBuf,
    _folder: TempDir,
}

/// A plan for the database at `path`, with identities made from `number`.
pub(crate) fn plan(path: PathBuf, number: u128, rules: &[(&str, ConflictRule)]) -> Plan {
    Plan {
        path,
        url: "memory://remote".to_owned(),
        tables: Tables::All,
        rules: rules.iter().map(|(table, rule)| ((*table).to_owned(), *rule)).collect(),
        replica: ReplicaId(ulid::Ulid::from_parts(BEGIN_MS as u64, number)),
        epoch: ulid::Ulid::from_parts(BEGIN_MS as u64, 1 << 40 | number),
    }
}

impl Desk {
    /// A desk with the tables of [`SCHEMA`], initialised with the remote.
    pub(crate) fn new(remote: &Arc<LocalRemote>, number: u128) -> Self {
        Self::with_schema(remote, number, SCHEMA)
    }

    /// A desk with other tables.
    pub(crate) fn with_schema(remote: &Arc<LocalRemote>, number: u128, schema: &str) -> Self {
        Self::with_rules(remote, number, schema, &[])
    }

    /// A desk with other tables and conflict rules. The remote must work while it is made.
    pub(crate) fn with_rules(
        remote: &Arc<LocalRemote>,
        number: u128,
        schema: &str,
        rules: &[(&str, ConflictRule)],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("desk.db");
        let db = Connection::open(&path).unwrap();
        db.pragma_update(None, "journal_mode", "WAL").unwrap();
        db.pragma_update(None, "foreign_keys", true).unwrap();
        db.execute_batch(schema).unwrap();
        let remote = Arc::clone(remote);
        let (store, _) = initialise(plan(path.clone(), number, rules), remote.clone()).unwrap();
        let mut desk = Desk {
            db,
            machine: machine(store, number),
            remote,
            now: Now { steady_ms: 1, wall_ms: BEGIN_MS },
            sent: VecDeque::new(),
            timer: None,
            go_on: false,
            transaction: usize::MAX,
            changes: Vec::new(),
            settled: Vec::new(),
            tickets: 0,
            wanted: Vec::new(),
            number,
            path,
            _folder: folder,
        };
        desk.input(Input::Start);
        desk.settle();
        desk
    }

    /// The database's file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What it was initialised with.
    pub(crate) fn plan(&self) -> Plan {
        plan(self.path.clone(), self.number, &[])
    }

    /// The machine's process ends, and another one begins.
    pub(crate) fn restart(&mut self) {
        let store = Store::open(&self.path).unwrap();
        self.machine = machine(store, 99);
        self.sent.clear();
        self.go_on = false;
        self.input(Input::Start);
    }

    /// The same with another `driftless init` before it, because the tables have changed.
    pub(crate) fn initialise_again(&mut self, rules: &[(&str, ConflictRule)]) -> Result<()> {
        let plan = plan(self.path.clone(), self.number, rules);
        let (store, _) = initialise(plan, self.remote.clone())?;
        self.machine = machine(store, self.number);
        self.sent.clear();
        self.go_on = false;
        self.input(Input::Start);
        self.settle();
        Ok(())
    }

    /// Gives the machine an input and takes its effects.
    pub(crate) fn input(&mut self, input: Input) {
        for effect in self.machine.handle(self.now, input) {
            let name = match effect {
                Effect::Send(id, batch) => {
                    self.sent.push_back((id, batch));
                    "send"
                }
                Effect::Wait(until) => {
                    self.timer = Some(until);
                    "wait"
                }
                Effect::Continue => {
                    self.go_on = true;
                    "continue"
                }
                Effect::Notify(changes) => {
                    self.changes.push(changes);
                    "notify"
                }
                Effect::Settled(ticket, outcome) => {
                    self.settled.push((ticket, outcome));
                    "settled"
                }
                Effect::StatusChanged | Effect::Initialised(_) => continue,
            };
            self.wanted.push(name);
        }
        assert!(self.sent.len() <= 1, "one request at a time");
    }

    /// Carries the request that is under way to the remote and its answer back. False if there is
    /// none.
    pub(crate) fn deliver(&mut self) -> bool {
        let Some((id, batch)) = self.sent.pop_front() else { return false };
        let outcome = self.remote.run_now(batch);
        self.input(Input::Answer(id, outcome));
        true
    }

    /// Integrates a page that waits. False if there is none.
    pub(crate) fn go_on(&mut self) -> bool {
        let go_on = std::mem::take(&mut self.go_on);
        if go_on {
            self.input(Input::Continue { events: self.transaction });
        }
        go_on
    }

    /// Does everything that can be done without time passing.
    pub(crate) fn settle(&mut self) {
        let mut rounds = 0;
        while self.deliver() || self.go_on() {
            rounds += 1;
            assert!(rounds < 10_000, "it never settles");
        }
    }

    /// Lets time pass, with the timer ringing in it, and does what is to be done.
    pub(crate) fn advance(&mut self, ms: u64) {
        let end = self.now.steady_ms + ms;
        loop {
            self.settle();
            match self.timer.filter(|timer| *timer <= end) {
                Some(timer) => {
                    self.pass_until(timer);
                    self.timer = None;
                    self.input(Input::Timer);
                }
                None => break,
            }
        }
        self.pass_until(end);
    }

    fn pass_until(&mut self, steady_ms: u64) {
        let passed = steady_ms.saturating_sub(self.now.steady_ms);
        self.now.steady_ms += passed;
        self.now.wall_ms += passed as i64;
    }

    /// The application writes, and the machine is told.
    pub(crate) fn write(&mut self, sql: &str) {
        self.db.execute_batch(sql).unwrap();
        self.input(Input::LocalCommit);
    }

    /// Synchronises until it is done, without time passing unless something fails.
    pub(crate) fn sync(&mut self) -> Result<Summary> {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.input(Input::SyncNow(ticket));
        for _ in 0..1_000 {
            self.settle();
            if let Some(at) = self.settled.iter().position(|(settled, _)| *settled == ticket) {
                return self.settled.remove(at).1;
            }
            let timer = self.timer.take().expect("it waits for something");
            self.pass_until(timer);
            self.input(Input::Timer);
        }
        Err(Error::unavailable("a thousand rounds were not enough"))
    }

    /// One query's rows as text, a line each.
    pub(crate) fn read(&self, sql: &str) -> String {
        read(&self.db, sql)
    }

    /// How it is.
    pub(crate) fn status(&self) -> Status {
        self.machine.status(self.now).unwrap()
    }
}

fn machine(store: Store, seed: u128) -> Machine {
    let config = Config { poll_ms: 5_000, health_bound_ms: 60_000, seed: seed as u64 };
    Machine::new(store, None, config).unwrap()
}

/// Both have the same rows, and nothing is pending.
pub(crate) fn assert_equal(desk: &Desk, tables: &[&str]) {
    for table in tables {
        let sql = format!("SELECT * FROM {table} ORDER BY 1");
        assert_eq!(desk.read(&sql), desk.remote.read(&sql), "table {table}");
    }
    assert_eq!(desk.status().pending, 0, "nothing is pending");
}
