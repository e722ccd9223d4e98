//! The clock that stamps ULIDs. It is a plain value: the caller passes the time and the random
//! bits.

use ulid::Ulid;

/// The greatest time part: 48 bits of milliseconds, which last until the year 10889.
const MAX_MS: u64 = (1 << 48) - 1;

/// Makes ULIDs that always rise, even if the machine's clock goes back.
///
/// * Each ULID is greater than every one that this clock made before.
/// * Its time part is the given time or, if a newer one was seen, that one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    newest: Ulid,
}

impl Clock {
    /// The next ULID at `now_ms`, in ms since 1970. The low 80 bits of `random` go into its tail.
    pub fn stamp(&mut self, now_ms: u64, random: u128) -> Ulid {
        let fresh = Ulid::from_parts(now_ms.min(MAX_MS), random);
        // If the time is not later than the newest ULID's, the newest one's tail is counted up. It
        // overflows into the time part once in 2^80 times. After the greatest ULID there is no next
        // one.
        self.newest =
            if fresh > self.newest { fresh } else { Ulid(self.newest.0.saturating_add(1)) };
        self.newest
    }
}

/// A duration for people: `3 s`, `12 min`, `5 h`, `9 days`.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_though_the_time_does_not() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut clock = Clock::default();
        let mut last = Ulid::nil();
        for _ in 0..10_000 {
            // The clock is set back and forth by up to a minute.
            let ulid = clock.stamp(1_700_000_000_000 + random.u64(..60_000), random.u128(..));
            assert!(ulid > last, "{ulid} after {last}");
            last = ulid;
        }
    }

    #[test]
    fn a_full_tail_carries_over_into_the_time() {
        let ahead = Ulid::from_parts(2_000_000_000_000, u128::MAX);
        let mut clock = Clock { newest: ahead };
        let next = clock.stamp(1_700_000_000_000, 5);
        assert!(next > ahead);
        assert_eq!(next.timestamp_ms(), 2_000_000_000_001);
    }

    #[test]
    fn a_time_ahead_is_taken_as_it_is() {
        let mut clock = Clock { newest: Ulid::from_parts(10, 7) };
        assert_eq!(clock.stamp(11, 3), Ulid::from_parts(11, 3));
        assert_eq!(clock.stamp(11, 3), Ulid::from_parts(11, 4));
    }

    #[test]
    fn lengths_of_time_for_people() {
        assert_eq!(
            [duration(5), duration(600), duration(9_000), duration(900_000)],
            ["5 s", "10 min", "2 h", "10 days"]
        );
    }

    #[test]
    fn the_end_of_time_is_not_passed() {
        let mut clock = Clock::default();
        assert_eq!(clock.stamp(u64::MAX, 1), Ulid::from_parts((1 << 48) - 1, 1));
        let mut clock = Clock { newest: Ulid(u128::MAX) };
        assert_eq!(clock.stamp(u64::MAX, 1), Ulid(u128::MAX), "there is no next one");
    }

    #[test]
    fn it_begins_above_what_it_is_given() {
        let mut clock = Clock { newest: Ulid::from_parts(10, 7) };
        assert_eq!(clock.stamp(9, 3), Ulid::from_parts(10, 8));
    }
}
