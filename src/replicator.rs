//! The main interface of the library: a replicator inside an application.

mod adoption;
mod migrate;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{broadcast, oneshot};

use crate::error::{Code, Error, Result};
use crate::event::EventId;
use crate::event::conflict::ConflictRule;
use crate::inspect::{
    Conflict, ConflictFilter, Dismissed, NewKey, Quarantined, Replica, Restored, Retried, Selection,
};
use crate::remote::{Credentials, Libsql, Options, ProbeReport, Remote, Token, probe};
use crate::store::{Connection, OnConnect, Preferences, Store, application_connection};
use crate::sync::{
    Changes, Command, Config, Driver, HEALTH_BOUND_MS, Handle, POLL_MS, PullSize, PushSize,
    RemotePreview, Status, Summary, Tables, fresh_plan, open_offline, shut_down, when_unlocked,
};

/// The settings of a [`Replicator`]; made by [`Replicator::builder`].
#[must_use = "nothing happens before `start`"]
pub struct Builder {
    path: PathBuf,
    remote: Where,
    credentials: Option<Credentials>,
    options: Options,
    tables: Tables,
    rules: Vec<(String, ConflictRule)>,
    prefer: Preferences,
    actor: Option<String>,
    poll_ms: u64,
    health_bound_ms: u64,
    seed: u64,
    on_connect: OnConnect,
}

enum Where {
    Nowhere,
    Url(String, SecretString),
    Given(Arc<dyn Remote>),
}

impl Builder {
    /// The remote: its URL (`libsql://…` or `https://…`; `http://` only to this machine) and its
    /// token, which may be empty if the remote needs none.
    pub fn remote(mut self, url: impl Into<String>, token: impl Into<String>) -> Self {
        self.remote = Where::Url(url.into(), SecretString::from(token.into()));
        self
    }

    /// The source of the token, instead of a token beside the URL: a file that is read again when
    /// it changes, or a function that is called again when the remote has refused the token.
    ///
    /// ```no_run
    /// # fn example(url: &str) -> driftless::Result<()> {
    /// use driftless::Replicator;
    /// use driftless::remotes::Credentials;
    ///
    /// let replicator = Replicator::builder("gym.db")
    ///     .remote(url, "")
    ///     .credentials(Credentials::file("/run/secrets/turso-token"))
    ///     .start()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// A remote of another kind, instead of a URL: for the demonstration and our own tests.
    #[doc(hidden)]
    pub fn with_remote(mut self, remote: Arc<dyn Remote>) -> Self {
        self.remote = Where::Given(remote);
        self
    }

    /// The options of the connection to the remote: time limits, certificates.
    pub fn remote_options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The tables to replicate. Without this call, all tables of either side that can be
    /// replicated.
    pub fn tables<Name: Into<String>>(mut self, tables: impl IntoIterator<Item = Name>) -> Self {
        self.tables = Tables::Named(tables.into_iter().map(Into::into).collect());
        self
    }

    /// Tables to leave out, if all others are replicated. It replaces [`Builder::tables`].
    pub fn exclude<Name: Into<String>>(mut self, tables: impl IntoIterator<Item = Name>) -> Self {
        self.tables = Tables::AllBut(tables.into_iter().map(Into::into).collect());
        self
    }

    /// A table's conflict rule, if it is not [`ConflictRule::Row`]. It is the same for all
    /// replicas: the first one sets it.
    pub fn conflict(mut self, table: impl Into<String>, rule: ConflictRule) -> Self {
        self.rules.push((table.into(), rule));
        self
    }

