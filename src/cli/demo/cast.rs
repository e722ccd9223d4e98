//! The writers of the demo: desktops, each with a database file and a replicator, and the web app.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::proof::{self, Dump};
use super::script::{Step, statements};
use crate::catalog::{Table, ident};
use crate::error::{Error, Result};
use crate::inspect::{Connection, Replica};
use crate::remote::{Batch, Libsql, Pending, Remote};
use crate::replicator::Replicator;
use crate::sync::{Status, Summary};

/// A connection to the remote that can be cut.
struct Line {
    remote: Arc<Libsql>,
    cut: AtomicBool,
}

impl Remote for Line {
    fn run(&self, batch: Batch) -> Pending<'_> {
        Box::pin(async move {
            if self.cut.load(Ordering::Relaxed) {
                return Err(Error::unavailable("this desktop is cut off from the network"));
            }
            self.remote.run(batch).await
        })
    }

    fn url(&self) -> String {
        self.remote.url()
    }
}

/// A desktop: its application's connection, and the replicator beside it.
pub(super) struct Desktop {
    /// Its name.
    name: String,
    /// Its database.
    path: PathBuf,
    /// The application's connection: it writes here, online or not.
    app: Connection,
    replicator: Replicator,
    line: Arc<Line>,
}

impl Desktop {
    /// Starts the replicator of a database file.
    pub(super) fn start(
        name: &str,
        path: &Path,
        tables: &[String],
        remote: Arc<Libsql>,
    ) -> Result<Desktop> {
        let line = Arc::new(Line { remote, cut: AtomicBool::new(false) });
        let replicator = Replicator::builder(path)
            .with_remote(Arc::clone(&line) as Arc<dyn Remote>)
            .tables(tables.iter().cloned())
            .actor(name)
            .start()?;
        let app = replicator.connection()?;
        Ok(Desktop { name: name.to_owned(), path: path.to_owned(), app, replicator, line })
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its database file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many rows these tables have, all together.
    pub(super) fn count(&self, tables: &[String]) -> Result<i64> {
        tables.iter().try_fold(0, |sum, table| {
            let sql = format!("SELECT count(*) FROM {}", ident(table));
            let count: i64 = self.app.query_row(&sql, [], |row| row.get(0))?;
            Ok(sum + count)
        })
    }

    /// The rows of a table.
    pub(super) fn dump(&self, table: &Table) -> Result<Dump> {
        proof::local(&self.app, table)
    }

    /// Runs a step as one transaction of the application.
    ///
    /// # Errors
    ///
    /// `Storage` when SQLite refuses it. Then nothing has changed.
    pub(super) fn perform(&self, step: &Step) -> Result<()> {
        let tx = self.app.unchecked_transaction()?;
        tx.execute_batch(step.sql())?;
        Ok(tx.commit()?)
    }

    /// Cuts the desktop off the network, or reconnects it.
    pub(super) fn cut(&self, cut: bool) {
        self.line.cut.store(cut, Ordering::Relaxed);
        if !cut {
            self.replicator.network_changed();
        }
    }

    /// Whether it is on the network.
    pub(super) fn is_online(&self) -> bool {
        !self.line.cut.load(Ordering::Relaxed)
    }

    /// The status of its replica.
    pub(super) fn status(&self) -> Status {
        self.replicator.status()
    }

    /// How many of its events have no verdict. The status of the replicator may be older than the
    /// last commit, so the file is read.
    pub(super) fn pending(&self) -> Result<u64> {
        Ok(Replica::open(&self.path)?.state()?.pending)
    }

    /// Pushes what is pending and pulls what is new.
    pub(super) async fn sync(&self) -> Result<Summary> {
        self.replicator.sync_now().await
    }

    /// Ends its replicator.
    pub(super) async fn stop(&self) -> Result<()> {
        self.replicator.shutdown().await
    }
}

/// Runs a step on the remote as one transaction, as a web app does.
pub(super) async fn perform_on_remote(remote: &Libsql, step: &Step) -> Result<()> {
    let statements = statements(step.sql()).into_iter().map(Into::into).collect();
    remote.run(Batch { statements, writes: true }).await.map(drop)
}
