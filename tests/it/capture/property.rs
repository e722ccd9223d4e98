//! Any table, any values, any statements: the outbox folds to the table.
//!
//! A failure says its seed. `DRIFTLESS_TEST_SEED=… cargo test capture::property` repeats the run,
//! and `DRIFTLESS_TEST_CASES=20000` makes a longer one.

use std::fmt::Write as _;

use driftless::catalog::ident;
use driftless::event::value::Value;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, ToSql};

use super::desk::Desk;
use super::fold::{line, literal};

/// Where chance begins, unless the environment says otherwise.
const SEED: u64 = 1;

/// How many tables are made by default: some seconds' worth without optimization.
const CASES: u32 = 250;

/// The most columns, and so the most values of a row.
const COLUMNS: usize = 12;

/// Names that a careless generator of SQL would trip over.
const NAMES: [&str; COLUMNS] =
    ["id", "rowid", "order", "a\"b", "new", "w", "ключ", "two words", "n", "it's", "x", "{r}"];

const TYPES: [&str; 9] =
    ["", "INTEGER", "INT", "TEXT", "VARCHAR(9)", "BLOB", "REAL", "NUMERIC", "DATETIME"];
const STRICT_TYPES: [&str; 6] = ["INT", "INTEGER", "TEXT", "REAL", "BLOB", "ANY"];
const COLLATIONS: [&str; 4] = ["", "COLLATE NOCASE", "COLLATE RTRIM", "COLLATE BINARY"];
const ACTIONS: [&str; 5] =
    ["CASCADE", "SET NULL", "RESTRICT", "NO ACTION", "CASCADE DEFERRABLE INITIALLY DEFERRED"];
const FEW: [Bound; 4] = [
    Bound(Value::Integer(1)),
    Bound(Value::Integer(2)),
    Bound(Value::Null),
    Bound(Value::Integer(3)),
];
/// What a TEMP trigger writes.
const LITERALS: [&str; 7] = ["1", "2", "'a'", "'A'", "NULL", "1.0", "'b'"];
const CLAUSES: [&str; 6] = ["", "OR ABORT", "OR FAIL", "OR IGNORE", "OR REPLACE", "OR ROLLBACK"];

/// A value to bind.
#[derive(Clone)]
pub(crate) struct Bound(pub(crate) Value);

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&literal(&self.0))
    }
}

impl ToSql for Bound {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match &self.0 {
            Value::Null => ValueRef::Null,
            Value::Integer(integer) => ValueRef::Integer(*integer),
            Value::Real(real) => ValueRef::Real(*real),
            Value::Text(text) => ValueRef::Text(text),
            Value::Blob(blob) => ValueRef::Blob(blob),
        }))
    }
}

#[derive(Clone, Debug)]
struct Column {
    kind: usize,
    collation: usize,
    /// NOT NULL with a default, which ON CONFLICT REPLACE puts in the place of a NULL.
    not_null: bool,
}

#[derive(Clone, Debug)]
struct Index {
    columns: Vec<(usize, usize)>,
    partial: bool,
    expression: bool,
    /// A constraint of the table, which says ON CONFLICT REPLACE, and not an index.
    replaces: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Definition {
    columns: Vec<Column>,
    key: Vec<usize>,
    pub(crate) strict: bool,
    without_rowid: bool,
    /// A generated column, stored or not, with a UNIQUE index on it.
    generated: Option<bool>,
    indexes: Vec<Index>,
    pub(crate) recursive: bool,
    /// Rows refer to others of the table by this column, and what becomes of them when those go.
    refers: Option<(usize, usize)>,
    /// The reference is a generated column, stored or not, that has that column's value.
    through: Option<bool>,
    temps: Vec<Temp>,
}

/// A TEMP trigger of the application's, which runs before any other.
#[derive(Clone, Debug)]
struct Temp {
    event: usize,
    action: usize,
    column: usize,
    literal: usize,
}

impl Definition {
    /// The column that refers to another row, where the key has one column for it to refer to.
    fn referring(&self) -> Option<(usize, &'static str)> {
        let width = self.columns.len();
        let key = self.key[0] % width;
        let single = self.key.iter().all(|part| part % width == key);
        self.refers.filter(|_| single).map(|(column, action)| {
            // Nobody can write a generated column, not even a foreign key's action.
            let action = match (ACTIONS[action], self.through) {
                ("SET NULL", Some(_)) => "CASCADE",
                (action, _) => action,
            };
            (column % width, action)
        })
    }

