//! What `init` says of tables that are not replicated, and of rows that refer to nothing.

use std::sync::Arc;

use driftless::Code;
use driftless::catalog::{Where, Why};
use driftless::sync::Tables;
use rusqlite::Connection;

use super::file;
use crate::support::blocking::{drain, initialise};
use crate::support::desk::{Desk, assert_equal};
use crate::support::local_remote::LocalRemote;

const MIXED: &str = "CREATE TABLE good (id INTEGER PRIMARY KEY, x);
    CREATE TABLE keyless (x);
    CREATE TABLE __drizzle_migrations (id INTEGER PRIMARY KEY, hash TEXT);
    CREATE TABLE private (id INTEGER PRIMARY KEY);
    CREATE VIEW seen AS SELECT * FROM good";

fn columns(count: usize) -> String {
    let columns: Vec<_> = (0..count).map(|column| format!("c{column}")).collect();
    format!("CREATE TABLE wide (id INTEGER PRIMARY KEY, {})", columns.join(", "))
}

#[test]
fn f73_every_table_that_is_left_out_is_named_with_its_reason() {
    let remote = Arc::new(LocalRemote::new(
        "CREATE TABLE web_only (x); CREATE TABLE KEYLESS (x); CREATE TABLE d1_migrations (id INTEGER
         PRIMARY KEY)",
    ));
    let (_folder, mut plan) = file(1, &format!("{MIXED}; {}", columns(200)));
    plan.tables = Tables::AllBut(vec!["PRIVATE".to_owned()]);
    let path = plan.path.clone();
    let (mut store, report) = initialise(plan, remote.clone()).unwrap();
    assert_eq!(report.made_there, ["good"]);
    let told = |store: &driftless::store::Store| -> Vec<(String, Where, Why)> {
        let found = store.left_out().unwrap().into_iter();
        found.map(|found| (found.table, found.side, found.why)).collect()
    };
    let all = |rest: &[(&str, Where, Why)]| -> Vec<(String, Where, Why)> {
        let mut all = vec![
            ("__drizzle_migrations", Where::Local, Why::Bookkeeping),
            ("d1_migrations", Where::Remote, Why::Bookkeeping),
            ("keyless", Where::Both, Why::Unfit),
            ("private", Where::Local, Why::Excluded),
            ("web_only", Where::Remote, Why::Unfit),
            ("wide", Where::Local, Why::Unfit),
        ];
        all.extend(rest);
        all.sort_by_key(|(name, ..)| *name);
        all.into_iter().map(|(name, side, why)| (name.to_owned(), side, why)).collect()
    };
    assert_eq!(told(&store), all(&[]));
    for found in store.left_out().unwrap() {
        assert!(!found.reason.is_empty(), "{found:?}");
    }
    // Also what comes later, and what goes.
    let db = Connection::open(&path).unwrap();
    db.execute_batch("CREATE TABLE later (id INTEGER PRIMARY KEY)").unwrap();
    assert_eq!(told(&store), all(&[("later", Where::Local, Why::Later)]));
    db.execute_batch("DROP TABLE later; DROP TABLE good; CREATE TABLE good (x)").unwrap();
    assert_eq!(told(&store), all(&[("good", Where::Local, Why::Gone)]));
    store.check_triggers().unwrap();
    assert_eq!(told(&store), all(&[("good", Where::Local, Why::Gone)]));
}

#[test]
fn f73_an_init_without_a_table_fails() {
    for (schema, named) in [
        ("", [].as_slice()),
        (
            "CREATE TABLE keyless (x); CREATE TABLE seaql_migrations (id INTEGER PRIMARY KEY)",
            &["`keyless`", "`seaql_migrations`"],
        ),
    ] {
        let remote = Arc::new(LocalRemote::new(""));
        let (_folder, plan) = file(1, schema);
        let error = initialise(plan, remote.clone()).unwrap_err();
        assert_eq!(error.code(), Code::NothingToReplicate, "{error}");
        assert!(named.iter().all(|name| error.message().contains(name)), "{error}");
        assert_eq!(remote.read("SELECT count(*) FROM sqlite_schema"), "0");
    }
}

