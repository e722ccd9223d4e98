//! The network's faults, one after the other, with whole processes on both ends.

use super::account::check;
use super::clock::Clock;
use super::place::Place;
use super::proxy::Fault;
use super::writers::{Written, write};
use super::{seed, wait_for};
use crate::support::local_remote::read;

fn pending(place: &Place, desk: &str) -> u64 {
    let sql = "SELECT count(*) FROM driftless_outbox WHERE NOT settled";
    read(&place.open(desk), sql).parse().unwrap()
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
        (Fault::CutBody, 3),
        (Fault::CutJson, 3),
        (Fault::Page(413), 4),
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
    check(&place, &["a.db", "b.db"], &[Written::of("a", "a.db", 0..faults.len() as u64)]);
}

/// F10 and F11 in the morning: the desktop starts before the router does, and whatever answers first,
/// `run` says so and goes on by itself.
#[test]
fn f10_whatever_answers_first_in_the_morning() {
    let mut place = Place::with_desks(seed(), &["a.db"]);
    let clock = Clock::new(place.folder.path());
    let faults = [
        (Fault::Page(200), "does not answer like a libSQL server"),
        (Fault::Page(302), "redirects to another address"),
        (Fault::Page(401), "refuses the token"),
        (Fault::Page(403), "forbids this"),
        (Fault::Page(404), "does not answer like a libSQL server"),
        (Fault::Page(501), "does not answer like a libSQL server"),
        (Fault::Page(511), "HTTP 511"),
        (Fault::Garbage, "does not answer like a libSQL server"),
        (Fault::GarbageBody, "does not answer like a libSQL server"),
        (Fault::ErrorPage, "sent what cannot be read"),
        (Fault::TooMany, "HTTP 429"),
        (Fault::ResetRequest, "the connection to"),
        (Fault::Page(413), "finds the request too large (HTTP 413)"),
        (Fault::CutBody, "was cut off"),
        (Fault::CutJson, "was cut off"),
    ];
    for (t, (fault, says)) in faults.into_iter().enumerate() {
        place.proxy.fail(&[fault]);
        let command = place.command("run --db a.db");
        let command = match &clock {
            Some(clock) => clock.rules(command),
            None => command,
        };
        let mut run = place.start_command(command);
        let what = format!("{fault:?}: it says what is wrong");
        wait_for(&what, || !run.lives() || run.out().contains(says));
        assert!(write(&place.open("a.db"), "a", t as u64));
        let asked = place.proxy.requests();
        // A minute later, or after a moment if it takes the remote to be away.
        if let Some(clock) = &clock {
            clock.ahead(61 * (1 + t as i64));
            wait_for("it asks again", || !run.lives() || place.proxy.requests() > asked);
        }
        assert!(run.lives(), "{fault:?} ended it: {}", run.err());
        place.proxy.heal();
        if let Some(clock) = &clock {
            clock.ahead(61 * (1 + t as i64) + 30);
            wait_for("all is pushed", || !run.lives() || pending(&place, "a.db") == 0);
        }
        run.signal("-TERM");
        run.end().fine();
    }
    // Nothing listens, and the name leads nowhere.
    place.kill_hub();
    for url in ["http://127.0.0.1:1", "libsql://nowhere.invalid"] {
        let sql = "UPDATE driftless_settings SET value = ?1 WHERE name = 'url'";
        place.open("a.db").execute(sql, [url]).unwrap();
        let mut run = place.start("run --db a.db");
        wait_for("it is offline", || !run.lives() || run.out().contains(": cannot "));
        assert!(run.lives(), "{url} ended it: {}", run.err());
        run.signal("-TERM");
        run.end().fine();
    }
}

