//! The protocol as a machine: inputs in, effects out.
//!
//! [`Machine`] takes an [`Input`] and returns [`Effect`]s. It works on a [`Store`], and has no
//! network, no clock and no random numbers of its own, so a history can be repeated exactly. Its
//! parts own their state and return decisions. [`request::next`] puts the next request together
//! from them, and [`apply`] applies the decisions about answers and failures.
//!
//! * [`schedule`] has the times at which something may be sent. [`request`] has the request in
//!   flight.
//! * [`push`] chooses the events to push next, and finds the one that makes a push fail.
//! * [`pull`] chooses the part of the log to request, and keeps the waiting pages.
//! * [`recapture`] compares tables for which local capture may have missed writes.
//! * [`reconcile`] asks for own events that a page left out.
//! * [`find`] finds writes that capture on the remote has missed.
//! * [`first_sync_run`] runs a first sync, or a comparison of definitions.
//! * [`identity`] has the replica's identity, and issues ids.
//! * [`waiters`] has the callers that wait for a sync.
//! * [`error_policy`] classifies errors, and [`health`] has the state that is shown.
//! * [`mod@file`] watches the database file, which may be replaced.

mod apply;
mod error_policy;
mod file;
mod find;
mod first_sync_run;
mod health;
mod identity;
pub(in crate::sync) mod io;
pub(in crate::sync) mod pull;
mod push;
mod recapture;
mod reconcile;
mod request;
pub(in crate::sync) mod schedule;
mod waiters;

use crate::error::{Error, Result};
use crate::event::ReplicaId;
use crate::store::{Adopted, Bracket, Retried, Store};
use crate::sync::first_sync::plan::{Plan, plan_of};
use crate::sync::first_sync::run::FirstSync;
use crate::sync::remote_check::no_first_sync;
use crate::sync::status::{Changes, Known, Status};
use file::{Belonging, DatabaseFile, FileCheck};
use first_sync_run::FirstSyncRun;
use health::Health;
use identity::Identity;
use io::{Config, Effect, Effects, Input, Now, RequestId, Staged, Ticket};
use pull::Puller;
use push::Pusher;
use reconcile::Reconcile;
use request::Requests;
use schedule::Schedule;
use waiters::Waiters;

/// How often to look whether a migration is over, in ms. Its end is a commit, which is noticed.
const MIGRATION_POLL_MS: u64 = 1_000;

/// Whether a machine sends requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Not yet: a replicator that waits for the lock sends nothing.
    Created,
    Running,
    Stopped,
}

/// The replication protocol of one replica.
///
/// * At most one request is waited for, and at most two pages wait. A request that was given up may
///   still arrive at the remote: pushed events are recognised by their ids.
/// * A request is sent only after everything that it depends on is in the database.
/// * Unless the [`Store`] fails, after every [`Machine::handle`] there is a request in flight, or
///   an [`Effect::Continue`] or [`Effect::Wait`]: the machine never stops before
///   [`Input::Shutdown`].
/// * Code outside of this folder cannot read or write its parts.
pub struct Machine {
    store: Store,
    plan: Option<Plan>,
    config: Config,
    life: Life,
    schedule: Schedule,
    health: Health,
    identity: Identity,
    requests: Requests,
    pusher: Pusher,
    puller: Puller,
    reconcile: Reconcile,
    first_sync: FirstSyncRun,
    waiters: Waiters,
    file: DatabaseFile,
    effects: Effects,
}

impl Machine {
    /// A machine for an initialised store. `plan` says how to set up a remote that has no objects
    /// of ours yet. Without a plan, only a replica whose first sync is done can run.
    ///
    /// # Errors
    ///
    /// `Usage` when there is no plan and the first sync is not done, because it was interrupted,
    /// for example. `Storage` when the store cannot be read.
    pub fn new(mut store: Store, plan: Option<Plan>, config: Config) -> Result<Machine> {
        store.remember()?;
        if plan.is_none() && !store.is_adopted()? {
            return Err(no_first_sync());
        }
        let state = store.state()?;
        let mut random = fastrand::Rng::with_seed(config.seed);
        let schedule = Schedule::new(config.poll_ms, random.u64(..));
        let first_sync = plan.clone().map(|plan| FirstSync::new(plan, state.epoch.clone()));
        Ok(Machine {
            plan,
            config,
            life: Life::Created,
            schedule,
            health: Health::new(&store, config.health_bound_ms),
            identity: Identity::of(&state, config.identity_seed, random),
            requests: Requests::after(RequestId(0)),
            pusher: Pusher::new(config.push),
            puller: Puller::after(state.place, config.pull, state.in_parts),
            reconcile: Reconcile::new(store.contradiction()?.is_some()),
            first_sync: FirstSyncRun::new(first_sync),
            waiters: Waiters::default(),
            file: DatabaseFile::default(),
            effects: Effects::default(),
            store,
        })
    }

