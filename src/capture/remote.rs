//! The triggers in the remote's schema: they capture what is written to the replicated tables.
//!
//! The remote is the web application's database, and a server parses its whole schema for each
//! stream. So a table's triggers are short, mostly lists of columns: BEFORE triggers save rows that
//! a REPLACE may evict, and AFTER triggers insert the old and the new row, unchanged, into
//! `driftless_capture`. That table stays empty. Its own triggers exist once for all tables. They
//! compare the write with the announced one, find the changed columns, spell the values, and append
//! the event. The verdict on a pushed event is not decided here, but in the push's statements: see
//! [`protocol::push`](crate::protocol::push).
//!
//! # Silence
//!
//! `driftless_applying` has each row that the push is about to write: the whole row as it is, and
//! as it will be. A write from exactly the first to exactly the second is silent, once, if nothing
//! was logged of that row before. Every other write is logged whole. So a mistake costs a line in
//! the log, and never a difference between the log and the tables.
//!
//! `done` of such a row is 0 until it is written. It is 2 if the first write was as announced, but
//! a trigger that is newer than ours wrote the row again before our trigger ran. It is 3 if the row
//! was written in another way. A row that was written as announced is removed.
//!
//! # Names
//!
//! * A new row is read from its table and not from `new`, because a trigger of the application that
//!   is newer than ours may have changed it.
//! * No trigger names a table of the application's but its own, so the application can rebuild any
//!   other.
//! * `ALTER TABLE … DROP COLUMN` checks every trigger of the table. So a column outside the key is
//!   named in a form that is valid without the column too. An unqualified name means the table's
//!   column. If there is none, it means the column of `driftless_names`, which is NATURAL LEFT
//!   JOINed, has one row of NULLs, and has a column for every name. `(SELECT old.x)` means the
//!   trigger's row and, if the column is gone, that table under the alias `old`: SQLite looks at a
//!   trigger's row before it leaves the innermost SELECT.
//! * Our own columns are qualified where the application's table is in scope, because it may have a
//!   column `k`.
//! * None of our tables has a UNIQUE constraint that a trigger could violate. The OR clause of the
//!   outer statement would override the trigger's own.
//!
//! # Order
//!
//! The newest trigger fires first. So `driftless_quiet` is made after `driftless_log`, and the
//! tables' triggers after the application's.
//!
//! A REPLACE's evictions are logged before the row's own change: a key change to an evicted key
//! must not be folded before them. They are logged in AFTER DELETE too, if a foreign key may lead
//! back to the table: an UPDATE OR REPLACE may evict the parent of its own row, which is then
//! deleted and never updated.

use super::before_images::{Coming, obstacles};
use super::positions::{columns_at_places, names};
use super::replica::fingerprint;
use super::shared::{each, shared};
use super::triggers::Trigger;
use crate::catalog::identity::capture_key;
use crate::catalog::limits::PREFIX;
use crate::catalog::quote::{ident, literal};
use crate::catalog::sql::{equals, of, same_key};
use crate::catalog::table::Table;

/// The alias of the row in the table. A short name keeps the schema small. The table itself may
/// have this name.
const ROW: &str = "t";

/// The version of this generator. Triggers of a newer version are never replaced.
pub const GENERATOR: u32 = 2;

/// The most columns of `driftless_names`, below SQLite's own limit of 2,000. A table with a column
/// that does not fit is captured too, but that column cannot be dropped.
/// The tables and triggers in the remote's schema for some replicated tables.
pub struct RemoteCapture {
    shared: Vec<String>,
    tables: Vec<(String, Vec<Trigger>)>,
    fingerprint: String,
}

impl RemoteCapture {
    /// For these tables, as the remote defines them.
    pub fn of(tables: &[&Table]) -> RemoteCapture {
        let width = tables.iter().map(|table| table.columns.len()).max().unwrap_or(1);
        let names = names(tables);
        let of_table = |table: &&Table| {
            let comes_back = comes_back(table, tables);
            let capture = Captured { table, names: &names, comes_back, width };
            (table.name.clone(), capture.triggers())
        };
        let triggers: Vec<_> = tables.iter().map(of_table).collect();
        let shared = shared(tables, width, &names);
        let text = |sql: &String| Trigger { name: String::new(), sql: sql.clone() };
        let texts: Vec<_> = shared.iter().map(text).collect();
        let all = texts.iter().chain(triggers.iter().flat_map(|(_, made)| made));
        let fingerprint = format!("{GENERATOR}-{}", fingerprint(all));
        RemoteCapture { shared, tables: triggers, fingerprint }
    }

