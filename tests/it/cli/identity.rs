//! F22, F23 and F24 with the real command, and with a [`Replicator`](driftless::Replicator), over
//! the hub. `fixtures/scripts/cli/identity` shows what the command prints.

use driftless::store::Cause;
use driftless::{Kind, Replicator, SyncState};

use super::{Folder, Running, hub_and_replica};

fn people(folder: &Folder, file: &str) -> Vec<String> {
    let db = rusqlite::Connection::open(folder.path(file)).unwrap();
    let sql = "SELECT id || ' ' || name || ' ' || coalesce(phone, '-') FROM people ORDER BY id";
    let mut statement = db.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn identity(folder: &Folder, file: &str) -> Vec<String> {
    let status = folder.run(&format!("status --db {file} --json")).json().remove(0);
    let former = status["identity"].as_array().unwrap().iter();
    former.map(|former| former["cause"].as_str().unwrap().to_owned()).collect()
}

/// Syncs the files in turn until all are in step, and gives the rows, which are the hub's.
fn in_step(folder: &Folder, files: &[&str]) -> Vec<String> {
    for file in files.iter().chain(files) {
        folder.run(&format!("sync --db {file}")).fine();
    }
    let rows = people(folder, "hub.db");
    for file in files {
        assert_eq!(people(folder, file), rows, "{file}");
        let status = folder.run(&format!("status --db {file} --json")).json().remove(0);
        assert_eq!((status["pending"].as_u64(), status["lag"].as_u64()), (Some(0), Some(0)));
    }
    rows
}

#[test]
fn f22_the_command_after_a_restoration() {
    let (folder, _hub) = hub_and_replica();
    folder.copy("a.db", "backup.db");
    folder.sql(
        "a.db",
        "UPDATE people SET phone = '11' WHERE id = 1; DELETE FROM people WHERE id = 2",
    );
    folder.run("sync --db a.db").fine();
    folder.copy("backup.db", "a.db");
    folder.sql("a.db", "INSERT INTO people VALUES (3, 'Cleo', '33')");
    let ran = folder.run("sync --db a.db -v");
    assert!(ran.code == 0 && ran.err.contains("another replica from now on"), "{ran:?}");
    assert_eq!(in_step(&folder, &["a.db"]), ["1 Ana 11", "3 Cleo 33"], "2 stays deleted");
    assert_eq!(identity(&folder, "a.db"), ["copied"]);
}

#[test]
fn f23_the_command_on_two_copies() {
    let (folder, _hub) = hub_and_replica();
    folder.copy("a.db", "b.db");
    for round in 10..14 {
        for (file, name, id) in [("a.db", "a", round), ("b.db", "b", round + 10)] {
            folder.sql(file, &format!("INSERT INTO people VALUES ({id}, '{name}', NULL)"));
            folder.run(&format!("sync --db {file}")).fine();
        }
    }
    assert_eq!(in_step(&folder, &["a.db", "b.db"]).len(), 10, "both streams arrived");
    assert_eq!((identity(&folder, "a.db").len(), identity(&folder, "b.db").len()), (0, 1));
    // A moved file is who it was.
    let id = |file: &str| {
        let status = folder.run(&format!("status --db {file} --json")).json().remove(0);
        status["replica"].as_str().unwrap().to_owned()
    };
    let before = id("a.db");
    folder.copy("a.db", "moved.db");
    std::fs::remove_file(folder.path("a.db")).unwrap();
    folder.sql("moved.db", "DELETE FROM people WHERE id = 1");
    assert_eq!(in_step(&folder, &["moved.db", "b.db"]).len(), 9);
    assert_eq!((id("moved.db"), identity(&folder, "moved.db").len()), (before, 0));
}

/// The hub's file is replaced while it is away.
fn replaced(folder: &Folder, hub: Running, by: &str) -> Running {
    let address = hub.url().strip_prefix("http://").unwrap().to_owned();
    drop(hub);
    folder.copy(by, "hub.db");
    Running::start(&mut folder.command(&format!("hub --db hub.db --listen {address}")))
}

#[test]
fn f24_the_command_and_a_lost_remote() {
    let (folder, hub) = hub_and_replica();
    folder.sql("empty.db", "CREATE TABLE other (id INTEGER PRIMARY KEY)");
    folder.sql("a.db", "UPDATE people SET phone = '44' WHERE id = 1");
    let _hub = replaced(&folder, hub, "empty.db");
    let rows = people(&folder, "a.db");
    folder.run("sync --db a.db").failed(4, "without driftless's tables");
    let mut run = Running::start(&mut folder.command("run --db a.db"));
    assert!(run.first.contains("without driftless's tables"), "{}", run.first);
    assert!(run.lives(), "somebody may put it right");
    drop(run);
    let status = folder.run("status --db a.db --json").json().remove(0);
    assert_eq!((&status["state"], &status["pending"]), (&"other_remote".into(), &1.into()));
    assert_ne!(status["health"], "ok");
    let ran = folder.run("remote --db a.db accept");
    assert!(ran.code == 2 && ran.err.contains("--yes"), "{ran:?}");
    assert!(people_are_absent(&folder), "nothing was made without consent");
    folder.run("remote --db a.db accept --yes").fine();
    assert_eq!(in_step(&folder, &["a.db"]), rows);
    assert_eq!(identity(&folder, "a.db"), ["accepted"]);
    // What was before can still be read.
    let former = folder.run("log --db a.db --former 1 --json").json();
    assert_eq!(former.len(), 2);
    let event = former[0]["id"].as_str().unwrap();
    assert!(folder.run(&format!("show --db a.db {event}")).fine().contains("Ana"));
    folder.run("log --db a.db --former 7").failed(2, "no log of a former remote");
}

fn people_are_absent(folder: &Folder) -> bool {
    let db = rusqlite::Connection::open(folder.path("hub.db")).unwrap();
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'people' OR name GLOB 'driftless*'";
    db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() == 0
}

#[test]
fn f24_the_command_goes_on_at_another_url() {
    let (folder, hub) = hub_and_replica();
    // The provider has restored a backup as a database of its own.
    folder.copy("hub.db", "backup.db");
    folder.sql("a.db", "UPDATE people SET phone = '44' WHERE id = 1");
    folder.run("sync --db a.db").fine();
    folder.copy("backup.db", "restored.db");
    let command = "hub --db restored.db --listen 127.0.0.1:0";
    let restored = Running::start(&mut folder.command(command));
    drop(hub);
    let args = format!("remote --db a.db accept --remote {} --yes --json", restored.url());
    let done = folder.run(&args).json().remove(0);
    assert_eq!((&done["accepted"], &done["url"]), (&true.into(), &restored.url().into()));
    assert_eq!(done["rows"]["different"], 1);
    folder.run("sync --db a.db").fine();
    assert_eq!(people(&folder, "a.db"), people(&folder, "restored.db"));
    let lost = folder.run("conflicts --db a.db --json").json();
    assert_eq!(lost[0]["event"]["after"]["phone"], "44");
}

/// A replicator has found that the log is not the one that was read: later commands know it too.
#[test]
fn a_log_that_is_not_the_one_that_was_read_is_told_and_accepted() {
    let (folder, _hub) = hub_and_replica();
    let found = "INSERT INTO driftless_settings VALUES
        ('contradiction', '01JD8ZK3V5QWERTY0123456789 2')";
    folder.sql("a.db", found);
    let says = "event 01JD8ZK3V5QWERTY0123456789 at 2";
    let status = folder.run("status --db a.db");
    assert!(status.err.contains(says) && status.err.contains("remote accept"), "{status:?}");
    let status = folder.run("status --db a.db --json").json().remove(0);
    assert_eq!(status["state"], "rolled_back");
    assert_eq!(folder.run("remote --db a.db accept").code, 2, "nobody has said yes");
    let accepted = folder.run("remote --db a.db accept --yes").fine();
    assert!(accepted.contains(says), "{accepted}");
    folder.run("sync --db a.db").fine();
    let status = folder.run("status --db a.db --json").json().remove(0);
    assert!(status["trouble"].is_null(), "{status}");
}

#[test]
fn f24_a_replicator_accepts_a_remote() {
    let (folder, hub) = hub_and_replica();
    folder.copy("hub.db", "backup.db");
    folder.sql("a.db", "INSERT INTO people VALUES (3, 'Cleo', '33')");
    folder.run("sync --db a.db").fine();
    let hub = replaced(&folder, hub, "backup.db");
    let replicator = Replicator::builder(folder.path("a.db"))
        .remote(hub.url(), "")
        .tables(["people"])
        .start()
        .unwrap();
    let error = replicator.sync_now_blocking().unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert_eq!(replicator.status().state, SyncState::RolledBack);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let offer = runtime.block_on(replicator.remote_preview()).unwrap();
    assert_eq!(offer.trouble.as_deref(), Some(error.message()));
    assert_eq!((offer.tables[0].here, offer.tables[0].there), (3, Some(2)));
    let summary = replicator.accept_remote_blocking().unwrap();
    assert_eq!((summary.pushed, summary.applied), (1, 1));
    assert_eq!(people(&folder, "hub.db"), people(&folder, "a.db"));
    let status = replicator.status();
    assert_eq!((status.state, status.pending), (SyncState::InStep, 0));
    assert_eq!(status.identity[0].cause, Cause::Accepted);
    assert!(runtime.block_on(replicator.remote_preview()).unwrap().trouble.is_none());
    // Nothing is wrong any more: to accept is to synchronise.
    assert_eq!(replicator.accept_remote_blocking().unwrap().pushed, 0);
    assert_eq!(replicator.status().identity.len(), 1);
}
