//! The applied events of the log fold to the remote's tables, whatever is pushed, whatever the web
//! application writes, and whatever its triggers and foreign keys do.
//!
//! Four tables with random foreign-key actions, UNIQUE columns, a CHECK now and then, and up to
//! three triggers of the web's out of a list of nasty ones, made before driftless came or after.
//! Each step is a web transaction or a push; after each one `Remote::check` must hold. A push that
//! fails as a whole is tried event by event, as the pusher does, and an event that cannot be in at
//! all is recorded as refused.
//!
//! `fixtures/mutations` has bugs that these histories find. Two triggers that both logged a noted
//! write were found by the demand that every event finds its row as it says that it was.

use std::collections::BTreeMap;

use driftless::event::EventId;
use driftless::event::conflict::ConflictRule;
use fastrand::Rng;

use super::remote::{Cut, Pushed, Remote};
use crate::support::engine::Engine;
use crate::support::seeds::each_seed;

const STEPS: usize = 50;

pub(super) const TRIGGERS: [&str; 11] = [
    "CREATE TRIGGER x_touch AFTER UPDATE OF a ON m BEGIN \
     UPDATE m SET t = coalesce(t, 0) + 1 WHERE id = new.id; END;",
    "CREATE TRIGGER x_clamp AFTER UPDATE OF a ON m WHEN new.a > 90 BEGIN \
     UPDATE m SET a = 50 WHERE id = new.id; END;",
    "CREATE TRIGGER x_ins AFTER INSERT ON m BEGIN UPDATE m SET t = 7 WHERE id = new.id; END;",
    "CREATE TRIGGER x_aba AFTER UPDATE OF a ON m BEGIN \
     UPDATE m SET u = 'tmp' || id WHERE id = new.id; UPDATE m SET u = new.u WHERE id = new.id; END;",
    "CREATE TRIGGER x_aba2 AFTER INSERT ON p BEGIN \
     UPDATE p SET x = -1 WHERE id = new.id; UPDATE p SET x = new.x WHERE id = new.id; END;",
    "CREATE TRIGGER x_child AFTER INSERT ON m BEGIN \
     INSERT OR IGNORE INTO p VALUES ('w' || new.id, new.id, 0); END;",
    "CREATE TRIGGER x_del AFTER UPDATE OF a ON m WHEN new.a = 33 BEGIN \
     DELETE FROM m WHERE id = new.id; END;",
    "CREATE TRIGGER x_undel AFTER DELETE ON s WHEN old.v = 2 BEGIN \
     INSERT INTO s VALUES (old.id, NULL, old.v); END;",
    "CREATE TRIGGER x_quiet BEFORE UPDATE ON m WHEN new.a = 13 BEGIN SELECT RAISE(IGNORE); END;",
    "CREATE TRIGGER x_abort BEFORE INSERT ON p WHEN new.x = 5 BEGIN SELECT RAISE(ABORT, 'no'); END;",
    "CREATE TRIGGER x_other AFTER UPDATE OF x ON p BEGIN \
     UPDATE m SET t = new.x WHERE id = new.mid; END;",
];

pub(super) fn any<T: Copy>(random: &mut Rng, of: &[T]) -> T {
    of[random.usize(..of.len())]
}

pub(super) fn schema(random: &mut Rng) -> String {
    let foreign = |random: &mut Rng, parent: &str| {
        format!(
            "REFERENCES {parent} (id) ON DELETE {} ON UPDATE {} {}",
            any(random, &["CASCADE", "SET NULL", "RESTRICT", "NO ACTION"]),
            any(random, &["CASCADE", "SET NULL", "NO ACTION"]),
            any(random, &["", "DEFERRABLE INITIALLY DEFERRED"]),
        )
    };
    let nocase = any(random, &["", "COLLATE NOCASE"]);
    let check = any(random, &["", ", CHECK (a IS NULL OR t IS NULL OR a + t < 140)"]);
    format!(
        "CREATE TABLE m (id TEXT PRIMARY KEY {nocase}, a, u TEXT UNIQUE {nocase}, t INT{check});
         CREATE TABLE p (id TEXT PRIMARY KEY, mid TEXT {}, x INT);
         CREATE TABLE q (id TEXT PRIMARY KEY, pid TEXT {}, y);
         CREATE TABLE s (id TEXT PRIMARY KEY, par TEXT {}, v INT UNIQUE);",
        foreign(random, "m"),
        foreign(random, "p"),
        foreign(random, "s"),
    )
}