    /// The store, for operations outside of the protocol: the conflict inbox, the actor.
    pub fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Whether tables are still to be compared with the remote's, or to join.
    pub(in crate::sync) fn is_comparing(&self) -> bool {
        !self.store.suspects().is_empty()
    }

    /// What was found of the tables that joined last.
    pub(in crate::sync) fn joined(&self) -> Option<&Adopted> {
        self.first_sync.joined()
    }

    /// The store, unless the machine has let go of its file.
    ///
    /// # Errors
    ///
    /// The problem of the file.
    pub(crate) fn usable_store(&mut self) -> Result<&mut Store> {
        match self.lost_file() {
            Some(error) => Err(error),
            None => Ok(&mut self.store),
        }
    }

    /// Whether the file's path leads elsewhere, and the machine has not noticed it yet.
    pub(crate) fn must_look_for_file(&self) -> bool {
        !self.file.is_lost() && !self.store.has_its_path()
    }

    /// The status of this replica.
    pub fn status(&self, now: Now) -> Result<Status> {
        self.status_of(self.known(), now)
    }

    /// The status from `known`, which are facts of this or another process, and from this file.
    pub(in crate::sync) fn status_of(&self, known: Known, now: Now) -> Result<Status> {
        self.health.status(&self.store, self.file.is_lost(), known, now.wall_ms)
    }

    /// The facts that this replicator knows and its file does not have.
    pub(in crate::sync) fn known(&self) -> Known {
        let progress = self.first_sync.progress(self.identity.known().is_some());
        let known = self.health.known(&self.store, progress, self.puller.head().0);
        known.with_requests(self.requests.last().0)
    }

    /// Whether a waiting page may be integrated now.
    pub(in crate::sync) fn has_page(&self) -> bool {
        self.puller.has_page() && self.store.suspects().is_empty()
    }

    /// The progress of a push that is sent in parts, if there is one.
    pub(in crate::sync) fn staged(&self) -> Option<Staged> {
        self.pusher.staged()
    }

    /// Remembers a success from before this process, so that the silence is measured from there.
    pub(crate) fn remember(&mut self, success: Option<i64>) {
        self.health.remember(success);
    }

    /// Sets the problem that is shown although requests succeed; `None` if there is none. Returns
    /// whether it has changed.
    pub(in crate::sync) fn note(&mut self, notice: Option<Error>) -> bool {
        self.health.note(notice)
    }

    /// Handles an input. Returns the effects, which must be performed in this order.
    ///
    /// A failure of the local database is not returned as an error. [`Machine::status`] shows it,
    /// and the operation is tried again.
    pub fn handle(&mut self, now: Now, input: Input) -> Vec<Effect> {
        self.schedule.tick(now);
        let ends = matches!(input, Input::Shutdown);
        if ends || self.life != Life::Stopped && self.knows_file(&input) {
            let first_sync = self.first_sync.is_under_way();
            self.take(input);
            self.written(first_sync);
        }
        self.proceed();
        self.effects.take()
    }

    fn take(&mut self, input: Input) {
        let begins = !matches!(input, Input::LocalCommit | Input::Answer(..));
        if begins && self.life == Life::Created {
            self.life = Life::Running;
        }
        match input {
            // The first pull is due from the beginning. If a sync was requested before, its answer
            // may already be here.
            Input::Start | Input::Timer => self.read_outbox(),
            Input::LocalCommit => {
                self.read_outbox();
                if self.pusher.has_unsent() {
                    self.schedule.be_active();
                }
                self.effects.status_changed();
            }
            Input::Answer(id, outcome) => self.answered(id, outcome),
            Input::Continue { events } if self.has_page() => self.integrate(events),
            Input::Continue { .. } => self.read_ahead(),
            Input::SyncNow(ticket) => self.sync_now(ticket),
            Input::AcceptRemote(ticket) => self.accept_remote(ticket),
            Input::Wake => {
                self.give_up();
                self.schedule.hurry();
            }
            Input::Reconfigured { url } => self.reconfigured(&url),
            Input::Shutdown => self.shut_down(),
        }
    }

