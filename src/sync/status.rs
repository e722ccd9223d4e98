//! The status of a replica.

use crate::catalog::LeftOut;
use crate::error::{Code, Error, Result};
use crate::event::clock::duration;
use crate::event::{Change, ReplicaId, Seq};
use crate::store::State;
use crate::store::{Dangling, PastIdentity, ReturnedRows, Store, Unwritable, Waiting};
use crate::sync::first_sync::report::{Phase, Report};

/// Health turns red when the last success is older than this, in ms, unless another bound is set.
/// It is about thirteen polls.
pub const HEALTH_BOUND_MS: u64 = 60_000;

/// What a replicator is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// It has not reached the remote yet.
    #[default]
    Starting,
    /// It installs missing objects and reads existing rows, for the first time.
    FirstSync,
    /// Nothing is left to push or pull.
    InStep,
    /// It pushes or pulls.
    Syncing,
    /// The remote cannot be reached. It tries again automatically.
    Offline,
    /// The remote refuses the credentials or the pushed events. It tries again once a minute.
    Refused,
    /// The URL leads to another database than the one this replica belongs to, or to an empty one.
    /// Nothing is pushed.
    OtherRemote,
    /// The remote has lost events that it had before: it was restored from a backup or rolled back.
    /// Or its log is not the one that was read here. Nothing is pushed or pulled.
    RolledBack,
    /// There is another problem: see `trouble`. It tries again automatically.
    Trouble,
    /// Another replicator works on the same file. This one takes over when that one ends.
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
    /// The last request failed, but the last success is recent. Or a replicated table cannot be
    /// written here or on the remote.
    Degraded,
    /// There was no success within the bound, or none at all. Or the last request failed and events
    /// have waited for longer than the bound.
    Red,
}

/// The remote in a [`Status`].
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RemoteStatus {
    /// Its URL, without credentials.
    pub url: String,
    /// Whether it answered the last request; `None` if there was none yet.
    pub reachable: Option<bool>,
    /// The identity of the database that this replica belongs to; `None` before the first sync.
    pub epoch: Option<String>,
    /// Requests that the replicator has sent since it was started; `None` if none runs.
    pub requests: Option<u64>,
    /// The last time when the whole replica was compared with it.
    pub verified: Option<LastCheck>,
}

/// A complete comparison of a replica with its log and its remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LastCheck {
    /// When it ended: ms since 1970.
    pub at: i64,
    /// The number of rows and events that differed.
    pub differing: u64,
}

/// The setting with the [`LastCheck`].
const VERIFIED: &str = "verified";

impl LastCheck {
    /// The last comparison of a replica.
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

    /// Records it as the last one.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub(in crate::sync) fn note(self, store: &mut Store) -> Result<()> {
        store.set_setting(VERIFIED, Some(&format!("{} {}", self.at, self.differing)))
    }
}

/// The present step of a first sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstSyncStep {
    /// Definitions are compared, and missing objects are created.
    Installing,
    /// The remote's rows are read.
    Reading,
    /// The rows of both sides are merged.
    Merging,
}

/// The progress of a first sync.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FirstSyncProgress {
    /// Its present step.
    pub step: FirstSyncStep,
    /// The table whose rows are read.
    pub table: Option<String>,
    /// How many of its rows were read.
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

/// The status of a replica. A flat record: each field is one of the JSON of `driftless status
/// --json`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Status {
    /// The replica's id.
    pub replica: String,
    /// The former identities of this file, the oldest first. It takes a new one when it is found to
    /// be a copy, or is told to continue with another remote.
    pub identity: Vec<PastIdentity>,
    /// The remote.
    pub remote: RemoteStatus,
    /// The state of the replicator.
    pub state: SyncState,
    /// The progress of the first sync; `None` before it begins and after it.
    pub first_sync: Option<FirstSyncProgress>,
    /// The process that replicates the file, if it is known; `None` if none does.
    pub process: Option<u32>,
    /// The problem, in a sentence, if there is one.
    pub trouble: Option<String>,
    /// The code of the problem, for programs.
    pub code: Option<Code>,
    /// The remedy.
    pub hint: Option<String>,
    /// The number of local events without a known verdict.
    pub pending: u64,
    /// The age of the oldest of them, in seconds.
    pub oldest_pending_s: Option<u64>,
    /// The highest integrated seq of the remote log.
    pub cursor: i64,
    /// The number of seqs by which the remote log is known to be ahead.
    pub lag: u64,
    /// Whether a transaction of another writer is being integrated that is too large to be
    /// integrated at once. Until its end is here, only a part of it is visible.
    pub in_parts: bool,
    /// The number of open conflicts: own events that lost and about which nobody has decided yet.
    pub conflicts: u64,
    /// Pulled events that cannot be applied here yet.
    pub quarantined: u64,
    /// Tables whose definitions have changed here. They are compared with the remote's to find
    /// writes that were not captured. Until then nothing is pushed or integrated.
    pub suspect: Vec<String>,
    /// Rows that were missing here after a schema change and came back, until a person decides
    /// about them.
    pub returned: Vec<ReturnedRows>,
    /// Replicated tables that cannot be written here. Their pulled events are in quarantine.
    pub unwritable: Vec<Unwritable>,
    /// Tables with events that are held back, because the remote's table differs or was rebuilt.
    pub waiting: Vec<Waiting>,
    /// Rows of tables that are not replicated whose parent row was removed by the remote, or may be
    /// another row than the one that they were written for.
    pub dangling: Vec<Dangling>,
    /// The tables that are not replicated, each with the reason.
    pub left_out: Vec<LeftOut>,
    /// When the remote last answered correctly: ms since 1970.
    pub last_success: Option<i64>,
    /// Whether a person should worry.
    pub health: Health,
    /// The database file's size.
    pub bytes: u64,
}

