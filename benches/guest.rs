//! What the web application pays for being replicated: its requests to a hub, and opening the
//! database file, bare and with driftless.
//!
//! ```text
//! cargo bench --bench guest
//! DRIFTLESS_BENCH_SERVERS='http://127.0.0.1:8080 http://127.0.0.1:8081' cargo bench --bench guest
//! ```
//!
//! The second takes two servers with empty databases and without tokens instead of hubs. The first
//! becomes the bare one.
//!
//! Both files have the gym's seven tables with the same rows. Each statement is an HTTP request of
//! its own on a connection that stays open, as a web application on a serverless platform sends it.
//! The hub opens the file anew for each, as libSQL server does. The two files take turns. Prints
//! medians. `DRIFTLESS_BENCH_REQUESTS` is the number of requests of each kind, 500 unless it is
//! set. The hubs run in this process, on two cores with everything else.

#![allow(clippy::disallowed_methods, clippy::print_stdout, missing_docs)]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use driftless::remote::Remote as _;
use driftless::sync::{Plan, Tables, initialise};
use hyper::client::HttpConnector;
use hyper::{Body, Client, Request};
use rusqlite::{Connection, Statement};
use serde_json::{Value, json};
use support::{Place, Served};

const SCHEMA: &str = include_str!("../fixtures/gym/schema.sql");
const GENERATE: &str = include_str!("../fixtures/gym/generate.sql");
/// A small year.
const SIZE: &str = "CREATE TEMP TABLE gym_size AS
    SELECT 7 AS seed, 100 AS members, 1200 AS payments, 4000 AS checkins;";

const SELECT: &str = "SELECT name, email, plan_id, status FROM members WHERE id = ?";
const INSERT: &str = "INSERT INTO payments (id, member_id, amount_cents, method, paid_at)
    VALUES (?, ?, 8990, 'card', '2026-01-05T10:00:00.000Z')";
const UPDATE: &str = "UPDATE members SET phone = ? WHERE id = ?";
const DELETE: &str = "DELETE FROM payments WHERE id = ?";

/// The web application, with its own connection to a hub and to the hub's file.
struct Web {
    hub: Served,
    /// The hub's file, or a copy of the tables that a server has.
    path: PathBuf,
    client: Client<HttpConnector, Body>,
    url: String,
    db: Connection,
    members: Vec<String>,
}

