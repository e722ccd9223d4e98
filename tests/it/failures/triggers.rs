//! How replicators fail, by number: functions that the application replaces, its TEMP triggers, and
//! foreign keys of generated columns.

use std::sync::Arc;

use driftless::store::ConflictKind;
use rusqlite::functions::FunctionFlags;

use crate::support::desk::{Desk, assert_equal};
use crate::support::inbox::Inbox as _;
use crate::support::local_remote::LocalRemote;

/// The events that the remote has not applied.
fn lost(remote: &LocalRemote) -> String {
    remote.read(
        "SELECT coalesce(group_concat(seq || ' ' || op || ' ' || tbl || pk || ' ' || reason), 'none')
         FROM driftless_events WHERE verdict <> 'applied'",
    )
}

#[test]
fn f52_a_foreign_key_of_a_generated_column() {
    for kind in ["STORED", "VIRTUAL"] {
        let schema = format!(
            "CREATE TABLE parents (id TEXT PRIMARY KEY, raw TEXT, code TEXT AS (raw || '!') {kind} UNIQUE);
             CREATE TABLE children (id INTEGER PRIMARY KEY, info TEXT,
                 parent TEXT AS (substr(info, 3)) {kind}
                     REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
             CREATE TABLE others (id INTEGER PRIMARY KEY, code TEXT
                     REFERENCES parents (code) DEFERRABLE INITIALLY DEFERRED);"
        );
        let remote = Arc::new(LocalRemote::new(&schema));
        let (mut a, mut b) =
            (Desk::with_schema(&remote, 1, &schema), Desk::with_schema(&remote, 2, &schema));
        let tables = ["parents", "children", "others"];
        let steps = [
            // A child in front of its parent.
            "INSERT INTO children (id, info) VALUES (1, 'p:a'), (2, 'p:b');
             INSERT INTO others VALUES (1, 'A!'); INSERT INTO parents VALUES ('a', 'A'), ('b', 'B')",
            // The parent goes first, to which one column refers, and then the other.
            "DELETE FROM parents WHERE id = 'a'; DELETE FROM children WHERE id = 1; DELETE FROM others",
            "INSERT INTO others VALUES (2, 'B!')",
            "UPDATE parents SET raw = 'C' WHERE id = 'b'; UPDATE others SET code = 'C!'",
            "UPDATE children SET info = 'p:d'; INSERT INTO parents VALUES ('d', 'D')",
            "DELETE FROM parents; DELETE FROM others; DELETE FROM children",
        ];
        for step in steps {
            a.db.execute_batch(&format!("BEGIN; {step}; COMMIT")).unwrap();
            a.sync().unwrap();
            b.sync().unwrap();
            assert_eq!(lost(&remote), "none", "{kind}: {step}");
            assert_equal(&a, &tables);
            assert_equal(&b, &tables);
        }
        assert_eq!(a.read("SELECT count(*) FROM parents"), "0");
    }
}

/// The consequence of a delete that is lost is lost too, by whichever rules the application's own
/// functions spell.
#[test]
fn f58_the_application_has_a_lower_of_its_own() {
    const SCHEMA: &str = "
        CREATE TABLE parents (id TEXT COLLATE NOCASE PRIMARY KEY, name TEXT);
        CREATE TABLE children (id INTEGER PRIMARY KEY, parent TEXT COLLATE NOCASE
            REFERENCES parents ON DELETE CASCADE ON UPDATE CASCADE);";
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    let mut desk = Desk::with_schema(&remote, 1, SCHEMA);
    remote.web(
        "INSERT INTO parents VALUES ('\u{c4}RGER', 'one'), ('Plain', 'two');
         INSERT INTO children VALUES (1, '\u{c4}RGER'), (2, '\u{c4}rger'), (3, 'PLAIN')",
    );
    desk.sync().unwrap();
    remote.web("UPDATE parents SET name = 'of the web'");
    for name in ["lower", "upper", "coalesce", "typeof", "json_array", "max"] {
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
        let unicode = |context: &rusqlite::functions::Context<'_>| {
            Ok(context.get::<Option<String>>(0).ok().flatten().map(|text| text.to_lowercase()))
        };
        for count in [-1, 1, 2] {
            desk.db.create_scalar_function(name, count, flags, unicode).unwrap();
        }
    }
    assert_eq!(desk.read("SELECT count(*) FROM children"), "3");
    desk.db.execute_batch("DELETE FROM parents WHERE name IS NOT 'x'").unwrap();
    assert_eq!(desk.read("SELECT count(*) FROM children"), "0");
    desk.sync().unwrap();
    assert_equal(&desk, &["parents", "children"]);
    assert_eq!(remote.read("SELECT group_concat(id) FROM children"), "1,2,3");
    let reasons = "SELECT group_concat(tbl || ' ' || reason, ', ') FROM driftless_events \
                   WHERE verdict <> 'applied'";
    let told = remote.read(reasons);
    let (parents, children) = (told.matches("parents conflict"), told.matches("children via"));
    assert_eq!((parents.count(), children.count()), (2, 3), "{told}");
}

