//! What applications write: few rows and few values, so that conflicts, collisions and broken
//! constraints are common.

use fastrand::Rng;

use super::shape::Shape;

/// Bytes of a value that not every remote takes.
pub(crate) const LARGE: usize = 280_000;

fn any<'a>(random: &mut Rng, from: &[&'a str]) -> &'a str {
    from[random.usize(..from.len())]
}

fn name(random: &mut Rng, prefix: &str, count: u8) -> String {
    format!("'{prefix}{}'", random.u8(..count))
}

fn or_null(random: &mut Rng, one_in: u8, value: String) -> String {
    if random.u8(..one_in) == 0 { "NULL".to_owned() } else { value }
}

/// A number, or something else that a column without type takes.
fn number(random: &mut Rng) -> &'static str {
    let all = ["1", "1.0", "0.1", "5", "13", "33", "60", "95", "120", "x'0a'", "NULL"];
    all[random.usize(..all.len())]
}

fn text(random: &mut Rng) -> &'static str {
    ["'x'", "'y'", "'z'", "'X'", "NULL"][random.usize(..5)]
}

fn few(random: &mut Rng) -> &'static str {
    ["1", "2", "3", "NULL"][random.usize(..4)]
}

/// What a statement does where a constraint is in the way.
fn or(random: &mut Rng) -> &'static str {
    ["", "OR REPLACE", "OR REPLACE", "OR IGNORE"][random.usize(..4)]
}

impl Shape {
    /// A transaction of an application, on either side.
    pub(crate) fn transaction(&self, random: &mut Rng) -> Vec<String> {
        let mut statements = Vec::new();
        if (self.has("p") || self.has("s")) && random.u8(..16) == 0 {
            self.late(random, &mut statements);
            return statements;
        }
        let count = if random.u8(..5) == 0 { random.usize(2..=4) } else { 1 };
        for _ in 0..count {
            let weights = [("m", 60), ("p", 18), ("s", 22), ("c", 25), ("n", 25), ("v", 30)];
            let there = weights.into_iter().filter(|(table, _)| self.has(table));
            let all: usize = there.clone().map(|(_, weight)| weight).sum();
            let mut rest = random.usize(..all);
            let chosen = there.into_iter().find(|(_, weight)| {
                let found = rest < *weight;
                rest = rest.saturating_sub(*weight);
                found
            });
            match chosen.expect("one of them weighs enough").0 {
                "m" => self.members(random, &mut statements),
                "p" => self.children(random, &mut statements),
                "s" => itself(random, &mut statements),
                "c" => composite(random, &mut statements),
                "v" => circle(random, &mut statements),
                _ => numbered(random, &mut statements),
            }
        }
        statements
    }

    /// What a desktop writes to its own tables, beside a transaction.
    pub(crate) fn beside(&self, r: &mut Rng, out: &mut Vec<String>) {
        if self.beside.is_empty() || r.u8(..3) > 0 {
            return;
        }
        let id = self.member(r);
        out.push(match r.u8(..8) {
            0..4 => format!("INSERT INTO l (mid) SELECT id FROM m WHERE id = {id}"),
            4..6 => "INSERT INTO ll (l) SELECT max(id) FROM l".to_owned(),
            6 => format!("UPDATE l SET mid = (SELECT max(id) FROM m) WHERE mid = {id}"),
            _ => format!("DELETE FROM l WHERE mid = {id}"),
        });
    }

    fn member(&self, random: &mut Rng) -> String {
        let id = name(random, "k", 5);
        let upper = random.f64() < 0.3 && self.table("m").is_some_and(|table| table.nocase);
        if upper { id.to_uppercase() } else { id }
    }

    /// A value that a remote with a limit takes from nobody.
    pub(crate) fn large(&self, r: &mut Rng) -> String {
        let (id, value) = (self.member(r), format!("hex(zeroblob({}))", LARGE / 2));
        match r.u8(..4) {
            0 => format!("DELETE FROM m WHERE id = {id}"),
            1 => format!("INSERT OR IGNORE INTO m (id, a) VALUES ({id}, {value})"),
            _ => format!("UPDATE m SET a = {value} WHERE id = {id}"),
        }
    }

