//! One request of the driver's, whatever the remote's client does with it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::remote::{Answer, Batch, Remote};

/// No request lasts longer: far longer than a client's own limit on a whole batch.
const REQUEST_LIMIT: Duration = Duration::from_secs(120);

/// Runs a batch so that neither a panic nor silence of the client does any harm.
pub(in crate::sync) async fn guarded(remote: Arc<dyn Remote>, batch: Batch) -> Result<Answer> {
    // In a set, so that it ends when nobody waits for it any more.
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
