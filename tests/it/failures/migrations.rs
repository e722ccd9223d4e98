//! How replicators fail, by number: a desk's application changes its schema.

use std::fmt::Write as _;
use std::sync::Arc;

use driftless::sync::Input;
use fastrand::Rng;

use crate::support::desk::{Desk, assert_equal};
use crate::support::local_remote::{LocalRemote, read};
use crate::support::members::{TABLES, remote};
use crate::support::seeds::each_seed;

/// A parent, its children, and a table beside them.
const GYM: &str = "
    CREATE TABLE members (id TEXT PRIMARY KEY, name TEXT, email TEXT UNIQUE);
    CREATE TABLE payments (id TEXT PRIMARY KEY,
        member TEXT REFERENCES members (id) ON DELETE CASCADE ON UPDATE CASCADE, cents INT);
    CREATE TABLE plans (id TEXT PRIMARY KEY, title TEXT COLLATE NOCASE, price REAL);
";
const GYM_TABLES: [&str; 3] = ["members", "payments", "plans"];

/// The ways in which tools rebuild a table.
const REBUILDS: [(&str, &str); 4] = [
    (
        "made, copied, dropped, renamed",
        "CREATE TABLE fresh ({d}); INSERT INTO fresh SELECT * FROM {t};
         DROP TABLE {t}; ALTER TABLE fresh RENAME TO {t}",
    ),
    (
        "the same in one transaction",
        "BEGIN; CREATE TABLE fresh ({d}); INSERT INTO fresh SELECT * FROM {t};
         DROP TABLE {t}; ALTER TABLE fresh RENAME TO {t}; COMMIT",
    ),
    (
        "renamed aside",
        "PRAGMA legacy_alter_table = ON; ALTER TABLE {t} RENAME TO aside;
         CREATE TABLE {t} ({d}); INSERT INTO {t} SELECT * FROM aside; DROP TABLE aside;
         PRAGMA legacy_alter_table = OFF",
    ),
    (
        "copied away and back",
        "CREATE TEMP TABLE copy AS SELECT * FROM {t}; DROP TABLE {t}; CREATE TABLE {t} ({d});
         INSERT INTO {t} SELECT * FROM copy; DROP TABLE copy",
    ),
];

/// What stands between the parentheses of a table's definition, in the desk's own file.
fn definition(desk: &Desk, table: &str) -> String {
    let sql = desk.read(&format!("SELECT sql FROM sqlite_schema WHERE name = '{table}'"));
    let (from, to) = (sql.find('(').unwrap(), sql.rfind(')').unwrap());
    sql[from + 1..to].to_owned()
}

/// The application rebuilds a table; nobody is told.
fn rebuild(desk: &Desk, script: &str, table: &str) {
    let script = script.replace("{d}", &definition(desk, table)).replace("{t}", table);
    let script = format!("PRAGMA foreign_keys = OFF; {script}; PRAGMA foreign_keys = ON");
    desk.db.execute_batch(&script).unwrap_or_else(|error| panic!("{script}: {error}"));
}

#[test]
fn f62_what_is_written_right_after_a_rebuild_arrives() {
    for (way, script) in REBUILDS {
        for table in GYM_TABLES {
            let remote = Arc::new(LocalRemote::new(GYM));
            let mut desk = Desk::with_schema(&remote, 1, GYM);
            desk.write("INSERT INTO members VALUES ('1', 'Ana', 'a@x'), ('2', 'Bea', NULL)");
            desk.write("INSERT INTO payments VALUES ('p', '1', 5); INSERT INTO plans VALUES ('x', 'X', 1.5)");
            desk.sync().unwrap();
            // An event from before waits, and the web goes on.
            desk.db.execute_batch("UPDATE members SET name = 'Anna' WHERE id = '1'").unwrap();
            remote.web("INSERT INTO plans VALUES ('w', 'Web', 2.5)");
            rebuild(&desk, script, table);
            let lost = "INSERT INTO members VALUES ('3', 'Cleo', 'c@x');
                 UPDATE members SET email = 'b@x' WHERE id = '2';
                 INSERT INTO payments VALUES ('q', '3', 7); UPDATE payments SET cents = 6 WHERE id = 'p';
                 INSERT INTO plans VALUES ('y', 'Y', 0.1); UPDATE plans SET title = 'x' WHERE id = 'x'";
            desk.db.execute_batch(lost).unwrap();
            desk.sync().unwrap_or_else(|error| panic!("{way}, {table}: {error}"));
            desk.sync().unwrap();
            assert_equal(&desk, &GYM_TABLES);
            let name = remote.read("SELECT name, email FROM members ORDER BY id");
            assert_eq!(name, "Anna|a@x\nBea|b@x\nCleo|c@x", "{way}, {table}");
            assert_eq!(
                remote.read("SELECT id, cents FROM payments ORDER BY id"),
                "p|6\nq|7",
                "{way}, {table}"
            );
            assert_eq!(
                remote.read("SELECT title FROM plans ORDER BY id"),
                "Web\nx\nY",
                "{way}, {table}"
            );
            assert_eq!(desk.status().conflicts, 0, "{way}, {table}");
            // Capture is there again.
            desk.write(
                "UPDATE members SET name = 'Z' WHERE id = '3'; DELETE FROM payments WHERE id = 'q'",
            );
            desk.sync().unwrap();
            assert_equal(&desk, &GYM_TABLES);
            assert_eq!(desk.read("PRAGMA integrity_check"), "ok");
        }
    }
}

