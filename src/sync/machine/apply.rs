//! Applies the decisions that the parts of the machine make about answers and failures.
//!
//! An answer is read in three steps. First the remote is checked: nothing of an answer is used if
//! it comes from another database, or from one that was rolled back. Then the pushed events are
//! acknowledged. Then the page is queued, until the driver asks to integrate it.

use std::sync::Arc;

use crate::error::{Code, Error, Kind, Result};
use crate::event::EventId;
use crate::event::page::{Offset, Page};
use crate::protocol::Push;
use crate::protocol::idle_poll::ends_at;
use crate::protocol::incarnation::Place;
use crate::protocol::remote_tables::RemoteTables;
use crate::protocol::statements::Reply;
use crate::remote::{Answer, missing_table_of};
use crate::store::{Integrated, Outcome, Store};
use crate::sync::first_sync::kept_tables::forget;
use crate::sync::first_sync::report::{Advance, Report};
use crate::sync::first_sync::run::FirstSync;
use crate::sync::machine::Machine;
use crate::sync::machine::error_policy::{Carried, Policy, nothing_fits, policy, unpullable};
use crate::sync::machine::first_sync_run::FirstSyncRun;
use crate::sync::machine::io::{Effect, RequestId};
use crate::sync::machine::push::{PartRejection, PushFailure};
use crate::sync::machine::reconcile::Reconciled;
use crate::sync::machine::request::{ExchangeRequest, RequestKind};
use crate::sync::remote_check::{examine, other_remote, unknown_column};
use crate::sync::status::{Changes, SyncState};

impl Machine {
    /// The request `id` was answered, or failed.
    pub(super) fn answered(&mut self, id: RequestId, outcome: Result<Answer>) {
        // A request that was given up is ignored.
        let Some(kind) = self.requests.take(id) else { return };
        let answer = match outcome {
            Ok(answer) => answer,
            Err(error) => return self.request_failed(kind, error),
        };
        self.waiters.count_answer(&answer);
        match kind {
            RequestKind::FirstSync => self.first_sync_answered(answer),
            RequestKind::Exchange(request) => match request.exchange().read(answer) {
                Ok(reply) => self.exchanged(id, &request, reply),
                Err(error) => self.failed(Some(&request), error),
            },
            RequestKind::IdlePoll(place) => match self.ends_at(place, &answer) {
                Ok(true) => self.log_ends(id, place),
                Ok(false) => self.schedule.idle_poll_differs(),
                Err(error) => self.failed(None, error),
            },
            RequestKind::Reconcile(ids) => self.reconciled(&ids, answer),
            RequestKind::Recapture => self.compared(answer),
            RequestKind::Find => {
                self.succeeded();
                if let Err(error) = self.first_sync.finder_mut().answered(&self.store, &answer) {
                    self.search_failed(&error);
                }
            }
        }
    }

    /// Whether the remote is unchanged: its log ends at the place, and its schema is the known one.
    fn ends_at(&self, place: Place, answer: &Answer) -> Result<bool> {
        let cookie = self.first_sync.tables().map_or(i64::MIN, |tables| tables.cookie);
        ends_at(place, cookie, answer)
    }

    /// A search for writes that capture on the remote missed is repeated later.
    fn search_failed(&mut self, error: &Error) {
        tracing::info!(kind = ?error.kind(), "the search for missed writes is put off: {error}");
        self.first_sync.finder_mut().put_off(self.schedule.now().steady_ms);
    }

    fn request_failed(&mut self, kind: RequestKind, error: Error) {
        match kind {
            RequestKind::FirstSync | RequestKind::IdlePoll(_) => self.failed(None, error),
            RequestKind::Exchange(request) => self.failed(Some(&request), error),
            RequestKind::Reconcile(ids) if error.kind() == Kind::TooLarge => {
                if let Err(error) = self.reconcile.too_large(&ids, error) {
                    self.leave_alone(error, SyncState::Trouble);
                }
            }
            RequestKind::Reconcile(_) => self.failed(None, error),
            RequestKind::Recapture => self.comparison_failed(error),
            RequestKind::Find if error.kind() == Kind::Unavailable => self.failed(None, error),
            RequestKind::Find => {
                if !self.first_sync.finder_mut().recover(&error) {
                    self.search_failed(&error);
                }
            }
        }
    }

