//! A replica of a world: an application's database, the machine over it, and its clock.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use driftless::remote::{Answer, Batch};
use driftless::store::{Setup, Store};
use driftless::sync::{Config, Effect, Input, Machine, Now, RequestId, Summary, SyncState, Ticket};
use driftless::{Code, Error, Result};
use rusqlite::Connection;

use super::groups::Sizes;
use super::shape::Shape;
use super::sql::{Clock, governed};
use super::template::{BEGIN_MS, identity, plan};

/// See the module.
pub(crate) struct Replica {
    /// The application's connection.
    pub(crate) db: Connection,
    /// None while no process of ours works on the file.
    pub(crate) machine: Option<Machine>,
    pub(crate) number: u128,
    pub(crate) path: PathBuf,
    pub(crate) now: Now,
    pub(crate) clock: Clock,
    /// How far its clock is off.
    pub(crate) skew_ms: i64,
    /// The request that is on its way.
    pub(crate) sent: Option<(RequestId, Batch)>,
    /// The request on its way is of another state of the file, which was restored since.
    pub(crate) outlived: bool,
    /// Requests that nobody waits for any more, since the file was restored.
    pub(crate) given_up: Vec<Batch>,
    /// Answers that are on their way, with whether they are to something that was pushed.
    pub(crate) answers: VecDeque<(RequestId, Result<Answer>)>,
    pub(crate) timer: Option<u64>,
    pub(crate) waits: bool,
    /// Nothing gets through.
    pub(crate) cut: bool,
    /// The disk is full, or may be soon.
    pub(crate) full: bool,
    /// The first sync is done.
    pub(crate) ready: bool,
    /// It was done just now.
    pub(crate) fresh: bool,
    /// It has, or had, a constraint of its own.
    pub(crate) constrained: bool,
    settled: Vec<(Ticket, Result<Summary>)>,
    tickets: u64,
    lives: u64,
    /// How many connections the application has had.
    pub(crate) connections: u64,
    foreign_keys: bool,
    recursive: bool,
    shape: Arc<Shape>,
    sizes: Sizes,
    /// Parts of a push are on the remote, and have no effect yet.
    pub(crate) in_parts: bool,
}

fn open(path: &PathBuf, clock: &Clock, seed: u64) -> Connection {
    let db = Connection::open(path).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF").unwrap();
    governed(&db, clock, seed);
    db
}

impl Replica {
    /// A replica over the database at `path`. Nothing runs on it yet.
    pub(crate) fn new(shape: &Arc<Shape>, path: PathBuf, number: u128, sizes: Sizes) -> Self {
        let clock = Clock::new(BEGIN_MS.into());
        let db = open(&path, &clock, number as u64);
        Replica {
            db,
            machine: None,
            number,
            path,
            now: Now { steady_ms: 1, wall_ms: BEGIN_MS },
            clock,
            skew_ms: 0,
            sent: None,
            outlived: false,
            given_up: Vec::new(),
            answers: VecDeque::new(),
            timer: None,
            waits: false,
            cut: false,
            full: false,
            ready: false,
            fresh: false,
            constrained: false,
            settled: Vec::new(),
            tickets: 0,
            lives: 0,
            connections: 1,
            foreign_keys: true,
            recursive: false,
            shape: Arc::clone(shape),
            sizes,
            in_parts: false,
        }
    }

    /// How the application has set its connection.
    pub(crate) fn set_application(&mut self, foreign_keys: bool, recursive: bool) {
        (self.foreign_keys, self.recursive) = (foreign_keys, recursive);
        self.db.pragma_update(None, "foreign_keys", foreign_keys).unwrap();
        self.db.pragma_update(None, "recursive_triggers", recursive).unwrap();
    }

    /// Makes the database into a replica without the remote, which comes later.
    pub(crate) fn install(&self) -> Result<()> {
        let plan = plan(&self.shape, self.path.clone(), self.number);
        let setup = Setup { url: plan.url, tables: plan.rules, epoch: None };
        Store::init(&self.path, &setup, identity(self.number)).map(drop)
    }

    /// A process begins to work on the file.
    pub(crate) fn start(&mut self) -> Result<()> {
        let store = Store::open(&self.path)?;
        self.ready = store.setting("adopted")?.is_some();
        let plan = (!self.ready).then(|| plan(&self.shape, self.path.clone(), self.number));
        self.lives += 1;
        let seed = self.number as u64 ^ self.lives << 32;
        let Sizes { push, pull } = self.sizes;
        let identity_seed = seed;
        let config =
            Config { poll_ms: 5_000, health_bound_ms: 60_000, seed, identity_seed, push, pull };
        self.machine = Some(Machine::new(store, plan, config)?);
        self.input(Input::Start);
        Ok(())
    }

    /// The process dies, and the application with it if `whole`. Gives the request that was on its
    /// way.
    pub(crate) fn crash(&mut self, whole: bool) -> Option<Batch> {
        self.machine = None;
        self.answers.clear();
        self.settled.clear();
        (self.timer, self.waits, self.full) = (None, false, false);
        if whole {
            self.lives += 1;
            self.connections += 1;
            self.db = open(&self.path, &self.clock, self.number as u64 ^ self.lives << 32);
            self.set_application(self.foreign_keys, self.recursive);
        } else {
            self.db.execute_batch("PRAGMA max_page_count = 1073741823").unwrap();
        }
        self.sent.take().map(|(_, batch)| batch)
    }

