//! Notices commits, and records where transactions end while the driver's thread is busy.
//!
//! A push takes some tens of milliseconds to prepare, and an application may commit as many
//! transactions meanwhile. Without a look in between they become one unit, which every other
//! replica must integrate in one transaction. It would hold the write lock there for too long.

use std::convert::Infallible;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};

use crate::error::Result;
use crate::store::{Store, Watch};

/// How long a commit by another process may go unnoticed, in ms.
pub(in crate::sync) const COMMIT_LOOK_MS: u64 = 50;
/// How often to look after the bell, in ms: it rings in the moment before the commit takes effect.
const LOOK_AFTER_BELL_MS: u64 = 1;

/// How often to look while somebody writes, in ms: a thousand rows take several.
const LOOK_MS: u64 = 1;
/// After so many looks that found nothing, the watcher sleeps until the bell rings.
const QUIET_LOOKS: u32 = 50;

/// The commits that the driver knows of.
///
/// A commit by this process rings a bell at once. A commit by any other is noticed through
/// `PRAGMA data_version`, which costs some microseconds, within [`COMMIT_LOOK_MS`].
pub(super) struct Commits {
    watcher: Watcher,
    data_version: i64,
    /// Until then a commit is expected, in steady ms.
    bell_until: u64,
}

impl Commits {
    /// Begins to watch the file of a store.
    pub(super) fn start(store: &Store) -> Result<Self> {
        let data_version = store.data_version()?;
        Ok(Commits { watcher: Watcher::start(store.watch()), data_version, bell_until: 0 })
    }

    /// The store is another one now, with a count of its own.
    pub(super) fn restart(&mut self, store: &Store) {
        self.data_version = store.data_version().unwrap_or(-1);
        self.watcher = Watcher::start(store.watch());
    }

    /// The bell rang.
    pub(super) fn rang(&mut self, steady_ms: u64) {
        self.bell_until = steady_ms + COMMIT_LOOK_MS;
        self.watcher.ring();
    }

    /// How long to wait before the next look, in ms.
    pub(super) fn interval_ms(&self, steady_ms: u64) -> u64 {
        if steady_ms < self.bell_until { LOOK_AFTER_BELL_MS } else { COMMIT_LOOK_MS }
    }

    /// Whether somebody has committed since the last look.
    pub(super) fn look(&mut self, store: &Store) -> Result<bool> {
        let version = store.data_version()?;
        if version == self.data_version {
            return Ok(false);
        }
        self.data_version = version;
        self.bell_until = 0;
        self.watcher.ring();
        Ok(true)
    }
}

/// The thread that looks. It ends when this is dropped.
struct Watcher {
    bell: Sender<()>,
    /// Dropped to end it.
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Begins to wait for the bell. If the thread cannot be made, units are larger, and nothing
    /// else is wrong.
    fn start(watch: Watch) -> Self {
        let (bell, rung) = bounded(1);
        let (stop, stopped) = bounded(0);
        let thread = std::thread::Builder::new().name("driftless-watch".to_owned());
        let thread = thread.spawn(move || run(watch, &rung, &stopped));
        if let Err(error) = &thread {
            tracing::debug!("no thread watches where transactions end: {error}");
        }
        Watcher { bell, stop: Some(stop), thread: thread.ok() }
    }

    /// A commit took place, or will in a moment. Others may follow.
    fn ring(&self) {
        // A bell that is ringing already is enough.
        let _ = self.bell.try_send(());
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

fn run(mut watch: Watch, bell: &Receiver<()>, stop: &Receiver<Infallible>) {
    loop {
        select! {
            recv(bell) -> rung => if rung.is_err() { return },
            recv(stop) -> _ => return,
        }
        let mut quiet = 0;
        while quiet < QUIET_LOOKS {
            match watch.look() {
                Ok(true) => quiet = 0,
                Ok(false) => quiet += 1,
                Err(error) => {
                    // The driver meets the same trouble, and says so.
                    tracing::debug!(kind = ?error.kind(), "{error}");
                    break;
                }
            }
            match stop.recv_timeout(Duration::from_millis(LOOK_MS)) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(_) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}
