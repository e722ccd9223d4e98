//! First contacts without a replicator: what a command does on its own thread, and what an
//! application's start does without the remote.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::backoff::Backoff;
use crate::error::{Code, Error, Kind, Result};
use crate::event::ReplicaId;
use crate::remote::Remote;
use crate::store::{Local, OnConnect, Setup, Store, definitions};
use crate::sync::driver::clock::{Time, fresh_ulid};
use crate::sync::driver::request::guarded;
use crate::sync::first_sync::compare::{Tables, local_tables, settled_tables};
use crate::sync::first_sync::preview::{self, Facts, Offer};
use crate::sync::first_sync::report::{Doing, Report};
use crate::sync::first_sync::run::{Init, Plan, Progress};
use crate::sync::machine::error_policy::other_remote;

/// How often a start tries once more to get the write lock. SQLite waits for it for five seconds
/// each time.
const LOCK_WAITS: u32 = 11;
/// The pause in between, where SQLite has not waited.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// How often a blocking first contact is tried.
const ATTEMPTS: u32 = 3;

/// The first contact, on this thread: see [`Init`]. It may be done again at any time.
///
/// # Errors
///
/// As [`Init::answered`] and [`Init::ask`], and `Unavailable` when the remote cannot be reached
/// after a few attempts. Where the remote cannot be reached, nothing was changed on either side.
///
/// # Panics
///
/// Within a tokio runtime's own thread: it blocks.
#[cfg(feature = "internals")]
pub fn initialise(plan: Plan, remote: Arc<dyn Remote>) -> Result<(Store, Report)> {
    initialise_watched(plan, remote, &mut |_| {})
}

/// The same, and `watch` is told before each request what it is for.
///
/// # Errors
///
/// As for [`initialise`].
///
/// # Panics
///
/// As for [`initialise`].
pub fn initialise_watched(
    mut plan: Plan,
    remote: Arc<dyn Remote>,
    watch: &mut dyn FnMut(&Doing),
) -> Result<(Store, Report)> {
    let (store, kept) = existing(&mut plan)?;
    let expected = match store {
        Some(store) => store.state()?.epoch,
        None => None,
    };
    let (store, mut report) = contact(Init::new(plan, expected), &remote, watch)?;
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
pub fn offer(store: &Store, remote: &dyn Remote) -> Result<Offer> {
    single_thread()?.block_on(preview::offer(Facts::of(store)?, remote))
}

/// Goes on with another remote, on this thread: see [`Offer`]. The caller holds the file's lock.
/// `watch` is told before each request what it is for.
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
    watch: &mut dyn FnMut(&Doing),
) -> Result<(Store, Report)> {
    let former = store.state()?.url;
    let replica = ReplicaId(fresh_ulid());
    let plan = preview::plan_of(&store, remote.url(), replica, fresh_ulid());
    drop(store);
    contact(Init::accepting(plan, replica, former), &remote, watch)
}

fn single_thread() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build();
    runtime.map_err(|source| Error::storage("no thread could be made").with_source(source))
}

/// Carries a first contact to its end.
fn contact(
    mut init: Init,
    remote: &Arc<dyn Remote>,
    watch: &mut dyn FnMut(&Doing),
) -> Result<(Store, Report)> {
    let (runtime, time) = (single_thread()?, Time::start());
    let mut backoff = Backoff::new(fastrand::u64(..));
    let mut told = false;
    loop {
        let orphans = &init.report().orphans;
        if !told && !orphans.is_empty() {
            watch(&Doing::Found(orphans.clone()));
            told = true;
        }
        watch(&init.doing());
        let batch = init.ask()?;
        match runtime.block_on(guarded(Arc::clone(remote), batch)) {
            Ok(answer) => match init.answered(answer, time.now().wall_ms)? {
                Progress::More => backoff.reset(),
                Progress::Done(report, store) => return Ok((*store, *report)),
                Progress::OtherRemote(found) => return Err(other_remote(found.as_deref())),
            },
            // It answered, at least.
            Err(error) if init.recover(&error) => backoff.reset(),
            Err(error) if error.kind() == Kind::Unavailable => {
                let wait = backoff.fail();
                if backoff.failures() >= ATTEMPTS {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(wait));
            }
            Err(error) => return Err(init.explain(error)),
        }
    }
}

/// The replica of a plan's file, if it is one already. Its tables are settled once its first sync
/// is done, so the plan is held to them. Beside it, the tables that were not asked for again.
fn existing(plan: &mut Plan) -> Result<(Option<Store>, Vec<String>)> {
    if !definitions(&plan.path)?.iter().any(|(_, name, ..)| name == "driftless_state") {
        return Ok((None, Vec::new()));
    }
    let store = Store::open_with(&plan.path, &plan.on_connect)?;
    let mut kept = Vec::new();
    if store.is_adopted()? {
        let known = store.tables().iter().map(|known| known.table.name.clone()).collect();
        (plan.tables, kept) = settled_tables(&plan.tables, known)?;
        for table in &kept {
            tracing::warn!(table, "not asked for any more, and replicated all the same");
        }
    }
    Ok((Some(store), kept))
}

/// Opens the replica of a plan without the remote: capture is installed on those of its tables that
/// are here. The file is made if there is none.
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
        // What was agreed with the remote stays.
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

/// Where a plan is made without one's own identities.
pub(crate) fn fresh_plan(
    path: PathBuf,
    url: String,
    tables: Tables,
    rules: Vec<(String, crate::verdict::ConflictRule)>,
) -> Plan {
    let (replica, epoch) = (ReplicaId(fresh_ulid()), fresh_ulid());
    Plan { path, url, tables, rules, replica, epoch, on_connect: OnConnect::default() }
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
