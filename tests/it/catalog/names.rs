//! Names: definitions reach the remote to the letter, and names that differ in nothing but the case
//! of letters are one name.

use std::sync::Arc;

use driftless::Replicator;
use driftless::event::conflict::ConflictRule;
use driftless::remote::{Libsql, Options, Remote};
use driftless::store::{Entry, LogFilter, Store};
use rusqlite::Connection;

use crate::hub::Running;
use crate::support::blocking::{drain, initialise};
use crate::support::desk::{Desk, plan};
use crate::support::inbox::Inbox as _;
use crate::support::local_remote::{LocalRemote, read};

/// Names that the parser of the libsql client takes for keywords, and what it would spell otherwise
/// or refuse. The words that follow SQLite's own grammar are here too.
const KEYWORDS: &str = "CREATE TABLE plans /* what is sold */ (
    id TEXT PRIMARY KEY, -- as it is printed
    key TEXT DEFAULT 'it''s \"so\"',
    plan TEXT NOT NULL DEFAULT (lower('Basic -- not a comment')),
    \"action\" BLOB DEFAULT x'00ff',
    conflict REAL CHECK (conflict IS NOT DISTINCT FROM conflict AND conflict >= -1e3),
    rows INT, temp TEXT, view TEXT, query TEXT, first INT, Without TEXT COLLATE nocase,
    [of] TEXT, `match` INT,
    total INT GENERATED ALWAYS AS (rows * 2) VIRTUAL,
    word TEXT AS (plan ->> '$.a'),
    UNIQUE (key, plan) ON CONFLICT ABORT
  ) STRICT, WITHOUT ROWID";

const INDEX: &str = "CREATE UNIQUE INDEX plans_plan ON plans (lower(plan), key DESC) \
    WHERE /* paid */ plan IS NOT NULL AND plan != 'a -- b'";

fn client(hub: &Running) -> Arc<dyn Remote> {
    Arc::new(Libsql::connect(&hub.url, None, Options::default()).unwrap())
}

