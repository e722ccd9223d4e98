//! Runs the golden scripts of the machine alone: `fixtures/scripts/machine/*`.
//!
//! One replica, its file, and a remote in memory. The script is the driver: it gives every input by
//! hand, and each effect is printed, so that a script fixes the order of effects, the content of
//! requests, all waiting times and the status that is shown. Nothing else acts.
//!
//! | command | does |
//! | --- | --- |
//! | `> SQL` | before `desk`: tables of both sides, instead of `members` and `payments` |
//! | `web:> SQL` | the web application writes; before `desk`, on the remote alone |
//! | `desk` | a replica whose first sync is done, and its machine, which is not started |
//! | `fresh [only=TABLE]` | a replica whose machine has the first sync to do |
//! | `app:> SQL` | the application writes; the machine is not told |
//! | `start`, `commit`, `sync`, `accept`, `wake`, `shutdown`, `reconfigure URL` | inputs |
//! | `continue [events=N]` | the same, up to so many events |
//! | `timer [after=MS]` | time passes until the last wait is over, and a timer |
//! | `pass MS` | time passes, and nothing is said |
//! | `answer [ID]` | the request reaches the remote; its answer comes back |
//! | `lose [ID]` | the request reaches the remote; its answer is lost |
//! | `fail CODE [MESSAGE] [id=ID]` | the request does not reach it; the code is one of `driftless::Code` |
//! | `garble WHAT [id=ID]` | `answer`, with a `page`, `count`, `chunk` or `push` that is not valid, or without the page's `first` event |
//! | `caps [request=BYTES] [answer=BYTES]` | limits of the remote |
//! | `settle [events=N]` | answers and pages until the machine waits; prints the last effects only |
//! | `backup`, `restore` | the file is copied; its content becomes that again, in place |
//! | `snapshot`, `rollback` | the same with the remote |
//! | `remove`, `put` | the file is moved away; the backup is put in its place |
//! | `restart` | another process |
//! | `status` | what is shown of the replica |
//! | `rows TABLE`, `log` | of the file; of the remote |
//!
//! Ids are numbered in the order in which they are printed. `UPDATE_GOLDENFILES=1 cargo test --test
//! it sync::machine` writes the output anew; read the difference.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;

use driftless::event::ReplicaId;
use driftless::event::value::Value;
use driftless::event::verdict::TOO_LARGE;
use driftless::remote::{Batch, rejected};
use driftless::store::{Setup, Store};
use driftless::sync::{
    Config, Effect, Input, Machine, Now, POLL_MS, Plan, RequestId, Status, Summary, SyncState,
    Tables, Ticket,
};
use driftless::{Code, Error as Failure};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::blocking::initialise;
use crate::support::desk::{SCHEMA, plan};
use crate::support::engine::Engine;
use crate::support::golden::every_golden_script;
use crate::support::local_remote::{LocalRemote, read};
use crate::support::statement::inlined;

type Outcome = Result<String, Box<dyn Error>>;

/// ms since 1970 when a script begins.
const BEGIN_MS: i64 = 1_700_000_000_000;

/// What a script is told that answers a request which is not there.
const IDLE: &str = "nothing is under way";

/// A replica without a driver.
struct Bench {
    schema: String,
    web: String,
    folder: TempDir,
    remote: Option<Arc<LocalRemote>>,
    snapshot: Option<Engine>,
    plan: Option<Plan>,
    app: Option<Connection>,
    machine: Option<Machine>,
    now: Now,
    wait: u64,
    requests: BTreeMap<u64, Batch>,
    last: u64,
    tickets: u64,
    started: bool,
    ended: bool,
    logged: i64,
    ids: Vec<String>,
}

