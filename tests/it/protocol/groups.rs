//! What hangs together reaches the remote together, whatever its size: circles, chains, cascades,
//! key changes and deferred foreign keys that are larger than a request.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Condvar, Mutex};

use driftless::protocol::Push;
use driftless::protocol::statements::MAX_EVENTS;
use driftless::remote::{Batch, Pending, Remote, Statement};
use driftless::store::{PushLimit, Store};
use driftless::sync::{Input, Ticket};

use crate::support::blocking::initialise;
use crate::support::desk::{Desk, assert_equal, plan};
use crate::support::inbox::Inbox as _;
use crate::support::local_remote::{Fault, LocalRemote};

/// Two users whose avatars are files, and files that users own.
const CIRCLE: &str = "CREATE TABLE usr (id INTEGER PRIMARY KEY, avatar INTEGER REFERENCES file (id));
    CREATE TABLE file (id INTEGER PRIMARY KEY, owner INTEGER NOT NULL REFERENCES usr (id), data BLOB);";

/// Rows of one table that refer to one another.
const ITEMS: &str =
    "CREATE TABLE item (id INTEGER PRIMARY KEY, next INTEGER REFERENCES item (id), data BLOB);";

/// Parents and their children, and rows that have nothing to do with them.
const FAMILY: &str = "CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE child (id INTEGER PRIMARY KEY, data BLOB, parent INTEGER
        REFERENCES parent (id) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE other (id INTEGER PRIMARY KEY);";

/// The numbers from `first` to `last` as rows of `n`.
fn numbers(first: usize, last: usize) -> String {
    format!(
        "WITH RECURSIVE c (n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM c WHERE n < {last}) "
    )
}

/// What is written while no replicator is at work: where its transactions ended is not known.
fn write_unwatched(desk: &mut Desk, sql: &str) {
    desk.db.execute_batch(sql).unwrap();
    desk.restart();
}

fn conflicts(desk: &Desk) -> usize {
    Store::open(desk.path()).unwrap().conflicts(false).unwrap().len()
}

/// A desk whose database has these rows before its first sync.
fn begun_with(schema: &str, rows: &str) -> (Arc<LocalRemote>, Desk) {
    let remote = Arc::new(LocalRemote::new(schema));
    let local = format!("{schema} PRAGMA foreign_keys = OFF; {rows} PRAGMA foreign_keys = ON");
    let desk = Desk::with_schema(&remote, 1, &local);
    (remote, desk)
}

fn two_desks(schema: &str) -> (Arc<LocalRemote>, Desk, Desk) {
    let remote = Arc::new(LocalRemote::new(schema));
    let (a, b) = (Desk::with_schema(&remote, 1, schema), Desk::with_schema(&remote, 2, schema));
    (remote, a, b)
}

fn count(desk: &Desk, table: &str) -> String {
    desk.read(&format!("SELECT count(*) FROM {table}"))
}

/// All rows are everywhere, and nobody has lost anything.
#[track_caller]
fn whole(remote: &LocalRemote, desk: &mut Desk, tables: &[(&str, usize)]) {
    desk.sync().unwrap();
    for (table, rows) in tables {
        let rows = rows.to_string();
        assert_eq!(remote.read(&format!("SELECT count(*) FROM {table}")), rows, "{table} there");
        assert_eq!(count(desk, table), rows, "{table} here");
    }
    let names: Vec<_> = tables.iter().map(|(table, _)| *table).collect();
    assert_equal(desk, &names);
    assert_eq!(conflicts(desk), 0);
    assert_eq!(remote.read("SELECT count(*) FROM driftless_staged"), "0", "nothing is left behind");
}

#[test]
fn f48_a_first_sync_of_a_circle_of_foreign_keys() {
    let rows = format!(
        "INSERT INTO usr VALUES (1, 1), (2, 2);
         {} INSERT INTO file SELECT n, 1 + n % 2, zeroblob(50000) FROM c;",
        numbers(1, 30)
    );
    let (remote, mut desk) = begun_with(CIRCLE, &rows);
    whole(&remote, &mut desk, &[("usr", 2), ("file", 30)]);
}

