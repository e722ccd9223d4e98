//! The driver: performs the machine's effects.
//!
//! One thread owns the [`Machine`] and with it the database. It takes [`Command`]s over a channel;
//! answers of the remote come in the same way, from tokio, which runs the network. Every clock of
//! the library is read in [`clock`].
//!
//! A commit by this process rings a bell at once. A commit by any other is noticed through
//! `PRAGMA data_version`, which costs some microseconds, within [`LOOK_MS`].

pub(in crate::sync) mod blocking;
pub(in crate::sync) mod clock;
mod commit_watcher;
pub(in crate::sync) mod drain;
pub(in crate::sync) mod handle;
pub(in crate::sync) mod lock;
mod lock_pacing;
pub(in crate::sync) mod remote_facts;
mod request;
pub(in crate::sync) mod status_file;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, select, unbounded};
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinSet;

use crate::error::{Code, Error, Result};
use crate::remote::{Batch, Remote};
use crate::store::Store;
use crate::sync::driver::clock::Time;
use crate::sync::driver::commit_watcher::Watcher;
use crate::sync::driver::handle::{Command, Handle};
use crate::sync::driver::lock::Lock;
use crate::sync::driver::lock_pacing::Pace;
use crate::sync::driver::request::guarded;
use crate::sync::driver::status_file::{Word, known_by};
use crate::sync::first_sync::preview::{self, Facts};
use crate::sync::first_sync::run::Plan;
use crate::sync::machine::io::{Effect, Input, Now, RequestId, Ticket};
use crate::sync::machine::{Config, Machine};
use crate::sync::status::{Known, Summary, SyncState, remembered_success};

/// How long a commit by another process may go unnoticed, in ms.
pub(crate) const LOOK_MS: u64 = 50;
/// How often to look after the bell, in ms: it rings in the moment before the commit takes effect.
const LOOK_AFTER_BELL_MS: u64 = 1;
/// How often to look whether there is another token, in ms.
const CREDENTIALS_LOOK_MS: u64 = 1_000;
/// How often a replicator that stands by tries to take over, in ms.
const STANDBY_MS: u64 = 250;
/// Pages of the write-ahead log after which it is written back, while nobody else writes: on a disk
/// each time costs two flushes. And while somebody does, for whoever commits first above SQLite's
/// own 1,000 has to do it.
const CHECKPOINT_PAGES: (u32, u32) = (2_000, 500);
/// A wall clock that runs so far ahead of the steady one, in ms, was asleep meanwhile, or set.
const JUMP_MS: i64 = 3_000;
/// Pages' changes that a subscriber may be behind before it misses some.
const CHANGES_BEHIND: usize = 1_024;

/// Runs a [`Machine`].
pub(crate) struct Driver {
    machine: Machine,
    remote: Arc<dyn Remote>,
    runtime: Runtime,
    commands: Receiver<Command>,
    bell: Receiver<()>,
    handle: Arc<Handle>,
    /// The request that is under way, and perhaps one that was given up.
    requests: JoinSet<()>,
    waiting: HashMap<Ticket, oneshot::Sender<Result<Summary>>>,
    next_ticket: u64,
    timer: Option<u64>,
    go_on: bool,
    pace: Pace,
    /// When the next events may be integrated, in steady ms.
    rested_at: u64,
    polite: bool,
    data_version: i64,
    bell_until: u64,
    last_look: Now,
    watcher: Watcher,
    /// The file whose lock is taken here; `None` where the caller has it.
    database: Option<PathBuf>,
    lock: Option<Lock>,
    /// What other processes are told, while this one has the lock.
    word: Option<Word>,
    credentials_looked: u64,
    ended: bool,
}

