//! Runs the golden scripts of capture: `fixtures/scripts/capture/*`.
//!
//! A script is SQL, each statement on a line that begins with `>`, and these commands:
//!
//! | command | does |
//! | --- | --- |
//! | `capture TABLE…` | installs the triggers; the outbox is read from here on |
//! | `without WORD…` | drops our triggers whose names begin so: what follows shows why they are there |
//! | `counts` | what `changes()` and `last_insert_rowid()` tell the application |
//! | `notes` | how many notes are left |
//! | `read TABLE` | reads a table's definition |
//!
//! After each statement that leaves no transaction open, the new events are printed, one a line,
//! and must fold to what stands in the tables. Where they do not the script fails, except after
//! `without`: there it says `!` and how they differ, and must do so at least once.
//!
//! `UPDATE_GOLDENFILES=1 cargo test capture::scripts` writes the output anew; read the difference.

use std::error::Error;

use driftless::capture::BEFORE_IMAGES;
use driftless::catalog::{PREFIX, Table, ident};
use rusqlite::Connection;

use super::desk::Desk;
use super::fold::{line, literal, value};
use crate::support::golden::every_golden_script;

struct Script {
    desk: Desk,
    /// Whether triggers are missing on purpose, and whether that has shown.
    crippled: Option<bool>,
}

impl Script {
    fn new() -> Self {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("PRAGMA foreign_keys = 1").unwrap();
        Script { desk: Desk::new(db), crippled: None }
    }

    fn sql(&mut self, sql: &str) -> Result<String, Box<dyn Error>> {
        let mut output = String::new();
        let result = self.execute(sql, &mut output);
        if self.desk.db.is_autocommit() {
            self.print_events(&mut output)?;
        }
        match result {
            // A failed statement's events are shown too: there must be none.
            Err(error) => Err(format!("{error}\n{output}").trim_end().to_owned().into()),
            Ok(()) => Ok(output),
        }
    }

    fn execute(&self, sql: &str, output: &mut String) -> rusqlite::Result<()> {
        let mut statement = self.desk.db.prepare(sql)?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let values: Vec<_> =
                (0..columns).map(|i| literal(&value(row.get_ref(i).unwrap()))).collect();
            output.push_str(&format!("{}\n", values.join(" | ")));
        }
        Ok(())
    }

    fn print_events(&mut self, output: &mut String) -> Result<(), Box<dyn Error>> {
        let (changes, error) = match self.desk.read() {
            Ok(changes) => (changes, None),
            Err((changes, error)) => (changes, Some(error)),
        };
        for change in &changes {
            output.push_str(&line(change));
            output.push('\n');
        }
        if let Some(error) = error {
            for line in error.lines() {
                output.push_str(&format!("! {line}\n"));
            }
            if self.crippled.is_none() {
                return Err(output.clone().into());
            }
            self.crippled = Some(true);
        }
        Ok(())
    }

    fn without(&mut self, words: &[&str]) {
        for word in words {
            let mut statement = self
                .desk
                .db
                .prepare(
                    "SELECT name FROM sqlite_schema WHERE type = 'trigger'
                     AND substr(name, 1, length(?1)) = ?1",
                )
                .unwrap();
            let names = statement.query_map([format!("{PREFIX}{word}")], |row| row.get(0)).unwrap();
            let names: Vec<String> = names.map(Result::unwrap).collect();
            assert!(!names.is_empty(), "no trigger begins with `{word}`");
            for name in names {
                self.desk.db.execute_batch(&format!("DROP TRIGGER {}", ident(&name))).unwrap();
            }
        }
        self.crippled = Some(false);
    }
}

impl goldenscript::Runner for Script {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &Self::Command,
        _context: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let args: Vec<&str> = std::iter::from_fn(|| args.next_pos()).collect();
        let db = &self.desk.db;
        match command.name.as_str() {
            "capture" => {
                self.desk.capture(&args)?;
                Ok(String::new())
            }
            "without" => {
                self.without(&args);
                Ok(String::new())
            }
            "counts" => Ok(format!(
                "changes {}, last_insert_rowid {}",
                db.changes(),
                db.last_insert_rowid()
            )),
            "notes" => {
                let counts = BEFORE_IMAGES.map(|notes| format!("(SELECT count(*) FROM {notes})"));
                let count = format!("SELECT {}", counts.join(" + "));
                Ok(format!("{} notes", db.query_row(&count, [], |row| row.get::<_, i64>(0))?))
            }
            "read" => {
                let error = match Table::read(db, args[0]) {
                    Ok(table) => return Ok(format!("`{}` can be replicated", table.name)),
                    Err(error) => error,
                };
                let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
                Err(format!("{}{hint}", error.message()).into())
            }
            sql if args.is_empty() => self.sql(sql),
            name => Err(format!("there is no command `{name}`").into()),
        }
    }

    fn end_script(&mut self) -> Result<(), Box<dyn Error>> {
        match self.crippled {
            Some(false) => Err("nothing went wrong without those triggers".into()),
            _ => Ok(()),
        }
    }
}

#[test]
fn every_script() {
    every_golden_script("fixtures/scripts/capture", Script::new);
}
