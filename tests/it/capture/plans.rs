//! No capture trigger reads a whole table: what stands in the way of a row is looked up in the key's
//! and the UNIQUE indexes, partial ones and those on expressions too.

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::desk::Desk;

const SCHEMA: &str = "
    CREATE TABLE parents (id INTEGER PRIMARY KEY, code TEXT COLLATE NOCASE UNIQUE);
    CREATE TABLE plain (id INTEGER PRIMARY KEY, x);
    CREATE TABLE texts (id TEXT COLLATE NOCASE PRIMARY KEY, x TEXT UNIQUE);
    CREATE TABLE pairs (a, b REAL, x NOT NULL DEFAULT 'x' UNIQUE, PRIMARY KEY (b, a));
    CREATE TABLE clustered (a INT, b TEXT, x INT, PRIMARY KEY (a, b)) WITHOUT ROWID;
    CREATE UNIQUE INDEX clustered_x ON clustered (x DESC, b COLLATE NOCASE);
    CREATE TABLE indexed (id INTEGER PRIMARY KEY, a TEXT, b INT, g AS (a || b) UNIQUE);
    CREATE UNIQUE INDEX indexed_partial ON indexed (a) WHERE b > 0 AND a IS NOT NULL;
    CREATE UNIQUE INDEX indexed_expression ON indexed (lower(a), b + 1);
    CREATE UNIQUE INDEX indexed_both ON indexed (a || '-') WHERE b IS NULL;
    CREATE TABLE children (
      id INTEGER PRIMARY KEY,
      parent INT REFERENCES parents ON DELETE CASCADE ON UPDATE CASCADE,
      code TEXT REFERENCES parents (code) ON DELETE SET NULL,
      boss INT REFERENCES children ON DELETE CASCADE);
    CREATE INDEX children_parent ON children (parent);
    CREATE INDEX children_code ON children (code);
    CREATE INDEX children_boss ON children (boss);";

/// The aliases under which the triggers read a replicated table: the row as it is, a row in the way,
/// and a parent.
const ALIASES: [&str; 3] = ["driftless_row", "driftless_there", "driftless_parent"];

fn plan(db: &Connection, sql: &str) -> Vec<String> {
    let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    // Between the lines of the plan stand some of the programs' instructions, without a detail.
    let lines = statement.query_map([], |row| row.get::<_, Option<String>>("detail")).unwrap();
    lines.filter_map(Result::unwrap).collect()
}

#[test]
fn no_trigger_scans_a_table() {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch("PRAGMA foreign_keys = 1").unwrap();
    db.execute_batch(SCHEMA).unwrap();
    // Plans of the triggers' statements too.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRIGGER_EQP, true).unwrap();
    let mut desk = Desk::new(db);
    let names = ["parents", "plain", "texts", "pairs", "clustered", "indexed", "children"];
    desk.capture(&names).unwrap();
    for table in &desk.tables {
        let columns: Vec<_> = table.column_names().collect();
        let key: Vec<_> = table.key_columns().map(|c| format!("{} = 1", c.name)).collect();
        let sets: Vec<_> = columns.iter().map(|column| format!("{column} = 1")).collect();
        let (name, key) = (&table.name, key.join(" AND "));
        let statements = [
            format!("INSERT OR REPLACE INTO {name} ({0}) VALUES ({0})", columns.join(", "))
                .replace(&format!("VALUES ({})", columns.join(", ")), "")
                + &format!(" VALUES ({})", vec!["1"; columns.len()].join(", ")),
            format!("UPDATE OR REPLACE {name} SET {} WHERE {key}", sets.join(", ")),
            format!("DELETE FROM {name} WHERE {key}"),
        ];
        for statement in statements {
            let lines = plan(&desk.db, &statement);
            for alias in ALIASES.iter().chain(&[name.as_str()]) {
                let scan = format!("SCAN {alias}");
                let scans =
                    lines.iter().any(|line| line == &scan || line.starts_with(&format!("{scan} ")));
                assert!(!scans, "{statement} reads a whole table:\n{}", lines.join("\n"));
            }
            let fires = lines.iter().any(|line| line.starts_with("-- TRIGGER driftless_"));
            assert!(fires, "no trigger in this plan of {statement}:\n{}", lines.join("\n"));
        }
    }
}