    fn members(&self, r: &mut Rng, out: &mut Vec<String>) {
        let (id, or) = (self.member(r), or(r));
        let sql = match r.u8(..62) {
            0..12 => {
                format!("INSERT {or} INTO m (id, a, u) VALUES ({id}, {}, {})", number(r), text(r))
            }
            12..15 => format!(
                "INSERT INTO m (id, a, u) VALUES ({id}, {}, {}) ON CONFLICT (id) DO UPDATE SET a = excluded.a",
                number(r),
                text(r)
            ),
            15..18 => format!(
                "INSERT INTO m (id, a, u) VALUES ({id}, {}, {}) ON CONFLICT DO NOTHING",
                number(r),
                text(r)
            ),
            18..32 => format!("UPDATE m SET a = {} WHERE id = {id}", number(r)),
            32..40 => format!("UPDATE {or} m SET u = {}, t = t + 1 WHERE id = {id}", text(r)),
            // The key spelled in another way.
            40..42 => format!("UPDATE m SET id = upper(id) WHERE id = {id}"),
            42..48 => format!("DELETE FROM m WHERE id = {id}"),
            48..55 => format!("UPDATE {or} m SET id = {} WHERE id = {id}", name(r, "k", 5)),
            55..57 => return self.swap(r, out),
            57..59 => {
                out.push(format!("DELETE FROM m WHERE id = {id}"));
                format!("INSERT INTO m VALUES ({id}, {}, {}, NULL)", number(r), text(r))
            }
            // The child first: only a deferred constraint lets it.
            59..61 if self.has("p") => {
                out.push(format!("INSERT INTO p VALUES ({}, {id}, 1)", name(r, "c", 5)));
                format!("INSERT OR IGNORE INTO m (id, a) VALUES ({id}, 1)")
            }
            61 if self.has("p") => {
                out.push(format!("DELETE FROM m WHERE id = {id}"));
                format!("DELETE FROM p WHERE mid = {id}")
            }
            _ => format!("UPDATE m SET t = {} WHERE id = {id}", r.u8(..100)),
        };
        out.push(sql);
    }

    /// Two rows change keys, or values of a UNIQUE column.
    fn swap(&self, r: &mut Rng, out: &mut Vec<String>) {
        let (a, b) = (self.member(r), self.member(r));
        if r.bool() {
            out.push(format!("UPDATE m SET id = 'tmp' WHERE id = {a}"));
            out.push(format!("UPDATE m SET id = {a} WHERE id = {b}"));
            out.push(format!("UPDATE m SET id = {b} WHERE id = 'tmp'"));
        } else {
            out.push(format!("UPDATE m SET u = NULL WHERE id = {a}"));
            out.push(format!("UPDATE m SET u = 'x' WHERE id = {b}"));
            out.push(format!("UPDATE m SET u = 'y' WHERE id = {a}"));
        }
    }

    /// What a foreign key misses until the transaction ends: the child comes first, or goes last.
    fn late(&self, r: &mut Rng, out: &mut Vec<String>) {
        out.push("PRAGMA defer_foreign_keys = 1".to_owned());
        if !self.has("p") || self.has("s") && r.bool() {
            let (id, other) = (name(r, "s", 4), name(r, "s", 4));
            out.push(match r.u8(..3) {
                0 => format!("UPDATE s SET id = 's9' WHERE id = {other}"),
                1 => format!("DELETE FROM s WHERE id = {other}"),
                _ => format!("INSERT OR IGNORE INTO s VALUES ({id}, 's9', NULL)"),
            });
            out.push(format!("UPDATE s SET par = 's9' WHERE par = {other} AND id <> par"));
            out.push("INSERT OR IGNORE INTO s VALUES ('s9', NULL, NULL)".to_owned());
            return;
        }
        let (id, to) = (self.member(r), name(r, "k", 5));
        let (child, other) = (name(r, "c", 5), name(r, "c", 5));
        let comes = format!("INSERT OR IGNORE INTO m (id, a) VALUES ({to}, 1)");
        match r.u8(..5) {
            0 => {
                out.push(format!("INSERT OR IGNORE INTO p VALUES ({child}, {to}, 1)"));
                out.push(comes);
            }
            1 => {
                out.push(format!("UPDATE OR IGNORE m SET id = {to} WHERE id = {id}"));
                out.push(format!("UPDATE p SET mid = {to} WHERE mid = {id}"));
            }
            2 => {
                out.push(format!(
                    "UPDATE OR IGNORE p SET id = {other}, mid = {to} WHERE id = {child}"
                ));
                out.push(comes);
            }
            3 => {
                out.push(format!("DELETE FROM m WHERE id = {to}"));
                out.push(format!("UPDATE p SET x = 2 WHERE mid = {to}"));
                out.push(comes);
            }
            _ => {
                out.push(format!("DELETE FROM m WHERE id = {id}"));
                out.push(format!("UPDATE p SET mid = {to} WHERE mid = {id}"));
                out.push(comes);
            }
        }
    }

