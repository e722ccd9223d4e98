//! The proof that databases are equal: every row of every table, read with plain SQL.
//!
//! It shares no code with the replication. SQLite's own `quote` spells each row, so that anybody
//! can repeat the proof with the stock shell.

use std::collections::BTreeMap;

use crate::catalog::{Table, ident};
use crate::error::{Error, Result};
use crate::event::value::Value;
use crate::inspect::Connection;
use crate::remote::{Batch, Remote};

/// Rows of one request. With two kilobytes a row, the answer stays below its limit.
const PAGE_ROWS: usize = 1_000;
/// Characters of a hash that are shown.
const HASH_CHARS: usize = 16;

/// A table's rows: each key, and a hash of the row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dump(BTreeMap<String, blake3::Hash>);

impl Dump {
    fn add(&mut self, key: String, row: &[u8]) {
        self.0.insert(key, blake3::hash(row));
    }

    /// How many rows it has.
    pub(super) fn rows(&self) -> usize {
        self.0.len()
    }

    /// A hash of all rows, in the order of their keys, for people to compare.
    pub(super) fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for (key, row) in &self.0 {
            hasher.update(&(key.len() as u64).to_le_bytes());
            hasher.update(key.as_bytes());
            hasher.update(row.as_bytes());
        }
        hasher.finalize().to_hex()[..HASH_CHARS].to_owned()
    }

    /// The keys of rows that are not the same in both.
    pub(super) fn differences(&self, other: &Dump) -> Vec<String> {
        let mine = self.0.iter().filter(|(key, row)| other.0.get(*key) != Some(row));
        let theirs = other.0.keys().filter(|key| !self.0.contains_key(*key));
        mine.map(|(key, _)| key).chain(theirs).cloned().collect()
    }
}

/// The query for a table's rows: each row's key, and the row, spelled in SQL.
fn select(table: &Table) -> String {
    let quoted = |names: &mut dyn Iterator<Item = &str>| {
        let quoted: Vec<String> = names.map(|name| format!("quote({})", ident(name))).collect();
        quoted.join(" || ',' || ")
    };
    let key = quoted(&mut table.key_columns().map(|column| column.name.as_str()));
    let generated = table.generated.iter().map(String::as_str);
    let row = quoted(&mut table.column_names().chain(generated));
    let order: Vec<String> = table.key_columns().map(|column| ident(&column.name)).collect();
    format!("SELECT {key}, {row} FROM {} ORDER BY {}", ident(&table.name), order.join(", "))
}

/// A table of a local database.
pub(super) fn local(db: &Connection, table: &Table) -> Result<Dump> {
    let mut dump = Dump::default();
    let mut statement = db.prepare(&select(table))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        dump.add(row.get(0)?, row.get::<_, String>(1)?.as_bytes());
    }
    Ok(dump)
}

/// A table of a remote. There must be no writers meanwhile.
pub(super) async fn remote(remote: &dyn Remote, table: &Table) -> Result<Dump> {
    let mut dump = Dump::default();
    let select = select(table);
    loop {
        let page = format!("{select} LIMIT {PAGE_ROWS} OFFSET {}", dump.rows());
        let answer = remote.run(Batch { statements: vec![page.into()], writes: false }).await?;
        let rows = answer.rows.into_iter().next().unwrap_or_default();
        let count = rows.len();
        for row in rows {
            let [Value::Text(key), Value::Text(row)] = row.as_slice() else {
                let message = format!("table `{}` on {} is no text", table.name, remote.url());
                return Err(Error::corrupt(message));
            };
            dump.add(String::from_utf8_lossy(key).into_owned(), row);
        }
        if count < PAGE_ROWS {
            return Ok(dump);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(rows: &[(&str, &str)]) -> Dump {
        let mut dump = Dump::default();
        for (key, row) in rows {
            dump.add((*key).to_owned(), row.as_bytes());
        }
        dump
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let one = dump(&[("1", "a"), ("2", "b"), ("3", "c")]);
        let other = dump(&[("2", "b"), ("3", "d"), ("4", "e")]);
        assert_eq!(one.differences(&other), ["1", "3", "4"]);
        assert_eq!(one.differences(&one), [""; 0]);
        assert_ne!(one.hash(), other.hash());
        assert_ne!(dump(&[("1", "a")]).hash(), dump(&[]).hash());
    }
}
