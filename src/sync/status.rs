//! The status of a replica.

use crate::catalog::LeftOut;
use crate::error::{Code, Error, Result};
use crate::event::clock::duration;
use crate::event::{Change, ReplicaId, Seq};
use crate::store::State;
use crate::store::{Dangling, PastIdentity, ReturnedRows, Store, Unwritable, Waiting};
use crate::sync::first_sync::report::{Phase, Report};

/// Health turns red when the last success is older than this, in ms, unless it is set otherwise:
/// that many are twelve polls.
pub const HEALTH_BOUND_MS: u64 = 60_000;

/// What a replicator is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// It has not spoken to the remote yet.
    #[default]
    Starting,
    /// It installs what is missing and reads what is there, for the first time.
    FirstSync,
    /// Nothing is left to push or pull.
    InStep,
    /// It pushes or pulls.
    Syncing,
    /// The remote cannot be reached. It tries again by itself.
    Offline,
    /// The remote refuses the credentials, or what is to be pushed. It tries again once a minute.
    Refused,
    /// The URL leads to another database than the one this replica belongs to, or to an empty one.
    /// Nothing is pushed.
    OtherRemote,
    /// The remote has lost what it had when it was last read: it was restored from a backup, or
    /// rolled back. Or its log is not the one that was read here. Nothing is pushed or pulled.
    RolledBack,
    /// Something else is wrong: see the trouble. It tries again by itself.
    Trouble,
    /// Another replicator is at work on the same file. This one takes over when that one goes.
    Standby,
    /// It was shut down, or never started.
    Stopped,
}

/// Whether a person should worry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All is well.
    Ok,
    /// The last request failed, but the last success is not long ago. Or a replicated table cannot
    /// be written here, or on the remote.
    Degraded,
    /// There was no success within the bound, or none at all; or the last request failed and what
    /// is to be moved has waited for longer than the bound.
    Red,
}

/// The remote, as [`Status`] shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RemoteStatus {
    /// Its URL, without credentials.
    pub url: String,
    /// Whether it answered last time; `None` if it was not asked yet.
    pub reachable: Option<bool>,
    /// The identity of the database that this replica belongs to; `None` before the first sync.
    pub epoch: Option<String>,
    /// Requests that the replicator has sent since it was started; `None` if none runs.
    pub requests: Option<u64>,
    /// The last time when all of the replica was compared with it.
    pub verified: Option<LastCheck>,
}

/// A whole comparison of a replica with its log and its remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LastCheck {
    /// When it ended: ms since 1970.
    pub at: i64,
    /// How many rows and events were not as they must be.
    pub differing: u64,
}

/// The setting with the [`LastCheck`].
const VERIFIED: &str = "verified";

impl LastCheck {
    /// The last one of a replica.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub(in crate::sync) fn of(store: &Store) -> Result<Option<LastCheck>> {
        let text = store.setting(VERIFIED)?;
        let read = |text: String| {
            let (at, differing) = text.split_once(' ')?;
            Some(LastCheck { at: at.parse().ok()?, differing: differing.parse().ok()? })
        };
        Ok(text.and_then(read))
    }

    /// Notes that it was the last one.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub(in crate::sync) fn note(self, store: &mut Store) -> Result<()> {
        store.set_setting(VERIFIED, Some(&format!("{} {}", self.at, self.differing)))
    }
}

/// What a first sync is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstSyncStep {
    /// Definitions are compared, and what is missing is made.
    Installing,
    /// The remote's rows are read.
    Reading,
    /// The rows of both sides are brought together.
    Merging,
}

/// How far a first sync is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FirstSyncProgress {
    /// What it is doing.
    pub step: FirstSyncStep,
    /// The table whose rows are read.
    pub table: Option<String>,
    /// How many of its rows are here.
    pub rows: Option<u64>,
}

impl FirstSyncProgress {
    pub(in crate::sync) fn of(phase: Phase) -> Self {
        let step = |step| FirstSyncProgress { step, table: None, rows: None };
        match phase {
            Phase::Installing | Phase::Found(_) => step(FirstSyncStep::Installing),
            Phase::Merging => step(FirstSyncStep::Merging),
            Phase::Reading { table, rows } => FirstSyncProgress {
                step: FirstSyncStep::Reading,
                table: Some(table),
                rows: Some(rows as u64),
            },
        }
    }
}

