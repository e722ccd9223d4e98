//! Tables join the replicated ones, and leave them.

use std::sync::Arc;

use driftless::Code;
use driftless::catalog::Why;
use driftless::store::{LogFilter, Store};
use driftless::sync::{Plan, Report, Tables};
use rusqlite::Connection;

use crate::support::blocking::{drain, initialise};
use crate::support::desk::{Desk, SCHEMA, assert_equal, plan};
use crate::support::inbox::Inbox as _;
use crate::support::local_remote::{LocalRemote, read};

/// A file that the application has open, and that is initialised again and again.
struct File {
    db: Connection,
    plan: Plan,
    remote: Arc<LocalRemote>,
    _folder: tempfile::TempDir,
}

impl File {
    fn new(remote: &Arc<LocalRemote>, number: u128, content: &str) -> File {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("desk.db");
        let db = Connection::open(&path).unwrap();
        db.pragma_update(None, "journal_mode", "WAL").unwrap();
        db.pragma_update(None, "foreign_keys", true).unwrap();
        db.execute_batch(content).unwrap();
        File { db, plan: plan(path, number, &[]), remote: remote.clone(), _folder: folder }
    }

    fn init(&self, tables: Tables) -> driftless::Result<Report> {
        let plan = Plan { tables, ..self.plan.clone() };
        initialise(plan, self.remote.clone()).map(|(_, report)| report)
    }

    fn named(&self, names: &[&str]) -> driftless::Result<Report> {
        self.init(named(names))
    }

    fn sync(&self) {
        drain(self.store(), self.remote.clone()).unwrap();
    }

    fn store(&self) -> Store {
        Store::open(&self.plan.path).unwrap()
    }

    fn write(&self, sql: &str) {
        self.db.execute_batch(sql).unwrap();
    }

    fn read(&self, sql: &str) -> String {
        read(&self.db, sql)
    }

    fn assert_equal(&self, tables: &[&str]) {
        for table in tables {
            let sql = format!("SELECT * FROM {table} ORDER BY 1");
            assert_eq!(self.read(&sql), self.remote.read(&sql), "table {table}");
        }
        assert_eq!(self.store().state().unwrap().pending, 0, "nothing is pending");
    }
}

fn named(names: &[&str]) -> Tables {
    Tables::Named(names.iter().map(|&name| name.to_owned()).collect())
}

#[test]
fn a_table_joins_with_the_rows_of_both_sides() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    remote.web(
        "INSERT INTO members VALUES ('a', 'A', NULL);
         INSERT INTO payments VALUES (1, 'a', 1), (2, 'a', 2), (3, NULL, 3)",
    );
    let file = File::new(&remote, 1, SCHEMA);
    file.named(&["members"]).unwrap();
    // Both sides go on, with the table that is not replicated too.
    file.write(
        "INSERT INTO members VALUES ('b', 'B', NULL);
         INSERT INTO payments VALUES (2, 'a', 2), (3, NULL, 33), (4, 'b', 4)",
    );
    let other = Desk::new(&remote, 2);
    remote.web("UPDATE payments SET cents = 11 WHERE id = 1; UPDATE members SET name = 'Ann'");
    drop(other);
    let report = file.named(&["members", "payments"]).unwrap();
    let adopted = report.adopted.unwrap();
    let figures = [adopted.fetched, adopted.local, adopted.equal, adopted.different];
    assert_eq!(figures, [1, 1, 1, 1]);
    assert!(report.left.is_empty());
    file.sync();
    file.assert_equal(&["members", "payments"]);
    assert_eq!(file.read("SELECT cents FROM payments ORDER BY id"), "11\n2\n3\n4");
    let lost = file.store().conflicts(false).unwrap();
    assert_eq!(lost.len(), 1, "the local version of one row: {lost:?}");
    // It is replicated like any other.
    file.write("UPDATE payments SET cents = 44 WHERE id = 4");
    remote.web("DELETE FROM payments WHERE id = 2");
    file.sync();
    file.assert_equal(&["payments"]);
}

