//! The remote's schema and a workload through the Turso engine, by its program's shell, with the
//! tables and the log that SQLite ends with. `docs/turso-engine.md` has what it carries.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use driftless::catalog::{Catalog, Table, literal};
use driftless::event::conflict::ConflictRule;
use driftless::event::page::unfold::Layout;
use driftless::event::{EventId, Op, ReplicaId, RowKey, Seq};
use driftless::protocol::incarnation::{Incarnation, Incarnations, Place};
use driftless::protocol::remote_tables::RemoteTables;
use driftless::protocol::statements::{
    Asker, Chunk, Exchange, LogRange, Sender, lookup, lookup_chunk, row_chunk,
};
use driftless::protocol::{Held, Lean, Outgoing, Push};

use super::remote::{Cut, Pushed, Remote, push_statements};
use crate::support::engine::Engine;
use crate::support::remote_schema::install;
use crate::support::statement::inlined;
use crate::support::tools::{Tool, require};

/// A hang is a failure, and not the test's own. The engine takes a second.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Marks, in the shell's output, where what we asked for begins.
const MARK: &str = "--8<--";

const SCHEMA: &str = "
CREATE TABLE m (id TEXT PRIMARY KEY, a, u TEXT UNIQUE, t INTEGER DEFAULT 0);
CREATE TABLE p (id TEXT PRIMARY KEY, mid TEXT REFERENCES m ON DELETE CASCADE ON UPDATE CASCADE, \
  x INTEGER);
CREATE TABLE n (id INTEGER PRIMARY KEY, mid TEXT REFERENCES m ON DELETE SET NULL, r REAL, b BLOB);
CREATE TABLE k (id TEXT PRIMARY KEY, mid TEXT REFERENCES m);
CREATE TRIGGER touch AFTER UPDATE OF a ON m WHEN new.a IS NOT old.a BEGIN \
  UPDATE m SET t = t + 1 WHERE id = new.id; END;
CREATE TRIGGER quiet BEFORE INSERT ON m WHEN new.a = 13 BEGIN SELECT RAISE(IGNORE); END;";