/// The health, from the last success, the outcome of the last request, and how long the oldest
/// event has waited, in seconds. Times are in ms since 1970.
pub(crate) fn health(
    last_success: Option<i64>,
    well: bool,
    waiting_s: Option<u64>,
    now_ms: i64,
    bound_ms: u64,
) -> Health {
    // After a clock was set back, the age is negative. Then the success counts as recent.
    let recent = last_success.is_some_and(|then| now_ms.saturating_sub(then) <= bound_ms as i64);
    match (recent, well) {
        (true, true) => Health::Ok,
        (true, false) if waiting_s.is_none_or(|seconds| seconds * 1_000 <= bound_ms) => {
            Health::Degraded
        }
        _ => Health::Red,
    }
}

/// The problem of a replica with tables that cannot be written here, unless there is a greater one.
fn held(unwritable: &[Unwritable]) -> Option<Error> {
    let (first, more) = unwritable.split_first()?;
    let others = match more.len() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let hint = "its events wait in quarantine. Let the application run the replicator and \
        register its functions and collations (`Builder::on_connect`), or remove them from the \
        table";
    Some(Error::new(Code::TableUnwritable, format!("{}{others}", first.reason)).with_hint(hint))
}

/// The problem of a replica with events that are held back, unless there is a greater one.
fn kept_back(waiting: &[Waiting]) -> Option<Error> {
    let (first, more) = waiting.split_first()?;
    let others = match more.len() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let error = Error::new(Code::TableWaits, format!("{}{others}", first.reason));
    let hint = "nothing is lost, and other tables continue: migrate the side that is behind";
    Some(if first.events > 0 { error.with_hint(hint) } else { error })
}

/// The problem of a replica where an event has waited for `waiting_s` seconds, which is so long
/// that no replicator can be working. `running` is whether one claims to.
pub(crate) fn stopped(waiting_s: u64, running: bool, bound_ms: u64) -> Option<Error> {
    let message =
        format!("replication has stopped: something has waited for {}", duration(waiting_s));
    let hint = if running {
        "a replicator is running on the file, but makes no progress: check its output"
    } else {
        "no replicator is running on the file: start the application, or `driftless run`"
    };
    let stopped = waiting_s.saturating_mul(1_000) > bound_ms;
    stopped.then(|| Error::new(Code::ReplicationStopped, message).with_hint(hint))
}

/// The problem, if there is one, in the form in which one process tells another.
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

/// A code that this version knows. Another version may know others.
fn known_code<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Code>, D::Error> {
    let text: Option<String> = serde::Deserialize::deserialize(from)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

/// The facts about a replica that its file does not have. They are known to its replicator, or to a
/// process that has asked the remote.
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
    /// The number of requests since the replicator was started.
    #[serde(default)]
    requests: Option<u64>,
    /// Replicated tables that it cannot write.
    #[serde(default)]
    unwritable: Vec<Unwritable>,
    /// How long the oldest event on the remote has not been here, in seconds.
    waiting_s: Option<u64>,
    /// The age of the last success above which health is red, in ms.
    bound_ms: u64,
}

impl Known {
    /// A replica in this state, without any other facts. `bound_ms` is the age of the last success
    /// above which health is red.
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

    /// The same facts in another state.
    pub(crate) fn in_state(self, state: SyncState) -> Known {
        Known { state, ..self }
    }

    /// The same, with the process that replicates the file.
    pub(crate) fn with_process(self, process: Option<u32>) -> Known {
        Known { process, ..self }
    }

    /// The same, with whether the remote can be reached, and the newest seq of its log.
    pub(crate) fn with_remote(self, reachable: Option<bool>, head: i64) -> Known {
        Known { reachable, head, ..self }
    }

    /// The same, with how long the oldest event on the remote has not been here, in seconds.
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
    /// The status of a replica, from its file and the other known facts. Every status is made here:
    /// the one of a replicator, of a process that waits for the lock, and of the command.
    pub(crate) fn of(store: &Store, known: Known, now_ms: i64) -> Result<Status> {
        Ok(Status::by(Facts::of(store)?, known, now_ms))
    }

    /// The same, from facts of the file that were read before.
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

    /// Whether two statuses differ in more than an age, which rises continuously.
    pub(crate) fn differs_from(&self, other: &Status) -> bool {
        let ageless = |status: &Status| Status { oldest_pending_s: None, ..status.clone() };
        ageless(self) != ageless(other)
    }

    /// The same status, with its present health.
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

/// The work between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Summary {
    /// The number of local events that the remote received, with any verdict.
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
    /// Bytes sent, as far as the client can measure them.
    pub bytes_up: u64,
    /// Bytes received.
    pub bytes_down: u64,
    /// The duration in seconds.
    pub seconds: f64,
}

impl Summary {
    /// The difference to `earlier`, without the time.
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

/// The rows that one page changed, for a user interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The rows, each once.
    pub rows: Vec<Change>,
    /// The cursor after the page; 0 with `missed`.
    pub cursor: Seq,
    /// Whether this stands for pages that a slow subscriber missed, or for a first sync that has
    /// brought rows or tables. Then any row may have changed.
    pub missed: bool,
}

impl Changes {
    /// The changes for a subscriber who was too slow.
    pub(crate) fn missed() -> Self {
        Changes { missed: true, ..Changes::default() }
    }

    /// The same after a first sync, if it has brought anything new.
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
