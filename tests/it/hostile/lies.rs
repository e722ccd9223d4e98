//! A remote that lies: during the first sync, what it calls its definitions and its rows; later,
//! which events of ours it has.

use std::path::Path;
use std::sync::Arc;

use driftless::event::value::Value;
use driftless::remote::{Answer, Batch, Pending, Remote};
use driftless::sync::{Health, Input, SyncState, Ticket};
use driftless::{Code, Kind, Result};
use rusqlite::Connection;

use super::answers::Scene;
use crate::support::blocking::initialise;
use crate::support::desk::{SCHEMA, assert_equal, plan};
use crate::support::local_remote::{Fault, LocalRemote, read};

type Lie = Box<dyn Fn(&Batch, &mut Answer) + Send + Sync>;

/// An honest remote behind somebody who changes its answers.
struct Liar {
    honest: LocalRemote,
    lie: Lie,
}

impl Remote for Liar {
    fn run(&self, batch: Batch) -> Pending<'_> {
        let outcome = self.honest.run_now(batch.clone());
        let outcome = outcome.map(|mut answer| {
            (self.lie)(&batch, &mut answer);
            answer
        });
        Box::pin(async move { outcome })
    }

    fn url(&self) -> String {
        self.honest.url()
    }
}

/// The application's database after a first sync with a remote that lies.
fn first_sync(lie: Lie) -> (Result<()>, Connection, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("desk.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(SCHEMA).unwrap();
    db.execute_batch("INSERT INTO payments VALUES (1, NULL, 500)").unwrap();
    // One table is only there.
    let honest =
        LocalRemote::new(&format!("{SCHEMA} CREATE TABLE fresh (id TEXT PRIMARY KEY, a);"));
    honest.web("INSERT INTO members VALUES ('m1', 'Ana', NULL), ('m2', 'Bea', NULL)");
    let liar = Arc::new(Liar { honest, lie });
    let outcome = initialise(plan(path, 1, &[]), liar).map(|_| ());
    (outcome, db, folder)
}

/// Adds definitions to those that the remote has.
fn defining(definitions: &'static [[&'static str; 4]], folder: &Path) -> Lie {
    let place = folder.display().to_string();
    Box::new(move |batch, answer| {
        if batch.statements[0].sql.contains("FROM sqlite_schema") {
            for (at, definition) in definitions.iter().enumerate() {
                let mut row: Vec<_> = definition
                    .iter()
                    .map(|text| Value::from(text.replace("HERE", &place).as_str()))
                    .collect();
                row.push(Value::Integer(1_000 + at as i64));
                answer.rows[0].push(row);
            }
        }
    })
}

#[test]
fn a_definition_runs_no_other_sql() {
    let folder = tempfile::tempdir().unwrap();
    let lie = defining(
        &[
            ["index", "i1", "members", "DROP TABLE payments"],
            ["index", "i2", "members", "CREATE INDEX i2 ON members (name); DELETE FROM payments"],
            ["index", "i3", "fresh", "DELETE FROM payments"],
            ["index", "i4", "fresh", "ATTACH 'HERE/attached.db' AS x"],
            ["index", "i5", "fresh", "CREATE INDEX i5 ON fresh (a)"],
            ["table", "t1", "t1", "ATTACH 'HERE/attached.db' AS y"],
            [
                "table",
                "t2",
                "t2",
                "CREATE TABLE t2 (id PRIMARY KEY); ATTACH 'HERE/attached.db' AS z",
            ],
            ["table", "t3", "t3", "VACUUM INTO 'HERE/attached.db'"],
            ["table", "t4", "t4", "PRAGMA writable_schema = 1"],
            [
                "table",
                "t5",
                "t5",
                "CREATE TABLE t5 AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL \
                SELECT x + 1 FROM n) SELECT x FROM n",
            ],
            [
                "table",
                "t6",
                "t6",
                "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) \
                INSERT INTO fresh SELECT x, x FROM n",
            ],
            ["table", "t7", "t7", "SELECT load_extension('HERE/evil.so')"],
            [
                "table",
                "t8",
                "t8",
                "CREATE TRIGGER t8 AFTER INSERT ON members BEGIN DELETE FROM payments; END",
            ],
            ["table", "payments2", "payments2", "CREATE TABLE payments (id INTEGER PRIMARY KEY)"],
            ["table", "driftless_x", "x", "CREATE TABLE Driftless_state (id INTEGER PRIMARY KEY)"],
        ],
        folder.path(),
    );
    let (outcome, db, _desk) = first_sync(lie);
    outcome.unwrap();
    assert!(!folder.path().join("attached.db").exists(), "a file was made");
    assert_eq!(read(&db, "SELECT id, cents FROM payments"), "1|500");
    let tables = "SELECT group_concat(name) FROM (SELECT name FROM sqlite_schema
        WHERE type IN ('table', 'index') AND name NOT LIKE 'driftless%' AND name NOT LIKE 'sqlite%'
        ORDER BY name)";
    assert_eq!(read(&db, tables), "fresh,i5,members,payments");
    assert_eq!(read(&db, "SELECT name FROM members ORDER BY id"), "Ana\nBea");
}

