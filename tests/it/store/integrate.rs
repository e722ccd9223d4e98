//! Each step of integrating a page, singly.

use driftless::event::conflict::ConflictRule;
use driftless::event::page::Page;
use driftless::event::{EventId, Op, Seq};
use driftless::store::{Entry, EventState, LogFilter, Outcome};
use ulid::Ulid;

use super::world::{ALL, Desk, NOW, Remote};

pub(super) const MEMBERS: &str =
    "CREATE TABLE m (id TEXT PRIMARY KEY, name TEXT, email TEXT UNIQUE, n INTEGER);";

/// No cause, no via, no pair; the verdict, without a reason; and when it was received.
const NO_OTHERS: &str = r#"null,null,null,"applied",null,1"#;

/// A page of lines written by hand: `[seq, key, op, after]` of table `m`, by the web, all applied.
fn page(events: &[(i64, &str, &str, &str)], more: bool) -> Page {
    let lines: Vec<_> = events
        .iter()
        .map(|(seq, key, op, after)| {
            let id = Ulid(*seq as u128);
            let before = if *op == "delete" { "{}" } else { "null" };
            format!(
                r#"[{seq},"{id}","web",null,null,"m",["{key}"],"{op}",{before},{after},0,{NO_OTHERS}]"#
            )
        })
        .collect();
    let last = Seq(events.last().map_or(0, |event| event.0));
    Page { bytes: lines.join("\n").into_bytes(), last, count: events.len(), more }
}

fn pending(desk: &Desk) -> Vec<(Op, bool, Option<Seq>)> {
    let mut found = Vec::new();
    let filter = LogFilter { verdict: Some(EventState::Pending), ..LogFilter::default() };
    desk.store
        .log(&filter, &mut |entry| {
            let Entry::Pending(event) = entry else { panic!("it is pending") };
            found.push((event.op, event.aside, event.winner));
            Ok(())
        })
        .unwrap();
    found
}

fn members(desk: &Desk) -> Vec<String> {
    desk.rows("SELECT id, name, email, n FROM m ORDER BY id")
}

#[test]
fn an_echo_writes_nothing() {
    let mut remote = Remote::new(MEMBERS, "", ConflictRule::Row);
    let watch = "CREATE TABLE seen (what TEXT);
        CREATE TRIGGER w AFTER UPDATE ON m BEGIN INSERT INTO seen VALUES ('update'); END;
        CREATE TRIGGER v AFTER INSERT ON m BEGIN INSERT INTO seen VALUES ('insert'); END;";
    let mut desk = Desk::new(1, MEMBERS, watch, ConflictRule::Row);
    desk.write("INSERT INTO m VALUES ('a', 'Ana', NULL, 1); UPDATE m SET n = 2");
    let done = desk.sync(&mut remote);
    assert_eq!((done.settled_applied, done.changes.len()), (2, 0));
    // The application's own two writes, and nothing by the replay.
    assert_eq!(desk.rows("SELECT count(*) FROM seen"), ["2"]);
    assert_eq!(desk.store.state().unwrap().pending, 0);
}

#[test]
fn what_the_remote_did_goes_underneath_pending_events() {
    let web = "CREATE TRIGGER t AFTER INSERT ON m BEGIN UPDATE m SET n = 7 WHERE id = new.id; END;";
    let mut remote = Remote::new(MEMBERS, web, ConflictRule::Row);
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    desk.write("INSERT INTO m VALUES ('a', 'Ana', NULL, 1)");
    desk.push(&mut remote, ALL);
    desk.write("UPDATE m SET name = 'Bea'");
    let rowid = desk.rows("SELECT rowid FROM m");
    desk.pull(&remote, 100);
    assert_eq!(members(&desk), ["a|Bea|-|7"]);
    assert_eq!(desk.rows("SELECT rowid FROM m"), rowid, "the row keeps its rowid");
    assert_eq!(pending(&desk), [(Op::Update, false, None)]);
    desk.sync(&mut remote);
    assert_eq!(members(&desk), ["a|Bea|-|7"]);
}

