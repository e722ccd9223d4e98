//! The data that the commands share: the replica's file, its remote, and the output.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgAction, Args};

use super::output::Output;
use crate::error::{Code, Error, Result};
use crate::inspect::Replica;
use crate::remote::{Credentials, Granted, Libsql, Options, Token};
use crate::sync::Lock;

/// How often to try to take a file's lock, with a pause between two attempts. A command that looks
/// for the lock's holder takes the lock for a moment. So does a replicator whose file was moved.
const LOCK_ATTEMPTS: u32 = 25;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The replica: a SQLite file (for `hub`: the file to serve)
    #[arg(long, global = true, value_name = "FILE")]
    db: Option<PathBuf>,
    /// A file with the remote's token that only its owner can read (for `hub`: the required token)
    #[arg(long, global = true, value_name = "FILE")]
    auth_token_file: Option<PathBuf>,
    /// Allow http:// to another machine, where others on the way can read the token and all rows
    #[arg(long, global = true)]
    allow_plain_http: bool,
    /// Print JSON: one object, or one per line for listings
    #[arg(long, global = true)]
    json: bool,
    /// Log to stderr; twice for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

impl Global {
    /// Whether to print JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// How often `--verbose` was given.
    pub(crate) fn verbosity(&self) -> u8 {
        self.verbose
    }
}

/// One run of the command.
pub(crate) struct Session {
    global: Global,
    /// The names of two environment variables: that of a token that was not sent, and that of its
    /// URL.
    withheld: Cell<Option<(&'static str, &'static str)>>,
    /// Where to print.
    output: Output,
}

impl Session {
    /// A run with these options.
    pub(crate) fn new(global: Global, output: Output) -> Session {
        Session { global, withheld: Cell::new(None), output }
    }

    /// Where to print.
    pub(crate) fn output(&self) -> &Output {
        &self.output
    }

    /// The replica's file.
    ///
    /// # Errors
    ///
    /// `Usage` when none was named.
    pub(crate) fn db(&self) -> Result<&Path> {
        let db: Option<&PathBuf> = self.global.db.as_ref();
        db.map(PathBuf::as_path)
            .ok_or_else(|| Error::new(Code::NoDatabaseNamed, "no database was named"))
    }

    /// The file with the token, if one was named.
    pub(crate) fn token_file(&self) -> Option<&Path> {
        self.global.auth_token_file.as_deref()
    }

    /// The token for the remote at `url`: from `--auth-token-file`, or else from the environment.
    ///
    /// # Errors
    ///
    /// `Usage` when the environment has something that is not a token.
    pub(crate) fn credentials(&self, url: &str) -> Result<Credentials> {
        if let Some(file) = self.token_file() {
            return Ok(Credentials::file(file));
        }
        Ok(self.environment(url)?.into())
    }

    /// The same, read once.
    ///
    /// # Errors
    ///
    /// As for [`Session::credentials`], and when the token's file cannot be used.
    pub(crate) fn token(&self, url: &str) -> Result<Option<Token>> {
        match self.token_file() {
            Some(file) => Token::from_file(file).map(Some),
            None => self.environment(url),
        }
    }

    fn environment(&self, url: &str) -> Result<Option<Token>> {
        Ok(match Token::for_remote(url)? {
            Granted::Token(token) => Some(token),
            Granted::Nothing => None,
            Granted::Withheld { token, url } => {
                self.withheld.set(Some((token, url)));
                None
            }
        })
    }

    /// Adds to an error what only the command knows: the file's name, and whether there is a token.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let error = match &self.global.db {
            Some(db) => error.of_file(db),
            None => error,
        };
        if !self.lacks_token(&error) {
            return error;
        }
        let Some((token, url)) = self.withheld.get() else {
            let message = format!("{}; none was given", error.message());
            return Error::new(Code::TokenMissing, message)
                .with_hint("set DRIFTLESS_AUTH_TOKEN, or name a file with --auth-token-file")
                .with_source(error);
        };
        let message = format!("{}; the one in {token} was not sent", error.message());
        let hint = format!(
            "{url} says that it is for another host; if it is for this one, name a file with \
             --auth-token-file, or correct {url}"
        );
        Error::new(Code::TokenMissing, message).with_hint(hint).with_source(error)
    }

    /// Whether the remote requires a token and none was given.
    pub(crate) fn lacks_token(&self, error: &Error) -> bool {
        let in_environment = || matches!(Token::from_environment(), Ok(Some(_)));
        let given = self.token_file().is_some() || in_environment();
        error.code().is_of_token() && (!given || self.withheld.get().is_some())
    }

    /// The options of a connection to a remote.
    pub(crate) fn options(&self) -> Options {
        Options { allow_plain_http: self.global.allow_plain_http, ..Options::default() }
    }

    /// A client of the remote at `url`. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// `Usage` when the URL is not allowed or the token is not valid.
    pub(crate) fn remote(&self, url: &str) -> Result<Arc<Libsql>> {
        self.connect(url, self.options()).map(Arc::new)
    }

    /// The same with other options.
    pub(crate) fn connect(&self, url: &str, options: Options) -> Result<Libsql> {
        Libsql::connect_with(url, self.credentials(url)?, options)
    }

    /// The replica.
    ///
    /// # Errors
    ///
    /// As [`Replica::open`], and `Usage` when no file was named.
    pub(crate) fn replica(&self) -> Result<Replica<'static>> {
        Replica::open(self.db()?)
    }

    /// The lock of the file's replicator.
    ///
    /// # Errors
    ///
    /// `Usage` when another replicator has it, or no file was named.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let db = self.db()?;
        for _ in 1..LOCK_ATTEMPTS {
            if let Some(lock) = Lock::take(db)? {
                return Ok(lock);
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        Lock::take(db)?.ok_or_else(|| {
            let process = match Lock::holder(db).and_then(|holder| holder.process) {
                Some(process) => format!(" (process {process})"),
                None => String::new(),
            };
            let db = db.display();
            let message = format!("another replicator is working on {db}{process}");
            Error::new(Code::AlreadyReplicated, message)
                .with_hint("it synchronises the file; `driftless status` shows its state")
        })
    }
}
