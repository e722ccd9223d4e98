//! What the machine does with the answers to a first sync.

use crate::error::{Error, Kind};
use crate::remote::Answer;
use crate::store::Store;
use crate::sync::first_sync::report::Report;
use crate::sync::first_sync::run::{Init, Progress};
use crate::sync::machine::Machine;
use crate::sync::machine::error_policy::other_remote;
use crate::sync::machine::io::Effect;
use crate::sync::machine::pull::pages::Pages;
use crate::sync::status::{Changes, SyncState};

impl Machine {
    /// The remote has answered the first sync.
    pub(in crate::sync) fn init_answered(&mut self, answer: Answer) {
        let init = self.init.as_mut().expect("only the first sync asks without an exchange");
        match init.answered(answer, self.now.wall_ms) {
            Ok(Progress::More) => {
                // Of a replica whose first sync is done only the definitions are compared.
                if self.init.as_ref().and_then(Init::store).is_some() {
                    self.succeeded();
                    self.state = SyncState::FirstSync;
                } else {
                    // Whether it is the right remote is not known yet: that is no success.
                    self.backoff.reset();
                    self.reachable = Some(true);
                    self.trouble = None;
                }
            }
            Ok(Progress::Done(report, store)) => self.initialised(*report, *store),
            Ok(Progress::OtherRemote(found)) => {
                self.refused(other_remote(found.as_deref()), SyncState::OtherRemote);
            }
            Err(error) => self.init_failed(error),
        }
        self.changed();
    }

    fn initialised(&mut self, report: Report, store: Store) {
        self.store = store;
        self.staging = None;
        self.no_page = false;
        self.succeeded();
        self.init = None;
        self.push_trouble = None;
        match self.store.state() {
            Ok(state) => {
                self.identity = state.epoch.map(|epoch| (state.replica, epoch));
                self.pages = Pages::after(state.place);
                self.inquiry.stopped = false;
            }
            Err(error) => self.local_trouble(error),
        }
        self.look_at_outbox();
        self.due = self.now.steady_ms;
        self.effects.extend(Changes::of_first_sync(&report).map(Effect::Notify));
        self.effects.push_back(Effect::Initialised(report));
    }

    fn init_failed(&mut self, error: Error) {
        match error.kind() {
            Kind::Unavailable | Kind::Storage | Kind::Corrupt => self.failed(None, error),
            _ => {
                if let Err(error) = self.hold_for_missing(error) {
                    self.refused(error, SyncState::Refused);
                }
            }
        }
    }
}
