//! A push whose events are put in another order has the same verdicts and leaves the same tables.
//!
//! Two remotes with the tables of `histories`. One takes each push as its writer wrote it, the
//! other one as `push::arrange` orders it. The writer is honest: what an event says of its row is
//! what the row held, if nobody else has written it.
//!
//! Each rule about the order was taken out, and failed within the default seeds.

use std::collections::BTreeMap;

use driftless::event::Image;
use driftless::event::conflict::ConflictRule;
use driftless::event::value::Value;
use driftless::protocol::{Push, push};
use fastrand::Rng;

use super::histories::{COLUMNS, TRIGGERS, any, event, schema, statement};
use super::remote::{Cut, Pushed, Remote};
use crate::support::seeds::each_seed;

const STEPS: usize = 40;

/// A table to which nothing refers, so that its deletes may be passed.
const PLAIN: &str = "CREATE TABLE w (id TEXT PRIMARY KEY, u TEXT UNIQUE COLLATE NOCASE, t INT);";
const PLAIN_COLUMNS: (&str, &[&str]) = ("w", &["u", "t"]);

/// Takes out what a writer would not have written, and says what each event found.
fn honest(remote: &Remote, events: Vec<Pushed>) -> Vec<Pushed> {
    let mut rows = remote.standing();
    let image = |json: &Option<String>| Image::parse(json.as_ref().unwrap().as_bytes()).unwrap();
    let mut written = Vec::new();
    for mut event in events {
        let place = (event.table.clone(), event.key.clone());
        event.defer_fk = false;
        event.via = None;
        match (event.op.as_str(), rows.contains_key(&place)) {
            ("insert", false) => {
                rows.insert(place, image(&event.after));
            }
            ("update", true) => {
                let (row, after) = (rows.get_mut(&place).unwrap(), image(&event.after));
                let old = |(name, _): &(String, Value)| {
                    (name.clone(), row.get(name).cloned().unwrap_or(Value::Null))
                };
                event.before = Some(Image(after.0.iter().map(old).collect()).to_json());
                row.overlay(&after);
            }
            ("delete", true) if event.pair.is_none() => {
                event.before = rows.remove(&place).map(|row| row.to_json());
            }
            _ => continue,
        }
        written.push(event);
    }
    written
}

/// The events in another order, if there is a better one.
fn arranged(remote: &Remote, events: &[Pushed]) -> Vec<Pushed> {
    let outgoing: Vec<_> = events.iter().map(Pushed::outgoing).collect();
    let (last_n, self_contained, bytes) = (0, outgoing.len(), 0);
    let (units, tables) = (Vec::new(), Vec::new());
    let mut push = Push { events: outgoing, units, last_n, self_contained, bytes, tables };
    push::arrange(&mut push, &remote.remote_tables(), 0);
    let place = |event: &Pushed| push.events.iter().position(|it| it.id == event.outgoing().id);
    let mut events = events.to_vec();
    events.sort_by_key(place);
    events
}

/// The verdict on each event, by its id, without those that capture has logged.
fn verdicts(remote: &Remote, pushed: &[Pushed]) -> BTreeMap<String, (String, Option<String>)> {
    let log = remote.log(0).into_iter();
    let pushed = log.filter(|told| pushed.iter().any(|event| event.id == told.id));
    pushed.map(|told| (told.id, (told.verdict, told.reason))).collect()
}

fn run(seed: u64, seen: &mut BTreeMap<&'static str, usize>) {
    let mut random = Rng::with_seed(seed);
    let mut triggers = TRIGGERS.to_vec();
    random.shuffle(&mut triggers);
    triggers.truncate(random.usize(..2));
    let schema = format!("{}\n{PLAIN}\n{}", schema(&mut random), triggers.join("\n"));
    let rule = any(&mut random, &[ConflictRule::Row, ConflictRule::Columns]);
    let written = Remote::new(&schema, |_| rule);
    let other = Remote::new(&schema, |_| rule);
    assert_eq!(written.cut, Cut::Runs);
    // Where the log was the same on both sides, but for its order.
    let mut ends = vec![0];
    for _ in 0..STEPS {
        if random.u8(..5) == 0 {
            let sql = statement(&mut random);
            assert_eq!(written.transaction(&sql), other.transaction(&sql));
        } else {
            let kinds: &[u8] = any(&mut random, &[&[0], &[0, 0, 3], &[0, 3, 5, 5]]);
            let base = if random.bool() { *ends.last().unwrap() } else { any(&mut random, &ends) };
            let mut events = Vec::new();
            for _ in 0..random.u8(2..24) {
                let plain = random.u8(..3) == 0;
                let table = if plain { PLAIN_COLUMNS } else { any(&mut random, &COLUMNS) };
                let focus = (table, any(&mut random, kinds), random.usize(..3));
                events.extend(event(&mut random, &written, &events, Some(focus)));
            }
            events.iter_mut().for_each(|event| event.base = base);
            let events = honest(&written, events);
            let moved = arranged(&other, &events);
            let same = events.iter().zip(&moved).all(|(one, other)| one.id == other.id);
            *seen.entry(if same { "as written" } else { "arranged" }).or_default() += 1;
            let (one, two) = (written.push("A", &events), other.push("A", &moved));
            assert_eq!(one.is_ok(), two.is_ok(), "{one:?} {two:?}");
            assert_eq!(verdicts(&written, &events), verdicts(&other, &events), "{moved:#?}");
        }
        other.check();
        assert_eq!(written.standing(), other.standing(), "the tables differ");
        let (one, two) = (written.log(0).len(), other.log(0).len());
        assert_eq!(one, two, "the logs differ in length");
        ends.push(written.log(0).last().map_or(0, |told| told.seq));
    }
}

#[test]
fn another_order_has_the_same_verdicts() {
    let mut seen = BTreeMap::new();
    let repeat = each_seed(40, "verdict::arranged", |seed| run(seed, &mut seen));
    let enough = seen.get("arranged").is_some_and(|&count| count > 100);
    let is_one = std::env::var("DRIFTLESS_TEST_SEED").is_ok();
    assert!(enough || is_one, "few pushes were put in another order: {seen:?}\n{repeat}");
}
