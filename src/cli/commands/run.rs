//! `driftless run`: pushes and pulls continuously.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::time::Instant;

use super::status::{described, progress, words};
use crate::cli::exit::Exit;
use crate::cli::output::{Output, Spinner, clean};
use crate::cli::session::Session;
use crate::cli::{signal, stdin, stdio};
use crate::error::{Code, Error, Result};
use crate::event::clock::duration;
use crate::remote::Remote;
use crate::replicator::Replicator;
use crate::sync::{Announcement, Health, Status, SyncState};

/// How often to check the status.
const LOOK: Duration = Duration::from_millis(100);

/// The least time between two lines of JSON: there are at most four a second.
const PACE: Duration = Duration::from_millis(250);

/// How often to check whether the file is free.
const LOCK_LOOK: Duration = Duration::from_millis(100);
/// The number of checks after which the wait is reported.
const PATIENT_LOOKS: u32 = 3;

/// The arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// End when standard input ends, which must be a pipe: that is when the parent process ends, in
    /// any way
    #[arg(long)]
    until_stdin_closes: bool,
    /// Serve another program: read requests from standard input and write answers to standard
    /// output, in JSON-RPC (docs/sidecar.md)
    #[arg(long, conflicts_with = "until_stdin_closes")]
    stdio: bool,
}

impl RunArgs {
    /// Whether it creates a missing database.
    pub(crate) fn makes_files(&self) -> bool {
        self.stdio
    }
}

/// Why `run` ended.
enum End {
    /// A signal came.
    Signal,
    /// Standard input ended, so the parent process did.
    Parent,
}

/// The last line of JSON: the status, and the reason why `run` ended.
#[derive(Serialize)]
struct Last<'a> {
    #[serde(flatten)]
    status: &'a Status,
    ended: Ended<'a>,
}

#[derive(Serialize)]
struct Ended<'a> {
    reason: &'a str,
    exit_code: u8,
}

