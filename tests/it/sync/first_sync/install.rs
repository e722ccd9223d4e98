//! Triggers are installed on the remote in as many requests as it takes.

use std::fmt::Write as _;
use std::sync::Arc;

use driftless::store::Store;
use driftless::sync::{Plan, Tables};
use fastrand::Rng;

use super::{Stepped, file, remote_schema};
use crate::support::blocking::{drain, initialise};
use crate::support::desk::plan;
use crate::support::local_remote::{Fault, LocalRemote};
use crate::support::seeds::each_seed;

/// What a libSQL server takes in a request, and gives in an answer.
const SERVER_BYTES: usize = 10_000_000;
/// The bytes of the requests of an installation that takes a few of them for a few tables.
const SMALL_BYTES: usize = 4_000;

/// So many tables of so many columns; each but the first refers to the one before it.
fn tables(count: usize, columns: usize) -> String {
    let mut sql = String::new();
    for table in 0..count {
        let parent = if table > 0 {
            format!(" REFERENCES table_of_the_application_{} (id)", table - 1)
        } else {
            String::new()
        };
        let _ = write!(
            sql,
            "CREATE TABLE table_of_the_application_{table} (id INTEGER PRIMARY KEY, \
             parent INTEGER{parent}"
        );
        for column in 2..columns {
            let declared = ["TEXT", "INTEGER", "REAL", "BLOB"][column % 4];
            let _ = write!(sql, ", column_{column} {declared}");
        }
        sql.push_str(");");
    }
    sql
}

#[test]
fn f70_a_hundred_and_fifty_tables_of_fourteen_columns() {
    let schema = tables(150, 14);
    let remote = Arc::new(LocalRemote::new(""));
    remote.set_caps(SERVER_BYTES, SERVER_BYTES);
    let (_folder, first) = file(1, &schema);
    let path = first.path.clone();
    let (store, report) = initialise(first, remote.clone()).unwrap();
    assert_eq!(report.made_there.len(), 150);
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch(
        "INSERT INTO table_of_the_application_0 (id, column_2) VALUES (1, 'here');
         INSERT INTO table_of_the_application_1 (id, parent, column_4) VALUES (1, 1, 'its child');
         INSERT INTO table_of_the_application_149 (id, column_4) VALUES (1, 'last')",
    )
    .unwrap();
    drain(store, remote.clone()).unwrap();
    assert_eq!(remote.read("SELECT column_4 FROM table_of_the_application_149"), "last");
    remote.web("UPDATE table_of_the_application_1 SET column_4 = 'of the web'");
    drain(Store::open(&path).unwrap(), remote.clone()).unwrap();
    let now = "SELECT column_4 FROM table_of_the_application_1";
    let now: String = db.query_row(now, [], |row| row.get(0)).unwrap();
    assert_eq!(now, "of the web");
    // A second replica reads the definitions of all that, and installs nothing.
    let folder = tempfile::tempdir().unwrap();
    let (_, report) = initialise(plan(folder.path().join("b.db"), 2, &[]), remote.clone()).unwrap();
    assert_eq!((report.made_here.len(), report.installed), (150, false));
}

/// An installation that takes a few requests.
fn cut(plan: Plan, remote: &Arc<LocalRemote>) -> Stepped {
    Stepped::in_requests_of(plan, remote, SMALL_BYTES)
}

fn empty() -> Arc<LocalRemote> {
    Arc::new(LocalRemote::new(""))
}

/// Whether any replica would take the remote for installed.
fn ready(remote: &LocalRemote) -> bool {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'driftless_tables'";
    remote.read(sql) == "1"
        && remote.read("SELECT count(*) FROM driftless_tables WHERE triggers <> ''") != "0"
}

