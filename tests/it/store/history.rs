//! Random histories: desktops and a web application write anything at any time, pushes and pulls
//! end anywhere, and after every page each desktop's rows are the remote's log with its own pending
//! events on top. In the end all are equal.

use std::collections::{BTreeMap, BTreeSet};

use driftless::event::conflict::ConflictRule;
use driftless::event::value::Value;
use driftless::event::{Event, EventId, Op};
use driftless::store::{Conflict, NewKey, PushLimit};

use super::world::{Desk, Remote, actual};
use crate::support::inbox::Inbox as _;

const WEB: [&str; 11] = [
    "CREATE TRIGGER x_touch AFTER UPDATE OF a ON m \
     BEGIN UPDATE m SET t = coalesce(t, 0) + 1 WHERE id = new.id; END;",
    "CREATE TRIGGER x_clamp AFTER UPDATE OF a ON m WHEN new.a > 90 \
     BEGIN UPDATE m SET a = 50 WHERE id = new.id; END;",
    "CREATE TRIGGER x_ins AFTER INSERT ON m BEGIN UPDATE m SET t = 7 WHERE id = new.id; END;",
    "CREATE TRIGGER x_aba AFTER UPDATE OF a ON m \
     BEGIN UPDATE m SET u = 'tmp' || id WHERE id = new.id; \
     UPDATE m SET u = new.u WHERE id = new.id; END;",
    "CREATE TRIGGER x_aba2 AFTER INSERT ON p \
     BEGIN UPDATE p SET x = -1 WHERE id = new.id; \
     UPDATE p SET x = new.x WHERE id = new.id; END;",
    "CREATE TRIGGER x_child AFTER INSERT ON m \
     BEGIN INSERT OR IGNORE INTO p VALUES ('w' || new.id, new.id, 0); END;",
    "CREATE TRIGGER x_del AFTER UPDATE OF a ON m WHEN new.a = 33 \
     BEGIN DELETE FROM m WHERE id = new.id; END;",
    "CREATE TRIGGER x_undel AFTER DELETE ON s WHEN old.v = 2 \
     BEGIN INSERT INTO s VALUES (old.id, NULL, old.v); END;",
    "CREATE TRIGGER x_quiet BEFORE UPDATE ON m WHEN new.a = 13 BEGIN SELECT RAISE(IGNORE); END;",
    "CREATE TRIGGER x_abort BEFORE INSERT ON p WHEN new.x = 5 \
     BEGIN SELECT RAISE(ABORT, 'no'); END;",
    "CREATE TRIGGER x_other AFTER UPDATE OF x ON p \
     BEGIN UPDATE m SET t = new.x WHERE id = new.mid; END;",
];

const LOCAL: [&str; 5] = [
    "CREATE TRIGGER x_ltouch AFTER UPDATE OF a ON m \
     BEGIN UPDATE m SET t = coalesce(t, 0) + 20 WHERE id = new.id; END;",
    "CREATE TRIGGER x_laudit AFTER UPDATE OF a ON m \
     BEGIN INSERT OR IGNORE INTO q VALUES ('l' || new.id, NULL, new.a); END;",
    "CREATE TRIGGER x_lins AFTER INSERT ON p \
     BEGIN UPDATE p SET x = coalesce(new.x, 0) + 1 WHERE id = new.id; END;",
    "CREATE TRIGGER x_ldel AFTER UPDATE ON s BEGIN DELETE FROM q WHERE y > 60; END;",
    "CREATE TRIGGER x_lquiet BEFORE DELETE ON q WHEN old.y = 1 BEGIN SELECT RAISE(IGNORE); END;",
];

pub(crate) struct Shape {
    pub(crate) ddl: String,
    pub(crate) web: String,
    pub(crate) local: String,
    pub(crate) nocase: bool,
    pub(crate) rule: ConflictRule,
}