/// Runs a replicator until SIGINT or SIGTERM, or with `--until-stdin-closes` until standard input
/// ends. If another program has locked the file, it waits and says so.
///
/// # Errors
///
/// `Usage` when the file is not a replica; `Storage` when it fails; `Refused` when the remote
/// refuses this replica's first sync, or a token is missing.
pub(crate) fn run(session: &Session, args: &RunArgs) -> Result<Exit> {
    if args.stdio {
        return stdio::run(session);
    }
    let parent = if args.until_stdin_closes { Some(stdin::end()?) } else { None };
    let output = session.output();
    let runtime = signal::runtime()?;
    runtime.block_on(async {
        let signals = signal::stop();
        let stop = async move {
            let Some(parent) = parent else { return signals.await.map(|()| End::Signal) };
            tokio::select! {
                stopped = signals => stopped.map(|()| End::Signal),
                _ = parent => Ok(End::Parent),
            }
        };
        tokio::pin!(stop);
        let mut wait = Wait::default();
        let (replicator, before) = loop {
            match begin(session, &mut wait) {
                Ok(begun) => break begun,
                Err(error) if error.code() == Code::DatabaseLocked => {
                    wait.go_on(session, &error)?
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                stopped = &mut stop => return wait.end(session, stopped),
                () = tokio::time::sleep(LOCK_LOOK) => {}
            }
        };
        let mut teller = Teller::new(output, before.adopted);
        let outcome = watch(session, &replicator, &before, &mut teller, stop).await;
        let ended = replicator.shutdown().await;
        teller.end(&replicator.status(), &outcome)?;
        outcome.map(drop).and(ended)
    })?;
    output.note("stopped");
    Ok(Exit::Success)
}

/// Starts the replicator. Also returns the file's state before the start.
fn begin(session: &Session, wait: &mut Wait) -> Result<(Replicator, Before)> {
    let (db, replica) = (session.db()?, session.replica()?);
    if replica.is_locked()? {
        let message = format!(
            "waiting for the write lock of {}: another program has a transaction open",
            db.display()
        );
        return Err(Error::new(Code::DatabaseLocked, message)
            .with_hint("it continues when that program commits or ends")
            .naming_file());
    }
    wait.end_announcement();
    let remote: Arc<dyn Remote> = session.remote(&replica.state()?.url)?;
    let tables: Vec<String> = replica.tables().map(str::to_owned).collect();
    let before = Before { adopted: replica.is_adopted()?, success: replica.last_success()? };
    drop(replica);
    let url = remote.url();
    let replicator = Replicator::builder(db).with_remote(remote).tables(tables).start()?;
    session.output().note(format_args!("replicating {} with {url}; Ctrl-C stops", db.display()));
    Ok((replicator, before))
}

/// A wait for another program.
#[derive(Default)]
struct Wait {
    looks: u32,
    said: Option<String>,
    /// The last status that was printed.
    status: Option<Status>,
    /// What other processes are told.
    announcement: Option<Announcement>,
}

impl Wait {
    /// Reports the wait once, after some checks: most transactions end before the next one.
    fn go_on(&mut self, session: &Session, error: &Error) -> Result<()> {
        self.looks += 1;
        if let Some(announcement) = &mut self.announcement {
            announcement.keep_alive();
        }
        if self.looks < PATIENT_LOOKS || self.said.as_deref() == Some(error.message()) {
            return Ok(());
        }
        self.said = Some(error.message().to_owned());
        self.end_announcement();
        let announced = session.replica().and_then(|replica| replica.announce_waiting(error)).ok();
        (self.status, self.announcement) =
            announced.map_or((None, None), |(status, told)| (Some(status), told));
        match &self.status {
            Some(status) if session.output().is_json() => session.output().json(status),
            // The file cannot be read either, so there is no status to print.
            _ => {
                session.output().note(clean(error.message(), usize::MAX));
                Ok(())
            }
        }
    }

    /// Nothing more is told to other processes.
    fn end_announcement(&mut self) {
        if let Some(announcement) = self.announcement.take() {
            announcement.end();
        }
    }

    /// The process must end before the wait is over.
    fn end(mut self, session: &Session, stopped: Result<End>) -> Result<()> {
        self.end_announcement();
        if let Some(status) = &self.status {
            Teller::new(session.output(), true).end(status, &stopped)?;
        }
        stopped.map(drop)
    }
}

/// The state of the file before `run`.
struct Before {
    /// Whether its first sync was done.
    adopted: bool,
    success: Option<i64>,
}

/// Reports what the replicator does until there is a reason to end.
async fn watch(
    session: &Session,
    replicator: &Replicator,
    before: &Before,
    teller: &mut Teller<'_>,
    mut stop: std::pin::Pin<&mut impl Future<Output = Result<End>>>,
) -> Result<End> {
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            stopped = &mut stop => return stopped,
            now = ticks.tick() => {
                let status = replicator.status();
                if let Some(error) = hopeless(session, before, &status) {
                    return Err(error);
                }
                teller.tell(status, now)?;
            }
        }
    }
}

/// The error that ends `run`: the remote has refused a replica that never worked, so waiting does
/// not help.
///
/// A replica that was in step before (`adopted`) keeps trying. Perhaps a login page or a starting
/// server has answered, and the remote may be repaired. On a desktop, nobody restarts a replicator
/// that has ended. A missing token ends it in any case.
fn hopeless(session: &Session, before: &Before, status: &Status) -> Option<Error> {
    let refused =
        matches!(status.state, SyncState::Refused | SyncState::OtherRemote | SyncState::RolledBack);
    if !refused || status.last_success > before.success {
        return None;
    }
    let trouble = status.trouble.as_deref().unwrap_or(words(status.state));
    let error = Error::new(status.code.unwrap_or(Code::Refused), trouble);
    let error = match &status.hint {
        Some(hint) => error.with_hint(hint.as_str()),
        None => error,
    };
    (!before.adopted || session.lacks_token(&error)).then_some(error)
}