#[test]
fn f69_bookkeeping_is_replicated_if_it_is_named() {
    let schema = "CREATE TABLE good (id INTEGER PRIMARY KEY);
        CREATE TABLE _prisma_migrations (id TEXT PRIMARY KEY);
        CREATE TABLE migrations (id INTEGER PRIMARY KEY)";
    let remote = Arc::new(LocalRemote::new(schema));
    let (_folder, plan) = file(1, schema);
    let (store, report) = initialise(plan, remote).unwrap();
    let names: Vec<_> = store.tables().iter().map(|known| known.table.name.as_str()).collect();
    assert_eq!(names, ["good", "migrations"]);
    assert_eq!(report.suspects, ["migrations"], "an application may have such a table");
    let remote = Arc::new(LocalRemote::new(schema));
    let (_folder, mut plan) = file(1, schema);
    plan.tables = Tables::Named(vec!["_prisma_migrations".to_owned()]);
    let (store, _) = initialise(plan, remote).unwrap();
    assert_eq!(store.tables()[0].table.name, "_prisma_migrations");
    let why: Vec<_> = store.left_out().unwrap().into_iter().map(|found| found.why).collect();
    assert_eq!(why, [Why::NotNamed, Why::NotNamed]);
}

const FAMILY: &str = "CREATE TABLE parent (id INTEGER PRIMARY KEY);
    CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent (id));
    CREATE TABLE pair (a TEXT, b INT, p INTEGER REFERENCES parent (id), PRIMARY KEY (a, b))
        WITHOUT ROWID;";

#[test]
fn f74_orphans_are_counted_and_named_before_anything_is_moved() {
    let remote = Arc::new(LocalRemote::new(FAMILY));
    remote.web("INSERT INTO parent VALUES (7)");
    let here = format!(
        "PRAGMA foreign_keys = OFF; {FAMILY} INSERT INTO parent VALUES (1);
         INSERT INTO child VALUES (1, 1), (2, 7), (3, 8), (4, NULL), (5, 9);
         INSERT INTO pair VALUES ('x', 1, 8)"
    );
    let (_folder, plan) = file(1, &here);
    let path = plan.path.clone();
    let mut found = None;
    let (store, report) = driftless::sync::initialise(plan, remote.clone(), &mut |doing| {
        if let driftless::sync::Phase::Found(orphans) = doing {
            let untouched = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'driftless%'";
            assert_eq!(remote.read(untouched), "0", "nothing has moved");
            found = Some(orphans.clone());
        }
    })
    .unwrap();
    let words = |orphans: &[driftless::store::Orphans]| -> Vec<String> {
        orphans.iter().map(driftless::store::Orphans::words).collect()
    };
    assert_eq!(found.as_ref(), Some(&report.orphans));
    assert_eq!(
        words(&report.orphans),
        [
            "3 rows of `child` (key [2], [3], [5]) refer to rows of `parent` that do not exist",
            "1 row of `pair` refers to rows of `parent` that do not exist",
        ]
    );
    // One of them has its parent on the remote.
    assert_eq!(
        words(&report.orphans_left),
        [
            "2 rows of `child` (key [3], [5]) refer to rows of `parent` that do not exist",
            "1 row of `pair` refers to rows of `parent` that do not exist",
        ]
    );
    // As it is documented: the remote does not take them, and they are listed.
    drain(store, remote.clone()).unwrap();
    let store = driftless::store::Store::open(&path).unwrap();
    assert_eq!(remote.read("SELECT id FROM child ORDER BY id"), "1\n2\n4");
    assert_eq!(store.state().unwrap().conflicts, 3);
}

