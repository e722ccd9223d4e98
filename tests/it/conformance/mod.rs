//! One suite for every implementation of `Remote`: the one in memory that most tests use, `Libsql`
//! over HTTP to the hub, to libSQL's own engine behind a small server (`libsql_server.mjs`), and to
//! the server that `DRIFTLESS_TEST_REMOTE` names, with the token in `DRIFTLESS_AUTH_TOKEN`: a libSQL
//! server or a Turso database.
//!
//! * [`contract`] is what the trait promises.
//! * [`protocol`] is what replicas do with it.
//!
//! # Caveats
//!
//! The named database is emptied before each check. It must hold nothing but what this suite left
//! there; otherwise the suite does not touch it, and fails.

mod contract;
mod protocol;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use driftless::Result;
use driftless::remote::{Answer, Batch, Libsql, Options, Remote, Token};
use tokio::runtime::Runtime;

use crate::hub::Running;
use crate::support::local_remote::LocalRemote;
use crate::support::tools::{Tool, node_modules, require};

/// The most bytes of an answer of [`Subject::narrow`].
const NARROW: u64 = 100_000;

/// Tables that the suite makes begin so.
const PREFIX: &str = "conformance_";

/// An implementation under test.
struct Subject {
    runtime: Runtime,
    connect: Box<dyn Fn(Options) -> Arc<dyn Remote> + Send + Sync>,
    remote: Arc<dyn Remote>,
    /// The one in memory, whose limits are set by hand.
    local: Option<Arc<LocalRemote>>,
}

impl Subject {
    fn over_http(runtime: Runtime, url: String, token: Option<String>) -> Subject {
        let connect = Box::new(move |options: Options| -> Arc<dyn Remote> {
            let token = token.as_deref().map(|token| Token::new(token).unwrap());
            Arc::new(Libsql::connect(&url, token, options).unwrap())
        });
        let remote = connect(Options { allow_plain_http: true, ..Options::default() });
        Subject { runtime, connect, remote, local: None }
    }

    /// Another client of the same database.
    fn another(&self) -> Arc<dyn Remote> {
        (self.connect)(Options { allow_plain_http: true, ..Options::default() })
    }

    /// One that takes answers of [`NARROW`] bytes at the most.
    fn narrow(&self) -> Arc<dyn Remote> {
        if let Some(local) = &self.local {
            local.set_caps(usize::MAX, NARROW as usize);
        }
        let options =
            Options { allow_plain_http: true, answer_limit: NARROW, ..Options::default() };
        (self.connect)(options)
    }

    fn run(&self, writes: bool, statements: &[&str]) -> Result<Answer> {
        self.runtime.block_on(self.remote.run(batch(writes, statements)))
    }

    fn write(&self, statements: &[&str]) -> Answer {
        self.run(true, statements).unwrap()
    }

    /// The first value of a query's first row, as text.
    fn one(&self, sql: &str) -> String {
        self.run(false, &[sql]).unwrap().rows[0][0][0].to_string()
    }

    /// Leaves an empty database, if it is the suite's.
    fn clear(&self) {
        let all =
            "SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
             AND name NOT LIKE 'libsql\\_%' ESCAPE '\\' AND name NOT LIKE '\\_%' ESCAPE '\\'
             ORDER BY type = 'table', name";
        let found = self.run(false, &[all]).unwrap();
        let mut statements = Vec::new();
        for row in &found.rows[0] {
            let (kind, name) = (row[0].as_str().unwrap(), row[1].as_str().unwrap());
            assert!(
                name.starts_with(PREFIX) || name.starts_with("driftless_"),
                "DRIFTLESS_TEST_REMOTE must name a database of this suite's own: it has `{name}`"
            );
            if kind == "trigger" || kind == "table" {
                statements.push(format!("DROP {kind} \"{name}\""));
            }
        }
        // Children before their parents.
        statements.sort_by_key(|sql| (sql.contains("DROP table"), !sql.contains("payments")));
        for sql in &statements {
            self.write(&[sql]);
        }
    }
}

fn batch(writes: bool, statements: &[&str]) -> Batch {
    Batch { statements: statements.iter().map(|sql| (*sql).into()).collect(), writes }
}

/// In memory.
fn local(check: fn(&Subject)) {
    let remote = Arc::new(LocalRemote::new(""));
    let same = Arc::clone(&remote);
    let subject = Subject {
        runtime: Runtime::new().unwrap(),
        connect: Box::new(move |_| same.clone()),
        remote: remote.clone(),
        local: Some(remote),
    };
    check(&subject);
}

/// Over HTTP to a hub.
fn hub(check: fn(&Subject)) {
    let runtime = Runtime::new().unwrap();
    let hub = runtime.block_on(Running::start(|config| config.token = Some("s3cret".into())));
    let subject = Subject::over_http(runtime, hub.url.clone(), Some("s3cret".to_owned()));
    check(&subject);
    let Subject { runtime, remote, connect, .. } = subject;
    drop((remote, connect));
    runtime.block_on(hub.stop());
}

/// libSQL's own engine, served by Node.
struct Engine {
    server: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Engine {
    /// `None` where the test must be skipped.
    fn start(token: &str) -> Option<Engine> {
        let (node, _) = (require(Tool::Node)?, require(Tool::NodePackage("libsql"))?);
        let folder = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut server = Command::new(node)
            .arg(root.join("tests/it/conformance/libsql_server.mjs"))
            .arg(folder.path().join("remote.db"))
            .arg(token)
            .env("DRIFTLESS_TEST_NODE_MODULES", node_modules())
            // It ends when this does.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        let url = said.trim().strip_prefix("listening on ").expect("the server started").to_owned();
        Some(Engine { server, url, _folder: folder })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        let ended = self.server.wait();
        if !std::thread::panicking() {
            assert!(ended.unwrap().success(), "the server failed; what it said is above");
        }
    }
}

/// Over HTTP to libSQL's engine.
fn engine(check: fn(&Subject)) {
    let Some(engine) = Engine::start("s3cret") else { return };
    let token = Some("s3cret".to_owned());
    check(&Subject::over_http(Runtime::new().unwrap(), engine.url.clone(), token));
}

/// Over HTTP to whatever is named.
fn named(check: fn(&Subject)) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let Ok(url) = std::env::var("DRIFTLESS_TEST_REMOTE") else {
        #[expect(clippy::print_stderr, reason = "a person must see that a test did not run")]
        {
            eprintln!("skipped: DRIFTLESS_TEST_REMOTE names no server");
        }
        return;
    };
    let _turn: MutexGuard<'_, ()> = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let token = std::env::var("DRIFTLESS_AUTH_TOKEN").ok();
    let subject = Subject::over_http(Runtime::new().unwrap(), url, token);
    subject.clear();
    check(&subject);
    subject.clear();
}

/// Makes a test of each check.
macro_rules! suite {
    ($($check:ident),+ $(,)?) => {
        mod in_memory { $(#[test] fn $check() { crate::conformance::local(super::$check); })+ }
        mod over_http_to_the_hub {
            $(#[test] fn $check() { crate::conformance::hub(super::$check); })+
        }
        mod over_http_to_libsqls_engine {
            $(#[test] fn $check() { crate::conformance::engine(super::$check); })+
        }
        mod of_the_named_server {
            $(#[test] fn $check() { crate::conformance::named(super::$check); })+
        }
    };
}
pub(crate) use suite;
