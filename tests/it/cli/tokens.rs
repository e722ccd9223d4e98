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
    assert_eq!(folder.names("a.db"), ["a.db"], "nothing that was made for it is left");

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

/// A file that somebody else has made leads wherever they want, and the token of the environment does
/// not go there if it is said where it belongs.
#[test]
fn a_strangers_file_does_not_get_the_token() {
    let folder = Folder::new();
    token_file(&folder, "s3cret-of-the-hub\n");
    let hub = folder.hub("--auth-token-file token");
    folder.sql("a.db", TABLE);
    let with = |url: &str, args: &str| -> Ran {
        let mut command = folder.command(args);
        command.env("TURSO_AUTH_TOKEN", "s3cret-of-the-hub").env("TURSO_DATABASE_URL", url);
        super::ended(command.output().unwrap())
    };
    let init = format!("init --db a.db --remote {} --tables people", hub.url());
    let elsewhere = "libsql://gym.turso.io";
    with(elsewhere, &init).failed(4, "the one in TURSO_AUTH_TOKEN was not sent");
    with(&hub.url(), &init).fine();
    with(&hub.url(), "sync --db a.db").fine();
    let refused = with(elsewhere, "sync --db a.db");
    refused.failed(4, "the one in TURSO_AUTH_TOKEN was not sent");
    refused.failed(4, "TURSO_DATABASE_URL says that it is for another host");
    with(elsewhere, "run --db a.db").failed(4, "the one in TURSO_AUTH_TOKEN was not sent");
    let status = with(elsewhere, "status --db a.db");
    assert!(status.err.contains("was not sent"), "{status:?}");
    with(elsewhere, "sync --db a.db --auth-token-file token").fine();
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
    assert!(ran.err.contains("the token file token can be read or written by"), "{ran:?}");
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
        ran.failed(2, "can be read or written by");
        ran.failed(2, "hint: chmod 600 token");
    }
    let ran = folder.run("hub --db hub.db --listen 127.0.0.1:0 --auth-token-file none");
    ran.failed(2, "cannot read the token file none");
}

/// Reads a request to its end: a server that closes before it sends a reset.
fn read_request(stream: &mut std::net::TcpStream) -> Vec<u8> {
    let (mut request, mut part) = (Vec::new(), [0; 4096]);
    let whole = |request: &[u8]| {
        let text = String::from_utf8_lossy(request).to_lowercase();
        let (head, _) = text.split_once("\r\n\r\n")?;
        let length = head.split_once("content-length: ").and_then(|(_, rest)| rest.lines().next());
        Some(head.len() + 4 + length.map_or(0, |length| length.parse().unwrap()))
    };
    while whole(&request).is_none_or(|length| request.len() < length) {
        match stream.read(&mut part) {
            Ok(read @ 1..) => request.extend_from_slice(&part[..read]),
            _ => break,
        }
    }
    request
}

