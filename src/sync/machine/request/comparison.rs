//! The requests that compare suspect tables with the remote's, and their answers.

use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::event::ReplicaId;
use crate::protocol::meta::Asker;
use crate::protocol::remote_tables::RemoteTables;
use crate::remote::{Answer, Batch};
use crate::store::Recaptured;
use crate::sync::first_sync::kept_tables::forget;
use crate::sync::machine::Machine;
use crate::sync::machine::io::Effect;
use crate::sync::machine::recapture::{Progress, Recapture};
use crate::sync::machine::request::RequestKind;
use crate::sync::remote_check::examine;
use crate::sync::status::Changes;

impl Machine {
    /// The next request that compares suspect tables; `None` if the remote has none of them.
    pub(super) fn next_comparison(
        &mut self,
        replica: ReplicaId,
    ) -> Result<Option<(RequestKind, Batch)>> {
        if !self.knows_tables()?
            && let Some(comparison) = self.first_sync.under_way_mut()
        {
            return Ok(Some((RequestKind::FirstSync, comparison.ask()?)));
        }
        let Some(tables) = self.first_sync.tables() else { return Ok(None) };
        let asker = Asker { replica, place: self.store.place()? };
        let batch = self.first_sync.recapture().ask(&mut self.store, tables, asker)?;
        Ok(batch.map(|batch| (RequestKind::Recapture, batch)))
    }

    /// The remote has answered with rows or a part of the log.
    pub(in crate::sync::machine) fn compared(&mut self, answer: Answer) {
        let read = Recapture::meta(&answer)
            .and_then(|meta| Ok((meta, self.store.incarnations()?, self.store.place()?)));
        let (meta, incarnations, place) = match read {
            Ok(read) => read,
            Err(error) => return self.comparison_failed(error),
        };
        if let Err((error, state)) =
            examine(self.identity.epoch(), place, &incarnations, meta.as_ref())
        {
            return self.leave_alone(error, state);
        }
        let wall_ms = self.schedule.now().wall_ms;
        match self.first_sync.recapture().answered(&mut self.store, answer, wall_ms) {
            Ok(Progress::More) => self.succeeded(),
            Ok(Progress::Stale) => {
                self.succeeded();
                self.first_sync.forget_tables();
                if let Err(error) = forget(&mut self.store) {
                    self.failed_locally(error);
                }
            }
            Ok(Progress::Compared(table, found)) => {
                self.succeeded();
                self.table_compared(table, found);
            }
            Ok(Progress::Joined(found)) => {
                self.succeeded();
                tracing::info!(?found, "tables have joined");
                if found.fetched + found.different > 0 {
                    self.effects.push(Effect::Notify(Changes::missed()));
                }
                // What is only here is to be pushed before a sync is done.
                self.waiters.begin_anew();
                self.read_outbox();
            }
            Err(error) => self.comparison_failed(error),
        }
        self.effects.status_changed();
    }

    /// The definitions are compared, and these are the remote's tables. If there are new ones,
    /// another comparison follows when they have stayed for long enough.
    pub(in crate::sync::machine) fn definitions_compared(&mut self, tables: Arc<RemoteTables>) {
        self.first_sync.done(tables);
        match self.store.choice() {
            Ok(Some(choice)) if !choice.fresh.is_empty() => {
                self.first_sync.await_newcomers(self.schedule.now().steady_ms);
            }
            Ok(_) => {}
            Err(error) => self.failed_locally(error),
        }
    }

    fn table_compared(&mut self, table: String, done: Recaptured) {
        let Recaptured { found, returned, filled, unknown, changes } = done;
        tracing::info!(table, found, returned, filled, unknown, "compared with the remote");
        if !changes.is_empty() {
            let cursor = self.puller.place().seq;
            self.effects.push(Effect::Notify(Changes { rows: changes, cursor, missed: false }));
        }
        self.read_outbox();
    }

    /// A request of a comparison failed, or its answer is not valid.
    pub(in crate::sync::machine) fn comparison_failed(&mut self, error: Error) {
        match error.kind() {
            Kind::TooLarge if self.first_sync.recapture().too_large() => return,
            // The remote's definitions may have changed.
            Kind::Rejected => {
                self.first_sync.recapture().restart();
                self.first_sync.forget_tables();
                if let Err(error) = forget(&mut self.store) {
                    return self.failed_locally(error);
                }
                self.retry_later(error);
            }
            Kind::Storage => self.failed_locally(error),
            _ => self.read_failed(error),
        }
        self.effects.status_changed();
    }
}