/// Prints changes of the status: with `--json` each one, at most four a second; otherwise those
/// that a person should see.
struct Teller<'a> {
    output: &'a Output,
    adopted: bool,
    spinner: Spinner,
    said: Option<Status>,
    said_at: Option<Instant>,
}

impl<'a> Teller<'a> {
    fn new(output: &'a Output, adopted: bool) -> Teller<'a> {
        let spinner = output.spinner("starting");
        Teller { output, adopted, spinner, said: None, said_at: None }
    }

    /// Prints the status if it has changed. A change that comes too soon is printed at a later
    /// check, or in the last line.
    fn tell(&mut self, status: Status, now: Instant) -> Result<()> {
        self.spinner.say(line(&status));
        let is_news = match self.output.is_json() {
            true => self.said.as_ref().is_none_or(|said| said.differs_from(&status)),
            false => self.is_notable(&status),
        };
        let soon = self.said_at.is_some_and(|then| now.duration_since(then) < PACE);
        if !is_news || (soon && self.output.is_json()) {
            return Ok(());
        }
        if self.output.is_json() {
            self.output.json(&status)?;
        } else {
            self.output.line(line(&status))?;
            if let Some(hint) = &status.hint {
                self.output.note(format_args!("  hint: {}", clean(hint, usize::MAX)));
            }
        }
        (self.said, self.said_at) = (Some(status), Some(now));
        Ok(())
    }

    /// Whether a person should see it. Short work, and a first sync of a replica that had one
    /// before, are shown by the spinner.
    fn is_notable(&self, status: &Status) -> bool {
        let passing = matches!(status.state, SyncState::Starting | SyncState::Syncing)
            || (self.adopted && status.state == SyncState::FirstSync);
        let facts = |status: &Status| {
            let former = status.identity.len() as u64;
            let counts =
                [status.conflicts, status.quarantined, dangling(status), doubtful(status), former];
            (status.state, status.trouble.clone(), status.health, counts)
        };
        !passing && self.said.as_ref().map(facts) != Some(facts(status))
    }

    /// Prints the last line of JSON: the final status, and the reason why `run` ended.
    fn end(self, status: &Status, outcome: &Result<End>) -> Result<()> {
        drop(self.spinner);
        if !self.output.is_json() {
            return Ok(());
        }
        let (reason, exit) = match outcome {
            Ok(End::Signal) => ("signal", Exit::Success),
            Ok(End::Parent) => ("standard input ended", Exit::Success),
            Err(error) => (error.message(), Exit::from(error.kind())),
        };
        let ended = Ended { reason, exit_code: exit.code() };
        self.output.json(&Last { status, ended })
    }
}

/// The number of local rows that refer to a row that the remote deleted.
fn dangling(status: &Status) -> u64 {
    status.dangling.iter().map(|dangling| dangling.rows).sum()
}

/// The number of local rows that may refer to another row than the one for which they were written.
fn doubtful(status: &Status) -> u64 {
    status.dangling.iter().map(|dangling| dangling.doubtful).sum()
}

/// A status on one line.
fn line(status: &Status) -> String {
    let mut line = match status.state {
        SyncState::Standby => described(status),
        state => words(state).to_owned(),
    };
    if let Some(first) = &status.first_sync {
        line += &format!(": {}", progress(first));
    }
    if let Some(trouble) = &status.trouble {
        line += &format!(": {}", clean(trouble, usize::MAX));
    }
    if status.health == Health::Red {
        line += "; health is red";
    }
    line += &format!("; cursor {}", status.cursor);
    if let Some(former) = status.identity.last() {
        line += &format!(", was replica {} before", former.replica);
    }
    if status.pending > 0 {
        let oldest = status.oldest_pending_s.map(duration).unwrap_or_default();
        line += &format!(", {} pending for {oldest}", status.pending);
    }
    let counts = [
        (status.conflicts, "conflicts"),
        (status.quarantined, "in quarantine"),
        (dangling(status), "local rows without a parent"),
        (doubtful(status), "local rows with a doubtful parent"),
    ];
    for (count, what) in counts {
        if count > 0 {
            line += &format!(", {count} {what}");
        }
    }
    line
}
