//! A hub, desks and what runs on them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use super::proxy::Proxy;
use super::{PATIENCE, wait_for};

/// The application's tables. Members are edited by everybody; payments are made and never changed.
pub(super) const SCHEMA: &str = "
    CREATE TABLE members (id TEXT PRIMARY KEY, name TEXT NOT NULL, email TEXT UNIQUE);
    CREATE TABLE payments (
      id TEXT PRIMARY KEY, member TEXT NOT NULL REFERENCES members (id), cents INTEGER NOT NULL);
";
/// Members that are there from the beginning.
pub(super) const MEMBERS: u64 = 8;
/// What every program has in its environment, and none may say.
pub(super) const TOKEN: &str = "a.token.of-nobody";
pub(super) const TABLES: [&str; 2] = ["members", "payments"];

/// How a command ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// `None` if a signal ended it.
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl Ended {
    #[track_caller]
    pub(super) fn fine(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.out
    }

    #[track_caller]
    pub(super) fn failed(&self, code: i32, says: &str) {
        assert!(self.code == Some(code) && self.err.contains(says), "{self:#?}");
    }
}

/// A process of the built program. It is killed when it is dropped.
pub(super) struct Program {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    /// Its standard output, where it was asked for its first line.
    _lines: Option<BufReader<ChildStdout>>,
}

impl Program {
    /// SIGKILL, and its end is waited for. False if it had ended before.
    pub(super) fn kill(&mut self) -> bool {
        let lived = self.child.try_wait().unwrap().is_none();
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        // Between the two it may have ended by itself.
        lived && status.code().is_none()
    }

