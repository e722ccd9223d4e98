//! The requests of a verification. The network has a thread of its own, so the local half of the
//! work is done while the remote does the other half.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::remote::{Answer, Batch, Remote};
use crate::sync::backoff::Backoff;
use crate::sync::driver::network::guarded;

/// The number of attempts for each request.
const ATTEMPTS: u32 = 3;

/// The requests of a comparison.
pub(in crate::sync) struct Requests {
    remote: Arc<dyn Remote>,
    runtime: tokio::runtime::Runtime,
    count: u64,
    bytes: u64,
}

impl Requests {
    /// Starts the network's thread.
    ///
    /// # Errors
    ///
    /// `Storage` when it cannot be started.
    pub(in crate::sync) fn to(remote: Arc<dyn Remote>) -> Result<Requests> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("driftless-verify")
            .enable_all()
            .build()
            .map_err(|source| Error::storage("no thread could be started").with_source(source))?;
        Ok(Requests { remote, runtime, count: 0, bytes: 0 })
    }

    /// The number of requests, and the bytes of the requests and the answers.
    pub(in crate::sync) fn cost(&self) -> (u64, u64) {
        (self.count, self.bytes)
    }

    /// Sends a request, calls `meanwhile`, and returns the answer. A request that fails on its way
    /// is sent again.
    ///
    /// # Errors
    ///
    /// The errors of the remote and of `meanwhile`.
    pub(in crate::sync) fn send(
        &mut self,
        batch: &Batch,
        meanwhile: impl FnOnce() -> Result<()>,
    ) -> Result<Answer> {
        let ask = |this: &mut Requests| {
            this.count += 1;
            this.runtime.spawn(guarded(Arc::clone(&this.remote), batch.clone()))
        };
        let mut under_way = ask(self);
        meanwhile()?;
        let mut backoff = Backoff::new(fastrand::u64(..));
        loop {
            let outcome = self.runtime.block_on(under_way).map_err(|failure| {
                Error::unavailable("the remote's client failed unexpectedly").with_source(failure)
            })?;
            match outcome {
                Ok(answer) => {
                    self.bytes += answer.bytes_up + answer.bytes_down;
                    return Ok(answer);
                }
                Err(error) if error.kind() == Kind::Unavailable => {
                    let wait = backoff.fail();
                    if backoff.failures() >= ATTEMPTS {
                        return Err(error);
                    }
                    std::thread::sleep(Duration::from_millis(wait));
                    under_way = ask(self);
                }
                Err(error) => return Err(error),
            }
        }
    }
}
