//! Going on with another remote on purpose: one that was wiped, replaced or rolled back.
//!
//! [`RemotePreview`] is what a person is shown before they decide: which remote this is, and how
//! many rows each side has. It writes nothing. [`accept`](crate::sync::accept) then does what a
//! first sync does: rows only here are pushed, rows only there are fetched, rows in both take the
//! remote's version, with the local one in the conflict inbox. What is pending stays pending. The
//! log of the former remote is put away whole, and the replica takes a new identity.

use std::fmt;

use crate::capture::ident;
use crate::error::{Code, Error, Result};
use crate::event::{ReplicaId, Seq};
use crate::identity::{Marks, Place};
use crate::remote::statements::{self, Asker, DEFINITIONS, HEAD};
use crate::remote::{Batch, Remote};
use crate::store::Store;
use crate::sync::remote_check::{Refusal, examine, other_log};
use crate::sync::status::SyncState;
use crate::value::Value;

/// How many rows a table has on either side.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TableRows {
    /// The table.
    pub table: String,
    /// Rows here.
    pub here: u64,
    /// Rows there; `None` if the remote has no such table: it is made.
    pub there: Option<u64>,
}

/// One of the two logs that an [`RemotePreview`] tells of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LogEnd {
    /// The remote's epoch; `None` if it has none of our tables.
    pub epoch: Option<String>,
    /// The newest seq.
    pub seq: i64,
}

/// What there is to accept.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RemotePreview {
    /// Why the remote is not spoken to; `None` if it is the one that the replica belongs to, and
    /// there is nothing to accept.
    pub trouble: Option<String>,
    /// The remote that the replica belongs to, as far as it was read.
    pub ours: LogEnd,
    /// The one that is there now.
    pub theirs: LogEnd,
    /// Events that wait to be pushed.
    pub pending: u64,
    /// The replicated tables.
    pub tables: Vec<TableRows>,
}

/// What a replica knows that is to be compared with a remote.
#[derive(Clone, Debug)]
pub(crate) struct LocalSide {
    replica: ReplicaId,
    epoch: Option<String>,
    place: Place,
    marks: Marks,
    contradiction: Option<(String, String)>,
    pending: u64,
    tables: Vec<(String, u64)>,
}

impl LocalSide {
    /// Reads them.
    pub(crate) fn of(store: &Store) -> Result<LocalSide> {
        let state = store.state()?;
        Ok(LocalSide {
            replica: state.replica,
            epoch: state.epoch,
            place: state.place,
            marks: store.marks()?,
            contradiction: store.contradiction()?,
            pending: state.pending,
            tables: store.count_rows()?,
        })
    }
}

/// Looks at the remote. Nothing is written, here or there.
///
/// # Errors
///
/// `Usage` when the replica has had no first sync; else the remote's.
pub(in crate::sync) async fn preview(
    facts: LocalSide,
    remote: &dyn Remote,
) -> Result<RemotePreview> {
    let LocalSide { replica, epoch, place, marks, contradiction, pending, tables } = facts;
    if epoch.is_none() {
        let message = "this replica has not had its first sync";
        return Err(Error::new(Code::FirstSyncNotDone, message)
            .with_hint("run `driftless init`: there is no former remote"));
    }
    let read = |statements| Batch { statements, writes: false };
    let answer = remote.run(read(vec![DEFINITIONS.into()])).await?;
    let definitions = answer.rows.first().cloned().unwrap_or_default();
    let find = |name: &str| {
        definitions.iter().find_map(|row| match row.as_slice() {
            [kind, found, ..] if kind.as_str() == Some("table") => {
                found.as_str().filter(|found| found.eq_ignore_ascii_case(name))
            }
            _ => None,
        })
    };
    let ours = ["driftless_meta", "driftless_events", "driftless_replicas"];
    let is_ours = ours.iter().all(|name| find(name).is_some());
    let mut statements = Vec::new();
    if is_ours {
        let asker = Asker { replica, place };
        statements.extend([statements::meta(asker), HEAD.into()]);
    }
    let there: Vec<_> = tables.iter().map(|(name, _)| find(name)).collect();
    let counts = there.iter().flatten();
    statements.extend(counts.map(|name| format!("SELECT count(*) FROM {}", ident(name)).into()));
    if statements.is_empty() {
        statements.push("SELECT 0".into());
    }
    let mut results = remote.run(read(statements)).await?.rows.into_iter();
    let (mut meta, mut head) = (None, Seq(0));
    if is_ours {
        meta = statements::read_meta(&results.next().unwrap_or_default())?;
        head = statements::read_head(&results.next().unwrap_or_default())?;
    }
    let mut count = || {
        let count = results.next()?.first()?.first().and_then(Value::as_integer)?;
        u64::try_from(count).ok()
    };
    let rows = tables.into_iter().zip(&there).map(|((table, here), there)| {
        let there = there.and_then(|_| count());
        TableRows { table, here, there }
    });
    let contradiction =
        contradiction.map(|(id, seq)| (other_log(&id, &seq), SyncState::RolledBack));
    let trouble = examine(epoch.as_deref(), place, &marks, meta.as_ref()).err().or(contradiction);
    Ok(RemotePreview {
        tables: rows.collect(),
        trouble: acceptable(trouble)?,
        ours: LogEnd { epoch, seq: place.seq.0 },
        theirs: LogEnd { epoch: meta.map(|meta| meta.epoch), seq: head.0 },
        pending,
    })
}

/// Lets through what a person can decide.
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
