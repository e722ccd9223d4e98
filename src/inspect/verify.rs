//! Verifying: the replica, its log and its remote, compared.

use std::sync::Arc;

use super::{Replica, Verified, VerifyOptions, VerifyProgress};
use crate::error::Result;
use crate::remote::Remote;
use crate::sync::Repair;

impl Replica<'_> {
    /// [`Replica::verify`] without a repair, and what one is to write.
    pub(crate) fn compare(
        &mut self,
        remote: Arc<dyn Remote>,
        options: &VerifyOptions,
        watch: &mut dyn FnMut(VerifyProgress),
    ) -> Result<(Verified, Repair)> {
        for table in &options.tables {
            self.table(table)?;
        }
        crate::sync::verify(&mut self.store, remote, options, watch)
    }

    /// Compares the replica with its log and with the remote, on this thread. A replicator may be
    /// at work on the file, unless a repair is asked for. `watch` is told how far it is.
    ///
    /// # Errors
    ///
    /// `Usage` when a table is not replicated, the first sync is not done or the replica is far
    /// behind the remote; `Unavailable` when the remote cannot be reached; `Refused` when it
    /// refuses us or is another database.
    pub(crate) fn verify(
        &mut self,
        remote: Arc<dyn Remote>,
        options: &VerifyOptions,
        watch: &mut dyn FnMut(VerifyProgress),
    ) -> Result<Verified> {
        let (mut verified, repair) = self.compare(remote, options, watch)?;
        if options.repair {
            verified.repaired = Some(repair.run(&mut self.store)?);
        }
        Ok(verified)
    }
}
