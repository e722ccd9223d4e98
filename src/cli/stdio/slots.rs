//! The number of open requests: a client that sends and does not read must not fill the memory.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How many messages may be read before their answers are written.
pub(super) const MOST: usize = 256;
/// How often a wait for a free slot looks whether the client is gone.
const LOOK: Duration = Duration::from_millis(100);

/// The slots of open requests.
#[derive(Default)]
pub(super) struct Slots {
    taken: Mutex<usize>,
    freed: Condvar,
}

/// The slot of one request. It is free again when this is dropped.
pub(super) struct Slot(Arc<Slots>);

impl Slots {
    /// Waits for a free slot. `None` if `is_over` says meanwhile that nobody waits for an answer.
    pub(super) fn take(self: &Arc<Self>, is_over: impl Fn() -> bool) -> Option<Slot> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken >= MOST {
            if is_over() {
                return None;
            }
            let waited = self.freed.wait_timeout(taken, LOOK);
            taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *taken += 1;
        Some(Slot(Arc::clone(self)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_most_are_open() {
        let slots = Arc::new(Slots::default());
        let mut open: Vec<_> = (0..MOST).map(|_| slots.take(|| false).unwrap()).collect();
        assert!(slots.take(|| true).is_none(), "all are taken");
        open.pop();
        assert!(slots.take(|| true).is_some());
    }
}