#[test]
fn f48_a_first_sync_of_rows_that_refer_to_a_later_key() {
    let rows =
        format!("{} INSERT INTO item SELECT n, 7000 - n % 500, NULL FROM c;", numbers(1, 7000));
    let (remote, mut desk) = begun_with(ITEMS, &rows);
    whole(&remote, &mut desk, &[("item", 7_000)]);
}

#[test]
fn f48_a_first_sync_of_a_few_large_rows_that_refer_to_a_later_key() {
    let rows = format!("{} INSERT INTO item SELECT n, 41, zeroblob(80000) FROM c;", numbers(1, 41));
    let (remote, mut desk) = begun_with(ITEMS, &rows);
    whole(&remote, &mut desk, &[("item", 41)]);
}

#[test]
fn f48_a_wiped_remote_is_accepted_by_the_last_copy() {
    let (remote, mut desk, _) = two_desks(CIRCLE);
    desk.write(&format!(
        "PRAGMA foreign_keys = OFF; INSERT INTO usr VALUES (1, 1), (2, 2);
         {} INSERT INTO file SELECT n, 1 + n % 2, zeroblob(50000) FROM c; PRAGMA foreign_keys = ON",
        numbers(1, 30)
    ));
    whole(&remote, &mut desk, &[("usr", 2), ("file", 30)]);
    remote.wipe("");
    desk.sync().unwrap_err();
    desk.accept().unwrap();
    whole(&remote, &mut desk, &[("usr", 2), ("file", 30)]);
}

#[test]
fn f49_a_cascade_behind_other_rows_is_not_parted() {
    let (remote, mut a, mut b) = two_desks(FAMILY);
    a.write("INSERT INTO parent VALUES (1, 'Ana'); INSERT INTO child VALUES (1, NULL, 1)");
    a.sync().unwrap();
    b.sync().unwrap();
    remote.web("UPDATE parent SET name = 'Anna'");
    let others = numbers(1, MAX_EVENTS - 1);
    write_unwatched(
        &mut a,
        &format!("BEGIN; {others} INSERT INTO other SELECT n FROM c; DELETE FROM parent; COMMIT"),
    );
    a.sync().unwrap();
    assert_eq!(remote.read("SELECT id, parent FROM child"), "1|1", "the child is there");
    assert_equal(&a, &["parent", "child", "other"]);
    assert_eq!(conflicts(&a), 2);
    b.sync().unwrap();
    assert_equal(&b, &["parent", "child", "other"]);
}

#[test]
fn f49_a_cascade_that_is_too_heavy_for_a_request_is_not_parted() {
    let (remote, mut a, mut b) = two_desks(FAMILY);
    a.write(&format!(
        "BEGIN; {} INSERT INTO parent SELECT n, 'Ana' FROM c;
         {} INSERT INTO child SELECT n, zeroblob(60000), 1 + n / 2 FROM c; COMMIT",
        numbers(1, 12),
        numbers(0, 23)
    ));
    whole(&remote, &mut a, &[("parent", 12), ("child", 24)]);
    b.sync().unwrap();
    remote.web("UPDATE parent SET name = 'Anna'");
    write_unwatched(&mut a, "DELETE FROM parent");
    whole_of_the_web(&remote, &mut a, 12, 24);
}

#[track_caller]
fn whole_of_the_web(remote: &LocalRemote, desk: &mut Desk, parents: usize, children: usize) {
    desk.sync().unwrap();
    assert_eq!(remote.read("SELECT count(*) FROM parent"), parents.to_string());
    assert_eq!(remote.read("SELECT count(*) FROM child"), children.to_string());
    assert_equal(desk, &["parent", "child", "other"]);
}

