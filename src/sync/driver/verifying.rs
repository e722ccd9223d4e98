//! A comparison with the remote, on the caller's thread. The network has a thread of its own, so
//! the local half of the work is done while the remote does its own.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Code, Error, Kind, Result};
use crate::protocol::compare::{Coverage, Difference};
use crate::remote::{Answer, Batch, Remote};
use crate::store::Store;
use crate::sync::backoff::Backoff;
use crate::sync::driver::network::guarded;
use crate::sync::first_sync::kept_tables::kept;
use crate::sync::remote_check::{no_first_sync, other_remote};
use crate::sync::verify::tables::{Checked, TableCheck, read_tables, tables_batch};

/// How often a request is tried.
const ATTEMPTS: u32 = 3;
/// How often the remote's schema may change under a comparison.
const SCHEMA_CHANGES: u32 = 3;

/// The requests of a comparison.
pub(in crate::sync) struct Requests {
    remote: Arc<dyn Remote>,
    runtime: tokio::runtime::Runtime,
    count: u64,
    bytes: u64,
}

impl Requests {
    /// Starts the network's thread.
    ///
    /// # Errors
    ///
    /// `Storage` when it cannot be made.
    pub(in crate::sync) fn to(remote: Arc<dyn Remote>) -> Result<Requests> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("driftless-verify")
            .enable_all()
            .build()
            .map_err(|source| Error::storage("no thread could be made").with_source(source))?;
        Ok(Requests { remote, runtime, count: 0, bytes: 0 })
    }

    /// How many there were, and the bytes of the requests and the answers.
    pub(in crate::sync) fn cost(&self) -> (u64, u64) {
        (self.count, self.bytes)
    }

    /// Sends a request, does `meanwhile`, and gives the answer. A request that does not get through
    /// is sent again.
    ///
    /// # Errors
    ///
    /// The remote's, and those of `meanwhile`.
    pub(in crate::sync) fn send(
        &mut self,
        batch: &Batch,
        meanwhile: impl FnOnce() -> Result<()>,
    ) -> Result<Answer> {
        let ask = |this: &mut Requests| {
            this.count += 1;
            this.runtime.spawn(guarded(Arc::clone(&this.remote), batch.clone()))
        };
        let mut under_way = ask(self);
        meanwhile()?;
        let mut backoff = Backoff::new(fastrand::u64(..));
        loop {
            let outcome = self.runtime.block_on(under_way).map_err(|failure| {
                Error::unavailable("the remote's client failed unexpectedly").with_source(failure)
            })?;
            match outcome {
                Ok(answer) => {
                    self.bytes += answer.bytes_up + answer.bytes_down;
                    return Ok(answer);
                }
                Err(error) if error.kind() == Kind::Unavailable => {
                    let wait = backoff.fail();
                    if backoff.failures() >= ATTEMPTS {
                        return Err(error);
                    }
                    std::thread::sleep(Duration::from_millis(wait));
                    under_way = ask(self);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The most differences that are kept; the others are counted.
const KEPT: usize = 10_000;

/// What a comparison of the tables found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// The rows that differ, up to a limit.
    pub found: Vec<Difference>,
    /// What was compared, by the name of each table.
    pub tables: Vec<(String, Coverage)>,
    /// Tables that cannot be compared, each with the reason.
    pub left_out: Vec<(String, String)>,
    /// The requests.
    pub requests: u64,
    /// The bytes of the requests and their answers.
    pub bytes: u64,
}

/// Compares the replicated tables of a store with the remote's, or those that are named. `watch` is
/// told after each request how many rows were compared, and of how many.
///
/// # Errors
///
/// As [`compare_tables`].
///
/// # Panics
///
/// Within a tokio runtime's own thread: it blocks.
pub fn compare(
    store: &Store,
    remote: Arc<dyn Remote>,
    named: &[String],
    watch: &mut dyn FnMut(u64, u64),
) -> Result<Compared> {
    let mut requests = Requests::to(remote)?;
    let mut found = Vec::new();
    let check = compare_tables(store, &mut requests, named, &mut |check| {
        found.extend(check.take_found());
        found.truncate(KEPT);
        let (done, all) = check.progress();
        watch(done, all);
    })?;
    let (requests, bytes) = requests.cost();
    let (tables, left_out) = (check.coverage(), check.left_out().to_vec());
    Ok(Compared { found, tables, left_out, requests, bytes })
}

/// Compares the replicated tables of a store with the remote's, or those that are named. `watch`
/// is called after each request.
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
        let (state, marks) = (store.state()?, store.incarnations()?);
        let mut snapshot = store.snapshot(&tables)?;
        let Some(batch) = check.ask(&mut snapshot, state, marks)? else {
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
