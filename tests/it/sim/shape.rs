//! The tables of a world, with what the web application's and the desktops' triggers do on them.
//!
//! A shape is data, so that a history that failed can be kept without the generator that made it.
//! Fifty seeds in a row have the same shape: making the databases of one costs more than a
//! world's steps do, so they are made once and copied.

use std::sync::OnceLock;

use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// Worlds of consecutive seeds that have the same tables.
pub(crate) const WORLDS_A_SHAPE: u64 = 50;

/// Triggers that a web application may have, behind the tables that they need.
const WEB: [(&str, &str); 14] = [
    (
        "m",
        "CREATE TRIGGER x_touch AFTER UPDATE OF a ON m BEGIN UPDATE m SET t = coalesce(t, 0) + 1 WHERE id = new.id; END",
    ),
    (
        "m",
        "CREATE TRIGGER x_clamp AFTER UPDATE OF a ON m WHEN new.a > 90 BEGIN UPDATE m SET a = 50 WHERE id = new.id; END",
    ),
    ("m", "CREATE TRIGGER x_ins AFTER INSERT ON m BEGIN UPDATE m SET t = 7 WHERE id = new.id; END"),
    (
        "m",
        "CREATE TRIGGER x_aba AFTER UPDATE OF a ON m BEGIN UPDATE m SET u = 'tmp' || id WHERE id = new.id; UPDATE m SET u = new.u WHERE id = new.id; END",
    ),
    (
        "p",
        "CREATE TRIGGER x_aba2 AFTER INSERT ON p BEGIN UPDATE p SET x = -1 WHERE id = new.id; UPDATE p SET x = new.x WHERE id = new.id; END",
    ),
    (
        "mp",
        "CREATE TRIGGER x_child AFTER INSERT ON m BEGIN INSERT OR IGNORE INTO p VALUES ('w' || new.id, new.id, 0); END",
    ),
    (
        "m",
        "CREATE TRIGGER x_del AFTER UPDATE OF a ON m WHEN new.a = 33 BEGIN DELETE FROM m WHERE id = new.id; END",
    ),
    (
        "s",
        "CREATE TRIGGER x_undel AFTER DELETE ON s WHEN old.v = 2 BEGIN INSERT INTO s VALUES (old.id, NULL, old.v); END",
    ),
    (
        "m",
        "CREATE TRIGGER x_quiet BEFORE UPDATE ON m WHEN new.a = 13 BEGIN SELECT RAISE(IGNORE); END",
    ),
    (
        "p",
        "CREATE TRIGGER x_abort BEFORE INSERT ON p WHEN new.x = 5 BEGIN SELECT RAISE(ABORT, 'no'); END",
    ),
    (
        "m",
        "CREATE TRIGGER x_stays BEFORE DELETE ON m WHEN old.a = 60 OR old.u = 'y' BEGIN SELECT RAISE(ABORT, 'no'); END",
    ),
    (
        "p",
        "CREATE TRIGGER x_stays_p BEFORE DELETE ON p WHEN old.x = 3 BEGIN SELECT RAISE(ABORT, 'no'); END",
    ),
    (
        "vw",
        "CREATE TRIGGER x_stays_v BEFORE DELETE ON v WHEN old.n = 3 BEGIN SELECT RAISE(ABORT, 'no'); END",
    ),
    (
        "mp",
        "CREATE TRIGGER x_other AFTER UPDATE OF x ON p BEGIN UPDATE m SET t = new.x WHERE id = new.mid; END",
    ),
];

/// The same of a desktop application.
const LOCAL: [(&str, &str); 4] = [
    (
        "m",
        "CREATE TRIGGER x_ltouch AFTER UPDATE OF a ON m BEGIN UPDATE m SET t = coalesce(t, 0) + 20 WHERE id = new.id; END",
    ),
    (
        "mq",
        "CREATE TRIGGER x_laudit AFTER UPDATE OF a ON m BEGIN INSERT OR IGNORE INTO q VALUES ('l' || new.id, NULL, new.a); END",
    ),
    (
        "p",
        "CREATE TRIGGER x_lins AFTER INSERT ON p BEGIN UPDATE p SET x = coalesce(new.x, 0) + 1 WHERE id = new.id; END",
    ),
    ("qs", "CREATE TRIGGER x_ldel AFTER UPDATE OF v ON s BEGIN DELETE FROM q WHERE id = 'g1'; END"),
];