#[test]
fn f62_a_delete_while_a_table_was_made_anew_is_not_believed() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana'), ('2', 'Bea')");
    desk.sync().unwrap();
    rebuild(&desk, REBUILDS[0].1, "members");
    desk.db.execute_batch("DELETE FROM members").unwrap();
    desk.sync().unwrap();
    assert_eq!(remote.read("SELECT count(*) FROM members"), "2", "nobody's members are gone");
    assert_equal(&desk, &TABLES);
}

/// A rebuild whose DROP TABLE runs the cascades of the children.
#[test]
fn f68_the_children_of_a_table_that_was_made_anew_come_back() {
    let deep = format!(
        "{GYM} CREATE TABLE receipts (id TEXT PRIMARY KEY,
            payment TEXT REFERENCES payments (id) ON DELETE CASCADE);"
    );
    for running in [true, false] {
        let remote = Arc::new(LocalRemote::new(&deep));
        let mut desk = Desk::with_schema(&remote, 1, &deep);
        desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana'), ('2', 'Bea')");
        desk.write("INSERT INTO payments VALUES ('p', '1', 5), ('q', '2', 6), ('r', NULL, 7)");
        desk.write("INSERT INTO receipts VALUES ('x', 'p'), ('y', 'q'), ('z', 'r')");
        desk.sync().unwrap();
        if running {
            desk.write("UPDATE payments SET cents = 55 WHERE id = 'p'");
        }
        let fresh = definition(&desk, "members");
        let rebuild = format!(
            "PRAGMA foreign_keys = ON; BEGIN; CREATE TABLE fresh ({fresh});
             INSERT INTO fresh SELECT * FROM members;
             DROP TABLE members; ALTER TABLE fresh RENAME TO members; COMMIT"
        );
        desk.db.execute_batch(&rebuild).unwrap();
        assert_eq!(desk.read("SELECT count(*) FROM payments"), "1", "the cascade has run");
        desk.db.execute_batch("INSERT INTO payments VALUES ('s', '2', 8)").unwrap();
        desk.sync().unwrap();
        assert_eq!(remote.read("SELECT count(*) FROM payments"), "4", "nobody's payments are gone");
        assert_equal(&desk, &["members", "payments", "plans", "receipts"]);
        let returned = desk.status().returned;
        let returned: Vec<_> = returned.iter().map(|one| (&*one.table, one.rows)).collect();
        assert_eq!(returned, [("payments", 2), ("receipts", 2)]);
        // A person decides.
        let store = desk.machine.store();
        assert_eq!(store.keep_returned(Some("receipts")).unwrap(), 2);
        assert_eq!(store.delete_returned(None).unwrap(), 2);
        desk.input(Input::LocalCommit);
        desk.sync().unwrap();
        assert_eq!(remote.read("SELECT id FROM payments ORDER BY id"), "r\ns");
        assert_equal(&desk, &["members", "payments", "plans", "receipts"]);
        assert!(desk.status().returned.is_empty());
    }
}

