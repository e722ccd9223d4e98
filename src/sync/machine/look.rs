//! What the machine looks at in its own database before it does anything else.

use crate::error::Result;
use crate::store::Retried;
use crate::sync::machine::Machine;
use crate::sync::machine::io::Effect;
use crate::sync::status::{Change, Changes};

impl Machine {
    /// Whether the triggers are as they should be, whether what waits can be applied now, and
    /// whether there is anything to push.
    pub(in crate::sync) fn look_at_outbox(&mut self) {
        match self.look() {
            Ok(unsent) => self.unsent = unsent,
            Err(error) => self.local_trouble(error),
        }
    }

    fn look(&mut self) -> Result<bool> {
        if self.store.check_triggers()? {
            tracing::info!("capture triggers were installed again");
        }
        if let Some(retried) = self.store.retry_after_migration(self.now.wall_ms)? {
            self.retried(retried)?;
        }
        self.store.mark()
    }

    fn retried(&mut self, retried: Retried) -> Result<()> {
        let Retried { applied, waiting, changes } = retried;
        tracing::info!(
            applied,
            waiting,
            "definitions or the program changed: the quarantine was tried again"
        );
        if !changes.is_empty() {
            let cursor = self.store.state()?.cursor;
            let rows = changes.into_iter().map(|(table, key)| Change { table, key }).collect();
            self.effects.push_back(Effect::Notify(Changes { rows, cursor, missed: false }));
        }
        self.changed();
        Ok(())
    }
}
