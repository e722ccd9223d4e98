//! Own events come back without the values that their writer has in its outbox, and long pages
//! without what their lines share. They end in the log as they end in everybody else's.

use std::sync::Arc;

use driftless::event::value::Value;
use driftless::remote::Batch;

use crate::support::desk::{Desk, assert_equal};
use crate::support::local_remote::{Fault, LocalRemote};
use crate::support::members::{TABLES, many};

/// Values of all kinds, an action of a foreign key and a trigger of the web's.
const SCHEMA: &str = "
    CREATE TABLE members (id TEXT PRIMARY KEY, name TEXT, email TEXT UNIQUE, any);
    CREATE TABLE payments (id INTEGER PRIMARY KEY,
        member TEXT REFERENCES members (id) ON DELETE CASCADE ON UPDATE CASCADE, cents INT);";

const WEB: &str = "
    CREATE TRIGGER counts AFTER INSERT ON payments WHEN new.cents = 13
    BEGIN UPDATE members SET any = 'unlucky' WHERE id = new.member; END;";

fn remote() -> Arc<LocalRemote> {
    Arc::new(LocalRemote::new(SCHEMA))
}

fn desk(remote: &Arc<LocalRemote>, number: u128) -> Desk {
    Desk::with_schema(remote, number, SCHEMA)
}

/// The local log, to the bit.
fn frames(desk: &Desk) -> String {
    desk.read("SELECT seq, hex(header), hex(vals), hex(hash) FROM driftless_log ORDER BY seq")
}

/// The id under which a desk asks.
fn name(desk: &mut Desk) -> Value {
    Value::from(desk.machine.store().id().to_string().as_str())
}

/// The pages that a desk has asked for since there were `before` requests, as they come now: with
/// and without own values.
fn pages(remote: &LocalRemote, name: &Value, before: usize) -> [Vec<String>; 2] {
    let mut pages = [Vec::new(), Vec::new()];
    for batch in remote.batches().split_off(before) {
        if !batch.statements.iter().any(|asked| asked.args.contains(name)) {
            continue;
        }
        for asked in
            batch.statements.iter().filter(|asked| asked.sql.contains("CAST(group_concat(line"))
        {
            let batch = Batch { statements: vec![asked.clone()], writes: false };
            let answer = remote.run_now(batch).unwrap();
            if let Value::Blob(bytes) = &answer.rows[0][0][0] {
                let echoes = usize::from(asked.sql.contains("BETWEEN"));
                pages[echoes].push(String::from_utf8(bytes.clone()).unwrap());
            }
        }
    }
    pages
}

#[test]
fn verdicts_alone_come_back_and_the_logs_are_equal() {
    let remote = remote();
    let (mut a, mut b) = (desk(&remote, 1), desk(&remote, 2));
    remote.web(WEB);
    let before = remote.requests();
    a.machine.store().set_actor(Some("an \"actor\"\n")).unwrap();
    a.write(&many(40, "a"));
    a.write(
        "INSERT INTO members VALUES ('x', 'tab\t \"q\" \\ é 😀', NULL, 0.1), ('y', x'00FF', 'e', 1e300),
            ('z', CAST(x'610062' AS TEXT), '', -9223372036854775808),
            ('w', CAST(x'FF41' AS TEXT), 'w', 9e999);
         INSERT INTO payments VALUES (1, 'x', 100), (2, 'y', 13), (3, 'z', NULL);
         UPDATE members SET any = 2, name = NULL WHERE id = 'x';
         UPDATE members SET id = 'xx' WHERE id = 'x';
         DELETE FROM members WHERE id = 'z'; DELETE FROM members WHERE id = 'a7'",
    );
    b.write("INSERT INTO members VALUES ('b', 'Bea', 'b@x', NULL)");
    a.sync().unwrap();
    b.sync().unwrap();
    a.sync().unwrap();
    // One that loses to another writer, and one that breaks a constraint of the remote's.
    b.write("UPDATE members SET name = 'first' WHERE id = 'a1'");
    b.sync().unwrap();
    remote.web("UPDATE members SET email = 'taken' WHERE id = 'a3'");
    a.write("UPDATE members SET name = 'second' WHERE id = 'a1'");
    a.write("UPDATE members SET email = 'taken' WHERE id = 'a2'");
    a.sync().unwrap();
    b.sync().unwrap();
    a.sync().unwrap();
    let [_, echoed] = pages(&remote, &name(&mut a), before);
    let all = echoed.concat();
    assert!(!all.contains("name 4"), "own values travel: {all}");
    assert!(all.contains("Bea"), "others' values are in the same pages");
    assert!(all.contains("unlucky"), "what the remote has added is there");
    let lines = all.lines().filter(|line| line.len() < 60).count();
    assert!(lines >= 40, "what neighbours share is said once: {all}");
    for table in TABLES {
        assert_eq!(
            a.read(&format!("SELECT * FROM {table} ORDER BY 1")),
            b.read(&format!("SELECT * FROM {table} ORDER BY 1"))
        );
    }
    assert_eq!(frames(&a), frames(&b));
    assert_eq!(a.status().conflicts, 2, "the two that lost");
}

