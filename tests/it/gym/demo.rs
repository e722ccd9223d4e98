//! The demo's story and its loop: the format, and that every step does something.

use rusqlite::Batch;
use rusqlite::fallible_iterator::FallibleIterator;

use super::*;

const STORY: &str = include_str!("../../../fixtures/gym/demo/story.sql");
const LOOP: &str = include_str!("../../../fixtures/gym/demo/loop.sql");

/// A directive of a script, with the SQL that follows it.
#[derive(Debug)]
struct Directive {
    /// `replica`, `remote`, `sync`, `offline`, `online`, or `step`.
    verb: &'static str,
    /// Whom it is about; empty for `sync`.
    who: String,
    /// What a step does, in words.
    sentence: String,
    sql: String,
}

/// Reads a script in the format that `fixtures/gym/README.md` describes.
fn parse(script: &str) -> Vec<Directive> {
    let mut directives: Vec<Directive> = Vec::new();
    for line in script.lines() {
        let Some(text) = line.strip_prefix("-- @") else {
            if let Some(last) = directives.last_mut().filter(|_| !line.starts_with("--")) {
                last.sql += line;
                last.sql += "\n";
            }
            continue;
        };
        let (verb, who, sentence) = if let Some((who, sentence)) = text.split_once(": ") {
            ("step", who, sentence)
        } else {
            let (word, who) = text.split_once(' ').unwrap_or((text, ""));
            let known = ["replica", "remote", "sync", "offline", "online"];
            (known.into_iter().find(|verb| *verb == word).unwrap(), who, "")
        };
        let [who, sentence] = [who, sentence].map(str::to_owned);
        directives.push(Directive { verb, who, sentence, sql: String::new() });
    }
    directives
}

/// Runs a step and asserts that each of its statements changes something.
fn perform(db: &Connection, step: &Directive) {
    let mut batch = Batch::new(db, &step.sql);
    let mut statements = 0;
    while let Some(mut statement) = batch.next().unwrap() {
        let changed = statement.execute([]).unwrap_or_else(|e| panic!("{step:?}: {e}"));
        assert!(changed > 0, "statement {statements} of {step:?}");
        statements += 1;
    }
    assert!(statements > 0, "{step:?}");
}

/// Plays the story with everyone who is online on one database, and gives that database and the
/// one of whoever was offline as it was just before coming back.
fn play() -> (Connection, Connection) {
    let everyone = default_year();
    let mut alone: Option<(String, Connection)> = None;
    let mut returned = None;
    let mut cast = Vec::new();
    for directive in parse(STORY) {
        match directive.verb {
            "replica" | "remote" => cast.push(directive.who),
            "sync" => {}
            "offline" => {
                assert!(cast.contains(&directive.who) && alone.is_none());
                alone = Some((directive.who, copy(&everyone)));
            }
            "online" => returned = Some(alone.take().unwrap().1),
            _ => {
                assert!(cast.contains(&directive.who), "{directive:?}");
                let sentence = &directive.sentence;
                assert!(sentence.ends_with('.') && sentence.len() < 100, "{sentence}");
                match &alone {
                    Some((who, db)) if *who == directive.who => perform(db, &directive),
                    _ => perform(&everyone, &directive),
                }
            }
        }
    }
    assert!(alone.is_none(), "everyone is online in the end");
    (everyone, returned.unwrap())
}

#[test]
fn every_statement_of_the_story_changes_something() {
    let steps = parse(STORY);
    let of = |who: &str| steps.iter().filter(|d| d.verb == "step" && d.who == who).count();
    assert!(of("desk") >= 5 && of("laptop") >= 5 && of("web") >= 5);
    assert_eq!(steps.last().unwrap().verb, "sync", "the story ends with everyone in step");
    let (everyone, alone) = play();
    assert_sound(&everyone);
    assert_sound(&alone);
}

#[test]
fn the_story_has_the_conflicts_that_it_tells_of() {
    let (everyone, alone) = play();
    let text = |db: &Connection, sql: &str| -> String {
        db.query_row(sql, [], |row| row.get(0)).unwrap_or_else(|e| panic!("{sql}: {e}"))
    };
    // Two phone numbers for one member.
    let (phone, who) = ("+44 7700 900222", "SELECT id FROM members WHERE phone = ?1");
    let edited: String = alone.query_row(who, [phone], |row| row.get(0)).unwrap();
    let theirs: String = everyone.query_row(who, ["+44 7700 900333"], |row| row.get(0)).unwrap();
    assert_eq!(edited, theirs);
    // Two members with one e-mail address.
    let sam = "SELECT id FROM members WHERE email = 'sam.vale@example.com'";
    assert_ne!(text(&everyone, sam), text(&alone, sam));
    // A class that one edited and the other deleted, with bookings that lose it.
    let room = "SELECT room FROM classes WHERE name = 'Kettlebell basics'";
    assert_eq!(text(&everyone, room), "Studio 2");
    let class = "SELECT count(*) FROM classes WHERE name = 'Kettlebell basics'";
    assert_eq!(count(&alone, class), 0);
    let bookings =
        "SELECT count(*) FROM attendance WHERE checked_in_at = '2026-01-08T20:00:00.000Z'
                    AND class_id IS NOT NULL";
    assert_eq!((count(&everyone, bookings), count(&alone, bookings)), (2, 0));
    // And what is in nobody's way.
    let towel = "SELECT count(*) FROM payments WHERE note = 'Towel' AND paid_at >= '2026'";
    assert_eq!((count(&everyone, towel), count(&alone, towel)), (0, 1));
}

#[test]
fn the_loop_runs_for_ever_on_either_side() {
    let steps = parse(LOOP);
    assert!(steps.iter().all(|d| d.verb == "step" && !d.sql.trim().is_empty()));
    for extra in [LOCAL, REMOTE] {
        let db = generated(SMALL);
        db.execute_batch(extra).unwrap();
        let mut idle: Vec<&Directive> = steps.iter().collect();
        for _ in 0..100 {
            for step in &steps {
                let before = db.total_changes();
                db.execute_batch(&step.sql).unwrap_or_else(|e| panic!("{step:?}: {e}"));
                if db.total_changes() > before {
                    idle.retain(|d| !std::ptr::eq(*d, step));
                }
            }
        }
        assert!(idle.is_empty(), "never did anything: {idle:?}");
        assert_sound(&db);
    }
    for sql in ["INSERT", "UPDATE", "DELETE"] {
        assert!(steps.iter().any(|d| d.sql.contains(sql)), "no {sql}");
    }
}