/// A file that never had its first sync is not waited for where a person has to look.
#[test]
fn f10_whatever_answers_before_the_first_sync() {
    let place = Place::new(seed());
    place.make("a.db");
    place.proxy.fail_next(&[Fault::None, Fault::None, Fault::Page(200)]);
    place.start(&place.init_args("a.db")).end().failed(4, "like a libSQL server");
    place.proxy.fail(&[Fault::Page(200)]);
    place.start("run --db a.db").end().failed(4, "like a libSQL server");
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
    check(&place, &["a.db", "b.db"], &[Written::of("a", "a.db", 0..20)]);
}

#[test]
fn f20_a_laptop_sleeps_for_eight_hours() {
    let place = Place::with_desks(seed(), &["a.db", "b.db"]);
    let Some(clock) = Clock::new(place.folder.path()) else { return };
    for under_way in [false, true] {
        clock.ahead(0);
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
        clock.ahead(8 * 3600);
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
    check(
        &place,
        &["a.db", "b.db"],
        &[Written::of("a", "a.db", 0..2), Written::of("w", "hub.db", 0..2)],
    );
}

/// The exit code of `status`, and what it says: health, trouble and hint.
fn health(place: &Place, clock: &Clock) -> (Option<i32>, String) {
    let ended = place.start_command(clock.rules(place.command("status --db a.db --json"))).end();
    let status: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let said = ["health", "trouble", "hint"].map(|name| status[name].as_str().unwrap_or("-"));
    (ended.code, said.join("; "))
}

#[track_caller]
fn is(found: (Option<i32>, String), code: i32, says: &[&str]) {
    let all = says.iter().all(|word| found.1.contains(word));
    assert!(found.0 == Some(code) && all, "{found:?}");
}

/// The bound is 60 seconds: see docs/operations.md.
#[test]
fn f44_replication_has_stopped() {
    const BOUND: i64 = 60;
    let mut place = Place::with_desks(seed(), &["a.db"]);
    let Some(clock) = Clock::new(place.folder.path()) else { return };
    let hub = clock.rules(place.command("hub --db hub.db --listen 127.0.0.1:0"));
    place.kill_hub();
    place.start_hub_by(hub);
    let start = || place.start_command(clock.rules(place.command("run --db a.db")));
    let mut run = start();
    wait_for("it is in step", || run.out().contains("in step"));
    is(health(&place, &clock), 0, &["ok", "-"]);

    // The remote is gone. Within the bound that is no reason to wake anybody.
    place.proxy.fail(&[Fault::Unavailable]);
    assert!(write(&place.open("a.db"), "a", 0));
    wait_for("it is noticed", || run.out().contains("offline"));
    is(health(&place, &clock), 0, &["degraded", "HTTP 503"]);
    clock.ahead(BOUND + 5);
    is(health(&place, &clock), 1, &["red", "HTTP 503"]);
    wait_for("the replicator says so, too", || run.out().contains("health is red"));

    // The remote is back, and the replicator hangs: first with something to push,
    place.proxy.heal();
    wait_for("all is well", || health(&place, &clock).1.starts_with("ok"));
    run.signal("-STOP");
    assert!(write(&place.open("a.db"), "a", 1));
    clock.ahead(3 * BOUND);
    is(health(&place, &clock), 1, &["red", "replication has stopped", "a replicator is running"]);
    // then it is dead,
    run.kill();
    is(health(&place, &clock), 1, &["red", "stopped", "no replicator is running"]);
    place.start_command(clock.rules(place.command("sync --db a.db"))).end().fine();
    is(health(&place, &clock), 0, &["ok"]);
    // and then there is something to pull that nobody pulls.
    assert!(write(&place.open("hub.db"), "w", 0));
    clock.ahead(5 * BOUND);
    is(health(&place, &clock), 1, &["red", "stopped", "no replicator is running"]);

    // Without asking: by what the last replicator has noted.
    let offline = || {
        let command = clock.rules(place.command("status --db a.db --offline"));
        place.start_command(command).end().code
    };
    assert_eq!(offline(), Some(1));
    run = start();
    wait_for("it has synchronised", || offline() == Some(0));
    drop(run);
}
