//! One synchronisation on the caller's thread.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::error::Result;
use crate::remote::Remote;
use crate::store::Store;
use crate::sync::driver::Driver;
use crate::sync::driver::handle::Command;
use crate::sync::machine::push::bisect::PushSize;
use crate::sync::machine::push::staging::Staged;
use crate::sync::machine::{Config, POLL_MS};
use crate::sync::status::{HEALTH_BOUND_MS, Summary};

/// Pushes and pulls, on this thread, until what is pending now has its verdict and what the remote
/// has now is here. The caller holds the file's [`Lock`](crate::sync::driver::lock::Lock).
///
/// # Errors
///
/// `Unavailable` when the remote cannot be reached, after a few attempts; `Refused` when it refuses
/// us or is another database; `Usage` when the replica has not had its first sync; `Storage` when
/// the local database fails.
///
/// # Panics
///
/// Within a tokio runtime's own thread: it blocks.
pub fn drain(store: Store, remote: Arc<dyn Remote>) -> Result<Summary> {
    drain_watched(store, remote, &mut |_| {})
}

/// The same, and `watch` is told how far a push is that travels in parts, and when it has arrived
/// (`None`).
///
/// # Errors
///
/// As for [`drain`].
///
/// # Panics
///
/// As for [`drain`].
pub fn drain_watched(
    store: Store,
    remote: Arc<dyn Remote>,
    watch: &mut dyn FnMut(Option<Staged>),
) -> Result<Summary> {
    let config = Config {
        poll_ms: POLL_MS,
        health_bound_ms: HEALTH_BOUND_MS,
        seed: fastrand::u64(..),
        dice: fastrand::u64(..),
        push: PushSize::default(),
    };
    let (driver, handle) = Driver::new(store, None, config, remote)?;
    let (reply, mut answer) = oneshot::channel();
    handle.send(Command::SyncNow(reply))?;
    let mut told = None;
    driver.run_until(|machine| {
        let staged = machine.staged();
        if staged != told {
            watch(staged);
            told = staged;
        }
        answer.try_recv().ok()
    })
}
