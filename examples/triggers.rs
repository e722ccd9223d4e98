//! Prints the capture triggers that a replica gets for the tables of a database, or, with `remote`
//! behind the file's name, all that a remote gets and a server parses for each stream, and how
//! large it is.
//!
//! ```text
//! cargo run --example triggers -- gym.db [remote]
//! ```
#![allow(clippy::print_stdout)]

use driftless::capture;
use driftless::capture::RemoteCapture;
use driftless::catalog::Catalog;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name a database file")?;
    let catalog = Catalog::read(&rusqlite::Connection::open(path)?)?;
    let tables: Vec<_> = catalog.tables.iter().collect();
    if std::env::args().nth(2).is_some_and(|side| side == "remote") {
        let made = RemoteCapture::of(&tables);
        for sql in made.shared() {
            println!("{sql};");
        }
        for (table, triggers) in made.tables() {
            for trigger in triggers {
                println!("{};", trigger.sql);
            }
            let bytes: usize = triggers.iter().map(|trigger| trigger.sql.len()).sum();
            println!("-- {table}: {bytes} bytes");
        }
        println!("-- all: {} bytes", made.bytes());
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
