//! The remote's schema is SQL that older programs can open too: an operator looks into a hub's file
//! with the `sqlite3` program at hand, whose parser's stack has a fixed depth.

use std::io::Write as _;
use std::process::{Command, Stdio};

use driftless::catalog::Catalog;
use driftless::event::conflict::ConflictRule;
use rusqlite::Connection;

use crate::support::remote_schema::install;
use crate::support::tools::{Tool, require};

#[test]
fn the_stock_program_opens_the_gyms_remote() {
    let Some(sqlite3) = require(Tool::Sqlite3) else { return };
    let schema = include_str!("../../../fixtures/gym/schema.sql");
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch(schema).unwrap();
    let catalog = Catalog::read(&db).unwrap();
    let mut sql = format!(".bail on\n{schema}\n");
    let installed = install(&catalog.tables, |_| ConflictRule::Columns);
    sql.push_str(&installed.join("\n"));
    sql.push_str("SELECT count(*) || ' triggers' FROM sqlite_master WHERE type = 'trigger';\n");
    let mut shell = Command::new(sqlite3)
        .arg(":memory:")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    let made = installed.iter().filter(|sql| sql.starts_with("CREATE TRIGGER"));
    let expected = format!("{} triggers", made.count());
    assert_eq!(said.trim(), expected, "{complained}");
}
