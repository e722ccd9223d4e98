//! Calls that block: a command runs a first sync or a sync on its own thread, without a replicator.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::error::{Code, Error, Kind, Result};
use crate::event::ReplicaId;
use crate::remote::Remote;
use crate::store::{Removed, Store};
use crate::sync::backoff::Backoff;
use crate::sync::driver::Driver;
use crate::sync::driver::clock::{Time, fresh_ulid};
use crate::sync::driver::handle::Command;
use crate::sync::driver::lock::Lock;
use crate::sync::driver::network::guarded;
use crate::sync::driver::status_file;
use crate::sync::first_sync::plan::{Plan, existing, plan_of};
use crate::sync::first_sync::preview::{LocalSide, RemotePreview, preview};
use crate::sync::first_sync::report::{Phase, Report};
use crate::sync::first_sync::run::{Advance, FirstSync};
use crate::sync::machine::io::{Config, PullSize, PushSize, Staged};
use crate::sync::machine::schedule::POLL_MS;
use crate::sync::remote_check::other_remote;
use crate::sync::removal::{self, RemoteInstallation};
use crate::sync::status::{HEALTH_BOUND_MS, Summary};

/// How often a start tries once more to get the write lock. SQLite waits for it for five seconds
/// each time.
const LOCK_WAITS: u32 = 11;
/// The pause in between, where SQLite has not waited.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// How often a blocking first sync is tried.
const ATTEMPTS: u32 = 3;

/// Runs a first sync on this thread: see [`FirstSync`]. It may be done again at any time. `watch`
/// is told before each request what it is for.
///
/// # Errors
///
/// As [`FirstSync::answered`] and [`FirstSync::ask`], and `Unavailable` when the remote cannot be
/// reached after a few attempts. Where the remote cannot be reached, nothing was changed on either
/// side.
///
/// # Panics
///
/// Within a tokio runtime's own thread: it blocks.
pub fn initialise(
    mut plan: Plan,
    remote: Arc<dyn Remote>,
    watch: &mut dyn FnMut(&Phase),
) -> Result<(Store, Report)> {
    let (store, kept) = existing(&mut plan)?;
    let expected = match store {
        Some(store) => store.state()?.epoch,
        None => None,
    };
    let (store, mut report) = contact(FirstSync::new(plan, expected), &remote, watch)?;
    report.kept = kept;
    Ok((store, report))
}

/// Looks at the remote, on this thread, before it is accepted.
///
/// # Errors
///
/// `Usage` when the replica has had no first sync; `Unavailable` when the remote cannot be reached;
/// `Refused` when it refuses us, or is of no use for another reason than [`accept`] is for.
///
/// # Panics
///
/// Within a tokio runtime's own thread: it blocks.
pub fn preview_remote(store: &Store, remote: &dyn Remote) -> Result<RemotePreview> {
    single_thread()?.block_on(preview(LocalSide::of(store)?, remote))
}

/// Reads what a remote has of driftless's, on this thread.
///
/// # Errors
///
/// The remote's.
///
/// # Panics
///
/// Within a tokio runtime's own thread: it blocks.
pub fn look_at_installation(remote: &dyn Remote) -> Result<RemoteInstallation> {
    single_thread()?.block_on(removal::look(remote))
}

/// Takes everything of driftless's out of a remote, on this thread.
///
/// # Errors
///
/// The remote's; `Unavailable` when a replica has installed it again meanwhile.
///
/// # Panics
///
/// Within a tokio runtime's own thread: it blocks.
pub fn remove_installation(remote: &dyn Remote, found: &RemoteInstallation) -> Result<Removed> {
    single_thread()?.block_on(removal::remove(remote, found))
}

/// Removes the files that driftless has put beside a database, which is no replica any more.
pub fn remove_files(lock: Lock, database: &Path) {
    // Without a replicator there is none.
    let _ = std::fs::remove_file(status_file::path(database));
    lock.remove_file(database);
}

/// Goes on with another remote, on this thread: see [`RemotePreview`]. The caller holds the file's
/// lock. `watch` is told before each request what it is for.
///
/// # Errors
///
/// As for [`initialise`]. After an error the replica belongs to the remote that it belonged to.
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
    runtime.map_err(|source| Error::storage("no thread could be made").with_source(source))
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
            // It answered, at least.
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

/// Pushes and pulls, on this thread, until what is pending now has its verdict and what the remote
/// has now is here. The caller holds the file's [`Lock`](crate::sync::driver::lock::Lock). `watch`
/// is told how far a push is that travels in parts, and when it has arrived (`None`).
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
    let config = Config {
        poll_ms: POLL_MS,
        health_bound_ms: HEALTH_BOUND_MS,
        seed: fastrand::u64(..),
        identity_seed: fastrand::u64(..),
        push: PushSize::default(),
        pull: PullSize::default(),
    };
    let (driver, handle) = Driver::new(store, None, config, remote)?;
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

/// Does `open`, and again while another program has the write lock, up to [`LOCK_WAITS`] times.
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

    /// An attempt to open a file that is locked for the first `locked` attempts, and how many
    /// attempts and pauses there were.
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