pub(crate) fn shape(random: &mut fastrand::Rng) -> Shape {
    let on_update = *random.choice(&["CASCADE", "NO ACTION", "SET NULL"]).unwrap();
    let nocase = random.f64() < 0.4;
    let collate = if nocase { "COLLATE NOCASE" } else { "" };
    let check = *random.choice(&["", ", CHECK (a IS NULL OR t IS NULL OR a + t < 140)"]).unwrap();
    let mut reference = |parent: &str, on_update: &str| {
        let action = random.choice(&["CASCADE", "SET NULL", "RESTRICT", "NO ACTION"]).unwrap();
        let deferred = random.choice(&["", "DEFERRABLE INITIALLY DEFERRED"]).unwrap();
        format!("REFERENCES {parent}(id) ON DELETE {action} ON UPDATE {on_update} {deferred}")
    };
    let ddl = format!(
        "CREATE TABLE m (id TEXT PRIMARY KEY {collate}, a, u TEXT UNIQUE {collate}, t INT{check});
         CREATE TABLE p (id TEXT PRIMARY KEY, mid TEXT {}, x INT);
         CREATE TABLE q (id TEXT PRIMARY KEY, pid TEXT {}, y INT);
         CREATE TABLE s (id TEXT PRIMARY KEY, par TEXT {}, v INT UNIQUE);",
        reference("m", on_update),
        reference("p", "CASCADE"),
        reference("s", on_update),
    );
    let web = random.usize(0..=3);
    let local = random.usize(0..=2);
    let web = random.choose_multiple(WEB, web).concat();
    let local = random.choose_multiple(LOCAL, local).concat();
    let rule = *random.choice(&[ConflictRule::Row, ConflictRule::Columns]).unwrap();
    Shape { ddl, web, local, nocase, rule }
}

/// One statement, or a few in one transaction.
pub(crate) fn operation(random: &mut fastrand::Rng, nocase: bool) -> String {
    fn quoted(random: &mut fastrand::Rng, words: &[&str]) -> String {
        match *random.choice(words).unwrap() {
            "" => "NULL".to_owned(),
            word => format!("'{word}'"),
        }
    }
    let ids = ["k0", "k1", "k2", "k3", "k4"];
    let mut i = quoted(random, &ids);
    if nocase && random.f64() < 0.3 {
        i = i.to_uppercase();
    }
    let other = quoted(random, &ids);
    let n = *random.choice(&["1", "1.0", "5", "13", "33", "60", "95", "120", "NULL"]).unwrap();
    let u = quoted(random, &["x", "y", "z", "X", ""]);
    let p = quoted(random, &["c0", "c1", "c2", "c3", "c4"]);
    let p2 = quoted(random, &["c0", "c1", "c2", "c3", "c4"]);
    let g = quoted(random, &["g0", "g1", "g2"]);
    let s = quoted(random, &["s0", "s1", "s2", "s3"]);
    let s2 = quoted(random, &["s0", "s1", "s2", "s3"]);
    let sn = quoted(random, &["s0", "s1", "s2", "s3", ""]);
    let v = *random.choice(&["1", "2", "3", "NULL"]).unwrap();
    let or = *random.choice(&["", "OR REPLACE", "OR REPLACE", "OR IGNORE"]).unwrap();
    let mid = quoted(random, &["k0", "k1", "k2", "k3", "k4", ""]);
    let x = random.u8(0..=9);
    match random.u8(0..100) {
        0..12 => format!("INSERT {or} INTO m (id, a, u) VALUES ({i}, {n}, {u})"),
        12..15 => format!(
            "INSERT INTO m (id, a, u) VALUES ({i}, {n}, {u}) \
             ON CONFLICT (id) DO UPDATE SET a = excluded.a"
        ),
        15..18 => format!("INSERT INTO m (id, a, u) VALUES ({i}, {n}, {u}) ON CONFLICT DO NOTHING"),
        18..32 => format!("UPDATE m SET a = {n} WHERE id = {i}"),
        32..40 => format!("UPDATE {or} m SET u = {u}, t = t + 1 WHERE id = {i}"),
        40..42 => format!("UPDATE m SET id = upper(id) WHERE id = {i}")
            .replace("upper", if nocase { "upper" } else { "lower" }),
        42..48 => format!("DELETE FROM m WHERE id = {i}"),
        48..55 => format!("UPDATE {or} m SET id = {other} WHERE id = {i}"),
        55..57 => format!(
            "UPDATE m SET id = 'tmp' WHERE id = {i}; \
             UPDATE m SET id = {i} WHERE id = {other}; \
             UPDATE m SET id = {other} WHERE id = 'tmp'"
        ),
        57..59 => {
            format!("DELETE FROM m WHERE id = {i}; INSERT INTO m VALUES ({i}, {n}, {u}, NULL)")
        }
        59..61 => format!(
            "INSERT INTO p VALUES ({p}, {i}, 1); INSERT OR IGNORE INTO m (id, a) VALUES ({i}, 1)"
        ),
        61..63 => format!("DELETE FROM m WHERE id = {i}; DELETE FROM p WHERE mid = {i}"),
        63..72 => format!("INSERT {or} INTO p VALUES ({p}, {mid}, {x})"),
        72..75 => format!("UPDATE p SET x = {x}, mid = {mid} WHERE id = {p}"),
        75..77 => format!("UPDATE p SET id = {p2} WHERE id = {p}"),
        77..79 => format!("DELETE FROM p WHERE id = {p}"),
        79..84 => format!("INSERT {or} INTO q VALUES ({g}, {p}, {n})"),
        84..86 => format!("DELETE FROM q WHERE id = {g}"),
        86..90 => format!("INSERT {or} INTO s VALUES ({s}, {sn}, {v})"),
        90..92 => format!("INSERT INTO s VALUES ({s}, {s2}, NULL), ({s2}, {sn}, NULL)"),
        92..95 => format!("UPDATE {or} s SET v = {v}, par = {sn} WHERE id = {s}"),
        95..97 => format!("UPDATE {or} s SET id = {s2} WHERE id = {s}"),
        _ => format!("DELETE FROM s WHERE id = {s}"),
    }
}