/// A server that gives every request the same answer.
fn server(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            read_request(&mut stream);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

/// What a server may answer that is none of ours, with the exit code and what is said of it.
const STRANGERS: [(&str, i32, &str); 10] = [
    ("HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnope", 4, "HTTP 404"),
    ("HTTP/1.1 501 Nope\r\ncontent-length: 0\r\n\r\n", 4, "HTTP 501"),
    (
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 17\r\n\r\n<p>PAGE-TEXT</p>\n",
        4,
        "does not answer like a libSQL server",
    ),
    (
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n{\"hello\":\"x\"}",
        4,
        "does not answer like a libSQL server",
    ),
    ("SSH-2.0-OpenSSH_9.2\r\n", 4, "does not answer like a libSQL server"),
    (
        "HTTP/1.1 301 Moved Permanently\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n",
        4,
        "redirects to another address (HTTP 301)",
    ),
    ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", 4, "refuses the token (HTTP 401)"),
    ("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", 4, "forbids this to the token"),
    ("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", 3, "answers HTTP 503"),
    ("", 3, "the connection to http://127.0.0.1"),
];

#[test]
fn a_stranger_is_refused_and_nothing_is_half_done() {
    let (replica, hub) = hub_and_replica();
    drop(hub);
    replica.sql("a.db", "UPDATE people SET name = 'ROW-VALUE' WHERE id = 1");
    let folder = Folder::new();
    // The journal that SQLite begins with, and that a first look must not change.
    let db = rusqlite::Connection::open(folder.path("a.db")).unwrap();
    db.execute_batch(TABLE).unwrap();
    drop(db);
    let before = std::fs::read(folder.path("a.db")).unwrap();
    for (answer, code, says) in STRANGERS {
        let url = server(answer);
        let settle = |folder: &Folder, args: &str| {
            let mut command = folder.command(args);
            let ran = command.env("DRIFTLESS_AUTH_TOKEN", "TOKEN-TEXT").output().unwrap();
            let ran = super::ended(ran);
            for secret in ["TOKEN-TEXT", "PAGE-TEXT", "ROW-VALUE"] {
                assert!(!(ran.out.clone() + &ran.err).contains(secret), "{ran:#?}");
            }
            assert!(ran.err.contains(says) && ran.err.contains("hint: "), "{answer}: {ran:#?}");
            ran
        };
        let init = format!("init --db a.db --remote {url} --tables people");
        settle(&folder, &init).failed(code, "error: ");
        assert!(std::fs::read(folder.path("a.db")).unwrap() == before, "{answer}");
        assert!(!folder.path("a.db-wal").exists() && !folder.path("a.db-journal").exists());

        let moved = format!("UPDATE driftless_settings SET value = '{url}' WHERE name = 'url'");
        replica.sql("a.db", &moved);
        settle(&replica, "sync --db a.db").failed(code, "error: ");
        // A remote that answers nonsense is no reason to worry yet.
        assert_eq!(settle(&replica, "status --db a.db").code, 0);
        let log = replica.run("log --db a.db --verdict pending").fine();
        assert!(log.contains("ROW-VALUE"), "it is still there to be pushed: {log}");
    }
    folder.run("status --db a.db").failed(2, "not a replica yet");
}

/// A way to a hub by which nothing can be written, as with a token that does not say so of itself.
fn read_only_way(hub: &str) -> String {
    const BLOCKED: &str = r#"{"message":"Operation was blocked: SQL write operations are forbidden","code":"BLOCKED"}"#;
    let hub = hub.strip_prefix("http://").unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request = String::from_utf8(read_request(&mut stream)).unwrap();
            let writes =
                ["CREATE ", "INSERT INTO", "UPDATE "].iter().any(|sql| request.contains(sql));
            if writes {
                let body = format!(
                    r#"{{"baton":null,"base_url":null,"results":[{{"type":"error","error":{BLOCKED}}}]}}"#
                );
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
                     connection: close\r\n\r\n{body}"
                );
                continue;
            }
            // One request a connection, so that the answer's end is the connection's.
            let request = request.replacen("\r\n", "\r\nconnection: close\r\n", 1);
            let Ok(mut there) = std::net::TcpStream::connect(&hub) else { continue };
            there.write_all(request.as_bytes()).unwrap();
            let _ = std::io::copy(&mut there, &mut stream);
        }
    });
    url
}

#[test]
fn a_remote_that_takes_no_writes_is_named_and_pulls_go_on() {
    let (replica, hub) = hub_and_replica();
    let way = read_only_way(&hub.url());
    let folder = Folder::new();
    folder.sql("b.db", TABLE);
    let before = std::fs::read(folder.path("b.db")).unwrap();
    let empty = folder.hub("");
    let init = format!("init --db b.db --remote {} --tables people", read_only_way(&empty.url()));
    let ran = folder.run(&init);
    ran.failed(4, "Operation was blocked");
    ran.failed(4, "hint: ");
    assert!(std::fs::read(folder.path("b.db")).unwrap() == before);
    folder.run("status --db b.db").failed(2, "not a replica yet");

    let moved = format!("UPDATE driftless_settings SET value = '{way}' WHERE name = 'url'");
    replica.sql("a.db", &moved);
    replica.sql("a.db", "UPDATE people SET phone = '33' WHERE id = 2");
    replica.sql("hub.db", "UPDATE people SET phone = '55' WHERE id = 1");
    replica.run("sync --db a.db").failed(4, "Operation was blocked");
    let log = replica.run("log --db a.db").fine();
    assert!(log.contains("phone: NULL → 55"), "{log}");
    assert!(log.lines().last().unwrap().contains("pending"), "{log}");
    let home = format!("UPDATE driftless_settings SET value = '{}' WHERE name = 'url'", hub.url());
    replica.sql("a.db", &home);
    assert!(replica.run("sync --db a.db").fine().starts_with("pushed 1 (1 applied)"));
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
    folder.sql("hub.db", "UPDATE driftless_meta SET version = 2");
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