#[test]
fn f59_the_application_trusts_no_schema() {
    const SCHEMA: &str = "
        CREATE TABLE parents (id TEXT COLLATE NOCASE, n INT, PRIMARY KEY (id, n));
        CREATE TABLE children (id INTEGER PRIMARY KEY, parent TEXT, n INT,
            FOREIGN KEY (parent, n) REFERENCES parents ON DELETE CASCADE ON UPDATE CASCADE);";
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    let mut desk = Desk::with_schema(&remote, 1, SCHEMA);
    desk.db.pragma_update(None, "trusted_schema", false).unwrap();
    // What is replaced is not innocuous, as `json_array` is not up to SQLite 3.40.
    for name in ["json_array", "json_object", "lower", "coalesce", "typeof", "max", "hex"] {
        for count in [-1, 1, 2] {
            let flags = FunctionFlags::SQLITE_UTF8;
            let fail = |_: &rusqlite::functions::Context<'_>| -> rusqlite::Result<i64> {
                Err(rusqlite::Error::InvalidQuery)
            };
            desk.db.create_scalar_function(name, count, flags, fail).unwrap();
        }
    }
    for step in [
        "INSERT INTO parents VALUES ('a', 1), ('b', 1)",
        "INSERT INTO children VALUES (1, 'a', 1), (2, 'b', 1)",
        "UPDATE children SET parent = 'B' WHERE id = 1",
        "INSERT INTO parents VALUES ('A', 1) ON CONFLICT DO UPDATE SET n = 2",
        "INSERT OR REPLACE INTO parents VALUES ('A', 2)",
        "UPDATE parents SET n = 7 WHERE id = 'b'",
        "DELETE FROM parents WHERE id = 'B'",
    ] {
        desk.db.execute_batch(step).unwrap_or_else(|error| panic!("{step}: {error}"));
        desk.sync().unwrap();
        assert_eq!(lost(&remote), "none", "{step}");
        assert_equal(&desk, &["parents", "children"]);
    }
    assert_eq!(desk.read("SELECT count(*) FROM children"), "0");
}

