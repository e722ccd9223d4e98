//! The preview for a person who continues with another remote on purpose: one that was wiped,
//! replaced or rolled back.
//!
//! [`RemotePreview`] shows which remote this is, and how many rows each side has. It writes
//! nothing. [`accept`](crate::sync::accept) then does the same as a first sync: rows that are only
//! here are pushed, rows that are only there are fetched, and rows that differ get the remote's
//! version, with the local one in the conflict inbox. Pending events stay pending. The log of the
//! former remote is archived, and the replica takes a new identity.

use std::fmt;

use crate::catalog::ident;
use crate::error::{Code, Error, Result};
use crate::event::value::Value;
use crate::event::{ReplicaId, Seq};
use crate::protocol::Statement;
use crate::protocol::incarnation::{Incarnations, Place};
use crate::protocol::meta::{Asker, HEAD, Meta};
use crate::protocol::statements::DEFINITIONS;
use crate::remote::{Batch, Remote, Rows};
use crate::store::Store;
use crate::sync::remote_check::{Refusal, examine, other_log};
use crate::sync::status::SyncState;

/// The number of rows of a table on each side.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TableRows {
    /// The table.
    pub table: String,
    /// Rows here.
    pub here: u64,
    /// Rows there; `None` if the remote lacks the table, which will be created.
    pub there: Option<u64>,
}

/// The end of a log. A [`RemotePreview`] has two.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LogEnd {
    /// The remote's epoch; `None` if it has none of our tables.
    pub epoch: Option<String>,
    /// The newest seq.
    pub seq: i64,
}

/// A remote that may be accepted, compared with the one that the replica belongs to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RemotePreview {
    /// Why nothing is pushed to the remote or pulled from it. `None` if it is the remote that the
    /// replica belongs to: then there is nothing to accept.
    pub trouble: Option<String>,
    /// The remote that the replica belongs to, as it was last read.
    pub ours: LogEnd,
    /// The remote that is there now.
    pub theirs: LogEnd,
    /// Events that wait to be pushed.
    pub pending: u64,
    /// The replicated tables.
    pub tables: Vec<TableRows>,
}

/// The facts of a replica that are compared with a remote.
#[derive(Clone, Debug)]
pub(crate) struct LocalSide {
    replica: ReplicaId,
    epoch: Option<String>,
    place: Place,
    incarnations: Incarnations,
    contradiction: Option<(String, String)>,
    pending: u64,
    tables: Vec<(String, u64)>,
}

impl LocalSide {
    /// Reads the facts.
    pub(crate) fn of(store: &Store) -> Result<LocalSide> {
        let state = store.state()?;
        Ok(LocalSide {
            replica: state.replica,
            epoch: state.epoch,
            place: state.place,
            incarnations: store.incarnations()?,
            contradiction: store.contradiction()?,
            pending: state.pending,
            tables: store.count_rows()?,
        })
    }

    fn compared(self, remote: RemoteSide) -> Result<RemotePreview> {
        let RemoteSide { meta, head, tables } = remote;
        let contradiction = self.contradiction.as_ref();
        let contradiction =
            contradiction.map(|(id, seq)| (other_log(id, seq), SyncState::RolledBack));
        let examined =
            examine(self.epoch.as_deref(), self.place, &self.incarnations, meta.as_ref());
        Ok(RemotePreview {
            trouble: acceptable(examined.err().or(contradiction))?,
            ours: LogEnd { epoch: self.epoch, seq: self.place.seq.0 },
            theirs: LogEnd { epoch: meta.map(|meta| meta.epoch), seq: head.0 },
            pending: self.pending,
            tables,
        })
    }
}

/// Reads the facts of the remote. Nothing is written on either side.
///
/// # Errors
///
/// `Usage` when the replica has had no first sync; otherwise the errors of the remote.
pub(in crate::sync) async fn preview(
    side: LocalSide,
    remote: &dyn Remote,
) -> Result<RemotePreview> {
    if side.epoch.is_none() {
        let message = "this replica has not had its first sync";
        return Err(Error::new(Code::FirstSyncNotDone, message)
            .with_hint("run `driftless init`: there is no former remote"));
    }
    let read = |statements| Batch { statements, writes: false };
    let answer = remote.run(read(vec![DEFINITIONS.into()])).await?;
    let found = FoundTables::of(&answer.rows.into_iter().next().unwrap_or_default());
    let results = remote.run(read(found.questions(&side))).await?.rows;
    let facts = found.facts(&side.tables, results.into_iter())?;
    side.compared(facts)
}

/// The names of the remote's tables.
struct FoundTables(Vec<String>);

/// The facts of the remote that are compared with a replica.
struct RemoteSide {
    /// `None` if it has none of driftless's tables.
    meta: Option<Meta>,
    head: Seq,
    tables: Vec<TableRows>,
}

impl FoundTables {
    fn of(definitions: &Rows) -> Self {
        let name = |row: &Vec<Value>| match row.as_slice() {
            [kind, name, ..] if kind.as_str() == Some("table") => name.as_str().map(str::to_owned),
            _ => None,
        };
        FoundTables(definitions.iter().filter_map(name).collect())
    }

    /// The name of a table on the remote, if the remote has the table.
    fn find(&self, name: &str) -> Option<&String> {
        self.0.iter().find(|found| found.eq_ignore_ascii_case(name))
    }

    /// Whether the remote has driftless's tables.
    fn is_ours(&self) -> bool {
        let ours = ["driftless_meta", "driftless_events", "driftless_replicas"];
        ours.iter().all(|name| self.find(name).is_some())
    }

    fn questions(&self, side: &LocalSide) -> Vec<Statement> {
        let mut statements = Vec::new();
        if self.is_ours() {
            let asker = Asker { replica: side.replica, place: side.place };
            statements.extend([crate::protocol::meta::meta(asker), HEAD.into()]);
        }
        let there = side.tables.iter().filter_map(|(name, _)| self.find(name));
        statements.extend(there.map(|name| format!("SELECT count(*) FROM {}", ident(name)).into()));
        if statements.is_empty() {
            statements.push("SELECT 0".into());
        }
        statements
    }

    /// Reads the answers.
    fn facts(
        &self,
        tables: &[(String, u64)],
        mut results: impl Iterator<Item = Rows>,
    ) -> Result<RemoteSide> {
        let (mut meta, mut head) = (None, Seq(0));
        if self.is_ours() {
            meta = crate::protocol::meta::read_meta(&results.next().unwrap_or_default())?;
            head = crate::protocol::meta::read_head(&results.next().unwrap_or_default())?;
        }
        let mut count = || {
            let count = results.next()?.first()?.first().and_then(Value::as_integer)?;
            u64::try_from(count).ok()
        };
        let rows = tables.iter().map(|(table, here)| {
            let there = self.find(table).and_then(|_| count());
            TableRows { table: table.clone(), here: *here, there }
        });
        Ok(RemoteSide { tables: rows.collect(), meta, head })
    }
}

/// Returns the reason of a refusal if a person can decide about it.
fn acceptable(trouble: Option<Refusal>) -> Result<Option<String>> {
    match trouble {
        Some((error, SyncState::OtherRemote | SyncState::RolledBack)) => {
            Ok(Some(error.message().to_owned()))
        }
        Some((error, _)) => Err(error),
        None => Ok(None),
    }
}

impl fmt::Display for LogEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.epoch {
            Some(epoch) => write!(f, "epoch {epoch}, its log up to event {}", self.seq),
            None => f.write_str("a database without driftless's tables"),
        }
    }
}