    /// The clause of an UPDATE. It may not replace the parent of its own row, which would then be
    /// set to NULL: see the caveats of capture.
    fn update_clause(&self, clause: usize) -> &'static str {
        match self.clause(clause) {
            "OR REPLACE" if self.sets_null() => "OR ABORT",
            clause => clause,
        }
    }

    /// Whether rows refer to others of the table that set them to NULL when they go.
    fn sets_null(&self) -> bool {
        self.referring().is_some_and(|(_, action)| action == "SET NULL")
    }

    /// The clause of a statement. With TEMP triggers nothing fails in the middle, and nothing is
    /// ignored or replaced: see the caveats of capture.
    fn clause(&self, clause: usize) -> &'static str {
        match CLAUSES[clause] {
            "OR REPLACE" | "OR IGNORE" | "OR FAIL" if !self.temps().is_empty() => "OR ABORT",
            clause => clause,
        }
    }

    /// The statements that make the TEMP triggers.
    pub(crate) fn temps(&self) -> Vec<String> {
        if self.recursive {
            // They could fire each other for ever.
            return Vec::new();
        }
        let names: Vec<_> = (0..self.columns.len()).map(|column| self.name(column)).collect();
        let temp = |(number, temp): (usize, &Temp)| {
            let event = ["INSERT", "UPDATE", "DELETE"][temp.event];
            let row = if event == "DELETE" { "old" } else { "new" };
            let same: Vec<_> = self.key().iter().map(|k| format!("{k} IS {row}.{k}")).collect();
            let (same, literal) = (same.join(" AND "), LITERALS[temp.literal]);
            let column = self.name(temp.column);
            let insert = |changed: &str| {
                let values: Vec<_> = names
                    .iter()
                    .map(|name| match name == changed {
                        true => literal.to_owned(),
                        false => format!("{row}.{name}"),
                    })
                    .collect();
                let (names, values) = (names.join(", "), values.join(", "));
                format!("INSERT INTO t ({names}) VALUES ({values});")
            };
            let body = match temp.action {
                0 if event == "UPDATE" => {
                    format!("UPDATE t SET {column} = old.{column} WHERE {same};")
                }
                0 | 1 => format!("UPDATE t SET {column} = {literal} WHERE {same};"),
                2 => format!("DELETE FROM t WHERE {same};"),
                3 => insert(""),
                4 => format!("DELETE FROM t WHERE {same}; {}", insert("")),
                5 => format!("DELETE FROM t WHERE {same}; {}", insert(&column)),
                6 => insert(&column),
                _ => format!(
                    "UPDATE t SET {column} = {literal} WHERE {same}; \
                     UPDATE t SET {column} = {row}.{column} WHERE {same};"
                ),
            };
            format!("CREATE TEMP TRIGGER temp{number} AFTER {event} ON main.t BEGIN {body} END")
        };
        self.temps.iter().enumerate().map(temp).collect()
    }

    /// A value for a column. Where rows refer to each other there are few, or hardly any would.
    fn bind<'a>(&self, column: usize, value: &'a Bound) -> &'a Bound {
        let width = self.columns.len();
        match self.referring() {
            Some((referring, _))
                if [referring, self.key[0] % width].contains(&(column % width)) =>
            {
                &FEW[literal(&value.0).len() % FEW.len()]
            }
            _ => value,
        }
    }

    /// The names of the key's columns, quoted.
    pub(crate) fn key(&self) -> Vec<String> {
        self.key.iter().map(|&column| self.name(column)).collect()
    }

    fn is_key(&self, column: usize) -> bool {
        self.key.iter().any(|key| key % self.columns.len() == column)
    }

    fn name(&self, column: usize) -> String {
        ident(NAMES[column % self.columns.len()])
    }

    fn kind(&self, column: usize) -> &'static str {
        let kind = self.columns[column].kind;
        if self.strict {
            STRICT_TYPES[kind % STRICT_TYPES.len()]
        } else {
            TYPES[kind % TYPES.len()]
        }
    }

    pub(crate) fn sql(&self) -> String {
        let mut parts = Vec::new();
        for (index, column) in self.columns.iter().enumerate() {
            let kind = self.kind(index);
            let default = match kind {
                "BLOB" => "x''",
                _ => "1",
            };
            let mut part = format!("{} {kind} {}", self.name(index), COLLATIONS[column.collation]);
            // A BEFORE trigger sees a generated column as it is without the default for a NULL.
            if column.not_null && self.generated.is_none() {
                let _ = write!(part, " NOT NULL DEFAULT {default}");
            } else if !self.temps.is_empty() && self.is_key(index) {
                part.push_str(" NOT NULL");
            }
            parts.push(part);
        }
        if let Some(stored) = self.generated {
            let stored = if stored { "STORED" } else { "VIRTUAL" };
            let kind = if self.strict { "ANY" } else { "" };
            let of = self.name(self.columns.len() - 1);
            parts.push(format!("made {kind} AS (coalesce({of}, 0) || 'm') {stored}"));
        }
        if let (Some((column, _)), Some(stored)) = (self.referring(), self.through) {
            let stored = if stored { "STORED" } else { "VIRTUAL" };
            let kind = self.kind(column);
            parts.push(format!("reference {kind} AS ({}) {stored}", self.name(column)));
        }
        let mut key: Vec<_> = self.key.iter().map(|&column| self.name(column)).collect();
        let mut seen = Vec::new();
        key.retain(|name| {
            !seen.contains(name) && {
                seen.push(name.clone());
                true
            }
        });
        parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
        // A row that refers to itself and changes its key with ON UPDATE has a consequence that comes
        // before its cause: see the caveats of capture.
        if let Some((column, action)) = self.referring() {
            let from = match self.through {
                Some(_) => "reference".to_owned(),
                None => self.name(column),
            };
            parts.push(format!("FOREIGN KEY ({from}) REFERENCES t ON DELETE {action}"));
        }
        for index in self.indexes.iter().filter(|index| index.replaces) {
            let may_replace = self.temps().is_empty() && !self.sets_null();
            let replaces = if may_replace { " ON CONFLICT REPLACE" } else { "" };
            let columns: Vec<_> = index.columns.iter().map(|&(c, _)| self.name(c)).collect();
            parts.push(format!("UNIQUE ({}){replaces}", columns.join(", ")));
        }
        let options = match (self.strict, self.without_rowid) {
            (true, true) => "STRICT, WITHOUT ROWID",
            (true, false) => "STRICT",
            (false, true) => "WITHOUT ROWID",
            (false, false) => "",
        };
        let mut sql = format!("CREATE TABLE t ({}) {options};\n", parts.join(", "));
        for (number, index) in self.indexes.iter().enumerate().filter(|(_, i)| !i.replaces) {
            let terms: Vec<_> = index
                .columns
                .iter()
                .map(|&(column, collation)| {
                    let name = self.name(column);
                    match index.expression {
                        true => format!("lower({name} || '!') {}", COLLATIONS[collation]),
                        false => format!("{name} {}", COLLATIONS[collation]),
                    }
                })
                .collect();
            let partial = match index.partial {
                true => format!(" WHERE {} > 0", self.name(index.columns[0].0 + 1)),
                false => String::new(),
            };
            let _ = writeln!(
                sql,
                "CREATE UNIQUE INDEX u{number} ON t ({}){partial};",
                terms.join(", ")
            );
        }
        if self.generated.is_some() && self.indexes.is_empty() {
            sql.push_str("CREATE UNIQUE INDEX made_once ON t (made);\n");
        }
        sql
    }
}

