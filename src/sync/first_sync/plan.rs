//! The plan for a replica, and the part of the replica that can be made without the remote.

use std::path::PathBuf;

use ulid::Ulid;

use crate::catalog::Table;
use crate::error::{Code, Error, Result};
use crate::event::ReplicaId;
use crate::event::conflict::ConflictRule;
use crate::store::{Local, OnConnect, Preferences, Setup, Store, definitions};
use crate::sync::driver::clock::fresh_ulid;
use crate::sync::first_sync::compare::{Tables, local_tables, settled_tables};
use crate::sync::first_sync::remote_schema::Registered;

/// The plan for a replica.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The database file.
    pub path: PathBuf,
    /// The remote's URL, without credentials.
    pub url: String,
    /// The tables.
    pub tables: Tables,
    /// The requested conflict rules. A table without one gets the remote's, or `row`.
    pub rules: Vec<(String, ConflictRule)>,
    /// Which version of a row is taken that both sides have and that differs.
    pub prefer: Preferences,
    /// The identity, if the file has none.
    pub replica: ReplicaId,
    /// The remote's identity, if it has none.
    pub epoch: Ulid,
    /// Functions and collations that the application registers on each connection to the file.
    pub on_connect: OnConnect,
}

impl Plan {
    /// A table's conflict rule. All replicas have the same, so the remote's counts.
    ///
    /// # Errors
    ///
    /// `Usage` when another one was requested. It is not checked for a remote that is being
    /// accepted.
    pub(in crate::sync) fn rule_of(
        &self,
        table: &str,
        known: &[Registered],
        accepts: bool,
    ) -> Result<ConflictRule> {
        let asked = self.rules.iter().find(|(name, _)| name.eq_ignore_ascii_case(table));
        let known = known.iter().find(|known| known.name().eq_ignore_ascii_case(table));
        match (asked, known) {
            (_, Some(known)) if accepts => Ok(known.rule()),
            (Some((_, asked)), Some(known)) if *asked != known.rule() => {
                let message = format!(
                    "table `{table}` has the conflict rule `{}` on the remote, not `{}`",
                    known.rule().as_str(),
                    asked.as_str()
                );
                Err(Error::new(Code::ConflictRuleDiffers, message)
                    .with_hint("the rule is the same for all replicas: leave it out here"))
            }
            (Some((_, asked)), _) => Ok(*asked),
            (None, Some(known)) => Ok(known.rule()),
            (None, None) => Ok(ConflictRule::default()),
        }
    }

    /// Refuses a conflict rule for a table that is not among these.
    ///
    /// # Errors
    ///
    /// `Usage`, naming the table.
    pub(in crate::sync) fn require_rules(&self, taken: &[Table]) -> Result<()> {
        let is = |name: &str| taken.iter().any(|table| table.name.eq_ignore_ascii_case(name));
        match self.rules.iter().find(|(name, _)| !is(name)) {
            None => Ok(()),
            Some((name, _)) => {
                let message = format!("table `{name}` has a conflict rule, and is not replicated");
                Err(Error::new(Code::TableNotReplicated, message)
                    .with_hint("check the spelling, or replicate it too"))
            }
        }
    }
}

/// The replica of a plan's file, if there is one already. After its first sync its tables are
/// fixed, so the plan gets them. Also returns the tables that were not chosen again.
pub(in crate::sync) fn existing(plan: &mut Plan) -> Result<(Option<Store>, Vec<String>)> {
    if !definitions(&plan.path)?.iter().any(|(_, name, ..)| name == "driftless_state") {
        return Ok((None, Vec::new()));
    }
    let store = Store::open_with(&plan.path, &plan.on_connect)?;
    let mut kept = Vec::new();
    if store.is_adopted()? {
        let known = store.tables().iter().map(|known| known.table.name.clone()).collect();
        (plan.tables, kept) = settled_tables(&plan.tables, known)?;
        for table in &kept {
            tracing::warn!(table, "no longer chosen, but still replicated");
        }
    }
    Ok((Some(store), kept))
}

/// Opens the replica of a plan without the remote: capture is installed on its tables that exist
/// here. The file is created if it is missing.
///
/// # Errors
///
/// `Usage` when a table cannot be replicated; `Storage` when the file cannot be opened or written.
pub(crate) fn open_offline(plan: &mut Plan) -> Result<Store> {
    let (store, _) = existing(plan)?;
    if !plan.path.exists() {
        Store::define(&plan.path, &[])?;
    }
    let rule = |name: &str| {
        let asked = plan.rules.iter().find(|(table, _)| table.eq_ignore_ascii_case(name));
        asked.map(|(_, rule)| *rule).unwrap_or_default()
    };
    let local = Local::read(&plan.path, &plan.on_connect, plan.tables.named())?;
    let mut tables: Vec<_> = local_tables(&plan.tables, &local)?
        .into_iter()
        .map(|name| (name.clone(), rule(&name)))
        .collect();
    let mut epoch = None;
    if let Some(store) = store {
        epoch = store.state()?.epoch;
        // The rules that were agreed with the remote stay.
        for (name, rule) in &mut tables {
            let known =
                store.tables().iter().find(|known| known.table.name.eq_ignore_ascii_case(name));
            *rule = known.map_or(*rule, |known| known.rule);
        }
    }
    let setup = Setup { url: plan.url.clone(), tables, epoch };
    let store = Store::init_with(&plan.path, &setup, plan.replica, &plan.on_connect)?;
    if !store.is_adopted()? {
        store.set_choice(&plan.tables.choice())?;
    }
    Ok(store)
}

/// A plan with new identities.
pub(crate) fn fresh_plan(
    path: PathBuf,
    url: String,
    tables: Tables,
    rules: Vec<(String, ConflictRule)>,
) -> Plan {
    let (replica, epoch) = (ReplicaId(fresh_ulid()), fresh_ulid());
    let (prefer, on_connect) = (Preferences::default(), OnConnect::default());
    Plan { path, url, tables, rules, prefer, replica, epoch, on_connect }
}

/// The plan for an existing replica, with the remote at `url`.
pub(in crate::sync) fn plan_of(
    store: &Store,
    url: String,
    replica: ReplicaId,
    epoch: Ulid,
) -> Plan {
    let tables = store.tables().iter();
    let rules: Vec<(String, ConflictRule)> =
        tables.map(|known| (known.table.name.clone(), known.rule)).collect();
    let names = rules.iter().map(|(name, _)| name.clone()).collect();
    let path = store.path().to_owned();
    let on_connect = store.on_connect().clone();
    let (tables, prefer) = (Tables::Named(names), Preferences::default());
    Plan { path, url, tables, rules, prefer, replica, epoch, on_connect }
}
