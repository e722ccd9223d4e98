//! The inputs and the effects of the [`Machine`](crate::sync::Machine).

use std::collections::VecDeque;

use crate::error::Result;
use crate::protocol::push::FEW_RUNS;
use crate::protocol::statements::{MAX_EVENTS, MAX_PUSH_BYTES, MAX_UNIT, PAGE_BYTES};
use crate::remote::{Answer, Batch};
use crate::sync::first_sync::report::Report;
use crate::sync::status::{Changes, Summary};

/// The settings of a machine.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The longest time between two pulls, in ms.
    pub poll_ms: u64,
    /// The age of the last success, in ms, above which health is red.
    pub health_bound_ms: u64,
    /// The seed of the jitter in waiting times.
    pub seed: u64,
    /// The seed of incarnations and identities. It must be another number at each start: otherwise
    /// two copies of a file would draw the same ones.
    pub identity_seed: u64,
    /// The size of a push in one request.
    pub push: PushSize,
    /// The size of a pull.
    pub pull: PullSize,
}

/// The size of a push in one request. Events that depend on each other may exceed it, and are sent
/// in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PushSize {
    /// The most events, at least 1.
    pub events: usize,
    /// The most bytes of events; a single event may be larger.
    pub bytes: usize,
    /// A push that makes more runs than this is reordered, if that makes fewer.
    #[serde(default = "few_runs")]
    pub runs: usize,
}

fn few_runs() -> usize {
    FEW_RUNS
}

impl Default for PushSize {
    fn default() -> Self {
        PushSize { events: MAX_EVENTS, bytes: MAX_PUSH_BYTES, runs: FEW_RUNS }
    }
}

/// How much of the log is requested at once, and how large a unit may be that is integrated in one
/// transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PullSize {
    /// The most events of a page, at least 1, without the rest of a unit.
    pub events: usize,
    /// The intended size of a page, in bytes.
    pub bytes: usize,
    /// The most events of a unit that is waited for when pages bring it in pieces. A larger unit is
    /// integrated in parts.
    pub unit_events: usize,
    /// The most bytes of such a unit.
    pub unit_bytes: usize,
    /// With this many own events without a verdict or more, they come back without their values.
    /// With fewer, the request would grow by more than its answer shrinks.
    #[serde(default = "echoes")]
    pub echoes: usize,
    /// If this many events or more are known to follow, rows come without the names of their
    /// columns, which the request has.
    #[serde(default = "lean")]
    pub lean: usize,
}

fn lean() -> usize {
    50
}

fn echoes() -> usize {
    4
}

impl Default for PullSize {
    fn default() -> Self {
        PullSize {
            events: MAX_EVENTS,
            bytes: PAGE_BYTES,
            unit_events: MAX_UNIT,
            unit_bytes: 16 << 20,
            echoes: echoes(),
            lean: lean(),
        }
    }
}

/// The progress of a push that is sent in parts. It has not taken effect yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The number of its events. They depend on each other.
    pub events: usize,
    /// The number of parts that are on the remote.
    pub done: usize,
    /// The number of all parts.
    pub parts: usize,
}

/// The time, from the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// ms since some moment. It never goes back.
    pub steady_ms: u64,
    /// ms since 1970, from a clock that may be set.
    pub wall_ms: i64,
}

/// The id of a request, by which its answer is matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// The id of a sync that a caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// The inputs of the machine.
#[derive(Debug)]
pub enum Input {
    /// Begin.
    Start,
    /// Somebody committed to the local database, or may have.
    LocalCommit,
    /// The time of the last [`Effect::Wait`] has come.
    Timer,
    /// The answer to a request, or the reason why there is none.
    Answer(RequestId, Result<Answer>),
    /// Continue with the waiting page, or read the next push: the reply to [`Effect::Continue`].
    Continue {
        /// How many events to integrate in one transaction, up to the end of the last one's unit.
        events: usize,
    },
    /// Push and pull until the present pending events have their verdicts and the remote's present
    /// log is here. Then report it with [`Effect::Settled`].
    SyncNow(Ticket),
    /// Continue with the remote as it is, although it is not this replica's or was rolled back;
    /// then as [`Input::SyncNow`]. If there is no problem with the remote, only the latter.
    AcceptRemote(Ticket),
    /// The network has changed, or the computer woke up: a request that failed may succeed now.
    Wake,
    /// From now on requests go to another URL, or have another token.
    Reconfigured {
        /// The new URL.
        url: String,
    },
    /// Send nothing more.
    Shutdown,
}

/// The effects that the machine asks for.
#[derive(Debug)]
pub enum Effect {
    /// Send this to the remote, and pass the answer as [`Input::Answer`].
    Send(RequestId, Batch),
    /// Pass [`Input::Timer`] at this time ([`Now::steady_ms`]). It replaces an earlier one.
    Wait(u64),
    /// Pass [`Input::Continue`] as soon as there is no other work. So other work is done between
    /// two transactions.
    Continue,
    /// A pull changed these rows.
    Notify(Changes),
    /// [`Machine::status`](crate::sync::Machine::status) has changed.
    StatusChanged,
    /// The sync of this ticket is done, or was given up.
    Settled(Ticket, Result<Summary>),
    /// The first sync, or a later comparison of definitions, is done.
    Initialised(Report),
    /// The file is gone, or cannot be replicated any more. Release its lock.
    Lost,
    /// The machine has started again on another store: the file was restored, or exists again. Take
    /// the file's lock if it is another file, and pass [`Input::Start`]. Nothing is sent before
    /// that.
    Reopened,
}

/// The effects of one input, in order.
#[derive(Default)]
pub(super) struct Effects(VecDeque<Effect>);

impl Effects {
    pub(super) fn push(&mut self, effect: Effect) {
        self.0.push_back(effect);
    }

    /// The status has changed. Several consecutive changes are one effect.
    pub(super) fn status_changed(&mut self) {
        if !matches!(self.0.back(), Some(Effect::StatusChanged)) {
            self.0.push_back(Effect::StatusChanged);
        }
    }

    /// Returns all effects.
    pub(super) fn take(&mut self) -> Vec<Effect> {
        self.0.drain(..).collect()
    }
}

impl Extend<Effect> for Effects {
    fn extend<T: IntoIterator<Item = Effect>>(&mut self, effects: T) {
        self.0.extend(effects);
    }
}