#[test]
fn what_was_pending_stays_pending_while_a_table_joins() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    let file = File::new(&remote, 1, SCHEMA);
    file.named(&["members"]).unwrap();
    file.write("INSERT INTO members VALUES ('a', 'A', NULL)");
    file.sync();
    file.write(
        "UPDATE members SET name = 'B'; INSERT INTO payments VALUES (1, 'a', 1);
         INSERT INTO members VALUES ('c', 'C', NULL)",
    );
    let ids = || {
        let mut ids = Vec::new();
        let mut take = |entry: driftless::store::Entry| {
            ids.push(entry.id().to_string());
            Ok(())
        };
        file.store().log(&LogFilter::default(), &mut take).unwrap();
        ids
    };
    let before = ids();
    file.named(&["members", "payments"]).unwrap();
    file.sync();
    let after = ids();
    assert!(before.iter().all(|id| after.contains(id)), "what may have been sent keeps its id");
    assert_eq!((before.len(), after.len()), (3, 4));
    file.assert_equal(&["members", "payments"]);
    assert_eq!(
        remote.read("SELECT count(*) FROM driftless_events WHERE verdict <> 'applied'"),
        "0"
    );
}

#[test]
fn a_table_leaves_and_both_sides_go_on_without_it() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    let file = File::new(&remote, 1, SCHEMA);
    file.init(Tables::All).unwrap();
    file.write(
        "INSERT INTO members VALUES ('a', 'A', NULL); INSERT INTO payments VALUES (1, 'a', 1)",
    );
    let error = file.named(&["members"]).unwrap_err();
    assert_eq!(error.code(), Code::WouldLose, "{error}");
    assert!(error.message().contains("`payments`"), "{error}");
    file.sync();
    assert_eq!(file.named(&["members"]).unwrap().left, ["payments"]);
    let ours =
        "SELECT count(*) FROM sqlite_schema WHERE tbl_name = 'payments' AND name LIKE 'driftless%'";
    assert_eq!(file.read(ours), "0");
    file.write("UPDATE payments SET cents = 5; UPDATE members SET name = 'AA'");
    remote.web(
        "INSERT INTO payments VALUES (2, 'a', 2); INSERT INTO members VALUES ('b', 'B', NULL)",
    );
    file.sync();
    file.assert_equal(&["members"]);
    assert_eq!(file.read("SELECT id, cents FROM payments"), "1|5");
    assert_eq!(remote.read("SELECT id, cents FROM payments"), "1|1\n2|2");
    let store = file.store();
    assert_eq!(store.quarantine().unwrap().len(), 0, "the log has its events, and nothing waits");
    assert!(store.left_out().unwrap().iter().any(|left| left.table == "payments"));
    // It comes back with what both sides have made of it.
    drop(store);
    file.init(Tables::All).unwrap();
    file.sync();
    file.assert_equal(&["members", "payments"]);
    assert_eq!(file.read("SELECT id, cents FROM payments"), "1|1\n2|2");
    assert_eq!(file.store().conflicts(false).unwrap().len(), 1, "the local version of payment 1");
}

#[test]
fn rows_that_refer_to_one_another_join_parents_first() {
    let remote = Arc::new(LocalRemote::new("CREATE TABLE x (id TEXT PRIMARY KEY)"));
    let file = File::new(&remote, 1, "CREATE TABLE x (id TEXT PRIMARY KEY)");
    file.init(Tables::All).unwrap();
    file.write(
        "CREATE TABLE zparent (id TEXT PRIMARY KEY, x TEXT REFERENCES x (id));
         CREATE TABLE achild (id TEXT PRIMARY KEY, up TEXT REFERENCES achild (id),
           parent TEXT NOT NULL REFERENCES zparent (id));
         INSERT INTO x VALUES ('x'); INSERT INTO zparent VALUES ('p', 'x');
         INSERT INTO achild VALUES ('b', NULL, 'p'), ('a', 'b', 'p')",
    );
    let report = file.init(Tables::All).unwrap();
    assert_eq!(report.made_there.len(), 2);
    file.sync();
    file.assert_equal(&["x", "zparent", "achild"]);
    assert_eq!(
        remote.read("SELECT count(*) FROM driftless_events WHERE verdict <> 'applied'"),
        "0"
    );
}

