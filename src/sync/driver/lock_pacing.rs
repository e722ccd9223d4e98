//! How long to hold the write lock, and how long to leave it free in between.
//!
//! SQLite's lock has no queue. A writer that finds it taken looks again after 1, 2, 5, 10, 15, 20,
//! 25, 25, 25, 50, 50 and then every 100 ms (SQLite's busy handler), and no other connection can
//! see that it waits. So a catch-up cannot make way when a writer comes. It can only leave gaps in
//! which writers find the lock free. While others write, the lock is held for [`HOLD_US`] and then
//! left free for [`REST_MS`]: a writer that comes during the hold looks for the third time 3 ms,
//! and for the fourth time 8 ms after it came, and one of the two looks is in the gap. If nobody
//! else has written for [`POLITE_MS`], the lock is held for [`LONG_HOLD_US`] at a time without
//! gaps, except for [`LONG_REST_MS`] after each [`UNBROKEN_MS`]. Every waiting writer looks during
//! that gap, and its commit ends this mode.
//!
//! # Caveats
//!
//! * A unit is integrated as a whole. If that takes longer than the hold, the hold is longer.
//! * The first write after a pause may wait for up to a second during a long catch-up.

/// How long to hold the write lock, in microseconds.
const HOLD_US: u64 = 5_000;
/// The same while nobody else writes: the decoding thread is ahead for longer then.
const LONG_HOLD_US: u64 = 20_000;
/// How long the lock is left free after each hold while others write, in ms. The argument above
/// needs at least 5. The clock's resolution costs up to one.
const REST_MS: u64 = 6;
/// For how long after another connection's commit others count as writing, in ms. A person who
/// works with the application pauses for seconds.
const POLITE_MS: u64 = 10_000;
/// How long the lock may be taken again and again without a gap, in ms. A writer waits for at most
/// 5 s with the usual timeout, and a person should not have to.
const UNBROKEN_MS: u64 = 900;
/// The gap after that, in ms: longer than the longest time between two looks.
const LONG_REST_MS: u64 = 110;
/// The fewest events of a local transaction, apart from units. With fewer, the transaction itself
/// takes most of the time.
const MIN_EVENTS: usize = 64;
/// The most events of a local transaction. A larger one is not faster, and holds the write lock for
/// longer. This is independent of the size of a request (`statements::MAX_EVENTS`).
const MAX_TRANSACTION_EVENTS: usize = 4_000;
/// The number of events of the first transaction, before anything was measured.
const FIRST_EVENTS: usize = 256;

/// The pacing of integrating.
#[derive(Clone, Copy, Debug)]
pub(in crate::sync) struct LockPacing {
    events: usize,
    /// When another connection was last seen to have committed, in steady ms.
    other: Option<u64>,
    /// When the last gap ended, in steady ms.
    since: u64,
    /// When the last transaction ended, in steady ms.
    last: u64,
    /// Whether the driver was told to be polite.
    polite: bool,
}

impl LockPacing {
    pub(in crate::sync) fn new() -> Self {
        LockPacing { events: FIRST_EVENTS, other: None, since: 0, last: 0, polite: true }
    }

    /// The number of events to integrate in the next transaction.
    pub(in crate::sync) fn events(&self) -> usize {
        self.events
    }

    /// Another connection has committed.
    pub(in crate::sync) fn others_wrote(&mut self, now_ms: u64) {
        if !self.is_polite(now_ms) {
            let fitting = self.events as u64 * HOLD_US / LONG_HOLD_US;
            self.events = (fitting as usize).max(MIN_EVENTS);
        }
        self.other = Some(now_ms);
    }

    /// Whether another connection has written recently.
    pub(in crate::sync) fn is_polite(&self, now_ms: u64) -> bool {
        self.other.is_some_and(|other| now_ms < other + POLITE_MS)
    }

    /// Whether another connection has written recently, if that has changed since the last call.
    pub(in crate::sync) fn new_politeness(&mut self, now_ms: u64) -> Option<bool> {
        let polite = self.is_polite(now_ms);
        (std::mem::replace(&mut self.polite, polite) != polite).then_some(polite)
    }

    /// The connection was replaced by a new one, with the initial politeness.
    pub(in crate::sync) fn forget_politeness(&mut self) {
        self.polite = true;
    }