#[test]
fn f49_a_deferred_child_behind_other_rows_goes_with_its_parent() {
    let (remote, mut a, _) = two_desks(FAMILY);
    let others = numbers(1, MAX_EVENTS - 1);
    write_unwatched(
        &mut a,
        &format!(
        "{others} INSERT INTO other SELECT n FROM c;
         BEGIN; INSERT INTO child VALUES (1, NULL, 1); INSERT INTO parent VALUES (1, 'Ana'); COMMIT"
    ),
    );
    whole(&remote, &mut a, &[("parent", 1), ("child", 1), ("other", MAX_EVENTS - 1)]);
}

#[test]
fn f49_parents_and_children_that_go_in_one_deferred_transaction() {
    let schema = FAMILY.replace(" ON DELETE CASCADE ON UPDATE CASCADE", "");
    let (remote, mut a, mut b) = two_desks(&schema);
    a.write(&format!(
        "BEGIN; {0} INSERT INTO parent SELECT n, 'Ana' FROM c;
         {0} INSERT INTO child SELECT n, NULL, n FROM c; COMMIT",
        numbers(1, 6_000)
    ));
    whole(&remote, &mut a, &[("parent", 6_000), ("child", 6_000)]);
    write_unwatched(&mut a, "BEGIN; DELETE FROM parent; DELETE FROM child; COMMIT");
    whole(&remote, &mut a, &[("parent", 0), ("child", 0)]);
    b.sync().unwrap();
    assert_equal(&b, &["parent", "child"]);
}

/// The references are of a generated column, whose value no image has.
#[test]
fn f52_parents_and_children_by_a_generated_column_that_go_in_one_transaction() {
    let schema = "CREATE TABLE parent (id TEXT PRIMARY KEY);
        CREATE TABLE child (id INTEGER PRIMARY KEY, info TEXT,
            of TEXT AS (substr(info, 3)) VIRTUAL REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
        CREATE TABLE other (id INTEGER PRIMARY KEY);";
    let (remote, mut a, _) = two_desks(schema);
    a.write("INSERT INTO parent VALUES ('a'); INSERT INTO child VALUES (1, 'p:a')");
    whole(&remote, &mut a, &[("parent", 1), ("child", 1)]);
    let others = numbers(1, MAX_EVENTS);
    let parted = format!(
        "BEGIN; DELETE FROM parent; {others} INSERT INTO other SELECT n FROM c;
         DELETE FROM child; COMMIT"
    );
    write_unwatched(&mut a, &parted);
    whole(&remote, &mut a, &[("parent", 0), ("child", 0), ("other", MAX_EVENTS)]);
}

#[test]
fn f50_a_key_change_with_thousands_of_children() {
    let (remote, mut a, mut b) = two_desks(FAMILY);
    a.write(&format!(
        "BEGIN; INSERT INTO parent VALUES (1, 'Ana');
         {} INSERT INTO child SELECT n, NULL, 1 FROM c; COMMIT",
        numbers(1, 6_000)
    ));
    whole(&remote, &mut a, &[("parent", 1), ("child", 6_000)]);
    write_unwatched(&mut a, "UPDATE parent SET id = 2");
    whole(&remote, &mut a, &[("parent", 1), ("child", 6_000)]);
    assert_eq!(remote.read("SELECT DISTINCT parent FROM child"), "2");
    b.sync().unwrap();
    assert_equal(&b, &["parent", "child"]);
    assert_eq!(conflicts(&b), 0);
}

/// Twelve thousand rows, each of which refers to the next: the work grows with the rows and not
/// with their square. Without an index, SQLite looks through the children of each row that comes
/// while a foreign key is broken, so none may be.
#[test]
fn f51_a_linked_list() {
    for captured in [false, true] {
        let mut requests = Vec::new();
        for rows in [6_000, 12_000] {
            let list = format!(
                "{} INSERT INTO item SELECT n, nullif(n + 1, {rows} + 1), NULL FROM c;",
                numbers(1, rows)
            );
            let (remote, mut desk) = begun_with(ITEMS, if captured { "" } else { &list });
            if captured {
                desk.write(&format!("PRAGMA foreign_keys = OFF; {list} PRAGMA foreign_keys = ON"));
            }
            whole(&remote, &mut desk, &[("item", rows)]);
            requests.push(remote.requests());
            let first = remote.read("SELECT pk FROM driftless_events ORDER BY seq LIMIT 1");
            assert_eq!(first, format!("[{rows}]"), "parents come first");
        }
        assert!(requests.iter().all(|&requests| requests < 20), "{requests:?}");
    }
}

/// Whatever fails on the way, all parts take effect or none, and once.
#[test]
fn a_push_in_parts_survives_what_a_network_does() {
    let faults = [Fault::LostBefore, Fault::LostAfter, Fault::Swallow, Fault::Unavailable];
    for seed in 0..24_u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (remote, mut a, mut b) = two_desks(FAMILY);
        remote.set_caps(30_000, usize::MAX);
        let mut sql = "BEGIN;".to_owned();
        let children = random.usize(100..600);
        let _ = write!(sql, "{} INSERT INTO child SELECT n, NULL, n FROM c;", numbers(1, children));
        let _ = write!(sql, "{} INSERT INTO parent SELECT n, 'x' FROM c;", numbers(1, children));
        a.db.execute_batch(&format!("{sql} COMMIT")).unwrap();
        for _ in 0..random.usize(0..12) {
            let fault = if random.bool() { Fault::None } else { faults[random.usize(0..4)] };
            remote.fail([fault]);
        }
        a.restart();
        for _ in 0..40 {
            if a.sync().is_ok() && remote.faults_left() == 0 {
                break;
            }
            let parents = remote.read("SELECT count(*) FROM parent");
            let found = remote.read("SELECT count(*) FROM child");
            assert_eq!(found, parents, "seed {seed}: one without the other");
            if random.u8(0..4) == 0 {
                a.restart();
            }
        }
        whole(&remote, &mut a, &[("parent", children), ("child", children)]);
        b.sync().unwrap();
        assert_equal(&b, &["parent", "child"]);
        let log = remote.read("SELECT count(*), count(DISTINCT id) FROM driftless_events");
        assert_eq!(log, format!("{0}|{0}", 2 * children), "seed {seed}");
    }
}

