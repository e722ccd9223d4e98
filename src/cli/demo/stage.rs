//! The stage of the demo: a hub, the desktops, the web app, and their display.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::cast::{Desktop, perform_on_remote};
use super::script::{Directive, Step};
use crate::catalog::Table;
use crate::cli::commands::status::words;
use crate::cli::output::event::{brief, origin};
use crate::cli::output::{Output, Spinner, Tone, conflict};
use crate::error::{Error, Kind, Result};
use crate::event::Seq;
use crate::hub::{Config, Hub};
use crate::inspect::{ConflictFilter, Entry, LogFilter, Replica, define, table_names};
use crate::remote::{Libsql, Options, Remote};

/// The tables that are replicated.
const SCHEMA: &str = include_str!("../../../fixtures/gym/schema.sql");
/// The definitions that only the desktops have.
const LOCAL: &str = include_str!("../../../fixtures/gym/local.sql");
/// The definitions that only the remote has.
const REMOTE: &str = include_str!("../../../fixtures/gym/remote.sql");
/// A year of data.
const YEAR: &str = include_str!("../../../fixtures/gym/generate.sql");

/// How often the display of a desktop is updated.
const GLANCE: Duration = Duration::from_millis(100);
/// Applied events of a round that are shown one by one.
const SHOWN_EVENTS: usize = 3;
/// Rounds of synchronisation after which the desktops should have nothing left to send.
const ROUNDS: usize = 20;
/// Conflicts that are shown.
const SHOWN_CONFLICTS: usize = 2;

/// Everything that the demo has.
pub(super) struct Stage {
    output: Output,
    folder: PathBuf,
    hub_file: PathBuf,
    port: u16,
    remote: Arc<Libsql>,
    web: String,
    desktops: Vec<Desktop>,
    traveller: usize,
    told: Seq,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    serving: Mutex<Option<JoinHandle<Result<()>>>>,
    footer: Vec<Spinner>,
}

impl Stage {
    /// Makes the databases, starts the hub and the desktops, and brings them in step.
    ///
    /// # Errors
    ///
    /// `Corrupt` for a story without a desktop or a writer on the remote; errors of the databases.
    pub(super) async fn set(output: &Output, folder: &Path, story: &[Directive]) -> Result<Stage> {
        let replicas = names(story, |directive| match directive {
            Directive::Replica(name) => Some(name),
            _ => None,
        });
        let writers = names(story, |directive| match directive {
            Directive::Remote(name) => Some(name),
            _ => None,
        });
        let travellers = names(story, |directive| match directive {
            Directive::Offline(name) => Some(name),
            _ => None,
        });
        let (Some(first), Some(web)) = (replicas.first(), writers.first()) else {
            return Err(Error::corrupt("the demo's story has no desktop, or nobody on the remote"));
        };
        let file = |name: &str| folder.join(format!("{name}.db"));
        let hub_file = file("hub");
        tell(output, web, "has a database of its own, with tables and triggers but without rows.")?;
        define(&hub_file, &[SCHEMA.to_owned()])?;
        let tables = table_names(&hub_file)?;
        define(&hub_file, &[REMOTE.to_owned()])?;
        tell(output, first, "has a year of data in a SQLite file.")?;
        let waiting = output.spinner("making up a year of data");
        for (index, name) in replicas.iter().enumerate() {
            let data = if index == 0 { YEAR } else { "" };
            let scripts = [SCHEMA, data, LOCAL].map(str::to_owned);
            define(&file(name), &scripts)?;
        }
        drop(waiting);

        let hub = Hub::bind(Config::new(&hub_file, ([127, 0, 0, 1], 0).into())).await?;
        let (url, port) = (hub.url(), hub.addr().port());
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(hub.serve(async {
            // A sender that was dropped means the same.
            let _ = stopped.await;
        }));
        tell(output, "hub", format_args!("listens on {url}."))?;
        let remote = Arc::new(Libsql::connect(&url, None, Options::default())?);
        let mut stage = Stage {
            output: output.clone(),
            folder: folder.to_owned(),
            hub_file,
            port,
            remote,
            web: (*web).to_owned(),
            desktops: Vec::new(),
            traveller: 0,
            told: Seq(0),
            stop: Mutex::new(Some(stop)),
            serving: Mutex::new(Some(serving)),
            footer: Vec::new(),
        };
        for name in &replicas {
            stage.enter(name, &file(name), &tables).await?;
            if travellers.first() == Some(name) {
                stage.traveller = stage.desktops.len() - 1;
            }
        }
        stage.told = Seq(stage.desktops[0].status().cursor);
        Ok(stage)
    }

