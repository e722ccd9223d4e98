//! The replicator inside an application: threads, clocks and files for real. Nothing here depends on
//! speed: each wait ends when what it waits for has come, and gives up only after a long while.

use std::sync::Arc;
use std::time::Duration;

use driftless::event::Op;
use driftless::inspect::{Entry, LogFilter, Replica};
use driftless::remote::{Batch, Libsql, Options, Remote};
use driftless::sync::SyncState;
use driftless::{Error, Health, Kind, Replicator};
use rusqlite::Connection;

use crate::hub::Running;
use crate::support::desk::SCHEMA;
use crate::support::local_remote::{Fault, LocalRemote};

/// After this a test that waits has failed.
const PATIENCE: Duration = Duration::from_secs(30);

struct Place {
    folder: tempfile::TempDir,
    remote: Arc<LocalRemote>,
}

impl Place {
    fn new(schema: &str) -> Self {
        let place = Place {
            folder: tempfile::tempdir().unwrap(),
            remote: Arc::new(LocalRemote::new(SCHEMA)),
        };
        Connection::open(place.path()).unwrap().execute_batch(schema).unwrap();
        place
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("desk.db")
    }

    fn start(&self) -> Replicator {
        let remote: Arc<dyn Remote> = Arc::clone(&self.remote) as Arc<dyn Remote>;
        Replicator::builder(self.path())
            .with_remote(remote)
            .tables(["members", "payments"])
            .poll_interval(Duration::from_millis(100))
            .start()
            .unwrap()
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let mut waited = Duration::ZERO;
    while !done() {
        assert!(waited < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
        waited += Duration::from_millis(5);
    }
}

#[test]
fn a_commit_goes_out_by_itself_and_the_webs_comes_in() {
    let place = Place::new(SCHEMA);
    let replicator = place.start();
    let mut changes = replicator.subscribe();
    let db = replicator.connection().unwrap();
    db.execute("INSERT INTO members (id, name) VALUES ('1', 'Ana')", []).unwrap();
    wait_for("the commit arrives", || place.remote.read("SELECT name FROM members") == "Ana");
    // Any program's commit is noticed.
    let other = Connection::open(place.path()).unwrap();
    other.execute("UPDATE members SET name = 'Anna'", []).unwrap();
    wait_for("the other commit arrives", || {
        place.remote.read("SELECT name FROM members") == "Anna"
    });
    place.remote.web("INSERT INTO members (id, name) VALUES ('2', 'Bea')");
    wait_for("the web's row arrives", || {
        db.query_row("SELECT count(*) FROM members", [], |row| row.get::<_, i64>(0)).unwrap() == 2
    });
    let changed = changes.next_blocking().unwrap();
    assert_eq!(changed.rows.last().unwrap().table, "members");
    assert_eq!(changed.rows.last().unwrap().key.0, r#"["2"]"#);
    let status = replicator.status();
    assert_eq!(status.health, Health::Ok);
    assert_eq!(status.remote.reachable, Some(true));
    let json = serde_json::to_value(&status).unwrap();
    for field in [
        "replica",
        "remote",
        "state",
        "pending",
        "oldest_pending_s",
        "cursor",
        "lag",
        "conflicts",
        "quarantined",
        "last_success",
        "health",
        "bytes",
    ] {
        assert!(json.get(field).is_some(), "{field}");
    }
}

#[test]
fn it_works_offline_from_the_first_second() {
    let place = Place::new(SCHEMA);
    place.remote.web("INSERT INTO members (id, name) VALUES ('w', 'Web')");
    place.remote.set_offline(true);
    let replicator = place.start();
    let db = replicator.connection().unwrap();
    db.execute("INSERT INTO members (id, name) VALUES ('1', 'Ana')", []).unwrap();
    wait_for("the event is counted", || replicator.status().pending == 1);
    wait_for("it says so", || replicator.status().state == SyncState::Offline);
    assert_eq!(replicator.status().health, Health::Red, "there was no success yet");
    assert_eq!(replicator.sync_now_blocking().unwrap_err().kind(), Kind::Unavailable);
    let mut changes = replicator.subscribe();
    place.remote.set_offline(false);
    replicator.sync_now_blocking().unwrap();
    wait_for("who draws is told of what the first sync brought", || {
        changes.try_next().is_some_and(|changed| changed.missed && changed.rows.is_empty())
    });
    let all = "SELECT group_concat(id) FROM (SELECT id FROM members ORDER BY id)";
    assert_eq!(place.remote.read(all), "1,w");
    assert_eq!(db.query_row(all, [], |row| row.get::<_, String>(0)).unwrap(), "1,w");
}

#[test]
fn tables_that_only_the_remote_has_are_made() {
    let place = Place::new("");
    place.remote.web("INSERT INTO members (id, name) VALUES ('w', 'Web')");
    let replicator = place.start();
    replicator.sync_now_blocking().unwrap();
    let db = replicator.connection().unwrap();
    assert_eq!(
        db.query_row("SELECT name FROM members", [], |row| row.get::<_, String>(0)).unwrap(),
        "Web"
    );
    db.execute("INSERT INTO payments VALUES (1, 'w', 500)", []).unwrap();
    replicator.sync_now_blocking().unwrap();
    wait_for("capture is on the new tables", || {
        place.remote.read("SELECT cents FROM payments") == "500"
    });
}

#[test]
fn a_second_one_stands_by_and_takes_over() {
    let place = Place::new(SCHEMA);
    let first = place.start();
    first.sync_now_blocking().unwrap();
    let second = place.start();
    wait_for("it stands by", || second.status().state == SyncState::Standby);
    let (status, own) = (second.status(), Some(std::process::id()));
    assert_eq!((status.health, status.process), (Health::Ok, own), "of the replica, not of itself");
    let error = second.sync_now_blocking().unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    drop(first);
    wait_for("it takes over", || second.status().state == SyncState::InStep);
    let db = second.connection().unwrap();
    db.execute("INSERT INTO members (id, name) VALUES ('1', 'Ana')", []).unwrap();
    wait_for("it pushes", || place.remote.read("SELECT name FROM members") == "Ana");
}

#[test]
fn what_is_pending_at_the_end_goes_out_after_the_next_start() {
    let place = Place::new(SCHEMA);
    let replicator = place.start();
    replicator.sync_now_blocking().unwrap();
    place.remote.set_offline(true);
    let db = replicator.connection().unwrap();
    db.execute("INSERT INTO members (id, name) VALUES ('1', 'Ana')", []).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(replicator.shutdown()).unwrap();
    assert!(runtime.block_on(replicator.shutdown()).is_err(), "once");
    assert!(replicator.sync_now_blocking().is_err());
    assert_eq!(replicator.status().state, SyncState::Stopped);
    db.execute("INSERT INTO members (id, name) VALUES ('2', 'Bea')", []).unwrap();
    drop(replicator);
    place.remote.set_offline(false);
    let replicator = place.start();
    replicator.sync_now_blocking().unwrap();
    assert_eq!(place.remote.read("SELECT group_concat(name) FROM members"), "Ana,Bea");
}

#[test]
fn it_may_start_and_end_within_a_runtime() {
    fn may_be_shared<Shared: Send + Sync>() {}
    may_be_shared::<Replicator>();
    let place = Place::new(SCHEMA);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let replicator = place.start();
        let mut changes = replicator.subscribe();
        place.remote.web("INSERT INTO members (id, name) VALUES ('w', 'Web')");
        replicator.sync_now().await.unwrap();
        place.remote.web("INSERT INTO members (id, name) VALUES ('x', 'Web')");
        let mut is_here = false;
        while !is_here {
            let changed = changes.next().await.unwrap();
            is_here = changed.rows.iter().any(|row| row.key.0 == r#"["x"]"#);
        }
        replicator.shutdown().await.unwrap();
        while changes.next().await.is_some() {}
    });
}

#[test]
fn actors_conflicts_and_restoring() {
    let place = Place::new(SCHEMA);
    let replicator = place.start();
    replicator.set_actor(Some("Rosa")).unwrap();
    let db = replicator.connection().unwrap();
    db.execute("INSERT INTO members (id, name) VALUES ('1', 'Ana')", []).unwrap();
    replicator.sync_now_blocking().unwrap();
    wait_for("it arrives", || place.remote.read("SELECT actor FROM driftless_events") == "Rosa");
    place.remote.set_offline(true);
    db.execute("UPDATE members SET name = 'Mine'", []).unwrap();
    place.remote.web("UPDATE members SET name = 'Theirs'");
    place.remote.set_offline(false);
    replicator.network_changed();
    wait_for("the loss is listed", || replicator.status().conflicts == 1);
    let conflict = replicator.conflicts(false).unwrap().remove(0);
    assert_eq!(conflict.event.op, Op::Update);
    assert_eq!(conflict.event.actor.as_deref(), Some("Rosa"));
    replicator.restore(conflict.event.id, None).unwrap();
    wait_for("it is restored", || place.remote.read("SELECT name FROM members") == "Mine");
    assert!(replicator.conflicts(false).unwrap().is_empty());
    assert!(replicator.quarantine().unwrap().is_empty());
    replicator.retry_quarantine().unwrap();
    assert!(replicator.dismiss(driftless::event::EventId(ulid::Ulid::nil())).is_err());
    // The log has them all, and says so to the application as to another program.
    let settled = |replica: &mut Replica<'_>| {
        let mut settled = 0;
        replica.log(&LogFilter::default(), &mut |entry| {
            settled += usize::from(matches!(entry, Entry::Settled(_)));
            Ok(())
        })?;
        Ok::<_, Error>((settled, replica.status()?.conflicts))
    };
    let (settled, inspected) = (
        settled(&mut Replica::open(place.path()).unwrap()).unwrap(),
        replicator.inspect(settled).unwrap(),
    );
    assert_eq!(settled, inspected);
    let settled = settled.0;
    assert!(settled >= 3, "{settled}");
}

#[test]
fn f10_a_panic_during_the_first_contact() {
    let place = Place::new(SCHEMA);
    place.remote.fail([Fault::Panic, Fault::None, Fault::Panic]);
    let replicator = place.start();
    replicator.sync_now_blocking().unwrap();
    assert_eq!(place.remote.faults_left(), 0);
    assert_eq!(replicator.status().trouble, None);
}

#[test]
fn bad_beginnings_are_named() {
    let place = Place::new(SCHEMA);
    let error = Replicator::builder(place.path()).start().err().unwrap();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.hint().is_some(), "{error:?}");
    let error =
        Replicator::builder(place.path()).remote("http://example.org", "").start().err().unwrap();
    assert_eq!(error.kind(), Kind::Usage);
    std::fs::write(place.folder.path().join("x.db"), "this is no database, but a text file")
        .unwrap();
    let remote: Arc<dyn Remote> = Arc::clone(&place.remote) as Arc<dyn Remote>;
    let error = Replicator::builder(place.folder.path().join("x.db"))
        .with_remote(remote)
        .start()
        .err()
        .unwrap();
    assert_eq!(error.kind(), Kind::Storage);
}

