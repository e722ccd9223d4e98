//! Files that an older driftless left: the present one adds what they lack, and loses nothing.
//!
//! The dumps in `fixtures/replica/` were made by those versions: `schema-1.sql` has pending events
//! and nothing else; `schema-2.sql` is from before quarantined events had columns for a row that
//! waits as a whole and for a line that could not be read, and has four of them, a conflict and two
//! pending events. What lies between is made of these by adding and taking away.

use driftless::event::conflict::ConflictRule;
use driftless::store::Store;
use rusqlite::Connection;

use super::world::{ALL, Desk, NOW, rows};

const SCHEMA_1: &str = include_str!("../../../fixtures/replica/schema-1.sql");
const SCHEMA_2: &str = include_str!("../../../fixtures/replica/schema-2.sql");

/// All that came after the second dump.
const SINCE: &str = "ALTER TABLE driftless_quarantine ADD COLUMN img TEXT;
    ALTER TABLE driftless_quarantine ADD COLUMN line BLOB;
    ALTER TABLE driftless_conflicts ADD COLUMN tbl TEXT;
    ALTER TABLE driftless_conflicts ADD COLUMN pk TEXT;
    ALTER TABLE driftless_conflicts ADD COLUMN other TEXT;
    ALTER TABLE driftless_conflicts ADD COLUMN ends INTEGER";
/// The same of the logs of before, which the first dump has not.
const SINCE_OLD: &str = "ALTER TABLE driftless_old_conflicts ADD COLUMN tbl TEXT;
    ALTER TABLE driftless_old_conflicts ADD COLUMN pk TEXT;
    ALTER TABLE driftless_old_conflicts ADD COLUMN other TEXT;
    ALTER TABLE driftless_old_conflicts ADD COLUMN ends INTEGER";

/// What makes a file that has everything into one that lacks this.
const LACKING: [(&str, &str); 8] = [
    (
        "the identities and logs of before",
        "DROP TABLE driftless_identities; DROP TABLE driftless_old_log;
         DROP TABLE driftless_old_conflicts",
    ),
    ("the logs of before", "DROP TABLE driftless_old_log; DROP TABLE driftless_old_conflicts"),
    ("values of what was too large", "DROP TABLE driftless_kept"),
    ("the remote's spelling", "ALTER TABLE driftless_tables DROP COLUMN columns"),
    ("rows that wait", "ALTER TABLE driftless_quarantine DROP COLUMN img"),
    ("lines that could not be read", "ALTER TABLE driftless_quarantine DROP COLUMN line"),
    ("rows of conflicts", "ALTER TABLE driftless_conflicts DROP COLUMN ends"),
    ("rows of old conflicts", "ALTER TABLE driftless_old_conflicts DROP COLUMN ends"),
];

/// Our tables with their columns, and our indexes, in an order of their own.
const SHAPE: &str = "
    SELECT s.type, s.name, c.name, c.type, c.\"notnull\", c.dflt_value, c.pk
    FROM sqlite_schema s LEFT JOIN pragma_table_info(s.name) c ON s.type = 'table'
    WHERE s.name GLOB 'driftless_*' AND s.type <> 'trigger' ORDER BY 1, 2, 3";

/// All that must not be lost.
const KEPT: [&str; 7] = [
    "SELECT seq, tbl, pk, reason FROM driftless_quarantine",
    "SELECT n, ms, tail, op, base, settled FROM driftless_outbox",
    "SELECT seq, id, own, header, vals, hash FROM driftless_log",
    "SELECT seq, id, kind, winner, theirs, state, noticed FROM driftless_conflicts",
    "SELECT name, value FROM driftless_settings WHERE name NOT IN ('version', 'looked')",
    "SELECT cursor, clock, sent, chain FROM driftless_state",
    "SELECT count(*) FROM driftless_pow2",
];

fn kept(db: &Connection) -> Vec<Vec<String>> {
    KEPT.iter().map(|sql| rows(db, sql)).collect()
}

