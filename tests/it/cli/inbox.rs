//! The conflict inbox, by processes that end too soon or come at the same time.

use std::process::Stdio;
use std::time::Duration;

use super::{Folder, Running, hub_and_replica};

/// How many conflicts there are.
const MANY: usize = 300;

/// A replica whose every row was changed on both sides.
fn lost() -> (Folder, Running) {
    let (folder, hub) = hub_and_replica();
    let rows: Vec<_> = (10..10 + MANY).map(|row| format!("({row}, 'old')")).collect();
    folder.sql("a.db", &format!("INSERT INTO people (id, name) VALUES {}", rows.join(", ")));
    folder.run("sync --db a.db").fine();
    folder.sql("a.db", "UPDATE people SET name = 'mine' WHERE id >= 10");
    folder.sql("hub.db", "UPDATE people SET name = 'theirs' WHERE id >= 10");
    folder.run("sync --db a.db").fine();
    (folder, hub)
}

fn count(folder: &Folder, sql: &str) -> usize {
    let db = rusqlite::Connection::open(folder.path("a.db")).unwrap();
    db.busy_timeout(super::PATIENCE).unwrap();
    db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as usize
}

const RESTORED: &str = "SELECT count(*) FROM driftless_conflicts WHERE state = 'restored'";
const MINE: &str = "SELECT count(*) FROM people WHERE name = 'mine'";
const PENDING: &str = "SELECT count(*) FROM driftless_outbox WHERE NOT settled";

/// Wherever the process ends, its values are written if and only if that is written down.
#[test]
fn f75_a_restore_that_is_killed_has_done_all_or_nothing() {
    let (folder, hub) = lost();
    assert_eq!(count(&folder, "SELECT count(*) FROM driftless_conflicts"), MANY);
    let mut nothing = 0;
    for wait_ms in (0..400).step_by(20) {
        let mut command = folder.command("conflicts --db a.db restore --all");
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        let restored = count(&folder, RESTORED);
        assert_eq!(count(&folder, MINE), restored, "killed after {wait_ms} ms");
        assert_eq!(count(&folder, PENDING), restored, "killed after {wait_ms} ms");
        assert!([0, MANY].contains(&restored), "killed after {wait_ms} ms: {restored}");
        if restored == MANY {
            break;
        }
        nothing += 1;
    }
    assert!(nothing > 0, "the first one at least had no time");
    folder.run("conflicts --db a.db restore --all").fine();
    assert_eq!([RESTORED, MINE, PENDING].map(|sql| count(&folder, sql)), [MANY; 3]);
    folder.run("sync --db a.db").fine();
    drop(hub);
}

/// Two at once: one restores, and the other one says that it has not.
#[test]
fn f75_two_processes_restore_once() {
    let (folder, hub) = lost();
    let id = folder.run("conflicts --db a.db --limit 1 --json").json();
    let args = format!("conflicts --db a.db restore {} --json", id[0]["id"].as_str().unwrap());
    let running: Vec<_> = (0..3).map(|_| Running::start(&mut folder.command(&args))).collect();
    let told: Vec<serde_json::Value> =
        running.iter().map(|one| serde_json::from_str(&one.first).unwrap()).collect();
    assert!(running.into_iter().all(|one| one.end().code == 0));
    let sum = |field: &str| -> Vec<usize> {
        let mut counts: Vec<_> =
            told.iter().map(|one| one[field].as_array().unwrap().len()).collect();
        counts.sort_unstable();
        counts
    };
    assert_eq!(sum("restored"), [0, 0, MANY], "they are of one statement");
    assert_eq!(sum("already"), [0, 1, 1]);
    assert_eq!(count(&folder, PENDING), MANY);
    drop(hub);
}
