//! The account at the end: the databases are equal, and each committed write is somewhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::Connection;
use serde_json::Value;

use super::place::{Place, TABLES, TOKEN};
use super::writers::{NEW_MEMBER, SECRET, Written};
use crate::support::local_remote::read;

/// One line of the remote's log.
#[derive(Debug)]
struct Line {
    seq: i64,
    origin: String,
    table: String,
    key: String,
    op: String,
    after: Value,
    applied: bool,
}

/// What the account found, for a test to see that the interesting things took place.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The identities under which desks have pushed.
    pub(super) identities: usize,
    /// Committed writes that lost, and are listed as conflicts.
    pub(super) lost: usize,
}

/// Checks the desks, which are in step, and the hub: see the module.
#[track_caller]
pub(super) fn check(place: &Place, desks: &[&str], written: &[Written]) -> Found {
    let hub = place.open("hub.db");
    for table in TABLES {
        let sql = format!("SELECT * FROM {table} ORDER BY id");
        let theirs = read(&hub, &sql);
        for desk in desks {
            assert!(read(&place.open(desk), &sql) == theirs, "{desk} differs in {table}");
        }
    }
    let log = log(&hub);
    folds(&hub, &log);
    for desk in desks {
        nothing_is_left(&place.open(desk), desk);
        // From where its first sync was on.
        let gaps = "SELECT count(*) - count(DISTINCT id),
                           coalesce(max(seq) - min(seq) + 1 - count(*), 0),
                           coalesce(max(seq), (SELECT cursor FROM driftless_state)) FROM driftless_log";
        assert_eq!(read(&place.open(desk), gaps), format!("0|0|{}", log.len()), "{desk}: its log");
    }
    assert_eq!(log.last().map(|line| line.seq), Some(log.len() as i64), "no gap in the log");
    nobody_told(place);
    let origins: BTreeSet<&str> = log.iter().map(|line| line.origin.as_str()).collect();
    let identities = origins.iter().filter(|origin| **origin != "web").count();
    let mut found = Found { identities, lost: 0 };
    for written in written {
        found.lost += account(place, &log, written);
    }
    found
}

/// No message of any program has a value or the token, and none panicked. What is printed as data has
/// values, and no token.
fn nobody_told(place: &Place) {
    for file in std::fs::read_dir(place.folder.path()).unwrap() {
        let path = file.unwrap().path();
        let name = path.to_string_lossy();
        let words: &[&str] = match path.extension().and_then(|ending| ending.to_str()) {
            Some("err") => &[SECRET, TOKEN, "panicked"],
            Some("out") => &[TOKEN],
            _ => continue,
        };
        let text = std::fs::read_to_string(&path).unwrap();
        for word in words {
            assert!(!text.contains(word), "{name} says `{word}`: {text}");
        }
    }
}

