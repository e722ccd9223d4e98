//! The remote's tables as a comparison found them, kept in the replica's file.
//!
//! So a process that only synchronises once need not compare the definitions before it pushes. What
//! is kept may be outdated: a push that was planned for another schema than the remote has is not
//! taken in, and then the definitions are compared.

use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, PREFIX};
use crate::error::{Error, Result};
use crate::event::Op;
use crate::event::conflict::ConflictRule;
use crate::protocol::remote_tables::{RemoteTable, RemoteTables};
use crate::store::{Definition, Store};

/// The setting that has them.
const SETTING: &str = "remote_tables";

/// The content of the setting.
#[derive(Serialize, Deserialize)]
struct Kept {
    url: String,
    epoch: String,
    cookie: i64,
    has_triggers: bool,
    definitions: Vec<Definition>,
    tables: Vec<KeptTable>,
}

/// A replicated table. Its definition is among the definitions.
#[derive(Serialize, Deserialize)]
struct KeptTable {
    name: String,
    columns: Vec<String>,
    rule: String,
    triggered: Vec<String>,
}

/// Keeps the tables of the remote of this URL and epoch. `definitions` are the remote's.
///
/// # Errors
///
/// `Storage` when the store fails.
pub(super) fn keep(
    store: &mut Store,
    url: &str,
    epoch: &str,
    remote: &RemoteTables,
    definitions: &[Definition],
) -> Result<()> {
    let of_application = |(kind, name, ..): &&Definition| {
        ["table", "index"].contains(&kind.as_str()) && !name.starts_with(PREFIX)
    };
    let table = |there: &RemoteTable| KeptTable {
        name: there.table.name.clone(),
        columns: there.table.column_names().map(str::to_owned).collect(),
        rule: there.rule.as_str().to_owned(),
        triggered: there.triggered.iter().map(ToString::to_string).collect(),
    };
    let kept = Kept {
        url: url.to_owned(),
        epoch: epoch.to_owned(),
        cookie: remote.cookie,
        has_triggers: remote.has_triggers,
        definitions: definitions.iter().filter(of_application).cloned().collect(),
        tables: remote.tables.iter().map(table).collect(),
    };
    let json = serde_json::to_string(&kept).map_err(|source| {
        Error::storage("the remote's tables cannot be kept").with_source(source)
    })?;
    if store.setting(SETTING)?.as_ref() == Some(&json) {
        return Ok(());
    }
    store.set_setting(SETTING, Some(&json))
}

/// The tables that were kept, if they are of the remote of this replica.
///
/// # Errors
///
/// `Storage` when the store fails.
pub fn kept(store: &Store) -> Result<Option<RemoteTables>> {
    let Some(json) = store.setting(SETTING)? else { return Ok(None) };
    // What another version has kept is of no use.
    let Ok(kept) = serde_json::from_str::<Kept>(&json) else { return Ok(None) };
    let state = store.state()?;
    if state.url != kept.url || state.epoch.as_ref() != Some(&kept.epoch) {
        return Ok(None);
    }
    let catalog = Catalog::of_remote(&kept.definitions)?;
    let tables = kept.tables.iter().map(|table| read(table, &catalog)).collect();
    let Some(tables) = tables else { return Ok(None) };
    Ok(Some(RemoteTables { cookie: kept.cookie, has_triggers: kept.has_triggers, tables }))
}

fn read(kept: &KeptTable, catalog: &Catalog) -> Option<RemoteTable> {
    let table = catalog.table(&kept.name)?.clone().respelled(&kept.name, &kept.columns);
    let rule: ConflictRule = kept.rule.parse().ok()?;
    let ops: Option<Vec<Op>> = kept.triggered.iter().map(|op| op.parse().ok()).collect();
    Some(RemoteTable { table, rule, triggered: ops? })
}

/// Forgets them.
///
/// # Errors
///
/// `Storage` when the store fails.
pub(in crate::sync) fn forget(store: &mut Store) -> Result<()> {
    store.set_setting(SETTING, None)
}
