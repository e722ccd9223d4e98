//! The trigger generator over any tables: what SQLite takes as a definition is captured exactly, or
//! refused with a reason.
//!
//! An input is SQL, a statement a line. Of it, the tables and indexes are made, as those of a
//! remote are; then chance, seeded with the text, writes to them, in a database with capture
//! and in one without.

use driftless::Kind;
use driftless::catalog::{Catalog, Table, ident};
use driftless::event::conflict::ConflictRule;
use driftless::event::value::Value;
use driftless::event::{EventId, Op, RowKey};
use driftless::protocol::{Outgoing, push};
use driftless::remote::Rows;
use driftless::store::Connection;

use crate::capture::desk::Desk;
use crate::support::remote_schema::{found, install};

/// Writes for each input: enough that a row is written twice.
const WRITES: usize = 24;

/// What a definition can say that gives another value each time, so that two databases differ.
const UNSTEADY: [&str; 5] = ["random", "current_", "'now'", "date", "changes"];

/// A row of `sqlite_schema`.
type Definition = (String, String, String, Option<String>);

/// Takes `data` as definitions.
///
/// # Panics
///
/// When a trigger cannot be made, changes what the application sees, or captures something else
/// than what was written.
pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(catalog) = Catalog::of_remote(&definitions(&text)) else { return };
    // A first sync refuses it: where there is any trigger, SQLite refuses what is written.
    if !catalog.unfounded.is_empty() {
        return;
    }
    let refused = |error: driftless::Error| assert_eq!(error.kind(), Kind::Usage, "{error:?}");
    let sql: Vec<_> = catalog.tables.iter().map(|table| table.sql.clone()).collect();
    let sql: Vec<_> =
        sql.into_iter().chain(catalog.indexes.iter().map(|(_, sql)| sql.clone())).collect();
    let (Some(plain), Some(captured)) = (database(&sql), database(&sql)) else { return };
    let catalog = Catalog::read(&captured).expect("a database can be read");
    let names: Vec<_> = catalog.tables.iter().map(|table| table.name.as_str()).collect();
    if names.is_empty() {
        return;
    }
    let mut desk = Desk::new(captured);
    if let Err(error) = desk.capture(&names) {
        return refused(error);
    }
    let lower = text.to_ascii_lowercase();
    let steady = !UNSTEADY.iter().any(|word| lower.contains(word));
    let mut random = fastrand::Rng::with_seed(hash(data));
    let writes: Vec<_> = (0..WRITES).map(|_| write(&catalog, &mut random)).collect();
    for (sql, values) in &writes {
        let one = execute(&plain, sql, values);
        let other = execute(&desk.db, sql, values);
        if steady && !is_strict(&catalog) && !refers_to_itself(&catalog) {
            assert_eq!(one, other, "capture changes what the application sees: {sql}");
        }
        let exact = is_exact(&catalog, &lower);
        if let Err((_, error)) = desk.read()
            && exact
        {
            panic!("{error}\nafter {sql} with {values:?}");
        }
    }
    if has_all_parents(&catalog) {
        remote(&catalog, &sql, &writes);
    }
}

/// The same tables on a remote.
fn remote(catalog: &Catalog, sql: &[String], writes: &[(String, Vec<Value>)]) {
    let Some(db) = database(sql) else { return };
    for sql in install(&catalog.tables, |_| ConflictRule::Row) {
        db.execute_batch(&sql).unwrap_or_else(|e| panic!("{e}: {sql}"));
    }
    for (sql, values) in writes {
        // What it refuses is refused.
        let _ = execute(&db, sql, values);
    }
    // An event of each table is judged; what becomes of it depends on its constraints.
    let tables = found(&catalog.tables, |_| ConflictRule::Row, |sql| rows(&db, sql));
    let events: Vec<_> = catalog.tables.iter().zip(1..).map(delete).collect();
    for event in &events {
        let sql = "INSERT INTO driftless_inbox (id, origin, unit, tbl, pk, op, base)
            VALUES (?1, '01HF7YAT00000000010000000B', '01HF7YAT00000000010000000C', ?2, '[1]',
                'delete', 0)";
        db.execute(sql, [&event.id.to_string(), &event.table]).unwrap();
    }
    for statement in push::of_runs(&push::runs(&events, &tables), &tables) {
        let done = execute(&db, &statement.sql, &statement.args);
        done.unwrap_or_else(|code| panic!("{code}: {}", statement.sql));
    }
}

/// A delete of a table's row 1.
fn delete((table, n): (&Table, u128)) -> Outgoing {
    let (id, key) = (EventId(ulid::Ulid(n)), RowKey("[1]".to_owned()));
    Outgoing::new(0, id, table.name.clone(), key, Op::Delete)
}

/// Known limits, which `capture::triggers` names among its caveats: where a constraint says REPLACE
/// and a generated column or a foreign key is about, what is captured may be something else.
fn is_exact(catalog: &Catalog, lower: &str) -> bool {
    let generated = catalog.tables.iter().any(|table| !table.generated.is_empty());
    !(refers_to_itself(catalog) || lower.contains("replace") && generated)
}

/// Another limit of those: a REPLACE in a table that refers to itself may be refused where SQLite
/// would have let a child without its parent in.
fn refers_to_itself(catalog: &Catalog) -> bool {
    catalog.parents.iter().any(|(child, parent)| child.eq_ignore_ascii_case(parent))
}