#[test]
fn a_file_of_any_version_gets_what_it_lacks_and_loses_nothing() {
    let spelling = "ALTER TABLE driftless_tables ADD COLUMN columns TEXT NOT NULL DEFAULT '[]'";
    let tables = include_str!("../../../schema/replica/tables.sql");
    let dumps = [
        ("all", SCHEMA_1.to_owned()),
        ("values in the outbox", format!("{SCHEMA_1}; {SINCE}; {spelling}; {tables}")),
        ("both columns", SCHEMA_2.to_owned()),
    ];
    let lacking =
        LACKING.map(|(what, sql)| (what, format!("{SCHEMA_2}; {SINCE}; {SINCE_OLD}; {sql}")));
    for (what, dump) in dumps.into_iter().chain(lacking) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("desk.db");
        let app = Connection::open(&path).unwrap();
        app.execute_batch(&dump).unwrap_or_else(|error| panic!("without {what}: {error}"));
        app.execute_batch(include_str!("../../../schema/pow2.sql")).unwrap();
        let before = kept(&app);
        // The triggers, and the outbox's columns, follow the application's definitions.
        let theirs = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND type <> 'trigger'
                      AND name NOT GLOB 'driftless_*' ORDER BY type DESC";
        let tables = rows(&app, theirs);
        let present = Desk::new(1, &format!("{};", tables.join(";")), "", ConflictRule::Row);
        // The second time nothing is to be done.
        for time in 1..=2 {
            let mut store = Store::open(&path).unwrap();
            assert_eq!(rows(&app, SHAPE), present.rows(SHAPE), "without {what}, time {time}");
            assert_eq!(kept(&app), before, "without {what}, time {time}");
            let unnamed = "SELECT seq FROM driftless_conflicts WHERE tbl IS NULL OR pk IS NULL";
            assert!(rows(&app, unnamed).is_empty(), "without {what}: rows of conflicts");
            store.check_triggers().unwrap();
            assert_eq!(store.setting("version").unwrap().as_deref(), Some("4"));
        }
        assert_eq!(rows(&app, "PRAGMA integrity_check"), ["ok"]);
        for trigger in rows(&app, "SELECT name FROM sqlite_schema WHERE type = 'trigger'") {
            let sql = format!("SELECT sql FROM sqlite_schema WHERE name = '{trigger}'");
            assert_eq!(rows(&app, &sql), present.rows(&sql), "without {what}");
        }
    }
}

/// Triggers of before would write columns that the outbox has no longer, and refuse each write.
#[test]
fn a_table_that_is_replicated_no_more_keeps_no_trigger_of_before() {
    let dump = format!("{SCHEMA_1}; DELETE FROM driftless_tables WHERE name = 'payments'");
    let desk = Desk::of_dump(&dump);
    let triggers = "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ";
    assert_eq!(desk.rows(&format!("{triggers}'payments'")), ["0"]);
    assert_ne!(desk.rows(&format!("{triggers}'members'")), ["0"]);
    desk.write("INSERT INTO payments VALUES (10, 'ana', 1)");
    assert_eq!(desk.rows("SELECT count(*) FROM driftless_outbox"), ["16"]);
}

#[test]
fn what_waited_in_an_older_file_is_applied_when_its_reason_is_gone() {
    for again in [false, true] {
        let mut desk = Desk::of_dump(SCHEMA_2);
        if again {
            desk.reopen();
        }
        let reasons = |desk: &Desk| -> Vec<_> {
            desk.store.quarantine().unwrap().into_iter().map(|w| (w.seq.0, w.reason)).collect()
        };
        let malformed =
            "malformed: event 4 names its row of table `members` by text that is not UTF-8";
        let expected = [
            (1, "table `members` refuses the row here: UNIQUE constraint failed: members.n"),
            (2, "table `members` has no column `phone` here"),
            (3, "an earlier event of this row waits"),
            (4, malformed),
        ];
        assert_eq!(reasons(&desk), expected.map(|(seq, why)| (seq, why.to_owned())));
        let state = desk.store.state().unwrap();
        assert_eq!((state.quarantined, state.conflicts, state.pending), (4, 1, 2));
        // What is of no use yet changes nothing: `a` has 7 by a pending event, and 1 underneath.
        let retried = desk.store.retry_quarantine(NOW).unwrap();
        assert_eq!(
            (retried.applied, retried.waiting),
            (3, 0),
            "a column that is not here is left out"
        );
        assert_eq!(reasons(&desk), [(4, malformed.to_owned())]);
        assert_eq!(
            desk.rows("SELECT id, name, email, n FROM members ORDER BY id"),
            ["a|Ana|-|7", "b|Bia|-|2", "c|Cid|-|3", "d|Dua|-|1", "f|Fay|f@x|6"]
        );
        assert_eq!(desk.store.outgoing(ALL).unwrap().unwrap().events.len(), 2);
        desk.store.dismiss_quarantined(driftless::event::Seq(4)).unwrap();
        assert_eq!(desk.store.state().unwrap().quarantined, 0);
    }
}

/// Before schema 3 a consequence named its parent by table and key, as JSON: what waits in the outbox
/// when the program is replaced keeps its cause (F21).
#[test]
fn f21_a_consequence_of_an_older_version_keeps_its_cause() {
    let dump = format!(
        "{SCHEMA_2}; INSERT INTO driftless_outbox
             (n, ms, tail, layout, op, base, via, b1, b2, b4) VALUES
             (4, 1795412631930, 1, 138966256287727, 2, 6, '[\"members\",[\"b\"]]', 'x', 'X', 9),
             (5, 1795412631931, 2, 138966256287727, 2, 6, NULL, 'b', 'Bia', 2)"
    );
    let mut desk = Desk::of_dump(&dump);
    desk.write("DELETE FROM members WHERE id = 'f'");
    let push = desk.store.outgoing(ALL).unwrap().unwrap();
    let numbers: Vec<_> = push.events.iter().map(|event| event.n).collect();
    assert_eq!(numbers, [2, 3, 5, 4, 6]);
    assert_eq!(push.events[3].via, Some(push.events[2].id));
}
