//! The plan of a first contact, and the replica that it finds.

use std::path::PathBuf;

use crate::error::Result;
use crate::event::ReplicaId;
use crate::store::{Setup, Store, definitions};
use crate::sync::definitions::{Tables, local_tables, settled_tables};
use crate::sync::driver::fresh_ulid;
use crate::sync::init::Plan;

/// The replica of a plan's file, if it is one already. Its tables are settled once its first sync
/// is done, so the plan is held to them.
pub(super) fn existing(plan: &mut Plan) -> Result<Option<Store>> {
    if !definitions(&plan.path)?.iter().any(|(_, name, ..)| name == "driftless_state") {
        return Ok(None);
    }
    let store = Store::open(&plan.path)?;
    if store.is_adopted()? {
        let known = store.tables().iter().map(|known| known.table.name.clone()).collect();
        plan.tables = settled_tables(&plan.tables, known)?;
    }
    Ok(Some(store))
}

/// Opens the replica of a plan without the remote: capture is installed on those of its tables that
/// are here. The file is made if there is none.
///
/// # Errors
///
/// `Usage` when a table cannot be replicated; `Storage` when the file cannot be opened or written.
pub(crate) fn open_offline(plan: &mut Plan) -> Result<Store> {
    let store = existing(plan)?;
    if !plan.path.exists() {
        Store::define(&plan.path, &[])?;
    }
    let rule = |name: &str| {
        let asked = plan.rules.iter().find(|(table, _)| table.eq_ignore_ascii_case(name));
        asked.map(|(_, rule)| *rule).unwrap_or_default()
    };
    let mut tables: Vec<_> = local_tables(&plan.tables, &definitions(&plan.path)?)?
        .into_iter()
        .map(|name| (name.clone(), rule(&name)))
        .collect();
    let mut epoch = None;
    if let Some(store) = store {
        epoch = store.state()?.epoch;
        // What was agreed with the remote stays.
        for (name, rule) in &mut tables {
            let known =
                store.tables().iter().find(|known| known.table.name.eq_ignore_ascii_case(name));
            *rule = known.map_or(*rule, |known| known.rule);
        }
    }
    let setup = Setup { url: plan.url.clone(), tables, epoch };
    Store::init(&plan.path, &setup, plan.replica)
}

/// Where a plan is made without one's own identities.
pub(crate) fn fresh_plan(
    path: PathBuf,
    url: String,
    tables: Tables,
    rules: Vec<(String, crate::verdict::ConflictRule)>,
) -> Plan {
    Plan { path, url, tables, rules, replica: ReplicaId(fresh_ulid()), epoch: fresh_ulid() }
}
