//! The plan for a replica, and the part of the replica that can be made without the remote.

use std::path::PathBuf;

use ulid::Ulid;

use crate::catalog::Table;
use crate::error::{Code, Error, Result};
use crate::event::ReplicaId;
use crate::event::conflict::ConflictRule;
use crate::store::{Local, OnConnect, Preferences, Setup, Store, definitions};
use crate::sync::driver::clock::fresh_ulid;
use crate::sync::first_sync::compare::{Tables, leaving, local_tables};
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

    /// The settings that the replica is made with. `former` is the URL of a remote that is
    /// replaced: until then the replica belongs to it.
    pub(in crate::sync) fn setup(
        &self,
        tables: &[(Table, ConflictRule)],
        epoch: Option<String>,
        former: Option<&String>,
    ) -> Setup {
        let epoch = epoch.filter(|_| former.is_none());
        let tables = tables.iter().map(|(table, rule)| (table.name.clone(), *rule)).collect();
        Setup { url: former.unwrap_or(&self.url).clone(), tables, epoch }
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

/// The replica of a plan's file, if it is one already. Beside it, if its first sync is done, the
/// tables that are not asked for any more.
pub(in crate::sync) fn existing(plan: &Plan) -> Result<(Option<Store>, Vec<String>)> {
    if !definitions(&plan.path)?.iter().any(|(_, name, ..)| name == "driftless_state") {
        return Ok((None, Vec::new()));
    }
    let store = Store::open_with(&plan.path, &plan.on_connect)?;
    let out = match store.is_adopted()? {
        true => leaving(&plan.tables, &store.registered_tables()?),
        false => Vec::new(),
    };
    Ok((Some(store), out))
}

/// Opens the replica of a plan without the remote: capture is installed on its tables that exist
/// here. The file is created if it is missing.
///
/// Tables that are not asked for any more leave, but for those of which events are pending.
///
/// # Errors
///
/// `Usage` when a table cannot be replicated; `Storage` when the file cannot be opened or written.
pub(crate) fn open_offline(plan: &Plan) -> Result<Store> {
    let (mut store, mut out) = existing(plan)?;
    if !plan.path.exists() {
        Store::define(&plan.path, &[])?;
    }
    let rule = |name: &str| {
        let asked = plan.rules.iter().find(|(table, _)| table.eq_ignore_ascii_case(name));
        asked.map(|(_, rule)| *rule).unwrap_or_default()
    };
    let local = Local::read(&plan.path, &plan.on_connect, plan.tables.named())?;
    let mut wanted = plan.tables.clone();
    if let Some(store) = &mut store
        && store.is_adopted()?
    {
        out.retain(|table| {
            let settled = store.require_settled(std::slice::from_ref(table));
            settled.inspect_err(|error| tracing::warn!(table, "it stays: {error}")).is_ok()
        });
        store.leave(&out)?;
        // Which of all tables join is known when the remote is.
        let known = store.tables().iter().map(|known| known.table.name.clone());
        wanted = Tables::Named(known.chain(plan.tables.named().iter().cloned()).collect());
    }
    let mut tables: Vec<_> = local_tables(&wanted, &local)?
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
    let mut store = Store::init_with(&plan.path, &setup, plan.replica, &plan.on_connect)?;
    if store.is_adopted()? {
        store.prefer_joining(&plan.prefer)?;
    } else {
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

/// The same, with the tables that have come since, where all were asked for.
///
/// # Errors
///
/// `Storage` when the store fails.
pub(in crate::sync) fn growing(store: &Store, plan: Plan) -> Result<Plan> {
    let tables = match store.choice()? {
        Some(choice) if choice.all && choice.but.is_empty() => Tables::All,
        Some(choice) if choice.all => Tables::AllBut(choice.but),
        _ => plan.tables,
    };
    Ok(Plan { tables, ..plan })
}