/// What a TEMP trigger does to the row for which it was fired is logged behind what fired it.
#[test]
fn f61_temp_triggers_write_the_row_again() {
    const SCHEMA: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, x, stamp);
                          CREATE TABLE made (id INTEGER PRIMARY KEY, of INT REFERENCES t (id));";
    const TRIGGERS: [&str; 7] = [
        "AFTER INSERT ON t BEGIN UPDATE t SET stamp = 'in' WHERE id = new.id; END",
        "AFTER INSERT ON t WHEN new.x < 0 BEGIN DELETE FROM t WHERE id = new.id; END",
        "AFTER INSERT ON t BEGIN INSERT INTO made (of) SELECT id FROM t WHERE id = new.id; END",
        "AFTER UPDATE ON t BEGIN UPDATE t SET x = x + 1, stamp = 'up' WHERE id = new.id; END",
        "AFTER UPDATE ON t BEGIN UPDATE t SET x = old.x WHERE id = new.id; END",
        "AFTER UPDATE ON t WHEN new.x = 5 BEGIN DELETE FROM made; DELETE FROM t WHERE id = new.id;
             INSERT INTO t VALUES (old.id, old.x, 'again'); END",
        "AFTER DELETE ON t BEGIN INSERT INTO t VALUES (old.id, old.x, 'undeleted'); END",
    ];
    for trigger in TRIGGERS {
        let remote = Arc::new(LocalRemote::new(SCHEMA));
        let mut a = Desk::with_schema(&remote, 1, SCHEMA);
        let mut b = Desk::with_schema(&remote, 2, SCHEMA);
        a.db.execute_batch(&format!("CREATE TEMP TRIGGER mine {trigger}")).unwrap();
        for step in [
            "INSERT INTO t (id, x) VALUES (1, 1), (2, -2), (3, 3)",
            "BEGIN; INSERT INTO t (id, x) VALUES (4, 4); UPDATE t SET x = 5 WHERE id = 4; COMMIT",
            "UPDATE t SET x = 5 WHERE id = 1",
            "UPDATE t SET id = 9 WHERE id = 3 AND NOT EXISTS (SELECT 1 FROM made)",
            "DELETE FROM made; DELETE FROM t WHERE id = 1",
        ] {
            a.db.execute_batch(step).unwrap();
            a.sync().unwrap();
            b.sync().unwrap();
            assert_eq!(lost(&remote), "none", "{trigger}: {step}");
            for desk in [&mut a, &mut b] {
                assert_equal(desk, &["t", "made"]);
                assert_eq!(
                    desk.machine.store().quarantine().unwrap().len(),
                    0,
                    "{trigger}: {step}"
                );
            }
        }
    }
}

/// What is taken off a row under a remote event is what was there before the trigger, too.
#[test]
fn f61_what_a_temp_trigger_did_comes_off_with_its_cause() {
    const SCHEMA: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, x, stamp)";
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    let mut desk = Desk::with_schema(&remote, 1, SCHEMA);
    desk.write("INSERT INTO t VALUES (1, 1, 'old')");
    desk.sync().unwrap();
    let trigger = "AFTER UPDATE ON t BEGIN UPDATE t SET x = x + 10 WHERE id = new.id; END";
    desk.db.execute_batch(&format!("CREATE TEMP TRIGGER mine {trigger}")).unwrap();
    desk.db.execute_batch("UPDATE t SET x = 2").unwrap();
    assert_eq!(desk.read("SELECT x FROM t"), "12");
    remote.web("UPDATE t SET stamp = 'of the web'");
    desk.sync().unwrap();
    assert_eq!(desk.read("SELECT x || stamp FROM t"), "1of the web");
    assert_equal(&desk, &["t"]);
    let conflicts = desk.machine.store().conflicts(false).unwrap();
    assert!(conflicts.iter().all(|conflict| conflict.kind == ConflictKind::Conflict));
    assert_eq!(conflicts.len(), 2);
}

/// A row whose parent is missing, and which is gone at the end of the statement, is no consequence
/// of what happens to that parent later.
#[test]
fn f61_a_temp_trigger_deletes_a_row_without_a_parent() {
    for action in ["RESTRICT", "NO ACTION"] {
        let schema = format!(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, parent INT REFERENCES t ON DELETE {action})"
        );
        let remote = Arc::new(LocalRemote::new(&schema));
        let mut desk = Desk::with_schema(&remote, 1, &schema);
        let trigger = "AFTER INSERT ON t BEGIN DELETE FROM t WHERE id = new.id; END";
        desk.db.execute_batch(&format!("CREATE TEMP TRIGGER mine {trigger}")).unwrap();
        desk.write("INSERT INTO t VALUES (2, 3)");
        desk.write("INSERT INTO t VALUES (3, 3)");
        desk.sync().unwrap();
        assert_eq!(lost(&remote), "none", "{action}");
        assert_equal(&desk, &["t"]);
    }
}
