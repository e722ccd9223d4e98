//! A remote whose answers are nonsense: each is refused or goes to quarantine, touches nothing
//! else, and is forgotten when the remote is sane again.

use std::sync::Arc;

use driftless::Code;
use driftless::event::value::Value;
use driftless::protocol::statements;
use driftless::remote::Answer;
use driftless::sync::{Input, Ticket};

use crate::support::desk::{Desk, assert_equal};
use crate::support::local_remote::LocalRemote;

/// A table of the application's that is not replicated, made after the first sync.
pub(super) const SECRETS: &str = "CREATE TABLE secrets (id TEXT UNIQUE, v);
    INSERT INTO secrets VALUES ('s1', 'not replicated')";

/// What no answer may change.
const OTHERS: &str = "SELECT (SELECT group_concat(id || v) FROM secrets),
    (SELECT group_concat(name || '=' || value) FROM driftless_settings
        WHERE name IN ('url', 'epoch', 'version', 'adopted')),
    (SELECT group_concat(name || conflict || triggers) FROM driftless_tables),
    (SELECT count(*) FROM sqlite_schema)";

/// A desk and its remote, with a row on both sides and an edit pending.
pub(super) struct Scene {
    pub(super) remote: Arc<LocalRemote>,
    pub(super) desk: Desk,
    others: String,
    writes: usize,
}

impl Scene {
    pub(super) fn new() -> Scene {
        let remote = Arc::new(LocalRemote::new(crate::support::desk::SCHEMA));
        let mut desk = Desk::new(&remote, 1);
        desk.write("INSERT INTO members VALUES ('m1', 'Ana', 'a@x'), ('m2', 'Bea', NULL)");
        desk.sync().unwrap();
        // A change of a lean line would change what the next ones take from it.
        desk.restart_with_whole_lines();
        desk.settle();
        desk.db.execute_batch(SECRETS).unwrap();
        // The file's schema is another one: the definitions are compared before the next push.
        desk.sync().unwrap();
        let others = desk.read(OTHERS);
        Scene { remote, desk, others, writes: 0 }
    }

    /// The machine's next request is answered by `answer`, which is told what an honest remote
    /// would say. Gives whether there was a request.
    pub(super) fn answer(&mut self, answer: impl FnOnce(Answer) -> Answer) -> bool {
        self.desk.input(Input::SyncNow(Ticket(u64::MAX)));
        let Some((id, batch)) = self.desk.sent.pop_front() else { return false };
        let outcome = self.remote.run_now(batch).map(answer);
        self.desk.input(Input::Answer(id, outcome));
        while self.desk.go_on() {}
        true
    }

    /// Nothing else is touched, the application writes and is captured, and there is a status.
    pub(super) fn check(&mut self) {
        assert_eq!(self.desk.read(OTHERS), self.others, "nothing else is touched");
        let pending = self.desk.status().pending;
        self.writes += 1;
        let id = 1_000_000_000 + self.writes;
        self.desk.write(&format!("INSERT INTO payments VALUES ({id}, NULL, 5)"));
        let status = self.desk.status();
        assert_eq!(status.pending, pending + 1, "the application's write is captured");
        self.desk.machine.store().retry_quarantine(0).expect("what waits can be tried again");
        assert_eq!(self.desk.read(OTHERS), self.others, "nothing else is touched");
    }

    /// The remote is sane again.
    pub(super) fn recover(&mut self) {
        self.desk.settled.clear();
        self.desk.advance(120_000);
        let done = self.desk.sync();
        assert!(done.is_ok(), "it does not recover: {done:?}, {:?}", self.desk.status());
    }

    /// The remote is sane again, and has never heard of what it made up: to this replica its log
    /// looks rolled back, and a person says that it counts.
    pub(super) fn recover_from_lies(&mut self) {
        self.desk.settled.clear();
        self.desk.advance(120_000);
        let done = self.desk.sync().or_else(|_| self.desk.accept());
        assert!(done.is_ok(), "it does not recover: {done:?}, {:?}", self.desk.status());
    }
}