/// Rows that are on the remote before driftless is, behind their tables.
const ROWS: [(&str, &str); 3] = [
    ("m", "INSERT INTO m (id, a, u) VALUES ('k0', 1, 'x'), ('k1', 2, NULL)"),
    ("c", "INSERT INTO c VALUES (0, 'a', 'first', 1)"),
    ("s", "INSERT INTO s VALUES ('s0', NULL, 1)"),
];

/// The tables of a shape. Few at a time: the more there are, the longer the remote's triggers, whose
/// compilation is what a world costs.
const TABLES: [&str; 12] =
    ["mpqs", "mpq", "mp", "mp", "ms", "mpn", "mc", "sc", "m", "vw", "mvw", "svw"];

/// Columns that no two rows may have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Unique {
    pub(crate) columns: Vec<String>,
    pub(crate) nocase: bool,
}

/// A column that names a row of another table by its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Foreign {
    pub(crate) column: String,
    pub(crate) parent: String,
    /// Whether children keep their parent from going.
    pub(crate) keeps: bool,
    /// Whether they keep its key from changing.
    pub(crate) keeps_key: bool,
}

/// One table: as SQL, and as the model needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) sql: String,
    /// Without the generated ones.
    pub(crate) columns: Vec<String>,
    pub(crate) key: Vec<String>,
    /// Whether 'a' and 'A' are one key.
    pub(crate) nocase: bool,
    pub(crate) uniques: Vec<Unique>,
    pub(crate) foreign: Vec<Foreign>,
}

/// Statements that are made of a shape when they are first asked for.
#[derive(Clone, Debug, Default)]
struct Reading(OnceLock<Vec<String>>);

/// Two shapes are the same whether or not one has been asked.
impl PartialEq for Reading {
    fn eq(&self, _: &Reading) -> bool {
        true
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub(crate) tables: Vec<Table>,
    /// Rows that are on the remote before its log begins.
    pub(crate) rows: Vec<String>,
    pub(crate) web: Vec<String>,
    pub(crate) local: Vec<String>,
    /// Tables that are not replicated, and refer to those that are.
    #[serde(default)]
    pub(crate) beside: Vec<String>,
    /// The web's triggers are made after ours, and found when a replica joins.
    pub(crate) late: bool,
    /// The conflict rule is that of columns.
    pub(crate) columns_rule: bool,
    /// What reads the tables, in their order.
    #[serde(skip)]
    reading: Reading,
    /// Requests run to the letter. Otherwise the remote's triggers are compiled once a world, and not
    /// once a request ([`push`](super::sql::push)).
    pub(crate) verbatim: bool,
}

fn pick<'a>(random: &mut Rng, from: &[&'a str]) -> &'a str {
    from[random.usize(..from.len())]
}