    /// The name of the user: see [`Replicator::set_actor`].
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// The longest time between two pulls. The default is 4.5 seconds; the least value is a
    /// millisecond.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX / 2).max(1);
        self
    }

    /// The age of the last success above which health is red: 60 seconds by default.
    pub fn health_bound(mut self, bound: Duration) -> Self {
        self.health_bound_ms = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Registers functions and collations that only the application has. `register` is called with
    /// each connection to the database before it is used, also with those of
    /// [`Replicator::connection`]. A replicator can write to a table only with the functions and
    /// collations that its indexes, CHECKs, generated columns and triggers need; see
    /// [`Status::unwritable`](crate::Status::unwritable).
    ///
    /// They must give the same results as the application's, because an index is sorted by its
    /// collation. `create_collation` of the connection registers a collation, and
    /// `create_scalar_function` a function.
    pub fn on_connect(
        mut self,
        register: impl Fn(&Connection) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.on_connect = OnConnect::new(register);
        self
    }

    /// The seed of the jitter in waiting times, so that a run can be repeated.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Installs capture, and starts to replicate in the background.
    ///
    /// It does not contact the remote, so it is quick, and works offline: from now on every write
    /// to the tables by any program is captured. Tables that only the remote has are created when
    /// the remote is reached. It needs no tokio runtime, and works inside one.
    ///
    /// If the file is set up already, nothing is written. Otherwise it needs SQLite's write lock,
    /// and waits up to a minute while another program has it. So do not call it within a write
    /// transaction of your own.
    ///
    /// # Errors
    ///
    /// `Usage` when no remote was named, its URL is not allowed, the token's file cannot be used,
    /// or a table cannot be replicated; `Storage` when the file cannot be opened or written, or is
    /// locked for more than a minute.
    pub fn start(self) -> Result<Replicator> {
        let remote: Arc<dyn Remote> = match self.remote {
            Where::Given(remote) => remote,
            Where::Url(url, token) => {
                let credentials = match self.credentials {
                    Some(credentials) => credentials,
                    None => read_token(&token)?.into(),
                };
                Arc::new(Libsql::connect_with(&url, credentials, self.options.clone())?)
            }
            Where::Nowhere => {
                return Err(Error::new(Code::NoRemote, "the replicator has no remote")
                    .with_hint("name one with `.remote(url, token)`"));
            }
        };
        let mut plan = fresh_plan(self.path.clone(), remote.url(), self.tables, self.rules);
        (plan.on_connect, plan.prefer) = (self.on_connect.clone(), self.prefer);
        let open = || -> Result<Store> {
            let mut store = open_offline(&plan)?;
            if let Some(actor) = &self.actor {
                store.set_actor(Some(actor))?;
            }
            Ok(store)
        };
        let store = when_unlocked(open, std::thread::sleep)?;
        let config = Config {
            poll_ms: self.poll_ms,
            health_bound_ms: self.health_bound_ms,
            seed: self.seed,
            identity_seed: fastrand::u64(..),
            push: PushSize::default(),
            pull: PullSize::default(),
        };
        let (driver, handle) = Driver::new(store, Some(plan), config, remote)?;
        let path = self.path.clone();
        let thread = std::thread::Builder::new()
            .name("driftless".to_owned())
            .spawn(move || driver.run(&path))
            .map_err(|source| Error::storage("no thread could be started").with_source(source))?;
        Ok(Replicator {
            path: self.path,
            on_connect: self.on_connect,
            options: self.options,
            handle,
            thread: Mutex::new(Some(thread)),
        })
    }
}

fn read_token(token: &SecretString) -> Result<Option<Token>> {
    let token = token.expose_secret();
    if token.is_empty() { Ok(None) } else { Token::new(token).map(Some) }
}