#[test]
fn f70_an_installation_that_is_cut_off_is_done_again() {
    let schema = tables(6, 4);
    let whole = empty();
    let (_folder, plan) = file(1, &schema);
    cut(plan, &whole).finish();
    let writes = whole.batches().iter().filter(|batch| batch.writes).count();
    assert!(writes >= 4, "{writes} requests are a test of nothing");
    each_seed(12, "f70_an_installation", |seed| {
        let mut rng = Rng::with_seed(seed);
        let remote = Arc::new(LocalRemote::new(if rng.bool() { &schema } else { "" }));
        let (_folder, plan) = file(1, &schema);
        let mut steps = 0;
        for attempt in 0..4 {
            let mut init = cut(plan.clone(), &remote);
            let fault = |rng: &mut Rng| match rng.u8(0..6) {
                0 => Fault::LostBefore,
                1 => Fault::LostAfter,
                _ => Fault::None,
            };
            remote.fail((0..4).map(|_| fault(&mut rng)).collect::<Vec<_>>());
            // Cut off, but for the last attempt.
            let end = if attempt == 3 { usize::MAX } else { rng.usize(1..2 + writes) };
            for _ in 0..end {
                if init.step().unwrap().is_some() {
                    break;
                }
                steps += 1;
                assert!(steps < 1_000, "it comes to an end");
                // The web works all the while.
                let table = rng.usize(0..6);
                let sql = format!(
                    "SELECT count(*) FROM sqlite_schema WHERE name = \
                         'table_of_the_application_{table}'"
                );
                if remote.read(&sql) == "1" {
                    remote.web(&format!(
                        "INSERT INTO table_of_the_application_{table} (column_2) VALUES ('web')"
                    ));
                }
            }
        }
        let triggers = "SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'trigger' \
                        ORDER BY name";
        assert_eq!(remote.read(triggers), whole.read(triggers));
        assert!(ready(&remote));
    });
}

#[test]
fn f70_a_remote_is_not_ready_before_the_last_request() {
    let schema = tables(6, 4);
    let remote = empty();
    let (_folder, plan) = file(1, &schema);
    let mut init = cut(plan.clone(), &remote);
    let mut parts = 0;
    while init.step().unwrap().is_none() {
        if !ready(&remote) {
            parts += 1;
        }
    }
    assert!(parts >= 4, "{parts}");
    // A second installation, for an application's trigger is newer. What is replaced is replaced in
    // one request.
    remote
        .web("CREATE TRIGGER newer AFTER INSERT ON table_of_the_application_3 BEGIN SELECT 1; END");
    let mut again = cut(plan, &remote);
    loop {
        let events = || remote.read("SELECT count(*) FROM driftless_events");
        // Each write is captured once, by the old triggers or the new ones.
        let before: u64 = events().parse().unwrap();
        for table in 0..6 {
            remote.web(&format!(
                "INSERT INTO table_of_the_application_{table} (column_2) VALUES ('web')"
            ));
        }
        assert_eq!(events().parse::<u64>().unwrap(), before + 6);
        assert!(ready(&remote));
        if again.step().unwrap().is_some() {
            break;
        }
    }
    let asked = remote.batches();
    assert_eq!(asked.iter().rev().take(3).filter(|batch| batch.writes).count(), 1);
    assert!(ready(&remote));
}

#[test]
fn f70_two_installations_at_once_do_not_undo_each_other() {
    let schema = tables(6, 4);
    each_seed(12, "f70_two_installations", |seed| {
        let mut rng = Rng::with_seed(seed);
        let remote = empty();
        let mut both: Vec<_> = [1, 2]
            .map(|number| {
                let (folder, mut plan) = file(number, &schema);
                let some = (0..6).filter(|_| rng.u8(0..3) > 0).max().unwrap_or(1);
                // Parents first, for a child needs its parent.
                let names = (0..=some).map(|table| format!("table_of_the_application_{table}"));
                plan.tables = Tables::Named(names.collect());
                (folder, cut(plan.clone(), &remote), plan, None)
            })
            .into();
        // By turns at random; one that lost the race too often is run again, as a person would.
        while both.iter().any(|(.., done)| done.is_none()) {
            let (_, init, plan, done) = &mut both[rng.usize(0..2)];
            if done.is_none() {
                match init.step() {
                    Ok(report) => *done = report,
                    Err(_) => *init = cut(plan.clone(), &remote),
                }
            }
        }
        let mut wanted: Vec<_> = both
            .iter()
            .flat_map(|(_, _, plan, _)| match &plan.tables {
                Tables::Named(names) => names.clone(),
                _ => Vec::new(),
            })
            .collect();
        wanted.sort();
        wanted.dedup();
        let registered = remote.read("SELECT name FROM driftless_tables ORDER BY name");
        assert_eq!(registered.lines().collect::<Vec<_>>(), wanted);
        let prints = "SELECT count(DISTINCT triggers) FROM driftless_tables";
        assert_eq!(remote.read(prints), "1");
        // And it is what one installation of all those tables makes.
        let alone = empty();
        let (_folder, mut plan) = file(3, &schema);
        plan.tables = Tables::Named(wanted);
        cut(plan, &alone).finish();
        let triggers = |remote: &LocalRemote| {
            let all = remote_schema(remote);
            let lines = all.lines().filter(|line| line.starts_with("trigger"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(triggers(&remote), triggers(&alone));
    });
}
