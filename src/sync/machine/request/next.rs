//! Chooses the next request, from the wishes of the machine's parts.

use std::sync::Arc;

use crate::error::Result;
use crate::protocol::idle_poll::idle_poll;
use crate::protocol::incarnation::Place;
use crate::protocol::meta::Asker;
use crate::remote::Batch;
use crate::sync::first_sync::kept_tables::kept;
use crate::sync::first_sync::plan::{growing, plan_of};
use crate::sync::first_sync::run::FirstSync;
use crate::sync::machine::Machine;
use crate::sync::machine::find::Search;
use crate::sync::machine::identity::must_probe;
use crate::sync::machine::push::staging::Stage;
use crate::sync::machine::push::{Load, PreparedPush};
use crate::sync::machine::request::{ExchangeRequest, RequestKind};
use crate::sync::remote_check::no_first_sync;

impl Machine {
    /// The next request, if there is one.
    pub(in crate::sync::machine) fn next_request(
        &mut self,
    ) -> Result<Option<(RequestKind, Batch)>> {
        // New tables of this file are noticed so.
        if self.identity.known().is_some() && !self.first_sync.is_under_way() {
            self.remembers_tables()?;
        }
        if !self.schedule.holds_pushes() {
            self.first_sync.compare_again();
            let steady_ms = self.schedule.now().steady_ms;
            if self.first_sync.wants_comparison(steady_ms) && !self.identity.is_renewing() {
                self.compare_definitions(None, false)?;
            }
        }
        if let Some(first_sync) = self.first_sync.under_way_mut() {
            let batch = first_sync.ask()?;
            return Ok(Some((RequestKind::FirstSync, batch)));
        }
        let (replica, epoch) = self.identity.known().ok_or_else(no_first_sync)?;
        if !self.store.suspects().is_empty()
            && let Some(request) = self.next_comparison(replica)?
        {
            return Ok(Some(request));
        }
        if !self.puller.has_room() {
            return Ok(None);
        }
        let asker = Asker { replica, place: self.puller.place() };
        let asks = self.reconcile.may_ask(self.puller.is_at_end(), self.puller.last_read());
        if asks && !self.identity.is_renewing() {
            let unsent = self.pusher.has_unsent();
            if let Some((ids, batch)) = self.reconcile.question(&mut self.store, asker, unsent)? {
                return Ok(Some((RequestKind::Reconcile(ids), batch)));
            }
        }
        if self.may_find()
            && let Some(batch) = self.next_search()?
        {
            return Ok(Some((RequestKind::Find, batch)));
        }
        self.next_exchange(asker, epoch)
    }

    /// Whether a search for writes that capture on the remote has missed may continue: no other
    /// request is due.
    fn may_find(&self) -> bool {
        let idle = self.puller.is_at_end() && !self.pusher.has_unsent() && !self.wants_pull();
        let steady_ms = self.schedule.now().steady_ms;
        let wants = |tables: Arc<_>| self.first_sync.finder().wants(&tables, steady_ms);
        let sound = !self.identity.is_renewing() && self.store.suspects().is_empty();
        idle && sound && self.first_sync.tables().is_some_and(wants)
    }

    /// The next request of a search. When the search has ended, the definitions are read again,
    /// because the gaps are read with them.
    fn next_search(&mut self) -> Result<Option<Batch>> {
        let Some(tables) = self.first_sync.tables() else { return Ok(None) };
        let steady_ms = self.schedule.now().steady_ms;
        match self.first_sync.finder_mut().ask(&self.store, &tables, steady_ms)? {
            Search::Ask(batch) => Ok(Some(batch)),
            Search::Again => Ok(None),
            Search::Ended => {
                self.first_sync.look_again();
                self.schedule.poll_now();
                Ok(None)
            }
        }
    }

