//! F54 to F57 and F72: what happens to the file, and to the parent, of a program that runs.
#![cfg(unix)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use rusqlite::Connection;

use super::account::check;
use super::place::{Place, Program};
use super::writers::{Written, write};
use super::{seed, wait_for};
use crate::support::local_remote::read;

const PENDING: &str = "SELECT count(*) FROM driftless_outbox WHERE NOT settled";
const CURSOR: &str = "SELECT cursor FROM driftless_state";
const HEAD: &str = "SELECT max(seq) FROM driftless_events";

fn writes(place: &Place, file: &str, name: &str, transactions: std::ops::Range<u64>) {
    let db = place.open(file);
    for t in transactions {
        assert!(write(&db, name, t));
    }
}

/// Everything is pushed and pulled, by whoever runs.
fn wait_until_equal(place: &Place, desk: &str) {
    let (desk, hub) = (place.open(desk), place.open("hub.db"));
    wait_for("the desk is in step", || {
        read(&desk, PENDING) == "0" && read(&desk, CURSOR) == read(&hub, HEAD)
    });
}

/// Copies a database by SQLite's own means, into another one that may be open.
fn backup(place: &Place, from: &str, to: &str) {
    let (from, mut to) = (place.open(from), Connection::open(place.path(to)).unwrap());
    let backup = rusqlite::backup::Backup::new(&from, &mut to).unwrap();
    backup.run_to_completion(100, std::time::Duration::from_millis(1), None).unwrap();
}

/// The last status that a `run --json` has printed.
fn last(run: &Program) -> serde_json::Value {
    let out = run.out();
    let whole = out.rsplit_once('\n').map_or("", |(whole, _)| whole);
    serde_json::from_str(whole.lines().last().unwrap_or("null")).unwrap()
}

fn wait_for_trouble(run: &Program, says: &str) {
    wait_for(says, || last(run)["trouble"].as_str().is_some_and(|trouble| trouble.contains(says)));
    assert_ne!(last(run)["health"], "ok");
}

#[test]
fn f54_restored_in_place_while_it_runs() {
    let place = Place::with_desks(seed(), &["a.db", "b.db"]);
    let run = place.start("run --db a.db --json");
    writes(&place, "a.db", "a", 0..3);
    wait_until_equal(&place, "a.db");
    backup(&place, "a.db", "backup.db");
    writes(&place, "a.db", "a", 3..8);
    writes(&place, "hub.db", "w", 0..3);
    wait_until_equal(&place, "a.db");
    backup(&place, "backup.db", "a.db");
    writes(&place, "a.db", "a", 8..9);
    writes(&place, "hub.db", "w", 3..4);
    wait_until_equal(&place, "a.db");
    // And forward again.
    backup(&place, "a.db", "later.db");
    writes(&place, "a.db", "a", 9..11);
    wait_until_equal(&place, "a.db");
    backup(&place, "later.db", "a.db");
    writes(&place, "a.db", "a", 11..12);
    wait_until_equal(&place, "a.db");
    drop(run);
    place.settle(&["a.db", "b.db"]);
    let written = [Written::of("a", "a.db", 0..12), Written::of("w", "hub.db", 0..4)];
    check(&place, &["a.db", "b.db"], &written);
}

#[test]
fn f55_deleted_and_replaced_while_it_runs() {
    let place = Place::with_desks(seed(), &["a.db", "b.db"]);
    let run = place.start("run --db a.db --json");
    writes(&place, "a.db", "a", 0..3);
    wait_until_equal(&place, "a.db");
    backup(&place, "a.db", "copy.db");
    writes(&place, "a.db", "a", 3..5);
    wait_until_equal(&place, "a.db");
    // What belongs to it stays.
    std::fs::remove_file(place.path("a.db")).unwrap();
    wait_for_trouble(&run, "is gone");
    writes(&place, "copy.db", "a", 5..7);
    writes(&place, "hub.db", "w", 0..2);
    place.sync("copy.db").fine();
    backup(&place, "copy.db", "new.db");
    std::fs::rename(place.path("new.db"), place.path("a.db")).unwrap();
    wait_until_equal(&place, "a.db");
    assert_eq!(read(&place.open("a.db"), "PRAGMA integrity_check"), "ok");
    wait_for("it says so", || last(&run)["trouble"].is_null());
    place.sync("a.db").failed(2, "another replicator is working");
    drop(run);
    place.settle(&["a.db", "b.db"]);
    let written = [Written::of("a", "a.db", 0..7), Written::of("w", "hub.db", 0..2)];
    check(&place, &["a.db", "b.db"], &written);
}

#[test]
fn f55_a_lock_on_a_file_that_is_gone_keeps_nobody_out() {
    let place = Place::with_desks(seed(), &["a.db"]);
    let other = Place::with_desks(1, &["c.db"]);
    writes(&other, "c.db", "c", 0..2);
    let run = place.start("run --db a.db --json");
    wait_for("it is in step", || last(&run)["state"] == "in_step");
    // A replica of another remote is put in its place: `run` does not go on with it.
    std::fs::remove_file(place.path("a.db")).unwrap();
    let copy = format!("VACUUM INTO '{}'", place.path("a.db").display());
    other.open("c.db").execute_batch(&copy).unwrap();
    wait_for_trouble(&run, "replica of another remote");
    place.sync("a.db").fine();
    assert_eq!(read(&other.open("hub.db"), "SELECT count(*) FROM payments"), "2");
    assert_eq!(read(&place.open("hub.db"), "SELECT count(*) FROM payments"), "0");
}

