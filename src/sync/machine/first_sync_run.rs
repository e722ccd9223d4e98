//! Runs a first sync, or a comparison of definitions or of rows, for the machine.
//!
//! SQLite compiles the triggers of all replicated tables for a push. So if the remote has lost a
//! replicated table, or an object that a trigger or a view there refers to, every push is rejected,
//! whatever its events. No event is responsible, and none may be recorded as rejected. So if a
//! rejection mentions a missing object, the remote's definitions are compared first, before a
//! bisection. If something is missing, pushes wait, and the status names it. Pulls continue,
//! because they need only the log. The definitions are compared again when pushes are tried again:
//! a table that was created again may lack our triggers.
//!
//! A replicator that starts compares the definitions first, with the same consequences.
//!
//! A push is planned for the remote's definitions. The remote does not accept one that was planned
//! for others. So the compared definitions are remembered. If they are not known, because the
//! remote's schema has changed or the remote may be another one, they are compared before the next
//! push.

use std::sync::Arc;

use crate::error::{Code, Error, Kind};
use crate::event::Seq;
use crate::protocol::remote_tables::RemoteTables;
use crate::store::Adopted;
use crate::sync::first_sync::run::FirstSync;
use crate::sync::machine::find::Finder;
use crate::sync::machine::recapture::Recapture;
use crate::sync::status::FirstSyncProgress;

/// The first sync or the comparison of one machine.
///
/// * While one is running, no other request is made.
pub(super) struct FirstSyncRun {
    /// The comparison of rows of suspect tables.
    recapture: Recapture,
    under_way: Option<FirstSync>,
    /// Whether the definitions were compared since the last accepted push.
    is_compared: bool,
    /// The comparison that runs again when pushes are tried again, if something is missing.
    again: Option<FirstSync>,
    /// The remote's tables from the last comparison. `None` if they may have changed.
    tables: Option<Arc<RemoteTables>>,
    /// The number of consecutive answers with another schema than the compared one.
    stale: u32,
    /// Whether the definitions must be compared even if nothing is to be pushed.
    wants_comparison: bool,
    rest: Rest,
    /// The version of this file's schema.
    local: Option<i64>,
    finder: Finder,
}

/// How long a schema must stay unchanged to be at rest, in ms: a migration has several statements.
const REST_MS: u64 = 60_000;

/// When the remote's schema was last at rest.
#[derive(Clone, Copy, Default)]
struct Rest {
    /// When it became the compared one, in steady ms.
    begun: Option<u64>,
    /// The end of the log when it was last at rest.
    since: Option<Seq>,
    /// When new tables have stayed for long enough, in steady ms.
    newcomers: Option<u64>,
}

impl FirstSyncRun {
    pub(super) fn new(first_sync: Option<FirstSync>) -> Self {
        FirstSyncRun {
            recapture: Recapture::default(),
            under_way: first_sync,
            is_compared: false,
            again: None,
            tables: None,
            stale: 0,
            wants_comparison: false,
            rest: Rest::default(),
            local: None,
            finder: Finder::default(),
        }
    }

    /// What was found of the tables that joined last.
    pub(super) fn joined(&self) -> Option<&Adopted> {
        self.recapture.joined()
    }

