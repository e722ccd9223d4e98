//! Tables that are not replicated, each with the reason.

use super::bookkeeping::bookkeeper;
use super::table::{Catalog, Table};

/// A table that is not replicated.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LeftOut {
    /// Its name.
    pub table: String,
    /// The side that has it.
    pub side: Where,
    /// The reason, for a program.
    pub why: Why,
    /// The reason, for a person.
    pub reason: String,
}

/// The side that has a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Where {
    /// Only this database.
    Local,
    /// Only the remote.
    Remote,
    /// Both.
    Both,
}

/// Why a table is not replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It cannot be replicated: it has no primary key, a collation that other programs do not
    /// have, or too many columns, or it cannot be read.
    Unfit,
    /// It is the bookkeeping of a migration tool or another tool.
    Bookkeeping,
    /// It was named with `--exclude`.
    Excluded,
    /// Others were named with `--tables`.
    NotNamed,
    /// It was created after the replica.
    Later,
    /// It was replicated, but is gone or can no longer be replicated.
    Gone,
}

/// The tables that were asked for when the replica was made or `init` was run again, and those
/// that are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Choice {
    /// Whether all tables were chosen that can be replicated.
    pub all: bool,
    /// The exceptions from `all`.
    pub but: Vec<String>,
    /// Tables that only the remote has, and that are not replicated.
    pub there: Vec<LeftOut>,
    /// Tables that have come since on either side, and cannot be taken.
    #[serde(default)]
    pub refused: Vec<LeftOut>,
    /// Tables that have come since on either side, and are taken if they stay: a migration makes
    /// tables that are gone again when it ends.
    #[serde(default)]
    pub fresh: Vec<Fresh>,
}

/// A table that has come since.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fresh {
    /// Its name.
    pub table: String,
    /// The side that has it.
    pub side: Where,
    /// When it was noticed: ms since 1970.
    pub since_ms: i64,
}

/// How long a new table must stay before it is taken, in ms.
const STAYS_MS: i64 = 60_000;

impl Fresh {
    /// Whether it has stayed for long enough.
    pub fn stays(&self, now_ms: i64) -> bool {
        now_ms - self.since_ms >= STAYS_MS
    }
}

impl Choice {
    /// Why a table is left out although all tables were chosen. `None` if it is not left out.
    pub fn leaves(&self, table: &str) -> Option<(Why, String)> {
        if self.but.iter().any(|name| name.eq_ignore_ascii_case(table)) {
            return Some((Why::Excluded, "it was left out with --exclude".to_owned()));
        }
        let tool = bookkeeper(table)?;
        let reason = format!("it is bookkeeping of {tool}; name it with --tables to replicate it");
        Some((Why::Bookkeeping, reason))
    }

    /// The tables of one side that are left out when a replica is made.
    pub fn left_out(&self, catalog: &Catalog, side: Where, taken: &[Table]) -> Vec<LeftOut> {
        let is_taken = |name: &str| taken.iter().any(|table| is(&table.name, name));
        let not_named = || (Why::NotNamed, "it was not named".to_owned());
        let mut found = Vec::new();
        for (table, reason) in catalog.told() {
            if is_taken(table) {
                continue;
            }
            let (why, reason) = match (self.all, reason) {
                (false, _) => not_named(),
                (true, Some(reason)) => match self.leaves(table) {
                    Some((Why::Excluded, why)) => (Why::Excluded, why),
                    _ => (Why::Unfit, reason.to_owned()),
                },
                (true, None) => self.leaves(table).unwrap_or_else(not_named),
            };
            found.push(LeftOut { table: table.to_owned(), side, why, reason });
        }
        found
    }
}

fn is(name: &str, other: &str) -> bool {
    name.eq_ignore_ascii_case(other)
}

impl LeftOut {
    /// The tables of both sides, each once.
    #[doc(hidden)]
    pub fn joined(here: Vec<LeftOut>, there: Vec<LeftOut>) -> Vec<LeftOut> {
        let mut all = here;
        for found in there {
            match all.iter_mut().find(|known| is(&known.table, &found.table)) {
                Some(known) => known.side = Where::Both,
                None => all.push(found),
            }
        }
        all.sort_by_key(|found| found.table.to_ascii_lowercase());
        all
    }
}

impl Catalog {
    /// The tables and, for those that cannot be replicated, the reason. Views and the shadow tables
    /// of a virtual table are not included.
    pub fn told(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let quiet = |name: &str| self.quiet.iter().any(|quiet| is(quiet, name));
        let skipped = self.skipped.iter().filter(move |(name, _)| !quiet(name));
        let fit = self.tables.iter().map(|table| (table.name.as_str(), None));
        fit.chain(skipped.map(|(name, reason)| (name.as_str(), Some(reason.as_str()))))
    }
}