    /// An exchange was answered.
    fn exchanged(&mut self, id: RequestId, request: &ExchangeRequest, reply: Reply) {
        let incarnations = match self.store.incarnations() {
            Ok(incarnations) => incarnations,
            Err(error) => return self.failed_locally(error),
        };
        let (epoch, meta) = (self.identity.epoch(), reply.meta.as_ref());
        if let Err((error, state)) = examine(epoch, request.place(), &incarnations, meta) {
            return self.diverged(error, state);
        }
        let store = &mut self.store;
        let taken = match self.identity.note_incarnation(store, id, request, &incarnations, &reply)
        {
            Ok(taken) => taken,
            // The events are pushed again, and the remote recognises them by their ids.
            Err(error) => return self.failed_locally(error),
        };
        if request.push().is_some() && !reply.pushed {
            self.pusher.forget_staged();
            if taken && reply.unknown.is_none() && !reply.stale {
                let message = "the remote did not accept a push, and gave no reason";
                return self.failed(None, Error::new(Code::AnswerInvalid, message));
            }
        }
        self.succeeded();
        self.pusher.end_probe();
        self.schema_seen(&reply);
        match (request.push(), &reply.unknown) {
            // An event that is in the log already was pushed when its columns were known.
            (Some(push), _) if reply.pushed => {
                self.reconcile.acknowledged(id);
                self.push_accepted(push);
            }
            (Some(_), _) if reply.stale => {}
            (Some(_), Some((table, column))) if taken => self.hold_for_column(table, column),
            _ => {}
        }
        if let Some(part) = request.part() {
            self.pusher.part_arrived(part);
        }
        if !request.is_paged() {
            self.puller.expect();
        } else if !request.discards_page() {
            match self.puller.came_in(id, reply.page, reply.chunk, reply.head) {
                Ok(new) => self.log_read(id, new),
                Err(error) => return self.page_invalid(error),
            }
        }
        // This comes after all calls that make the replica active: the next poll is soon after the
        // first change.
        self.schedule.poll_later();
        self.pusher.join_if_full();
        self.effects.status_changed();
    }

    fn push_accepted(&mut self, push: &Push) {
        self.waiters.count_pushed(push.events.len());
        self.pusher.accepted(push);
        self.health.pushes_flow();
        self.first_sync.trust();
        self.schedule.pushed();
        self.schedule.be_active();
        self.read_outbox();
    }

    /// An answer has the version of the remote's schema. If it is not the compared one, the web
    /// application has migrated, and our triggers may be gone, so the definitions are compared
    /// before the next push. If this happens again and again, comparisons and pushes are delayed.
    fn schema_seen(&mut self, reply: &Reply) {
        let Some(found) = reply.meta.as_ref().and_then(|meta| meta.cookie) else { return };
        if let Err(error) = self.remembers_tables() {
            return self.failed_locally(error);
        }
        if self.first_sync.tables().is_some_and(|tables| tables.cookie == found) {
            let steady_ms = self.schedule.now().steady_ms;
            return self.first_sync.is_current(steady_ms, reply.head);
        }
        tracing::info!("the remote's schema has changed: its definitions are compared again");
        if self.first_sync.is_stale() {
            self.schedule.delay_pushes();
        }
        // Events that were rejected under the former definitions are tried again.
        let forgotten = forget(&mut self.store).and_then(|()| self.store.forget_refusals());
        if let Err(error) = forgotten {
            self.failed_locally(error);
        }
    }

