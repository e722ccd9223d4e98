//! Files that are damaged, or whose parts are of different moments.

use std::io::{Read, Seek, SeekFrom, Write};

use super::account::check;
use super::identity::copy;
use super::place::Place;
use super::writers::{Python, Written, write};
use super::{seed, wait_for};
use crate::support::local_remote::read;

/// Overwrites the root page of a table, or of what `sql` gives the page's number of.
fn damage(place: &Place, file: &str, table: &str) {
    let db = place.open(file);
    let root = format!("SELECT rootpage FROM sqlite_schema WHERE name = '{table}'");
    let root: u64 = read(&db, &root).parse().unwrap();
    let size: u64 = read(&db, "PRAGMA page_size").parse().unwrap();
    read(&db, "PRAGMA wal_checkpoint(TRUNCATE)");
    drop(db);
    let mut file = std::fs::File::options().write(true).open(place.path(file)).unwrap();
    file.seek(SeekFrom::Start((root - 1) * size)).unwrap();
    file.write_all(&vec![0xA5; size as usize]).unwrap();
}

#[test]
fn a_damaged_page_is_named_and_harms_nobody_else() {
    let place = Place::with_desks(seed(), &["a.db", "b.db"]);
    for t in 0..4 {
        assert!(write(&place.open("a.db"), "a", t));
    }
    place.settle(&["a.db", "b.db"]);
    // Something to push, and something to pull.
    assert!(write(&place.open("a.db"), "a", 4));
    assert!(write(&place.open("hub.db"), "w", 0));
    let ours = ["driftless_outbox", "driftless_log", "driftless_state", "driftless_settings"];
    for table in ours.into_iter().chain(["members", "payments", "sqlite_autoindex_members_1"]) {
        copy(&place, "a.db", "damaged.db");
        damage(&place, "damaged.db", table);
        let ended = place.sync("damaged.db");
        ended.failed(6, "damaged");
        assert!(ended.err.contains("hint: "), "{ended:?}");
        let run = place.start("run --db damaged.db");
        wait_for("it says so", || run.out().contains("damaged") || run.err().contains("damaged"));
        // What can still be read can still be looked at.
        if !table.starts_with("driftless_") {
            let pending = place.start("log --db damaged.db --verdict pending").end().fine();
            assert!(pending.contains("a-4"), "{table}: {pending}");
        }
    }
    // The healthy file goes on under the same name as the damaged copies.
    place.settle(&["a.db", "b.db"]);
    let written = [Written::of("a", "a.db", 0..5), Written::of("w", "hub.db", 0..1)];
    check(&place, &["a.db", "b.db"], &written);
}

#[test]
fn a_log_that_was_left_behind_is_taken_in() {
    let place = Place::with_desks(seed(), &["a.db", "b.db"]);
    let Some(python) = Python::start(place.folder.path(), "a.db", "a") else { return };
    wait_for("it has written", || python.count() >= 20);
    let written = python.stop();
    let mut header = [0; 4];
    let mut log = std::fs::File::open(place.path("a.db-wal")).expect("its log stands there");
    log.read_exact(&mut header).unwrap();
    assert_eq!(u32::from_be_bytes(header) & !1, 0x377f_0682, "SQLite's log");
    place.settle(&["a.db", "b.db"]);
    check(&place, &["a.db", "b.db"], &[written]);
}

fn one_file(place: &Place, from: &str, to: &str) {
    let mut cp = std::process::Command::new("cp");
    assert!(cp.args([from, to]).current_dir(place.folder.path()).status().unwrap().success());
}

#[test]
fn shared_memory_of_another_state_is_made_anew() {
    let place = Place::with_desks(seed(), &["a.db", "b.db"]);
    let db = place.open("a.db");
    assert!(write(&db, "a", 0));
    copy(&place, "a.db", "then.db");
    for t in 1..10 {
        assert!(write(&db, "a", t));
    }
    // As a power failure leaves it: the log of now, with an index of then, and nobody at work.
    copy(&place, "a.db", "b2.db");
    one_file(&place, "then.db-shm", "b2.db-shm");
    drop(db);
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(place.path(&format!("a.db{suffix}")));
    }
    copy(&place, "b2.db", "a.db");
    place.settle(&["a.db", "b.db"]);
    check(&place, &["a.db", "b.db"], &[Written::of("a", "a.db", 0..10)]);
}

/// SQLite takes the log of another state for its own. What comes of it is a file of an earlier moment,
/// or a damaged one; it is one or the other for driftless, too, and nobody else is harmed.
#[test]
fn a_log_of_another_state_harms_nobody_else() {
    let place = Place::with_desks(seed(), &["a.db", "b.db"]);
    let db = place.open("a.db");
    for t in 0..5 {
        assert!(write(&db, "a", t));
    }
    copy(&place, "a.db", "then.db");
    drop(db);
    place.sync("a.db").fine();
    for t in 5..60 {
        assert!(write(&place.open("a.db"), "a", t));
        place.sync("a.db").fine();
    }
    one_file(&place, "then.db-wal", "a.db-wal");
    let ended = place.sync("a.db");
    assert!(matches!(ended.code, Some(0 | 4 | 6)), "{ended:#?}");
    assert!(!ended.err.contains("panicked"), "{ended:#?}");
    place.settle(&["b.db"]);
    // Whatever became of the file: what was acknowledged is where it was.
    check(&place, &["b.db"], &[]);
    let payments = "SELECT count(*) FROM payments WHERE id GLOB 'a-*'";
    assert_eq!(read(&place.open("b.db"), payments), "60");
    // And a new replica in its place goes on.
    place.init("new.db").end().fine();
    place.settle(&["new.db", "b.db"]);
    check(&place, &["new.db", "b.db"], &[]);
}
