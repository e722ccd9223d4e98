//! The conflict inbox at scale: what is moot, what belongs together, and many restored at once.

use std::path::Path;
use std::sync::{Arc, Barrier};

use driftless::event::conflict::ConflictRule;
use driftless::event::{EventId, Op, Seq};
use driftless::protocol::Outgoing;
use driftless::store::{
    Conflict, ConflictFilter, ConflictKind, ConflictState, NewKey, PushLimit, Selection, Store,
};

use super::integrate::MEMBERS;
use super::world::{ALL, Desk, NOW, Remote, actual};
use crate::support::inbox::Inbox as _;

const FAMILY: &str = "CREATE TABLE p (id TEXT PRIMARY KEY, x TEXT);
    CREATE TABLE c (id TEXT PRIMARY KEY, p TEXT REFERENCES p (id)
        ON DELETE CASCADE ON UPDATE CASCADE, x TEXT);";

fn open(desk: &Desk) -> Vec<Conflict> {
    desk.store.conflicts(false).unwrap()
}

fn ids(conflicts: &[Conflict]) -> Vec<EventId> {
    conflicts.iter().map(|conflict| conflict.event.id).collect()
}

/// A desktop that has renamed `a` to `b` under its children, and a remote that takes the children's
/// events before their cause, as a push does that is cut between them.
fn renamed(children: usize) -> (Remote, Desk, Vec<Outgoing>) {
    let mut remote = Remote::new(FAMILY, "", ConflictRule::Row);
    let mut desk = Desk::new(1, FAMILY, "", ConflictRule::Row);
    remote.web("INSERT INTO p VALUES ('a', NULL)");
    for child in 0..children {
        remote.web(&format!("INSERT INTO c VALUES ('c{child}', 'a', NULL)"));
    }
    desk.sync(&mut remote);
    desk.write("UPDATE p SET id = 'b'");
    let push = desk.store.outgoing(ALL).unwrap().unwrap();
    let (mut early, cause): (Vec<_>, Vec<_>) =
        push.events.into_iter().partition(|event| event.table == "c");
    assert_eq!((early.len(), cause.len()), (children, 2));
    early.iter_mut().for_each(|event| (event.via, event.defer_fk) = (None, false));
    remote.deliver(desk.id, &early);
    desk.store.sent(push.last_n).unwrap();
    (remote, desk, cause)
}

#[test]
fn f50_a_conflict_is_moot_as_soon_as_its_effect_is_there() {
    let (mut remote, mut desk, cause) = renamed(5);
    let done = desk.pull(&remote, 100);
    assert_eq!((done.settled_rejected, done.conflicts, done.moot), (5, 5, 0));
    assert!(open(&desk).iter().all(|conflict| conflict.kind == ConflictKind::Rejected));
    // The cause comes, and what the remote's own foreign keys did with it, in small pages.
    remote.deliver(desk.id, &cause);
    let mut moot = 0;
    while desk.store.state().unwrap().cursor() < remote.page(Seq(0), 1_000).last {
        let before = open(&desk).len();
        let done = desk.pull(&remote, 2);
        assert_eq!(open(&desk).len(), before - done.moot);
        moot += done.moot;
    }
    assert_eq!((moot, open(&desk).len()), (5, 0));
    assert_eq!(desk.store.state().unwrap().conflicts, 0, "the status says so");
    assert_eq!(desk.rows("SELECT DISTINCT p FROM c"), ["b"]);
    assert_eq!(desk.actual(), actual(&remote.db));
    // Whoever changes the rows again does not open them again.
    remote.web("UPDATE c SET p = NULL");
    desk.sync(&mut remote);
    let all = desk.store.conflicts(true).unwrap();
    assert!(all.iter().all(|conflict| conflict.state == ConflictState::Moot));
}

#[test]
fn f50_in_one_page_nothing_is_listed() {
    let (mut remote, mut desk, cause) = renamed(5);
    remote.deliver(desk.id, &cause);
    let done = desk.pull(&remote, 1_000);
    assert_eq!((done.settled_rejected, done.conflicts, done.moot), (5, 0, 0));
}

