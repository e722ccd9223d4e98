//! Everything that a person asks of a replica.
//!
//! [`Replica`] is one facade for the command, for other programs that look at the file, and for an
//! application ([`Replicator::inspect`]). It answers with types: the [`Status`], the events of the
//! log ([`Entry`]), the [`Conflict`]s, what is in quarantine. Those that `--json` prints implement
//! `Serialize`; [`EventView`] is the form of an event.
//!
//! It also answers what was: the [`History`] of a row, who set a value last ([`Blamed`]), the rows
//! that differ between two [`Point`]s ([`RowChange`]), and any query over the tables as they were
//! ([`Past`]).
//!
//! It reads words as a person writes them: the end of an id, a table's name in another case, a
//! [`LogPosition`] such as `2h`. Nothing of it asks the remote, except for the status where the
//! command hands it the remote's answer.
//!
//! [`Replicator::inspect`]: crate::Replicator::inspect
//! [`Status`]: crate::Status

mod conflicts;
mod diff;
mod history;
mod log;
pub(crate) mod log_position;
mod past;
mod revert;
mod status;
mod verify;
mod versions;
mod view;

use std::ops::{Deref, DerefMut};
use std::path::Path;

pub use self::diff::{PointRange, RowChangeView};
pub use self::history::BlamedRow;
pub use self::log_position::LogPosition;
pub use self::past::AnswerRow;
pub use self::revert::ToRevert;
pub(crate) use self::status::Contact;
pub use self::versions::{BlamedView, VersionView};
pub use self::view::EventView;
pub use crate::audit::as_of::{Past, Rewound};
pub use crate::audit::bisect::Found;
pub use crate::audit::condition::Condition;
pub use crate::audit::diff::{DiffCount, RowChange};
pub use crate::audit::history::{Blamed, ColumnChange, History, Version};
pub use crate::audit::point::Point;
pub use crate::audit::replay::{CopiedTable, Replayed};
use crate::catalog::{LeftOut, Table};
use crate::error::{Code, Error, Result};
use crate::event::{ReplicaId, Seq};
use crate::remote::Remote;
pub(crate) use crate::store::{
    Adopted, AdoptedTable, Cause, Conflict, ConflictFilter, ConflictKind, ConflictState,
    Connection, Dangling, Dismissed, NewKey, OnlyHere, Orphans, PastIdentity, Prefer, Preferences,
    Quarantined, Removed, Restored, Retried, ReturnedRows, Selection, State, Unwritable, Waiting,
};
pub use crate::store::{
    ConflictCount, Entry, EventState, KeptEvent, LogFilter, PendingEntry, Repaired, Returned,
    Reverted, RevertedEvent,
};
pub(crate) use crate::store::{Migration, Rename};
use crate::store::{OnConnect, Store, definitions};
pub use crate::sync::{
    LogDifference, Proof, RowDifference, Unverified, Verified, VerifiedLog, VerifiedTable,
    VerifyOptions, VerifyProgress,
};
use crate::sync::{RemotePreview, preview_remote};

/// A replica's file, as a person sees it.
///
/// Every method fails with `Storage` when the file cannot be read or written, and with `Corrupt`
/// when an event's frame is damaged. Then nothing has changed. Other errors are named beside the
/// method.
///
/// ```no_run
/// # fn example() -> driftless::Result<()> {
/// use driftless::inspect::{LogFilter, Replica};
///
/// let replica = Replica::open("gym.db")?;
/// println!("{} events wait to be pushed", replica.status()?.pending);
/// replica.log(&LogFilter::default(), &mut |entry| {
///     println!("{}", entry.id());
///     Ok(())
/// })
/// # }
/// ```
pub struct Replica<'s> {
    store: Held<'s>,
}

/// The store: its own, or that of a replicator that is at work.
enum Held<'s> {
    Own(Box<Store>),
    Lent(&'s mut Store),
}

impl Deref for Held<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        match self {
            Held::Own(store) => store,
            Held::Lent(store) => store,
        }
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Store {
        match self {
            Held::Own(store) => store,
            Held::Lent(store) => store,
        }
    }
}

impl Replica<'static> {
    /// Opens the replica at `path`. A replicator may be at work on it.
    ///
    /// # Errors
    ///
    /// `Usage` when there is no such file or it is no replica.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Store::open(path.as_ref()).map(Replica::of)
    }

    /// The same with what the application registers on its connections.
    pub(crate) fn open_with(path: &Path, on_connect: &OnConnect) -> Result<Self> {
        Store::open_with(path, on_connect).map(Replica::of)
    }

    /// The replica of an open file.
    pub(crate) fn of(store: Store) -> Self {
        Replica { store: Held::Own(Box::new(store)) }
    }

    /// The open file, for work that takes it over.
    pub(crate) fn into_store(self) -> Store {
        match self.store {
            Held::Own(store) => *store,
            Held::Lent(_) => unreachable!("no replicator lends its store for ever"),
        }
    }
}

impl<'s> Replica<'s> {
    /// The replica of a replicator that is at work.
    pub(crate) fn lent(store: &'s mut Store) -> Self {
        Replica { store: Held::Lent(store) }
    }
}

