//! The protocol as a machine: inputs in, effects out.

use std::collections::VecDeque;

use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::event::{ReplicaId, Seq};
use crate::page::Place;
use crate::remote::statements::{Exchange, Meta, Reply, SCHEMA_VERSION, Sender, Span};
use crate::remote::{Answer, Batch};
use crate::store::{Outcome, Push, Store};
use crate::sync::effect::{Effect, Input, Now, RequestId, Ticket};
use crate::sync::init::{Init, Plan, Progress, Report};
use crate::sync::pull::Pages;
use crate::sync::push::{PushLimits, check};
use crate::sync::status::{Change, Changes, Summary, SyncState};
use crate::sync::trouble::{again, other_remote, schema_version};

/// The longest time between two pulls, in ms, unless it is set otherwise. A change of the web's is
/// to be here within five seconds, the request and the page included.
pub const POLL_MS: u64 = 4_500;
/// The same while something is going on: somebody is at work on the other side.
pub const LIVELY_POLL_MS: u64 = 1_000;
/// How long after the last activity something is still going on, in ms.
const LIVELY_MS: u64 = 15_000;

/// What a machine is set to.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The longest time between two pulls, in ms.
    pub poll_ms: u64,
    /// The age of the last success, in ms, above which health is red.
    pub health_bound_ms: u64,
    /// Where chance comes from.
    pub seed: u64,
}

pub(super) struct Flight {
    id: RequestId,
    /// `None` while it belongs to the first sync.
    exchange: Option<Asked>,
}

pub(super) struct Asked {
    pub(super) push: Option<(Push, ulid::Ulid, Sender)>,
    pub(super) span: Option<Span>,
    /// Whether its page is of no use any more.
    void: bool,
}

impl Asked {
    fn exchange(&self) -> Exchange<'_> {
        let push = self.push.as_ref().map(|(push, unit, sender)| (push, *unit, sender));
        Exchange { push, pull: self.span }
    }
}

pub(super) struct Waiter {
    pub(super) ticket: Ticket,
    before: Summary,
    since: Now,
    /// Only a request after this one counts.
    after: RequestId,
    pub(super) failures: u32,
}

/// The replication protocol of one replica.
///
/// * At most one request is under way, and at most two pages wait.
/// * A request is sent only after what it depends on is in the database.
/// * Without a [`Store`] failure, every [`Machine::handle`] either has a request under way, or asks
///   for [`Effect::Continue`] or [`Effect::Wait`]: it never falls silent before
///   [`Input::Shutdown`].
pub struct Machine {
    pub(super) store: Store,
    pub(super) config: Config,
    pub(super) now: Now,
    pub(super) random: fastrand::Rng,
    pub(super) clock: Clock,
    pub(super) backoff: Backoff,
    pub(super) init: Option<Init>,
    pub(super) limits: PushLimits,
    pub(super) pages: Pages,
    pub(super) flight: Option<Flight>,
    pub(super) last_request: RequestId,
    /// The last request that has brought a page, be it an empty one.
    pub(super) last_look: RequestId,
    pub(super) identity: Option<(ReplicaId, String)>,
    pub(super) unsent: bool,
    /// The next exchange only looks, since the last one's push was rejected.
    pub(super) look_first: bool,
    /// The push and the page go in requests of their own.
    pub(super) apart: bool,
    pub(super) due: u64,
    pub(super) retry_at: u64,
    pub(super) lively_until: u64,
    pub(super) push_held_until: u64,
    pub(super) state: SyncState,
    pub(super) trouble: Option<Error>,
    pub(super) push_trouble: Option<Error>,
    pub(super) reachable: Option<bool>,
    pub(super) last_success: Option<i64>,
    pub(super) totals: Summary,
    pub(super) waiters: Vec<Waiter>,
    pub(super) effects: VecDeque<Effect>,
    pub(super) stopped: bool,
}

