//! Tables that need a collation or a function which only the application has.

use std::sync::Arc;

use driftless::catalog::Why;
use driftless::store::OnConnect;
use driftless::sync::{Plan, Tables};
use driftless::{Health, Kind, Replicator};
use rusqlite::Connection;

use super::{remote_schema, schema};
use crate::support::application::register;
use crate::support::blocking::{drain, initialise};
use crate::support::desk::plan;
use crate::support::local_remote::{LocalRemote, read};

const TABLES: &str = "
    CREATE TABLE note (id INTEGER PRIMARY KEY, t TEXT, n INT);
    CREATE TABLE other (id INTEGER PRIMARY KEY, t TEXT);
";

/// A table that the command cannot write.
struct Obstacle {
    /// The local database.
    here: &'static str,
    /// What is said of it.
    says: &'static str,
    /// Whether another program could make the table, without what stands in the way.
    plain: bool,
}

const fn beside(here: &'static str, says: &'static str) -> Obstacle {
    Obstacle { here, says, plain: true }
}

const fn within(here: &'static str, says: &'static str) -> Obstacle {
    Obstacle { here, says, plain: false }
}

const COLLATION: &str = "no such collation sequence: FR (in its index `i`)";

const OBSTACLES: [Obstacle; 11] = [
    beside("CREATE INDEX i ON note (t COLLATE FR)", COLLATION),
    beside("CREATE UNIQUE INDEX i ON note (t COLLATE \"fr\")", "fr (in its index `i`)"),
    beside("CREATE INDEX i ON note (n) WHERE t > 'b' COLLATE FR", COLLATION),
    beside("CREATE INDEX j ON note (t); CREATE INDEX i ON note (n, t COLLATE FR DESC)", COLLATION),
    beside("CREATE INDEX i ON note (slug(t))", "unknown function: slug() (in its index `i`)"),
    beside("CREATE UNIQUE INDEX i ON note (n) WHERE slug(t) > 'b'", "slug() (in its index `i`)"),
    beside(
        "CREATE TRIGGER i AFTER UPDATE ON note BEGIN SELECT slug(new.t); END",
        "no such function: slug (in its trigger `i`)",
    ),
    beside(
        "CREATE TABLE third (x); CREATE TRIGGER i AFTER DELETE ON note BEGIN DELETE FROM third; END;
         CREATE TRIGGER deep AFTER DELETE ON third BEGIN SELECT slug(old.x); END",
        "no such function: slug (in the trigger `deep` of table `third`)",
    ),
    within(
        "ALTER TABLE note ADD COLUMN g TEXT AS (slug(t)) VIRTUAL; CREATE INDEX i ON note (g)",
        "no such function: slug (in its definition)",
    ),
    within(
        "DROP TABLE note; CREATE TABLE note (id INTEGER PRIMARY KEY, t TEXT COLLATE FR, n INT)",
        "no such collation sequence: FR (in its column `t`)",
    ),
    within(
        "DROP TABLE note;
         CREATE TABLE note (id INTEGER PRIMARY KEY, t TEXT, n INT CHECK (slug(t) <> 'x'))",
        "no such function: slug (in its definition)",
    ),
];

/// The application's database, and the plan of a program that has what `on_connect` registers.
fn desk(here: &str, tables: &Tables, on_connect: OnConnect) -> (tempfile::TempDir, Plan) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("desk.db");
    let db = Connection::open(&path).unwrap();
    register(&db).unwrap();
    db.execute_batch(TABLES).unwrap();
    db.execute_batch(here).unwrap();
    db.execute_batch("INSERT INTO note (id, t, n) VALUES (1, 'a', 1), (2, 'b', 2)").unwrap();
    (folder, Plan { tables: tables.clone(), on_connect, ..plan(path, 1, &[]) })
}

fn named(names: &[&str]) -> Tables {
    Tables::Named(names.iter().map(|&name| name.to_owned()).collect())
}