/// A parent that is rebuilt without its cascades takes no delete back.
#[test]
fn f68_deletes_that_no_cascade_has_made_are_pushed() {
    let remote = Arc::new(LocalRemote::new(GYM));
    let mut desk = Desk::with_schema(&remote, 1, GYM);
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana'), ('2', 'Bea')");
    desk.write("INSERT INTO payments VALUES ('p', '1', 5), ('q', '2', 6)");
    desk.sync().unwrap();
    desk.db.execute_batch("DELETE FROM payments WHERE id = 'p'").unwrap();
    rebuild(&desk, REBUILDS[1].1, "members");
    desk.sync().unwrap();
    assert_eq!(remote.read("SELECT id FROM payments"), "q");
    assert_equal(&desk, &GYM_TABLES);
    assert!(desk.status().returned.is_empty());
}

/// A trigger goes with its table when that is renamed, and what it would capture there is another
/// table's.
#[test]
fn f62_what_is_written_to_a_table_that_was_put_aside_is_no_event() {
    let remote = Arc::new(LocalRemote::new(GYM));
    let mut desk = Desk::with_schema(&remote, 1, GYM);
    desk.write("INSERT INTO plans VALUES ('x', 'X', 1.5), ('y', 'Y', 2.5)");
    desk.sync().unwrap();
    let fresh = definition(&desk, "plans");
    desk.write(&format!("ALTER TABLE plans RENAME TO former; CREATE TABLE plans ({fresh})"));
    desk.write("INSERT INTO plans SELECT * FROM former; DELETE FROM former; DROP TABLE former");
    desk.sync().unwrap();
    assert_eq!(remote.read("SELECT id FROM plans ORDER BY id"), "x\ny");
    assert_equal(&desk, &GYM_TABLES);
    assert_eq!(remote.read("SELECT count(*) FROM driftless_events WHERE op = 'delete'"), "0");
}

/// Somebody has taken one trigger away: the table is what it was, so a few deletes are deletes.
#[test]
fn f62_writes_while_one_trigger_was_missing() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    let many: Vec<_> = (1..=9).map(|n| format!("('{n}', 'n{n}', NULL)")).collect();
    desk.write(&format!("INSERT INTO members VALUES {}", many.join(", ")));
    desk.sync().unwrap();
    desk.db.execute_batch("DROP TRIGGER driftless_delete_members").unwrap();
    desk.db.execute_batch("DELETE FROM members WHERE id IN ('1', '2')").unwrap();
    desk.sync().unwrap();
    assert_eq!(remote.read("SELECT count(*) FROM members"), "7");
    assert_equal(&desk, &TABLES);
    // More than a quarter: they come back.
    desk.db.execute_batch("DROP TRIGGER driftless_delete_members").unwrap();
    desk.db.execute_batch("DELETE FROM members WHERE id IN ('3', '4', '5')").unwrap();
    desk.sync().unwrap();
    assert_eq!(remote.read("SELECT count(*) FROM members"), "7");
    assert_equal(&desk, &TABLES);
}

/// Dropped and made again to the letter: nothing visible has changed but SQLite's schema version.
#[test]
fn f62_a_trigger_that_was_away_for_a_moment() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    desk.write("INSERT INTO members VALUES ('1', 'Ana', NULL)");
    desk.sync().unwrap();
    let all = desk.read(
        "SELECT group_concat(sql, ';\n') FROM (SELECT sql FROM sqlite_schema
        WHERE type = 'trigger' AND tbl_name = 'members' ORDER BY rowid)",
    );
    let names =
        desk.read("SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'members'");
    let mut away = String::new();
    for name in names.lines() {
        write!(away, "DROP TRIGGER {name};").unwrap();
    }
    desk.db.execute_batch(&away).unwrap();
    desk.db.execute_batch("UPDATE members SET name = 'Anna'").unwrap();
    desk.db.execute_batch(&all).unwrap();
    desk.sync().unwrap();
    assert_eq!(remote.read("SELECT name FROM members"), "Anna");
    assert_equal(&desk, &TABLES);
}