    /// The statements that make the shared tables and their triggers anew. The tables keep nothing
    /// between transactions, so they may be dropped.
    pub fn shared(&self) -> &[String] {
        &self.shared
    }

    /// The triggers of each table, in the order in which they are to be made.
    pub fn tables(&self) -> &[(String, Vec<Trigger>)] {
        &self.tables
    }

    /// A short text that changes with every part of the triggers, after the generator's number and
    /// a hyphen.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The bytes of SQL that stay in the schema: the server parses them for each stream.
    #[cfg(feature = "internals")]
    pub fn bytes(&self) -> usize {
        let made = self.shared.iter().filter(|sql| sql.starts_with("CREATE"));
        let triggers = self.tables.iter().flat_map(|(_, made)| made);
        made.map(String::len).sum::<usize>() + triggers.map(|made| made.sql.len()).sum::<usize>()
    }
}

/// Every column name that fits, once in any case.
pub fn delete_trigger_there(table: &str) -> String {
    format!("{PREFIX}ad_{table}")
}

/// The names that the columns of a table of the remote have now, read from the text of its trigger
/// for deletes, in the order in which they were when it was made.
pub fn present_names_there(sql: &str) -> Option<Vec<String>> {
    Some(columns_at_places(sql, "driftless_capture", "o")?.into_columns())
}

/// Whether the actions of foreign keys may lead from a table back to itself.
fn comes_back(table: &Table, all: &[&Table]) -> bool {
    let mut reached: Vec<&Table> = vec![table];
    let mut at = 0;
    while let Some(parent) = reached.get(at).copied() {
        at += 1;
        for child in all {
            let leads = child.foreign_keys.iter().any(|key| {
                key.parent.eq_ignore_ascii_case(&parent.name)
                    && !(key.on_delete.refuses() && key.on_update.refuses())
            });
            if !leads {
                continue;
            }
            if child.name == table.name {
                return true;
            }
            if !reached.iter().any(|known| known.name == child.name) {
                reached.push(child);
            }
        }
    }
    false
}

/// A column's name, without quotes if it needs none. Of SQLite's keywords with an underscore, all
/// begin with `CURRENT_`.
fn short(name: &str) -> String {
    let is_plain = name.contains('_')
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        && !name.starts_with("current_");
    if is_plain { name.to_owned() } else { ident(name) }
}

/// One table, for which triggers are made.
struct Captured<'a> {
    table: &'a Table,
    names: &'a [String],
    comes_back: bool,
    /// The most columns of any table.
    width: usize,
}