/// A key of any type has its name in a file that has none of our tables yet. A table may have a
/// column that is called like the row's number.
#[test]
fn f74_orphans_with_keys_of_any_type_are_named() {
    let schema = "PRAGMA foreign_keys = OFF; CREATE TABLE parent (id INTEGER PRIMARY KEY);
        CREATE TABLE child (a REAL, b, c TEXT, p INTEGER REFERENCES parent (id),
            PRIMARY KEY (a, b, c));
        CREATE TABLE odd (rowid TEXT PRIMARY KEY, p INTEGER REFERENCES parent (id));
        CREATE TABLE every (rowid TEXT PRIMARY KEY, _rowid_, oid, p REFERENCES parent (id));
        INSERT INTO child VALUES (0.1, x'00ff', 'it''s', 5);
        INSERT INTO odd VALUES ('o', 5), ('p', 6);
        INSERT INTO every VALUES ('o', 1, 2, 5)";
    let remote = Arc::new(LocalRemote::new(""));
    let (_folder, plan) = file(1, schema);
    let (_, report) = initialise(plan, remote).unwrap();
    let named: Vec<_> =
        report.orphans.iter().map(|found| (found.table.as_str(), found.rows)).collect();
    assert_eq!(named, [("child", 1), ("every", 1), ("odd", 2)]);
    assert!(report.orphans[0].keys[0].contains("it's"), "{:?}", report.orphans);
    assert!(report.orphans[1].keys.is_empty(), "its number has no name");
    assert_eq!(report.orphans[2].keys, ["[\"o\"]", "[\"p\"]"]);
    assert_eq!(report.orphans, report.orphans_left);
}

#[test]
fn f74_orphans_of_the_remote_come_as_they_are() {
    let remote = Arc::new(LocalRemote::new(FAMILY));
    remote.web(
        "PRAGMA foreign_keys = OFF; INSERT INTO child VALUES (1, 8); PRAGMA foreign_keys = ON",
    );
    let mut desk = Desk::with_schema(&remote, 1, FAMILY);
    desk.sync().unwrap();
    assert_equal(&desk, &["child", "parent"]);
    assert_eq!(desk.read("SELECT * FROM child"), "1|8");
    assert_eq!(desk.status().conflicts, 0);
    let (_folder, plan) = file(2, FAMILY);
    let (_, report) = initialise(plan, remote).unwrap();
    assert_eq!((report.orphans.len(), report.orphans_left.len()), (0, 1));
}

#[test]
fn a_narrower_or_wider_choice_is_followed() {
    let schema = "CREATE TABLE a (id INTEGER PRIMARY KEY); CREATE TABLE b (id INTEGER PRIMARY KEY);
        CREATE TABLE c (id INTEGER PRIMARY KEY); CREATE TABLE d (id INTEGER PRIMARY KEY)";
    let remote = Arc::new(LocalRemote::new(""));
    let (_folder, plan) = file(1, schema);
    let named = |names: &[&str]| {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        driftless::sync::Plan { tables: Tables::Named(names), ..plan.clone() }
    };
    let (_, report) = initialise(named(&["a", "b"]), remote.clone()).unwrap();
    assert!(report.left.is_empty());
    let (_, report) = initialise(named(&["B"]), remote.clone()).unwrap();
    assert_eq!(report.left, ["a"]);
    let (store, report) = initialise(named(&["c", "b", "d"]), remote.clone()).unwrap();
    assert!(report.left.is_empty() && store.tables().len() == 3);
    let but = Tables::AllBut(vec!["b".to_owned()]);
    let plan = driftless::sync::Plan { tables: but, ..plan };
    let (store, report) = initialise(plan, remote.clone()).unwrap();
    assert_eq!(report.left, ["b"]);
    assert_eq!(store.tables().len(), 3);
    assert_eq!(remote.read("SELECT name FROM driftless_tables ORDER BY name"), "a\nb\nc\nd");
}