    fn sync_now(&mut self, ticket: Ticket) {
        self.waiters.add(ticket, self.schedule.now(), self.requests.last());
        self.schedule.hurry();
        self.read_outbox();
    }

    /// Treats the request in flight as lost: its connection may be dead, and only the time limit
    /// would show that. Its events are pushed again, with the same ids.
    fn give_up(&mut self) {
        if self.requests.give_up() {
            tracing::debug!("the request that was in flight is given up");
        }
    }

    /// Begins the first sync with a remote that was refused.
    fn accept_remote(&mut self, ticket: Ticket) {
        if self.health.awaits_acceptance() {
            match self.store.state() {
                Ok(state) => self.begin_acceptance(state.url),
                Err(error) => self.failed_locally(error),
            }
        }
        self.sync_now(ticket);
    }

    fn begin_acceptance(&mut self, url: String) {
        let epoch_ms = self.schedule.epoch_ms();
        let replica = ReplicaId(self.identity.issue(epoch_ms));
        let epoch = self.identity.issue(epoch_ms);
        let plan = plan_of(&self.store, url.clone(), replica, epoch);
        tracing::warn!(former = %self.store.id(), %replica, "the remote is accepted");
        self.first_sync.begin(FirstSync::accepting(plan, replica, url));
        self.first_sync.trust();
        self.requests.give_up();
        self.identity.keep();
        self.health.first_sync_begun();
        self.effects.status_changed();
    }

    fn reconfigured(&mut self, url: &str) {
        if let Err(error) = self.store.set_url(url) {
            self.failed_locally(error);
        }
        self.give_up();
        if let Some(first_sync) = self.first_sync.under_way_mut() {
            first_sync.restart_at(url);
        }
        if let Some(plan) = &mut self.plan {
            url.clone_into(&mut plan.url);
        }
        self.identity.keep();
        self.first_sync.trust();
        self.first_sync.forget_tables();
        self.pusher.forget_staged();
        self.health.starting_over();
        self.schedule.hurry();
        self.effects.status_changed();
    }

    fn shut_down(&mut self) {
        self.life = Life::Stopped;
        self.requests.give_up();
        self.health.stopped();
        let error = Error::unavailable("the replicator was shut down");
        self.effects.extend(self.waiters.dismiss(&error));
        self.effects.status_changed();
    }

    /// Sends the next request, and asks for a timer or to continue.
    fn proceed(&mut self) {
        if self.life != Life::Running || self.file.is_lost() {
            return;
        }
        if self.waits_for_migration() {
            return;
        }
        self.renew_identity();
        self.settle_waiters();
        if self.requests.is_idle() && !self.schedule.is_waiting() {
            match self.next_request() {
                Ok(Some((kind, batch))) => {
                    let id = self.requests.send(kind);
                    self.effects.push(Effect::Send(id, batch));
                }
                Ok(None) => {}
                Err(error) => self.failed_locally(error),
            }
        }
        let has_page = self.has_page();
        if has_page && !self.schedule.is_waiting() || self.may_read_ahead() {
            self.effects.push(Effect::Continue);
        } else if self.requests.is_idle() {
            let next = self.schedule.next(self.pusher.has_unsent(), self.wants_pull(), has_page);
            self.effects.push(Effect::Wait(next));
        }
        let busy = !self.store.suspects().is_empty()
            || !self.puller.is_at_end()
            || self.identity.is_renewing()
            || self.requests.is_busy();
        if self.health.rest(self.first_sync.is_under_way(), busy) {
            self.effects.status_changed();
        }
    }