    /// Starts a desktop's replicator, and waits for its first sync.
    async fn enter(&mut self, name: &str, file: &Path, tables: &[String]) -> Result<()> {
        let waiting = self.output.spinner(format!("{name} meets the hub for the first time"));
        let desktop = Desktop::start(name, file, tables, Arc::clone(&self.remote))?;
        let summary = desktop.sync().await?;
        drop(waiting);
        let rows = desktop.count(tables)?;
        let done = match summary.pushed {
            0 => format!("has fetched {rows} rows from the hub"),
            pushed => format!("has pushed its {pushed} rows to the hub"),
        };
        tell(&self.output, name, format_args!("{done} in {:.1} s.", summary.seconds))?;
        self.desktops.push(desktop);
        if self.output.is_live() {
            self.footer.push(self.output.spinner(name));
        }
        Ok(())
    }

    /// The desktops.
    pub(super) fn desktops(&self) -> &[Desktop] {
        &self.desktops
    }

    /// A desktop by its name.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the story has no such desktop.
    pub(super) fn desktop(&self, name: &str) -> Result<&Desktop> {
        self.desktops
            .iter()
            .find(|desktop| desktop.name() == name)
            .ok_or_else(|| Error::corrupt(format!("the demo's story has no desktop `{name}`")))
    }

    /// The desktop that the story takes offline.
    pub(super) fn traveller(&self) -> &Desktop {
        &self.desktops[self.traveller]
    }

    /// The hub, as a client sees it.
    pub(super) fn remote(&self) -> &dyn Remote {
        self.remote.as_ref()
    }

    /// Where the databases are.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The hub's database.
    pub(super) fn hub_file(&self) -> &Path {
        &self.hub_file
    }

    /// The hub's port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The names of all databases.
    pub(super) fn names(&self) -> Vec<&str> {
        let desktops = self.desktops.iter().map(|desktop| desktop.name());
        desktops.chain(["hub"]).collect()
    }

    /// The replicated tables.
    pub(super) fn tables(&self) -> Result<Vec<Table>> {
        Ok(Replica::open(self.desktops[0].path())?.definitions().cloned().collect())
    }

    /// Runs a step.
    ///
    /// # Errors
    ///
    /// Its database's. Then nothing has changed.
    pub(super) async fn perform(&mut self, step: &Step) -> Result<()> {
        if step.who() == self.web {
            perform_on_remote(&self.remote, step).await?;
        } else {
            self.desktop(step.who())?.perform(step)?;
        }
        self.glance();
        Ok(())
    }

    /// Runs a step that a constraint may refuse, since others have written meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Stage::perform`], for other errors.
    pub(super) async fn attempt(&mut self, step: &Step) -> Result<()> {
        match self.perform(step).await {
            Err(error) if matches!(error.kind(), Kind::Rejected | Kind::Storage) => {
                let refused = Tone::Notable.paint(format_args!("(its database refused: {error})"));
                tell(&self.output, "", refused)
            }
            outcome => outcome,
        }
    }

    /// Updates the display of the desktops.
    pub(super) fn glance(&self) {
        for (spinner, desktop) in self.footer.iter().zip(&self.desktops) {
            let status = desktop.status();
            spinner.say(format!(
                "{:>8}  {}; {} pending, at seq {}, {} lost",
                desktop.name(),
                words(status.state),
                status.pending,
                status.cursor,
                status.conflicts
            ));
        }
    }