/// The remote has lost a part: nothing takes effect without it, and the push is sent again.
#[test]
fn a_push_in_parts_of_which_one_is_gone_is_sent_again() {
    let (remote, mut desk, _) = two_desks(FAMILY);
    remote.set_caps(60_000, usize::MAX);
    let rows = numbers(1, 1_000);
    desk.write(&format!(
        "BEGIN; {rows} INSERT INTO child SELECT n, NULL, n FROM c;
         {rows} INSERT INTO parent SELECT n, 'x' FROM c; COMMIT"
    ));
    let mut is_lost = false;
    while desk.deliver() || desk.go_on() {
        if !is_lost && remote.read("SELECT count(*) FROM driftless_staged") == "3" {
            remote.web("DELETE FROM driftless_staged WHERE part = 0");
            is_lost = true;
        }
        let parents = remote.read("SELECT count(*) FROM parent");
        assert!(["0", "1000"].contains(&parents.as_str()), "{parents} parents");
        assert_eq!(remote.read("SELECT count(*) FROM child"), parents, "one without the other");
        let log = remote.read("SELECT count(*) FROM driftless_events");
        assert!(["0", "2000"].contains(&log.as_str()), "{log} events without a part");
    }
    assert!(is_lost, "the push has no three parts");
    whole(&remote, &mut desk, &[("parent", 1_000), ("child", 1_000)]);
}

