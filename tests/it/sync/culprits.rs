//! Random transactions with rows ahead of what they refer to, rows that a trigger of the remote's
//! refuses, and rows that lose to the web: whoever is not to blame, and does not hang on who is,
//! arrives.
//!
//! `DRIFTLESS_TEST_SEED=7 cargo test culprits` repeats a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use crate::support::desk::{Desk, assert_equal};
use crate::support::local_remote::LocalRemote;

/// Histories by default: some seconds' worth without optimization.
const SEEDS: u64 = 12;

const TABLES: &str = "
    CREATE TABLE rows (id TEXT PRIMARY KEY, one TEXT REFERENCES rows DEFERRABLE INITIALLY DEFERRED,
        other TEXT REFERENCES leaves DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE leaves (id TEXT PRIMARY KEY);
";

const TRIGGERS: &str = "
    CREATE TRIGGER no_rows BEFORE INSERT ON rows WHEN new.id LIKE 'bad%'
        BEGIN SELECT RAISE(ABORT, 'no such rows'); END;
    CREATE TRIGGER no_leaves BEFORE INSERT ON leaves WHEN new.id LIKE 'bad%'
        BEGIN SELECT RAISE(ABORT, 'no such leaves'); END;
";

/// Rows by their id, with what they refer to.
type Rows = BTreeMap<String, Vec<String>>;

/// One round's rows, in the order in which they are written, and what the web was ahead with.
struct Round {
    rows: Vec<(String, Option<String>, Option<String>)>,
    leaves: Vec<String>,
    gone: BTreeSet<String>,
}

impl Round {
    fn new(random: &mut fastrand::Rng, round: usize, before: &[String]) -> Round {
        let name = |random: &mut fastrand::Rng, letter: &str, n: usize| {
            let bad = if random.u8(..8) == 0 { "bad" } else { "" };
            format!("{bad}{letter}{round}.{n}")
        };
        let leaves: Vec<_> = (0..random.usize(..6)).map(|n| name(random, "l", n)).collect();
        let ids: Vec<_> = (0..random.usize(1..25)).map(|n| name(random, "r", n)).collect();
        let may_ring = random.bool();
        let mut rows = Vec::new();
        for (at, id) in ids.iter().enumerate() {
            let among = if may_ring { &ids[..] } else { &ids[at + 1..] };
            let one = match random.u8(..4) {
                0 | 1 => random.choice(among).cloned(),
                2 => random.choice(before).cloned(),
                _ => None,
            };
            let other = if random.bool() { random.choice(&leaves).cloned() } else { None };
            rows.push((id.clone(), one, other));
        }
        if random.bool() {
            random.shuffle(&mut rows);
        }
        let lost = |random: &mut fastrand::Rng| !may_ring && random.u8(..6) == 0;
        let gone = leaves.iter().filter(|leaf| !leaf.starts_with("bad") && lost(random));
        let gone = gone.cloned().collect();
        Round { rows, leaves, gone }
    }

    /// One transaction, with the leaves anywhere in it.
    fn sql(&self, random: &mut fastrand::Rng) -> String {
        let text = |value: &Option<String>| match value {
            Some(value) => format!("'{value}'"),
            None => "NULL".to_owned(),
        };
        let mut statements: Vec<_> = self
            .rows
            .iter()
            .map(|(id, one, other)| {
                format!("INSERT INTO rows VALUES ('{id}', {}, {});", text(one), text(other))
            })
            .collect();
        for leaf in &self.leaves {
            let at = random.usize(..=statements.len());
            statements.insert(at, format!("INSERT INTO leaves VALUES ('{leaf}');"));
        }
        format!("BEGIN; {} COMMIT;", statements.concat())
    }

    /// Those that are to arrive: who is no culprit, has not lost, and refers to no one else.
    fn arriving(&self, there: &BTreeSet<String>) -> BTreeSet<String> {
        let refers = |(id, one, other): &(String, Option<String>, Option<String>)| {
            (id.clone(), [one, other].into_iter().flatten().cloned().collect())
        };
        let mut all: Rows = self.rows.iter().map(refers).collect();
        all.extend(self.leaves.iter().map(|leaf| (leaf.clone(), Vec::new())));
        all.retain(|id, _| !id.starts_with("bad") && !self.gone.contains(id));
        loop {
            let ids: BTreeSet<_> = all.keys().cloned().collect();
            all.retain(|_, named| named.iter().all(|id| ids.contains(id) || there.contains(id)));
            if all.len() == ids.len() {
                return ids;
            }
        }
    }
}

fn history(seed: u64, refused: &mut usize, hanging: &mut usize) {
    let mut random = fastrand::Rng::with_seed(seed);
    let remote = Arc::new(LocalRemote::new(&format!("{TABLES} {TRIGGERS}")));
    let mut desk = Desk::with_schema(&remote, 1, TABLES);
    let mut there = BTreeSet::new();
    for round in 0..4 {
        // Some transactions of which the replicator knows nothing go in one push.
        let mut rounds = Vec::new();
        for part in 0..random.usize(1..4) {
            let found = desk.read("SELECT group_concat(id) FROM rows");
            let before: Vec<_> =
                found.split(',').filter(|id| *id != "NULL").map(str::to_owned).collect();
            let made = Round::new(&mut random, round * 10 + part, &before);
            let mut web = String::new();
            for leaf in &made.gone {
                write!(web, "INSERT INTO leaves VALUES ('{leaf}'); DELETE FROM leaves WHERE ")
                    .unwrap();
                write!(web, "id = '{leaf}';").unwrap();
            }
            remote.web(&web);
            desk.db.execute_batch(&made.sql(&mut random)).unwrap();
            rounds.push(made);
        }
        let requests = remote.requests();
        desk.sync().unwrap();
        let requests = remote.requests() - requests;
        for made in rounds {
            let arriving = made.arriving(&there);
            let all = made.rows.len() + made.leaves.len();
            let bad = made.rows.iter().map(|(id, ..)| id).chain(&made.leaves);
            let bad = bad.filter(|id| id.starts_with("bad")).count();
            *refused += bad;
            *hanging += all - arriving.len() - bad - made.gone.len();
            there.extend(arriving);
        }
        let found = remote.read(
            "SELECT group_concat(id) FROM (SELECT id FROM rows UNION ALL SELECT id FROM leaves)",
        );
        let found: BTreeSet<_> =
            found.split(',').filter(|id| *id != "NULL").map(str::to_owned).collect();
        assert_eq!(found, there, "DRIFTLESS_TEST_SEED={seed} cargo test culprits repeats this");
        assert!(requests < 200, "{requests} requests: DRIFTLESS_TEST_SEED={seed}");
        assert_equal(&desk, &["rows", "leaves"]);
    }
}

#[test]
fn whoever_is_not_to_blame_arrives() {
    let given = std::env::var("DRIFTLESS_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    let (mut refused, mut hanging) = (0, 0);
    for seed in given.map_or(0..SEEDS, |seed: u64| seed..seed + 1) {
        history(seed, &mut refused, &mut hanging);
    }
    let happened = refused > 50 && hanging > 50;
    assert!(given.is_some() || happened, "{refused} culprits, and {hanging} that hang on one");
}