    /// Holds pushes because the remote's triggers do not know a column, and would leave it out.
    /// Callers receive the error when the page of the same answer, and the following pages, are
    /// integrated.
    fn hold_for_column(&mut self, table: &str, column: &str) {
        tracing::warn!(table, column, "nothing can be pushed: the remote does not know a column");
        self.schedule.hold_pushes();
        self.health.pushes_slowed(unknown_column(table, column));
    }

    /// The request `id` has found that the log still ends at this place.
    fn log_ends(&mut self, id: RequestId, place: Place) {
        self.succeeded();
        self.first_sync.is_current(self.schedule.now().steady_ms, place.seq);
        let page = Page { last: place.seq, ..Page::default() };
        match self.puller.came_in(id, page, None, place.seq) {
            Ok(new) => self.log_read(id, new),
            Err(error) => return self.page_invalid(error),
        }
        self.schedule.poll_later();
        self.effects.status_changed();
    }

    /// The request `id` has reported the end of the remote's log, and has brought something new or
    /// nothing.
    fn log_read(&mut self, id: RequestId, new: bool) {
        if new {
            self.schedule.be_active();
        }
        // If the log ends here, there is no page that could be invalid.
        if self.puller.is_at_end() && self.puller.page_was_valid() {
            self.succeeded();
        }
        self.waiters.log_read(id, self.puller.head(), !self.puller.more());
    }

    /// Records a success, if the last page could be read.
    pub(super) fn succeeded(&mut self) {
        if self.puller.is_last_page_invalid() {
            return self.health.reached();
        }
        self.schedule.succeeded();
        self.health.succeeded(self.schedule.now().wall_ms);
    }

    /// Integrates `events` events of the oldest waiting page, and the rest of their unit.
    pub(super) fn integrate(&mut self, events: usize) {
        if !self.store.suspects().is_empty() {
            return;
        }
        let Some((page, end)) = self.puller.part(events) else { return };
        let wall_ms = self.schedule.now().wall_ms;
        let outcome = match self.puller.asks_whole_lines() {
            true => self.store.integrate_whole_lines(&page, None, wall_ms),
            false => self.store.integrate(&page, None, wall_ms),
        };
        match outcome {
            Ok(Outcome::Done(done)) => {
                self.puller.integrated(end);
                if self.puller.page_was_valid() {
                    self.succeeded();
                }
                if let Some(in_parts) = self.puller.new_in_parts()
                    && let Err(error) = self.store.set_in_parts(in_parts)
                {
                    self.failed_locally(error);
                }
                if done.settled() > 0 {
                    // Settled events left the outbox. The staged push may have some of them.
                    self.pusher.forget_staged();
                }
                self.integrated(done);
            }
            Ok(Outcome::NeedsLonger) => self.lengthen(end),
            Ok(Outcome::NeedsWholeLines) => {
                tracing::info!("own events are not in the outbox: their values are fetched");
                self.restart_pages();
                self.puller.ask_whole_lines();
            }
            // The schema has just changed. The page waits.
            Err(error) if error.code() == Code::TableSuspect => self.effects.status_changed(),
            Err(error) if error.kind() == Kind::Storage => self.failed_locally(error),
            Err(error) => {
                self.restart_pages();
                self.page_invalid(error);
            }
        }
    }

    /// Counts the events that a transaction has integrated, and notifies the subscribers.
    fn integrated(&mut self, done: Integrated) {
        self.waiters.count_integrated(&done);
        tracing::debug!(cursor = %done.cursor, pulled = done.pulled, "integrated");
        if !done.changes.is_empty() {
            let changes = Changes { rows: done.changes, cursor: done.cursor, missed: false };
            self.effects.push(Effect::Notify(changes));
        }
        self.effects.status_changed();
    }

    /// Drops the waiting pages and the requested one, to fetch them again.
    fn restart_pages(&mut self) {
        self.requests.discard_page();
        match self.store.place() {
            Ok(cursor) => self.puller.restart(cursor),
            Err(error) => self.failed_locally(error),
        }
    }

