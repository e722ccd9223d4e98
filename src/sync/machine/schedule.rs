//! When the next request may go out.
//!
//! Four times decide it, all in steady ms: when the next poll is due, until when nothing is sent
//! because something failed, until when pushes wait, and until when polls are short because
//! somebody is at work on the other side.

use crate::sync::backoff::Backoff;
use crate::sync::machine::io::Now;

/// The longest time between two pulls, in ms, unless it is set otherwise. A change by the web
/// application is to arrive within five seconds, the request and the page included.
pub const POLL_MS: u64 = 4_500;
/// The same while the replica is active.
pub const ACTIVE_POLL_MS: u64 = 1_000;
/// How long a replica stays active after its last change, in ms.
const ACTIVE_MS: u64 = 15_000;
/// How long to leave a remote alone that refused us, in ms: only a person can change its mind.
const REFUSED_RETRY_MS: u64 = 60_000;

/// The times of one machine.
///
/// * The waits after failures grow until something succeeds.
/// * A hold of pushes delays no pull; a failed request delays both.
pub(super) struct Schedule {
    now: Now,
    backoff: Backoff,
    /// For pushes that come too late for the schema that they were planned for.
    push_backoff: Backoff,
    poll_ms: u64,
    poll_at: u64,
    /// Nothing is sent before this.
    retry_at: u64,
    /// Nothing is pushed before this.
    push_at: u64,
    active_until: u64,
}

impl Schedule {
    /// All is due at once. `seed` is for the jitter of the waits.
    pub(super) fn new(poll_ms: u64, seed: u64) -> Self {
        Schedule {
            now: Now::default(),
            backoff: Backoff::new(seed),
            push_backoff: Backoff::new(seed.rotate_left(1)),
            poll_ms,
            poll_at: 0,
            retry_at: 0,
            push_at: 0,
            active_until: 0,
        }
    }

    /// Takes the time that the driver tells.
    pub(super) fn tick(&mut self, now: Now) {
        self.now = now;
    }

    pub(super) fn now(&self) -> Now {
        self.now
    }

    /// ms since 1970, for ids. A clock that is set to before 1970 counts as 1970.
    pub(super) fn epoch_ms(&self) -> u64 {
        u64::try_from(self.now.wall_ms).unwrap_or(0)
    }

    /// What failed before may work now: nothing waits any longer.
    pub(super) fn hurry(&mut self) {
        self.backoff.reset();
        self.poll_at = self.now.steady_ms;
        self.retry_at = self.now.steady_ms;
        self.push_at = self.now.steady_ms;
    }

    /// Something came or was pushed: polls are short from now on.
    pub(super) fn be_active(&mut self) {
        self.active_until = self.now.steady_ms + ACTIVE_MS;
    }

    pub(super) fn poll_now(&mut self) {
        self.poll_at = self.now.steady_ms;
    }

    /// The remote was read a moment ago: the next poll is after an interval.
    pub(super) fn poll_later(&mut self) {
        let active = self.now.steady_ms < self.active_until;
        let interval = if active { ACTIVE_POLL_MS.min(self.poll_ms) } else { self.poll_ms };
        self.poll_at = self.now.steady_ms + interval;
    }

    /// A request succeeded: the next wait after a failure is a short one.
    pub(super) fn succeeded(&mut self) {
        self.backoff.reset();
    }

    /// Something failed. Gives how long nothing is sent, in ms.
    pub(super) fn back_off(&mut self) -> u64 {
        let wait = self.backoff.fail();
        self.retry_at = self.now.steady_ms + wait;
        wait
    }

    /// A request failed, so the next one after the wait is a poll too.
    pub(super) fn poll_after_wait(&mut self) {
        self.poll_at = self.poll_at.min(self.retry_at);
    }

    /// Only a person can change what is wrong: nothing is sent for a minute.
    pub(super) fn leave_alone(&mut self) {
        self.retry_at = self.now.steady_ms + REFUSED_RETRY_MS;
        self.poll_at = self.retry_at;
    }

    /// Only a person can change why nothing is taken in: nothing is pushed for a minute.
    pub(super) fn hold_pushes(&mut self) {
        self.push_at = self.now.steady_ms + REFUSED_RETRY_MS;
    }

    /// Pushes wait a little, and longer each time. Pulls go on.
    pub(super) fn delay_pushes(&mut self) {
        self.push_at = self.now.steady_ms + self.push_backoff.fail();
    }

    /// A push went as it should.
    pub(super) fn pushed(&mut self) {
        self.push_backoff.reset();
    }

    pub(super) fn holds_pushes(&self) -> bool {
        self.now.steady_ms < self.push_at
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.now.steady_ms < self.retry_at
    }

    pub(super) fn is_poll_due(&self) -> bool {
        self.now.steady_ms >= self.poll_at
    }

    /// When there is something to do again, in steady ms: after now. `wants_push` says that there
    /// is something to push, `wants_poll` that a poll does not wait for its time, and
    /// `wants_page` that a page waits which could not be integrated.
    pub(super) fn next(&self, wants_push: bool, wants_poll: bool, wants_page: bool) -> u64 {
        let push = if wants_push { self.push_at } else { u64::MAX };
        // A page that could not be integrated waits for no poll.
        let page = if wants_page { self.retry_at } else { u64::MAX };
        // The answer to a request that was given up may have delayed the next poll.
        let poll = if wants_poll { self.retry_at } else { self.poll_at };
        push.min(poll).min(page).max(self.retry_at).max(self.now.steady_ms + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(steady_ms: u64) -> Schedule {
        let mut schedule = Schedule::new(POLL_MS, 7);
        schedule.tick(Now { steady_ms, wall_ms: 5 });
        schedule
    }

    #[test]
    fn the_earliest_of_what_is_wanted_counts_and_never_before_the_wait_is_over() {
        let mut schedule = at(1_000);
        schedule.poll_later();
        assert_eq!(schedule.next(false, false, false), 5_500);
        assert_eq!(schedule.next(true, false, false), 1_001, "never now: that would be a loop");
        schedule.hold_pushes();
        assert_eq!(schedule.next(true, false, false), 5_500);
        let wait = schedule.back_off();
        for (push, poll, page) in [(true, true, true), (false, true, false), (false, false, true)] {
            assert_eq!(schedule.next(push, poll, page), 1_000 + wait);
        }
        schedule.leave_alone();
        assert_eq!(schedule.next(true, true, true), 61_000);
        schedule.hurry();
        assert_eq!(schedule.next(true, true, true), 1_001);
        assert!(!schedule.holds_pushes() && !schedule.is_waiting() && schedule.is_poll_due());
    }

    #[test]
    fn polls_are_short_for_a_while_and_never_longer_than_was_set() {
        let mut schedule = at(1_000);
        schedule.be_active();
        schedule.poll_later();
        assert_eq!(schedule.next(false, false, false), 2_000);
        schedule.tick(Now { steady_ms: 16_000, wall_ms: 5 });
        schedule.poll_later();
        assert_eq!(schedule.next(false, false, false), 20_500);
        let mut quick = Schedule::new(300, 7);
        quick.be_active();
        quick.poll_later();
        assert_eq!(quick.next(false, false, false), 300);
    }
}
