//! The driver: performs the machine's effects.
//!
//! One thread owns the [`Machine`] and the database. It receives [`Command`]s over a channel. The
//! answers of the remote arrive in the same way, from tokio, which runs the [`network`]. Every
//! clock of the library is read in [`clock`].
//!
//! Each round of the thread handles the commands that have arrived, looks for commits of other
//! processes ([`commit_watcher`]), passes a timer to the machine if one is due, and integrates one
//! transaction of a page. Then it waits for a command or the bell, and leaves the write lock free
//! for others ([`lock_pacing`]).
//!
//! The right to replicate the file is a [`lock`]. A driver that does not get it stands by, and
//! shows the status that the other one publishes ([`status_file`]).

pub(in crate::sync) mod blocking;
mod claim;
pub(in crate::sync) mod clock;
mod commit_watcher;
pub(in crate::sync) mod handle;
pub(in crate::sync) mod lock;
mod lock_pacing;
pub(in crate::sync) mod network;
pub(in crate::sync) mod remote_facts;
pub(in crate::sync) mod status_file;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, select};
use tokio::sync::oneshot;

use crate::error::{Code, Error, Result};
use crate::remote::Remote;
use crate::store::Store;
use crate::sync::adoption::preview::{LocalSide, RemotePreview, preview};
use crate::sync::first_sync::plan::Plan;
use crate::sync::machine::Machine;
use crate::sync::machine::io::{Config, Effect, Input, Now, Ticket};
use crate::sync::status::{Summary, SyncState};
use claim::Claim;
use clock::{JumpDetector, Time};
use commit_watcher::Commits;
use handle::{Command, Handle};
use lock::Lock;
use lock_pacing::LockPacing;
use network::Network;
use status_file::{known_by, remembered_success};

/// How often to check for a new token, in ms.
const CREDENTIALS_LOOK_MS: u64 = 1_000;
/// How often a replicator on standby tries to take over, in ms.
const STANDBY_MS: u64 = 250;
/// The number of pages in the write-ahead log after which it is written back, while nobody else
/// writes and while others write. Each time costs two flushes of the disk. The second number is
/// lower than SQLite's own 1,000, because the connection that commits above that must write the log
/// back.
const CHECKPOINT_PAGES: (u32, u32) = (2_000, 500);

/// The callers that wait for a sync, by the machine's tickets.
#[derive(Default)]
struct Callers {
    waiting: HashMap<Ticket, oneshot::Sender<Result<Summary>>>,
    last: u64,
}

impl Callers {
    fn ticket(&mut self, reply: oneshot::Sender<Result<Summary>>) -> Ticket {
        self.last += 1;
        self.waiting.insert(Ticket(self.last), reply);
        Ticket(self.last)
    }

    fn take(&mut self, ticket: Ticket) -> Option<oneshot::Sender<Result<Summary>>> {
        self.waiting.remove(&ticket)
    }
}

/// Runs a [`Machine`].
pub(crate) struct Driver {
    machine: Machine,
    handle: Arc<Handle>,
    commands: Receiver<Command>,
    bell: Receiver<()>,
    network: Network,
    callers: Callers,
    claim: Claim,
    commits: Commits,
    jumps: JumpDetector,
    pacing: LockPacing,
    /// The time of the machine's timer, in steady ms.
    timer: Option<u64>,
    /// Whether the machine wants to continue with a page.
    go_on: bool,
    /// The time from which on events may be integrated again, in steady ms.
    rested_at: u64,
    /// When the credentials were last checked, in steady ms.
    credentials_at: u64,
    ended: bool,
}