    fn children(&self, r: &mut Rng, out: &mut Vec<String>) {
        let (or, child, x) = (or(r), name(r, "c", 5), r.u8(..10));
        let parent = name(r, "k", 5);
        let parent = or_null(r, 6, parent);
        out.push(match r.u8(..23) {
            0..9 => format!("INSERT {or} INTO p VALUES ({child}, {parent}, {x})"),
            9..12 => format!("UPDATE p SET x = {x}, mid = {parent} WHERE id = {child}"),
            12..14 => format!("UPDATE p SET id = {} WHERE id = {child}", name(r, "c", 5)),
            14..16 => format!("DELETE FROM p WHERE id = {child}"),
            16..21 if self.has("q") => {
                format!("INSERT {or} INTO q VALUES ({}, {child}, {})", name(r, "g", 3), number(r))
            }
            21 if self.has("q") => format!("DELETE FROM q WHERE id = {}", name(r, "g", 3)),
            _ => format!("INSERT {or} INTO p VALUES ({child}, {parent}, NULL)"),
        });
    }
}

fn itself(r: &mut Rng, out: &mut Vec<String>) {
    let (or, id, other) = (or(r), name(r, "s", 4), name(r, "s", 4));
    let parent = or_null(r, 5, other.clone());
    out.push(match r.u8(..14) {
        0..4 => format!("INSERT {or} INTO s VALUES ({id}, {parent}, {})", few(r)),
        4..6 => format!("INSERT INTO s VALUES ({id}, {other}, NULL), ({other}, NULL, NULL)"),
        6..9 => format!("UPDATE {or} s SET v = {}, par = {parent} WHERE id = {id}", few(r)),
        9..11 => format!("UPDATE {or} s SET id = {other} WHERE id = {id}"),
        11 => "UPDATE s SET v = v % 3 + 1 WHERE v IS NOT NULL".to_owned(),
        _ => format!("DELETE FROM s WHERE id = {id}"),
    });
}

/// Rows of two tables that refer to each other.
fn circle(r: &mut Rng, out: &mut Vec<String>) {
    let (or, v, w) = (or(r), name(r, "v", 4), name(r, "w", 4));
    let to = or_null(r, 3, w.clone());
    let sql = match r.u8(..15) {
        0..3 => format!("INSERT {or} INTO v VALUES ({v}, NULL, {})", few(r)),
        3..5 => format!("INSERT {or} INTO w VALUES ({w}, {v})"),
        5..8 => {
            out.push("PRAGMA defer_foreign_keys = 1".to_owned());
            out.push(format!("INSERT OR IGNORE INTO v VALUES ({v}, {w}, {})", few(r)));
            format!("INSERT OR IGNORE INTO w VALUES ({w}, {v})")
        }
        8..10 => format!("UPDATE v SET w = {to}, n = {} WHERE id = {v}", few(r)),
        10 => format!("UPDATE {or} v SET id = {} WHERE id = {v}", name(r, "v", 4)),
        11 => format!("UPDATE {or} w SET id = {} WHERE id = {w}", name(r, "w", 4)),
        12 => {
            out.push("PRAGMA defer_foreign_keys = 1".to_owned());
            out.push(format!("DELETE FROM v WHERE id = {v}"));
            format!("DELETE FROM w WHERE v = {v}")
        }
        13 => format!("DELETE FROM w WHERE id = {w}"),
        _ => format!("DELETE FROM v WHERE id = {v}"),
    };
    out.push(sql);
}

fn composite(r: &mut Rng, out: &mut Vec<String>) {
    let (or, x, y) = (or(r), r.u8(..2), any(r, &["'a'", "'b'", "'B'"]));
    let place = format!("x = {x} AND y = {y}");
    let order = any(r, &["'first'", "'it''s'", "NULL"]);
    out.push(match r.u8(..10) {
        0..4 => format!("INSERT {or} INTO c VALUES ({x}, {y}, {order}, {})", few(r)),
        4..6 => format!("UPDATE {or} c SET w = {} WHERE {place}", few(r)),
        6 => format!("UPDATE c SET \"the order\" = {order} WHERE {place}"),
        7..9 => format!("UPDATE {or} c SET x = {} WHERE {place}", r.u8(..3)),
        _ => format!("DELETE FROM c WHERE {place}"),
    });
}

fn numbered(r: &mut Rng, out: &mut Vec<String>) {
    let (or, id) = (or(r), r.u8(1..5));
    let cost = any(r, &["1", "2.5", "0.1", "9e999", "1e300"]);
    let parent = name(r, "k", 5);
    let parent = or_null(r, 3, parent);
    out.push(match r.u8(..10) {
        // The next number, which another replica draws too.
        0..3 => format!("INSERT INTO n (mid, cost, note) VALUES ({parent}, {cost}, {})", text(r)),
        3 => format!("INSERT {or} INTO n VALUES ({id}, {parent}, {cost}, {})", text(r)),
        4..7 => format!("UPDATE n SET cost = {cost}, note = {} WHERE id = {id}", text(r)),
        7 => format!("UPDATE {or} n SET id = {} WHERE id = {id}", r.u8(1..5)),
        _ => format!("DELETE FROM n WHERE id = {id}"),
    });
}
