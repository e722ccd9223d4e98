//! `run`: what it says, and what `status` says at the same moment; a token that is rotated.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value as Json;

use super::{Folder, LOOK, PATIENCE, Running, hub_and_replica};

/// A `run --json` whose lines are collected while it runs.
struct Told {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Option<(JoinHandle<()>, JoinHandle<String>)>,
}

impl Told {
    fn start(folder: &Folder, more: &str) -> Told {
        let mut command = folder.command(&format!("run --db a.db --json {more}"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut err = child.stderr.take().unwrap();
        let mut first = String::new();
        out.read_line(&mut first).unwrap();
        let lines = Arc::new(Mutex::new(vec![first]));
        let shared = Arc::clone(&lines);
        let said = std::thread::spawn(move || {
            let mut said = String::new();
            err.read_to_string(&mut said).unwrap();
            said
        });
        let heard = std::thread::spawn(move || {
            for line in out.lines() {
                shared.lock().unwrap().push(line.unwrap());
            }
        });
        Told { child, lines, readers: Some((heard, said)) }
    }

    fn lines(&self) -> Vec<Json> {
        let lines = self.lines.lock().unwrap();
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn last(&self) -> Json {
        self.lines().pop().unwrap()
    }

    /// Waits until the newest line is such a one.
    #[track_caller]
    fn until(&self, what: &str, is: impl Fn(&Json) -> bool) -> Json {
        let mut looks = 0;
        loop {
            let last = self.last();
            if is(&last) {
                return last;
            }
            assert!(LOOK * looks < PATIENCE, "waited in vain for {what}: {last:#}");
            looks += 1;
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until the newest line and `status` say the same, with and without asking.
    #[track_caller]
    fn agrees(&self, folder: &Folder, is: impl Fn(&Json) -> bool) -> Json {
        let mut looks = 0;
        loop {
            let mut status = Vec::new();
            for args in ["status --db a.db --json", "status --db a.db --json --offline"] {
                status.push(serde_json::from_str(&folder.run(args).out).unwrap());
            }
            let line = self.last();
            let differ: Vec<_> =
                status.iter().flat_map(|status| differences(&line, status)).collect();
            if differ.is_empty() && is(&line) {
                return line;
            }
            assert!(LOOK * looks < PATIENCE, "they differ: {differ:#?}, {line:#}");
            looks += 1;
        }
    }

    /// Ends it in order. Gives its lines and what it said.
    fn end(mut self) -> (Vec<Json>, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        let (heard, said) = self.readers.take().unwrap();
        heard.join().unwrap();
        (self.lines(), said.join().unwrap())
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        // It has ended, perhaps.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The fields that are not the same. An age goes on while nobody looks.
fn differences(one: &Json, other: &Json) -> Vec<String> {
    let fields = |status: &Json| -> BTreeMap<String, Json> {
        let mut fields: BTreeMap<_, _> = status.as_object().unwrap().clone().into_iter().collect();
        if let Some(age) = fields.get_mut("oldest_pending_s") {
            *age = Json::from(!age.is_null());
        }
        fields
    };
    let (one, other) = (fields(one), fields(other));
    let names = one.keys().chain(other.keys());
    let differ = names.filter(|name| one.get(*name) != other.get(*name));
    differ.map(|name| format!("{name}: {:?} and {:?}", one.get(name), other.get(name))).collect()
}

fn is(line: &Json, field: &str, value: impl Into<Json>) -> bool {
    line[field] == value.into()
}

/// F71. One type, one place that makes it: whatever happens, both say it.
#[test]
fn f71_run_and_status_say_the_same() {
    let (folder, hub) = hub_and_replica();
    let address = hub.url().replace("http://", "");
    let restart =
        || Running::start(&mut folder.command(&format!("hub --db hub.db --listen {address}")));
    let told = Told::start(&folder, "");
    told.agrees(&folder, |line| is(line, "state", "in_step") && is(line, "health", "ok"));
    // It goes on by itself: the cursor, and the last success.
    folder.sql("hub.db", "INSERT INTO people VALUES (3, 'Cid', NULL)");
    let line = told.agrees(&folder, |line| is(line, "cursor", 3));
    let later = told.until("a later success", |next| {
        next["last_success"].as_i64() > line["last_success"].as_i64()
    });
    assert_eq!(later["health"], "ok");

    drop(hub);
    folder.sql("a.db", "UPDATE people SET phone = '1' WHERE id = 1");
    let line = told.agrees(&folder, |line| is(line, "state", "offline") && is(line, "pending", 1));
    assert_eq!((&line["health"], line["trouble"].is_string()), (&"degraded".into(), true));
    folder.sql("hub.db", "UPDATE people SET phone = '2' WHERE id = 1");
    let hub = restart();
    let line =
        told.agrees(&folder, |line| is(line, "conflicts", 1) && is(line, "state", "in_step"));
    assert_eq!((&line["pending"], line["trouble"].is_null()), (&0.into(), true));

    // What cannot be applied here waits, and is said.
    folder.sql("hub.db", "INSERT INTO people VALUES (9, 'Zoe', NULL)");
    told.agrees(&folder, |line| is(line, "cursor", 6));
    folder.sql("a.db", "CREATE UNIQUE INDEX one_name ON people (name)");
    folder.sql("hub.db", "INSERT INTO people VALUES (10, 'Zoe', NULL)");
    told.agrees(&folder, |line| is(line, "quarantined", 1) && is(line, "state", "in_step"));
    // Many small changes, and then none: the last one is told.
    for id in 20..60 {
        folder.sql("a.db", &format!("INSERT INTO people VALUES ({id}, 'n{id}', NULL)"));
    }
    told.agrees(&folder, |line| is(line, "pending", 0) && is(line, "cursor", 47));
    drop(hub);
    told.agrees(&folder, |line| is(line, "state", "offline"));

    let (lines, said) = told.end();
    assert!(said.trim_end().ends_with(r#"{"note":"stopped"}"#), "{said}");
    let last = lines.last().unwrap();
    let ended = serde_json::json!({"reason": "signal", "exit_code": 0});
    assert_eq!((&last["state"], &last["ended"]), (&"stopped".into(), &ended));
    assert_eq!(
        (&last["cursor"], &last["conflicts"], &last["quarantined"]),
        (&47.into(), &1.into(), &1.into())
    );
    assert!(folder.names("a.db-driftless-status").is_empty(), "nobody says anything any more");
}

/// What may happen to a replica, drawn by chance.
struct Chance<'a> {
    folder: &'a Folder,
    random: fastrand::Rng,
    address: String,
    hub: Option<Running>,
    rows: u32,
}

impl Chance<'_> {
    fn start_hub(&mut self) {
        let args = format!("hub --db hub.db --listen {}", self.address);
        self.hub = Some(Running::start(&mut self.folder.command(&args)));
    }

    fn step(&mut self) -> &'static str {
        self.rows += 1;
        let (new, old) = (100 + self.rows, self.random.u32(1..3));
        match self.random.u32(0..7) {
            0 => self.folder.sql("a.db", &format!("INSERT INTO people VALUES ({new}, 'a', NULL)")),
            1 => {
                self.folder.sql("hub.db", &format!("INSERT INTO people VALUES ({new}, 'w', NULL)"))
            }
            2 => {
                let update =
                    |who| format!("UPDATE people SET phone = '{who}{new}' WHERE id = {old}");
                self.folder.sql("hub.db", &update('w'));
                self.folder.sql("a.db", &update('a'));
                return "a row is changed on both sides";
            }
            3 => self.folder.sql("a.db", &format!("DELETE FROM people WHERE id = {}", new - 1)),
            4 => {
                let rows = format!(
                    "INSERT INTO people SELECT {new}000 + value, 'many', NULL
                     FROM (WITH RECURSIVE n(value) AS
                           (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 900)
                           SELECT value FROM n)"
                );
                self.folder.sql(if self.random.bool() { "a.db" } else { "hub.db" }, &rows);
                return "many rows";
            }
            _ if self.hub.is_some() => {
                self.hub = None;
                return "the hub goes";
            }
            _ => {
                self.start_hub();
                return "the hub comes";
            }
        }
        "a row"
    }
}

/// F71. Whatever happens, and in whatever order.
#[test]
#[expect(clippy::print_stderr, reason = "whoever repeats a failure needs it")]
fn f71_run_and_status_say_the_same_whatever_happens() {
    let given = std::env::var("DRIFTLESS_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| fastrand::u64(..1 << 32));
    eprintln!("to repeat: DRIFTLESS_TEST_SEED={seed} cargo test f71_run_and_status");
    let (folder, hub) = hub_and_replica();
    let address = hub.url().replace("http://", "");
    let random = fastrand::Rng::with_seed(seed);
    let mut chance = Chance { folder: &folder, random, address, hub: Some(hub), rows: 0 };
    let told = Told::start(&folder, "");
    for _ in 0..16 {
        let what = chance.step();
        eprintln!("{what}");
        told.agrees(&folder, |_| true);
    }
    if chance.hub.is_none() {
        chance.start_hub();
    }
    told.agrees(&folder, |line| is(line, "state", "in_step") && is(line, "pending", 0));
    let count = "SELECT CAST(count(*) AS TEXT) FROM people";
    told.until("the last row of the web's", |_| {
        read(&folder, "a.db", count) == read(&folder, "hub.db", count)
    });
    told.end();
}

/// F71. Each line tells something new.
#[test]
fn f71_a_line_is_a_change() {
    let (folder, _hub) = hub_and_replica();
    let told = Told::start(&folder, "");
    told.until("it is in step", |line| is(line, "state", "in_step"));
    folder.sql("a.db", "UPDATE people SET phone = '1' WHERE id = 1");
    told.until("it is pushed", |line| is(line, "cursor", 3) && is(line, "pending", 0));
    let lines = told.lines();
    for pair in lines.windows(2) {
        assert!(!differences(&pair[0], &pair[1]).is_empty(), "{:#}", pair[1]);
    }
    told.end();
}

/// F71. The reason and the code stand in the last line.
#[test]
fn f71_a_run_that_gives_up_says_why() {
    let (folder, hub) = hub_and_replica();
    let url = hub.url();
    let with = |token: &str| {
        std::fs::write(folder.path("token"), token).unwrap();
        use std::os::unix::fs::PermissionsExt;
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(folder.path("token"), private).unwrap();
    };
    drop(hub);
    with("s3cret");
    let address = url.replace("http://", "");
    let args = format!("hub --db hub.db --listen {address} --auth-token-file token");
    let _hub = Running::start(&mut folder.command(&args));
    let ran = folder.run("run --db a.db --json");
    assert_eq!(ran.code, 4, "{ran:?}");
    let last: Json = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
    assert_eq!(last["ended"]["exit_code"], 4, "{ran:?}");
    let reason = last["ended"]["reason"].as_str().unwrap();
    assert!(reason.contains("refuses the token"), "{ran:?}");
}

/// F71. Silence is counted from the last success, which may be from before the start.
#[test]
fn f71_starting_offline_after_a_good_sync_is_no_alarm() {
    let (folder, hub) = hub_and_replica();
    drop(hub);
    let told = Told::start(&folder, "");
    let line = told.agrees(&folder, |line| is(line, "state", "offline"));
    assert_eq!(line["health"], "degraded", "{line:#}");
    assert!(line["last_success"].is_i64(), "{line:#}");
    assert!(told.lines().iter().all(|line| line["health"] != "red"), "{:#?}", told.lines());
    told.end();
}

/// A hub, and a replica `a.db` of it with two tables that is in step.
fn two_tables() -> (Folder, Running) {
    let folder = Folder::new();
    let hub = folder.hub("");
    folder.sql(
        "a.db",
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT);
         CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT);
         INSERT INTO people VALUES (1, 'Ana'), (2, 'Bob');
         INSERT INTO pets VALUES (1, 'Rex');",
    );
    folder.run(&format!("init --db a.db --remote {} --all-tables", hub.url())).fine();
    folder.run("sync --db a.db").fine();
    (folder, hub)
}

fn read(folder: &Folder, file: &str, sql: &str) -> String {
    let db = rusqlite::Connection::open(folder.path(file)).unwrap();
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

const PEOPLE: &str = "SELECT coalesce(group_concat(name, ' '), '-') FROM people";
const PETS: &str = "SELECT group_concat(name, ' ') FROM pets";

/// F71. A table that was dropped on the remote is named, by whoever is asked. It is not made anew
/// without its rows, no change is blamed for it, and pulls go on.
#[test]
fn f71_a_table_that_was_dropped_on_the_remote_is_named() {
    let (folder, _hub) = two_tables();
    let named = |line: &Json| {
        let trouble = line["trouble"].as_str().unwrap_or_default();
        line["code"] == "table_waits" && trouble.contains("`people`")
    };
    let told = Told::start(&folder, "");
    told.until("it is in step", |line| is(line, "state", "in_step"));
    folder.sql("hub.db", "DROP TABLE people");
    folder.sql("a.db", "UPDATE pets SET name = 'Max'");
    let line = told.agrees(&folder, named);
    assert_eq!(line["health"], "degraded", "{line:#}");
    // The other table flows, and what is of this one waits.
    folder.sql("a.db", "UPDATE people SET name = 'Bea' WHERE id = 2");
    folder.sql("hub.db", "INSERT INTO pets VALUES (2, 'Kit')");
    let line = told.until("both have gone", |line| is(line, "cursor", 5) && named(line));
    assert_eq!((&line["conflicts"], &line["pending"]), (&0.into(), &1.into()), "{line:#}");
    told.end();

    // Without a replicator, and from the start on.
    let status: Json = serde_json::from_str(&folder.run("status --db a.db --json").out).unwrap();
    assert!(named(&status), "{status:#}");
    let synced = folder.run("sync --db a.db");
    assert!(synced.err.contains("no longer has table `people`"), "{}", synced.err);
    assert!(synced.err.contains("1 event waits"), "{}", synced.err);
    synced.fine();
    let told = Told::start(&folder, "");
    told.agrees(&folder, named);
    folder.sql("hub.db", "INSERT INTO pets VALUES (3, 'Pip')");
    told.until("it is pulled", |line| is(line, "cursor", 6) && named(line));
    let tables = "SELECT group_concat(name) FROM sqlite_schema WHERE name IN ('people', 'pets')";
    assert_eq!(read(&folder, "hub.db", tables), "pets", "nothing was made anew");
    told.end();

    // It is back, as another table without any triggers.
    folder.sql(
        "hub.db",
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT);
         INSERT INTO people VALUES (1, 'Ana'), (2, 'Bob');",
    );
    let told = Told::start(&folder, "");
    let line = told.until("all is well", |line| {
        is(line, "state", "in_step") && is(line, "pending", 0) && line["trouble"].is_null()
    });
    assert_eq!(line["conflicts"], 0, "{line:#}");
    folder.sql("hub.db", "INSERT INTO people VALUES (3, 'Cid')");
    told.until("both have gone", |_| {
        read(&folder, "a.db", PEOPLE) == "Ana Bea Cid"
            && read(&folder, "hub.db", PEOPLE) == "Ana Bea Cid"
    });
    assert_eq!(read(&folder, "hub.db", PETS), "Max Kit Pip");
    told.end();
}

/// F71. So is a table that lost a column there, by a replicator that runs and by one that starts.
#[test]
fn f71_a_column_that_was_dropped_on_the_remote_is_named() {
    let (folder, _hub) = two_tables();
    let named = |line: &Json| {
        let trouble = line["trouble"].as_str().unwrap_or_default();
        trouble.contains("`people`") && trouble.contains("`name`")
    };
    let told = Told::start(&folder, "");
    told.until("it is in step", |line| is(line, "state", "in_step"));
    told.end();
    // As a migration does that makes the table anew.
    let rebuild = |columns: &str, values: &str| {
        folder.sql(
            "hub.db",
            &format!(
                "PRAGMA legacy_alter_table = ON; CREATE TABLE fresh ({columns}); INSERT INTO fresh SELECT {values} FROM people;
                 DROP TABLE people; ALTER TABLE fresh RENAME TO people"
            ),
        );
    };
    rebuild("id INTEGER PRIMARY KEY", "id");
    folder.sql("a.db", "UPDATE pets SET name = 'Max'");
    let told = Told::start(&folder, "");
    let line = told.agrees(&folder, named);
    assert_eq!(line["health"], "degraded", "{line:#}");
    assert_eq!(line["conflicts"], 0, "{line:#}");
    // The other table flows.
    folder.sql("hub.db", "INSERT INTO pets VALUES (2, 'Kit')");
    told.until("it is pulled", |line| is(line, "cursor", 5) && named(line));
    assert_eq!(read(&folder, "a.db", PETS), "Max Kit");
    // The column is back.
    rebuild("id INTEGER PRIMARY KEY, name TEXT", "id, 'Ana'");
    told.end();
    let told = Told::start(&folder, "");
    let line = told.until("all is well", |line| {
        is(line, "state", "in_step") && is(line, "pending", 0) && line["trouble"].is_null()
    });
    assert_eq!(line["conflicts"], 0, "{line:#}");
    assert_eq!(read(&folder, "hub.db", PETS), "Max Kit");
    told.end();
}

/// F71. So is what a trigger of the web's refers to. What driftless needs itself is made anew.
#[test]
fn f71_what_a_trigger_on_the_remote_refers_to_is_named() {
    let (folder, _hub) = two_tables();
    folder.sql(
        "hub.db",
        "CREATE TRIGGER audit AFTER UPDATE ON pets BEGIN INSERT INTO trail VALUES (new.id); END",
    );
    let told = Told::start(&folder, "");
    told.until("it is in step", |line| is(line, "state", "in_step"));
    folder.sql("a.db", "UPDATE pets SET name = 'Max'");
    let line = told.agrees(&folder, |line| is(line, "state", "trouble"));
    let trouble = line["trouble"].as_str().unwrap();
    assert!(line["code"] == "remote_object_missing" && trouble.contains("`trail`"), "{line:#}");
    assert_eq!((&line["pending"], &line["conflicts"]), (&1.into(), &0.into()));
    told.end();
    folder.sql("hub.db", "CREATE TABLE trail (pet)");
    folder.run("sync --db a.db").fine();
    assert_eq!(read(&folder, "hub.db", PETS), "Max");

    folder.sql("hub.db", "DROP TABLE driftless_notes; DROP TABLE driftless_applying");
    folder.sql("a.db", "UPDATE pets SET name = 'Rex'");
    folder.run("sync --db a.db").fine();
    assert_eq!(read(&folder, "hub.db", PETS), "Rex");
    assert_eq!(folder.run("status --db a.db --json").json()[0]["conflicts"], 0);
}

mod tokens {
    use std::fs::{Permissions, rename, set_permissions, write};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn put(folder: &Folder, name: &str, token: &str) {
        write(folder.path(name), token).unwrap();
        mode(folder, name, 0o600);
    }

    fn mode(folder: &Folder, name: &str, mode: u32) {
        set_permissions(folder.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn says(line: &Json, text: &str) -> bool {
        line["trouble"].as_str().is_some_and(|trouble| trouble.contains(text))
    }

    fn count(folder: &Folder, sql: &str) -> i64 {
        let db = rusqlite::Connection::open(folder.path("hub.db")).unwrap();
        db.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// F71. The file is replaced, as Kubernetes does it, after the old token was revoked.
    #[test]
    fn f71_a_token_file_is_read_again() {
        let folder = Folder::new();
        put(&folder, "hubs", "s3cret-one");
        put(&folder, "v1", "s3cret-one");
        symlink("v1", folder.path("data")).unwrap();
        symlink("data", folder.path("token")).unwrap();
        let hub = folder.hub("--auth-token-file hubs");
        let address = hub.url().replace("http://", "");
        folder.sql("a.db", "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)");
        let init = format!("init --db a.db --remote {} --all-tables", hub.url());
        folder.run(&format!("{init} --auth-token-file token")).fine();
        let told = Told::start(&folder, "--auth-token-file token -vv");
        told.until("it is in step", |line| is(line, "state", "in_step"));

        drop(hub);
        put(&folder, "hubs", "s3cret-two");
        let args = format!("hub --db hub.db --listen {address} --auth-token-file hubs");
        let _hub = Running::start(&mut folder.command(&args));
        folder.sql("a.db", "INSERT INTO people VALUES (1, 'Ana')");
        told.until("it is refused", |line| is(line, "state", "refused"));
        assert!(says(&told.last(), "refuses the token (HTTP 401)"), "{:#}", told.last());
        put(&folder, "v2", "s3cret-two");
        symlink("v2", folder.path("next")).unwrap();
        rename(folder.path("next"), folder.path("data")).unwrap();
        told.until("all is pushed", |line| is(line, "state", "in_step") && is(line, "pending", 0));
        assert_eq!(count(&folder, "SELECT count(*) FROM people"), 1);

        // A file that is of no use is said, and the token stays in use.
        for (say, make) in [
            ("can be read or written by", &(|| mode(&folder, "v2", 0o644)) as &dyn Fn()),
            ("is empty", &|| put(&folder, "v2", "")),
            ("cannot read the token file", &|| std::fs::remove_file(folder.path("v2")).unwrap()),
        ] {
            make();
            let line = told.until(say, |line| says(line, say));
            assert!(says(&line, "the former token stays in use"), "{line:#}");
            assert_eq!((&line["state"], &line["health"]), (&"in_step".into(), &"degraded".into()));
            let before = count(&folder, "SELECT max(seq) FROM driftless_events");
            folder.sql("a.db", "INSERT INTO people (name) VALUES ('more')");
            told.until("it is pushed", |line| line["cursor"].as_i64() > Some(before));
            told.agrees(&folder, |line| says(line, say));
            put(&folder, "v2", "s3cret-two");
            told.until("all is well", |line| line["trouble"].is_null());
        }
        let (lines, said) = told.end();
        assert!(!format!("{lines:?}{said}").contains("s3cret"), "{lines:#?}{said}");
        assert!(said.contains("the token's file has another token"), "{said}");
    }
}