    /// Gives the machine an input and takes its effects.
    pub(crate) fn input(&mut self, input: Input) {
        let Some(machine) = &mut self.machine else { return };
        let mut reopened = false;
        for effect in machine.handle(self.now, input) {
            match effect {
                Effect::Lost => panic!("a file that is there is lost"),
                Effect::Reopened => reopened = true,
                Effect::Send(id, batch) => {
                    assert!(self.sent.is_none(), "one request at a time");
                    (self.sent, self.outlived) = (Some((id, batch)), false);
                }
                Effect::Wait(until) => self.timer = Some(until),
                Effect::Continue => self.waits = true,
                Effect::Settled(ticket, outcome) => self.settled.push((ticket, outcome)),
                Effect::Initialised(_) => (self.ready, self.fresh) = (true, true),
                Effect::StatusChanged | Effect::Notify(_) => {}
            }
        }
        if reopened {
            self.given_up.extend(self.sent.take().map(|(_, batch)| batch));
            (self.timer, self.waits) = (None, false);
            self.input(Input::Start);
        }
    }

    /// Integrates the page that waits. False if there is none.
    pub(crate) fn integrate(&mut self) -> bool {
        let waits = std::mem::take(&mut self.waits);
        if waits {
            // Of a page, now so much in one transaction and now all of it.
            let events = [1, 3, 40, usize::MAX][self.now.steady_ms as usize % 4];
            self.input(Input::Continue { events });
        }
        waits
    }

    /// Lets time pass until `end` or the timer before it. True if that rang.
    pub(crate) fn pass(&mut self, end: u64) -> bool {
        let rings = self.machine.is_some() && self.timer.is_some_and(|timer| timer <= end);
        let until = if rings { self.timer.take().expect("it rings") } else { end };
        self.now.steady_ms = self.now.steady_ms.max(until);
        self.set_wall();
        if rings {
            self.input(Input::Timer);
        }
        rings
    }

    /// Sets the clock to what it is to show.
    pub(crate) fn set_wall(&mut self) {
        self.now.wall_ms = BEGIN_MS + self.now.steady_ms as i64 + self.skew_ms;
        self.clock.store(self.now.wall_ms, Ordering::Relaxed);
    }

    /// A copy of the file, as the application's connection sees it.
    pub(crate) fn copy(&self, path: &Path) -> Vec<u8> {
        let _ = std::fs::remove_file(path);
        let mut copy = Connection::open(path).unwrap();
        let backup = rusqlite::backup::Backup::new(&self.db, &mut copy).unwrap();
        backup.run_to_completion(i32::MAX, std::time::Duration::ZERO, None).unwrap();
        drop(backup);
        drop(copy);
        std::fs::read(path).unwrap()
    }

    /// The file's content becomes another one, by SQLite's own means. `from` is a path to use.
    pub(crate) fn restore_in_place(&self, file: &[u8], from: &Path) {
        std::fs::write(from, file).unwrap();
        let from = Connection::open(from).unwrap();
        let mut to = Connection::open(&self.path).unwrap();
        let restore = rusqlite::backup::Backup::new(&from, &mut to).unwrap();
        restore.run_to_completion(i32::MAX, std::time::Duration::ZERO, None).unwrap();
    }

    /// The file becomes another one. Nothing runs on it yet.
    pub(crate) fn replace(&mut self, file: &[u8]) {
        self.crash(false);
        self.db = Connection::open_in_memory().unwrap();
        for ending in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{ending}", self.path.display()));
        }
        std::fs::write(&self.path, file).unwrap();
        self.crash(true);
    }

    /// Whether the machine will not go on with the remote that it finds.
    pub(crate) fn is_refusing(&self) -> bool {
        let state = self.machine.as_ref().and_then(|machine| machine.status(self.now).ok());
        state.is_some_and(|status| {
            matches!(status.state, SyncState::OtherRemote | SyncState::RolledBack)
        })
    }

    /// Whether the machine has met a full disk.
    pub(crate) fn is_out_of_room(&self) -> bool {
        let status = self.machine.as_ref().filter(|_| self.full);
        let code = status.and_then(|machine| machine.status(self.now).ok()?.code);
        code == Some(Code::DiskFull)
    }

    /// A person goes on with it. What is on its way is given up, and is given as well.
    pub(crate) fn accept(&mut self) -> (Ticket, Option<Batch>) {
        let given_up = self.sent.take().map(|(_, batch)| batch);
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.input(Input::AcceptRemote(ticket));
        (ticket, given_up)
    }

    /// The store, if a process has it open.
    pub(crate) fn store(&mut self) -> Option<&mut Store> {
        self.machine.as_mut().map(Machine::store)
    }

    /// Limits the database to so many pages more, for the application and for us.
    pub(crate) fn set_room(&mut self, room: Option<u32>) {
        let pages = super::sql::number(&self.db, "PRAGMA page_count") as u32;
        let most = room.map_or(1_073_741_823, |room| pages + room);
        self.db.pragma_update(None, "max_page_count", most).unwrap();
        if let Some(store) = self.store() {
            store.limit_pages(most).unwrap();
        }
        self.full = room.is_some();
    }

    /// Asks for a sync; gives the name by which its end is known.
    pub(crate) fn sync(&mut self) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.input(Input::SyncNow(ticket));
        ticket
    }

    /// How a sync ended, if it has.
    pub(crate) fn outcome(&mut self, ticket: Ticket) -> Option<Result<Summary>> {
        let at = self.settled.iter().position(|(settled, _)| *settled == ticket)?;
        Some(self.settled.remove(at).1)
    }

    /// What a request that does not get through is answered with.
    pub(crate) fn dead_line() -> Error {
        Error::unavailable("the line is dead")
    }
}
