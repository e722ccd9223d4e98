//! What the trait `Remote` promises.

use std::sync::Arc;
use std::task::{Context, Waker};

use driftless::Kind;
use driftless::event::value::Value;

use super::{NARROW, Subject, batch, suite};

suite!(
    all_or_nothing,
    a_statement_that_fails_is_rejected,
    every_statement_has_its_rows,
    values_arrive_as_they_are,
    a_batch_has_statements,
    an_answer_too_large,
    a_large_statement,
    a_dropped_future,
    a_reading_batch_sees_one_moment,
    writers_at_the_same_time,
);

const TABLE: &str = "CREATE TABLE conformance_t (id INTEGER PRIMARY KEY, v)";
const COUNT: &str = "SELECT count(*) FROM conformance_t";

fn all_or_nothing(subject: &Subject) {
    subject.write(&[TABLE]);
    let twice = [
        "INSERT INTO conformance_t VALUES (1, 'a')",
        "CREATE TABLE conformance_u (id)",
        "INSERT INTO conformance_t VALUES (1, 'b')",
    ];
    assert_eq!(subject.run(true, &twice).unwrap_err().kind(), Kind::Rejected);
    assert_eq!(subject.one(COUNT), "0");
    subject.write(&["CREATE TABLE conformance_u (id)"]);
    subject.write(&["INSERT INTO conformance_t VALUES (1, 'a')", "UPDATE conformance_t SET v = 2"]);
    assert_eq!(subject.one("SELECT v FROM conformance_t"), "2");
}

fn a_statement_that_fails_is_rejected(subject: &Subject) {
    subject.write(&[
        TABLE,
        "CREATE TRIGGER conformance_no BEFORE DELETE ON conformance_t
         BEGIN SELECT RAISE(ABORT, 'not this one'); END",
        "CREATE TABLE conformance_payments (id INTEGER PRIMARY KEY, t NOT NULL
         REFERENCES conformance_t DEFERRABLE INITIALLY DEFERRED, CHECK (t <> 7))",
        "INSERT INTO conformance_t VALUES (1, 1)",
    ]);
    let cases = [
        ("INSERT INTO conformance_t VALUES (1, 2)", "UNIQUE"),
        ("DELETE FROM conformance_t", "not this one"),
        ("INSERT INTO conformance_payments VALUES (1, NULL)", "NOT NULL"),
        ("INSERT INTO conformance_payments VALUES (1, 7)", "CHECK"),
        ("INSERT INTO conformance_missing VALUES (1)", "conformance_missing"),
        ("INSERT INTO conformance_t VALUES (", ""),
        // It fails at the end of the transaction only.
        ("INSERT INTO conformance_payments VALUES (1, 5)", "FOREIGN KEY"),
    ];
    for (sql, reason) in cases {
        let error = subject.run(true, &[sql]).unwrap_err();
        assert_eq!(error.kind(), Kind::Rejected, "{sql}: {error}");
        assert!(error.message().contains(reason), "{sql}: {error}");
    }
    // One in the middle is no better.
    let error = subject.run(true, &[TABLE, cases[0].0, TABLE]).unwrap_err();
    assert_eq!(error.kind(), Kind::Rejected);
    assert_eq!(subject.one(COUNT), "1");
    assert_eq!(subject.one("SELECT count(*) FROM conformance_payments"), "0");
}

fn every_statement_has_its_rows(subject: &Subject) {
    let answer = subject.write(&[
        TABLE,
        "INSERT INTO conformance_t VALUES (1, 'a'), (2, 'b') RETURNING id, v",
        "SELECT id FROM conformance_t ORDER BY id DESC",
        "UPDATE conformance_t SET v = 'c' WHERE id = 9",
        "SELECT v FROM conformance_t WHERE id = 9",
        "SELECT count(*), max(v) FROM conformance_t",
    ]);
    let text = |text: &str| Value::Text(text.as_bytes().to_vec());
    let expected = [
        vec![],
        vec![vec![Value::Integer(1), text("a")], vec![Value::Integer(2), text("b")]],
        vec![vec![Value::Integer(2)], vec![Value::Integer(1)]],
        vec![],
        vec![],
        vec![vec![Value::Integer(2), text("b")]],
    ];
    assert!(answer.rows == expected, "{} results", answer.rows.len());
}

