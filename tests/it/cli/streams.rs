//! Data on stdout, words on stderr, colour where it is wanted, and JSON that is JSON.

use super::hub_and_replica;

/// The byte with which a terminal's commands begin.
const ESCAPE: char = '\u{1b}';

#[test]
fn colour_is_for_terminals() {
    let (folder, _hub) = hub_and_replica();
    for args in ["status --db a.db", "log --db a.db", "--help", "status --db none.db"] {
        let plain = super::ended(folder.command(args).output().unwrap());
        assert!(!(plain.out + &plain.err).contains(ESCAPE), "{args}");
        let forced = folder.command(args).env("CLICOLOR_FORCE", "1").output().unwrap();
        let forced = super::ended(forced);
        assert!((forced.out + &forced.err).contains(ESCAPE), "{args}");
        let refused = folder.command(args).env("NO_COLOR", "1").output().unwrap();
        let refused = super::ended(refused);
        assert!(!(refused.out + &refused.err).contains(ESCAPE), "{args}");
    }
}

#[test]
fn a_row_cannot_repaint_the_screen() {
    let (folder, _hub) = hub_and_replica();
    folder.sql("a.db", "UPDATE people SET name = char(27) || '[2J' || char(10) WHERE id = 1");
    let log = folder.run("log --db a.db --verdict pending").fine();
    assert!(!log.contains(ESCAPE) && log.contains("\\u{1b}[2J\\n"), "{log}");
    let id = folder.run("log --db a.db --verdict pending --json").json()[0]["id"].clone();
    let show = folder.run(&format!("show --db a.db {}", id.as_str().unwrap())).fine();
    assert!(!show.contains(ESCAPE) && show.contains("\\u{1b}[2J\\n"), "{show}");
}

#[test]
fn a_name_on_the_remote_cannot_repaint_the_screen() {
    let folder = super::Folder::new();
    folder.sql(
        "hub.db",
        "CREATE TABLE \"a\u{1b}[2J\" (id TEXT PRIMARY KEY); CREATE TABLE b (id TEXT PRIMARY KEY)",
    );
    let hub = folder.hub("");
    let init = format!("init --db a.db --remote {} --all-tables", hub.url());
    // What is printed for a terminal is not cleaned of a terminal's commands once more.
    let init = folder.command(&init).env("CLICOLOR_FORCE", "1").output().unwrap();
    let init = super::ended(init);
    assert!(!(init.out.clone() + &init.err).contains("\u{1b}[2J"), "{init:?}");
    assert!(init.out.contains("made here  a\\u{1b}[2J, b"), "{init:?}");
}

#[test]
fn status_is_one_object_with_every_field() {
    let (folder, hub) = hub_and_replica();
    folder.sql("a.db", "UPDATE people SET phone = '44' WHERE id = 1");
    let status = folder.run("status --db a.db --json").json().remove(0);
    for field in ["replica", "state", "cursor", "lag", "last_success", "health"] {
        assert!(!status[field].is_null(), "{field}: {status}");
    }
    assert_eq!(status["remote"]["url"], hub.url());
    assert_eq!(status["remote"]["reachable"], true);
    assert!(status["remote"]["epoch"].is_string());
    let counts = ["pending", "oldest_pending_s", "conflicts", "quarantined"];
    let counts = counts.map(|field| status[field].as_u64().expect(field));
    assert_eq!((counts[0], counts[2], counts[3]), (1, 0, 0));

    drop(hub);
    let status = folder.run("status --db a.db --json").json().remove(0);
    assert_eq!(status["remote"]["reachable"], false);
    assert_eq!(status["state"], "offline");
    let status = folder.run("status --db a.db --json --offline").json().remove(0);
    assert!(status["remote"]["reachable"].is_null());
}

#[test]
fn sync_is_one_object_with_every_field() {
    let (folder, _hub) = hub_and_replica();
    folder.sql("a.db", "UPDATE people SET phone = '44' WHERE id = 1");
    let lines = folder.run("sync --db a.db --json").json();
    assert_eq!(lines.len(), 1);
    let figures = ["pushed", "applied", "superseded", "rejected", "pulled"];
    assert_eq!(figures.map(|figure| lines[0][figure].as_u64().unwrap()), [1, 1, 0, 0, 0]);
    for figure in ["requests", "bytes_up", "bytes_down"] {
        assert!(lines[0][figure].as_u64().unwrap() > 0, "{figure}");
    }
    assert!(lines[0]["seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn verbose_tells_of_tables_and_never_of_values_or_tokens() {
    let (folder, _hub) = hub_and_replica();
    folder.sql("a.db", "UPDATE people SET phone = 'a secret number' WHERE id = 1");
    let mut command = folder.command("sync --db a.db -vvv");
    let ran = super::ended(command.env("DRIFTLESS_AUTH_TOKEN", "a.secret.token").output().unwrap());
    assert!(ran.err.contains("TRACE") || ran.err.contains("DEBUG"), "{ran:?}");
    assert!(!ran.err.contains("secret"), "{}", ran.err);
}

#[test]
fn a_file_that_is_locked_for_long_is_named() {
    let (folder, hub) = hub_and_replica();
    let holder = rusqlite::Connection::open(folder.path("a.db")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let ran = folder.run(&format!("init --db a.db --remote {} --all-tables", hub.url()));
    ran.failed(6, "locked by another program for more than 5 s");
    ran.failed(6, "a.db");
    holder.execute_batch("ROLLBACK").unwrap();
    folder.run("sync --db a.db").fine();
}

#[test]
fn a_damaged_file_is_named() {
    let (folder, hub) = hub_and_replica();
    drop(hub);
    let path = folder.path("a.db");
    let mut bytes = std::fs::read(&path).unwrap();
    for byte in &mut bytes[4096..] {
        *byte ^= 0x5a;
    }
    std::fs::write(&path, &bytes).unwrap();
    for args in ["status --db a.db", "log --db a.db", "sync --db a.db", "conflicts --db a.db"] {
        folder.run(args).failed(6, "a.db: the local database is damaged");
    }
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing was written to it");
}

#[cfg(unix)]
#[test]
fn a_read_only_file_is_named() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;

    /// Who owns nothing, where the test is root, who may write everywhere.
    const NOBODY: u32 = 65_534;
    let (folder, hub) = hub_and_replica();
    let mode = |file: &str, mode: u32| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(folder.path(file), mode).unwrap();
    };
    let open = || std::fs::OpenOptions::new().write(true).open(folder.path("a.db"));
    let init = format!("init --db a.db --remote {} --all-tables", hub.url());
    let before = std::fs::read(folder.path("a.db")).unwrap();
    // The file alone, and then the folder too.
    for folder_mode in [0o777, 0o555] {
        mode("a.db", 0o444);
        mode(".", folder_mode);
        for args in ["sync --db a.db", "run --db a.db", "status --db a.db --offline", &init] {
            let mut command = folder.command(args);
            if open().is_ok() {
                command.uid(NOBODY);
            }
            let ran = match command.output() {
                Ok(output) => super::ended(output),
                Err(error) => {
                    #[expect(clippy::print_stderr, reason = "a person must see that")]
                    {
                        eprintln!("skipped: nobody cannot run the program: {error}");
                    }
                    return;
                }
            };
            let says = if ran.err.contains("read-only") { "read-only" } else { "must be writable" };
            ran.failed(6, says);
            ran.failed(6, "hint: ");
        }
        assert!(std::fs::read(folder.path("a.db")).unwrap() == before);
    }
    mode(".", 0o755);
}