/// How a replica is. A flat record: each field is one of the JSON that `driftless status --json`
/// prints.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Status {
    /// The replica's id.
    pub replica: String,
    /// The identities that this file had before, the oldest first: it has another one since it was
    /// found to be a copy, or was told to go on with another remote.
    pub identity: Vec<PastIdentity>,
    /// The remote.
    pub remote: RemoteStatus,
    /// What the replicator is doing.
    pub state: SyncState,
    /// How far the first sync is; `None` before it begins and once it is done.
    pub first_sync: Option<FirstSyncProgress>,
    /// The process that replicates the file, as far as it is known; `None` if none does.
    pub process: Option<u32>,
    /// What is wrong, in a sentence, if anything is.
    pub trouble: Option<String>,
    /// Which trouble it is, for programs.
    pub code: Option<Code>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Local events whose verdict is not known yet.
    pub pending: u64,
    /// The age of the oldest of them, in seconds.
    pub oldest_pending_s: Option<u64>,
    /// The highest seq of the remote log that is integrated.
    pub cursor: i64,
    /// How many seqs the remote log is known to be ahead.
    pub lag: u64,
    /// Whether a transaction of another writer is on its way that is too large to be integrated at
    /// once: until it is here, a part of it is.
    pub in_parts: bool,
    /// Events of ours that lost and that nobody has looked after yet.
    pub conflicts: u64,
    /// Pulled events that cannot be applied here yet.
    pub quarantined: u64,
    /// Tables whose definitions have changed here. They are compared with the remote's, to find
    /// writes that were not captured; until that is done nothing is pushed or integrated.
    pub suspect: Vec<String>,
    /// Rows that were missing here after a change of the schema, and came back, until a person has
    /// decided about them.
    pub returned: Vec<ReturnedRows>,
    /// Replicated tables that cannot be written here. What comes for them is in quarantine.
    pub unwritable: Vec<Unwritable>,
    /// Tables of which not everything flows, because the remote's table is another one or was made
    /// anew there.
    pub waiting: Vec<Waiting>,
    /// Rows of tables that are not replicated, which refer to a row that the remote took away, or
    /// that may be another row than the one that they were written for.
    pub dangling: Vec<Dangling>,
    /// The tables that are not replicated, each with the reason.
    pub left_out: Vec<LeftOut>,
    /// When the remote last answered as it should: ms since 1970.
    pub last_success: Option<i64>,
    /// Whether a person should worry.
    pub health: Health,
    /// The database file's size.
    pub bytes: u64,
}

/// Health by the last success, the last request's outcome, and how long the oldest thing that is to
/// be moved has waited, in seconds. Times are in ms since 1970.
pub(crate) fn health(
    last_success: Option<i64>,
    well: bool,
    waiting_s: Option<u64>,
    now_ms: i64,
    bound_ms: u64,
) -> Health {
    // A clock that was set back makes the age negative: then the success is recent enough.
    let recent = last_success.is_some_and(|then| now_ms.saturating_sub(then) <= bound_ms as i64);
    match (recent, well) {
        (true, true) => Health::Ok,
        (true, false) if waiting_s.is_none_or(|seconds| seconds * 1_000 <= bound_ms) => {
            Health::Degraded
        }
        _ => Health::Red,
    }
}

/// The trouble of a replica with tables that cannot be written here, if there is no greater one.
fn held(unwritable: &[Unwritable]) -> Option<Error> {
    let (first, more) = unwritable.split_first()?;
    let others = match more.len() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let hint = "what comes for it waits in quarantine. Let the application run the replicator, and \
                register there what only it has (`Builder::on_connect`), or do without it";
    Some(Error::new(Code::TableUnwritable, format!("{}{others}", first.reason)).with_hint(hint))
}