#[test]
fn a_copy_gets_the_values_of_events_that_have_its_own_numbers() {
    let remote = remote();
    let mut a = desk(&remote, 1);
    a.write(&many(3, "both"));
    a.sync().unwrap();
    let mut b = a.copy(2);
    a.db.execute_batch(&many(5, "a")).unwrap();
    b.db.execute_batch(&many(5, "b")).unwrap();
    a.sync().unwrap();
    let (before, name) = (remote.requests(), name(&mut b));
    b.sync().unwrap();
    let [whole, echoed] = pages(&remote, &name, before);
    assert!(!echoed.concat().contains("\"a5\""), "they are asked for without values");
    assert!(whole.concat().contains("\"a5\""), "and then with them");
    a.sync().unwrap();
    for desk in [&a, &b] {
        assert_equal(desk, &TABLES);
        assert_eq!(desk.read("SELECT count(*) FROM members"), "13");
    }
    assert_eq!(frames(&a), frames(&b));
}

#[test]
fn a_restored_file_gets_the_values_of_events_that_it_has_lost() {
    let remote = remote();
    let (mut a, mut b) = (desk(&remote, 1), desk(&remote, 2));
    a.write(&many(3, "early"));
    a.sync().unwrap();
    a.db.execute_batch(&many(2, "pending")).unwrap();
    let backup = a.backup();
    a.sync().unwrap();
    a.write(&many(4, "lost"));
    a.sync().unwrap();
    a.restore(&backup);
    // Two of these get numbers that are in the log with other events, and one gets a fresh one.
    a.db.execute_batch(&many(3, "again")).unwrap();
    let (before, name) = (remote.requests(), name(&mut a));
    a.sync().unwrap();
    let [whole, echoed] = pages(&remote, &name, before);
    assert!(!echoed.is_empty() && !whole.is_empty(), "they are asked for twice");
    for desk in [&mut a, &mut b] {
        desk.sync().unwrap();
        assert_equal(desk, &TABLES);
        assert_eq!(desk.read("SELECT count(*) FROM members"), "12");
    }
    assert_eq!(frames(&a), frames(&b));
}

#[test]
fn an_event_that_changed_after_it_was_pushed_comes_whole() {
    let remote = remote();
    let (mut a, mut b) = (desk(&remote, 1), desk(&remote, 2));
    remote.fail([Fault::LostAfter]);
    a.write("INSERT INTO members VALUES ('k', 'as it was pushed', NULL, NULL)");
    a.settle();
    assert_eq!(remote.faults_left(), 0);
    let changed = a.db.execute("UPDATE driftless_outbox SET a2 = 'another'", []).unwrap();
    assert_eq!(changed, 1);
    let before = remote.requests();
    a.sync().unwrap();
    b.sync().unwrap();
    assert!(pages(&remote, &name(&mut a), before)[0].concat().contains("as it was pushed"));
    assert_eq!(frames(&a), frames(&b));
}

/// The same columns in another order, and names that are no plain words.
const ODD: &str =
    "CREATE TABLE \"it's \"\"odd\"\"\" (id INTEGER PRIMARY KEY, \"a b\" TEXT, \"*\");";
const OTHER_ORDER: &str = "
    CREATE TABLE members (any, email TEXT UNIQUE, name TEXT, id TEXT PRIMARY KEY);
    CREATE TABLE payments (id INTEGER PRIMARY KEY, cents INT,
        member TEXT REFERENCES members (id) ON DELETE CASCADE ON UPDATE CASCADE);";