/// One step of the workload: a push of an origin's, or SQL of the web application's.
enum Step {
    Push(&'static str, Vec<Pushed>),
    Web(&'static str),
}

fn event(id: &str, op: &str, table: &str, key: &str, after: &str, base: i64) -> Pushed {
    Pushed {
        id: id.to_owned(),
        op: op.to_owned(),
        table: table.to_owned(),
        key: key.to_owned(),
        after: (!after.is_empty()).then(|| after.to_owned()),
        base,
        ..Pushed::default()
    }
}

/// A key change: its delete and its insert.
fn key_change(id: [&str; 2], table: &str, keys: [&str; 2], image: &str, base: i64) -> [Pushed; 2] {
    let mut delete = event(id[0], "delete", table, keys[0], "", base);
    delete.pair = Some(id[1].to_owned());
    delete.other = Some(keys[1].to_owned());
    delete.image = Some(image.to_owned());
    let insert = delete.second_half();
    [delete, insert]
}

fn workload() -> Vec<Step> {
    let mut second = vec![
        event("b1", "update", "m", r#"["x"]"#, r#"{"a":7}"#, 3),
        event("b2", "update", "m", r#"["x"]"#, r#"{"a":8}"#, 99),
        event("b3", "insert", "m", r#"["q"]"#, r#"{"id":"q","a":13,"u":null,"t":0}"#, 99),
        event("b4", "delete", "m", r#"["y"]"#, "", 99),
        event("b5", "delete", "q", r#"["y"]"#, "", 99),
        event("b1", "update", "m", r#"["x"]"#, r#"{"a":7}"#, 3),
    ];
    second.extend(key_change(
        ["b6", "b7"],
        "m",
        [r#"["x"]"#, r#"["w"]"#],
        r#"{"id":"w","a":8,"u":"x","t":0}"#,
        99,
    ));
    let mut consequence = event("c2", "delete", "p", r#"["p"]"#, "", 99);
    consequence.via = Some("c1".to_owned());
    let mut late = event("c3", "insert", "k", r#"["k2"]"#, r#"{"id":"k2","mid":"v"}"#, 99);
    late.defer_fk = true;
    vec![
        Step::Push(
            "A",
            vec![
                event("a1", "insert", "m", r#"["x"]"#, r#"{"id":"x","a":1,"u":"x","t":0}"#, 0),
                event("a2", "insert", "m", r#"["y"]"#, r#"{"id":"y","a":1,"u":"x","t":0}"#, 0),
                event("a3", "insert", "m", r#"["y"]"#, r#"{"id":"y","a":1,"u":"y","t":0}"#, 0),
                event("a4", "insert", "p", r#"["p"]"#, r#"{"id":"p","mid":"z","x":1}"#, 0),
                event("a5", "insert", "p", r#"["p"]"#, r#"{"id":"p","mid":"x","x":1}"#, 0),
                event("a6", "update", "p", r#"["r"]"#, r#"{"x":2}"#, 0),
                event("a7", "update", "m", r#"["x"]"#, r#"{"a":2}"#, 0),
                event("a8", "insert", "k", r#"["k"]"#, r#"{"id":"k","mid":"y"}"#, 0),
                event("a9", "insert", "m", r#"["x"]"#, r#"{"id":"x","a":1,"u":null,"t":0}"#, 99),
                event(
                    "a10",
                    "insert",
                    "n",
                    "[1]",
                    r#"{"id":1,"mid":"x","r":{"r":"7205759403792794p-56"},"b":{"x":"00FF"}}"#,
                    0,
                ),
            ],
        ),
        Step::Web("INSERT INTO m (id, a, u) VALUES ('z', 1, 'z'), ('v', 1, 'v')"),
        Step::Web("UPDATE m SET a = 5 WHERE id IN ('x', 'z')"),
        Step::Web("REPLACE INTO m (id, a, u) VALUES ('z', 9, 'v')"),
        Step::Web("UPDATE m SET id = 'v' WHERE id = 'z'"),
        Step::Web("UPDATE n SET r = 0.5, b = x'01'"),
        Step::Push("B", second),
        Step::Push("A", vec![event("c1", "delete", "m", r#"["w"]"#, "", 99), consequence, late]),
        Step::Web("DELETE FROM k"),
        Step::Web("DELETE FROM m WHERE id = 'v'"),
    ]
}

/// What is compared, in one column, each row with a word before it that says whence it is. Ids that
/// the triggers drew differ from run to run.
const RESULT: &str = "
SELECT 'log|' || seq || '|' || CASE WHEN length(id) = 26 THEN '-' ELSE id END || '|' || origin || '|'
  || tbl || pk || op || coalesce(\"before\", '') || coalesce(\"after\", '') || verdict
  || coalesce(reason, '') || '|' || coalesce(cause, '') FROM driftless_events ORDER BY seq;
SELECT 'm|' || quote(id) || quote(a) || quote(u) || quote(t) FROM m ORDER BY id;
SELECT 'p|' || quote(id) || quote(mid) || quote(x) FROM p ORDER BY id;
SELECT 'n|' || quote(id) || quote(mid) || quote(r) || quote(b) FROM n ORDER BY id;
SELECT 'k|' || quote(id) || quote(mid) FROM k ORDER BY id;
SELECT 'left|' || count(*) FROM driftless_inbox;
SELECT 'left|' || count(*) FROM driftless_applying;
SELECT 'busy|' || count(*) FROM driftless_now WHERE id IS NOT NULL;";

/// The whole remote as one SQL script: what the `libsql` client would send, a statement a line.
fn script() -> String {
    let remote = Remote::new(SCHEMA, |_| ConflictRule::Row);
    let mut sql = format!("PRAGMA foreign_keys = ON;\n{SCHEMA}\n");
    sql.push_str(&install(&remote.tables, |_| ConflictRule::Row).join("\n"));
    let tables = remote.remote_tables();
    for step in workload() {
        match step {
            Step::Push(origin, events) => {
                sql.push_str("BEGIN;\n");
                let statements = push_statements(&tables, Cut::Runs, origin, &events);
                // The engine does not know this pragma.
                for statement in statements.iter().filter(|made| !made.sql.starts_with("PRAGMA")) {
                    sql.push_str(&format!("{};\n", inlined(statement)));
                }
                sql.push_str("COMMIT;\n");
            }
            Step::Web(web) => sql.push_str(&format!("{web};\n")),
        }
    }
    sql.push_str(&format!("SELECT {};\n{RESULT}\n", literal(MARK)));
    sql
}

/// Runs a script through the program, and gives what it printed.
fn through(program: &Path, script: &str) -> String {
    let mut child = Command::new(program)
        .args(["--quiet", "--output-mode", "list", ":memory:"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let script = script.to_owned();
    // A program that died does not read to the end; what it said is in its output.
    let writer = std::thread::spawn(move || drop(stdin.write_all(script.as_bytes())));
    let (done, waiting) = crossbeam_channel::bounded(1);
    let pid = child.id();
    let reader = std::thread::spawn(move || done.send(child.wait_with_output().unwrap()));
    #[expect(clippy::disallowed_methods, reason = "a test may look at a clock")]
    let begun = Instant::now();
    let output = waiting.recv_timeout(TIMEOUT).unwrap_or_else(|_| {
        panic!("the program (process {pid}) still runs after {:?}", begun.elapsed())
    });
    writer.join().unwrap();
    reader.join().unwrap().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = format!("{stderr}{stdout}");
    assert!(output.status.success(), "the program ended with {}: {said}", output.status);
    assert!(stderr.trim().is_empty(), "{said}");
    stdout
}

fn results(output: &str) -> Vec<String> {
    let (_, results) = output.split_once(MARK).expect("the script ran to its end");
    results.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The texts in a query's only column.
fn texts(db: &Engine, sql: &str) -> Vec<String> {
    let rows = db.look(sql.trim_end_matches(';')).into_iter();
    rows.map(|row| row[0].as_str().expect("a text").to_owned()).collect()
}

/// The same on the SQLite that is bundled.
fn by_sqlite() -> Vec<String> {
    let remote = Remote::new(SCHEMA, |_| ConflictRule::Row);
    for step in workload() {
        match step {
            Step::Push(origin, events) => remote.push(origin, &events).unwrap(),
            Step::Web(sql) => remote.transaction(sql).unwrap(),
        }
        remote.check();
    }
    let mut rows = Vec::new();
    for sql in RESULT.split(';').filter(|sql| !sql.trim().is_empty()) {
        rows.extend(texts(&remote.db, sql));
    }
    rows
}

#[test]
fn the_turso_engine_ends_with_sqlites_tables_and_verdicts() {
    let expected = by_sqlite();
    let mut words = BTreeMap::new();
    for row in &expected {
        *words.entry(row.split('|').next().unwrap()).or_insert(0) += 1;
    }
    assert!(words["log"] > 30, "the workload has shrunk: {words:?}");
    let Some(program) = require(Tool::Tursodb) else { return };
    let results = results(&through(&program, &script()));
    for (ours, theirs) in expected.iter().zip(&results) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(expected.len(), results.len());
}

/// The request of a replica that has these incarnations and stands at this event, and pushes one
/// insert.
fn exchange(tables: &RemoteTables, n: u64, incarnations: Incarnations, place: Place) -> String {
    let replica = ReplicaId(ulid::Ulid(7));
    let id = EventId(ulid::Ulid::from_parts(n, 1));
    let image = format!("{{\"id\":\"e{n}\",\"a\":null,\"u\":null,\"t\":0}}");
    let key = RowKey(format!("[\"e{n}\"]"));
    let event = Outgoing::new(n as i64, id, "m".to_owned(), key, Op::Insert);
    let event = Outgoing { after: Some(image), ..event };
    let named = vec![("m".to_owned(), ["id", "a", "u", "t"].map(str::to_owned).to_vec())];
    let (events, last_n, bytes) = (vec![event], n as i64, 1);
    let push = Push { events, last_n, units: Vec::new(), self_contained: 1, bytes, tables: named };
    let tables = std::sync::Arc::new(tables.clone());
    let sender = Sender { replica, epoch: "e".to_owned(), cursor: place.seq, incarnations, tables };
    let exchange = Exchange {
        push: Some((&push, ulid::Ulid::from_parts(n, 2), &sender)),
        pull: Some(LogRange { after: place.seq, events: 10, whole_units: true, chunk: None }),
        asker: Some(Asker { replica, place }),
        ..Exchange::default()
    };
    let texts: Vec<_> = exchange.batch().statements.iter().map(inlined).collect();
    format!("BEGIN;\n{};\nCOMMIT;\n", texts.join(";\n"))
}

/// What reads an event's line and a row in chunks, and events by their ids. What comes from the
/// clock stands behind the chunks.
fn in_parts(table: &Table) -> String {
    let chunk = Chunk { from: 3, bytes: 40 };
    let range = LogRange { after: Seq(1), events: 1, whole_units: false, chunk: Some(chunk) };
    let line = Exchange { pull: Some(range), ..Exchange::default() }.batch().statements.remove(0);
    let row = row_chunk(table, Some(&RowKey("[\"e1\"]".to_owned())), chunk).unwrap();
    let (line, row) = (inlined(&line), inlined(&row));
    let layouts = vec![Layout {
        table: table.name.clone(),
        columns: table.columns.iter().map(|column| column.name.clone()).collect(),
    }];
    let held = Held { replica: ReplicaId(ulid::Ulid::from_parts(7, 7)), first: 0, last: 1 << 39 };
    let range = LogRange { after: Seq(0), events: 1_000, whole_units: true, chunk: None };
    let lean = [None, Some(held)].map(|held| {
        let lean = Lean { held, layouts: layouts.clone() };
        let page = Exchange { pull: Some(range), lean: Some(&lean), ..Exchange::default() };
        inlined(&page.batch().statements.remove(0))
    });
    let ids = [1, 5, 77].map(|n| EventId(ulid::Ulid::from_parts(n, 1)));
    format!(
        "WITH a(seq, size, part, head) AS ({line})
             SELECT 'line|' || seq || '|' || size || '|' || hex(part) || '|' || head FROM a;
         WITH a(k, size, part, seq) AS ({row})
             SELECT 'row|' || k || '|' || size || '|' || hex(part) || '|' || seq FROM a;
         WITH a(bytes, last, n, head) AS ({})
             SELECT 'ids|' || last || '|' || n || '|' || length(bytes) FROM a;
         WITH a(seq, size, part, head) AS ({})
             SELECT 'id|' || seq || '|' || size || '|' || hex(part) || '|' || head FROM a;
         UPDATE driftless_events SET received_at = seq, unit = 'u', origin = '{}';
         WITH a(bytes, last, n, head) AS ({})
             SELECT 'lean|' || last || '|' || n || '|' || hex(bytes) FROM a;
         WITH a(bytes, last, n, head) AS ({})
             SELECT 'held|' || last || '|' || n || '|' || hex(bytes) FROM a;",
        inlined(&lookup(&ids)),
        inlined(&lookup_chunk(ids[1], chunk)),
        held.replica,
        lean[0],
        lean[1]
    )
}

#[test]
fn the_turso_engine_takes_a_push_from_one_incarnation_alone() {
    let incarnation = |count, chance| Incarnation { count, chance };
    let incarnations = |confirmed: Option<Incarnation>, issued: &[Incarnation]| Incarnations {
        confirmed,
        issued: issued.to_vec(),
    };
    let at =
        |seq, id: u64| Place { seq: Seq(seq), id: Some(EventId(ulid::Ulid::from_parts(id, 1))) };
    let (start, one) = (Place::default(), Some(incarnation(1, 1)));
    let schema = "CREATE TABLE m (id TEXT PRIMARY KEY, a, u TEXT UNIQUE, t INTEGER)";
    let remote = Remote::new(schema, |_| ConflictRule::Row);
    let tables = remote.remote_tables();
    let script: String = [
        (1, incarnations(None, &[incarnation(1, 1)]), start, "a new replica"),
        (2, incarnations(one, &[incarnation(2, 2)]), at(1, 1), "the same one"),
        (3, incarnations(one, &[incarnation(2, 3)]), at(1, 1), "a copy of it"),
        (4, incarnations(None, &[incarnation(1, 4)]), start, "a copy from before the first push"),
        (
            5,
            incarnations(one, &[incarnation(2, 2), incarnation(3, 5)]),
            at(2, 2),
            "one whose answer was lost",
        ),
        (
            6,
            incarnations(None, &[incarnation(3, 5), incarnation(4, 6)]),
            start,
            "a new one whose answer was lost",
        ),
        (7, incarnations(Some(incarnation(4, 6)), &[incarnation(5, 7)]), at(4, 9), "another log"),
        (8, incarnations(Some(incarnation(4, 6)), &[incarnation(5, 8)]), at(9, 9), "a longer log"),
        (9, incarnations(Some(incarnation(4, 6)), &[incarnation(5, 9)]), at(4, 6), "all is well"),
    ]
    .map(|(n, incarnations, place, _)| exchange(&tables, n, incarnations, place))
    .concat();
    let result = "SELECT 'e|' || seq || pk || verdict FROM driftless_events ORDER BY seq;
        SELECT 'incarnation|' || mark || '|' || cursor FROM driftless_replicas;";
    let result = format!("{result}{}", in_parts(&remote.tables[0]));
    remote.db.execute_batch("UPDATE driftless_meta SET epoch = 'e'").unwrap();
    remote.db.execute_batch(&script).unwrap();
    let mut expected = Vec::new();
    for sql in result.split_inclusive(';') {
        expected.extend(texts(&remote.db, sql));
    }
    assert_eq!(
        expected[..5],
        [1, 2, 5, 6, 9].map(|n| {
            let seq = [1, 2, 5, 6, 9].iter().position(|&other| other == n).unwrap() + 1;
            format!("e|{seq}[\"e{n}\"]applied")
        })
    );
    assert_eq!(expected[5], format!("incarnation|{}|4", incarnation(5, 9)));
    let parts: Vec<_> =
        expected[6..].iter().map(|part| part.split('|').take(2).collect::<Vec<_>>()).collect();
    let expected_parts = [
        ["line", "2"],
        ["row", "[\"e2\"]"],
        ["ids", "3"],
        ["id", "3"],
        ["lean", "5"],
        ["held", "5"],
    ];
    assert_eq!(parts, expected_parts.map(Vec::from));
    let sizes: Vec<_> = expected[10..].iter().map(String::len).collect();
    assert!(sizes[0] < 1_500 && sizes[1] < 1_000, "lines are lean, and short: {sizes:?}");
    let Some(program) = require(Tool::Tursodb) else { return };
    let mut sql = "PRAGMA foreign_keys = ON;\n".to_owned();
    sql.push_str("CREATE TABLE m (id TEXT PRIMARY KEY, a, u TEXT UNIQUE, t INTEGER);\n");
    sql.push_str(&install(&remote.tables, |_| ConflictRule::Row).join("\n"));
    sql.push_str(&format!("{script}SELECT {};\n{result}\n", literal(MARK)));
    assert_eq!(results(&through(&program, &sql)), expected);
}

#[test]
fn the_gyms_triggers_fit_the_turso_engine() {
    let Some(program) = require(Tool::Tursodb) else { return };
    let schema = include_str!("../../../fixtures/gym/schema.sql");
    let db = rusqlite::Connection::open_in_memory().unwrap();
    db.execute_batch(schema).unwrap();
    let catalog = Catalog::read(&db).unwrap();
    let mut sql = format!("PRAGMA foreign_keys = ON;\n{schema}\n");
    sql.push_str(&install(&catalog.tables, |_| ConflictRule::Row).join("\n"));
    let remote = Remote::new(schema, |_| ConflictRule::Row);
    // Compiling this looks at every trigger of every table.
    let events = [event("a1", "delete", "classes", "[1]", "", 0)];
    for statement in push_statements(&remote.remote_tables(), Cut::Runs, "A", &events) {
        sql.push_str(&format!("{};\n", inlined(&statement)));
    }
    sql.push_str(&format!(
        ";\nSELECT {};\nSELECT verdict || reason FROM driftless_events;\n",
        literal(MARK)
    ));
    assert_eq!(results(&through(&program, &sql)), ["rejectedmissing"]);
}

/// So many tables, each of which refers to so many earlier ones, and to the last of them by
/// CASCADE.
fn linked_tables(count: usize, keys: usize) -> String {
    let table = |at: usize| {
        let key = |n: usize| {
            let action = if n == 1 { "CASCADE" } else { "SET NULL" };
            format!(", f{n} TEXT REFERENCES t{} (id) ON DELETE {action}", at - n)
        };
        let keys: String = (1..=keys.min(at)).map(key).collect();
        format!("CREATE TABLE t{at} (id TEXT PRIMARY KEY, u TEXT UNIQUE, a, b, c{keys});\n")
    };
    (0..count).map(table).collect()
}

/// A remote of these tables, and a push that inserts a row, changes it, and deletes it.
fn first_push(schema: &str, table: &str) -> String {
    let remote = Remote::new(schema, |_| ConflictRule::Row);
    let mut sql = format!("PRAGMA foreign_keys = ON;\n{schema}\n");
    sql.push_str(&install(&remote.tables, |_| ConflictRule::Row).join("\n"));
    let key = r#"["k"]"#;
    let events = [
        event("a1", "insert", table, key, r#"{"id":"k","u":"u","a":1,"b":2,"c":3}"#, 0),
        event("a2", "update", table, key, r#"{"a":2}"#, 0),
        event("a3", "delete", table, key, "", 0),
    ];
    sql.push_str("BEGIN;\n");
    for statement in push_statements(&remote.remote_tables(), Cut::Runs, "A", &events) {
        sql.push_str(&format!("{};\n", inlined(&statement)));
    }
    sql.push_str("COMMIT;\n");
    sql.push_str(&format!("SELECT {};\n", literal(MARK)));
    sql.push_str(
        "SELECT id || verdict || coalesce(reason, '') FROM driftless_events ORDER BY seq;\n",
    );
    sql
}

#[test]
fn many_linked_tables_fit_the_turso_engine() {
    let script = first_push(&linked_tables(24, 3), "t20");
    let Some(program) = require(Tool::Tursodb) else { return };
    let expected = ["a1applied", "a2applied", "a3applied"];
    assert_eq!(results(&through(&program, &script)), expected);
}
