//! How replicators fail, by number: tables and columns that one side has and the other has not.

use std::sync::Arc;

use crate::support::desk::{Desk, SCHEMA, assert_equal};
use crate::support::local_remote::LocalRemote;
use crate::support::members::{TABLES, remote};

#[test]
fn f38_a_column_that_one_replica_lacks() {
    let remote = remote();
    let (mut a, mut b) = (Desk::new(&remote, 1), Desk::new(&remote, 2));
    a.write("INSERT INTO members (id, name) VALUES ('1', 'Ana'), ('2', 'Bea')");
    a.sync().unwrap();
    b.sync().unwrap();
    let add = "ALTER TABLE members ADD COLUMN phone TEXT";
    remote.web(add);
    a.db.execute_batch(add).unwrap();
    a.initialise_again(&[]).unwrap();
    a.write("UPDATE members SET phone = '12' WHERE id = '1'");
    a.write("UPDATE members SET name = 'Anna' WHERE id = '1'");
    a.write("UPDATE members SET name = 'Beate' WHERE id = '2'");
    a.write("INSERT INTO payments VALUES (1, '2', 5)");
    a.sync().unwrap();
    b.sync().unwrap();
    // All is taken but the column.
    assert_eq!(b.status().quarantined, 0);
    assert_eq!(b.read("SELECT id, name FROM members"), "1|Anna\n2|Beate");
    assert_eq!(b.read("SELECT count(*) FROM payments"), "1");
    // What b writes meanwhile goes out as ever.
    b.write("INSERT INTO members (id, name) VALUES ('3', 'Cleo')");
    assert_eq!(b.sync().unwrap().applied, 1);
    // The migration brings the rest.
    b.db.execute_batch(add).unwrap();
    b.sync().unwrap();
    assert_eq!(b.read("SELECT phone FROM members WHERE id = '1'"), "12");
    a.sync().unwrap();
    assert_equal(&a, &TABLES);
    assert_equal(&b, &TABLES);
    b.write("UPDATE members SET phone = '34' WHERE id = '3'");
    b.sync().unwrap();
    a.sync().unwrap();
    assert_equal(&a, &TABLES);
}

#[test]
fn f38_a_table_that_one_replica_lacks() {
    let remote = remote();
    let mut a = Desk::new(&remote, 1);
    let wider = format!("{SCHEMA} CREATE TABLE visits (id TEXT PRIMARY KEY, member TEXT);");
    let mut b = Desk::with_schema(&remote, 2, &wider);
    b.write("INSERT INTO visits VALUES ('v', '1')");
    b.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    b.sync().unwrap();
    a.sync().unwrap();
    assert_equal(&a, &TABLES);
    assert_eq!(a.status().quarantined, 0, "its events are in the log, and nothing waits");
    assert_equal(&b, &["members", "payments", "visits"]);
    // Where all tables are replicated, it is taken after a while, with its rows.
    assert!(a.status().left_out.iter().any(|left| left.table == "visits"));
    a.advance(60_000);
    a.sync().unwrap();
    assert_equal(&a, &["members", "payments", "visits"]);
}

#[test]
fn f39_the_same_table_made_twice() {
    // Neither side has more than a table of its own, and both bring the same new one.
    let remote = Arc::new(LocalRemote::new(""));
    let (mut a, mut b) = (Desk::new(&remote, 1), Desk::new(&remote, 2));
    a.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    b.write("INSERT INTO members (id, name) VALUES ('2', 'Bea')");
    a.sync().unwrap();
    b.sync().unwrap();
    a.sync().unwrap();
    // The web's migration, which knows nothing of that, is run once more, and so is each `init`.
    remote.web(&SCHEMA.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS"));
    for desk in [&mut a, &mut b] {
        desk.initialise_again(&[]).unwrap();
        desk.sync().unwrap();
        assert_equal(desk, &TABLES);
    }
    assert_eq!(remote.read("SELECT count(*) FROM driftless_events"), "2", "nothing is doubled");
    assert_eq!(remote.read("SELECT count(*) FROM members"), "2");
}

#[test]
fn f38_a_pending_delete_of_a_row_that_had_a_column_more() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    let mut desk = Desk::new(&remote, 1);
    desk.write("INSERT INTO members VALUES ('m1', 'Ana', NULL)");
    desk.sync().unwrap();
    desk.write("DELETE FROM members");
    // As SQLite's manual has it: with triggers about, a column cannot be dropped otherwise.
    let rebuild = "PRAGMA foreign_keys = OFF; PRAGMA legacy_alter_table = ON; BEGIN;
        CREATE TABLE narrow (id TEXT PRIMARY KEY, email TEXT UNIQUE);
        INSERT INTO narrow SELECT id, email FROM members;
        DROP TABLE members; ALTER TABLE narrow RENAME TO members; COMMIT";
    desk.db.execute_batch(rebuild).unwrap();
    remote.web("UPDATE members SET email = 'a@x' WHERE id = 'm1'");
    desk.sync().unwrap();
    // The web was first. Its row comes back, without the column that this desk has no more.
    assert_eq!(desk.read("SELECT id, email FROM members"), "m1|a@x");
    assert_eq!(desk.status().conflicts, 1);
}