/// Some of those for which there are tables.
fn some(random: &mut Rng, tables: &str, from: &[(&str, &str)], most: usize) -> Vec<String> {
    let fits = |needed: &str| needed.chars().all(|table| tables.contains(table));
    let fitting = from.iter().filter(|(needed, _)| fits(needed));
    let mut all: Vec<_> = fitting.map(|(_, sql)| (*sql).to_owned()).collect();
    random.shuffle(&mut all);
    all.truncate(random.usize(..=most));
    all
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn foreign(random: &mut Rng, column: &str, parent: &str, updates: &[&str]) -> (String, Foreign) {
    let delete = pick(random, &["CASCADE", "SET NULL", "RESTRICT", "NO ACTION"]);
    let update = pick(random, updates);
    let deferred = pick(random, &["", "DEFERRABLE INITIALLY DEFERRED"]);
    let keeps = |action: &str| matches!(action, "RESTRICT" | "NO ACTION");
    let sql = format!("REFERENCES {parent}(id) ON DELETE {delete} ON UPDATE {update} {deferred}");
    let (column, parent) = (column.to_owned(), parent.to_owned());
    (sql, Foreign { column, parent, keeps: keeps(delete), keeps_key: keeps(update) })
}

impl Shape {
    /// The shape of the world with this seed.
    pub(crate) fn of(seed: u64) -> Shape {
        let mut random =
            Rng::with_seed((seed / WORLDS_A_SHAPE).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Shape::new(&mut random)
    }

    fn new(random: &mut Rng) -> Shape {
        let nocase = random.f64() < 0.4;
        let names = pick(random, &TABLES);
        let mut tables = members(random, nocase);
        tables.push(composite(random));
        tables.push(numbered(random));
        tables.extend(circle(random));
        tables.retain(|table| names.contains(&table.name));
        let rows: &[_] = if random.bool() { &ROWS } else { &[] };
        Shape {
            tables,
            rows: some(random, names, rows, rows.len()),
            web: some(random, names, &WEB, 3),
            local: some(random, names, &LOCAL, 2),
            beside: if names.contains('m') && random.bool() { beside(random) } else { Vec::new() },
            late: random.f64() < 0.3,
            columns_rule: random.bool(),
            reading: Reading::default(),
            verbatim: random.f64() < 0.12,
        }
    }

    /// Whether SQLite itself may lose a row over a transaction, without a word to any trigger: an UPDATE
    /// OR REPLACE evicts the parent of its own row, the cascade deletes that row, and a trigger makes
    /// it anew.
    pub(crate) fn is_lost_by_sqlite(&self, transaction: &[String]) -> bool {
        let cascades = self.table("s").is_some_and(|s| s.sql.contains("ON DELETE CASCADE"));
        cascades
            && self.web.iter().any(|trigger| trigger.contains("x_undel"))
            && transaction.iter().any(|sql| sql.starts_with("UPDATE OR REPLACE s"))
    }

    /// All tables of a desktop as SQL.
    pub(crate) fn schema_of_desktop(&self) -> String {
        self.schema() + &self.beside.iter().map(|sql| format!("{sql};\n")).collect::<String>()
    }

    /// All tables as SQL.
    pub(crate) fn schema(&self) -> String {
        self.tables.iter().map(|table| format!("{};\n", table.sql)).collect()
    }

    /// The statements that read the tables, in their order.
    pub(crate) fn reading(&self) -> &[String] {
        self.reading.0.get_or_init(|| {
            let quoted = |name: &String| format!("\"{name}\"");
            let read = |table: &Table| {
                let columns: Vec<_> = table.columns.iter().map(quoted).collect();
                format!("SELECT {} FROM {}", columns.join(", "), table.name)
            };
            self.tables.iter().map(read).collect()
        })
    }

    /// Whether there is a table of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.table(name).is_some()
    }

    /// The table of this name.
    pub(crate) fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }
}

/// Rows that refer to each other, over three tables and within one.
fn members(random: &mut Rng, nocase: bool) -> Vec<Table> {
    let update = [pick(random, &["CASCADE", "NO ACTION", "SET NULL"])];
    let collate = if nocase { "COLLATE NOCASE" } else { "" };
    let check = pick(random, &["", ", CHECK (a IS NULL OR t IS NULL OR a + t < 140)"]);
    let (to_m, mid) = foreign(random, "mid", "m", &update);
    let (to_p, pid) = foreign(random, "pid", "p", &["CASCADE"]);
    let (to_s, par) = foreign(random, "par", "s", &update);
    let unique = |column: &str, nocase| Unique { columns: owned(&[column]), nocase };
    let table = |name: &str, sql: String, columns: &[&str], nocase, uniques, foreign| Table {
        name: name.to_owned(),
        sql,
        columns: owned(columns),
        key: owned(&["id"]),
        nocase,
        uniques,
        foreign,
    };
    vec![
        table(
            "m",
            format!(
                "CREATE TABLE m (id TEXT PRIMARY KEY {collate}, a, u TEXT UNIQUE {collate}, t INT{check})"
            ),
            &["id", "a", "u", "t"],
            nocase,
            vec![unique("u", nocase)],
            Vec::new(),
        ),
        table(
            "p",
            format!("CREATE TABLE p (id TEXT PRIMARY KEY, mid TEXT {to_m}, x INT)"),
            &["id", "mid", "x"],
            false,
            Vec::new(),
            vec![mid],
        ),
        table(
            "q",
            format!("CREATE TABLE q (id TEXT PRIMARY KEY, pid TEXT {to_p}, y INT) WITHOUT ROWID"),
            &["id", "pid", "y"],
            false,
            Vec::new(),
            vec![pid],
        ),
        table(
            "s",
            format!("CREATE TABLE s (id TEXT PRIMARY KEY, par TEXT {to_s}, v INT UNIQUE)"),
            &["id", "par", "v"],
            false,
            vec![unique("v", false)],
            vec![par],
        ),
    ]
}