/// A sync that notices what is new, and one a minute later.
fn sync_and_rest(desk: &mut Desk) {
    desk.sync().unwrap();
    desk.now.steady_ms += 60_000;
    desk.now.wall_ms += 60_000;
    desk.sync().unwrap();
}

/// Where all tables are replicated, a new one of either side is taken by itself.
#[test]
fn a_new_table_of_either_side_is_taken_where_all_are() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    let (mut a, mut b) = (Desk::new(&remote, 1), Desk::new(&remote, 2));
    a.db.execute_batch(
        "CREATE TABLE visits (id TEXT PRIMARY KEY, member TEXT REFERENCES members (id));
         INSERT INTO members VALUES ('m', 'M', NULL); INSERT INTO visits VALUES ('v', 'm')",
    )
    .unwrap();
    a.sync().unwrap();
    assert_eq!(remote.read("SELECT count(*) FROM sqlite_schema WHERE name = 'visits'"), "0");
    let left = a.status().left_out;
    assert_eq!((left[0].table.as_str(), left[0].why), ("visits", Why::Later));
    sync_and_rest(&mut a);
    assert_equal(&a, &["members", "visits"]);
    sync_and_rest(&mut b);
    assert_equal(&b, &["members", "visits"]);
    remote.web(
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT); INSERT INTO notes VALUES (1, 'n')",
    );
    for desk in [&mut a, &mut b] {
        sync_and_rest(desk);
        assert_equal(desk, &["notes"]);
    }
    a.db.execute_batch("INSERT INTO notes VALUES (2, 'here')").unwrap();
    remote.web("UPDATE notes SET body = 'web' WHERE id = 1");
    a.sync().unwrap();
    b.sync().unwrap();
    for desk in [&a, &b] {
        assert_equal(desk, &["members", "payments", "visits", "notes"]);
        assert!(desk.status().left_out.is_empty(), "{:?}", desk.status().left_out);
    }
}

/// A migration that rebuilds a table makes one that is gone again when it ends.
#[test]
fn a_table_that_does_not_stay_is_not_taken() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    let mut desk = Desk::new(&remote, 1);
    let make = "CREATE TABLE m2 (id TEXT PRIMARY KEY, name TEXT, email TEXT UNIQUE)";
    remote.web(make);
    desk.sync().unwrap();
    remote.web("INSERT INTO m2 SELECT * FROM members; DROP TABLE m2");
    sync_and_rest(&mut desk);
    desk.db.execute_batch(make).unwrap();
    desk.sync().unwrap();
    desk.db.execute_batch("DROP TABLE m2").unwrap();
    sync_and_rest(&mut desk);
    let found = "SELECT count(*) FROM sqlite_schema WHERE name = 'm2'";
    assert_eq!((desk.read(found), remote.read(found)), ("0".to_owned(), "0".to_owned()));
    assert_eq!(remote.read("SELECT count(*) FROM driftless_tables"), "2");
    assert!(desk.status().left_out.is_empty(), "{:?}", desk.status().left_out);
}

