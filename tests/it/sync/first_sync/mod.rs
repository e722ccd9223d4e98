//! The first sync, which `init` runs: what it refuses, what it says, how it installs, and what it makes
//! of the rows of both sides.

mod application;
mod install;
mod merge;
mod refusals;
mod said;

use std::path::PathBuf;
use std::sync::Arc;

use driftless::sync::{Advance, FirstSync, Plan, Report};
use driftless::{Kind, Result};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::desk::plan;
use crate::support::local_remote::LocalRemote;

/// A file with these definitions, and the plan for it.
fn file(number: u128, schema: &str) -> (TempDir, Plan) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("desk.db");
    Connection::open(&path).unwrap().execute_batch(schema).unwrap();
    let plan = plan(path, number, &[]);
    (folder, plan)
}

/// What a file is made of.
fn schema(path: &PathBuf) -> Vec<(String, String)> {
    let db = Connection::open(path).unwrap();
    let mut statement = db.prepare("SELECT type || name, sql FROM sqlite_schema").unwrap();
    let rows = statement.query_map([], |row| {
        Ok((row.get(0)?, row.get::<_, Option<String>>(1)?.unwrap_or_default()))
    });
    rows.unwrap().map(|row| row.unwrap()).collect()
}

/// What the remote is made of.
fn remote_schema(remote: &LocalRemote) -> String {
    remote.read("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name")
}

/// A first sync that is carried on by the request.
struct Stepped {
    init: FirstSync,
    remote: Arc<LocalRemote>,
}

impl Stepped {
    /// One in requests of so many bytes.
    fn in_requests_of(plan: Plan, remote: &Arc<LocalRemote>, bytes: usize) -> Stepped {
        let init = FirstSync::new(plan, None).in_requests_of(bytes);
        Stepped { init, remote: Arc::clone(remote) }
    }

    /// One request and its answer; the report when all is done.
    fn step(&mut self) -> Result<Option<Report>> {
        let batch = self.init.ask()?;
        let answer = match self.remote.run_now(batch) {
            Ok(answer) => answer,
            Err(error) if self.init.recover(&error) => return Ok(None),
            // It is asked again.
            Err(error) if error.kind() == Kind::Unavailable => return Ok(None),
            Err(error) => return Err(error),
        };
        match self.init.answered(answer, 1_700_000_000_000)? {
            Advance::More => Ok(None),
            Advance::Done(report, ..) => Ok(Some(*report)),
            Advance::OtherRemote(_) => panic!("there is one remote"),
        }
    }

    fn finish(&mut self) -> Report {
        loop {
            if let Some(report) = self.step().unwrap() {
                return report;
            }
        }
    }
}
