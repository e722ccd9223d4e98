//! The database that a sidecar replicates, and how.

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::outgoing::StatusView;
use super::settings::Settings;
use crate::cli::session::Session;
use crate::error::{Code, Error, Result};
use crate::inspect::Replica;
use crate::remote::{Credentials, Options};
use crate::replicator::Replicator;

/// A database that was opened: its settings, and the replicator unless it is paused.
struct Open {
    settings: Settings,
    replicator: Option<Arc<Replicator>>,
}

/// The state of a sidecar. One thread owns it, and carries out the requests one after the other.
pub(super) struct Sidecar<'s> {
    session: &'s Session,
    runtime: Handle,
    /// The replicator whose status and changes are told.
    shown: watch::Sender<Option<Arc<Replicator>>>,
    has_agreed: bool,
    open: Option<Open>,
}

impl<'s> Sidecar<'s> {
    /// A sidecar that replicates nothing yet.
    pub(super) fn new(
        session: &'s Session,
        runtime: Handle,
        shown: watch::Sender<Option<Arc<Replicator>>>,
    ) -> Sidecar<'s> {
        Sidecar { session, runtime, shown, has_agreed: false, open: None }
    }

    /// The options and the environment that the process was started with.
    pub(super) fn session(&self) -> &'s Session {
        self.session
    }

    /// Whether client and sidecar have agreed on a version of the protocol.
    pub(super) fn has_agreed(&self) -> bool {
        self.has_agreed
    }

    /// Notes that they have.
    pub(super) fn agree(&mut self) {
        self.has_agreed = true;
    }

    /// Starts to replicate a database.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`](crate::Builder::start), and `Usage` when one is open.
    pub(super) fn open(&mut self, settings: Settings) -> Result<()> {
        if let Some(open) = &self.open {
            let message = format!("{} is open already", open.settings.file().display());
            return Err(Error::usage(message).with_hint(
                "a process serves one database: start another process for another file",
            ));
        }
        let replicator = settings.start()?;
        self.shown.send_replace(Some(Arc::clone(&replicator)));
        self.open = Some(Open { settings, replicator: Some(replicator) });
        Ok(())
    }

    fn opened(&self) -> Result<&Open> {
        self.open.as_ref().ok_or_else(not_open)
    }

    fn opened_mut(&mut self) -> Result<&mut Open> {
        self.open.as_mut().ok_or_else(not_open)
    }

    /// The database's file.
    ///
    /// # Errors
    ///
    /// `Usage` when none is open.
    pub(super) fn file(&self) -> Result<&Path> {
        Ok(self.opened()?.settings.file())
    }

    /// The options of a connection to the remote.
    pub(super) fn options(&self) -> Options {
        match &self.open {
            Some(open) => open.settings.options(),
            None => self.session.options(),
        }
    }

    /// The replicator.
    ///
    /// # Errors
    ///
    /// `Usage` when nothing is open, or it is paused.
    pub(super) fn replicator(&self) -> Result<Arc<Replicator>> {
        let replicator = self.opened()?.replicator.as_ref().map(Arc::clone);
        replicator
            .ok_or_else(|| Error::usage("replication is paused").with_hint("`resume` it before"))
    }

    /// The replica, to read it. Nobody has to wait for it.
    ///
    /// # Errors
    ///
    /// `Usage` when nothing is open, as [`Replica::open`] otherwise.
    pub(super) fn replica(&self) -> Result<Replica<'static>> {
        Replica::open(self.file()?)
    }

    /// The status.
    ///
    /// # Errors
    ///
    /// As [`Sidecar::replica`].
    pub(super) fn status(&self) -> Result<StatusView> {
        match &self.opened()?.replicator {
            Some(replicator) => Ok(StatusView::new(replicator.status(), false)),
            None => Ok(StatusView::new(self.replica()?.status()?, true)),
        }
    }

    /// Whether the replication is paused.
    pub(super) fn is_paused(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.replicator.is_none())
    }

    /// Ends the replicator. Its changes are captured all the same.
    ///
    /// # Errors
    ///
    /// `Usage` when nothing is open.
    pub(super) fn pause(&mut self) -> Result<()> {
        let replicator = self.opened_mut()?.replicator.take();
        self.shown.send_replace(None);
        if let Some(replicator) = replicator {
            self.runtime.block_on(replicator.shutdown())?;
        }
        Ok(())
    }

    /// Starts the replicator again.
    ///
    /// # Errors
    ///
    /// As [`Sidecar::open`].
    pub(super) fn resume(&mut self) -> Result<()> {
        let open = self.opened_mut()?;
        if open.replicator.is_none() {
            let replicator = open.settings.start()?;
            open.replicator = Some(Arc::clone(&replicator));
            self.shown.send_replace(Some(replicator));
        }
        Ok(())
    }

    /// Changes the URL and the token.
    ///
    /// # Errors
    ///
    /// As [`Replicator::reconfigure_with`].
    pub(super) fn reconfigure(&mut self, url: String, credentials: Credentials) -> Result<()> {
        let open = self.opened_mut()?;
        match &open.replicator {
            Some(replicator) => replicator.reconfigure_with(&url, credentials.clone())?,
            // What is not valid is refused now, and not at the end of the pause.
            None => open.settings.check(&url, &credentials)?,
        }
        open.settings.set_remote(url, credentials);
        Ok(())
    }

    /// Sets who is at work.
    ///
    /// # Errors
    ///
    /// As [`Replicator::set_actor`].
    pub(super) fn set_actor(&mut self, actor: Option<String>) -> Result<()> {
        match &self.opened()?.replicator {
            Some(replicator) => replicator.set_actor(actor.as_deref())?,
            None => self.replica()?.set_actor(actor.as_deref())?,
        }
        self.opened_mut()?.settings.set_actor(actor);
        Ok(())
    }

    /// Asks the replica to change something: between two transactions of the replicator.
    ///
    /// # Errors
    ///
    /// As `change`, and `Usage` when nothing is open.
    pub(super) fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Replica<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match &self.opened()?.replicator {
            Some(replicator) => replicator.inspect(change),
            None => change(&mut self.replica()?),
        }
    }
}

fn not_open() -> Error {
    Error::new(Code::NoDatabaseNamed, "no database is open").with_hint("`open` one before")
}
