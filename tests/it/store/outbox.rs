//! The outbox: boundaries, what goes next, in which order; and the conflict inbox and first sync.

use driftless::event::conflict::ConflictRule;
use driftless::event::value::Value;
use driftless::event::{Op, RowKey, Seq};
use driftless::store::{ConflictKind, ConflictState, FkDeferral, NewKey, PushLimit, Store};

use super::integrate::MEMBERS;
use super::world::{ALL, Desk, NOW, Remote, actual};
use crate::support::inbox::Inbox as _;

fn three(events: usize) -> PushLimit {
    PushLimit::of(events, 1 << 20)
}

#[test]
fn a_push_ends_where_a_transaction_ended() {
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    assert!(!desk.store.note_boundary().unwrap());
    desk.write("INSERT INTO m (id) VALUES ('a'), ('b')");
    assert!(desk.store.note_boundary().unwrap());
    desk.write("INSERT INTO m (id) VALUES ('c'), ('d')");
    assert!(desk.store.note_boundary().unwrap());
    let push = desk.store.outgoing(three(3)).unwrap().unwrap();
    assert_eq!((push.events.len(), push.last_n), (2, 2));
    // A transaction whose ends are known goes whole, although it is larger than the limit.
    desk.store.sent(4).unwrap();
    desk.write("INSERT INTO m (id) VALUES ('e'), ('f'), ('g'), ('h')");
    let push = desk.store.outgoing(three(3)).unwrap().unwrap();
    assert_eq!(push.last_n, 8);
    // But never between the halves of a key change.
    desk.store.sent(8).unwrap();
    desk.reopen();
    desk.write("DELETE FROM m WHERE id = 'e'; UPDATE m SET id = 'z' WHERE id = 'f'");
    let push = desk.store.outgoing(three(2)).unwrap().unwrap();
    assert_eq!(push.last_n, 9);
    desk.store.sent(9).unwrap();
    let push = desk.store.outgoing(PushLimit::of(2, 1)).unwrap().unwrap();
    assert_eq!(push.last_n, 11);
    let [delete, insert] = &push.events[..] else { panic!("a pair") };
    assert_eq!((delete.op, insert.op), (Op::Delete, Op::Insert));
    assert_eq!((delete.pair, insert.pair), (Some(insert.id), Some(delete.id)));
    assert_eq!(delete.other.as_ref(), Some(&insert.key));
    assert_eq!(delete.image, insert.after);
    desk.store.sent(11).unwrap();
    assert_eq!(desk.store.outgoing(ALL).unwrap(), None);
}

#[test]
fn a_unit_ends_where_a_transaction_ended() {
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    let mut row = 0;
    for (rows, is_noted) in [(300, true), (300, true), (400, false), (200, true), (100, true)] {
        let values: Vec<_> = (row..row + rows).map(|row| format!("('{row}')")).collect();
        desk.write(&format!("INSERT INTO m (id) VALUES {}", values.join(", ")));
        if is_noted {
            desk.store.note_boundary().unwrap();
        }
        row += rows;
    }
    // Never within a transaction, and not where nobody saw that one ended; small ones go together.
    let push = desk.store.outgoing(ALL).unwrap().unwrap();
    assert_eq!((push.events.len(), push.units), (1_300, vec![600, 1_200]));
}

/// The thread of the store may be busy while the application writes.
#[test]
fn a_watch_sees_where_transactions_end() {
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    let mut watch = desk.store.watch();
    for transaction in 0..5 {
        let first = transaction * 300;
        let values: Vec<_> = (first..first + 300).map(|row| format!("('{row}')")).collect();
        desk.write(&format!("INSERT INTO m (id) VALUES {}", values.join(", ")));
        assert!(watch.look().unwrap());
        assert!(!watch.look().unwrap());
    }
    let push = desk.store.outgoing(three(1_000)).unwrap().unwrap();
    assert_eq!((push.events.len(), push.units), (900, vec![600]));
    desk.store.sent(900).unwrap();
    let push = desk.store.outgoing(ALL).unwrap().unwrap();
    assert_eq!((push.events.len(), push.units), (600, vec![]));
}

