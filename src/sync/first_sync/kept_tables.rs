//! The remote's tables from the last comparison, stored in the replica's file.
//!
//! With them, a process that synchronises only once need not compare the definitions before it
//! pushes. The stored tables may be outdated: the remote does not accept a push that was planned
//! for another schema, and then the definitions are compared.

use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, Names, PREFIX, columns_json, name_references};
use crate::error::{Error, Result};
use crate::event::conflict::ConflictRule;
use crate::event::{Op, Seq};
use crate::protocol::remote_tables::{Gap, RemoteTable, RemoteTables};
use crate::store::{Definition, Store};

/// The setting with them.
const SETTING: &str = "remote_tables";

/// The setting that remains after they were forgotten: when the schema was at rest.
const REST: &str = "remote_rest";

/// The content of the setting.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    url: String,
    epoch: String,
    cookie: i64,
    has_triggers: bool,
    definitions: Vec<Definition>,
    tables: Vec<KeptTable>,
    /// The end of the log when the schema was last seen at rest.
    #[serde(default)]
    since: i64,
    /// The version of this file's schema when they were compared.
    #[serde(default)]
    local: i64,
    /// The tables for which capture may have missed writes.
    #[serde(default)]
    gaps: Vec<(i64, String, i64)>,
}

/// The part of it that remains after the rest was forgotten.
#[derive(Serialize, Deserialize)]
struct Rested {
    since: i64,
}

/// A replicated table. Its definition is among the definitions.
#[derive(Serialize, Deserialize)]
struct KeptTable {
    name: String,
    columns: Vec<String>,
    /// The columns that have another name there, as `driftless_tables` has them.
    #[serde(default)]
    names: String,
    rule: String,
    triggered: Vec<String>,
}

/// A gap in the form in which it is stored.
fn kept_gap(gap: &Gap) -> (i64, String, i64) {
    (gap.n, gap.table.clone(), gap.since.0)
}

impl Kept {
    /// The tables of the remote with this URL and epoch. `definitions` are the remote's. Its schema
    /// was last seen at rest when the log ended at `since`.
    pub(super) fn new(
        url: &str,
        epoch: &str,
        remote: &RemoteTables,
        definitions: &[Definition],
        since: Seq,
        local: i64,
    ) -> Kept {
        let of_application = |(kind, name, ..): &&Definition| {
            ["table", "index"].contains(&kind.as_str()) && !name.starts_with(PREFIX)
        };
        let table = |there: &RemoteTable| KeptTable {
            name: there.table.name.clone(),
            columns: there.table.column_names().map(str::to_owned).collect(),
            names: columns_json(&[], &there.table.names()),
            rule: there.rule.as_str().to_owned(),
            triggered: there.triggered.iter().map(ToString::to_string).collect(),
        };
        Kept {
            url: url.to_owned(),
            epoch: epoch.to_owned(),
            cookie: remote.cookie,
            has_triggers: remote.has_triggers,
            definitions: definitions.iter().filter(of_application).cloned().collect(),
            tables: remote.tables.iter().map(table).collect(),
            since: since.0,
            local,
            gaps: remote.gaps.iter().map(kept_gap).collect(),
        }
    }
}

/// Stores the remote's tables.
///
/// # Errors
///
/// `Storage` when the store fails.
pub(super) fn keep(store: &mut Store, kept: &Kept) -> Result<()> {
    let json = serde_json::to_string(kept).map_err(|source| {
        Error::storage("the remote's tables cannot be kept").with_source(source)
    })?;
    if store.setting(SETTING)?.as_ref() == Some(&json) {
        return Ok(());
    }
    store.set_setting(SETTING, Some(&json))
}

/// The end of the log when the remote's schema was last seen at rest, if that is known.
///
/// # Errors
///
/// `Storage` when the store fails.
pub(super) fn kept_since(store: &Store) -> Result<Option<Seq>> {
    let Some(json) = store.setting(SETTING)?.or(store.setting(REST)?) else { return Ok(None) };
    let kept = serde_json::from_str::<Rested>(&json);
    Ok(kept.ok().map(|kept| Seq(kept.since)))
}

/// The stored tables, if they are of this replica's remote.
///
/// # Errors
///
/// `Storage` when the store fails.
pub fn kept(store: &Store) -> Result<Option<RemoteTables>> {
    let Some(json) = store.setting(SETTING)? else { return Ok(None) };
    // A value that another version has stored is not used.
    let Ok(kept) = serde_json::from_str::<Kept>(&json) else { return Ok(None) };
    let state = store.state()?;
    let same = state.url == kept.url && state.epoch.as_ref() == Some(&kept.epoch);
    if !same || store.current_schema_version()? != kept.local {
        return Ok(None);
    }
    let catalog = Catalog::of_remote(&kept.definitions)?;
    let tables: Option<Vec<_>> = kept.tables.iter().map(|table| read(table, &catalog)).collect();
    let Some(mut tables) = tables else { return Ok(None) };
    name_references(tables.iter_mut().map(|there| &mut there.table));
    let Kept { cookie, has_triggers, gaps, .. } = kept;
    let gap = |(n, table, since)| Gap { n, table, since: Seq(since) };
    let gaps = gaps.into_iter().map(gap).collect();
    Ok(Some(RemoteTables { cookie, has_triggers, tables, gaps }))
}

fn read(kept: &KeptTable, catalog: &Catalog) -> Option<RemoteTable> {
    let (_, names) = Names::read(&kept.names);
    let table = catalog.table(&kept.name)?.clone().named(&names);
    let table = table.in_case_of(&kept.name, &kept.columns);
    let rule: ConflictRule = kept.rule.parse().ok()?;
    let ops: Option<Vec<Op>> = kept.triggered.iter().map(|op| op.parse().ok()).collect();
    Some(RemoteTable { table, rule, triggered: ops? })
}

/// Forgets them, except when the schema was last seen at rest.
///
/// # Errors
///
/// `Storage` when the store fails.
pub(in crate::sync) fn forget(store: &mut Store) -> Result<()> {
    if let Some(Seq(since)) = kept_since(store)? {
        store.set_setting(REST, serde_json::to_string(&Rested { since }).ok().as_deref())?;
    }
    store.set_setting(SETTING, None)
}