/// The trouble of a replica with tables of which not everything flows, if there is no greater one.
fn kept_back(waiting: &[Waiting]) -> Option<Error> {
    let (first, more) = waiting.split_first()?;
    let others = match more.len() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let error = Error::new(Code::TableWaits, format!("{}{others}", first.reason));
    let hint = "nothing is lost, and other tables go on: migrate the side that is behind";
    Some(if first.events > 0 { error.with_hint(hint) } else { error })
}

/// The trouble of a replica where something has waited for `waiting_s` seconds, which is so long
/// that nobody can be at work on it; `running` says whether somebody pretends to be.
pub(crate) fn stopped(waiting_s: u64, running: bool, bound_ms: u64) -> Option<Error> {
    let message =
        format!("replication has stopped: something has waited for {}", duration(waiting_s));
    let hint = if running {
        "a replicator is running on the file, and does not get on: see what it says"
    } else {
        "no replicator is running on the file: start the application, or `driftless run`"
    };
    let stopped = waiting_s.saturating_mul(1_000) > bound_ms;
    stopped.then(|| Error::new(Code::ReplicationStopped, message).with_hint(hint))
}

/// The trouble, if there is any, as one process tells another.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Trouble {
    trouble: Option<String>,
    #[serde(default, deserialize_with = "known_code")]
    code: Option<Code>,
    hint: Option<String>,
}

impl From<&Error> for Trouble {
    fn from(error: &Error) -> Self {
        Trouble {
            trouble: Some(error.message().to_owned()),
            code: Some(error.code()),
            hint: error.hint().map(str::to_owned),
        }
    }
}

/// A code of this version; another version may know others.
fn known_code<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Code>, D::Error> {
    let text: Option<String> = serde::Deserialize::deserialize(from)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

/// The facts of a replica that its file does not have. Its replicator knows them, or a process that
/// has asked the remote.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Known {
    state: SyncState,
    first_sync: Option<FirstSyncProgress>,
    process: Option<u32>,
    #[serde(flatten)]
    told: Trouble,
    reachable: Option<bool>,
    /// The newest seq of the remote's log.
    head: i64,
    last_success: Option<i64>,
    /// Requests since the replicator was started.
    #[serde(default)]
    requests: Option<u64>,
    /// Replicated tables that it cannot write.
    #[serde(default)]
    unwritable: Vec<Unwritable>,
    /// How long an event has been on the remote that is not here, in seconds.
    waiting_s: Option<u64>,
    /// The age of the last success above which health is red, in ms.
    bound_ms: u64,
}

impl Known {
    /// A replica in this state, of which nothing else is known. `bound_ms` is the age of the last
    /// success above which health is red.
    pub(crate) fn new(state: SyncState, bound_ms: u64) -> Known {
        Known {
            state,
            first_sync: None,
            process: None,
            told: Trouble::default(),
            reachable: None,
            head: 0,
            last_success: None,
            requests: None,
            unwritable: Vec::new(),
            waiting_s: None,
            bound_ms,
        }
    }

    /// The same in another state.
    pub(crate) fn in_state(self, state: SyncState) -> Known {
        Known { state, ..self }
    }

    /// The same with the process that replicates the file.
    pub(crate) fn with_process(self, process: Option<u32>) -> Known {
        Known { process, ..self }
    }

    /// The same with whether the remote can be reached, and the newest seq of its log.
    pub(crate) fn with_remote(self, reachable: Option<bool>, head: i64) -> Known {
        Known { reachable, head, ..self }
    }

    /// The same with how long an event has been on the remote that is not here, in seconds.
    pub(crate) fn with_waiting(self, waiting_s: Option<u64>) -> Known {
        Known { waiting_s, ..self }
    }

    /// The same with how far a first sync is.
    pub(crate) fn with_first_sync(self, first_sync: Option<FirstSyncProgress>) -> Known {
        Known { first_sync, ..self }
    }

    /// The same with the replicated tables that cannot be written.
    pub(crate) fn with_unwritable(self, unwritable: Vec<Unwritable>) -> Known {
        Known { unwritable, ..self }
    }

    /// The same with the requests that the replicator has sent.
    pub(crate) fn with_requests(self, requests: u64) -> Known {
        Known { requests: Some(requests), ..self }
    }

