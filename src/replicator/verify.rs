//! Verifying, while the replicator works.

use tokio::sync::oneshot;

use super::Replicator;
use crate::error::Result;
use crate::inspect::{Replica, Verified, VerifyOptions, VerifyProgress};
use crate::sync::{Command, shut_down};

impl Replicator {
    /// Compares the database with its log and with the remote, row by row, on the calling thread,
    /// with connections of its own. The replicator and the application go on meanwhile. The remote
    /// reads each row once, which it may bill.
    ///
    /// # Errors
    ///
    /// `Usage` when a table is not replicated, the first sync is not done, there is no remote, or
    /// the replica is far behind it; `Unavailable` when it cannot be reached; `Refused` when it
    /// refuses us or is another database; `Storage` when the database fails.
    ///
    /// # Panics
    ///
    /// Within a tokio runtime's own thread: it blocks.
    pub fn verify(
        &self,
        options: &VerifyOptions,
        watch: &mut dyn FnMut(VerifyProgress),
    ) -> Result<Verified> {
        let (reply, remote) = oneshot::channel();
        self.handle.send(Command::Remote(reply))?;
        let remote = remote.blocking_recv().map_err(|_| shut_down())?;
        let found = VerifyOptions { repair: false, ..options.clone() };
        let mut replica = Replica::open_with(&self.path, &self.on_connect)?;
        let (mut verified, repair) = replica.compare(remote, &found, watch)?;
        if options.repair {
            verified.repaired = Some(self.handle.with(move |store| repair.run(store))?);
        }
        Ok(verified)
    }
}