/// The keys of a table; those of `m` are lower case, as canonical keys of a NOCASE column are.
fn key(random: &mut Rng, table: &str) -> &'static str {
    match table {
        "m" => any(random, &["ka", "kb", "kc", "kd"]),
        "p" => any(random, &["ca", "cb", "cc", "wka"]),
        "q" => any(random, &["ga", "gb"]),
        _ => any(random, &["sa", "sb", "sc", "sd"]),
    }
}

fn number(random: &mut Rng) -> &'static str {
    any(random, &["1", "5", "13", "33", "60", "95", "120", "null"])
}

/// JSON of a value for a column, as an event has it.
fn cell(random: &mut Rng, column: &str) -> String {
    let quoted = |text: &str| format!("\"{text}\"");
    match column {
        "a" | "y" => {
            let number = number(random);
            any(random, &["1", "{\"r\":\"1.0\"}", number]).to_owned()
        }
        "u" => any(random, &["\"x\"", "\"y\"", "\"X\"", "null"]).to_owned(),
        "t" => any(random, &["1", "5", "9", "50"]).to_owned(),
        "x" => random.u8(..10).to_string(),
        "mid" => {
            if random.u8(..5) > 0 {
                quoted(key(random, "m"))
            } else {
                "null".to_owned()
            }
        }
        "pid" => quoted(key(random, "p")),
        "par" => {
            if random.bool() {
                quoted(key(random, "s"))
            } else {
                "null".to_owned()
            }
        }
        _ => any(random, &["1", "2", "3", "null"]).to_owned(),
    }
}

pub(super) const COLUMNS: [(&str, &[&str]); 4] =
    [("m", &["a", "u", "t"]), ("p", &["mid", "x"]), ("q", &["pid", "y"]), ("s", &["par", "v"])];

fn whole(random: &mut Rng, key: &str, columns: &[&str]) -> String {
    let mut row = format!("{{\"id\":\"{key}\"");
    for column in columns {
        row.push_str(&format!(",\"{column}\":{}", cell(random, column)));
    }
    row.push('}');
    row
}

