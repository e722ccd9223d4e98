//! The conflict rule is stated twice: `verdict::loses_to`, a pure function of the log, and SQL in the
//! statements of a push. On generated logs and arrivals the two must agree.
//!
//! Tried with `>=` for `>` in the SQL's comparison of seq and base, and with the SQL's columns rule
//! asked of inserts and deletes as it is of updates: both fail within the first two seeds.

use std::collections::BTreeMap;

use driftless::event::conflict::{Claim, ConflictRule, loses_to};
use driftless::event::{EventId, Origin, ReplicaId, Seq};
use fastrand::Rng;

use super::remote::{Logged, Pushed, Remote};
use crate::support::seeds::each_seed;

const KEYS: [&str; 3] = ["a", "b", "c"];

/// What the pure rule says about an event of the row `key`.
fn loses_by_rule(
    rule: ConflictRule,
    log: &[Logged],
    origin: Origin,
    event: &Pushed,
    key: &str,
) -> bool {
    let after = |json: &'_ Option<String>| json.clone().map(String::into_bytes);
    let (op, mine) = (event.op.parse().unwrap(), after(&event.after));
    let others: Vec<_> = log
        .iter()
        .filter(|other| other.verdict == "applied" && other.key == key)
        .filter(|other| other.origin.parse::<Origin>().unwrap() != origin)
        .map(|other| (Seq(other.seq), other.op, after(&other.after)))
        .collect();
    let others =
        others.iter().map(|(seq, op, after)| (*seq, Claim { op: *op, after: after.as_deref() }));
    let arrival = Claim { op, after: mine.as_deref() };
    loses_to(rule, arrival, Seq(event.base), others).is_some()
}

fn values(random: &mut Rng) -> String {
    let mut columns: Vec<_> = ["x", "y", "z"].into_iter().filter(|_| random.bool()).collect();
    if columns.is_empty() {
        columns.push("x");
    }
    let pairs: Vec<_> =
        columns.iter().map(|column| format!("\"{column}\":{}", random.u8(..3))).collect();
    format!("{{{}}}", pairs.join(","))
}

fn arrival(random: &mut Rng, last: i64) -> Vec<Pushed> {
    let id = || EventId(ulid::Ulid(fastrand::u128(..))).to_string();
    let key = KEYS[random.usize(..KEYS.len())];
    let whole = |key: &str, random: &mut Rng| {
        format!("{{\"id\":\"{key}\",\"x\":{},\"y\":1,\"z\":1}}", random.u8(..3))
    };
    let mut event = Pushed {
        id: id(),
        table: "m".to_owned(),
        key: format!("[\"{key}\"]"),
        base: random.i64(0..=last),
        ..Pushed::default()
    };
    match random.u8(..10) {
        0 | 1 => (event.op, event.after) = ("insert".to_owned(), Some(whole(key, random))),
        2 => event.op = "delete".to_owned(),
        3 => {
            let to = KEYS[random.usize(..KEYS.len())];
            if to != key {
                event.op = "delete".to_owned();
                event.other = Some(format!("[\"{to}\"]"));
                event.image = Some(whole(to, random));
                event.pair = Some(id());
                let second = event.second_half();
                return vec![event, second];
            }
            event.op = "delete".to_owned();
        }
        _ => (event.op, event.after) = ("update".to_owned(), Some(values(random))),
    }
    vec![event]
}

fn run(seed: u64, seen: &mut BTreeMap<String, usize>) {
    let mut random = Rng::with_seed(seed);
    let rule = if random.bool() { ConflictRule::Row } else { ConflictRule::Columns };
    let remote = Remote::new("CREATE TABLE m (id TEXT PRIMARY KEY, x, y, z);", |_| rule);
    let replicas: Vec<_> = (0..3).map(|_| ReplicaId(ulid::Ulid(random.u128(..)))).collect();
    for _ in 0..60 {
        let log = remote.log(0);
        let last = log.last().map_or(0, |event| event.seq);
        if random.u8(..4) == 0 {
            let key = KEYS[random.usize(..KEYS.len())];
            let sql = match random.u8(..4) {
                0 => format!("INSERT OR IGNORE INTO m VALUES ('{key}', 1, 1, 1)"),
                1 => format!("DELETE FROM m WHERE id = '{key}'"),
                _ => format!("UPDATE m SET y = {} WHERE id = '{key}'", random.u8(..5)),
            };
            remote.transaction(&sql).unwrap();
            continue;
        }
        let origin = replicas[random.usize(..replicas.len())];
        let events = arrival(&mut random, last);
        let first = &events[0];
        let keys = [Some(&first.key), first.other.as_ref()];
        let expected = keys
            .into_iter()
            .flatten()
            .any(|key| loses_by_rule(rule, &log, Origin::Replica(origin), first, key));
        remote.push(&origin.to_string(), &events).unwrap();
        let judged = remote.log(last).into_iter().find(|event| event.id == first.id).unwrap();
        let lost = judged.reason.as_deref() == Some("conflict");
        assert_eq!(lost, expected, "{rule:?} {judged:?} on base {}", first.base);
        *seen.entry(format!("{rule:?} {} {lost}", super::said(first))).or_default() += 1;
    }
}

#[test]
fn the_pure_rule_and_the_sql_rule_agree() {
    let mut seen = BTreeMap::new();
    let repeat = each_seed(24, "verdict::agree", |seed| run(seed, &mut seen));
    // Both rules, both answers, every kind of event.
    let all = seen.len() == 16 || std::env::var("DRIFTLESS_TEST_SEED").is_ok();
    assert!(all, "too little happened: {seen:?}\n{repeat}");
}
