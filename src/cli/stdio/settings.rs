//! How a database is replicated: the parameters of `open`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::message::Failure;
use super::params::Params;
use super::token::GivenToken;
use crate::cli::session::Session;
use crate::error::{Code, Error, Result};
use crate::event::conflict::ConflictRule;
use crate::inspect::Replica;
use crate::remote::{Credentials, Libsql, Options};
use crate::replicator::Replicator;
use crate::sync::Tables;

const NO_FILE: &str = "name it as `file`, or start the program with --db";

/// How a database is replicated.
pub(super) struct Settings {
    file: PathBuf,
    url: String,
    credentials: Credentials,
    options: Options,
    tables: Tables,
    rules: BTreeMap<String, ConflictRule>,
    actor: Option<String>,
    poll: Option<Duration>,
    health_bound: Option<Duration>,
}

impl Settings {
    /// The settings that the parameters of `open` describe.
    ///
    /// # Errors
    ///
    /// If a parameter is not valid; `Usage` when there is no file, no URL or no token where the
    /// parameters name none.
    pub(super) fn take(
        session: &Session,
        params: &mut Params,
    ) -> std::result::Result<Settings, Failure> {
        let (file, url): (Option<PathBuf>, Option<String>) =
            (params.option("file")?, params.option("url")?);
        let token = GivenToken::take(params)?;
        let tables = match (params.option("tables")?, params.option("exclude")?) {
            (Some(_), Some(_)) => {
                let what = "is for a replica of all tables: leave out `tables`";
                return Err(params.wrong("exclude", what));
            }
            (Some(names), None) => Tables::Named(names),
            (None, Some(names)) => Tables::AllBut(names),
            (None, None) => Tables::All,
        };
        let mut rules = BTreeMap::new();
        let words: Option<BTreeMap<String, String>> = params.option("conflict")?;
        for (table, word) in words.into_iter().flatten() {
            let what = "has a rule that is neither `row` nor `columns`";
            rules.insert(table, word.parse().map_err(|_| params.wrong("conflict", what))?);
        }
        let actor = params.option("actor")?;
        let poll = params.option("poll_ms")?.map(Duration::from_millis);
        let health_bound = params.option("health_bound_ms")?.map(Duration::from_millis);
        let mut options = session.options();
        options.allow_plain_http |= params.option("allow_plain_http")?.unwrap_or(false);
        params.end()?;
        let file = match file {
            Some(file) => file,
            None => session.db().map_err(|error| error.with_hint(NO_FILE))?.to_owned(),
        };
        let url = match url {
            Some(url) => url,
            None => known_url(&file)?,
        };
        let credentials = token.credentials(session, &url)?;
        Ok(Settings { file, url, credentials, options, tables, rules, actor, poll, health_bound })
    }

    /// The database.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The options of a connection to the remote.
    pub(super) fn options(&self) -> Options {
        self.options.clone()
    }

    /// Checks a URL and a token without using them.
    ///
    /// # Errors
    ///
    /// `Usage` when one is not valid.
    pub(super) fn check(&self, url: &str, credentials: &Credentials) -> Result<()> {
        Libsql::connect_with(url, credentials.clone(), self.options()).map(drop)
    }

    /// Changes where the remote is, for the next start.
    pub(super) fn set_remote(&mut self, url: String, credentials: Credentials) {
        (self.url, self.credentials) = (url, credentials);
    }

    /// Changes who is at work, for the next start.
    pub(super) fn set_actor(&mut self, actor: Option<String>) {
        self.actor = actor;
    }

    /// Starts a replicator.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`](crate::Builder::start).
    pub(super) fn start(&self) -> Result<Arc<Replicator>> {
        let mut builder = Replicator::builder(&self.file)
            .remote(&self.url, "")
            .credentials(self.credentials.clone())
            .remote_options(self.options.clone());
        builder = match &self.tables {
            Tables::All => builder,
            Tables::Named(names) => builder.tables(names),
            Tables::AllBut(names) => builder.exclude(names),
        };
        for (table, rule) in &self.rules {
            builder = builder.conflict(table, *rule);
        }
        if let Some(actor) = &self.actor {
            builder = builder.actor(actor);
        }
        if let Some(poll) = self.poll {
            builder = builder.poll_interval(poll);
        }
        if let Some(bound) = self.health_bound {
            builder = builder.health_bound(bound);
        }
        builder.start().map(Arc::new)
    }
}

/// The remote's URL, which a replica's file has.
fn known_url(file: &Path) -> std::result::Result<String, Failure> {
    match Replica::open(file) {
        Ok(replica) => Ok(replica.state()?.url),
        Err(error) if matches!(error.code(), Code::NotAReplica | Code::NoSuchFile) => {
            let message =
                format!("{} is not a replica yet, and no remote was named", file.display());
            Err(Error::new(Code::NoRemote, message).with_hint("name its `url`").into())
        }
        Err(error) => Err(error.into()),
    }
}