    /// Sends a signal by its name.
    pub(super) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// The number of its process.
    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs.
    pub(super) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(super) fn end(mut self) -> Ended {
        let mut status: Option<ExitStatus> = None;
        wait_for("a command ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        Ended { code: status.unwrap().code(), out: self.out(), err: self.err() }
    }

    /// What it has printed so far.
    pub(super) fn out(&self) -> String {
        String::from_utf8(std::fs::read(&self.out).unwrap_or_default()).unwrap()
    }

    /// What it has said so far.
    pub(super) fn err(&self) -> String {
        String::from_utf8(std::fs::read(&self.err).unwrap_or_default()).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended, perhaps.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// See the module.
pub(super) struct Place {
    pub(super) folder: TempDir,
    pub(super) proxy: Proxy,
    hub: Option<Program>,
    programs: std::cell::Cell<usize>,
}

impl Place {
    /// A hub over a database with the application's tables and some members, and a proxy to it.
    pub(super) fn new(seed: u64) -> Place {
        let folder = tempfile::tempdir().unwrap();
        let db = Connection::open(folder.path().join("hub.db")).unwrap();
        db.pragma_update(None, "journal_mode", "WAL").unwrap();
        db.execute_batch(SCHEMA).unwrap();
        for member in 0..MEMBERS {
            let sql = "INSERT INTO members VALUES (?1, 'new', NULL)";
            db.execute(sql, [format!("m{member}")]).unwrap();
        }
        drop(db);
        let proxy = Proxy::new(seed);
        let mut place = Place { folder, proxy, hub: None, programs: Default::default() };
        place.start_hub();
        place
    }

    /// The same with desks that are in step.
    pub(super) fn with_desks(seed: u64, desks: &[&str]) -> Place {
        let place = Place::new(seed);
        for desk in desks {
            place.init(desk).end().fine();
        }
        place
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A connection as an application has it.
    pub(super) fn open(&self, name: &str) -> Connection {
        open(&self.path(name))
    }

    /// Starts `driftless` with these arguments, which white space separates.
    pub(super) fn start(&self, args: &str) -> Program {
        self.start_command(self.command(args))
    }

    /// A command that has not been started.
    pub(super) fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftless"));
        command.args(args.split_whitespace());
        self.prepare(&mut command);
        command
    }

    /// The same within a shell that sets something first: `"$@"` is the command.
    pub(super) fn command_in(&self, shell: &str, args: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", shell, "sh", env!("CARGO_BIN_EXE_driftless")]);
        command.args(args.split_whitespace());
        self.prepare(&mut command);
        command
    }

    fn prepare(&self, command: &mut Command) {
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        let ours = driftless::remote::VARIABLES.into_iter().chain(driftless::remote::URL_VARIABLES);
        for variable in ours.chain(["NO_COLOR"]) {
            command.env_remove(variable);
        }
        command.env("DRIFTLESS_AUTH_TOKEN", TOKEN);
    }

    /// Starts a command, with what it prints in files.
    pub(super) fn start_command(&self, mut command: Command) -> Program {
        let (out, err) = self.prints();
        let file = |path: &Path| File::create(path).unwrap();
        command.stdout(file(&out)).stderr(file(&err));
        Program { child: command.spawn().unwrap(), out, err, _lines: None }
    }

    fn prints(&self) -> (PathBuf, PathBuf) {
        let number = self.programs.get() + 1;
        self.programs.set(number);
        (self.path(&format!("{number}.out")), self.path(&format!("{number}.err")))
    }

    /// Starts a hub, and leads the proxy to it.
    pub(super) fn start_hub(&mut self) -> SocketAddr {
        let command = self.command("hub --db hub.db --listen 127.0.0.1:0");
        self.start_hub_by(command)
    }

    /// The same by a command.
    pub(super) fn start_hub_by(&mut self, mut command: Command) -> SocketAddr {
        let (out, err) = self.prints();
        command.stdout(Stdio::piped()).stderr(File::create(&err).unwrap());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let program = Program { child, out, err, _lines: Some(lines) };
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.unwrap_or_else(|| panic!("no hub: {line}{}", program.err()));
        let address = address.parse().unwrap();
        self.hub = Some(program);
        self.proxy.lead_to(Some(address));
        address
    }

    /// SIGKILL for the hub. False if it had ended before.
    pub(super) fn kill_hub(&mut self) -> bool {
        self.proxy.lead_to(None);
        self.hub.take().is_some_and(|mut hub| hub.kill())
    }

    /// The hub.
    pub(super) fn hub(&mut self) -> &mut Program {
        self.hub.as_mut().expect("there is a hub")
    }

    /// `driftless init` on a desk. Its tables are made by the application before.
    pub(super) fn init(&self, desk: &str) -> Program {
        self.make(desk);
        self.start(&self.init_args(desk))
    }

    pub(super) fn init_args(&self, desk: &str) -> String {
        format!("init --db {desk} --remote {} --tables members,payments", self.proxy.url())
    }

    /// The application's database, if it is not there yet.
    pub(super) fn make(&self, desk: &str) {
        let db = self.open(desk);
        let there = db.table_exists(None, "members").unwrap();
        if !there {
            db.pragma_update(None, "journal_mode", "WAL").unwrap();
            db.execute_batch(SCHEMA).unwrap();
        }
    }

    /// `driftless sync` to its end.
    pub(super) fn sync(&self, desk: &str) -> Ended {
        self.start(&format!("sync --db {desk}")).end()
    }

    /// Heals the network, and synchronises the desks until nothing moves any more.
    pub(super) fn settle(&self, desks: &[&str]) {
        self.proxy.heal();
        // The second desk's push comes to the first one, and what that makes to the second.
        for _ in 0..2 {
            for desk in desks {
                self.sync(desk).fine();
            }
        }
    }

    /// `driftless status --json`, with its exit code.
    pub(super) fn status(&self, desk: &str) -> (Option<i32>, serde_json::Value) {
        let ended = self.start(&format!("status --db {desk} --json")).end();
        let status = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{ended:?}"));
        (ended.code, status)
    }
}

/// A connection as an application has it.
pub(super) fn open(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    db.busy_timeout(PATIENCE).unwrap();
    db.pragma_update(None, "foreign_keys", true).unwrap();
    db
}

/// A moment between now and `most`.
pub(super) fn moment(random: &mut fastrand::Rng, most: Duration) {
    let micros = random.u64(..=most.as_micros() as u64);
    std::thread::sleep(Duration::from_micros(micros));
}