impl Bench {
    fn new() -> Self {
        Bench {
            schema: String::new(),
            web: String::new(),
            folder: tempfile::tempdir().unwrap(),
            remote: None,
            snapshot: None,
            plan: None,
            app: None,
            machine: None,
            now: Now { steady_ms: 1_000, wall_ms: BEGIN_MS },
            wait: 0,
            requests: BTreeMap::new(),
            last: 0,
            tickets: 0,
            started: false,
            ended: false,
            logged: 0,
            ids: Vec::new(),
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("desk.db")
    }

    fn remote(&self) -> &Arc<LocalRemote> {
        self.remote.as_ref().expect("a script begins with `desk` or `fresh`")
    }

    fn machine(&mut self) -> &mut Machine {
        self.machine.as_mut().expect("a script begins with `desk` or `fresh`")
    }

    fn connect(&self) -> Connection {
        let db = Connection::open(self.path()).unwrap();
        db.pragma_update(None, "journal_mode", "WAL").unwrap();
        db.pragma_update(None, "foreign_keys", true).unwrap();
        db
    }

    fn begin(&mut self) {
        if self.schema.is_empty() {
            self.schema = SCHEMA.to_owned();
        }
        let schema = format!("{};{}", self.schema, self.web);
        self.remote = Some(Arc::new(LocalRemote::new(&schema)));
        let app = self.connect();
        app.execute_batch(&self.schema).unwrap();
        self.app = Some(app);
    }

    fn desk(&mut self) -> Outcome {
        self.begin();
        let (store, _) = initialise(plan(self.path(), 1, &[]), self.remote().clone())?;
        self.run(store);
        Ok(String::new())
    }

    fn fresh(&mut self, only: Option<&str>) -> Outcome {
        self.begin();
        let mut plan = plan(self.path(), 1, &[]);
        let mut tables = vec!["members", "payments"];
        if let Some(only) = only {
            tables = vec![only];
            plan.tables = Tables::Named(vec![only.to_owned()]);
        }
        let named = tables.iter().map(|table| ((*table).to_owned(), Default::default()));
        let setup = Setup { url: plan.url.clone(), tables: named.collect(), epoch: None };
        let store = Store::init(&self.path(), &setup, ReplicaId(plan.replica.0))?;
        self.plan = Some(plan);
        self.run(store);
        Ok(String::new())
    }

    fn run(&mut self, store: Store) {
        let config = Config {
            poll_ms: POLL_MS,
            health_bound_ms: 60_000,
            seed: 7,
            identity_seed: 7,
            push: driftless::sync::PushSize::default(),
            pull: driftless::sync::PullSize::default(),
        };
        self.machine = Some(Machine::new(store, self.plan.clone(), config).unwrap());
        (self.started, self.ended) = (false, false);
    }

    fn restart(&mut self) -> Outcome {
        self.machine = None;
        self.requests.clear();
        let store = Store::open(&self.path())?;
        self.run(store);
        Ok(String::new())
    }

    /// Gives the machine an input, and tells its effects.
    fn input(&mut self, input: Input) -> String {
        self.started |= !matches!(input, Input::LocalCommit | Input::Answer(..));
        self.ended |= matches!(input, Input::Shutdown);
        let now = self.now;
        let effects = self.machine().handle(now, input);
        let idle = !effects.iter().any(|effect| {
            matches!(effect, Effect::Wait(_) | Effect::Continue | Effect::Send(..))
                || matches!(effect, Effect::Reopened)
        });
        let mut told = String::new();
        for effect in effects {
            let line = self.effect(effect);
            writeln!(told, "{line}").unwrap();
        }
        let silent = self.started && !self.ended && idle && self.requests.is_empty();
        assert!(!silent, "the machine fell silent: {told}");
        told
    }

    fn effect(&mut self, effect: Effect) -> String {
        match effect {
            Effect::Send(id, batch) => {
                let told = describe(&batch);
                self.last = id.0;
                self.requests.insert(id.0, batch);
                format!("send {}: {told}", id.0)
            }
            Effect::Wait(until) => {
                self.wait = until;
                format!("wait {} ms", until.saturating_sub(self.now.steady_ms))
            }
            Effect::Continue => "continue".to_owned(),
            Effect::Notify(changes) if changes.missed => "notify: anything may be new".to_owned(),
            Effect::Notify(changes) => {
                let rows =
                    changes.rows.iter().take(4).map(|row| format!("{}{}", row.table, row.key.0));
                let more = changes.rows.len().saturating_sub(4);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let rows: Vec<_> = rows.collect();
                format!("notify: {}{more}, cursor {}", rows.join(", "), changes.cursor)
            }
            Effect::StatusChanged => "status changed".to_owned(),
            Effect::Settled(Ticket(ticket), Ok(summary)) => {
                format!("settled {ticket}: {}", summed(&summary))
            }
            Effect::Settled(Ticket(ticket), Err(error)) => {
                format!("settled {ticket}: {}", failure(&error))
            }
            Effect::Initialised(report) => format!(
                "initialised: made here {:?}, made there {:?}, installed {}, rows {}",
                report.made_here,
                report.made_there,
                report.installed,
                report.adopted.map_or("none".to_owned(), |adopted| format!(
                    "{} fetched, {} local, {} different",
                    adopted.fetched, adopted.local, adopted.different
                ))
            ),
            Effect::Lost => "lost".to_owned(),
            Effect::Reopened => "reopened".to_owned(),
        }
    }

    /// The request with this id, or the last one.
    fn request(&mut self, id: Option<&str>) -> Result<(RequestId, Batch), Box<dyn Error>> {
        let id = id.map_or(Ok(self.last), str::parse)?;
        let batch = self.requests.remove(&id).ok_or(IDLE)?;
        Ok((RequestId(id), batch))
    }

    fn answer(&mut self, id: Option<&str>) -> Outcome {
        let (id, batch) = self.request(id)?;
        let outcome = self.remote().run_now(batch);
        Ok(self.log_news() + &self.input(Input::Answer(id, outcome)))
    }

    fn lose(&mut self, id: Option<&str>) -> Outcome {
        let (id, batch) = self.request(id)?;
        self.remote().run_now(batch)?;
        let error = Failure::unavailable("the answer is lost");
        Ok(self.log_news() + &self.input(Input::Answer(id, Err(error))))
    }

    fn fail(&mut self, code: &str, message: &str, options: &[(&str, &str)]) -> Outcome {
        let error = match code.replace('-', "_").parse() {
            // What the remote says decides which error it is.
            Ok(Code::Rejected) => rejected(message),
            Ok(code) => Failure::new(code, message),
            Err(_) => return Err("there is no such code".into()),
        };
        let (id, _) = self.request(option(options, "id"))?;
        Ok(self.input(Input::Answer(id, Err(error))))
    }

    /// An answer in which something is wrong.
    fn garble(&mut self, what: &str, id: Option<&str>) -> Outcome {
        let (id, batch) = self.request(id)?;
        self.remote().set_caps(usize::MAX, usize::MAX);
        let mut answer = self.remote().run_now(batch)?;
        let page = answer.rows.len().saturating_sub(2);
        match what {
            "page" => answer.rows[page][0][0] = Value::Blob(b"no lines".to_vec()),
            "chunk" => answer.rows[page][0][1] = Value::Integer(7),
            "count" => _ = answer.rows.pop(),
            // Behind it are a column that is not known, and the schema's version.
            "push" => answer.rows[page - 3].clear(),
            "first" => hide_first(&mut answer.rows[page]),
            other => return Err(format!("nothing is called {other}").into()),
        }
        Ok(self.log_news() + &self.input(Input::Answer(id, Ok(answer))))
    }

    /// Carries requests and integrates pages until the machine waits.
    fn settle(&mut self, events: usize) -> Outcome {
        let (mut told, mut rounds) = (String::new(), 0);
        let mut now = String::new();
        loop {
            if self.requests.contains_key(&self.last) {
                now = self.answer(None)?;
            } else if now.contains("continue") || rounds == 0 {
                now = self.input(Input::Continue { events });
            } else {
                break;
            }
            let lines = now.lines().filter(|line| {
                !["continue", "status changed"].contains(line) && !line.starts_with("wait ")
            });
            lines.for_each(|line| writeln!(told, "{line}").unwrap());
            rounds += 1;
            assert!(rounds < 1_000, "it never settles: {told}");
        }
        Ok(told)
    }

    fn timer(&mut self, after: Option<&str>) -> Outcome {
        let until = match after {
            Some(ms) => self.now.steady_ms + ms.parse::<u64>()?,
            None => self.wait,
        };
        self.pass(until.saturating_sub(self.now.steady_ms));
        Ok(self.input(Input::Timer))
    }

    fn pass(&mut self, ms: u64) {
        self.now.steady_ms += ms;
        self.now.wall_ms += ms as i64;
    }

    fn ticket(&mut self, input: impl FnOnce(Ticket) -> Input) -> String {
        self.tickets += 1;
        self.input(input(Ticket(self.tickets)))
    }

    fn copy(from: &Connection, to: &std::path::Path) -> Outcome {
        let mut to = Connection::open(to)?;
        let backup = rusqlite::backup::Backup::new(from, &mut to)?;
        backup.run_to_completion(1_000, std::time::Duration::ZERO, None)?;
        Ok(String::new())
    }

    fn file(&mut self, what: &str) -> Outcome {
        let kept = self.folder.path().join("kept.db");
        match what {
            "backup" => Self::copy(self.app.as_ref().expect("the application is there"), &kept),
            "restore" => Self::copy(&Connection::open(&kept)?, &self.path()),
            "remove" => {
                self.app = None;
                for ending in ["", "-wal", "-shm"] {
                    let path = self.folder.path().join(format!("desk.db{ending}"));
                    let _ = std::fs::rename(&path, path.with_extension("away"));
                }
                Ok(String::new())
            }
            _ => {
                std::fs::copy(&kept, self.path())?;
                self.app = Some(self.connect());
                Ok(String::new())
            }
        }
    }

    /// The log's new events.
    fn log_news(&mut self) -> String {
        let sql = format!(
            "SELECT 'log #' || seq || ' ' || CASE origin WHEN 'web' THEN 'web' ELSE 'desk' END \
             || ' ' || tbl || pk || ' ' || op || ' ' || verdict || coalesce(': ' || reason, '') \
             FROM driftless_events WHERE seq > {} ORDER BY seq",
            self.logged
        );
        let has = "SELECT count(*) FROM sqlite_schema WHERE name = 'driftless_events'";
        if self.remote().read(has) != "1" {
            return String::new();
        }
        let news = self.remote().read(&sql);
        let head = self.remote().read("SELECT coalesce(max(seq), 0) FROM driftless_events");
        self.logged = head.parse().unwrap();
        let lines: Vec<_> = news.lines().filter(|line| !line.is_empty()).collect();
        match lines.as_slice() {
            [] => String::new(),
            [first, .., last] if lines.len() > 12 => {
                format!("{first}\n… {} more\n{last}\n", lines.len() - 2)
            }
            all => all.join("\n") + "\n",
        }
    }

    fn status(&mut self) -> String {
        let now = self.now;
        let status = self.machine().status(now).unwrap();
        shown(&status, now)
    }

    /// Ids as numbers in the order of their appearance, and paths without their folder.
    fn without_chance(&mut self, text: &str) -> String {
        let text = text.replace(&format!("{}/", self.folder.path().display()), "");
        let mut out = String::new();
        let in_id = |c: char| c.is_ascii_digit() || c.is_ascii_uppercase();
        let mut rest = text.as_str();
        while let Some(at) = rest.find(in_id) {
            let (before, from) = rest.split_at(at);
            let end = from.find(|c| !in_id(c)).unwrap_or(from.len());
            let (word, after) = from.split_at(end);
            out.push_str(before);
            if is_id(word) {
                let place = self.ids.iter().position(|id| id == word).unwrap_or_else(|| {
                    self.ids.push(word.to_owned());
                    self.ids.len() - 1
                });
                write!(out, "id-{}", place + 1).unwrap();
            } else {
                out.push_str(word);
            }
            rest = after;
        }
        out + rest
    }
}

/// Takes the first event out of a page.
fn hide_first(rows: &mut driftless::remote::Rows) {
    let [bytes, last, count, head] = rows[0].as_mut_slice() else { panic!("it is a page") };
    let all = bytes.as_bytes().unwrap().to_vec();
    let left = count.as_integer().unwrap() - 1;
    *count = Value::Integer(left);
    match all.iter().position(|byte| *byte == b'\n') {
        Some(end) => *bytes = Value::Blob(all[end + 1..].to_vec()),
        None => (*bytes, *last, *head) = (Value::Null, Value::Null, Value::Null),
    }
}

fn option<'a>(options: &[(&str, &'a str)], name: &str) -> Option<&'a str> {
    options.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
}