    /// The next request that pushes, pulls, or does both.
    fn next_exchange(
        &mut self,
        asker: Asker,
        epoch: String,
    ) -> Result<Option<(RequestKind, Batch)>> {
        if self.wants_push() && must_probe(&self.store)? {
            self.pusher.probe();
        }
        if self.wants_push()
            && !self.knows_tables()?
            && let Some(comparison) = self.first_sync.under_way_mut()
        {
            return Ok(Some((RequestKind::FirstSync, comparison.ask()?)));
        }
        let prepared = if self.wants_push() { self.load()? } else { None };
        if prepared.is_none() && !self.wants_pull() {
            return Ok(None);
        }
        if prepared.is_none() && self.may_idle_poll(asker.place) && self.remembers_tables()? {
            return Ok(Some((RequestKind::IdlePoll(asker.place), idle_poll(asker.place))));
        }
        // A page that may be too large must not hold a push back.
        let pulls = prepared.is_none() || !self.pusher.is_split();
        let mut request = ExchangeRequest::reading(asker, epoch.clone());
        if let Some(prepared) = prepared {
            let (push, unit, stage) = prepared.into_parts();
            if !stage.as_ref().is_some_and(Stage::is_part) {
                let tables = self.first_sync.tables().expect("a push is planned for tables");
                let (store, replica) = (&mut self.store, asker.replica);
                let sender = self.identity.sender(store, replica, epoch, tables)?;
                request = request.pushing(push, unit, sender);
            }
            request = request.staging(stage);
        }
        if pulls {
            let held = self.store.held()?;
            let lean = self.puller.lean(held, || self.store.event_layouts());
            request = request.pulling(self.puller.range(), lean);
        }
        let events = request.push().map_or(0, |push| push.events.len());
        tracing::debug!(events, after = %asker.place.seq, "exchange");
        let batch = request.exchange().batch();
        Ok(Some((RequestKind::Exchange(Box::new(request)), batch)))
    }

    /// Whether a poll may ask only for the end of the log: nothing is in progress, and there is no
    /// problem.
    fn may_idle_poll(&self, place: Place) -> bool {
        self.schedule.may_idle_poll()
            && place.id.is_some()
            && self.puller.is_at_end()
            && !self.puller.is_last_page_invalid()
            && !self.is_pull_wanted()
            && !self.identity.is_renewing()
            && !self.health.has_push_trouble()
    }

    /// The events to push next, if there are any.
    fn load(&mut self) -> Result<Option<PreparedPush>> {
        let epoch_ms = self.schedule.epoch_ms();
        let tables = self.first_sync.tables().expect("a push is planned for tables");
        let issue = || self.identity.issue_unit(epoch_ms);
        match self.pusher.load(&mut self.store, &tables, issue)? {
            Load::Nothing => Ok(None),
            Load::Unpushable(error) => {
                self.hold_pushes(error);
                Ok(None)
            }
            Load::Push(prepared) => {
                // The warning is shown until the push has succeeded.
                if let Some(error) =
                    prepared.oversized().filter(|_| !self.health.has_push_trouble())
                {
                    tracing::warn!("{error}");
                    self.health.pushes_slowed(error);
                }
                Ok(Some(prepared))
            }
        }
    }

    /// Whether the remote's tables are known, so that a push can be planned. If not, it begins to
    /// compare the definitions.
    pub(super) fn knows_tables(&mut self) -> Result<bool> {
        if !self.remembers_tables()? {
            self.compare_definitions(None, false)?;
        }
        Ok(self.first_sync.tables().is_some())
    }

    /// Whether the remote's tables are known, from this process or the last comparison.
    pub(in crate::sync::machine) fn remembers_tables(&mut self) -> Result<bool> {
        let local = self.store.current_schema_version()?;
        let wall_ms = self.schedule.now().wall_ms;
        if self.first_sync.is_local_schema(local) && self.store.has_newcomers(wall_ms)? {
            self.first_sync.look_again();
        }
        if self.first_sync.tables().is_none()
            && let Some(tables) = kept(&self.store)?
        {
            self.first_sync.know_tables(tables);
        }
        Ok(self.first_sync.tables().is_some())
    }

    /// Begins to compare the definitions: for a push that was `rejected`, perhaps because of a
    /// missing object, or for the next push.
    pub(in crate::sync::machine) fn compare_definitions(
        &mut self,
        sought: Option<&str>,
        rejected: bool,
    ) -> Result<()> {
        let (replica, epoch) = self.identity.known().ok_or_else(no_first_sync)?;
        let fresh = self.identity.issue(self.schedule.epoch_ms());
        let plan = plan_of(&self.store, self.store.state()?.url, replica, fresh);
        let plan = growing(&self.store, plan)?;
        let since = self.first_sync.rested_since();
        let comparison = FirstSync::new(plan, Some(epoch)).seeking(sought).looking_since(since);
        let comparison = if rejected { comparison } else { comparison.refreshing() };
        self.first_sync.compare(comparison, rejected);
        Ok(())
    }
}