/// An op of the future comes, and is applied when the program knows it: what has followed on its row
/// is on top.
#[test]
fn what_no_version_could_read_is_read_again() {
    for restart in [false, true] {
        let mut scene = Scene::new();
        scene.remote.web(
            "UPDATE members SET name = 'Eva', email = 'e@x' WHERE id = 'm1';
             UPDATE members SET name = 'Ewa' WHERE id = 'm1';
             INSERT INTO members VALUES ('m3', 'Cid', NULL);
             UPDATE members SET name = 'Sid' WHERE id = 'm3'",
        );
        let changed = scene.answer(|mut answer| {
            let place = answer.rows.len() - 2;
            let Value::Blob(page) = &answer.rows[place][0][0] else { panic!("it has a page") };
            let page = String::from_utf8(page.clone()).unwrap();
            let mut lines: Vec<_> = page.split('\n').map(str::to_owned).collect();
            lines[0] = lines[0].replace("\"update\"", "\"merge\"");
            lines[2] = lines[2].replace("\"Cid\"", "{\"z\":1}");
            answer.rows[place][0][0] = Value::Blob(lines.join("\n").into_bytes());
            answer
        });
        assert!(changed);
        let rows = "SELECT id, name, email FROM members ORDER BY id";
        assert_eq!(scene.desk.read(rows), "m1|Ewa|a@x\nm2|Bea|NULL");
        scene.check();
        let waits =
            "SELECT seq, reason GLOB 'malformed: *', line IS NULL FROM driftless_quarantine";
        assert_eq!(scene.desk.read(waits), "3|1|0\n5|1|0\n6|0|1", "no program has learnt it yet");
        // What this version cannot read, the next one can.
        scene.desk.db.execute_batch(
            "UPDATE driftless_quarantine SET line = CAST(replace(replace(CAST(line AS TEXT),
                 '\"merge\"', '\"update\"'), '{\"z\":1}', '\"Cid\"') AS BLOB) WHERE line IS NOT NULL;
             UPDATE driftless_settings SET value = 'an older one' WHERE name = 'retried'",
        ).unwrap();
        if restart {
            scene.desk.restart();
        } else {
            let retried = scene.desk.machine.store().retry_quarantine(0).unwrap();
            assert_eq!((retried.applied, retried.waiting), (3, 0));
            assert_eq!(retried.changes.len(), 2, "{retried:?}");
        }
        scene.recover();
        assert_eq!(scene.desk.read(waits), "");
        assert_eq!(scene.desk.read(rows), "m1|Ewa|e@x\nm2|Bea|NULL\nm3|Sid|NULL");
        assert_equal(&scene.desk, &["members", "payments"]);
        assert_eq!(
            scene
                .desk
                .read("SELECT group_concat(seq) FROM (SELECT seq FROM driftless_log ORDER BY 1)"),
            scene.remote.read(
                "SELECT group_concat(seq) FROM (SELECT seq FROM driftless_events ORDER BY 1)"
            )
        );
        scene.check();
    }
}

/// A line of a page; `change` may put other fields in.
fn line(seq: i64, change: &[(usize, &str)]) -> String {
    let id = format!("\"01JD8ZK3V5QWERTY{seq:010}\"");
    let seq = seq.to_string();
    let mut fields = [
        &seq,
        &id,
        "\"web\"",
        "null",
        "null",
        "\"members\"",
        "[\"m1\"]",
        "\"update\"",
        "{\"name\":\"Ana\"}",
        "{\"name\":\"Eva\"}",
        "0",
        "null",
        "null",
        "null",
        "\"applied\"",
        "null",
        "1700000000000",
    ];
    for (place, field) in change {
        fields[*place] = field;
    }
    format!("[{}]", fields.join(","))
}

const ID: usize = 1;
const TABLE: usize = 5;
const KEY: usize = 6;
const OP: usize = 7;
const BEFORE: usize = 8;
const AFTER: usize = 9;
const BASE: usize = 10;
const VERDICT: usize = 14;
const RECEIVED: usize = 16;

