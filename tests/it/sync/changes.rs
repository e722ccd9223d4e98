//! What a subscriber is told of the rows that a page changed: each of them, with what happened to
//! it and who did it.

use std::sync::Arc;

use crate::support::desk::Desk;
use crate::support::local_remote::LocalRemote;

const SCHEMA: &str = "CREATE TABLE notes (id TEXT PRIMARY KEY, words TEXT UNIQUE);
                      CREATE TABLE marks (id TEXT PRIMARY KEY, words TEXT);";

/// A remote with a row of the web's, and two desks that have it.
fn world() -> (Arc<LocalRemote>, Desk, Desk) {
    let remote = Arc::new(LocalRemote::new(SCHEMA));
    remote.web("INSERT INTO notes VALUES ('n', 'first')");
    let desks = [1, 2].map(|number| Desk::with_schema(&remote, number, SCHEMA));
    let [mut a, mut b] = desks;
    for desk in [&mut a, &mut b] {
        desk.sync().unwrap();
        desk.changes.clear();
    }
    (remote, a, b)
}

/// What the desk was told since the last time, a word for each part.
fn told(desk: &mut Desk) -> Vec<String> {
    let me = desk.status().replica;
    let rows = desk.changes.drain(..).flat_map(|changes| changes.rows);
    let told = rows.map(|row| {
        let origin = row.origin.to_string();
        let origin = match &origin {
            origin if *origin == me => "me",
            origin if origin == "web" => "web",
            _ => "other",
        };
        format!("{} {} {} {origin}", row.table, row.key, row.op)
    });
    told.collect()
}

#[test]
fn a_change_says_what_happened_and_who_did_it() {
    let (remote, mut a, mut b) = world();
    remote.web("UPDATE notes SET words = 'second' WHERE id = 'n'");
    a.write("INSERT INTO notes VALUES ('a', 'of a')");
    a.sync().unwrap();
    b.sync().unwrap();
    assert_eq!(told(&mut b), ["notes n update web", "notes a insert other"]);
    remote.web("DELETE FROM notes WHERE id = 'n'");
    b.sync().unwrap();
    assert_eq!(told(&mut b), ["notes n delete web"]);
}

/// Rows of two tables with one key, one right behind the other.
#[test]
fn rows_of_two_tables_with_one_key_are_both_told() {
    let (remote, _, mut b) = world();
    remote.web("INSERT INTO notes VALUES ('x', 'x'); INSERT INTO marks VALUES ('x', 'x');");
    b.sync().unwrap();
    assert_eq!(told(&mut b), ["notes x insert web", "marks x insert web"]);
}

/// The newest event of a row says what became of it.
#[test]
fn a_row_that_is_changed_twice_is_told_once() {
    let (remote, _, mut b) = world();
    remote.web("UPDATE notes SET words = 'x' WHERE id = 'n'; DELETE FROM notes WHERE id = 'n';");
    b.sync().unwrap();
    assert_eq!(told(&mut b), ["notes n delete web"]);
}

/// A change of the application's own that the remote rejects is off its row without any event of
/// another writer.
#[test]
fn an_own_change_that_is_rejected_is_told() {
    let (_, mut a, mut b) = world();
    // Each has the same UNIQUE value, and does not know of the other's.
    a.db.execute_batch("INSERT INTO notes VALUES ('a', 'same')").unwrap();
    b.db.execute_batch("UPDATE notes SET words = 'same' WHERE id = 'n'").unwrap();
    a.sync().unwrap();
    b.sync().unwrap();
    assert_eq!(b.read("SELECT words FROM notes WHERE id = 'n'"), "first");
    let mut told = told(&mut b);
    told.sort();
    assert_eq!(told, ["notes a insert other", "notes n update me"]);
}

/// An own insert with the key of another's: the row is the other's, and told once as that.
#[test]
fn a_collision_is_told_as_the_winner_s() {
    let (remote, _, mut b) = world();
    b.db.execute_batch("INSERT INTO marks VALUES ('k', 'mine')").unwrap();
    remote.web("INSERT INTO marks VALUES ('k', 'theirs')");
    b.sync().unwrap();
    assert_eq!(b.read("SELECT words FROM marks WHERE id = 'k'"), "theirs");
    assert_eq!(told(&mut b), ["marks k insert web"]);
}
