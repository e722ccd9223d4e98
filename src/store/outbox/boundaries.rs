//! The ends of transactions in the outbox, as far as they are known.
//!
//! The outbox itself does not separate transactions. But a reader sees a whole number of
//! transactions, so the newest number that it sees is the end of one. The thread that owns the
//! [`Store`](crate::store::Store) reads it from time to time. While that thread is busy, a
//! [`Watch`](super::watch::Watch) reads it on a connection of its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most boundaries that are kept: ten a second for an hour of writing without a push. Above
/// that some are dropped, which only makes ranges longer.
const MAX_BOUNDARIES: usize = 32_768;

/// Outbox numbers at which a transaction ended, rising.
#[derive(Debug, Default)]
pub(in crate::store) struct Boundaries(VecDeque<i64>);

/// Boundaries of events that are sent. They separate the lost transactions among these.
#[derive(Debug, Default)]
struct Past(VecDeque<i64>);

impl Boundaries {
    /// A transaction ended at `newest`. Two threads may report, so an older end may come late.
    fn note(&mut self, newest: i64) {
        let at = self.0.partition_point(|&end| end < newest);
        if self.0.get(at) == Some(&newest) {
            return;
        }
        self.0.insert(at, newest);
        if self.0.len() > MAX_BOUNDARIES {
            let mut keep = false;
            self.0.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// Moves the boundaries up to `sent` to `past`, except the newest.
    fn forget(&mut self, sent: i64, past: &mut Past) {
        while self.0.len() > 1 && self.0[0] <= sent {
            let end = self.0.pop_front().expect("there are two");
            if past.0.back().is_none_or(|&last| last < end) {
                past.0.push_back(end);
            }
        }
        let surplus = past.0.len().saturating_sub(MAX_BOUNDARIES);
        past.0.drain(..surplus);
    }

    /// The first boundary from `n` on.
    pub(in crate::store) fn from(&self, n: i64) -> Option<i64> {
        self.0.get(self.0.partition_point(|&end| end < n)).copied()
    }

    /// The last boundary up to `n`.
    pub(in crate::store) fn up_to(&self, n: i64) -> Option<i64> {
        let after = self.0.partition_point(|&end| end <= n);
        after.checked_sub(1).and_then(|at| self.0.get(at)).copied()
    }
}

/// Boundaries that a store and its watches share.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Shared {
    boundaries: Arc<Mutex<Boundaries>>,
    past: Arc<Mutex<Past>>,
}

impl Shared {
    /// The boundaries. No thread holds them for longer than one lookup.
    pub(in crate::store) fn lock(&self) -> MutexGuard<'_, Boundaries> {
        self.boundaries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first boundary from `n` on, also among events that are sent.
    pub(in crate::store) fn ended(&self, n: i64) -> Option<i64> {
        let past = self.past();
        let found = past.0.get(past.0.partition_point(|&end| end < n)).copied();
        drop(past);
        found.or_else(|| self.lock().from(n))
    }

    pub(in crate::store) fn note(&self, newest: i64) {
        self.lock().note(newest);
    }

    pub(in crate::store) fn forget(&self, sent: i64) {
        self.lock().forget(sent, &mut self.past());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_rise_whoever_comes_first() {
        let boundaries = Shared::default();
        for newest in [5, 9, 7, 9, 12] {
            boundaries.note(newest);
        }
        let noted = boundaries.lock();
        assert_eq!(noted.0, [5, 7, 9, 12]);
        assert_eq!((noted.from(8), noted.up_to(8)), (Some(9), Some(7)));
        assert_eq!((noted.from(13), noted.up_to(4)), (None, None));
        drop(noted);
        boundaries.forget(9);
        assert_eq!(boundaries.lock().0, [12]);
        boundaries.forget(12);
        assert_eq!(boundaries.lock().0, [12], "the newest stays");
        let ended = [6, 10, 13].map(|n| boundaries.ended(n));
        assert_eq!(ended, [Some(7), Some(12), None], "and all are known");
    }

    #[test]
    fn there_are_never_too_many() {
        let boundaries = Shared::default();
        for newest in 0..3 * MAX_BOUNDARIES as i64 {
            boundaries.note(newest);
        }
        let boundaries = boundaries.lock();
        assert!(boundaries.0.len() <= MAX_BOUNDARIES);
        assert!(boundaries.0.iter().is_sorted());
    }
}
