//! Disks that are full, and places where nothing can be written.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::Command;

use super::account::{check, nothing_is_left};
use super::place::Place;
use super::writers::{Written, write};
use super::{seed, wait_for};
use crate::support::local_remote::read;

/// A small file system in memory, mounted on a folder.
struct Disk(PathBuf);

impl Disk {
    /// Mounts it; `None` where that is for root alone, which has been said.
    fn mount(at: &Path, bytes: u64) -> Option<Disk> {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={bytes}");
        let args = ["-t", "tmpfs", "-o", &size, "driftless-test"];
        let output = Command::new("mount").args(args).arg(at).output();
        if output.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Disk(at.to_owned()));
        }
        let required = std::env::var("DRIFTLESS_TEST_REQUIRE_TOOLS").is_ok_and(|set| set == "1");
        let root = read_id() == "0";
        assert!(!(required && root), "root can mount no file system: {output:?}");
        #[expect(clippy::print_stderr, reason = "a person must see that a test did not run")]
        {
            eprintln!("skipped: no file system can be mounted here");
        }
        None
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        // In small steps at the end, so that not one page is free.
        let file = self.0.join("filler");
        let fill = "cat /dev/zero >> \"$1\" 2>/dev/null; true";
        let done = Command::new("sh").args(["-c", fill, "sh"]).arg(file).status().unwrap();
        assert!(done.success());
    }

    /// Gives it back.
    fn empty(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }

    /// Makes it read-only, or writable again. Nobody may have a file of it open to write.
    fn set_read_only(&self, read_only: bool) {
        let how = if read_only { "remount,ro" } else { "remount,rw" };
        let done = Command::new("mount").args(["-o", how]).arg(&self.0).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still has a file open there keeps it until it is closed.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn read_id() -> String {
    let output = Command::new("id").arg("-u").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A replicator that runs while its disk is full for a while.
fn goes_on_by_itself(place: &Place, disk: &Disk) {
    let run = place.start("run --db disk/a.db");
    let last = |state: &str| run.out().lines().last().is_some_and(|line| line.starts_with(state));
    wait_for("it is in step", || last("in step"));
    disk.fill();
    for t in 0..20 {
        assert!(write(&place.open("hub.db"), "w", t));
    }
    wait_for("it says what is wrong", || {
        last("in trouble: the disk of the local database is full")
    });
    disk.empty();
    wait_for("it goes on by itself", || last("in step"));
    run.signal("-TERM");
    run.end().fine();
}

#[test]
fn f19_the_disk_of_a_replica_is_full() {
    let place = Place::with_desks(seed(), &["b.db"]);
    let Some(disk) = Disk::mount(&place.path("disk"), 4 << 20) else { return };
    place.init("disk/a.db").end().fine();
    let mut committed = Vec::new();
    let mut next = 0..;
    // With the application's connection open, and without: then not even reading is possible.
    for open in [true, false] {
        let db = place.open("disk/a.db");
        assert!(write(&db, "a", next.next().unwrap()));
        committed.push(next.start - 1);
        disk.fill();
        let mut room = 0;
        for t in next.by_ref().take(200) {
            if !write(&db, "a", t) {
                // The row and its events are both there, or neither.
                let row = format!("SELECT count(*) FROM payments WHERE id = 'a-{t}'");
                assert_eq!(read(&db, &row), "0");
                let event =
                    format!("SELECT count(*) FROM driftless_outbox WHERE pk = '[\"a-{t}\"]'");
                assert_eq!(read(&db, &event), "0");
                break;
            }
            committed.push(t);
            room += 1;
        }
        assert!(room < 200, "the disk is not full");
        let db = open.then_some(db);
        for t in 0..20 {
            assert!(write(&place.open("hub.db"), "w", 1_000 * next.start + t));
        }
        // The lock is free each time.
        for _ in 0..2 {
            let ended = place.sync("disk/a.db");
            ended.failed(6, "is full");
        }
        // Where it can be read, a replicator waits for room. Otherwise it cannot even begin.
        let mut run = place.start("run --db disk/a.db");
        wait_for("it says what is wrong", || {
            run.out().contains("is full") || run.err().contains("is full")
        });
        if !run.out().contains("is full") {
            assert_eq!(run.end().code, Some(6));
        } else {
            assert!(run.kill(), "it goes on");
        }
        disk.empty();
        if open {
            goes_on_by_itself(&place, &disk);
        }
        place.sync("disk/a.db").fine();
        nothing_is_left(&place.open("disk/a.db"), "a.db");
        drop(db);
    }
    place.settle(&["disk/a.db", "b.db"]);
    check(&place, &["disk/a.db", "b.db"], &[Written::of("a", "disk/a.db", committed)]);
}

#[test]
fn f19_the_disk_of_the_remote_is_full() {
    let mut place = Place::with_desks(seed(), &[]);
    let Some(disk) = Disk::mount(&place.path("disk"), 4 << 20) else { return };
    place.kill_hub();
    // The remote moves to the small disk.
    read(&place.open("hub.db"), "PRAGMA wal_checkpoint(TRUNCATE)");
    std::fs::copy(place.path("hub.db"), place.path("disk/hub.db")).unwrap();
    std::fs::remove_file(place.path("hub.db")).unwrap();
    std::os::unix::fs::symlink(place.path("disk/hub.db"), place.path("hub.db")).unwrap();
    place.start_hub();
    for desk in ["a.db", "b.db"] {
        place.init(desk).end().fine();
    }
    disk.fill();
    let db = place.open("a.db");
    for t in 0..200 {
        assert!(write(&db, "a", t));
    }
    let ended = place.sync("a.db");
    ended.failed(3, "is full");
    let events = "SELECT count(*), coalesce(sum(verdict = 'rejected'), 0) FROM driftless_events";
    assert_eq!(read(&place.open("hub.db"), events), "0|0", "all of a push, or nothing");
    disk.empty();
    place.settle(&["a.db", "b.db"]);
    let found = check(&place, &["a.db", "b.db"], &[Written::of("a", "a.db", 0..200)]);
    assert_eq!(found.lost, 0, "an event was recorded as rejected for want of room");
}

/// Without a file system of one's own: a file that may not grow gives another error.
#[test]
fn f19_a_file_that_may_not_grow() {
    let place = Place::with_desks(seed(), &["a.db", "b.db"]);
    for t in 0..40 {
        assert!(write(&place.open("hub.db"), "w", t));
    }
    // SIGXFSZ is ignored, so the write fails.
    let shell = "trap '' XFSZ; ulimit -f 80; exec \"$@\"";
    let ended = place.start_command(place.command_in(shell, "sync --db a.db")).end();
    ended.failed(6, "the disk of the local database failed");
    nothing_is_held(&place, "a.db");
    place.settle(&["a.db", "b.db"]);
    check(&place, &["a.db", "b.db"], &[Written::of("w", "hub.db", 0..40)]);
}

/// The application can write, so no lock stayed behind, and its write is captured.
fn nothing_is_held(place: &Place, desk: &str) {
    let db = place.open(desk);
    db.busy_timeout(std::time::Duration::ZERO).unwrap();
    assert_eq!(read(&db, "SELECT replaying FROM driftless_state"), "0");
    let events = "SELECT count(*) FROM driftless_outbox";
    let before = read(&db, events);
    db.execute_batch("BEGIN IMMEDIATE; UPDATE members SET name = 'x' WHERE id = 'm0'").unwrap();
    assert_ne!(read(&db, events), before);
    db.execute_batch("ROLLBACK").unwrap();
}

#[test]
fn a_folder_where_nothing_can_be_written() {
    let place = Place::with_desks(seed(), &["b.db"]);
    let Some(disk) = Disk::mount(&place.path("disk"), 16 << 20) else { return };
    place.init("disk/a.db").end().fine();
    assert!(write(&place.open("disk/a.db"), "a", 0));
    disk.set_read_only(true);
    for command in ["sync", "run", "conflicts", "status --offline"] {
        let ended = place.start(&format!("{command} --db disk/a.db")).end();
        ended.failed(6, "");
        assert!(
            ended.err.contains("read-only") || ended.err.contains("cannot be opened"),
            "{ended:#?}"
        );
    }
    let init = place.init_args("disk/new.db");
    place.start(&init).end().failed(6, "");
    disk.set_read_only(false);
    place.settle(&["disk/a.db", "b.db"]);
    check(&place, &["disk/a.db", "b.db"], &[Written::of("a", "disk/a.db", vec![0])]);
}