/// The web application's side of a hub.
async fn web(url: &str, sql: &str) -> Vec<String> {
    let remote = Libsql::connect(url, None, Options::default()).unwrap();
    let batch = Batch { statements: vec![sql.into()], writes: !sql.starts_with("SELECT") };
    let answer = remote.run(batch).await.unwrap();
    answer.rows[0].iter().map(|row| row[0].to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_to_the_hub() {
    let hub = Running::start(|_| {}).await;
    let place = Place::new(SCHEMA);
    let replicator = Replicator::builder(place.path()).remote(&hub.url, "").start().unwrap();
    let db = replicator.connection().unwrap();
    db.execute("INSERT INTO members (id, name) VALUES ('1', 'it''s Ana')", []).unwrap();
    replicator.sync_now().await.unwrap();
    assert_eq!(web(&hub.url, "SELECT name FROM members").await, ["it's Ana"]);
    web(&hub.url, "INSERT INTO members (id, name) VALUES ('2', 'Bea')").await;
    let summary = replicator.sync_now().await.unwrap();
    assert!(summary.bytes_down > 0);
    let name = "SELECT name FROM members WHERE id = '2'";
    assert_eq!(db.query_row(name, [], |row| row.get::<_, String>(0)).unwrap(), "Bea");
    // A wrong address is said, and the right one works again.
    let report = replicator.test_connection("http://127.0.0.1:1", "").await.unwrap();
    assert!(!report.usable);
    assert!(replicator.test_connection(&hub.url, "").await.unwrap().usable);
    replicator.reconfigure("http://127.0.0.1:1", "").unwrap();
    assert_eq!(replicator.sync_now().await.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(replicator.status().remote.url, "http://127.0.0.1:1");
    db.execute("UPDATE members SET name = 'Anna' WHERE id = '1'", []).unwrap();
    replicator.reconfigure(&hub.url, "").unwrap();
    replicator.sync_now().await.unwrap();
    let anna = "SELECT name FROM members WHERE id = '1'";
    assert_eq!(web(&hub.url, anna).await, ["Anna"]);
    replicator.shutdown().await.unwrap();
    drop(replicator);
    hub.stop().await;
}
