//! Looks where transactions end while the driver's thread has something else to do.
//!
//! A push takes some tens of milliseconds to prepare, in which an application may commit as many
//! transactions. Unless somebody looks in between they are one unit, which every other replica must
//! integrate in one transaction: it holds the write lock there for so long.

use std::convert::Infallible;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};

use crate::store::Watch;

/// How often to look while somebody writes, in ms: a thousand rows take several.
const LOOK_MS: u64 = 1;
/// After so many looks at which nobody had written, nobody looks until the bell rings.
const QUIET_LOOKS: u32 = 50;

/// The thread that looks. It ends when this is dropped.
pub(in crate::sync) struct Watcher {
    bell: Sender<()>,
    /// Dropped to end it.
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Begins to wait for the bell. Where there is no thread to be had, units are only larger.
    pub(in crate::sync) fn start(watch: Watch) -> Self {
        let (bell, rung) = bounded(1);
        let (stop, stopped) = bounded(0);
        let thread = std::thread::Builder::new().name("driftless-watch".to_owned());
        let thread = thread.spawn(move || run(watch, &rung, &stopped));
        if let Err(error) = &thread {
            tracing::debug!("no thread watches where transactions end: {error}");
        }
        Watcher { bell, stop: Some(stop), thread: thread.ok() }
    }

    /// Somebody has committed, or will in a moment: others may follow.
    pub(in crate::sync) fn ring(&self) {
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
