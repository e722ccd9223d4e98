//! Tokens, and remotes that do not want us.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::{Folder, Ran, hub_and_replica};

const TABLE: &str = "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)";

/// A file that its owner alone can read.
fn token_file(folder: &Folder, token: &str) {
    let path = folder.path("token");
    std::fs::write(&path, token).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn a_token_comes_from_a_file_or_the_environment() {
    let folder = Folder::new();
    token_file(&folder, "s3cret-of-the-hub\n");
    let hub = folder.hub("--auth-token-file token");
    folder.sql("a.db", TABLE);
    let init = format!("init --db a.db --remote {} --tables people", hub.url());
    let with = |variable: &str, token: &str, args: &str| -> Ran {
        super::ended(folder.command(args).env(variable, token).output().unwrap())
    };

    let none = folder.run(&init);
    none.failed(4, "refuses the token");
    none.failed(4, "none was given");
    none.failed(4, "set DRIFTLESS_AUTH_TOKEN, or name a file with --auth-token-file");
    let wrong = with("DRIFTLESS_AUTH_TOKEN", "of-another", &init);
    wrong.failed(4, "refuses the token");
    assert!(!wrong.err.contains("of-another") && !wrong.err.contains("none was given"));
    assert!(
        !folder.path("a.db-driftless-lock").exists() || folder.run("status --db a.db").code == 2
    );

    with("DRIFTLESS_AUTH_TOKEN", "s3cret-of-the-hub", &init).fine();
    with("TURSO_AUTH_TOKEN", "s3cret-of-the-hub", "sync --db a.db").fine();
    folder.run("sync --db a.db --auth-token-file token").fine();
    folder.run("sync --db a.db").failed(4, "none was given");
    folder.run("run --db a.db").failed(4, "none was given");
    let status = folder.run("status --db a.db");
    assert!(status.code == 0 && status.err.contains("none was given"), "{status:?}");
    assert!(status.out.contains("state  refused by the remote"), "{status:?}");
    for file in ["a.db", "a.db-wal", "hub.db", "hub.db-wal"] {
        let bytes = std::fs::read(folder.path(file)).unwrap_or_default();
        assert!(!bytes.windows(6).any(|window| window == b"s3cret"), "{file} holds the token");
    }
}

#[test]
fn a_token_that_may_only_read_is_refused_before_anything_is_made() {
    let folder = Folder::new();
    let hub = folder.hub("");
    folder.sql("a.db", TABLE);
    // The claims of a JSON Web Token: {"a":"ro"}.
    let args = format!("init --db a.db --remote {} --tables people", hub.url());
    let mut command = folder.command(&args);
    let ran = command.env("DRIFTLESS_AUTH_TOKEN", "x.eyJhIjoicm8ifQ.y").output().unwrap();
    super::ended(ran).failed(4, "is read-only");
    folder.run("status --db a.db").failed(2, "not a replica yet");
}

#[cfg(unix)]
#[test]
fn a_status_without_a_usable_token_asks_nobody_and_says_why() {
    use std::os::unix::fs::PermissionsExt;

    let (folder, _hub) = hub_and_replica();
    token_file(&folder, "s3cret");
    let everybody = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(folder.path("token"), everybody).unwrap();
    let ran = folder.run("status --db a.db --auth-token-file token");
    assert!(ran.err.contains("the token file token can be read or written by others"), "{ran:?}");
    assert!(ran.err.contains("hint: chmod 600 token") && !ran.err.contains("s3cret"), "{ran:?}");
    assert!(ran.out.contains("(not asked)") && !ran.out.contains("refused"), "{ran:?}");
    assert_eq!(ran.code, 0, "the last success is not long ago");
    folder.run("sync --db a.db --auth-token-file token").failed(2, "hint: chmod 600 token");
}

#[test]
fn a_hub_wants_its_token_file_private() {
    let folder = Folder::new();
    std::fs::write(folder.path("token"), "s3cret").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(folder.path("token"), open).unwrap();
        let ran = folder.run("hub --db hub.db --listen 127.0.0.1:0 --auth-token-file token");
        ran.failed(2, "can be read or written by others");
        ran.failed(2, "hint: chmod 600 token");
    }
    let ran = folder.run("hub --db hub.db --listen 127.0.0.1:0 --auth-token-file none");
    ran.failed(2, "cannot read the token file none");
}

/// A server that gives every request the same answer.
fn server(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn what_is_no_hrana_is_refused() {
    let folder = Folder::new();
    folder.sql("a.db", TABLE);
    for (answer, says) in [
        (
            "HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\nconnection: close\r\n\r\nnope",
            "HTTP 404",
        ),
        ("HTTP/1.1 501 Nope\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", "HTTP 501"),
        (
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\
             connection: close\r\n\r\n<html></html>",
            "does not answer like a libSQL server",
        ),
    ] {
        let ran =
            folder.run(&format!("init --db a.db --remote {} --tables people", server(answer)));
        ran.failed(4, says);
        folder.run("status --db a.db").failed(2, "not a replica yet");
    }
}

#[test]
fn a_newer_schema_is_refused_on_either_side() {
    let (folder, hub) = hub_and_replica();
    folder.sql("hub.db", "UPDATE driftless_meta SET version = 99");
    folder.run("sync --db a.db").failed(4, "version 99");
    folder.run(&format!("init --db b.db --remote {} --all-tables", hub.url())).failed(4, "update");
    assert!(!folder.path("b.db").exists(), "nothing half done");
    let status = folder.run("status --db a.db --json").json().remove(0);
    assert_eq!(status["state"], "refused");
    folder.sql("hub.db", "UPDATE driftless_meta SET version = 1");
    folder.run("sync --db a.db").fine();

    folder.sql("a.db", "UPDATE driftless_settings SET value = 99 WHERE name = 'version'");
    folder.run("sync --db a.db").failed(6, "newer driftless");
}

#[test]
fn another_database_behind_the_url_is_refused() {
    let (folder, hub) = hub_and_replica();
    folder.sql("hub.db", "UPDATE driftless_meta SET epoch = '01JD8ZK3V5QWERTY0123456789'");
    folder.sql("a.db", "UPDATE people SET phone = '44' WHERE id = 1");
    folder.run("sync --db a.db").failed(4, "another database");
    let status = folder.run("status --db a.db");
    assert!(status.code == 0 && status.err.contains("another database"), "{status:?}");
    folder.run(&format!("init --db a.db --remote {} --all-tables", hub.url())).failed(4, "another");
    let pending = folder.run("log --db a.db --verdict pending --json").json();
    assert_eq!(pending.len(), 1, "it waits here");
}
