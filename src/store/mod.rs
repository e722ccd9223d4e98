//! The local database: the outbox, the log, and the rows in step with the remote's.
//!
//! A [`Store`] is one connection to one replica's database, for one thread. The application writes
//! through connections of its own, at any time and from any program; capture triggers append what
//! it does to the outbox ([`capture`](crate::capture)). The store reads the outbox for the pusher
//! ([`Store::mark`], [`Store::outgoing`], [`Store::sent`]) and integrates what comes from the
//! remote ([`Store::integrate`]).
//!
//! A [`Page`](crate::event::page::Page) of the remote log is integrated in one local transaction,
//! as a rebase of the rows that it touches. The invariant, after each page, is: **a row is the fold
//! of the remote log up to the cursor, with this replica's pending events of that row, those that
//! have not lost, on top in their order.** Every event of the page is sealed into the local log
//! ([`Store::log`]), whatever became of it.
//!
//! An own event that lost goes to the conflict inbox ([`Store::conflicts`]), where it can be
//! restored. An event that cannot be applied here goes to quarantine ([`Store::quarantine`]), and
//! the rest goes on. [`Store::stage`] and [`Store::adopt`] are the first sync.
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
mod definitions;
mod file;
mod identifier_case;
mod identity;
mod left_out;
mod local;
mod log;
mod outbox;
mod quarantine;
mod schema;
mod upgrade;

pub use self::apply::page::{Integrated, Outcome};
pub use self::apply::reconcile::Late;
pub use self::bootstrap::merge::{Adopted, AdoptedTable, NewRemote};
pub use self::bootstrap::rehearse::Orphans;
pub use self::conflicts::inbox::{
    Conflict, ConflictCount, ConflictFilter, ConflictKind, ConflictState, Dismissed, NewKey,
    Selection,
};
pub use self::conflicts::restore::{Restored, Unrestored};
pub use self::connection::OnConnect;
pub use self::local::dangling::Dangling;
pub use self::outbox::batch::{GROUP_BYTES, GROUP_EVENTS, Hints, PushLimit};
pub use self::outbox::boundaries::Watch;
pub(crate) use self::outbox::grouping::are_bound;
pub(crate) use definitions::Local;
pub use definitions::{Definition, application_connection, definitions};
pub(crate) use file::{FileId, FileState, has_log_of};
pub use identity::{Cause, Former};
pub use log::{Entry, LogFilter, PendingEvent, Standing};
pub use quarantine::{Quarantined, Retried};
pub(crate) use schema::TABLES_SQL;
pub use schema::{ReplicatedTable, Setup, Unwritable};

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};

pub use rusqlite::Connection;

use crate::catalog::LeftOut;
use crate::error::{Code, Error, Result};
use crate::event::frame::Hash;
use crate::event::{ReplicaId, Seq};
use crate::protocol::incarnation::Place;

/// The setting for [`State::in_parts`].
const IN_PARTS: &str = "in_parts";

/// A replica's database.
pub struct Store {
    db: Connection,
    path: PathBuf,
    id: ReplicaId,
    tables: Vec<ReplicatedTable>,
    /// Tables that are not replicated and refer to those that are.
    dependents: local::dependents::Dependents,
    /// The rows without a parent that were counted last, and when.
    dangling: RefCell<local::dangling::Counted>,
    /// `PRAGMA schema_version` when the definitions were read.
    schema_version: i64,
    /// The same when the capture triggers were last compared with what they should be; `None` if
    /// that was before this store was opened.
    checked: Option<i64>,
    /// The value of `checked` for which the quarantine was last looked at.
    retried: Option<i64>,
    guard: apply::trigger_guard::Guard,
    pending: RefCell<outbox::pending::Pending>,
    layouts: outbox::reader::Layouts,
    /// Outbox numbers at which a transaction ended.
    marks: outbox::boundaries::Shared,
    /// The dependency spans of a stretch of the outbox that is larger than a push, and the schema
    /// version of the definitions that they were found with. An event's values never change, but
    /// numbers may: what renumbers events forgets them.
    spans: RefCell<Option<(i64, outbox::spans::Spans)>>,
    /// The greatest time of a local event that was the newest when [`Store::mark`] looked.
    newest_ms: i64,
    /// The tables that are not replicated, and the schema version for which that is.
    left_out: RefCell<(Option<i64>, Vec<LeftOut>)>,
    /// What the application registers on each connection.
    on_connect: OnConnect,
    /// The state of the file that the replicator's own writes go on top of.
    known: RefCell<Option<file::Known>>,
    /// The file, where a system tells.
    file: Option<FileId>,
    /// Its write-ahead log, and `PRAGMA data_version`, when the path was last seen to be right.
    log_file: Cell<Option<FileId>>,
    version: Cell<i64>,
    /// The last attempt to write found a state that is not known.
    stale: Cell<bool>,
}

