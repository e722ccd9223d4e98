//! The callers that wait for a sync, and the totals that they receive.
//!
//! A sync is done when the events that were pending at the call have their verdicts, and the log
//! that the remote had at the call is integrated. Later writes are not waited for. So a caller does
//! not wait for ever if an application writes faster than it can be pushed.

use crate::error::{Error, Result};
use crate::event::Seq;
use crate::remote::Answer;
use crate::store::{Integrated, Store};
use crate::sync::machine::io::{Effect, Now, RequestId, Ticket};
use crate::sync::status::Summary;

/// How many failures a sync survives before its caller receives the error.
const SYNC_ATTEMPTS: u32 = 3;

/// A caller that waits.
struct Waiter {
    ticket: Ticket,
    /// The totals at the call.
    before: Summary,
    since: Now,
    /// Only a request after this one counts.
    after: RequestId,
    /// The events up to this outbox number must have their verdicts. `None` until it is known: the
    /// first sync may insert events before others.
    last: Option<i64>,
    /// The end of the remote's log when it was read after the call. It must be integrated.
    target: Option<Seq>,
    failures: u32,
}

/// The progress of a caller's sync.
enum WaiterState {
    Waits,
    Done,
    /// The pull is done, and pushes wait for a person.
    Held(Error),
}

/// The callers that wait at one machine.
///
/// * Each receives exactly one result, in the order of the calls.
#[derive(Default)]
pub(super) struct Waiters {
    waiting: Vec<Waiter>,
    totals: Summary,
}

impl Waiters {
    /// Adds a caller. `last` is the newest request so far.
    pub(super) fn add(&mut self, ticket: Ticket, since: Now, last: RequestId) {
        self.waiting.push(Waiter {
            ticket,
            before: self.totals,
            since,
            after: last,
            last: None,
            target: None,
            failures: 0,
        });
    }

    /// The file is in another state: the targets of all callers are determined again.
    pub(super) fn begin_anew(&mut self) {
        for waiter in &mut self.waiting {
            (waiter.last, waiter.target) = (None, None);
        }
    }

    /// Whether a caller waits for a request that was not sent or not answered yet.
    pub(super) fn want_request(&self) -> bool {
        self.waiting.iter().any(|waiter| waiter.target.is_none())
    }

    /// The request `id` has reported that the remote's log ends at `head`. `ends` is whether all of
    /// it is here.
    pub(super) fn log_read(&mut self, id: RequestId, head: Seq, ends: bool) {
        for waiter in self.waiting.iter_mut().filter(|waiter| waiter.after < id) {
            let target = waiter.target.get_or_insert(head);
            // An earlier reply may have reported a log head that no longer exists. Wait only up to
            // the current head.
            *target = if ends { head.min(*target) } else { *target };
        }
    }

    /// Removes the callers whose sync is done, and returns their results. `held` is the reason why
    /// pushes are held, if they are. `renewing` is whether the pending events wait for a new
    /// identity.
    ///
    /// # Errors
    ///
    /// Returned beside the results: `Storage` when the store cannot be read.
    /// As what is told to them, beside it: `Storage` when the store cannot be read.
    pub(super) fn settle(
        &mut self,
        store: &Store,
        now: Now,
        held: Option<&Error>,
        renewing: bool,
    ) -> (Vec<Effect>, Option<Error>) {
        let (mut told, mut kept, mut trouble) = (Vec::new(), Vec::new(), None);
        for mut waiter in std::mem::take(&mut self.waiting) {
            match waiter.standing(store, held, renewing) {
                Ok(WaiterState::Done) => {
                    let mut summary = self.totals.since(&waiter.before);
                    let ms = now.steady_ms - waiter.since.steady_ms;
                    summary.seconds = ms as f64 / 1000.0;
                    told.push(Effect::Settled(waiter.ticket, Ok(summary)));
                }
                Ok(WaiterState::Held(error)) => {
                    told.push(Effect::Settled(waiter.ticket, Err(error)));
                }
                Ok(WaiterState::Waits) => kept.push(waiter),
                Err(error) => {
                    kept.push(waiter);
                    trouble = Some(error);
                }
            }
        }
        self.waiting = kept;
        (told, trouble)
    }

    /// Something failed. Removes the callers that have waited through [`SYNC_ATTEMPTS`] failures.
    pub(super) fn failed(&mut self, error: &Error) -> Vec<Effect> {
        self.fail(error, 1)
    }

    /// No sync will be done any more: removes all callers.
    pub(super) fn dismiss(&mut self, error: &Error) -> Vec<Effect> {
        self.fail(error, SYNC_ATTEMPTS)
    }

    fn fail(&mut self, error: &Error, weight: u32) -> Vec<Effect> {
        self.waiting.iter_mut().for_each(|waiter| waiter.failures += weight);
        let failed = self.waiting.extract_if(.., |waiter| waiter.failures >= SYNC_ATTEMPTS);
        failed.map(|waiter| Effect::Settled(waiter.ticket, Err(error.clone()))).collect()
    }

    /// A request was answered.
    pub(super) fn count_answer(&mut self, answer: &Answer) {
        self.totals.requests += 1;
        self.totals.bytes_up += answer.bytes_up;
        self.totals.bytes_down += answer.bytes_down;
    }

    /// The remote accepted a push.
    pub(super) fn count_pushed(&mut self, events: usize) {
        self.totals.pushed += events as u64;
    }

    /// A transaction has integrated `done`.
    pub(super) fn count_integrated(&mut self, done: &Integrated) {
        let totals = &mut self.totals;
        let own = done.settled_applied + done.settled_superseded + done.settled_rejected;
        totals.applied += done.settled_applied as u64;
        totals.superseded += done.settled_superseded as u64;
        totals.rejected += done.settled_rejected as u64;
        totals.pulled += done.pulled.saturating_sub(own) as u64;
    }
}

impl Waiter {
    fn standing(
        &mut self,
        store: &Store,
        held: Option<&Error>,
        renewing: bool,
    ) -> Result<WaiterState> {
        let last = match self.last {
            Some(last) => last,
            None => *self.last.insert(store.newest()?),
        };
        let Some(target) = self.target else { return Ok(WaiterState::Waits) };
        let (cursor, settled) = store.settled_up_to(last)?;
        Ok(match held {
            _ if cursor < target || renewing => WaiterState::Waits,
            _ if settled => WaiterState::Done,
            Some(error) => WaiterState::Held(error.clone()),
            None => WaiterState::Waits,
        })
    }
}
