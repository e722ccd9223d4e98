//! The data that others share with the driver's thread: its commands, and the newest status.

use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use tokio::sync::{broadcast, oneshot};

use crate::error::{Code, Error, Result};
use crate::remote::{Answer, Remote};
use crate::store::Store;
use crate::sync::adoption::preview::RemotePreview;
use crate::sync::driver::clock::Time;
use crate::sync::machine::io::{Now, RequestId};
use crate::sync::status::{Changes, Status, Summary};

/// Work for the thread that owns the store.
type Work = Box<dyn FnOnce(Result<&mut Store>) + Send>;

/// A command for the driver's thread.
pub(crate) enum Command {
    /// See [`Input::Answer`](crate::sync::Input::Answer).
    Answer(RequestId, Result<Answer>),
    /// See [`Input::SyncNow`](crate::sync::Input::SyncNow).
    SyncNow(oneshot::Sender<Result<Summary>>),
    /// Work with the store between two inputs.
    Work(Work),
    /// See [`Input::Reconfigured`](crate::sync::Input::Reconfigured).
    Reconfigure(Arc<dyn Remote>),
    /// See [`Input::AcceptRemote`](crate::sync::Input::AcceptRemote).
    Accept(oneshot::Sender<Result<Summary>>),
    /// Read the facts of the remote, as before [`Command::Accept`].
    Preview(oneshot::Sender<Result<RemotePreview>>),
    /// Return the remote that requests go to.
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

/// By how many pages a subscriber may be late before it misses changes.
const CHANGES_BEHIND: usize = 1_024;

/// The data that others share with the driver's thread.
pub(crate) struct Handle {
    commands: Sender<Command>,
    bell: Sender<()>,
    /// `None` after the driver has ended, so that subscribers see the end.
    changes: Mutex<Option<broadcast::Sender<Changes>>>,
    status: Mutex<(Status, Now)>,
    time: Time,
    health_bound_ms: u64,
    network: tokio::runtime::Handle,
}

impl Handle {
    /// A handle with this status, and the receivers of its commands and its bell.
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

    /// The sender with which the network's thread sends commands.
    pub(super) fn sender(&self) -> Sender<Command> {
        self.commands.clone()
    }

    /// Notifies the subscribers.
    pub(super) fn notify(&self, changes: Changes) {
        if let Some(sender) = &*self.changes.lock().unwrap_or_else(PoisonError::into_inner) {
            // There may be no subscriber.
            let _ = sender.send(changes);
        }
    }

    /// Shows subscribers the end.
    pub(super) fn end_changes(&self) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Runs work in the network's thread. It is dropped if the driver has ended.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.network.spawn(work);
    }

    /// Reports a commit that took place, or will in a moment.
    pub(crate) fn ring(&self) {
        // If the bell is ringing already, nothing needs to be done.
        let _ = self.bell.try_send(());
    }

    /// Sends a command. Fails when the thread has ended.
    pub(crate) fn send(&self, command: Command) -> Result<()> {
        self.commands.send(command).map_err(|_| shut_down())
    }

    /// Runs `work` on the thread that owns the store, and waits for it, at most for the time of a
    /// page.
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

    /// The newest status, with its present ages. It never waits for the database.
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
