//! The clocks of this computer. No other file of the library reads one.

use std::time::{Duration, Instant, SystemTime};

use crate::clock::Clock;
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

    /// Since it was started.
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

/// A new ULID, of the present.
pub(crate) fn fresh_ulid() -> ulid::Ulid {
    let now_ms = u64::try_from(Time::start().now().wall_ms).unwrap_or(0);
    Clock::default().stamp(now_ms, fastrand::u128(..))
}