fn values_arrive_as_they_are(subject: &Subject) {
    let bytes: Vec<u8> = (0..=255).collect();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let cases = [
        ("NULL".to_owned(), Value::Null),
        ("0".to_owned(), Value::Integer(0)),
        ("9223372036854775807".to_owned(), Value::Integer(i64::MAX)),
        ("-9223372036854775807 - 1".to_owned(), Value::Integer(i64::MIN)),
        ("9007199254740993".to_owned(), Value::Integer((1 << 53) + 1)),
        ("0.5".to_owned(), Value::Real(0.5)),
        ("''".to_owned(), Value::Text(Vec::new())),
        ("'it''s \"a\" \\ π 🏋'".to_owned(), Value::Text("it's \"a\" \\ π 🏋".into())),
        ("char(10) || char(9)".to_owned(), Value::Text(b"\n\t".to_vec())),
        ("x''".to_owned(), Value::Blob(Vec::new())),
        (format!("x'{hex}'"), Value::Blob(bytes)),
        ("zeroblob(300000)".to_owned(), Value::Blob(vec![0; 300_000])),
    ];
    for (sql, expected) in &cases {
        let answer = subject.run(false, &[&format!("SELECT {sql} AS v")]).unwrap();
        assert!(answer.rows == [vec![vec![expected.clone()]]], "{sql}");
    }
    // So they do when they were stored, and all in one answer.
    let mut statements = vec!["CREATE TABLE conformance_v (id INTEGER PRIMARY KEY, v)".to_owned()];
    for (sql, _) in &cases {
        statements.push(format!("INSERT INTO conformance_v (v) VALUES ({sql})"));
    }
    statements.push("SELECT v FROM conformance_v ORDER BY id".to_owned());
    let statements: Vec<_> = statements.iter().map(String::as_str).collect();
    let answer = subject.write(&statements);
    let expected: Vec<_> = cases.into_iter().map(|(_, value)| vec![value]).collect();
    assert!(answer.rows.last() == Some(&expected), "the stored values");
}

fn a_batch_has_statements(subject: &Subject) {
    for writes in [false, true] {
        assert_eq!(subject.run(writes, &[]).unwrap_err().kind(), Kind::Usage);
    }
}

fn an_answer_too_large(subject: &Subject) {
    let narrow = subject.narrow();
    let run = |bytes: u64| {
        let sql = format!("SELECT zeroblob({bytes})");
        subject.runtime.block_on(narrow.run(batch(false, &[&sql])))
    };
    assert_eq!(run(NARROW * 2).unwrap_err().kind(), Kind::TooLarge);
    // It is of use afterwards.
    assert!(run(NARROW / 4).is_ok());
}

fn a_large_statement(subject: &Subject) {
    let text = "it''s ".repeat(600_000);
    subject.write(&[TABLE, &format!("INSERT INTO conformance_t VALUES (1, '{text}')")]);
    assert_eq!(subject.one("SELECT length(v) FROM conformance_t"), "3000000");
}

fn a_dropped_future(subject: &Subject) {
    subject.write(&[TABLE]);
    let insert = "INSERT INTO conformance_t SELECT 1, count(*) FROM (WITH RECURSIVE n(i) AS
         (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) SELECT i FROM n)";
    // Never polled, polled once, and waited for a little.
    drop(subject.remote.run(batch(true, &[insert])));
    subject.runtime.block_on(async {
        let mut pending = subject.remote.run(batch(true, &[insert]));
        let _ = pending.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    });
    subject.runtime.block_on(async {
        let pending = subject.remote.run(batch(true, &["INSERT INTO conformance_t VALUES (2, 2)"]));
        let _ = tokio::time::timeout(std::time::Duration::from_millis(1), pending).await;
    });
    subject.write(&["INSERT INTO conformance_t VALUES (9, 9)"]);
    assert_eq!(subject.one("SELECT count(*) FROM conformance_t WHERE id = 9"), "1");
}

fn a_reading_batch_sees_one_moment(subject: &Subject) {
    subject.write(&[TABLE]);
    let writer = subject.another();
    let writing = subject.runtime.spawn(async move {
        for id in 0..40 {
            let sql = format!("INSERT INTO conformance_t VALUES ({id}, 0)");
            let _ = writer.run(batch(true, &[&sql])).await;
        }
    });
    let slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
         SELECT max(i) FROM n";
    let mut last = 0;
    for _ in 0..20 {
        let rows = subject.run(false, &[COUNT, slow, COUNT]).unwrap().rows;
        assert!(rows[0] == rows[2], "two counts of one batch");
        let count = rows[0][0][0].as_integer().unwrap();
        assert!(count >= last, "what was there is still there");
        last = count;
    }
    subject.runtime.block_on(writing).unwrap();
}

fn writers_at_the_same_time(subject: &Subject) {
    subject.write(&[TABLE, "INSERT INTO conformance_t VALUES (1, 0)"]);
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let writer = subject.another();
            subject.runtime.spawn(async move {
                let mut done = 0;
                for _ in 0..5 {
                    let add = "UPDATE conformance_t SET v = v + 1";
                    match writer.run(batch(true, &[add])).await {
                        Ok(_) => done += 1,
                        Err(error) => assert_eq!(error.kind(), Kind::Unavailable, "{error}"),
                    }
                }
                done
            })
        })
        .collect();
    let done: i64 = tasks.into_iter().map(|task| subject.runtime.block_on(task).unwrap()).sum();
    assert!(done > 0);
    assert_eq!(subject.one("SELECT v FROM conformance_t"), done.to_string());
    assert!(Arc::strong_count(&subject.remote) >= 1);
}