fn definition(db: &Connection, name: &str) -> String {
    read(db, &format!("SELECT sql FROM sqlite_schema WHERE name = '{name}'"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_reaches_the_remote_to_the_letter() {
    let hub = Running::start(|_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("desk.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(&format!("{KEYWORDS}; {INDEX}")).unwrap();
    db.execute_batch("INSERT INTO plans (id, key, plan, rows) VALUES ('a', 'k', '{\"a\":1}', 2)")
        .unwrap();
    let remote = client(&hub);
    let work = move || {
        let plan = plan(path.clone(), 1, &[]);
        initialise(plan.clone(), remote.clone()).unwrap();
        let (_, again) = initialise(plan.clone(), remote.clone()).unwrap();
        assert!(!again.installed, "the second time there is nothing to do");
        drain(Store::open(&path).unwrap(), remote.clone()).unwrap();
        let update = "UPDATE plans SET plan = '{\"a\":2}', \"match\" = 3, Without = 'x'";
        db.execute_batch(update).unwrap();
        initialise(plan, remote.clone()).unwrap();
        let summary = drain(Store::open(&path).unwrap(), remote.clone()).unwrap();
        assert_eq!((summary.pushed, summary.applied), (1, 1));
        db
    };
    let db = tokio::task::spawn_blocking(work).await.unwrap();
    let there = Connection::open(hub.db()).unwrap();
    let body = |sql: String| sql[sql.find("(\n").unwrap()..].to_owned();
    assert_eq!(body(definition(&there, "plans")), body(definition(&db, "plans")));
    assert_eq!(definition(&there, "plans_plan"), INDEX);
    let all = "SELECT *, total, word FROM plans";
    assert_eq!(read(&there, all), read(&db, all));
    assert_eq!(read(&there, "SELECT word, total FROM plans"), "2|4");
    drop(there);
    hub.stop().await;
}

const CAMEL: &str = "CREATE TABLE Members (Id TEXT PRIMARY KEY, fullName TEXT, Plan TEXT,
    Invited TEXT REFERENCES Members (Id) ON DELETE CASCADE)";
const LOWER: &str = "CREATE TABLE members (id TEXT PRIMARY KEY, fullname TEXT, plan TEXT,
    invited TEXT REFERENCES members (id) ON DELETE CASCADE)";
const UPPER: &str = "CREATE TABLE MEMBERS (ID TEXT PRIMARY KEY, FULLNAME TEXT, PLAN TEXT,
    INVITED TEXT REFERENCES MEMBERS (ID) ON DELETE CASCADE)";
const ALL: &str = "SELECT id, fullname, plan, invited FROM members ORDER BY id";

#[track_caller]
fn assert_same(desks: &mut [&mut Desk], remote: &LocalRemote) {
    for _ in 0..2 {
        for desk in desks.iter_mut() {
            desk.sync().unwrap();
        }
    }
    for desk in desks {
        assert_eq!(desk.read(ALL), remote.read(ALL));
        assert_eq!((desk.status().pending, desk.status().quarantined), (0, 0));
    }
}

#[test]
fn two_desks_and_the_web_spell_differently() {
    for (web, one, two) in
        [("", CAMEL, LOWER), (LOWER, CAMEL, UPPER), (UPPER, LOWER, CAMEL), (CAMEL, UPPER, LOWER)]
    {
        let remote = Arc::new(LocalRemote::new(web));
        let mut a = Desk::with_schema(&remote, 1, one);
        a.write(
            "INSERT INTO members VALUES ('a', 'Ana', 'gold', NULL), ('b', 'Bea', 'basic', 'a')",
        );
        a.sync().unwrap();
        let mut b = Desk::with_schema(&remote, 2, two);
        remote.web("UPDATE members SET plan = 'of the web' WHERE id = 'a'");
        b.write("UPDATE members SET fullName = 'Beatrix', plan = NULL WHERE id = 'b'");
        a.initialise_again(&[]).unwrap();
        a.write("INSERT INTO members VALUES ('c', 'Cid', 'x', 'b')");
        assert_same(&mut [&mut a, &mut b], &remote);
        assert_eq!(remote.read(ALL), "a|Ana|of the web|NULL\nb|Beatrix|NULL|a\nc|Cid|x|b");
        // What a foreign key does on one side happens everywhere.
        b.write("PRAGMA foreign_keys = on; UPDATE members SET id = 'z' WHERE id = 'c'");
        remote.web("DELETE FROM members WHERE id = 'b'");
        assert_same(&mut [&mut a, &mut b], &remote);
        let spellings = "SELECT count(DISTINCT tbl) FROM driftless_events";
        assert_eq!(remote.read(spellings), "1", "{web}");
        let keys = "SELECT group_concat(DISTINCT key) FROM driftless_events, json_each(after)";
        assert_eq!(remote.read(keys).split(',').count(), 4, "{}", remote.read(keys));
    }
}

#[test]
fn a_conflict_is_one_whatever_the_spelling() {
    for rule in [ConflictRule::Row, ConflictRule::Columns] {
        let remote = Arc::new(LocalRemote::new(LOWER));
        let rules = [("MEMBERS", rule)];
        let mut a = Desk::with_rules(&remote, 1, CAMEL, &rules);
        let mut b = Desk::with_rules(&remote, 2, UPPER, &rules);
        a.write("INSERT INTO Members VALUES ('a', 'Ana', 'gold', NULL)");
        assert_same(&mut [&mut a, &mut b], &remote);
        remote.web("UPDATE members SET plan = 'of the web'");
        a.write("UPDATE Members SET Plan = 'of the desk'");
        b.write("UPDATE MEMBERS SET FULLNAME = 'Anna'");
        assert_same(&mut [&mut a, &mut b], &remote);
        let name = if rule == ConflictRule::Row { "Ana" } else { "Anna" };
        assert_eq!(remote.read(ALL), format!("a|{name}|of the web|NULL"), "{rule:?}");
        assert_eq!(a.status().conflicts, 1);
        // It is restored under the spelling of all.
        let mut store = Store::open(a.path()).unwrap();
        let open = store.conflicts(false).unwrap().remove(0);
        store.restore(open.event.id, None).unwrap();
        drop(store);
        a.input(driftless::sync::Input::LocalCommit);
        assert_same(&mut [&mut a, &mut b], &remote);
        assert_eq!(remote.read("SELECT plan FROM members"), "of the desk");
    }
}

/// What is captured before the first sync is spelled as this side spells it; what the remote
/// gets is not.
#[test]
fn events_from_before_the_first_contact_are_spelled_anew() {
    let remote = Arc::new(LocalRemote::new(LOWER));
    remote.set_offline(true);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("desk.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(CAMEL).unwrap();
    let shared: Arc<dyn Remote> = Arc::clone(&remote) as Arc<dyn Remote>;
    let replicator =
        Replicator::builder(&path).with_remote(shared).tables(["MEMBERS"]).start().unwrap();
    db.execute_batch(
        "INSERT INTO Members VALUES ('a', 'Ana \"A\"', 'gold', NULL);
         UPDATE Members SET fullName = 'Anna', Plan = NULL; INSERT INTO Members (Id) VALUES ('b');
         DELETE FROM Members WHERE Id = 'b'; UPDATE Members SET Id = 'c'",
    )
    .unwrap();
    remote.set_offline(false);
    let mut changes = replicator.subscribe();
    replicator.sync_now_blocking().unwrap();
    assert_eq!(remote.read(ALL), "c|Anna|NULL|NULL");
    let spelled = "SELECT group_concat(DISTINCT key) FROM driftless_events, json_each(after)";
    assert_eq!(remote.read(spelled), "id,fullname,plan,invited");
    remote.web("UPDATE members SET plan = 'gold'");
    replicator.sync_now_blocking().unwrap();
    let changed = changes.next_blocking().unwrap();
    assert_eq!(changed.rows.last().unwrap().table, "members");
    assert_eq!(read(&db, "SELECT Plan FROM Members"), "gold");
    for table in ["members", "Members"] {
        let filter = LogFilter { table: Some(table.to_owned()), ..LogFilter::default() };
        let store = Store::open(&path).unwrap();
        let mut found = 0;
        let mut count = |entry: Entry| {
            assert_eq!(entry.row().0, "members");
            found += 1;
            Ok(())
        };
        store.log(&filter, &mut count).unwrap();
        assert_eq!(found, 7, "{table}");
    }
}