/// Where a replica stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its identity.
    pub replica: ReplicaId,
    /// The remote's URL.
    pub url: String,
    /// The remote's identity, once it is known.
    pub epoch: Option<String>,
    /// The highest seq that is integrated.
    pub cursor: Seq,
    /// The same place, with the event there.
    pub place: Place,
    /// The highest outbox number whose verdict the remote has given.
    pub sent: i64,
    /// Local events whose verdict is not known here.
    pub pending: u64,
    /// Those among them that the remote has not judged.
    pub unsent: u64,
    /// When the oldest pending event was made: ms since 1970.
    pub oldest_pending_ms: Option<i64>,
    /// Open conflicts.
    pub conflicts: u64,
    /// Events in quarantine.
    pub quarantined: u64,
    /// Rows of tables that are not replicated whose parent is gone.
    pub dangling: Vec<Dangling>,
    /// The database's size in bytes, without its write-ahead log.
    pub bytes: u64,
    /// The head of the local log's chain.
    pub chain: Hash,
    /// Who is at work, as the application set it.
    pub actor: Option<String>,
    /// Whether a transaction of another writer is being integrated in parts.
    pub in_parts: bool,
}

impl State {
    /// Of a replica whose file cannot be read.
    pub(crate) fn unknown(replica: ReplicaId) -> State {
        State {
            replica,
            url: String::new(),
            epoch: None,
            cursor: Seq(0),
            place: Place::default(),
            sent: 0,
            pending: 0,
            unsent: 0,
            oldest_pending_ms: None,
            conflicts: 0,
            quarantined: 0,
            dangling: Vec::new(),
            bytes: 0,
            chain: [0; 32],
            actor: None,
            in_parts: false,
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.path)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// The database's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The replica's identity.
    pub fn id(&self) -> ReplicaId {
        self.id
    }

    /// Where the replica stands. Its cost does not grow with the outbox, once that has been read.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn state(&self) -> Result<State> {
        let tx = self.db.unchecked_transaction()?;
        let mut statement = tx.prepare_cached(
            "SELECT cursor, sent, chain, actor,
                    (SELECT count(*) FROM driftless_conflicts WHERE state = 'open')
                        + (SELECT count(*) FROM driftless_old_conflicts WHERE state = 'open'),
                    (SELECT count(*) FROM driftless_quarantine),
                    (SELECT page_count FROM pragma_page_count)
                        * (SELECT page_size FROM pragma_page_size)
             FROM driftless_state",
        )?;
        let mut state = statement.query_row([], |row| {
            Ok(State {
                replica: self.id,
                url: String::new(),
                epoch: None,
                cursor: Seq(row.get(0)?),
                place: Place::default(),
                sent: row.get(1)?,
                chain: row.get(2)?,
                actor: row.get(3)?,
                pending: 0,
                unsent: 0,
                oldest_pending_ms: None,
                conflicts: row.get::<_, i64>(4)? as u64,
                quarantined: row.get::<_, i64>(5)? as u64,
                dangling: Vec::new(),
                bytes: row.get::<_, i64>(6)? as u64,
                in_parts: false,
            })
        })?;
        drop(statement);
        state.dangling = self.dangling()?;
        state.place = identity::place(&tx)?;
        state.url = connection::setting(&tx, "url")?.unwrap_or_default();
        state.in_parts = connection::setting(&tx, IN_PARTS)?.is_some();
        // What is none, in a file that somebody has changed, must not become a part of SQL.
        let epoch = connection::setting(&tx, "epoch")?;
        state.epoch = epoch.filter(|epoch| !epoch.contains('\0'));
        let mut pending = self.pending.borrow_mut();
        pending.refresh(&tx, &self.layouts, state.cursor)?;
        self.remember_outbox(&tx)?;
        state.pending = pending.len() as u64;
        state.unsent = pending.above(state.sent) as u64;
        if let Some(oldest) = pending.numbers().next() {
            let sql = "SELECT ms FROM driftless_outbox WHERE n = ?1";
            let oldest = tx.prepare_cached(sql)?.query_row([oldest], |row| row.get(0))?;
            state.oldest_pending_ms = Some(oldest);
        }
        Ok(state)
    }

    /// What is done with each connection to its file.
    pub fn on_connect(&self) -> &OnConnect {
        &self.on_connect
    }

    /// Whether another program has the write lock in this moment.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
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
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn data_version(&self) -> Result<i64> {
        let mut statement = self.db.prepare_cached("PRAGMA data_version")?;
        Ok(statement.query_row([], |row| row.get(0))?)
    }

    /// After how many pages of the write-ahead log a commit of this store writes it back, with the
    /// write lock free again. 1,000 at first.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn checkpoint_after(&self, pages: u32) -> Result<()> {
        Ok(self.db.pragma_update(None, "wal_autocheckpoint", pages)?)
    }

    /// A setting's text.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn setting(&self, name: &str) -> Result<Option<String>> {
        connection::setting(&self.db, name)
    }

    /// Writes a setting; `None` takes it away.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn set_setting(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        connection::set_setting(&self.db, name, value)
    }

    /// Names another URL for the remote. Whether it is the same database is for its epoch to say.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn set_url(&mut self, url: &str) -> Result<()> {
        self.set_setting("url", Some(url))
    }

    /// Notes whether a transaction of another writer is being integrated in parts, so that
    /// `driftless status` can say it.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn set_in_parts(&mut self, in_parts: bool) -> Result<()> {
        self.set_setting(IN_PARTS, in_parts.then_some("1"))
    }

    /// Limits the database to `pages` pages, as a full disk would: what needs more fails with a
    /// `Storage` error, and nothing of it happens. It lasts until the database is opened again, and
    /// does not make a database smaller.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
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