    /// Whether the application migrates at this moment. Then nothing is sent, and it is looked at
    /// again after a while: a bracket that nobody closes ends by itself.
    fn waits_for_migration(&mut self) -> bool {
        match self.store.migration() {
            Ok(Bracket::None) => false,
            Ok(Bracket::Over) => {
                tracing::warn!("a migration was not ended: the triggers are made again");
                self.read_outbox();
                false
            }
            Ok(Bracket::Open) => {
                self.effects.push(Effect::Wait(self.schedule.now().steady_ms + MIGRATION_POLL_MS));
                self.effects.status_changed();
                true
            }
            Err(error) => {
                self.failed_locally(error);
                false
            }
        }
    }

    /// Whether a push is in flight, and the next one can be read meanwhile.
    fn may_read_ahead(&self) -> bool {
        let may = self.pusher.may_read_ahead() && self.requests.is_pushing();
        may && self.store.suspects().is_empty()
    }

    fn read_ahead(&mut self) {
        if self.may_read_ahead() {
            self.pusher.read_ahead(&mut self.store, self.first_sync.tables());
        }
    }

    fn wants_push(&self) -> bool {
        let reads_first = self.pusher.wants_probe() || self.identity.is_renewing();
        self.pusher.has_unsent() && !reads_first && !self.schedule.holds_pushes()
    }

    fn wants_pull(&self) -> bool {
        self.is_pull_wanted() || self.schedule.is_poll_due()
    }

    /// Whether a pull should not wait for the next poll.
    fn is_pull_wanted(&self) -> bool {
        self.puller.more()
            || self.pusher.wants_probe()
            || self.identity.wants_read(self.puller.last_read())
            || self.waiters.want_request()
    }

    /// Checks the triggers, retries the quarantine if that may help now, and looks for events to
    /// push.
    fn read_outbox(&mut self) {
        match self.prepare_outbox() {
            Ok(unsent) => self.pusher.note_unsent(unsent),
            Err(error) => self.failed_locally(error),
        }
    }

    fn prepare_outbox(&mut self) -> Result<bool> {
        if self.store.check_triggers()? {
            tracing::info!("capture triggers were installed again");
        }
        if !self.store.suspects().is_empty() {
            self.effects.status_changed();
            return self.store.note_boundary();
        }
        if let Some(retried) = self.store.retry_after_migration(self.schedule.now().wall_ms)? {
            let Retried { applied, waiting, changes: rows } = retried;
            tracing::info!(
                applied,
                waiting,
                "definitions or the program changed: the quarantine was tried again"
            );
            if !rows.is_empty() {
                let cursor = self.store.state()?.cursor();
                self.effects.push(Effect::Notify(Changes { rows, cursor, missed: false }));
            }
            self.effects.status_changed();
        }
        self.store.note_boundary()
    }

    /// Takes a new identity, if one is needed and the log was read to its end.
    fn renew_identity(&mut self) {
        let caught_up = self.identity.is_renewing()
            && !self.identity.wants_read(self.puller.last_read())
            && self.requests.is_idle()
            && self.puller.is_at_end();
        if !caught_up || self.schedule.is_waiting() {
            return;
        }
        let (epoch_ms, wall_ms) = (self.schedule.epoch_ms(), self.schedule.now().wall_ms);
        if let Err(error) = self.identity.renew(&mut self.store, epoch_ms, wall_ms) {
            return self.failed_locally(error);
        }
        self.pusher.forget_staged();
        self.read_outbox();
        self.effects.status_changed();
    }

    /// Reports the syncs that are done to their callers.
    fn settle_waiters(&mut self) {
        let wants_comparison = self.first_sync.wants_comparison(self.schedule.now().steady_ms)
            && !self.schedule.holds_pushes();
        if self.first_sync.is_under_way() || wants_comparison || !self.store.suspects().is_empty() {
            return;
        }
        let is_held = self.pusher.has_unsent() && self.schedule.holds_pushes();
        let held = self.health.push_trouble().filter(|_| is_held);
        let (now, renewing) = (self.schedule.now(), self.identity.is_renewing());
        let (told, trouble) = self.waiters.settle(&self.store, now, held.as_ref(), renewing);
        self.effects.extend(told);
        if let Some(error) = trouble {
            self.failed_locally(error);
        }
    }