#[test]
fn a_new_table_that_cannot_be_taken_is_named_and_in_nobodys_way() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    let mut desk = Desk::new(&remote, 1);
    remote.web("CREATE TABLE odd (id INTEGER PRIMARY KEY, there); INSERT INTO odd VALUES (1, 2)");
    desk.db
        .execute_batch(
            "CREATE TABLE odd (id INTEGER PRIMARY KEY, here); INSERT INTO odd VALUES (1, 2);
             INSERT INTO members VALUES ('m', 'M', NULL)",
        )
        .unwrap();
    sync_and_rest(&mut desk);
    assert_equal(&desk, &["members"]);
    let left = desk.status().left_out;
    let odd = left.iter().find(|left| left.table == "odd").unwrap();
    assert_eq!(odd.why, Why::Later);
    assert!(odd.reason.contains("`here`"), "{}", odd.reason);
    // Made the same, it is taken.
    desk.db.execute_batch("ALTER TABLE odd ADD COLUMN there").unwrap();
    remote.web("ALTER TABLE odd ADD COLUMN here");
    sync_and_rest(&mut desk);
    let rows = "SELECT id, there, here FROM odd";
    assert_eq!(desk.read(rows), remote.read(rows));
    assert!(desk.status().left_out.is_empty(), "{:?}", desk.status().left_out);
}

#[test]
fn a_table_that_was_dropped_here_is_not_made_anew() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    let mut desk = Desk::new(&remote, 1);
    desk.db
        .execute_batch(
            "INSERT INTO members VALUES ('m', 'M', NULL); INSERT INTO payments VALUES (1, 'm', 1)",
        )
        .unwrap();
    desk.sync().unwrap();
    desk.db.execute_batch("DROP TABLE payments").unwrap();
    remote.web("INSERT INTO payments VALUES (2, 'm', 2); UPDATE members SET name = 'N'");
    sync_and_rest(&mut desk);
    assert_equal(&desk, &["members"]);
    assert_eq!(desk.read("SELECT count(*) FROM sqlite_schema WHERE name = 'payments'"), "0");
    assert!(
        desk.status().left_out.iter().any(|left| left.table == "payments" && left.why == Why::Gone)
    );
    assert_eq!(remote.read("SELECT count(*) FROM payments"), "2", "nobody's payments are deleted");
}