impl Captured<'_> {
    fn triggers(&self) -> Vec<Trigger> {
        let mut triggers = vec![
            self.save_on_insert(),
            self.save_on_update(),
            self.insert(),
            self.update(),
            self.delete(),
        ];
        if self.comes_back {
            triggers.push(self.forget_deleted());
        }
        triggers
    }

    fn trigger(&self, word: &str, event: &str, body: &[String]) -> Trigger {
        let name = format!("{PREFIX}{word}_{}", self.table.name);
        let sql = format!(
            "CREATE TRIGGER {} {event} ON {} BEGIN {}END",
            ident(&name),
            self.this(),
            body.concat()
        );
        Trigger { name, sql }
    }

    fn this(&self) -> String {
        ident(&self.table.name)
    }

    fn width(&self) -> usize {
        self.table.columns.len()
    }

    /// The values for the columns of a shared table that begins with a column for each value: with
    /// a list of these columns, or without one and with NULL for the others, whichever is shorter.
    fn values(&self, first: &[&str], blocks: &[(&str, String)], last: usize) -> (String, String) {
        let missing = self.width - self.width();
        let (mut names, mut listed, mut padded) =
            (first.to_vec().join(","), String::new(), String::new());
        for (prefix, values) in blocks {
            names.push_str(&format!(",{}", each(prefix, self.width())));
            listed.push_str(&format!(",{values}"));
            padded.push_str(&format!(",{values}{}", ",NULL".repeat(missing)));
        }
        padded.push_str(&",NULL".repeat(last));
        let names = format!("({names})");
        if names.len() + listed.len() < padded.len() {
            (names, listed)
        } else {
            (String::new(), padded)
        }
    }

    /// Whether every column has its name in `driftless_names`.
    fn is_named(&self) -> bool {
        let is_known = |name: &str| self.names.iter().any(|known| known.eq_ignore_ascii_case(name));
        self.table.present_names().all(is_known)
    }

    /// The FROM clause of the table. With it, an unqualified column stays valid after the column is
    /// dropped.
    fn from(&self, alias: &str) -> String {
        match self.is_named() {
            true => format!("{} AS {ROW} NATURAL LEFT JOIN driftless_names{alias}", self.this()),
            false => format!("{} AS {ROW}", self.this()),
        }
    }

    /// The columns of the row in the table.
    fn here(&self) -> String {
        let names = self.table.columns.iter().map(|column| match self.is_named() {
            true => short(&column.present),
            false => format!("{ROW}.{}", short(&column.present)),
        });
        names.collect::<Vec<_>>().join(",")
    }

    /// A column of the trigger's row.
    fn row(&self, alias: &str, column: &str) -> String {
        let name = format!("{alias}.{}", short(column));
        if self.is_named() { format!("(SELECT {name})") } else { name }
    }

    /// The columns of the trigger's old row.
    fn old(&self) -> String {
        let columns = self.table.columns.iter().map(|column| self.row("old", &column.present));
        columns.collect::<Vec<_>>().join(",")
    }

    /// SQL condition: the row in the table has the key of the trigger's row.
    fn has_key_of(&self, alias: &str) -> String {
        let parts = self
            .table
            .key_columns()
            .zip(&self.table.key_collations)
            .map(|(c, collation)| equals(c, ROW, &self.row(alias, &c.present), collation));
        parts.collect::<Vec<_>>().join(" AND ")
    }

    /// SQL condition: the saved row is no longer in the table.
    fn noted_is_gone(&self) -> String {
        let parts: Vec<_> = self
            .table
            .key
            .iter()
            .zip(&self.table.key_collations)
            .map(|(&at, collation)| {
                let noted = format!("driftless_notes.o{}", at + 1);
                equals(&self.table.columns[at], ROW, &noted, collation)
            })
            .collect();
        format!("NOT EXISTS(SELECT 1 FROM {} AS {ROW} WHERE {})", self.this(), parts.join(" AND "))
    }

    /// Logs the deletes of the saved rows for which the condition is true: they were evicted.
    fn evict(&self, condition: &str) -> String {
        format!(
            "UPDATE driftless_notes SET gone=1 WHERE tbl={} AND {condition};",
            literal(&self.table.name)
        )
    }

    /// Saves the before-images of the rows of the table that the new row may evict.
    fn save_before_images(&self, condition: &str) -> Vec<String> {
        let name = literal(&self.table.name);
        // A key column cannot be dropped, and needs no other name.
        let is_plain = self.table.uniques.is_empty();
        let alias = if is_plain { "" } else { " AS new" };
        let new = |name: &str| if is_plain { of("new", name) } else { self.row("new", name) };
        let or_else = |x: &str, other: &str| format!("coalesce({x},{other})");
        let is_number = |x: &str| format!("typeof({x}) IN ('integer','real')");
        let obstacles = obstacles(self.table, ROW, &Coming::new(&new, or_else, is_number));
        // SQLite 3.54 reads a whole table for an OR of conditions that name a collation.
        let (special, plain): (Vec<_>, Vec<_>) =
            obstacles.into_iter().partition(|obstacle| obstacle.contains(" COLLATE "));
        let mut groups = special;
        if !plain.is_empty() {
            groups.push(plain.join(" OR "));
        }
        let one = |group: String| {
            let hit = if condition.is_empty() { group } else { format!("({group}){condition}") };
            let (columns, values) = self.values(&["tbl", "k"], &[("o", self.here())], 1);
            format!(
                "INSERT INTO driftless_notes{columns} SELECT {name},{}{values} FROM {} WHERE {hit};",
                capture_key(self.table, ROW),
                self.from(alias),
            )
        };
        groups.into_iter().map(one).collect()
    }

    fn save_on_insert(&self) -> Trigger {
        // An ignored statement may have left a before-image of a row that is gone since. It would
        // turn this insert into an update. A captured delete removes it, and a push begins with
        // none. But the delete is captured later if foreign keys' actions lead back to this table.
        let mut body = Vec::new();
        if self.comes_back {
            body.push(self.forget("new"));
        }
        body.extend(self.save_before_images(""));
        self.trigger("bi", "BEFORE INSERT", &body)
    }

    /// The columns of which an UPDATE must name at least one to evict another row; empty if that is
    /// not known. An expression or a condition of an index may use any column, and `SET rowid = …`
    /// changes an INTEGER PRIMARY KEY without naming it.
    fn evicting_columns(&self) -> Vec<String> {
        let table = self.table;
        let mut columns: Vec<_> =
            table.key_columns().map(|column| column.present.clone()).collect();
        for unique in &table.uniques {
            match unique.plain_columns(table) {
                Some(plain) => columns.extend(plain.into_iter().map(|(c, _)| c.present.clone())),
                None => return Vec::new(),
            }
        }
        columns.dedup();
        if table.rowid_key { Vec::new() } else { columns }
    }

    fn save_on_update(&self) -> Trigger {
        let columns: Vec<_> = self.evicting_columns().iter().map(|name| ident(name)).collect();
        let event = match columns.is_empty() {
            true => "BEFORE UPDATE".to_owned(),
            false => format!("BEFORE UPDATE OF {}", columns.join(",")),
        };
        let other = format!(" AND ({}) IS NOT 1", same_key(self.table, ROW, "old"));
        // A before-image that an upsert has left would be logged as evicted by a child that follows
        // to the new key.
        let mut body = Vec::new();
        if self.comes_back {
            body.push(self.forget("old"));
        }
        body.extend(self.save_before_images(&other));
        self.trigger("bu", &event, &body)
    }

    /// Removes the before-image of a row before it is deleted. AFTER DELETE is too late: a foreign
    /// key may delete other rows of the same table first.
    fn forget_deleted(&self) -> Trigger {
        self.trigger("bd", "BEFORE DELETE", &[self.forget("old")])
    }

    /// Removes the before-image of the trigger's row.
    fn forget(&self, alias: &str) -> String {
        format!(
            "DELETE FROM driftless_notes WHERE tbl={} AND k={};",
            literal(&self.table.name),
            capture_key(self.table, alias)
        )
    }

    fn insert(&self) -> Trigger {
        let name = literal(&self.table.name);
        let mut body = Vec::new();
        if !self.table.uniques.is_empty() {
            body.push(self.evict(&self.noted_is_gone()));
        }
        body.push(format!(
            "INSERT INTO driftless_capture(tbl,l,{}) SELECT {name},{},{} FROM {} WHERE {};",
            each("n", self.width()),
            capture_key(self.table, ROW),
            self.here(),
            self.from(""),
            same_key(self.table, ROW, "new"),
        ));
        self.trigger("ai", "AFTER INSERT", &body)
    }

    fn update(&self) -> Trigger {
        let name = literal(&self.table.name);
        let evict = format!(
            "k IS NOT {} AND ({} OR k={})",
            capture_key(self.table, "old"),
            self.noted_is_gone(),
            capture_key(self.table, "new"),
        );
        let names = if self.is_named() { " NATURAL LEFT JOIN driftless_names AS old" } else { "" };
        let key = &self.table.columns[self.table.key[0]].present;
        let (columns, values) =
            self.values(&["tbl", "k", "l"], &[("o", self.old()), ("n", self.here())], 0);
        let capture = format!(
            "INSERT INTO driftless_capture{columns} SELECT {name},{},{}{values} \
             FROM driftless_one LEFT JOIN {} AS {ROW} ON {}{names} WHERE {} IS NOT NULL \
             OR (SELECT {}) IS NOT 1 AND NOT EXISTS(SELECT 1 FROM {} AS {ROW} WHERE {});",
            self.capture_key_of_old(),
            capture_key(self.table, ROW),
            self.this(),
            same_key(self.table, ROW, "new"),
            of(ROW, key),
            same_key(self.table, "new", "old"),
            self.this(),
            self.has_key_of("old"),
        );
        self.trigger("au", "AFTER UPDATE", &[self.evict(&evict), capture])
    }

    fn delete(&self) -> Trigger {
        let name = literal(&self.table.name);
        let mut body = Vec::new();
        if self.comes_back {
            let others = format!("k IS NOT {}", capture_key(self.table, "old"));
            body.push(self.evict(&format!("{others} AND {}", self.noted_is_gone())));
        }
        let from = if self.is_named() { " FROM driftless_names AS old" } else { "" };
        body.push(format!(
            "INSERT INTO driftless_capture(tbl,k,{}) SELECT {name},{},{}{from} \
             WHERE NOT EXISTS(SELECT 1 FROM {} AS {ROW} WHERE {});",
            each("o", self.width()),
            self.capture_key_of_old(),
            self.old(),
            self.this(),
            self.has_key_of("old"),
        ));
        self.trigger("ad", "AFTER DELETE", &body)
    }

    /// The key of the trigger's old row, within a FROM that has the alias `old`.
    fn capture_key_of_old(&self) -> String {
        if self.is_named() {
            format!("(SELECT {})", capture_key(self.table, "old"))
        } else {
            capture_key(self.table, "old")
        }
    }
}