/// A group whose two ends and dependency spans are drawn at random: a push ends at a cut point, and
/// is the least that may.
#[test]
fn pushes_end_at_cut_points() {
    let mut parted = 0;
    for seed in 0..30_u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (remote, mut a, _) = two_desks(FAMILY);
        let mut sql = "BEGIN;".to_owned();
        for _ in 0..random.usize(1..40) {
            let (id, parent) = (random.u8(1..30), random.u8(1..12));
            let _ = match random.u8(0..6) {
                0 => write!(sql, "INSERT OR IGNORE INTO child VALUES ({id}, NULL, {parent});"),
                1 => write!(sql, "INSERT OR IGNORE INTO parent VALUES ({parent}, 'x');"),
                2 => write!(sql, "INSERT OR IGNORE INTO other VALUES ({id});"),
                3 => write!(sql, "DELETE FROM parent WHERE id = {parent};"),
                4 => {
                    write!(sql, "UPDATE OR IGNORE parent SET id = {} WHERE id = {parent};", id % 12)
                }
                _ => write!(sql, "DELETE FROM child WHERE parent = {parent};"),
            };
        }
        // What is still missing comes last.
        let _ = write!(sql, "INSERT OR IGNORE INTO parent SELECT parent, 'x' FROM child; COMMIT");
        a.db.execute_batch(&sql).unwrap();
        let rows = a.read("SELECT count(*) FROM driftless_outbox WHERE NOT settled");
        let rows: usize = rows.parse().unwrap();
        let mut store = Store::open(a.path()).unwrap();
        // What an event waits for is in the push, wherever it ends.
        let told = |push: &Push| -> BTreeMap<_, _> {
            let events = push.events.iter();
            events.map(|event| (event.id, (event.via, event.pair, event.defer_fk))).collect()
        };
        let all = store.outgoing(PushLimit::of(rows.max(1), 1 << 20)).unwrap();
        let Some(all) = all.as_ref().map(told) else { continue };
        let mut taken = Vec::new();
        for events in 1..=rows {
            let push = store.outgoing(PushLimit::of(events, 1 << 20)).unwrap().unwrap();
            for (id, is) in told(&push) {
                assert_eq!(is, all[&id], "seed {seed}: event {id} of a push of {events}: {sql}");
            }
            taken.push(push.events.len());
        }
        drop(store);
        for (before, len) in taken.iter().enumerate() {
            let least = taken.iter().find(|len| **len > before).unwrap();
            assert!(len <= least, "seed {seed}: {len} for {}", before + 1);
        }
        parted += taken.iter().filter(|len| **len < rows).count();
        // Pushed one cut at a time, nothing is rejected.
        a.restart_with_pushes_of(1);
        a.sync().unwrap();
        let lost =
            remote.read("SELECT pk, op, reason FROM driftless_events WHERE verdict <> 'applied'");
        assert_eq!(lost, "", "seed {seed}: {sql}");
        assert_equal(&a, &["parent", "child", "other"]);
    }
    assert!(parted > 100, "{parted} pushes were shorter than all");
}

/// A transaction that is larger than a request goes whole, if both its ends are known.
#[test]
fn a_transaction_goes_whole() {
    let (remote, mut a, mut b) = two_desks(FAMILY);
    a.write(&format!("{} INSERT INTO other SELECT n FROM c", numbers(1, 12_000)));
    a.input(Input::LocalCommit);
    a.sync().unwrap();
    assert_eq!(remote.read("SELECT count(DISTINCT unit) FROM driftless_events"), "1");
    b.sync().unwrap();
    assert_eq!(count(&b, "other"), "12000");
}