/// Tables that the application asks for at its start join, also offline, and what is written to them
/// until then is not lost.
#[test]
fn a_table_joins_at_a_start_without_the_remote() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    let file = File::new(&remote, 1, SCHEMA);
    file.named(&["members"]).unwrap();
    let setup = driftless::store::Setup {
        url: file.plan.url.clone(),
        tables: ["members", "payments"].map(|name| (name.to_owned(), Default::default())).to_vec(),
        epoch: None,
    };
    remote.web("INSERT INTO payments VALUES (1, NULL, 1), (2, NULL, 2)");
    file.write("INSERT INTO payments VALUES (3, NULL, 3), (2, NULL, 2)");
    drop(Store::init(&file.plan.path, &setup, file.plan.replica).unwrap());
    file.write(
        "UPDATE payments SET cents = 22 WHERE id = 2; INSERT INTO payments VALUES (4, NULL, 4);
         UPDATE payments SET cents = 33 WHERE id = 3",
    );
    file.sync();
    file.sync();
    file.assert_equal(&["payments"]);
    assert_eq!(file.read("SELECT cents FROM payments ORDER BY id"), "1\n22\n33\n4");
    let mut lost = 0;
    file.store()
        .log(&LogFilter::default(), &mut |entry| {
            if let driftless::store::Entry::Settled(event) = entry {
                lost += usize::from(!event.verdict.is_applied());
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(lost, 0);
}

const TABLES: [&str; 4] = [
    "CREATE TABLE t0 (id INTEGER PRIMARY KEY, x)",
    "CREATE TABLE t1 (id INTEGER PRIMARY KEY, x, up INTEGER REFERENCES t0 (id) ON DELETE CASCADE)",
    "CREATE TABLE t2 (id INTEGER PRIMARY KEY, x, up INTEGER REFERENCES t2 (id) ON DELETE SET NULL)",
    "CREATE TABLE t3 (id INTEGER PRIMARY KEY, x UNIQUE)",
];

fn some_write(random: &mut fastrand::Rng, has: &[bool; 4]) -> Option<String> {
    let at = random.usize(0..4);
    if !has[at] {
        return None;
    }
    let (id, x) = (random.u32(0..12), random.u32(0..30));
    let up = match at {
        1 | 2 if random.bool() => {
            format!(", (SELECT id FROM t{} ORDER BY random() LIMIT 1)", if at == 1 { 0 } else { 2 })
        }
        1 | 2 => ", NULL".to_owned(),
        _ => String::new(),
    };
    Some(match random.u8(0..6) {
        0..=2 => format!("INSERT OR IGNORE INTO t{at} VALUES ({id}, {x}{up})"),
        3 | 4 => format!("UPDATE OR IGNORE t{at} SET x = {x} WHERE id = {id}"),
        _ => format!("DELETE FROM t{at} WHERE id = {id}"),
    })
}

/// Two desks and the web write, make tables, and take tables in and out at random. In the end all
/// replicate all tables: everybody has the same rows, and a version of each row that lost is in an
/// inbox or in the log.
fn world(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let remote = Arc::new(LocalRemote::new(TABLES[0]));
    let mut there = [true, false, false, false];
    let desks = [File::new(&remote, 1, TABLES[0]), File::new(&remote, 2, TABLES[0])];
    let mut here = [there; 2];
    let parents = |has: &[bool; 4], at: usize| at != 1 || has[0];
    for file in &desks {
        file.init(Tables::All).unwrap();
    }
    for _ in 0..random.usize(20..60) {
        let who = random.usize(0..3);
        let at = random.usize(1..4);
        match (random.u8(0..10), who) {
            (0, 2) if !there[at] && parents(&there, at) => {
                remote.web(TABLES[at]);
                there[at] = true;
            }
            (0, desk) if desk < 2 && !here[desk][at] && parents(&here[desk], at) => {
                desks[desk].write(TABLES[at]);
                here[desk][at] = true;
            }
            (1, desk) if desk < 2 => {
                let out = format!("t{at}");
                let wanted = match random.bool() {
                    true => Tables::All,
                    // A parent that leaves while its child stays is refused on no side.
                    false => Tables::AllBut(vec![out]),
                };
                // What is pending is pushed first.
                desks[desk].sync();
                match desks[desk].init(wanted) {
                    Ok(_) => {}
                    Err(error) => {
                        let known = [Code::NoSuchTable, Code::WouldLose, Code::RowsRefused];
                        assert!(known.contains(&error.code()), "seed {seed}: {error}");
                    }
                }
            }
            (2..=4, desk) if desk < 2 => desks[desk].sync(),
            (_, 2) => {
                if let Some(sql) = some_write(&mut random, &there) {
                    remote.web(&sql);
                }
            }
            (_, desk) => {
                if let Some(sql) = some_write(&mut random, &here[desk]) {
                    desks[desk].write(&sql);
                }
            }
        }
        for (has, file) in here.iter_mut().zip(&desks) {
            for (at, has) in has.iter_mut().enumerate() {
                let sql = format!("SELECT count(*) FROM sqlite_schema WHERE name = 't{at}'");
                *has = file.read(&sql) == "1";
            }
        }
        for (at, has) in there.iter_mut().enumerate() {
            *has = remote.read(&format!("SELECT count(*) FROM sqlite_schema WHERE name = 't{at}'"))
                == "1";
        }
    }
    for _ in 0..3 {
        for file in &desks {
            file.sync();
            file.init(Tables::All).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            file.sync();
        }
    }
    for file in &desks {
        let status = file.store().state().unwrap();
        assert_eq!((status.pending, status.quarantined), (0, 0), "seed {seed}");
        for at in (0..4).filter(|&at| there[at]) {
            let sql = format!("SELECT * FROM t{at} ORDER BY 1");
            assert_eq!(file.read(&sql), remote.read(&sql), "seed {seed}, t{at}");
        }
    }
}

/// `DRIFTLESS_TEST_SEED=… cargo test sync::members::random` repeats one world.
#[test]
fn random_worlds_end_equal() {
    let seed = std::env::var("DRIFTLESS_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    match seed {
        Some(seed) => world(seed),
        None => (0..25).for_each(world),
    }
}