#[test]
fn numbers_are_never_used_twice() {
    let mut remote = Remote::new(MEMBERS, "", ConflictRule::Row);
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    for name in ["a", "b", "c"] {
        desk.write(&format!("INSERT INTO m (id) VALUES ('{name}')"));
        desk.sync(&mut remote);
    }
    let kept = desk.rows("SELECT n, settled, after FROM driftless_outbox");
    assert_eq!(kept, ["3|1|-"]);
    assert!(!desk.store.note_boundary().unwrap());
    desk.write("INSERT INTO m (id) VALUES ('d')");
    assert_eq!(desk.store.outgoing(ALL).unwrap().unwrap().last_n, 4);
}

#[test]
fn notes_do_not_pile_up_while_nothing_is_pulled() {
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    let upsert = "WITH RECURSIVE c (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c WHERE i < 1000)
                  INSERT INTO m (id) SELECT 'm' || i FROM c WHERE true
                  ON CONFLICT (id) DO UPDATE SET name = coalesce(name, '') || 'y'";
    let notes = |desk: &Desk| desk.rows("SELECT count(*) FROM driftless_notes").remove(0);
    desk.write(upsert);
    desk.write(upsert);
    assert_eq!(notes(&desk), "1001");
    // While another writes, they stay.
    desk.app.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(desk.store.note_boundary().unwrap());
    desk.app.execute_batch("COMMIT").unwrap();
    assert_eq!(notes(&desk), "1001");
    assert!(desk.store.note_boundary().unwrap());
    assert_eq!(notes(&desk), "0");
}

/// A push is cut where nothing that hangs together is parted, if it can be; and if it cannot, it
/// says what it lacks.
#[test]
fn a_short_push_looks_at_what_comes_behind_it() {
    let schema = "CREATE TABLE a (id INTEGER PRIMARY KEY, x TEXT);
        CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER REFERENCES a (id)
            DEFERRABLE INITIALLY DEFERRED);";
    let mut desk = Desk::new(1, schema, "", ConflictRule::Row);
    desk.write(
        "INSERT INTO a VALUES (1, 'x'), (2, 'x');
         INSERT INTO b VALUES (1, 3), (2, NULL); INSERT INTO a VALUES (3, 'y'), (4, 'z')",
    );
    let mut push = |events: usize, above: usize, lookahead: usize, deferral: FkDeferral| {
        let limit = PushLimit { above, lookahead, deferral, ..PushLimit::of(events, 1 << 20) };
        let push = desk.store.outgoing(limit).unwrap().unwrap();
        let told = push.events.iter().map(|event| (event.n, event.defer_fk)).collect::<Vec<_>>();
        (told, push.self_contained)
    };
    let (one, two, child, other) = ((1, false), (2, false), (3, true), (4, false));
    assert_eq!(push(3, 0, 0, FkDeferral::All), (vec![one, two], 2), "outside of a search too");
    assert_eq!(push(2, 0, 0, FkDeferral::All), (vec![one, two], 2));
    assert_eq!(
        push(3, 0, 9, FkDeferral::All),
        (vec![one, two], 2),
        "the child waits for its parent"
    );
    assert_eq!(push(4, 2, 9, FkDeferral::All), (vec![one, two, child, other], 5));
    assert_eq!(push(5, 2, 9, FkDeferral::All), (vec![one, two, child, other, (5, false)], 5));
    assert_eq!(
        push(5, 0, 9, FkDeferral::CyclesOnly),
        (vec![one, two, other, (5, false), (3, false)], 5),
        "its parent is in front of it"
    );
}

#[test]
fn consequences_follow_their_cause_and_late_parents_are_announced() {
    let schema = "CREATE TABLE a (id INTEGER PRIMARY KEY, x TEXT);
        CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER REFERENCES a (id) ON DELETE CASCADE
            DEFERRABLE INITIALLY DEFERRED);";
    let mut remote = Remote::new(schema, "", ConflictRule::Row);
    let mut desk = Desk::new(1, schema, "", ConflictRule::Row);
    desk.write("INSERT INTO b VALUES (1, 1), (2, 1); INSERT INTO a VALUES (1, 'x')");
    let push = desk.store.outgoing(ALL).unwrap().unwrap();
    let late: Vec<_> = push.events.iter().map(|event| event.defer_fk).collect();
    assert_eq!(late, [true, true, false]);
    let done = desk.sync(&mut remote);
    assert_eq!(done.settled_applied, 3);
    desk.write("DELETE FROM a");
    let push = desk.store.outgoing(ALL).unwrap().unwrap();
    let cause = push.events[0].id;
    let told: Vec<_> = push.events.iter().map(|event| (event.table.as_str(), event.via)).collect();
    assert_eq!(told, [("a", None), ("b", Some(cause)), ("b", Some(cause))]);
    let done = desk.sync(&mut remote);
    assert_eq!(done.settled_applied, 3);
    assert_eq!(desk.actual(), actual(&remote.db));
}

