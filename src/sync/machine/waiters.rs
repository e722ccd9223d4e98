//! Those who wait for a sync: what each of them asked for, and whether it is done.
//!
//! A sync is done when what was pending at the call has its verdict, and what the remote had at the
//! call is integrated. What is written meanwhile is not waited for, so an application that writes
//! faster than a push travels keeps nobody waiting.

use crate::error::{Error, Result};
use crate::event::Seq;
use crate::sync::machine::Machine;
use crate::sync::machine::io::{Effect, Now, RequestId, Ticket};
use crate::sync::status::Summary;

/// How often a sync that somebody waits for is tried before they are told.
const SYNC_ATTEMPTS: u32 = 3;

/// Somebody who waits.
pub(in crate::sync) struct Waiter {
    ticket: Ticket,
    before: Summary,
    since: Now,
    /// Only a request after this one counts.
    after: RequestId,
    /// What is pending up to this outbox number is to have its verdict. `None` until it is known:
    /// the first sync may put events in front.
    last: Option<i64>,
    /// The end of the remote's log when it was looked at after the call, which is to be integrated.
    target: Option<Seq>,
    failures: u32,
}

impl Waiter {
    /// The file is another state: what was waited for is asked for once more.
    pub(in crate::sync) fn begin_anew(&mut self) {
        (self.last, self.target) = (None, None);
    }

    /// Whether the remote was looked at since the call.
    pub(in crate::sync) fn has_looked(&self) -> bool {
        self.target.is_some()
    }
}

/// How far somebody's sync is.
enum Progress {
    Waits,
    Done,
    /// All is here that can be pulled, and pushing waits for a person.
    Held(Error),
}

impl Machine {
    /// From now on somebody waits.
    pub(in crate::sync) fn wait_for(&mut self, ticket: Ticket) {
        self.waiters.push(Waiter {
            ticket,
            before: self.totals,
            since: self.now,
            after: self.last_request,
            last: None,
            target: None,
            failures: 0,
        });
    }

    /// The request `id` has told how far the remote's log goes, and has brought something new or
    /// nothing.
    pub(in crate::sync) fn looked(&mut self, id: RequestId, new: bool) {
        self.last_look = id;
        if new {
            self.be_lively();
        }
        let (look, head) = (self.last_look, self.pages.head());
        let ends = !self.pages.more();
        if ends && self.pages.front().is_none() && std::mem::take(&mut self.no_page) {
            // The log ends here, and there is no page to be one.
            self.succeeded();
        }
        for waiter in self.waiters.iter_mut().filter(|waiter| waiter.after < look) {
            let target = waiter.target.get_or_insert(head);
            // An end that an earlier answer told of and that there is not is not waited for.
            *target = if ends { head.min(*target) } else { *target };
        }
    }

    /// Tells those whose sync is done.
    pub(in crate::sync) fn settle_waiters(&mut self) {
        if self.init.is_some() {
            return;
        }
        let (mut kept, mut trouble) = (Vec::new(), None);
        for mut waiter in std::mem::take(&mut self.waiters) {
            match self.progress(&mut waiter) {
                Ok(Progress::Done) => {
                    let mut summary = self.totals.since(&waiter.before);
                    let ms = self.now.steady_ms - waiter.since.steady_ms;
                    summary.seconds = ms as f64 / 1000.0;
                    self.effects.push_back(Effect::Settled(waiter.ticket, Ok(summary)));
                }
                Ok(Progress::Held(error)) => {
                    self.effects.push_back(Effect::Settled(waiter.ticket, Err(error)));
                }
                Ok(Progress::Waits) => kept.push(waiter),
                Err(error) => {
                    kept.push(waiter);
                    trouble = Some(error);
                }
            }
        }
        self.waiters = kept;
        if let Some(error) = trouble {
            self.local_trouble(error);
        }
    }

    fn progress(&self, waiter: &mut Waiter) -> Result<Progress> {
        let last = match waiter.last {
            Some(last) => last,
            None => *waiter.last.insert(self.store.newest()?),
        };
        let Some(target) = waiter.target else { return Ok(Progress::Waits) };
        let (cursor, settled) = self.store.settled_up_to(last)?;
        Ok(match self.push_is_held() {
            _ if cursor < target || self.is_renewing() => Progress::Waits,
            _ if settled => Progress::Done,
            Some(error) => Progress::Held(error),
            None => Progress::Waits,
        })
    }

    /// Gives up for those who have waited through `SYNC_ATTEMPTS` failures.
    pub(in crate::sync) fn fail_waiters(&mut self, error: &Error, weight: u32) {
        let (mut kept, mut failed) = (Vec::new(), Vec::new());
        for mut waiter in self.waiters.drain(..) {
            waiter.failures += weight;
            if waiter.failures < SYNC_ATTEMPTS { kept.push(waiter) } else { failed.push(waiter) }
        }
        self.waiters = kept;
        for waiter in failed {
            self.effects.push_back(Effect::Settled(waiter.ticket, Err(error.clone())));
        }
    }

    /// Tells everybody that nothing will come of it.
    pub(in crate::sync) fn dismiss_waiters(&mut self, error: &Error) {
        self.fail_waiters(error, SYNC_ATTEMPTS);
    }
}