/// What an application does next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Insert {
        clause: usize,
        rows: Vec<Vec<Bound>>,
        upsert: u8,
        set: Vec<usize>,
    },
    Update {
        clause: usize,
        set: Vec<(usize, Bound)>,
        place: Option<(usize, Bound)>,
    },
    /// Moves a column's values to another row or column: expressions and not values.
    Shift {
        clause: usize,
        set: usize,
        from: usize,
        times: i64,
    },
    Delete {
        place: Option<(usize, Bound)>,
    },
    Begin,
    Savepoint,
    Undo,
    Commit,
    Rollback,
}

impl Step {
    pub(crate) fn sql<'a>(&'a self, table: &Definition) -> (String, Vec<&'a Bound>) {
        match self {
            Step::Insert { clause, rows, upsert, set } => {
                let width = table.columns.len();
                let row = format!("({})", vec!["?"; width].join(", "));
                let names: Vec<_> = (0..width).map(|c| table.name(c)).collect();
                let mut sql = format!(
                    "INSERT {} INTO t ({}) VALUES {}",
                    table.clause(*clause),
                    names.join(", "),
                    vec![row; rows.len()].join(", ")
                );
                let set: Vec<_> =
                    set.iter().map(|&c| format!("{0} = excluded.{0}", table.name(c))).collect();
                // See the caveats of capture.
                match if table.temps.is_empty() { *upsert } else { u8::MAX } {
                    0 => sql.push_str(" ON CONFLICT DO NOTHING"),
                    1 | 2 => {
                        let _ = write!(sql, " ON CONFLICT DO UPDATE SET {}", set.join(", "));
                    }
                    _ => {}
                }
                let row = |row: &'a Vec<Bound>| row[..width].iter().enumerate();
                (sql, rows.iter().flat_map(row).map(|(c, value)| table.bind(c, value)).collect())
            }
            Step::Update { clause, set, place } => {
                let names: Vec<_> =
                    set.iter().map(|(c, _)| format!("{} = ?", table.name(*c))).collect();
                let mut binds: Vec<_> =
                    set.iter().map(|(c, value)| table.bind(*c, value)).collect();
                let condition = condition(table, place, &mut binds);
                let clause = table.update_clause(*clause);
                (format!("UPDATE {clause} t SET {}{condition}", names.join(", ")), binds)
            }
            Step::Shift { clause, set, from, times } => {
                let (set, from) = (table.name(*set), table.name(*from));
                let clause = table.update_clause(*clause);
                (format!("UPDATE {clause} t SET {set} = {from} + {times}"), Vec::new())
            }
            Step::Delete { place } => {
                let mut binds = Vec::new();
                let condition = condition(table, place, &mut binds);
                (format!("DELETE FROM t{condition}"), binds)
            }
            Step::Begin => ("BEGIN".to_owned(), Vec::new()),
            Step::Savepoint => ("SAVEPOINT s".to_owned(), Vec::new()),
            Step::Undo => ("ROLLBACK TO s".to_owned(), Vec::new()),
            Step::Commit => ("COMMIT".to_owned(), Vec::new()),
            Step::Rollback => ("ROLLBACK".to_owned(), Vec::new()),
        }
    }
}