#[test]
fn f50_what_is_there_in_part_or_is_only_pending_is_not_moot() {
    let mut remote = Remote::new(MEMBERS, "", ConflictRule::Row);
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    remote.web("INSERT INTO m VALUES ('a', 'Ana', NULL, 1), ('b', 'Bob', NULL, 1)");
    desk.sync(&mut remote);
    desk.write("UPDATE m SET name = 'mine', n = 5 WHERE id = 'a'");
    desk.store.note_boundary().unwrap();
    desk.write("DELETE FROM m WHERE id = 'b'");
    remote.web("UPDATE m SET name = 'theirs'");
    desk.sync(&mut remote);
    assert_eq!(open(&desk).len(), 2);
    // One of two columns; and both, but only in a pending event on top.
    remote.web("UPDATE m SET name = 'mine' WHERE id = 'a'");
    desk.sync(&mut remote);
    desk.write("UPDATE m SET n = 5 WHERE id = 'a'; DELETE FROM m WHERE id = 'b'");
    remote.web("INSERT INTO m VALUES ('c', 'Cem', NULL, 1)");
    desk.pull(&remote, 100);
    assert_eq!(open(&desk).len(), 2);
    // The pending ones are applied: they made the difference, and nothing is written here.
    let done = desk.sync(&mut remote);
    assert_eq!((done.settled_applied, done.moot, open(&desk).len()), (2, 2, 0));
}

#[test]
fn f50_a_key_change_is_moot_when_both_halves_are() {
    let mut remote = Remote::new(MEMBERS, "", ConflictRule::Row);
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    remote.web("INSERT INTO m VALUES ('a', 'Ana', NULL, 1)");
    desk.sync(&mut remote);
    desk.write("UPDATE m SET id = 'b'");
    remote.web("UPDATE m SET n = 2");
    desk.sync(&mut remote);
    assert_eq!(open(&desk).len(), 1);
    remote.web("INSERT INTO m VALUES ('b', 'Ana', NULL, 1)");
    desk.sync(&mut remote);
    assert_eq!(open(&desk).len(), 1, "the old row is there as well");
    remote.web("DELETE FROM m WHERE id = 'a'");
    assert_eq!(desk.sync(&mut remote).moot, 1);
    assert!(open(&desk).is_empty());
}

/// Two desktops' worth of a sale: an invoice, its line, and a balance that a trigger keeps.
const SHOP: &str = "CREATE TABLE member (id INTEGER PRIMARY KEY, name TEXT, balance INTEGER);
    CREATE TABLE payment (id INTEGER PRIMARY KEY, member INTEGER NOT NULL REFERENCES member (id),
        amount INTEGER, slip TEXT UNIQUE);";
const BALANCE: &str = "CREATE TRIGGER pays AFTER INSERT ON payment BEGIN
    UPDATE member SET balance = balance + new.amount WHERE id = new.member; END;";

/// A desktop that sold twice, in two transactions, and a web application that was first.
fn sold() -> (Remote, Desk) {
    let mut remote = Remote::new(SHOP, "", ConflictRule::Row);
    let mut desk = Desk::new(1, SHOP, BALANCE, ConflictRule::Row);
    remote.web("INSERT INTO member VALUES (1, 'Ana', 0), (2, 'Bob', 0)");
    desk.sync(&mut remote);
    desk.write(
        "INSERT INTO payment VALUES (10, 1, 20, 's1'); UPDATE member SET name = 'Ann' WHERE id = 1",
    );
    desk.store.note_boundary().unwrap();
    desk.write("INSERT INTO payment VALUES (11, 2, 30, 's2')");
    desk.store.note_boundary().unwrap();
    remote.web(
        "INSERT INTO payment VALUES (10, 2, 1, 'w1'), (11, 1, 2, 'w2');
         UPDATE member SET balance = 100",
    );
    desk.sync(&mut remote);
    (remote, desk)
}

#[test]
fn f75_what_a_transaction_lost_is_listed_and_restored_together() {
    let (mut remote, mut desk) = sold();
    let lost = open(&desk);
    let told: Vec<_> = lost.iter().map(|one| (one.event.table.as_str(), one.event.op)).collect();
    let (insert, update) = (("payment", Op::Insert), ("member", Op::Update));
    assert_eq!(told, [insert, update, update, insert, update]);
    let groups: Vec<_> = lost.iter().map(|one| one.group).collect();
    assert_eq!(groups, [lost[0].group, groups[0], groups[0], lost[3].group, groups[3]]);
    assert_ne!(groups[0], groups[3]);
    // Any of them stands for all. The web's payment 10 stays, and so does what was paid there.
    let done = desk.store.restore(lost[0].event.id, Some(NewKey::Fresh)).unwrap();
    assert_eq!(done.restored, ids(&lost[..3]));
    assert_eq!(ids(&open(&desk)), ids(&lost[3..]), "the other transaction stays");
    let payments = "SELECT id, member, amount, slip FROM payment ORDER BY id";
    assert_eq!(desk.rows(payments), ["10|2|1|w1", "11|1|2|w2", "12|1|20|s1"]);
    // What the trigger had made of it is restored, and is not made once more on top.
    assert_eq!(desk.rows("SELECT name, balance FROM member WHERE id = 1"), ["Ann|20"]);
    assert_eq!(desk.store.state().unwrap().pending, 3);
    desk.sync(&mut remote);
    assert_eq!(desk.actual(), actual(&remote.db));
    assert_eq!(open(&desk).len(), 2);
}