#[test]
fn a_culprit_is_recorded_as_rejected() {
    let mut remote = Remote::new(MEMBERS, "", ConflictRule::Row);
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    desk.write("INSERT INTO m (id) VALUES ('a'), ('b')");
    let push = desk.store.outgoing(ALL).unwrap().unwrap();
    desk.store.refuse(&[push.events[0].id], "the server said no").unwrap();
    assert!(desk.store.refuse(&[driftless::event::EventId(ulid::Ulid(1))], "x").is_err());
    let done = desk.sync(&mut remote);
    assert_eq!((done.settled_applied, done.settled_rejected), (1, 1));
    assert_eq!(desk.rows("SELECT id FROM m"), ["b"]);
    let conflicts = desk.store.conflicts(false).unwrap();
    assert_eq!(conflicts[0].kind, ConflictKind::Rejected);
    assert_eq!(conflicts[0].event.verdict.reason(), Some("the server said no"));
}

#[test]
fn a_lost_update_is_listed_and_can_be_restored() {
    let mut remote = Remote::new(MEMBERS, "", ConflictRule::Row);
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    remote.web("INSERT INTO m VALUES ('a', 'Ana', NULL, 1), ('b', 'Bob', NULL, 1)");
    desk.sync(&mut remote);
    desk.write("UPDATE m SET name = 'mine' WHERE id = 'a'");
    desk.write("UPDATE m SET name = 'same' WHERE id = 'b'");
    remote.web("UPDATE m SET name = 'theirs', n = 2 WHERE id = 'a'");
    remote.web("UPDATE m SET name = 'same' WHERE id = 'b'");
    let done = desk.sync(&mut remote);
    assert_eq!((done.settled_superseded, done.conflicts), (2, 1), "the second is moot");
    let conflicts = desk.store.conflicts(false).unwrap();
    let [conflict] = &conflicts[..] else { panic!("{conflicts:?}") };
    assert_eq!(conflict.kind, ConflictKind::Conflict);
    assert_eq!(conflict.winner.as_ref().unwrap().seq, Seq(3));
    let theirs = conflict.theirs.as_ref().unwrap();
    assert_eq!(theirs.get("name"), Some(&Value::from("theirs")));
    desk.store.restore(conflict.event.id, None).unwrap();
    assert_eq!(desk.store.state().unwrap().pending, 1);
    desk.sync(&mut remote);
    assert_eq!(desk.rows("SELECT name, n FROM m WHERE id = 'a'"), ["mine|2"]);
    assert_eq!(desk.actual(), actual(&remote.db));
    assert!(desk.store.conflicts(false).unwrap().is_empty());
    assert_eq!(desk.store.conflicts(true).unwrap()[0].state, ConflictState::Restored);
}

#[test]
fn an_update_of_a_row_that_the_winner_deleted_brings_the_row_back() {
    let mut remote = Remote::new(MEMBERS, "", ConflictRule::Row);
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    remote.web("INSERT INTO m VALUES ('a', 'Ana', 'x', 1)");
    desk.sync(&mut remote);
    desk.write("UPDATE m SET name = 'mine'");
    remote.web("DELETE FROM m");
    desk.sync(&mut remote);
    let id = desk.store.conflicts(false).unwrap()[0].event.id;
    // Not while another row has its e-mail address: an error, and nothing half done.
    desk.write("INSERT INTO m VALUES ('b', 'Bea', 'x', 1)");
    let error = desk.store.restore(id, None).unwrap_err();
    assert_eq!(error.code(), driftless::Code::CannotRestore);
    assert!(error.message().contains("m.email") && error.message().contains("row a"), "{error}");
    assert_eq!(desk.store.conflicts(false).unwrap().len(), 1);
    desk.write("UPDATE m SET email = NULL");
    desk.store.restore(id, None).unwrap();
    assert_eq!(desk.rows("SELECT * FROM m WHERE id = 'a'"), ["a|mine|x|1"]);
    desk.sync(&mut remote);
    assert_eq!(desk.actual(), actual(&remote.db));
}