fn summed(summary: &Summary) -> String {
    let Summary { pushed, applied, superseded, rejected, pulled, requests, seconds, .. } = summary;
    format!(
        "pushed {pushed} ({applied} applied, {superseded} superseded, {rejected} rejected), \
         pulled {pulled}, {requests} requests, {seconds} s"
    )
}

fn failure(error: &Failure) -> String {
    let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{:?}: {}{hint}", error.kind(), error.message())
}

fn shown(status: &Status, now: Now) -> String {
    let name = |state: SyncState| serde_json::to_string(&state).unwrap().replace('"', "");
    let health = serde_json::to_string(&status.health).unwrap().replace('"', "");
    let mut out = format!(
        "state {}, health {health}, reachable {}, pending {}, cursor {}, lag {}",
        name(status.state),
        status.remote.reachable.map_or("?", |yes| if yes { "yes" } else { "no" }),
        status.pending,
        status.cursor,
        status.lag
    );
    let success = status.last_success.map(|then| now.wall_ms - then);
    let success = success.map_or("none".to_owned(), |ms| format!("{ms} ms ago"));
    write!(out, ", success {success}").unwrap();
    if status.in_parts {
        out.push_str(", in parts");
    }
    if status.conflicts + status.quarantined > 0 {
        write!(out, ", conflicts {}, quarantined {}", status.conflicts, status.quarantined)
            .unwrap();
    }
    writeln!(out, ", replica {}, former {}", status.replica, status.identity.len()).unwrap();
    if let Some(first) = &status.first_sync {
        writeln!(out, "first sync: {}", serde_json::to_string(first).unwrap()).unwrap();
    }
    if let Some(trouble) = &status.trouble {
        writeln!(out, "trouble: {trouble}").unwrap();
    }
    if let Some(hint) = &status.hint {
        writeln!(out, "hint: {hint}").unwrap();
    }
    out
}