/// A composite key, a generated column, a UNIQUE pair, and names that need quoting.
fn composite(random: &mut Rng) -> Table {
    let ending = pick(random, &["", "WITHOUT ROWID", "STRICT", "STRICT, WITHOUT ROWID"]);
    let nocase = random.bool();
    let collate = if nocase { "COLLATE NOCASE" } else { "" };
    Table {
        name: "c".to_owned(),
        sql: format!(
            "CREATE TABLE c (x INT NOT NULL, y TEXT NOT NULL {collate}, \"the order\" TEXT, w INT, \
             g INT GENERATED ALWAYS AS (w * 2) VIRTUAL, PRIMARY KEY (y, x), UNIQUE (\"the order\", w)) {ending}"
        ),
        columns: owned(&["x", "y", "the order", "w"]),
        key: owned(&["y", "x"]),
        nocase,
        uniques: vec![Unique { columns: owned(&["the order", "w"]), nocase: false }],
        foreign: Vec::new(),
    }
}

/// A key that is the rowid, and values that a column's type converts.
fn numbered(random: &mut Rng) -> Table {
    let (to_m, mid) = foreign(random, "mid", "m", &["CASCADE"]);
    Table {
        name: "n".to_owned(),
        sql: format!(
            "CREATE TABLE n (id INTEGER PRIMARY KEY, mid TEXT {to_m}, cost REAL NOT NULL DEFAULT 0, \
             note TEXT COLLATE NOCASE)"
        ),
        columns: owned(&["id", "mid", "cost", "note"]),
        key: owned(&["id"]),
        nocase: false,
        uniques: Vec::new(),
        foreign: vec![mid],
    }
}

/// Two tables that refer to each other.
fn circle(random: &mut Rng) -> [Table; 2] {
    let update = [pick(random, &["CASCADE", "NO ACTION"])];
    let (to_w, w) = foreign(random, "w", "w", &update);
    let (to_v, v) = foreign(random, "v", "v", &update);
    let needs = if to_v.contains("DELETE SET NULL") { "" } else { pick(random, &["", "NOT NULL"]) };
    let table = |name: &str, sql: String, columns: &[&str], foreign| Table {
        name: name.to_owned(),
        sql,
        columns: owned(columns),
        key: owned(&["id"]),
        nocase: false,
        uniques: Vec::new(),
        foreign: vec![foreign],
    };
    [
        table(
            "v",
            format!("CREATE TABLE v (id TEXT PRIMARY KEY, w TEXT {to_w}, n INT)"),
            &["id", "w", "n"],
            w,
        ),
        table(
            "w",
            format!("CREATE TABLE w (id TEXT PRIMARY KEY, v TEXT {needs} {to_v})"),
            &["id", "v"],
            v,
        ),
    ]
}

/// Tables of a desktop's own.
fn beside(random: &mut Rng) -> Vec<String> {
    let delete = pick(random, &["CASCADE", "CASCADE", "SET NULL"]);
    let update = pick(random, &["CASCADE", "CASCADE", "SET NULL"]);
    vec![
        format!(
            "CREATE TABLE l (id INTEGER PRIMARY KEY, mid TEXT REFERENCES m (id) ON DELETE {delete} ON UPDATE {update})"
        ),
        "CREATE TABLE ll (id INTEGER PRIMARY KEY, l INT REFERENCES l (id) ON DELETE CASCADE)"
            .to_owned(),
    ]
}
