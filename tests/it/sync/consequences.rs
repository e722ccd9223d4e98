//! What a foreign key's action does on a desk is told apart from what the person did, and loses with
//! it.

use std::sync::Arc;

use crate::support::desk::{Desk, assert_equal};
use crate::support::local_remote::LocalRemote;

/// Deletes a plan here while the web changes it: the delete loses, and so do the bookings that the
/// foreign key took along.
fn a_lost_delete_brings_the_children_back(schema: &str) {
    let remote = Arc::new(LocalRemote::new(schema));
    remote.web(
        "INSERT INTO plans VALUES (1, 'gold', 10); INSERT INTO bookings VALUES (7, 'gold'), (8, 'gold')",
    );
    let mut desk = Desk::with_schema(&remote, 1, schema);
    remote.web("UPDATE plans SET cents = 20");
    desk.write("DELETE FROM plans WHERE code = 'gold'");
    assert_eq!(desk.read("SELECT count(*) FROM bookings"), "0", "the foreign key acts at once");
    desk.sync().unwrap();
    assert_equal(&desk, &["plans", "bookings"]);
    assert_eq!(desk.read("SELECT group_concat(id) FROM bookings"), "7,8");
    let reasons = "SELECT group_concat(tbl || ' ' || reason) FROM driftless_events \
                   WHERE verdict = 'superseded'";
    assert_eq!(remote.read(reasons), "plans conflict,bookings via,bookings via");
}

#[test]
fn children_of_a_key() {
    a_lost_delete_brings_the_children_back(
        "CREATE TABLE plans (id INTEGER, code TEXT PRIMARY KEY, cents INT);
         CREATE TABLE bookings (id INTEGER PRIMARY KEY,
             plan TEXT REFERENCES plans ON DELETE CASCADE);",
    );
}

#[test]
fn children_of_another_unique_column() {
    a_lost_delete_brings_the_children_back(
        "CREATE TABLE plans (id INTEGER PRIMARY KEY, code TEXT UNIQUE COLLATE NOCASE, cents INT);
         CREATE TABLE bookings (id INTEGER PRIMARY KEY,
             plan TEXT REFERENCES plans (code) ON DELETE CASCADE);",
    );
}