#[test]
fn more_definitions_than_any_database_has_are_refused() {
    let (outcome, db, _desk) = first_sync(Box::new(|batch, answer| {
        if batch.statements[0].sql.contains("FROM sqlite_schema") {
            for number in 0..20_000 {
                let name = format!("t{number}");
                let sql = format!("CREATE TABLE {name} (id PRIMARY KEY)");
                let row = ["table", &name, &name, &sql].map(Value::from);
                answer.rows[0].push([row.to_vec(), vec![Value::Integer(number)]].concat());
            }
        }
    }));
    assert_eq!(outcome.unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(read(&db, "SELECT id, cents FROM payments"), "1|500");
}

#[test]
fn rows_that_are_none_are_refused() {
    let bad: [&[u8]; 10] = [
        b"[[\"m1\"],{\"id\":\"m2\",\"name\":\"x\",\"email\":null}]",
        // The key of `m1` in another spelling: no event of the row would be found by it.
        br#"[["\u006d1"],{"id":"m1","name":"x","email":null}]"#,
        b"[[\"m1\",\"m1\"],{\"id\":\"m1\",\"name\":\"x\",\"email\":null}]",
        b"[[null],{\"id\":null,\"name\":\"x\",\"email\":null}]",
        b"[[\"m1\"],{\"name\":\"x\",\"email\":null}]",
        b"[[\"m1\"],{}]",
        b"[[\"m1\"],{\"id\":\"m1\",\"name\":\"x\",\"NAME\":\"y\",\"email\":null}]",
        b"[[\"m1\"],[]]",
        b"[[\"m1\"]]",
        b"nonsense",
    ];
    for line in bad {
        let (outcome, db, _desk) = first_sync(Box::new(move |batch, answer| {
            if batch.statements[0].sql.contains("FROM \"members\" AS r") {
                answer.rows[0] = vec![vec![Value::Blob(line.to_vec()), Value::Integer(1)]];
            }
        }));
        let line = String::from_utf8_lossy(line);
        let error = outcome.expect_err(&line);
        assert_eq!(error.kind(), Kind::Corrupt, "{line}: {error:?}");
        assert_eq!(read(&db, "SELECT id, cents FROM payments"), "1|500", "{line}");
        db.execute_batch("INSERT INTO members VALUES ('mine', 'goes on', NULL)").unwrap();
    }
}

#[test]
fn a_table_that_never_ends_is_noticed() {
    // The same page again and again.
    let (outcome, _db, _desk) = first_sync(Box::new(|batch, answer| {
        if batch.statements[0].sql.contains("FROM \"members\" AS r") {
            let row = b"[[\"m1\"],{\"id\":\"m1\",\"name\":\"x\",\"email\":null}]".to_vec();
            answer.rows[0] = vec![vec![Value::Blob(row), Value::Integer(1)]];
        }
    }));
    assert_eq!(outcome.unwrap_err().kind(), Kind::Corrupt);
}

#[test]
fn an_event_that_is_none_does_not_stop_the_first_sync() {
    let lines = [
        r#"[5,"01JD8ZK3V5QWERTY0000000005","web",null,null,"members",["m1"],"update",{},{"name":{"q":"1"}},0,null,null,null,"applied",null,1]"#,
        r#"[6,"01JD8ZK3V5QWERTY0000000006","web",null,null,"members",["m1","x"],"update",{},{"name":"x"},0,null,null,null,"applied",null,1]"#,
        "[7,nonsense",
        r#"[8,"01JD8ZK3V5QWERTY0000000008","web",null,null,"members",["m2"],"update",{},{"name":"Beate"},0,null,null,null,"applied",null,1]"#,
    ]
    .join("\n")
    .into_bytes();
    let (outcome, db, _desk) = first_sync(Box::new(move |batch, answer| {
        if batch.statements[0].sql.contains("FROM driftless_events") && batch.statements.len() == 2
        {
            let numbers = [8, 4, 8].map(Value::Integer);
            answer.rows[0] = vec![[vec![Value::Blob(lines.clone())], numbers.to_vec()].concat()];
        }
    }));
    outcome.unwrap();
    assert_eq!(read(&db, "SELECT name FROM members ORDER BY id"), "Ana\nBeate");
    assert_eq!(read(&db, "SELECT seq FROM driftless_quarantine ORDER BY seq"), "5\n6\n7");
}

/// The page that an answer has, without the lines of these seqs.
fn without(mut answer: Answer, seqs: &[i64]) -> Answer {
    let place = answer.rows.len() - 2;
    let Value::Blob(bytes) = &answer.rows[place][0][0] else { panic!("it has a page") };
    let text = String::from_utf8(bytes.clone()).unwrap();
    let left_out = |line: &&str| !seqs.iter().any(|seq| line.starts_with(&format!("[{seq},")));
    let lines: Vec<_> = text.split('\n').filter(left_out).collect();
    answer.rows[place][0][2] = Value::Integer(lines.len() as i64);
    answer.rows[place][0][0] = Value::Blob(lines.join("\n").into_bytes());
    answer
}

/// An answer that has an empty page.
fn with_nothing(mut answer: Answer) -> Answer {
    let place = answer.rows.len() - 2;
    answer.rows[place] = vec![vec![Value::Null, Value::Null, Value::Integer(0), Value::Null]];
    answer
}

/// The desk pushes `desk`, and hears nothing; then the web writes `web`; and the page with both
/// comes without the events of `seqs`. Nothing in that page is wrong by itself.
fn overlooked(desk: &str, web: &str, seqs: &[i64]) -> Scene {
    let mut scene = Scene::new();
    scene.remote.fail([Fault::LostAfter]);
    scene.desk.write(desk);
    assert!(scene.answer(|answer| answer));
    scene.remote.web(web);
    assert!(scene.answer(|answer| without(answer, seqs)));
    scene
}

/// What makes the page's last line that of another event.
const AFTER_IT: &str = "INSERT INTO members VALUES ('after', 'it', NULL)";

/// The cursor goes past an event that was pushed. That is a contradiction, which is noticed at the
/// log's end: the remote is asked for the event by its id.
#[test]
fn an_event_of_ours_that_the_page_left_out_is_asked_for() {
    let cases = [
        ("UPDATE members SET name = 'Anna' WHERE id = 'm1'", ""),
        // The web has changed the row since, and what it changed comes out on top.
        (
            "UPDATE members SET name = 'Anna', email = 'new' WHERE id = 'm1'",
            "UPDATE members SET name = 'Eva' WHERE id = 'm1'",
        ),
        ("INSERT INTO members VALUES ('m3', 'Cid', NULL)", "UPDATE members SET name = id || name"),
        ("INSERT INTO members VALUES ('m3', 'Cid', NULL)", "DELETE FROM members WHERE id = 'm3'"),
        ("DELETE FROM members WHERE id = 'm1'", "INSERT INTO members VALUES ('m1', 'x', 'y')"),
        (
            "UPDATE members SET email = 'b' WHERE id = 'm1'",
            "UPDATE members SET email = 'c' WHERE id = 'm1';
             UPDATE members SET email = 'b' WHERE id = 'm2'",
        ),
        (
            "UPDATE members SET id = 'm0' WHERE id = 'm1'",
            "UPDATE members SET name = 'moved' WHERE id = 'm0'",
        ),
    ];
    for (desk, web) in cases {
        let seqs = if desk.contains("SET id") { &[3, 4][..] } else { &[3] };
        let mut scene = overlooked(desk, &format!("{web}; {AFTER_IT}"), seqs);
        assert!(scene.desk.status().cursor > 3 && scene.desk.status().pending > 0, "{desk}");
        scene.recover();
        assert_equal(&scene.desk, &["members", "payments"]);
        assert_eq!(scene.desk.status().quarantined, 0, "{desk}, {web}");
        scene.check();
        scene.recover();
        assert_equal(&scene.desk, &["members", "payments"]);
    }
}

/// A push is acknowledged, and the page of the same transaction does not have it.
#[test]
fn an_acknowledged_event_that_no_page_has_is_asked_for() {
    let mut scene = Scene::new();
    scene.desk.write("UPDATE members SET name = 'Anna' WHERE id = 'm1'");
    assert!(scene.answer(with_nothing));
    let question = scene.remote.batches().len();
    scene.recover();
    assert_equal(&scene.desk, &["members", "payments"]);
    let asked = &scene.remote.batches()[question].statements[0].sql;
    assert!(asked.contains("WHERE id IN (?"), "{asked}");
}

/// The same where the event is larger than an answer may be: its line is asked for in chunks, and
/// an answer is lost, the limit falls, and the process ends, all in the middle of it.
#[test]
fn an_overlooked_event_that_no_answer_takes_is_read_in_chunks() {
    const CAP: usize = 100_000;
    let desk = format!(
        "UPDATE members SET email = '{}' WHERE id = 'm1';
         UPDATE members SET name = 'Bo' WHERE id = 'm2'",
        "x".repeat(600_000)
    );
    let web = format!("UPDATE members SET name = 'Eva' WHERE id = 'm1'; {AFTER_IT}");
    let mut scene = overlooked(&desk, &web, &[3, 4]);
    scene.remote.set_caps(usize::MAX, CAP);
    let chunks = |scene: &Scene| {
        let chunked = |batch: &Batch| {
            let question = &batch.statements[0].sql;
            question.contains("substr(line") && question.contains("WHERE id = ?")
        };
        scene.remote.batches().iter().filter(|batch| chunked(batch)).count()
    };
    for (what, seen) in [7, 10, 14].into_iter().enumerate() {
        scene.desk.input(Input::SyncNow(Ticket(7 + what as u64)));
        while chunks(&scene) < seen {
            assert!(scene.desk.deliver(), "it asks for chunks");
        }
        let status = scene.desk.status();
        assert_eq!((status.cursor, status.pending), (6, 2), "it is in the middle of the line");
        match what {
            0 => scene.remote.fail([Fault::LostAfter]),
            1 => scene.remote.set_caps(usize::MAX, CAP / 3),
            _ => scene.desk.restart(),
        }
        scene.desk.deliver();
    }
    scene.recover();
    assert!(chunks(&scene) > 20, "{}", chunks(&scene));
    assert_equal(&scene.desk, &["members", "payments"]);
    let status = scene.desk.status();
    assert_eq!((status.pending, status.trouble), (0, None));
    scene.check();
}

/// A limit that nobody meant is named; nothing is lost.
#[test]
fn an_overlooked_event_that_no_chunk_brings_is_named() {
    let large = "x".repeat(300_000);
    let desk = format!("UPDATE members SET email = '{large}' WHERE id = 'm1'");
    let mut scene = overlooked(&desk, AFTER_IT, &[3]);
    scene.remote.set_caps(usize::MAX, 2_000);
    scene.desk.settled.clear();
    let error = scene.desk.sync().unwrap_err();
    assert_eq!(error.code(), Code::EventUnreadable, "{error}");
    scene.remote.set_caps(usize::MAX, usize::MAX);
    scene.recover();
    assert_equal(&scene.desk, &["members", "payments"]);
}

/// How many events a request asks for by their ids; `None` if it does no such thing.
fn asked(batch: &Batch) -> Option<usize> {
    let (_, ids) = batch.statements[0].sql.split_once("WHERE id IN (")?;
    Some(ids.split_once(')').unwrap().0.split(',').count())
}

/// The desk pushes large rows and hears nothing, and the page that has them comes without them.
fn rows_overlooked(scene: &mut Scene, prefix: &str, seqs: &[i64]) {
    scene.remote.fail([Fault::LostAfter]);
    scene.desk.write(&format!(
        "INSERT INTO members SELECT '{prefix}' || value, printf('%.*c', 2000, 'x'), NULL \
         FROM json_each('{seqs:?}')"
    ));
    assert!(scene.answer(|answer| answer));
    scene.remote.web(&format!("INSERT INTO members VALUES ('after {prefix}', NULL, NULL)"));
    assert!(scene.answer(|answer| without(answer, seqs)));
}

/// Fewer are asked for where the answer would be too large, and only there.
#[test]
fn a_question_whose_answer_is_too_large_is_asked_in_parts() {
    let mut scene = Scene::new();
    let begun = scene.remote.batches().len();
    rows_overlooked(&mut scene, "a", &[3, 4, 5, 6]);
    scene.remote.set_caps(usize::MAX, 5_500);
    scene.desk.settle();
    scene.remote.set_caps(usize::MAX, usize::MAX);
    rows_overlooked(&mut scene, "b", &[8, 9, 10, 11]);
    scene.desk.settle();
    let batches = scene.remote.batches().split_off(begun);
    let questions: Vec<_> = batches.iter().filter_map(asked).collect();
    assert_eq!(questions, [4, 2, 2, 4]);
    assert_eq!(batches.iter().filter(|batch| batch.writes).count(), 4, "none is pushed thrice");
    assert_eq!(scene.desk.status().trouble, None);
    assert_equal(&scene.desk, &["members", "payments"]);
    rows_overlooked(&mut scene, "c", &[13]);
    scene.desk.settle();
    assert_eq!((scene.desk.status().trouble, scene.desk.status().pending), (None, 0));
}

/// A process that has just begun has not read the log to its end, and may find there what it
/// misses.
#[test]
fn whoever_begins_looks_before_it_asks() {
    let mut scene = Scene::new();
    scene.desk.write("UPDATE members SET name = 'Anna' WHERE id = 'm1'");
    assert!(scene.answer(with_nothing));
    assert!(asked(&scene.desk.sent[0].1).is_some());
    scene.desk.restart();
    assert_eq!(asked(&scene.desk.sent[0].1), None);
    scene.desk.settle();
    assert_equal(&scene.desk, &["members", "payments"]);
}

/// What does not hold together is looked at thrice, and then the remote is left alone for a minute.
#[test]
fn a_remote_that_goes_on_contradicting_itself_is_left_alone() {
    let mut scene = Scene::new();
    scene.desk.write("UPDATE members SET name = 'Anna' WHERE id = 'm1'");
    let (mut questions, mut waited) = (0, 0);
    while waited < 50_000 {
        assert!(questions < 10, "it asks for ever");
        if let Some((id, batch)) = scene.desk.sent.pop_front() {
            questions += usize::from(asked(&batch).is_some());
            let outcome = scene.remote.run_now(batch).map(with_nothing);
            scene.desk.input(Input::Answer(id, outcome));
        } else {
            let timer = scene.desk.timer.take().expect("it waits for something");
            waited = timer - scene.desk.now.steady_ms;
            scene.desk.now.steady_ms = timer;
            scene.desk.input(Input::Timer);
        }
    }
    assert_eq!(questions, 3);
    scene.desk.sent.clear();
    scene.desk.input(Input::Wake);
    scene.recover();
    assert_equal(&scene.desk, &["members", "payments"]);
}

/// An acknowledgement that was none, from a remote that says so again and again: the sync ends, and
/// says which event it is about. What was said to be there is pushed again.
#[test]
fn an_event_that_was_acknowledged_and_is_not_there_is_pushed_again() {
    let mut scene = Scene::new();
    scene.desk.write("UPDATE members SET name = 'Anna' WHERE id = 'm1'");
    scene.desk.input(Input::SyncNow(Ticket(7)));
    for _ in 0..40 {
        let Some((id, batch)) = scene.desk.sent.pop_front() else {
            scene.desk.now.steady_ms += 300;
            scene.desk.input(Input::Timer);
            continue;
        };
        let pushes = batch.writes;
        let outcome = scene.remote.run_now(batch);
        if pushes {
            // The incarnation stays, and what was pushed is taken back.
            scene.remote.web(
                "DELETE FROM driftless_events WHERE seq = 3;
                 UPDATE sqlite_sequence SET seq = 2 WHERE name = 'driftless_events'",
            );
        }
        let honest = |answer| if pushes { with_nothing(answer) } else { answer };
        scene.desk.input(Input::Answer(id, outcome.map(honest)));
    }
    let told = scene.desk.settled.iter().position(|(ticket, _)| *ticket == Ticket(7));
    let told = told.map(|at| scene.desk.settled.remove(at));
    let (_, told) = told.expect("the sync ends");
    let error = told.unwrap_err();
    assert_eq!(error.code(), Code::EventNotKept, "{error}");
    scene.recover();
    // Here the row has the new name already, for only the log was changed behind its back.
    assert_equal(&scene.desk, &["members", "payments"]);
    assert_eq!(scene.remote.read("SELECT name FROM members WHERE id = 'm1'"), "Anna");
}

/// Where our event stands, another one was read. That cannot be mended event by event: replication
/// stops, says so, in later processes too, and goes on when a person says that the remote counts.
#[test]
fn a_log_that_is_not_the_one_that_was_read_stops_replication() {
    let mut scene = Scene::new();
    scene.remote.fail([Fault::LostAfter]);
    scene.desk.write("UPDATE members SET name = 'Anna' WHERE id = 'm1'");
    assert!(scene.answer(|answer| answer));
    scene.remote.web(AFTER_IT);
    assert!(scene.answer(|mut answer| {
        let place = answer.rows.len() - 2;
        let Value::Blob(bytes) = &answer.rows[place][0][0] else { panic!("it has a page") };
        let text = String::from_utf8(bytes.clone()).unwrap();
        let made_up = r#"[3,"01JD8ZK3V5QWERTY0000000003","web",null,null,"members",["m2"],"update",{},{"name":"made up"},0,null,null,null,"applied",null,1]"#;
        let (_, rest) = text.split_once('\n').unwrap();
        answer.rows[place][0][0] = Value::Blob(format!("{made_up}\n{rest}").into_bytes());
        answer
    }));
    for again in 0..3 {
        scene.desk.settled.clear();
        scene.desk.advance(120_000);
        let error = scene.desk.sync().unwrap_err();
        assert_eq!(error.code(), Code::RemoteLogDiffers, "{error}");
        let status = scene.desk.status();
        assert_eq!(status.state, SyncState::RolledBack);
        assert_eq!(status.health, Health::Red);
        let (cursor, log) =
            (status.cursor, scene.remote.read("SELECT max(seq) FROM driftless_events"));
        scene.remote.web(&format!("INSERT INTO members VALUES ('later {again}', NULL, NULL)"));
        scene.desk.write(&format!("INSERT INTO payments VALUES ({again}, NULL, 5)"));
        scene.desk.restart();
        scene.desk.advance(120_000);
        assert_eq!(scene.desk.status().cursor, cursor, "nothing is pulled");
        let now = scene.remote.read("SELECT max(seq) - 1 FROM driftless_events");
        assert_eq!(now, log, "nothing is pushed");
    }
    // What the web has made of our event meanwhile is on top of it.
    scene.remote.web("UPDATE members SET name = 'Eva' WHERE id = 'm1'");
    scene.desk.settled.clear();
    scene.desk.accept().unwrap();
    scene.desk.sync().unwrap();
    assert_equal(&scene.desk, &["members", "payments"]);
    assert_eq!(scene.desk.read("SELECT count(*) FROM payments"), "3");
    assert_eq!(scene.desk.read("SELECT name FROM members WHERE id IN ('m1', 'm2')"), "Eva\nBea");
}

/// Two of our inserts are said to be the other half of one delete, which came in a page before. The
/// loss is listed once, and the page is integrated.
#[test]
fn two_halves_of_one_loss_are_listed_once() {
    let mut scene = Scene::new();
    scene.remote.web(
        "UPDATE members SET name = 'W' WHERE id = 'm1'; INSERT INTO members VALUES ('m9', 'W', NULL)",
    );
    scene.desk.write(
        "BEGIN; UPDATE members SET id = 'x1' WHERE id = 'm1';
         INSERT INTO members VALUES ('m9', 'mine', NULL); COMMIT",
    );
    let mut delete = String::new();
    let lines = |answer: &Answer| {
        let Value::Blob(bytes) = &answer.rows[answer.rows.len() - 2][0][0] else {
            panic!("a page")
        };
        let text = String::from_utf8(bytes.clone()).unwrap();
        text.split('\n').map(str::to_owned).collect::<Vec<_>>()
    };
    let paged = |mut answer: Answer, lines: &[String], last: i64| {
        let place = answer.rows.len() - 2;
        let numbers = [last, lines.len() as i64, 7].map(Value::Integer);
        let bytes = Value::Blob(lines.join("\n").into_bytes());
        answer.rows[place] = vec![[vec![bytes], numbers.to_vec()].concat()];
        answer
    };
    assert!(scene.answer(|answer| {
        let lines = lines(&answer);
        assert_eq!(lines.len(), 5);
        delete = lines[2].split('"').nth(1).unwrap().to_owned();
        paged(answer, &lines[..3], 5)
    }));
    assert!(scene.answer(|answer| {
        let mut lines = lines(&answer);
        let pair = format!("null,null,\"{delete}\",\"superseded\"");
        lines[1] = lines[1].replacen("null,null,null,\"superseded\"", &pair, 1);
        assert!(lines[1].contains(&pair), "{}", lines[1]);
        paged(answer, &lines, 7)
    }));
    assert_eq!(scene.desk.status().trouble, None);
    assert_eq!((scene.desk.status().cursor, scene.desk.status().pending), (7, 0));
    scene.check();
    scene.recover();
    assert_equal(&scene.desk, &["members", "payments"]);
}

/// An answer tells of a log that is longer than it is. Who waits for that end is told that it is
/// not there, and does not wait for ever.
#[test]
fn an_end_that_there_is_not_is_not_waited_for() {
    let mut scene = Scene::new();
    scene.remote.web(AFTER_IT);
    assert!(scene.answer(|mut answer| {
        let place = answer.rows.len() - 2;
        answer.rows[place][0][3] = Value::Integer(1_000);
        answer
    }));
    scene.desk.advance(1);
    assert!(matches!(scene.desk.settled.as_slice(), [(_, Ok(_))]), "{:?}", scene.desk.settled);
    assert_equal(&scene.desk, &["members", "payments"]);
}
