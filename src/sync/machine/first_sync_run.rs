//! A first sync that the machine runs, or a comparison of definitions or of rows.
//!
//! SQLite compiles the triggers of all replicated tables for a push. So where the remote has lost a
//! replicated table, or what a trigger or a view there refers to, every push is rejected, whatever
//! events it has. No event is to blame, and none may be recorded as rejected. So a push that is
//! rejected in words that speak of definitions is no reason to begin a bisection yet: the
//! remote's definitions are compared first, as at a start. If something is missing, pushes wait,
//! and the trouble names it; pulls go on, for they need the log alone. The definitions are compared
//! again when pushes are tried again: a table that is back may be another one, without our
//! triggers.
//!
//! A replicator that starts compares the definitions first. What it finds leads to the same.
//!
//! A push is planned for the remote's definitions, and one that was planned for others than the
//! remote has is not taken in. So the definitions are remembered as they were compared, and
//! compared again before a push where they are not known: the remote's schema has changed, or the
//! remote may be another one.

use std::sync::Arc;

use crate::error::{Code, Error, Kind};
use crate::event::Seq;
use crate::protocol::remote_tables::RemoteTables;
use crate::sync::first_sync::run::FirstSync;
use crate::sync::machine::find::Finder;
use crate::sync::machine::recapture::Recapture;
use crate::sync::status::FirstSyncProgress;

/// The first sync or the comparison of one machine.
///
/// * While one is under way, nothing else is asked.
pub(super) struct FirstSyncRun {
    /// The comparison of rows of suspect tables.
    recapture: Recapture,
    under_way: Option<FirstSync>,
    /// The definitions were compared since the last push that was taken in.
    is_compared: bool,
    /// Something is missing. This compares the definitions again when pushes are tried again.
    again: Option<FirstSync>,
    /// The remote's tables, as they were last compared. `None` if they may be others.
    tables: Option<Arc<RemoteTables>>,
    /// How many times in a row the schema was another one than the one that was compared.
    stale: u32,
    /// The definitions are to be compared, also if there is nothing to push.
    wants_comparison: bool,
    rest: Rest,
    /// The version of this file's schema.
    local: Option<i64>,
    finder: Finder,
}

/// How long a schema must not change to be at rest, in ms: a migration is several statements.
const REST_MS: u64 = 60_000;

/// When the remote's schema was last at rest.
#[derive(Clone, Copy, Default)]
struct Rest {
    /// Since when it is the one that was compared, in steady ms.
    begun: Option<u64>,
    /// The end of the log when it was last at rest.
    since: Option<Seq>,
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
        self.local = None;
    }

    /// It is given up.
    pub(super) fn end(&mut self) {
        self.under_way = None;
    }

    /// This file's schema has this version. If it had another one when the tables were compared,
    /// they are compared again.
    pub(super) fn is_local_schema(&mut self, version: i64) {
        if self.local.replace(version).is_some_and(|known| known != version) {
            self.tables = None;
        }
    }

    /// The remote's tables, as far as they are known.
    pub(super) fn tables(&self) -> Option<Arc<RemoteTables>> {
        self.tables.clone()
    }

    /// The remote's tables are these, as far as this file knows.
    pub(super) fn know_tables(&mut self, tables: RemoteTables) {
        self.tables = Some(Arc::new(tables));
    }

    /// The remote's tables may be others than those that were compared.
    pub(super) fn forget_tables(&mut self) {
        self.tables = None;
    }

    /// The remote's schema is another one than the one that was compared. Gives whether it was so
    /// the last time too.
    pub(super) fn is_stale(&mut self) -> bool {
        (self.tables, self.wants_comparison, self.rest.begun) = (None, true, None);
        self.stale = self.stale.saturating_add(1);
        self.stale > 1
    }

    /// The remote's schema is the one that was compared, and its log ends at `head`.
    pub(super) fn is_current(&mut self, steady_ms: u64, head: Seq) {
        self.stale = 0;
        let begun = *self.rest.begun.get_or_insert(steady_ms);
        if steady_ms.saturating_sub(begun) >= REST_MS {
            self.rest.since = Some(head);
        }
    }

    /// The search for what capture on the remote has missed.
    pub(super) fn finder(&self) -> &Finder {
        &self.finder
    }

    /// The same, to go on with it.
    pub(super) fn finder_mut(&mut self) -> &mut Finder {
        &mut self.finder
    }

    /// The definitions are to be compared again.
    pub(super) fn look_again(&mut self) {
        self.wants_comparison = true;
    }

    /// Whether the definitions are to be compared, also if there is nothing to push.
    pub(super) fn wants_comparison(&self) -> bool {
        self.wants_comparison && self.under_way.is_none()
    }

    /// The end of the log when the remote's schema was last at rest, if this process has seen it.
    pub(super) fn rested_since(&self) -> Option<Seq> {
        self.rest.since
    }

    /// How far it is, as far as it is shown. Of a replica whose first sync is done nothing is shown
    /// while only definitions are compared.
    pub(super) fn progress(&self, has_identity: bool) -> Option<FirstSyncProgress> {
        let begun = |first_sync: &&FirstSync| first_sync.store().is_some() || !has_identity;
        self.under_way
            .as_ref()
            .filter(begun)
            .map(|first_sync| FirstSyncProgress::of(first_sync.phase()))
    }

    /// Whether a rejection speaks of definitions that were not compared yet.
    pub(super) fn suspects(&self, error: &Error) -> bool {
        let codes = [Code::StatementTableMissing, Code::StatementColumnMissing];
        codes.contains(&error.code()) && !self.is_compared && self.under_way.is_none()
    }

    /// Compares the definitions, for the sake of a push: one that was `rejected`, or the next one.
    pub(super) fn compare(&mut self, comparison: FirstSync, rejected: bool) {
        (self.under_way, self.again, self.tables) = (Some(comparison), None, None);
        self.is_compared |= rejected;
    }

    /// A push was taken in, or the remote is another one: the definitions are as they should be.
    pub(super) fn trust(&mut self) {
        (self.is_compared, self.again) = (false, None);
    }

    /// Compares the definitions again, if something was missing.
    pub(super) fn compare_again(&mut self) {
        if self.under_way.is_none() {
            self.under_way = self.again.take();
        }
    }

    /// Whether this ended a comparison because the remote lacks something that pushes need, or the
    /// two sides differ.
    pub(super) fn lacks(error: &Error) -> bool {
        matches!(error.code(), Code::RemoteTableMissing | Code::RemoteObjectMissing)
            || error.kind() == Kind::Usage
    }

    /// The remote lacks something: the comparison is kept until pushes are tried again.
    pub(super) fn put_off(&mut self) {
        let mut comparison = self.under_way.take();
        if let Some(comparison) = &mut comparison {
            comparison.restart();
        }
        (self.is_compared, self.again, self.tables) = (true, comparison, None);
        self.wants_comparison = false;
    }
}
