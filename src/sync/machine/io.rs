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

/// The size of a push in one request. Events that hang together may be more, and travel in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PushSize {
    /// The most events, at least 1.
    pub events: usize,
    /// The most bytes of events; a single event may be larger.
    pub bytes: usize,
    /// A push that makes more runs than this goes in another order, if that makes fewer.
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

/// How much of the log is asked for at once, and how large a unit may be that is integrated in one
/// transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PullSize {
    /// The most events of a page, at least 1, but for the rest of a unit.
    pub events: usize,
    /// The bytes of a page to aim at.
    pub bytes: usize,
    /// The most events of a unit that is waited for where pages bring it in pieces. A larger unit
    /// is integrated in parts.
    pub unit_events: usize,
    /// The most bytes of such a unit.
    pub unit_bytes: usize,
    /// From so many own events without a verdict on, they come back without their values. For
    /// fewer, the request would grow by more than its answer shrinks.
    #[serde(default = "echoes")]
    pub echoes: usize,
    /// From so many events on that are known to follow, rows come without the names of their
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

/// The progress of a push that travels in parts: nothing of it has taken effect yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The events of the push. They hang together.
    pub events: usize,
    /// The parts that are on the remote.
    pub done: usize,
    /// All parts.
    pub parts: usize,
}

/// The time, as the driver tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// ms since some moment, never going backwards.
    pub steady_ms: u64,
    /// ms since 1970, by a clock that may be set.
    pub wall_ms: i64,
}

/// Names a request, so that its answer finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names a sync that somebody waits for.
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
    /// The answer to a request, or why there is none.
    Answer(RequestId, Result<Answer>),
    /// Go on with the page that waits, or read the next push: the answer to [`Effect::Continue`].
    Continue {
        /// How many events to integrate in one transaction, up to the end of the last one's unit.
        events: usize,
    },
    /// Push and pull until what is pending now has its verdict and what the remote has now is here,
    /// and say so with [`Effect::Settled`].
    SyncNow(Ticket),
    /// Go on with the remote that is there, though it is another one than this replica's, or was
    /// rolled back; then as [`Input::SyncNow`]. Where nothing is wrong with it, only that.
    AcceptRemote(Ticket),
    /// The network changed, or the computer woke from sleep: a request that failed may work now.
    Wake,
    /// Requests go to another URL, or with another token, from now on.
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
    /// Send this to the remote, and give the answer back as [`Input::Answer`].
    Send(RequestId, Batch),
    /// Give [`Input::Timer`] at this time ([`Now::steady_ms`]). It replaces the time of an earlier
    /// one.
    Wait(u64),
    /// Give [`Input::Continue`] as soon as nothing else is to be done. So other work is done
    /// between two transactions.
    Continue,
    /// A pull changed these rows.
    Notify(Changes),
    /// [`Machine::status`](crate::sync::Machine::status) has changed.
    StatusChanged,
    /// The sync of this ticket is done, or was given up.
    Settled(Ticket, Result<Summary>),
    /// The first sync is done, or a later comparison of definitions.
    Initialised(Report),
    /// The file is gone, or cannot be replicated any more. Release its lock.
    Lost,
    /// The machine starts again, over another store: the file was restored, or is there again. Take
    /// the file's lock if it is another file, and give [`Input::Start`]. Nothing is sent before.
    Reopened,
}

/// The effects of one input, in their order.
#[derive(Default)]
pub(super) struct Effects(VecDeque<Effect>);

impl Effects {
    pub(super) fn push(&mut self, effect: Effect) {
        self.0.push_back(effect);
    }

    /// The status has changed. Several changes in a row are one effect.
    pub(super) fn status_changed(&mut self) {
        if !matches!(self.0.back(), Some(Effect::StatusChanged)) {
            self.0.push_back(Effect::StatusChanged);
        }
    }

    /// Gives them all.
    pub(super) fn take(&mut self) -> Vec<Effect> {
        self.0.drain(..).collect()
    }
}

impl Extend<Effect> for Effects {
    fn extend<T: IntoIterator<Item = Effect>>(&mut self, effects: T) {
        self.0.extend(effects);
    }
}
