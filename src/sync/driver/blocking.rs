//! Calls that block: a command runs a first sync or a sync on its own thread, without a replicator.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::error::{Code, Error, Kind, Result};
use crate::event::ReplicaId;
use crate::remote::Remote;
use crate::store::{Adopted, Removed, Store};
use crate::sync::adoption::preview::{LocalSide, RemotePreview, preview};
use crate::sync::backoff::Backoff;
use crate::sync::driver::Driver;
use crate::sync::driver::clock::{Time, fresh_ulid};
use crate::sync::driver::handle::Command;
use crate::sync::driver::lock::Lock;
use crate::sync::driver::network::guarded;
use crate::sync::driver::status_file;
use crate::sync::first_sync::plan::{Plan, existing, plan_of};
use crate::sync::first_sync::report::{Advance, Phase, Report};
use crate::sync::first_sync::run::FirstSync;
use crate::sync::machine::io::{Config, PullSize, PushSize, Staged};
use crate::sync::machine::schedule::POLL_MS;
use crate::sync::remote_check::other_remote;
use crate::sync::removal::{self, RemoteInstallation};
use crate::sync::status::{HEALTH_BOUND_MS, Summary};

/// How many times to wait for the write lock at a start. SQLite waits for five seconds each time.
const LOCK_WAITS: u32 = 11;
/// The pause between two attempts, if SQLite has not waited.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// The number of attempts of a blocking first sync.
const ATTEMPTS: u32 = 3;

/// Runs a first sync on this thread: see [`FirstSync`]. It may be repeated at any time. `watch` is
/// called before each request with its purpose.
///
/// # Errors
///
/// As [`FirstSync::answered`] and [`FirstSync::ask`], and `Unavailable` when the remote cannot be
/// reached after a few attempts. In that case nothing was changed on either side.
///
/// # Panics
///
/// Within a tokio runtime's own thread: it blocks.
pub fn initialise(
    plan: Plan,
    remote: Arc<dyn Remote>,
    watch: &mut dyn FnMut(&Phase),
) -> Result<(Store, Report)> {
    let (store, out) = existing(&plan)?;
    let expected = match store {
        Some(store) => {
            store.require_settled(&out)?;
            store.state()?.epoch
        }
        None => None,
    };
    let (mut store, mut report) =
        contact(FirstSync::new(plan, expected).at_once(), &remote, watch)?;
    store.leave(&out)?;
    report.left = out;
    if store.suspects().iter().any(|suspect| suspect.joins.is_some()) {
        watch(&Phase::Merging);
        let (path, on_connect) = (store.path().to_owned(), store.on_connect().clone());
        report.adopted = join(store, remote)?;
        store = Store::open_with(&path, &on_connect)?;
    }
    Ok((store, report))
}

/// Brings the rows of tables that join a replica together with the remote's, and synchronises.
fn join(store: Store, remote: Arc<dyn Remote>) -> Result<Option<Adopted>> {
    let (driver, handle) = Driver::new(store, None, config(), remote)?;
    let (reply, mut answer) = oneshot::channel();
    handle.send(Command::SyncNow(reply))?;
    driver.run_until(|machine| match answer.try_recv() {
        Err(_) => None,
        Ok(Err(error)) if machine.is_comparing() => Some(Err(error)),
        Ok(_) => Some(Ok(machine.joined().cloned())),
    })
}

/// How a command synchronises.
fn config() -> Config {
    Config {
        poll_ms: POLL_MS,
        health_bound_ms: HEALTH_BOUND_MS,
        seed: fastrand::u64(..),
        identity_seed: fastrand::u64(..),
        push: PushSize::default(),
        pull: PullSize::default(),
    }
}

/// Looks at the remote, on this thread, before it is accepted.
///
/// # Errors
///
/// `Usage` when the replica has had no first sync; `Unavailable` when the remote cannot be reached;
/// `Refused` when it refuses us, or has a problem for which [`accept`] is not meant.
///
/// # Panics
///
/// Within a tokio runtime's own thread: it blocks.
pub fn preview_remote(store: &Store, remote: &dyn Remote) -> Result<RemotePreview> {
    single_thread()?.block_on(preview(LocalSide::of(store)?, remote))
}

/// Reads which objects of driftless a remote has, on this thread.
///
/// # Errors
///
/// The errors of the remote.
///
/// # Panics
///
/// Within a tokio runtime's own thread: it blocks.
pub fn look_at_installation(remote: &dyn Remote) -> Result<RemoteInstallation> {
    single_thread()?.block_on(removal::look(remote))
}

/// Removes all objects of driftless from a remote, on this thread.
///
/// # Errors
///
/// The errors of the remote; `Unavailable` when a replica has installed it again meanwhile.
///
/// # Panics
///
/// Within a tokio runtime's own thread: it blocks.
pub fn remove_installation(remote: &dyn Remote, found: &RemoteInstallation) -> Result<Removed> {
    single_thread()?.block_on(removal::remove(remote, found))
}

/// Removes the files that driftless has made beside a database, which is not a replica any more.
pub fn remove_files(lock: Lock, database: &Path) {
    // Without a replicator the file does not exist.
    let _ = std::fs::remove_file(status_file::path(database));
    lock.remove_file(database);
}

