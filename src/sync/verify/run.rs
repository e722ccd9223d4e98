//! A verification, on the caller's thread.

use std::sync::Arc;

use crate::error::{Code, Error, Kind, Result};
use crate::protocol::compare::{ComparedTable, Difference};
use crate::remote::Remote;
use crate::store::{Repaired, Store};
use crate::sync::driver::clock::now_ms;
use crate::sync::first_sync::kept_tables::kept;
use crate::sync::remote_check::{no_first_sync, other_remote};
use crate::sync::status::LastCheck;
use crate::sync::verify::log::{compare_logs, range_events};
use crate::sync::verify::report::{Verified, VerifyOptions, VerifyProgress};
use crate::sync::verify::requests::Requests;
use crate::sync::verify::tables::{Checked, TableCheck, read_tables, tables_batch};

/// How many times the remote's schema may change during a comparison.
const SCHEMA_CHANGES: u32 = 3;

/// The most differences that are kept. The others are only counted.
const KEPT: usize = 10_000;

/// The input of a repair: the rows that differ from the remote's.
pub struct Repair {
    tables: Arc<[ComparedTable]>,
    found: Vec<Difference>,
}

impl Repair {
    /// Takes the remote's rows, in one transaction, and keeps the local ones in the conflict inbox.
    ///
    /// # Errors
    ///
    /// As [`Store::repair`].
    pub fn run(&self, store: &mut Store) -> Result<Repaired> {
        store.repair(&self.tables, &self.found, now_ms())
    }
}

/// Verifies a replica, on this thread: see [`Verified`]. A replicator may be working on the file.
/// `watch` is called with the progress.
///
/// # Errors
///
/// `Usage` when the first sync is not done, a table is not replicated or the replica is far behind
/// the remote; `Unavailable` when the remote cannot be reached after a few attempts; `Refused` when
/// it refuses us or is another database; `Storage` when the local database fails.
///
/// # Panics
///
/// Within a tokio runtime's own thread: it blocks.
pub fn verify(
    store: &mut Store,
    remote: Arc<dyn Remote>,
    options: &VerifyOptions,
    watch: &mut dyn FnMut(VerifyProgress),
) -> Result<(Verified, Repair)> {
    if !store.is_adopted()? {
        return Err(no_first_sync());
    }
    let is_whole = options.tables.is_empty();
    let mut requests = Requests::to(remote)?;
    let mut done = Verified::default();
    let (found, check) = {
        let mut found = Vec::new();
        let check = compare_tables(store, &mut requests, &options.tables, &mut |check| {
            found.extend(check.take_found());
            found.truncate(KEPT);
            let (rows, all) = check.progress();
            watch(VerifyProgress::Rows(rows, all));
        })?;
        (found, check)
    };
    let tables = check.tables();
    if is_whole {
        watch(VerifyProgress::Log);
        let local = store.check_log(range_events(store.logged()?))?;
        done.add_log(&local);
        watch(VerifyProgress::RemoteLog);
        done.log.differing = compare_logs(store, &mut requests, &local)?;
    }
    let fold = store.check_fold(&tables, &mut |events| watch(VerifyProgress::Fold(events)))?;
    done.add_fold(fold);
    done.add_tables(&found, check.coverage(), check.left_out());
    (done.requests, done.bytes) = requests.cost();
    if is_whole {
        let logs = done.log.damaged.len() + done.log.differing.len();
        let check = LastCheck { at: now_ms(), differing: done.differing + logs as u64 };
        // Another process may hold the lock. The result is worth more than its record.
        if let Err(error) = check.note(store) {
            tracing::warn!("the time of this check is not noted: {error}");
        }
    }
    Ok((done, Repair { tables, found }))
}

/// Compares the replicated tables of a store with the remote's, or only the named ones. `watch` is
/// called after each request.
///
/// # Errors
///
/// As [`TableCheck::answered`]; `Unavailable` when the remote cannot be reached after a few
/// attempts; `Usage` when the first sync is not done.
///
/// # Panics
///
/// Within a tokio runtime's own thread: it blocks.
pub(in crate::sync) fn compare_tables(
    store: &Store,
    requests: &mut Requests,
    named: &[String],
    watch: &mut dyn FnMut(&mut TableCheck),
) -> Result<TableCheck> {
    if !store.is_adopted()? {
        return Err(no_first_sync());
    }
    let mut tables = kept(store)?;
    for _ in 0..SCHEMA_CHANGES {
        let remote = match tables.take() {
            Some(tables) => tables,
            None => {
                let answer = requests.send(&tables_batch(), || Ok(()));
                let answer = answer.map_err(|error| match error.kind() {
                    Kind::Rejected => other_remote(None).with_source(error),
                    _ => error,
                })?;
                read_tables(&answer)?
            }
        };
        let mut check = TableCheck::new(store, &remote, named);
        if run(store, requests, &mut check, watch)? == Checked::More {
            return Ok(check);
        }
    }
    Err(Error::new(Code::RemoteBusy, "the remote's schema changes all the time"))
}

/// Runs a comparison to its end, or until the remote's schema changes.
fn run(
    store: &Store,
    requests: &mut Requests,
    check: &mut TableCheck,
    watch: &mut dyn FnMut(&mut TableCheck),
) -> Result<Checked> {
    let tables = check.tables();
    loop {
        let (state, incarnations) = (store.state()?, store.incarnations()?);
        let mut snapshot = store.snapshot(&tables)?;
        let Some(batch) = check.ask(&mut snapshot, state, incarnations)? else {
            return Ok(Checked::More);
        };
        match requests.send(&batch, || check.meanwhile(&mut snapshot)) {
            Ok(answer) => {
                if check.answered(&mut snapshot, &answer)? == Checked::SchemaChanged {
                    return Ok(Checked::SchemaChanged);
                }
            }
            Err(error) if check.recover(&error) => {
                tracing::debug!("asked again in another way: {error}");
            }
            Err(error) => return Err(error),
        }
        drop(snapshot);
        watch(check);
    }
}