    /// Synchronises the desktops that are online until none has anything to push or pull.
    ///
    /// # Errors
    ///
    /// As [`Desktop::sync`], and `Unavailable` when there is no end to it.
    pub(super) async fn sync_quietly(&mut self) -> Result<()> {
        for _ in 0..ROUNDS {
            let mut busy = false;
            for desktop in self.desktops.iter().filter(|desktop| desktop.is_online()) {
                let sync = desktop.sync();
                tokio::pin!(sync);
                let summary = loop {
                    tokio::select! {
                        outcome = &mut sync => break outcome?,
                        () = tokio::time::sleep(GLANCE) => self.glance(),
                    }
                };
                busy |= summary.pushed + summary.pulled > 0;
            }
            self.glance();
            let cursors = self.desktops.iter().filter(|desktop| desktop.is_online());
            let mut cursors: Vec<i64> = cursors.map(|desktop| desktop.status().cursor).collect();
            cursors.dedup();
            if !busy && cursors.len() <= 1 {
                return Ok(());
            }
        }
        Err(Error::unavailable("the desktops do not come to rest"))
    }

    /// The same. Prints the new events and their verdicts.
    pub(super) async fn sync(&mut self) -> Result<()> {
        self.sync_quietly().await?;
        if self.output.is_json() {
            return Ok(());
        }
        let witness = self
            .desktops
            .iter()
            .find(|desktop| desktop.is_online())
            .ok_or_else(|| Error::corrupt("the demo's story leaves nobody online"))?;
        let replica = Replica::open(witness.path())?;
        let filter = LogFilter { after_seq: Some(self.told), ..LogFilter::default() };
        let mut events = Vec::new();
        replica.log(&filter, &mut |entry| {
            if let Entry::Settled(event) = entry {
                events.push(event);
            }
            Ok(())
        })?;
        let (mut applied, mut others) = (0, 0);
        for event in &events {
            if event.verdict.is_applied() {
                // Consequences of triggers would hide the people's changes.
                let shown = event.cause.is_none() && applied < SHOWN_EVENTS;
                applied += usize::from(shown);
                others += usize::from(!shown);
                if !shown {
                    continue;
                }
            }
            let by = match (&event.actor, event.cause) {
                (Some(actor), _) => actor.clone(),
                (None, Some(_)) => "trigger".to_owned(),
                (None, None) => origin(event.origin, replica.id()),
            };
            brief(&self.output, &format!("{:>8}", "log"), event, &by)?;
        }
        if others > 0 {
            tell(&self.output, "", format_args!("… and {others} more, applied"))?;
        }
        if let Some(last) = events.last() {
            self.told = last.seq;
        }
        Ok(())
    }

    /// Prints the conflicts, the winner beside the loser.
    pub(super) fn tell_conflicts(&self) -> Result<()> {
        if self.output.is_json() {
            return Ok(());
        }
        for desktop in &self.desktops {
            let replica = Replica::open(desktop.path())?;
            let conflicts = replica.conflicts(&ConflictFilter::default(), 0, usize::MAX)?;
            if conflicts.is_empty() {
                continue;
            }
            let count = conflicts.len();
            tell(&self.output, desktop.name(), format_args!("has lost {count}; nothing is gone:"))?;
            for lost in conflicts.iter().take(SHOWN_CONFLICTS) {
                self.output.line("")?;
                conflict::print(&self.output, lost, replica.id(), conflict::LISTED_CHARS)?;
            }
            self.output.line("")?;
            if let Some(others) = count.checked_sub(SHOWN_CONFLICTS).filter(|&others| others > 0) {
                tell(&self.output, "", format_args!("… and {others} more"))?;
            }
        }
        Ok(())
    }

    /// Ends the replicators and the hub.
    ///
    /// # Errors
    ///
    /// Theirs.
    pub(super) async fn clear(&mut self) -> Result<()> {
        self.footer.clear();
        for desktop in &self.desktops {
            desktop.stop().await?;
        }
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(stop);
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner).take();
        match serving {
            Some(serving) => serving
                .await
                .map_err(|source| Error::storage("the hub ended badly").with_source(source))?,
            None => Ok(()),
        }
    }
}

/// The names that `of` finds in the story, each once.
fn names<'a>(
    story: &'a [Directive],
    of: impl Fn(&'a Directive) -> Option<&'a String>,
) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for name in story.iter().filter_map(of) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

/// Prints a line about a writer, unless JSON was asked for.
pub(super) fn tell(output: &Output, who: &str, what: impl std::fmt::Display) -> Result<()> {
    if output.is_json() {
        return Ok(());
    }
    output.line(format_args!("{}  {what}", Tone::Strong.paint(format_args!("{who:>8}"))))
}
