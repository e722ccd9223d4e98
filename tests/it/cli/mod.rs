//! The command, as people and programs run it: the built binary in a folder of its own.

mod demo;
mod identity;
mod inbox;
mod json;
#[cfg(unix)]
mod modes;
#[cfg(unix)]
mod running;
mod scripts;
mod signals;
mod stdio;
mod streams;
mod tokens;

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// How long anything may take that should take a moment.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often to look whether a process has ended.
const LOOK: Duration = Duration::from_millis(10);

/// A folder to run commands in.
pub(super) struct Folder(TempDir);

/// What a command printed, and its exit code.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) code: i32,
    pub(super) out: String,
    pub(super) err: String,
}

impl Ran {
    /// Asserts that it went well, and gives what it printed.
    #[track_caller]
    pub(super) fn fine(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// Asserts that it failed with this code, said this, and printed no data.
    #[track_caller]
    pub(super) fn failed(&self, code: i32, says: &str) {
        assert!(self.code == code && self.err.contains(says) && self.out.is_empty(), "{self:#?}");
    }

    /// What it printed, line by line, as JSON.
    #[track_caller]
    pub(super) fn json(self) -> Vec<serde_json::Value> {
        let parse =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.fine().lines().map(parse).collect()
    }
}

impl Folder {
    pub(super) fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The names that begin so, in their order.
    pub(super) fn names(&self, start: &str) -> Vec<String> {
        let names = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name.starts_with(start));
        names.sort();
        names
    }

    /// A command with these arguments, which white space separates, that has not been started. What
    /// stands in double quotes is one argument.
    pub(super) fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftless"));
        command.args(words(args)).current_dir(self.0.path()).stdin(Stdio::null());
        let ours = driftless::remote::VARIABLES.into_iter().chain(driftless::remote::URL_VARIABLES);
        for variable in ours.chain(["NO_COLOR"]) {
            command.env_remove(variable);
        }
        command
    }

    /// Runs a command to its end.
    pub(super) fn run(&self, args: &str) -> Ran {
        ended(self.command(args).output().unwrap())
    }

    /// Runs SQL as an application does.
    pub(super) fn sql(&self, file: &str, sql: &str) {
        let db = rusqlite::Connection::open(self.path(file)).unwrap();
        crate::support::application::register(&db).unwrap();
        db.busy_timeout(PATIENCE).unwrap();
        db.execute_batch("PRAGMA foreign_keys = on; PRAGMA journal_mode = wal;").unwrap();
        db.execute_batch(sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    /// Copies a database, whole, over what is there.
    pub(super) fn copy(&self, from: &str, to: &str) {
        let db = rusqlite::Connection::open(self.path(from)).unwrap();
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        for left in ["-wal", "-shm"] {
            // There is none, perhaps.
            let _ = std::fs::remove_file(self.path(&format!("{to}{left}")));
        }
        std::fs::copy(self.path(from), self.path(to)).unwrap();
    }

    /// Starts a hub on `hub.db`.
    pub(super) fn hub(&self, more: &str) -> Running {
        let args = format!("hub --db hub.db --listen 127.0.0.1:0 {more}");
        Running::start(&mut self.command(&args))
    }
}

/// The arguments in a text.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut is_quoted, mut is_word) = (vec![String::new()], false, false);
    for c in text.chars() {
        match c {
            '"' => (is_quoted, is_word) = (!is_quoted, true),
            c if c.is_whitespace() && !is_quoted => {
                if std::mem::take(&mut is_word) {
                    words.push(String::new());
                }
            }
            c => {
                is_word = true;
                words.last_mut().unwrap().push(c);
            }
        }
    }
    if !is_word {
        words.pop();
    }
    words
}

fn ended(output: Output) -> Ran {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran {
        code: output.status.code().expect("it ended by itself"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// A command that runs until it is stopped.
pub(super) struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    /// The first line that it printed.
    pub(super) first: String,
}

impl Running {
    /// Starts it, and waits for the first line.
    pub(super) fn start(command: &mut Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut running = Running {
            out: BufReader::new(child.stdout.take().unwrap()),
            child,
            first: String::new(),
        };
        running.first = running.line().unwrap_or_default();
        running
    }

    /// The next line that it prints, without its end; `None` when it has ended.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.out.read_line(&mut line).unwrap();
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// Reads lines until one contains `text`.
    pub(super) fn until(&mut self, text: &str) -> String {
        loop {
            let Some(line) = self.line() else {
                panic!("it ended without saying `{text}`: {}", self.rest());
            };
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Of a hub: its URL.
    pub(super) fn url(&self) -> String {
        self.first.strip_prefix("listening on ").expect("a hub says where it listens").to_owned()
    }

    /// The number of its process.
    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs.
    pub(super) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends a signal.
    #[cfg(unix)]
    pub(super) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Waits for the end, and gives the exit code and what was printed since.
    pub(super) fn end(mut self) -> Ran {
        let mut looks = 0;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(LOOK * looks < PATIENCE, "it does not end");
            looks += 1;
            std::thread::sleep(LOOK);
        };
        let mut out = String::new();
        self.out.read_to_string(&mut out).unwrap();
        let code = status.code().expect("it ended by itself");
        Ran { code, out, err: self.rest() }
    }

    fn rest(&mut self) -> String {
        let mut err = String::new();
        let _ = self.child.kill();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut err).unwrap();
        }
        err
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, perhaps.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A hub, and a replica `a.db` of it with a table and two rows.
pub(super) fn hub_and_replica() -> (Folder, Running) {
    let folder = Folder::new();
    let hub = folder.hub("");
    folder.sql(
        "a.db",
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL, phone TEXT);
         INSERT INTO people VALUES (1, 'Ana', NULL), (2, 'Bob', '22');",
    );
    folder.run(&format!("init --db a.db --remote {} --tables people", hub.url())).fine();
    folder.run("sync --db a.db").fine();
    (folder, hub)
}
