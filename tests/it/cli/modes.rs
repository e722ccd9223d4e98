//! Who may read the files that are made.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use super::{Folder, Running};

const TABLE: &str = "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)";

/// The modes of the files whose names begin so.
fn modes(folder: &Folder, start: &str) -> Vec<(String, u32)> {
    let mode = |name: &String| {
        let metadata = std::fs::metadata(folder.path(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    folder.names(start).into_iter().map(|name| (name.clone(), mode(&name))).collect()
}

#[track_caller]
fn all(folder: &Folder, start: &str, least: usize, mode: u32) {
    let found = modes(folder, start);
    assert!(found.len() >= least && found.iter().all(|(_, other)| *other == mode), "{found:?}");
}

/// A command under the most open umask that there is.
fn open(folder: &Folder, args: &str) -> std::process::Command {
    let command = folder.command(args);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(command.get_program());
    shell.args(command.get_args()).current_dir(folder.path(""));
    shell
}

#[test]
fn what_the_command_makes_is_its_owners_alone() {
    let folder = Folder::new();
    let hub = Running::start(&mut open(&folder, "hub --db hub.db --listen 127.0.0.1:0"));
    folder.sql("hub.db", TABLE);
    all(&folder, "hub.db", 3, 0o600);
    let args = format!("init --db new.db --remote {} --all-tables", hub.url());
    super::ended(open(&folder, &args).output().unwrap()).fine();
    super::ended(open(&folder, "sync --db new.db").output().unwrap()).fine();
    all(&folder, "new.db", 2, 0o600);
}

#[test]
fn what_is_there_keeps_its_mode_and_what_is_beside_it_has_it() {
    let folder = Folder::new();
    let hub = folder.hub("");
    for (name, mode) in [("group.db", 0o660), ("all.db", 0o644), ("own.db", 0o600)] {
        folder.sql(name, TABLE);
        std::fs::set_permissions(folder.path(name), Permissions::from_mode(mode)).unwrap();
        let args = format!("init --db {name} --remote {} --tables people", hub.url());
        super::ended(open(&folder, &args).output().unwrap()).fine();
        let mut run = Running::start(&mut open(&folder, &format!("run --db {name}")));
        assert!(run.first.contains("in step") || !run.until("in step").is_empty());
        all(&folder, name, 4, mode);
    }
}
