//! The clocks of this computer. No other file of the library reads one.

use std::time::{Duration, Instant, SystemTime};

use crate::event::clock::Clock;
use crate::sync::machine::io::Now;

/// The clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    start: Instant,
}

impl Time {
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn start() -> Self {
        Time { start: Instant::now() }
    }

    /// The time since the start.
    #[allow(clippy::disallowed_methods)]
    pub(in crate::sync) fn elapsed(self) -> Duration {
        self.start.elapsed()
    }

    #[allow(clippy::disallowed_methods)]
    pub(crate) fn now(self) -> Now {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now {
            steady_ms: self.elapsed().as_millis() as u64,
            wall_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
        }
    }
}

/// The present time in ms since 1970.
pub(crate) fn now_ms() -> i64 {
    Time::start().now().wall_ms
}

/// A new ULID with the present time.
pub(crate) fn fresh_ulid() -> ulid::Ulid {
    Clock::default().stamp(u64::try_from(now_ms()).unwrap_or(0), fastrand::u128(..))
}

/// If the wall clock advances this much more than the steady one, in ms, the computer was asleep or
/// the clock was set.
const JUMP_MS: i64 = 3_000;

/// Compares the two clocks, to notice that the computer was asleep.
pub(super) struct JumpDetector {
    last: Now,
}

impl JumpDetector {
    pub(super) fn new(now: Now) -> Self {
        JumpDetector { last: now }
    }

    /// Whether the clocks have moved apart since the last call. During sleep the steady clock stops
    /// on some systems, and runs on others.
    pub(super) fn has_jumped(&mut self, now: Now) -> bool {
        let wall = now.wall_ms - self.last.wall_ms;
        let steady = (now.steady_ms - self.last.steady_ms) as i64;
        self.last = now;
        (wall - steady).abs() > JUMP_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_asleep_or_set_back_has_jumped_once() {
        let at = |steady_ms, wall_ms| Now { steady_ms, wall_ms };
        let mut jumps = JumpDetector::new(at(5, 1_000));
        assert!(!jumps.has_jumped(at(10_005, 14_000)), "both have moved, but for a little");
        assert!(jumps.has_jumped(at(10_006, 17_002)));
        assert!(!jumps.has_jumped(at(10_007, 17_003)));
        assert!(jumps.has_jumped(at(10_008, 10_000)));
    }
}