/// The answer with another page: these lines, the last seq, the count, and the log's end. Zeros
/// stand for what would be true.
fn with_page(mut answer: Answer, lines: &[String], last: i64, count: i64, head: i64) -> Answer {
    let place = answer.rows.len() - 2;
    let true_last = || lines.last()?.get(1..)?.split(',').next()?.parse::<i64>().ok();
    let last = if last == 0 { true_last().unwrap_or(1) } else { last };
    let count = if count == 0 { lines.len() as i64 } else { count };
    let head = if head == 0 { last } else { head };
    let bytes = Value::Blob(lines.join("\n").into_bytes());
    let numbers = [last, count, head].map(Value::Integer);
    answer.rows[place] = vec![[vec![bytes], numbers.to_vec()].concat()];
    answer
}

/// A page: what is wrong with it, its lines, and what is said of it as in [`with_page`].
type Page<'a> = (&'a str, Vec<String>, [i64; 3]);

/// An event: what is wrong with it, which fields say so, and what the quarantine says of it.
type Event<'a> = (&'a str, Vec<(usize, &'a str)>, &'a str);

#[test]
fn a_page_that_cannot_be_is_refused() {
    // The log's end stands at 2.
    let one = |seq| vec![line(seq, &[])];
    let cases: Vec<Page<'_>> = vec![
        ("seqs that go back", vec![line(5, &[]), line(4, &[])], [5, 0, 0]),
        ("a seq twice", vec![line(5, &[]), line(5, &[])], [0; 3]),
        ("a page of before", one(1), [0; 3]),
        ("a last beyond its lines", one(3), [9, 0, 0]),
        ("an end before its last", one(3), [0, 0, 2]),
        ("fewer events than said", one(3), [0, 2, 0]),
        ("more events than said", vec![line(3, &[]), line(4, &[])], [0, 1, 0]),
        ("a count without end", one(3), [0, i64::MAX, 0]),
        ("a negative count", one(3), [0, -1, 0]),
        ("a seq that no log has", one(i64::MAX), [0; 3]),
        ("no event at all", vec!["nonsense".to_owned()], [3, 0, 0]),
        ("no lines at all", vec![String::new()], [3, 0, 0]),
        ("a million tiny lines", (3..50_000).map(|n| format!("[{n}")).collect(), [0; 3]),
        ("a page that is text of bytes", one(3), [0, 0, i64::MAX]),
    ];
    for (name, lines, [last, count, head]) in cases {
        let mut scene = Scene::new();
        assert!(scene.answer(|answer| with_page(answer, &lines, last, count, head)), "{name}");
        let status = scene.desk.status();
        assert_eq!(status.code, Some(Code::AnswerInvalid), "{name}: {status:?}");
        assert_eq!(status.cursor, 2, "{name}");
        scene.check();
        scene.recover();
        assert_equal(&scene.desk, &["members", "payments"]);
    }
}

/// Nothing can be done about it here, so nothing waits.
#[test]
fn an_event_of_a_table_that_is_not_replicated_is_in_the_log_alone() {
    for table in [
        "\"nobody\"",
        "\"secrets\"",
        "\"driftless_settings\"",
        "\"sqlite_schema\"",
        r#""members\"; DROP TABLE secrets; --""#,
    ] {
        let mut scene = Scene::new();
        let seq = scene.desk.status().cursor + 1;
        let bad = line(seq, &[(TABLE, table)]);
        let good = line(seq + 1, &[(AFTER, "{\"name\":\"good\"}"), (KEY, "[\"m2\"]")]);
        scene.answer(|answer| with_page(answer, &[bad, good], 0, 0, 0));
        assert_eq!(scene.desk.machine.store().quarantine().unwrap().len(), 0, "{table}");
        let names = scene.desk.read("SELECT name FROM members ORDER BY id");
        assert_eq!(names, "Ana\ngood", "{table}");
        assert_eq!(scene.desk.status().cursor, seq + 1, "{table}");
        scene.check();
        scene.recover_from_lies();
    }
}

