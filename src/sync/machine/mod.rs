//! The protocol as a machine: inputs in, effects out.

pub(in crate::sync) mod error_policy;
mod file;
mod first;
pub(in crate::sync) mod identity;
pub(in crate::sync) mod io;
mod look;
mod missing;
pub(in crate::sync) mod pull;
pub(in crate::sync) mod push;
pub(in crate::sync) mod reconcile;
mod request;
mod waiters;

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::error::{Code, Error, Kind, Result};
use crate::event::ReplicaId;
use crate::page::Offset;
use crate::remote::statements::Reply;
use crate::remote::{Answer, Batch};
use crate::store::{Outcome, Push, Store};
use crate::sync::first_sync::run::{Init, Plan};
use crate::sync::machine::error_policy::no_first_sync;
use crate::sync::machine::file::Lost;
use crate::sync::machine::identity::examine;
use crate::sync::machine::io::{Effect, Input, Now, RequestId, Ticket};
use crate::sync::machine::missing::Doubt;
use crate::sync::machine::pull::pages::Pages;
use crate::sync::machine::push::bisect::{PushLimits, PushSize};
use crate::sync::machine::push::staging::{Stage, Staging};
use crate::sync::machine::reconcile::Inquiry;
use crate::sync::machine::request::{Asked, Errand, Flight};
use crate::sync::machine::waiters::Waiter;
use crate::sync::status::{Facts, Summary, SyncState};

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
    /// Where the chance in waiting times comes from.
    pub seed: u64,
    /// Where marks and identities come from: another number at each start, or two copies of a file
    /// could draw the same ones.
    pub dice: u64,
    /// What a push carries in one request.
    pub push: PushSize,
}

/// The replication protocol of one replica.
///
/// * At most one request is waited for, and at most two pages wait. One that was given up may still
///   arrive at the remote: pushes are known by their events' ids.
/// * A request is sent only after what it depends on is in the database.
/// * Without a [`Store`] failure, every [`Machine::handle`] either has a request under way, or asks
///   for [`Effect::Continue`] or [`Effect::Wait`]: it never falls silent before
///   [`Input::Shutdown`].
pub struct Machine {
    pub(in crate::sync) store: Store,
    pub(in crate::sync) config: Config,
    pub(in crate::sync) plan: Option<Plan>,
    /// The file is gone, or is none that can be replicated.
    pub(in crate::sync) lost: Option<Lost>,
    /// What was last shown of the replica.
    pub(in crate::sync) last: RefCell<Option<Facts>>,
    /// Whether it was told to begin. A replicator that stands by sends nothing.
    pub(in crate::sync) started: bool,
    pub(in crate::sync) now: Now,
    pub(in crate::sync) random: fastrand::Rng,
    pub(in crate::sync) dice: fastrand::Rng,
    pub(in crate::sync) clock: Clock,
    pub(in crate::sync) backoff: Backoff,
    pub(in crate::sync) init: Option<Init>,
    pub(in crate::sync) limits: PushLimits,
    pub(in crate::sync) staging: Option<Staging>,
    /// Whether the file says that a transaction arrives in parts.
    pub(in crate::sync) in_parts: bool,
    pub(in crate::sync) pages: Pages,
    pub(in crate::sync) inquiry: Inquiry,
    pub(in crate::sync) flight: Option<Flight>,
    pub(in crate::sync) last_request: RequestId,
    /// The last request that has brought a page, be it an empty one.
    pub(in crate::sync) last_look: RequestId,
    pub(in crate::sync) identity: Option<(ReplicaId, String)>,
    pub(in crate::sync) unsent: bool,
    /// The push that was refused because another file has this one's identity.
    pub(in crate::sync) renewing: Option<RequestId>,
    /// The next exchange only looks, since the last one's push was rejected.
    pub(in crate::sync) look_first: bool,
    /// The push and the page go in requests of their own.
    pub(in crate::sync) apart: bool,
    /// The last page was none. Until there is one, an answer is no success.
    pub(in crate::sync) no_page: bool,
    pub(in crate::sync) due: u64,
    pub(in crate::sync) retry_at: u64,
    pub(in crate::sync) lively_until: u64,
    pub(in crate::sync) push_held_until: u64,
    pub(in crate::sync) state: SyncState,
    pub(in crate::sync) trouble: Option<Error>,
    pub(in crate::sync) push_trouble: Option<Error>,
    /// What is wrong although requests go through.
    pub(in crate::sync) notice: Option<Error>,
    pub(in crate::sync) doubt: Doubt,
    pub(in crate::sync) reachable: Option<bool>,
    pub(in crate::sync) last_success: Option<i64>,
    pub(in crate::sync) totals: Summary,
    pub(in crate::sync) waiters: Vec<Waiter>,
    pub(in crate::sync) effects: VecDeque<Effect>,
    pub(in crate::sync) stopped: bool,
}