    /// The same with a success that may be newer, in ms since 1970.
    pub(crate) fn with_success(self, success: Option<i64>) -> Known {
        Known { last_success: self.last_success.max(success), ..self }
    }

    /// The same with this trouble.
    pub(crate) fn with_trouble(mut self, trouble: Option<&Error>) -> Known {
        self.told = trouble.map(Trouble::from).unwrap_or_default();
        self
    }

    /// The same for a replicator of this process that works, unless it is stopped. `has_lock` says
    /// that others may know it by its process.
    pub(crate) fn at_work(self, has_lock: bool) -> Known {
        let process = (self.state != SyncState::Stopped && has_lock).then(std::process::id);
        self.with_process(process)
    }

    /// When the remote last answered, in ms since 1970.
    pub(crate) fn last_success(&self) -> Option<i64> {
        self.last_success
    }

    /// Whether the other one differs in more than the end of the log, the time of the last success
    /// and the number of requests.
    pub(crate) fn differs_from(&self, other: &Known) -> bool {
        let steady =
            |known: &Known| Known { head: 0, last_success: None, requests: None, ..known.clone() };
        steady(self) != steady(other)
    }
}

/// The facts of a replica that its file has.
#[derive(Clone, Debug)]
pub(in crate::sync) struct Facts {
    state: State,
    past: Vec<PastIdentity>,
    left_out: Vec<LeftOut>,
    suspect: Vec<String>,
    returned: Vec<ReturnedRows>,
    verified: Option<LastCheck>,
    waiting: Vec<Waiting>,
}

impl Facts {
    /// Reads them.
    pub(in crate::sync) fn of(store: &Store) -> Result<Facts> {
        let (state, past, left_out) = (store.state()?, store.past_identities()?, store.left_out()?);
        let (suspect, returned) = (store.suspect_names()?, store.returned_rows()?);
        let (verified, waiting) = (LastCheck::of(store)?, store.waiting_tables()?);
        Ok(Facts { state, past, left_out, suspect, returned, verified, waiting })
    }

    /// Of a file that cannot be read.
    pub(in crate::sync) fn unknown(replica: ReplicaId) -> Facts {
        Facts {
            state: State::unknown(replica),
            past: Vec::new(),
            left_out: Vec::new(),
            suspect: Vec::new(),
            returned: Vec::new(),
            verified: None,
            waiting: Vec::new(),
        }
    }
}

impl Status {
    /// The status of a replica, by its file and by what else is known. Every status is made here:
    /// a replicator's, the one of a process that waits for the lock, and the one that the command
    /// prints.
    pub(crate) fn of(store: &Store, known: Known, now_ms: i64) -> Result<Status> {
        Ok(Status::by(Facts::of(store)?, known, now_ms))
    }

    /// The same by what the file said.
    pub(in crate::sync) fn by(facts: Facts, known: Known, now_ms: i64) -> Status {
        let Facts { state: file, past: identity, left_out, suspect, returned, verified, waiting } =
            facts;
        let age = |made: i64| u64::try_from(now_ms.saturating_sub(made) / 1_000).unwrap_or(0);
        let (waiting_s, bound_ms) = (known.waiting_s, known.bound_ms);
        let held = held(&known.unwritable).or_else(|| kept_back(&waiting));
        let known = match held {
            Some(held) if known.told.trouble.is_none() => known.with_trouble(Some(&held)),
            _ => known,
        };
        let status = Status {
            replica: file.replica.to_string(),
            identity,
            remote: RemoteStatus {
                url: file.url,
                reachable: known.reachable,
                epoch: file.epoch,
                requests: known.requests,
                verified,
            },
            state: known.state,
            first_sync: known.first_sync,
            process: known.process,
            trouble: known.told.trouble,
            code: known.told.code,
            hint: known.told.hint,
            pending: file.pending,
            oldest_pending_s: file.oldest_pending_ms.map(age),
            cursor: file.place.seq.0,
            lag: u64::try_from(known.head.saturating_sub(file.place.seq.0)).unwrap_or(0),
            in_parts: file.in_parts,
            conflicts: file.conflicts,
            quarantined: file.quarantined,
            suspect,
            returned,
            unwritable: known.unwritable,
            waiting,
            dangling: file.dangling,
            left_out,
            last_success: known.last_success,
            health: Health::Red,
            bytes: file.bytes,
        };
        status.judged(waiting_s, now_ms, bound_ms)
    }