    /// The part that ends at `end` can be integrated only together with the events after it.
    fn lengthen(&mut self, end: Offset) {
        if self.puller.lengthen(end) {
            return;
        }
        match self.store.place() {
            Ok(cursor) => {
                let message = format!(
                    "the log after event {} cannot be applied, however much of it is read",
                    cursor.seq
                );
                let error = Error::new(Code::LogNotApplied, message);
                // The waiting pages cannot be used, and the next ones may differ.
                self.puller.restart(cursor);
                self.leave_alone(error, SyncState::Trouble);
            }
            Err(error) => self.failed_locally(error),
        }
    }

    /// The remote has answered which of these events it has.
    fn reconciled(&mut self, ids: &[EventId], answer: Answer) {
        let (found, meta) = match self.reconcile.read(answer) {
            Ok(read) => read,
            Err(error) => return self.failed(None, error),
        };
        let incarnations = match self.store.incarnations() {
            Ok(incarnations) => incarnations,
            Err(error) => return self.failed_locally(error),
        };
        let (epoch, place) = (self.identity.epoch(), self.puller.place());
        if let Err((error, state)) = examine(epoch, place, &incarnations, meta.as_ref()) {
            return self.leave_alone(error, state);
        }
        let wall_ms = self.schedule.now().wall_ms;
        match self.reconcile.settle(&mut self.store, ids, found, wall_ms) {
            Reconciled::GoesOn => return self.succeeded(),
            Reconciled::Invalid(error) => return self.failed(None, error),
            Reconciled::Settled(done) => {
                self.succeeded();
                self.integrated(done);
            }
            Reconciled::Lost(done, error) => {
                self.read_outbox();
                self.integrated(done);
                self.contradicted(error);
            }
            Reconciled::GoesFurther(error) => {
                self.puller.expect();
                self.contradicted(error);
            }
            Reconciled::Contradiction(error) => self.contradicted(error),
            Reconciled::Diverged(error) => self.leave_alone(error, SyncState::RolledBack),
            Reconciled::Failed(error) => self.failed_locally(error),
        }
        self.effects.status_changed();
    }

    /// The answers contradict each other. The next ones may agree.
    fn contradicted(&mut self, error: Error) {
        if self.reconcile.contradicted() {
            self.leave_alone(error, SyncState::Trouble);
        } else {
            self.retry_later(error);
        }
    }

    /// The remote has answered a request of the first sync.
    fn first_sync_answered(&mut self, answer: Answer) {
        let wall_ms = self.schedule.now().wall_ms;
        let first_sync = self.first_sync.under_way_mut().expect("its request was in flight");
        match first_sync.answered(answer, wall_ms) {
            Ok(Advance::More) => {
                // If the first sync was done before, only the definitions are compared.
                if self.first_sync.under_way().and_then(FirstSync::store).is_some() {
                    self.succeeded();
                    self.health.first_sync_goes_on();
                } else {
                    // It may be another remote, so this is not a success yet.
                    self.schedule.succeeded();
                    self.health.answered();
                }
            }
            Ok(Advance::Done(report, store, tables)) => {
                self.first_sync_done(*report, *store, tables);
            }
            Ok(Advance::OtherRemote(found)) => {
                self.leave_alone(other_remote(found.as_deref()), SyncState::OtherRemote);
            }
            Err(error) => self.first_sync_failed(error),
        }
        self.effects.status_changed();
    }