#[test]
fn f56_one_replicator_by_whatever_name() {
    let place = Place::with_desks(seed(), &["a.db"]);
    let folder = place.folder.path();
    std::fs::create_dir(folder.join("inner")).unwrap();
    std::os::unix::fs::symlink("a.db", folder.join("link.db")).unwrap();
    std::os::unix::fs::symlink("../link.db", folder.join("inner/link.db")).unwrap();
    std::fs::hard_link(folder.join("a.db"), folder.join("hard.db")).unwrap();
    std::fs::hard_link(folder.join("a.db"), folder.join("inner/hard.db")).unwrap();
    let absolute = folder.join("a.db").display().to_string();
    let names = [
        "a.db",
        "./a.db",
        "inner/../a.db",
        &absolute,
        "link.db",
        "inner/link.db",
        "hard.db",
        "inner/hard.db",
    ];
    for held in ["a.db", "link.db", "hard.db"] {
        let mut run = place.start(&format!("run --db {held} --json"));
        wait_for("it runs", || last(&run)["state"] == "in_step");
        for name in names {
            place.sync(name).failed(2, "another replicator is working");
            let (_, status) = place.status(name);
            assert_eq!(status["process"], last(&run)["process"], "{name}");
        }
        run.kill();
        // A process that is killed leaves no lock.
        place.sync("a.db").fine();
    }
}

#[test]
fn f57_the_application_has_a_transaction_open() {
    let place = Place::with_desks(seed(), &["a.db", "b.db"]);
    // What is pending needs the lock.
    writes(&place, "a.db", "a", 0..2);
    let db = place.open("a.db");
    db.execute_batch("BEGIN IMMEDIATE; INSERT INTO members VALUES ('m-held', 'new', NULL)")
        .unwrap();
    let mut run = place.start("run --db a.db --json");
    wait_for_trouble(&run, "another program has a transaction open");
    assert_eq!(last(&run)["state"], "starting");
    // `status` says the same at that moment.
    let (_, told) = place.status("a.db");
    let said = last(&run);
    for field in ["state", "trouble", "code", "health", "pending"] {
        assert_eq!(told[field], said[field], "{field}: {told}");
    }
    assert_eq!(told["process"], run.process(), "{told}");
    let mut plain = place.start("run --db a.db");
    wait_for("it says what for", || plain.err().contains("waiting for the write lock of a.db"));
    // Nothing is left of the wait when it is asked to stop.
    plain.signal("-TERM");
    wait_for("it stops", || !plain.lives());
    // SQLite's own patience is over.
    std::thread::sleep(std::time::Duration::from_secs(6));
    assert!(run.lives(), "{}", run.err());
    db.execute_batch("COMMIT").unwrap();
    wait_until_equal(&place, "a.db");
    wait_for("it says so", || last(&run)["trouble"].is_null());
    drop(run);
    place.settle(&["a.db", "b.db"]);
    let held = "SELECT count(*) FROM members WHERE id = 'm-held'";
    assert_eq!(read(&place.open("b.db"), held), "1");
}

/// Starts `run --until-stdin-closes` by a shell, which keeps the other end of the pipe, and gives
/// the shell and the program's number.
fn child_of_a_shell(place: &Place) -> (std::process::Child, u32) {
    let mut shell = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_driftless");
    // The shell's own standard input is the pipe's other end for as long as it lives.
    let script = format!(
        "mkfifo life; {program} run --db a.db --json --until-stdin-closes <life >run.out 2>run.err &
         exec 9>life; echo $!; while :; do sleep 1; done 9>&-"
    );
    shell.args(["-c", &script]).current_dir(place.folder.path());
    let mut shell = shell.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (shell, line.trim().parse().unwrap())
}

/// Whether there is a process of this number that has not ended.
fn lives(process: u32) -> bool {
    let found = Command::new("ps").args(["-o", "stat=", "-p", &process.to_string()]).output();
    let found = String::from_utf8(found.unwrap().stdout).unwrap();
    !found.trim().is_empty() && !found.trim().starts_with('Z')
}

#[test]
fn f72_it_ends_with_its_parent_however_that_ends() {
    let place = Place::with_desks(seed(), &["a.db"]);
    for locked in [false, true] {
        let (mut shell, process) = child_of_a_shell(&place);
        let out = || std::fs::read_to_string(place.path("run.out")).unwrap_or_default();
        wait_for("it is in step", || out().contains("in_step"));
        let db = place.open("a.db");
        if locked {
            // It waits for a lock, for longer than it may go on.
            writes(&place, "a.db", "a", 0..1);
            db.execute_batch("BEGIN IMMEDIATE").unwrap();
            write_behind(&place);
        }
        assert!(lives(process));
        shell.kill().unwrap();
        shell.wait().unwrap();
        wait_for("it ends", || !lives(process));
        let _ = std::fs::remove_file(place.path("life"));
    }
}

/// The web writes what is to be pulled.
fn write_behind(place: &Place) {
    writes(place, "hub.db", "w", 0..1);
}

#[test]
fn f72_it_ends_when_its_pipe_is_closed_and_takes_nothing_else_for_one() {
    let place = Place::with_desks(seed(), &["a.db"]);
    let mut command = place.command("run --db a.db --until-stdin-closes");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut life = child.stdin.take().unwrap();
    // What is written to it says nothing.
    life.write_all(b"hello\n").unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("replicating"));
    assert!(child.try_wait().unwrap().is_none());
    drop(life);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    assert_eq!(rest.last().map(String::as_str), Some("stopped"), "{rest:?}");
    // An empty device would end it at once, and nobody would know why.
    place.start("run --db a.db --until-stdin-closes").end().failed(2, "is not a pipe");
}