fn condition<'a>(
    table: &Definition,
    place: &'a Option<(usize, Bound)>,
    binds: &mut Vec<&'a Bound>,
) -> String {
    match place {
        Some((column, value)) => {
            binds.push(table.bind(*column, value));
            format!(" WHERE {} IS ?", table.name(*column))
        }
        None => String::new(),
    }
}

fn value() -> impl Strategy<Value = Bound> {
    let text = |text: &str| Value::Text(text.as_bytes().to_vec());
    // A few values that meet each other, in several spellings.
    let mut near =
        vec![Value::Null, text("a"), text("A"), text("a "), text("b"), text("1"), text("1.0")];
    near.extend((0..4).map(Value::Integer));
    near.extend([1.0, 2.0, 1.5].map(Value::Real));
    near.extend([Value::Blob(b"a".to_vec()), Value::Blob(Vec::new()), text("")]);
    let mut far: Vec<_> =
        ["it's", "\"", "\\", "a\0b", "A\0C", "\0", "\u{1f}\n\t\u{8}", "😀é", "{}", "]", "1e3"]
            .iter()
            .map(|t| text(t))
            .collect();
    far.extend([i64::MIN, i64::MAX, -1, 1 << 53, (1 << 53) + 1].map(Value::Integer));
    far.extend([f64::INFINITY, f64::NEG_INFINITY, 5e-324, f64::MAX, 9e15, 1e300].map(Value::Real));
    far.extend([-9_223_372_036_854_775_808.0, 9_223_372_036_854_775_808.0, 0.1].map(Value::Real));
    far.extend([
        Value::Text(vec![0xff, b'a']),
        Value::Text(vec![b'A', 0xc3]),
        Value::Blob(vec![0, 255]),
    ]);
    prop_oneof![
        12 => prop::sample::select(near),
        3 => prop::sample::select(far),
        1 => any::<u64>().prop_map(f64::from_bits).prop_map(|real| match real.is_nan() {
            true => Value::Null,
            false => Value::Real(real),
        }),
        1 => any::<i64>().prop_map(Value::Integer),
        1 => prop::collection::vec(any::<u8>(), 0..6).prop_map(Value::Text),
    ]
    .prop_map(Bound)
}