/// The text of each statement.
fn statements(batch: &Batch) -> Vec<String> {
    batch.statements.iter().map(inlined).collect()
}

/// What follows a word in SQL, as far as it is a number.
fn number_after(sql: &str, word: &str) -> u64 {
    let from = sql.find(word).map_or("", |at| &sql[at + word.len()..]);
    let end = from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len());
    from[..end].parse().unwrap_or(0)
}

/// How many events a statement carries, how large it is where it is large, and how many of them are
/// pushed as rejected. What all events of a push have in common stands beside them.
fn events(sql: &str) -> String {
    let (mut found, mut refused) = (0, 0);
    let reasons = ["not allowed", "a trigger says no", TOO_LARGE];
    let says = |text: &str| usize::from(reasons.iter().any(|reason| text.contains(reason)));
    for text in sql.split("'[[").skip(1) {
        let end = text.find("]]'").expect("the text ends");
        let json = format!("[[{}]]", text[..end].replace("''", "'"));
        let Ok(serde_json::Value::Array(all)) = serde_json::from_str(&json) else { continue };
        // The tables' columns are such a text too.
        let is_event = |event: &&serde_json::Value| event[0].as_str().is_some_and(is_id);
        for event in all.iter().filter(is_event) {
            found += 1;
            refused += says(&event.to_string());
        }
    }
    if refused == 0 && says(sql) > 0 {
        refused = found;
    }
    let refused = if refused > 0 { format!(", {refused} as rejected") } else { String::new() };
    let kilobytes = sql.len() / 1_000;
    let size = if kilobytes > 100 { format!(" of {kilobytes} kB") } else { String::new() };
    let events = if found == 1 { "event" } else { "events" };
    format!("{found} {events}{size}{refused}")
}