fn log(hub: &Connection) -> Vec<Line> {
    let sql = "SELECT seq, origin, tbl, pk, op, coalesce(after, '{}'), verdict = 'applied'
               FROM driftless_events ORDER BY seq";
    let mut statement = hub.prepare(sql).unwrap();
    let lines = statement.query_map([], |row| {
        Ok(Line {
            seq: row.get(0)?,
            origin: row.get(1)?,
            table: row.get(2)?,
            key: row.get(3)?,
            op: row.get(4)?,
            after: serde_json::from_str(&row.get::<_, String>(5)?).unwrap(),
            applied: row.get(6)?,
        })
    });
    lines.unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

/// The applied log makes the remote's rows, beginning with those that were there before it.
fn folds(hub: &Connection, log: &[Line]) {
    let mut rows: BTreeMap<(&str, &str), BTreeMap<String, Value>> = BTreeMap::new();
    for line in log.iter().filter(|line| line.applied) {
        let row = rows.entry((&line.table, &line.key)).or_default();
        if line.op == "delete" {
            row.clear();
        }
        let columns = line.after.as_object().expect("an object").clone();
        row.extend(columns);
    }
    for ((table, key), row) in rows {
        let id = serde_json::from_str::<Vec<String>>(key).unwrap().remove(0);
        for (column, value) in row {
            let sql = format!("SELECT json_array({column}) FROM {table} WHERE id = ?1");
            let there: String = hub.query_row(&sql, [&id], |row| row.get(0)).unwrap_or_default();
            assert_eq!(there, Value::from(vec![value]).to_string(), "{table} {id} {column}");
        }
    }
}

/// A replica in step has nothing of a replay, a first sync or a push left.
#[track_caller]
pub(super) fn nothing_is_left(db: &Connection, desk: &str) {
    for (sql, nothing) in [
        ("SELECT replaying FROM driftless_state", "0"),
        ("SELECT count(*) FROM driftless_staging", "0"),
        ("SELECT count(*) FROM driftless_quarantine", "0"),
        ("SELECT count(*) FROM driftless_outbox WHERE NOT settled", "0"),
        ("PRAGMA integrity_check", "ok"),
        ("SELECT count(*) FROM pragma_foreign_key_check", "0"),
    ] {
        assert_eq!(read(db, sql), nothing, "{desk}: {sql}");
    }
    triggers_are_whole(db, desk);
}

/// The capture triggers of each table are what `driftless` would install.
#[track_caller]
pub(super) fn triggers_are_whole(db: &Connection, desk: &str) {
    let there = "SELECT name || sql FROM sqlite_schema WHERE type = 'trigger'
                 AND name LIKE 'driftless%' ORDER BY name";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fresh.db");
    Connection::open(&path).unwrap().execute_batch(super::place::SCHEMA).unwrap();
    let rule = driftless::event::conflict::ConflictRule::default();
    let tables = TABLES.map(|table| (table.to_owned(), rule)).to_vec();
    let setup =
        driftless::store::Setup { url: "http://127.0.0.1:1".to_owned(), tables, epoch: None };
    let id = driftless::event::ReplicaId(ulid::Ulid::from(7u128));
    drop(driftless::store::Store::init(&path, &setup, id).unwrap());
    let fresh = read(&Connection::open(&path).unwrap(), there);
    assert!(!fresh.is_empty() && read(db, there) == fresh, "{desk}: the triggers are not whole");
}

/// Finds each committed write of a writer in the log, once, and gives how many lost.
fn account(place: &Place, log: &[Line], written: &Written) -> usize {
    let name = &written.name;
    let web = written.file == "hub.db";
    let conflicts: BTreeSet<i64> = match written.file.as_str() {
        "hub.db" => BTreeSet::new(),
        desk => {
            let listed = "SELECT seq FROM driftless_conflicts ORDER BY seq";
            read(&place.open(desk), listed).lines().map(|seq| seq.parse().unwrap()).collect()
        }
    };
    // What each event of the writer's says of itself: its key for inserts, the name for updates.
    let mut mine: HashMap<(&str, &str, String), Vec<&Line>> = HashMap::new();
    for line in log.iter().filter(|line| (line.origin == "web") == web) {
        let says = match line.op.as_str() {
            "insert" => &line.after["id"],
            _ => &line.after["name"],
        };
        let says = says.as_str().unwrap_or_default();
        let says = says.strip_prefix(SECRET).unwrap_or(says).to_owned();
        if says.starts_with(&format!("{name}-")) {
            mine.entry((&line.table, &line.op, says)).or_default().push(line);
        }
    }
    let mut lost = 0;
    let mut numbers = written.committed.clone();
    if written.killed {
        let last = numbers.last().map_or(0, |last| last + 1);
        let key = ("payments", "insert", format!("{name}-{last}"));
        // It was committed, or not: if it was, all of it was.
        numbers.extend(mine.contains_key(&key).then_some(last));
    }
    for t in &numbers {
        let mut parts = vec![("payments", "insert"), ("members", "update")];
        parts.extend(t.is_multiple_of(NEW_MEMBER).then_some(("members", "insert")));
        for (table, op) in parts {
            let lines = mine.remove(&(table, op, format!("{name}-{t}"))).unwrap_or_default();
            assert_eq!(lines.len(), 1, "{op} of {name}-{t} in {table}: {lines:?}");
            let line = lines[0];
            assert!(line.applied || table == "members", "a payment lost: {line:?}");
            if !line.applied {
                assert!(conflicts.contains(&line.seq), "not listed: {line:?}");
                lost += 1;
            }
        }
    }
    assert!(mine.is_empty(), "events of what was not committed: {mine:?}");
    lost
}