    /// The comparison of rows of suspect tables.
    pub(super) fn recapture(&mut self) -> &mut Recapture {
        &mut self.recapture
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    pub(super) fn under_way(&self) -> Option<&FirstSync> {
        self.under_way.as_ref()
    }

    pub(super) fn under_way_mut(&mut self) -> Option<&mut FirstSync> {
        self.under_way.as_mut()
    }

    pub(super) fn begin(&mut self, first_sync: FirstSync) {
        (self.under_way, self.tables) = (Some(first_sync), None);
    }

    /// It is done, and these are the remote's tables.
    pub(super) fn done(&mut self, tables: Arc<RemoteTables>) {
        (self.under_way, self.tables, self.wants_comparison) = (None, Some(tables), false);
        (self.local, self.rest.newcomers) = (None, None);
    }

    /// Gives it up.
    pub(super) fn end(&mut self) {
        self.under_way = None;
    }

    /// This file's schema has this version. If it had another one when the tables were compared,
    /// they are compared again. Gives whether this version is new to this process.
    pub(super) fn is_local_schema(&mut self, version: i64) -> bool {
        let known = self.local.replace(version);
        if known.is_some_and(|known| known != version) {
            self.tables = None;
        }
        known != Some(version)
    }

    /// The remote's tables, if they are known.
    pub(super) fn tables(&self) -> Option<Arc<RemoteTables>> {
        self.tables.clone()
    }

    /// Sets the remote's tables, as this file remembers them.
    pub(super) fn know_tables(&mut self, tables: RemoteTables) {
        self.tables = Some(Arc::new(tables));
    }

    /// The remote's tables may differ from the compared ones.
    pub(super) fn forget_tables(&mut self) {
        self.tables = None;
    }

    /// The remote's schema differs from the compared one. Returns whether it did the last time too.
    pub(super) fn is_stale(&mut self) -> bool {
        (self.tables, self.wants_comparison, self.rest.begun) = (None, true, None);
        self.stale = self.stale.saturating_add(1);
        self.stale > 1
    }

    /// The remote's schema is the compared one, and its log ends at `head`.
    pub(super) fn is_current(&mut self, steady_ms: u64, head: Seq) {
        self.stale = 0;
        let begun = *self.rest.begun.get_or_insert(steady_ms);
        if steady_ms.saturating_sub(begun) >= REST_MS {
            self.rest.since = Some(head);
        }
    }

    /// The search for writes that capture on the remote has missed.
    pub(super) fn finder(&self) -> &Finder {
        &self.finder
    }

    /// The same, for the next step.
    pub(super) fn finder_mut(&mut self) -> &mut Finder {
        &mut self.finder
    }

    /// Requests that the definitions are compared again.
    pub(super) fn look_again(&mut self) {
        self.wants_comparison = true;
    }

    /// Whether the definitions are to be compared, also if there is nothing to push.
    pub(super) fn wants_comparison(&self, steady_ms: u64) -> bool {
        let is_due = self.rest.newcomers.is_some_and(|due| steady_ms >= due);
        (self.wants_comparison || is_due) && self.under_way.is_none()
    }

    /// There are new tables, which are taken if they stay.
    pub(super) fn await_newcomers(&mut self, steady_ms: u64) {
        self.rest.newcomers = Some(steady_ms + REST_MS);
    }

    /// The end of the log when the remote's schema was last at rest, if this process has seen it.
    pub(super) fn rested_since(&self) -> Option<Seq> {
        self.rest.since
    }

    /// The progress, as far as it is shown. If the first sync was done before, a comparison of
    /// definitions is not shown.
    pub(super) fn progress(&self, has_identity: bool) -> Option<FirstSyncProgress> {
        let begun = |first_sync: &&FirstSync| first_sync.store().is_some() || !has_identity;
        self.under_way
            .as_ref()
            .filter(begun)
            .map(|first_sync| FirstSyncProgress::of(first_sync.phase()))
    }

    /// Whether a rejection mentions an object, and the definitions were not compared yet.
    pub(super) fn suspects(&self, error: &Error) -> bool {
        let codes = [Code::StatementTableMissing, Code::StatementColumnMissing];
        codes.contains(&error.code()) && !self.is_compared && self.under_way.is_none()
    }

    /// Compares the definitions for a push: one that was `rejected`, or the next one.
    pub(super) fn compare(&mut self, comparison: FirstSync, rejected: bool) {
        (self.under_way, self.again, self.tables) = (Some(comparison), None, None);
        self.is_compared |= rejected;
    }

    /// A push was accepted, or the remote is another one: the definitions count as valid.
    pub(super) fn trust(&mut self) {
        (self.is_compared, self.again) = (false, None);
    }

    /// Compares the definitions again, if something was missing.
    pub(super) fn compare_again(&mut self) {
        if self.under_way.is_none() {
            self.under_way = self.again.take();
        }
    }

    /// Whether this error ended a comparison because the remote lacks an object that pushes need,
    /// or because the two sides differ.
    pub(super) fn lacks(error: &Error) -> bool {
        matches!(error.code(), Code::RemoteTableMissing | Code::RemoteObjectMissing)
            || error.kind() == Kind::Usage
    }

    /// The remote lacks something. The comparison is kept until pushes are tried again.
    pub(super) fn put_off(&mut self) {
        let mut comparison = self.under_way.take();
        if let Some(comparison) = &mut comparison {
            comparison.restart();
        }
        (self.is_compared, self.again, self.tables) = (true, comparison, None);
        self.wants_comparison = false;
    }
}
