//! Two databases with rows become one: what is said before, and which version of a row is taken.

mod dry_run;
mod prefer;
mod random;

use std::sync::Arc;

use driftless::store::{Preferences, Store};
use driftless::sync::{DryRun, Plan, TablePreview};
use driftless::{Error, Result};
use rusqlite::Connection;

use crate::support::desk::plan;
use crate::support::local_remote::LocalRemote;

/// A file with this content, and a plan to replicate all of it.
fn file(content: &str) -> (tempfile::TempDir, Plan) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("desk.db");
    Connection::open(&path).unwrap().execute_batch(content).unwrap();
    let plan = plan(path, 1, &[]);
    (folder, plan)
}

fn preferring(words: &[(Option<&str>, &str)]) -> Preferences {
    let mut preferences = Preferences::default();
    for (table, word) in words {
        preferences.set(table.map(str::to_owned), word.parse().unwrap());
    }
    preferences
}

fn dry_run(plan: &Plan, remote: &Arc<LocalRemote>) -> Result<(DryRun, Option<Error>)> {
    driftless::sync::dry_run(plan, remote.clone(), &mut |_, _| {})
}

/// What a dry run says of a table: rows only here, only there, equal, different, of which local.
fn counts(table: &TablePreview) -> [u64; 5] {
    [table.only_here, table.only_there, table.equal, table.different, table.takes_local]
}

fn open(plan: &Plan) -> Store {
    Store::open(&plan.path).unwrap()
}
