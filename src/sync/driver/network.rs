//! The network: requests to the remote, on a thread of their own.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::remote::{Answer, Batch, Remote};

/// The longest duration of a request. It is far longer than a client's own limit.
const REQUEST_LIMIT: Duration = Duration::from_secs(120);

/// The remote, and the requests to it that are in flight.
pub(super) struct Network {
    remote: Arc<dyn Remote>,
    runtime: Runtime,
    /// The request that is waited for, and perhaps one that was given up.
    requests: JoinSet<()>,
}

impl Network {
    /// Starts the network's thread.
    ///
    /// # Errors
    ///
    /// `Storage` when it cannot be started.
    pub(super) fn start(remote: Arc<dyn Remote>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("driftless-network")
            .enable_all()
            .build()
            .map_err(|source| Error::storage("no thread could be started").with_source(source))?;
        Ok(Network { remote, runtime, requests: JoinSet::new() })
    }

    pub(super) fn remote(&self) -> &Arc<dyn Remote> {
        &self.remote
    }

    /// Sends requests to this remote from now on.
    pub(super) fn use_remote(&mut self, remote: Arc<dyn Remote>) {
        self.remote = remote;
    }

    /// Runs work that is not a request of the machine.
    pub(super) fn handle(&self) -> &tokio::runtime::Handle {
        self.runtime.handle()
    }

    /// Sends a request, and calls `answered` with the outcome.
    pub(super) fn send(
        &mut self,
        batch: Batch,
        answered: impl FnOnce(Result<Answer>) + Send + 'static,
    ) {
        let request = guarded(Arc::clone(&self.remote), batch);
        let request = async move { answered(request.await) };
        self.requests.spawn_on(request, self.runtime.handle());
        // Removes the requests that have ended.
        while self.requests.try_join_next().is_some() {}
    }

    /// Gives up all requests and their connections, which may be dead without an error.
    pub(super) fn give_up(&mut self) {
        self.remote.forget_connections();
        self.requests.abort_all();
    }

    /// Ends. Requests in flight end by themselves, and are not waited for.
    pub(super) fn shut_down(self) {
        self.runtime.shutdown_background();
    }
}

/// Runs a batch, and survives a panic or silence of the client.
pub(in crate::sync) async fn guarded(remote: Arc<dyn Remote>, batch: Batch) -> Result<Answer> {
    // In a set, so that it is aborted when its caller is dropped.
    let mut run = JoinSet::new();
    run.spawn(async move { remote.run(batch).await });
    match tokio::time::timeout(REQUEST_LIMIT, run.join_next()).await {
        Ok(Some(Ok(outcome))) => outcome,
        Ok(Some(Err(failure))) => {
            Err(Error::unavailable("the remote's client failed unexpectedly").with_source(failure))
        }
        Ok(None) => unreachable!("one was spawned"),
        Err(_) => Err(Error::unavailable("the remote's client gave no answer")),
    }
}
