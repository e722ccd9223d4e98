//! The `libsql` crate as a client of the hub.

use hyper::client::HttpConnector;
use libsql::{Builder, Connection, TransactionBehavior, Value, params};

use super::Running;

async fn connect(hub: &Running, token: &str) -> Connection {
    let database = Builder::new_remote(hub.url.clone(), token.to_owned())
        .connector(HttpConnector::new())
        .build()
        .await
        .unwrap();
    database.connect().unwrap()
}

async fn count(connection: &Connection) -> i64 {
    let mut rows = connection.query("SELECT count(*) FROM t", ()).await.unwrap();
    rows.next().await.unwrap().unwrap().get(0).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_come_back_as_they_were_sent() {
    let hub = Running::start(|_| {}).await;
    let connection = connect(&hub, "").await;
    connection.execute("CREATE TABLE t (value ANY) STRICT", ()).await.unwrap();
    let long = "it's \"long\"\n\u{1f3cb}\u{1}".repeat(10_000);
    let values = [
        Value::Null,
        Value::Integer(i64::MIN),
        Value::Integer(i64::MAX),
        Value::Real(0.1 + 0.2),
        Value::Real(-5e-324),
        Value::Text(String::new()),
        Value::Text(long),
        Value::Blob(vec![]),
        Value::Blob((0..=255).cycle().take(1_000_001).collect()),
    ];
    for value in &values {
        let inserted =
            connection.execute("INSERT INTO t VALUES (?)", params![value.clone()]).await.unwrap();
        assert_eq!(inserted, 1);
    }
    assert_eq!(connection.last_insert_rowid(), i64::try_from(values.len()).unwrap());
    let mut rows = connection.query("SELECT value FROM t ORDER BY rowid", ()).await.unwrap();
    for value in &values {
        let row = rows.next().await.unwrap().unwrap();
        assert_eq!(row.get_value(0).unwrap(), *value);
    }
    assert!(rows.next().await.unwrap().is_none());
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transactional_batch_gives_its_rows_and_is_atomic() {
    let hub = Running::start(|_| {}).await;
    let connection = connect(&hub, "").await;
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)", ()).await.unwrap();
    let mut answers = connection
        .execute_transactional_batch(
            "INSERT INTO t VALUES (1), (2) RETURNING id; SELECT x'00ff', count(*) FROM t",
        )
        .await
        .unwrap();
    let mut returned = answers.next_stmt_row().unwrap().unwrap();
    assert_eq!(returned.next().await.unwrap().unwrap().get::<i64>(0).unwrap(), 1);
    assert_eq!(returned.next().await.unwrap().unwrap().get::<i64>(0).unwrap(), 2);
    assert!(returned.next().await.unwrap().is_none());
    let mut selected = answers.next_stmt_row().unwrap().unwrap();
    let row = selected.next().await.unwrap().unwrap();
    assert_eq!(row.get_value(0).unwrap(), Value::Blob(vec![0, 255]));
    assert_eq!(row.get::<i64>(1).unwrap(), 2);

    let failed = connection
        .execute_transactional_batch("INSERT INTO t VALUES (3); INSERT INTO t VALUES (3)")
        .await;
    let error = failed.err().unwrap().to_string();
    assert!(error.contains("UNIQUE constraint failed: t.id"), "{error}");
    assert_eq!(count(&connection).await, 2);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn interactive_transactions_commit_and_roll_back() {
    let hub = Running::start(|_| {}).await;
    let connection = connect(&hub, "").await;
    connection.execute("CREATE TABLE t (a)", ()).await.unwrap();

    let transaction = connection.transaction().await.unwrap();
    transaction.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    assert_eq!(count(&transaction).await, 1);
    assert_eq!(count(&connection).await, 0, "nobody else sees what is not committed");
    transaction.commit().await.unwrap();
    assert_eq!(count(&connection).await, 1);

    let behavior = TransactionBehavior::Immediate;
    let transaction = connection.transaction_with_behavior(behavior).await.unwrap();
    transaction.execute("DELETE FROM t", ()).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(count(&connection).await, 1);

    let behavior = TransactionBehavior::ReadOnly;
    let transaction = connection.transaction_with_behavior(behavior).await.unwrap();
    assert_eq!(count(&transaction).await, 1);
    let error = transaction.execute("DELETE FROM t", ()).await.unwrap_err().to_string();
    assert!(error.contains("SQLITE_READONLY"), "{error}");
    transaction.rollback().await.unwrap();
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_tell_the_reason() {
    let hub = Running::start(|_| {}).await;
    let connection = connect(&hub, "").await;
    for (sql, reason) in [
        ("SELECT * FROM missing", "no such table: missing"),
        ("CREATE TABLE t (a PRIMARY KEY); INSERT INTO t VALUES (1)", ""),
        ("INSERT INTO t VALUES (1)", ""),
        ("INSERT INTO t VALUES (1)", "SQLITE_CONSTRAINT"),
    ] {
        match connection.execute(sql, ()).await {
            Ok(_) => assert_eq!(reason, "", "{sql} succeeded"),
            Err(error) => {
                assert!(!reason.is_empty() && error.to_string().contains(reason), "{sql}: {error}");
            }
        }
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_refused() {
    let hub = Running::start(|config| config.token = Some("right".into())).await;
    let right = connect(&hub, "right").await;
    right.execute("CREATE TABLE t (a)", ()).await.unwrap();
    let wrong = connect(&hub, "wrong").await;
    // A large body is read to its end before the answer, so that the client sees the answer.
    let sql = format!("INSERT INTO t VALUES ('{}')", "x".repeat(4_000_000));
    let error = wrong.execute(&sql, ()).await.unwrap_err().to_string();
    assert!(error.contains("401"), "{error}");
    assert_eq!(count(&right).await, 0);
    hub.stop().await;
}