#[test]
fn f75_a_group_is_restored_whole_or_not_at_all() {
    let (mut remote, mut desk) = sold();
    let lost = open(&desk);
    desk.write("INSERT INTO payment VALUES (99, 1, 0, 's1')");
    let before = (desk.actual(), desk.store.state().unwrap().pending);
    let error = desk.store.restore(lost[2].event.id, None).unwrap_err();
    let message = error.message();
    assert!(message.contains("payment.slip") && message.contains("row 10"), "{error}");
    assert!(message.contains("2 more of its group"), "{error}");
    assert_eq!((desk.actual(), desk.store.state().unwrap().pending), before);
    assert_eq!(open(&desk), lost);
    // All of them: the group that can be restored is, and the other one is told.
    let all = Selection::Matching(ConflictFilter::default());
    let done = desk.store.restore_selected(&all, Some(NewKey::Fresh)).unwrap();
    assert_eq!(done.restored, ids(&lost[3..]));
    let refused: Vec<_> = done.refused.iter().map(|one| one.id).collect();
    assert_eq!((refused, done.held_back), (vec![lost[0].event.id], 2));
    // One alone.
    let alone = Selection::Events(vec![lost[2].event.id]);
    assert_eq!(desk.store.restore_selected(&alone, None).unwrap().restored, ids(&lost[2..3]));
    assert_eq!(ids(&open(&desk)), ids(&lost[..2]));
    desk.sync(&mut remote);
    assert_eq!(desk.actual(), actual(&remote.db));
}

#[test]
fn f75_rows_that_refer_to_one_that_gets_a_new_key_follow_it() {
    let mut remote = Remote::new(SHOP, "", ConflictRule::Row);
    let mut desk = Desk::new(1, SHOP, "", ConflictRule::Row);
    // The child before its parent, which a deferred check allows.
    desk.write(
        "PRAGMA defer_foreign_keys = ON; INSERT INTO payment VALUES (5, 7, 20, 'mine');
         INSERT INTO member VALUES (7, 'Mia', 0); UPDATE member SET balance = 20 WHERE id = 7",
    );
    remote.web(
        "INSERT INTO member VALUES (7, 'Wim', 9); INSERT INTO payment VALUES (5, 7, 1, 'theirs')",
    );
    desk.sync(&mut remote);
    let member = open(&desk).into_iter().find(|one| one.event.table == "member").unwrap();
    let done = desk.store.restore(member.event.id, Some(NewKey::Fresh)).unwrap();
    assert_eq!((done.restored.len(), open(&desk).len()), (3, 0));
    assert_eq!(desk.rows("SELECT * FROM member ORDER BY id"), ["7|Wim|9", "8|Mia|20"]);
    let payments = "SELECT id, member, slip FROM payment ORDER BY id";
    assert_eq!(desk.rows(payments), ["5|7|theirs", "6|8|mine"]);
    desk.sync(&mut remote);
    assert_eq!(desk.actual(), actual(&remote.db));
}

#[test]
fn f75_foreign_keys_of_a_group_are_its_own_affair() {
    let ring = "CREATE TABLE file (id TEXT PRIMARY KEY, owner TEXT NOT NULL REFERENCES usr (id));
        CREATE TABLE usr (id TEXT PRIMARY KEY, avatar TEXT REFERENCES file (id));";
    let mut remote = Remote::new(ring, "", ConflictRule::Row);
    let mut desk = Desk::new(1, ring, "", ConflictRule::Row);
    desk.write(
        "PRAGMA defer_foreign_keys = ON; INSERT INTO usr VALUES ('u', 'f'); INSERT INTO file VALUES ('f', 'u')",
    );
    let push = desk.store.outgoing(ALL).unwrap().unwrap();
    let all: Vec<_> = push.events.iter().map(|event| event.id).collect();
    desk.store.refuse(&all, "no").unwrap();
    desk.sync(&mut remote);
    let lost = open(&desk);
    assert_eq!((lost.len(), desk.actual().len()), (2, 0));
    // One without the other refers to nothing.
    let alone = Selection::Events(vec![lost[1].event.id]);
    let done = desk.store.restore_selected(&alone, None).unwrap();
    let reason = &done.refused[0].reason;
    assert!(reason.contains("table `usr` that it refers to is missing"), "{reason}");
    assert_eq!(desk.actual().len(), 0);
    desk.store.restore(lost[1].event.id, None).unwrap();
    assert_eq!(desk.rows("SELECT avatar, owner FROM usr, file"), ["f|u"]);
    assert!(desk.rows("PRAGMA foreign_key_check").is_empty());
    desk.sync(&mut remote);
    assert_eq!(desk.actual(), actual(&remote.db));
}