/// Each of these events goes alone: nobody here knows which UNIQUE values the remote has. The
/// statements of all would be more than a request takes, and longer than a transaction lasts.
#[test]
fn a_transaction_that_takes_too_many_statements_is_parted() {
    let schema = "CREATE TABLE member (id INTEGER PRIMARY KEY, email TEXT UNIQUE);";
    let (remote, mut a, _) = two_desks(schema);
    a.write(&format!("{} INSERT INTO member SELECT n, 'm' || n FROM c", numbers(1, 6_000)));
    a.sync().unwrap();
    remote.set_caps(3_000_000, usize::MAX);
    a.write("UPDATE member SET email = email || '@example.com'");
    a.input(Input::LocalCommit);
    whole(&remote, &mut a, &[("member", 6_000)]);
    let units = "SELECT count(DISTINCT unit) FROM driftless_events WHERE op = 'update'";
    let units: usize = remote.read(units).parse().unwrap();
    assert!(units > 1, "{units}");
    assert_eq!(a.status().trouble, None);
}

/// What hangs together is not parted, even if its statements are more than the remote takes. This is
/// said by name, nothing of it is refused, and it goes as soon as the remote takes it.
#[test]
fn a_group_whose_statements_are_too_many_is_named() {
    let schema = "CREATE TABLE folder (id INTEGER PRIMARY KEY, name TEXT,
        parent INTEGER REFERENCES folder (id) ON DELETE CASCADE);
        CREATE INDEX folder_parent ON folder (parent);";
    let (remote, mut a, mut b) = two_desks(schema);
    a.write(
        &format!(
            "{} INSERT INTO folder SELECT n, 'f', n / 2 FROM c WHERE n > 0;
        UPDATE folder SET parent = NULL WHERE id = 1",
            numbers(1, 3_000)
        )
        .replace("n / 2", "nullif(n / 2, 0)"),
    );
    a.sync().unwrap();
    b.sync().unwrap();
    remote.set_caps(60_000, usize::MAX);
    a.write("DELETE FROM folder WHERE id = 1");
    a.input(Input::LocalCommit);
    assert!(a.sync().is_err());
    let trouble = a.status().trouble.unwrap();
    assert!(
        trouble.starts_with(
            "the remote does not accept the request that applies 3000 changes of table `folder`, \
             which depend on one another: "
        ),
        "{trouble}"
    );
    assert_eq!(remote.read("SELECT count(*) FROM folder"), "3000");
    assert_eq!(conflicts(&a), 0);
    remote.set_caps(usize::MAX, usize::MAX);
    a.restart();
    a.sync().unwrap();
    b.sync().unwrap();
    assert_eq!(remote.read("SELECT count(*) FROM folder"), "0");
    assert_eq!((count(&a, "folder"), count(&b, "folder")), ("0".to_owned(), "0".to_owned()));
    assert_eq!(conflicts(&a), 0);
}

/// A unit that no answer takes is kept until it is all here.
#[test]
fn a_large_unit_is_integrated_whole_through_small_answers() {
    let (remote, mut a, mut b) = two_desks(FAMILY);
    a.write(&format!("{} INSERT INTO other SELECT n FROM c", numbers(1, 3_000)));
    a.sync().unwrap();
    remote.set_caps(usize::MAX, 60_000);
    b.transaction = 1;
    b.input(Input::SyncNow(Ticket(5)));
    let (mut seen, mut answers) = (vec![count(&b, "other")], 0);
    loop {
        let answered = b.deliver();
        if !answered && !b.go_on() {
            break;
        }
        answers += usize::from(answered);
        seen.push(count(&b, "other"));
    }
    seen.dedup();
    assert_eq!(seen, ["0", "3000"], "never a part of it");
    assert!(answers > 5, "{answers}");
    b.sync().unwrap();
    assert_equal(&b, &["parent", "child", "other"]);
    assert!(!b.status().in_parts);
}

