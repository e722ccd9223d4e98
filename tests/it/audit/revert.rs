//! Changes taken back: all of a stretch gives the state in front of it, but for what is told to stay.

use std::collections::BTreeSet;

use driftless::event::Seq;
use driftless::event::conflict::ConflictRule;
use driftless::inspect::{Point, Replica, ToRevert};

use super::model::World;
use crate::store::world::{Desk, Remote, actual};

/// How much happened.
#[derive(Debug, Default)]
struct Seen {
    reverted: usize,
    kept: usize,
    whole: usize,
    moved: usize,
}

/// Takes back all behind a random state that the model remembers, on one desktop.
fn history(seed: u64, seen: &mut Seen) {
    let mut world = World::new(seed);
    for _ in 0..60 {
        world.step();
    }
    world.settle();
    let at = world.random.usize(0..world.desks.len());
    let why = format!("seed {seed}, desk {at}, web {:?}", world.shape.web);
    let known: Vec<i64> = world.states.keys().copied().collect();
    let place = *world.random.choice(&known[known.len() / 4..]).unwrap();
    let mut replica = Replica::open(world.desks[at].path()).unwrap();
    let head = replica.log_range().unwrap().end.0;
    if place >= head {
        return;
    }
    let wanted = ToRevert::Between(Point::Seq(Seq(place)), Point::Now);
    let before = world.desks[at].actual();
    let Ok(tried) = replica.revert(&wanted, true) else {
        // Only events that lost stand behind it.
        return;
    };
    assert_eq!(world.desks[at].actual(), before, "{why}: a dry run changes nothing");
    let done = replica.revert(&wanted, false).unwrap();
    assert_eq!(done, tried, "{why}: a dry run tells what would happen");
    let (is, was) = (world.desks[at].actual(), &world.states[&place]);
    let kept: BTreeSet<_> =
        done.kept.iter().map(|one| (one.table.clone(), one.key.0.clone())).collect();
    for row in is.keys().chain(was.keys()) {
        let log = || world.remote.history(row).join("\n");
        let told = kept.contains(row) || is.get(row) == was.get(row);
        // A row that is kept keeps those that it refers to, and its own former key.
        assert!(told || !kept.is_empty(), "{why}: {row:?} behind {place}\n{}\n{done:?}", log());
    }
    seen.reverted += done.reverted.len();
    seen.kept += done.kept.len();
    seen.whole += usize::from(kept.is_empty());
    seen.moved += done.reverted.iter().filter(|one| one.op == driftless::event::Op::Insert).count();
    world.settle();
    let there = actual(&world.remote.db);
    assert_eq!(world.desks[at].actual(), there, "{why}: all are equal again");
}

#[test]
fn what_is_taken_back_is_as_it_was() {
    let first = std::env::var("DRIFTLESS_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = match first {
        Some(seed) => seed..seed + 1,
        None => 0..14,
    };
    let mut seen = Seen::default();
    for seed in seeds {
        let run = std::panic::AssertUnwindSafe(|| history(seed, &mut seen));
        if let Err(panic) = std::panic::catch_unwind(run) {
            #[expect(clippy::print_stderr, reason = "a person needs the seed to repeat the run")]
            {
                eprintln!(
                    "DRIFTLESS_TEST_SEED={seed} cargo test --test it audit::revert repeats this"
                );
            }
            std::panic::resume_unwind(panic);
        }
    }
    if first.is_none() {
        let Seen { reverted, kept, whole, moved } = seen;
        assert!(reverted > 40 && kept > 2 && whole > 4 && moved > 10, "{seen:?}");
    }
}

const SCHEMA: &str = "CREATE TABLE plans (id TEXT PRIMARY KEY, price INTEGER, name TEXT);
    CREATE TABLE members (id INTEGER PRIMARY KEY, plan TEXT REFERENCES plans ON DELETE CASCADE);";

fn desk() -> (Desk, Remote) {
    let mut remote = Remote::new(SCHEMA, "", ConflictRule::Row);
    let mut desk = Desk::new(1, SCHEMA, "", ConflictRule::Row);
    desk.write("INSERT INTO plans VALUES ('basic', 20, 'Basic'), ('gold', 50, 'Gold')");
    desk.write("INSERT INTO members VALUES (1, 'gold')");
    desk.sync(&mut remote);
    (desk, remote)
}

fn head(desk: &Desk) -> Seq {
    Replica::open(desk.path()).unwrap().log_range().unwrap().end
}

fn revert(desk: &Desk, from: Seq) -> (Vec<String>, Vec<String>) {
    let mut replica = Replica::open(desk.path()).unwrap();
    let wanted = ToRevert::Between(Point::Seq(from), Point::Now);
    let done = replica.revert(&wanted, false).unwrap();
    let reverted = done.reverted.iter().map(|one| format!("{} {}", one.op.as_str(), one.key));
    let kept = done.kept.iter().map(|one| format!("{}: {}", one.key, one.reason));
    (reverted.collect(), kept.collect())
}

#[test]
fn a_row_with_children_stays_and_is_named() {
    let (mut desk, mut remote) = desk();
    let from = head(&desk);
    desk.write("INSERT INTO plans VALUES ('day', 9, 'Day')");
    desk.sync(&mut remote);
    desk.write("INSERT INTO members VALUES (2, 'day')");
    let (reverted, kept) = revert(&desk, from);
    assert!(reverted.is_empty());
    assert_eq!(kept, ["day: rows of table `members` refer to it"]);
    assert_eq!(desk.rows("SELECT count(*) FROM members"), ["2"], "nothing goes with it");
    // With the child's insert in the log both go.
    desk.sync(&mut remote);
    let (reverted, kept) = revert(&desk, from);
    assert_eq!((reverted, kept), (vec!["insert 2".to_owned(), "insert day".to_owned()], vec![]));
}

#[test]
fn a_value_that_was_changed_again_stays_and_the_others_go_back() {
    let (mut desk, mut remote) = desk();
    let from = head(&desk);
    desk.write("UPDATE plans SET price = 22, name = 'Basic+' WHERE id = 'basic'");
    desk.sync(&mut remote);
    desk.write("UPDATE plans SET price = 25 WHERE id = 'basic'");
    let (reverted, kept) = revert(&desk, from);
    assert_eq!(reverted, ["update basic"]);
    assert_eq!(kept, ["basic: it was changed again since"]);
    assert_eq!(desk.rows("SELECT price, name FROM plans WHERE id = 'basic'"), ["25|Basic"]);
}

#[test]
fn a_writers_lost_value_does_not_come_back() {
    let (mut desk, mut remote) = desk();
    let from = head(&desk);
    // The desk's first change loses, and its second one was made on top of it.
    remote.web("UPDATE plans SET price = 30 WHERE id = 'basic'");
    desk.write("UPDATE plans SET price = 21 WHERE id = 'basic'");
    desk.sync(&mut remote);
    desk.write("UPDATE plans SET price = 35 WHERE id = 'basic'");
    desk.sync(&mut remote);
    let (_, kept) = revert(&desk, from);
    assert!(kept.is_empty(), "{kept:?}");
    assert_eq!(desk.rows("SELECT price FROM plans WHERE id = 'basic'"), ["20"]);
}