    /// A transaction was begun, and took this long. Returns how long to leave the lock free, in ms.
    pub(in crate::sync) fn took(&mut self, begun_ms: u64, took_us: u64) -> u64 {
        let hold = if self.is_polite(begun_ms) { HOLD_US } else { LONG_HOLD_US };
        let fitting = self.events as u64 * hold / took_us.max(1);
        // A single measurement may be of a busy moment. Several agree.
        let fitting = (fitting as usize).clamp(self.events / 2, self.events * 2);
        self.events = fitting.clamp(MIN_EVENTS, MAX_TRANSACTION_EVENTS);
        let end = begun_ms + took_us / 1_000;
        if begun_ms > self.last + LONG_REST_MS {
            self.since = begun_ms;
        }
        self.last = end;
        if self.is_polite(end) {
            self.since = end;
            return REST_MS;
        }
        if end - self.since >= UNBROKEN_MS {
            self.since = end + LONG_REST_MS;
            return LONG_REST_MS;
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sleeps of the busy handler, in ms.
    const SLEEPS: [u64; 12] = [1, 2, 5, 10, 15, 20, 25, 25, 25, 50, 50, 100];

    /// How long a writer waits that comes at `come`, in microseconds. `busy` is whether the lock is
    /// taken at a time.
    fn wait(come: u64, busy: impl Fn(u64) -> bool) -> u64 {
        let mut sleeps = SLEEPS.into_iter().chain(std::iter::repeat(100));
        let mut at = come;
        while busy(at) {
            at += sleeps.next().unwrap() * 1_000;
        }
        at - come
    }

    #[test]
    fn while_others_write_every_gap_is_found_at_once() {
        let hold = 8_000;
        let mut pacing = LockPacing::new();
        pacing.others_wrote(0);
        let rest = (pacing.took(10, hold) - 1) * 1_000;
        for come in (0..hold).step_by(10) {
            let waited = wait(come, |at| at % (hold + rest) < hold);
            assert!(waited <= 8_000, "{waited} us for one that comes at {come}");
        }
    }

    #[test]
    fn nobody_waits_for_the_end_of_a_long_catch_up() {
        let mut pacing = LockPacing::new();
        let (mut now, mut gaps) = (0, Vec::new());
        while now < 20_000 {
            let rest = pacing.took(now, 5_000);
            if rest > 0 {
                gaps.push((now + 5) * 1_000..(now + 5 + rest) * 1_000);
            }
            now += 5 + rest;
        }
        assert!((15..25).contains(&gaps.len()), "{gaps:?}");
        for come in (0..15_000_000).step_by(777) {
            let waited = wait(come, |at| !gaps.iter().any(|gap| gap.contains(&at)));
            assert!(waited < 1_200_000, "{waited} us for one that comes at {come}");
        }
    }

    #[test]
    fn a_transaction_takes_about_as_long_as_it_should() {
        for us_per_event in [1, 5, 50, 400] {
            for (others, wanted) in [(false, LONG_HOLD_US), (true, HOLD_US)] {
                let mut pacing = LockPacing::new();
                for round in 0..20 {
                    if others {
                        pacing.others_wrote(round * 10);
                    }
                    pacing.took(round * 10, pacing.events() as u64 * us_per_event);
                }
                let hold = pacing.events() as u64 * us_per_event;
                let bounded =
                    pacing.events() == MIN_EVENTS || pacing.events() == MAX_TRANSACTION_EVENTS;
                let near = wanted * 4 / 5..=wanted * 6 / 5;
                assert!(bounded || near.contains(&hold), "{hold} us");
            }
        }
    }

    #[test]
    fn one_transaction_changes_the_next_by_no_more_than_half_or_double() {
        for (took_us, events) in [(15_000, 341), (1_000_000, 128), (0, 512)] {
            let mut pacing = LockPacing::new();
            pacing.took(0, took_us);
            assert_eq!(pacing.events(), events);
        }
        let mut pacing = LockPacing::new();
        (0..5).for_each(|_| _ = pacing.took(0, 0));
        assert_eq!(pacing.events(), MAX_TRANSACTION_EVENTS);
        pacing.others_wrote(7);
        assert_eq!(pacing.events(), MAX_TRANSACTION_EVENTS / 4, "what fits into the shorter hold");
        pacing.others_wrote(8);
        assert_eq!(pacing.events(), MAX_TRANSACTION_EVENTS / 4, "which it is already");
        assert!(pacing.is_polite(7 + POLITE_MS) && !pacing.is_polite(8 + POLITE_MS));
    }

    #[test]
    fn a_pause_that_a_writer_must_have_found_begins_a_new_run() {
        for (begun_ms, rest_ms) in [(500, LONG_REST_MS), (610, LONG_REST_MS), (611, 0)] {
            let mut pacing = LockPacing::new();
            assert_eq!(pacing.took(0, 500_000), 0);
            assert_eq!(pacing.took(begun_ms, 400_000), rest_ms, "{begun_ms}");
        }
    }
}