#[test]
fn an_event_that_is_none_waits_in_quarantine() {
    let long_key = format!("[\"{}\"]", "k".repeat(70_000));
    let deep = format!("{{\"name\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let many = format!("{{{}}}", vec!["\"\":1"; 40_000].join(","));
    let cases: Vec<Event<'_>> = vec![
        ("a column twice", vec![(AFTER, r#"{"name":1,"NAME":2}"#)], "twice"),
        ("more columns than any table", vec![(AFTER, &many)], "malformed"),
        ("a key of two parts", vec![(KEY, r#"["m1","m2"]"#)], "does not fit table"),
        ("a key of no part", vec![(KEY, "[]")], "does not fit table"),
        ("a key of NULL", vec![(KEY, "[null]")], "does not fit table"),
        ("a key that is an object", vec![(KEY, "{}")], "malformed"),
        ("a key with spaces", vec![(KEY, "[ \"m1\" ]")], "not in the canonical form"),
        ("a key with escapes", vec![(KEY, r#"["m\u0031"]"#)], "not in the canonical form"),
        ("a gigantic key", vec![(KEY, &long_key)], "larger than 64 KiB"),
        ("a key and another one", vec![(AFTER, "{\"id\":\"m2\"}")], "differ"),
        ("an unknown op", vec![(OP, "\"truncate\"")], "malformed"),
        (
            "an insert without its row",
            vec![(OP, "\"insert\""), (BEFORE, "null"), (AFTER, "{}")],
            "without its whole key",
        ),
        ("a verdict that there is not", vec![(VERDICT, "\"perhaps\"")], "malformed"),
        ("an id of another length", vec![(ID, "\"X\"")], "malformed"),
        ("a gigantic id", vec![(ID, "\"ZZZZZZZZZZZZZZZZZZZZZZZZZZ\"")], "malformed"),
        ("a nested value", vec![(AFTER, &deep)], "malformed"),
        ("hex that is none", vec![(AFTER, r#"{"name":{"x":"0G"}}"#)], "malformed"),
        ("a REAL that is none", vec![(AFTER, r#"{"name":{"r":"1p999999999999"}}"#)], "malformed"),
        ("an infinite exponent", vec![(AFTER, r#"{"name":1e999}"#)], "malformed"),
        ("a lone surrogate", vec![(AFTER, r#"{"name":"\ud800"}"#)], "malformed"),
        ("a base that is none", vec![(BASE, "99999999999999999999")], "malformed"),
        ("a time that is none", vec![(RECEIVED, "\"now\"")], "malformed"),
        ("a row that is not here", vec![(KEY, "[\"nobody\"]")], "no such row"),
    ];
    for (name, change, words) in cases {
        let mut scene = Scene::new();
        let seq = scene.desk.status().cursor + 1;
        let bad = line(seq, &change);
        // The next event is as it should be, and comes through.
        let good = line(seq + 1, &[(AFTER, "{\"name\":\"good\"}"), (KEY, "[\"m2\"]")]);
        scene.answer(|answer| with_page(answer, &[bad, good], 0, 0, 0));
        let waiting = scene.desk.machine.store().quarantine().unwrap();
        let reason = waiting.first().map(|first| first.reason.clone()).unwrap_or_default();
        assert_eq!(waiting.len(), 1, "{name}: {:?}", scene.desk.status());
        assert!(reason.contains(words), "{name}: {reason}");
        assert!(reason.len() < 1_000, "{name}: a reason of {} bytes", reason.len());
        let names = scene.desk.read("SELECT name FROM members ORDER BY id");
        assert_eq!(names, "Ana\ngood", "{name}");
        scene.check();
        scene.recover_from_lies();
    }
}

/// A column that the table does not have here is left out, whatever its name is.
#[test]
fn a_column_that_is_not_here_is_left_out() {
    for after in [r#"{"nobody":1}"#, r#"{"name\" = 1; --":1}"#] {
        let mut scene = Scene::new();
        let seq = scene.desk.status().cursor + 1;
        let odd = line(seq, &[(AFTER, after)]);
        let good = line(seq + 1, &[(AFTER, "{\"name\":\"good\"}"), (KEY, "[\"m2\"]")]);
        scene.answer(|answer| with_page(answer, &[odd, good], 0, 0, 0));
        assert_eq!(scene.desk.machine.store().quarantine().unwrap().len(), 0, "{after}");
        let names = scene.desk.read("SELECT name FROM members ORDER BY id");
        assert_eq!(names, "Ana\ngood", "{after}");
        scene.check();
        scene.recover_from_lies();
    }
}

/// The clock of whoever made it is wrong, or it is made up. The application's events keep their time,
/// and what waits is seen to wait.
#[test]
fn an_id_of_another_century_sets_nobodys_clock() {
    let mut scene = Scene::new();
    let id = format!("\"{}\"", ulid::Ulid::from_parts(4_102_444_800_000, 1));
    scene.answer(|answer| with_page(answer, &[line(3, &[(ID, &id)])], 0, 0, 0));
    assert_eq!(scene.desk.status().cursor, 3);
    scene.check();
    let behind = "SELECT ms < 4000000000000 FROM driftless_outbox ORDER BY n DESC LIMIT 1";
    assert_eq!(scene.desk.read(behind), "1");
}

#[test]
fn an_answer_of_another_shape_is_refused() {
    type Change = fn(&mut Answer);
    let cases: [(&str, Change); 18] = [
        ("no results", |a| a.rows.clear()),
        ("a result missing", |a| drop(a.rows.remove(0))),
        ("a result too many", |a| a.rows.push(Vec::new())),
        ("a page without a row", |a| a.rows[0].clear()),
        ("a page of no columns", |a| a.rows[0][0].clear()),
        ("a page of five columns", |a| a.rows[0][0].push(Value::Null)),
        ("a count that is text", |a| a.rows[0][0][2] = Value::from("many")),
        ("a page that is a number", |a| a.rows[0][0] = [7, 9, 1, 9].map(Value::Integer).to_vec()),
        ("an end that is NULL", |a| a.rows[0][0][1..].fill(Value::Integer(9))),
        ("no identity", |a| a.rows[1].clear()),
        ("an identity of no columns", |a| a.rows[1][0].clear()),
        ("an epoch that is a number", |a| a.rows[1][0][0] = Value::Integer(1)),
        ("a gigantic epoch", |a| a.rows[1][0][0] = Value::Text(vec![b'e'; 5 << 20])),
        ("an epoch that repaints the screen", |a| {
            a.rows[1][0][0] = Value::from("\u{1b}[2J\u{1b}]0;title\u{7}");
        }),
        ("an empty epoch", |a| a.rows[1][0][0] = Value::from("")),
        ("another epoch", |a| a.rows[1][0][0] = Value::from("01JD8ZK3V5QWERTY0123456789")),
        ("a version of tomorrow", |a| a.rows[1][0][1] = Value::Integer(i64::MAX)),
        ("a log that begins tomorrow", |a| a.rows[1][0][2] = Value::Integer(i64::MAX)),
    ];
    for (name, change) in cases {
        let mut scene = Scene::new();
        scene.answer(|mut answer| {
            assert_eq!(answer.rows.len(), 2, "a page, and the identity");
            change(&mut answer);
            answer
        });
        let trouble = scene.desk.status().trouble.expect(name);
        assert!(trouble.len() < 1_000, "{name}: {} bytes of trouble", trouble.len());
        assert!(!trouble.contains(char::is_control), "{name}: {trouble:?}");
        scene.check();
        scene.recover();
        assert_equal(&scene.desk, &["members", "payments"]);
    }
    assert!(statements::META.contains("epoch"));
}

#[test]
fn a_remote_that_gives_less_than_it_is_asked_for_is_not_asked_for_ever() {
    let mut scene = Scene::new();
    // A value that is taken here, in a page behind which there is said to be more, always.
    let taken = [(KEY, "[\"m2\"]"), (AFTER, "{\"email\":\"a@x\"}")];
    scene.desk.input(Input::SyncNow(Ticket(7)));
    let mut requests = 0;
    while let Some((id, batch)) = scene.desk.sent.pop_front() {
        requests += 1;
        assert!(requests < 50, "it asks without end");
        let honest = scene.remote.run_now(batch).unwrap();
        let answer = with_page(honest, &[line(3, &taken)], 0, 0, 1_000);
        scene.desk.input(Input::Answer(id, Ok(answer)));
        while scene.desk.go_on() {}
    }
    assert!(scene.desk.status().trouble.is_some());
    scene.check();
    scene.recover();
    assert_equal(&scene.desk, &["members", "payments"]);
}
