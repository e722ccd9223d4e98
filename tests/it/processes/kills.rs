//! F17 and F47: SIGKILL between any two steps, and quiet afterwards.

use std::time::Duration;

use super::account::check;
use super::place::{Place, moment};
use super::proxy::{Fault, RANDOM};
use super::writers::{Python, Shell, Writer};
use super::{kills, seed, wait_for};
use crate::support::local_remote::read;

/// The longest life of a process between two kills.
const LIFE: Duration = Duration::from_millis(90);

#[test]
fn f47_partitions_kills_and_pauses_then_quiet() {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut place = Place::with_desks(seed, &["a.db", "b.db"]);
    let folder = place.folder.path().to_owned();
    let web = Writer::start(&folder, "hub.db", "w");
    let rust = Writer::start(&folder, "a.db", "a");
    let shell = Shell::start(&folder, "a.db", "s");
    let mut python = Python::start(&folder, "b.db", "b");
    let desks = ["a.db", "b.db"];
    let mut running = desks.map(|desk| place.start(&format!("run --db {desk} -vvv")));
    let (mut killed, mut hubs) = (0, 0);
    // Each fault comes at least once, and then they come by chance.
    place.proxy.fail_next(&RANDOM);
    let wanted = kills(100);
    while killed < wanted {
        let faults = match random.u32(..4) {
            0 | 1 => vec![Fault::None],
            2 => vec![RANDOM[random.usize(..RANDOM.len())]],
            _ => RANDOM.to_vec(),
        };
        place.proxy.fail(&faults);
        moment(&mut random, LIFE);
        let at = random.usize(..2);
        match random.u32(..10) {
            0 => {
                hubs += usize::from(place.kill_hub());
                moment(&mut random, LIFE);
                place.start_hub();
            }
            1 => {
                running[at].signal("-STOP");
                moment(&mut random, LIFE);
                running[at].signal("-CONT");
            }
            2 => {
                killed += usize::from(shell.as_ref().is_some_and(Shell::kill));
                if let Some(python) = &mut python {
                    python.kill_and_go_on();
                    killed += 1;
                }
            }
            turn => {
                killed += usize::from(running[at].kill());
                let command = if turn < 6 { "run" } else { "sync" };
                running[at] = place.start(&format!("{command} --db {} -vvv", desks[at]));
            }
        }
    }
    let pythons = python.as_ref().map_or(1, Python::count);
    let shells = shell.as_ref().map_or(1, Shell::count);
    assert!(rust.count() > 0 && web.count() > 0 && pythons > 0 && shells > 0 && hubs > 0);
    let mut written = vec![web.stop(), rust.stop()];
    written.extend(python.map(Python::stop));
    written.extend(shell.map(Shell::stop));
    drop(running);
    place.settle(&desks);
    let found = check(&place, &desks, &written);
    assert!(found.lost > 0, "nothing conflicted: {found:?}");
    assert_eq!(found.identities, 2, "a kill makes nobody another replica");
    for fault in RANDOM {
        assert!(place.proxy.seen(fault) > 0, "{fault:?} never came");
    }
}

#[test]
fn f17_killed_before_the_commit_and_before_the_acknowledgement() {
    let seed = seed();
    let place = Place::with_desks(seed, &["a.db", "b.db"]);
    let writer = Writer::start(place.folder.path(), "a.db", "a");
    for round in 0..kills(20) {
        let before = writer.count();
        wait_for("there is something to push", || writer.count() > before);
        let hold = if round % 4 < 2 { Fault::HoldAnswer } else { Fault::HoldRequest };
        place.proxy.fail_next(&[hold]);
        let command = if round % 2 == 0 { "sync" } else { "run" };
        let mut process = place.start(&format!("{command} --db a.db -vvv"));
        let held = place.proxy.held();
        // The request is on its way; or it has taken effect, and its answer is.
        assert!(process.kill());
        drop(held);
    }
    let written = vec![writer.stop()];
    place.settle(&["a.db", "b.db"]);
    let found = check(&place, &["a.db", "b.db"], &written);
    assert_eq!(found.identities, 1, "a kill makes nobody another replica");
}

