//! The facts of the remote, for the status of a replica without a replicator.

use crate::error::{Error, Kind, Result};
use crate::event::value::Value;
use crate::protocol::meta::{Asker, HEAD, Meta};
use crate::protocol::statements;
use crate::protocol::statements::TABLE_NAMES;
use crate::remote::{Answer, Batch, Remote};
use crate::store::State;
use crate::store::Store;
use crate::sync::first_sync::remote_schema::missing_table;
use crate::sync::remote_check::{Refusal, examine, other_log, other_remote, unknown_column};
use crate::sync::status::SyncState;

/// The facts of the remote.
pub(crate) struct RemoteFacts {
    head: i64,
    waiting_s: Option<u64>,
    held: Option<Error>,
}

impl RemoteFacts {
    /// The newest seq of its log.
    pub(crate) fn head(&self) -> i64 {
        self.head
    }

    /// How long the oldest event that is not here yet has been there, in seconds.
    pub(crate) fn waiting_s(&self) -> Option<u64> {
        self.waiting_s
    }

    /// The reason why the pending events cannot be pushed.
    pub(crate) fn take_held(&mut self) -> Option<Error> {
        self.held.take()
    }
}

/// Asks the remote for its identity, the end of its log, and whether it knows the columns of the
/// pending events.
///
/// # Errors
///
/// An error of the remote, or the refusal of a remote that is not this replica's, each with the
/// state that is shown.
pub(crate) async fn ask(
    remote: &dyn Remote,
    store: &Store,
    state: &State,
) -> Result<RemoteFacts, Refusal> {
    let plain = |error: Error| (error, SyncState::Refused);
    let answer = remote.run(question(store, state)).await.map_err(|error| match error.kind() {
        Kind::Rejected => (other_remote(None).with_source(error), SyncState::OtherRemote),
        Kind::Unavailable => (error, SyncState::Offline),
        _ => (error, SyncState::Refused),
    })?;
    let (meta, mut facts) = read(&answer).map_err(plain)?;
    if state.epoch.is_some() {
        let incarnations = store.incarnations().map_err(plain)?;
        examine(state.epoch.as_deref(), state.place, &incarnations, meta.as_ref())?;
        if let Some((id, seq)) = store.contradiction().map_err(plain)? {
            return Err((other_log(&id, &seq), SyncState::RolledBack));
        }
    }
    // A missing table holds back more events than a missing column.
    facts.held = lost(store, state, &answer).map_err(plain)?.or(facts.held);
    Ok(facts)
}

fn question(store: &Store, state: &State) -> Batch {
    let asker = Asker { replica: state.replica, place: state.place };
    let mut statements = vec![
        crate::protocol::meta::meta(asker),
        HEAD.into(),
        statements::waiting(state.cursor()),
        TABLE_NAMES.into(),
    ];
    if state.unsent > 0 {
        let waiting = store.waiting_tables().unwrap_or_default();
        let waits = |name: &str| waiting.iter().any(|it| it.table.eq_ignore_ascii_case(name));
        let mut columns = store.columns();
        columns.retain(|(table, _)| !waits(table));
        statements.push(statements::unknown_column(&columns));
    }
    Batch { statements, writes: false }
}

/// A replicated table that the remote has lost, if no replicator has seen that yet.
fn lost(store: &Store, state: &State, answer: &Answer) -> Result<Option<Error>> {
    let Some(rows) = answer.rows.get(3) else { return Ok(None) };
    let there: Vec<_> = rows.iter().filter_map(|row| row.first()?.as_str()).collect();
    let waiting = store.waiting_tables()?;
    let waits = |name: &str| waiting.iter().any(|known| known.table.eq_ignore_ascii_case(name));
    let is = |name: &str| there.iter().any(|there| there.eq_ignore_ascii_case(name));
    // Before the first sync the remote need not have any.
    let names = store.tables().iter().map(|known| known.table.name.as_str());
    let mut names = names.filter(|_| state.epoch.is_some());
    Ok(names.find(|name| !is(name) && !waits(name)).map(missing_table))
}

fn read(answer: &Answer) -> Result<(Option<Meta>, RemoteFacts)> {
    let rows = |index: usize| answer.rows.get(index).cloned().unwrap_or_default();
    let meta = crate::protocol::meta::read_meta(&rows(0))?;
    let head = crate::protocol::meta::read_head(&rows(1))?;
    let unknown = statements::read_unknown_column(&rows(4))?;
    let held = unknown.map(|(table, column)| unknown_column(&table, &column));
    let waiting_ms = rows(2).first().and_then(|row| row.first()).and_then(Value::as_integer);
    let waiting_s = waiting_ms.map(|ms| u64::try_from(ms / 1_000).unwrap_or(0));
    Ok((meta, RemoteFacts { head: head.0, waiting_s, held }))
}
