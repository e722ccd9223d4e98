//! What goes into the [`Machine`](crate::sync::Machine), and what comes out.

use std::collections::VecDeque;

use crate::error::Result;
use crate::remote::statements::{MAX_EVENTS, MAX_PUSH_BYTES, MAX_UNIT, PAGE_BYTES};
use crate::remote::{Answer, Batch};
use crate::sync::first_sync::report::Report;
use crate::sync::status::{Changes, Summary};

/// What a machine is set to.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The longest time between two pulls, in ms.
    pub poll_ms: u64,
    /// The age of the last success, in ms, above which health is red.
    pub health_bound_ms: u64,
    /// Where the chance in waiting times comes from.
    pub seed: u64,
    /// Where marks and identities come from: another number at each start, or two copies of a file
    /// could draw the same ones.
    pub dice: u64,
    /// What a push carries in one request.
    pub push: PushSize,
    /// What a pull brings at once.
    pub pull: PullSize,
}

/// What a push carries in one request. What hangs together may be larger, and travels in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PushSize {
    /// The most events, at least 1.
    pub events: usize,
    /// The most bytes of events; a single event may be larger.
    pub bytes: usize,
}

impl Default for PushSize {
    fn default() -> Self {
        PushSize { events: MAX_EVENTS, bytes: MAX_PUSH_BYTES }
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
}

impl Default for PullSize {
    fn default() -> Self {
        PullSize {
            events: MAX_EVENTS,
            bytes: PAGE_BYTES,
            unit_events: MAX_UNIT,
            unit_bytes: 16 << 20,
        }
    }
}

/// How far a push is that travels in parts: nothing of it has taken effect yet.
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

/// What the machine is told.
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
    /// Go on with the page that waits: the answer to [`Effect::Continue`].
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
    /// The network changed, or the machine woke from sleep: what failed before may work now.
    Wake,
    /// Requests go to another URL, or with another token, from now on.
    Reconfigured {
        /// The new URL.
        url: String,
    },
    /// Send nothing more.
    Shutdown,
}

/// What the machine wants done.
#[derive(Debug)]
pub enum Effect {
    /// Send this to the remote, and give the answer back as [`Input::Answer`].
    Send(RequestId, Batch),
    /// Give [`Input::Timer`] at this time ([`Now::steady_ms`]). Replaces what was asked before.
    Wait(u64),
    /// Give [`Input::Continue`] as soon as nothing else is to be done. It is what lets other work
    /// in between two transactions.
    Continue,
    /// A pull changed these rows.
    Notify(Changes),
    /// [`Machine::status`](crate::sync::Machine::status) is another one now.
    StatusChanged,
    /// The sync that was asked for is done, or given up.
    Settled(Ticket, Result<Summary>),
    /// The first sync is done, or what an earlier one left to do.
    Initialised(Report),
    /// The file is gone, or is none that can be replicated: it is let go of, and its lock with it.
    Lost,
    /// The machine begins anew, over another store: the file was restored, or is there again. Take
    /// the file's lock if it is another file, and give [`Input::Start`]: nothing is sent before.
    Reopened,
}

/// The effects of one input, in their order.
#[derive(Default)]
pub(super) struct Effects(VecDeque<Effect>);

impl Effects {
    pub(super) fn push(&mut self, effect: Effect) {
        self.0.push_back(effect);
    }

    /// The status is another one now. Said once, however much of it has changed in a row.
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
