//! Which version of a row is taken, and what becomes of the other one.

use std::sync::Arc;

use driftless::store::{ConflictFilter, Selection};
use rusqlite::Connection;

use super::{file, open, preferring};
use crate::support::blocking::{drain, initialise};
use crate::support::desk::SCHEMA;
use crate::support::inbox::Inbox as _;
use crate::support::local_remote::{LocalRemote, read};

/// Both sides have rows of [`SCHEMA`], and the desk's are preferred as `words` say.
fn adopt(words: &[(Option<&str>, &str)], here: &str, there: &str) -> (Arc<LocalRemote>, Both) {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    remote.web(there);
    let (folder, mut plan) = file(&format!("{SCHEMA} {here}"));
    plan.prefer = preferring(words);
    let (store, report) = initialise(plan.clone(), remote.clone()).unwrap();
    let kept = report.adopted.unwrap().local_taken;
    drain(store, remote.clone()).unwrap();
    let db = Connection::open(&plan.path).unwrap();
    (remote, Both { db, plan, kept, _folder: folder })
}

struct Both {
    db: Connection,
    plan: driftless::sync::Plan,
    kept: usize,
    _folder: tempfile::TempDir,
}

impl Both {
    fn read(&self, sql: &str) -> String {
        read(&self.db, sql)
    }
}

const MEMBERS: &str = "SELECT id, name, email FROM members ORDER BY id";

#[test]
fn the_local_version_is_taken_and_the_remotes_is_in_the_inbox() {
    let (remote, both) = adopt(
        &[(None, "local")],
        "INSERT INTO members VALUES ('a', 'mine', NULL), ('b', 'B', 'b@x'), ('c', 'mine', 'c@x');
         INSERT INTO payments VALUES (1, 'c', 5);",
        "INSERT INTO members VALUES ('a', 'theirs', 'a@x'), ('b', 'B', 'b@x'), ('c', 'theirs', 'd@x'),
         ('d', 'there', NULL); INSERT INTO payments VALUES (1, 'd', 5);",
    );
    let rows = "a|mine|NULL\nb|B|b@x\nc|mine|c@x\nd|there|NULL";
    assert_eq!((both.read(MEMBERS), remote.read(MEMBERS)), (rows.to_owned(), rows.to_owned()));
    assert_eq!(remote.read("SELECT member FROM payments"), "c");
    let mut store = open(&both.plan);
    let open = store.conflicts(false).unwrap();
    assert_eq!((open.len(), both.kept), (3, 3));
    // What lost is restored in bulk.
    let filter = ConflictFilter { table: Some("members".to_owned()), ..ConflictFilter::default() };
    let done = store.restore_selected(&Selection::Matching(filter), None).unwrap();
    assert!(done.refusal().is_none(), "{done:?}");
    drain(store, remote.clone()).unwrap();
    let rows = "a|theirs|a@x\nb|B|b@x\nc|theirs|d@x\nd|there|NULL";
    assert_eq!((both.read(MEMBERS), remote.read(MEMBERS)), (rows.to_owned(), rows.to_owned()));
    // And dismissed in bulk.
    let mut store = super::open(&both.plan);
    store.dismiss_selected(&Selection::Matching(ConflictFilter::default())).unwrap();
    assert_eq!(store.conflicts(false).unwrap().len(), 0);
}

#[test]
fn the_newest_version_is_taken_table_by_table() {
    let (remote, both) = adopt(
        &[(None, "newest:name"), (Some("payments"), "local")],
        "INSERT INTO members VALUES ('a', '2024-05-01T10:00:00Z', 'mine'),
           ('b', '2024-05-01 09:00', 'mine2'), ('c', NULL, 'mine3');
         INSERT INTO payments VALUES (1, NULL, 7);",
        "INSERT INTO members VALUES ('a', '2024-05-01 09:59:59', 'theirs'),
           ('b', '2024-05-01 09:30', 'theirs2'), ('c', NULL, 'theirs3');
         INSERT INTO payments VALUES (1, NULL, 5);",
    );
    let emails = "SELECT id, email FROM members ORDER BY id";
    let rows = "a|mine\nb|theirs2\nc|theirs3";
    assert_eq!((both.read(emails), remote.read(emails)), (rows.to_owned(), rows.to_owned()));
    assert_eq!(remote.read("SELECT cents FROM payments"), "7");
    assert_eq!((both.kept, open(&both.plan).conflicts(false).unwrap().len()), (2, 4));
}

/// Two rows have exchanged their addresses: no order of single writes leads from one side to the
/// other, and nothing may be lost for that.
#[test]
fn versions_that_are_in_each_others_way_are_in_the_inbox_at_least() {
    let (remote, both) = adopt(
        &[(None, "local")],
        "INSERT INTO members VALUES ('a', 'A', 'x'), ('b', 'B', 'y'), ('c', 'C', 'z');",
        "INSERT INTO members VALUES ('a', 'A', 'y'), ('b', 'B', 'x'), ('d', 'D', 'z');",
    );
    assert_eq!(both.read(MEMBERS), remote.read(MEMBERS));
    let lost = open(&both.plan).conflicts(false).unwrap();
    let rows: Vec<_> = lost.iter().map(|one| one.event.key.0.clone()).collect();
    for key in ["[\"a\"]", "[\"b\"]", "[\"c\"]"] {
        assert!(rows.iter().any(|row| row == key), "{key} is in neither: {rows:?}");
    }
}

/// What the web writes after the first sync has read a row wins over the version that is preferred.
#[test]
fn the_web_may_write_meanwhile() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    remote.web("INSERT INTO members VALUES ('a', 'theirs', NULL)");
    let (_folder, mut plan) =
        file(&format!("{SCHEMA} INSERT INTO members VALUES ('a', 'mine', 1);"));
    plan.prefer = preferring(&[(None, "local")]);
    let (store, _) = initialise(plan.clone(), remote.clone()).unwrap();
    remote.web("UPDATE members SET name = 'web' WHERE id = 'a'");
    drain(store, remote.clone()).unwrap();
    let db = Connection::open(&plan.path).unwrap();
    assert_eq!(
        (read(&db, MEMBERS), remote.read(MEMBERS)),
        ("a|web|NULL".to_owned(), "a|web|NULL".to_owned())
    );
    let lost = open(&plan).conflicts(false).unwrap();
    assert_eq!(lost.len(), 2, "the former version of the remote, and the local one");
}