fn temp() -> impl Strategy<Value = Temp> {
    (0..3_usize, 0..8_usize, 0..COLUMNS, 0..LITERALS.len())
        .prop_map(|(event, action, column, literal)| Temp { event, action, column, literal })
}

fn definition() -> impl Strategy<Value = Definition> {
    let column = (0..TYPES.len(), 0..COLLATIONS.len(), prop::bool::weighted(0.15))
        .prop_map(|(kind, collation, not_null)| Column { kind, collation, not_null });
    let index = (
        prop::collection::vec((0..COLUMNS, 0..COLLATIONS.len()), 1..3),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(columns, partial, expression, replaces)| Index {
            columns,
            partial,
            expression,
            replaces,
        });
    (
        prop_oneof![4 => prop::collection::vec(column.clone(), 1..5), 1 => prop::collection::vec(column, 5..=COLUMNS)],
        prop_oneof![3 => prop::collection::vec(0..COLUMNS, 1), 1 => prop::collection::vec(0..COLUMNS, 1..4)],
        prop::bool::weighted(0.25),
        prop::bool::weighted(0.3),
        prop::option::weighted(0.25, any::<bool>()),
        prop::collection::vec(index, 0..3),
        prop::bool::weighted(0.15),
        (
            prop::option::weighted(0.25, (0..COLUMNS, 0..ACTIONS.len())),
            prop::option::weighted(0.4, any::<bool>()),
        ),
        prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(temp(), 1..3)],
    )
        .prop_map(|(columns, key, strict, without_rowid, generated, indexes, recursive, more, temps)| {
            let (refers, through) = more;
            Definition {
                columns,
                key,
                strict,
                without_rowid,
                generated,
                indexes,
                recursive,
                refers,
                through,
                temps,
            }
        })
}

fn step() -> impl Strategy<Value = Step> {
    let clause = 0..CLAUSES.len();
    let place = || prop::option::weighted(0.8, (0..COLUMNS, value()));
    let rows = prop::collection::vec(prop::collection::vec(value(), COLUMNS), 1..4);
    prop_oneof![
        8 => (clause.clone(), rows, 0..9_u8, prop::collection::vec(0..COLUMNS, 1..3))
            .prop_map(|(clause, rows, upsert, set)| Step::Insert { clause, rows, upsert, set }),
        6 => (clause.clone(), prop::collection::vec((0..COLUMNS, value()), 1..3), place())
            .prop_map(|(clause, set, place)| Step::Update { clause, set, place }),
        2 => (clause, 0..COLUMNS, 0..COLUMNS, -1..3_i64)
            .prop_map(|(clause, set, from, times)| Step::Shift { clause, set, from, times }),
        2 => place().prop_map(|place| Step::Delete { place }),
        1 => Just(Step::Begin),
        1 => Just(Step::Savepoint),
        1 => Just(Step::Undo),
        2 => Just(Step::Commit),
        1 => Just(Step::Rollback),
    ]
}

/// What a run has seen, so that it cannot pass by doing nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    events: usize,
    refused: usize,
    moves: usize,
    reordered: usize,
}

