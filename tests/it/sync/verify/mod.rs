//! Verifying: a replica and its remote, compared.
//!
//! Differences are planted behind the back of both: with capture taken away for a moment.

mod order;
mod random;
mod tables;

use driftless::Result;
use driftless::store::Store;
use driftless::sync::{Repair, Verified, VerifyOptions};

use crate::support::desk::Desk;
use crate::support::local_remote::LocalRemote;

/// Verifies a desk.
fn compare(desk: &Desk) -> Result<Verified> {
    verify(desk, &VerifyOptions::default()).map(|(verified, _)| verified)
}

fn verify(desk: &Desk, options: &VerifyOptions) -> Result<(Verified, Repair)> {
    let mut store = Store::open(desk.path()).unwrap();
    driftless::sync::verify(&mut store, desk.remote.clone(), options, &mut |_| {})
}

/// Changes a desk's tables, and nobody notices.
fn plant_here(desk: &Desk, sql: &str) {
    desk.db
        .execute_batch(&format!(
            "BEGIN IMMEDIATE; UPDATE driftless_state SET replaying = 1; {sql};
             UPDATE driftless_state SET replaying = 0; COMMIT"
        ))
        .unwrap();
}

/// Changes the remote's tables, and nobody notices: the events are taken off the log.
fn plant_there(remote: &LocalRemote, sql: &str) {
    let triggers = remote.rows(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'driftless%'
         ORDER BY rowid",
    );
    let text = |value: &driftless::event::value::Value| value.as_str().unwrap().to_owned();
    let mut script = String::from("BEGIN IMMEDIATE;");
    for trigger in &triggers {
        script += &format!("DROP TRIGGER \"{}\";", text(&trigger[0]));
    }
    script += sql;
    script += ";";
    for trigger in &triggers {
        script += &text(&trigger[1]);
        script += ";";
    }
    remote.web(&(script + "COMMIT"));
}
