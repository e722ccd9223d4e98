//! Removes all objects of driftless from a remote. The web application's tables stay unchanged.

use crate::catalog::{PREFIX, ident};
use crate::error::{Code, Error, Result};
use crate::event::value::Value;
use crate::protocol::Statement;
use crate::protocol::statements::DEFINITIONS;
use crate::remote::{Batch, Remote, Rows};
use crate::store::Removed;

/// The objects of driftless on a remote.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RemoteInstallation {
    /// Triggers, views and tables of driftless's, in the order in which they are dropped.
    #[serde(skip)]
    objects: Vec<(String, String)>,
    /// The events of the log.
    pub events: u64,
    /// The replicas that have pushed to it, with the time of their last contact: ms since 1970.
    pub replicas: Vec<(String, Option<i64>)>,
}

impl RemoteInstallation {
    /// Whether there is nothing of driftless's.
    pub fn is_nothing(&self) -> bool {
        self.objects.is_empty()
    }

    fn statements(&self) -> Vec<Statement> {
        let drop = |(kind, name): &(String, String)| {
            format!("DROP {} IF EXISTS {}", kind.to_ascii_uppercase(), ident(name)).into()
        };
        self.objects.iter().map(drop).collect()
    }

    fn removed(&self) -> Removed {
        let triggers = self.objects.iter().filter(|(kind, _)| kind == "trigger").count() as u64;
        Removed { tables: self.objects.len() as u64 - triggers, triggers }
    }
}

/// Reads which objects of driftless a remote has.
///
/// # Errors
///
/// The errors of the remote.
pub(in crate::sync) async fn look(remote: &dyn Remote) -> Result<RemoteInstallation> {
    let read = |statements| Batch { statements, writes: false };
    let answer = remote.run(read(vec![DEFINITIONS.into()])).await?;
    let mut found = RemoteInstallation::default();
    let all = objects(answer.rows.first());
    for kind in ["trigger", "view", "table"] {
        found.objects.extend(all.iter().filter(|(of, _)| of == kind).cloned());
    }
    let has = |name: &str| found.objects.iter().any(|(_, other)| other == name);
    if has("driftless_events") && has("driftless_replicas") {
        let events = "SELECT count(*) FROM driftless_events";
        let replicas = "SELECT name, contact FROM driftless_replicas ORDER BY contact DESC";
        let answer = remote.run(read(vec![events.into(), replicas.into()])).await?;
        let wrong = || Error::new(Code::AnswerInvalid, "the remote's list of replicas is not one");
        let [events, replicas] = answer.rows.as_slice() else { return Err(wrong()) };
        let events = events.first().and_then(|row| row.first()).and_then(Value::as_integer);
        found.events = events.and_then(|count| u64::try_from(count).ok()).ok_or_else(wrong)?;
        let replica = |row: &Vec<Value>| match row.as_slice() {
            [name, contact] => Some((name.as_str()?.to_owned(), contact.as_integer())),
            _ => None,
        };
        let replicas: Option<_> = replicas.iter().map(replica).collect();
        found.replicas = replicas.ok_or_else(wrong)?;
    }
    Ok(found)
}

/// Drops them, in one transaction.
///
/// # Errors
///
/// The errors of the remote. After one nothing was dropped, unless the remote is unavailable.
pub(in crate::sync) async fn remove(
    remote: &dyn Remote,
    found: &RemoteInstallation,
) -> Result<Removed> {
    let statements = found.statements();
    if !statements.is_empty() {
        remote.run(Batch { statements, writes: true }).await?;
    }
    let left = look(remote).await?;
    if !left.is_nothing() {
        let message = "a replica has installed driftless's tables on the remote again";
        return Err(Error::new(Code::RemoteBusy, message)
            .with_hint("stop the replicas of this remote first, then run it again"));
    }
    Ok(found.removed())
}

/// Kind and name of each object of driftless. Indexes are dropped with their tables.
fn objects(definitions: Option<&Rows>) -> Vec<(String, String)> {
    let read = |row: &Vec<Value>| {
        let [kind, name, ..] = row.as_slice() else { return None };
        let (kind, name) = (kind.as_str()?, name.as_str()?);
        let start = name.get(..PREFIX.len())?;
        start.eq_ignore_ascii_case(PREFIX).then(|| (kind.to_owned(), name.to_owned()))
    };
    definitions.into_iter().flatten().filter_map(read).collect()
}