/// Replicates one local database in the background, until it is shut down or dropped.
///
/// The application reads and writes its tables as before, over [`Replicator::connection`] or any
/// connection of its own, in this process or another. It never waits for the network.
///
/// ```no_run
/// # async fn example(url: &str, token: &str) -> driftless::Result<()> {
/// use driftless::Replicator;
///
/// let replicator = Replicator::builder("gym.db")
///     .remote(url, token)
///     .tables(["members", "payments"])
///     .start()?;
/// let db = replicator.connection()?;
/// db.execute("UPDATE members SET name = 'Ana' WHERE id = 1", [])?;
/// let summary = replicator.sync_now().await?;
/// println!("{} pushed, {} pulled", summary.pushed, summary.pulled);
/// replicator.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub struct Replicator {
    path: PathBuf,
    on_connect: OnConnect,
    options: Options,
    handle: Arc<Handle>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Replicator {
    /// Begins to describe a replicator of the database at `path`.
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Builder {
            path: path.as_ref().to_owned(),
            remote: Where::Nowhere,
            credentials: None,
            options: Options::default(),
            tables: Tables::All,
            rules: Vec::new(),
            prefer: Preferences::default(),
            actor: None,
            poll_ms: POLL_MS,
            health_bound_ms: HEALTH_BOUND_MS,
            seed: fastrand::u64(..),
            on_connect: OnConnect::default(),
        }
    }

    /// An ordinary connection to the database: WAL, foreign keys on, a busy timeout of 5 seconds.
    /// Its commits are pushed at once; those of other connections within 50 ms more.
    ///
    /// # Errors
    ///
    /// `Storage` when the file cannot be opened.
    pub fn connection(&self) -> Result<Connection> {
        let handle = Arc::clone(&self.handle);
        let db = application_connection(&self.path, move || handle.ring())?;
        self.on_connect.run(&db)?;
        Ok(db)
    }

    /// The rows that pulls change from now on.
    pub fn subscribe(&self) -> Subscription {
        Subscription { changes: self.handle.subscribe() }
    }

    /// The present status of the replica. It does not wait.
    pub fn status(&self) -> Status {
        self.handle.status()
    }

    /// Pushes and pulls now, until the events that are pending at the call have their verdicts and
    /// the remote's present log is here. It does not wait for later writes.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the remote cannot be reached, after a few attempts; `Refused` when it
    /// refuses us or is another database; `Usage` when another replicator is working on the file or
    /// this one was shut down; `Storage` when the local database fails.
    pub async fn sync_now(&self) -> Result<Summary> {
        self.ask(Command::SyncNow)?.await.map_err(|_| shut_down())?
    }

    /// [`Replicator::sync_now`] for a program without async. It has the same errors.
    ///
    /// # Panics
    ///
    /// Within a tokio runtime's own thread: it blocks.
    pub fn sync_now_blocking(&self) -> Result<Summary> {
        self.ask(Command::SyncNow)?.blocking_recv().map_err(|_| shut_down())?
    }

    /// Reads the facts of a remote that is refused ([`SyncState::OtherRemote`],
    /// [`SyncState::RolledBack`]), so that a person can decide whether to continue with it. Nothing
    /// is changed, here or there.
    ///
    /// # Errors
    ///
    /// `Usage` when the replica has had no first sync, or was shut down; `Unavailable` when the
    /// remote cannot be reached; `Refused` when it refuses us.
    ///
    /// [`SyncState::OtherRemote`]: crate::SyncState::OtherRemote
    /// [`SyncState::RolledBack`]: crate::SyncState::RolledBack
    pub async fn remote_preview(&self) -> Result<RemotePreview> {
        self.ask(Command::Preview)?.await.map_err(|_| shut_down())?
    }

    /// Continues with a remote that is refused, on purpose, and synchronises. As in a first sync,
    /// rows that are only here are pushed, rows that are only there are fetched, and rows that
    /// differ take the remote's version, with the local one in the conflict inbox. Pending events
    /// stay. The replica takes a new identity, and keeps the former log beside the new one. If
    /// there is no problem with the remote, this is [`Replicator::sync_now`].
    ///
    /// # Errors
    ///
    /// As for [`Replicator::sync_now`], and `Usage`, naming table and column, when the tables do
    /// not fit.
    pub async fn accept_remote(&self) -> Result<Summary> {
        self.ask(Command::Accept)?.await.map_err(|_| shut_down())?
    }

    /// [`Replicator::accept_remote`] for a program without async. It has the same errors.
    ///
    /// # Panics
    ///
    /// Within a tokio runtime's own thread: it blocks.
    pub fn accept_remote_blocking(&self) -> Result<Summary> {
        self.ask(Command::Accept)?.blocking_recv().map_err(|_| shut_down())?
    }

    /// Reports that the network is back or has changed: a failed request is tried again at once. A
    /// wake from sleep is noticed without this call.
    pub fn network_changed(&self) {
        // One that was shut down has nothing to try.
        let _ = self.handle.send(Command::Wake);
    }

    /// Ends the replicator. Pending events stay in the database and are pushed after the next
    /// start.
    ///
    /// # Errors
    ///
    /// `Usage` when it was shut down before.
    pub async fn shutdown(&self) -> Result<()> {
        // An error means that the thread has ended, which is intended.
        let _ = self.ask(Command::Shutdown)?.await;
        self.join();
        Ok(())
    }

    /// Sends a command, and waits for its answer.
    fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<oneshot::Receiver<T>> {
        let (reply, answer) = oneshot::channel();
        self.handle.send(command(reply))?;
        Ok(answer)
    }

    fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(_)) = thread.map(JoinHandle::join) {
            tracing::error!("the replicator's thread ended in a panic");
        }
    }

    /// Sets the name of the user: later events have this name as their actor, on any connection to
    /// the file. `None` for no name.
    ///
    /// # Errors
    ///
    /// `Storage` when it cannot be written.
    pub fn set_actor(&self, actor: Option<&str>) -> Result<()> {
        let actor = actor.map(str::to_owned);
        self.handle.with(move |store| store.set_actor(actor.as_deref()))
    }

    /// Changes the remote's URL and token while it runs. The URL must lead to the same database,
    /// or nothing is pushed (see [`SyncState::OtherRemote`](crate::SyncState::OtherRemote)).
    ///
    /// # Errors
    ///
    /// `Usage` when the URL is not allowed or the token is not valid.
    pub fn reconfigure(&self, url: &str, token: impl Into<String>) -> Result<()> {
        let token = read_token(&SecretString::from(token.into()))?;
        self.reconfigure_with(url, token.into())
    }

    /// [`Replicator::reconfigure`] with a source of tokens, which may change later.
    ///
    /// # Errors
    ///
    /// As for [`Replicator::reconfigure`], and `Usage` when the token's file cannot be used.
    pub fn reconfigure_with(&self, url: &str, credentials: Credentials) -> Result<()> {
        let remote = Libsql::connect_with(url, credentials, self.options.clone())?;
        self.handle.send(Command::Reconfigure(Arc::new(remote)))
    }

    /// Tries a URL and a token, and reports problems in words that a person can act on. Nothing is
    /// changed, here or there. It works in any async runtime, and takes some seconds at most if
    /// there is no answer.
    ///
    /// # Errors
    ///
    /// `Usage` when the token is not valid.
    pub async fn test_connection(
        &self,
        url: &str,
        token: impl Into<String>,
    ) -> Result<ProbeReport> {
        let answer = self.ask_about(url, token.into())?;
        answer.await.map_err(|_| Error::unavailable("the trial ended without an answer"))
    }

    /// [`Replicator::test_connection`] for a program without async. It has the same errors.
    ///
    /// # Panics
    ///
    /// Within a tokio runtime's own thread: it blocks.
    pub fn test_connection_blocking(
        &self,
        url: &str,
        token: impl Into<String>,
    ) -> Result<ProbeReport> {
        let answer = self.ask_about(url, token.into())?;
        answer.blocking_recv().map_err(|_| Error::unavailable("the trial ended without an answer"))
    }

    fn ask_about(&self, url: &str, token: String) -> Result<oneshot::Receiver<ProbeReport>> {
        let token = read_token(&SecretString::from(token))?;
        let (url, options) = (url.to_owned(), self.options.clone());
        let (reply, answer) = oneshot::channel();
        self.handle.spawn(async move {
            // Nobody waits for it any more, perhaps.
            let _ = reply.send(probe(&url, token, options).await);
        });
        Ok(answer)
    }

    /// Reads facts that only the replica's file has: the log, the conflicts of a table, the tables
    /// that are not replicated. `ask` runs on the replicator's thread, between two of its
    /// transactions.
    ///
    /// # Errors
    ///
    /// The errors of `ask`; `Usage` when the replicator was shut down.
    pub fn inspect<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Replica<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.handle.with(|store| ask(&mut Replica::lent(store)))
    }

    /// The local events that lost and about which nobody has decided; with `all`, also those that
    /// were restored or dismissed.
    ///
    /// # Errors
    ///
    /// `Storage` when they cannot be read.
    pub fn conflicts(&self, all: bool) -> Result<Vec<Conflict>> {
        let filter = ConflictFilter { closed: all, ..ConflictFilter::default() };
        self.inspect(move |replica| replica.conflicts(&filter, 0, usize::MAX))
    }

    /// Writes the values of a lost event again, as new events with the present base, together with
    /// the other open events of its group, which may be of one transaction ([`Conflict::group`]).
    /// All of them are restored, or none. An event that was restored before is not written again.
    ///
    /// # Errors
    ///
    /// `Usage` when the inbox has no such event, its row's key is taken (see [`NewKey`]), or a
    /// constraint refuses a row, which it names; `Storage` when the database fails.
    pub fn restore(&self, id: EventId, new_key: Option<NewKey>) -> Result<Restored> {
        let done = self.restore_selected(Selection::Together(vec![id]), new_key)?;
        done.refusal().map_or(Ok(done), Err)
    }

    /// The same for many, in one transaction: see [`Restored`] for what could not be restored.
    ///
    /// # Errors
    ///
    /// `Usage` when one of the events is not in the inbox; `Storage` when the database fails.
    pub fn restore_selected(&self, wanted: Selection, new_key: Option<NewKey>) -> Result<Restored> {
        self.inspect(move |replica| replica.restore(&wanted, new_key))
    }

    /// Closes a conflict in the inbox. The log keeps the event.
    ///
    /// # Errors
    ///
    /// `Usage` when the inbox has no such event.
    pub fn dismiss(&self, id: EventId) -> Result<()> {
        self.dismiss_selected(Selection::Events(vec![id])).map(drop)
    }

    /// The same for many, in one transaction.
    ///
    /// # Errors
    ///
    /// As for [`Replicator::dismiss`].
    pub fn dismiss_selected(&self, wanted: Selection) -> Result<Dismissed> {
        self.inspect(move |replica| replica.dismiss(&wanted))
    }

    /// The pulled events that cannot be applied here yet.
    ///
    /// # Errors
    ///
    /// `Storage` when they cannot be read.
    pub fn quarantine(&self) -> Result<Vec<Quarantined>> {
        self.inspect(|replica| replica.quarantine())
    }

    /// Tries the events in quarantine once more.
    ///
    /// # Errors
    ///
    /// `Storage` when the database fails.
    pub fn retry_quarantine(&self) -> Result<Retried> {
        self.inspect(|replica| replica.retry_quarantine())
    }
}

impl Drop for Replicator {
    fn drop(&mut self) {
        if self.ask(Command::Shutdown).is_ok() {
            self.join();
        }
    }
}

/// The rows that pulls change, page by page. Dropping it ends the subscription.
pub struct Subscription {
    changes: broadcast::Receiver<Changes>,
}

impl Subscription {
    /// The next changes; `None` after the replicator has ended. It works in any async runtime.
    pub async fn next(&mut self) -> Option<Changes> {
        match self.changes.recv().await {
            Ok(changes) => Some(changes),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Changes::missed()),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// The next changes, for a program without async; `None` after the replicator has ended.
    ///
    /// # Panics
    ///
    /// Within a tokio runtime's own thread: it blocks.
    pub fn next_blocking(&mut self) -> Option<Changes> {
        match self.changes.blocking_recv() {
            Ok(changes) => Some(changes),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Changes::missed()),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// The next changes, if there are any already.
    pub fn try_next(&mut self) -> Option<Changes> {
        match self.changes.try_recv() {
            Ok(changes) => Some(changes),
            Err(broadcast::error::TryRecvError::Lagged(_)) => Some(Changes::missed()),
            Err(_) => None,
        }
    }
}