/// Whether every foreign key leads to columns that are there. Where one does not, SQLite refuses
/// whatever is written to the child, and a first sync says so.
fn has_all_parents(catalog: &Catalog) -> bool {
    let there = |name: &str| catalog.table(name).is_some();
    catalog.parents.iter().all(|(_, parent)| there(parent))
        && catalog.tables.iter().flat_map(|table| &table.foreign_keys).all(|key| {
            let parent = catalog.table(&key.parent);
            let has = |to| parent.is_some_and(|parent| parent.column(to).is_some());
            key.columns.iter().all(|(_, to)| has(to))
        })
}

/// A known limit, named in the same place: SQLite checks the types of a STRICT table's row before
/// BEFORE triggers run, so before it looks whether something else is wrong with the row.
fn is_strict(catalog: &Catalog) -> bool {
    catalog.tables.iter().any(|table| table.strict)
}

/// The text's lines as the rows of a `sqlite_schema`.
fn definitions(text: &str) -> Vec<Definition> {
    let define = |(number, line): (usize, &str)| {
        let is_index = line.to_ascii_lowercase().contains("index");
        let kind = if is_index && !line.contains('(') { "view" } else { "table" };
        let kind = if is_index { "index" } else { kind };
        (kind.to_owned(), format!("n{number}"), String::new(), Some(line.to_owned()))
    };
    text.lines().filter(|line| !line.trim().is_empty()).enumerate().map(define).collect()
}

/// A database with these definitions, which came out of one.
fn database(sql: &[String]) -> Option<Connection> {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch("PRAGMA foreign_keys = ON").unwrap();
    sql.iter().try_for_each(|sql| db.execute_batch(sql)).ok()?;
    Some(db)
}

fn hash(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A few values that meet each other, in several spellings.
fn value(random: &mut fastrand::Rng) -> Value {
    let text = |text: &str| Value::Text(text.as_bytes().to_vec());
    match random.u8(..14) {
        0 => Value::Null,
        1..=3 => Value::Integer(random.i64(0..4)),
        4 => Value::Real(random.f64()),
        5 => Value::Real(1.0),
        6 | 7 => text("a"),
        8 => text("A "),
        9 => text("it's \"\\\n"),
        10 => text("1"),
        11 => Value::Blob(vec![0, 255]),
        12 => Value::Integer(i64::MIN),
        _ => text(""),
    }
}

/// What an application does next: a statement and its values.
fn write(catalog: &Catalog, random: &mut fastrand::Rng) -> (String, Vec<Value>) {
    let table = &catalog.tables[random.usize(..catalog.tables.len())];
    let name = ident(&table.name);
    let clause = ["", "", "OR IGNORE", "OR REPLACE", "OR FAIL"][random.usize(..5)];
    let column = |random: &mut fastrand::Rng| {
        ident(&table.columns[random.usize(..table.columns.len())].name)
    };
    match random.u8(..8) {
        0..=4 => {
            let columns: Vec<_> = table.column_names().map(ident).collect();
            let places = vec!["?"; columns.len()].join(", ");
            let columns_text = columns.join(", ");
            let sql = format!("INSERT {clause} INTO {name} ({columns_text}) VALUES ({places})");
            (sql, columns.iter().map(|_| value(random)).collect())
        }
        5 | 6 => {
            let (set, by) = (column(random), column(random));
            let sql = format!("UPDATE {clause} {name} SET {set} = ? WHERE {by} IS NOT ?");
            (sql, vec![value(random), value(random)])
        }
        _ => (format!("DELETE FROM {name} WHERE {} = ?", column(random)), vec![value(random)]),
    }
}

/// The rows of a SELECT.
fn rows(db: &Connection, sql: &str) -> Rows {
    let mut statement = db.prepare(sql).unwrap();
    let width = statement.column_count();
    let mut found = statement.query([]).unwrap();
    let mut rows = Rows::new();
    while let Some(row) = found.next().unwrap() {
        let value = |column| match row.get_ref(column).unwrap() {
            rusqlite::types::ValueRef::Integer(integer) => Value::Integer(integer),
            rusqlite::types::ValueRef::Text(text) => Value::Text(text.to_vec()),
            _ => Value::Null,
        };
        rows.push((0..width).map(value).collect());
    }
    rows
}

/// Runs a write, and gives how it went: the rows it changed, or SQLite's code.
fn execute(db: &Connection, sql: &str, values: &[Value]) -> Result<usize, i32> {
    let run = || {
        let mut statement = db.prepare(sql)?;
        for (index, value) in values.iter().enumerate() {
            match value {
                Value::Null => statement.raw_bind_parameter(index + 1, None::<i64>)?,
                Value::Integer(integer) => statement.raw_bind_parameter(index + 1, integer)?,
                Value::Real(real) => statement.raw_bind_parameter(index + 1, real)?,
                Value::Text(text) => {
                    statement.raw_bind_parameter(index + 1, std::str::from_utf8(text).unwrap())?;
                }
                Value::Blob(blob) => statement.raw_bind_parameter(index + 1, blob)?,
            }
        }
        statement.raw_execute()
    };
    run().map_err(|error: rusqlite::Error| error.sqlite_error().map_or(-1, |e| e.extended_code))
}