/// One that is larger than what is waited for comes in parts, and it is said.
#[test]
fn a_unit_that_is_too_large_comes_in_parts_and_it_is_said() {
    let (remote, mut a, mut b) = two_desks(FAMILY);
    a.write(&format!("{} INSERT INTO other SELECT n FROM c", numbers(1, 26_000)));
    a.sync().unwrap();
    assert_eq!(remote.read("SELECT count(DISTINCT unit) FROM driftless_events"), "1");
    b.input(Input::SyncNow(Ticket(5)));
    let mut said = Vec::new();
    while b.deliver() || b.go_on() {
        let other: usize = count(&b, "other").parse().unwrap();
        let status = b.status();
        assert!(other == 0 || other == 26_000 || status.in_parts, "{other}");
        said.push(status.in_parts);
    }
    said.dedup();
    assert_eq!(said, [false, true, false]);
    assert_equal(&b, &["other"]);
}

#[test]
fn a_group_that_is_too_large_is_said_before_it_is_tried() {
    let (remote, mut a, _) = two_desks(FAMILY);
    a.restart();
    a.settle();
    a.db.execute_batch(&format!(
        "BEGIN; {} INSERT INTO child SELECT n, zeroblob(1000000), 1 FROM c;
         INSERT INTO parent VALUES (1, 'Ana'); COMMIT",
        numbers(1, 14)
    ))
    .unwrap();
    a.input(Input::LocalCommit);
    let trouble = a.status().trouble.unwrap();
    assert_eq!(
        trouble,
        "15 changes of tables `child`, `parent` depend on each other by foreign keys, and the \
         remote may not accept them in one transaction"
    );
    assert_eq!(remote.read("SELECT count(*) FROM driftless_staged"), "0", "before it is tried");
    whole(&remote, &mut a, &[("parent", 1), ("child", 14)]);
    assert_eq!(a.status().trouble, None);
}

/// A remote that takes the last request of a push in parts only when `watch` was told of the parts.
struct Patient {
    remote: Arc<LocalRemote>,
    told: Arc<(Mutex<bool>, Condvar)>,
}

impl Remote for Patient {
    fn run(&self, batch: Batch) -> Pending<'_> {
        let is_last = |Statement { sql, .. }: &Statement| {
            sql.starts_with("INSERT INTO driftless_inbox") && sql.contains("driftless_staged")
        };
        if batch.statements.iter().any(is_last) {
            let told = self.told.0.lock().unwrap();
            drop(self.told.1.wait_while(told, |told| !*told).unwrap());
        }
        self.remote.run(batch)
    }

    fn url(&self) -> String {
        self.remote.url()
    }
}

#[test]
fn a_drain_says_how_far_a_push_in_parts_is() {
    let remote = Arc::new(LocalRemote::new(ITEMS));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("desk.db");
    let (store, _) = initialise(plan(path.clone(), 1, &[]), remote.clone()).unwrap();
    let rows = numbers(1, 2_000);
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch(&format!(
        "BEGIN; PRAGMA defer_foreign_keys = ON;
         INSERT INTO item {rows} SELECT n, n % 2000 + 1, NULL FROM c; COMMIT"
    ))
    .unwrap();
    remote.set_caps(60_000, usize::MAX);
    let told = Arc::new((Mutex::new(false), Condvar::new()));
    let patient = Arc::new(Patient { remote: remote.clone(), told: Arc::clone(&told) });
    let mut seen = Vec::new();
    let summary = driftless::sync::drain(store, patient, &mut |staged| {
        if staged.is_some_and(|staged| staged.done == staged.parts) {
            // Nothing takes effect before all of it is there.
            assert_eq!(remote.read("SELECT count(*) FROM item"), "0", "{staged:?}");
            *told.0.lock().unwrap() = true;
            told.1.notify_all();
        }
        seen.push(staged);
    })
    .unwrap();
    assert_eq!((summary.pushed, summary.applied), (2_000, 2_000));
    assert_eq!(remote.read("SELECT count(*) FROM item"), "2000");
    let last = seen.iter().flatten().last().expect("it was larger than a request");
    assert!(last.parts > 1 && last.done == last.parts && last.events == 2_000, "{seen:?}");
    assert!(seen.iter().flatten().all(|staged| staged.done <= staged.parts), "{seen:?}");
}
