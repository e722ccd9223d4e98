//! The time of the next request.
//!
//! Three times decide, all in steady ms: when the next poll is due, until when nothing is sent
//! because something failed, and until when pushes wait. The waits between polls are short after a
//! change and then grow, because people at work make several changes in a row.

use crate::sync::backoff::Backoff;
use crate::sync::machine::io::Now;

/// The longest time between two pulls, in ms, unless another one is set. A change by the web
/// application should arrive within five seconds, with the request and the page.
pub const POLL_MS: u64 = 4_500;
/// The first wait for a poll after a change, in ms.
pub const SOON_MS: u64 = 200;
/// The most requests for a change until the waits are as long as without one ([`POLL_MS`]): the
/// request that pushes or pulls the change, and the polls after shorter waits.
#[cfg(any(test, feature = "internals"))]
pub const MAX_SOON_REQUESTS: usize = 40;
/// How slowly the waits grow: the wait after the n-th one is longer by n of these parts. So the
/// waits stay short for some seconds, and after half a minute they are as long as without a change.
const GROWTH_PARTS: u64 = 200;
/// How long to wait after a remote has refused us, in ms: only a person can change that.
const REFUSED_RETRY_MS: u64 = 60_000;

/// Whether an idle poll may ask only for the end of the log.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IdlePolls {
    /// No: something came or failed, so the next poll is a full one.
    NotYet,
    /// Yes: the remote was read since.
    Allowed,
    /// Not useful: an idle poll found another end of the log, and the log had nothing new.
    OfNoUse,
}

/// The times of one machine.
///
/// * The waits after failures grow until a request succeeds.
/// * Holding pushes delays no pull. A failed request delays both.
pub(super) struct Schedule {
    now: Now,
    backoff: Backoff,
    /// For pushes that were planned for an outdated schema.
    push_backoff: Backoff,
    poll_ms: u64,
    poll_at: u64,
    /// The next wait for a poll. The longest is `poll_ms`.
    wait_ms: u64,
    /// The number of reads of the remote since the last change.
    reads: u64,
    idle_polls: IdlePolls,
    /// The earliest time of the next request.
    retry_at: u64,
    /// The earliest time of the next push.
    push_at: u64,
}

impl Schedule {
    /// Everything is due at once. `seed` is for the jitter of the waits.
    pub(super) fn new(poll_ms: u64, seed: u64) -> Self {
        Schedule {
            now: Now::default(),
            backoff: Backoff::new(seed),
            push_backoff: Backoff::new(seed.rotate_left(1)),
            poll_ms,
            poll_at: 0,
            wait_ms: poll_ms,
            reads: 0,
            idle_polls: IdlePolls::NotYet,
            retry_at: 0,
            push_at: 0,
        }
    }

    /// Sets the time, from the driver.
    pub(super) fn tick(&mut self, now: Now) {
        self.now = now;
    }

    pub(super) fn now(&self) -> Now {
        self.now
    }

    /// ms since 1970, for ids. A clock before 1970 counts as 1970.
    pub(super) fn epoch_ms(&self) -> u64 {
        u64::try_from(self.now.wall_ms).unwrap_or(0)
    }

    /// A request that failed may succeed now: all waits end.
    pub(super) fn hurry(&mut self) {
        self.backoff.reset();
        self.ask_for_all();
        self.poll_at = self.now.steady_ms;
        self.retry_at = self.now.steady_ms;
        self.push_at = self.now.steady_ms;
    }

    /// Something came or was pushed: the next polls are soon.
    pub(super) fn be_active(&mut self) {
        self.wait_ms = SOON_MS.min(self.poll_ms);
        self.reads = 0;
        self.idle_polls = IdlePolls::NotYet;
    }

    /// Whether the next poll may ask only for the end of the log. While something is in progress,
    /// or after a failure, it is a full one, so that news need no second request.
    pub(super) fn may_idle_poll(&self) -> bool {
        self.idle_polls == IdlePolls::Allowed && self.wait_ms == self.poll_ms
    }

    fn ask_for_all(&mut self) {
        if self.idle_polls == IdlePolls::Allowed {
            self.idle_polls = IdlePolls::NotYet;
        }
    }

    /// An idle poll has found another end of the log: the next poll is a full one. If that brings
    /// nothing, idle polls are not useful.
    pub(super) fn idle_poll_differs(&mut self) {
        self.idle_polls = IdlePolls::OfNoUse;
        self.poll_now();
    }

    pub(super) fn poll_now(&mut self) {
        self.poll_at = self.now.steady_ms;
    }

    /// The remote was just read: the next poll is after a wait, and the wait after that is longer.
    pub(super) fn poll_later(&mut self) {
        self.poll_at = self.now.steady_ms + self.wait_ms;
        let longer = self.wait_ms + self.wait_ms * self.reads / GROWTH_PARTS;
        self.wait_ms = longer.min(self.poll_ms);
        self.reads += 1;
        if self.idle_polls == IdlePolls::NotYet {
            self.idle_polls = IdlePolls::Allowed;
        }
    }

    /// A request succeeded: the next wait after a failure is short.
    pub(super) fn succeeded(&mut self) {
        self.backoff.reset();
    }

    /// Something failed. Returns for how long nothing is sent, in ms.
    pub(super) fn back_off(&mut self) -> u64 {
        let wait = self.backoff.fail();
        self.ask_for_all();
        self.retry_at = self.now.steady_ms + wait;
        wait
    }

