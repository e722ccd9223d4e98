//! The network's faults, one after the other, with whole processes on both ends.

use std::time::Duration;

use super::account::check;
use super::clock::Clock;
use super::place::{Place, TOKEN};
use super::proxy::Fault;
use super::writers::{Python, SECRET, Writer, Written, write};
use super::{seed, wait_for};
use crate::support::local_remote::read;

/// Of a desk's transactions 0 to `count`.
fn written(name: &str, file: &str, count: u64) -> Written {
    let (name, file) = (name.to_owned(), file.to_owned());
    Written { name, file, committed: (0..count).collect(), killed: false }
}

fn pending(place: &Place, desk: &str) -> u64 {
    let sql = "SELECT count(*) FROM driftless_outbox WHERE NOT settled";
    read(&place.open(desk), sql).parse().unwrap()
}

fn events(place: &Place) -> u64 {
    read(&place.open("hub.db"), "SELECT count(*) FROM driftless_events").parse().unwrap()
}

/// F10, and the exit codes of a `sync` that meets each fault: 3 where it may be tried again, 4 where
/// what answers is no server of ours.
#[test]
fn f10_whatever_comes_back_is_not_taken_for_success() {
    let place = Place::with_desks(seed(), &["a.db", "b.db"]);
    let mut run = place.start("run --db b.db -vv");
    let faults = [
        (Fault::ErrorPage, 3),
        (Fault::LateErrorPage, 3),
        (Fault::Unavailable, 3),
        (Fault::TooMany, 3),
        (Fault::ResetRequest, 3),
        (Fault::ResetAnswer, 3),
        (Fault::CutAnswer, 3),
        (Fault::Garbage, 4),
        (Fault::GarbageBody, 4),
    ];
    for (t, (fault, code)) in faults.into_iter().enumerate() {
        write(&place.open("a.db"), "a", t as u64);
        place.proxy.fail(&[fault]);
        let ended = place.start("sync --db a.db -vv").end();
        assert_eq!(ended.code, Some(code), "{fault:?}: {ended:#?}");
        assert!(ended.err.contains("error: "), "{fault:?}: {ended:#?}");
        assert!(pending(&place, "a.db") > 0, "{fault:?}: nothing is done");
        assert!(run.lives(), "{fault:?}: {}", run.err());
        place.proxy.heal();
        place.sync("a.db").fine();
    }
    place.settle(&["a.db"]);
    run.kill();
    place.settle(&["a.db", "b.db"]);
    check(&place, &["a.db", "b.db"], &[written("a", "a.db", faults.len() as u64)]);
}

#[test]
fn f11_unavailable_for_a_while_and_then_by_itself() {
    let place = Place::with_desks(seed(), &["a.db", "b.db"]);
    place.proxy.fail(&[Fault::Unavailable, Fault::TooMany, Fault::ErrorPage]);
    let run = place.start("run --db a.db -v");
    let db = place.open("a.db");
    for t in 0..20 {
        assert!(write(&db, "a", t));
    }
    let before = place.proxy.requests();
    wait_for("it tries again, without a further write", || place.proxy.requests() > before + 3);
    assert!(run.out().contains("offline"), "{}", run.out());
    assert!(pending(&place, "a.db") >= 40, "nothing is dropped");
    place.proxy.heal();
    wait_for("all is pushed", || pending(&place, "a.db") == 0);
    drop(run);
    place.settle(&["a.db", "b.db"]);
    check(&place, &["a.db", "b.db"], &[written("a", "a.db", 20)]);
}

#[test]
fn f20_a_laptop_sleeps_for_eight_hours() {
    let place = Place::with_desks(seed(), &["a.db", "b.db"]);
    let Some(clock) = Clock::new(place.folder.path()) else { return };
    for under_way in [false, true] {
        clock.ahead(Duration::ZERO);
        let run = place.start_command(clock.rules(place.command("run --db a.db -vv")));
        wait_for("it is in step", || run.out().contains("in step"));
        if under_way {
            // The lid closes while an answer is on its way.
            place.proxy.fail_next(&[Fault::HoldAnswer]);
            assert!(write(&place.open("a.db"), "a", 1));
        }
        let held = under_way.then(|| place.proxy.held());
        run.signal("-STOP");
        place.proxy.forget();
        let t = u64::from(under_way);
        assert!(write(&place.open("hub.db"), "w", t));
        if !under_way {
            assert!(write(&place.open("a.db"), "a", t));
        }
        clock.ahead(Duration::from_secs(8 * 3600));
        run.signal("-CONT");
        let key = format!("SELECT count(*) FROM payments WHERE id = 'w-{t}'");
        wait_for("what the web wrote is here", || read(&place.open("a.db"), &key) == "1");
        wait_for("all is pushed", || pending(&place, "a.db") == 0);
        // It asked anew, on a new connection, and waited for none that was dead.
        assert!(!run.err().contains("did not answer"), "{}", run.err());
        assert_eq!(place.proxy.seen(Fault::Forgotten), 0, "{}", run.err());
        drop(held);
    }
    place.settle(&["a.db", "b.db"]);
    check(&place, &["a.db", "b.db"], &[written("a", "a.db", 2), written("w", "hub.db", 2)]);
}