    fn first_sync_done(&mut self, report: Report, store: Store, tables: Arc<RemoteTables>) {
        self.store = store;
        self.pusher.forget_staged();
        self.puller.page_was_valid();
        self.succeeded();
        let names: Vec<_> = tables.tables.iter().map(|there| there.table.name.as_str()).collect();
        if let Err(error) = self.store.tables_are_there(&names) {
            self.failed_locally(error);
        }
        self.definitions_compared(tables);
        self.health.pushes_flow();
        match self.store.state() {
            Ok(state) => {
                self.puller.begin_anew(state.place);
                self.identity.is_now(state);
                self.reconcile.accept_remote();
            }
            Err(error) => self.failed_locally(error),
        }
        self.read_outbox();
        self.schedule.poll_now();
        self.effects.extend(Changes::of_first_sync(&report).map(Effect::Notify));
        self.effects.push(Effect::Initialised(report));
    }

    fn first_sync_failed(&mut self, error: Error) {
        let is_adopted = || self.store.is_adopted().unwrap_or(false);
        match error.kind() {
            Kind::Unavailable | Kind::Storage | Kind::Corrupt => self.failed(None, error),
            _ if FirstSyncRun::lacks(&error) && is_adopted() => self.hold_for_missing(error),
            _ => self.leave_alone(error, SyncState::Refused),
        }
    }

    /// A comparison found that the remote lacks an object that every push needs. Pushes wait, and
    /// pulls continue. Before the first sync neither is possible.
    fn hold_for_missing(&mut self, error: Error) {
        tracing::warn!("nothing can be pushed: {error}");
        self.first_sync.put_off();
        self.schedule.succeeded();
        self.health.remote_lacks(error);
        self.schedule.hold_pushes();
        self.schedule.poll_now();
        self.pusher.end_probe();
        self.effects.status_changed();
    }

    /// A request failed, or its answer is not valid. `request` is the exchange, if it was one.
    fn failed(&mut self, request: Option<&ExchangeRequest>, error: Error) {
        if request.is_none()
            && let Some(first_sync) = self.first_sync.under_way_mut()
            && first_sync.recover(&error)
        {
            return;
        }
        match request {
            Some(request) => self.exchange_failed(request, error),
            None => self.read_failed(error),
        }
        self.effects.status_changed();
    }

    fn exchange_failed(&mut self, request: &ExchangeRequest, error: Error) {
        let policy = policy(&error, request.carried(), request.is_paged());
        match (policy, request.push(), request.stage()) {
            (Policy::HoldPushes, ..) => {
                self.hold_pushes(error);
                self.pusher.end_probe();
            }
            (Policy::PartRejected, ..) => match self.pusher.part_rejected(error) {
                PartRejection::Again => {}
                PartRejection::OtherRemote => {
                    self.leave_alone(other_remote(None), SyncState::OtherRemote);
                }
                PartRejection::Hold(error) => self.hold_pushes(error),
            },
            (Policy::StagedTooLarge, _, Some(stage)) => {
                let failure = self.pusher.staged_too_large(stage, request.is_paged(), error);
                self.push_failed(failure);
            }
            (Policy::Bisect, Some(push), _) => {
                if !self.compares_definitions(&error) {
                    let failure = self.pusher.rejected(push, error);
                    self.push_failed(failure);
                }
            }
            (Policy::Split, Some(push), _) => self.pusher.separate(push),
            (Policy::PushLess, Some(push), _) => {
                let failure = self.pusher.too_large(&push.events, error);
                self.push_failed(failure);
            }
            (policy, ..) => self.apply_to_read(policy, error),
        }
    }

    pub(super) fn read_failed(&mut self, error: Error) {
        let policy = policy(&error, Carried::Nothing, false);
        self.apply_to_read(policy, error);
    }

    /// Applies a decision that does not depend on the pushed events.
    fn apply_to_read(&mut self, policy: Policy, error: Error) {
        match policy {
            Policy::LeaveAlone(state) => self.leave_alone(error, state),
            Policy::OtherRemote => {
                let error = other_remote(None).with_source(error);
                self.leave_alone(error, SyncState::OtherRemote);
            }
            // A request without a push has some hundred bytes. A smaller one would not help.
            Policy::NothingFits => self.leave_alone(nothing_fits(error), SyncState::Trouble),
            Policy::PullLess => {
                if !self.puller.too_large() {
                    // From now on pushes are separate requests, so a page that cannot be pulled
                    // does not hold them back.
                    self.pusher.split();
                    self.pusher.end_probe();
                    let error = unpullable(self.puller.place().seq, error);
                    self.leave_alone(error, SyncState::Trouble);
                }
            }
            _ => self.retry_later(error),
        }
    }