#[test]
fn f65_a_value_written_to_a_new_column_before_capture_knows_it() {
    let remote = remote();
    let mut desk = Desk::new(&remote, 1);
    desk.write("INSERT INTO members (id, name) VALUES ('1', 'Ana'), ('2', 'Bea'), ('3', 'Cleo')");
    desk.sync().unwrap();
    let add = "ALTER TABLE members ADD COLUMN phone TEXT DEFAULT '-'";
    remote.web(add);
    remote.web("UPDATE members SET phone = '22' WHERE id IN ('2', '3')");
    desk.db.execute_batch(add).unwrap();
    desk.db.execute_batch("UPDATE members SET phone = '11' WHERE id = '1'").unwrap();
    desk.db.execute_batch("UPDATE members SET phone = '33' WHERE id = '3'").unwrap();
    desk.db.execute_batch("INSERT INTO members VALUES ('4', 'Dora', NULL, '44')").unwrap();
    // Who asks before any replicator has looked is told.
    let status = driftless::inspect::Replica::open(desk.path()).unwrap().status().unwrap();
    assert_eq!(status.suspect, ["members"]);
    desk.sync().unwrap();
    desk.sync().unwrap();
    assert_equal(&desk, &TABLES);
    // Turso's version wins where both have written, and the other one is in the inbox.
    let phones = "SELECT id, phone FROM members ORDER BY id";
    assert_eq!(remote.read(phones), "1|11\n2|22\n3|22\n4|44");
    assert_eq!(desk.status().conflicts, 1);
}

#[test]
fn f66_a_desk_without_the_new_column_goes_on() {
    let remote = remote();
    let (mut old, mut new) = (Desk::new(&remote, 1), Desk::new(&remote, 2));
    old.write("INSERT INTO members (id, name) VALUES ('1', 'Ana')");
    old.sync().unwrap();
    let add = "ALTER TABLE members ADD COLUMN phone TEXT";
    remote.web(add);
    new.db.execute_batch(add).unwrap();
    new.sync().unwrap();
    new.write("UPDATE members SET phone = '1', name = 'Anna' WHERE id = '1'");
    new.write("INSERT INTO members (id, name, phone) VALUES ('2', 'Bea', '2')");
    new.sync().unwrap();
    remote.web("UPDATE members SET phone = '3' WHERE id = '2'");
    old.restart();
    old.sync().unwrap();
    assert_eq!(old.status().quarantined, 0);
    assert_eq!(old.read("SELECT id, name FROM members"), "1|Anna\n2|Bea");
    old.write("UPDATE members SET name = 'Beate' WHERE id = '2'");
    old.write("INSERT INTO members (id, name) VALUES ('3', 'Cleo')");
    assert_eq!(old.sync().unwrap().applied, 2);
    // The column comes, and what it lacked with it.
    old.db.execute_batch(add).unwrap();
    old.sync().unwrap();
    new.sync().unwrap();
    for desk in [&old, &new] {
        assert_equal(desk, &TABLES);
        assert_eq!(desk.read("SELECT phone FROM members WHERE id = '2'"), "3");
        assert_eq!(desk.status().conflicts, 0);
    }
}

/// What one party has written, over all tables, by the model: a database without replication.
struct Party {
    prefix: char,
    made: u32,
}

impl Party {
    /// A statement that writes rows of this party alone.
    fn write(&mut self, rng: &mut Rng, may_delete: bool, columns: usize) -> String {
        let (prefix, made) = (self.prefix, self.made);
        let one = |rng: &mut Rng| format!("{prefix}{}", rng.u32(0..made.max(1)));
        let token = rng.u32(..);
        let column = (columns > 0).then(|| format!("extra{}", rng.usize(0..columns)));
        match rng.u8(0..8) {
            0..=2 => {
                self.made += 1;
                let id = format!("{prefix}{}", self.made - 1);
                let member = one(rng);
                format!(
                    "INSERT INTO members (id, name, email) VALUES ('{id}', 'n{token}', '{id}@{token}');
                     INSERT INTO plans (id, title, price) VALUES ('{id}', 'T{token}', {token} / 7.0);
                     INSERT OR IGNORE INTO payments (id, member, cents)
                       SELECT '{id}', id, {token} FROM members WHERE id = '{member}'"
                )
            }
            3 => format!("UPDATE members SET name = 'u{token}' WHERE id = '{}'", one(rng)),
            4 => format!("UPDATE payments SET cents = {token} WHERE id = '{}'", one(rng)),
            5 if may_delete => match rng.bool() {
                true => format!("DELETE FROM members WHERE id = '{}'", one(rng)),
                false => format!("DELETE FROM plans WHERE id = '{}'", one(rng)),
            },
            6 if column.is_some() => format!(
                "UPDATE members SET {} = 'c{token}' WHERE id = '{}'",
                column.unwrap(),
                one(rng)
            ),
            _ => format!(
                "UPDATE plans SET price = {token}, title = 'p{token}' WHERE id = '{}'",
                one(rng)
            ),
        }
    }
}