    /// A request failed, so the next one after the wait is also a poll.
    pub(super) fn poll_after_wait(&mut self) {
        self.poll_at = self.poll_at.min(self.retry_at);
    }

    /// Only a person can fix the problem: nothing is sent for a minute.
    pub(super) fn leave_alone(&mut self) {
        self.ask_for_all();
        self.retry_at = self.now.steady_ms + REFUSED_RETRY_MS;
        self.poll_at = self.retry_at;
    }

    /// Only a person can make the remote accept pushes: nothing is pushed for a minute.
    pub(super) fn hold_pushes(&mut self) {
        self.push_at = self.now.steady_ms + REFUSED_RETRY_MS;
    }

    /// Delays pushes a little, and longer each time. Pulls continue.
    pub(super) fn delay_pushes(&mut self) {
        self.push_at = self.now.steady_ms + self.push_backoff.fail();
    }

    /// A push succeeded.
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

    /// When there is something to do again, in steady ms, after now. `wants_push` is whether there
    /// is something to push, `wants_poll` whether a poll should not wait for its time, and
    /// `wants_page` whether a page waits that could not be integrated.
    pub(super) fn next(&self, wants_push: bool, wants_poll: bool, wants_page: bool) -> u64 {
        let push = if wants_push { self.push_at } else { u64::MAX };
        // A page that could not be integrated does not wait for a poll.
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

    /// The waits after a change, up to the first one that is as long as without a change.
    fn waits(schedule: &mut Schedule) -> Vec<u64> {
        let mut waits = Vec::new();
        while waits.last() != Some(&schedule.poll_ms) {
            schedule.poll_later();
            let due = schedule.next(false, false, false);
            waits.push(due - schedule.now.steady_ms);
            schedule.tick(Now { steady_ms: due, wall_ms: 5 });
        }
        waits
    }

    #[test]
    fn the_waits_after_a_change_are_these() {
        let mut schedule = at(1_000);
        assert_eq!(waits(&mut schedule), [POLL_MS], "nothing goes on");
        schedule.be_active();
        let waits = waits(&mut schedule);
        let expected = [
            200, 200, 201, 203, 206, 210, 215, 221, 228, 237, 247, 259, 273, 289, 307, 328, 352,
            380, 412, 449, 491, 540, 596, 661, 737, 825, 928, 1_048, 1_189, 1_355, 1_551, 1_783,
            2_059, 2_388, 2_782, 3_254, 3_823, 4_500,
        ];
        assert_eq!(waits, expected);
        // The change itself is a request too, and the last wait would happen anyway.
        assert!(waits.len() <= MAX_SOON_REQUESTS);
    }

    #[test]
    fn only_an_idle_poll_may_look() {
        let mut schedule = at(1_000);
        assert!(!schedule.may_idle_poll(), "nothing is known yet");
        schedule.poll_later();
        assert!(schedule.may_idle_poll());
        schedule.be_active();
        schedule.poll_later();
        assert!(!schedule.may_idle_poll(), "something goes on");
        waits(&mut schedule);
        assert!(schedule.may_idle_poll());
        let back_off = |schedule: &mut Schedule| assert!(schedule.back_off() < 1_000);
        for fails in [Schedule::hurry as fn(&mut Schedule), back_off, Schedule::leave_alone] {
            fails(&mut schedule);
            assert!(!schedule.may_idle_poll(), "after a failure all is asked for");
            schedule.poll_later();
            assert!(schedule.may_idle_poll());
        }
        schedule.idle_poll_differs();
        schedule.poll_later();
        assert!(!schedule.may_idle_poll(), "it was of no use");
        schedule.be_active();
        waits(&mut schedule);
        assert!(schedule.may_idle_poll(), "it was");
    }

    proptest::proptest! {
        /// For any time between polls and any duration of requests: after a change the next poll is
        /// soon, each further wait is at least as long, none is longer than a poll, and few are
        /// shorter.
        #[test]
        fn a_change_is_followed_by_few_polls(
            poll_ms in 1..20_000_u64,
            reads_before in 0..100_usize,
            again in 0..60_usize,
            took in proptest::collection::vec(0..2_000_u64, 120),
        ) {
            let mut schedule = Schedule::new(poll_ms, 7);
            schedule.be_active();
            for _ in 0..reads_before {
                schedule.poll_later();
            }
            let (mut shorter, mut before) = (0, 0);
            for (read, took) in took.into_iter().enumerate() {
                if read == 0 || read == again {
                    schedule.be_active();
                    (shorter, before) = (0, 0);
                }
                let answered = schedule.now.steady_ms + took;
                schedule.tick(Now { steady_ms: answered, wall_ms: 5 });
                schedule.poll_later();
                let due = schedule.next(false, false, false);
                let wait = due - answered;
                proptest::prop_assert!(wait >= before && wait <= poll_ms);
                let first = read == 0 || read == again;
                proptest::prop_assert!(!first || wait == SOON_MS.min(poll_ms));
                shorter += usize::from(wait < poll_ms.min(POLL_MS));
                before = wait;
                schedule.tick(Now { steady_ms: due, wall_ms: 5 });
                proptest::prop_assert!(schedule.is_poll_due());
            }
            proptest::prop_assert!(shorter < MAX_SOON_REQUESTS, "{shorter} short waits");
            proptest::prop_assert_eq!(before, poll_ms, "the growth ends at the poll");
        }
    }
}
