//! F17 step by step: the process ends at each single write to a file, by turns.
//!
//! A process that writes beyond its file size limit gets SIGXFSZ, which ends it there and then as
//! SIGKILL would, in the middle of whatever it wrote. So a limit that grows from one run to the next
//! stops a program at each place of its write-ahead log, and of the database when that is written
//! back, without any chance and without anything of ours in the program.
#![cfg(target_os = "linux")]

use super::account::check;
use super::place::{Ended, Place};
use super::writers::{Written, write};
use super::{seed, wait_for};
use crate::support::local_remote::read;

/// Where the limits begin, in bytes: SQLite's shared memory file has as much, and is needed first.
const FIRST: u64 = 32 << 10;
/// From one limit to the next, in bytes: less than a page and its frame, so that frames are cut in
/// different places.
const STEP: u64 = 5 << 10;

/// A limit on what follows, of so many bytes.
pub(super) fn limited(bytes: u64) -> String {
    // The shell counts in blocks.
    format!("ulimit -c 0; ulimit -f {}; exec \"$@\"", bytes / 512)
}

/// Whether a process was ended by the limit. One that ended by itself must have ended well.
#[track_caller]
pub(super) fn was_cut(ended: &Ended) -> bool {
    assert!(matches!(ended.code, None | Some(0)), "{ended:#?}");
    ended.code.is_none()
}

/// A desk's transaction number `t`, by an application that opens the file and closes it again.
fn write_to(place: &Place, file: &str, name: &str, t: u64) {
    assert!(write(&place.open(file), name, t));
}

#[test]
fn f17_a_sync_that_ends_at_each_write() {
    let place = Place::with_desks(seed(), &["a.db", "b.db"]);
    let (mut cut, mut t, mut limit) = (0, 0, FIRST);
    loop {
        // Something to push, and something to pull that conflicts with it.
        write_to(&place, "a.db", "a", t);
        write_to(&place, "hub.db", "w", t);
        let sync = place.command_in(&limited(limit), "sync --db a.db");
        let whole = !was_cut(&place.start_command(sync).end());
        cut += usize::from(!whole);
        // Whoever comes next finds a database in order, in which capture works, and finishes the work.
        write_to(&place, "a.db", "a", t + 1);
        write_to(&place, "hub.db", "w", t + 1);
        place.sync("a.db").fine();
        assert!(!place.path("a.db-wal").exists(), "each run begins without a log");
        (t, limit) = (t + 2, limit + STEP);
        if whole {
            break;
        }
    }
    assert!(cut > 20, "cut off {cut} times only");
    place.settle(&["a.db", "b.db"]);
    let found = check(
        &place,
        &["a.db", "b.db"],
        &[Written::of("a", "a.db", 0..t), Written::of("w", "hub.db", 0..t)],
    );
    assert_eq!(found.identities, 1, "an end makes nobody another replica");
}

#[test]
fn f17_a_hub_that_ends_at_each_write() {
    let mut place = Place::with_desks(seed(), &["a.db", "b.db"]);
    let (mut cut, mut t, mut limit) = (0, 0, FIRST);
    loop {
        place.kill_hub();
        // What is in its log goes into the database, so that each run begins alike.
        read(&place.open("hub.db"), "PRAGMA wal_checkpoint(TRUNCATE)");
        let hub = place.command_in(&limited(limit), "hub --db hub.db --listen 127.0.0.1:0");
        place.start_hub_by(hub);
        write_to(&place, "a.db", "a", t);
        let sync = place.sync("a.db");
        let whole = sync.code == Some(0);
        if !whole {
            assert_eq!(sync.code, Some(3), "{sync:#?}");
            wait_for("the hub is gone", || !place.hub().lives());
            cut += 1;
            place.start_hub();
            place.sync("a.db").fine();
        }
        (t, limit) = (t + 1, limit + STEP);
        if whole {
            break;
        }
    }
    assert!(cut > 3, "cut off {cut} times only");
    place.settle(&["a.db", "b.db"]);
    let found = check(&place, &["a.db", "b.db"], &[Written::of("a", "a.db", 0..t)]);
    assert_eq!(found.identities, 1, "an end makes nobody another replica");
}
