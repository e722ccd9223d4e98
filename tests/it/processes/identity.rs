//! F22 to F24: files that are restored and copied, remotes that are wiped, replaced and rolled back,
//! with the programs that meet them.

use std::process::Command;

use super::account::check;
use super::place::{Place, SCHEMA};
use super::writers::{Written, write};
use super::{seed, wait_for};
use crate::support::local_remote::read;

/// Copies a database with what belongs to it, or removes what is there no more. A process of its own
/// does it: closing a file takes a process's locks on it away.
pub(super) fn copy(place: &Place, from: &str, to: &str) {
    for suffix in ["", "-wal", "-shm"] {
        let there = place.path(&format!("{from}{suffix}")).exists();
        let (from, to) = (format!("{from}{suffix}"), format!("{to}{suffix}"));
        let command = if there { vec!["cp", &from, &to] } else { vec!["rm", "-f", &to] };
        let mut shell = Command::new(command[0]);
        let done = shell.args(&command[1..]).current_dir(place.folder.path()).status().unwrap();
        assert!(done.success());
    }
}

fn writes(place: &Place, file: &str, name: &str, transactions: std::ops::Range<u64>) {
    let db = place.open(file);
    for t in transactions {
        assert!(write(&db, name, t));
    }
}

#[test]
fn f22_restored_from_a_backup_while_nobody_looked() {
    let place = Place::with_desks(seed(), &["a.db", "b.db"]);
    writes(&place, "a.db", "a", 0..5);
    place.sync("a.db").fine();
    writes(&place, "a.db", "a", 5..8);
    copy(&place, "a.db", "backup.db");
    // These are acknowledged, and then the file forgets them,
    writes(&place, "a.db", "a", 8..12);
    place.sync("a.db").fine();
    copy(&place, "backup.db", "a.db");
    // and the application writes on, with a replicator at work or not.
    let mut run = place.start("run --db a.db");
    writes(&place, "a.db", "a", 12..20);
    let pending = "SELECT count(*) FROM driftless_outbox WHERE NOT settled";
    wait_for("all is pushed", || read(&place.open("a.db"), pending) == "0");
    run.kill();
    place.settle(&["a.db", "b.db"]);
    let found = check(&place, &["a.db", "b.db"], &[Written::of("a", "a.db", 0..20)]);
    assert_eq!(found.identities, 2);
    // Four members had been given other names in what the file forgot.
    assert!(found.lost <= 4, "{found:?}");
}

#[test]
fn f23_copied_to_a_second_machine() {
    let place = Place::with_desks(seed(), &["a.db"]);
    writes(&place, "a.db", "a", 0..5);
    place.sync("a.db").fine();
    copy(&place, "a.db", "b.db");
    // Both write the payments that are theirs, each with a replicator.
    let mut runs = ["a.db", "b.db"].map(|desk| place.start(&format!("run --db {desk}")));
    for (t, turn) in (5..15).zip([true, false].into_iter().cycle()) {
        let (file, name) = if turn { ("a.db", "a") } else { ("b.db", "b") };
        writes(&place, file, name, t..t + 1);
    }
    let pending = "SELECT count(*) FROM driftless_outbox WHERE NOT settled";
    for desk in ["a.db", "b.db"] {
        wait_for("all is pushed", || read(&place.open(desk), pending) == "0");
    }
    for run in &mut runs {
        run.kill();
    }
    place.settle(&["a.db", "b.db"]);
    let a = Written::of("a", "a.db", (0..5).chain((5..15).step_by(2)));
    let b = Written::of("b", "b.db", (6..15).step_by(2));
    let found = check(&place, &["a.db", "b.db"], &[a, b]);
    assert_eq!(found.identities, 2);
}

/// Puts another database in the hub's place, as `make` makes it.
fn replace_hub(place: &mut Place, make: impl FnOnce(&Place)) {
    place.kill_hub();
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(place.path(&format!("hub.db{suffix}")));
    }
    make(place);
    place.start_hub();
}

/// Nothing was pushed to the hub, and nothing was erased on the desk.
fn nothing_went(place: &Place, before: &str) {
    let hub = place.open("hub.db");
    if hub.table_exists(None, "driftless_events").unwrap() {
        let mine = "SELECT count(*) FROM driftless_events WHERE pk = '[\"a-5\"]'";
        assert_eq!(read(&hub, mine), "0");
    }
    assert_eq!(read(&hub, "SELECT count(*) FROM payments WHERE id = 'a-5'"), "0");
    assert_eq!(read(&place.open("a.db"), "SELECT id FROM payments ORDER BY id"), before);
    let pending = "SELECT count(*) FROM driftless_outbox WHERE NOT settled";
    assert_ne!(read(&place.open("a.db"), pending), "0", "it waits");
}

#[test]
fn f24_another_remote_gets_nothing_until_somebody_says_so() {
    let mut place = Place::with_desks(seed(), &["a.db", "b.db"]);
    writes(&place, "a.db", "a", 0..3);
    place.sync("a.db").fine();
    copy(&place, "hub.db", "earlier.db");
    writes(&place, "a.db", "a", 3..5);
    place.settle(&["a.db", "b.db"]);
    copy(&place, "hub.db", "right.db");
    let wiped = |place: &Place| place.open("hub.db").execute_batch(SCHEMA).unwrap();
    let stranger = |place: &Place| {
        let other = Place::with_desks(1, &["c.db"]);
        let sql = format!("VACUUM INTO '{}'", place.path("hub.db").display());
        other.open("hub.db").execute_batch(&sql).unwrap();
    };
    let earlier = |place: &Place| copy(place, "earlier.db", "hub.db");
    let run = place.start("run --db a.db");
    wait_for("it is in step", || run.out().contains("in step"));
    type Maker<'a> = &'a dyn Fn(&Place);
    let makers: [(&str, Maker<'_>); 3] =
        [("without driftless", &wiped), ("another database", &stranger), ("rolled back", &earlier)];
    for (round, (says, make)) in makers.into_iter().enumerate() {
        replace_hub(&mut place, make);
        if round == 0 {
            writes(&place, "a.db", "a", 5..6);
            wait_for("the replicator notices", || run.out().contains(says));
            run.signal("-TERM");
            wait_for("it ends", || run.err().contains("stopped"));
        }
        let before = read(&place.open("a.db"), "SELECT id FROM payments ORDER BY id");
        place.sync("a.db").failed(4, says);
        // A new replicator says so, and waits for somebody.
        let mut run = place.start("run --db a.db");
        wait_for("a new replicator refuses", || !run.lives() || run.out().contains(says));
        assert!(run.kill(), "{}", run.err());
        assert!(place.start("status --db a.db").end().err.contains(says));
        nothing_went(&place, &before);
    }
    // The right one comes back, and all goes on.
    replace_hub(&mut place, |place| copy(place, "right.db", "hub.db"));
    place.settle(&["a.db", "b.db"]);
    check(&place, &["a.db", "b.db"], &[Written::of("a", "a.db", 0..6)]);
    // Or the earlier one is what there is from now on, and everybody says so.
    replace_hub(&mut place, earlier);
    for desk in ["a.db", "b.db"] {
        place.sync(desk).failed(4, "rolled back");
        place.start(&format!("remote accept --yes --db {desk}")).end().fine();
    }
    place.settle(&["a.db", "b.db"]);
    let payments = "SELECT count(*) FROM payments";
    for file in ["a.db", "b.db", "hub.db"] {
        assert_eq!(read(&place.open(file), payments), "6", "{file} has what was acknowledged");
    }
}
