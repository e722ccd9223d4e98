//! How replicators fail, by number: a desk migrates in a bracket.

use std::sync::Arc;

use driftless::sync::Input;
use driftless::{Code, Connection, Health, Rename, Replicator};

use crate::support::desk::{Desk, SCHEMA, assert_equal};
use crate::support::local_remote::LocalRemote;

fn rename(text: &str) -> Rename {
    text.parse().unwrap()
}

fn two() -> (Arc<LocalRemote>, Desk, Desk) {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    let (mut a, mut b) = (Desk::new(&remote, 1), Desk::new(&remote, 2));
    a.write("INSERT INTO members VALUES ('1', 'Ana', 'a@x'), ('2', 'Bo', NULL)");
    a.write("INSERT INTO payments VALUES (1, '1', 10), (2, '2', 20)");
    a.sync().unwrap();
    b.sync().unwrap();
    (remote, a, b)
}

/// Runs a migration as `Replicator::migrate` does, on the desk's file.
fn migrate(desk: &Desk, renames: &[Rename], sql: &str) -> driftless::Result<()> {
    driftless::store::migrate(desk.path(), &Default::default(), renames, |db: &Connection| {
        Ok(db.execute_batch(sql)?)
    })
}

const REBUILD: &str = "
    CREATE TABLE fresh (id TEXT PRIMARY KEY, title TEXT, mail TEXT UNIQUE);
    INSERT INTO fresh SELECT id, name, email FROM members;
    DROP TABLE members; ALTER TABLE fresh RENAME TO members;";

#[test]
fn f64_a_rebuild_that_renames_columns_is_told() {
    let (remote, mut a, mut b) = two();
    a.db.execute_batch("UPDATE members SET name = 'pending' WHERE id = '1'").unwrap();
    migrate(
        &a,
        &[rename("members.name=title"), rename("members.email=mail")],
        &format!("{REBUILD} UPDATE members SET title = 'of the migration' WHERE id = '2'"),
    )
    .unwrap();
    a.db.execute_batch("INSERT INTO members VALUES ('3', 'Cleo', 'c@x')").unwrap();
    a.input(Input::LocalCommit);
    a.sync().unwrap();
    b.sync().unwrap();
    let rows = "1|pending|a@x\n2|of the migration|NULL\n3|Cleo|c@x";
    assert_eq!(remote.read("SELECT id, name, email FROM members ORDER BY id"), rows);
    assert_eq!(a.read("SELECT id, title, mail FROM members ORDER BY id"), rows);
    assert_equal(&b, &["members", "payments"]);
    b.write("UPDATE members SET name = 'of b' WHERE id = '3'");
    b.sync().unwrap();
    a.sync().unwrap();
    assert_eq!(a.read("SELECT title FROM members WHERE id = '3'"), "of b");
    let status = a.status();
    assert_eq!((status.conflicts, status.pending, status.health), (0, 0, Health::Ok));
    assert_eq!(remote.read("SELECT count(*) FROM driftless_owed"), "0");
}

/// The application has migrated, and the columns are told afterwards.
#[test]
fn f64_renamed_columns_are_told_later() {
    for looks in [false, true] {
        let (remote, mut a, mut b) = two();
        a.db.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        a.db.execute_batch(REBUILD).unwrap();
        if looks {
            a.input(Input::LocalCommit);
        }
        a.db.execute_batch("UPDATE members SET title = 'of a' WHERE id = '1'").unwrap();
        migrate(&a, &[rename("members.name=title"), rename("members.email=mail")], "").unwrap();
        a.sync().unwrap();
        b.sync().unwrap();
        let rows = "1|of a|a@x\n2|Bo|NULL";
        assert_eq!(remote.read("SELECT id, name, email FROM members ORDER BY id"), rows, "{looks}");
        assert_eq!(a.read("SELECT id, title, mail FROM members ORDER BY id"), rows, "{looks}");
        assert_eq!(a.status().conflicts, 0);
    }
}

#[test]
fn a_migration_that_fails_changes_nothing() {
    let (_, mut a, _) = two();
    let before = a.read("SELECT sql FROM sqlite_schema ORDER BY rowid");
    let suspect = a.read("SELECT count(*) FROM driftless_tables WHERE suspect IS NOT NULL");
    for (renames, sql, wrong) in [
        (&[][..], "DELETE FROM members WHERE id = '1'", "missing rows of `members`"),
        (&[rename("members.name=title")], "SELECT 1", "no column `title`"),
        (&[rename("plans.name=title")], "SELECT 1", "`plans` is not replicated"),
        (
            &[rename("members.name=title")],
            "ALTER TABLE members ADD COLUMN title",
            "still has its column `name`",
        ),
    ] {
        let error = migrate(&a, renames, sql).unwrap_err();
        assert!(error.message().contains(wrong), "{sql}: {error}");
        assert_eq!(a.read("SELECT sql FROM sqlite_schema ORDER BY rowid"), before, "{sql}");
    }
    assert_eq!(suspect, "0");
    a.write("UPDATE members SET name = 'x'");
    a.sync().unwrap();
    assert_equal(&a, &["members", "payments"]);
    // What it has committed itself is committed, and capture is whole afterwards.
    let error = migrate(&a, &[], "UPDATE members SET name = 'y'; COMMIT").unwrap_err();
    assert!(error.message().contains("ended the transaction"), "{error}");
    a.input(Input::LocalCommit);
    a.write("UPDATE members SET email = 'z@x' WHERE id = '2'");
    a.sync().unwrap();
    assert_equal(&a, &["members", "payments"]);
    assert_eq!("members.name".parse::<Rename>().unwrap_err().code(), Code::Usage);
    assert_eq!("name=title".parse::<Rename>().unwrap_err().code(), Code::Usage);
    assert_eq!(".a=b".parse::<Rename>().unwrap_err().code(), Code::Usage);
}

