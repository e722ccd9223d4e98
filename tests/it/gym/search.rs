//! The full-text index over members, which only the desktops have, stays in step with its table.

use super::*;

/// Members that are not in the index as they are, and entries of the index that are no member.
const OUT_OF_STEP: &str = "
  WITH
    found AS (
      SELECT member_id AS id, s.name, s.email, s.phone, s.notes
      FROM member_documents JOIN member_search s ON s.rowid = document),
    wanted AS (SELECT id, name, email, phone, notes FROM members)
  SELECT (SELECT count(*) FROM (SELECT * FROM wanted EXCEPT SELECT * FROM found))
       + (SELECT count(*) FROM (SELECT * FROM found EXCEPT SELECT * FROM wanted))
       + (SELECT abs((SELECT count(*) FROM member_search) - (SELECT count(*) FROM wanted)))";

fn assert_in_step(db: &Connection, after: &str) {
    assert_eq!(count(db, OUT_OF_STEP), 0, "after {after}");
    db.execute("INSERT INTO member_search (member_search) VALUES ('integrity-check')", [])
        .unwrap_or_else(|e| panic!("after {after}: {e}"));
}

fn hits(db: &Connection, words: &str) -> i64 {
    count_with(db, "SELECT count(*) FROM member_search WHERE member_search MATCH ?1", [words])
}

fn gym() -> Connection {
    let db = generated(SMALL);
    db.execute_batch(LOCAL).unwrap();
    assert_in_step(&db, "installing");
    db
}

#[test]
fn it_follows_every_kind_of_write() {
    let db = gym();
    let new = "INSERT INTO members (id, name, email) VALUES ('01A', 'Åsa Quux', 'a@example.com'),
               ('01B', 'Bo Quux', 'b@example.com'), ('01C', 'Cy Quux', NULL)";
    let writes = [
        (new, 3),
        ("UPDATE members SET name = 'Asa Corge' WHERE id = '01A'", 2),
        ("UPDATE members SET status = 'frozen'", 2),
        ("UPDATE members SET notes = 'once a quux' WHERE id = '01A'", 3),
        // Evicts Bo by the e-mail address, in another case, without a delete trigger.
        (
            "INSERT OR REPLACE INTO members (id, name, email) VALUES ('01D', 'Di', 'B@EXAMPLE.com')",
            2,
        ),
        // Replaces the row of the same key.
        ("REPLACE INTO members (id, name) VALUES ('01C', 'Cy Grault')", 1),
        // Evicts Di.
        ("UPDATE OR REPLACE members SET email = 'b@example.com' WHERE id = '01A'", 1),
        ("UPDATE OR REPLACE members SET id = '01C' WHERE id = '01A'", 1),
        ("INSERT OR IGNORE INTO members (id, name) VALUES ('01C', 'Nobody Quux')", 1),
        (
            "INSERT INTO members (id, name) VALUES ('01C', 'x') ON CONFLICT (id)
             DO UPDATE SET notes = 'none', name = 'Quux the second'",
            1,
        ),
        ("DELETE FROM members WHERE id = '01C'", 0),
    ];
    for (write, quuxes) in writes {
        db.execute(write, []).unwrap();
        assert_in_step(&db, write);
        assert_eq!(hits(&db, "quux"), quuxes, "after {write}");
    }
}

#[test]
fn it_survives_vacuum_and_recursive_triggers() {
    let db = gym();
    db.execute("DELETE FROM payments", []).unwrap();
    // Gaps in the rowids, which VACUUM closes.
    db.execute("DELETE FROM members WHERE rowid % 3 = 0", []).unwrap();
    db.execute_batch("VACUUM").unwrap();
    db.pragma_update(None, "recursive_triggers", true).unwrap();
    db.execute("UPDATE members SET phone = 'corge' WHERE rowid % 2 = 0", []).unwrap();
    assert_in_step(&db, "VACUUM and UPDATE");
    db.execute("INSERT OR REPLACE INTO members SELECT * FROM members", []).unwrap();
    assert_in_step(&db, "REPLACE with recursive triggers");
    db.execute("DELETE FROM members", []).unwrap();
    assert_in_step(&db, "DELETE");
}

#[test]
fn it_finds_people_without_their_accents() {
    let db = default_year();
    db.execute_batch(LOCAL).unwrap();
    let all = |name: &str| {
        count_with(&db, "SELECT count(*) FROM members WHERE name LIKE ?1 || ' %'", [name])
    };
    assert!(all("José") > 0 && all("Zoë") > 0);
    assert!(hits(&db, "name:jose") >= all("José"));
    assert!(hits(&db, "name:zoe") >= all("Zoë"));
}