#[test]
fn two_inserts_with_one_key_are_a_collision() {
    let schema = "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT);";
    let mut remote = Remote::new(schema, "", ConflictRule::Row);
    let mut desk = Desk::new(1, schema, "", ConflictRule::Row);
    desk.write("INSERT INTO t VALUES (1, 'mine')");
    remote.web("INSERT INTO t VALUES (1, 'theirs')");
    desk.sync(&mut remote);
    assert_eq!(desk.rows("SELECT * FROM t"), ["1|theirs"]);
    let conflict = desk.store.conflicts(false).unwrap().remove(0);
    assert_eq!(conflict.kind, ConflictKind::Collision);
    desk.store.restore(conflict.event.id, Some(NewKey::Fresh)).unwrap();
    desk.sync(&mut remote);
    assert_eq!(desk.rows("SELECT * FROM t"), ["1|theirs", "2|mine"]);
    assert_eq!(desk.actual(), actual(&remote.db));
}

#[test]
fn a_key_change_that_lost_is_listed_once_and_restored_whole() {
    let mut remote = Remote::new(MEMBERS, "", ConflictRule::Row);
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    remote.web("INSERT INTO m VALUES ('a', 'Ana', NULL, 1)");
    desk.sync(&mut remote);
    desk.write("UPDATE m SET id = 'b'");
    remote.web("UPDATE m SET n = 2");
    let done = desk.sync(&mut remote);
    assert_eq!((done.settled_superseded, done.conflicts), (2, 1));
    assert_eq!(desk.rows("SELECT * FROM m"), ["a|Ana|-|2"]);
    let conflict = desk.store.conflicts(false).unwrap().remove(0);
    let insert = conflict.insert.as_ref().unwrap();
    assert_eq!(desk.store.conflict(insert.id).unwrap(), conflict);
    desk.store.restore(insert.id, None).unwrap();
    desk.sync(&mut remote);
    assert_eq!(desk.rows("SELECT id FROM m"), ["b"]);
    assert_eq!(desk.actual(), actual(&remote.db));
}

#[test]
fn a_dismissed_conflict_is_off_the_list() {
    let mut remote = Remote::new(MEMBERS, "", ConflictRule::Row);
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    desk.write("INSERT INTO m (id) VALUES ('a')");
    remote.web("INSERT INTO m (id, n) VALUES ('a', 1)");
    desk.sync(&mut remote);
    let id = desk.store.conflicts(false).unwrap()[0].event.id;
    desk.store.dismiss(id).unwrap();
    assert!(desk.store.conflicts(false).unwrap().is_empty());
    let error = desk.store.conflict(driftless::event::EventId(ulid::Ulid(9))).unwrap_err();
    assert_eq!(error.kind(), driftless::Kind::Usage);
}

fn stage(store: &mut Store, remote: &Remote) {
    for ((table, key), image) in actual(&remote.db) {
        store.stage(&table, &[(RowKey(key), image)]).unwrap();
    }
}

