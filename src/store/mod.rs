//! The local database: the outbox, the log, and the replicated rows.
//!
//! A [`Store`] is one connection to one replica's database, for one thread. The application writes
//! through its own connections, at any time and from any program, and capture triggers append its
//! changes to the outbox ([`capture`](crate::capture)). The store reads the outbox for the pusher,
//! and integrates the pages of the remote's log. It knows no network.
//!
//! # The outbox
//!
//! `outbox` turns the rows of `driftless_outbox` into a push. [`Store::note_boundary`] records
//! where transactions ended. [`Store::outgoing`] returns the next unsent events. It restores their
//! order, keeps events together that depend on each other, and ends where a transaction ended if it
//! can. [`Store::sent`] records that the remote has judged them.
//!
//! # The rows
//!
//! A [`Page`](crate::event::page::Page) of the remote's log is integrated in one local transaction
//! by [`Store::integrate`] (`apply`), as a rebase of the rows that it changes. The invariant after
//! each page is: **a row is the fold of the remote log up to the cursor, with this replica's
//! pending events of that row that have not lost on top, in their order.** Every event of the page
//! is sealed into the local log ([`Store::log`]), whether it was applied or not.
//!
//! A page that a constraint refuses is tried again with a slower `Strategy`, which passes through
//! fewer intermediate states. An event that cannot be applied goes to quarantine
//! ([`Store::quarantine`]), and the page continues. A pending event that has probably lost is set
//! aside: it is taken off its row and waits for its verdict. An own event that lost goes to the
//! conflict inbox ([`Store::conflict_page`]), from where it can be restored.
//!
//! # Other parts
//!
//! * `bootstrap`: the rows of a first sync. [`Store::stage`] collects them beside the tables, and
//!   [`Store::adopt`] shows them in one transaction.
//! * `recapture`: changes that capture missed because the application rebuilt a table. They are
//!   found by comparing rows with the remote's.
//! * `local`: tables that are not replicated but refer to replicated rows. Their foreign keys act
//!   as the application declared them.
//! * `schema`: our own tables and triggers, and their upgrades.
//! * `file`, `identity`: whether the file was restored, copied or replaced.
//! * `verify`: the local side of a comparison of all rows, and the check of the local log.
//!
//! # Invariants
//!
//! * Everything that belongs together is one transaction: a page with its verdicts, its frames and
//!   the cursor.
//! * Capture is silent only while `driftless_state.replaying` is set, and only the transaction that
//!   sets it can see that.
//! * The store writes only on top of a state of the file that it knows.
//! * No SQL text is made from an event. Names in an event are looked up in the table's definition.
//!
//! # Caveats
//!
//! * Triggers of the application run during a replay, but their writes to replicated tables are
//!   dropped. If a trigger refuses a remote event's row, the row is written with all triggers off.
//!   If a trigger rolls the transaction back, the page is applied without triggers. If a trigger
//!   calls a function that only the application has, its table's events go to quarantine.
//! * While triggers run, an `ON CONFLICT REPLACE` on a constraint of the table is overridden, for
//!   their statements too.
//! * `replaying` and the index of pending events assume that only one replicator at a time works on
//!   a file. The driver's lock ensures that. A second store may read, and notices when it takes
//!   over.
//! * The file may be restored or replaced under an open store: see `file`.

mod apply;
mod bootstrap;
mod conflicts;
mod connection;
mod echo;
mod file;
mod file_state;
mod identity;
mod local;
mod log;
mod open;
mod outbox;
mod quarantine;
mod recapture;
mod removal;
mod rows;
mod schema;
mod state;
mod verify;
mod waiting;

pub use self::apply::page::Outcome;
pub use self::apply::reconcile::Settlement;
pub use self::apply::step::Integrated;
pub use self::bootstrap::merge::{Adopted, AdoptedTable};
pub use self::bootstrap::prefer::{Judge, Prefer, Preferences};
pub use self::bootstrap::rehearse::Orphans;
pub(crate) use self::bootstrap::rehearse::SettledTables;
pub use self::conflicts::entry::{ConflictKind, ConflictState};
pub use self::conflicts::inbox::{Conflict, ConflictCount, Dismissed, NewKey};
pub use self::conflicts::restore::{Restored, Unrestored};
pub use self::conflicts::selection::{ConflictFilter, Selection};
pub use self::connection::OnConnect;
pub(crate) use self::file_state::{FileId, FileState, has_log_of};
pub use self::identity::NewRemote;
pub use self::local::dangling::Dangling;
pub use self::outbox::batch::{GROUP_BYTES, GROUP_EVENTS, OutboxState, PushLimit};
pub(crate) use self::outbox::grouping::are_bound;
pub use self::outbox::row::FkDeferral;
pub use self::outbox::watch::Watch;
pub use self::removal::{OnlyHere, Removed};
pub use self::rows::writable::Unwritable;
pub(crate) use self::schema::definitions::Local;
pub use self::schema::definitions::{Definition, application_connection, definitions};
pub(crate) use self::schema::install::TABLES_SQL;
pub use self::schema::replicated::ReplicatedTable;
pub use self::verify::fold_check::{FoldCheck, FoldDifference};
pub use self::verify::log_check::LogCheck;
pub use self::verify::repair::Repaired;
pub use self::verify::snapshot::{PlainFile, Snapshot};
pub use self::waiting::held::{Holds, Obstacle, Waiting};
pub use identity::{Cause, PastIdentity};
pub use log::reader::{LogReader, OfRow, Pending, Waits};
pub use log::revert::{KeptEvent, Reverted, RevertedEvent};
pub use log::{Entry, EventState, LogFilter, PendingEntry};
pub use quarantine::{Quarantined, Retried};
pub(crate) use recapture::Remote;
pub use recapture::{Recaptured, Returned, ReturnedRows};
pub use schema::Setup;
pub use schema::migrate::Rename;
pub(crate) use schema::migrate::{Bracket, Migration};
#[cfg(feature = "internals")]
pub use schema::migrate::{begin_migration, end_migration, migrate};
pub use schema::notice::Suspect;

