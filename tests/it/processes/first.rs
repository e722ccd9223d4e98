//! A first sync that is killed: nothing half done stays, and the next one completes.

use super::account::{check, nothing_is_left, triggers_are_whole};
use super::place::{MEMBERS, Place};
use super::proxy::Fault;
use super::writers::write;
use super::{seed, wait_for};
use crate::support::local_remote::read;

/// Members on the remote from before the log.
const OLDER: usize = 300;

/// A place whose remote has rows from before the log.
fn place() -> Place {
    let place = Place::new(seed());
    place
        .open("hub.db")
        .execute_batch(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {OLDER})
             INSERT INTO members (id, name) SELECT 'old' || i, 'old ' || i FROM n"
        ))
        .unwrap();
    place
}

/// A desk with rows of its own: some that the remote has too, one of them another version, and a
/// payment of transaction 0.
fn desk(place: &Place, desk: &str) {
    place.make(desk);
    let db = place.open(desk);
    for member in 0..MEMBERS {
        let sql = "INSERT INTO members VALUES (?1, 'new', NULL)";
        db.execute(sql, [format!("m{member}")]).unwrap();
    }
    assert!(write(&db, desk, 0));
}

/// What a killed `init` may leave, and what it may not. Then the application writes once more, and the
/// first sync is done by whoever comes next.
fn go_on(place: &Place, desk: &str, by_run: bool) {
    let db = place.open(desk);
    assert_eq!(read(&db, "PRAGMA integrity_check"), "ok");
    let begun = db.table_exists(None, "driftless_state").unwrap();
    if begun {
        assert_eq!(read(&db, "SELECT replaying FROM driftless_state"), "0");
        triggers_are_whole(&db, desk);
    } else {
        let ours = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'driftless%'";
        assert_eq!(read(&db, ours), "0");
    }
    if read(&db, "SELECT count(*) FROM members WHERE id LIKE 'old%'") == "0" {
        // It was not done, so nobody may push and pull before it is.
        place.sync(desk).failed(2, "init");
    }
    assert!(write(&db, desk, 1));
    if begun && by_run {
        let run = place.start(&format!("run --db {desk}"));
        super::wait_for("the first sync is done", || run.out().contains("in step"));
        run.signal("-TERM");
        run.end().fine();
    } else {
        place.start(&place.init_args(desk)).end().fine();
    }
}

/// All desks are in step, and each has both payments of each.
fn settle(place: &Place, desks: &[String]) {
    let names: Vec<&str> = desks.iter().map(String::as_str).collect();
    place.settle(&names);
    check(place, &names, &[]);
    let hub = place.open("hub.db");
    for desk in desks {
        for t in 0..2 {
            let once = format!(
                "SELECT count(*), min(verdict) FROM driftless_events
                 WHERE tbl = 'payments' AND pk = '[\"{desk}-{t}\"]'"
            );
            assert_eq!(read(&hub, &once), "1|applied", "{desk}-{t}");
        }
        nothing_is_left(&place.open(desk), desk);
    }
}

#[test]
fn f17_an_init_that_is_killed_at_each_request() {
    let place = place();
    let mut desks = Vec::new();
    'requests: for request in 0.. {
        for hold in [Fault::HoldRequest, Fault::HoldAnswer] {
            let name = format!("d{}.db", desks.len());
            desk(&place, &name);
            place.proxy.heal();
            place.proxy.fail_next(&vec![Fault::None; request]);
            place.proxy.fail_next(&[hold]);
            let mut init = place.start(&place.init_args(&name));
            let held = place.proxy.held_unless(|| !init.lives());
            desks.push(name.clone());
            if held.is_none() {
                // There are no more requests than that.
                init.end().fine();
                assert!(request >= 6, "{request} requests only");
                break 'requests;
            }
            assert!(init.kill());
            place.proxy.heal();
            drop(held);
            go_on(&place, &name, hold == Fault::HoldAnswer);
        }
    }
    // The last one was whole, and has one payment.
    let last = desks.last().unwrap();
    assert!(write(&place.open(last), last, 1));
    settle(&place, &desks);
}

/// F71, and `status` says the same.
#[test]
fn f71_run_says_how_far_a_first_sync_is() {
    let place = place();
    desk(&place, "a.db");
    // An init that is killed while it reads leaves a first sync to `run`.
    let hold = [Fault::None, Fault::None, Fault::HoldAnswer];
    place.proxy.fail_next(&hold);
    let mut init = place.start(&place.init_args("a.db"));
    let held = place.proxy.held();
    assert!(init.kill());
    drop(held);
    place.proxy.fail_next(&hold);
    let run = place.start("run --db a.db --json");
    let held = place.proxy.held();
    let reading =
        r#""state":"first_sync","first_sync":{"step":"reading","table":"members","rows":0}"#;
    wait_for("it says what it reads", || run.out().contains(reading));
    wait_for("status says it too", || {
        place.start("status --db a.db --json").end().out.contains(reading)
    });
    let words = "reading the remote's rows: members, 0 so far";
    let status = place.start("status --db a.db").end();
    assert!(status.out.contains(words), "{status:?}");
    held.let_go();
    let done = r#""state":"in_step","first_sync":null"#;
    wait_for("it is done", || run.out().lines().last().is_some_and(|line| line.contains(done)));
    run.signal("-TERM");
    run.end().fine();
}

#[cfg(target_os = "linux")]
#[test]
fn f17_an_init_that_ends_at_each_write() {
    use super::steps::{limited, was_cut};
    let place = place();
    let mut desks: Vec<String> = Vec::new();
    // The last desk's init is whole: its payment is written after it.
    for limit in (32_u64 << 10..).step_by(24 << 10) {
        let name = format!("d{}.db", desks.len());
        desk(&place, &name);
        let init = place.command_in(&limited(limit), &place.init_args(&name));
        let ended = place.start_command(init).end();
        desks.push(name.clone());
        if !was_cut(&ended) {
            break;
        }
        go_on(&place, &name, desks.len().is_multiple_of(2));
    }
    assert!(desks.len() > 6, "cut off {} times only", desks.len());
    let last = desks.last().unwrap();
    let db = place.open(last);
    assert!(write(&db, last, 1));
    settle(&place, &desks);
}