#[test]
fn an_echo_leaves_what_is_underneath_later_events_as_it_was() {
    let mut remote = Remote::new(MEMBERS, "", ConflictRule::Row);
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    desk.write("INSERT INTO m VALUES ('a', 'Ana', NULL, 1)");
    desk.push(&mut remote, ALL);
    desk.write("UPDATE m SET n = 2");
    desk.pull(&remote, 100);
    assert_eq!(members(&desk), ["a|Ana|-|2"]);
    remote.web("UPDATE m SET email = 'x'");
    desk.pull(&remote, 100);
    assert_eq!(members(&desk), ["a|Ana|x|1"], "what lost is off the row");
}

#[test]
fn a_winner_sets_aside_all_that_it_defeats() {
    let mut remote = Remote::new(MEMBERS, "", ConflictRule::Row);
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    remote.web("INSERT INTO m VALUES ('a', 'Ana', NULL, 1)");
    desk.sync(&mut remote);
    desk.write("UPDATE m SET name = 'Bea'");
    desk.write("UPDATE m SET n = 2");
    desk.write("UPDATE m SET n = 3");
    remote.web("UPDATE m SET email = 'x'");
    desk.pull(&remote, 100);
    assert_eq!(members(&desk), ["a|Ana|x|1"], "no half-merged row");
    assert_eq!(pending(&desk), [(Op::Update, true, Some(Seq(2))); 3]);
    let done = desk.sync(&mut remote);
    assert_eq!((done.settled_superseded, done.conflicts), (3, 3));
    assert_eq!(members(&desk), ["a|Ana|x|1"]);
}

#[test]
fn the_columns_rule_lets_other_columns_be() {
    let mut remote = Remote::new(MEMBERS, "", ConflictRule::Columns);
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Columns);
    remote.web("INSERT INTO m VALUES ('a', 'Ana', NULL, 1)");
    desk.sync(&mut remote);
    desk.write("UPDATE m SET name = 'Bea'");
    desk.write("UPDATE m SET n = 2");
    remote.web("UPDATE m SET n = 9");
    desk.pull(&remote, 100);
    assert_eq!(members(&desk), ["a|Bea|-|9"]);
    let done = desk.sync(&mut remote);
    assert_eq!((done.settled_applied, done.settled_superseded), (1, 1));
}

#[test]
fn a_pending_row_in_the_way_of_a_unique_value_comes_off() {
    let mut remote = Remote::new(MEMBERS, "", ConflictRule::Row);
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    desk.write("INSERT INTO m VALUES ('a', 'Ana', 'x', 1)");
    remote.web("INSERT INTO m VALUES ('b', 'Bea', 'x', 1)");
    desk.pull(&remote, 100);
    assert_eq!(members(&desk), ["b|Bea|x|1"]);
    assert_eq!(pending(&desk), [(Op::Insert, true, None)]);
    let done = desk.sync(&mut remote);
    assert_eq!((done.settled_rejected, done.conflicts), (1, 1));
}

