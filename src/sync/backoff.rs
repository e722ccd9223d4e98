//! The wait before a request is tried again: exponential, with full jitter, limited.
//!
//! With full jitter a wait is any time between zero and the ceiling, with equal probability. This
//! spreads the requests of many replicas that have lost the remote at the same moment. Half the
//! jitter would spread them half as much.

/// The ceiling of the first wait, in ms. A lost packet or a restarting proxy is usually over by
/// then.
pub const FIRST_MS: u64 = 250;
/// The greatest ceiling, in ms. With a longer one, a person would notice the network's return
/// before the replica does.
pub const CAP_MS: u64 = 30_000;

/// The waits after consecutive failures. Two with the same seed give the same waits.
#[derive(Clone, Debug)]
pub struct Backoff {
    failures: u32,
    random: fastrand::Rng,
}

impl Backoff {
    /// Without a failure so far.
    pub fn new(seed: u64) -> Self {
        Backoff { failures: 0, random: fastrand::Rng::with_seed(seed) }
    }

    /// Records a failure, and returns the wait after it in ms: at least 1, at most [`CAP_MS`].
    pub fn fail(&mut self) -> u64 {
        let ceiling = FIRST_MS.saturating_mul(1 << self.failures.min(16)).min(CAP_MS);
        self.failures = self.failures.saturating_add(1);
        self.random.u64(1..=ceiling)
    }

    /// Records a success: the next wait is short again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The number of consecutive failures.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_cap_and_fill_their_range() {
        let mut greatest = [0; 12];
        let mut least = [u64::MAX; 12];
        for seed in 0..500 {
            let mut backoff = Backoff::new(seed);
            for round in 0..greatest.len() {
                let wait = backoff.fail();
                greatest[round] = wait.max(greatest[round]);
                least[round] = wait.min(least[round]);
            }
        }
        for round in 0..greatest.len() {
            let ceiling = (FIRST_MS << round).min(CAP_MS);
            assert!(greatest[round] <= ceiling, "round {round}");
            assert!(greatest[round] > ceiling * 9 / 10, "round {round}");
            assert!(least[round] >= 1 && least[round] < ceiling / 10, "round {round}");
        }
    }

    #[test]
    fn success_starts_anew_and_a_seed_repeats() {
        let mut one = Backoff::new(9);
        let mut other = Backoff::new(9);
        for _ in 0..8 {
            assert_eq!(one.fail(), other.fail());
        }
        assert_eq!(one.failures(), 8);
        one.reset();
        assert!(one.fail() <= FIRST_MS);
    }

    #[test]
    fn no_count_of_failures_is_too_great() {
        let mut backoff = Backoff { failures: u32::MAX - 1, random: fastrand::Rng::with_seed(1) };
        for _ in 0..3 {
            assert!((1..=CAP_MS).contains(&backoff.fail()));
        }
        assert_eq!(backoff.failures(), u32::MAX);
    }
}