fn run(table: &Definition, steps: &[Step], seen: &mut Seen) -> Result<(), TestCaseError> {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch(&table.sql()).map_err(|e| TestCaseError::fail(e.to_string()))?;
    if table.recursive {
        db.execute_batch("PRAGMA recursive_triggers = 1").unwrap();
    }
    let mut desk = Desk::new(db);
    desk.capture(&["t"]).map_err(|e| TestCaseError::fail(e.to_string()))?;
    for temp in table.temps() {
        desk.db.execute_batch(&temp).map_err(|e| TestCaseError::fail(e.to_string()))?;
    }
    for (index, step) in steps.iter().chain([&Step::Commit]).enumerate() {
        let (sql, binds) = step.sql(table);
        let done = desk.db.execute(&sql, rusqlite::params_from_iter(binds));
        if let Err(error) = done {
            seen.refused += 1;
            let control = matches!(step, Step::Begin | Step::Undo | Step::Commit | Step::Rollback);
            let expected = matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch)
            );
            prop_assert!(control || expected, "step {index}: {error}: {sql}");
        }
        if desk.db.is_autocommit() {
            let changes = desk.read().map_err(|(changes, error)| {
                let lines: Vec<_> = changes.iter().map(line).collect();
                TestCaseError::fail(format!("step {index}: {error}\n{}", lines.join("\n")))
            })?;
            seen.events += changes.len();
            seen.moves += changes.iter().filter(|change| change.pair == Some(1)).count();
        }
    }
    seen.reordered += desk.reordered;
    Ok(())
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn the_outbox_folds_to_the_table() {
    let seen = std::cell::Cell::new(Seen::default());
    let Explored { cases, repeat } = explore(CASES, "capture::property", |table, steps| {
        let mut now = seen.get();
        let result = run(table, steps, &mut now);
        seen.set(now);
        result
    });
    let (seen, enough) = (seen.get(), cases as usize);
    // Some eight events a table, four refusals and one moved key; of a few tables, anything.
    let few = cases < CASES;
    let lively = seen.events > 3 * enough && seen.refused > enough && seen.moves > enough / 10;
    let lively = lively && seen.reordered > enough / 10;
    assert!(few || lively, "too little happened: {seen:?}\n{repeat} repeats this");
}

/// What [`explore`] did.
pub(crate) struct Explored {
    /// How many tables were made.
    pub(crate) cases: u32,
    /// The command that makes them again.
    pub(crate) repeat: String,
}

/// Checks so many random tables and applications, or as many as the environment says. `filter` is the
/// test that asks.
///
/// # Panics
///
/// When `check` fails, with the smallest case that was found to fail.
pub(crate) fn explore(
    cases: u32,
    filter: &str,
    check: impl Fn(&Definition, &[Step]) -> Result<(), TestCaseError>,
) -> Explored {
    explore_from(SEED, cases, filter, check)
}

/// The same from this seed, unless the environment names another one.
pub(crate) fn explore_from(
    seed: u64,
    cases: u32,
    filter: &str,
    check: impl Fn(&Definition, &[Step]) -> Result<(), TestCaseError>,
) -> Explored {
    let seed = number("DRIFTLESS_TEST_SEED").unwrap_or(seed);
    let cases = number("DRIFTLESS_TEST_CASES").map_or(cases, |cases| cases as u32);
    let repeat =
        format!("DRIFTLESS_TEST_SEED={seed} DRIFTLESS_TEST_CASES={cases} cargo test {filter}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let steps = prop::collection::vec(step(), 1..25);
    let result = runner.run(&(definition(), steps), |(table, steps)| {
        check(&table, &steps).map_err(|error| match error {
            TestCaseError::Fail(reason) => {
                let mut script = table.temps();
                script.extend(steps.iter().map(|step| format!("{:?}", step.sql(&table))));
                TestCaseError::fail(format!("{reason}\n{}{}", table.sql(), script.join("\n")))
            }
            reject => reject,
        })
    });
    if let Err(error) = result {
        // The reason has the statements; the generated structures behind it would be too much.
        let error = match error {
            TestError::Fail(reason, _) | TestError::Abort(reason) => reason,
        };
        panic!("{repeat} repeats this:\n{error}");
    }
    Explored { cases, repeat }
}