    /// Whether the file is the known one. If it is not, this handles the change, and the input must
    /// be dropped: it was meant for another state.
    fn knows_file(&mut self, input: &Input) -> bool {
        if self.file.is_lost() {
            self.while_lost(input);
            return false;
        }
        // A first sync works with a store of its own.
        let working = self.first_sync.under_way().and_then(FirstSync::store).unwrap_or(&self.store);
        match self.file.look(working, &self.belonging()) {
            FileCheck::Same => return true,
            FileCheck::Anew(store) => self.begin_anew(*store),
            FileCheck::Useless(error) => self.let_go(error, false),
            FileCheck::Gone(error) => self.let_go(error, true),
            FileCheck::Replaced(error) => {
                self.let_go(error, true);
                self.search_file();
            }
            FileCheck::Failed(error) => {
                self.failed_locally(error);
                return true;
            }
        }
        self.keep_waiting(input);
        false
    }

    fn belonging(&self) -> Belonging<'_> {
        Belonging::new(&self.store, self.plan.as_ref(), self.identity.epoch())
    }

    /// Handles the state after an input. `first_sync` is whether a first sync was running, which
    /// writes through a store of its own.
    fn written(&mut self, first_sync: bool) {
        if self.store.is_stale() {
            // It was restored between the check and the lock.
            self.knows_file(&Input::Timer);
        } else if first_sync && let Err(error) = self.store.remember() {
            self.failed_locally(error);
        }
    }

    /// Why the file is lost, if it is.
    fn lost_file(&self) -> Option<Error> {
        self.health.trouble().filter(|_| self.file.is_lost())
    }

    /// Handles an input while there is no file.
    fn while_lost(&mut self, input: &Input) {
        if let (Input::Reconfigured { url }, Some(plan)) = (input, &mut self.plan) {
            plan.url.clone_from(url);
        }
        let due = self.file.retry_at().is_some_and(|at| at <= self.schedule.now().steady_ms);
        if due || matches!(input, Input::SyncNow(_) | Input::AcceptRemote(_)) {
            self.search_file();
        }
        self.keep_waiting(input);
        self.effects.extend(self.file.retry_at().map(Effect::Wait));
    }

    /// Keeps a caller that asks for a sync while the file is being replaced.
    fn keep_waiting(&mut self, input: &Input) {
        let (Input::SyncNow(ticket) | Input::AcceptRemote(ticket)) = input else { return };
        match self.lost_file() {
            Some(error) => self.effects.push(Effect::Settled(*ticket, Err(error))),
            None => self.waiters.add(*ticket, self.schedule.now(), self.requests.last()),
        }
    }

    /// Starts again on a store, like a new process on its file. State that does not depend on the
    /// file is kept.
    fn begin_anew(&mut self, store: Store) {
        let fresh = match Machine::new(store, self.plan.clone(), self.config) {
            Ok(fresh) => fresh,
            Err(error) => return self.let_go(error, false),
        };
        let former = std::mem::replace(self, fresh);
        self.schedule.tick(former.schedule.now());
        self.identity.take_over(former.identity);
        self.requests = Requests::after(former.requests.last());
        self.health.take_over(former.health);
        self.waiters = former.waiters;
        self.waiters.begin_anew();
        self.effects = former.effects;
        self.effects.push(Effect::Notify(Changes::missed()));
        self.effects.push(Effect::Reopened);
        self.effects.status_changed();
    }

    /// Closes the file for this reason; `moved` if its path leads elsewhere.
    fn let_go(&mut self, error: Error, moved: bool) {
        tracing::warn!(kind = ?error.kind(), "{error}");
        let steady_ms = self.schedule.now().steady_ms;
        let retry_at = self.file.let_go(&mut self.store, moved, steady_ms);
        self.requests.give_up();
        self.identity.keep();
        self.first_sync.end();
        self.effects.extend(self.waiters.dismiss(&error));
        self.health.file_lost(error);
        self.effects.push(Effect::Lost);
        self.effects.push(Effect::Wait(retry_at));
        self.effects.status_changed();
    }

    /// Looks for the file again.
    fn search_file(&mut self) {
        let steady_ms = self.schedule.now().steady_ms;
        let belonging = Belonging::new(&self.store, self.plan.as_ref(), self.identity.epoch());
        match self.file.search(&belonging, steady_ms) {
            Ok(store) => {
                tracing::info!("the database is there again: it is gone on with");
                self.begin_anew(store);
            }
            Err(error) => {
                if self.health.still_lost(error) {
                    self.effects.status_changed();
                }
            }
        }
    }
}