/// Whether this is the text of a ULID.
fn is_id(text: &str) -> bool {
    text.len() == 26 && text.starts_with('0')
}

/// What a request is for.
fn describe(batch: &Batch) -> String {
    let mut said = Vec::new();
    for sql in statements(batch) {
        let sql = sql.as_str();
        if sql.starts_with("INSERT INTO driftless_inbox") {
            let staged = sql.contains("driftless_staged");
            said.push(match staged {
                true => "push what is staged".to_owned(),
                false => format!("push {}", events(sql)),
            });
        } else if sql.starts_with("INSERT INTO driftless_staged") {
            said.push(format!("stage {}", events(sql)));
        } else if sql.starts_with("CREATE TABLE IF NOT EXISTS driftless_staged") && batch.writes {
            said.push("make the staging table".to_owned());
        } else if sql.contains("substr(line, ") {
            let from = number_after(sql, "substr(line, ") - 1;
            let which = if sql.contains("WHERE id = '") { "an event asked for" } else { "a line" };
            said.push(format!("chunk of {which} from byte {from}"));
        } else if sql.contains("WHERE id IN (") {
            let ids = sql.split("WHERE id IN (").nth(1).unwrap_or_default();
            said.push(format!("look up {} events", ids.matches('\'').count() / 2));
        } else if sql.contains("group_concat(line") && sql.contains("FROM driftless_events") {
            let whole = if sql.contains("n.unit IS NOT l.unit") { ", whole" } else { "" };
            let after = number_after(sql, "WHERE e.seq > ");
            let most = number_after(sql, &format!("WHERE seq >= {after} + "));
            said.push(format!("pull after {after}, at most {most}{whole}"));
        } else if sql.contains("group_concat(line") {
            let from = sql.rfind("LIMIT ").unwrap_or_default();
            said.push(format!("rows, at most {}", number_after(&sql[from..], "LIMIT ")));
        } else if sql.starts_with("SELECT seq,id,(SELECT schema_version") {
            said.push(format!("look whether the log ends at {}", number_after(sql, "seq>=")));
        } else if sql.contains("FROM sqlite_schema ORDER BY") {
            said.push("read definitions".to_owned());
        } else if sql.contains("FROM driftless_tables ORDER BY") {
            said.push("read tables".to_owned());
        } else if sql.starts_with("INSERT INTO driftless_installs") {
            said.push("install".to_owned());
        }
    }
    said.dedup();
    if said.is_empty() { "identity alone".to_owned() } else { said.join("; ") }
}

