//! What a first sync makes of the rows and tables of both sides.

use std::sync::Arc;

use driftless::Code;
use driftless::event::conflict::ConflictRule;
use driftless::sync::{Plan, Tables};
use rusqlite::Connection;

use crate::support::blocking::{drain, initialise};
use crate::support::desk::{Desk, SCHEMA, assert_equal, plan};
use crate::support::local_remote::{Fault, LocalRemote};

fn file(schema: &str) -> (tempfile::TempDir, Plan) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("desk.db");
    Connection::open(&path).unwrap().execute_batch(schema).unwrap();
    let plan = plan(path, 1, &[]);
    (folder, plan)
}

#[test]
fn f46_rows_on_one_side_on_the_other_and_on_both() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    remote.web(
        "INSERT INTO members VALUES ('there', 'There', NULL), ('same', 'Same', 's@example.org'),
         ('both', 'Of the web', NULL); INSERT INTO payments VALUES (7, 'there', 500)",
    );
    let here = format!(
        "{SCHEMA} INSERT INTO members VALUES ('here', 'Here', NULL), \
         ('same', 'Same', 's@example.org'), ('both', 'Of the desk', NULL);"
    );
    let mut desk = Desk::with_schema(&remote, 1, &here);
    desk.sync().unwrap();
    assert_equal(&desk, &["members", "payments"]);
    assert_eq!(
        desk.read("SELECT id, name FROM members ORDER BY id"),
        "both|Of the web\nhere|Here\nsame|Same\nthere|There"
    );
    assert_eq!(desk.status().conflicts, 1, "the desk's version of `both` is not lost");
    // Nothing is doubled by a second one.
    let before = remote.read("SELECT count(*) FROM driftless_events");
    let again = Desk::with_schema(&remote, 2, SCHEMA);
    assert_equal(&again, &["members", "payments"]);
    assert_eq!(remote.read("SELECT count(*) FROM driftless_events"), before);
}

#[test]
fn missing_tables_are_made_on_either_side() {
    let remote = Arc::new(LocalRemote::new(
        "CREATE TABLE there (id INTEGER PRIMARY KEY, x); CREATE INDEX there_x ON there (x);
         INSERT INTO there VALUES (1, 'a')",
    ));
    let (_folder, plan) = file(
        "CREATE TABLE here (a TEXT, b INT, c, PRIMARY KEY (b, a)) WITHOUT ROWID;
         CREATE UNIQUE INDEX here_c ON here (c); INSERT INTO here VALUES ('k', 1, 2.5)",
    );
    let path = plan.path.clone();
    let (store, report) = initialise(plan.clone(), remote.clone()).unwrap();
    assert_eq!(report.made_here, ["there"]);
    assert_eq!(report.made_there, ["here"]);
    assert!(report.installed);
    let adopted = report.adopted.unwrap();
    assert_eq!((adopted.fetched, adopted.local), (1, 1));
    let db = Connection::open(path).unwrap();
    let index = "SELECT count(*) FROM sqlite_schema WHERE name IN ('there_x', 'here_c')";
    assert_eq!(db.query_row(index, [], |row| row.get::<_, i64>(0)).unwrap(), 2);
    assert_eq!(remote.read(index), "2");
    drain(store, remote.clone()).unwrap();
    assert_eq!(remote.read("SELECT a, b, c FROM here"), "k|1|2.5");
    // Once more: nothing is left to do, and nothing is written.
    let (_, report) = initialise(plan, remote.clone()).unwrap();
    assert!(!report.installed && report.adopted.is_none());
    assert!(report.made_here.is_empty() && report.made_there.is_empty());
}

