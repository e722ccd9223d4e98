//! What others share with the driver's thread: its commands, and the newest status.

use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use tokio::sync::{broadcast, oneshot};

use crate::error::{Code, Error, Result};
use crate::remote::{Answer, Remote};
use crate::store::Store;
use crate::sync::driver::clock::Time;
use crate::sync::first_sync::preview::RemotePreview;
use crate::sync::machine::io::{Now, RequestId};
use crate::sync::status::{Changes, Status, Summary};

/// Work for the thread that owns the store.
type Work = Box<dyn FnOnce(Result<&mut Store>) + Send>;

/// What the driver's thread is told.
pub(crate) enum Command {
    /// See [`Input::Answer`](crate::sync::Input::Answer).
    Answer(RequestId, Result<Answer>),
    /// See [`Input::SyncNow`](crate::sync::Input::SyncNow).
    SyncNow(oneshot::Sender<Result<Summary>>),
    /// Something to do with the store between two inputs.
    Work(Work),
    /// See [`Input::Reconfigured`](crate::sync::Input::Reconfigured).
    Reconfigure(Arc<dyn Remote>),
    /// See [`Input::AcceptRemote`](crate::sync::Input::AcceptRemote).
    Accept(oneshot::Sender<Result<Summary>>),
    /// Look at the remote, as before [`Command::Accept`].
    Preview(oneshot::Sender<Result<RemotePreview>>),
    /// Give the remote that requests go to.
    Remote(oneshot::Sender<Arc<dyn Remote>>),
    /// See [`Input::Wake`](crate::sync::Input::Wake).
    Wake,
    /// End.
    Shutdown(oneshot::Sender<()>),
}

/// The error of a replicator that has ended.
pub(crate) fn shut_down() -> Error {
    Error::new(Code::ShutDown, "the replicator was shut down")
}

/// Pages' changes that a subscriber may be behind before it misses some.
const CHANGES_BEHIND: usize = 1_024;

/// What others share with the driver's thread.
pub(crate) struct Handle {
    commands: Sender<Command>,
    bell: Sender<()>,
    /// `None` once the driver has ended, so that subscribers see the end.
    changes: Mutex<Option<broadcast::Sender<Changes>>>,
    status: Mutex<(Status, Now)>,
    time: Time,
    health_bound_ms: u64,
    network: tokio::runtime::Handle,
}

impl Handle {
    /// A handle with this status, and where its commands and its bell arrive.
    pub(super) fn new(
        status: Status,
        time: Time,
        health_bound_ms: u64,
        network: tokio::runtime::Handle,
    ) -> (Handle, Receiver<Command>, Receiver<()>) {
        let (command_sender, commands) = unbounded();
        let (bell_sender, bell) = bounded(1);
        let handle = Handle {
            commands: command_sender,
            bell: bell_sender,
            changes: Mutex::new(Some(broadcast::channel(CHANGES_BEHIND).0)),
            status: Mutex::new((status, time.now())),
            time,
            health_bound_ms,
            network,
        };
        (handle, commands, bell)
    }

    pub(super) fn time(&self) -> Time {
        self.time
    }

    pub(super) fn health_bound_ms(&self) -> u64 {
        self.health_bound_ms
    }

    /// What sends commands from the network's thread.
    pub(super) fn sender(&self) -> Sender<Command> {
        self.commands.clone()
    }

    /// Tells subscribers, if there are any.
    pub(super) fn notify(&self, changes: Changes) {
        if let Some(sender) = &*self.changes.lock().unwrap_or_else(PoisonError::into_inner) {
            // Nobody listens, perhaps.
            let _ = sender.send(changes);
        }
    }

    /// Shows subscribers the end.
    pub(super) fn end_changes(&self) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Runs something in the network's thread. It is dropped where the driver has ended.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.network.spawn(work);
    }

    /// Says that something was committed, or will be in a moment.
    pub(crate) fn ring(&self) {
        // A bell that is ringing already is enough.
        let _ = self.bell.try_send(());
    }

    /// Gives a command. It is an error when the thread has ended.
    pub(crate) fn send(&self, command: Command) -> Result<()> {
        self.commands.send(command).map_err(|_| shut_down())
    }

    /// Runs `work` on the thread that owns the store, and waits for it: a page's time at most.
    pub(crate) fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = bounded(1);
        self.send(Command::Work(Box::new(move |store| {
            let _ = reply.send(store.and_then(work));
        })))?;
        answer.recv().map_err(|_| shut_down())?
    }

    /// See [`Changes`].
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Changes> {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = || broadcast::channel(1).1;
        changes.as_ref().map_or_else(ended, broadcast::Sender::subscribe)
    }

    /// The newest status, with its ages as of now. It never waits for the database.
    pub(crate) fn status(&self) -> Status {
        let (mut status, then) = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = self.time.now();
        let passed = (now.steady_ms - then.steady_ms) / 1000;
        status.oldest_pending_s = status.oldest_pending_s.map(|seconds| seconds + passed);
        status.judged(None, now.wall_ms, self.health_bound_ms)
    }

    pub(in crate::sync) fn publish(&self, status: Status, now: Now) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = (status, now);
    }
}
