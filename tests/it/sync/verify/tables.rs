//! The tables of both sides: what differs is named, and nothing else.

use std::sync::Arc;

use driftless::store::{ConflictFilter, Store};
use driftless::sync::{Proof, RowDifference, Verified, VerifyOptions};

use super::{compare, plant_here, plant_there, verify};
use crate::support::desk::Desk;
use crate::support::local_remote::LocalRemote;

const PEOPLE: &str =
    "CREATE TABLE people (id TEXT PRIMARY KEY, name TEXT, weight REAL, photo BLOB)";

/// A row that differs: table, key, the remote's row, the local one, and the columns.
fn lines(compared: &Verified) -> Vec<String> {
    let json = |image: &Option<driftless::event::Image>| {
        image.as_ref().map_or("-".to_owned(), |image| image.to_json())
    };
    let line = |found: &RowDifference| {
        let columns = found.columns.join(",");
        let (remote, local) = (json(&found.remote), json(&found.local));
        format!("{} {} {remote} {local} {columns}", found.table, found.key.0)
    };
    let mut lines: Vec<_> = compared.rows.iter().map(line).collect();
    lines.sort();
    lines
}

fn people(rows: usize) -> (Arc<LocalRemote>, Desk) {
    let remote = Arc::new(LocalRemote::new(PEOPLE));
    remote.web(&format!(
        "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO people SELECT printf('p%06d', i), 'name ' || i, i / 7.0,
             CASE WHEN i % 3 THEN NULL ELSE randomblob(20) END FROM n"
    ));
    let mut desk = Desk::with_schema(&remote, 1, PEOPLE);
    desk.sync().unwrap();
    (remote, desk)
}

#[test]
fn equal_tables_are_told_by_their_hashes() {
    let (remote, desk) = people(5_000);
    let before = remote.requests();
    let compared = compare(&desk).unwrap();
    assert_eq!(lines(&compared), Vec::<String>::new());
    assert_eq!((compared.tables[0].rows, compared.requests), (5_000, 1));
    assert_eq!(remote.requests() - before, 1);
    assert!(compared.bytes < 20_000, "{} bytes", compared.bytes);
}

