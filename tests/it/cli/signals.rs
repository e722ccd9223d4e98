//! What ends a command: signals, a reader that goes, another command on the same file.
#![cfg(unix)]

use std::process::Stdio;

use super::{Folder, Running, hub_and_replica};

#[test]
fn a_hub_says_where_it_listens_and_stops_in_order() {
    for signal in ["-INT", "-TERM"] {
        let (folder, hub) = hub_and_replica();
        assert!(hub.first.starts_with("listening on http://127.0.0.1:"), "{}", hub.first);
        hub.signal(signal);
        let ran = hub.end();
        assert_eq!((ran.code, ran.out.as_str()), (0, ""));
        assert!(ran.err.contains("for development") || ran.err.contains("For development"));
        assert!(!folder.path("hub.db-wal").exists(), "the database is whole");
    }
}

#[test]
fn a_second_run_stands_by_and_takes_over() {
    let (folder, _hub) = hub_and_replica();
    let first = Running::start(&mut folder.command("run --db a.db"));
    assert!(first.first.starts_with("in step"), "{}", first.first);
    let mut second = Running::start(&mut folder.command("run --db a.db"));
    let process = format!("process {}", first.process());
    let says = format!("standing by: {process} replicates; cursor 2");
    assert_eq!(second.first, says, "health is the replica's, and well");
    let status = folder.run("status --db a.db");
    assert!(status.fine().contains(&format!("in step; {process} replicates\n")));
    assert_eq!(folder.run("status --db a.db --json").json()[0]["process"], first.process());
    folder.run("sync --db a.db").failed(2, &format!("working on a.db ({process})"));
    folder.run("init --db a.db --remote http://127.0.0.1:1 --all-tables").failed(2, "another");

    first.signal("-INT");
    let ran = first.end();
    assert!(ran.code == 0 && ran.err.ends_with("stopped\n"), "{ran:?}");
    second.until("in step");
    folder.sql("a.db", "UPDATE people SET phone = '33' WHERE id = 2");
    // It is pushed without anybody's asking; whoever looks too early sees it pending.
    while folder.run("log --db a.db --verdict pending").out.contains("33") {}
    assert!(folder.run("log --db a.db --verdict applied").fine().contains("phone: 22 → 33"));
    second.signal("-TERM");
    assert_eq!(second.end().code, 0);
}

#[test]
fn run_goes_on_when_the_remote_comes_back() {
    let (folder, hub) = hub_and_replica();
    let address = hub.url().replace("http://", "");
    let mut run = Running::start(&mut folder.command("run --db a.db"));
    drop(hub);
    folder.sql("a.db", "UPDATE people SET phone = '33' WHERE id = 2");
    let line = run.until("offline");
    assert!(line.contains("1 pending"), "{line}");
    let args = format!("hub --db hub.db --listen {address}");
    let _hub = Running::start(&mut folder.command(&args));
    run.until("in step");
    assert!(folder.run("log --db a.db --verdict applied").fine().contains("phone: 22 → 33"));
    run.signal("-INT");
    assert_eq!(run.end().code, 0);
}

#[test]
fn follow_shows_what_comes_and_ends_well() {
    let (folder, _hub) = hub_and_replica();
    let mut log = Running::start(&mut folder.command("log --db a.db --follow"));
    log.until("name=Bob");
    folder.sql("a.db", "UPDATE people SET phone = '44' WHERE id = 1");
    assert!(log.until("phone: NULL → 44").contains("pending"));
    folder.run("sync --db a.db").fine();
    assert!(log.until("phone: NULL → 44").contains("applied"));
    log.signal("-INT");
    let ran = log.end();
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
}

#[test]
fn a_reader_that_goes_is_no_error() {
    let (folder, _hub) = hub_and_replica();
    let mut command = folder.command("log --db a.db");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn an_interrupted_sync_says_so_and_loses_nothing() {
    // A server that accepts and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (folder, hub) = hub_and_replica();
    folder.sql("a.db", "UPDATE people SET phone = '44' WHERE id = 1");
    let url = format!("http://{}", silent.local_addr().unwrap());
    folder
        .sql("a.db", &format!("UPDATE driftless_settings SET value = '{url}' WHERE name = 'url'"));
    let mut command = folder.command("sync --db a.db");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Its request is here: it is at work.
    silent.accept().unwrap();
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let ran = super::ended(child.wait_with_output().unwrap());
    ran.failed(130, "interrupted: the work so far is kept");
    let url = hub.url();
    folder
        .sql("a.db", &format!("UPDATE driftless_settings SET value = '{url}' WHERE name = 'url'"));
    assert!(folder.run("sync --db a.db").fine().starts_with("pushed 1 (1 applied)"));
}

#[test]
fn an_interrupted_first_contact_leaves_the_file_as_it_was() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = Folder::new();
    let db = rusqlite::Connection::open(folder.path("a.db")).unwrap();
    db.execute_batch("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)").unwrap();
    drop(db);
    let before = std::fs::read(folder.path("a.db")).unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    for signal in ["-INT", "-TERM", "-HUP"] {
        let mut command = folder.command(&format!("init --db a.db --remote {url} --all-tables"));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Its request is here: it is at work.
        let stream = silent.accept().unwrap();
        let pid = child.id().to_string();
        let kill = std::process::Command::new("kill").args([signal, &pid]).status();
        assert!(kill.unwrap().success());
        super::ended(child.wait_with_output().unwrap()).failed(130, "interrupted");
        drop(stream);
        assert!(std::fs::read(folder.path("a.db")).unwrap() == before, "{signal}");
        assert!(!folder.path("a.db-journal").exists() && !folder.path("a.db-wal").exists());
    }
}

#[test]
fn an_interrupted_demo_says_where_its_files_are() {
    let folder = Folder::new();
    let demo = Running::start(&mut folder.command("demo --dir here"));
    assert!(!demo.first.is_empty(), "it tells what it does");
    demo.signal("-INT");
    let ran = demo.end();
    assert_eq!(ran.code, 130, "{ran:?}");
    assert!(ran.err.contains("interrupted; the databases are in here"), "{ran:?}");
    assert!(folder.path("here").is_dir());
}