/// How often the rarer things came to pass.
#[derive(Debug, Default)]
struct Seen {
    applied: usize,
    superseded: usize,
    rejected: usize,
    conflicts: usize,
    set_aside: usize,
    moot: usize,
    restored: usize,
    refused: usize,
}

/// Where each transaction of a desktop ended in its outbox.
type Ends = Vec<i64>;

/// What is open is so for a reason: nothing that a lost event wanted is in the remote's row.
fn look_at_inbox(desk: &Desk, remote: &Remote, why: &str) {
    let rows = remote.fold(desk.store.state().unwrap().cursor());
    let is_there = |event: &Event| {
        let row = rows.get(&(event.table.clone(), event.key.0.clone()));
        match event.op {
            Op::Delete => row.is_none(),
            _ => row.is_some_and(|row| row.holds(event.after.as_ref().unwrap())),
        }
    };
    for conflict in desk.store.conflicts(false).unwrap() {
        let Conflict { event, insert, .. } = &conflict;
        let moot = is_there(event) && insert.as_ref().is_none_or(&is_there);
        assert!(!moot, "{why}: what event {} wanted is there, and it is open", event.seq);
    }
}

/// What one transaction lost is one group, and nothing else is in it.
fn look_at_groups(desk: &Desk, ends: &Ends, why: &str) {
    let mut groups = BTreeMap::new();
    for conflict in desk.store.conflicts(true).unwrap() {
        let number = (conflict.event.id.0.0 >> 40) as i64 & ((1 << 40) - 1);
        let transaction = ends.partition_point(|&end| end < number);
        let group = groups.entry(conflict.group).or_insert(transaction);
        assert_eq!(*group, transaction, "{why}: event {} is of another", conflict.event.seq);
    }
    let transactions: BTreeSet<_> = groups.values().collect();
    assert_eq!(transactions.len(), groups.len(), "{why}: a transaction is parted");
}

/// A person restores what one transaction lost: all of it, or nothing, and once.
fn restore(desk: &mut Desk, random: &mut fastrand::Rng, seen: &mut Seen, why: &str) {
    let open = desk.store.conflicts(false).unwrap();
    let Some(one) = random.choice(&open) else { return };
    let whole: Vec<_> = open.iter().filter(|c| c.group == one.group).map(|c| c.event.id).collect();
    let fresh = random.bool() && one.event.op == Op::Insert;
    let key =
        fresh.then(|| NewKey::Values(vec![Value::from(format!("n{}", one.event.seq).as_str())]));
    let before = (desk.actual(), desk.store.state().unwrap().pending);
    match desk.store.restore(one.event.id, key) {
        Ok(done) => {
            let both = |ids: &[EventId]| ids.iter().copied().collect::<BTreeSet<_>>();
            assert_eq!(both(&done.restored), both(&whole), "{why}");
            seen.restored += 1;
            let (rows, pending) = (desk.actual(), desk.store.state().unwrap().pending);
            let again = desk.store.restore(one.event.id, None).unwrap();
            assert_eq!((again.restored.len(), again.already.len()), (0, 1), "{why}");
            assert_eq!((desk.actual(), desk.store.state().unwrap().pending), (rows, pending));
        }
        Err(error) => {
            assert_eq!(error.kind(), driftless::Kind::Usage, "{why}: {error:?}");
            let after = (desk.actual(), desk.store.state().unwrap().pending);
            assert!(before == after, "{why}: half of it was restored: {error}");
            assert_eq!(desk.store.conflicts(false).unwrap(), open, "{why}");
            seen.refused += 1;
        }
    }
}