impl Driver {
    /// A driver that has not begun, and its handle.
    ///
    /// # Errors
    ///
    /// `Storage` when the store cannot be read, or the network's thread cannot be started.
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
        let commits = Commits::start(machine.store())?;
        let network = Network::start(remote)?;
        let (status, bound_ms) = (machine.status(now)?, config.health_bound_ms);
        let (handle, commands, bell) =
            Handle::new(status, time, bound_ms, network.handle().clone());
        let handle = Arc::new(handle);
        let driver = Driver {
            machine,
            handle: Arc::clone(&handle),
            commands,
            bell,
            network,
            callers: Callers::default(),
            claim: Claim::default(),
            commits,
            jumps: JumpDetector::new(now),
            pacing: LockPacing::new(),
            timer: None,
            go_on: false,
            rested_at: 0,
            credentials_at: 0,
            ended: false,
        };
        Ok((driver, handle))
    }

    /// Runs until it is told to end. It stands by until it gets the lock of the file at `database`.
    pub(crate) fn run(mut self, database: &Path) {
        self.claim.want(database);
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
        self.claim.silence();
        self.network.shut_down();
    }

    /// Runs until `done` returns a value. The caller holds the file's lock.
    pub(in crate::sync) fn run_until<T>(
        mut self,
        mut done: impl FnMut(&Machine) -> Option<T>,
    ) -> T {
        self.begin();
        loop {
            if let Some(done) = done(&self.machine) {
                self.network.shut_down();
                return done;
            }
            self.turn();
        }
    }

    /// Begins, with the commands that came before: the first request counts for their callers.
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

    /// Takes the lock, and publishes the state of this replicator.
    fn take_lock(&mut self, database: &Path) {
        let lock = self.stand_by(database);
        self.claim.take(database, lock);
    }

    fn stand_by(&mut self, database: &Path) -> Option<Lock> {
        let mut said = false;
        while !self.ended {
            match Lock::take(database) {
                Ok(Some(lock)) => return Some(lock),
                Ok(None) if !said => {
                    tracing::info!("another replicator is working on this file: standing by");
                    said = true;
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(kind = ?error.kind(), "{error}"),
            }
            self.publish_standby(database);
            match self.commands.recv_timeout(Duration::from_millis(STANDBY_MS)) {
                Ok(Command::SyncNow(reply) | Command::Accept(reply)) => {
                    let message = "another replicator is working on this file";
                    let error = Error::new(Code::AlreadyReplicated, message)
                        .with_hint("it synchronises the file; nothing needs to be done here");
                    let _ = reply.send(Err(error));
                }
                Ok(command) => self.command(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.ended = true,
            }
        }
        None
    }

    /// One round: commands, timers, a page, and then a rest.
    fn turn(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.command(command);
            if self.ended {
                return;
            }
        }
        self.look();
        let now = self.handle.time().now();
        if self.timer.is_some_and(|timer| timer <= now.steady_ms) {
            self.timer = None;
            self.input(Input::Timer);
        }
        if self.go_on && now.steady_ms >= self.rested_at {
            self.go_on = false;
            if self.machine.has_page() {
                self.integrate();
            } else {
                self.input(Input::Continue { events: 0 });
            }
        } else {
            self.rest();
        }
    }

    /// Integrates one transaction of the waiting page, and then rests.
    fn integrate(&mut self) {
        let time = self.handle.time();
        let now = time.now().steady_ms;
        if let Some(polite) = self.pacing.new_politeness(now) {
            let pages = if polite { CHECKPOINT_PAGES.1 } else { CHECKPOINT_PAGES.0 };
            if let Err(error) = self.machine.store().checkpoint_after(pages) {
                tracing::warn!(kind = ?error.kind(), "{error}");
            }
        }
        let start = time.elapsed();
        self.input(Input::Continue { events: self.pacing.events() });
        let took_us = (time.elapsed() - start).as_micros() as u64;
        let rest = self.pacing.took(now, took_us);
        tracing::trace!(took_us, rest, next = self.pacing.events(), "one transaction");
        self.rested_at = time.now().steady_ms + rest;
    }

    /// Waits for a command or the bell, at most until the next look or the timer.
    fn rest(&mut self) {
        let now = self.handle.time().now().steady_ms;
        let look = self.commits.interval_ms(now);
        let timer = self.timer.map_or(look, |timer| timer.saturating_sub(now));
        let page = if self.go_on { self.rested_at.saturating_sub(now) } else { look };
        let (commands, bell) = (self.commands.clone(), self.bell.clone());
        select! {
            recv(commands) -> command => match command {
                Ok(command) => self.command(command),
                Err(_) => self.ended = true,
            },
            recv(bell) -> _ => self.commits.rang(now),
            default(Duration::from_millis(look.min(timer).min(page))) => {}
        }
    }

    /// Looks for commits of others, and for the end of a sleep.
    fn look(&mut self) {
        let now = self.handle.time().now();
        if self.jumps.has_jumped(now) {
            tracing::info!("the clock jumped, as after a sleep");
            self.wake();
        }
        if self.machine.must_look_for_file() {
            return self.input(Input::LocalCommit);
        }
        match self.commits.look(self.machine.store()) {
            Ok(true) => {
                self.pacing.others_wrote(now.steady_ms);
                self.input(Input::LocalCommit);
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(kind = ?error.kind(), "{error}"),
        }
        if now.steady_ms >= self.credentials_at + CREDENTIALS_LOOK_MS {
            self.credentials_at = now.steady_ms;
            self.look_at_credentials();
        }
        self.claim.keep_alive(now);
    }

    /// Uses a new token at once, and reports a problem of its file.
    fn look_at_credentials(&mut self) {
        if self.network.remote().renew_credentials() {
            self.wake();
        }
        if self.machine.note(self.network.remote().notice()) {
            self.publish(None);
        }
    }

    fn wake(&mut self) {
        self.network.give_up();
        self.input(Input::Wake);
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Answer(id, outcome) => self.input(Input::Answer(id, outcome)),
            Command::SyncNow(reply) => {
                let ticket = self.callers.ticket(reply);
                self.input(Input::SyncNow(ticket));
            }
            Command::Accept(reply) => {
                let ticket = self.callers.ticket(reply);
                self.input(Input::AcceptRemote(ticket));
            }
            Command::Preview(reply) => self.preview(reply),
            Command::Work(work) => {
                work(self.machine.usable_store());
                self.input(Input::LocalCommit);
            }
            Command::Reconfigure(remote) => {
                let url = remote.url();
                self.network.use_remote(remote);
                self.input(Input::Reconfigured { url });
            }
            Command::Remote(reply) => {
                // The caller may not wait any more.
                let _ = reply.send(Arc::clone(self.network.remote()));
            }
            Command::Wake => self.wake(),
            Command::Shutdown(reply) => {
                self.input(Input::Shutdown);
                self.publish(Some(SyncState::Stopped));
                self.ended = true;
                self.handle.end_changes();
                let _ = reply.send(());
            }
        }
    }

    fn preview(&mut self, reply: oneshot::Sender<Result<RemotePreview>>) {
        let side = self.machine.usable_store().and_then(|store| LocalSide::of(store));
        let remote = Arc::clone(self.network.remote());
        self.network.handle().spawn(async move {
            let outcome = match side {
                Ok(side) => preview(side, &*remote).await,
                Err(error) => Err(error),
            };
            // The caller may not wait any more.
            let _ = reply.send(outcome);
        });
    }

    fn input(&mut self, input: Input) {
        let now = self.handle.time().now();
        let (mut changed, mut reopened, mut settled) = (false, false, Vec::new());
        for effect in self.machine.handle(now, input) {
            match effect {
                Effect::Send(id, batch) => {
                    let answers = self.handle.sender();
                    self.network.send(batch, move |outcome| {
                        // The driver may have ended.
                        let _ = answers.send(Command::Answer(id, outcome));
                    });
                }
                Effect::Wait(until) => self.timer = Some(until),
                Effect::Continue => self.go_on = true,
                Effect::Notify(changes) => self.handle.notify(changes),
                Effect::StatusChanged => changed = true,
                Effect::Settled(ticket, outcome) => {
                    changed = true;
                    settled.extend(self.callers.take(ticket).map(|reply| (reply, outcome)));
                }
                Effect::Initialised(report) => {
                    self.take_store();
                    let (here, there) = (report.made_here.len(), report.made_there.len());
                    tracing::info!(epoch = report.epoch, here, there, "the first sync is done");
                }
                Effect::Lost => {
                    self.claim.release();
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
        // A caller that learns that its sync is done must see a status that agrees.
        for (reply, outcome) in settled {
            let _ = reply.send(outcome);
        }
    }

    /// The machine has another store now.
    fn take_store(&mut self) {
        self.commits.restart(self.machine.store());
        self.pacing.forget_politeness();
        (self.timer, self.go_on) = (None, false);
    }

    /// The machine has started again on another store. The lock may be for another file.
    fn reopened(&mut self) {
        self.take_store();
        if let Some(database) = self.claim.outdated() {
            // The other file's lock may be taken only after this one was released.
            self.claim.take(&database, None);
            self.take_lock(&database);
        }
        if !self.ended {
            self.input(Input::Start);
        }
    }

    fn publish(&mut self, state: Option<SyncState>) {
        let now = self.handle.time().now();
        let mut known = self.machine.known();
        if let Some(state) = state {
            known = known.in_state(state);
        }
        let known = known.at_work(self.claim.has_lock());
        self.claim.note_success(known.last_success());
        match self.machine.status_of(known.clone(), now) {
            Ok(status) => self.handle.publish(status, now),
            Err(error) => self.publish_trouble(&error, now),
        }
        self.claim.publish(known, now);
    }

    /// The replica cannot be read now: shows that as its problem.
    fn publish_trouble(&self, error: &Error, now: Now) {
        tracing::warn!(kind = ?error.kind(), "{error}");
        let mut status = self.handle.status();
        status.state = SyncState::Trouble;
        status.trouble = Some(error.message().to_owned());
        status.code = Some(error.code());
        status.hint = error.hint().map(str::to_owned);
        self.handle.publish(status, now);
    }

    fn publish_standby(&mut self, database: &Path) {
        let now = self.handle.time().now();
        let holder = Lock::holder(database);
        let (store, bound_ms) = (self.machine.store(), self.handle.health_bound_ms());
        let known = known_by(store, database, holder, now.wall_ms, bound_ms);
        match known
            .and_then(|known| self.machine.status_of(known.in_state(SyncState::Standby), now))
        {
            Ok(status) => self.handle.publish(status, now),
            Err(error) => tracing::warn!(kind = ?error.kind(), "{error}"),
        }
    }
}