impl Machine {
    /// A machine over an initialised store. `plan` says what to do if the remote has nothing of
    /// ours yet; without one, only a replica whose first sync is done can run.
    ///
    /// # Errors
    ///
    /// `Usage` when there is no plan and the first sync is not done: it was interrupted, perhaps.
    /// `Storage` when the store cannot be read.
    pub fn new(mut store: Store, plan: Option<Plan>, config: Config) -> Result<Machine> {
        store.remember()?;
        if plan.is_none() && !store.is_adopted()? {
            return Err(no_first_sync());
        }
        let state = store.state()?;
        let mut random = fastrand::Rng::with_seed(config.seed);
        let backoff = Backoff::new(random.u64(..));
        Ok(Machine {
            init: plan.clone().map(|plan| Init::new(plan, state.epoch.clone())),
            plan,
            lost: None,
            last: RefCell::new(Facts::of(&store).ok()),
            started: false,
            identity: state.epoch.map(|epoch| (state.replica, epoch)),
            pages: Pages::after(state.place),
            inquiry: Inquiry::new(store.contradiction()?.is_some()),
            store,
            config,
            now: Now::default(),
            random,
            dice: fastrand::Rng::with_seed(config.dice),
            clock: Clock::default(),
            backoff,
            limits: PushLimits::new(config.push),
            staging: None,
            in_parts: state.in_parts,
            flight: None,
            last_request: RequestId(0),
            last_look: RequestId(0),
            unsent: true,
            renewing: None,
            look_first: false,
            apart: false,
            no_page: false,
            due: 0,
            retry_at: 0,
            lively_until: 0,
            push_held_until: 0,
            state: SyncState::Starting,
            trouble: None,
            push_trouble: None,
            notice: None,
            doubt: Doubt::default(),
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
        if matches!(input, Input::Shutdown) || !self.stopped && self.knows_file(&input) {
            let first_sync = self.init.is_some();
            self.take(input);
            self.written(first_sync);
        }
        self.proceed();
        self.effects.drain(..).collect()
    }

    fn take(&mut self, input: Input) {
        self.started |= !matches!(input, Input::LocalCommit | Input::Answer(..));
        match input {
            // The first pull is due from the beginning. If a sync was asked for before, its answer
            // may even be here already.
            Input::Start | Input::Timer => self.look_at_outbox(),
            Input::LocalCommit => {
                self.look_at_outbox();
                if self.unsent {
                    self.be_lively();
                }
                self.changed();
            }
            Input::Answer(id, outcome) => self.answered(id, outcome),
            Input::Continue { events } => self.integrate(events),
            Input::SyncNow(ticket) => self.sync_now(ticket),
            Input::AcceptRemote(ticket) => self.accept_remote(ticket),
            Input::Wake => {
                self.give_up();
                self.hurry();
            }
            Input::Reconfigured { url } => self.reconfigured(&url),
            Input::Shutdown => self.shut_down(),
        }
    }

    pub(in crate::sync) fn sync_now(&mut self, ticket: Ticket) {
        self.wait_for(ticket);
        self.hurry();
        self.look_at_outbox();
    }

    /// What failed before may work now: nothing waits any longer.
    fn hurry(&mut self) {
        self.backoff.reset();
        self.due = self.now.steady_ms;
        self.retry_at = self.now.steady_ms;
        self.push_held_until = self.now.steady_ms;
    }

    /// The request that is under way counts as lost: its connection may be dead without having said
    /// so, and only its time limit would tell. What it pushed goes again, under the same ids.
    fn give_up(&mut self) {
        if self.flight.take().is_some() {
            tracing::debug!("the request that was under way is given up");
        }
    }

    pub(in crate::sync) fn be_lively(&mut self) {
        self.lively_until = self.now.steady_ms + LIVELY_MS;
    }

    pub(in crate::sync) fn changed(&mut self) {
        if !matches!(self.effects.back(), Some(Effect::StatusChanged)) {
            self.effects.push_back(Effect::StatusChanged);
        }
    }

    fn reconfigured(&mut self, url: &str) {
        if let Err(error) = self.store.set_url(url) {
            self.local_trouble(error);
        }
        self.give_up();
        if let Some(init) = &mut self.init {
            init.restart_at(url);
        }
        if let Some(plan) = &mut self.plan {
            url.clone_into(&mut plan.url);
        }
        self.renewing = None;
        self.trust_definitions();
        self.staging = None;
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
        self.dismiss_waiters(&Error::unavailable("the replicator was shut down"));
        self.changed();
    }

    /// Sends what is to be sent, and asks for what is to be asked.
    fn proceed(&mut self) {
        if self.stopped || !self.started || self.lost.is_some() {
            return;
        }
        self.renew();
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
            // A page that could not be integrated waits for no poll.
            let page = if self.pages.front().is_some() { self.retry_at } else { u64::MAX };
            // An answer to what was given up may have put the next look off.
            let due = if self.wants_pull() { self.retry_at } else { self.due };
            let next = held.min(due).min(page).max(self.retry_at);
            let next = next.max(self.now.steady_ms + 1);
            self.effects.push_back(Effect::Wait(next));
        }
        self.rest();
    }

    /// The state that is shown, if nothing is wrong.
    fn rest(&mut self) {
        let held = self.trouble.is_none() && self.push_trouble.is_some();
        if held && self.state == SyncState::Offline && self.reachable == Some(true) {
            // The remote is back, and pushes still wait.
            self.state = SyncState::Trouble;
            self.changed();
        }
        let well = self.trouble.is_none() && self.push_trouble.is_none();
        if !well || self.reachable != Some(true) || self.init.is_some() {
            return;
        }
        let busy = self.pages.front().is_some()
            || self.is_renewing()
            || self.pages.more()
            || self.flight.as_ref().is_some_and(|flight| match &flight.errand {
                Errand::Exchange(asked) => asked.push.is_some() || asked.stage.is_some(),
                Errand::FirstSync | Errand::Inquiry(_) => true,
            });
        let state = if busy { SyncState::Syncing } else { SyncState::InStep };
        if state != self.state {
            self.state = state;
            self.changed();
        }
    }

    fn wants_push(&self) -> bool {
        let looks = self.look_first || self.is_renewing();
        self.unsent && !looks && self.now.steady_ms >= self.push_held_until
    }

    fn wants_pull(&self) -> bool {
        let waited_for = self.waiters.iter().any(|waiter| !waiter.has_looked());
        let looks = self.look_first || self.wants_look();
        self.pages.more() || looks || waited_for || self.now.steady_ms >= self.due
    }

    fn next_request(&mut self) -> Result<Option<(RequestId, Batch)>> {
        self.compare_again();
        if self.init.is_some() {
            return self.next_of_init();
        }
        let Some((replica, epoch)) = self.identity.clone() else {
            return Err(no_first_sync());
        };
        if !self.pages.has_room() {
            return Ok(None);
        }
        if let Some(question) = self.next_inquiry()? {
            return Ok(Some(question));
        }
        self.look_first |= self.wants_push() && self.must_look()?;
        let load = if self.wants_push() { self.load()? } else { None };
        if load.is_none() && !self.wants_pull() {
            return Ok(None);
        }
        let (mut push, mut stage) = (None, None);
        if let Some((events, unit, part)) = load {
            if !part.as_ref().is_some_and(Stage::is_part) {
                push = Some((events, unit, self.sender(replica, epoch.clone())?));
            }
            stage = part;
        }
        let span = (push.is_none() && stage.is_none() || !self.apart).then(|| self.pages.span());
        let asked = Asked { push, stage, epoch, span, asker: self.asker(replica), void: false };
        let batch = asked.exchange().batch();
        let events = asked.push.as_ref().map_or(0, |(push, ..)| push.events.len());
        tracing::debug!(events, after = %self.pages.span().after, "exchange");
        Ok(Some((self.fly(Errand::Exchange(Box::new(asked))), batch)))
    }

    pub(in crate::sync) fn fly(&mut self, errand: Errand) -> RequestId {
        self.last_request = RequestId(self.last_request.0 + 1);
        self.flight = Some(Flight { id: self.last_request, errand });
        self.last_request
    }

    fn next_of_init(&mut self) -> Result<Option<(RequestId, Batch)>> {
        let init = self.init.as_mut().expect("the first sync is under way");
        let batch = init.ask()?;
        Ok(Some((self.fly(Errand::FirstSync), batch)))
    }

    pub(in crate::sync) fn void_flight(&mut self) {
        if let Some(Flight { errand: Errand::Exchange(asked), .. }) = &mut self.flight {
            asked.void = true;
        }
    }

    fn answered(&mut self, id: RequestId, outcome: Result<Answer>) {
        // An answer to a request that was given up comes too late.
        let Some(flight) = self.flight.take_if(|flight| flight.id == id) else { return };
        let answer = match outcome {
            Ok(answer) => answer,
            Err(error) => {
                return match flight.errand {
                    Errand::FirstSync => self.failed(None, error),
                    Errand::Exchange(asked) => self.failed(Some(*asked), error),
                    Errand::Inquiry(ids) if error.kind() == Kind::TooLarge => {
                        self.inquiry_too_large(&ids, error);
                    }
                    Errand::Inquiry(_) => self.failed(None, error),
                };
            }
        };
        self.totals.requests += 1;
        self.totals.bytes_up += answer.bytes_up;
        self.totals.bytes_down += answer.bytes_down;
        match flight.errand {
            Errand::FirstSync => self.init_answered(answer),
            Errand::Exchange(asked) => match asked.exchange().read(answer) {
                Ok(reply) => self.replied(id, *asked, reply),
                Err(error) => self.failed(Some(*asked), error),
            },
            Errand::Inquiry(ids) => self.inquired(&ids, answer),
        }
    }

    /// The remote answered as it should, if its last page was one.
    pub(in crate::sync) fn succeeded(&mut self) {
        self.reachable = Some(true);
        if self.no_page {
            return;
        }
        self.backoff.reset();
        self.last_success = Some(self.now.wall_ms);
        self.trouble = None;
    }

    fn replied(&mut self, id: RequestId, asked: Asked, reply: Reply) {
        let marks = match self.store.marks() {
            Ok(marks) => marks,
            Err(error) => return self.local_trouble(error),
        };
        let epoch = self.identity.as_ref().map(|(_, epoch)| epoch.as_str());
        if let Err((error, state)) = examine(epoch, asked.asker.place, &marks, reply.meta.as_ref())
        {
            return self.at_odds(error, state);
        }
        let taken = match self.take_mark(id, &asked, &marks, &reply) {
            Ok(taken) => taken,
            // What was pushed goes again, and the remote knows it by its id.
            Err(error) => return self.local_trouble(error),
        };
        if asked.push.is_some() && !reply.pushed {
            self.staging = None;
        }
        if asked.push.is_some() && taken && !reply.pushed && reply.unknown.is_none() {
            let message = "the remote did not take a push in, and gave no reason";
            let error = Error::new(Code::AnswerInvalid, message);
            return self.failed(None, error);
        }
        self.succeeded();
        self.look_first = false;
        match (&asked.push, &reply.unknown) {
            // What is in the log already was pushed when its columns were known.
            (Some((push, ..)), _) if reply.pushed => {
                self.inquiry.acknowledged = id;
                self.push_accepted(push);
            }
            (Some(_), Some((table, column))) if taken => self.hold_for_column(table, column),
            _ => {}
        }
        if let Some(stage) = asked.stage.as_ref().filter(|stage| stage.is_part()) {
            self.part_arrived(stage);
        }
        if asked.span.is_none() {
            self.pages.expect();
        } else if !asked.void {
            match self.pages.came_in(reply.page, reply.part, reply.head) {
                Ok(new) => self.looked(id, new),
                Err(error) => return self.unreadable(error),
            }
        }
        // Behind what makes it lively: the next look comes soon after the first change.
        self.due = self.now.steady_ms + self.interval();
        self.apart &= !self.limits_are_full();
        self.changed();
    }

    fn limits_are_full(&self) -> bool {
        self.limits.are_full()
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
        self.limits.accepted();
        self.staging = None;
        self.push_trouble = None;
        self.trust_definitions();
        self.be_lively();
        self.look_at_outbox();
    }

    /// Integrates what has waited longest: `events` events of it, and the rest of their unit.
    fn integrate(&mut self, events: usize) {
        let Some((page, end)) = self.pages.part(events) else { return };
        match self.store.integrate(&page, None, self.now.wall_ms) {
            Ok(Outcome::Done(done)) => {
                self.pages.integrated(end);
                if std::mem::take(&mut self.no_page) {
                    self.succeeded();
                }
                self.note_parts();
                if done.settled() > 0 {
                    // What is settled is no longer in the outbox, and may be in what is staged.
                    self.staging = None;
                }
                self.count(done);
            }
            Ok(Outcome::NeedsLonger) => self.lengthen(end),
            Err(error) if error.kind() == Kind::Storage => self.local_trouble(error),
            Err(error) => {
                // A page that is not one is fetched again.
                self.restart_pages();
                self.unreadable(error);
            }
        }
    }

    pub(in crate::sync) fn restart_pages(&mut self) {
        self.void_flight();
        match self.store.place() {
            Ok(cursor) => self.pages.restart(cursor),
            Err(error) => self.local_trouble(error),
        }
    }

    /// What ends at `end` is integrated only with what follows it.
    fn lengthen(&mut self, end: Offset) {
        if self.pages.lengthen(end) {
            return;
        }
        match self.store.place() {
            Ok(cursor) => {
                let message = format!(
                    "the log after event {} cannot be applied, however much of it is read",
                    cursor.seq
                );
                let error = Error::new(Code::LogNotApplied, message);
                // What waits is of no use, and may not be what is there next time.
                self.pages.restart(cursor);
                self.refused(error, SyncState::Trouble);
            }
            Err(error) => self.local_trouble(error),
        }
    }
}