#[test]
fn f75_a_lost_delete_takes_its_consequences_along_once() {
    let mut remote = Remote::new(FAMILY, "", ConflictRule::Row);
    let mut desk = Desk::new(1, FAMILY, "", ConflictRule::Row);
    remote.web(
        "INSERT INTO p VALUES ('a', NULL); INSERT INTO c VALUES ('x', 'a', NULL), ('y', 'a', NULL)",
    );
    desk.sync(&mut remote);
    desk.write("DELETE FROM p");
    remote.web("UPDATE p SET x = 'theirs'");
    desk.sync(&mut remote);
    let lost = open(&desk);
    assert_eq!((lost.len(), desk.actual().len()), (3, 3));
    assert!(lost.iter().all(|one| one.group == lost[0].group));
    assert_eq!(desk.store.restore(lost[2].event.id, None).unwrap().restored.len(), 3);
    assert_eq!((desk.actual().len(), desk.store.state().unwrap().pending), (0, 3));
    desk.sync(&mut remote);
    assert_eq!(desk.actual(), actual(&remote.db));
}

#[test]
fn f75_a_first_sync_makes_no_group_of_its_collisions() {
    let mut remote = Remote::new(MEMBERS, "", ConflictRule::Row);
    remote.web("INSERT INTO m (id, n) VALUES ('a', 1), ('b', 1)");
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    for trigger in desk.rows("SELECT name FROM sqlite_schema WHERE type = 'trigger'") {
        desk.app.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
    }
    desk.write("INSERT INTO m (id, n) VALUES ('a', 2), ('b', 2)");
    for ((table, key), image) in actual(&remote.db) {
        desk.store.stage(&table, &[(driftless::event::RowKey(key), image)]).unwrap();
    }
    desk.store.adopt(Seq(2), NOW).unwrap();
    desk.sync(&mut remote);
    let lost = open(&desk);
    assert_eq!(lost.len(), 2);
    assert_ne!(lost[0].group, lost[1].group);
}

/// A desktop with so many conflicts, each of its own transaction.
fn many(count: usize) -> (Remote, Desk) {
    let schema = "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)";
    let mut remote = Remote::new(schema, "", ConflictRule::Row);
    let mut desk = Desk::new(1, schema, "", ConflictRule::Row);
    let rows: Vec<_> = (1..=count).map(|row| format!("({row}, 'old')")).collect();
    remote.web(&format!("INSERT INTO t VALUES {}", rows.join(", ")));
    desk.sync(&mut remote);
    for row in 1..=count {
        desk.write(&format!("UPDATE t SET x = 'mine' WHERE id = {row}"));
        desk.store.note_boundary().unwrap();
    }
    remote.web("UPDATE t SET x = 'theirs'");
    desk.sync(&mut remote);
    assert_eq!(desk.store.state().unwrap().conflicts, count as u64);
    (remote, desk)
}

/// How many transactions stand in a write-ahead log: its frames that have the database's size.
fn commits(db: &Path) -> usize {
    let wal = std::fs::read(format!("{}-wal", db.display())).unwrap();
    if wal.is_empty() {
        return 0;
    }
    let word = |at: usize| u32::from_be_bytes(wal[at..at + 4].try_into().unwrap());
    let (page, salts) = (word(8) as usize, &wal[16..24]);
    let frames = wal[32..].chunks_exact(24 + page);
    let sized = |frame: &&[u8]| frame[4..8] != [0; 4] && frame[8..16] == *salts;
    frames.filter(sized).count()
}