impl Machine {
    /// A machine over an initialised store. `plan` says what to do if the remote has nothing of
    /// ours yet; without one, only a replica whose first sync is done can run.
    ///
    /// # Errors
    ///
    /// `Storage` when the store cannot be read.
    pub fn new(store: Store, plan: Option<Plan>, config: Config) -> Result<Machine> {
        let state = store.state()?;
        let mut random = fastrand::Rng::with_seed(config.seed);
        let backoff = Backoff::new(random.u64(..));
        Ok(Machine {
            init: plan.map(|plan| Init::new(plan, state.epoch.clone())),
            identity: state.epoch.map(|epoch| (state.replica, epoch)),
            pages: Pages::after(state.cursor),
            store,
            config,
            now: Now::default(),
            random,
            clock: Clock::default(),
            backoff,
            limits: PushLimits::default(),
            flight: None,
            last_request: RequestId(0),
            last_look: RequestId(0),
            unsent: true,
            look_first: false,
            apart: false,
            due: 0,
            retry_at: 0,
            lively_until: 0,
            push_held_until: 0,
            state: SyncState::Starting,
            trouble: None,
            push_trouble: None,
            reachable: None,
            last_success: None,
            totals: Summary::default(),
            waiters: Vec::new(),
            effects: VecDeque::new(),
            stopped: false,
        })
    }