#[test]
fn the_first_sync_merges_both_sides() {
    let mut remote = Remote::new(MEMBERS, "", ConflictRule::Row);
    // From before the log.
    remote.web(
        "INSERT INTO m VALUES ('both', 'B', NULL, 1),
            ('there', 'T', 'x', 1), ('differs', 'D', NULL, 1)",
    );
    remote.db.execute_batch("DELETE FROM driftless_events").unwrap();
    let old = "CREATE TABLE m (id TEXT PRIMARY KEY, name TEXT, email TEXT UNIQUE, n INTEGER);
        INSERT INTO m VALUES ('both', 'B', NULL, 1), ('here', 'H', 'y', 1), ('taken', 'K', 'x', 1),
            ('differs', 'mine', NULL, 1);";
    let mut desk = Desk::new(1, old, "", ConflictRule::Row);
    // Between init and the first sync the application goes on.
    desk.write("UPDATE m SET n = 5 WHERE id = 'here'; INSERT INTO m VALUES ('new', 'N', NULL, 1)");
    stage(&mut desk.store, &remote);
    let adopted = desk.store.adopt(Seq(0), NOW).unwrap();
    let counts = (adopted.fetched, adopted.local, adopted.equal, adopted.different);
    assert_eq!(counts, (1, 2, 1, 1));
    let here = desk.rows("SELECT id, name, n FROM m ORDER BY id");
    assert_eq!(here, ["both|B|1", "differs|D|1", "here|H|5", "new|N|1", "there|T|1"]);
    let aside = desk.rows("SELECT pk FROM driftless_outbox WHERE aside ORDER BY pk");
    assert_eq!(
        aside,
        [r#"["differs"]"#, r#"["taken"]"#],
        "what is back on its row is none of them"
    );
    let done = desk.sync(&mut remote);
    assert_eq!(desk.actual(), actual(&remote.db));
    assert_eq!((done.settled_applied, done.conflicts), (3, 2));
    assert_eq!(desk.rows("SELECT id FROM m WHERE n = 5"), ["here"]);
    assert_eq!(desk.rows("SELECT count(*) FROM driftless_staging"), ["0"]);
}

#[test]
fn staged_rows_follow_the_log() {
    let remote = Remote::new(MEMBERS, "", ConflictRule::Row);
    remote.web("INSERT INTO m VALUES ('a', 'A', 'x', 1), ('b', 'B', NULL, 1)");
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    stage(&mut desk.store, &remote);
    let from = remote.page(Seq(0), 100).last;
    remote.web("UPDATE m SET n = 2 WHERE id = 'a'; DELETE FROM m WHERE id = 'b'");
    remote.web("INSERT INTO m VALUES ('c', 'C', NULL, 1)");
    let page = remote.page(from, 100);
    desk.store.stage_events(&page).unwrap();
    desk.store.adopt(page.last, NOW).unwrap();
    assert_eq!(desk.actual(), actual(&remote.db));
    assert_eq!(desk.store.state().unwrap().cursor(), page.last);
}

#[test]
fn a_hundred_thousand_pending_events_are_soon_counted() {
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    desk.write(
        "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 100000)
         INSERT INTO m SELECT 'k' || i, 'name', NULL, i FROM c",
    );
    let state = desk.store.state().unwrap();
    assert_eq!((state.pending, state.unsent), (100_000, 100_000));
    let push = desk.store.outgoing(three(5_000)).unwrap().unwrap();
    assert_eq!(push.events.len(), 5_000);
    desk.store.sent(push.last_n).unwrap();
    assert_eq!(desk.store.state().unwrap().unsent, 95_000);
    assert!(state.oldest_pending_ms.is_some());
}

/// What `fixtures/replica/schema-1.sql` has in its queue: sixteen events that a driftless with
/// schema 1 captured and did not push.
const FORMER: &str = r#"
insert members ["ana"] - {"id":"Ana","email":"ana@example.com","weight":{"r":"8627208036181606p-47"},"photo":{"x":"00FF"},"visits":1}
insert members ["bea"] - {"id":"Bea","email":"bea@example.com","weight":{"r":"58.0"},"photo":null,"visits":2}
insert members ["cy"] - {"id":"Cy","email":null,"weight":null,"photo":null,"visits":-9223372036854775808}
insert payments [1] - {"id":1,"member":"ana","cents":8990}
insert payments [2] - {"id":2,"member":"bea","cents":4500}
insert payments [3] - {"id":3,"member":"cy","cents":10}
update members ["ana"] {"weight":{"r":"8627208036181606p-47"},"visits":1} {"weight":{"r":"5404319552844596p-54"},"visits":2}
update members ["ana"] {"id":"Ana"} {"id":"ANA"}
delete members ["bea"] {"id":"Bea","email":"bea@example.com","weight":{"r":"58.0"},"photo":null,"visits":2} -
delete payments [2] {"id":2,"member":"bea","cents":4500} -
insert members ["dee"] - {"id":"Dee","email":"bea@example.com","weight":{"r":"6724873095247260p944"},"photo":{"x":""},"visits":0}
delete payments [1] {"id":1,"member":"ana","cents":8990} -
insert payments [9] - {"id":9,"member":"ana","cents":8990}
update members ["ana"] {"visits":2} {"visits":3}
delete members ["cy"] {"id":"Cy","email":null,"weight":null,"photo":null,"visits":-9223372036854775808} -
delete payments [3] {"id":3,"member":"cy","cents":10} -
"#;

/// The same writes as in the fixture.
const FORMER_WRITES: [&str; 9] = [
    "INSERT INTO members VALUES ('Ana', 'ana@example.com', 61.3, x'00ff', 1),
         ('Bea', 'bea@example.com', 58.0, NULL, 2), ('Cy', NULL, NULL, NULL, -9223372036854775808)",
    "INSERT INTO payments VALUES (1, 'ana', 8990), (2, 'bea', 4500), (3, 'cy', 10)",
    "UPDATE members SET weight = 0.1 + 0.2, visits = 2 WHERE id = 'ana'",
    "UPDATE members SET id = 'ANA' WHERE id = 'ana'",
    "INSERT OR REPLACE INTO members VALUES ('Dee', 'bea@example.com', 1e300, x'', 0)",
    "UPDATE payments SET id = 9 WHERE id = 1",
    "INSERT INTO members VALUES ('ana', 'x', 1, 1, 1) ON CONFLICT (id) DO UPDATE SET visits = 3",
    "DELETE FROM members WHERE id = 'cy'",
    "UPDATE payments SET cents = cents",
];

const FORMER_SCHEMA: &str = "
    CREATE TABLE members (id TEXT COLLATE NOCASE PRIMARY KEY, email TEXT UNIQUE, weight REAL,
        photo BLOB, visits INTEGER);
    CREATE TABLE payments (id INTEGER PRIMARY KEY,
        member TEXT REFERENCES members (id) ON DELETE CASCADE, cents INTEGER);";

fn queue(desk: &mut Desk) -> String {
    let push = desk.store.outgoing(ALL).unwrap().unwrap();
    let mut text = String::from("\n");
    for event in push.events {
        let image = |json: &Option<String>| json.clone().unwrap_or_else(|| "-".to_owned());
        text.push_str(&format!("{} {} {} ", event.op, event.table, event.key.0));
        text.push_str(&format!("{} {}\n", image(&event.before), image(&event.after)));
    }
    text
}

#[test]
fn a_queue_of_the_former_schema_drains() {
    let dump = include_str!("../../../fixtures/replica/schema-1.sql");
    let mut remote = Remote::new(FORMER_SCHEMA, "", ConflictRule::Row);
    let mut desk = Desk::of_dump(dump);
    assert_eq!(queue(&mut desk), FORMER);
    let kept = "SELECT count(*) FROM pragma_table_info('driftless_quarantine') WHERE name = 'line'";
    assert_eq!(desk.rows(kept), ["1"], "and what came later is there");
    assert!(!desk.store.check_triggers().unwrap(), "the triggers are those of this version");
    desk.write("UPDATE members SET visits = visits + 1; DELETE FROM payments WHERE id = 9");
    desk.sync(&mut remote);
    assert_eq!(actual(&desk.app), actual(&remote.db));
    assert_eq!(desk.rows("SELECT visits FROM members ORDER BY id"), ["4", "1"]);
    assert_eq!(desk.store.outgoing(ALL).unwrap(), None);
}

#[test]
fn an_outbox_of_values_says_what_one_of_json_said() {
    let mut desk = Desk::new(1, FORMER_SCHEMA, "", ConflictRule::Row);
    for write in FORMER_WRITES {
        desk.write(write);
    }
    assert_eq!(queue(&mut desk), FORMER);
}

#[test]
fn an_event_is_read_by_the_definition_that_it_was_captured_with() {
    let schema = "CREATE TABLE m (id TEXT PRIMARY KEY, a TEXT, b INT, c REAL)";
    let mut desk = Desk::new(1, schema, "", ConflictRule::Row);
    desk.write("INSERT INTO m VALUES ('x', 'one', 2, 3.0)");
    // A column has its name in events for life.
    desk.write("ALTER TABLE m RENAME COLUMN b TO bee");
    assert!(!desk.store.check_triggers().unwrap(), "SQLite has renamed it in the triggers");
    desk.write("UPDATE m SET c = 4");
    desk.write("ALTER TABLE m ADD COLUMN d DEFAULT 'd'");
    assert!(desk.store.check_triggers().unwrap());
    desk.write("DELETE FROM m");
    assert_eq!(
        queue(&mut desk),
        r#"
insert m ["x"] - {"id":"x","a":"one","b":2,"c":{"r":"3.0"}}
update m ["x"] {"c":{"r":"3.0"}} {"c":{"r":"4.0"}}
delete m ["x"] {"id":"x","a":"one","b":2,"c":{"r":"4.0"},"d":"d"} -
"#
    );
}