#[test]
fn f60_a_table_of_the_applications_alone_is_left_out_and_named() {
    for obstacle in &OBSTACLES {
        for there in ["", TABLES] {
            let all = Tables::AllBut(vec!["third".to_owned()]);
            let all = if obstacle.here.contains("third") { all } else { Tables::All };
            let (_folder, plan) = desk(obstacle.here, &all, OnConnect::default());
            let remote = Arc::new(LocalRemote::new(there));
            let (store, _) = initialise(plan, remote.clone()).unwrap();
            let taken: Vec<_> = store.tables().iter().map(|one| one.table.name.as_str()).collect();
            assert_eq!(taken, ["other"], "{}", obstacle.here);
            let left = store.left_out().unwrap();
            let note = left.iter().find(|found| found.table == "note").unwrap();
            assert_eq!(note.why, Why::Unfit, "{note:?}");
            assert!(note.reason.contains(obstacle.says), "{note:?}");
            assert!(note.reason.contains("`note`"), "{note:?}");
            assert!(store.unwritable().is_empty(), "{}", obstacle.here);
            // The others flow.
            remote.web("INSERT INTO other VALUES (1, 'x')");
            drain(store, remote.clone()).unwrap();
            let made = "SELECT group_concat(type) FROM sqlite_schema WHERE tbl_name = 'note'";
            assert_eq!(remote.read(made), if there.is_empty() { "NULL" } else { "table" });
        }
    }
}

#[test]
fn f60_a_named_table_of_the_applications_alone_is_refused() {
    for obstacle in &OBSTACLES {
        for there in ["", TABLES] {
            let tables = named(&["other", "NOTE"]);
            let (folder, plan) = desk(obstacle.here, &tables, OnConnect::default());
            let remote = Arc::new(LocalRemote::new(there));
            let path = plan.path.clone();
            let before = (schema(&path), remote_schema(&remote), std::fs::read(&path).unwrap());
            let error = initialise(plan, remote.clone()).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{error}");
            assert!(error.message().contains(obstacle.says), "{error}");
            assert!(error.message().contains("`note`"), "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("on_connect")), "{error:?}");
            let after = (schema(&path), remote_schema(&remote), std::fs::read(&path).unwrap());
            assert!(before == after, "{}", obstacle.here);
            let files = std::fs::read_dir(folder.path()).unwrap().count();
            assert_eq!(files, 1, "{}", obstacle.here);
            // The library says the same when it starts.
            let started = Replicator::builder(&path).with_remote(remote).tables(["note"]).start();
            let error = started.map(|_| ()).unwrap_err();
            assert!(error.message().contains(obstacle.says), "{error}");
            assert!(schema(&path) == after.0, "{}", obstacle.here);
        }
    }
}

#[test]
fn f60_the_application_registers_what_it_has_and_the_table_is_taken() {
    for obstacle in &OBSTACLES {
        let (_folder, plan) = desk(obstacle.here, &Tables::All, OnConnect::default());
        // What the remote cannot make it must have, and then it is asked for by name.
        let there = if obstacle.plain { "" } else { TABLES };
        let remote = Arc::new(LocalRemote::new(there));
        let builder = Replicator::builder(&plan.path)
            .with_remote(remote.clone())
            .on_connect(|db| Ok(register(db)?));
        let builder = match obstacle.plain {
            true => builder.exclude(["other"]),
            false => builder.tables(["note"]),
        };
        let replicator = builder.start().unwrap();
        replicator.sync_now_blocking().unwrap();
        assert_eq!(remote.read("SELECT t FROM note ORDER BY id"), "a\nb", "{}", obstacle.here);
        remote.web("UPDATE note SET t = 'web' WHERE id = 1; DELETE FROM note WHERE id = 2");
        let db = replicator.connection().unwrap();
        db.execute_batch("INSERT INTO note (id, t, n) VALUES (3, 'c', 3)").unwrap();
        replicator.sync_now_blocking().unwrap();
        let rows = "SELECT id, t, n FROM note ORDER BY id";
        assert_eq!(remote.read(rows), "1|web|1\n3|c|3", "{}", obstacle.here);
        assert_eq!(read(&db, rows), remote.read(rows), "{}", obstacle.here);
        assert_eq!(read(&db, "PRAGMA integrity_check"), "ok", "{}", obstacle.here);
        let status = replicator.status();
        assert!(status.unwritable.is_empty(), "{}", obstacle.here);
        assert!(!status.left_out.iter().any(|found| found.table == "note"), "{status:?}");
        assert_eq!(status.health, Health::Ok, "{}: {status:?}", obstacle.here);
        drop((db, replicator));
        // Whoever has not registered it does not take the table out, and names it.
        let (store, report) = initialise(plan, remote).unwrap();
        assert!(report.left.is_empty(), "{report:?}");
        let held: Vec<_> = store.unwritable().into_iter().map(|one| one.reason).collect();
        let can_write = obstacle.says.contains("column");
        assert_eq!(held.len(), usize::from(!can_write), "{held:?}");
        assert!(can_write || held[0].contains("(in "), "{held:?}");
        assert!(!store.left_out().unwrap().iter().any(|found| found.table == "note"));
    }
}