    /// The store, for what is no part of the protocol: the conflict inbox, the actor.
    pub fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Takes an input, and gives what is to be done, in that order.
    ///
    /// A failure of the local database is not an error here: it is shown by [`Machine::status`] and
    /// what failed is tried again.
    pub fn handle(&mut self, now: Now, input: Input) -> Vec<Effect> {
        self.now = now;
        if !self.stopped {
            self.take(input);
            self.proceed();
        }
        self.effects.drain(..).collect()
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Start => {
                self.due = self.now.steady_ms;
                self.look_at_outbox();
            }
            Input::LocalCommit => {
                self.look_at_outbox();
                if self.unsent {
                    self.be_lively();
                }
                self.changed();
            }
            Input::Timer => self.look_at_outbox(),
            Input::Answer(id, outcome) => self.answered(id, outcome),
            Input::Continue { events } => self.integrate(events),
            Input::SyncNow(ticket) => {
                self.waiters.push(Waiter {
                    ticket,
                    before: self.totals,
                    since: self.now,
                    after: self.last_request,
                    failures: 0,
                });
                self.hurry();
                self.look_at_outbox();
            }
            Input::Wake => self.hurry(),
            Input::Reconfigured { url } => self.reconfigured(&url),
            Input::Shutdown => self.shut_down(),
        }
    }

    /// What failed before may work now: nothing waits any longer.
    fn hurry(&mut self) {
        self.backoff.reset();
        self.due = self.now.steady_ms;
        self.retry_at = self.now.steady_ms;
        self.push_held_until = self.now.steady_ms;
    }

    fn be_lively(&mut self) {
        self.lively_until = self.now.steady_ms + LIVELY_MS;
    }

    pub(super) fn changed(&mut self) {
        if !matches!(self.effects.back(), Some(Effect::StatusChanged)) {
            self.effects.push_back(Effect::StatusChanged);
        }
    }

    fn reconfigured(&mut self, url: &str) {
        if let Err(error) = self.store.set_url(url) {
            self.local_trouble(error);
        }
        self.void_flight();
        self.flight = None;
        if let Some(init) = &mut self.init {
            init.restart_at(url);
        }
        self.reachable = None;
        self.state = SyncState::Starting;
        self.push_trouble = None;
        self.trouble = None;
        self.hurry();
        self.changed();
    }

    fn shut_down(&mut self) {
        self.stopped = true;
        self.flight = None;
        self.state = SyncState::Stopped;
        for waiter in std::mem::take(&mut self.waiters) {
            let error = Error::unavailable("the replicator was shut down");
            self.effects.push_back(Effect::Settled(waiter.ticket, Err(error)));
        }
        self.changed();
    }

    /// Sends what is to be sent, and asks for what is to be asked.
    fn proceed(&mut self) {
        if self.stopped {
            return;
        }
        self.settle_waiters();
        if self.flight.is_none() && self.now.steady_ms >= self.retry_at {
            match self.next_request() {
                Ok(Some((id, batch))) => self.effects.push_back(Effect::Send(id, batch)),
                Ok(None) => {}
                Err(error) => self.local_trouble(error),
            }
        }
        let in_backoff = self.now.steady_ms < self.retry_at;
        if self.pages.front().is_some() && !in_backoff {
            self.effects.push_back(Effect::Continue);
        } else if self.flight.is_none() {
            let held = if self.unsent { self.push_held_until } else { u64::MAX };
            let next = held.min(self.due).max(self.retry_at).max(self.now.steady_ms + 1);
            self.effects.push_back(Effect::Wait(next));
        }
        self.rest();
    }

    /// The state that is shown, if nothing is wrong.
    fn rest(&mut self) {
        let well = self.trouble.is_none() && self.push_trouble.is_none();
        if !well || self.reachable != Some(true) || self.init.is_some() {
            return;
        }
        let busy = self.pages.front().is_some()
            || self.pages.more()
            || self.flight.as_ref().is_some_and(|flight| {
                flight.exchange.as_ref().is_some_and(|asked| asked.push.is_some())
            });
        let state = if busy { SyncState::Syncing } else { SyncState::InStep };
        if state != self.state {
            self.state = state;
            self.changed();
        }
    }

    fn wants_push(&self) -> bool {
        self.unsent && !self.look_first && self.now.steady_ms >= self.push_held_until
    }

    fn wants_pull(&self) -> bool {
        let waited_for = self.waiters.iter().any(|waiter| waiter.after >= self.last_look);
        self.pages.more() || self.look_first || waited_for || self.now.steady_ms >= self.due
    }

    fn next_request(&mut self) -> Result<Option<(RequestId, Batch)>> {
        if self.init.is_some() {
            return self.next_of_init();
        }
        let Some((replica, epoch)) = self.identity.clone() else {
            return Err(Error::usage("this replica has not had its first sync")
                .with_hint("run `driftless init` first"));
        };
        if !self.pages.has_room() {
            return Ok(None);
        }
        let mut push = None;
        if self.wants_push() {
            push = self.store.outgoing(self.limits.limit())?;
            self.unsent = push.is_some();
        }
        if push.is_none() && !self.wants_pull() {
            return Ok(None);
        }
        let push = match push {
            Some(mut push) => {
                check(&push)?;
                self.limits.prepare(&mut push);
                let now_ms = u64::try_from(self.now.wall_ms).unwrap_or(0);
                let unit = self.clock.stamp(now_ms, self.random.u128(..));
                let cursor = self.store.state()?.cursor;
                Some((push, unit, Sender { replica, epoch, cursor }))
            }
            None => None,
        };
        let span = (push.is_none() || !self.apart).then(|| self.pages.span());
        let asked = Asked { push, span, void: false };
        let batch = asked.exchange().batch();
        let events = asked.push.as_ref().map_or(0, |(push, ..)| push.events.len());
        tracing::debug!(events, after = %self.pages.span().after, "exchange");
        Ok(Some((self.fly(Some(asked)), batch)))
    }

    fn fly(&mut self, exchange: Option<Asked>) -> RequestId {
        self.last_request = RequestId(self.last_request.0 + 1);
        self.flight = Some(Flight { id: self.last_request, exchange });
        self.last_request
    }

    fn next_of_init(&mut self) -> Result<Option<(RequestId, Batch)>> {
        let init = self.init.as_mut().expect("the first sync is under way");
        let batch = init.ask()?;
        Ok(Some((self.fly(None), batch)))
    }

    fn void_flight(&mut self) {
        if let Some(Flight { exchange: Some(asked), .. }) = &mut self.flight {
            asked.void = true;
        }
    }

    fn answered(&mut self, id: RequestId, outcome: Result<Answer>) {
        // An answer to a request of before a new configuration comes too late.
        let Some(flight) = self.flight.take_if(|flight| flight.id == id) else { return };
        let answer = match outcome {
            Ok(answer) => answer,
            Err(error) => return self.failed(flight.exchange, error),
        };
        self.totals.requests += 1;
        self.totals.bytes_up += answer.bytes_up;
        self.totals.bytes_down += answer.bytes_down;
        match flight.exchange {
            None => self.init_answered(answer),
            Some(asked) => match asked.exchange().read(answer) {
                Ok(reply) => self.replied(id, asked, reply),
                Err(error) => self.failed(Some(asked), error),
            },
        }
    }

    fn init_answered(&mut self, answer: Answer) {
        let init = self.init.as_mut().expect("only the first sync asks without an exchange");
        match init.answered(answer, self.now.wall_ms) {
            Ok(Progress::More) => {
                self.succeeded();
                self.state = SyncState::FirstSync;
            }
            Ok(Progress::Done(report, store)) => self.initialised(report, *store),
            Ok(Progress::OtherRemote(found)) => {
                self.refused(other_remote(found.as_deref()), SyncState::OtherRemote);
            }
            Err(error) => self.init_failed(error),
        }
        self.changed();
    }

    fn initialised(&mut self, report: Report, store: Store) {
        self.store = store;
        self.succeeded();
        self.init = None;
        match self.store.state() {
            Ok(state) => {
                self.identity = state.epoch.map(|epoch| (state.replica, epoch));
                self.pages = Pages::after(state.cursor);
            }
            Err(error) => self.local_trouble(error),
        }
        self.look_at_outbox();
        self.due = self.now.steady_ms;
        self.effects.push_back(Effect::Initialised(report));
    }

    fn init_failed(&mut self, error: Error) {
        match error.kind() {
            Kind::Unavailable | Kind::Storage | Kind::Corrupt => self.failed(None, error),
            _ => self.refused(error, SyncState::Refused),
        }
    }

    /// The remote answered as it should.
    fn succeeded(&mut self) {
        self.backoff.reset();
        self.reachable = Some(true);
        self.last_success = Some(self.now.wall_ms);
        self.trouble = None;
    }

    fn replied(&mut self, id: RequestId, asked: Asked, reply: Reply) {
        if let Err((error, state)) = self.check_identity(reply.meta.as_ref()) {
            return self.refused(error, state);
        }
        let pushing = asked.push.is_some();
        if pushing && !reply.pushed && reply.unknown.is_none() {
            let error = Error::corrupt("the remote did not take a push in, and gave no reason");
            return self.failed(None, error);
        }
        self.succeeded();
        self.due = self.now.steady_ms + self.interval();
        self.look_first = false;
        match (&asked.push, &reply.unknown) {
            // What is in the log already was pushed when its columns were known.
            (Some((push, ..)), _) if reply.pushed => self.push_accepted(push),
            (Some(_), Some((table, column))) => self.hold_for_column(table, column),
            _ => {}
        }
        if asked.span.is_none() {
            self.pages.expect();
        } else if !asked.void {
            self.last_look = id;
            if self.pages.came(reply.page, reply.head) {
                self.be_lively();
            }
        }
        self.apart &= !self.limits_are_full();
        self.changed();
    }

    fn limits_are_full(&self) -> bool {
        self.limits == PushLimits::default()
    }

    fn interval(&self) -> u64 {
        let lively = self.now.steady_ms < self.lively_until;
        if lively { LIVELY_POLL_MS.min(self.config.poll_ms) } else { self.config.poll_ms }
    }

    fn push_accepted(&mut self, push: &Push) {
        self.totals.pushed += push.events.len() as u64;
        for event in push.events.iter().filter(|event| event.refuse.is_some()) {
            tracing::warn!(table = event.table, key = %event.key, event = %event.id,
                "recorded as rejected");
        }
        if let Err(error) = self.store.sent(push.last_n) {
            // It goes again, and the remote knows it by its id.
            return self.local_trouble(error);
        }
        self.limits.accepted();
        self.push_trouble = None;
        self.be_lively();
        self.look_at_outbox();
    }

    fn check_identity(&self, meta: Option<&Meta>) -> Result<(), (Error, SyncState)> {
        let ours = self.identity.as_ref().map(|(_, epoch)| epoch.as_str());
        let Some(meta) = meta.filter(|meta| Some(meta.epoch.as_str()) == ours) else {
            let found = meta.map(|meta| meta.epoch.as_str());
            return Err((other_remote(found), SyncState::OtherRemote));
        };
        if meta.version != SCHEMA_VERSION {
            return Err((schema_version(meta.version), SyncState::Refused));
        }
        let cursor = self.pages.span().after;
        if meta.oldest.0 > cursor.0 + 1 {
            let error = Error::refused(format!(
                "the remote keeps its log from event {} on, and this replica stands at {cursor}",
                meta.oldest
            ))
            .with_hint("this replica was away for too long: initialise a new one");
            return Err((error, SyncState::Refused));
        }
        Ok(())
    }

    /// Integrates what has waited longest: `events` events of it, and the rest of their unit.
    fn integrate(&mut self, events: usize) {
        let Some((page, end)) = self.pages.part(events) else { return };
        match self.store.integrate(&page, None, self.now.wall_ms) {
            Ok(Outcome::Done(done)) => {
                self.pages.integrated(end);
                let totals = &mut self.totals;
                let own = done.settled_applied + done.settled_superseded + done.settled_rejected;
                totals.applied += done.settled_applied as u64;
                totals.superseded += done.settled_superseded as u64;
                totals.rejected += done.settled_rejected as u64;
                totals.pulled += done.pulled.saturating_sub(own) as u64;
                tracing::debug!(cursor = %done.cursor, pulled = done.pulled, "integrated");
                if !done.changes.is_empty() {
                    let rows = done.changes.into_iter();
                    let rows = rows.map(|(table, key)| Change { table, key }).collect();
                    let changes = Changes { rows, cursor: done.cursor, missed: false };
                    self.effects.push_back(Effect::Notify(changes));
                }
                self.changed();
            }
            Ok(Outcome::NeedsLonger) => self.lengthen(end),
            Err(error) if error.kind() == Kind::Storage => self.local_trouble(error),
            Err(error) => {
                // A page that is not one is fetched again.
                self.restart_pages();
                self.unavailable(error);
            }
        }
    }

    fn cursor(&self) -> Result<Seq> {
        Ok(self.store.state()?.cursor)
    }

    fn restart_pages(&mut self) {
        self.void_flight();
        match self.cursor() {
            Ok(cursor) => self.pages.restart(cursor),
            Err(error) => self.local_trouble(error),
        }
    }

    /// What ends at `end` is integrated only with what follows it.
    fn lengthen(&mut self, end: Place) {
        let before = self.pages.span();
        match self.cursor() {
            Ok(cursor) if self.pages.lengthen(cursor, end) => {
                if self.pages.span() != before {
                    self.void_flight();
                }
            }
            Ok(cursor) => {
                let error = Error::storage(format!(
                    "the log after event {cursor} cannot be applied, however much of it is read"
                ));
                self.refused(error, SyncState::Trouble);
            }
            Err(error) => self.local_trouble(error),
        }
    }

    /// Tells those who wait, once nothing is left to do that they asked for.
    fn settle_waiters(&mut self) {
        let held = self.push_is_held();
        let quiet = self.flight.is_none()
            && self.init.is_none()
            && (!self.unsent || held.is_some())
            && !self.look_first
            && self.pages.front().is_none()
            && !self.pages.more();
        if !quiet || self.now.steady_ms < self.retry_at {
            return;
        }
        let (done, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiters)
            .into_iter()
            .partition(|waiter| waiter.after < self.last_look);
        self.waiters = kept;
        for waiter in done {
            let mut summary = self.totals.since(&waiter.before);
            let ms = self.now.steady_ms - waiter.since.steady_ms;
            summary.seconds = ms as f64 / 1000.0;
            let outcome = held.as_ref().map_or(Ok(summary), |error| Err(again(error)));
            self.effects.push_back(Effect::Settled(waiter.ticket, outcome));
        }
    }
}