#[test]
fn rows_that_differ_are_named_with_both_values() {
    let (remote, desk) = people(5_000);
    plant_here(&desk, "UPDATE people SET name = 'Eve' WHERE id = 'p000007'");
    plant_here(&desk, "DELETE FROM people WHERE id = 'p004000'");
    plant_here(&desk, "INSERT INTO people VALUES ('q', 'nobody', 1, x'00')");
    plant_there(&remote, "UPDATE people SET weight = 0.30000000000000004 WHERE id = 'p000100'");
    plant_there(&remote, "UPDATE people SET photo = CAST('a' AS TEXT) WHERE id = 'p000101'");
    plant_there(&remote, "INSERT INTO people VALUES ('', NULL, NULL, NULL)");
    let compared = compare(&desk).unwrap();
    let found: Vec<_> =
        compared.rows.iter().map(|found| (found.key.0.as_str(), &found.columns[..])).collect();
    let name = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let (names, weights, photos, none) =
        (name(&["name"]), name(&["weight"]), name(&["photo"]), name(&[]));
    let mut sorted = found;
    sorted.sort();
    assert_eq!(
        sorted,
        [
            ("[\"\"]", &none[..]),
            ("[\"p000007\"]", &names[..]),
            ("[\"p000100\"]", &weights[..]),
            ("[\"p000101\"]", &photos[..]),
            ("[\"p004000\"]", &none[..]),
            ("[\"q\"]", &none[..]),
        ]
    );
    assert_eq!(compared.requests, 4, "definitions, ranges, parts of ranges, rows");
    let text = lines(&compared).join("\n");
    assert!(text.contains(r#""name":"name 7""#) && text.contains(r#""name":"Eve""#), "{text}");
}

#[test]
fn pending_events_and_events_that_are_on_their_way_are_understood() {
    let (remote, mut desk) = people(2_000);
    // A pending change of each kind.
    desk.db
        .execute_batch(
            "UPDATE people SET name = 'mine' WHERE id = 'p000010';
             DELETE FROM people WHERE id = 'p000011';
             INSERT INTO people VALUES ('new', 'n', 1.5, NULL);
             UPDATE people SET id = 'moved' WHERE id = 'p000012';",
        )
        .unwrap();
    // The web goes on, also with the same rows.
    remote.web(
        "UPDATE people SET name = 'theirs' WHERE id IN ('p000010', 'p000020');
         DELETE FROM people WHERE id = 'p000021'; INSERT INTO people VALUES ('web', 'w', 2, NULL)",
    );
    assert_eq!(lines(&compare(&desk).unwrap()), Vec::<String>::new());
    // Something behind the back of a row with a pending event, and of one that the web changes.
    plant_here(&desk, "UPDATE people SET weight = 1 WHERE id = 'p000010'");
    plant_here(&desk, "UPDATE people SET name = 'lost' WHERE id = 'p000020'");
    plant_here(&desk, "UPDATE people SET name = 'other' WHERE id = 'moved'");
    let found: Vec<_> = compare(&desk).unwrap().rows.into_iter().map(|row| row.key.0).collect();
    let mut sorted = found.clone();
    sorted.sort();
    assert_eq!(sorted, [r#"["moved"]"#, r#"["p000010"]"#, r#"["p000020"]"#]);
    desk.sync().unwrap();
}

/// Of a row that was repaired, the remote's version is here, and the local one is in the inbox.
#[test]
fn a_repair_takes_the_remotes_rows_and_keeps_the_local_ones() {
    let (remote, mut desk) = people(300);
    plant_here(&desk, "UPDATE people SET name = 'Eve' WHERE id = 'p000007'");
    plant_here(&desk, "DELETE FROM people WHERE id = 'p000008'");
    plant_here(&desk, "INSERT INTO people VALUES ('q', 'nobody', 1.5, x'00')");
    desk.db.execute_batch("UPDATE people SET weight = 1 WHERE id = 'p000009'").unwrap();
    plant_here(&desk, "UPDATE people SET name = 'pending' WHERE id = 'p000009'");
    let (verified, repair) = verify(&desk, &VerifyOptions::default()).unwrap();
    assert_eq!(verified.differing, 4);
    let mut store = Store::open(desk.path()).unwrap();
    let done = repair.run(&mut store).unwrap();
    assert_eq!((done.rows, done.kept, done.skipped), (3, 2, 1), "one has a pending event");
    assert_eq!(repair.run(&mut store).unwrap().rows, 0, "it is done once");
    drop(store);
    desk.sync().unwrap();
    let (verified, repair) = verify(&desk, &VerifyOptions::default()).unwrap();
    let left: Vec<_> = verified.rows.iter().map(|row| row.key.0.as_str()).collect();
    assert_eq!(left, [r#"["p000009"]"#]);
    repair.run(&mut Store::open(desk.path()).unwrap()).unwrap();
    desk.sync().unwrap();
    assert!(compare(&desk).unwrap().is_clean());
    let same = "SELECT * FROM people ORDER BY 1";
    assert_eq!(desk.read(same), remote.read(same));
    let filter = ConflictFilter::default();
    let kept = desk.machine.store().conflict_page(&filter, 0, 10).unwrap();
    let kept: Vec<_> = kept.iter().map(|lost| lost.event.after.clone().unwrap()).collect();
    let names: Vec<_> = kept.iter().map(|row| row.get("name").unwrap().to_string()).collect();
    assert_eq!(names, ["Eve", "nobody", "pending"]);
}

/// The log of a replica against the remote's, and the frames themselves.
#[test]
fn a_log_that_is_not_the_remotes_is_named_event_by_event() {
    let (remote, mut desk) = people(10);
    for n in 0..300 {
        remote.web(&format!("UPDATE people SET weight = {n} WHERE id = 'p000003'"));
    }
    desk.sync().unwrap();
    let verified = compare(&desk).unwrap();
    assert!(verified.is_clean(), "{verified:?}");
    assert_eq!((verified.log.events, verified.log.rows, verified.log.before_log), (300, 1, 9));
    // An event is another one there, and one is gone here.
    let last = verified.log.last.unwrap().0;
    remote.web(&format!("UPDATE driftless_events SET pk = '[\"x\"]' WHERE seq = {}", last - 150));
    desk.db.execute_batch(&format!("DELETE FROM driftless_log WHERE seq = {}", last - 20)).unwrap();
    let verified = compare(&desk).unwrap();
    let differing: Vec<_> = verified.log.differing.iter().map(|event| event.seq.0).collect();
    assert_eq!(differing, [last - 150, last - 20]);
    assert!(verified.log.differing[1].local.is_none());
    assert_eq!(verified.log.damaged.len(), 1, "the chain breaks once: {:?}", verified.log.damaged);
    // A frame is damaged, as a disk damages it.
    let sql = format!("UPDATE driftless_log SET vals = x'01FF' WHERE seq = {}", last - 1);
    desk.db.execute_batch(&sql).unwrap();
    let verified = compare(&desk).unwrap();
    assert_eq!(verified.log.damaged.len(), 2, "{:?}", verified.log.damaged);
    assert!(!verified.is_clean());
}

/// Without the remote the log alone proves what it knows of a row.
#[test]
fn a_row_that_is_not_the_fold_of_the_log_is_named() {
    let (remote, mut desk) = people(10);
    remote.web("UPDATE people SET weight = 70 WHERE id = 'p000003'");
    desk.sync().unwrap();
    desk.db.execute_batch("UPDATE people SET name = 'mine' WHERE id = 'p000003'").unwrap();
    assert!(compare(&desk).unwrap().is_clean());
    // Both sides were changed alike behind the back of the log.
    let planted = "UPDATE people SET weight = 71 WHERE id = 'p000003'";
    plant_here(&desk, planted);
    plant_there(&remote, planted);
    let verified = compare(&desk).unwrap();
    let found: Vec<_> = verified.rows.iter().map(|row| (row.proof, &row.columns[..])).collect();
    assert_eq!(found, [(Proof::Log, &["weight".to_owned()][..])]);
}
