//! What a remote in memory runs its SQL on: the SQLite that is bundled, or libSQL's own engine.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use driftless::event::value::Value;
use driftless::remote::{Rows, Statement};
use rusqlite::Connection;
use tempfile::TempDir;

use super::local_remote::{rows, rows_of};
use crate::support::tools::{Tool, node_modules, require};

/// A database of one of the engines.
pub(crate) enum Engine {
    /// The SQLite that is bundled.
    Bundled(Connection),
    /// libSQL's.
    Libsql(Box<LibsqlEngine>),
}

/// A connection that has the hash function of SQLean, as Turso and the hub have it.
pub(crate) fn with_hash(db: Connection) -> Connection {
    let flags = rusqlite::functions::FunctionFlags::SQLITE_UTF8;
    db.create_scalar_function("crypto_blake3", 1, flags, |call| {
        let bytes = call.get_raw(0).as_bytes_or_null().map_err(rusqlite::Error::from)?;
        Ok(bytes.map(|bytes| blake3::hash(bytes).as_bytes().to_vec()))
    })
    .unwrap();
    db
}

impl Engine {
    /// An empty database of the bundled SQLite.
    pub(crate) fn bundled() -> Engine {
        Engine::Bundled(with_hash(Connection::open_in_memory().unwrap()))
    }

    /// An empty one of libSQL's; `None` where the test must be skipped.
    pub(crate) fn libsql() -> Option<Engine> {
        let node = require(Tool::Node)?;
        require(Tool::NodePackage("libsql"))?;
        let folder = tempfile::tempdir().unwrap();
        Some(Engine::Libsql(Box::new(LibsqlEngine::start(node, folder))))
    }

    /// An empty one of the same kind.
    pub(crate) fn another(&self) -> Engine {
        match self {
            Engine::Bundled(_) => Engine::bundled(),
            Engine::Libsql(engine) => Engine::Libsql(Box::new(engine.another())),
        }
    }

    /// A copy of the whole database.
    pub(crate) fn copy(&self) -> Engine {
        match self {
            Engine::Bundled(from) => {
                let mut to = Connection::open_in_memory().unwrap();
                let backup = rusqlite::backup::Backup::new(from, &mut to).unwrap();
                backup.run_to_completion(1_000, std::time::Duration::ZERO, None).unwrap();
                drop(backup);
                Engine::Bundled(with_hash(to))
            }
            Engine::Libsql(engine) => Engine::Libsql(Box::new(engine.copy())),
        }
    }

    /// Runs any number of statements. An error is the engine's message.
    pub(crate) fn execute_batch(&self, sql: &str) -> Result<(), String> {
        match self {
            Engine::Bundled(db) => db.execute_batch(sql).map_err(message),
            Engine::Libsql(engine) => engine.ask("exec", sql).map(drop),
        }
    }

    /// Runs one statement, and gives its rows.
    pub(crate) fn rows(&self, statement: &Statement) -> Result<Rows, String> {
        match self {
            Engine::Bundled(db) => rows_of(db, statement).map_err(message),
            Engine::Libsql(engine) => engine.ask_with("rows", &statement.sql, &statement.args),
        }
    }

    /// The rows of a SELECT, whatever text is in them.
    pub(crate) fn look(&self, sql: &str) -> Rows {
        match self {
            Engine::Bundled(db) => rows(db, sql).unwrap(),
            Engine::Libsql(engine) => engine.ask("look", sql).unwrap(),
        }
    }

    /// Whether no transaction is open.
    pub(crate) fn is_autocommit(&self) -> bool {
        match self {
            Engine::Bundled(db) => db.is_autocommit(),
            Engine::Libsql(engine) => engine.pipe.borrow().autocommit,
        }
    }
}

/// libSQL's engine in a process of its own: see `libsql_engine.mjs`.
pub(crate) struct LibsqlEngine {
    node: PathBuf,
    folder: TempDir,
    process: Child,
    pipe: RefCell<Pipe>,
}

struct Pipe {
    /// `None` once it is to end.
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    autocommit: bool,
}

impl LibsqlEngine {
    /// On the file `remote.db` of the folder, whether it is there or not.
    fn start(node: PathBuf, folder: TempDir) -> LibsqlEngine {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support");
        let mut process = Command::new(&node)
            .arg(script.join("libsql_engine.mjs"))
            .arg(folder.path().join("remote.db"))
            .env("DRIFTLESS_TEST_NODE_MODULES", node_modules())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (process.stdin.take(), process.stdout.take().unwrap());
        let pipe = RefCell::new(Pipe { to, from: BufReader::new(from), autocommit: true });
        let engine = LibsqlEngine { node, folder, process, pipe };
        engine.ask("exec", "PRAGMA synchronous = OFF").unwrap();
        engine
    }

    fn another(&self) -> LibsqlEngine {
        LibsqlEngine::start(self.node.clone(), tempfile::tempdir().unwrap())
    }

    fn copy(&self) -> LibsqlEngine {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("remote.db");
        let sql = format!("VACUUM INTO '{}'", path.to_str().unwrap().replace('\'', "''"));
        self.ask("exec", &sql).unwrap();
        LibsqlEngine::start(self.node.clone(), folder)
    }

    fn ask(&self, what: &str, sql: &str) -> Result<Rows, String> {
        self.ask_with(what, sql, &[])
    }

    fn ask_with(&self, what: &str, sql: &str, args: &[Value]) -> Result<Rows, String> {
        let mut pipe = self.pipe.borrow_mut();
        let args: Vec<_> = args.iter().map(json).collect();
        let asked = serde_json::json!({ what: sql, "args": args });
        writeln!(pipe.to.as_mut().unwrap(), "{asked}").unwrap();
        let mut line = String::new();
        pipe.from.read_line(&mut line).unwrap();
        let answer: serde_json::Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("libSQL's engine ended at: {sql:.2000}"));
        pipe.autocommit = answer["auto"].as_bool().unwrap();
        if let Some(error) = answer["error"].as_str() {
            return Err(error.to_owned());
        }
        let rows = answer["rows"].as_array().unwrap().iter();
        Ok(rows.map(|row| row.as_array().unwrap().iter().map(value).collect()).collect())
    }
}

/// What SQLite says of an error.
pub(crate) fn message(error: rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message,
        other => other.to_string(),
    }
}

fn json(value: &Value) -> serde_json::Value {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Integer(integer) => integer.to_string().into(),
        Value::Real(real) => serde_json::json!({ "r": format!("{:016x}", real.to_bits()) }),
        Value::Text(text) => serde_json::json!({ "t": hex(text) }),
        Value::Blob(blob) => serde_json::json!({ "x": hex(blob) }),
    }
}

fn value(json: &serde_json::Value) -> Value {
    let tagged = |tag: &str| json[tag].as_str();
    let bytes = |hex: &str| -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(byte).collect()
    };
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::String(integer) => Value::Integer(integer.parse().unwrap()),
        _ if tagged("t").is_some() => Value::Text(bytes(tagged("t").unwrap())),
        _ if tagged("x").is_some() => Value::Blob(bytes(tagged("x").unwrap())),
        _ => {
            let bits = u64::from_str_radix(tagged("r").expect("a value"), 16).unwrap();
            Value::Real(f64::from_bits(bits))
        }
    }
}

impl Drop for LibsqlEngine {
    fn drop(&mut self) {
        drop(self.pipe.borrow_mut().to.take());
        let ended = self.process.wait();
        if !std::thread::panicking() {
            assert!(ended.unwrap().success(), "libSQL's engine failed in {:?}", self.folder.path());
        }
    }
}