#[test]
fn f75_many_are_restored_and_dismissed_in_one_transaction() {
    let (mut remote, mut desk) = many(400);
    let path = desk.store.path().to_owned();
    let checkpoint = |desk: &Desk| desk.rows("PRAGMA wal_checkpoint(TRUNCATE)");
    let lost = open(&desk);
    assert_eq!(
        lost.iter().map(|one| one.group).collect::<std::collections::BTreeSet<_>>().len(),
        400
    );
    checkpoint(&desk);
    let some = Selection::Events(ids(&lost[..100]));
    assert_eq!(desk.store.dismiss_selected(&some).unwrap().dismissed.len(), 100);
    assert_eq!(commits(&path), 1, "a hundred were dismissed in one transaction");
    checkpoint(&desk);
    let table = Selection::Matching(ConflictFilter {
        table: Some("T".to_owned()),
        kind: Some(ConflictKind::Conflict),
        closed: false,
    });
    let done = desk.store.restore_selected(&table, None).unwrap();
    assert_eq!((done.restored.len(), done.refused.len()), (300, 0));
    assert_eq!(commits(&path), 1, "three hundred were restored in one transaction");
    assert_eq!(desk.store.restore_selected(&table, None).unwrap().restored.len(), 0);
    let page = ConflictFilter { closed: true, ..ConflictFilter::default() };
    let page = desk.store.conflict_page(&page, 90, 20).unwrap();
    assert_eq!(ids(&page), ids(&lost[90..110]));
    let counts = desk.store.conflict_counts().unwrap();
    let counts: Vec<_> = counts.iter().map(|count| (count.state, count.count)).collect();
    assert_eq!(counts, [(ConflictState::Dismissed, 100), (ConflictState::Restored, 300)]);
    desk.sync(&mut remote);
    assert_eq!(desk.rows("SELECT count(*) FROM t WHERE x = 'mine'"), ["300"]);
    assert_eq!(desk.actual(), actual(&remote.db));
}

#[test]
fn f75_restoring_twice_restores_once_whoever_asks() {
    let (mut remote, desk) = many(20);
    let (lost, path) = (open(&desk), desk.store.path().to_owned());
    let barrier = Arc::new(Barrier::new(4));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (barrier, path, wanted) = (barrier.clone(), path.clone(), ids(&lost));
            std::thread::spawn(move || {
                let mut store = Store::open(&path).unwrap();
                barrier.wait();
                let done = store.restore_selected(&Selection::Events(wanted), None).unwrap();
                (done.restored.len(), done.already.len())
            })
        })
        .collect();
    let mut done: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    done.sort_unstable();
    assert_eq!(done, [(0, 20), (0, 20), (0, 20), (20, 0)]);
    let mut desk = desk;
    assert_eq!(desk.store.state().unwrap().pending, 20);
    // Somebody changes a row afterwards: to restore once more would overwrite that.
    desk.sync(&mut remote);
    remote.web("UPDATE t SET x = 'later' WHERE id = 1");
    desk.sync(&mut remote);
    let again = desk.store.restore(lost[0].event.id, None).unwrap();
    assert_eq!((again.restored.len(), again.already), (0, ids(&lost[..1])));
    assert_eq!(desk.rows("SELECT x FROM t WHERE id = 1"), ["later"]);
    // What was restored cannot be dismissed, nor the other way round unseen.
    desk.store.dismiss(lost[0].event.id).unwrap();
    let states: Vec<_> = desk.store.conflicts(true).unwrap().iter().map(|c| c.state).collect();
    assert_eq!(states, vec![ConflictState::Restored; 20]);
}

/// A boundary that an earlier process had seen is known to the next one as far as it was needed.
#[test]
fn f75_a_group_outlives_the_process_that_saw_it_end() {
    let mut remote = Remote::new(MEMBERS, "", ConflictRule::Row);
    let mut desk = Desk::new(1, MEMBERS, "", ConflictRule::Row);
    desk.write("INSERT INTO m (id) VALUES ('a'), ('b')");
    desk.store.note_boundary().unwrap();
    desk.write("INSERT INTO m (id) VALUES ('c')");
    desk.store.note_boundary().unwrap();
    remote.web("INSERT INTO m (id, n) VALUES ('a', 1), ('b', 1), ('c', 1)");
    desk.push(&mut remote, ALL);
    desk.pull(&remote, 4);
    assert_eq!(open(&desk).len(), 1);
    desk.reopen();
    desk.pull(&remote, 100);
    let lost = open(&desk);
    assert_eq!(lost.len(), 3);
    assert_eq!(lost[0].group, lost[1].group);
    assert_ne!(lost[0].group, lost[2].group);
    assert_eq!(desk.push(&mut remote, PushLimit::of(1, 1)), 0);
}
