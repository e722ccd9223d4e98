//! A desk: an application's database with the sync machine over it, driven by hand. Time passes only
//! when the test says so.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driftless::event::ReplicaId;
use driftless::event::conflict::ConflictRule;
use driftless::protocol::statements::{MAX_EVENTS, MAX_UNIT, PAGE_BYTES};
use driftless::remote::Batch;
use driftless::store::Store;
use driftless::sync::{
    Changes, Config, Effect, Input, Machine, Now, Plan, PullSize, PushSize, RequestId, Status,
    Summary, Tables, Ticket,
};
use driftless::{Error, Result};
use rusqlite::Connection;
use tempfile::TempDir;

use super::local_remote::{LocalRemote, read};
use crate::support::blocking::initialise;

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
    /// Requests that were given up because the file was restored.
    pub(crate) late: VecDeque<(RequestId, Batch)>,
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
    pull: PullSize,
    /// How many machines there were.
    starts: u64,
    started: bool,
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
        prefer: driftless::store::Preferences::default(),
        replica: ReplicaId(ulid::Ulid::from_parts(BEGIN_MS as u64, number)),
        epoch: ulid::Ulid::from_parts(BEGIN_MS as u64, 1 << 40 | number),
        on_connect: driftless::store::OnConnect::default(),
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
        let now = Now { steady_ms: 1, wall_ms: BEGIN_MS };
        let mut desk = Self::over(db, store, remote, (folder, path), number, now);
        desk.input(Input::Start);
        desk.settle();
        desk
    }

    /// The desk's file, copied byte by byte, with another machine, which begins with its first
    /// input.
    pub(crate) fn copy(&self, number: u128) -> Self {
        self.backup().open(&self.remote, number, self.now)
    }

    /// The desk's file as it is now.
    pub(crate) fn backup(&self) -> Backup {
        let folder = tempfile::tempdir().unwrap();
        let mut copy = Connection::open(folder.path().join("desk.db")).unwrap();
        let backup = rusqlite::backup::Backup::new(&self.db, &mut copy).unwrap();
        backup.run_to_completion(1_000, std::time::Duration::ZERO, None).unwrap();
        drop(backup);
        drop(copy);
        Backup { folder }
    }

    /// The desk's file is replaced by an earlier state of it. The machine begins with its first
    /// input.
    pub(crate) fn restore(&mut self, backup: &Backup) {
        let starts = self.starts;
        *self = backup.open(&self.remote, self.number, self.now);
        self.starts += starts + 1;
        let store = Store::open(&self.path).unwrap();
        self.machine = machine(store, self.number, self.starts, self.pull);
    }

    /// The file's content becomes an earlier or a later state, by SQLite's own means, while the
    /// machine and the application have it open. Nobody is told.
    pub(crate) fn restore_in_place(&self, backup: &Backup) {
        self.restore_from(&backup.path());
    }

    /// The same from any database.
    pub(crate) fn restore_from(&self, path: &Path) {
        let from = Connection::open(path).unwrap();
        let mut to = Connection::open(&self.path).unwrap();
        let restore = rusqlite::backup::Backup::new(&from, &mut to).unwrap();
        restore.run_to_completion(1_000, std::time::Duration::ZERO, None).unwrap();
    }

    /// The application opens the file anew.
    pub(crate) fn open_again(&mut self) {
        self.db = Connection::open(&self.path).unwrap();
        self.db.pragma_update(None, "foreign_keys", true).unwrap();
    }

    fn over(
        db: Connection,
        store: Store,
        remote: Arc<LocalRemote>,
        (folder, path): (TempDir, PathBuf),
        number: u128,
        now: Now,
    ) -> Self {
        Desk {
            db,
            machine: machine(store, number, 0, LEAN),
            remote,
            now,
            sent: VecDeque::new(),
            late: VecDeque::new(),
            timer: None,
            go_on: false,
            transaction: usize::MAX,
            changes: Vec::new(),
            settled: Vec::new(),
            tickets: 0,
            wanted: Vec::new(),
            number,
            pull: LEAN,
            starts: 0,
            started: false,
            path,
            _folder: folder,
        }
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
        self.end();
        self.input(Input::Start);
    }

    /// The same, with pushes of so many events at the most.
    pub(crate) fn restart_with_pushes_of(&mut self, events: usize) {
        self.end();
        let store = Store::open(&self.path).unwrap();
        let push = PushSize { events, ..PushSize::default() };
        self.machine = sized(store, None, self.number, self.starts, (push, self.pull));
        self.input(Input::Start);
    }

    /// The same, from now on with whole lines in each page.
    pub(crate) fn restart_with_whole_lines(&mut self) {
        self.pull = PullSize { echoes: usize::MAX, lean: usize::MAX, ..LEAN };
        self.restart();
    }

    /// The same with a plan: what it finds there is made into what it wants.
    pub(crate) fn start_with(&mut self, plan: Plan) {
        self.end();
        let store = Store::open(&self.path).unwrap();
        self.machine =
            sized(store, Some(plan), self.number, self.starts, (PushSize::default(), self.pull));
        self.input(Input::Start);
    }

    /// The same with a store that is opened in another way.
    pub(crate) fn reopen(&mut self, open: impl FnOnce(&Path) -> Store) {
        self.end();
        self.machine = machine(open(&self.path), self.number, self.starts, self.pull);
        self.input(Input::Start);
    }

    /// The same where the other one has not been started yet.
    pub(crate) fn before_start(mut self) -> Self {
        self.end();
        self
    }

    fn end(&mut self) {
        let store = Store::open(&self.path).unwrap();
        self.starts += 1;
        self.machine = machine(store, self.number, self.starts, self.pull);
        self.sent.clear();
        self.go_on = false;
    }

    /// The same with another `driftless init` before it, because the tables have changed.
    pub(crate) fn initialise_again(&mut self, rules: &[(&str, ConflictRule)]) -> Result<()> {
        let plan = plan(self.path.clone(), self.number, rules);
        let (store, _) = initialise(plan, self.remote.clone())?;
        self.starts += 1;
        self.machine = machine(store, self.number, self.starts, self.pull);
        self.sent.clear();
        self.go_on = false;
        self.input(Input::Start);
        self.settle();
        Ok(())
    }

    /// Gives the machine an input and takes its effects.
    pub(crate) fn input(&mut self, input: Input) {
        if !std::mem::replace(&mut self.started, true) && !matches!(input, Input::Start) {
            self.input(Input::Start);
        }
        if matches!(input, Input::Wake) {
            // What was under way is given up, and its connection with it.
            self.sent.clear();
        }
        let mut reopened = false;
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
                Effect::Lost => "lost",
                Effect::Reopened => {
                    reopened = true;
                    "reopened"
                }
                Effect::StatusChanged | Effect::Initialised(_) => continue,
            };
            self.wanted.push(name);
        }
        if reopened {
            // What was under way is given up, and nobody waits for its answer.
            self.late.extend(self.sent.drain(..));
            (self.timer, self.go_on) = (None, false);
            self.input(Input::Start);
        }
        assert!(self.sent.len() <= 1, "one request at a time");
    }

    /// A request that was given up arrives, and so does its answer.
    pub(crate) fn deliver_late(&mut self) -> bool {
        let Some((id, batch)) = self.late.pop_front() else { return false };
        let outcome = self.remote.run_now(batch);
        self.input(Input::Answer(id, outcome));
        true
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
        self.settled(Input::SyncNow)
    }

    /// A person goes on with the remote that is there.
    pub(crate) fn accept(&mut self) -> Result<Summary> {
        self.settled(Input::AcceptRemote)
    }

    fn settled(&mut self, input: impl FnOnce(Ticket) -> Input) -> Result<Summary> {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.input(input(ticket));
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

/// Pages are as lean as they can be, so that all tests have such.
const LEAN: PullSize = PullSize {
    events: MAX_EVENTS,
    bytes: PAGE_BYTES,
    unit_events: MAX_UNIT,
    unit_bytes: 16 << 20,
    echoes: 1,
    lean: 1,
};

/// The `start`-th machine of a desk.
fn machine(store: Store, number: u128, start: u64, pull: PullSize) -> Machine {
    sized(store, None, number, start, (PushSize::default(), pull))
}

/// The same with a plan, and pushes of this size.
fn sized(
    store: Store,
    plan: Option<Plan>,
    number: u128,
    start: u64,
    (push, pull): (PushSize, PullSize),
) -> Machine {
    let seed = (number as u64) << 32 | start;
    let config =
        Config { poll_ms: 5_000, health_bound_ms: 60_000, seed, identity_seed: seed, push, pull };
    Machine::new(store, plan, config).unwrap()
}

/// A copy of a desk's file.
pub(crate) struct Backup {
    folder: TempDir,
}

impl Backup {
    /// No file yet.
    pub(crate) fn empty() -> Backup {
        Backup { folder: tempfile::tempdir().unwrap() }
    }

    /// The copy.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("desk.db")
    }

    /// A desk over a copy of it.
    pub(crate) fn open(&self, remote: &Arc<LocalRemote>, number: u128, now: Now) -> Desk {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("desk.db");
        std::fs::copy(self.folder.path().join("desk.db"), &path).unwrap();
        let db = Connection::open(&path).unwrap();
        db.pragma_update(None, "journal_mode", "WAL").unwrap();
        db.pragma_update(None, "foreign_keys", true).unwrap();
        let store = Store::open(&path).unwrap();
        Desk::over(db, store, Arc::clone(remote), (folder, path), number, now)
    }
}

/// Both have the same rows, and nothing is pending.
pub(crate) fn assert_equal(desk: &Desk, tables: &[&str]) {
    for table in tables {
        let sql = format!("SELECT * FROM {table} ORDER BY 1");
        assert_eq!(desk.read(&sql), desk.remote.read(&sql), "table {table}");
    }
    assert_eq!(desk.status().pending, 0, "nothing is pending");
}