fn pull(desk: &mut Desk, remote: &Remote, limit: usize, seen: &mut Seen, why: &str) -> usize {
    let done = desk.pull(remote, limit);
    let (actual, expected) = (desk.actual(), desk.expected(remote));
    for place in actual.keys().chain(expected.keys()) {
        let (is, wanted) = (actual.get(place), expected.get(place));
        let log = || remote.history(place).join("\n");
        assert_eq!(is, wanted, "{why}: row {place:?} is not what it should be\n{}", log());
    }
    assert_eq!(done.quarantined, 0, "{why}: {:?}", desk.store.quarantine().unwrap());
    seen.applied += done.settled_applied;
    seen.superseded += done.settled_superseded;
    seen.rejected += done.settled_rejected;
    seen.conflicts += done.conflicts;
    seen.set_aside += done.set_aside;
    seen.moot += done.moot;
    done.pulled
}

fn history(seed: u64, steps: usize, seen: &mut Seen) {
    let mut random = fastrand::Rng::with_seed(seed);
    let shape = shape(&mut random);
    let why =
        format!("seed {seed}, {:?}, web {:?}, local {:?}", shape.rule, shape.web, shape.local);
    let mut remote = Remote::new(&shape.ddl, &shape.web, shape.rule);
    let mut desks: Vec<_> = (1..=random.u128(2..=3))
        .map(|number| Desk::new(number, &shape.ddl, &shape.local, shape.rule))
        .collect();
    for desk in &desks {
        let enforced = random.f64() < 0.7;
        desk.app.pragma_update(None, "foreign_keys", enforced).unwrap();
    }
    let mut ends = vec![Ends::new(); desks.len()];
    let mut person = fastrand::Rng::with_seed(!seed);
    for _ in 0..steps {
        let at = random.usize(0..desks.len());
        match random.u8(0..100) {
            0..50 => {
                desks[at].write(&operation(&mut random, shape.nocase));
                desks[at].store.note_boundary().unwrap();
                ends[at].push(desks[at].store.newest().unwrap());
            }
            50..62 => remote.web(&operation(&mut random, shape.nocase)),
            62..80 => {
                let limit = PushLimit::of(random.usize(1..8), 1 << 20);
                desks[at].push(&mut remote, limit);
            }
            _ => {
                let limit = random.usize(1..=6);
                pull(&mut desks[at], &remote, limit, seen, &why);
                look_at_inbox(&desks[at], &remote, &why);
                if person.u8(0..8) == 0 {
                    look_at_groups(&desks[at], &ends[at], &why);
                    restore(&mut desks[at], &mut person, seen, &why);
                    desks[at].store.note_boundary().unwrap();
                    ends[at].push(desks[at].store.newest().unwrap());
                }
            }
        }
    }
    for _ in 0..24 {
        let mut moved = 0;
        for (desk, ends) in desks.iter_mut().zip(&ends) {
            moved += desk.push(&mut remote, super::world::ALL);
            moved += pull(desk, &remote, random.usize(1..=20), seen, &why);
            look_at_inbox(desk, &remote, &why);
            look_at_groups(desk, ends, &why);
        }
        if moved == 0 {
            break;
        }
    }
    let there = actual(&remote.db);
    for desk in &desks {
        let state = desk.store.state().unwrap();
        assert_eq!((state.pending, state.unsent), (0, 0), "{why}: the outbox is not empty");
        assert_eq!(desk.actual(), there, "{why}: a desktop differs from the remote");
    }
}

#[test]
fn histories_converge() {
    let first = std::env::var("DRIFTLESS_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = match first {
        Some(seed) => seed..seed + 1,
        None => 0..24,
    };
    let mut seen = Seen::default();
    for seed in seeds {
        let run = std::panic::AssertUnwindSafe(|| history(seed, 150, &mut seen));
        if let Err(panic) = std::panic::catch_unwind(run) {
            #[expect(clippy::print_stderr, reason = "a person needs the seed to repeat the run")]
            {
                eprintln!("DRIFTLESS_TEST_SEED={seed} cargo test store::history repeats this");
            }
            std::panic::resume_unwind(panic);
        }
    }
    if first.is_none() {
        // A simulation in which nothing went wrong would prove little.
        let least = [seen.applied, seen.superseded, seen.rejected, seen.conflicts, seen.set_aside];
        let rare = [seen.moot, seen.restored, seen.refused];
        let lively = least.iter().all(|&times| times > 20) && rare.iter().all(|&times| times > 4);
        assert!(lively, "too little happened: {seen:?}\ncargo test store::history repeats this");
    }
}