impl goldenscript::Runner for Bench {
    type Command = goldenscript::Command;

    fn run(&mut self, command: &Self::Command, context: &goldenscript::Context) -> Outcome {
        let mut args = command.consume_args();
        let mut options = Vec::new();
        while let Some(pair) = args.next_key() {
            options.push(pair);
        }
        let names: Vec<&str> = std::iter::from_fn(|| args.next_pos()).collect();
        let events = option(&options, "events").map_or(Ok(usize::MAX), str::parse)?;
        let output = match (command.name.as_str(), names.as_slice()) {
            ("desk", []) => self.desk(),
            ("fresh", []) => self.fresh(option(&options, "only")),
            ("start", []) => Ok(self.input(Input::Start)),
            ("commit", []) => Ok(self.input(Input::LocalCommit)),
            ("wake", []) => Ok(self.input(Input::Wake)),
            ("shutdown", []) => Ok(self.input(Input::Shutdown)),
            ("reconfigure", [url]) => {
                Ok(self.input(Input::Reconfigured { url: (*url).to_owned() }))
            }
            ("sync", []) => Ok(self.ticket(Input::SyncNow)),
            ("accept", []) => Ok(self.ticket(Input::AcceptRemote)),
            ("continue", []) => Ok(self.input(Input::Continue { events })),
            ("timer", []) => self.timer(option(&options, "after")),
            ("pass", [ms]) => {
                self.pass(ms.parse()?);
                Ok(String::new())
            }
            ("answer", ids) => self.answer(ids.first().copied()),
            ("lose", ids) => self.lose(ids.first().copied()),
            ("fail", [kind]) => self.fail(kind, "the reason", &options),
            ("fail", [kind, message]) => self.fail(kind, message, &options),
            ("garble", [what]) => self.garble(what, option(&options, "id")),
            ("settle", []) => self.settle(events),
            ("caps", []) => {
                let cap = |name| option(&options, name).map_or(Ok(usize::MAX), str::parse);
                self.remote().set_caps(cap("request")?, cap("answer")?);
                Ok(String::new())
            }
            (what @ ("backup" | "restore" | "remove" | "put"), []) => self.file(what),
            ("snapshot", []) => {
                self.snapshot = Some(self.remote().snapshot());
                Ok(String::new())
            }
            ("rollback", []) => {
                self.remote().roll_back(self.snapshot.as_ref().ok_or("there is no snapshot")?);
                self.logged = 0;
                self.log_news();
                Ok(String::new())
            }
            ("restart", []) => self.restart(),
            ("status", []) => Ok(self.status()),
            ("rows", [table]) => {
                let sql = format!("SELECT * FROM {table} ORDER BY 1");
                Ok(read(self.app.as_ref().ok_or("the file is away")?, &sql))
            }
            ("log", []) => {
                self.logged = 0;
                Ok(self.log_news())
            }
            (sql, []) if sql.contains(' ') => return self.sql(context.prefix.as_deref(), sql),
            (name, _) => Err(format!("there is no command `{name}` with these arguments").into()),
        };
        let output = match output {
            Err(error) if error.to_string() == IDLE => IDLE.to_owned(),
            output => output?,
        };
        let said = self.without_chance(&output);
        let name = &command.name;
        let lines = said.lines().filter(|line| !line.is_empty());
        Ok(lines.map(|line| format!("{name}: {line}\n")).collect())
    }
}

impl Bench {
    fn sql(&mut self, who: Option<&str>, sql: &str) -> Outcome {
        match (who, &self.remote, &self.app) {
            (None, None, _) => self.schema.push_str(&format!("{sql};")),
            (Some("web"), None, _) => self.web.push_str(&format!("{sql};")),
            (Some("web"), Some(remote), _) => {
                if !remote.try_web(sql) {
                    return Err("the remote refuses that".into());
                }
                self.logged = self.remote().read(LOG_END).parse()?;
            }
            (Some("app"), _, Some(app)) => app.execute_batch(sql)?,
            _ => return Err("nobody can write that".into()),
        }
        Ok(String::new())
    }
}

/// The end of the remote's log, or 0 where it has none.
const LOG_END: &str = "SELECT coalesce((SELECT seq FROM sqlite_sequence \
    WHERE name = 'driftless_events'), 0)";

#[test]
fn every_script() {
    every_golden_script("fixtures/scripts/machine", Bench::new);
}
