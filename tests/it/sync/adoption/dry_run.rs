//! What `init --dry-run` says, and that it changes nothing.

use std::sync::Arc;

use driftless::Code;
use driftless::sync::Side;
use rusqlite::Connection;

use super::{counts, dry_run, file, preferring};
use crate::support::blocking::{drain, initialise};
use crate::support::local_remote::LocalRemote;

const SCHEMA: &str = "
    CREATE TABLE members (id TEXT PRIMARY KEY, name TEXT, email TEXT UNIQUE COLLATE NOCASE, at TEXT);
    CREATE TABLE payments (id INTEGER PRIMARY KEY, member TEXT REFERENCES members (id), cents REAL);
";

/// So many payments.
fn payments(from: u32, to: u32) -> String {
    format!(
        "WITH RECURSIVE n (i) AS (VALUES ({from}) UNION ALL SELECT i + 1 FROM n WHERE i < {to})
         INSERT INTO payments SELECT i, NULL, i / 7.0 FROM n;"
    )
}

#[test]
fn each_row_is_counted_and_each_column_that_differs() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    remote.web(
        "INSERT INTO members VALUES ('same', 'S', 's@x', '2024-01-01'),
            ('newer', 'there', 'n@x', '2024-01-01'), ('older', 'there', 'o@x', '2024-02-01'),
            ('there', 'T', 'TWIN@x', NULL);
         INSERT INTO payments VALUES (1, 'same', 0.1), (2, 'there', 1e300), (3, NULL, 2)",
    );
    let (_folder, mut plan) = file(&format!(
        "PRAGMA foreign_keys = OFF; {SCHEMA} INSERT INTO members VALUES ('same', 'S', 's@x', '2024-01-01'),
            ('newer', 'here', 'n@x', '2024-01-02'), ('older', 'here', 'O@x', '2024-01-31'),
            ('here', 'H', 'twin@x', NULL);
         INSERT INTO payments VALUES (1, 'same', 0.1), (2, 'there', 1.0000000000000002e300),
            (4, NULL, 5);"
    ));
    let before = std::fs::read(&plan.path).unwrap();
    let (found, refused) = dry_run(&plan, &remote).unwrap();
    assert!(refused.is_none() && !found.is_smooth());
    let [members, payments] = &found.tables[..] else { panic!("{found:?}") };
    assert_eq!((members.side, counts(members)), (Side::Both, [1, 1, 1, 2, 0]));
    let columns: Vec<_> =
        members.columns.iter().map(|found| (found.column.as_str(), found.rows)).collect();
    assert_eq!(columns, [("at", 2), ("email", 1), ("name", 2)]);
    assert_eq!(members.twins.len(), 1, "one row has the other's address: {members:?}");
    assert_eq!(members.twins[0].keys, [["[\"here\"]".to_owned(), "[\"there\"]".to_owned()]]);
    assert_eq!(counts(payments), [1, 1, 1, 1, 0]);
    assert_eq!(payments.columns[0].column, "cents", "the last bit of a REAL counts");
    let orphans: Vec<_> = found.orphans.iter().map(|one| (one.rows, one.keys.join(" "))).collect();
    assert_eq!(orphans, [(1, "[2]".to_owned())]);
    plan.prefer = preferring(&[(None, "newest:at"), (Some("payments"), "local")]);
    let (found, _) = dry_run(&plan, &remote).unwrap();
    let taken: Vec<_> = found.tables.iter().map(|table| table.takes_local).collect();
    assert_eq!(taken, [1, 1]);
    // Nothing was changed, and nothing written.
    assert_eq!(std::fs::read(&plan.path).unwrap(), before);
    assert_eq!(remote.read("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'driftless%'"), "0");
    assert!(remote.batches().iter().all(|batch| !batch.writes));
}

#[test]
fn what_is_said_is_what_happens() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    remote.web(&(payments(1, 500) + &payments(700, 800)));
    let (_folder, plan) = file(&format!(
        "{SCHEMA} {} UPDATE payments SET cents = -1 WHERE id IN (20, 400);",
        payments(11, 600)
    ));
    let (found, _) = dry_run(&plan, &remote).unwrap();
    assert_eq!(counts(&found.tables[1]), [100, 111, 488, 2, 0]);
    let (_, report) = initialise(plan, remote).unwrap();
    let adopted = report.adopted.unwrap();
    let figures =
        [adopted.local, adopted.fetched, adopted.equal, adopted.different, adopted.local_taken];
    assert_eq!(figures, [100, 111, 488, 2, 0]);
}

#[test]
fn few_bytes_are_moved_of_what_is_equal_or_only_there() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    remote.web(&payments(1, 20_000));
    let (_folder, plan) = file(&(SCHEMA.to_owned() + &payments(1, 5_000)));
    let (found, _) = dry_run(&plan, &remote).unwrap();
    assert_eq!(counts(&found.tables[1]), [0, 15_000, 5_000, 0, 0]);
    assert!(found.requests <= 5 && found.bytes < 40_000, "{} B", found.bytes);
    let (_folder, empty) = file(SCHEMA);
    let (found, _) = dry_run(&empty, &remote).unwrap();
    assert_eq!(counts(&found.tables[1]), [0, 20_000, 0, 0, 0]);
    assert!(found.requests <= 3 && found.bytes < 4_000, "{} B", found.bytes);
}