#[test]
fn every_key_is_paged_exactly() {
    let schema = "CREATE TABLE k (a REAL, b TEXT COLLATE NOCASE, c BLOB, v, PRIMARY KEY (a, b, c));
        CREATE TABLE n (id INTEGER PRIMARY KEY, v); CREATE TABLE r (id TEXT COLLATE RTRIM PRIMARY KEY);
        CREATE TABLE u (id PRIMARY KEY)";
    let remote = Arc::new(LocalRemote::new(schema));
    remote.web(
        "INSERT INTO n VALUES (-9223372036854775808, 1), (9223372036854775807, 2), (0, x'00ff');
         WITH RECURSIVE i(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 4500)
         INSERT INTO k SELECT i / 7 * 0.1, 'Ab' || (i % 7), randomblob(4), 1.0 / i FROM i;
         INSERT INTO k VALUES (9e999, 'it''s', x'', NULL), (-9e999, '', x'00', 'x'), (NULL, 'n', x'1', 1);
         INSERT INTO r VALUES ('a  '), ('b');
         INSERT INTO u VALUES (1), ('1'), (x'31'), (1.5), (NULL), ('a' || char(0) || 'b')"
            .replace("(NULL, 'n', x'1', 1)", "(NULL, 'n', x'11', 1)")
            .as_str(),
    );
    let desk = Desk::with_schema(&remote, 1, schema);
    for (table, null) in [("k", "a"), ("n", "id"), ("r", "id"), ("u", "id")] {
        let sql =
            format!("SELECT *, typeof({null}) FROM {table} WHERE {null} IS NOT NULL ORDER BY 1, 2");
        assert_eq!(desk.read(&sql), remote.read(&sql), "{table}");
    }
    assert_eq!(desk.read("SELECT count(*) FROM k"), "4502");
}

#[test]
fn differences_and_other_remotes_change_nothing() {
    let remote =
        Arc::new(LocalRemote::new("CREATE TABLE members (id TEXT PRIMARY KEY, nick TEXT)"));
    let (_folder, plan) = file(SCHEMA);
    let error = initialise(plan.clone(), remote.clone()).unwrap_err();
    assert_eq!(error.code(), Code::TablesDiffer);
    assert!(error.message().contains("`members`") && error.message().contains("`name`"), "{error}");
    assert_eq!(remote.read("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'driftless%'"), "0");
    let db = Connection::open(&plan.path).unwrap();
    let ours = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'driftless%'";
    assert_eq!(db.query_row(ours, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    let named = Plan { tables: Tables::Named(vec!["memers".to_owned()]), ..plan.clone() };
    let error = initialise(named, remote.clone()).unwrap_err();
    assert_eq!(error.code(), Code::NoSuchTable, "{error}");
    // A remote of a newer version.
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    initialise(plan.clone(), remote.clone()).unwrap();
    remote.web("UPDATE driftless_meta SET version = 99");
    let error = initialise(plan.clone(), remote.clone()).unwrap_err();
    assert_eq!(error.code(), Code::RemoteSchemaNewer);
    remote.web("UPDATE driftless_meta SET version = 1, epoch = 'another'");
    assert_eq!(initialise(plan, remote).unwrap_err().code(), Code::OtherRemote);
}

#[test]
fn a_lost_answer_and_a_race_are_begun_anew() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    remote.web("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    // The definitions are read before another replica installs, and the installing is lost.
    remote.fail([Fault::None, Fault::LostAfter, Fault::LostBefore, Fault::None, Fault::LostAfter]);
    let desk = Desk::new(&remote, 1);
    assert_eq!(remote.faults_left(), 0);
    assert_equal(&desk, &["members"]);
}

#[test]
fn an_applications_trigger_that_is_newer_makes_ours_newer_again() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    let (_folder, plan) = file(SCHEMA);
    initialise(plan.clone(), remote.clone()).unwrap();
    remote.web("CREATE TRIGGER touch AFTER UPDATE ON members BEGIN SELECT 1; END");
    let (_, report) = initialise(plan.clone(), remote.clone()).unwrap();
    assert!(report.installed);
    let oldest =
        "SELECT min(rowid) FROM sqlite_schema WHERE name LIKE 'driftless%' AND type = 'trigger'";
    let touch = "SELECT rowid FROM sqlite_schema WHERE name = 'touch'";
    let number = |sql| remote.read(sql).parse::<i64>().unwrap();
    assert!(number(oldest) > number(touch));
    let (_, report) = initialise(plan, remote).unwrap();
    assert!(!report.installed);
}

#[test]
fn a_conflict_rule_is_the_same_for_all() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    let (_folder, mut first) = file(SCHEMA);
    first.rules = vec![("members".to_owned(), ConflictRule::Columns)];
    initialise(first, remote.clone()).unwrap();
    let (_folder, mut second) = file(SCHEMA);
    let (store, _) = initialise(second.clone(), remote.clone()).unwrap();
    let rule = store.tables().iter().find(|table| table.table.name == "members").unwrap().rule;
    assert_eq!(rule, ConflictRule::Columns, "the remote's word counts");
    second.rules = vec![("members".to_owned(), ConflictRule::Row)];
    let error = initialise(second, remote).unwrap_err();
    assert_eq!(error.code(), Code::ConflictRuleDiffers, "{error}");
}