impl Driver {
    /// A driver that has not begun, and its handle.
    ///
    /// # Errors
    ///
    /// `Storage` when the store cannot be read, or the network's thread cannot be made.
    pub(crate) fn new(
        store: Store,
        plan: Option<Plan>,
        config: Config,
        remote: Arc<dyn Remote>,
    ) -> Result<(Driver, Arc<Handle>)> {
        let time = Time::start();
        let now = time.now();
        let success = remembered_success(&store, store.path())?;
        let mut machine = Machine::new(store, plan, config)?;
        machine.remember(success);
        let data_version = machine.store().data_version()?;
        let watcher = Watcher::start(machine.store().watch());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("driftless-network")
            .enable_all()
            .build()
            .map_err(|source| Error::storage("no thread could be made").with_source(source))?;
        let (command_sender, commands) = unbounded();
        let (bell_sender, bell) = bounded(1);
        let handle = Arc::new(Handle {
            commands: command_sender,
            bell: bell_sender,
            changes: Mutex::new(Some(broadcast::channel(CHANGES_BEHIND).0)),
            status: Mutex::new((machine.status(now)?, now)),
            time,
            health_bound_ms: config.health_bound_ms,
            network: runtime.handle().clone(),
        });
        let driver = Driver {
            machine,
            remote,
            runtime,
            commands,
            bell,
            handle: Arc::clone(&handle),
            requests: JoinSet::new(),
            waiting: HashMap::new(),
            next_ticket: 0,
            timer: None,
            go_on: false,
            pace: Pace::new(),
            rested_at: 0,
            polite: true,
            data_version,
            bell_until: 0,
            last_look: now,
            watcher,
            database: None,
            lock: None,
            word: None,
            credentials_looked: 0,
            ended: false,
        };
        Ok((driver, handle))
    }

    /// Runs until it is told to end. It stands by until it gets the lock of the file at `database`.
    pub(crate) fn run(mut self, database: &Path) {
        self.database = Some(database.to_owned());
        self.take_lock(database);
        // Another replicator may have worked on the file until now.
        match remembered_success(self.machine.store(), database) {
            Ok(success) => self.machine.remember(success),
            Err(error) => tracing::warn!(kind = ?error.kind(), "{error}"),
        }
        self.begin();
        while !self.ended {
            self.turn();
        }
        if let Some(word) = self.word.take() {
            word.end();
        }
        // What is under way in the network ends by itself; nobody waits for it.
        self.runtime.shutdown_background();
    }

    /// Runs until `done` gives something. The caller has the file's lock.
    pub(in crate::sync) fn run_until<T>(
        mut self,
        mut done: impl FnMut(&Machine) -> Option<T>,
    ) -> T {
        self.begin();
        loop {
            if let Some(done) = done(&self.machine) {
                self.runtime.shutdown_background();
                return done;
            }
            self.turn();
        }
    }

    /// Begins, with what was asked before: the first request counts for those who wait already.
    fn begin(&mut self) {
        while !self.ended
            && let Ok(command) = self.commands.try_recv()
        {
            self.command(command);
        }
        if !self.ended {
            self.input(Input::Start);
        }
    }

    /// Gets the lock, and says to others what this replicator does.
    fn take_lock(&mut self, database: &Path) {
        self.lock = self.stand_by(database);
        self.word = self.lock.as_ref().map(|_| Word::beside(database));
    }

