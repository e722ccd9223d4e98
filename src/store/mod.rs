//! The local database: the outbox, the log, and the rows in step with the remote's.
//!
//! A [`Store`] is one connection to one replica's database, for one thread. The application writes
//! through connections of its own, at any time and from any program; capture triggers append what
//! it does to the outbox ([`capture`](crate::capture)). The store reads the outbox for the pusher
//! ([`Store::note_boundary`], [`Store::outgoing_behind`], [`Store::sent`]) and integrates what
//! comes from the remote ([`Store::integrate`]).
//!
//! A [`Page`](crate::event::page::Page) of the remote log is integrated in one local transaction,
//! as a rebase of the rows that it touches. The invariant, after each page, is: **a row is the fold
//! of the remote log up to the cursor, with this replica's pending events of that row, those that
//! have not lost, on top in their order.** Every event of the page is sealed into the local log
//! ([`Store::log`]), whatever became of it.
//!
//! An own event that lost goes to the conflict inbox ([`Store::conflict_page`]), where it can be
//! restored. An event that cannot be applied here goes to quarantine ([`Store::quarantine`]), and
//! the rest goes on. [`Store::stage`] and [`Store::adopt_by`] are the first sync.
//!
//! # Caveats
//!
//! * Triggers of the application run during a replay, but what they write to a replicated table is
//!   left out. A trigger that refuses a remote event's row is left out for that row, with all other
//!   triggers; one that rolls the transaction back, for the page. A trigger that calls a function
//!   which only the application has sends its table's events to quarantine.
//! * While triggers run, what a schema says about conflicts (`ON CONFLICT REPLACE` on a constraint)
//!   is overridden for their statements too, on that table.
//! * `replaying` and the pending events' index assume one replicator a file at a time: the driver's
//!   lock sees to that. A second store may read, and notices when it takes over.
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
    /// The rows without a parent that were counted last, and when.
    dangling: RefCell<local::dangling::Counted>,
    /// `PRAGMA schema_version` when the definitions were read.
    schema_version: i64,
    /// The same at the last looks at the triggers and the quarantine.
    looks: schema::notice::SchemaVersionsSeen,
    /// The tables of which capture may have missed writes.
    suspects: Vec<schema::notice::Suspect>,
    guard: rows::trigger_guard::Guard,
    /// What is known of the outbox.
    outbox: outbox::Outbox,
    /// The tables that are not replicated, and the schema version for which that is.
    left_out: RefCell<(Option<i64>, Vec<LeftOut>)>,
    /// What the application registers on each connection.
    on_connect: OnConnect,
    /// The file, and what is remembered of it.
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

    /// What is done with each connection to its file.
    pub fn on_connect(&self) -> &OnConnect {
        &self.on_connect
    }

    /// Whether another program has the write lock in this moment.
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

    /// After how many pages of the write-ahead log a commit of this store writes it back, with the
    /// write lock free again. 1,000 at first.
    pub fn checkpoint_after(&self, pages: u32) -> Result<()> {
        Ok(self.db.pragma_update(None, "wal_autocheckpoint", pages)?)
    }

    /// A setting's text.
    pub fn setting(&self, name: &str) -> Result<Option<String>> {
        connection::setting(&self.db, name)
    }

    /// Writes a setting; `None` takes it away.
    pub fn set_setting(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        connection::set_setting(&self.db, name, value)
    }

    /// Names another URL for the remote. Whether it is the same database is for its epoch to say.
    pub fn set_url(&mut self, url: &str) -> Result<()> {
        self.set_setting("url", Some(url))
    }

    /// Limits the database to `pages` pages, as a full disk would: what needs more fails with a
    /// `Storage` error, and nothing of it happens. It lasts until the database is opened again, and
    /// does not make a database smaller.
    #[cfg(feature = "internals")]
    pub fn limit_pages(&mut self, pages: u32) -> Result<()> {
        Ok(self.db.pragma_update(None, "max_page_count", pages)?)
    }

    /// Where a table stands among the replicated ones.
    fn table_index(&self, name: &str) -> Option<usize> {
        let exact = self.tables.iter().position(|replicated| replicated.table.name == name);
        exact.or_else(|| {
            self.tables
                .iter()
                .position(|replicated| replicated.table.name.eq_ignore_ascii_case(name))
        })
    }
}