/// Continues with another remote, on this thread: see [`RemotePreview`]. The caller holds the
/// file's lock. `watch` is called before each request with its purpose.
///
/// # Errors
///
/// As for [`initialise`]. After an error the replica still belongs to its former remote.
///
/// # Panics
///
/// Within a tokio runtime's own thread: it blocks.
pub fn accept(
    store: Store,
    remote: Arc<dyn Remote>,
    watch: &mut dyn FnMut(&Phase),
) -> Result<(Store, Report)> {
    let former = store.state()?.url;
    let replica = ReplicaId(fresh_ulid());
    let plan = plan_of(&store, remote.url(), replica, fresh_ulid());
    drop(store);
    contact(FirstSync::accepting(plan, replica, former), &remote, watch)
}

fn single_thread() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build();
    runtime.map_err(|source| Error::storage("no thread could be started").with_source(source))
}

/// Runs a first sync to its end.
fn contact(
    mut first_sync: FirstSync,
    remote: &Arc<dyn Remote>,
    watch: &mut dyn FnMut(&Phase),
) -> Result<(Store, Report)> {
    let (runtime, time) = (single_thread()?, Time::start());
    let mut backoff = Backoff::new(fastrand::u64(..));
    let mut told = false;
    loop {
        let orphans = &first_sync.report().orphans;
        if !told && !orphans.is_empty() {
            watch(&Phase::Found(orphans.clone()));
            told = true;
        }
        watch(&first_sync.phase());
        let batch = first_sync.ask()?;
        match runtime.block_on(guarded(Arc::clone(remote), batch)) {
            Ok(answer) => match first_sync.answered(answer, time.now().wall_ms)? {
                Advance::More => backoff.reset(),
                Advance::Done(report, store, _) => return Ok((*store, *report)),
                Advance::OtherRemote(found) => return Err(other_remote(found.as_deref())),
            },
            // The remote answered, at least.
            Err(error) if first_sync.recover(&error) => backoff.reset(),
            Err(error) if error.kind() == Kind::Unavailable => {
                let wait = backoff.fail();
                if backoff.failures() >= ATTEMPTS {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(wait));
            }
            Err(error) => return Err(first_sync.explain(error)),
        }
    }
}

/// Pushes and pulls, on this thread, until the present pending events have their verdicts and the
/// remote's present log is here. The caller holds the file's
/// [`Lock`](crate::sync::driver::lock::Lock). `watch` is called with the progress of a push that is
/// sent in parts, and with `None` when it has arrived.
///
/// # Errors
///
/// `Unavailable` when the remote cannot be reached, after a few attempts; `Refused` when it refuses
/// us or is another database; `Usage` when the replica has not had its first sync; `Storage` when
/// the local database fails.
///
/// # Panics
///
/// Within a tokio runtime's own thread: it blocks.
pub fn drain(
    store: Store,
    remote: Arc<dyn Remote>,
    watch: &mut dyn FnMut(Option<Staged>),
) -> Result<Summary> {
    let (driver, handle) = Driver::new(store, None, config(), remote)?;
    let (reply, mut answer) = oneshot::channel();
    handle.send(Command::SyncNow(reply))?;
    let mut told = None;
    driver.run_until(|machine| {
        let staged = machine.staged();
        if staged != told {
            watch(staged);
            told = staged;
        }
        answer.try_recv().ok()
    })
}

/// Calls `open`, and again while another program has the write lock, up to [`LOCK_WAITS`] times.
pub(crate) fn when_unlocked<T>(
    mut open: impl FnMut() -> Result<T>,
    mut pause: impl FnMut(Duration),
) -> Result<T> {
    for _ in 0..LOCK_WAITS {
        match open() {
            Err(error) if error.code() == Code::DatabaseLocked => {
                tracing::warn!("waiting for another program's transaction: {error}");
                pause(LOCK_PAUSE);
            }
            opened => return opened,
        }
    }
    open()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens a file that is locked for the first `locked` attempts. Returns the result, and the
    /// numbers of attempts and pauses.
    fn attempts(locked: u32, then: Result<u8>) -> (Result<u8>, u32, u32) {
        let (mut then, mut opened, mut paused) = (Some(then), 0, 0);
        let open = || {
            opened += 1;
            match opened > locked {
                true => then.take().expect("it is opened once"),
                false => Err(Error::new(Code::DatabaseLocked, "locked")),
            }
        };
        let done = when_unlocked(open, |_| paused += 1);
        (done, opened, paused)
    }

    #[test]
    fn f57_a_start_waits_for_the_write_lock_and_gives_up_in_the_end() {
        for locked in 0..=LOCK_WAITS {
            let (done, opened, paused) = attempts(locked, Ok(7));
            assert_eq!((done.unwrap(), opened, paused), (7, locked + 1, locked));
        }
        let (done, opened, paused) = attempts(LOCK_WAITS + 1, Ok(7));
        assert_eq!(done.unwrap_err().code(), Code::DatabaseLocked);
        assert_eq!((opened, paused), (LOCK_WAITS + 1, LOCK_WAITS));
    }

    #[test]
    fn f57_a_start_waits_for_nothing_but_the_lock() {
        let (done, opened, paused) = attempts(3, Err(Error::storage("full")));
        assert_eq!(done.unwrap_err().message(), "full");
        assert_eq!((opened, paused), (4, 3));
    }
}