    fn stand_by(&mut self, database: &Path) -> Option<Lock> {
        let mut said = false;
        while !self.ended {
            match Lock::take(database) {
                Ok(Some(lock)) => return Some(lock),
                Ok(None) if !said => {
                    tracing::info!("another replicator is at work on this file: standing by");
                    said = true;
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(kind = ?error.kind(), "{error}"),
            }
            self.publish_standby(database);
            match self.commands.recv_timeout(Duration::from_millis(STANDBY_MS)) {
                Ok(Command::SyncNow(reply) | Command::Accept(reply)) => {
                    let message = "another replicator is at work on this file";
                    let error = Error::new(Code::AlreadyReplicated, message)
                        .with_hint("it synchronises the file; there is nothing to be done here");
                    let _ = reply.send(Err(error));
                }
                Ok(command) => self.command(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.ended = true,
            }
        }
        None
    }

    /// One round: what has come, what is due, a page, and then rest.
    fn turn(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.command(command);
            if self.ended {
                return;
            }
        }
        self.look();
        let now = self.handle.time.now();
        if self.timer.is_some_and(|timer| timer <= now.steady_ms) {
            self.timer = None;
            self.input(Input::Timer);
        }
        if self.go_on && now.steady_ms >= self.rested_at {
            self.go_on = false;
            self.integrate();
        } else {
            self.rest();
        }
    }

    /// One transaction of the page that waits, and then rest.
    fn integrate(&mut self) {
        let now = self.handle.time.now().steady_ms;
        let polite = self.pace.is_polite(now);
        if polite != self.polite {
            self.polite = polite;
            let pages = if polite { CHECKPOINT_PAGES.1 } else { CHECKPOINT_PAGES.0 };
            if let Err(error) = self.machine.store().checkpoint_after(pages) {
                tracing::warn!(kind = ?error.kind(), "{error}");
            }
        }
        let start = self.handle.time.elapsed();
        self.input(Input::Continue { events: self.pace.events() });
        let took_us = (self.handle.time.elapsed() - start).as_micros() as u64;
        let rest = self.pace.took(now, took_us);
        tracing::trace!(took_us, rest, next = self.pace.events(), polite, "one transaction");
        self.rested_at = self.handle.time.now().steady_ms + rest;
    }

    /// Waits for a command or the bell, and no longer than until the next look or the timer.
    fn rest(&mut self) {
        let now = self.handle.time.now().steady_ms;
        let look = if now < self.bell_until { LOOK_AFTER_BELL_MS } else { LOOK_MS };
        let timer = self.timer.map_or(look, |timer| timer.saturating_sub(now));
        let page = if self.go_on { self.rested_at.saturating_sub(now) } else { look };
        let (commands, bell) = (self.commands.clone(), self.bell.clone());
        select! {
            recv(commands) -> command => match command {
                Ok(command) => self.command(command),
                Err(_) => self.ended = true,
            },
            recv(bell) -> _ => {
                self.bell_until = now + LOOK_MS;
                self.watcher.ring();
            }
            default(Duration::from_millis(look.min(timer).min(page))) => {}
        }
    }

    /// Looks for commits of others, and for a sleep that is over.
    fn look(&mut self) {
        let now = self.handle.time.now();
        let wall = now.wall_ms - self.last_look.wall_ms;
        let steady = (now.steady_ms - self.last_look.steady_ms) as i64;
        self.last_look = now;
        // Some systems' steady clocks stand still in sleep, and others' go on.
        if (wall - steady).abs() > JUMP_MS {
            tracing::info!("the clock jumped, as after a sleep");
            self.wake();
        }
        if self.machine.must_look_for_file() {
            return self.input(Input::LocalCommit);
        }
        match self.machine.store().data_version() {
            Ok(version) if version != self.data_version => {
                self.data_version = version;
                self.bell_until = 0;
                self.pace.others_wrote(now.steady_ms);
                self.watcher.ring();
                self.input(Input::LocalCommit);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(kind = ?error.kind(), "{error}"),
        }
        if now.steady_ms >= self.credentials_looked + CREDENTIALS_LOOK_MS {
            self.credentials_looked = now.steady_ms;
            self.look_at_credentials();
        }
        if let Some(word) = &mut self.word {
            word.speak(now);
        }
    }

    /// Another token is tried at once; what is wrong with its file is said.
    fn look_at_credentials(&mut self) {
        if self.remote.renew_credentials() {
            self.wake();
        }
        if self.machine.note(self.remote.notice()) {
            self.publish(None);
        }
    }

    fn wake(&mut self) {
        self.remote.forget_connections();
        self.requests.abort_all();
        self.input(Input::Wake);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Answer(id, outcome) => self.input(Input::Answer(id, outcome)),
            Command::SyncNow(reply) => {
                let ticket = self.ticket(reply);
                self.input(Input::SyncNow(ticket));
            }
            Command::Accept(reply) => {
                let ticket = self.ticket(reply);
                self.input(Input::AcceptRemote(ticket));
            }
            Command::Offer(reply) => {
                let facts = self.machine.usable_store().and_then(|store| Facts::of(store));
                let remote = Arc::clone(&self.remote);
                self.runtime.spawn(async move {
                    let outcome = match facts {
                        Ok(facts) => preview::offer(facts, &*remote).await,
                        Err(error) => Err(error),
                    };
                    // Nobody waits for it any more, perhaps.
                    let _ = reply.send(outcome);
                });
            }
            Command::Work(work) => {
                let now = self.handle.time.now();
                work(self.machine.usable_store(), now);
                self.input(Input::LocalCommit);
            }
            Command::Reconfigure(remote) => {
                let url = remote.url();
                self.remote = remote;
                self.input(Input::Reconfigured { url });
            }
            Command::Wake => self.wake(),
            Command::Shutdown(reply) => {
                self.input(Input::Shutdown);
                self.publish(Some(SyncState::Stopped));
                self.ended = true;
                self.handle.changes.lock().unwrap_or_else(PoisonError::into_inner).take();
                let _ = reply.send(());
            }
        }
    }

    fn ticket(&mut self, reply: oneshot::Sender<Result<Summary>>) -> Ticket {
        self.next_ticket += 1;
        self.waiting.insert(Ticket(self.next_ticket), reply);
        Ticket(self.next_ticket)
    }

    fn input(&mut self, input: Input) {
        let now = self.handle.time.now();
        let (mut changed, mut reopened, mut settled) = (false, false, Vec::new());
        for effect in self.machine.handle(now, input) {
            match effect {
                Effect::Send(id, batch) => self.send(id, batch),
                Effect::Wait(until) => self.timer = Some(until),
                Effect::Continue => self.go_on = true,
                Effect::Notify(changes) => {
                    let sender = self.handle.changes.lock();
                    if let Some(sender) = &*sender.unwrap_or_else(PoisonError::into_inner) {
                        // Nobody listens, perhaps.
                        let _ = sender.send(changes);
                    }
                }
                Effect::StatusChanged => changed = true,
                Effect::Settled(ticket, outcome) => {
                    changed = true;
                    settled.extend(self.waiting.remove(&ticket).map(|reply| (reply, outcome)));
                }
                Effect::Initialised(report) => {
                    self.take_store();
                    let (here, there) = (report.made_here.len(), report.made_there.len());
                    tracing::info!(epoch = report.epoch, here, there, "the first contact is done");
                }
                Effect::Lost => {
                    self.lock = None;
                    if let Some(word) = self.word.take() {
                        word.end();
                    }
                    self.take_store();
                }
                Effect::Reopened => reopened = true,
            }
        }
        if changed {
            self.publish(None);
        }
        if reopened {
            self.reopened();
        }
        // Who is told that it is done sees a status that says so too.
        for (reply, outcome) in settled {
            let _ = reply.send(outcome);
        }
    }

    /// The machine has another store now, with a count of its own.
    fn take_store(&mut self) {
        self.data_version = self.machine.store().data_version().unwrap_or(-1);
        self.watcher = Watcher::start(self.machine.store().watch());
        (self.timer, self.go_on, self.polite) = (None, false, true);
    }

    /// The machine begins anew. The file may be another one than the lock is for.
    fn reopened(&mut self) {
        self.take_store();
        if let Some(database) = self.database.clone()
            && !self.lock.as_ref().is_some_and(|lock| lock.is_of(&database))
        {
            self.lock = None;
            self.take_lock(&database);
        }
        if !self.ended {
            self.input(Input::Start);
        }
    }

    fn publish(&mut self, state: Option<SyncState>) {
        let now = self.handle.time.now();
        let mut known = self.machine.known();
        known.state = state.unwrap_or(known.state);
        let at_work = known.state != SyncState::Stopped && self.lock.is_some();
        known.process = at_work.then(std::process::id);
        if let (Some(lock), Some(success)) = (&self.lock, known.last_success) {
            lock.note_success(success);
        }
        match self.machine.told(known.clone(), now) {
            Ok(status) => self.handle.publish(status, now),
            Err(error) => self.publish_trouble(&error),
        }
        if let Some(word) = &mut self.word {
            word.say(known, now);
        }
    }

    /// What is known of the replica cannot be read now, and that is said.
    fn publish_trouble(&self, error: &Error) {
        tracing::warn!(kind = ?error.kind(), "{error}");
        let mut status = self.handle.status();
        status.state = SyncState::Trouble;
        status.trouble = Some(error.message().to_owned());
        status.code = Some(error.code());
        status.hint = error.hint().map(str::to_owned);
        self.handle.publish(status, self.handle.time.now());
    }

    fn publish_standby(&mut self, database: &Path) {
        let now = self.handle.time.now();
        let holder = Lock::holder(database);
        let store = self.machine.store();
        let status = known_by(store, database, holder, now.wall_ms, self.handle.health_bound_ms)
            .and_then(|known| {
                let known = Known { state: SyncState::Standby, ..known };
                self.machine.told(known, now)
            });
        match status {
            Ok(status) => self.handle.publish(status, now),
            Err(error) => tracing::warn!(kind = ?error.kind(), "{error}"),
        }
    }

    fn send(&mut self, id: RequestId, batch: Batch) {
        let answers = self.handle.commands.clone();
        let request = guarded(Arc::clone(&self.remote), batch);
        let request = async move {
            let outcome = request.await;
            // The driver has ended, perhaps.
            let _ = answers.send(Command::Answer(id, outcome));
        };
        self.requests.spawn_on(request, self.runtime.handle());
        // Those that have ended.
        while self.requests.try_join_next().is_some() {}
    }
}