    /// Whether two statuses differ in more than an age, which rises by itself.
    pub(crate) fn differs_from(&self, other: &Status) -> bool {
        let ageless = |status: &Status| Status { oldest_pending_s: None, ..status.clone() };
        ageless(self) != ageless(other)
    }

    /// The same with its health as of now.
    pub(crate) fn judged(mut self, waiting_s: Option<u64>, now_ms: i64, bound_ms: u64) -> Status {
        let held = held(&self.unwritable).or_else(|| kept_back(&self.waiting));
        let held = held.map(|held| held.message().to_owned());
        let well = self.trouble.is_none() || self.trouble == held;
        let waiting_s = self.oldest_pending_s.max(waiting_s);
        self.health = health(self.last_success, well, waiting_s, now_ms, bound_ms);
        let differs = self.remote.verified.is_some_and(|check| check.differing > 0);
        if self.health == Health::Ok && (held.is_some() || differs) {
            self.health = Health::Degraded;
        }
        self
    }
}

/// The work that was done between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Summary {
    /// Local events that the remote took in, whatever the verdict.
    pub pushed: u64,
    /// Local events that were settled as applied,
    pub applied: u64,
    /// as superseded,
    pub superseded: u64,
    /// and as rejected.
    pub rejected: u64,
    /// Events of others that were pulled.
    pub pulled: u64,
    /// Requests that were answered.
    pub requests: u64,
    /// Bytes sent, as far as the client can tell.
    pub bytes_up: u64,
    /// Bytes received.
    pub bytes_down: u64,
    /// How long it took.
    pub seconds: f64,
}

impl Summary {
    /// What came since `earlier`. The time is not part of it.
    pub(in crate::sync) fn since(&self, earlier: &Summary) -> Summary {
        Summary {
            pushed: self.pushed - earlier.pushed,
            applied: self.applied - earlier.applied,
            superseded: self.superseded - earlier.superseded,
            rejected: self.rejected - earlier.rejected,
            pulled: self.pulled - earlier.pulled,
            requests: self.requests - earlier.requests,
            bytes_up: self.bytes_up - earlier.bytes_up,
            bytes_down: self.bytes_down - earlier.bytes_down,
            seconds: 0.0,
        }
    }
}

/// The rows that one page changed; a user interface draws them anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The rows, each once.
    pub rows: Vec<Change>,
    /// The cursor after the page; 0 with `missed`.
    pub cursor: Seq,
    /// Whether this stands for pages that a slow subscriber missed, or for a first sync that has
    /// brought rows or tables: then anything may have changed.
    pub missed: bool,
}

impl Changes {
    /// What a subscriber gets who was too slow.
    pub(crate) fn missed() -> Self {
        Changes { missed: true, ..Changes::default() }
    }

    /// The same after a first sync, if there is anything here that was not here before.
    pub(in crate::sync) fn of_first_sync(report: &Report) -> Option<Self> {
        let rows = report.adopted.as_ref().map_or(0, |adopted| adopted.fetched + adopted.different);
        (rows > 0 || !report.made_here.is_empty()).then(Changes::missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_an_alarm() {
        assert_eq!(health(None, true, None, 0, 60_000), Health::Red);
        assert_eq!(health(Some(1_000), true, None, 61_000, 60_000), Health::Ok);
        assert_eq!(health(Some(1_000), true, Some(99), 61_000, 60_000), Health::Ok, "it moves");
        assert_eq!(health(Some(1_000), false, None, 61_000, 60_000), Health::Degraded);
        assert_eq!(health(Some(1_000), false, Some(60), 61_000, 60_000), Health::Degraded);
        assert_eq!(health(Some(1_000), false, Some(61), 61_000, 60_000), Health::Red, "held up");
        assert_eq!(health(Some(1_000), true, None, 61_001, 60_000), Health::Red);
        assert_eq!(health(Some(100_000), true, None, 5, 60_000), Health::Ok, "a clock set back");
    }
}