/// A desk's migration, which nobody is told of. Gives whether capture may have a gap.
fn migrate(desk: &Desk, rng: &mut Rng) -> bool {
    let table = GYM_TABLES[rng.usize(0..3)];
    match rng.u8(0..8) {
        0..=3 => {
            rebuild(desk, REBUILDS[rng.usize(0..REBUILDS.len())].1, table);
            true
        }
        4 => {
            let sql = format!(
                "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = '{table}'"
            );
            let names = desk.read(&sql);
            let names: Vec<_> = names.lines().collect();
            if names.is_empty() {
                return true;
            }
            let name = names[rng.usize(0..names.len())];
            desk.db.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
            true
        }
        5 => {
            let sql = format!("CREATE INDEX IF NOT EXISTS i{} ON {table} (id)", rng.u8(0..9));
            desk.db.execute_batch(&sql).unwrap();
            false
        }
        6 => {
            desk.db.execute_batch("VACUUM").unwrap();
            false
        }
        _ => {
            desk.db.execute_batch("CREATE TABLE IF NOT EXISTS own (x); DROP TABLE own").unwrap();
            true
        }
    }
}

/// Each party writes rows of its own, so that nothing conflicts: in the end all sides have what a
/// database without replication has, whatever was migrated when.
#[test]
fn f62_random_migrations_lose_nothing() {
    each_seed(60, "f62_random", |seed| {
        let mut rng = Rng::with_seed(seed);
        let remote = Arc::new(LocalRemote::new(GYM));
        let model = rusqlite::Connection::open_in_memory().unwrap();
        model.execute_batch(&format!("PRAGMA foreign_keys = ON; {GYM}")).unwrap();
        let mut desks = [Desk::with_schema(&remote, 1, GYM), Desk::with_schema(&remote, 2, GYM)];
        let mut parties = ['a', 'b', 'w'].map(|prefix| Party { prefix, made: 0 });
        // Whether the capture of each desk may have a gap, and how many columns were added.
        let (mut gap, mut columns) = ([false; 2], 0);
        for _ in 0..rng.usize(10..40) {
            let who = rng.usize(0..3);
            match rng.u8(0..10) {
                0..=4 if who == 2 => {
                    let sql = parties[2].write(&mut rng, true, 0);
                    model.execute_batch(&sql).unwrap();
                    remote.web(&sql);
                }
                0..=4 => {
                    let sql = parties[who].write(&mut rng, !gap[who], columns);
                    model.execute_batch(&sql).unwrap();
                    desks[who].db.execute_batch(&sql).unwrap();
                }
                5..=6 if who < 2 => gap[who] |= migrate(&desks[who], &mut rng),
                7 if columns < 3 => {
                    let add = format!("ALTER TABLE members ADD COLUMN extra{columns} TEXT");
                    remote.web(&add);
                    model.execute_batch(&add).unwrap();
                    for (desk, gap) in desks.iter().zip(&mut gap) {
                        desk.db.execute_batch(&add).unwrap();
                        *gap = true;
                    }
                    columns += 1;
                }
                8 if who < 2 && rng.bool() => desks[who].restart(),
                // It looks, and cannot compare: what is written from now on is captured.
                9 if who < 2 && rng.bool() => {
                    remote.set_offline(true);
                    desks[who].input(Input::LocalCommit);
                    desks[who].settle();
                    remote.set_offline(false);
                }
                _ if who < 2 => {
                    desks[who].sync().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                    gap[who] = false;
                }
                _ => {}
            }
        }
        for desk in [0, 1, 0, 1] {
            desks[desk].sync().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        for table in GYM_TABLES {
            let sql = format!("SELECT * FROM {table} ORDER BY id");
            let expected = read(&model, &sql);
            assert_eq!(remote.read(&sql), expected, "{table} of the remote");
            for desk in &desks {
                assert_eq!(desk.read(&sql), expected, "{table} of a desk");
            }
        }
        for desk in &desks {
            let status = desk.status();
            assert_eq!((status.pending, status.quarantined, status.conflicts), (0, 0, 0));
        }
    });
}