    fn push_failed(&mut self, failure: PushFailure) {
        match failure {
            PushFailure::Again => {}
            // The next push records these events as rejected.
            PushFailure::Refuse(ids, reason) => {
                if let Err(error) = self.store.refuse(&ids, &reason) {
                    self.failed_locally(error);
                }
            }
            PushFailure::Hold(error) => self.hold_pushes(error),
        }
    }

    /// Begins to compare the definitions, if a rejection mentions an object and they were not
    /// compared yet. Returns whether it did.
    fn compares_definitions(&mut self, error: &Error) -> bool {
        if !self.first_sync.suspects(error) || self.identity.known().is_none() {
            return false;
        }
        tracing::info!("a push was rejected for the remote's definitions: they are compared again");
        // A table for which the push was planned is gone: then the plan is outdated.
        let missing = missing_table_of(error);
        let is_planned = |name: &str| {
            let tables = self.first_sync.tables();
            tables.is_some_and(|tables| tables.get(name).is_some())
        };
        let is_old = missing.is_some_and(is_planned);
        if is_old && self.first_sync.is_stale() {
            self.schedule.delay_pushes();
        }
        if let Err(error) = self.compare_definitions(missing.filter(|_| !is_old), !is_old) {
            self.failed_locally(error);
        }
        true
    }

    /// The remote's log is not the one that was read. If this was found while a page waits for the
    /// next one, which cannot be integrated, the log is first read once more from the cursor on.
    fn diverged(&mut self, error: Error, state: SyncState) {
        if state != SyncState::RolledBack || !self.puller.is_joining() {
            return self.leave_alone(error, state);
        }
        self.restart_pages();
        let message = "the remote's log has changed in front of what waits to be integrated";
        self.failed(None, Error::corrupt(message).with_source(error));
    }

    /// The page was malformed although the reply was valid. Keep the backoff; resetting it would
    /// retry in a tight loop.
    fn page_invalid(&mut self, error: Error) {
        self.puller.page_was_invalid();
        self.retry_later(error);
        self.effects.status_changed();
    }

    /// The local database failed. It is tried again after a wait, as a remote would be.
    pub(super) fn failed_locally(&mut self, error: Error) {
        tracing::warn!(kind = ?error.kind(), "{error}");
        self.schedule.back_off();
        self.effects.extend(self.waiters.failed(&error));
        self.health.failed_locally(error);
        self.effects.status_changed();
    }

    /// Only a person can fix the problem: nothing is sent for a minute.
    pub(super) fn leave_alone(&mut self, error: Error, state: SyncState) {
        tracing::warn!(kind = ?error.kind(), "{error}");
        self.schedule.leave_alone();
        self.effects.extend(self.waiters.dismiss(&error));
        self.health.refused(error, state);
        self.effects.status_changed();
    }

    /// Tries the request again, after a growing wait.
    pub(super) fn retry_later(&mut self, error: Error) {
        let wait = self.schedule.back_off();
        tracing::info!(kind = ?error.kind(), wait_ms = wait, "{error}");
        self.schedule.poll_after_wait();
        self.effects.extend(self.waiters.failed(&error));
        self.health.request_failed(error);
    }

    /// Holds pushes until a person acts. Pulls continue, and callers receive the error after the
    /// pull.
    pub(super) fn hold_pushes(&mut self, error: Error) {
        tracing::warn!(kind = ?error.kind(), "nothing can be pushed: {error}");
        self.schedule.hold_pushes();
        self.schedule.poll_now();
        self.health.pushes_held(error);
    }
}