impl Replica<'_> {
    /// Its file.
    pub fn path(&self) -> &Path {
        self.store.path()
    }

    /// Its identity.
    pub fn id(&self) -> ReplicaId {
        self.store.id()
    }

    /// The identities that the file had before, the oldest first.
    pub fn past_identities(&self) -> Result<Vec<PastIdentity>> {
        self.store.past_identities()
    }

    /// The names of the replicated tables.
    pub fn tables(&self) -> impl Iterator<Item = &str> {
        self.definitions().map(|table| table.name.as_str())
    }

    /// The name of a replicated table, as its definition has it.
    ///
    /// # Errors
    ///
    /// `Usage` when it is not replicated here.
    pub fn table(&self, name: &str) -> Result<&str> {
        let found = self.tables().find(|table| table.eq_ignore_ascii_case(name));
        found.ok_or_else(|| {
            let names: Vec<_> = self.tables().collect();
            not_replicated(name).with_hint(format!("these are: {}", names.join(", ")))
        })
    }

    /// The definitions of the replicated tables.
    pub(crate) fn definitions(&self) -> impl Iterator<Item = &Table> {
        self.store.tables().iter().map(|replicated| &replicated.table)
    }

    /// Looks at the remote before it is accepted, on this thread.
    pub(crate) fn preview_remote(&self, remote: &dyn Remote) -> Result<RemotePreview> {
        preview_remote(&self.store, remote)
    }

    /// What is in the file alone, and is lost with [`Replica::remove`].
    pub(crate) fn only_here(&self) -> Result<OnlyHere> {
        self.store.only_here()
    }

    /// Takes everything of driftless's out of the file. The caller holds the file's lock.
    pub(crate) fn remove(self) -> Result<Removed> {
        let path = self.path().to_owned();
        drop(self);
        Store::remove(&path)
    }

    /// A number that changes when another connection has committed.
    pub fn data_version(&self) -> Result<i64> {
        self.store.data_version()
    }

    /// What the file says of the replica.
    pub(crate) fn state(&self) -> Result<State> {
        self.store.state()
    }

    /// Whether its first sync is done.
    pub(crate) fn is_adopted(&self) -> Result<bool> {
        self.store.is_adopted()
    }

    /// Whether another program has the write lock in this moment.
    pub(crate) fn is_locked(&self) -> Result<bool> {
        self.store.is_locked()
    }

    /// The tables that are not replicated, each with the reason.
    pub fn left_out(&self) -> Result<Vec<LeftOut>> {
        self.store.left_out()
    }

    /// The tables whose events cannot be pushed, each with the reason.
    pub(crate) fn waiting(&self) -> Result<Vec<Waiting>> {
        self.store.waiting_tables()
    }

    /// The replicated tables that cannot be written here, each with the reason.
    pub(crate) fn unwritable(&self) -> Vec<Unwritable> {
        self.store.unwritable()
    }

    /// The rows that were missing here after a change of the schema and came back, of one table or
    /// of all, until somebody has decided about them.
    pub fn returned(&self, table: Option<&str>) -> Result<Vec<Returned>> {
        self.store.returned(table)
    }

    /// The rows that came back stay. Gives how many were on the list.
    pub fn keep_returned(&mut self, table: Option<&str>) -> Result<usize> {
        self.store.keep_returned(table)
    }

    /// Deletes the rows that came back, as the application would, in one transaction. Gives how
    /// many there were.
    ///
    /// # Errors
    ///
    /// `Usage`, naming the table, when a constraint refuses it. Then nothing has changed.
    pub fn delete_returned(&mut self, table: Option<&str>) -> Result<usize> {
        self.store.delete_returned(table)
    }

    /// The pulled events that cannot be applied here yet, in the order of the log.
    pub fn quarantine(&self) -> Result<Vec<Quarantined>> {
        self.store.quarantine()
    }

    /// Tries the events in quarantine once more. What it has applied before an error stays applied.
    pub fn retry_quarantine(&mut self) -> Result<Retried> {
        self.store.retry_quarantine(crate::sync::now_ms())
    }

    /// Sets who is at work, as [`Replicator::set_actor`](crate::Replicator::set_actor) does.
    pub fn set_actor(&mut self, actor: Option<&str>) -> Result<()> {
        self.store.set_actor(actor)
    }

    /// Takes a malformed event off the quarantine: its row was mended on the remote, or is given up
    /// here.
    ///
    /// # Errors
    ///
    /// `Usage` when none waits at that place in the log, or it may still be applied, or it alone
    /// keeps its row's former values.
    pub fn dismiss_quarantined(&mut self, seq: Seq) -> Result<()> {
        self.store.dismiss_quarantined(seq)
    }
}

/// Runs `statements` on the database at `path`, which is made if there is none.
pub(crate) fn define(path: &Path, statements: &[String]) -> Result<()> {
    Store::define(path, statements)
}

/// The names of a database's tables.
pub(crate) fn table_names(path: &Path) -> Result<Vec<String>> {
    let tables = definitions(path)?
        .into_iter()
        .filter(|(kind, name, ..)| kind == "table" && !name.starts_with("sqlite_"));
    Ok(tables.map(|(_, name, ..)| name).collect())
}

fn not_replicated(table: &str) -> Error {
    Error::new(Code::TableNotReplicated, format!("table `{table}` is not replicated here"))
}