#[test]
fn tables_and_columns_of_one_side_are_named() {
    let remote = Arc::new(LocalRemote::new(
        "CREATE TABLE both (id TEXT PRIMARY KEY, a, there); CREATE TABLE there (id PRIMARY KEY);
         CREATE TABLE keys (id TEXT PRIMARY KEY, k TEXT); CREATE TABLE odd (x);
         INSERT INTO there VALUES (1), (2); INSERT INTO both VALUES ('a', 1, 1), ('b', 2, 2)",
    ));
    let (_folder, plan) = file(
        "CREATE TABLE both (id TEXT PRIMARY KEY, here, a); CREATE TABLE here (id PRIMARY KEY);
         CREATE TABLE keys (id TEXT, k TEXT PRIMARY KEY);
         INSERT INTO here VALUES (1); INSERT INTO both VALUES ('a', 7, 1), ('b', 7, 3);",
    );
    let (found, refused) = dry_run(&plan, &remote).unwrap();
    let refused = refused.unwrap();
    assert_eq!(
        (refused.code(), found.refused.as_deref()),
        (Code::TablesDiffer, Some(refused.message()))
    );
    let of = |name: &str| found.tables.iter().find(|table| table.table == name).unwrap();
    let both = of("both");
    assert_eq!(
        (&both.columns_here[..], &both.columns_there[..]),
        (&["here".to_owned()][..], &["there".to_owned()][..])
    );
    assert_eq!(counts(both), [0, 0, 1, 1, 0], "the columns of both sides are compared");
    assert!(both.problem.as_ref().is_some_and(|why| why.contains("`here`")), "{both:?}");
    assert!(of("keys").problem.as_ref().is_some_and(|why| why.contains("its key is")), "{found:?}");
    assert_eq!((of("here").side, of("here").only_here), (Side::Local, 1));
    assert_eq!((of("there").side, of("there").only_there), (Side::Remote, 2));
    assert!(found.left_out.iter().any(|left| left.table == "odd"), "{:?}", found.left_out);
    assert!(initialise(plan, remote).is_err(), "it is refused as it was said");
}

#[test]
fn a_file_that_is_not_there_is_not_made() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    remote.web(&payments(1, 3));
    let (folder, mut plan) = file(SCHEMA);
    plan.path = folder.path().join("none.db");
    let (found, refused) = dry_run(&plan, &remote).unwrap();
    assert!(refused.is_none() && !plan.path.exists());
    assert_eq!(found.tables[1].only_there, 3);
    assert!(found.is_smooth(), "{found:?}");
}

/// Of a replica nothing is compared that is replicated: `verify` does that.
#[test]
fn what_is_replicated_is_not_compared() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    let (_folder, plan) = file(&(SCHEMA.to_owned() + &payments(1, 3)));
    let (store, _) = initialise(plan.clone(), remote.clone()).unwrap();
    drain(store, remote.clone()).unwrap();
    let (found, refused) = dry_run(&plan, &remote).unwrap();
    assert!(refused.is_none());
    assert!(found.tables.iter().all(|table| table.side == Side::Replicated), "{found:?}");
    // A further file is compared with a remote that has our tables.
    let (_folder, other) = file(&(SCHEMA.to_owned() + &payments(2, 4)));
    let (found, _) = dry_run(&other, &remote).unwrap();
    assert_eq!(counts(&found.tables[1]), [1, 1, 2, 0, 0]);
}

/// A server without the hash sends its rows.
#[test]
fn without_a_hash_the_rows_are_read() {
    let Some(engine) = crate::support::engine::Engine::libsql() else { return };
    let remote = Arc::new(LocalRemote::over(engine, SCHEMA));
    remote.web(&payments(1, 300));
    let (_folder, plan) = file(&format!(
        "{SCHEMA} {} UPDATE payments SET cents = 0.1 + 0.2 WHERE id = 7;",
        payments(1, 300)
    ));
    let (found, _) = dry_run(&plan, &remote).unwrap();
    assert_eq!(counts(&found.tables[1]), [0, 0, 299, 1, 0]);
}

#[test]
fn a_preference_that_cannot_be_followed_is_refused() {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    let (_folder, mut plan) = file(SCHEMA);
    for (words, code) in [
        (&[(None, "newest:at")][..], Code::PreferenceUnusable),
        (&[(Some("people"), "local")], Code::TableNotReplicated),
    ] {
        plan.prefer = preferring(words);
        let (_, refused) = dry_run(&plan, &remote).unwrap();
        assert_eq!(refused.unwrap().code(), code);
        assert_eq!(initialise(plan.clone(), remote.clone()).unwrap_err().code(), code);
    }
    let db = Connection::open(&plan.path).unwrap();
    let ours = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'driftless%'";
    assert_eq!(db.query_row(ours, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}