use std::cell::RefCell;
use std::path::Path;

pub use rusqlite::Connection;

pub use self::state::State;
use crate::catalog::LeftOut;
use crate::error::{Code, Error, Result};
use crate::event::ReplicaId;

/// A replica's database.
///
/// Every method that returns a `Result` fails with `Storage` when the database fails. Other errors
/// are named beside the method.
pub struct Store {
    db: Connection,
    id: ReplicaId,
    tables: Vec<ReplicatedTable>,
    /// Tables that are not replicated and refer to those that are.
    dependents: local::dependents::Dependents,
    /// The last count of rows without a parent, with its time.
    dangling: RefCell<local::dangling::Counted>,
    /// `PRAGMA schema_version` when the definitions were read.
    schema_version: i64,
    /// `PRAGMA schema_version` at the last checks of the triggers and of the quarantine.
    looks: schema::notice::SchemaVersionsSeen,
    /// The tables of which capture may have missed writes.
    suspects: Vec<schema::notice::Suspect>,
    guard: rows::trigger_guard::Guard,
    /// What is known of the outbox.
    outbox: outbox::Outbox,
    /// The tables that are not replicated, and the schema version for which the list is valid.
    left_out: RefCell<(Option<i64>, Vec<LeftOut>)>,
    /// The application's callback for each connection.
    on_connect: OnConnect,
    /// The file, and the state of it that is remembered.
    file: file_state::OpenFile,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.path())
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// The database's file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The replica's identity.
    pub fn id(&self) -> ReplicaId {
        self.id
    }

    /// The callback for each connection to its file.
    pub fn on_connect(&self) -> &OnConnect {
        &self.on_connect
    }

    /// Whether another program has the write lock at this moment.
    pub(crate) fn is_locked(&self) -> Result<bool> {
        self.db.busy_timeout(std::time::Duration::ZERO)?;
        let tried = self.db.execute_batch("BEGIN IMMEDIATE; ROLLBACK").map_err(Error::from);
        self.db.busy_timeout(connection::BUSY_TIMEOUT)?;
        match tried {
            Err(error) if error.code() == Code::DatabaseLocked => Ok(true),
            tried => tried.map(|()| false),
        }
    }

    /// A number that changes when another connection has committed.
    pub fn data_version(&self) -> Result<i64> {
        let mut statement = self.db.prepare_cached("PRAGMA data_version")?;
        Ok(statement.query_row([], |row| row.get(0))?)
    }

    /// The number of pages in the write-ahead log after which a commit of this store writes the log
    /// back. The write lock is free meanwhile. It is 1,000 at first.
    pub fn checkpoint_after(&self, pages: u32) -> Result<()> {
        Ok(self.db.pragma_update(None, "wal_autocheckpoint", pages)?)
    }

    /// The text of a setting.
    pub fn setting(&self, name: &str) -> Result<Option<String>> {
        connection::setting(&self.db, name)
    }

    /// Writes a setting; `None` removes it.
    pub fn set_setting(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        connection::set_setting(&self.db, name, value)
    }

    /// Sets another URL for the remote. Whether it leads to the same database is found out by its
    /// epoch.
    pub fn set_url(&mut self, url: &str) -> Result<()> {
        self.set_setting("url", Some(url))
    }

    /// Limits the database to `pages` pages, like a full disk: a write that needs more fails with a
    /// `Storage` error and changes nothing. The limit ends when the database is opened again. It
    /// does not shrink a larger database.
    #[cfg(feature = "internals")]
    pub fn limit_pages(&mut self, pages: u32) -> Result<()> {
        Ok(self.db.pragma_update(None, "max_page_count", pages)?)
    }

    /// The place of a table among the replicated ones.
    fn table_index(&self, name: &str) -> Option<usize> {
        let exact = self.tables.iter().position(|replicated| replicated.table.name == name);
        exact.or_else(|| {
            self.tables
                .iter()
                .position(|replicated| replicated.table.name.eq_ignore_ascii_case(name))
        })
    }
}
