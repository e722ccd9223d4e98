//! A remote that has lost something that a push needs: a replicated table that was dropped or
//! renamed there, a column of one, or what a trigger or a view there refers to.
//!
//! SQLite compiles the triggers of all replicated tables for a push. So where one table is missing
//! every push is rejected, whatever events it has. No event is to blame, and none may be recorded
//! as rejected. So a push that is rejected in words that speak of definitions is no reason to look
//! for a culprit yet: the remote's definitions are compared first, as at a start. If something is
//! missing, pushes wait, and the trouble names it; pulls go on, for they need the log alone. The
//! definitions are compared again when pushes are tried again: a table that is back may be another
//! one, without our triggers.
//!
//! A replicator that starts compares the definitions first. What it finds leads to the same.

use crate::error::{Code, Error, Kind};
use crate::remote::missing_table_of;
use crate::sync::first_sync::preview::plan_of;
use crate::sync::first_sync::run::Init;
use crate::sync::machine::Machine;
use crate::sync::machine::error_policy::REFUSED_RETRY_MS;
use crate::sync::status::SyncState;

/// Whether the remote's definitions are what a push needs.
#[derive(Default)]
pub(in crate::sync) struct Doubt {
    /// They were compared since the last push that was taken in.
    compared: bool,
    /// Something is missing. This compares them again when pushes are tried again.
    again: Option<Init>,
}

impl Machine {
    /// Takes a rejection for a doubt about the remote's definitions, if it speaks of them and they
    /// were not compared yet. Gives whether it did.
    pub(in crate::sync) fn doubts(&mut self, error: &Error) -> bool {
        let speaks_of_definitions =
            matches!(error.code(), Code::StatementTableMissing | Code::StatementColumnMissing);
        if !speaks_of_definitions || self.doubt.compared {
            return false;
        }
        let name = missing_table_of(error);
        let Some((replica, epoch)) = self.identity.clone().filter(|_| self.init.is_none()) else {
            return false;
        };
        tracing::info!("a push was rejected for the remote's definitions: they are compared again");
        let now_ms = u64::try_from(self.now.wall_ms).unwrap_or(0);
        let fresh = self.clock.stamp(now_ms, self.dice.u128(..));
        match self.store.state() {
            Ok(state) => {
                let plan = plan_of(&self.store, state.url, replica, fresh);
                self.init = Some(Init::new(plan, Some(epoch)).seeking(name));
                self.doubt = Doubt { compared: true, again: None };
            }
            Err(error) => self.local_trouble(error),
        }
        true
    }

    /// A push was taken in, or the remote is another one: there is no doubt any more.
    pub(in crate::sync) fn trust_definitions(&mut self) {
        self.doubt = Doubt::default();
    }

    /// Compares the remote's definitions again, if something was missing and it is time.
    pub(in crate::sync) fn compare_again(&mut self) {
        if self.now.steady_ms >= self.push_held_until && self.init.is_none() {
            self.init = self.doubt.again.take();
        }
    }

    /// Takes the end of a comparison that found the remote lacking something, or the two sides
    /// different: pushes wait, and pulls go on. Gives the error back if that is not what it is, or
    /// where there has been no first sync: then nothing can go on.
    pub(in crate::sync) fn hold_for_missing(&mut self, error: Error) -> Result<(), Error> {
        let lacking = matches!(error.code(), Code::RemoteTableMissing | Code::RemoteObjectMissing)
            || error.kind() == Kind::Usage;
        if !lacking || !self.store.is_adopted().unwrap_or(false) {
            return Err(error);
        }
        tracing::warn!("nothing can be pushed: {error}");
        let mut init = self.init.take();
        if let Some(init) = &mut init {
            init.restart();
        }
        self.doubt = Doubt { compared: true, again: init };
        self.backoff.reset();
        self.reachable = Some(true);
        self.trouble = None;
        self.push_trouble = Some(error);
        self.push_held_until = self.now.steady_ms + REFUSED_RETRY_MS;
        self.look_first = false;
        self.due = self.now.steady_ms;
        self.state = SyncState::Trouble;
        self.changed();
        Ok(())
    }
}