#[test]
fn f17_killed_in_the_moment_of_the_answer() {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let place = Place::with_desks(seed, &["a.db", "b.db"]);
    let web = Writer::start(place.folder.path(), "hub.db", "w");
    let writer = Writer::start(place.folder.path(), "a.db", "a");
    let mut in_time = 0;
    let wanted = kills(60);
    while in_time < wanted {
        place.proxy.fail_next(&[Fault::HoldAnswer]);
        let mut process = place.start("run --db a.db -vvv");
        place.proxy.held().let_go();
        // It integrates, or asks for more.
        moment(&mut random, Duration::from_millis(12));
        in_time += usize::from(process.kill());
    }
    let written = vec![web.stop(), writer.stop()];
    place.settle(&["a.db", "b.db"]);
    let found = check(&place, &["a.db", "b.db"], &written);
    assert_eq!(found.identities, 1, "a kill makes nobody another replica");
}

/// F05: what a reader sees of a desk at one moment is of one moment, and never of an earlier one than
/// before, whatever is killed meanwhile.
#[test]
fn f05_state_never_goes_back() {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let place = Place::with_desks(seed, &["a.db", "b.db"]);
    let web = Writer::start(place.folder.path(), "hub.db", "w");
    let mut run = place.start("run --db a.db");
    let reader = place.open("a.db");
    // The web's newest payment, and the newest of which the desk's log knows, in one transaction.
    let sql = "SELECT (SELECT cursor FROM driftless_state),
                      (SELECT coalesce(max(seq), 0) FROM driftless_log),
                      (SELECT coalesce(max(cents), -1) FROM payments),
                      (SELECT count(*) FROM payments)";
    let mut seen = vec![(0, 0, 0)];
    place.proxy.fail(&[Fault::None, Fault::Twice, Fault::ResetAnswer, Fault::Slow]);
    let mut killed = 0;
    while killed < kills(12) || seen.len() < 20 {
        let row = reader.query_row(sql, [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get(3)?))
        });
        let (cursor, logged, newest, count): (i64, i64, i64, i64) = row.unwrap();
        // The web writes payments 0, 1, 2, … and takes none away.
        assert_eq!(newest + 1, count, "rows of different moments");
        assert_eq!(cursor, logged, "a cursor of another moment than the log");
        let now = (cursor, newest, count);
        let last = *seen.last().unwrap();
        assert!(
            now.0 >= last.0 && now.1 >= last.1.min(newest) && now.2 >= last.2,
            "{last:?} {now:?}"
        );
        if now.0 > last.0 {
            seen.push(now);
        }
        if random.u32(..200) == 0 {
            killed += usize::from(run.kill());
            run = place.start("run --db a.db");
        }
        std::thread::sleep(super::LOOK);
    }
    drop(run);
    let written = [web.stop()];
    place.settle(&["a.db", "b.db"]);
    check(&place, &["a.db", "b.db"], &written);
}

/// F40: an application of another process writes with a busy timeout of 5 s while much is applied, and
/// a command looks on.
#[test]
fn f40_another_program_writes_while_many_events_apply() {
    const EVENTS: u64 = 12_000;
    let place = Place::with_desks(seed(), &["a.db"]);
    let mut follow = place.start("log --db a.db --follow");
    let mut run = place.start("run --db a.db");
    // Later there is nearly always something pending.
    wait_for("it is in step", || run.out().contains("in step"));
    let Some(python) = Python::patient(place.folder.path(), "a.db", "a", 5) else { return };
    wait_for("it writes", || python.count() > 0);
    place
        .open("hub.db")
        .execute_batch(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {EVENTS})
             INSERT INTO members (id, name) SELECT 'w' || i, 'many' FROM n"
        ))
        .unwrap();
    let (before, db) = (python.count(), place.open("a.db"));
    let many = "SELECT count(*) FROM members WHERE name = 'many'";
    wait_for("all is applied", || read(&db, many) == EVENTS.to_string());
    assert!(python.count() > before, "it was let in between");
    assert!(run.lives() && follow.lives());
    let (code, _) = place.status("a.db");
    assert_eq!(code, Some(0));
    // A write that failed would have ended it.
    assert!(python.lives(), "a write failed");
    run.kill();
    drop((run, follow));
    let written = [python.stop()];
    place.settle(&["a.db"]);
    check(&place, &["a.db"], &written);
}
