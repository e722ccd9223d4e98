//! A client of the sidecar, which keeps all messages. At its end they are held against the schema.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::super::{Folder, LOOK, PATIENCE};
use crate::support::tools::{Tool, node_modules, require};

/// A message, and what it is held against.
struct Kept {
    /// The definition of the whole message; `None` for one that is not to be valid.
    message: Json,
    to_sidecar: bool,
    /// The method of a request or of a notification, or of the request that is answered.
    method: Option<String>,
}

/// A client.
pub(super) struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Option<Receiver<String>>,
    told: VecDeque<Json>,
    kept: Vec<Kept>,
    methods: HashMap<u64, String>,
    next: u64,
}

impl Client {
    /// Starts a sidecar.
    pub(super) fn start(folder: &Folder, args: &str) -> Client {
        let mut client = Client::start_deaf(folder, args);
        client.listen();
        client
    }

    /// Starts a sidecar and does not read what it writes.
    pub(super) fn start_deaf(folder: &Folder, args: &str) -> Client {
        let mut command: Command = folder.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let (told, kept, methods) = (VecDeque::new(), Vec::new(), HashMap::new());
        Client { child, stdin, lines: None, told, kept, methods, next: 1 }
    }

    /// Begins to read.
    pub(super) fn listen(&mut self) {
        let out = BufReader::new(self.child.stdout.take().unwrap());
        let (line, lines) = channel();
        std::thread::spawn(move || {
            for read in out.lines().map_while(Result::ok) {
                // The test has ended, perhaps.
                let _ = line.send(read);
            }
        });
        self.lines = Some(lines);
    }

    /// Writes bytes as they are.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// What the sidecar's standard input is written with.
    pub(super) fn take_stdin(&mut self) -> ChildStdin {
        self.stdin.take().unwrap()
    }

    /// Sends a request, and gives its id.
    pub(super) fn send(&mut self, method: &str, params: Json) -> u64 {
        let id = self.next;
        self.next += 1;
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.write(format!("{message}\n").as_bytes());
        self.methods.insert(id, method.to_owned());
        self.kept.push(Kept { message, to_sidecar: true, method: Some(method.to_owned()) });
        id
    }

    /// The next message; `None` once the sidecar has closed its standard output.
    pub(super) fn next(&mut self) -> Option<Json> {
        let line = match self.lines.as_ref().unwrap().recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return None,
            Err(error) => panic!("{error}"),
        };
        let message: Json = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let method = match message["method"].as_str() {
            Some(method) => Some(method.to_owned()),
            None => message["id"].as_u64().and_then(|id| self.methods.get(&id).cloned()),
        };
        self.kept.push(Kept { message: message.clone(), to_sidecar: false, method });
        Some(message)
    }

    /// The next message that is an answer to anything. Notifications are kept for later.
    pub(super) fn any_answer(&mut self) -> Json {
        loop {
            let message = self.next().expect("the sidecar lives");
            match message["method"].is_string() {
                true => self.told.push_back(message),
                false => return message,
            }
        }
    }

    /// The answer to the request with this id.
    pub(super) fn answer(&mut self, id: u64) -> Result<Json, Json> {
        loop {
            let answer = self.any_answer();
            if answer["id"] == id {
                return match answer.get("result") {
                    Some(result) => Ok(result.clone()),
                    None => Err(answer["error"].clone()),
                };
            }
        }
    }

    /// Calls a method that fails, and gives the error.
    #[track_caller]
    pub(super) fn refused(&mut self, method: &str, params: Json) -> Json {
        let id = self.send(method, params);
        self.answer(id).expect_err(method)
    }

    /// Calls a method.
    #[track_caller]
    pub(super) fn call(&mut self, method: &str, params: Json) -> Json {
        let id = self.send(method, params);
        self.answer(id).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Agrees on the version of the protocol.
    pub(super) fn agree(&mut self) -> Json {
        self.call("initialize", json!({ "protocol": 1 }))
    }

    /// The parameters of the first notification of this name from now on that `is` takes. Those in
    /// front of it are dropped.
    pub(super) fn told(&mut self, name: &str, is: impl Fn(&Json) -> bool) -> Json {
        loop {
            let message = match self.told.pop_front() {
                Some(message) => message,
                None => self.next().expect("the sidecar lives"),
            };
            if message["method"] == name && is(&message["params"]) {
                return message["params"].clone();
            }
        }
    }

    /// Waits for a status.
    pub(super) fn status(&mut self, is: impl Fn(&Json) -> bool) -> Json {
        self.told("status", is)
    }

    /// Forgets the notifications that were read.
    pub(super) fn forget(&mut self) {
        self.told.clear();
    }

    /// Sends a signal.
    #[cfg(unix)]
    pub(super) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Whether the process runs.
    pub(super) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Closes standard input.
    pub(super) fn close(&mut self) {
        self.stdin = None;
    }

    /// Waits for the end of the process. Gives its exit code, and what it wrote to stderr.
    pub(super) fn end(&mut self) -> (Option<i32>, String) {
        self.end_within(PATIENCE)
    }

    /// The same in a shorter time than the usual patience.
    pub(super) fn end_within(&mut self, patience: Duration) -> (Option<i32>, String) {
        let mut looks = 0;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(LOOK * looks < patience, "it does not end");
            looks += 1;
            std::thread::sleep(LOOK);
        };
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (status.code(), log)
    }

    /// All messages, as they were sent and received.
    pub(super) fn transcript(&self) -> String {
        self.kept.iter().map(|kept| format!("{}\n", kept.message)).collect()
    }

    /// Holds all messages against the schema.
    fn check(&self) {
        let (Some(node), Some(_)) = (require(Tool::Node), require(Tool::NodePackage("ajv"))) else {
            return;
        };
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(node);
        command.arg(root.join("tests/it/cli/stdio/validate.mjs"));
        command.arg(root.join("schema/sidecar.json"));
        command.env("DRIFTLESS_TEST_NODE_MODULES", node_modules());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        for kept in &self.kept {
            let Kept { message, to_sidecar, method } = kept;
            let line = json!({ "message": message, "to_sidecar": to_sidecar, "method": method });
            writeln!(input, "{line}").unwrap();
        }
        drop(input);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}{complaints}");
        assert_eq!(said, format!("{} valid\n", self.kept.len()));
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It has ended, perhaps.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            self.check();
        }
    }
}