/// A table with its columns, the kind of an event (as [`event`] draws it), and the column that an
/// update changes: what all events of a push have in common.
pub(super) type Focus = Option<((&'static str, &'static [&'static str]), u8, usize)>;

/// An event, or the two of a key change. Most are of rows as they are, so that most are applied.
pub(super) fn event(
    random: &mut Rng,
    remote: &Remote,
    before: &[Pushed],
    focus: Focus,
) -> Vec<Pushed> {
    let id = |random: &mut Rng| {
        EventId(ulid::Ulid(random.u128(..))).to_string().to_lowercase()[1..].to_owned()
    };
    let (table, columns) = focus.map_or_else(|| any(random, &COLUMNS), |focus| focus.0);
    let name = key(random, table);
    let json = format!("[\"{name}\"]");
    let there = remote.standing().contains_key(&(table.to_owned(), json.clone()));
    let last = remote.log(0).last().map_or(0, |event| event.seq);
    let base = if random.u8(..3) > 0 { last } else { random.i64(0..=last) };
    let mut event = Pushed {
        id: id(random),
        table: table.to_owned(),
        key: json,
        base,
        defer_fk: random.u8(..5) == 0,
        ..Pushed::default()
    };
    let kind = if let Some((_, kind, _)) = focus {
        kind
    } else if random.u8(..8) == 0 {
        random.u8(..10)
    } else if there {
        random.u8(3..10)
    } else {
        0
    };
    match kind {
        0..=2 => {
            event.op = "insert".to_owned();
            event.after = Some(whole(random, name, columns));
        }
        3 => {
            event.op = "delete".to_owned();
            let cause = before.iter().find(|cause| cause.op == "delete" && cause.table != table);
            event.via = cause.filter(|_| random.bool()).map(|cause| cause.id.clone());
        }
        4 => {
            event.op = "delete".to_owned();
            let to = key(random, table);
            if to != name {
                event.other = Some(format!("[\"{to}\"]"));
                event.image = Some(whole(random, to, columns));
                event.pair = Some(id(random));
                let second = event.second_half();
                return vec![event, second];
            }
        }
        _ => {
            let column = any(random, columns);
            let column = focus.map_or(column, |(_, _, column)| columns[column % columns.len()]);
            event.op = "update".to_owned();
            event.after = Some(format!("{{\"{column}\":{}}}", cell(random, column)));
        }
    }
    vec![event]
}

/// A statement of the web application's.
pub(super) fn statement(random: &mut Rng) -> String {
    let (table, columns) = any(random, &COLUMNS);
    let or = any(random, &["", "OR REPLACE", "OR REPLACE", "OR IGNORE"]);
    let sql = |json: String| {
        json.strip_prefix("{\"r\":\"").map_or(json.replace('"', "'"), |_| "1.0".to_owned())
    };
    let id = key(random, table);
    let id = if random.u8(..4) == 0 { id.to_uppercase() } else { id.to_owned() };
    let column = any(random, columns);
    let value = sql(cell(random, column));
    match random.u8(..10) {
        0..=2 => {
            let values: Vec<_> = columns.iter().map(|column| sql(cell(random, column))).collect();
            let upsert = match random.u8(..8) {
                0 => format!("ON CONFLICT (id) DO UPDATE SET {column} = excluded.{column}"),
                1 => "ON CONFLICT DO NOTHING".to_owned(),
                _ => String::new(),
            };
            let or = if upsert.is_empty() { or } else { "" };
            format!("INSERT {or} INTO {table} VALUES ('{id}', {}) {upsert}", values.join(", "))
        }
        3..=5 => format!("UPDATE {or} {table} SET {column} = {value} WHERE id = '{id}'"),
        6 => format!("UPDATE {table} SET {column} = {value}"),
        7 => format!("UPDATE {or} {table} SET id = '{}' WHERE id = '{id}'", key(random, table)),
        8 => format!("UPDATE {table} SET id = upper(id) WHERE id = '{id}'"),
        _ => format!("DELETE FROM {table} WHERE id = '{id}'"),
    }
}

/// Pushes, and singles out what makes a push fail as a whole.
fn push(remote: &Remote, origin: &str, events: Vec<Pushed>, seen: &mut BTreeMap<String, usize>) {
    if remote.push(origin, &events).is_ok() {
        return;
    }
    *seen.entry("failed as a whole".to_owned()).or_default() += 1;
    let mut rest = events.as_slice();
    while let Some(first) = rest.first() {
        let (alone, after) = rest.split_at(if first.pair.is_some() { 2 } else { 1 });
        rest = after;
        let mut alone = alone.to_vec();
        alone.iter_mut().for_each(|event| event.defer_fk = false);
        if let Err(message) = remote.push(origin, &alone) {
            alone.iter_mut().for_each(|event| event.refuse = Some(message.clone()));
            remote.push(origin, &alone).unwrap();
        }
        remote.check();
    }
}

fn run(seed: u64, engine: Engine, seen: &mut BTreeMap<String, usize>) {
    let mut random = Rng::with_seed(seed);
    let rule = any(&mut random, &[ConflictRule::Row, ConflictRule::Columns]);
    let mut triggers = TRIGGERS.to_vec();
    random.shuffle(&mut triggers);
    triggers.truncate(random.usize(..4));
    let triggers = triggers.join("\n");
    let late = random.u8(..10) < 3;
    let schema = schema(&mut random);
    let mut remote = match late {
        true => Remote::over(engine, &schema, |_| rule),
        false => Remote::over(engine, &format!("{schema}\n{triggers}"), |_| rule),
    };
    if late {
        remote.db.execute_batch(&triggers).unwrap();
        remote.late = true;
    }
    for _ in 0..STEPS {
        if random.u8(..3) == 0 {
            let statements: Vec<_> = (0..random.u8(1..3)).map(|_| statement(&mut random)).collect();
            let done = remote.transaction(&statements.join(";\n"));
            *seen.entry(format!("web ok {}", done.is_ok())).or_default() += 1;
        } else {
            let mut events = Vec::new();
            for _ in 0..random.u8(1..5) {
                events.extend(event(&mut random, &remote, &events, None));
            }
            let ids: BTreeMap<_, _> =
                events.iter().map(|event| (event.id.clone(), super::said(event).into())).collect();
            let last = remote.log(0).last().map_or(0, |event| event.seq);
            push(&remote, any(&mut random, &["A", "B"]), events, seen);
            for event in remote.log(last) {
                let said = ids.get(&event.id).map_or("consequence", String::as_str);
                let reason = event.reason.unwrap_or_default();
                let reason = reason.split(':').next().unwrap();
                *seen.entry(format!("{said} {} {reason}", event.verdict)).or_default() += 1;
            }
        }
        remote.check();
    }
}

#[test]
fn the_applied_log_folds_to_the_tables() {
    let mut seen = BTreeMap::new();
    let filter = "verdict::histories";
    let repeat = each_seed(60, filter, |seed| run(seed, Engine::bundled(), &mut seen));
    if std::env::var("DRIFTLESS_TEST_SEED").is_ok() {
        return;
    }
    // The histories are worth something only if all this came up.
    for what in [
        "insert applied ",
        "update applied ",
        "delete applied ",
        "move applied ",
        "consequence applied ",
        "update superseded conflict",
        "move superseded conflict",
        "delete superseded via",
        "insert rejected exists",
        "insert rejected unique",
        "update rejected unique",
        "insert rejected foreign",
        "update rejected refused",
        "delete rejected children",
        "failed as a whole",
        "web ok true",
        "web ok false",
    ] {
        assert!(seen.contains_key(what), "`{what}` never came up: {seen:?}\n{repeat}");
    }
    let by_check = |what: &String| what.contains("rejected CHECK constraint failed");
    assert!(seen.keys().any(by_check), "no CHECK refused anything: {seen:?}\n{repeat}");
}

#[test]
fn libsqls_engine_folds_it_too() {
    let Some(engine) = Engine::libsql() else { return };
    each_seed(8, "verdict::histories", |seed| run(seed, engine.another(), &mut BTreeMap::new()));
}

/// Two remotes with the same tables: one takes each push in runs, the other one event by event.
fn run_beside_singles(seed: u64, seen: &mut BTreeMap<String, usize>) {
    let mut random = Rng::with_seed(seed);
    let rule = any(&mut random, &[ConflictRule::Row, ConflictRule::Columns]);
    let mut triggers = TRIGGERS.to_vec();
    random.shuffle(&mut triggers);
    triggers.truncate(random.usize(..3));
    let schema = format!("{}\n{}", schema(&mut random), triggers.join("\n"));
    let runs = Remote::new(&schema, |_| rule);
    let mut singles = Remote::new(&schema, |_| rule);
    singles.cut = Cut::Singles;
    for _ in 0..STEPS {
        if random.u8(..3) == 0 {
            let sql = statement(&mut random);
            assert_eq!(runs.transaction(&sql), singles.transaction(&sql));
        } else {
            let focus = (random.u8(..4) > 1).then(|| {
                let kind = any(&mut random, &[0, 0, 3, 5, 5]);
                (any(&mut random, &COLUMNS), kind, random.usize(..3))
            });
            let mut events = Vec::new();
            for _ in 0..random.u8(1..9) {
                events.extend(event(&mut random, &runs, &events, focus));
            }
            let origin = any(&mut random, &["A", "B"]);
            let (one, other) = (runs.push(origin, &events), singles.push(origin, &events));
            assert_eq!(
                one.is_ok(),
                other.is_ok(),
                "{one:?} {other:?}\n{schema}\n{events:#?}\n{:#?}",
                singles.standing()
            );
            let tables = runs.remote_tables();
            let outgoing: Vec<_> = events.iter().map(Pushed::outgoing).collect();
            for run in driftless::protocol::push::runs(&outgoing, &tables) {
                *seen.entry(format!("run of {}", run.events().min(4))).or_default() += 1;
            }
        }
        runs.check();
        assert_eq!(runs.standing(), singles.standing(), "the tables differ");
        let told = |remote: &Remote| -> Vec<_> {
            let log = remote.log(0).into_iter();
            let told = log
                .map(|e| (e.table, e.key, e.origin, e.op, e.after, e.verdict, e.reason, e.cause));
            told.collect()
        };
        assert_eq!(told(&runs), told(&singles), "the logs differ");
    }
}

/// A row defers its foreign key and refers to a row of its run that is rejected: a later event
/// might bring that all the same.
#[test]
fn a_run_defers_what_single_events_defer() {
    run_beside_singles(379, &mut BTreeMap::new());
}

#[test]
fn runs_and_single_events_agree() {
    let mut seen = BTreeMap::new();
    let filter = "verdict::histories::runs";
    let repeat = each_seed(60, filter, |seed| run_beside_singles(seed, &mut seen));
    let all = seen.len() == 4 || std::env::var("DRIFTLESS_TEST_SEED").is_ok();
    assert!(all, "no long runs came up: {seen:?}\n{repeat}");
}
