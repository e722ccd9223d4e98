//! Prints the capture triggers that a replica gets for the tables of a database, or, with `remote`
//! behind the file's name, all triggers that a remote gets.
//!
//! ```text
//! cargo run --example triggers -- gym.db [remote]
//! ```
#![allow(clippy::print_stdout)]

use driftless::capture;
use driftless::capture::Replicated;
use driftless::catalog::Catalog;
use driftless::event::conflict::ConflictRule;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name a database file")?;
    let catalog = Catalog::read(&rusqlite::Connection::open(path)?)?;
    let tables: Vec<_> = catalog.tables.iter().collect();
    if std::env::args().nth(2).is_some_and(|side| side == "remote") {
        let rule = ConflictRule::Row;
        let all: Vec<_> = tables.iter().map(|&table| Replicated { table, rule }).collect();
        for trigger in capture::remote_triggers(&all) {
            println!("{};", trigger.sql);
        }
        return Ok(());
    }
    for table in &tables {
        for trigger in capture::triggers(table, &tables) {
            println!("{};", trigger.sql);
        }
    }
    for (_, reason) in &catalog.skipped {
        println!("-- skipped: {reason}");
    }
    Ok(())
}