impl Web {
    fn new(hub: Served, path: &Path) -> Web {
        let db = Connection::open(path).unwrap();
        db.pragma_update(None, "synchronous", "normal").unwrap();
        db.pragma_update(None, "foreign_keys", true).unwrap();
        db.busy_timeout(Duration::from_secs(10)).unwrap();
        let members = {
            let mut statement = db.prepare("SELECT id FROM members ORDER BY id").unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        let url = format!("{}/v3/pipeline", hub.url);
        Web { hub, path: path.to_owned(), client: Client::new(), url, db, members }
    }

    /// The text and the arguments of a statement of the `turn`-th time.
    fn arguments(&self, sql: &str, turn: usize) -> Vec<String> {
        let member = self.members[turn * 7 % self.members.len()].clone();
        let payment = support::id(turn);
        match sql {
            SELECT => vec![member],
            INSERT => vec![payment, member],
            UPDATE => vec![format!("+55 11 9{turn:08}"), member],
            DELETE => vec![payment],
            _ => unreachable!("there are four"),
        }
    }

    /// A request, its answer and the time that it took.
    fn send(&self, request: &Value) -> (Value, Duration) {
        let requests = json!([request, { "type": "close" }]);
        let body = json!({ "baton": null, "requests": requests }).to_string();
        let start = Instant::now();
        let answer = self.hub.block_on(async {
            let request = Request::post(&self.url).body(Body::from(body)).unwrap();
            let answer = self.client.request(request).await.unwrap();
            hyper::body::to_bytes(answer.into_body()).await.unwrap()
        });
        let took = start.elapsed();
        (serde_json::from_slice(&answer).unwrap(), took)
    }

    /// Gives a server the tables and the rows of the copy.
    fn upload(&self) {
        let sequence = |sql: &str| {
            let (answer, _) = self.send(&json!({ "type": "sequence", "sql": sql }));
            assert_eq!(answer["results"][0]["type"], json!("ok"), "{answer}");
        };
        sequence(SCHEMA);
        for table in
            ["plans", "trainers", "members", "classes", "equipment", "payments", "attendance"]
        {
            let columns = format!(
                "SELECT group_concat('quote(\"' || name || '\")', ' || '','' || ')
                FROM pragma_table_info('{table}')"
            );
            let columns: String = self.db.query_row(&columns, [], |row| row.get(0)).unwrap();
            let sql =
                format!("SELECT 'INSERT INTO {table} VALUES (' || {columns} || ')' FROM {table}");
            let mut statement = self.db.prepare(&sql).unwrap();
            let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
            let rows: Vec<_> = rows.map(Result::unwrap).collect();
            for some in rows.chunks(500) {
                sequence(&format!("BEGIN; {}; COMMIT", some.join("; ")));
            }
        }
    }

    /// A statement as a request of its own.
    fn request(&self, sql: &str, turn: usize) -> Duration {
        let args: Vec<_> = self
            .arguments(sql, turn)
            .into_iter()
            .map(|text| json!({ "type": "text", "value": text }))
            .collect();
        let statement = json!({ "sql": sql, "args": args });
        let (answer, took) = self.send(&json!({ "type": "execute", "stmt": statement }));
        let result = &answer["results"][0]["response"]["result"];
        let met = if sql == SELECT {
            &result["rows"][0][3]["type"]
        } else {
            &result["affected_row_count"]
        };
        assert!(*met == json!("text") || *met == json!(1), "{answer}");
        took
    }

    /// Opening the file, reading its schema, and compiling a statement.
    fn open(&self) -> Duration {
        let start = Instant::now();
        let db = Connection::open(&self.path).unwrap();
        let count = "SELECT count(*) FROM sqlite_schema";
        assert!(db.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap() > 0);
        drop(db.prepare(SELECT).unwrap());
        start.elapsed()
    }

    /// What a stream does, without the server: opening the file, a statement, closing the file.
    fn stream(&self, sql: &str, turn: usize) -> Duration {
        let start = Instant::now();
        let db = Connection::open(&self.path).unwrap();
        db.execute_batch("PRAGMA foreign_keys = ON; PRAGMA synchronous = NORMAL").unwrap();
        let mut statement = db.prepare(sql).unwrap();
        self.run_prepared(&mut statement, sql, turn);
        drop(statement);
        drop(db);
        start.elapsed()
    }

    /// Compiling a statement on a connection that knows the schema.
    fn compile(&self, sql: &str) -> Duration {
        let start = Instant::now();
        let statement = self.db.prepare(sql).unwrap();
        let took = start.elapsed();
        drop(statement);
        took
    }

    /// Running a compiled statement in a transaction of its own.
    fn run(&self, sql: &str, turn: usize) -> Duration {
        let mut statement = self.db.prepare_cached(sql).unwrap();
        let start = Instant::now();
        self.run_prepared(&mut statement, sql, turn);
        start.elapsed()
    }

    fn run_prepared(&self, statement: &mut Statement<'_>, sql: &str, turn: usize) {
        let arguments = rusqlite::params_from_iter(self.arguments(sql, turn));
        if sql == SELECT {
            assert!(statement.exists(arguments).unwrap());
        } else {
            assert_eq!(statement.execute(arguments).unwrap(), 1);
        }
    }

    /// The bytes of the schema, and the number and the bytes of its triggers.
    fn schema(&self) -> (i64, i64, i64) {
        let sql = "SELECT sum(length(sql)), count(*) FILTER (WHERE type = 'trigger'),
            coalesce(sum(length(sql)) FILTER (WHERE type = 'trigger'), 0) FROM sqlite_schema";
        self.db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap()
    }
}

/// A hub over a gym, or a server that gets one, and the web application that uses it. With
/// driftless, a desk has been made from it, and has left.
fn gym(place: &Place, name: &str, server: Option<&str>, is_replicated: bool) -> Web {
    let path = place.path(name);
    let db = Connection::open(&path).unwrap();
    db.execute_batch(SCHEMA).unwrap();
    db.execute_batch(&format!("BEGIN; {SIZE} {GENERATE} COMMIT;")).unwrap();
    drop(db);
    let server = server.map(Served::at);
    let is_server = server.is_some();
    let web = Web::new(server.unwrap_or_else(|| Served::new(&path)), &path);
    if is_server {
        web.upload();
    }
    if is_replicated {
        let hub = &web.hub;
        let plan = Plan {
            path: place.path("desk.db"),
            url: hub.client().url(),
            tables: Tables::All,
            rules: Vec::new(),
            prefer: Default::default(),
            replica: driftless::event::ReplicaId(ulid::Ulid::from_parts(0, fastrand::u128(..))),
            epoch: ulid::Ulid::from_parts(0, fastrand::u128(..)),
            on_connect: Default::default(),
        };
        let (_, report) = initialise(plan, Arc::new(hub.client()), &mut |_| {}).unwrap();
        assert_eq!(report.made_here.len(), 7);
    }
    web
}

/// The medians of `count` times of both, which take turns.
fn medians(webs: &[Web; 2], count: usize, time: impl Fn(&Web, usize) -> Duration) -> [f64; 2] {
    let mut times = [const { Vec::new() }; 2];
    for turn in 0..count {
        for which in [turn % 2, 1 - turn % 2] {
            times[which].push(time(&webs[which], turn).as_secs_f64() * 1e3);
        }
    }
    times.map(support::median)
}

fn print(what: &str, [bare, replicated]: [f64; 2]) {
    println!("  {what:<44} {bare:>8.3} {replicated:>8.3}   x {:.2}", replicated / bare);
}

fn main() {
    let count = std::env::var("DRIFTLESS_BENCH_REQUESTS").map_or(500, |text| text.parse().unwrap());
    let place = Place::new();
    let servers = std::env::var("DRIFTLESS_BENCH_SERVERS").ok();
    let [bare, replicated] = match servers.as_deref().and_then(|urls| urls.split_once(' ')) {
        Some((bare, replicated)) => [Some(bare), Some(replicated)],
        None => [None, None],
    };
    let webs =
        [gym(&place, "bare.db", bare, false), gym(&place, "replicated.db", replicated, true)];
    if bare.is_none() {
        for (web, name) in webs.iter().zip(["bare", "with driftless"]) {
            let (bytes, triggers, trigger_bytes) = web.schema();
            println!(
                "{name}: a schema of {bytes} bytes; {triggers} triggers of {trigger_bytes} bytes"
            );
        }
    }
    println!("medians of {count}, in ms {:>29} {:>8}", "bare", "with");
    let statements = [
        ("SELECT of a row", SELECT),
        ("INSERT of a row", INSERT),
        ("UPDATE of a column", UPDATE),
        ("DELETE of a row", DELETE),
    ];
    for (what, sql) in statements {
        let what = format!("request: {what}");
        print(&what, medians(&webs, count, |web, turn| web.request(sql, turn)));
    }
    if bare.is_some() {
        return;
    }
    print("open the file and compile a SELECT", medians(&webs, count, |web, _| web.open()));
    for (what, sql) in statements {
        let what = format!("the same without the hub: {what}");
        print(&what, medians(&webs, count, |web, turn| web.stream(sql, turn)));
    }
    for (what, sql) in statements {
        let what = format!("compile: {what}");
        print(&what, medians(&webs, count, |web, _| web.compile(sql)));
    }
    for (what, sql) in statements {
        let what = format!("run: {what}");
        print(&what, medians(&webs, count, |web, turn| web.run(sql, turn)));
    }
}
