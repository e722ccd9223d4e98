//! The remote's schema of ours, without a first sync: for tests of what stands in it.

use driftless::capture::RemoteCapture;
use driftless::catalog::{Table, literal};
use driftless::event::Op;
use driftless::event::conflict::ConflictRule;
use driftless::protocol::remote_tables::{RemoteTable, RemoteTables};
use driftless::remote::Rows;

/// What makes the remote's schema of ours, over tables that are there.
pub(crate) fn install(tables: &[Table], rule: impl Fn(&str) -> ConflictRule) -> Vec<String> {
    let all: Vec<_> = tables.iter().collect();
    let capture = RemoteCapture::of(&all);
    let mut sql = vec![
        include_str!("../../../schema/remote/tables.sql").to_owned(),
        include_str!("../../../schema/remote/inbox.sql").to_owned(),
        include_str!("../../../schema/pow2.sql").to_owned(),
    ];
    sql.push("INSERT INTO driftless_meta (one, epoch, version) VALUES (1, 'e', 2);".to_owned());
    for table in tables {
        sql.push(format!(
            "INSERT INTO driftless_tables (name, conflict, columns) VALUES ({}, {}, {});",
            literal(&table.name),
            literal(rule(&table.name).as_str()),
            literal(&serde_json::to_string(&table.column_names().collect::<Vec<_>>()).unwrap())
        ));
    }
    let made = capture.tables().iter().flat_map(|(_, made)| made).map(|trigger| &trigger.sql);
    sql.extend(capture.shared().iter().chain(made).map(|sql| format!("{sql};")));
    sql
}

/// The tables as a replica that looks now finds them.
pub(crate) fn found(
    tables: &[Table],
    rule: impl Fn(&str) -> ConflictRule,
    look: impl Fn(&str) -> Rows,
) -> RemoteTables {
    let triggers = look(
        "SELECT tbl_name, sql FROM sqlite_schema WHERE type = 'trigger' \
         AND name NOT LIKE 'driftless\\_%' ESCAPE '\\'",
    );
    let op = |sql: &str| {
        let mut words = sql.split_whitespace().map(str::to_ascii_lowercase);
        words.find_map(|word| word.parse::<Op>().ok()).expect("a trigger has an op")
    };
    let of_table = |table: &Table| RemoteTable {
        table: table.clone(),
        rule: rule(&table.name),
        triggered: triggers
            .iter()
            .filter(|row| row[0].as_str() == Some(&table.name))
            .map(|row| op(row[1].as_str().unwrap()))
            .collect(),
    };
    let cookie = look("SELECT schema_version FROM pragma_schema_version")[0][0].as_integer();
    RemoteTables {
        cookie: cookie.unwrap(),
        has_triggers: !triggers.is_empty(),
        tables: tables.iter().map(of_table).collect(),
        gaps: Vec::new(),
    }
}