#[test]
fn a_long_log_comes_lean_and_the_logs_are_equal() {
    let remote = Arc::new(LocalRemote::new(&format!("{SCHEMA}{ODD}")));
    let mut a = Desk::with_schema(&remote, 1, &format!("{SCHEMA}{ODD}"));
    let mut b = Desk::with_schema(&remote, 2, &format!("{OTHER_ORDER}{ODD}"));
    let mut reader = Desk::with_schema(&remote, 3, &format!("{SCHEMA}{ODD}"));
    a.write(&many(30, "a"));
    b.write(&many(30, "b"));
    let both = "
        INSERT INTO members VALUES ('?x', 'tab\t \"q\" \\ é 😀', NULL, 0.1), ('?y', x'00FF', '?', 1e300),
            ('?,\"name\":\"z', CAST(x'610062' AS TEXT), '?e', '\",\"email\":\"');
        INSERT INTO payments (id, member, cents) VALUES (?1, '?x', 100), (?2, '?y', 1);
        INSERT INTO \"it's \"\"odd\"\"\" VALUES (?7, 'k', ','), (?8, NULL, 1.5);
        UPDATE members SET any = 2, name = NULL WHERE id = '?y';
        UPDATE members SET id = '?xx' WHERE id = '?x';
        DELETE FROM members WHERE id IN ('a?', 'b7', '?y', 'a4')";
    a.write(&both.replace('?', "4"));
    remote.web(&both.replace('?', "5"));
    a.sync().unwrap();
    b.write(
        &both.replace("members VALUES", "members (id, name, email, any) VALUES").replace('?', "6"),
    );
    b.sync().unwrap();
    a.sync().unwrap();
    let before = remote.requests();
    // Small answers, so that the log is known to go on.
    remote.set_caps(usize::MAX, 6_000);
    reader.sync().unwrap();
    remote.set_caps(usize::MAX, usize::MAX);
    let asked: Vec<_> =
        remote.batches().split_off(before).into_iter().flat_map(|batch| batch.statements).collect();
    let lean: Vec<_> =
        asked.into_iter().filter(|asked| asked.sql.contains("json_extract")).collect();
    assert!(!lean.is_empty(), "pages are asked for with the names of columns");
    let batch = Batch { statements: lean, writes: false };
    let pages = remote.run_now(batch).unwrap().rows;
    let pages: Vec<_> =
        pages.iter().map(|rows| rows[0][0].as_bytes().unwrap_or_default()).collect();
    let pages = String::from_utf8(pages.join(&b'\n')).unwrap();
    assert!(pages.contains(",0,[\"a9\",\"name 9\",null,null]]"), "rows are arrays: {pages}");
    assert!(pages.contains("{\"any\":null,\"email\":null,"), "those of another order are not");
    assert!(pages.contains("\"it's \\\"odd\\\"\""), "nor are odd names");
    assert_eq!(frames(&a), frames(&reader));
    assert_eq!(frames(&b), frames(&reader));
    for table in TABLES {
        let read = format!("SELECT * FROM {table} ORDER BY id");
        assert_eq!(a.read(&read), reader.read(&read));
        assert_eq!(a.read(&read), remote.read(&read));
    }
}

#[test]
fn a_row_with_more_columns_is_no_array() {
    let remote = remote();
    let (mut a, mut reader) = (desk(&remote, 1), desk(&remote, 2));
    a.write(&many(60, "a"));
    a.sync().unwrap();
    // As a replica would log it whose table has a column more.
    remote.web(
        "UPDATE driftless_events SET after = replace(after, ',\"email\":', ',\"more\":\"beyond\",\"email\":')
         WHERE pk = '[\"a55\"]'",
    );
    remote.set_caps(usize::MAX, 6_000);
    reader.sync().unwrap();
    let beyond = "SELECT count(*) FROM driftless_log WHERE instr(vals, CAST('beyond' AS BLOB)) > 0";
    assert_eq!(reader.read(beyond), "1", "the log has all of the event");
    assert_eq!(reader.read("SELECT name FROM members WHERE id = 'a55'"), "name 55");
}