#[test]
fn unique_values_that_change_places_are_folded() {
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    let first = page(
        &[
            (1, "a", "insert", r#"{"id":"a","name":"Ana","email":"x","n":1}"#),
            (2, "b", "insert", r#"{"id":"b","name":"Bea","email":"y","n":1}"#),
        ],
        false,
    );
    desk.store.integrate(&first, None, NOW).unwrap();
    // As a trigger of the web's may log it: in no order that a UNIQUE index lets pass.
    let swap = page(
        &[(3, "a", "update", r#"{"email":"y"}"#), (4, "b", "update", r#"{"email":"x"}"#)],
        true,
    );
    let done = desk.store.integrate(&swap, None, NOW).unwrap();
    assert!(matches!(done, Outcome::Done(_)), "{done:?}");
    assert_eq!(members(&desk), ["a|Ana|y|1", "b|Bea|x|1"]);
    // Half of it needs the other half.
    let half = page(&[(5, "a", "update", r#"{"email":"x"}"#)], true);
    assert_eq!(desk.store.integrate(&half, None, NOW).unwrap(), Outcome::NeedsLonger);
    assert_eq!(desk.store.state().unwrap().cursor(), Seq(4));
    assert_eq!(members(&desk), ["a|Ana|y|1", "b|Bea|x|1"]);
    // At the log's head it can only wait.
    let head = page(&[(5, "a", "update", r#"{"email":"x"}"#)], false);
    let Outcome::Done(done) = desk.store.integrate(&head, None, NOW).unwrap() else { panic!() };
    assert_eq!((done.quarantined, done.cursor), (1, Seq(5)));
    assert_eq!(members(&desk), ["a|Ana|y|1", "b|Bea|x|1"]);
    let reason = &desk.store.quarantine().unwrap()[0].reason;
    assert!(reason.contains("UNIQUE") && reason.contains("m.email"), "{reason}");
}

#[test]
fn what_is_not_ours_to_write_waits_in_quarantine() {
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    let events = page(
        &[
            (1, "a", "insert", r#"{"id":"a","name":"Ana","email":null,"n":1,"photo":"p"}"#),
            (2, "a", "update", r#"{"n":2}"#),
            (3, "b", "insert", r#"{"id":"c","name":"Bea","email":null,"n":1}"#),
            (4, "d", "insert", r#"{"id":"d","name":"Dan","email":null,"n":1}"#),
            (5, "e", "update", r#"{"n":1}"#),
        ],
        false,
    );
    let Outcome::Done(done) = desk.store.integrate(&events, None, NOW).unwrap() else { panic!() };
    assert_eq!((done.quarantined, done.cursor), (2, Seq(5)));
    assert_eq!(members(&desk), ["a|Ana|-|2", "d|Dan|-|1"], "a column that is not here is left out");
    let reasons: Vec<_> =
        desk.store.quarantine().unwrap().into_iter().map(|waiting| waiting.reason).collect();
    let expected = [
        "the event's key and its value of column `id` of table `m` differ",
        "table `m` has no such row here",
    ];
    assert_eq!(reasons, expected);
    desk.write("ALTER TABLE m ADD COLUMN photo TEXT");
    let retried = desk.store.retry_quarantine(NOW).unwrap();
    assert_eq!((retried.applied, retried.waiting), (0, 2));
    assert_eq!(desk.rows("SELECT id, n, photo FROM m ORDER BY id"), ["a|2|-", "d|1|-"]);
    assert_eq!(desk.store.state().unwrap().quarantined, 2);
    assert_eq!(desk.store.state().unwrap().pending, 0, "a retry is no local change");
}

#[test]
fn a_constraint_of_this_database_alone_sends_a_row_to_quarantine() {
    let here = "CREATE TABLE m (id TEXT PRIMARY KEY, name TEXT, email TEXT UNIQUE,
        n INTEGER CHECK (n < 100));";
    let mut desk = Desk::new(1, here, "", ConflictRule::Row);
    let events = page(
        &[
            (1, "a", "insert", r#"{"id":"a","name":"Ana","email":null,"n":1}"#),
            (2, "a", "update", r#"{"n":100}"#),
            (3, "b", "insert", r#"{"id":"b","name":"Bea","email":null,"n":1}"#),
        ],
        true,
    );
    let Outcome::Done(done) = desk.store.integrate(&events, None, NOW).unwrap() else { panic!() };
    assert_eq!((done.quarantined, done.cursor), (2, Seq(3)), "a longer page would be of no use");
    assert_eq!(members(&desk), ["b|Bea|-|1"]);
}

#[test]
fn a_trigger_that_rolls_back_stops_no_retry_of_the_quarantine() {
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    desk.write("CREATE UNIQUE INDEX own ON m (n)");
    let events = page(
        &[
            (1, "b", "insert", r#"{"id":"b","name":"Bea","email":null,"n":1}"#),
            (2, "a", "insert", r#"{"id":"a","name":"Ana","email":null,"n":1}"#),
        ],
        false,
    );
    let Outcome::Done(done) = desk.store.integrate(&events, None, NOW).unwrap() else { panic!() };
    assert_eq!(done.quarantined, 1, "the index is in its way");
    desk.write("DROP INDEX own");
    desk.write("CREATE TRIGGER t BEFORE INSERT ON m BEGIN SELECT RAISE(ROLLBACK, 'no'); END;");
    let retried = desk.store.retry_quarantine(NOW).unwrap();
    assert_eq!((retried.applied, retried.waiting), (1, 0));
    assert_eq!(members(&desk), ["a|Ana|-|1", "b|Bea|-|1"]);
}

/// A desk with a UNIQUE index of its own, in the way of which `a` would be without its pending
/// event: the remote has `a` and `b` with the same `n`.
pub(super) fn hidden() -> (Remote, Desk) {
    let tables = "CREATE TABLE m (id TEXT PRIMARY KEY, name TEXT, email TEXT UNIQUE, n INTEGER);";
    let mut remote = Remote::new(tables, "", ConflictRule::Row);
    let mut desk = Desk::new(1, tables, "", ConflictRule::Row);
    remote.web("INSERT INTO m VALUES ('a', 'Ana', NULL, 1)");
    desk.sync(&mut remote);
    desk.write("CREATE UNIQUE INDEX own ON m (n)");
    desk.write("UPDATE m SET n = 2, email = 'x' WHERE id = 'a'");
    remote.web("INSERT INTO m VALUES ('b', 'Bea', NULL, 1)");
    desk.pull(&remote, 10);
    assert_eq!(members(&desk), ["a|Ana|x|2", "b|Bea|-|1"]);
    (remote, desk)
}

#[test]
fn a_row_that_a_lost_event_hid_from_a_constraint_waits_as_a_whole() {
    let (mut remote, mut desk) = hidden();
    remote.web("INSERT INTO m VALUES ('c', 'Cem', 'x', 3)");
    let done = desk.sync(&mut remote);
    assert_eq!((done.settled_rejected, done.quarantined), (1, 1));
    assert_eq!(members(&desk), ["b|Bea|-|1", "c|Cem|x|3"], "`a` cannot be here beside `b`");
    // What comes of the row follows it, and a retry that is of no use changes nothing.
    remote.web("UPDATE m SET name = 'Ada' WHERE id = 'a'");
    assert_eq!(desk.sync(&mut remote).quarantined, 1);
    let retried = desk.store.retry_quarantine(NOW).unwrap();
    assert_eq!((retried.applied, retried.waiting), (0, 2));
    desk.write("DROP INDEX own");
    let retried = desk.store.retry_quarantine(NOW).unwrap();
    assert_eq!((retried.applied, retried.waiting), (2, 0));
    assert_eq!(members(&desk), ["a|Ada|-|1", "b|Bea|-|1", "c|Cem|x|3"]);
    assert_eq!(desk.actual(), desk.expected(&remote));
}

#[test]
fn a_row_that_waits_as_a_whole_is_released_by_a_delete() {
    let (mut remote, mut desk) = hidden();
    remote.web("INSERT INTO m VALUES ('c', 'Cem', 'x', 3)");
    desk.sync(&mut remote);
    remote.web("DELETE FROM m WHERE id = 'a'");
    desk.sync(&mut remote);
    assert_eq!(desk.store.state().unwrap().quarantined, 0);
    assert_eq!(desk.actual(), desk.expected(&remote));
}

#[test]
fn a_row_that_a_pending_event_hides_from_a_constraint_stays_hidden() {
    let (mut remote, mut desk) = hidden();
    desk.write("INSERT INTO m VALUES ('d', 'Dua', 'y', 4)");
    remote.web("INSERT INTO m VALUES ('e', 'Eva', 'y', 5)");
    // To make room for `e`, all that is pending comes off, and `a` cannot be here without it.
    let done = desk.pull(&remote, 10);
    assert_eq!((done.quarantined, done.set_aside), (0, 1));
    assert_eq!(members(&desk), ["a|Ana|x|2", "b|Bea|-|1", "e|Eva|y|5"]);
    assert_eq!(pending(&desk)[0], (Op::Update, false, None));
    desk.sync(&mut remote);
    assert_eq!(desk.actual(), desk.expected(&remote));
}

/// One has by a pending event what another has underneath: without their pending events they cannot
/// even stay what they are.
#[test]
fn rows_that_hide_one_behind_the_other_stay_as_they_are() {
    let mut remote = Remote::new(MEMBERS, "", ConflictRule::Row);
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    remote.web("INSERT INTO m VALUES ('a', 'Ana', NULL, 1), ('b', 'Bea', NULL, 5)");
    desk.sync(&mut remote);
    desk.write("CREATE UNIQUE INDEX own ON m (n)");
    desk.write("UPDATE m SET n = 2 WHERE id = 'a'");
    desk.write("UPDATE m SET n = 1 WHERE id = 'b'");
    remote.web("INSERT INTO m VALUES ('c', 'Cem', NULL, 5)");
    desk.pull(&remote, 10);
    desk.write("INSERT INTO m VALUES ('d', 'Dua', 'y', 4)");
    remote.web("INSERT INTO m VALUES ('e', 'Eva', 'y', 6)");
    let done = desk.pull(&remote, 10);
    assert_eq!((done.quarantined, done.set_aside), (0, 1));
    assert_eq!(members(&desk), ["a|Ana|-|2", "b|Bea|-|1", "c|Cem|-|5", "e|Eva|y|6"]);
    desk.sync(&mut remote);
    assert_eq!(desk.actual(), desk.expected(&remote));
}

#[test]
fn a_trigger_that_rolls_back_what_is_put_back_has_no_say() {
    let mut remote = Remote::new(MEMBERS, "", ConflictRule::Columns);
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Columns);
    remote.web("INSERT INTO m VALUES ('a', 'Ana', NULL, 1)");
    desk.sync(&mut remote);
    desk.write("UPDATE m SET n = 2");
    desk.write(
        "CREATE TRIGGER t BEFORE UPDATE ON m WHEN old.n = 1 AND new.n = 2
            BEGIN SELECT RAISE(ROLLBACK, 'no'); END;",
    );
    remote.web("UPDATE m SET name = 'Bea'");
    desk.pull(&remote, 100);
    assert_eq!(members(&desk), ["a|Bea|-|2"]);
    assert_eq!(pending(&desk), [(Op::Update, false, None)]);
    desk.sync(&mut remote);
    assert_eq!(desk.actual(), super::world::actual(&remote.db));
}

#[test]
fn the_applications_triggers_do_not_change_what_the_remote_said() {
    let tables = "CREATE TABLE m (id TEXT PRIMARY KEY, name TEXT, email TEXT UNIQUE, n INTEGER);
        CREATE TABLE p (id TEXT PRIMARY KEY, m TEXT);";
    let local = "CREATE VIRTUAL TABLE search USING fts5 (name);
        CREATE TABLE notes (what TEXT);
        CREATE TRIGGER t1 AFTER INSERT ON m BEGIN
            INSERT INTO search (rowid, name) VALUES (new.rowid, new.name); END;
        CREATE TRIGGER t2 AFTER UPDATE ON m BEGIN
            UPDATE search SET name = new.name WHERE rowid = new.rowid;
            UPDATE m SET n = n + 1 WHERE id = new.id;
            INSERT INTO p VALUES ('by' || new.id, new.id);
            DELETE FROM p WHERE id = 'keep';
            INSERT INTO notes VALUES ('updated ' || new.id); END;
        CREATE TRIGGER t3 BEFORE DELETE ON m BEGIN
            DELETE FROM p WHERE m = old.id; DELETE FROM search WHERE rowid = old.rowid; END;
        CREATE TRIGGER t4 BEFORE INSERT ON m WHEN new.n = 13 BEGIN SELECT RAISE(IGNORE); END;
        CREATE TRIGGER t5 BEFORE INSERT ON m WHEN new.n = 14 BEGIN SELECT RAISE(ABORT, 'no'); END;
        CREATE TRIGGER t6 BEFORE INSERT ON m WHEN new.n = 15
            BEGIN SELECT RAISE(ROLLBACK, 'no'); END;";
    let mut remote = Remote::new(tables, "", ConflictRule::Row);
    let mut desk = Desk::new(1, tables, local, ConflictRule::Row);
    remote.web("INSERT INTO m VALUES ('a', 'Ana', NULL, 1), ('b', 'Bea', NULL, 13)");
    remote.web("INSERT INTO m VALUES ('c', 'Cem', NULL, 14)");
    remote.web("INSERT INTO p VALUES ('keep', 'b'), ('pa', 'a'), ('pb', 'b')");
    desk.sync(&mut remote);
    remote.web("UPDATE m SET name = 'Bob' WHERE id = 'b'");
    desk.sync(&mut remote);
    remote.web("DELETE FROM m WHERE id = 'a'");
    let done = desk.sync(&mut remote);
    assert_eq!(done.quarantined, 0);
    assert_eq!(desk.actual(), super::world::actual(&remote.db));
    assert_eq!(
        desk.rows("SELECT name FROM search WHERE search MATCH 'ana OR bob'"),
        Vec::<String>::new(),
        "a deleted row and a refused one"
    );
    assert_eq!(desk.rows("SELECT what FROM notes"), ["updated b"]);
    assert_eq!(desk.store.state().unwrap().pending, 0, "nobody's answer to the remote");
    remote.web("INSERT INTO m VALUES ('d', 'Dan', NULL, 15)");
    desk.sync(&mut remote);
    remote.web("INSERT INTO m VALUES ('e', 'Eve', NULL, 1)");
    desk.sync(&mut remote);
    remote.web("UPDATE m SET name = 'Eva' WHERE id = 'e'");
    desk.sync(&mut remote);
    assert_eq!(desk.actual(), super::world::actual(&remote.db));
    assert_eq!(desk.rows("SELECT name FROM search WHERE search MATCH 'eva'"), ["Eva"]);
    // The application's own writes have their triggers and their capture.
    desk.write("UPDATE m SET name = 'Evi' WHERE id = 'e'");
    assert_eq!(desk.rows("SELECT n FROM m WHERE id = 'e'"), ["2"]);
    assert!(desk.store.state().unwrap().pending >= 2);
}

#[test]
fn a_page_that_is_integrated_already_is_refused() {
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    let events = page(&[(1, "a", "insert", r#"{"id":"a","name":null,"email":null,"n":1}"#)], false);
    desk.store.integrate(&events, None, NOW).unwrap();
    let error = desk.store.integrate(&events, None, NOW).unwrap_err();
    assert_eq!(error.kind(), driftless::Kind::Corrupt);
    assert_eq!(members(&desk), ["a|-|-|1"]);
}

#[test]
fn the_log_has_everything_and_its_chain_holds() {
    let mut remote = Remote::new(MEMBERS, "", ConflictRule::Row);
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    remote.web("INSERT INTO m VALUES ('a', 'Ana', NULL, 1)");
    desk.write("INSERT INTO m VALUES ('a', 'Bea', NULL, 1)");
    desk.sync(&mut remote);
    desk.write("UPDATE m SET n = 2");
    let mut seen = Vec::new();
    desk.store
        .log(&LogFilter::default(), &mut |entry| {
            seen.push(match &entry {
                Entry::Settled(event) => format!("{} {}", event.op, event.verdict),
                Entry::Pending(event) => format!("{} pending", event.op),
            });
            assert_eq!(desk.store.event(entry.id()).unwrap().as_ref(), Some(&entry));
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, ["insert applied", "insert superseded: conflict", "update pending"]);
    let mut chain = driftless::event::frame::GENESIS;
    for seq in 1..=2 {
        let event = desk.store.settled(Seq(seq)).unwrap().unwrap();
        chain = driftless::event::frame::chain(&chain, &driftless::event::frame::seal(&event));
    }
    assert_eq!(desk.store.state().unwrap().chain, chain);
    let nobody = EventId(Ulid(3));
    assert_eq!(desk.store.event(nobody).unwrap(), None);
}
