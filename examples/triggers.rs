//! Prints the capture triggers that a replica gets for the tables of a database.
//!
//! ```text
//! cargo run --example triggers -- gym.db
//! ```
#![allow(clippy::print_stdout)]

use driftless::capture::{self, Catalog};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name a database file")?;
    let catalog = Catalog::read(&rusqlite::Connection::open(path)?)?;
    let tables: Vec<_> = catalog.tables.iter().collect();
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