/// In a bracket nothing is sent and nothing is integrated; what was written in it is found.
#[test]
fn f62_a_bracket_around_another_program() {
    let (remote, mut a, mut b) = two();
    driftless::store::begin_migration(a.path(), &Default::default()).unwrap();
    a.input(Input::LocalCommit);
    // A unique column can be dropped: no trigger names it any more.
    a.db.execute_batch(
        "PRAGMA foreign_keys = OFF;
         CREATE TABLE fresh (id TEXT PRIMARY KEY, name TEXT);
         INSERT INTO fresh SELECT id, name FROM members; DROP TABLE members;
         ALTER TABLE fresh RENAME TO members; INSERT INTO members VALUES ('3', 'in between')",
    )
    .unwrap();
    a.input(Input::LocalCommit);
    b.write("UPDATE members SET name = 'of b' WHERE id = '2'");
    b.sync().unwrap();
    let requests = remote.requests();
    a.advance(30_000);
    assert_eq!(remote.requests(), requests, "nothing is asked");
    assert_eq!(a.read("SELECT name FROM members WHERE id = '2'"), "Bo");
    a.restart();
    a.advance(30_000);
    assert_eq!(a.read("SELECT name FROM members WHERE id = '2'"), "Bo");
    driftless::store::end_migration(a.path(), &Default::default(), &[]).unwrap();
    a.input(Input::LocalCommit);
    a.sync().unwrap();
    b.sync().unwrap();
    assert_eq!(a.read("SELECT id, name FROM members ORDER BY id"), "1|Ana\n2|of b\n3|in between");
    assert_eq!(
        remote.read("SELECT id, name, email FROM members ORDER BY id"),
        "1|Ana|a@x\n2|of b|NULL\n3|in between|NULL"
    );
    assert_equal(&b, &["members", "payments"]);
}

/// Whoever has opened a bracket was killed: after a quarter of an hour it does not count.
#[test]
fn f17_a_bracket_that_nobody_closes() {
    let (remote, mut a, _) = two();
    driftless::store::begin_migration(a.path(), &Default::default()).unwrap();
    a.input(Input::LocalCommit);
    a.db.execute_batch("UPDATE members SET name = 'unseen' WHERE id = '1'").unwrap();
    a.db.execute_batch("UPDATE driftless_settings SET value = '5' WHERE name = 'migrating'")
        .unwrap();
    a.advance(2_000);
    a.sync().unwrap();
    assert_eq!(remote.read("SELECT name FROM members WHERE id = '1'"), "unseen");
    a.write("UPDATE members SET name = 'seen' WHERE id = '2'");
    a.sync().unwrap();
    assert_equal(&a, &["members", "payments"]);
    assert_eq!(a.read("SELECT count(*) FROM driftless_settings WHERE name = 'migrating'"), "0");
}

/// The public face, on a running replicator.
#[test]
fn a_replicator_migrates() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    Connection::open(&path).unwrap().execute_batch(SCHEMA).unwrap();
    let replicator = Replicator::builder(&path).with_remote(remote.clone()).start().unwrap();
    let db = replicator.connection().unwrap();
    db.execute("INSERT INTO members VALUES ('1', 'Ana', NULL)", []).unwrap();
    replicator.sync_now_blocking().unwrap();
    let rows = replicator
        .migrate(|db| {
            db.execute_batch("ALTER TABLE members RENAME COLUMN name TO title")?;
            Ok(db.execute("UPDATE members SET title = 'Anna'", [])?)
        })
        .unwrap();
    assert_eq!(rows, 1);
    db.execute("UPDATE members SET email = 'a@x'", []).unwrap();
    replicator.sync_now_blocking().unwrap();
    assert_eq!(remote.read("SELECT name, email FROM members"), "Anna|a@x");
    replicator.begin_migration().unwrap();
    db.execute_batch("ALTER TABLE members ADD COLUMN notes TEXT DEFAULT 'n'").unwrap();
    replicator.end_migration(&[]).unwrap();
    db.execute("UPDATE members SET title = 'A'", []).unwrap();
    replicator.sync_now_blocking().unwrap();
    assert_eq!(remote.read("SELECT name, email FROM members"), "A|a@x");
}
