//! Notices commits, and records the ends of transactions while the driver's thread is busy.
//!
//! Preparing a push takes tens of milliseconds, and an application may commit as many transactions
//! meanwhile. If nobody looked in between, they would become one unit, which every other replica
//! must integrate in one transaction. It would hold the write lock there for too long.

use std::convert::Infallible;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};

use crate::error::Result;
use crate::store::{Store, Watch};

/// How long a commit by another process may stay unnoticed, in ms.
pub(in crate::sync) const COMMIT_LOOK_MS: u64 = 50;
/// How often to look after the bell, in ms. The bell rings just before the commit takes effect.
const LOOK_AFTER_BELL_MS: u64 = 1;

/// How often to look while somebody writes, in ms. Writing a thousand rows takes longer.
const LOOK_MS: u64 = 1;
/// After this many looks without a commit, the watcher sleeps until the bell rings.
const QUIET_LOOKS: u32 = 50;

/// The commits that the driver knows of.
///
/// A commit by this process rings a bell at once. A commit by another process is noticed within
/// [`COMMIT_LOOK_MS`], by `PRAGMA data_version`, which takes some microseconds.
pub(super) struct Commits {
    watcher: Watcher,
    data_version: i64,
    /// Until this time a commit is expected, in steady ms.
    bell_until: u64,
}

impl Commits {
    /// Begins to watch the file of a store.
    pub(super) fn start(store: &Store) -> Result<Self> {
        let data_version = store.data_version()?;
        Ok(Commits { watcher: Watcher::start(store.watch()), data_version, bell_until: 0 })
    }

    /// The store was replaced, and its count is another one.
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

/// The thread that looks for commits. It ends when this is dropped.
struct Watcher {
    bell: Sender<()>,
    /// Dropped to end it.
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Waits for the bell. If the thread cannot be started, the only effect is larger units.
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

    /// Reports a commit that took place, or will in a moment. Others may follow.
    fn ring(&self) {
        // If the bell is ringing already, nothing needs to be done.
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
                    // The driver meets the same error, and reports it.
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
